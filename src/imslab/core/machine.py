"""The lab core as a pure machine: registrar, and a stateful proxy that forks (RFC 3261 16, RFC 6026)."""

import ipaddress
from collections.abc import Iterable, Sequence

from imslab.core.notifier import Notifier
from imslab.core.registrar import Binding, Registrar
from imslab.core.settings import CoreSettings
from imslab.sipnode import Closed, Command, Deregister, Event, Received, SendMessage, Tell
from imswire.base import ProtocolError
from imswire.sip import transaction as tx
from imswire.sip.flow import Flow, Transport
from imswire.sip.message import Request, Response
from imswire.sip.reginfo import ContactInfo
from imswire.sip.transaction import ClientKey, IdSource, ServerKey, TransactionLayer
from imswire.sip.uri import SipUri, bracketed
from imswire.sip.values import NameAddr

REALM = "core"
_MAX_TARGETS = 10


class _Context:
    """One proxied request: its branches and the best final answer so far (RFC 3261 16.7)."""

    def __init__(self, key: ServerKey, request: Request) -> None:
        self.key = key
        self.request = request
        self.waiting: set[ClientKey] = set()
        self.finals: list[Response] = []
        self.answered = False


class CoreMachine:
    """Handles parsed SIP messages; every socket is somebody else's business.

    ``addresses`` tells where the core listens, per transport, once the sockets exist.
    """

    def __init__(self, settings: CoreSettings, ids: IdSource) -> None:
        self._settings = settings
        self._layer = TransactionLayer(ids)
        self.registrar = Registrar(settings, ids)
        self._notifier = Notifier(settings.domain, ids)
        self._notifies: dict[ClientKey, str] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._contexts: dict[ServerKey, _Context] = {}
        self._branches: dict[ClientKey, _Context] = {}

    def listening(self, addresses: dict[str, tuple[str, int]]) -> None:
        """Tell the real addresses; to be called before the first event."""
        self._addresses = dict(addresses)
        self.registrar.service_route = f"<sip:orig@{self._own_hostport('udp')};lr>"

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        """One message, or the end of a connection."""
        match event:
            case Received(message, flow):
                return self._outputs(self._layer.receive(message, flow, now), now)
            case Closed(flow):
                return self._outputs(self._layer.transport_failed(flow, now), now)
            case Deregister(user):
                gone = [_told(one, now, "deactivated") for one in self.registrar.remove(user, now)]
                return self._notify(self._notifier.changed(user, gone, now), now) if gone else ()
        return ()

    def expire(self, now: float) -> Sequence[Command]:
        """Run the transaction timers that are due."""
        return self._outputs(self._layer.expire(now), now)

    def next_timer(self) -> float | None:
        """When the next transaction timer is due."""
        return self._layer.next_timer()

    # --- what the transaction layer says ---

    def _outputs(self, outputs: Iterable[tx.Output], now: float) -> list[Command]:
        commands: list[Command] = []
        for output in outputs:
            match output:
                case tx.Send():
                    commands.append(SendMessage(output.message, output.flow))
                case tx.RequestArrived():
                    commands += self._request(output.key, output.request, output.flow, now)
                case tx.AckArrived():
                    commands += self._ack(output.request, now)
                case tx.CancelArrived():
                    commands += self._cancelled(output.invite_key, now)
                case tx.ResponseArrived():
                    commands += self._response(output.key, output.response, now)
                case tx.ClientTimeout():
                    commands += self._branch_failed(output.key, 408, now)
                case tx.ClientFailed():
                    commands += self._branch_failed(output.key, 503, now)
                case _:
                    pass
        return commands

    def _respond(self, key: ServerKey, response: Response, now: float) -> list[Command]:
        return self._outputs(self._layer.respond(key, response, now), now)

    def _request(self, key: ServerKey, request: Request, flow: Flow, now: float) -> list[Command]:
        try:
            return self._route(key, request, now)
        except ProtocolError as error:
            refusal = request.reply(400, headers=[("Warning", f'399 core "{_quotable(str(error))}"')])
            return self._respond(key, refusal, now)

    def _route(self, key: ServerKey, request: Request, now: float) -> list[Command]:
        hops = request.max_forwards
        if hops == 0:
            return self._respond(key, request.reply(483), now)
        onward = request.copy()
        onward.headers.set("Max-Forwards", str(70 if hops is None else hops - 1))
        self._strip_own_routes(onward)
        if self._settings.psap and onward.uri.lower().startswith("urn:service:sos"):
            onward.uri = f"sip:{self._settings.psap}@{self._settings.domain}"  # the E-CSCF's part (RFC 5031)
        commands: list[Command] = []
        if request.method == "INVITE":
            commands += self._respond(key, request.reply(100), now)
        if onward.headers.first_value("route") is None and self._for_us(onward.uri):
            if request.method == "REGISTER":
                return commands + self._register(key, request, now)
            if self._settings.reg_event and self._notifier.wanted(request):
                return commands + self._watch(key, request, now)
            targets = self._targets(onward, now)
            if not targets:
                status = 480 if self.registrar.knows(SipUri.parse(onward.uri).user or "") else 404
                return commands + self._respond(key, request.reply(status), now)
        elif request.method == "REGISTER":
            return commands + self._respond(key, request.reply(403), now)
        else:
            targets = [onward]
        return commands + self._forward(key, request, targets, now)

    def _register(self, key: ServerKey, request: Request, now: float) -> list[Command]:
        """Answer a REGISTER, and tell the watchers what it changed."""
        user = request.to.sip_uri.user or ""
        before = {one.contact.uri: one for one in self.registrar.bindings(user, now)}
        answer = self.registrar.register(request, now)
        commands = self._respond(key, answer, now)
        if answer.status != 200:
            return commands
        after = {one.contact.uri: one for one in self.registrar.bindings(user, now)}
        told = [_told(one, now, "refreshed" if uri in before else "registered") for uri, one in after.items()]
        told += [_told(one, now, "unregistered") for uri, one in before.items() if uri not in after]
        return commands + self._notify(self._notifier.changed(user, told, now), now)

    def _watch(self, key: ServerKey, request: Request, now: float) -> list[Command]:
        user = self._notifier.user_of(request.call_id) or request.to.sip_uri.user or ""
        if not self.registrar.knows(user):
            return self._respond(key, request.reply(404), now)
        contacts = [_told(one, now, "registered") for one in self.registrar.bindings(user, now)]
        answer, notify = self._notifier.subscribe(request, contacts, f"<sip:{self._own_hostport('udp')}>", now)
        commands = self._respond(key, answer, now)
        return commands + self._notify([notify] if notify is not None else [], now)

    def _notify(self, requests: Iterable[Request], now: float) -> list[Command]:
        commands: list[Command] = []
        for request in requests:
            flow = self._next_hop(request)
            if flow is None:
                continue
            host, port = flow.local
            client, outputs = self._layer.request(request, flow, now, via_host=host, via_port=port)
            self._notifies[client] = request.call_id
            commands += self._outputs(outputs, now)
        return commands

    def _targets(self, request: Request, now: float) -> list[Request]:
        """A copy per registered contact: Request-URI the contact, Route the Path it registered with (RFC 3327 5.3)."""
        called = SipUri.parse(request.uri)
        copies = []
        for binding in self.registrar.bindings(called.user or "", now)[:_MAX_TARGETS]:
            copy = request.copy()
            copy.uri = binding.contact.uri
            for value in reversed(binding.path):
                copy.headers.prepend("Route", value)
            copy.headers.set("P-Called-Party-ID", f"<{called.aor}>")
            copies.append(copy)
        return copies

    def _forward(self, key: ServerKey, request: Request, targets: list[Request], now: float) -> list[Command]:
        context = self._contexts[key] = _Context(key, request)
        commands: list[Command] = []
        for target in targets:
            flow = self._next_hop(target)
            if flow is None:
                context.finals.append(
                    request.reply(502, headers=[("Warning", '399 core "next hop is not an address"')])
                )
                continue
            if request.method == "INVITE":
                target.headers.prepend(
                    "Record-Route", f"<sip:{self._own_hostport(flow.transport)};transport={flow.transport};lr>"
                )
            host, port = flow.local
            client, outputs = self._layer.request(
                target, flow, now, via_host=host, via_port=port, via_params=(("rport", None),)
            )
            context.waiting.add(client)
            self._branches[client] = context
            commands += self._outputs(outputs, now)
        if not context.waiting:
            commands += self._conclude(context, now)
        return commands

    def _ack(self, request: Request, now: float) -> list[Command]:
        """The ACK to a 2xx is routed like any request in the dialog, without a transaction (RFC 3261 16.11)."""
        onward = request.copy()
        self._strip_own_routes(onward)
        flow = self._next_hop(onward)
        if flow is None or (onward.headers.first_value("route") is None and self._for_us(onward.uri)):
            return []
        host, port = flow.local
        return self._outputs(self._layer.send_ack(onward, flow, now, via_host=host, via_port=port), now)

    def _cancelled(self, key: ServerKey | None, now: float) -> list[Command]:
        context = self._contexts.get(key) if key is not None else None
        return [] if context is None or context.answered else self._cancel_branches(context, now)

    def _cancel_branches(self, context: _Context, now: float, but: ClientKey | None = None) -> list[Command]:
        commands: list[Command] = []
        for client in sorted(context.waiting - {but}, key=str):
            commands += self._outputs(self._layer.cancel(client, now), now)
        return commands

    def _response(self, client: ClientKey, response: Response, now: float) -> list[Command]:
        watched = self._notifies.get(client)
        if watched is not None and response.status >= 200:
            del self._notifies[client]
            if response.status == 481:
                self._notifier.refused(watched)
        context = self._branches.get(client)
        if context is None or response.status == 100:
            return []
        upstream = response.copy()
        upstream.headers.remove_first_value("via")
        if response.status < 200:
            return [] if context.answered else self._respond(context.key, upstream, now)
        context.waiting.discard(client)
        if response.status < 300:
            # Every 2xx to an INVITE goes back, repeated ones and those of other branches too (RFC 3261 16.7 step 5).
            first = not context.answered
            context.answered = True
            commands = self._respond(context.key, upstream, now)
            if first and context.request.method == "INVITE":
                commands += self._cancel_branches(context, now, client)
            if context.request.method != "INVITE":
                self._forget(client, context)
            return commands
        self._branches.pop(client, None)
        context.finals.append(upstream)
        commands = []
        if response.status >= 600:
            commands += self._cancel_branches(context, now)
        return commands + self._conclude(context, now)

    def _branch_failed(self, client: ClientKey, status: int, now: float) -> list[Command]:
        self._notifies.pop(client, None)
        context = self._branches.pop(client, None)
        if context is None:
            return []
        context.waiting.discard(client)
        if not context.answered:
            context.finals.append(context.request.reply(status))
        return self._conclude(context, now)

    def _conclude(self, context: _Context, now: float) -> list[Command]:
        if context.waiting:
            return []
        self._contexts.pop(context.key, None)
        if context.answered:
            return []
        context.answered = True
        return self._respond(context.key, best_response(context.finals), now)

    def _forget(self, client: ClientKey, context: _Context) -> None:
        self._branches.pop(client, None)
        if not context.waiting:
            self._contexts.pop(context.key, None)

    # --- routing ---

    def _strip_own_routes(self, request: Request) -> None:
        while (top := request.headers.first_value("route")) is not None and self._is_own(NameAddr.parse(top).uri):
            request.headers.remove_first_value("route")

    def _is_own(self, text: str) -> bool:
        uri = SipUri.parse(text)
        return (uri.host, uri.port or 5060) in self._addresses.values()

    def _for_us(self, text: str) -> bool:
        uri = SipUri.parse(text)
        return uri.host.lower() == self._settings.domain or (uri.host, uri.port or 5060) in self._addresses.values()

    def _own_hostport(self, transport: str) -> str:
        host, port = self._addresses.get(transport) or next(iter(self._addresses.values()))
        return f"{bracketed(host)}:{port}"

    def _next_hop(self, request: Request) -> Flow | None:
        """The flow to the first Route, else to the Request-URI; None where it names a host instead of an address."""
        top = request.headers.first_value("route")
        uri = SipUri.parse(NameAddr.parse(top).uri if top is not None else request.uri)
        host = uri.param("maddr") or uri.host
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
        transport: Transport = "tcp" if uri.transport == "tcp" and "tcp" in self._addresses else "udp"
        local = self._addresses.get(transport) or next(iter(self._addresses.values()))
        return Flow(transport, REALM, local, (host, uri.port or 5060))


def _told(binding: Binding, now: float, event: str) -> ContactInfo:
    """A contact as watchers are told of it."""
    active = event in ("registered", "refreshed")
    left = max(0, round(binding.expires_at - now)) if active else None
    return ContactInfo(binding.contact.uri, "active" if active else "terminated", event, binding.call_id, left)


def best_response(finals: Sequence[Response]) -> Response:
    """RFC 3261 16.7 step 6: a 6xx if there is one, else of the lowest class; 487 only where nothing else came."""

    def rank(response: Response) -> tuple[int, int, int]:
        return (0 if response.status >= 600 else response.status // 100, response.status == 487, response.status == 503)

    return min(finals, key=rank)


def _quotable(text: str) -> str:
    return "".join(c if c.isprintable() and c not in '"\\' else "'" for c in text)[:200]


__all__ = ["CoreMachine", "Tell", "best_response"]
