"""Who a UE of the lab is, how it behaves, and what the network granted it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imslab.ue.options import MediaOptions


@dataclass(frozen=True)
class Account:
    """Who the UE is. ``registrar`` is the P-CSCF: ``sip:127.0.0.1:5060;transport=tcp`` (udp, tcp or tls)."""

    user: str
    password: str
    domain: str = "lab.example"
    registrar: str = "sip:127.0.0.1:5060"

    @property
    def aor(self) -> str:
        """The public identity."""
        return f"sip:{self.user}@{self.domain}"


@dataclass(frozen=True)
class UeOptions:
    """``host`` is the UE's own address. ``mediasec`` are the media plane mechanisms announced, ``signalling`` those for
    signalling (``tls``, ``ipsec-3gpp;alg=...``; RFC 3329); both empty: no Security-Client at all.

    ``algorithm`` restricts digest to one algorithm, ``folder`` is where received files go. ``ca`` is the PEM file
    that a P-CSCF
    reached by TLS is verified with; without it any certificate is taken, which is for laboratories. ``reliable`` is
    what an INVITE says about ``100rel`` (RFC 3262).
    """

    host: str = "127.0.0.1"
    mediasec: tuple[str, ...] = ("msrp-tls",)
    signalling: tuple[str, ...] = ()
    algorithm: Literal["", "MD5", "SHA-256"] = ""
    expires: int = 600
    media: MediaOptions = field(default_factory=MediaOptions)
    folder: Path | None = None
    ca: Path | None = None
    reliable: Literal["no", "supported", "required"] = "no"


@dataclass(frozen=True)
class Registration:
    """What the network granted. ``security_server`` is its list as it came, ``agreed`` what both sides support."""

    expires: int
    service_route: tuple[str, ...]
    associated: tuple[str, ...]
    security_server: tuple[str, ...]
    agreed: frozenset[str]
    algorithm: str
