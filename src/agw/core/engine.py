"""The AGW worker as one pure machine: reports and H.248 in, orders and H.248 out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from agw.core import events, orders, snapshot
from agw.core.association import Association, State
from agw.core.commands import Runner
from agw.core.events import Command, Event, Log
from agw.core.identities import IdentityBook, Known
from agw.core.media import MediaControl
from agw.core.media_reports import MediaReports
from agw.core.model import Leg, Store
from agw.core.plan import PortAllocator
from agw.settings import Settings
from imswire.base import Backoff, LimitExceeded
from imswire.h248 import iq
from imswire.h248.errors import error
from imswire.h248.model import (
    ALL_CONTEXTS,
    NULL_CONTEXT,
    Action,
    ErrorDescriptor,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.transaction import (
    ErrorIn,
    Output,
    ReplyIn,
    RequestAborted,
    RequestFailed,
    RequestIn,
    RequestTimeout,
    Send,
    Timers,
    TransactionLayer,
)


class AgwEngine:
    """One media gateway. ``mid`` is its message identifier; ``fingerprints`` are those of its certificate (number 0)
    by hash; :class:`agw.core.events.Identities` brings others.

    ``worker`` of ``workers`` selects its slice of each realm's ports. ``first_tid`` is the first transaction id it
    uses; a restarted gateway should not begin where the old one did.
    """

    def __init__(
        self,
        settings: Settings,
        mid: str,
        fingerprints: Mapping[str, bytes],
        *,
        worker: int = 0,
        workers: int = 1,
        first_tid: int = 1,
        tracing: bool = False,
    ) -> None:
        self.mid = mid
        self.store = Store()
        self._settings = settings
        self._out: list[Command] = []
        self._next_tid = first_tid
        self._layer = self._new_layer(reliable=True)
        self.ports = PortAllocator(settings.realm, worker, workers)
        emit = self._out.append
        self._identities = IdentityBook(Known(0, fingerprints))
        self._media = MediaControl(
            mid, self.store, self.ports, self._identities, settings, emit, self._notify, tracing=tracing
        )
        self._reports = MediaReports(self._media)
        self._runner = Runner(
            self.store,
            self._media,
            self._reply,
            contexts=settings.limits.sessions,
            queue=settings.limits.transactions,
            message=settings.limits.message,
        )
        timers = settings.timers
        self._association = Association(
            emit,
            self._request,
            Backoff(timers.backoff_first, timers.backoff_cap),
            orphan_time=timers.orphan_time,
            silence=timers.heartbeat,
        )
        self._drain_at: float | None = None
        self._draining = False
        self._resting = False
        self._rows: dict[type, Callable[[Any, float], None]] = {
            **dict.fromkeys(get_args(orders.Report), self._reported),
            events.FromController: self._message,
            events.BadFromController: self._bad_message,
            events.Start: lambda _, now: self._association.connect(),
            events.ControlUp: self._control_up,
            events.ControlDown: self._control_down,
            events.Drain: lambda _, now: self._drain(now),
            events.Rest: lambda _, now: self._rest(wanted=True, now=now),
            events.Resume: lambda _, now: self._rest(wanted=False, now=now),
            events.Identities: self._new_identities,
            events.LogKeys: self._log_keys,
        }
        """What becomes of an event."""

    @property
    def resting(self) -> bool:
        """Nothing new is taken, by :class:`events.Rest`."""
        return self._resting

    @property
    def serving(self) -> bool:
        """The controller has accepted this gateway."""
        return self._association.serving

    # --- the machine ---

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        self._rows[type(event)](event, now)
        return self._taken() if self._out else ()

    def _message(self, event: events.FromController, now: float) -> None:
        self._association.heard(now)
        self._carry(self._layer.receive(event.message, now), now)

    def _reported(self, report: Any, now: float) -> None:
        """One report of the executor."""
        leg = self._reports.take(report, now)
        if leg is not None:
            self._runner.reported(leg, report, now)
        if self._draining and not self.store.legs:
            self._association.announce_end(now)

    def _bad_message(self, event: events.BadFromController, now: float) -> None:
        self._association.heard(now)
        self._out.append(Log("warning", "bad message from the controller", {"error": event.text}))
        if event.answer is not None:
            self._out.append(events.SendH248(event.answer))

    def _control_up(self, event: events.ControlUp, now: float) -> None:
        self._layer = self._new_layer(reliable=event.reliable)
        self._association.up(event.peer, now)

    def _control_down(self, event: events.ControlDown, now: float) -> None:
        self._carry(self._layer.reset(), now)
        self._runner.clear()
        self._association.down(event.reason, now)

    def _new_identities(self, event: events.Identities, _now: float) -> None:
        for number in self._identities.replace(event.default, event.realms):
            self._out.append(orders.ForgetIdentity(0, number))

    def _log_keys(self, event: events.LogKeys, _now: float) -> None:
        context = self.store.contexts.get(event.context)
        if context is not None:
            context.key_log = event.file

    def expire(self, now: float) -> Sequence[Command]:
        self._carry(self._layer.expire(now), now)
        if self._association.expire(now):
            self._out.append(Log("warning", "released without controller", {"contexts": len(self.store.contexts)}))
            self._release_all()
        self._media.expire(now)
        if self._drain_at is not None and self._drain_at <= now:
            self._drain_at = None
            self._release_all()
        return self._taken()

    def next_timer(self) -> float | None:
        due = self._layer.next_timer()
        for other in (self._association.next_timer(), self._media.next_timer(), self._drain_at):
            if other is not None and (due is None or other < due):
                due = other
        return due

    def snapshot(self, now: float, limit: int = 1_000, facts: snapshot.Facts = snapshot.no_facts) -> snapshot.Row:
        """What there is, in plain values; ``facts`` adds what only the sockets know (:mod:`agw.core.snapshot`)."""
        return {
            "gateway": self.mid,
            "in_service": self.serving,
            "total": len(self.store.contexts),
            "contexts": snapshot.contexts(self.store, now, limit, facts),
        }

    def _taken(self) -> Sequence[Command]:
        """The commands so far."""
        commands = self._out.copy()
        self._out.clear()
        return commands

    # --- H.248 ---

    def _carry(self, outputs: Sequence[Output], now: float) -> None:
        for output in outputs:
            if type(output) is Send:
                self._out.append(events.SendH248(output.message))
            elif type(output) is RequestIn:
                self._request_in(output.tid, output.request, now)
            else:
                self._carry_rare(output, now)

    def _carry_rare(self, output: Output, now: float) -> None:
        """What does not come with every call."""
        match output:
            case ReplyIn():
                self._reply_in(output.tid, output.reply, now)
            case RequestAborted():
                self._runner.aborted(output.tid)
            case RequestTimeout():
                if not self._association.replied(output.tid, None, now):
                    # The layer has repeated it where repeating makes sense: the controller does not answer.
                    self._association.lose("a request was not answered")
            case RequestFailed():
                self._association.replied(output.tid, TransactionReply(output.tid, error=output.error), now)
            case ErrorIn():
                text = f"{output.error.code} {output.error.text}"
                self._out.append(Log("warning", "error from the controller", {"error": text}))

    def _request_in(self, tid: int, request: TransactionRequest, now: float) -> None:
        if self._association.state is State.REGISTERING:
            self._reply(tid, (), error(505), now)
            return
        for action in request.actions:
            if action.context in (NULL_CONTEXT, ALL_CONTEXTS) and _audits(action):
                self._association.watched(now)
                break
        self._runner.submit(tid, request, now)

    def _reply_in(self, tid: int, reply: TransactionReply, now: float) -> None:
        if self._association.replied(tid, reply, now):
            if self._resting and not self._draining:
                self._association.announce_drain(None, now)  # an association that is new knows nothing of it
            return
        if reply.error is not None:
            text = f"{reply.error.code} {reply.error.text}"
            self._out.append(Log("warning", "the controller refuses a Notify", {"error": text}))

    def _reply(self, tid: int, actions: tuple[Action, ...], fault: ErrorDescriptor | None, now: float) -> None:
        self._carry(self._layer.reply(tid, actions, now, fault), now)

    def _request(self, actions: tuple[Action, ...], now: float) -> int:
        try:
            tid, outputs = self._layer.request(actions, now)
        except LimitExceeded as fault:
            self._out.append(Log("error", "request to the controller dropped", {"reason": str(fault)}))
            return -1
        self._next_tid = tid % 0x7FFFFFFF + 1
        self._carry(outputs, now)
        return tid

    def _notify(self, leg: Leg, failure: iq.MediaFailure, now: float) -> None:
        request = leg.request
        if not request.notify or leg.releasing:
            return
        if not self._association.serving:
            self._out.append(Log("warning", "a failure could not be reported", {"termination": leg.name}))
            return
        command = iq.to_notify(leg.name, failure, request.request_id)
        self._request((Action(leg.context.id, (command,)),), now)

    def _new_layer(self, *, reliable: bool) -> TransactionLayer:
        return TransactionLayer(
            self.mid,
            reliable=reliable,
            first_id=self._next_tid,
            timers=Timers(deadline=self._settings.timers.transaction),
        )

    # --- leaving ---

    def _rest(self, *, wanted: bool, now: float) -> None:
        if self._draining or wanted is self._resting:
            return
        self._resting, self._runner.accepting = wanted, not wanted
        if wanted:
            self._association.announce_drain(None, now)
        else:
            self._association.announce_stay(now)

    def _drain(self, now: float) -> None:
        if self._draining:  # asked for twice: now
            self._drain_at = None
            self._release_all()
            return
        self._draining = True
        self._runner.accepting = False
        wait = self._settings.agw.drain_time
        if not self.store.legs:
            self._association.announce_end(now)
            return
        self._association.announce_drain(wait, now)
        self._drain_at = now + wait

    def _release_all(self) -> None:
        for leg in list(self.store.legs.values()):
            self._media.release(leg)


def _audits(action: Action) -> bool:
    return any(command.name == "AuditValue" for command in action.commands)
