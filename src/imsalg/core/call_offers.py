"""The stages of a call in which an offer is planned, reserved and sent on."""

from imsalg.core import reservations
from imsalg.core.call_model import Failure, Pending, Stage
from imsalg.core.call_sdp import OfferRefused, Session, read_offer, write_offer
from imsalg.core.call_state import CallState
from imsalg.core.media_events import OfferFailed, OfferIn, Proceed, Side, direction_of
from imsalg.core.media_kinds import GUARDED
from imswire.base import ProtocolError
from imswire.h248.model import TransactionReply


class Offers(CallState):
    """See the module's text."""

    __slots__ = ()

    def _offer(self, event: OfferIn, *, again: bool) -> None:
        if again and not self._answered_early(event):
            self._refuse(event.token, 491, "another offer is pending")
            return
        self.profile = event.profile
        session = Session(self.profile, self.lines, self._passed, self._last.sdp if self._last is not None else None)
        try:
            pending = read_offer(event, session, self._world.settings)
        except OfferRefused as refusal:
            if refusal.medium in GUARDED:
                self._world.count_line(refusal.medium, direction_of(event.side), "refused")
            self._refuse_offer(event.token, refusal.status, refusal.warning)
            return
        except ProtocolError as error:
            self._refuse_offer(event.token, 488, f"the offer cannot be read: {error}")
            return
        self._pending = pending
        for words in pending.notes:
            self._note("info", "media line left alone", reason=words)
        if not pending.new:
            self._forward_offer(pending)
            return
        if not self._world.choose(self, len(pending.new)):
            self._pending = None
            self._refuse_offer(event.token, 503, "no media gateway is in service")
            return
        self.stage = Stage.RESERVING
        self._ticket = self._world.request(self, reservations.reserve(pending.new, event.side))

    def _answered_early(self, event: OfferIn) -> bool:
        """Has the pending offer an early answer in the leg of the new one? Then that exchange is agreed (RFC 6337 2.2),
        though no 2xx said so; other legs of an initial offer may still be confirmed instead."""
        pending = self._pending
        if pending is None or self._configured_for is None or (event.leg and event.leg not in pending.legs):
            return False
        if not self.established:
            self._first = pending
        self._commit(pending, event.leg or self._configured_for)
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
            self._refuse_offer(pending.offer.token, failure.status, text, later=failure.temporary)
        self._catch_up()

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
        self._world.count_body("offer", rewritten=body != offer.body)
        self._world.emit(Proceed(self.key, offer.token, body))
        self._catch_up()

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
        for index, before in pending.undo.items():
            line = self.lines.get(index)
            if line is not None and line is pending.lines[index]:
                action = reservations.modify(line, before, Side.CORE)
                reservations.adopt(line, before)
                actions += [action] if action is not None else []
        if actions:
            self._world.order(self, tuple(actions))
        # A reservation that is still under way is not waited for any more: its reply is subtracted.
        self._ticket = 0
        self.stage = Stage.ESTABLISHED
