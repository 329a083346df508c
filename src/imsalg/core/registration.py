"""REGISTER through the P-CSCF: Path, media plane security agreement, and the binding that a 200 leaves.

TS 24.229 5.2.2, RFC 3327 (Path), RFC 3608 (Service-Route), RFC 3329 as extended by TS 24.229 7.2A.7 (``mediasec``).
"""

from imsalg.core import header_policy, outbound, security
from imsalg.core.bindings import Binding, contact_key, identity_key, user_of
from imsalg.core.context import Context
from imsalg.core.credentials import strip_protected
from imsalg.core.emergency import is_emergency_contact, is_emergency_uri
from imsalg.core.header_policy import Direction
from imsalg.core.media_events import Side
from imsalg.core.ownership import reached_again
from imsalg.core.reg_event import RegEvents
from imsalg.core.request_checks import forwardable
from imsalg.core.sip_call import Answer, Forward, Purpose, flow_of
from imsalg.core.targets import Targets
from imsalg.core.tokens import PATH
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ServerKey
from imswire.sip.uri import SipUri
from imswire.sip.values import NameAddr

DEFAULT_EXPIRES = 3600
"""Seconds, when neither the response nor the request names any (RFC 3261 10.2)."""


class Registration:
    """The procedure; bindings live in ``ctx.registrar``."""

    def __init__(self, ctx: Context, targets: Targets, reg_events: RegEvents) -> None:
        self._ctx = ctx
        self._targets = targets
        self._reg_events = reg_events

    def arrived(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """Send a REGISTER of a UE on to the core; raises Answer or ProtocolError where it is refused."""
        ctx = self._ctx
        if ctx.sides[flow.realm] is not Side.ACCESS:
            raise Answer(403, "REGISTER from the core side")
        aor = identity_key(request.to.uri)
        ctx.who = user_of(aor)
        secured = ctx.agreements[flow.realm].register(request, flow)
        emergency = is_emergency_contact(request)
        if not secured:
            self._hold_to_agreement(request, aor, flow, emergency=emergency)
        if emergency and not all(is_emergency_uri(contact.uri) for contact in request.contacts):
            raise Answer(400, "Contacts for emergencies and others in one REGISTER")
        self._check_room(request, aor, emergency=emergency)
        outgoing = forwardable(request, Side.ACCESS)
        self._log_verify(request)
        headers = outgoing.headers
        security.strip_agreement(headers)
        strip_protected(headers)
        header_policy.apply(Direction.REGISTER_FROM_UE, outgoing, ctx.asserting.trust[flow.realm])
        headers.remove("path")  # RFC 3327 5.2 is for proxies: a UE has no business there
        headers.remove("route")  # a UE's preloaded route names this node; the core's entry is configured
        core = ctx.cores[flow.realm]
        way = ctx.emergency.registrar(core) if emergency else ctx.network.next_hop(core)
        token = ctx.mint.seal_flow(PATH, flow)
        headers.prepend("Path", ctx.network.face(flow_of(way)).record_route(token, outbound.path_params(request)))
        for name in ("Require", "Supported"):
            if not outgoing.has_option(name, "path"):
                headers.add(name, "path")
        headers.set("P-Visited-Network-ID", _visited(ctx.settings.imsalg.visited_network))
        ctx.asserting.request(outgoing, flow.realm, vector=ctx.asserting.vector(ctx.ids.token(12)))
        forward = Forward(key, request, outgoing, way, Side.ACCESS, purpose=Purpose.REGISTER)
        if forward.hop is not None:
            forward.stamp = ("Path", token)
        forward.arrival = flow
        forward.secured = secured
        forward.trust = ctx.asserting.trust[flow.realm]
        ctx.register_forward(forward)
        ctx.send(forward)

    def _hold_to_agreement(self, request: Request, aor: str, flow: Flow, *, emergency: bool) -> None:
        """What was registered under an agreement is neither replaced nor ended in the open; raises Answer 494.

        A UE that begins anew announces TLS there; what becomes of that is seen by the answer.
        """
        agreement = self._ctx.agreements[flow.realm]
        held = [one for one in self._ctx.registrar.of(aor) if one.secured and one.emergency is emergency]
        if not held or flow.transport == "tls" or agreement.announced_in_the_open(request, flow):
            return
        if request.contact_star:
            raise agreement.unused()
        for contact in request.contacts:
            if any(outbound.same_ue(contact, binding) for binding in held):
                raise agreement.unused()

    def _check_room(self, request: Request, aor: str, *, emergency: bool) -> None:
        if request.contact_star or (request.expires == 0):
            return
        registrar, limits = self._ctx.registrar, self._ctx.settings.limits
        for contact in request.contacts:
            room = registrar.has_room(aor, contact.uri, emergency=emergency)
            if contact.param("expires") != "0" and not room:
                raise Answer(503, "no room for another binding", retry_after=limits.retry_after)

    def _log_verify(self, request: Request) -> None:
        """Security-Verify must repeat our list; for media plane mechanisms a difference is logged, not refused."""
        if "security-verify" not in request.headers:
            return
        ctx = self._ctx
        try:
            outcome = security.check_verify(request.headers, ctx.settings.policy.mechanisms)
        except ProtocolError as error:
            ctx.log("warning", "Security-Verify cannot be read", user=ctx.who, error=error.hint)
            return
        if outcome.present and not outcome.clean:
            ctx.log(
                "warning",
                "Security-Verify differs from what was sent",
                user=ctx.who,
                missing=sorted(outcome.missing),
                foreign=sorted(outcome.foreign),
            )

    # --- the answer ---

    def answered(self, forward: Forward, response: Response) -> None:
        """A response of the registrar, our Via still on top."""
        ctx = self._ctx
        request = forward.received
        aor = identity_key(request.to.uri)
        ctx.who = user_of(aor)
        if forward.others:
            ctx.hops.tries.discard(forward)
        if response.status == 100:
            return
        if response.status == 503 and self._targets.unavailable(forward, response):
            return
        response.headers.remove_first_value("via")
        if "via" not in response.headers:
            raise ProtocolError("sip.missing", "the response has no Via but ours")
        header_policy.apply(Direction.REGISTERED_TO_UE, response, forward.trust)
        client = security.announced_or_none(request.headers) or frozenset()
        mechanisms = ctx.settings.policy.mechanisms
        verified = "security-verify" in request.headers
        asked = response.status in (401, 407) or (response.status == 200 and not verified)
        if asked and forward.arrival is not None:
            agreement = ctx.agreements[forward.arrival.realm]
            if agreement.wanted_by(request.headers):
                response.headers.add("Security-Server", agreement.server)
        if 200 <= response.status < 300:
            if self._to_come_back(forward):
                return
            if forward.arrival is not None:
                arrival = forward.arrival
                outbound.flow_timer(response, arrival, ctx.settings.realm[arrival.realm].flow_timer)
            self._store(forward, response, aor, security.agreed(client, mechanisms))
        if response.status >= 200:
            forward.answered = True
            ctx.drop_forward(forward)
        if forward.server is not None:
            ctx.respond(forward.server, response)

    def _to_come_back(self, forward: Forward) -> bool:
        """True for a UE that announced TLS in the open and was not even asked who it is: 494, and nothing is kept."""
        ctx, flow = self._ctx, forward.arrival
        if flow is None or not (agreement := ctx.agreements[flow.realm]).announced_in_the_open(forward.received, flow):
            return False
        forward.answered = True
        ctx.drop_forward(forward)
        if forward.server is not None:
            ctx.answer(forward.server, forward.received, agreement.unused())
        return True

    def _store(self, forward: Forward, response: Response, aor: str, agreed: frozenset[str]) -> None:
        """Bring the bindings of the address of record in line with the 200 (TS 24.229 5.2.2.1, RFC 3261 10.2.4)."""
        ctx, request, flow = self._ctx, forward.received, forward.arrival
        if flow is None:
            return
        granted = _granted(response)
        if request.contact_star:
            for binding in ctx.registrar.of(aor):
                if not binding.emergency:  # no UE ends that one, it expires (TS 24.229 5.1.6.2, 5.1.6.6)
                    self._forget(binding, "de-registered")
            return
        service_route = self._service_route(response)
        associated = tuple(_readable(response.headers, "p-associated-uri"))
        for contact in request.contacts:
            seconds = granted.get(contact_key(contact.uri))
            old = ctx.registrar.get(aor, contact.uri)
            if not seconds:
                if old is not None:
                    self._forget(old, "de-registered")
                continue
            binding = Binding(
                aor,
                contact.uri,
                flow,
                ctx.mint.seal_flow(PATH, flow),
                ctx.now + seconds,
                service_route=service_route,
                associated=associated,
                agreed=agreed,
                core_realm=ctx.cores[flow.realm],
                secured=forward.secured,
                flow_name=outbound.flow_name(contact, response),
                emergency=is_emergency_uri(contact.uri),
            )
            left = [] if old is None else [old.flow]
            for former in outbound.replaced(ctx.registrar, binding):
                left.append(former.flow)
                ctx.rebind(former, binding)
                self._forget(former, "replaced")
            try:
                ctx.registrar.put(binding)
            except LimitExceeded as error:
                ctx.log("warning", "a binding is not kept", user=ctx.who, error=error.hint)
                continue
            ctx.stats.registrations += 1
            reached_again(ctx, binding, left)
            ctx.log(
                "info" if old is None else "debug",
                "registered",
                user=ctx.who,
                contact=contact.uri,
                expires=seconds,
                agreed=sorted(agreed),
            )
            self._reg_events.registered(binding, response)

    def _service_route(self, response: Response) -> tuple[str, ...]:
        """Service-Route as it can be followed; the UE is told no other, since its Route has to be the same."""
        headers = response.headers
        told = headers.values("service-route")
        kept = [value for value in told if _followed(value)]
        if len(kept) < len(told):
            self._ctx.log("warning", "Service-Route cannot be read", user=self._ctx.who, value=", ".join(told))
            headers.remove("service-route")
            if kept:
                headers.add("Service-Route", ", ".join(kept))
        return tuple(kept)

    def _forget(self, binding: Binding, why: str) -> None:
        self._ctx.registrar.remove(binding)
        self._ctx.log("info", why, user=binding.user, contact=binding.contact)
        self._reg_events.unbound(binding)

    def expire(self, now: float) -> None:
        """Forget the bindings whose time is over."""
        for binding in self._ctx.registrar.expire(now):
            self._ctx.log("info", "registration expired", user=binding.user, contact=binding.contact)
            self._reg_events.unbound(binding)

    def flow_closed(self, flow: Flow) -> None:
        """The UE's connection is gone; its bindings cannot be reached until it registers again."""
        for binding in self._ctx.registrar.flow_closed(flow):
            self._ctx.log("info", "flow of a binding closed", user=binding.user, contact=binding.contact)


def _granted(response: Response) -> dict[str, int]:
    """Contact key -> seconds that the registrar granted: the Contact's expires, else Expires, else the default."""
    general = response.expires
    granted: dict[str, int] = {}
    for contact in response.contacts:
        text = contact.param("expires")
        if text is not None and text.isascii() and text.isdigit() and len(text) <= 10:
            seconds = int(text)
        else:
            seconds = DEFAULT_EXPIRES if general is None else general
        granted[contact_key(contact.uri)] = seconds
    return granted


def _readable(headers: Headers, name: str) -> list[str]:
    """The values of ``name`` that are name-addrs; a bad one from the core is left out."""
    kept: list[str] = []
    for value in headers.values(name):
        try:
            NameAddr.parse(value)
        except ProtocolError:
            continue
        kept.append(value)
    return kept


def _followed(value: str) -> bool:
    """True for a Route value that a request can be sent to."""
    try:
        SipUri.parse(NameAddr.parse(value).uri)
    except ProtocolError:
        return False
    return True


def _visited(network: str) -> str:
    """P-Visited-Network-ID is a token or a quoted string (RFC 7315 4.3)."""
    return network if network.replace(".", "").replace("-", "").isalnum() else f'"{network}"'
