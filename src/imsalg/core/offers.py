"""Offers and answers wherever SIP has them: what the SDP of a message is, whether it may come now, and its verdict.

Offers come in INVITE, UPDATE (RFC 3311) and PRACK (RFC 3262 5) and, when an INVITE has none, in the first reliable
response to it (RFC 3261 13.2.1). Answers come in reliable responses, in PRACK and in ACK. The message is held under a
token until the media half has its verdict; everything else goes on meanwhile.

An offer that comes while another one is under way is refused here, as the far end would (RFC 3261 14.2, RFC 3311 5.2,
RFC 6337 4): 491 when the two cross, 500 with Retry-After when one follows its own predecessor. A response that cannot
be looked at yet (another leg of a fork, while an offer is under way) is dropped: whoever sends reliable responses and
2xx repeats them. SDP where the standards give it no meaning is taken out, so that none passes the edge unseen.
"""

from imsalg.core.context import Context
from imsalg.core.media_events import AnswerIn, LegConfirmed, OfferFailed, OfferIn, Proceed, Refuse, Side
from imsalg.core.release import Release
from imsalg.core.sdp_body import drop_sdp, put_sdp, sdp_of
from imsalg.core.sip_call import (
    ACK,
    ANSWER,
    ENDING,
    NO_ROLE,
    OFFER,
    Answer,
    Behind,
    Call,
    Exchange,
    Forward,
    Role,
    leg_of,
    other,
    reliable,
)
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ServerKey

OFFERING = frozenset({"INVITE", "UPDATE", "PRACK"})
"""Methods whose SDP is an offer (or, in PRACK, the answer to one)."""
MOST_BEHIND = 8
"""Requests that wait behind one held ACK; no UE or core has as many under way in one dialog."""
LONGEST_RETRY = 10
"""Seconds: RFC 3261 14.2 and RFC 3311 5.2 want a random Retry-After between 0 and 10."""


class Offers:
    """The SIP half's end of the seam; exchanges live in :attr:`Call.exchanges`."""

    def __init__(self, ctx: Context, release: Release) -> None:
        self._ctx = ctx
        self._release = release

    # --- requests ---

    def check(self, call: Call, forward: Forward) -> None:
        """Say what the SDP of an in-dialog request is; raises :class:`Answer` when it may not come now."""
        request = forward.received
        if request.method not in OFFERING:
            return
        sdp = sdp_of(request)
        if request.method == "INVITE":
            for invite in call.forwards:
                if invite.is_invite and not invite.answered:
                    self._not_now(crossing=invite.side is not forward.side, what="INVITE")
        elif sdp is None:
            return
        self._void(call)
        waiting = [one for one in call.exchanges if one.waits(forward.leg)]
        if request.method == "PRACK" and (asked := _asked(waiting, forward)) is not None:
            if asked.answering:
                self._not_now(crossing=False, what="answer")
            forward.role = ANSWER
            return
        for one in waiting:
            self._not_now(crossing=one.side is not forward.side, what="offer")
        if sdp is not None:
            forward.role = OFFER

    def _not_now(self, *, crossing: bool, what: str) -> None:
        if crossing:
            raise Answer(491, f"another {what} is on its way to you")
        seconds = sum(self._ctx.ids.token(4).encode()) % (LONGEST_RETRY + 1)
        raise Answer(500, f"your earlier {what} is not answered yet", retry_after=seconds)

    def send(self, forward: Forward) -> None:
        """Send a registered request on, or hold it with its offer or answer."""
        ctx, call = self._ctx, forward.call
        request = forward.received
        if call is None or request.method not in OFFERING or call.stage is ENDING:
            ctx.send(forward)
            return
        sdp = sdp_of(request)
        if sdp is None:
            ctx.send(forward)
        elif forward.role is ANSWER:
            self._hold_answer(forward, call, sdp)
        else:
            forward.role = OFFER
            # A re-INVITE that was answered early: the media half takes that as agreed, and so it cannot fail any more.
            if call.exchanges:
                call.exchanges = [one for one in call.exchanges if not one.leg or one.waits(forward.leg)]
            call.exchanges.append(Exchange(forward.side, forward, forward.leg))
            call.has_media = True
            token = ctx.hold(forward)
            ctx.media(OfferIn(call.key, token, forward.side, sdp, call.profile, call.call_id, forward.leg))

    def _hold_answer(self, forward: Forward, call: Call, sdp: bytes) -> None:
        """The answer to an offer in a response, in PRACK or ACK."""
        forward.role = ANSWER
        asked = _asked(call.exchanges, forward)
        if asked is not None:
            asked.answering = True
        token = self._ctx.hold(forward)
        self._ctx.media(AnswerIn(call.key, forward.leg, token, forward.side, sdp, final=True))

    def ack(self, forward: Forward) -> bool:
        """The ACK of a 2xx: True when it is to go on now, False when it is held or repeats one that is."""
        call, leg = forward.call, forward.leg
        if call is None:
            return True
        for one in call.forwards:
            if one.purpose is ACK and one.leg == leg:
                return False
        sdp = sdp_of(forward.received)
        return sdp is None or self._ack_with(forward, call, sdp)

    def _ack_with(self, forward: Forward, call: Call, sdp: bytes) -> bool:
        """The same of an ACK with SDP: the answer to an offer in the 2xx, a repetition of it, or without meaning."""
        leg = forward.leg
        party = call.legs.get(leg)
        number = forward.received.cseq.number
        if party is not None and party.ack_body is not None and party.ack_body[0] == number:
            put_sdp(forward.outgoing, party.ack_body[1])
            return True
        asked = _asked([one for one in call.exchanges if one.waits(leg)], forward)
        if asked is not None and not asked.forward.sent_2xx:
            asked = None  # the offer came in a provisional response: PRACK has to answer it
        if asked is not None and call.stage is not ENDING:
            self._ctx.register_forward(forward)
            self._hold_answer(forward, call, sdp)
            return False
        drop_sdp(forward.outgoing)
        return True

    def waits_behind(self, call: Call, side: Side, key: ServerKey, request: Request, flow: Flow) -> bool:
        """True when ``request`` is to wait behind an ACK of its own side and dialog, whose answer is held.

        It would reach the far end first otherwise, and a BYE would end a dialog which that ACK has not made yet
        (RFC 3261 15). It is taken up again when the hold is over, whatever came of it; the media half bounds that. For
        the cost on the way of every request: an ACK is held only while its offer is among the call's exchanges.
        """
        leg = leg_of(call, side, request)
        for ack in call.forwards:
            if ack.purpose is ACK and ack.hold and ack.side is side and ack.leg == leg:
                break
        else:
            return False
        if len(ack.behind) >= MOST_BEHIND:
            raise Answer(500, "your earlier requests still wait for the media of your ACK", retry_after=1)
        ack.behind = (*ack.behind, key)
        self._ctx.behind[key] = Behind(key, request, flow)
        return True

    def behind_cancelled(self, key: ServerKey) -> bool:
        """The sender has cancelled an INVITE that waits behind an ACK: True when there was one."""
        found = self._ctx.behind.pop(key, None)
        if found is None:
            return False
        self._ctx.answer(key, found.request, Answer(487))
        return True

    def ack_passed(self, forward: Forward) -> None:
        """The ACK went on: an offer in its 2xx that it does not answer comes to nothing."""
        call = forward.call
        if call is None or not call.exchanges or call.stage is ENDING:
            return
        asked = _asked([one for one in call.exchanges if one.waits(forward.leg)], forward)
        if asked is None or not asked.forward.sent_2xx:
            return
        if asked.forward.initial:
            self._release.give_up(call, Answer(488, "the ACK has no answer to the offer"))
        else:
            self.failed(asked.forward)

    # --- responses ---

    def invite_response(self, forward: Forward, call: Call, leg: str, response: Response) -> bool:
        """A 1xx or 2xx of an INVITE: True when it is to go on now; held or dropped otherwise."""
        sdp = sdp_of(response)
        if sdp is None:
            return True
        final = response.status >= 200
        if leg in forward.bodies:  # RFC 3261 13.2.1: after the first reliable one no other counts in that dialog
            put_sdp(response, forward.bodies[leg])
            return True
        if call.stage is ENDING or (forward.role is not OFFER and not reliable(response)):
            # Neither offer nor answer (RFC 6337 3.1.1); to the media half the call is over, it would take it for a new.
            drop_sdp(response)
            return True
        self._void(call)
        under_way = [one for one in call.exchanges if one.forward is not forward or one.in_response]
        if under_way and not self._give_way(call, under_way, final=final):
            self._ctx.stats.dropped += 1
            return False
        token = self._ctx.hold(forward)
        forward.held_response = response
        side = other(forward.side)
        if forward.role is OFFER:
            forward.held_role = ANSWER
            self._ctx.media(AnswerIn(call.key, leg, token, side, sdp, final=final))
        else:
            forward.held_role = OFFER
            call.exchanges.append(Exchange(side, forward, leg, in_response=True))
            call.has_media = True
            self._ctx.media(OfferIn(call.key, token, side, sdp, call.profile, call.call_id, leg))
        return False

    def _give_way(self, call: Call, under_way: list[Exchange], *, final: bool) -> bool:
        """A 2xx with an offer overtakes the unanswered early offer of another leg, which has lost."""
        lost = under_way[0]
        if not final or len(under_way) > 1 or not lost.in_response or lost.answering or lost.forward.sent_2xx:
            return False
        if lost.forward.hold:
            return False
        call.exchanges.remove(lost)
        self._ctx.media(OfferFailed(call.key, initial=False))
        return True

    def plain_response(self, forward: Forward, response: Response) -> bool:
        """A response to UPDATE or PRACK: True when it is to go on now."""
        call = forward.call
        if call is None or forward.received.method not in OFFERING:
            return True
        if response.status < 200:
            drop_sdp(response)  # answers come in the 2xx
            return True
        if response.status >= 300:
            self.failed(forward)
            return True
        sdp = sdp_of(response)
        if forward.role is not OFFER or call.stage is ENDING:
            if sdp is not None:
                drop_sdp(response)
            return True
        if sdp is None:
            self.failed(forward)  # an offer accepted without an answer is none (RFC 3264 6)
            return True
        forward.held_response, forward.held_role = response, ANSWER
        token = self._ctx.hold(forward)
        self._ctx.media(AnswerIn(call.key, forward.leg, token, other(forward.side), sdp, final=True))
        return False

    def passed(self, forward: Forward, call: Call, leg: str, response: Response, role: Role) -> None:
        """A 1xx or 2xx of an INVITE, or the 2xx to UPDATE or PRACK, went on; ``role`` is what its SDP was."""
        own = _of(call.exchanges, forward) if call.exchanges else None
        if role is not NO_ROLE and reliable(response) and (sdp := sdp_of(response)) is not None:
            forward.bodies = {**forward.bodies, leg: sdp}
            if own is not None and role is ANSWER:
                own.settled.add(leg)
        if response.status < 200:
            return
        if own is not None and not own.in_response:
            call.exchanges.remove(own)
        if forward.is_invite and (forward.initial or (own is not None and role is NO_ROLE and not own.in_response)):
            call.confirm_due = leg
        self._confirm(call)

    def _confirm(self, call: Call) -> None:
        """Tell the media half of the accepted leg, as soon as no other offer is under way."""
        if call.confirm_due is not None and not call.exchanges:
            leg, call.confirm_due = call.confirm_due, None
            if call.has_media:
                self._ctx.media(LegConfirmed(call.key, leg))

    def failed(self, forward: Forward) -> None:
        """The transaction came to nothing: so did an offer in it; an initial INVITE's call is over."""
        call = forward.call
        if call is None or call.stage is ENDING:
            if call is not None and forward.initial:
                self._release.end(call)
            return
        if forward.initial:
            self._release.end(call)
            return
        own = [one for one in call.exchanges if one.forward is forward]
        for one in own:
            call.exchanges.remove(one)
        if own and call.has_media:
            self._ctx.media(OfferFailed(call.key, initial=False))
        self._confirm(call)

    def _void(self, call: Call) -> None:
        """Forget early offers of dialogs that a BYE has ended: nobody will answer them."""
        for one in call.exchanges.copy():
            if one.in_response and one.leg not in call.legs and not one.forward.hold and not one.answering:
                call.exchanges.remove(one)
                if call.has_media:
                    self._ctx.media(OfferFailed(call.key, initial=False))

    # --- verdicts on requests ---

    def proceed(self, forward: Forward, verdict: Proceed) -> None:
        """The media half lets a held request go."""
        ctx, call = self._ctx, forward.call
        if call is None:
            return
        put_sdp(forward.outgoing, verdict.body)
        if forward.role is ANSWER:
            asked = _asked(call.exchanges, forward)
            if asked is not None:
                call.exchanges.remove(asked)
        if forward.purpose is ACK:
            self._ack_goes(forward, call)
            self._confirm(call)
            return
        try:
            ctx.send(forward)
        except (Answer, LimitExceeded, ProtocolError) as error:
            forward.answered = True
            ctx.drop_forward(forward)
            if forward.server is not None:
                ctx.answer(forward.server, forward.received, ctx.answer_to(error))
            self.failed(forward)
        self._confirm(call)

    def _ack_goes(self, forward: Forward, call: Call) -> None:
        ctx = self._ctx
        ctx.drop_forward(forward)
        leg = call.legs.get(forward.leg)
        if leg is not None:
            leg.ack_body = (forward.received.cseq.number, sdp_of(forward.outgoing) or b"")
            leg.acked = leg.acked or forward.side is call.caller_side
        try:
            ctx.send_ack(forward)
        except (Answer, ProtocolError):
            ctx.stats.dropped += 1

    def refuse(self, forward: Forward, verdict: Refuse) -> None:
        """The media half cannot do what a held request asks: an offer is answered so, an answer ends the call."""
        ctx, call = self._ctx, forward.call
        answer = Answer(verdict.status, verdict.warning, reason=verdict.reason or None, retry_after=verdict.retry_after)
        if call is None:
            return
        if forward.purpose is ACK:
            self._release.abort(forward, answer)
            self._release.give_up(call, answer)
            return
        forward.answered = True
        ctx.drop_forward(forward)
        if forward.server is not None:
            ctx.answer(forward.server, forward.received, answer)
        if forward.role is ANSWER:
            self._release.give_up(call, answer)
            return
        call.exchanges = [one for one in call.exchanges if one.forward is not forward]
        ctx.trace(
            "call", what="refused", call_id=call.call_id, call=call.key, reason=verdict.warning, status=verdict.status
        )
        if forward.initial:
            call.outcome = "refused"
            self._release.end(call)
        else:
            self._confirm(call)


def _of(exchanges: list[Exchange], forward: Forward) -> Exchange | None:
    """The offer in the request of ``forward`` or in a response to it."""
    for one in exchanges:
        if one.forward is forward:
            return one
    return None


def _asked(exchanges: list[Exchange], forward: Forward) -> Exchange | None:
    """The offer in a response that ``forward`` (PRACK, ACK) may answer."""
    for one in exchanges:
        if one.in_response and one.side is not forward.side and one.leg == forward.leg and not one.forward.hold:
            return one
    return None
