"""What the executor holds for a leg: its sockets, its TLS connection, and how far they are."""

import socket
from enum import Enum, auto

from OpenSSL import SSL

from agw.core.orders import Fingerprints
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


class LegState:
    """One leg. ``end`` exists from the start of its relay."""

    __slots__ = (
        "deadline",
        "end",
        "fingerprints",
        "held",
        "id",
        "identity",
        "listener",
        "log_keys",
        "mismatch",
        "open",
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
        self.listener: socket.socket | None = None
        self.open = False
        """The listening socket answers; otherwise its filter drops every SYN."""
        self.sock: socket.socket | None = None
        self.tls: SSL.Connection | None = None
        self.role = ""
        self.fingerprints: Fingerprints | None = None
        self.identity = 0
        self.log_keys = False
        self.mismatch: Exception | None = None
        self.held = 0
        """SYNs that were dropped and told."""
        self.verified: tuple[str, bytes] | None = None
        """The fingerprint that the leaf matched while the handshake ran."""
        self.deadline: float | None = None
        self.end: End | None = None
        self.watching = 0
        """1: the loop watches the socket for reading, 2: for writing."""


class Counters:
    """Totals of one worker, for metrics."""

    __slots__ = ("accepted", "dialled", "handshakes", "octets", "relays", "tls_failures", "verify_failures")

    def __init__(self) -> None:
        self.accepted = self.dialled = self.handshakes = self.relays = 0
        self.tls_failures = self.verify_failures = self.octets = 0
