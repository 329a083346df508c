"""Requests that arrive: checked, routed, and sent on (RFC 3261 16.3 to 16.6, TS 24.229 5.2.6 and 5.2.7)."""

import re
from collections.abc import Sequence
from functools import lru_cache

from imsalg.core import header_policy, security
from imsalg.core.asserting import asserted
from imsalg.core.bindings import Binding, user_of
from imsalg.core.context import Context
from imsalg.core.emergency import is_callback
from imsalg.core.flow_dialogs import FlowDialogs, bare, host_of
from imsalg.core.guard import Guard
from imsalg.core.header_policy import Direction, Trust
from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.offers import OFFERING, Offers
from imsalg.core.ownership import same_ue
from imsalg.core.release import Release
from imsalg.core.routing import Way, next_uri, unwrap_strict
from imsalg.core.sdp_body import readable
from imsalg.core.sip_call import Answer, Call, Forward, Party, Purpose, Stage, flow_of, leg_of, other, tag_of
from imsalg.core.tokens import CALL_ACCESS, CALL_CORE, KINDS, PATH, Kind, unpack_flow
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.transaction import ServerKey
from imswire.sip.values import NameAddr

MAX_FORWARDS = 70
MAX_CSEQ = 2**31 - 1
"""In dialogs (RFC 3261 8.1.1.5): a BYE in a UE's name has to find a number above."""
DIALOG_FORMING = frozenset({"SUBSCRIBE", "REFER", "NOTIFY"})
"""Besides INVITE: requests whose dialogs this node stays in by Record-Route (RFC 6665, RFC 3515)."""
NOT_ALLOWED_OUT_OF_DIALOG = frozenset({"BYE", "PRACK", "UPDATE", "INFO"})
CAPABILITIES = (
    (
        "Allow",
        "ACK, BYE, CANCEL, INFO, INVITE, MESSAGE, NOTIFY, OPTIONS, PRACK, PUBLISH, REFER, REGISTER, SUBSCRIBE, UPDATE",
    ),
    ("Accept", "application/sdp"),
    ("Supported", "path, outbound"),
)
"""What an OPTIONS to this node is told (RFC 3261 11.2)."""
SCHEMES = frozenset({"sip", "sips", "tel", "urn", "im", "pres"})
"""Of Request-URIs that are sent on; what they stand for is the core's business (RFC 3261 16.3 step 2)."""
# No headers part: what hides there must not become part of a message (RFC 3261 19.1.5, RFC 4475 3.1.2.11).
_SIP_URI = re.compile(r"[^:]*:(?:[^@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:;[^?@]*)?", re.ASCII)
_OPTION_TAGS = frozenset(map(str.lower, security.OPTION_TAG_HEADERS))
OUT = {Side.ACCESS: Direction.REQUEST_FROM_UE, Side.CORE: Direction.REQUEST_TO_UE}


def forwardable(ctx: Context, request: Request, side: Side) -> Request:
    """A copy of ``request`` that passed RFC 3261 16.3: hops left, no extension demanded of proxies that we lack.

    Raises :class:`Answer` 400, 416, 483 or 420, ProtocolError for unreadable values.
    """
    _check_uri(request.uri)
    outgoing = request.copy()
    headers = outgoing.headers
    hops = request.max_forwards
    if hops == 0:
        raise Answer(483)
    headers.set("Max-Forwards", str(MAX_FORWARDS if hops is None else hops - 1))
    if side is Side.ACCESS and headers.has_any(_OPTION_TAGS):
        for name in security.OPTION_TAG_HEADERS:
            for tag in (security.SEC_AGREE, security.MEDIASEC):
                headers.remove_value(name, tag)
    if "proxy-require" in headers:
        unknown = [tag for tag in headers.values("proxy-require") if tag.lower() != "path"]
        if unknown:
            raise Answer(420, headers=(("Unsupported", ", ".join(unknown)),))
    return outgoing


@lru_cache(maxsize=1024)
def _check_uri(uri: str) -> None:
    scheme = uri.partition(":")[0].lower()
    if scheme not in SCHEMES:
        raise Answer(416)
    if scheme in ("sip", "sips") and _SIP_URI.fullmatch(uri) is None:
        raise Answer(400, "the Request-URI cannot be read, or has a headers part")


class Requests:
    """Everything but REGISTER, CANCEL and the ACK of a failure (which the transaction layer handles)."""

    def __init__(self, ctx: Context, release: Release, offers: Offers, guard: Guard, dialogs: FlowDialogs) -> None:
        self._ctx = ctx
        self._release = release
        self._offers = offers
        self._guard = guard
        self._dialogs = dialogs

    def arrived(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """Route one request; raises :class:`Answer` or ProtocolError where it is to be refused."""
        ctx = self._ctx
        side = ctx.sides[flow.realm]
        if request.method == "OPTIONS" and self._to_this_node(request):
            ctx.respond(key, request.reply(200, to_tag=ctx.ids.tag(), headers=CAPABILITIES))
            return
        if request.method in OFFERING:
            readable(request)
        outgoing = forwardable(ctx, request, side)
        in_dialog = bool(tag_of(request.headers.get("to")))
        own = ctx.network.own(outgoing.uri) if in_dialog or "route" in outgoing.headers else None
        if own is not None and own.user[:1] in KINDS:  # 16.4: a strict router put our Route value into the Request-URI
            unwrap_strict(outgoing)
            user: str | None = own.user
        else:
            user = ctx.network.pop_own(outgoing.headers)
        if in_dialog:
            self._in_dialog(key, request, outgoing, flow, side, user)
        elif request.method in NOT_ALLOWED_OUT_OF_DIALOG:
            raise Answer(481)
        elif side is Side.ACCESS:
            self._from_ue(key, request, outgoing, flow)
        else:
            self._to_ue(key, request, outgoing, flow, user)

    def _to_this_node(self, request: Request) -> bool:
        """An OPTIONS for this node itself (RFC 3261 11), or one that ends here for want of hops (16.3)."""
        if request.max_forwards == 0:
            return True
        own = self._ctx.network.own(request.uri)
        if own is None or own.user:
            return False
        routes = request.headers.values("route")
        return all((found := self._ctx.network.own(value)) is not None and not found.user for value in routes)

    def ack(self, request: Request, flow: Flow) -> None:
        """Forward the ACK of a 2xx (16.6, statelessly), when its answer may go; what cannot be routed is dropped."""
        ctx = self._ctx
        side = ctx.sides[flow.realm]
        try:
            outgoing = forwardable(ctx, request, side)
            user = ctx.network.pop_own(outgoing.headers)
            found = ctx.by_token.get(user or "")
            if found is None or found[1] is not side:
                ctx.stats.dropped += 1
                return
            call = found[0]
            if side is Side.ACCESS and not same_ue(ctx.registrar, call.profile.user, call.flows[Side.ACCESS], flow):
                ctx.stats.dropped += 1
                return
            ctx.call, ctx.who = call, call.profile.user
            if side is Side.ACCESS:
                _as_secure(call, flow)
            ctx.network.pop_exact(outgoing.headers, call.tokens[other(side)])
            way = self._checked_way(call, side, outgoing)
            header_policy.apply(OUT[side], outgoing, ctx.asserting.trust[call.realms[Side.ACCESS]])
            forward = Forward(None, request, outgoing, way, side, call, purpose=Purpose.ACK)
            forward.leg = leg_of(call, side, request)
            if not self._offers.ack(forward):
                return
            ctx.send_ack(forward)
        except (Answer, ProtocolError):
            ctx.stats.dropped += 1
            return
        if side is call.caller_side and (leg := call.legs.get(forward.leg)) is not None:
            leg.acked = True
        self._offers.ack_passed(forward)
        self.acked(call)

    def acked(self, call: Call) -> None:
        """An ACK went through: nobody waits for it any more."""
        self._guard.acked(call)
        self._release.acked(call)

    # --- inside a dialog ---

    def _in_dialog(
        self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, side: Side, user: str | None
    ) -> None:
        ctx = self._ctx
        if not user:
            raise Answer(481, "no Route value of this node")
        found = ctx.by_token.get(user)
        if found is None:
            self._in_flow_dialog(key, request, outgoing, flow, side, user)
            return
        call, token_side = found
        ctx.call, ctx.who = call, call.profile.user
        if token_side is not side:
            raise Answer(403, "this Route belongs to the other side")
        if side is Side.ACCESS and not same_ue(ctx.registrar, call.profile.user, call.flows[Side.ACCESS], flow):
            raise Answer(403, "this dialog is another UE's")
        if call.exchanges and self._offers.waits_behind(call, side, key, request, flow):
            return
        if call.stage is Stage.ENDING and request.method != "BYE":
            raise Answer(481)
        if side is Side.ACCESS:
            _as_secure(call, flow)
            if not call.urgent:
                self._check_agreement(request, flow)
        if request.cseq.number > MAX_CSEQ:
            raise Answer(400, "CSeq of 2**31 or more")
        forward = Forward(key, request, outgoing, flow, side, call)
        forward.leg = leg_of(call, side, request)
        self._offers.check(call, forward)
        ctx.network.pop_exact(outgoing.headers, call.tokens[other(side)])
        way = self._checked_way(call, side, outgoing)
        access = call.realms[Side.ACCESS]
        forward.trust = ctx.asserting.trust[access]
        header_policy.apply(OUT[side], outgoing, forward.trust)
        forward.aim(way)
        if side is Side.CORE:
            forward.charging = call.charging
        else:
            ctx.asserting.request(outgoing, access, vector=call.charging)
            call.flows[Side.ACCESS] = flow  # the UE may have opened a new connection
        self._note_dialog(call, side, request)
        self._guard.touched(call)
        ctx.register_forward(forward)
        self._offers.send(forward)
        if request.method == "BYE":
            self._release.bye_sent(call, forward)

    def _checked_way(self, call: Call, side: Side, outgoing: Request) -> Way:
        """TS 24.229 5.2.6.3: a UE's Route beyond this node is that of the dialog, or it could send to anybody."""
        if side is Side.CORE:
            return call.flows[Side.ACCESS]
        party = call.caller
        if call.caller_side is Side.ACCESS:
            tag = tag_of(outgoing.headers.get("to"))
            leg = call.legs.get(tag) or call.gone
            if leg is None or leg.tag != tag:
                raise Answer(481)
            party = leg.party
        reject = self._ctx.settings.realm[call.realms[Side.ACCESS]].route_check == "reject"
        routes = self._release.dialog_routes(call, Side.CORE, party)
        _check_route(outgoing, routes, "dialog", reject=reject)
        if routes or outgoing.uri in party.contact or host_of(outgoing.uri) == host_of(party.contact):
            return self._ctx.network.resolve(next_uri(outgoing), call.realms[Side.CORE])
        if reject:
            raise Answer(400, "the Request-URI is not the remote target of the dialog")
        return self._ctx.network.next_hop(call.realms[Side.CORE])  # not to whom the UE likes

    @staticmethod
    def _note_dialog(call: Call, side: Side, request: Request) -> None:
        call.saw_cseq(side, request.cseq.number)
        if request.method in ("INVITE", "UPDATE") and (contact := request.headers.get("contact")):
            if side is call.caller_side:
                call.caller.contact = contact
            elif (leg := call.legs.get(tag_of(request.headers.get("from")))) is not None:
                leg.party.contact = contact

    def _in_flow_dialog(
        self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, side: Side, user: str
    ) -> None:
        """A dialog that is no call: its tokens carry the UE's flow."""
        ctx = self._ctx
        if side is Side.ACCESS:
            self._check_agreement(request, flow)
        kind, payload = self._open(user)
        if kind in (CALL_ACCESS, CALL_CORE):
            raise Answer(481)
        way, ue_flow = self._dialogs.route(kind, payload, side, outgoing, flow)
        if side is Side.ACCESS:
            user = next((binding.user for binding in ctx.registrar.on_flow(ue_flow)), "")
            if not same_ue(ctx.registrar, user, ue_flow, flow):
                raise Answer(481, "this dialog is another UE's")
        trust = ctx.asserting.trust[flow.realm if side is Side.ACCESS else ue_flow.realm]
        header_policy.apply(OUT[side], outgoing, trust)
        forward = Forward(key, request, outgoing, way, side)
        forward.trust = trust
        if side is Side.ACCESS:
            ctx.asserting.request(outgoing, flow.realm, vector=ctx.asserting.vector_of_dialog(request.call_id))
        else:
            forward.charging = ctx.asserting.vector_from(request)
        ctx.register_forward(forward)
        ctx.send(forward)

    def _open(self, user: str) -> tuple[Kind, bytes]:
        try:
            return self._ctx.mint.open(user)
        except ProtocolError as error:
            raise Answer(403, error.hint) from None

    def _must_be_served(self, flow: Flow) -> None:
        if flow.realm not in self._ctx.cores:
            raise Answer(403, "the token's realm is not served any more")

    # --- outside a dialog ---

    def _from_ue(self, key: ServerKey, request: Request, outgoing: Request, flow: Flow) -> None:
        ctx = self._ctx
        realm = ctx.settings.realm[flow.realm]
        binding = self._sender(request, flow)
        emergency = ctx.emergency.asked(request, flow.realm)
        if not (emergency and realm.emergency_unregistered):
            self._check_agreement(request, flow)
        if binding is None and not realm.allow_unregistered and not emergency:
            raise Answer(403, "not registered here", once=True)
        if binding is not None and binding.emergency and not emergency:
            raise Answer(403, "this registration is for emergency calls alone")
        if binding is not None and binding.secured and not emergency:
            ctx.agreements[flow.realm].hold_to(request, flow)
        if binding is not None:
            profile = binding.profile
        else:
            profile = AccessProfile(flow.realm, ctx.cores[flow.realm], user=user_of(request.from_.uri))
        ctx.who = profile.user
        identity = None
        trust = ctx.asserting.trust[flow.realm]
        header_policy.apply(Direction.REQUEST_FROM_UE, outgoing, trust)
        if binding is not None and not (trust & Trust.UE and "p-asserted-identity" in outgoing.headers):
            identity = asserted(binding, request.headers)
        core = ctx.cores[flow.realm]
        if emergency:
            target = ctx.emergency.route(outgoing, flow.realm, core, binding)
        else:
            service_route = binding.service_route if binding is not None else ()  # TS 24.229 5.2.6.3
            _check_route(outgoing, service_route, "registration", reject=realm.route_check == "reject")
            has_route = "route" in outgoing.headers
            target = ctx.network.resolve(next_uri(outgoing), core) if has_route else ctx.network.next_hop(core)
        self._begin(
            key,
            request,
            outgoing,
            flow,
            target,
            Side.ACCESS,
            profile,
            ue_flow=flow,
            identity=identity,
            of=binding,
            urgent=emergency,
        )

    def _check_agreement(self, request: Request, flow: Flow) -> None:
        """RFC 3329: where signalling is secured by agreement, judge what the request says of it."""
        agreement = self._ctx.agreements[flow.realm]
        if agreement.offers:
            agreement.request(request, flow)

    def _sender(self, request: Request, flow: Flow) -> Binding | None:
        contact = request.headers.first_value("contact")
        on_flow = self._ctx.registrar.on_flow(flow)
        if len(on_flow) == 1:
            return on_flow[0]
        wanted = [request.from_.uri]
        if (preferred := request.headers.first_value("p-preferred-identity")) is not None:
            wanted.insert(0, NameAddr.parse(preferred).uri)
        rule = self._ctx.settings.realm[flow.realm].sender
        return self._ctx.registrar.sender(flow, NameAddr.parse(contact).uri if contact else None, wanted, rule)

    def _to_ue(self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, user: str | None) -> None:
        ctx = self._ctx
        if user:
            kind, payload = self._open(user)
            if kind != PATH:
                raise Answer(403, "not a Path of this node")
            ue_flow = unpack_flow(payload)
            self._must_be_served(ue_flow)
            binding = ctx.registrar.receiver(ue_flow, outgoing.uri)
            if binding is None and (lost := ctx.registrar.with_contact(outgoing.uri)) is not None:
                binding = lost if lost.path_token == user else None  # registered, but its connection is gone
        else:
            binding = ctx.registrar.with_contact(outgoing.uri)
        if binding is None:
            raise Answer(404, "no such binding here")
        if binding.flow is None:
            raise Answer(430)
        ctx.who = binding.user
        header_policy.apply(Direction.REQUEST_TO_UE, outgoing, ctx.asserting.trust[binding.flow.realm])
        self._begin(
            key,
            request,
            outgoing,
            flow,
            binding.flow,
            Side.CORE,
            binding.profile,
            ue_flow=binding.flow,
            of=binding,
            urgent=is_callback(request),
        )

    def _begin(
        self,
        key: ServerKey,
        request: Request,
        outgoing: Request,
        flow: Flow,
        way: Way,
        side: Side,
        profile: AccessProfile,
        *,
        ue_flow: Flow,
        of: Binding | None = None,
        identity: str | None = None,
        urgent: bool = False,
    ) -> None:
        """Send on an initial request, with Record-Route on both faces where it makes a dialog (16.6 step 4)."""
        ctx, target = self._ctx, flow_of(way)
        call: Call | None = None
        if request.method == "INVITE":
            call = self._new_call(request, side, profile, urgent=urgent)
            call.flows = {side: flow, other(side): target}
            tokens = call.tokens
        elif request.method in DIALOG_FORMING:
            tokens = self._dialogs.tokens(ue_flow, side, outgoing)
        else:
            tokens = {}
        if tokens:
            outgoing.headers.prepend("Record-Route", ctx.network.face(flow).record_route(tokens[side]))
            outgoing.headers.prepend("Record-Route", ctx.network.face(target).record_route(tokens[other(side)]))
        forward = Forward(key, request, outgoing, way, side, call, initial=call is not None)
        forward.trust = ctx.asserting.trust[ue_flow.realm]
        vector = self._vector(request, call, side, dialog=bool(tokens))
        if side is Side.ACCESS:
            ctx.asserting.request(outgoing, ue_flow.realm, identity=identity, vector=vector)
        else:
            forward.charging = vector
        if tokens and call is None and side is Side.ACCESS:
            forward.learn = tokens[Side.ACCESS]
        if tokens and forward.hop is not None:
            forward.stamp = ("Record-Route", tokens[other(side)])
        if of is not None and side is Side.CORE:
            forward.identity = request.headers.first_value("p-called-party-id") or of.default_identity
            forward.called = of
        if call is not None:
            call.binding = of.key if of is not None else None
            ctx.add_call(call)
        ctx.register_forward(forward)
        self._offers.send(forward)

    def _vector(self, request: Request, call: Call | None, side: Side, *, dialog: bool) -> str:
        """The charging vector of an initial request: the core's for what comes from there, else one of our own."""
        asserting = self._ctx.asserting
        if side is Side.CORE:
            vector = asserting.vector_from(request)
        elif call is not None:
            vector = asserting.vector(call.key)
        elif dialog:
            vector = asserting.vector_of_dialog(request.call_id)
        else:
            vector = asserting.vector(self._ctx.ids.token(12))
        if call is not None:
            call.charging = vector
        return vector

    def _new_call(self, request: Request, side: Side, profile: AccessProfile, *, urgent: bool) -> Call:
        ctx = self._ctx
        if ctx.draining and not urgent:
            raise Answer(503, "the node goes out of service", retry_after=ctx.settings.limits.retry_after)
        if len(ctx.calls) >= ctx.settings.limits.calls * (2 if urgent else 1):
            raise Answer(503, "too many calls", retry_after=ctx.settings.limits.retry_after)
        key = ctx.ids.token(9)
        payload = key.encode()
        caller = Party(
            request.need("from"), request.headers.get("contact") or "", request.headers.get_all("record-route")
        )
        tokens = {Side.ACCESS: ctx.mint.seal(CALL_ACCESS, payload), Side.CORE: ctx.mint.seal(CALL_CORE, payload)}
        if request.cseq.number > MAX_CSEQ:
            raise Answer(400, "CSeq of 2**31 or more")
        call = Call(key, request.call_id, side, caller, profile, tokens)
        call.urgent = urgent
        call.saw_cseq(side, request.cseq.number)
        ctx.call = call
        return call


def _as_secure(call: Call, flow: Flow) -> None:
    """A dialog that runs over TLS towards the UE is not continued in the open."""
    if call.flows[Side.ACCESS].transport == "tls" != flow.transport:
        raise Answer(403, "this dialog runs over TLS")


def _check_route(outgoing: Request, expected: Sequence[str], of: str, *, reject: bool) -> None:
    """Replace a Route that is not ``expected``, or raise Answer 400."""
    if not expected and "route" not in outgoing.headers:
        return
    given = outgoing.headers.values("route")
    if [bare(value) for value in given] == [bare(value) for value in expected]:
        return
    if reject:
        raise Answer(400, f"Route differs from the route set of the {of}")
    outgoing.headers.remove("route")
    if expected:
        outgoing.headers.add("Route", ", ".join(expected))
