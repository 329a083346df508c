"""MSRP URIs and their comparison (RFC 4975 6 and 9)."""

import re
from ipaddress import ip_address

from msgspec import Struct

from imswire.base import ProtocolError

_URI = re.compile(
    r"(?P<scheme>[Mm][Ss][Rr][Pp][Ss]?)://(?:(?P<user>[A-Za-z0-9\-._~%!$&'()*+,;=:]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9\-._~%!$&'()*+,=]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<session>[A-Za-z0-9\-._~+=/]+))?;(?P<transport>[A-Za-z0-9]+)(?P<params>(?:;[^;\s\x00-\x20]+)*)"
)
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


class MsrpUri(Struct, frozen=True):
    """One MSRP URI. ``scheme`` in lower case, ``host`` without brackets, ``params`` without the transport."""

    scheme: str
    host: str
    port: int | None
    session_id: str | None
    transport: str = "tcp"
    params: tuple[str, ...] = ()
    user: str | None = None

    @classmethod
    def parse(cls, text: str) -> "MsrpUri":
        """Read one URI; raises ``msrp.uri``."""
        match = _URI.fullmatch(text)
        if match is None:
            raise ProtocolError("msrp.uri", f"no MSRP URI: {text[:80]!r}")
        port = None if match["port"] is None else int(match["port"])
        if port is not None and port > 65_535:
            raise ProtocolError("msrp.uri", f"port {port} is outside 0..65535")
        params = tuple(match["params"].split(";")[1:])
        host = match["v6"] or match["host"]
        return cls(match["scheme"].lower(), host, port, match["session"], match["transport"], params, match["user"])

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        session = "" if self.session_id is None else f"/{self.session_id}"
        return f"{self.scheme}://{user}{host}{port}{session};{';'.join((self.transport, *self.params))}"

    @property
    def secure(self) -> bool:
        """Scheme ``msrps``."""
        return self.scheme == "msrps"

    def same_as(self, other: "MsrpUri") -> bool:
        """Equivalence by RFC 4975 6.1: scheme, authority without user, port, session-id (case-sensitive), transport."""
        return (
            self.scheme == other.scheme
            and self.port == other.port
            and self.session_id == other.session_id
            and self.transport.lower() == other.transport.lower()
            and _host_key(self.host) == _host_key(other.host)
        )

    def same_session(self, other: "MsrpUri") -> bool:
        """Only the session-id is compared: how endpoints match that expect middleboxes to change the rest."""
        return self.session_id is not None and self.session_id == other.session_id


def parse_path(text: str) -> tuple[MsrpUri, ...]:
    """Read a To-Path or From-Path value: one or more URIs; raises ``msrp.uri``."""
    uris = tuple(MsrpUri.parse(item) for item in text.split())
    if not uris:
        raise ProtocolError("msrp.uri", "a path without a URI")
    return uris


def _host_key(host: str) -> str:
    """A host in comparable form: addresses by value, percent-encoding of unreserved characters undone, lower case."""
    plain = _PERCENT.sub(_decode, host)
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain.lower()


def _decode(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()
