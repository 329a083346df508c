"""One call as the media half sees it: offers, answers, and the H.248 transactions between them.

Theory of operation. :data:`imsalg.core.call_model.TABLE` says what each event does in each stage; :class:`Call`
carries the rows out. A stage that waits for the gateway (RESERVING, CONFIGURING) still takes every event: what must
wait is deferred, what ends the call ends it at once, and whatever the gateway then reports as allocated is
subtracted.

An offer is held until its new lines are reserved; nothing about lines that exist is changed before there is an
answer, so that a failed re-offer costs one Subtract of its new lines and, if an early answer was configured already,
one Modify back. An answer is held until the gateway is configured. Legs of a forked call are known by their To-tag.
The first leg that answers configures the gateway; another leg's early answer is rewritten only, and the gateway is
configured for it, on a new connection, when that leg is the one that is confirmed, by its 2xx: all legs were offered
the same port of the gateway, and the access side has one connection. An offer within an early dialog (UPDATE, PRACK)
says that the exchange before it is agreed in that leg. The same answer of a leg again gives the same bytes and no
H.248.
"""

from collections.abc import Callable
from typing import Any, Self

from imsalg.core.call_answers import Answers
from imsalg.core.call_model import (
    TABLE,
    ConnectionClosed,
    Do,
    Input,
    LineFailed,
    MediaFailed,
    Pending,
    Stage,
)
from imsalg.core.call_state import World
from imsalg.core.media_events import AccessProfile, AnswerIn, LegConfirmed, OfferFailed, OfferIn
from imsalg.core.records import MediaRecord
from imsalg.core.reservations import Line
from imswire.sdp.model import Limits, SessionDescription


class Call(Answers):
    """See the module's text; the stages are in :mod:`call_offers` and :mod:`call_answers`, one below the other."""

    __slots__ = ()

    def handle(self, event: Input) -> None:
        """Take one event in whatever stage the call is."""
        reaction = REACTIONS[TABLE[self.stage][type(event)]]
        if reaction is not None:
            reaction(self, event)

    def _first_offer(self, event: OfferIn) -> None:
        self._offer(event, again=False)

    def _further_offer(self, event: OfferIn) -> None:
        self._offer(event, again=True)

    def _glare(self, event: OfferIn) -> None:
        self._refuse(event.token, 491, "another offer is pending")

    def _failed(self, event: OfferFailed) -> None:
        if event.initial:
            self.release()  # the INVITE failed after an exchange in its early dialog was agreed

    def _over(self, event: Input) -> None:
        self.release()

    def _media_failed(self, event: MediaFailed | LineFailed) -> None:
        self._end(event.status, event.text)

    def _connection_closed(self, event: ConnectionClosed) -> None:
        self._closed(event.context)

    # --- what outlives the process ---

    def record(self) -> MediaRecord | None:
        """What was agreed last; None before anything was."""
        last = self._last
        if last is None or not self.established:
            return None
        return MediaRecord(
            offer=last.offer.body,
            offer_side=last.offer.side,
            gateway=self.gateway,
            lines=tuple(line.record() for line in self.lines.values()),
            passed=self._passed,
            served=self._served,
        )

    @classmethod
    def restored(cls, world: World, key: str, call_id: str, profile: AccessProfile, record: MediaRecord) -> Self:
        """The call as it was agreed last; raises ProtocolError when the kept SDP cannot be read."""
        offer = OfferIn(key, 0, record.offer_side, record.offer, profile, call_id)
        last = Pending(offer, SessionDescription.parse(record.offer, Limits(media=world.settings.limits.lines)))
        call = cls(world, offer)
        call.gateway = record.gateway
        call.lines = {line.index: Line.restored(line) for line in record.lines}
        call._passed = dict(record.passed)
        call._served = record.served
        last.lines = dict(call.lines)
        last.ends = {index: line.ends[record.offer_side] for index, line in call.lines.items() if line.ends}
        call._last = last
        call.established = True
        call.stage = Stage.ESTABLISHED
        return call

    def _defer(self, event: AnswerIn | OfferFailed | LegConfirmed) -> None:
        if len(self._deferred) < self._world.settings.limits.held:
            self._deferred.append(event)
        elif isinstance(event, AnswerIn):
            self._refuse(event.token, 503, "too many answers wait for the media gateway")


REACTIONS: dict[Do, Callable[[Call, Any], None] | None] = {
    Do.PLAN: Call._first_offer,
    Do.REOFFER: Call._further_offer,
    Do.GLARE: Call._glare,
    Do.ALLOCATED: Call._allocated,
    Do.NOT_ALLOCATED: Call._not_allocated,
    Do.ANSWER: Call._answer,
    Do.CONFIGURED: Call._configured,
    Do.NOT_CONFIGURED: Call._not_configured,
    Do.REPEAT: Call._repeated,
    Do.CONFIRM: Call._confirm,
    Do.ROLL_BACK: Call._roll_back,
    Do.ABANDON: Call._roll_back,
    Do.FAILED: Call._failed,
    Do.DEFER: Call._defer,
    Do.RELEASE: Call._over,
    Do.END: Call._media_failed,
    Do.DROP: Call._drop,
    Do.NOTE: Call._connection_closed,
    Do.CLEAN: Call._clean,
    Do.IGNORE: None,
}
"""What carries an order out. It takes the events that :data:`TABLE` has that order for."""
