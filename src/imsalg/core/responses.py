"""Responses that arrive (RFC 3261 16.7)."""

from typing import Final

from imsalg.core import header_policy
from imsalg.core.asserting import answering
from imsalg.core.context import Context
from imsalg.core.flow_dialogs import FlowDialogs
from imsalg.core.guard import Guard
from imsalg.core.header_policy import Direction
from imsalg.core.media_events import Proceed, Refuse
from imsalg.core.offers import OFFERING, Offers
from imsalg.core.release import Release, reason_of
from imsalg.core.response_checks import as_sent
from imsalg.core.sdp_body import put_sdp
from imsalg.core.sip_call import (
    ACCESS,
    ACK,
    CORE,
    EARLY,
    ENDING,
    ESTABLISHED,
    NO_ROLE,
    OFFER,
    OWN,
    REFRESHING,
    Answer,
    Call,
    Forward,
    Leg,
    Party,
    Role,
    other,
    tag_of,
)
from imsalg.core.unanswered import Unanswered
from imswire.base import ProtocolError
from imswire.sip.message import Response

TO_UE: Final = Direction.RESPONSE_TO_UE
FROM_UE: Final = Direction.RESPONSE_FROM_UE


class Responses:
    """Carries responses back, holding those with an SDP answer until the media half has its verdict."""

    def __init__(self, ctx: Context, release: Release, offers: Offers, guard: Guard, dialogs: FlowDialogs) -> None:
        self._ctx = ctx
        self._release = release
        self._offers = offers
        self._guard = guard
        self._dialogs = dialogs
        self.unanswered = Unanswered(ctx, release, offers)
        self.targets = self.unanswered.targets

    def arrived(self, forward: Forward, response: Response) -> None:
        """One response of a proxied request, our Via still on top."""
        ctx = self._ctx
        ctx.call, ctx.who = forward.call, forward.who
        if forward.others:  # this target lives
            ctx.hops.tries.discard(forward)
        if response.status == 100:
            return
        if forward.purpose is OWN:
            if response.status >= 200:
                ctx.drop_forward(forward)
                self._release.bye_answered(forward.call)
            return
        response.headers.remove_first_value("via")
        if "via" not in response.headers:  # RFC 3261 16.7 step 3: it would go nowhere
            raise ProtocolError("sip.missing", "the response has no Via but ours")
        if forward.side is CORE:
            as_sent(forward, response)
        if forward.aborted:
            self._late(forward, response)
        elif not forward.is_invite:
            if forward.received.method not in OFFERING or (
                not forward.hold and self._offers.plain_response(forward, response)
            ):
                self._plain(forward, response)
        elif forward.hold:
            self._while_held(forward, response)
        else:
            self._invite(forward, response)

    # --- other methods ---

    def _plain(self, forward: Forward, response: Response) -> None:
        status, method, call = response.status, forward.received.method, forward.call
        if status >= 200:
            if status == 503 and self.targets.unavailable(forward, response):
                return
            if method in REFRESHING:
                self._refresh_target(forward, response)
        if forward.learn and status < 300:
            self._dialogs.learned(forward.learn, response)
        role, forward.held_role = forward.held_role, NO_ROLE
        self._back(forward, response)
        if status < 200:
            return
        # A call that is ending has no exchanges any more, and no deadline but that of its end.
        if status < 300 and call is not None and call.stage is not ENDING:
            self._offers.passed(forward, call, forward.leg, response, role)
            self._guard.refreshed(forward, call, response)
        forward.answered = True
        self._ctx.drop_forward(forward)
        if method == "BYE" and status not in (401, 407):  # then it comes again
            self._release.bye_answered(call)

    def _back(self, forward: Forward, response: Response) -> None:
        """Send a response on to where its request came from."""
        ctx = self._ctx
        if forward.side is ACCESS:
            header_policy.apply(TO_UE, response, forward.trust)
        else:
            own = 101 <= response.status < 300
            identity = answering(forward.called, response.headers, forward.identity) if own else None
            header_policy.apply(FROM_UE, response, forward.trust)
            if own:
                ctx.asserting.response(response, forward.trust, identity=identity, vector=forward.charging)
        if forward.server is not None:
            ctx.respond(forward.server, response)

    @staticmethod
    def _refresh_target(forward: Forward, response: Response) -> None:
        call = forward.call
        if call is None or forward.received.method not in REFRESHING or response.status >= 300:
            return
        contact = response.headers.get("contact")
        if contact is not None:
            call.reached_at(other(forward.side), tag_of(response.headers.get("to")), contact)

    # --- INVITE ---

    def _while_held(self, forward: Forward, response: Response) -> None:
        """Something waits for the media half: keep the order, unless a failure makes the wait pointless."""
        held = forward.held_response
        if response.status >= 300:
            self._ctx.holds.pop(forward.hold, None)
            forward.hold, forward.held_response, forward.held_role = 0, None, NO_ROLE
            forward.queue = ()
            self._failure(forward, response)
        elif any(_same(response, one) for one in (held, *forward.queue) if one is not None):
            self._ctx.stats.dropped += 1  # a repetition of what is held
        elif len(forward.queue) < 2 * self._ctx.settings.limits.legs:
            forward.queue = (*forward.queue, response)
        else:
            self._ctx.stats.dropped += 1
            self._unheard(forward, response)

    def _invite(self, forward: Forward, response: Response) -> None:
        if response.status >= 300:
            self._failure(forward, response)
            return
        call = forward.call
        if call is None:
            self._back(forward, response)
            return
        to = response.headers.get("to")
        tag = tag_of(to)
        repeated = forward.sent_2xx.get(tag) if response.status >= 200 else None
        if repeated is not None:
            if forward.server is not None and not self._ack_held(forward, call, tag):
                self._ctx.respond(forward.server, repeated)
            return
        if not forward.initial:
            self._refresh_target(forward, response)
            leg = forward.leg
        elif self._learn_leg(forward, call, tag, to or "", response):
            leg = tag
        else:
            return
        if self._offers.invite_response(forward, call, leg, response):
            self._pass(forward, response, tag)
        elif forward.hold:
            forward.held_tag = tag
        else:
            self._unheard(forward, response)

    def _unheard(self, forward: Forward, response: Response) -> None:
        """A response could not be looked at now. A 2xx is repeated for 64*T1 (RFC 3261 13.3.1.4); see lingered."""
        if response.status >= 200 and not forward.answered and forward.unheard is None:
            forward.unheard = response
            self._ctx.keep_on(forward)

    def lingered(self, forward: Forward) -> None:
        """64*T1 have passed: no 2xx is repeated any more. Without one that could go through, the call is given up."""
        response = forward.unheard
        if response is None or forward.answered:
            self._ctx.drop_forward(forward)
        elif forward.hold:  # the media half looks at it just now, and always comes to an end
            self._ctx.keep_on(forward)
        else:
            self._ctx.stats.released += 1
            self._give_up(forward, response, Answer(408, "the 2xx came amid another offer, and not again"), NO_ROLE)

    def _learn_leg(self, forward: Forward, call: Call, tag: str, to: str, response: Response) -> bool:
        """Note the dialog that a response makes (RFC 3261 12.1.2); False when it is not let through."""
        leg = call.legs.get(tag)
        contact = response.headers.get("contact")
        if leg is not None:
            if contact is not None:
                leg.party.contact = contact
            if response.status >= 200:
                leg.party.routed(response.headers.get_all("record-route"))
            return True
        if not tag and response.status < 200:
            return True  # a provisional response without To-tag makes no dialog
        if len(call.legs) >= self._ctx.settings.limits.legs and not self._make_room(forward, call, response):
            return False
        party = Party(to, contact or "", response.headers.get_all("record-route"))
        call.forked = call.forked or bool(call.legs) or call.gone is not None
        call.legs[tag] = Leg(tag, party)
        return True

    def _make_room(self, forward: Forward, call: Call, response: Response) -> bool:
        """Too many dialogs: one more early one is not noted; a 2xx displaces an early one, or is ended at once."""
        self._ctx.stats.dropped += 1
        if response.status < 200:
            return False
        early = next((leg for leg in call.legs.values() if not leg.confirmed), None)
        if early is None:
            self._release.ack_and_bye(forward, response, Answer(487, "too many dialogs"))
            return False
        del call.legs[early.tag]
        return True

    def _pass(self, forward: Forward, response: Response, tag: str) -> None:
        """Forward a 1xx or 2xx of an INVITE with the body that it now has."""
        ctx, call = self._ctx, forward.call
        role, forward.held_role = forward.held_role, NO_ROLE
        self._back(forward, response)
        if call is None:
            return
        final = response.status >= 200
        if final:
            forward.sent_2xx = {**forward.sent_2xx, tag: response}
            if not forward.answered:
                forward.answered = True
                ctx.keep_on(forward)
            leg = call.legs.get(tag)
            if forward.initial and leg is not None and not leg.confirmed:
                leg.confirmed = True
                if call.stage is EARLY:
                    call.stage = ESTABLISHED
        if final or role is not NO_ROLE:
            self._offers.passed(forward, call, tag if forward.initial else forward.leg, response, role)
        if final:
            self._guard.refreshed(forward, call, response)

    @staticmethod
    def _ack_held(forward: Forward, call: Call, tag: str) -> bool:
        """The caller has acknowledged this 2xx; its ACK only waits for the media half."""
        leg = tag if forward.initial else forward.leg
        return any(one.purpose is ACK and one.leg == leg for one in call.forwards)

    def _failure(self, forward: Forward, response: Response) -> None:
        """A final answer that is none of success: it goes back, and an initial INVITE's call is over."""
        if forward.answered:
            return
        if response.status == 503 and self.targets.unavailable(forward, response):
            return
        forward.answered = True
        self._back(forward, response)
        if forward.initial and forward.call is not None and response.status == 487:
            forward.call.outcome = "cancelled"
        self._ctx.drop_forward(forward)
        self._offers.failed(forward)

    def _give_up(self, forward: Forward, response: Response, answer: Answer, role: Role) -> None:
        """A response cannot be let through: its dialog ends at the far side, ``answer`` goes to the near side."""
        ctx, call = self._ctx, forward.call
        if forward.answered and forward.initial:  # another leg of the fork has accepted: this one alone is ended
            self._release.ack_and_bye(forward, response, answer)
            if call is not None:
                call.legs.pop(tag_of(response.headers.get("to")), None)
            return
        if forward.server is not None and not forward.answered:
            ctx.answer(forward.server, forward.received, answer)
        forward.answered = True
        forward.aborted = True
        if response.status >= 200:
            self._release.ack_and_bye(forward, response, answer)
        elif forward.client is not None:
            ctx.transactions(ctx.layer.cancel(forward.client, ctx.now, (("Reason", reason_of(answer)),)))
        ctx.keep_on(forward)
        if call is None:
            return
        call.exchanges = [one for one in call.exchanges if one.forward is not forward]
        if forward.initial:
            call.outcome = "released"
            self._release.end(call)
        elif role is OFFER and response.status < 200:
            pass  # the re-INVITE is refused like one with an offer; the session goes on as it was
        else:
            call.outcome = "released"
            self._release.established(call, answer, but=None if response.status < 200 else other(forward.side))

    def _late(self, forward: Forward, response: Response) -> None:
        """The near side was answered by us before: a 2xx that comes now must not leave the far side in a call."""
        call, answer = forward.call, Answer(487, "the call was given up")
        if forward.is_invite and 200 <= response.status < 300:
            tag = tag_of(response.headers.get("to"))
            known = tag in forward.sent_2xx
            forward.sent_2xx = {**forward.sent_2xx, tag: response}
            self._release.ack_and_bye(forward, response, answer, bye=forward.initial and not known)
            if not forward.initial and call is not None:  # it has a session now that the near side knows nothing of
                self._release.established(call, answer)
        elif response.status >= 200:
            self._ctx.drop_forward(forward)

    # --- verdicts ---

    def proceed(self, forward: Forward, verdict: Proceed) -> None:
        """The media half lets the held response go."""
        response, forward.held_response = forward.held_response, None
        if response is None:
            return
        put_sdp(response, verdict.body)
        if forward.is_invite:
            self._pass(forward, response, forward.held_tag)
            if forward.queue:
                self._drain(forward)
        else:
            self._plain(forward, response)

    def refuse(self, forward: Forward, verdict: Refuse) -> None:
        """The media half cannot do what the held response says."""
        ctx, call = self._ctx, forward.call
        response, forward.held_response = forward.held_response, None
        role, forward.held_role = forward.held_role, NO_ROLE
        forward.queue = ()
        if response is None or call is None:
            return
        answer = Answer(verdict.status, verdict.warning, reason=verdict.reason or None, retry_after=verdict.retry_after)
        if forward.is_invite:
            ctx.stats.released += 1
            self._give_up(forward, response, answer, role)
            return
        forward.answered = True
        ctx.drop_forward(forward)
        if forward.server is not None:
            ctx.answer(forward.server, forward.received, answer)
        self._release.give_up(call, answer)

    def _drain(self, forward: Forward) -> None:
        while forward.queue and not forward.hold and not forward.aborted:
            response, *rest = forward.queue
            forward.queue = tuple(rest)
            try:
                self._invite(forward, response)
            except ProtocolError as error:  # the far side repeats what is of importance
                self._unheard(forward, response)
                self._ctx.stats.bad_messages += 1
                self._ctx.log("info", "bad response", peer=str(forward.flow.remote), error=str(error))


def _same(one: Response, two: Response) -> bool:
    """True for a repetition of a response (RFC 3262 3: a reliable one has its RSeq)."""
    return one.status == two.status and all(one.headers.get(name) == two.headers.get(name) for name in ("to", "rseq"))
