"""The association with the controller: ServiceChange at start and end, loss, return (RFC 3525 11.2 to 11.5).

The timers are the wait before the next dial, the time that media outlive their controller, the silence after which the
controller is taken for lost, and the time for leaving service.
"""

from collections.abc import Callable
from enum import Enum, auto

from agw.core import events
from imswire.base import Backoff
from imswire.h248 import packages
from imswire.h248.iq_control import ServiceChangeRequest, to_service_change
from imswire.h248.model import Action, TransactionReply

COLD_BOOT = 901
SERVICE_RESTORED = 900
OUT_OF_SERVICE = 905
CANCEL_GRACEFUL = 918
"""ServiceChange reasons (RFC 3525 7.2.8; 918 from later editions of H.248.1)."""


class State(Enum):
    """Where the association is."""

    IDLE = auto()
    """No link; waiting for the time to dial."""
    CONNECTING = auto()
    REGISTERING = auto()
    """ServiceChange Restart or Disconnected is out; commands are answered with 505 until its reply is in."""
    SERVING = auto()
    CLOSING = auto()
    """We are closing the link."""
    GONE = auto()
    """Left service; nothing more happens."""


class Association:
    """The MG's end of the association. ``request`` sends one transaction and returns its id."""

    def __init__(
        self,
        emit: Callable[[events.Command], None],
        request: Callable[[tuple[Action, ...], float], int],
        backoff: Backoff,
        *,
        orphan_time: float,
        silence: float,
        goodbye: float = 1.0,
    ) -> None:
        self._emit = emit
        self._request = request
        self._backoff = backoff
        self._orphan_time = orphan_time
        self._silence = silence
        self._goodbye = goodbye
        self.state = State.IDLE
        self.peer = ""
        self._attempt = 0
        self._known = False
        """The controller has accepted this gateway before, so that contexts of it may exist."""
        self._pending: int | None = None
        self._farewell: int | None = None
        self._dial_at: float | None = None
        self._orphan_at: float | None = None
        self._silent_at: float | None = None
        self._exit_at: float | None = None
        self._watched = False

    @property
    def serving(self) -> bool:
        return self.state is State.SERVING

    def connect(self) -> None:
        """Dial now."""
        self._dial_at = None
        self.state = State.CONNECTING
        self._emit(events.ConnectControl())

    def up(self, peer: str, now: float) -> None:
        """A link exists: announce this gateway."""
        if self.state is State.GONE:
            return
        self.state, self.peer, self._dial_at = State.REGISTERING, peer, None
        self._watched, self._silent_at = False, None
        method, reason = ("Disconnected", SERVICE_RESTORED) if self._known else ("Restart", COLD_BOOT)
        self._pending = self._announce(method, reason, now)

    def down(self, reason: str, now: float) -> None:
        """The link is gone: media go on for a while; dial again."""
        if self.state is State.GONE:
            return
        if self.state is State.SERVING:
            self._emit(events.Registered(False))
        if self._known and self._orphan_at is None:
            self._orphan_at = now + self._orphan_time
        self._emit(events.Log("warning", "no link to the controller", {"reason": reason, "attempt": self._attempt + 1}))
        if self._exit_at is not None:
            self._leave()
            return
        self.state = State.IDLE
        self._pending = self._farewell = self._silent_at = None
        self._dial_at = now + self._backoff.delay(self._attempt)
        self._attempt += 1

    def heard(self, now: float) -> None:
        """The controller has said something."""
        if self._watched and self._silence:
            self._silent_at = now + self._silence

    def watched(self, now: float) -> None:
        """The controller audits this gateway to see whether it lives: from now on its silence means something."""
        self._watched = True
        self.heard(now)

    def replied(self, tid: int, reply: TransactionReply | None, now: float) -> bool:
        """A reply (None: none came) to a request; True if it was one of the association's own."""
        if tid == self._farewell:
            self._leave()
            return True
        if tid != self._pending:
            return False
        self._pending = None
        fault = _fault(reply)
        if fault:
            self.state = State.CLOSING
            self._emit(events.Log("error", "the controller refuses this gateway", {"reason": fault}))
            self._emit(events.DisconnectControl(f"ServiceChange: {fault}"))
            return True
        self.state, self._known, self._attempt, self._orphan_at = State.SERVING, True, 0, None
        self._emit(events.Log("info", "in service", {"controller": self.peer}))
        self._emit(events.Registered(True))
        return True

    def lose(self, reason: str) -> None:
        """Give the link up."""
        if self.state in (State.REGISTERING, State.SERVING):
            if self.state is State.SERVING:
                self._emit(events.Registered(False))
            self.state = State.CLOSING
            self._emit(events.DisconnectControl(reason))

    # --- leaving service ---

    def announce_drain(self, delay: float | None, now: float) -> None:
        """Tell the controller that this gateway will leave (ServiceChange Graceful), in ``delay`` seconds or, if None,
        when the last session has ended by itself."""
        if self.serving:
            self._announce("Graceful", OUT_OF_SERVICE, now, delay=None if delay is None else int(delay))

    def announce_stay(self, now: float) -> None:
        """Take the announcement of leaving back: all that this gateway holds is still there."""
        if self.serving:
            self._announce("Restart", CANCEL_GRACEFUL, now)

    def announce_end(self, now: float) -> None:
        """Everything is released: say so (ServiceChange Forced) and go, with or without an answer."""
        if self._exit_at is not None or self.state is State.GONE:
            return
        self._dial_at = None
        if self.serving:
            self._exit_at = now + self._goodbye
            self._farewell = self._announce("Forced", OUT_OF_SERVICE, now)
        else:
            self._leave()

    def _leave(self) -> None:
        if self.state is not State.GONE:
            self.state = State.GONE
            self._dial_at = self._orphan_at = self._silent_at = self._exit_at = None
            self._emit(events.Exit())

    # --- timers ---

    def next_timer(self) -> float | None:
        due = self._silent_at
        for other in (self._dial_at, self._orphan_at, self._exit_at):
            if other is not None and (due is None or other < due):
                due = other
        return due

    def expire(self, now: float) -> bool:
        """Run what is due; True when media have outlived their controller and are to be released."""
        if self._exit_at is not None and self._exit_at <= now:
            self._leave()
        if self._dial_at is not None and self._dial_at <= now:
            self.connect()
        if self._silent_at is not None and self._silent_at <= now:
            self._silent_at = None
            self.lose(f"silent for {self._silence:g} s")
        if self._orphan_at is not None and self._orphan_at <= now:
            self._orphan_at = None
            return True
        return False

    def _announce(self, method: str, reason: int, now: float, delay: int | None = None) -> int:
        change = ServiceChangeRequest(method, reason, delay, packages.VERSION, packages.PROFILE)
        return self._request((to_service_change(change),), now)


def _fault(reply: TransactionReply | None) -> str:
    """What is wrong with the reply to a ServiceChange; "" if nothing."""
    if reply is None:
        return "no reply"
    if reply.error is not None:
        return f"{reply.error.code} {reply.error.text}"
    for action in reply.actions:
        for fault in (action.error, *(command.error for command in action.commands)):
            if fault is not None:
                return f"{fault.code} {fault.text}"
        for command in action.commands:
            if command.service_change is not None and command.service_change.mgc_id:
                return f"the controller points to {command.service_change.mgc_id}, which is not supported"
    return ""
