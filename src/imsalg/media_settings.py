"""Settings of the media half of the IMS-ALG: frozen values, embedded in the daemon's settings and read by the core.

All durations are seconds. Every field has a default that a lab can run with.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from imskit.settings import Range

PolicyWord = Literal["off", "optional", "required", "always"]
"""What the operator wants for lines of a medium; see :mod:`imsalg.core.media_policy` for the meaning of each word."""


@dataclass(frozen=True)
class DirectionPolicy:
    """Two words in place of one: for lines that the UE offers, and for lines that are offered to it."""

    originating: PolicyWord = "optional"
    terminating: PolicyWord = "optional"


type Policy = PolicyWord | DirectionPolicy

MsrpMode = Literal["auto", "agnostic", "aware"]
"""Whether the AGW rewrites MSRP messages; see :mod:`imsalg.core.msrp_mode`."""

PathScheme = Literal["keep", "rewrite"]
"""What is done with the scheme of ``a=path`` when TLS ends at the edge."""


@dataclass(frozen=True)
class MediaPolicy:
    """Operator policy for media plane security.

    ``msrp`` and ``bfcp`` are a word, or a table with one word for each direction. ``mechanisms`` is what the P-CSCF
    announces in Security-Server. ``allow_sha1`` lets a UE that offers nothing better than a SHA-1 fingerprint through.
    """

    msrp: Policy = "optional"
    bfcp: Policy = "optional"
    mechanisms: tuple[str, ...] = ("msrp-tls", "bfcp-tls")
    allow_sha1: bool = False


@dataclass(frozen=True)
class MediaRealm:
    """How media of one realm is anchored.

    ``agw_realm``: the realm's name at the AGW (empty: the same name). ``early_syn``: what the AGW does with a TCP SYN
    that comes before the remote address is known (TR 29.828 5.2.1.2.2 step 11). ``source_filter``: from whom an
    incoming connection is accepted once it is known. ``path_scheme`` (access realms): ``keep`` leaves ``a=path`` alone
    as RFC 6714 wants, ``rewrite`` swaps msrps and msrp for peers that match sessions by their id alone (agnostic mode).
    ``inactivity``: after this long without a byte the session is ended; 0 is never. ``family``: the address family of
    AGW ports in this realm, ``auto`` for the family that the offer uses.

    ``source_prefix4`` and ``source_prefix6``: with a source filter, the network of that prefix length around the
    signalled address may connect, for UEs behind a NAT with several addresses; 0 is the address alone.
    ``source_ports``: with ``address-and-port``, these remote ports ("50000-50999") in place of the signalled one.
    ``latch``: the remote address is learned from the first connection, for UEs behind NAT whose SDP has a private
    address; it takes the place of the filter.

    Access realms: ``msrp`` and ``bfcp`` override the policy. ``msrp_mode``: see :data:`MsrpMode`. ``tcp_mode``:
    ``proxy`` lets exactly one end connect; ``merge`` offers ``setup:actpass`` on, so that both ends may be active (UEs
    behind NAT: the AGW waits for both) or passive (the AGW connects to both). ``bfcp_tls_role``: ``offerer`` is TLS
    client whoever connects (RFC 8856 8); ``tcp-active`` lets the side that connects be it (RFC 8856 10.2 read alone).
    """

    agw_realm: str = ""
    early_syn: Literal["ignore", "accept"] = "accept"
    source_filter: Literal["off", "address", "address-and-port"] = "address"
    path_scheme: PathScheme = "keep"
    inactivity: int = 0
    family: Literal["auto", "IP4", "IP6"] = "auto"
    source_prefix4: Annotated[int, Range(0, 32)] = 0
    source_prefix6: Annotated[int, Range(0, 128)] = 0
    source_ports: str = ""
    latch: bool = False
    msrp: Policy | None = None
    bfcp: Policy | None = None
    msrp_mode: MsrpMode = "auto"
    tcp_mode: Literal["proxy", "merge"] = "proxy"
    bfcp_tls_role: Literal["offerer", "tcp-active"] = "offerer"

    @property
    def ports(self) -> tuple[int, int] | None:
        """``source_ports`` as numbers; raises ValueError."""
        if not self.source_ports:
            return None
        first, _, last = self.source_ports.partition("-")
        ports = int(first), int(last or first)
        if not 0 < ports[0] <= ports[1] <= 65_535:
            raise ValueError
        return ports

    def __post_init__(self) -> None:
        try:
            _ = self.ports
        except ValueError:
            raise ValueError(f"'source_ports' is {self.source_ports!r}, expected a range like '50000-50999'") from None


_DEFAULTS = MediaRealm()


@dataclass(frozen=True)
class GatewayTimers:
    """Times of the H.248 side.

    ``heartbeat``: an idle gateway is audited this often; ``heartbeat_timeout``: no sign of life for this long after it
    was asked means that it is lost. ``reconnect_grace``: how long calls of a gateway whose association broke wait for
    it to come back before they are ended; ``restart_grace``: the same for calls that were kept over a restart of this
    node, whose gateways first have to find it again. ``request``: a transaction without an answer is given up after
    this. ``audit``: what a gateway holds is compared this often with what calls claim, besides after every break; 0 is
    never.
    """

    heartbeat: float = 2.0
    heartbeat_timeout: float = 2.0
    reconnect_grace: float = 4.0
    restart_grace: float = 30.0
    request: float = 4.0
    audit: float = 300.0


Reaction = Literal["release", "drop", "log"]


@dataclass(frozen=True)
class FailureSettings:
    """What is done when a gateway reports that the media of a line failed.

    ``release`` ends the call on both sides with a Reason. ``drop`` takes the line's media away and lets the call go on
    as long as another line is left (and no offer is under way); a later offer of the line begins anew. ``log`` does
    nothing else. An identity that does not match ends the media at least (RFC 4975 14.4).
    """

    fingerprint_mismatch: Literal["release", "drop"] = "release"
    tls_failed: Reaction = "release"
    tcp_failed: Reaction = "release"
    inactive: Reaction = "release"
    remote_closed: Reaction = "log"


@dataclass(frozen=True)
class MediaLimits:
    """Bounds: calls known, media lines in one SDP, early legs per call, held answers per call, gateways."""

    calls: int = 100_000
    lines: int = 64
    legs: int = 16
    held: int = 32
    gateways: int = 1_024


@dataclass(frozen=True)
class MediaSettings:
    """Everything the media half reads. ``realms`` is keyed by the realm name that an ``AccessProfile`` carries."""

    mid: str = "imsalg"
    policy: MediaPolicy = field(default_factory=MediaPolicy)
    realms: dict[str, MediaRealm] = field(default_factory=dict)
    timers: GatewayTimers = field(default_factory=GatewayTimers)
    limits: MediaLimits = field(default_factory=MediaLimits)
    failures: FailureSettings = field(default_factory=FailureSettings)
    retry_after: int = 10

    def realm(self, name: str) -> MediaRealm:
        """The settings of realm ``name``; an unnamed realm has the defaults."""
        return self.realms.get(name) or _DEFAULTS

    def policy_of(self, realm: str, medium: str, *, originating: bool) -> PolicyWord:
        """The operator's word for a medium (``msrp``, ``bfcp``) of a UE in access realm ``realm``, by direction."""
        word: Policy = getattr(self.realm(realm), medium) or getattr(self.policy, medium)
        if isinstance(word, str):
            return word
        return word.originating if originating else word.terminating
