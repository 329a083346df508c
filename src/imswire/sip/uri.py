"""URIs of SIP: sip and sips (RFC 3261 19.1), tel (RFC 3966), and anything else as opaque text."""

import re
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from imswire.base import ProtocolError

type Params = tuple[tuple[str, str | None], ...]

_SIP = re.compile(
    r"(sips?):"
    r"(?:([^@:\s<>\"]+)(?::([^@:\s<>\"]*))?@)?"
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(\d{1,5}))?"
    r"((?:;[^;?@\s<>\"]+)*)"
    r"(?:\?([^?@\s<>\"]*))?",
    re.IGNORECASE | re.ASCII,
)
_TEL = re.compile(r"tel:(\+?[0-9A-Fa-f*#().-]+)((?:;[^;\s<>\"]+)*)", re.IGNORECASE | re.ASCII)
_OPAQUE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):([^\s<>\"]+)")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()")
_VISUAL = str.maketrans("", "", "-.()")

# RFC 3261 19.1.4: these never match when only one of the two URIs has them. The rules do not name transport there; the
# examples do.
_SIGNIFICANT = ("user", "ttl", "method", "maddr", "transport")


def split_uri_params(text: str) -> Params:
    """Cut ``;a=1;b`` into (("a", "1"), ("b", None)); names and values as written."""
    if not text:
        return ()
    pairs: list[tuple[str, str | None]] = []
    for part in text[1:].split(";"):
        name, equals, value = part.partition("=")
        if not name:
            raise ProtocolError("sip.uri", f"parameter without a name in {text[:80]!r}")
        pairs.append((name, value if equals else None))
    return tuple(pairs)


def join_params(params: Params) -> str:
    """The text of parameters with their leading semicolons."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def find_param(params: Params, name: str) -> str | None:
    """The first value of a parameter by name without case: "" for a flag, None when absent."""
    for key, value in params:
        if key == name or key.lower() == name:
            return value or ""
    return None


def put_param(params: Params, name: str, value: str | None) -> Params:
    """Replace the parameter in place, or append it; None writes a flag."""
    lower = name.lower()
    if not any(key.lower() == lower for key, _ in params):
        return (*params, (name, value))
    return tuple((key, value) if key.lower() == lower else (key, old) for key, old in params)


def drop_param(params: Params, name: str) -> Params:
    """The parameters without that one."""
    lower = name.lower()
    return tuple(pair for pair in params if pair[0].lower() != lower)


def unescaped(text: str) -> str:
    """A user part made comparable (RFC 3261 19.1.4): what needs no escape has none, other escapes are in capitals.

    The result can stand in a URI: what would mean something else there stays escaped.
    """
    return _ESCAPE.sub(_unescape, text) if "%" in text else text


def bracketed(host: str) -> str:
    """A host as it stands in a URI or a Via: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


class SipUri(Struct, frozen=True):
    """A sip or sips URI (RFC 3261 19.1.1).

    ``host`` has no brackets; ``user`` and ``password`` keep their escapes; parameters keep order and case; ``headers``
    is the text after the question mark, or None.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None = None
    params: Params = ()
    headers: str | None = None

    @classmethod
    def parse(cls, text: str) -> "SipUri":
        """Read a URI without angle brackets; raises ProtocolError ``sip.uri``."""
        match = _SIP.fullmatch(text)
        if match is None or ("%" in text and _BAD_ESCAPE.search(text)):
            raise ProtocolError("sip.uri", f"not a SIP URI: {text[:120]!r}")
        scheme, user, password, host, port, params, headers = match.groups()
        if host[0] == "[":
            host = host[1:-1]
            _check_ipv6(host)
        number = int(port) if port is not None else None
        if number is not None and number > 65535:
            raise ProtocolError("sip.uri", f"port {number} in {text[:120]!r}")
        return cls(scheme.lower(), user, password, host, number, split_uri_params(params), headers)

    def __str__(self) -> str:
        user = ""
        if self.user is not None:
            user = self.user + (f":{self.password}@" if self.password is not None else "@")
        headers = f"?{self.headers}" if self.headers is not None else ""
        return f"{self.scheme}:{user}{self.hostport}{join_params(self.params)}{headers}"

    @property
    def hostport(self) -> str:
        """``host`` or ``host:port``, IPv6 in brackets."""
        host = bracketed(self.host)
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def transport(self) -> str:
        """udp, tcp, tls or what the parameter names, in lower case; the defaults of RFC 3263 4.1 without NAPTR.

        A sips URI always means TLS (RFC 3261 26.2.2).
        """
        named = (self.param("transport") or "udp").lower()
        return "tls" if self.scheme == "sips" and named in ("udp", "tcp") else named

    @property
    def aor(self) -> str:
        """``scheme:user@host`` in comparable form: no port, parameters or headers; host in lower case (10.3 step 5)."""
        user = f"{unquote(self.user)}@" if self.user is not None else ""
        return f"{self.scheme}:{user}{bracketed(self.host.lower())}"

    def param(self, name: str) -> str | None:
        """The value of a parameter; "" for a flag, None when absent."""
        return find_param(self.params, name)

    def has_param(self, name: str) -> bool:
        """True when the parameter is there, with or without a value."""
        return find_param(self.params, name) is not None

    def with_param(self, name: str, value: str | None = None) -> "SipUri":
        """A URI with that parameter replaced or appended (None: a flag)."""
        return replace(self, params=put_param(self.params, name, value))

    def without_param(self, name: str) -> "SipUri":
        """A URI without that parameter."""
        return replace(self, params=drop_param(self.params, name))

    def same_as(self, other: object) -> bool:
        """Equality by the rules of RFC 3261 19.1.4 (not transitive, so not ``==``)."""
        if not isinstance(other, SipUri):
            return False
        if self.scheme != other.scheme or self.port != other.port or self.host.lower() != other.host.lower():
            return False
        if _plain(self.user) != _plain(other.user) or _plain(self.password) != _plain(other.password):
            return False
        for name in {key.lower() for key, _ in self.params + other.params}:
            mine, theirs = self.param(name), other.param(name)
            if mine is None or theirs is None:
                if name in _SIGNIFICANT:
                    return False
            elif unquote(mine).lower() != unquote(theirs).lower():
                return False
        return _header_set(self.headers) == _header_set(other.headers)


class TelUri(Struct, frozen=True):
    """A telephone number (RFC 3966 3); ``number`` as written, with visual separators."""

    number: str
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> "TelUri":
        """Read a tel URI; raises ProtocolError ``sip.uri``."""
        match = _TEL.fullmatch(text)
        if match is None:
            raise ProtocolError("sip.uri", f"not a tel URI: {text[:120]!r}")
        return cls(match.group(1), split_uri_params(match.group(2)))

    def __str__(self) -> str:
        return f"tel:{self.number}{join_params(self.params)}"

    @property
    def digits(self) -> str:
        """The number without visual separators (RFC 3966 5.1.1), a leading plus kept."""
        return self.number.translate(_VISUAL)

    def param(self, name: str) -> str | None:
        """The value of a parameter; "" for a flag, None when absent."""
        return find_param(self.params, name)

    def same_as(self, other: object) -> bool:
        """Equality by RFC 3966 4: digits, and parameters without order and case."""
        if not isinstance(other, TelUri) or self.digits.lower() != other.digits.lower():
            return False
        return _folded(self.params) == _folded(other.params)


class OpaqueUri(Struct, frozen=True):
    """A URI of another scheme, kept as text: ``scheme`` in lower case, ``rest`` after the colon."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"

    def same_as(self, other: object) -> bool:
        """Equality by text."""
        return self == other


type Uri = SipUri | TelUri | OpaqueUri


def parse_uri(text: str) -> Uri:
    """Read a URI by its scheme; raises ProtocolError ``sip.uri``."""
    head = text[:5].lower()
    if head.startswith(("sip:", "sips:")):
        return SipUri.parse(text)
    if head.startswith("tel:"):
        return TelUri.parse(text)
    match = _OPAQUE.fullmatch(text)
    if match is None:
        raise ProtocolError("sip.uri", f"not a URI: {text[:120]!r}")
    return OpaqueUri(match.group(1).lower(), match.group(2))


def _unescape(escape: re.Match[str]) -> str:
    one = chr(int(escape[0][1:], 16))
    return one if one in _UNRESERVED else escape[0].upper()


def _plain(text: str | None) -> str | None:
    return unquote(text) if text is not None and "%" in text else text


def _folded(params: Params) -> frozenset[tuple[str, str]]:
    return frozenset((name.lower(), (value or "").lower()) for name, value in params)


def _header_set(headers: str | None) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for part in (headers or "").split("&"):
        name, _, value = part.partition("=")
        pairs.append((unquote(name).lower(), unquote(value)))
    return sorted(pairs)


def _check_ipv6(host: str) -> None:
    try:
        IPv6Address(host)
    except AddressValueError as error:
        raise ProtocolError("sip.uri", f"[{host}] is not an IPv6 address") from error
