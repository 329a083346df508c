"""Settings of the P-CSCF/IMS-ALG daemon: frozen dataclasses that a TOML file is read into.

Durations are seconds, sizes octets. ``[realm.<name>]`` holds what a realm is for SIP and how its media is anchored;
:meth:`Settings.media` gives the media half its part by value.
"""

from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Annotated, Literal

from imsalg.dns_settings import DnsSettings
from imsalg.duty_settings import ChargingSettings, DutyRealm, RegEventSettings
from imsalg.media_settings import FailureSettings, GatewayTimers, MediaLimits, MediaPolicy, MediaRealm, MediaSettings
from imsalg.overload_settings import OverloadSettings
from imskit.common_settings import AdminSettings, LogSettings, MetricsSettings, StreamSettings, TraceSettings
from imskit.settings import Port, Positive, Range, Seconds
from imswire.base import ProtocolError
from imswire.sip.uri import SipUri


@dataclass(frozen=True)
class NodeSettings:
    """``[imsalg]``: who this node is.

    ``name`` is a host name of ours that UEs and the core may put into Route; ``visited_network`` goes into
    P-Visited-Network-ID. ``token_key`` is the secret of Path and Record-Route tokens in hex (32 digits or more);
    without it one is made and kept in the state file.
    """

    name: str = "pcscf.imsalg.example"
    visited_network: str = "imsalg.example"
    token_key: str = ""

    def __post_init__(self) -> None:
        if not self.token_key:
            return
        try:
            octets = len(bytes.fromhex(self.token_key))
        except ValueError:
            raise ValueError("'token_key' is not hexadecimal") from None
        if octets < 16:
            raise ValueError(f"'token_key' has {octets} octets, 16 are needed at least")


@dataclass(frozen=True)
class ListenSettings:
    """``[[listen]]``: one SIP socket of a realm.

    ``port`` 0 lets the system choose. ``advertise`` is the host that goes into Via, Record-Route and Path where it
    differs from ``host`` (an unspecified address, a NAT). ``certificate`` and ``key`` are PEM files, needed for tls
    alone.
    """

    realm: str
    transport: Literal["udp", "tcp", "tls"]
    host: str = "127.0.0.1"
    port: Port = 5060
    advertise: str = ""
    certificate: str | None = None
    key: str | None = None
    ca: str | None = None  # for connections that we open; the system's authorities when absent

    def __post_init__(self) -> None:
        if self.transport == "tls" and not (self.certificate and self.key):
            raise ValueError("a tls listener needs 'certificate' and 'key'")
        if self.host in ("0.0.0.0", "::") and not self.advertise:
            raise ValueError(f"a listener on {self.host} needs 'advertise': the address that others reach it at")


@dataclass(frozen=True)
class RealmSettings(DutyRealm):
    """``[realm.<name>]``: one side of the P-CSCF.

    ``kind``: ``access`` faces UEs, ``core`` faces the home network. Access realms: ``core_realm`` is where their
    requests go (empty: the only core realm); ``allow_unregistered`` lets UEs without a binding call; ``route_check``
    says whether a Route that differs from the Service-Route is replaced or answered 400 (TS 24.229 5.2.6.3);
    ``sender`` says whose request it is that comes over a flow which nobody registered, with the Contact of a UE that
    did: ``flow`` nobody's, ``own-host`` the UE's if the Contact shows the source address itself and no other user
    registered from there, ``host`` the UE's that registered from this address, also behind a NAT.
    ``flow_timer`` is what UEs with outbound are told of how often to send keep-alives (RFC 5626 5.4; 0: not told).
    Core realms: ``next_hop`` is the SIP URI of the core's entry. ``names``: next hops given by name are looked up
    (RFC 3263), or all go to ``next_hop``. Requests above ``datagram_limit`` octets go over TCP instead of UDP where
    there is a TCP listener (RFC 3261 18.1.1; 0: never).
    """

    kind: Literal["access", "core"] = "access"
    core_realm: str = ""
    allow_unregistered: bool = False
    route_check: Literal["replace", "reject"] = "replace"
    sender: Literal["flow", "own-host", "host"] = "own-host"
    flow_timer: int = 120
    next_hop: str = ""
    names: Literal["resolve", "next-hop"] = "resolve"
    datagram_limit: int = 1300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "core" and not self.next_hop:
            raise ValueError("a core realm needs 'next_hop'")
        if self.next_hop:
            try:
                SipUri.parse(self.next_hop)
            except ProtocolError as error:
                raise ValueError(f"'next_hop' {self.next_hop!r}: {error.hint}") from None


@dataclass(frozen=True)
class GatewaySettings:
    """``[gateways]``: where media gateways (IMS-AGW) connect with H.248.

    ``listen`` is "tcp:host:port", "tls:host:port" or "udp:host:port". Other than loopback needs mutual TLS
    (``certificate``, ``key``, ``ca``: PEM files) or ``insecure = true`` in so many words.
    """

    listen: str = "tcp:127.0.0.1:2944"
    insecure: bool = False
    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    pretty: bool = False

    def __post_init__(self) -> None:
        scheme, _, rest = self.listen.partition(":")
        if scheme not in ("tcp", "udp", "tls") or not rest.rpartition(":")[2].isdecimal():
            raise ValueError(f"'listen' is {self.listen!r}, expected tcp:HOST:PORT, udp:HOST:PORT or tls:HOST:PORT")
        if scheme == "tls" and not (self.certificate and self.key):
            raise ValueError("a tls listener needs 'certificate' and 'key'")


@dataclass(frozen=True)
class StateSettings:
    """``[state]``: what outlives the process.

    ``store``: ``sqlite`` writes ``file`` (a relative path is below systemd's ``$STATE_DIRECTORY``, else beside the
    settings file), ``memory`` forgets everything at the end. ``interval``: seconds between two transactions, and so
    about what may be lost when the process is killed.
    """

    store: Literal["sqlite", "memory"] = "sqlite"
    file: str = "imsalg.db"
    interval: Annotated[float, Range(0.01, 60.0)] = 0.2

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError("'file' is empty")


@dataclass(frozen=True)
class TimerSettings:
    """``[timers]``: RFC 3261 table 4 and what the proxy adds.

    ``silent_call``: an established call whose ends use no session timer (RFC 4028) is released after this long without
    any signalling; 0 is never. ``drain_time``: when the process is told to end, calls may go on for so long while new
    ones are refused; what is left then is released on both sides.
    """

    t1: Seconds = 0.5
    t2: Seconds = 4.0
    t4: Seconds = 5.0
    timer_c: Seconds = 185.0  # RFC 3261 16.6 step 11: more than three minutes
    silent_call: Seconds = 86_400.0
    drain_time: Seconds = 0.0

    @property
    def t64(self) -> float:
        """64*T1: how long a transaction lives without an answer, and how long a 2xx is repeated."""
        return 64 * self.t1


@dataclass(frozen=True)
class LimitSettings:
    """``[limits]``: bounds of everything that peers can make grow."""

    message: Positive = 65_536
    header_bytes: Positive = 32_768
    headers: Positive = 256
    transactions: Positive = 200_000
    calls: Positive = 50_000
    legs: Positive = 16
    bindings: Positive = 100_000
    contacts_per_user: Positive = 10
    retry_after: Positive = 10
    media_lines: Positive = 64
    stun_rate: Positive = 2_000  # STUN and CRLF keep-alives answered in one second
    stun_source_rate: Positive = 200  # of them to one source address (IPv6: one /64)


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    listen: tuple[ListenSettings, ...]
    realm: dict[str, RealmSettings]
    imsalg: NodeSettings = field(default_factory=NodeSettings)
    policy: MediaPolicy = field(default_factory=MediaPolicy)
    gateways: GatewaySettings = field(default_factory=GatewaySettings)
    gateway_timers: GatewayTimers = field(default_factory=GatewayTimers)
    failures: FailureSettings = field(default_factory=FailureSettings)
    charging: ChargingSettings = field(default_factory=ChargingSettings)
    reg_event: RegEventSettings = field(default_factory=RegEventSettings)
    timers: TimerSettings = field(default_factory=TimerSettings)
    state: StateSettings = field(default_factory=StateSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    dns: DnsSettings = field(default_factory=DnsSettings)
    overload: OverloadSettings = field(default_factory=OverloadSettings)
    streams: StreamSettings = field(default_factory=StreamSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)

    def __post_init__(self) -> None:
        if not self.listen:
            raise ValueError("no [[listen]] table: nothing would be served")
        cores = [name for name, realm in self.realm.items() if realm.kind == "core"]
        if not cores:
            raise ValueError("no realm of kind 'core'")
        for number, listen in enumerate(self.listen, 1):
            if listen.realm not in self.realm:
                raise ValueError(
                    f"[listen #{number}] names realm {listen.realm!r}, which has no [realm.{listen.realm}]"
                )
        for name, realm in self.realm.items():
            if not any(listen.realm == name for listen in self.listen):
                raise ValueError(f"realm {name!r} has no [[listen]]")
            secured = any(one.realm == name and one.transport == "tls" for one in self.listen)
            if realm.kind == "access" and realm.signalling != "none" and not secured:
                raise ValueError(f"realm {name!r}: signalling is {realm.signalling!r}, but it has no tls [[listen]]")
            if realm.kind == "access" and realm.core_realm and realm.core_realm not in cores:
                raise ValueError(f"realm {name!r}: core_realm {realm.core_realm!r} is no realm of kind 'core'")
            if realm.kind == "access" and not realm.core_realm and len(cores) > 1:
                raise ValueError(f"realm {name!r} needs 'core_realm': there are several core realms")
            if realm.kind == "core":
                self._check_hop(name, realm, "next_hop")
                for other in ("emergency_next_hop", "emergency_register_next_hop"):
                    if getattr(realm, other):
                        self._check_hop(name, realm, other)

    def _check_hop(self, name: str, realm: RealmSettings, key: str) -> None:
        """Raise ValueError where no listener of the realm could reach the hop."""
        hop = SipUri.parse(getattr(realm, key))
        wanted, v6 = hop.transport, _is_ipv6(hop.param("maddr") or hop.host)
        if v6 is None and realm.names == "next-hop":
            raise ValueError(
                f'realm {name!r}: {key} names {hop.host!r}; with names = "next-hop" nothing is looked up, '
                "so it must be an IP address"
            )
        if v6 is None and hop.scheme == "sip" and hop.param("transport") is None and hop.port is None:
            return  # NAPTR and SRV records say which transport
        fitting = [one for one in self.listen if one.realm == name and one.transport == wanted]
        if not fitting:
            raise ValueError(f"realm {name!r}: {key} goes over {wanted}, but no listener there has that transport")
        if v6 is not None and not any((":" in one.host) is v6 for one in fitting):
            raise ValueError(f"realm {name!r}: no {wanted} listener there has the address family of {key}")

    def core_of(self, access_realm: str) -> str:
        """The core realm that an access realm's requests go to."""
        named = self.realm[access_realm].core_realm
        return named or next(name for name, realm in self.realm.items() if realm.kind == "core")

    def media(self) -> MediaSettings:
        """What the media half reads, by value."""
        names = [f.name for f in fields(MediaRealm)]
        return MediaSettings(
            mid=self.imsalg.name,
            policy=self.policy,
            realms={
                name: MediaRealm(**{key: getattr(realm, key) for key in names}) for name, realm in self.realm.items()
            },
            timers=self.gateway_timers,
            # The SIP half bounds calls; emergency calls have as much room again there.
            limits=MediaLimits(calls=2 * self.limits.calls, legs=self.limits.legs, lines=self.limits.media_lines),
            failures=self.failures,
            retry_after=self.limits.retry_after,
        )


def _is_ipv6(host: str) -> bool | None:
    """Whether an address literal is IPv6; None for a name."""
    try:
        return ip_address(host.strip("[]")).version == 6
    except ValueError:
        return None
