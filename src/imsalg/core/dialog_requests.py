"""Requests inside dialogs: they come from one of the ends, and go to the other (RFC 3261 12.2, TS 24.229 5.2.6.3)."""

from imsalg.core import header_policy
from imsalg.core.context import Context
from imsalg.core.flow_dialogs import FlowDialogs, host_of, refuse_media, target_of
from imsalg.core.guard import Guard
from imsalg.core.media_events import Side
from imsalg.core.offers import OFFERING, Offers
from imsalg.core.ownership import same_ue_as
from imsalg.core.release import Release
from imsalg.core.request_checks import (
    MAX_CSEQ,
    OUT,
    check_agreement,
    check_route,
    check_sips,
    make_forwardable,
    open_token,
)
from imsalg.core.routing import Way, next_uri
from imsalg.core.sip_call import ACCESS, CORE, REFRESHING, Answer, Call, Forward, Purpose, Stage, leg_of, other, tag_of
from imsalg.core.tokens import CALL_ACCESS, CALL_CORE
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.message import Request
from imswire.sip.transaction import ServerKey


class DialogRequests:
    """Requests in the dialogs of calls, found by their tokens, and in those that carry the UE's flow in theirs."""

    def __init__(self, ctx: Context, release: Release, offers: Offers, guard: Guard, dialogs: FlowDialogs) -> None:
        self._ctx = ctx
        self._release = release
        self._offers = offers
        self._guard = guard
        self._dialogs = dialogs

    def ack(self, request: Request, flow: Flow) -> None:
        """Forward the ACK of a 2xx (16.6, statelessly), when its answer may go; what cannot be routed is dropped.

        No answer is ever made from an ACK: what came is what goes on, with its headers changed.
        """
        ctx = self._ctx
        side = ctx.sides[flow.realm]
        try:
            make_forwardable(request, side)
            call = known_call(ctx, request.headers, side)
            paired = call is not None
            if call is None:
                found = ctx.by_token.get(ctx.network.pop_own(request.headers) or "")
                if found is None or found[1] is not side:
                    ctx.stats.dropped += 1
                    return
                call = found[0]
            if side is ACCESS and not same_ue_as(call, ctx.registrar, flow):
                ctx.stats.dropped += 1
                return
            ctx.call, ctx.who = call, call.profile.user
            if side is ACCESS:
                _as_secure(call, flow)
            if not paired:
                ctx.network.pop_exact(request.headers, call.tokens[other(side)])
            leg_tag = leg_of(call, side, request)
            way = self._checked_way(call, side, request, leg_tag)
            header_policy.apply(OUT[side], request, ctx.asserting.trust[call.realms[ACCESS]])
            forward = Forward(None, request, request, way, side, call, purpose=Purpose.ACK)
            forward.leg = leg_tag
            if not self._offers.ack(forward):
                return
            ctx.send_ack(forward)
        except (Answer, ProtocolError):
            ctx.stats.dropped += 1
            return
        if side is call.caller_side and (leg := call.legs.get(leg_tag)) is not None:
            leg.acked = True
        self._offers.ack_passed(forward)
        self.acked(call)

    def acked(self, call: Call) -> None:
        """An ACK went through: nobody waits for it any more."""
        self._guard.acked(call)
        self._release.acked(call)

    # --- requests ---

    def arrived(
        self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, side: Side, user: str | None
    ) -> None:
        """Send on a request whose top Route value of ours was ``user``; raises :class:`Answer` where it is refused."""
        ctx = self._ctx
        if not user:
            raise Answer(481, "no Route value of this node")
        found = ctx.by_token.get(user)
        if found is None:
            self._in_flow_dialog(key, request, outgoing, flow, side, user)
            return
        call, token_side = found
        if token_side is not side:
            ctx.call, ctx.who = call, call.profile.user
            raise Answer(403, "this Route belongs to the other side")
        self.in_call(call, key, request, outgoing, flow, side, paired=False)

    def in_call(
        self, call: Call, key: ServerKey, request: Request, outgoing: Request, flow: Flow, side: Side, *, paired: bool
    ) -> None:
        """Send on a request in a call whose Route was ours of that side; our other value is off too if ``paired``."""
        ctx = self._ctx
        ctx.call, ctx.who = call, call.profile.user
        if side is ACCESS and not same_ue_as(call, ctx.registrar, flow):
            raise Answer(403, "this dialog is another UE's")
        if call.exchanges and self._offers.waits_behind(call, side, key, request, flow):
            return
        if call.stage is Stage.ENDING and request.method != "BYE":
            raise Answer(481)
        if side is ACCESS:
            _as_secure(call, flow)
            if not call.urgent:
                check_agreement(ctx, request, flow)
        number = request.cseq.number
        if number > MAX_CSEQ:
            raise Answer(400, "CSeq of 2**31 or more")
        forward = Forward(key, request, outgoing, flow, side, call)
        forward.leg = leg_of(call, side, request)
        if request.method in OFFERING:
            self._offers.check(call, forward)
        if not paired:
            ctx.network.pop_exact(outgoing.headers, call.tokens[other(side)])
        way = self._checked_way(call, side, outgoing, forward.leg)
        access = call.realms[ACCESS]
        forward.trust = ctx.asserting.trust[access]
        header_policy.apply(OUT[side], outgoing, forward.trust)
        forward.aim(way)
        if side is CORE:
            forward.charging = call.charging
        else:
            ctx.asserting.request(outgoing, access, vector=call.charging)
            call.flows[ACCESS] = flow  # the UE may have opened a new connection
        call.saw_cseq(side, number)
        if request.method in REFRESHING and (contact := request.headers.get("contact")):
            call.reached_at(side, tag_of(request.headers.get("from")), contact)
        self._guard.touched(call)
        ctx.register_forward(forward)
        self._offers.send(forward)
        if request.method == "BYE":
            self._release.bye_sent(call, forward)

    def _checked_way(self, call: Call, side: Side, outgoing: Request, tag: str) -> Way:
        """TS 24.229 5.2.6.3: a UE's Route beyond this node is that of the dialog, or it could send to anybody.

        ``tag`` is the called party's, as the request has it.
        """
        if side is CORE:
            check_sips(self._ctx, outgoing.uri, call.flows[ACCESS])
            return call.flows[ACCESS]
        party = call.caller
        if call.caller_side is ACCESS:
            leg = call.legs.get(tag) or call.gone
            if leg is None or leg.tag != tag:
                raise Answer(481)
            party = leg.party
        routes = party.routes
        if routes is None:
            routes = self._release.dialog_routes(call, CORE, party)
        network, core = self._ctx.network, call.realms[CORE]
        if not routes and "route" not in outgoing.headers and outgoing.uri == target_of(party.contact):
            return network.resolve(outgoing.uri, core)  # as nearly all are: straight to the remote target
        reject = self._ctx.settings.realm[call.realms[ACCESS]].route_check == "reject"
        routed = check_route(outgoing, routes, "dialog", reject=reject)
        target = "" if routes else target_of(party.contact)
        if routes or outgoing.uri == target or host_of(outgoing.uri) == host_of(target):
            return network.resolve(next_uri(outgoing) if routed else outgoing.uri, core)
        if reject:
            raise Answer(400, "the Request-URI is not the remote target of the dialog")
        return network.next_hop(core)  # not to whom the UE likes

    def _in_flow_dialog(
        self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, side: Side, user: str
    ) -> None:
        """A dialog that is no call: its tokens carry the UE's flow."""
        ctx = self._ctx
        if side is ACCESS:
            check_agreement(ctx, request, flow)
        refuse_media(request)
        kind, payload = open_token(ctx, user)
        if kind in (CALL_ACCESS, CALL_CORE):
            raise Answer(481)
        way, ue_flow = self._dialogs.route(kind, payload, side, outgoing, flow)
        if side is ACCESS:
            self._dialogs.sent_by(request, flow, ue_flow)
        else:
            check_sips(ctx, outgoing.uri, ue_flow)
        trust = ctx.asserting.trust[flow.realm if side is ACCESS else ue_flow.realm]
        header_policy.apply(OUT[side], outgoing, trust)
        forward = Forward(key, request, outgoing, way, side)
        forward.trust = trust
        if side is ACCESS:
            ctx.asserting.request(outgoing, flow.realm, vector=ctx.asserting.vector_of_dialog(request.call_id))
        else:
            forward.charging = ctx.asserting.vector_from(request)
        ctx.register_forward(forward)
        ctx.send(forward)


def known_call(ctx: Context, headers: Headers, side: Side) -> Call | None:
    """The call whose two Route values of ours stand on top, as this node wrote them for ``side``; both are taken off.

    None, and nothing is changed, where they are not there to the letter: they are read then.
    """
    top = headers.get("route")
    if top is None or top[:5] != "<sip:":
        return None
    found = ctx.by_token.get(top[5 : top.find("@")])
    if found is None or found[1] is not side or not (ours := found[0].record_routes):
        return None
    own, pair = ours[side], ours[other(side)]
    both = f"{own}, {pair}"
    if top == both:
        if headers.count("route") == 1:
            headers.remove("route")
            return found[0]
    elif not top.startswith(f"{both},") and headers.get_all("route")[:2] != [own, pair]:
        return None
    headers.remove_first_value("route")
    headers.remove_first_value("route")
    return found[0]


def _as_secure(call: Call, flow: Flow) -> None:
    """A dialog that runs over TLS towards the UE is not continued in the open."""
    if call.flows[ACCESS].transport == "tls" != flow.transport:
        raise Answer(403, "this dialog runs over TLS")
