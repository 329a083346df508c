"""Settings of the IMS-AGW: the TOML file as nested frozen dataclasses.

Durations are seconds. Realms are tables by name (``[realm.access]``, ``[realm.core]``); their port ranges are cut into
one slice per worker, because each worker is a media gateway of its own.
"""

import ipaddress
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from imskit.common_settings import AdminSettings, LogSettings, MediaTlsSettings, MetricsSettings, TraceSettings
from imskit.settings import Positive, Range, Seconds
from imskit.sockets import parse_endpoint

type PositiveSeconds = Annotated[float, Range(0.001, None)]


_DEVICE = re.compile(r"[A-Za-z][A-Za-z0-9_/]{0,55}")
_DOMAIN = re.compile(r"<[A-Za-z0-9](?:[A-Za-z0-9.-]{0,54}[A-Za-z0-9])?>")


@dataclass(frozen=True)
class AgwSection:
    """``[agw]``: who this gateway is and which controller it serves."""

    mid: str = "agw"
    """Message identifier (RFC 3525 B.2 mId): a device name, or a domain name in angle brackets (:meth:`worker_mid`)."""
    controller: str = "tcp:127.0.0.1:2944"
    """The IMS-ALG: ``tcp:host:port`` or ``tls:host:port`` (TPKT framing) or ``udp:host:port``; IPv6 in brackets."""
    workers: Annotated[int, Range(0, 256)] = 0
    """Worker processes; 0 means one for each CPU that this process may use."""
    insecure: bool = False
    """Allow a controller that is not on a loopback address without TLS."""
    certificate: str | None = None
    """PEM file for mutual TLS with the controller; with ``key`` and ``ca`` (the controller's authorities)."""
    key: str | None = None
    ca: str | None = None
    server_name: str | None = None
    """Name that the controller's certificate must carry, where it is not the host of ``controller``."""
    pretty: bool = False
    """Write H.248 messages in the pretty form instead of the compact one."""
    drain_time: Seconds = 5.0
    """After SIGTERM: how long sessions may still end by themselves before they are closed (ServiceChange Graceful)."""

    def __post_init__(self) -> None:
        if _DEVICE.fullmatch(self.mid) is None and _DOMAIN.fullmatch(self.mid) is None:
            raise ValueError(
                "'mid' must be a device name (a letter, then letters, digits, '_' and '/', at most 56), "
                "or a domain name in angle brackets such as <agw.example.net>"
            )
        endpoint = parse_endpoint(self.controller)
        if endpoint.port == 0:
            raise ValueError("'controller' needs a port")
        if endpoint.scheme == "tls" and (self.certificate is None or self.key is None or self.ca is None):
            raise ValueError("a tls: controller needs 'certificate', 'key' and 'ca'")

    def worker_mid(self, number: int) -> str:
        """The name of worker ``number`` (from 0): ``agw_1``, or ``<agw-1.example.net>`` for a domain name.

        A device name may hold no dash (RFC 3525 B.2 pathNAME).
        """
        if self.mid.startswith("<"):
            host, dot, rest = self.mid[1:-1].partition(".")
            return f"<{host}-{number + 1}{dot}{rest}>"
        return f"{self.mid}_{number + 1}"


@dataclass(frozen=True)
class RealmSettings:
    """``[realm.<name>]``: the addresses and ports that media of this realm may use."""

    addresses: tuple[str, ...] = ("127.0.0.1",)
    """Local addresses, IPv4 and IPv6; the first one of the family asked for is used."""
    ports: str = "20000-20999"
    """``first-last``; ``0`` lets the operating system choose (tests only)."""
    quarantine: Seconds = 30.0
    """A port that was used rests this long, so that late packets of the old session meet nobody."""
    advertise: dict[str, str] = field(default_factory=dict)
    """Local address -> address to put into descriptors, behind a one-to-one NAT."""
    latch: bool = False
    """The controller may order that the remote address is learned from the first connection (UEs behind NAT)."""
    certificate: str | None = None
    """PEM file of this realm's media legs; with ``key``. Absent: that of ``[tls]``."""
    key: str | None = None
    certificate_per_session: bool = False
    """Make a fresh self-signed certificate for each termination of this realm."""
    min_version: Literal["1.2", "1.3"] | None = None
    """TLS versions and suites of this realm's media legs; absent: those of ``[tls]``."""
    max_version: Literal["1.2", "1.3"] | None = None
    ciphers: str | None = None
    ciphersuites: str | None = None

    @property
    def tls(self) -> dict[str, Any]:
        """What this realm has otherwise than ``[tls]``, by the names of its fields."""
        named = {name: getattr(self, name) for name in ("min_version", "max_version", "ciphers", "ciphersuites")}
        return {name: value for name, value in named.items() if value is not None}

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("'certificate' and 'key' go together")
        if self.certificate is not None and self.certificate_per_session:
            raise ValueError("'certificate_per_session' makes its own: leave 'certificate' out")
        if not self.addresses:
            raise ValueError("'addresses' must not be empty")
        for address in (*self.addresses, *self.advertise, *self.advertise.values()):
            if not is_address(address):
                raise ValueError(f"{address!r} is not an IP address")
        for address in self.advertise:
            if address not in self.addresses:
                raise ValueError(f"'advertise' names {address!r}, which is not one of 'addresses'")
        port_range(self.ports)


@dataclass(frozen=True)
class TlsSettings(MediaTlsSettings):
    """``[tls]``: the TLS of media legs, with its time limits."""

    handshake_timeout: PositiveSeconds = 10.0
    """From the TCP connection to the end of the handshake."""
    verify_timeout: PositiveSeconds = 30.0
    """How long a finished handshake may wait for the peer's fingerprint from the controller."""
    expiry_warning: Seconds = 2_592_000.0
    """Warn when a certificate from a file expires within this time (30 days); 0: never."""
    key_log: str | None = None
    """For debugging only: file that TLS secrets are appended to (SSLKEYLOGFILE format), so that captures can be read.
    Needs ``key_log_peers``."""
    key_log_peers: tuple[str, ...] = ()
    """Networks (``203.0.113.7/32``) whose sessions are logged there, and no others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.key_log is None) != (not self.key_log_peers):
            raise ValueError("'key_log' and 'key_log_peers' go together")
        for network in self.key_log_peers:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"'key_log_peers': {network!r} is not a network") from None


@dataclass(frozen=True)
class LimitSettings:
    """``[limits]``: bounds of one worker."""

    sessions: Positive = 10_000
    """Contexts (each holds two terminations)."""
    half_open: Positive = 512
    """TLS handshakes that run at the same time; more of them wait for their turn."""
    pending: Annotated[int, Range(16_384, 16_777_216)] = 262_144
    """Octets of one wake-up, and thus the most that may wait for a slow receiver of a session, each way."""
    transactions: Positive = 1_000
    """H.248 transactions that may wait for execution."""
    message: Annotated[int, Range(1_024, 65_531)] = 65_531
    """Octets of one H.248 message."""


@dataclass(frozen=True)
class TimerSettings:
    """``[timers]``; 0 switches an optional timer off where that is said."""

    dial: PositiveSeconds = 15.0
    """An outgoing TCP connection must be up after this time."""
    syn_held: Seconds = 600.0
    """How long SYNs of a termination meet silence for want of a remote address; then it fails. 0: for ever."""
    early: Seconds = 10.0
    """Whoever connects before the remote address is known, on a side without TLS, and sends nothing for this long makes
    room for another. 0: never."""
    join: Seconds = 300.0
    """From the first connection of a context to the moment that both sides are joined; 0: for ever."""
    idle: Seconds = 0.0
    """A session that moves no octet for this long is closed and reported; 0: never."""
    keepalive: Seconds = 60.0
    """After this much silence the peers of a session are probed (TCP keep-alive), and again four times at a quarter of
    it; without an answer the connection is over and reported. 0: never."""
    half_close: Seconds = 60.0
    """After one side has closed, how long the other direction may stay silent; 0: for ever."""
    linger: PositiveSeconds = 3.0
    """An orderly close reads to the end of the peer's stream for at most this long."""
    orphan_time: Seconds = 60.0
    """After the loss of the controller, media go on for this long; then everything is released."""
    backoff_first: PositiveSeconds = 0.25
    """First wait before the controller is dialled again; it doubles up to ``backoff_cap``."""
    backoff_cap: PositiveSeconds = 5.0
    transaction: PositiveSeconds = 10.0
    """A request to the controller that has no reply after this time is given up."""
    heartbeat: Seconds = 10.0
    """A controller that audits this gateway to see whether it lives, and then is silent for this long, is taken for
    lost. 0: never."""


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    agw: AgwSection = field(default_factory=AgwSection)
    realm: dict[str, RealmSettings] = field(
        default_factory=lambda: {"access": RealmSettings(), "core": RealmSettings(ports="30000-30999")}
    )
    tls: TlsSettings = field(default_factory=TlsSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    timers: TimerSettings = field(default_factory=TimerSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)

    def __post_init__(self) -> None:
        if not self.realm:
            raise ValueError("at least one [realm.<name>] is needed")
        for name, realm in self.realm.items():
            try:
                replace(self.tls, **realm.tls)
            except ValueError as error:
                raise ValueError(f"realm {name!r}: {error}") from None
        taken: list[tuple[str, int, int, str]] = []
        for name, realm in self.realm.items():
            first, last = port_range(realm.ports)
            if first == 0:
                continue
            for address in realm.addresses:
                for other, low, high, where in taken:
                    if other == address and first <= high and low <= last:
                        raise ValueError(f"ports of realms {where!r} and {name!r} overlap on {address}")
                taken.append((address, first, last, name))


def is_address(text: str) -> bool:
    """True for an IPv4 or IPv6 address literal."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def port_range(text: str) -> tuple[int, int]:
    """``"20000-20999"`` -> (20000, 20999); ``"0"`` -> (0, 0). Raises ValueError with a sentence for the user."""
    first, _, last = text.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        raise ValueError(f"'ports' is {text!r}, expected first-last (or 0)")
    low = int(first)
    high = int(last or first)
    if low == high == 0:
        return 0, 0
    if not 1024 <= low <= high <= 65535:
        raise ValueError(f"'ports' is {text!r}: first and last must be 1024 to 65535, in that order")
    return low, high


def port_slice(text: str, worker: int, workers: int) -> tuple[int, int]:
    """The part of a port range that belongs to worker ``worker`` (0 ... workers - 1).

    Raises ValueError when the range has fewer ports than there are workers.
    """
    low, high = port_range(text)
    if low == 0:
        return 0, 0
    count = (high - low + 1) // workers
    if count == 0:
        raise ValueError(f"ports {text!r} are too few for {workers} workers")
    start = low + worker * count
    return start, high if worker == workers - 1 else start + count - 1
