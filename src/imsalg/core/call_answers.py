"""The stages of a call in which answers come, and the gateway is configured for them."""

from collections import deque

from imsalg.core import fork_lines, reservations
from imsalg.core.call_model import Failure, Leg, LineFailed, Pending, Stage
from imsalg.core.call_offers import Offers
from imsalg.core.call_sdp import read_answer, targets
from imsalg.core.media_answer import Cema
from imsalg.core.media_events import AnswerIn, LegConfirmed, OfferFailed, Proceed, Side
from imsalg.core.reservations import Target, opposite
from imswire.base import ProtocolError
from imswire.h248.model import TransactionReply


class Answers(Offers):
    """See the module's text."""

    __slots__ = ()

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
            for index, cema in known.answered.cema.items():
                if cema is Cema.FALL_BACK:
                    reason = "the answerer lacks a=msrp-cema; a new offer without it is expected (RFC 6714 4.2)"
                    self._note("info", "media line not connected", line=index, reason=reason)
        if self._configured_for in (None, event.leg) or event.final:
            self._configure(pending, event.leg, event)
        elif not self._fork(pending, known, event):
            self._send_on(event, known.rewritten)

    # --- further answers of a forked call ---

    def _fork(self, pending: Pending, leg: Leg, event: AnswerIn) -> bool:
        """Ask for core-side terminations of its own for a further early answer; False when it is to have none."""
        offer = pending.offer
        if self.established or offer.leg or offer.side is not Side.ACCESS:
            return False
        self._forking = {}
        for index, target in targets(pending, leg, self.profile, self._world.settings).items():
            line = pending.lines[index]
            request = fork_lines.wanted(line, target) if event.leg not in line.spares else None
            if request is not None:
                self._forking[index] = request
        if not self._forking:
            return False
        actions = []
        for index, request in self._forking.items():
            line = pending.lines[index]
            line.crowded = True
            actions.append(fork_lines.add(line, request))
        self._waiting = event
        self.stage = Stage.CONFIGURING
        self._ticket = self._world.request(self, tuple(actions))
        return True

    def _forked(self, pending: Pending, reply: TransactionReply | None, text: str = "") -> None:
        """What became of these terminations: an answer without its own shares that of the first."""
        forking, self._forking = self._forking, {}
        event, self._waiting = self._waiting, None
        self.stage = Stage.OFFERED
        if isinstance(event, AnswerIn):
            for index, request in forking.items():
                line = pending.lines[index]
                why = fork_lines.added(line, event.leg, request, reply) if reply is not None else text
                if why:
                    self._note("info", "no termination of its own for another answer", line=index, reason=why)
            self._send_on(event, pending.legs[event.leg].rewritten)
        self._catch_up()

    # --- one answer is served ---

    def _configure(self, pending: Pending, leg: str, event: AnswerIn | LegConfirmed) -> None:
        """Make the gateway what ``leg`` needs; goes on at once when it is that already."""
        first = opposite(pending.offer.side)
        answer = pending.legs[leg]
        answer.targets = targets(pending, answer, self.profile, self._world.settings)
        actions = []
        for index, target in answer.targets.items():
            line = pending.lines[index]
            if leg in line.spares:
                actions.append(fork_lines.choose(line, leg, target))
                continue
            action = reservations.modify(line, target, first)
            if action is None:
                continue
            actions.append(action)
            before = pending.undo.get(index)
            if before is None or target.reconnect:
                before = before or Target(line.requests, line.ends, line.linked)
                pending.undo[index] = Target(before.requests, before.ends, before.linked, target.reconnect)
        self._configured_for = leg
        self._waiting = event
        if actions:
            self.stage = Stage.CONFIGURING
            self._ticket = self._world.request(self, tuple(actions))
        else:
            self._carry_on(pending)

    def _configured(self, reply: TransactionReply) -> None:
        if self._forking and self._pending is not None:
            self._forked(self._pending, reply)
            return
        fault = reservations.first_error(reply)
        if fault is not None:
            self._not_configured(Failure(*fault))
            return
        pending, leg = self._pending, self._configured_for
        if pending is None or leg is None:
            return
        self.stage = Stage.OFFERED
        for index, target in pending.legs[leg].targets.items():
            line = pending.lines[index]
            if leg in line.spares:
                fork_lines.chosen(line, leg)
            reservations.adopt(line, target)
        self._carry_on(pending)

    def _carry_on(self, pending: Pending) -> None:
        """The gateway is as the waiting answer or confirmation needs it."""
        self._served = self._configured_for or ""
        event, self._waiting = self._waiting, None
        if event is not None:
            if isinstance(event, AnswerIn):
                self._send_on(event, pending.legs[event.leg].rewritten)
            if isinstance(event, LegConfirmed) or event.final:
                self._commit(pending, event.leg)
        self._catch_up()

    def _not_configured(self, failure: Failure) -> None:
        """The gateway is not what an answer needs: that answer, and those that wait behind it, cannot go on."""
        if self._forking and self._pending is not None:
            self._forked(self._pending, None, failure.text)
            return
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
        if self.stage is Stage.ESTABLISHED:
            self._confirm_other(event)
            return
        pending = self._pending
        if pending is None:
            return
        if event.leg not in pending.legs and self._first is not None:
            if event.leg != self._served:
                # The offer under way is of a dialog that is over.
                self._roll_back(OfferFailed(self.key, initial=False))
                self._confirm_other(event)
            return
        if event.leg not in pending.legs:
            if pending.lines or self.lines:
                self._end(488, "the call was accepted without an answer to its offer")
            return
        self._configure(pending, event.leg, event)

    def _confirm_other(self, event: LegConfirmed) -> None:
        """A 2xx after an early leg agreed: if it is another leg's, the gateway serves that one from now on."""
        first, self._first = self._first, None
        if first is None or event.leg == self._served:
            self._drop_spares()
            return
        leg = first.legs.get(event.leg)
        if leg is None or not leg.answered.ends.keys() <= self.lines.keys():
            if self.lines:
                self._end(488, "the call was accepted by a leg whose answer cannot be secured any more")
            return
        self._pending = first
        self.stage = Stage.OFFERED
        self._configure(first, event.leg, event)

    def _repeated(self, event: AnswerIn) -> None:
        """An answer after the exchange was complete: of the same leg the same again, else nothing to be done about
        it."""
        last = self._last
        known = last.legs.get(event.leg) if last is not None else None
        if self._first is not None and (known is None or known.body != event.body):
            last = self._first
            known = last.legs.get(event.leg)
        if known is not None and known.body == event.body:
            self._send_on(event, known.rewritten)
        elif last is None or self.stage is not Stage.ESTABLISHED:
            self._refuse(event.token, 488, "an answer without an offer")
        elif not last.lines:
            self._send_on(event, event.body)
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
        if leg.answered.ends.keys() <= self.lines.keys() and len(last.legs) < self._world.settings.limits.legs:
            last.legs[event.leg] = leg
            self._send_on(event, leg.rewritten)
        else:
            self._refuse(event.token, 488, "another leg was confirmed without this media line")

    def _send_on(self, event: AnswerIn, body: bytes) -> None:
        self._world.count_body("answer", rewritten=body != event.body)
        self._world.emit(Proceed(self.key, event.token, body))

    # --- failures of one line ---

    def _drop(self, event: LineFailed) -> None:
        """Take the media of one line away; the call goes on with the others, or ends when there is none."""
        line = next((line for line in self.lines.values() if line.context == event.context), None)
        if line is None:
            return
        others = any(not other.dead for other in self.lines.values() if other is not line)
        if not others and not self._passed:
            self._end(event.status, event.text)
            return
        self._note("warning", "media line dropped", line=line.index, context=line.context, reason=event.text)
        self._subtract(line)
        line.dead = True

    def _closed(self, context: int) -> None:
        pending = self._pending.new if self._pending is not None else []
        for line in (*self.lines.values(), *pending):
            if line.context == context:
                line.down = True
