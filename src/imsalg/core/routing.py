"""Where messages go: our own addresses, Route header values that are ours, and next hops.

Everything that depends on settings and listeners alone is computed once, at start: what a Via and a Record-Route of
ours look like per realm, transport and address family.
"""

from ipaddress import ip_address

from msgspec import Struct

from imsalg.settings import Settings
from imswire.base import ProtocolError
from imswire.sip.flow import Flow, Transport
from imswire.sip.headers import Headers
from imswire.sip.location import DEFAULT_PORTS, Hop
from imswire.sip.message import Request
from imswire.sip.uri import SipUri, bracketed
from imswire.sip.values import NameAddr

_CACHE_LIMIT = 4096

type Way = Flow | Hop
"""A next hop: a flow where the address is known, a name that has to be looked up otherwise."""


class Listener(Struct, frozen=True):
    """One SIP socket that is open: ``host`` and ``port`` as bound, ``advertise`` as told to others."""

    realm: str
    transport: Transport
    host: str
    port: int
    advertise: str = ""

    @property
    def via_host(self) -> str:
        """The host for Via and URIs, without brackets."""
        return self.advertise or self.host

    @property
    def hostport(self) -> str:
        """``host:port`` for URIs."""
        return f"{bracketed(self.via_host)}:{self.port}"


class OwnRoute(Struct, frozen=True):
    """A Route value (or Request-URI) that names this node; ``user`` is the token in it, or ""."""

    user: str
    has_lr: bool


class Face(Struct, frozen=True):
    """What others see of one listener: pieces of Via and Record-Route, and the local end of flows."""

    listener: Listener
    via_host: str
    via_port: int
    local: tuple[str, int]
    tail: str
    """What follows the user part of a Record-Route value: ``@host:port;transport=tcp;lr>``."""

    @property
    def contact(self) -> str:
        """A Contact value of this node itself."""
        return f"<sip:{self.tail[1:].removesuffix(';lr>')}>"

    def record_route(self, token: str, params: str = "") -> str:
        """A Record-Route (or Path) value with ``token`` as user part and further URI parameters."""
        return f"<sip:{token}{self.tail}" if not params else f"<sip:{token}{self.tail[:-1]}{params}>"


class Network:
    """The listeners of all realms, and the routing that needs nothing else."""

    def __init__(self, settings: Settings, listeners: tuple[Listener, ...]) -> None:
        self._settings = settings
        self._faces: dict[tuple[str, str, bool], Face] = {}
        self._by_local: dict[tuple[str, tuple[str, int]], Face] = {}
        self._own: set[str] = {settings.imsalg.name.lower()}
        for listener in listeners:
            self._add(listener)
        self._resolved: dict[tuple[str, str], Way | None] = {}
        self._next_hops = {
            name: self._way_to(SipUri.parse(realm.next_hop), name)
            for name, realm in settings.realm.items()
            if realm.kind == "core"
        }

    def _add(self, listener: Listener) -> None:
        transport = "" if listener.transport == "udp" else f";transport={listener.transport}"
        face = Face(
            listener,
            listener.via_host,
            listener.port,
            (listener.host, listener.port),
            f"@{listener.hostport}{transport};lr>",
        )
        self._faces.setdefault((listener.realm, listener.transport, ":" in listener.host), face)
        self._by_local[(listener.transport, face.local)] = face
        hosts = {
            bracketed(listener.via_host).lower(),
            bracketed(listener.host).lower(),
            self._settings.imsalg.name.lower(),
        }
        for host in hosts:
            self._own.add(f"{host}:{listener.port}")
            if listener.port == DEFAULT_PORTS[listener.transport]:
                self._own.add(host)

    def face(self, flow: Flow) -> Face:
        """Our face on ``flow``; raises ProtocolError ``route.listener`` when its realm has no listener left."""
        found = self._by_local.get((flow.transport, flow.local))
        if found is None:
            v6 = ":" in flow.remote[0]
            found = self._faces.get((flow.realm, flow.transport, v6)) or self._any(flow.realm, flow.transport)
        if found is None:
            raise ProtocolError("route.listener", f"no {flow.transport} listener in realm {flow.realm}")
        return found

    def _any(self, realm: str, transport: str) -> Face | None:
        return self._faces.get((realm, transport, False)) or self._faces.get((realm, transport, True))

    def sibling(self, flow: Flow, transport: Transport) -> Flow | None:
        """The same remote address over another transport; None when its realm has no listener of it."""
        found = self._faces.get((flow.realm, transport, ":" in flow.remote[0]))
        return None if found is None else Flow(transport, flow.realm, found.local, flow.remote, 0, flow.server_name)

    def place(self, hop: Hop, transport: Transport, address: str, port: int) -> Flow | None:
        """The flow to one of the places that ``hop`` was located at; None without a fitting listener."""
        found = self._faces.get((hop.realm, transport, ":" in address))
        name = hop.host if transport == "tls" else ""
        return None if found is None else Flow(transport, hop.realm, found.local, (address, port), 0, name)

    def offers(self, realm: str) -> frozenset[tuple[str, bool]]:
        """What can be reached from ``realm``: pairs of transport and whether it is IPv6."""
        return frozenset((transport, v6) for name, transport, v6 in self._faces if name == realm)

    def next_hop(self, realm: str) -> Way:
        """The configured entry of a core realm; raises ProtocolError ``route.unresolved``."""
        way = self._next_hops.get(realm)
        if way is None:
            raise ProtocolError("route.unresolved", f"next_hop of realm {realm} cannot be reached from its listeners")
        return way

    def resolve(self, uri: str, realm: str) -> Way:
        """The way to a hop ``uri`` (text) in core realm ``realm``.

        Numeric hosts are taken as they stand, at no cost; names have to be looked up (RFC 3263), unless the realm says
        that its ``next_hop`` knows the way. Raises ProtocolError ``sip.uri`` for what is no SIP URI (a tel URI goes to
        the next hop too).
        """
        key = (uri, realm)
        way = self._resolved.get(key)
        if way is not None:
            return way
        if key not in self._resolved:
            way = self._resolve(uri, realm)
            if len(self._resolved) >= _CACHE_LIMIT:
                self._resolved.clear()
            self._resolved[key] = way
        return way if way is not None else self.next_hop(realm)

    def _resolve(self, uri: str, realm: str) -> Way | None:
        if not uri[:5].lower().startswith(("sip:", "sips:")):
            return None
        return self._way_to(SipUri.parse(uri), realm)

    def _way_to(self, uri: SipUri, realm: str) -> Way | None:
        host = uri.param("maddr") or uri.host
        transport = uri.transport
        if transport not in DEFAULT_PORTS:
            return None
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            return self._hop_to(uri, host.rstrip(".").lower(), realm)
        face = self._faces.get((realm, transport, address.version == 6))
        if face is None:
            return None
        port = uri.port or DEFAULT_PORTS[transport]
        return Flow(face.listener.transport, realm, face.local, (str(address), port))

    def _hop_to(self, uri: SipUri, host: str, realm: str) -> Hop | None:
        """A name to be looked up; until then it goes from the listener of the transport that is named or usual."""
        if self._settings.realm[realm].names != "resolve":
            return None
        named = "" if uri.param("transport") is None else uri.transport
        secure = uri.scheme == "sips"
        for transport in (uri.transport,) if named or secure else ("udp", "tcp", "tls"):
            face = self._any(realm, transport)
            if face is not None:
                flow = Flow(face.listener.transport, realm, face.local, (host, uri.port or 0))
                return Hop(host, uri.port or 0, named, secure, flow)
        return None

    def own(self, uri: str) -> OwnRoute | None:
        """Tell whether a URI names this node, and its user part; None when it does not."""
        if uri[:4].lower() == "sip:":
            text = uri[4:]
        elif uri[:5].lower() == "sips:":
            text = uri[5:]
        else:
            return None
        user, at, rest = text.rpartition("@")  # a user part may hold a semicolon, what follows the host no "@"
        hostport, _, params = rest.partition(";")
        if hostport.lower() not in self._own:
            return None
        return OwnRoute(user if at else "", "lr" in params.lower().split(";"))

    def own_route(self, value: str) -> OwnRoute | None:
        """The same of a Route (or Record-Route) value; None also for one that cannot be read.

        Read as whoever sends it on reads it: a display name may hold what looks like another value.
        """
        if value[:1] == "<" and value.find(">") == len(value) - 1:
            return self.own(value[1:-1])
        try:
            return self.own(NameAddr.parse(value).uri)
        except ProtocolError:
            return None

    def pop_own(self, headers: Headers) -> str | None:
        """Take our own values off the top of Route, up to the first with a user part (RFC 3261 16.4).

        Returns that user part, "" when only values without one were there, None when the top value is not ours. A
        further value of ours may belong to another call of a spiral and stays.
        """
        user: str | None = None
        while not user and (top := headers.first_value("route")) is not None:
            own = self.own_route(top)
            if own is None:
                break
            headers.remove_first_value("route")
            user = own.user
        return user

    def pop_exact(self, headers: Headers, user: str) -> bool:
        """Take the top Route value off if it is ours with exactly that user part: the other half of our pair."""
        top = headers.first_value("route")
        if top is None or user not in top:
            return False
        own = self.own_route(top)
        if own is None or own.user != user:
            return False
        headers.remove_first_value("route")
        return True


def next_uri(request: Request) -> str:
    """The URI that decides the next hop of ``request``: its top Route, else its Request-URI (RFC 3261 16.6 step 7).

    A top Route without ``lr`` is a strict router: the message is rewritten for it in place (step 6).
    """
    top = request.headers.first_value("route")
    if top is None:
        return request.uri
    uri = NameAddr.parse(top).uri
    if ";lr" not in uri.lower():
        request.headers.remove_first_value("route")
        request.headers.add("Route", f"<{request.uri}>")
        request.uri = uri
    return uri


def unwrap_strict(request: Request) -> None:
    """Undo what a strict router in front of us did: our URI is in the Request-URI, the real one is the last Route
    (16.4).
    """
    routes = request.headers.values("route")
    if routes:
        request.uri = NameAddr.parse(routes[-1]).uri
        request.headers.remove("route")
        for value in routes[:-1]:
            request.headers.add("Route", value)
