"""Settings of the P-CSCF's duties at the edge of the trust domain (TS 24.229 5.2): identities, charging,
emergency calls, security of signalling, and the subscription to registration state."""

from dataclasses import dataclass
from typing import Annotated, Literal

from imsalg.media_settings import MediaRealm
from imskit.settings import Range, Seconds
from imswire.base import ProtocolError
from imswire.sip.uri import SipUri


def _one_line(name: str, value: str) -> None:
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError(f"{name!r} has a control character; it goes into one header line")


@dataclass(frozen=True)
class DutyRealm(MediaRealm):
    """The part of ``[realm.<name>]`` that says how far the realm is trusted and what is asked of its UEs.

    ``trusted``: the realm belongs to the trust domain (RFC 3324); left out, core realms do and access realms do not.
    What that changes is the table of header fields.

    Access realms: ``access_network_info`` is added to what UEs send as a P-Access-Network-Info of the network
    (``IEEE-802.3;dsl-location=...``; RFC 7315 4.4), ``network-provided`` is appended. ``signalling``: ``none`` offers
    no security of signalling, ``tls`` offers TLS in the security agreement (RFC 3329) and holds UEs to it that
    understand it, ``tls-required`` refuses what does not come over TLS. ``ipsec_3gpp``: a UE that offers IPsec beside
    other mechanisms has it ignored, or is refused. ``emergency``: calls to ``urn:service:sos`` are routed to
    ``emergency_next_hop`` of the core realm, answered 380 (alternative service) or refused with 403;
    ``emergency_unregistered`` lets UEs without a binding make them; ``emergency_numbers`` are user parts and tel
    numbers that mean the same; ``emergency_priority`` is a Resource-Priority put into such calls (RFC 7135:
    ``esnet.0``).

    Core realms: ``emergency_next_hop`` is the E-CSCF, ``emergency_register_next_hop`` takes emergency registrations
    (left out: ``next_hop``); SIP URIs. Without an E-CSCF emergency calls are answered 380.
    """

    trusted: bool | None = None
    access_network_info: str = ""
    signalling: Literal["none", "tls", "tls-required"] = "none"
    ipsec_3gpp: Literal["ignore", "refuse"] = "ignore"
    emergency: Literal["route", "alternative", "refuse"] = "route"
    emergency_unregistered: bool = True
    emergency_numbers: tuple[str, ...] = ()
    emergency_priority: str = ""
    emergency_next_hop: str = ""
    emergency_register_next_hop: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_line("access_network_info", self.access_network_info)
        _one_line("emergency_priority", self.emergency_priority)
        for name in ("emergency_next_hop", "emergency_register_next_hop"):
            value = getattr(self, name)
            try:
                if value:
                    SipUri.parse(value)
            except ProtocolError as error:
                raise ValueError(f"{name!r} {value!r}: {error.hint}") from None


@dataclass(frozen=True)
class ChargingSettings:
    """``[charging]``: P-Charging-Vector (RFC 7315 4.6).

    ``vector``: one is made for what UEs begin and for REGISTER, and kept in the dialog. ``ioi`` names this network in
    it (orig-ioi, and term-ioi in answers); empty: neither is sent.
    """

    vector: bool = True
    ioi: str = ""

    def __post_init__(self) -> None:
        if not all(c.isalnum() or c in ".-_" for c in self.ioi):
            raise ValueError(f"'ioi' is {self.ioi!r}, expected a name of letters, digits, '.', '-' and '_'")


@dataclass(frozen=True)
class RegEventSettings:
    """``[reg_event]``: subscription to the registration state of registered users (RFC 3680, TS 24.229 5.2.3).

    ``subscribe``: ``offered`` does so where the 200 to REGISTER says ``Allow-Events: reg``, ``always`` for every user
    (what TS 24.229 asks for), ``off`` never. ``expires`` is asked for in seconds, and refreshed ten minutes before its
    end, a short one when half of it has passed. A core that does not know the event is not asked again for
    ``retry_after``. ``route``: the SUBSCRIBE goes to ``next_hop``, or along the user's Service-Route.
    """

    subscribe: Literal["offered", "always", "off"] = "offered"
    expires: Annotated[int, Range(60, 2**31)] = 600_000
    retry_after: Seconds = 3600.0
    route: Literal["next-hop", "service-route"] = "next-hop"
