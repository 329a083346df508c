"""Typed views on SDP attributes. They read a section and never change it; a value that cannot be read raises.

Which level counts is each attribute's own rule: fingerprints and ``setup`` may stand at session level and are
overridden by the media level (RFC 8122 5, RFC 4145 4); ``3ge2ae`` counts at media level only (TS 24.229 7.5.2).
"""

import re
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from imswire.base import ProtocolError
from imswire.sdp.model import Media, Section, SessionDescription

HASH_SIZES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64, "md5": 16, "md2": 16}
"""Octets of the hash functions that RFC 8122 5 names. MD5 and MD2 are known only to be recognised and never used."""

_FINGERPRINT = re.compile(r"([!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+)[ \t]+([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)[ \t]*")
_MSRP_URI = re.compile(
    r"(?P<scheme>[Mm][Ss][Rr][Pp][Ss]?)://(?:(?P<user>[^@/;\s\[\]]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:/;@\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<session>[A-Za-z0-9\-._~+=/]+))?;(?P<transport>[A-Za-z0-9]+)(?P<params>(?:;[^;\s]+)*)"
)


class Fingerprint(Struct, frozen=True):
    """A certificate fingerprint (RFC 8122 5): the hash function's name in lower case, and the hash value.

    A hash function that is not known here is still represented: choosing among the offered ones is the verifier's
    business (RFC 8122 5.1).
    """

    hash: str
    octets: bytes

    @classmethod
    def parse(cls, value: str) -> "Fingerprint":
        """Read ``hash-func SP hex``, letters in any case; raises ``sdp.fingerprint``."""
        return _fingerprint(value)

    @classmethod
    def _parse(cls, value: str) -> "Fingerprint":
        match = _FINGERPRINT.fullmatch(value)
        if match is None:
            raise ProtocolError("sdp.fingerprint", f"hash function and hex pairs expected: {value[:80]!r}")
        name = match[1].lower()
        octets = bytes.fromhex(match[2].replace(":", ""))
        size = HASH_SIZES.get(name)
        if size is not None and len(octets) != size:
            raise ProtocolError("sdp.fingerprint", f"{name} has {size} octets, {len(octets)} seen")
        return cls(name, octets)

    def __str__(self) -> str:
        return fingerprint_text(self.hash, self.octets)


def fingerprint_text(name: str, octets: bytes) -> str:
    """A fingerprint as ``a=fingerprint`` has it."""
    return f"{name} {octets.hex(':')}".upper()


# The planning of a line, its reservation and its answer each ask for the same fingerprints.
_fingerprint = lru_cache(maxsize=256)(Fingerprint._parse)


def fingerprints(session: SessionDescription, media: Media) -> tuple[Fingerprint, ...]:
    """The fingerprints that count for ``media``: its own, and only where it has none the session's (RFC 8122 5).

    Raises ``sdp.fingerprint`` where one of them cannot be read.
    """
    return tuple([Fingerprint.parse(value) for value in fingerprint_values(session, media)])


def fingerprint_values(session: SessionDescription, media: Media) -> list[str]:
    """The same, unread."""
    return media.get_all("fingerprint") or session.get_all("fingerprint")


class Setup(StrEnum):
    """``a=setup`` (RFC 4145 4): who opens the TCP connection."""

    ACTIVE = "active"
    PASSIVE = "passive"
    ACTPASS = "actpass"
    HOLDCONN = "holdconn"


_SETUPS: dict[str, Setup] = {role.value: role for role in Setup}


def setup_of(media: Media, session: SessionDescription | None = None) -> Setup | None:
    """The ``a=setup`` of ``media`` (else, where given, of ``session``), None where there is none.

    Absence has no fixed meaning here: RFC 4145 4 defaults to active in an offer and passive in an answer, which is
    also RFC 4975's rule for MSRP without COMEDIA. Raises ``sdp.setup`` for an unknown value.
    """
    value = media.get("setup")
    if value is None and session is not None:
        value = session.get("setup")
    if value is None:
        return None
    known = _SETUPS.get(value)
    if known is not None:
        return known
    try:
        return Setup(value.strip().lower())
    except ValueError:
        raise ProtocolError("sdp.setup", f"unknown setup role {value[:40]!r}") from None


class E2ae(StrEnum):
    """``a=3ge2ae`` (TS 24.229 7.5.2): end-to-access-edge security is requested, or has been applied."""

    REQUESTED = "requested"
    APPLIED = "applied"
    OTHER = "other"


def e2ae_of(media: Media) -> E2ae | None:
    """The ``a=3ge2ae`` of ``media``; OTHER for a token that is not known. The session level is never looked at."""
    value = media.get("3ge2ae")
    return None if value is None else _E2AE.get(value.strip().lower(), E2ae.OTHER)


_E2AE: dict[str, E2ae] = {word.value: word for word in (E2ae.REQUESTED, E2ae.APPLIED)}


class MsrpUri(Struct, frozen=True):
    """An MSRP URI as it stands in ``a=path`` (RFC 4975 9). ``host`` is without brackets, ``scheme`` in lower case."""

    scheme: str
    host: str
    port: int | None
    session_id: str | None
    transport: str = "tcp"
    params: tuple[str, ...] = ()
    user: str | None = None

    @classmethod
    def parse(cls, text: str) -> "MsrpUri":
        """Read one URI; raises ``sdp.path``."""
        match = _MSRP_URI.fullmatch(text)
        if match is None:
            raise ProtocolError("sdp.path", f"no MSRP URI: {text[:80]!r}")
        port = _port(match["port"])
        params = tuple(match["params"].split(";")[1:])
        host = match["v6"] or match["host"]
        return cls(match["scheme"].lower(), host, port, match["session"], match["transport"], params, match["user"])

    @classmethod
    def session_in(cls, text: str) -> str | None:
        """The session id of one URI, without reading the rest of it into a value; raises ``sdp.path``."""
        match = _MSRP_URI.fullmatch(text)
        if match is None:
            raise ProtocolError("sdp.path", f"no MSRP URI: {text[:80]!r}")
        _port(match["port"])
        return match["session"]

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        session = "" if self.session_id is None else f"/{self.session_id}"
        return f"{self.scheme}://{user}{host}{port}{session};{';'.join((self.transport, *self.params))}"

    @property
    def secure(self) -> bool:
        """Scheme ``msrps``: the connection is to be protected with TLS (RFC 4975 6)."""
        return self.scheme == "msrps"

    def with_scheme(self, scheme: str) -> "MsrpUri":
        """The same URI under ``msrp`` or ``msrps``."""
        return replace(self, scheme=scheme)

    def with_address(self, host: str, port: int | None) -> "MsrpUri":
        """The same URI at another transport address."""
        return replace(self, host=host, port=port)


def _port(digits: str | None) -> int | None:
    port = None if digits is None else int(digits)
    if port is not None and port > 65_535:
        raise ProtocolError("sdp.path", f"port {port} is outside 0..65535")
    return port


class MsrpPath(Struct, frozen=True):
    """``a=path`` (RFC 4975 8.3): the first URI is the adjacent hop, the last one identifies the session."""

    uris: tuple[MsrpUri, ...]

    @classmethod
    def parse(cls, value: str) -> "MsrpPath":
        """Read one or more URIs; raises ``sdp.path``."""
        uris = tuple(MsrpUri.parse(text) for text in value.split())
        if not uris:
            raise ProtocolError("sdp.path", "a=path without a URI")
        return cls(uris)

    def __str__(self) -> str:
        return " ".join(map(str, self.uris))

    @property
    def hop(self) -> MsrpUri:
        """Where to connect to."""
        return self.uris[0]

    @property
    def endpoint(self) -> MsrpUri:
        """What identifies the session."""
        return self.uris[-1]


def path_of(media: Media) -> MsrpPath | None:
    """The ``a=path`` of an MSRP m-section, None where there is none; raises ``sdp.path``."""
    value = media.get("path")
    return None if value is None else MsrpPath.parse(value)


class TransportProto(Struct, frozen=True):
    """A TCP-borne proto value: what it carries, whether under TLS, and its twin without or with TLS."""

    name: str
    application: str
    tls: bool

    @property
    def plain(self) -> str:
        """The proto value without TLS."""
        return f"TCP/{self.application}"

    @property
    def secure(self) -> str:
        """The proto value with TLS."""
        return f"TCP/TLS/{self.application}"


TRANSPORTS = {
    proto.name: proto
    for proto in (
        TransportProto("TCP/MSRP", "MSRP", False),
        TransportProto("TCP/TLS/MSRP", "MSRP", True),
        TransportProto("TCP/BFCP", "BFCP", False),
        TransportProto("TCP/TLS/BFCP", "BFCP", True),
    )
}
"""RFC 4975 8.1 and RFC 8856 4."""


def transport_of(media: Media) -> TransportProto | None:
    """The table row for the m-line's proto (letter case ignored), None for any other."""
    return TRANSPORTS.get(media.proto.upper())


def has_cema(media: Media) -> bool:
    """``a=msrp-cema`` (RFC 6714 5): the address to connect to is in c= and m=, not in a=path."""
    return media.has("msrp-cema")


def has_sdes(media: Media) -> bool:
    """``a=crypto`` (RFC 4568), media level only by definition."""
    return media.has("crypto")


def has_key_mgmt(session: SessionDescription, media: Media) -> bool:
    """``a=key-mgmt`` (RFC 4567 3.1) at either level: end-to-end keys that are never to be touched."""
    return media.has("key-mgmt") or session.has("key-mgmt")


def tls_id(media: Media) -> str | None:
    """``a=tls-id`` (RFC 8842 4), media level only."""
    return media.get("tls-id")


def accept_types(media: Media) -> tuple[str, ...]:
    """The media types of ``a=accept-types`` (RFC 4975 8.6)."""
    return tuple((media.get("accept-types") or "").split())


def max_size(media: Media) -> int | None:
    """``a=max-size`` (RFC 4975 8.6): octets of a whole message, a hint; None where absent or not a number."""
    value = (media.get("max-size") or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None


def connection_of(media: Media) -> str | None:
    """``a=connection`` (RFC 4145 5): ``new`` or ``existing``. MSRP ignores it (RFC 6135 4.4)."""
    value = media.get("connection")
    return None if value is None else value.strip().lower()


def floor_control_roles(media: Media) -> tuple[str, ...]:
    """The roles of ``a=floorctrl`` (RFC 8856 5.1): c-only, s-only, c-s."""
    return tuple((media.get("floorctrl") or "").lower().split())


def sctp_port(media: Media) -> int | None:
    """``a=sctp-port`` (RFC 8841 5); raises ``sdp.sctp-port`` where it is no port."""
    value = media.get("sctp-port")
    if value is None:
        return None
    value = value.strip()
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65_535):
        raise ProtocolError("sdp.sctp-port", f"{value[:20]!r} is no port")
    return int(value)


_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


def direction_of(media: Media, session: Section | None = None) -> str:
    """sendrecv, sendonly, recvonly or inactive (RFC 8866 6.7); sendrecv is the default."""
    for section in (media, session):
        if section is not None:
            for name in _DIRECTIONS:
                if section.has(name):
                    return name
    return "sendrecv"
