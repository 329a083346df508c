"""What a media gateway holds: contexts of terminations (RFC 3525 6), each termination with one TCP or TLS leg."""

from enum import Enum, auto

from agw.core.orders import CLOSED, OPEN, SynFilter
from agw.core.plan import Place, same_address
from imswire.h248.iq import StreamRequest

_ANY_PORTS = (0, 9)
"""Remote ports that name none: the active party puts 9 (discard) into its SDP (RFC 4145 4.1)."""


class Tcp(Enum):
    """How far the TCP connection of a leg is."""

    STARTING = auto()
    """The local address is being taken; legal: Listening, ListenFailed."""
    WAITING = auto()
    """No connection. The leg listens, or is about to dial."""
    DIALLING = auto()
    UP = auto()
    """Connected; bytes wait until the relay starts."""
    DOWN = auto()
    """The connection has ended or failed; nothing restarts it."""


class Tls(Enum):
    """How far TLS is on a leg; plain legs are OPEN from the beginning."""

    NONE = auto()
    """Not started: no connection yet, or the role is not known yet."""
    HANDSHAKE = auto()
    VERIFY = auto()
    """Handshake complete, fingerprint of the peer unknown: nothing passes."""
    OPEN = auto()
    FAILED = auto()


class Leg:
    """One termination. ``incoming`` tells that the peer made the connection."""

    __slots__ = (
        "context",
        "id",
        "incoming",
        "listening",
        "name",
        "peer",
        "place",
        "received",
        "releasing",
        "request",
        "sent",
        "since",
        "tcp",
        "tls",
        "tried",
    )

    def __init__(
        self, id: int, name: str, context: "Context", request: StreamRequest, place: Place, now: float
    ) -> None:
        self.id = id
        self.name = name
        self.context = context
        self.request = request
        self.place = place
        self.since = now
        self.tcp = Tcp.STARTING
        self.tls = Tls.NONE if request.tls else Tls.OPEN
        self.listening = False
        self.incoming = False
        self.releasing = False
        self.tried = 0
        self.peer: tuple[str, int] = ("", 0)
        self.received = 0
        self.sent = 0

    @property
    def ready(self) -> bool:
        """Bytes may pass: connected and, on a TLS leg, verified."""
        return self.tcp is Tcp.UP and self.tls is Tls.OPEN

    @property
    def other(self) -> "Leg | None":
        """The other termination of the context."""
        for leg in self.context.legs:
            if leg is not self:
                return leg
        return None

    @property
    def filter(self) -> SynFilter:
        """Which SYNs are to be answered, by what was signalled so far (TR 29.828 5.2.1.2.2 steps 11 and 13)."""
        request = self.request
        if request.setup == "holdconn":
            return CLOSED
        if request.remote is None:
            return CLOSED if request.ignore_syn else OPEN
        if request.source_filter == "off":
            return OPEN
        port = request.remote.port
        use_port = request.source_filter == "address-and-port" and port not in _ANY_PORTS
        return SynFilter("source", same_address(request.remote.address), port if use_port else None)

    @property
    def may_accept(self) -> bool:
        """The signalled role lets the peer connect (RFC 4145 4)."""
        return self.request.setup not in ("active", "holdconn")

    @property
    def may_dial(self) -> bool:
        """The signalled role and the remote address let this side connect."""
        request = self.request
        return (
            request.setup not in ("passive", "holdconn")
            and request.tcp_mode == "proxy"
            and request.remote is not None
            and request.remote.port not in _ANY_PORTS
        )

    @property
    def tls_role(self) -> str | None:
        """``client``, ``server``, or None while it is not known.

        The side that was connected to is the server; the side that dialled is the client, but speaks only when it was
        told to (flow step 16: ``TLS=active``). An explicit order wins, for BFCP has its own rule (RFC 8856 8).
        """
        start = self.request.start_tls
        if start:
            return "client"
        if self.incoming or start is False:
            return "server"
        return None


class Context:
    """One context: the two terminations of an m-line. ``relaying`` from the moment that its legs are joined."""

    __slots__ = ("failed", "id", "legs", "relay_since", "relayed", "relaying")

    def __init__(self, id: int) -> None:
        self.id = id
        self.legs: list[Leg] = []
        self.relaying = False
        self.relayed: tuple[int, int] | None = None
        """The access leg and the core leg that were joined."""
        self.relay_since = 0.0
        self.failed = False
        """A failure was reported; nothing new is started here."""


class Store:
    """All contexts of a worker, and the identifiers of new ones."""

    def __init__(self) -> None:
        self.contexts: dict[int, Context] = {}
        self.legs: dict[int, Leg] = {}
        self.names: dict[str, Leg] = {}
        self._next_context = 0
        self._next_leg = 0

    def new_context(self) -> Context:
        """A context with an identifier that was not in use for as long as possible."""
        while True:
            self._next_context = self._next_context % 0x7FFFFFFF + 1
            if self._next_context not in self.contexts:
                break
        context = self.contexts[self._next_context] = Context(self._next_context)
        return context

    def new_leg(self, context: Context, request: StreamRequest, place: Place, now: float) -> Leg:
        """A termination named ``ip/<realm>/<number>``."""
        self._next_leg += 1
        leg = Leg(self._next_leg, f"ip/{request.realm}/{self._next_leg}", context, request, place, now)
        context.legs.append(leg)
        self.legs[leg.id] = leg
        self.names[leg.name.lower()] = leg
        return leg

    def remove(self, leg: Leg) -> None:
        """Forget a termination; its context goes with the last one (RFC 3525 6.1)."""
        self.legs.pop(leg.id, None)
        self.names.pop(leg.name.lower(), None)
        if leg in leg.context.legs:
            leg.context.legs.remove(leg)
        self.drop_if_empty(leg.context)

    def drop_if_empty(self, context: Context) -> None:
        """A context without terminations does not exist."""
        if not context.legs:
            self.contexts.pop(context.id, None)
