"""What a media gateway holds: contexts of terminations (RFC 3525 6), each termination with one TCP or TLS leg."""

from collections.abc import Mapping
from enum import Enum, auto
from functools import lru_cache

from msgspec import Struct

from agw.core.orders import CLOSED, OPEN, PathSwap, SynFilter
from agw.core.plan import Place, network_of, same_address
from imswire.h248.iq import StreamRequest, session_path, termination_name

_ANY_PORTS = (0, 9)
"""Remote ports that name none: the active party puts 9 (discard) into its SDP (RFC 4145 4.1)."""


_NEVER_ACCEPT = ("active", "holdconn")
"""Roles in which this side waits for nobody (RFC 4145 4)."""


@lru_cache(maxsize=4096)
def _from(address: str, port: int | None, last_port: int | None, prefix: int | None) -> SynFilter:
    """The filter for a source; those who come again mostly come from where they came from before."""
    return SynFilter("source", address, port, last_port, prefix)


class Tcp(Enum):
    """How far the TCP connection of a leg is."""

    STARTING = auto()
    """The local address is being taken; legal: Listening, ListenFailed."""
    WAITING = auto()
    """No connection: the leg answers the SYNs that its filter admits, or is about to dial."""
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


TLS_STATES = {
    Tls.NONE: "waiting",
    Tls.HANDSHAKE: "handshake",
    Tls.VERIFY: "unverified",
    Tls.OPEN: "verified",
    Tls.FAILED: "failed",
}
"""How the Iq profile calls them (``tlsbsc/state``)."""


class Leg:
    """One termination. ``id`` names its connection: it changes when the controller orders a new one. ``incoming`` tells
    that the peer made the connection. ``identity`` and ``fingerprints`` are of the certificate that was announced.
    ``secured``: it is TLS, which no Modify changes. ``ordered``: the SYN filter that the executor was told last."""

    __slots__ = (
        "before",
        "cipher",
        "context",
        "fingerprints",
        "id",
        "identity",
        "incoming",
        "name",
        "ordered",
        "peer",
        "place",
        "received",
        "releasing",
        "request",
        "secured",
        "sent",
        "since",
        "syns",
        "tcp",
        "tls",
        "tls_version",
        "tried",
        "verified",
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
        self.identity = 0
        self.fingerprints: Mapping[str, bytes] = {}
        self.releasing = False
        self.tried = 0
        self.before = (0, 0)
        """Octets received and sent on connections of this termination that were replaced."""
        self.received = 0
        self.sent = 0
        self.syns = 0
        self.secured = request.tls
        self.ordered: SynFilter | None = None
        self.tcp = Tcp.STARTING
        self.forget_connection()

    def forget_connection(self) -> None:
        """As before anything was connected."""
        self.incoming = False
        self.peer: tuple[str, int] = ("", 0)
        self.tls = Tls.NONE if self.secured else Tls.OPEN
        self.tls_version = self.cipher = self.verified = ""

    @property
    def ready(self) -> bool:
        """Bytes may pass: connected and, on a TLS leg, verified."""
        return self.tcp is Tcp.UP and self.tls is Tls.OPEN

    @property
    def spare(self) -> bool:
        """One of several terminations at the same port, and not the one that is to be joined (``Mode = Inactive``)."""
        return len(self.context.legs) > 2 and self.request.mode == "Inactive"

    @property
    def other(self) -> "Leg | None":
        """The termination that this one is, or would be, joined with."""
        crowded = len(self.context.legs) > 2
        for leg in self.context.legs:
            if leg is not self and not (crowded and (leg.spare or leg.releasing or leg.place == self.place)):
                return leg
        return None

    @property
    def fits(self) -> bool:
        """The connection was made by the end that is to make it (RFC 4145 4), and one that was dialled leads where the
        signalling says now."""
        setup, remote = self.request.setup, self.request.remote
        if setup in ("active", "passive") and self.incoming is not (setup == "passive"):
            return False
        if self.incoming or remote is None:
            return True
        return same_address(self.peer[0]) == same_address(remote.address) and self.peer[1] == remote.port

    @property
    def filter(self) -> SynFilter:
        """Which SYNs are to be answered, by what was signalled so far (TR 29.828 5.2.1.2.2 steps 11 and 13).

        An explicit mask or port range takes the place of the signalled address or port. With ``latch`` the signalled
        address means nothing: the peer is behind a NAT, and the first one that connects is taken.
        """
        request = self.request
        remote = request.remote
        if request.setup in _NEVER_ACCEPT or (request.ignore_syn and remote is None):
            return CLOSED
        if self.context.failed and not self.spare:
            return CLOSED
        if request.source_filter == "off":
            return OPEN
        signalled = None if request.latch else remote
        address, prefix, first, last = "", None, None, None
        if request.source_mask is not None:
            address, prefix = network_of(request.source_mask)
        elif signalled is not None:
            address = same_address(signalled.address)
        if request.source_filter == "address-and-port":
            if request.source_ports is not None:
                first, last = request.source_ports
            elif signalled is not None and signalled.port not in _ANY_PORTS:
                first = signalled.port
        return _from(address, first, last, prefix) if address or first else OPEN

    @property
    def held(self) -> bool:
        """SYNs meet silence until the remote address is known."""
        return self.request.ignore_syn and self.request.remote is None

    @property
    def nobodys(self) -> bool:
        """Somebody has connected and the signalling has not said yet who that may be: he gets no octet."""
        return self.incoming and self.tcp is Tcp.UP and self.request.remote is None

    @property
    def may_accept(self) -> bool:
        """The signalled role lets the peer connect (RFC 4145 4)."""
        return self.request.setup not in _NEVER_ACCEPT

    @property
    def may_dial(self) -> bool:
        """The signalled role and the remote address let this side connect; in merge mode only where it is to."""
        request = self.request
        return (
            request.setup not in ("passive", "holdconn")
            and (request.tcp_mode == "proxy" or request.setup == "active")
            and request.remote is not None
            and request.remote.port not in _ANY_PORTS
        )

    @property
    def tls_role(self) -> str | None:
        """``client``, ``server``, or None while it is not known.

        The side that was connected to is the server; the side that dialled is the client, but speaks only when it was
        told to (flow step 16: ``TLS=active``). An ordered role wins over the direction (RFC 8856 8): a server waits for
        the peer's ClientHello whoever connected, a client speaks when it is told to.
        """
        start = self.request.start_tls
        if self.request.tls_role is not None:
            return "server" if self.request.tls_role == "server" else ("client" if start else None)
        if start:
            return "client"
        if self.incoming or start is False:
            return "server"
        return None

    @property
    def path(self) -> str | None:
        """The MSRP URI by which the peer addresses this gateway; None where messages are not looked at."""
        request, place = self.request, self.place
        if request.local_session is None:
            return None
        return session_path(request.proto, request.local_session, place.advertised, place.port)

    def swap_to(self, other: "Leg") -> PathSwap | None:
        """How the paths of messages from this leg's peer are replaced; None while something is not known."""
        remote, own, session = other.request.remote, self.path, self.request.local_session
        theirs = other.path
        if remote is None or remote.path is None or own is None or theirs is None or session is None:
            return None
        return PathSwap(session, own, remote.path, theirs)


class Context:
    """One context: the two terminations of an m-line. ``relaying`` from the moment that its legs are joined.

    While an offer is answered in several dialogs there is a termination for each of them at the same local port, one of
    which is to be joined; ``rechosen`` when that has just become another one.
    """

    __slots__ = ("failed", "id", "key_log", "legs", "rechosen", "relay_since", "relayed", "relaying", "since")

    def __init__(self, id: int, now: float = 0.0) -> None:
        self.id = id
        self.since = now
        self.legs: list[Leg] = []
        self.relaying = False
        self.relayed: tuple[int, int] | None = None
        """The access leg and the core leg that were joined."""
        self.relay_since = 0.0
        self.rechosen = False
        self.key_log = ""
        """The file that the TLS secrets of this context are appended to."""
        self.failed = ""
        """The kind of the failure that was reported; nothing new is started here."""

    @property
    def state(self) -> str:
        """In a word: waiting, connecting, relaying, failed or closed."""
        if self.relaying:
            return "relaying"
        if self.failed:
            return "closed" if self.failed == "remote-closed" else "failed"
        return "connecting" if any(leg.tcp in (Tcp.UP, Tcp.DIALLING) for leg in self.legs) else "waiting"


class Former(Struct, frozen=True):
    """A connection that was replaced, until its counters are in; ``since`` where its bytes are to be traced."""

    leg: Leg
    since: float | None


class Store:
    """All contexts of a worker, and the identifiers of new ones."""

    def __init__(self) -> None:
        self.contexts: dict[int, Context] = {}
        self.legs: dict[int, Leg] = {}
        self.names: dict[str, Leg] = {}
        self.former: dict[int, Former] = {}
        """Replaced connections by their numbers."""
        self._next_context = 0
        self._next_leg = 0

    def new_context(self, now: float = 0.0) -> Context:
        """A context with an identifier that was not in use for as long as possible."""
        while True:
            self._next_context = self._next_context % 0x7FFFFFFF + 1
            if self._next_context not in self.contexts:
                break
        context = self.contexts[self._next_context] = Context(self._next_context, now)
        return context

    def new_leg(self, context: Context, request: StreamRequest, place: Place, now: float) -> Leg:
        """A termination named ``ip/<realm>/<number>``."""
        number = self._next_leg = self._next_leg + 1
        name = termination_name(request.realm, number)
        leg = self.legs[number] = self.names[name.lower()] = Leg(number, name, context, request, place, now)
        if not context.legs:  # it went with a first termination that came to nothing
            self.contexts[context.id] = context
        context.legs.append(leg)
        return leg

    def renew(self, leg: Leg) -> int:
        """Give the termination another connection; the number of the old one, of which one report is still to come."""
        old = leg.id
        since = leg.context.relay_since if leg.context.relayed and leg.context.relayed[0] == old else None
        self.former[old] = Former(leg, since)
        del self.legs[old]
        self._next_leg += 1
        leg.id = self._next_leg
        self.legs[leg.id] = leg
        return old

    def remove(self, leg: Leg) -> None:
        """Forget a termination; its context goes with the last one (RFC 3525 6.1)."""
        self.legs.pop(leg.id, None)
        self.names.pop(leg.name.lower(), None)
        context = leg.context
        if leg in context.legs:
            context.legs.remove(leg)
        if not context.legs:
            self.contexts.pop(context.id, None)

    def drop_if_empty(self, context: Context) -> None:
        """A context without terminations does not exist."""
        if not context.legs:
            self.contexts.pop(context.id, None)
