"""Requests outside dialogs: whose they are, where they go, and what is begun with them (TS 24.229 5.2.6 and 5.2.7)."""

from imsalg.core import header_policy
from imsalg.core.asserting import asserted
from imsalg.core.bindings import Binding, user_of
from imsalg.core.context import Context
from imsalg.core.emergency import is_callback
from imsalg.core.flow_dialogs import FlowDialogs
from imsalg.core.header_policy import Direction, Trust
from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.offers import Offers
from imsalg.core.ownership import in_the_open, sender_of
from imsalg.core.request_checks import MAX_CSEQ, check_agreement, check_route, check_sips, open_token
from imsalg.core.routing import Way, next_uri
from imsalg.core.sip_call import ACCESS, CORE, Answer, Call, Forward, Party, flow_of, other
from imsalg.core.tokens import CALL_ACCESS, CALL_CORE, PATH, unpack_flow
from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.transaction import ServerKey

DIALOG_FORMING = frozenset({"SUBSCRIBE", "REFER", "NOTIFY"})
"""Besides INVITE: requests whose dialogs this node stays in by Record-Route (RFC 6665, RFC 3515)."""


class InitialRequests:
    """Requests of UEs towards the core, and of the core towards UEs."""

    def __init__(self, ctx: Context, offers: Offers, dialogs: FlowDialogs) -> None:
        self._ctx = ctx
        self._offers = offers
        self._dialogs = dialogs

    def from_ue(self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, *, routed: bool) -> None:
        """A UE asks for something: it has to be registered here, or in need (TS 24.229 5.2.6.3).

        ``routed``: it came with a Route, of which our own values are off already.
        """
        ctx = self._ctx
        realm = ctx.settings.realm[flow.realm]
        binding = sender_of(ctx, request, flow)
        emergency = ctx.emergency.asked(request, flow.realm)
        if emergency and binding is not None and in_the_open(binding, flow):
            binding = None  # served all the same, but in nobody's name: anybody may have sent it
        if not (emergency and realm.emergency_unregistered):
            check_agreement(ctx, request, flow)
        core = ctx.cores[flow.realm]
        if binding is not None:
            if not emergency:
                self._for_more_than_emergencies(binding, request, flow)
            profile = binding.profile
        else:
            if not realm.allow_unregistered:
                if not emergency:
                    several = ctx.registrar.on_flow(flow)
                    why = "the request does not say which of its users it is of" if several else "not registered here"
                    raise Answer(403, why, once=True)
                if request.method != "INVITE":
                    raise Answer(403, "who is not registered may call for help, no more", once=True)
            profile = AccessProfile(flow.realm, core, user=user_of(request.from_.uri))
        ctx.who = profile.user
        identity = None
        trust = ctx.asserting.trust[flow.realm]
        header_policy.apply(Direction.REQUEST_FROM_UE, outgoing, trust)
        if binding is not None and not (trust & Trust.UE and "p-asserted-identity" in outgoing.headers):
            identity = asserted(binding, request.headers)
        if emergency:
            target = ctx.emergency.route(outgoing, flow.realm, core, binding)
        else:
            service_route = binding.service_route if binding is not None else ()  # TS 24.229 5.2.6.3
            if routed or service_route:
                reject = realm.route_check == "reject"
                routed = check_route(outgoing, service_route, "registration", reject=reject)
            target = ctx.network.resolve(next_uri(outgoing), core) if routed else ctx.network.next_hop(core)
        self._begin(
            key,
            request,
            outgoing,
            flow,
            target,
            ACCESS,
            profile,
            ue_flow=flow,
            identity=identity,
            of=binding,
            urgent=emergency,
        )

    def _for_more_than_emergencies(self, binding: Binding, request: Request, flow: Flow) -> None:
        """Raise :class:`Answer` where the binding is for emergency calls alone or its agreement is not kept."""
        if binding.emergency:
            raise Answer(403, "this registration is for emergency calls alone")
        if binding.secured:
            self._ctx.agreements[flow.realm].hold_to(request, flow)

    def to_ue(self, key: ServerKey, request: Request, outgoing: Request, flow: Flow, user: str | None) -> None:
        """The core asks for a UE, by our Path token ``user`` or by its contact (TS 24.229 5.2.6.4)."""
        ctx = self._ctx
        if user:
            kind, payload = open_token(ctx, user)
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
        check_sips(ctx, outgoing.uri, binding.flow)
        ctx.who = binding.user
        trust = ctx.asserting.trust[binding.flow.realm]
        header_policy.apply(Direction.REQUEST_TO_UE, outgoing, trust)
        self._begin(
            key,
            request,
            outgoing,
            flow,
            binding.flow,
            CORE,
            binding.profile,
            ue_flow=binding.flow,
            of=binding,
            urgent=bool(trust & Trust.CORE) and is_callback(request),
        )

    def _must_be_served(self, flow: Flow) -> None:
        if flow.realm not in self._ctx.cores:
            raise Answer(403, "the token's realm is not served any more")

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
            here = ctx.network.face(flow).record_route(tokens[side])
            beyond = ctx.network.face(target).record_route(tokens[other(side)])
            outgoing.headers.prepend("Record-Route", here)
            outgoing.headers.prepend("Record-Route", beyond)
            if call is not None:
                call.record_routes = {side: here, other(side): beyond}
        forward = Forward(key, request, outgoing, way, side, call, initial=call is not None)
        forward.trust = ctx.asserting.trust[ue_flow.realm]
        vector = self._vector(request, call, side, dialog=bool(tokens))
        if side is ACCESS:
            ctx.asserting.request(outgoing, ue_flow.realm, identity=identity, vector=vector)
        else:
            forward.charging = vector
        if tokens and call is None and side is ACCESS:
            forward.learn = tokens[ACCESS]
        if tokens and forward.hop is not None:
            forward.stamp = ("Record-Route", tokens[other(side)])
        if of is not None and side is CORE:
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
        if side is CORE:
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
        taken = ctx.urgent_calls if urgent else len(ctx.calls) - ctx.urgent_calls
        if taken >= ctx.settings.limits.calls:
            raise Answer(503, "too many calls", retry_after=ctx.settings.limits.retry_after)
        key = ctx.ids.token(9)
        payload = key.encode()
        headers = request.headers
        caller = Party(request.need("from"), headers.get("contact") or "", headers.get_all("record-route"))
        tokens = {ACCESS: ctx.mint.seal(CALL_ACCESS, payload), CORE: ctx.mint.seal(CALL_CORE, payload)}
        number = request.cseq.number
        if number > MAX_CSEQ:
            raise Answer(400, "CSeq of 2**31 or more")
        call = Call(key, request.call_id, side, caller, profile, tokens)
        call.urgent = urgent
        call.cseq[side] = number
        ctx.call = call
        return call
