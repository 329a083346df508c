"""How a UE of the lab offers and answers media: MSRP lines (RFC 4975, 6135, 6714) and a BFCP line (RFC 8856, 4583)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from imskit.common_settings import MediaTlsSettings
from imskit.tls import Identity
from imslab.ue.floor import FloorHost
from imswire.sdp.attributes import Setup

DISCARD = 9
"""The port in an m-line of an endpoint that only connects (RFC 4145 4.1)."""


class NotAcceptable(Exception):
    """The offer cannot be answered with a session (SIP 488), or the answer is none."""


class CemaNeeded(NotAcceptable):
    """An answer without CEMA whose c= and m= are not what its path says: offer again without CEMA (RFC 6714 4.2)."""


@dataclass(frozen=True)
class FloorOptions:
    """The BFCP line of a call. ``role`` is what this UE is ready to be; ``either`` lets the other side choose.

    A server has its own ``host`` or shares one between calls. ``streams`` are the labels of the controlled media, one
    for each floor. ``form`` ``rfc4583`` writes ``c-s`` and ``m-stream`` and no ``bfcpver``; both are read.
    """

    role: Literal["client", "server", "either"] = "client"
    host: FloorHost | None = None
    floors: tuple[int, ...] = (1,)
    streams: tuple[str, ...] = ("10",)
    form: Literal["rfc8856", "rfc4583"] = "rfc8856"


@dataclass(frozen=True)
class MediaOptions:
    """How the media of a call are offered and answered: ``lines`` MSRP lines, and a BFCP line where ``floor`` is set.

    ``secure``: offer ``TCP/TLS/MSRP`` (with ``3ge2ae:requested`` where ``e2ae``). ``offer_setup`` and
    ``answer_setup``: the roles taken; an answer role that the offer does not allow gives way. ``cema``: include
    ``a=msrp-cema`` and use c=/m=; without it the path is the UE's own address and the peer's path is where to connect.
    ``match``: how To-Path is compared. ``keep_port``: an active endpoint shows its real source port instead of 9 and
    dials from it.

    To misbehave: ``wrong_fingerprint`` lies in SDP, ``no_certificate`` hides it (TLS client only), ``early_syn``
    dials before the answer is sent, ``ignore_peer`` accepts any fingerprint of the peer. ``extra_media`` are
    m-sections appended as they are.
    """

    secure: bool = True
    e2ae: bool = True
    offer_setup: Setup | None = Setup.ACTPASS
    answer_setup: Setup | None = Setup.ACTIVE
    cema: bool = True
    match: Literal["strict", "session-id"] = "strict"
    keep_port: bool = False
    hashes: tuple[str, ...] = ("sha-256",)
    tls: MediaTlsSettings = field(default_factory=MediaTlsSettings)
    wrong_fingerprint: bool = False
    no_certificate: bool = False
    early_syn: bool = False
    ignore_peer: bool = False
    extra_media: str = ""
    connect_timeout: float = 15.0
    lines: int = 1
    floor: FloorOptions | None = None


@dataclass(frozen=True)
class Reoffer:
    """What a later offer changes. Without anything it repeats the session.

    ``remove`` and ``renew`` name m-lines by index, or all of them: port 0, or a new connection (a new MSRP session,
    ``a=connection:new``). ``identity`` is another certificate, which renews every secured line. ``direction`` holds
    (``inactive``, ``sendonly``) or resumes (``sendrecv``). ``add`` appends lines. ``edit`` has the last word.
    """

    remove: tuple[int, ...] | bool = False
    renew: tuple[int, ...] | bool = False
    identity: Identity | None = None
    direction: Literal["", "sendrecv", "sendonly", "recvonly", "inactive"] = ""
    add: int = 0
    add_floor: FloorOptions | None = None
    edit: Callable[[bytes], bytes] | None = None

    def removes(self, index: int) -> bool:
        """Whether that line goes."""
        return _names(self.remove, index)

    def renews(self, index: int) -> bool:
        """Whether that line gets a new connection."""
        return self.identity is not None or _names(self.renew, index)


def _names(which: tuple[int, ...] | bool, index: int) -> bool:
    return which if isinstance(which, bool) else index in which
