"""Settings of the media half of the IMS-ALG: frozen values, embedded in the daemon's settings and read by the core.

All durations are seconds. Every field has a default that a lab can run with.
"""

from dataclasses import dataclass, field
from typing import Literal

MsrpPolicy = Literal["off", "optional", "required", "always"]
"""What the operator wants for MSRP lines; see :mod:`imsalg.core.media_policy` for the meaning of each word."""

PathScheme = Literal["keep", "rewrite"]
"""What is done with the scheme of ``a=path`` when TLS ends at the edge."""


@dataclass(frozen=True)
class MediaPolicy:
    """Operator policy for media plane security.

    ``mechanisms`` is what the P-CSCF announces in Security-Server. ``allow_sha1`` lets a UE that offers nothing
    better than a SHA-1 fingerprint through.
    """

    msrp: MsrpPolicy = "optional"
    mechanisms: tuple[str, ...] = ("msrp-tls",)
    allow_sha1: bool = False


@dataclass(frozen=True)
class MediaRealm:
    """How media of one realm is anchored.

    ``agw_realm``: the realm's name at the AGW (empty: the same name). ``early_syn``: what the AGW does with a TCP SYN
    that comes before the remote address is known (TR 29.828 5.2.1.2.2 step 11). ``source_filter``: from whom an
    incoming connection is accepted once it is known. ``path_scheme`` (access realms): ``keep`` leaves ``a=path`` alone
    as RFC 6714 wants, ``rewrite`` swaps msrps and msrp for peers that match sessions by their id alone.
    ``inactivity``: after this long without a byte the session is ended; 0 is never. ``family``: the address family of
    AGW ports in this realm, ``auto`` for the family that the offer uses. ``msrp`` overrides the policy.
    """

    agw_realm: str = ""
    early_syn: Literal["ignore", "accept"] = "accept"
    source_filter: Literal["off", "address", "address-and-port"] = "address"
    path_scheme: PathScheme = "keep"
    inactivity: int = 0
    family: Literal["auto", "IP4", "IP6"] = "auto"
    msrp: MsrpPolicy | None = None


@dataclass(frozen=True)
class GatewayTimers:
    """Times of the H.248 side.

    ``heartbeat``: an idle gateway is audited this often; ``heartbeat_timeout``: no sign of life for this long after it
    was asked means that it is lost. ``reconnect_grace``: how long calls of a gateway whose association broke wait for
    it to come back before they are ended. ``request``: a transaction without an answer is given up after this.
    """

    heartbeat: float = 2.0
    heartbeat_timeout: float = 2.0
    reconnect_grace: float = 2.0
    request: float = 4.0


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
    retry_after: int = 10

    def realm(self, name: str) -> MediaRealm:
        """The settings of realm ``name``; an unnamed realm has the defaults."""
        return self.realms.get(name) or MediaRealm()
