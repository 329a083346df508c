"""What all stages of a call share: its state, and how it refuses, subtracts and ends."""

from collections import deque
from typing import Protocol

from imsalg.core import fork_lines, reservations
from imsalg.core.call_model import PHRASES, Failure, Input, Pending, Stage
from imsalg.core.media_events import (
    AccessProfile,
    AnswerIn,
    EndCall,
    LegConfirmed,
    Log,
    MediaCommand,
    OfferFailed,
    OfferIn,
    Refuse,
    Side,
    Trace,
    direction_of,
)
from imsalg.core.media_kinds import GUARDED, medium_of
from imsalg.core.reservations import Line
from imsalg.media_settings import MediaSettings
from imswire.h248.iq import StreamRequest
from imswire.h248.model import Action, TransactionReply
from imswire.sdp.model import SessionDescription


class World(Protocol):
    """What a call needs of its surroundings; :class:`imsalg.core.media.MediaHalf` is it."""

    settings: MediaSettings

    def emit(self, command: MediaCommand) -> None:
        """Give a command out."""

    def count_line(self, medium: str, direction: str, outcome: str) -> None:
        """A guarded line was agreed: its medium, the direction of its offer, and ``secured`` or ``passed``; or the line
        was ``refused``."""

    def count_body(self, what: str, *, rewritten: bool) -> None:
        """A session description (``offer`` or ``answer``) goes on."""

    def count_refusal(self, status: int) -> None:
        """An offer or answer was refused with that status."""

    def choose(self, call: "CallState", lines: int) -> bool:
        """Bind ``call`` to a gateway in service (the one it has, else the least loaded); False when there is none."""

    def request(self, call: "CallState", actions: tuple[Action, ...]) -> int:
        """Send a transaction; its outcome comes back, later, to ``Call.outcome`` with the ticket returned here."""

    def order(self, call: "CallState", actions: tuple[Action, ...]) -> None:
        """Send a transaction whose outcome is of no interest to the call."""

    def claim(self, call: "CallState", context: int, index: int) -> None:
        """That context belongs to the call."""

    def release(self, call: "CallState", context: int) -> None:
        """That context belongs to nobody any more."""

    def forget(self, call: "CallState") -> None:
        """The call is over."""


class CallState:
    """The state of a call. ``gateway`` is the mId of its media gateway, set by the world.

    ``_last`` is the exchange that was agreed last, ``_first`` the initial one while it is agreed for one early leg only
    and others may still be confirmed, ``_served`` the leg that the gateway is configured for. ``_forking`` are the
    terminations of its own that the waiting answer is to get, by line.
    """

    __slots__ = (
        "_configured_for",
        "_deferred",
        "_first",
        "_forking",
        "_last",
        "_passed",
        "_pending",
        "_served",
        "_ticket",
        "_waiting",
        "_world",
        "established",
        "gateway",
        "key",
        "lines",
        "profile",
        "sip_call_id",
        "stage",
    )

    def __init__(self, world: World, offer: OfferIn) -> None:
        self._world = world
        self.key = offer.call
        self.sip_call_id = offer.sip_call_id
        self.profile: AccessProfile = offer.profile
        self.stage = Stage.IDLE
        self.gateway: str | None = None
        self.lines: dict[int, Line] = {}
        self.established = False
        self._passed: dict[int, str] = {}
        self._first: Pending | None = None
        self._last: Pending | None = None
        self._pending: Pending | None = None
        self._ticket = 0
        self._configured_for: str | None = None
        self._forking: dict[int, StreamRequest] = {}
        self._served = ""
        self._waiting: AnswerIn | LegConfirmed | None = None
        self._deferred: deque[AnswerIn | OfferFailed | LegConfirmed] = deque()

    @property
    def contexts(self) -> tuple[int, ...]:
        """The contexts that the call holds, agreed or not."""
        pending = self._pending.new if self._pending is not None else []
        return tuple(line.context for line in (*self.lines.values(), *pending) if line.context)

    @property
    def offers(self) -> tuple[Pending | None, Pending | None]:
        """The offer that is not agreed yet, and the last one that was."""
        return self._pending, self._last

    @property
    def passed(self) -> dict[int, str]:
        """Transports of the agreed lines that are not secured, by index."""
        return self._passed

    def outlives(self, context: int, termination: str) -> bool:
        """That core-side connection is of an answer which is not agreed yet, and there are others: no reason to end."""
        pending = self._pending
        if self.established or pending is None or len(pending.legs) < 2:
            return False
        here = next((line for line in pending.new if line.context == context), None)
        place = here.terminations.get(Side.CORE) if here is not None else None
        return place is not None and place.termination.lower() == termination.lower()

    def outcome(self, ticket: int, event: TransactionReply | Failure) -> None:
        """What became of a transaction; of one that is not waited for any more only what it made is subtracted."""
        if ticket == self._ticket:
            self._ticket = 0
            self.handle(event)
        elif isinstance(event, TransactionReply):
            self._clean(event)

    def handle(self, event: Input) -> None:
        """Take one event in whatever stage the call is."""
        raise NotImplementedError

    def _catch_up(self) -> None:
        """Take what had to wait for the gateway."""
        while self._deferred and self.stage not in (Stage.RESERVING, Stage.CONFIGURING):
            self.handle(self._deferred.popleft())

    # --- what is agreed ---

    def _commit(self, pending: Pending, leg: str) -> None:
        """Offer and answer of ``leg`` are what holds from now on."""
        rejected = pending.legs[leg].answered.rejected
        for line in pending.new:
            replaced = self.lines.get(line.index)
            if replaced is not None and replaced is not line:
                self._subtract(replaced)
            self.lines[line.index] = line
        passed_before = self._passed
        kept = pending.lines.keys() - rejected - pending.gone
        if self.lines.keys() != kept:
            for index in sorted(self.lines.keys() - kept):
                self._subtract(self.lines.pop(index))
        self._passed = {
            index: media.proto.upper()
            for index, media in enumerate(pending.sdp.media)
            if index not in pending.lines and not media.rejected
        }
        self._count(pending, passed_before)
        self._last = pending
        self._pending = None
        if self._first is None:
            self._drop_spares()
        self.established = True
        self.stage = Stage.ESTABLISHED

    def _count(self, pending: Pending, before: dict[int, str]) -> None:
        """Count the guarded lines that this exchange brought."""
        if not isinstance(pending.sdp, SessionDescription):
            return  # plain audio and video
        side = pending.offer.side
        for index, media in enumerate(pending.sdp.media):
            medium = medium_of(media.media, media.proto)
            if medium not in GUARDED:
                continue
            if any(line.index == index for line in pending.new) and index in self.lines:
                self._world.count_line(medium, direction_of(side), "secured")
            elif index in self._passed and index not in before:
                self._world.count_line(medium, direction_of(side), "passed")

    # --- endings ---

    def release(self) -> None:
        """The call is over: subtract everything; what a reply still brings is subtracted when it comes."""
        pending, self._pending = self._pending, None
        self.stage = Stage.RELEASING
        self._deferred.clear()
        self._waiting = None
        if pending is not None:
            self._drop_new(pending)
        for line in self.lines.values():
            self._subtract(line)
        self.lines.clear()
        self._world.forget(self)

    def _end(self, status: int, text: str) -> None:
        self._world.emit(EndCall(self.key, status, text))
        self.release()

    def _drop_spares(self) -> None:
        """One answer is agreed: the terminations of the others go."""
        spared = [line for line in self.lines.values() if line.spares]
        if not spared:
            return
        actions = tuple([action for line in spared if (action := fork_lines.drop(line)) is not None])
        if actions:
            self._world.order(self, actions)

    def _drop_new(self, pending: Pending) -> None:
        for line in pending.new:
            if self.lines.get(line.index) is not line:
                self._subtract(line)

    def _subtract(self, line: Line) -> None:
        if not line.context:
            return
        self._world.release(self, line.context)
        self._world.order(self, (reservations.subtract(line),))
        line.context = 0

    def _clean(self, reply: TransactionReply) -> None:
        """Contexts that a reply brings and nobody wants any more."""
        if self._forking:
            self._forking = {}
            return  # they were in a context that has been subtracted as a whole since
        held = set(self.contexts)
        actions = reservations.subtract_contexts(c for c in reservations.contexts_of(reply) if c not in held)
        if actions:
            self._world.order(self, actions)

    # --- refusals ---

    def _note(self, level: str, event: str, **fields: object) -> None:
        self._world.emit(Log(level, event, {"call": self.key, "call_id": self.sip_call_id, **fields}))

    def _refuse(self, token: int, status: int, text: str, *, later: bool = False) -> None:
        retry = self._world.settings.retry_after if status == 503 or later else None
        fields: dict[str, object] = {
            "call": self.key,
            "call_id": self.sip_call_id,
            "what": "refused",
            "reason": text,
            "status": status,
        }
        self._world.emit(Trace("call", dict(fields)))
        self._world.emit(Log("info" if status < 500 else "warning", "media refused", fields))
        self._world.count_refusal(status)
        self._world.emit(Refuse(self.key, token, status, PHRASES.get(status, ""), text, retry))

    def _refuse_offer(self, token: int, status: int, text: str, *, later: bool = False) -> None:
        """Refuse an offer, which may come again ``later``; a call that never had another is over with it."""
        self._refuse(token, status, text, later=later)
        if self.established:
            self.stage = Stage.ESTABLISHED
        else:
            self.release()
