"""One call as the media half sees it: offers, answers, and the H.248 transactions between them.

Theory of operation. :data:`imsalg.core.call_model.TABLE` says what each event does in each stage; :class:`Call`
carries the rows out. A stage that waits for the gateway (RESERVING, CONFIGURING) still takes every event: what must
wait is deferred, what ends the call ends it at once, and whatever the gateway then reports as allocated is
subtracted.

An offer is held until its new lines are reserved; nothing about lines that exist is changed before there is an
answer, so that a failed re-offer costs one Subtract of its new lines and, if an early answer was configured already,
one Modify back. An answer is held until the gateway is configured. Legs of a forked call are known by their To-tag.
The first leg that answers configures the gateway; another leg's early answer is rewritten only, and the gateway is
configured for it when that leg is the one that is confirmed, by its 2xx. The same answer of a leg again gives the
same bytes and no H.248.
"""

from collections import deque
from typing import Protocol

from imsalg.core import reservations
from imsalg.core.call_model import PHRASES, TABLE, Do, Failure, Input, MediaFailed, Pending, Stage
from imsalg.core.call_sdp import OfferRefused, Session, read_answer, read_offer, write_offer
from imsalg.core.media_events import (
    AccessProfile,
    AnswerIn,
    EndCall,
    LegConfirmed,
    Log,
    MediaCommand,
    OfferFailed,
    OfferIn,
    Proceed,
    Refuse,
    Side,
    Trace,
)
from imsalg.core.reservations import Line, opposite
from imsalg.media_settings import MediaSettings
from imswire.base import ProtocolError
from imswire.h248.model import Action, TransactionReply


class World(Protocol):
    """What a call needs of its surroundings; :class:`imsalg.core.media.MediaHalf` is it."""

    settings: MediaSettings

    def emit(self, command: MediaCommand) -> None:
        """Give a command out."""

    def choose(self, call: "Call", lines: int) -> bool:
        """Bind ``call`` to a gateway in service (the one it has, else the least loaded); False when there is none."""

    def request(self, call: "Call", actions: tuple[Action, ...]) -> int:
        """Send a transaction; its outcome comes back, later, to :meth:`Call.outcome` with the ticket returned here."""

    def order(self, call: "Call", actions: tuple[Action, ...]) -> None:
        """Send a transaction whose outcome is of no interest to the call."""

    def claim(self, call: "Call", context: int, index: int) -> None:
        """That context belongs to the call."""

    def release(self, call: "Call", context: int) -> None:
        """That context belongs to nobody any more."""

    def forget(self, call: "Call") -> None:
        """The call is over."""


class Call:
    """See the module's text. ``gateway`` is the mId of its media gateway, set by the world."""

    __slots__ = (
        "_configured_for",
        "_deferred",
        "_last",
        "_passed",
        "_pending",
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
        self._last: Pending | None = None
        self._pending: Pending | None = None
        self._ticket = 0
        self._configured_for: str | None = None
        self._waiting: AnswerIn | LegConfirmed | None = None
        self._deferred: deque[AnswerIn | OfferFailed | LegConfirmed] = deque()

    @property
    def contexts(self) -> tuple[int, ...]:
        """The contexts that the call holds, agreed or not."""
        pending = self._pending.new if self._pending is not None else []
        return tuple(line.context for line in (*self.lines.values(), *pending) if line.context)

    def outcome(self, ticket: int, event: TransactionReply | Failure) -> None:
        """What became of a transaction; of one that is not waited for any more only what it made is subtracted."""
        if ticket == self._ticket:
            self._ticket = 0
            self.handle(event)
        elif isinstance(event, TransactionReply):
            self._clean(event)

    def handle(self, event: Input) -> None:
        """Take one event in whatever stage the call is."""
        do = TABLE[self.stage][type(event)]
        match do, event:
            case ((Do.PLAN | Do.REOFFER), OfferIn()):
                self._offer(event, again=do is Do.REOFFER)
            case Do.GLARE, OfferIn():
                self._refuse(event.token, 491, "another offer is pending")
            case Do.ALLOCATED, TransactionReply():
                self._allocated(event)
            case Do.NOT_ALLOCATED, Failure():
                self._not_allocated(event)
            case Do.ANSWER, AnswerIn():
                self._answer(event)
            case Do.CONFIGURED, TransactionReply():
                self._configured(event)
            case Do.NOT_CONFIGURED, Failure():
                self._not_configured(event)
            case Do.REPEAT, AnswerIn():
                self._repeated(event)
            case Do.CONFIRM, LegConfirmed():
                self._confirm(event)
            case ((Do.ROLL_BACK | Do.ABANDON), OfferFailed()):
                self._roll_back(event)
            case Do.DEFER, (AnswerIn() | OfferFailed() | LegConfirmed()):
                self._defer(event)
            case Do.RELEASE, _:
                self.release()
            case Do.END, MediaFailed():
                self._end(event.status, event.text)
            case Do.CLEAN, TransactionReply():
                self._clean(event)

    # --- offers ---

    def _offer(self, event: OfferIn, *, again: bool) -> None:
        if again and not self._answered_early():
            self._refuse(event.token, 491, "another offer is pending")
            return
        self.profile = event.profile
        session = Session(self.profile, self.lines, self._passed, self._last.sdp if self._last is not None else None)
        try:
            pending = read_offer(event, session, self._world.settings)
        except OfferRefused as refusal:
            self._refuse_offer(event.token, refusal.status, refusal.warning)
            return
        except ProtocolError as error:
            self._refuse_offer(event.token, 488, f"the offer cannot be read: {error}")
            return
        self._pending = pending
        if not pending.new:
            self._forward_offer(pending)
            return
        if not self._world.choose(self, len(pending.new)):
            self._pending = None
            self._refuse_offer(event.token, 503, "no media gateway is in service")
            return
        self.stage = Stage.RESERVING
        self._ticket = self._world.request(self, reservations.reserve(pending.new, event.side))

    def _answered_early(self) -> bool:
        """A re-offer whose early answer went through is agreed (RFC 6337 2.2), even if its 2xx had no SDP to say so."""
        if self._pending is None or self._configured_for is None or not self.established:
            return False
        self._commit(self._pending, self._configured_for)
        return True

    def _allocated(self, reply: TransactionReply) -> None:
        pending = self._pending
        if pending is None:
            self._clean(reply)
            return
        fault = reservations.first_error(reply)
        if fault is not None:
            self._clean(reply)
            self._not_allocated(Failure(*fault))
            return
        try:
            reservations.take_reply(pending.new, pending.offer.side, reply)
        except ProtocolError as error:
            for line in pending.new:
                line.context = 0
            self._clean(reply)
            self._not_allocated(Failure(500, str(error)))
            return
        for line in pending.new:
            self._world.claim(self, line.context, line.index)
        self._forward_offer(pending)

    def _not_allocated(self, failure: Failure) -> None:
        pending, self._pending = self._pending, None
        self.stage = Stage.ESTABLISHED if self.established else Stage.IDLE
        if pending is not None:
            text = f"no media resources: {failure.text or 'the media gateway did not answer'}"
            self._refuse_offer(pending.offer.token, failure.status, text)

    def _forward_offer(self, pending: Pending) -> None:
        offer = pending.offer
        try:
            body = write_offer(pending, self.profile, self._world.settings)
        except ProtocolError as error:
            self._drop_new(pending)
            self._pending = None
            self._refuse_offer(offer.token, 488, str(error))
            return
        self._configured_for = None
        self.stage = Stage.OFFERED
        self._world.emit(Proceed(self.key, offer.token, body))

    # --- answers ---

    def _answer(self, event: AnswerIn) -> None:
        pending = self._pending
        if pending is None or event.side is pending.offer.side:
            self._refuse(event.token, 488, "an answer without an offer")
            return
        known = pending.legs.get(event.leg)
        if known is None or known.body != event.body:
            try:
                known = read_answer(event, pending, self.profile, self._world.settings)
            except ProtocolError as error:
                self._refuse(event.token, 488, error.hint or error.reason)
                return
            if len(pending.legs) >= self._world.settings.limits.legs and event.leg not in pending.legs:
                self._refuse(event.token, 488, "too many legs")
                return
            pending.legs[event.leg] = known
        if self._configured_for in (None, event.leg) or event.final:
            self._configure(pending, event.leg, event)
        else:
            self._world.emit(Proceed(self.key, event.token, known.rewritten))

    def _configure(self, pending: Pending, leg: str, event: AnswerIn | LegConfirmed) -> None:
        """Make the gateway what ``leg`` needs; goes on at once when it is that already."""
        first = opposite(pending.offer.side)
        actions = []
        for index, wanted in pending.legs[leg].wanted.items():
            line = pending.lines[index]
            action = reservations.modify(line, wanted, first)
            if action is not None:
                actions.append(action)
                pending.undo.setdefault(index, (line.requests, line.linked))
        self._configured_for = leg
        self._waiting = event
        if actions:
            self.stage = Stage.CONFIGURING
            self._ticket = self._world.request(self, tuple(actions))
        else:
            self._carry_on(pending)

    def _configured(self, reply: TransactionReply) -> None:
        fault = reservations.first_error(reply)
        if fault is not None:
            self._not_configured(Failure(*fault))
            return
        pending, leg = self._pending, self._configured_for
        if pending is None or leg is None:
            return
        self.stage = Stage.OFFERED
        for index, wanted in pending.legs[leg].wanted.items():
            pending.lines[index].requests = wanted
            pending.lines[index].linked = all(request.setup != "holdconn" for request in wanted.values())
        self._carry_on(pending)

    def _carry_on(self, pending: Pending) -> None:
        """The gateway is as the waiting answer or confirmation needs it."""
        event, self._waiting = self._waiting, None
        if event is not None:
            if isinstance(event, AnswerIn):
                self._world.emit(Proceed(self.key, event.token, pending.legs[event.leg].rewritten))
            if isinstance(event, LegConfirmed) or event.final:
                self._commit(pending, event.leg)
        while self._deferred and self.stage is not Stage.CONFIGURING:
            self.handle(self._deferred.popleft())

    def _not_configured(self, failure: Failure) -> None:
        """The gateway is not what an answer needs: that answer, and those that wait behind it, cannot go on."""
        event, self._waiting = self._waiting, None
        deferred, self._deferred = self._deferred, deque()
        text = f"media gateway: {failure.text or 'no answer'}"
        if isinstance(event, LegConfirmed):
            self._end(failure.status, text)
            return
        self._configured_for = None
        self.stage = Stage.OFFERED
        for late in (event, *deferred):
            if isinstance(late, AnswerIn):
                self._refuse(late.token, failure.status, text)
            elif isinstance(late, OfferFailed):
                self.handle(late)

    def _confirm(self, event: LegConfirmed) -> None:
        pending = self._pending
        if pending is None:
            return
        if event.leg not in pending.legs:
            if pending.lines or self.lines:
                self._end(488, "the call was accepted without an answer to its offer")
            return
        self._configure(pending, event.leg, event)

    def _repeated(self, event: AnswerIn) -> None:
        """An answer after the exchange was complete: of the same leg the same again, else nothing to be done about
        it."""
        last = self._last
        known = last.legs.get(event.leg) if last is not None else None
        if known is not None and known.body == event.body:
            self._world.emit(Proceed(self.key, event.token, known.rewritten))
        elif last is None or self.stage is not Stage.ESTABLISHED:
            self._refuse(event.token, 488, "an answer without an offer")
        elif not last.lines:
            self._world.emit(Proceed(self.key, event.token, event.body))
        else:
            self._late_leg(event, last)

    def _late_leg(self, event: AnswerIn, last: Pending) -> None:
        """Another leg of a fork accepts too: its answer goes on, secured, so that the caller can hang one of them up.

        The gateway stays configured for the leg that was confirmed first and admits nobody else.
        """
        try:
            leg = read_answer(event, last, self.profile, self._world.settings)
        except ProtocolError as error:
            self._refuse(event.token, 488, error.hint or error.reason)
            return
        if leg.wanted.keys() <= self.lines.keys() and len(last.legs) < self._world.settings.limits.legs:
            last.legs[event.leg] = leg
            self._world.emit(Proceed(self.key, event.token, leg.rewritten))
        else:
            self._refuse(event.token, 488, "another leg was confirmed without this media line")

    def _commit(self, pending: Pending, leg: str) -> None:
        """Offer and answer of ``leg`` are what holds from now on."""
        rejected = pending.legs[leg].answered.rejected
        for line in pending.new:
            self.lines[line.index] = line
        for index in sorted((rejected | pending.gone) & self.lines.keys()):
            self._subtract(self.lines.pop(index))
        self._passed = {
            index: media.proto.upper()
            for index, media in enumerate(pending.sdp.media)
            if index not in pending.lines and not media.rejected
        }
        self._last = pending
        self._pending = None
        self.established = True
        self.stage = Stage.ESTABLISHED

    # --- endings ---

    def _defer(self, event: AnswerIn | OfferFailed | LegConfirmed) -> None:
        if len(self._deferred) < self._world.settings.limits.held:
            self._deferred.append(event)
        elif isinstance(event, AnswerIn):
            self._refuse(event.token, 503, "too many answers wait for the media gateway")

    def _roll_back(self, event: OfferFailed) -> None:
        """Back to what was agreed before; an initial offer leaves nothing."""
        pending = self._pending
        if event.initial or not self.established or pending is None:
            self.release()
            return
        self._pending = None
        self._configured_for = None
        self._drop_new(pending)
        actions = []
        for index, (requests, linked) in pending.undo.items():
            line = self.lines.get(index)
            if line is not None:
                action = reservations.modify(line, requests, Side.CORE)
                line.requests, line.linked = requests, linked
                actions += [action] if action is not None else []
        if actions:
            self._world.order(self, tuple(actions))
        # A reservation that is still under way is not waited for any more: its reply is subtracted.
        self._ticket = 0
        self.stage = Stage.ESTABLISHED

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

    def _drop_new(self, pending: Pending) -> None:
        for line in pending.new:
            if line.context:
                self._subtract(line)

    def _subtract(self, line: Line) -> None:
        self._world.release(self, line.context)
        self._world.order(self, (reservations.subtract(line),))

    def _clean(self, reply: TransactionReply) -> None:
        """Contexts that a reply brings and nobody wants any more."""
        held = set(self.contexts)
        actions = reservations.subtract_contexts(c for c in reservations.contexts_of(reply) if c not in held)
        if actions:
            self._world.order(self, actions)

    # --- refusals ---

    def _refuse(self, token: int, status: int, text: str) -> None:
        retry = self._world.settings.retry_after if status == 503 else None
        fields: dict[str, object] = {
            "call": self.key,
            "call_id": self.sip_call_id,
            "what": "refused",
            "reason": text,
            "status": status,
        }
        self._world.emit(Trace("call", dict(fields)))
        self._world.emit(Log("info" if status < 500 else "warning", "media refused", fields))
        self._world.emit(Refuse(self.key, token, status, PHRASES.get(status, ""), text, retry))

    def _refuse_offer(self, token: int, status: int, text: str) -> None:
        """Refuse an offer; a call that never had another is over with it."""
        self._refuse(token, status, text)
        if self.established:
            self.stage = Stage.ESTABLISHED
        else:
            self.release()
