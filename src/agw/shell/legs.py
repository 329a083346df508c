"""What the executor holds for a leg: its sockets, its TLS connection, and how far they are."""

import socket
from enum import Enum, auto

from OpenSSL import SSL

from agw.core.orders import CLOSED, Fingerprints, SynFilter
from agw.shell.relay import End


class Phase(Enum):
    """The gate of a leg: HANDSHAKE -> VERIFY -> OPEN; plain legs are OPEN once connected."""

    IDLE = auto()
    """No connection; the leg may listen for one."""
    DIALLING = auto()
    CONNECTED = auto()
    """Connected; nothing is read, the peer's early bytes wait in the kernel's bounded buffer."""
    QUEUED = auto()
    """A handshake that waits for its turn, because too many run."""
    HANDSHAKE = auto()
    VERIFY = auto()
    OPEN = auto()
    RELAYING = auto()


class Door:
    """A listening socket, made for one leg. ``filters`` has for each leg the SYNs that it waits for, :data:`CLOSED`
    while it waits for none. ``open``: the socket answers somebody; ``watched``: the doorbell knows it, from when it was
    first open. ``stale``: it was shut, and somebody who came before may still wait to be accepted. ``program``: the
    filters that are in force in the kernel. ``filtered``: it has, or had, a filter there, so that SYNs may have met
    silence and an accepted socket inherits it. ``held``: SYNs that were dropped and told."""

    __slots__ = ("filtered", "filters", "held", "open", "program", "sock", "stale", "watched")

    def __init__(self, sock: socket.socket, leg: int, filter: SynFilter) -> None:
        self.sock = sock
        self.filters: dict[int, SynFilter] = {leg: filter}
        self.program: tuple[SynFilter, ...] = (filter,)
        self.open = self.watched = self.stale = False
        self.filtered = filter.kind != "open"
        self.held = 0

    @property
    def wanted(self) -> tuple[SynFilter, ...]:
        """The filters of the legs that wait."""
        return tuple(one for one in self.filters.values() if one.kind != "closed")

    def admit(self, leg: int, filter: SynFilter) -> None:
        """Leg ``leg`` waits for these from now on."""
        self.filters[leg] = filter

    def succeed(self, leg: int, heir: int) -> None:
        """Another leg takes the place of one, and waits for nobody yet."""
        self.filters = {heir if one == leg else one: CLOSED if one == leg else f for one, f in self.filters.items()}

    def taker(self, address: str, port: int) -> int | None:
        """The leg that a connection from there is for. A leg that is alone takes every one, for it was admitted; of
        several, one that waits for that source goes before one that waits for anybody."""
        if len(self.filters) == 1:
            return next(iter(self.filters))
        found = None
        for leg, filter in self.filters.items():
            if filter.kind == "source" and filter.admits(address, port):
                return leg
            if filter.kind == "open" and found is None:
                found = leg
        return found


class LegState:
    """One leg. ``end`` exists from the start of its relay."""

    __slots__ = (
        "deadline",
        "door",
        "end",
        "fingerprints",
        "id",
        "identity",
        "key_log",
        "mismatch",
        "phase",
        "role",
        "sock",
        "tls",
        "verified",
        "watching",
    )

    def __init__(self, id: int) -> None:
        self.id = id
        self.phase = Phase.IDLE
        self.door: Door | None = None
        """Where connections come in; legs of one context may share it."""
        self.sock: socket.socket | None = None
        self.tls: SSL.Connection | None = None
        self.role = ""
        self.fingerprints: Fingerprints | None = None
        self.identity = 0
        self.key_log = ""
        self.mismatch: Exception | None = None
        self.verified: tuple[str, bytes] | None = None
        """The fingerprint that the leaf matched while the handshake ran."""
        self.deadline: float | None = None
        self.end: End | None = None
        self.watching = 0
        """1: the loop watches the socket for reading, 2: for writing."""

    @property
    def listener(self) -> socket.socket | None:
        """The listening socket."""
        return self.door.sock if self.door is not None else None


class Counters:
    """Totals of one worker, for metrics."""

    __slots__ = ("accepted", "dialled", "handshakes", "octets", "relays", "tls_failures", "verify_failures")

    def __init__(self) -> None:
        self.accepted = self.dialled = self.handshakes = self.relays = 0
        self.tls_failures = self.verify_failures = self.octets = 0
