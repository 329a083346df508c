"""Typed views of header values, parsed when somebody asks: name-addr, Via, CSeq, RFC 3329 mechanisms."""

import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from imswire.base import ProtocolError
from imswire.sip.headers import split_values
from imswire.sip.uri import Params, SipUri, bracketed, drop_param, find_param, join_params, put_param

__all__ = [
    "CSeq",
    "NameAddr",
    "SecMechanism",
    "Via",
    "parse_params",
    "parse_sec_mechanisms",
    "quote",
    "split_values",
    "unquote",
]

MAX_CSEQ = 2**32 - 1

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
_PARAM = re.compile(rf"\s*;\s*({_TOKEN})(?:\s*=\s*(\"(?:[^\"\\]|\\.)*\"|\[[0-9A-Fa-f:.]+\]|[^\s;,\"<>]+))?", re.DOTALL)
_PLAIN_PARAMS = re.compile(rf"(?:;{_TOKEN}(?:=[^\s;,\"<>\[\]]+)?)+")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_DISPLAY = re.compile(r"[^<>\",;:@]*")
_URI_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"]+")
_ADDR_SPEC = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:[^\s<>\",;?]+)(.*)", re.DOTALL)
_DISPLAY_TOKENS = re.compile(rf"{_TOKEN}(?:[ \t]+{_TOKEN})*")
_VIA = re.compile(
    r"\s*SIP\s*/\s*2\.0\s*/\s*([A-Za-z0-9.!%*_+`'~-]+)\s+"
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?:\s*:\s*(\d{1,5}))?\s*(;.*)?",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_PLAIN_VALUE = r"[^\s;,\"<>\[\]]+"
_PLAIN_VIA = re.compile(
    r"SIP/2\.0/(UDP|TCP|TLS) ([A-Za-z0-9._-]+)(?::([0-9]{1,4}|[1-5][0-9]{4}))?"
    + rf";branch=({_PLAIN_VALUE})((?:;{_TOKEN}(?:={_PLAIN_VALUE})?)*)"
)
_PLAIN_NAME_ADDR = re.compile(rf'("[^"\\]*")? ?<([A-Za-z][A-Za-z0-9+.-]*:[^\s<>"]+)>(?:;tag=({_PLAIN_VALUE}))?')
_CSEQ = re.compile(rf"(\d{{1,20}})\s+({_TOKEN})", re.ASCII)
_MECHANISM = re.compile(rf"\s*({_TOKEN})\s*(;.*)?", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_params(text: str) -> Params:
    """Cut ``;a=1;b="x;y";c`` into pairs; values keep their quotes, flags have None.

    Raises ProtocolError ``sip.params`` on anything that is not a parameter.
    """
    if _PLAIN_PARAMS.fullmatch(text):
        # Neither quotes nor white space: half the cost of the general way.
        return tuple([(part[0], part[2] or None) for part in [one.partition("=") for one in text[1:].split(";")]])
    pairs: list[tuple[str, str | None]] = []
    position, end = 0, len(text)
    while position < end:
        match = _PARAM.match(text, position)
        if match is None:
            if not text[position:].strip():
                break
            raise ProtocolError("sip.params", f"not a parameter: {text[position : position + 80]!r}", position)
        pairs.append((match.group(1), match.group(2)))
        position = match.end()
    return tuple(pairs)


def quote(text: str) -> str:
    """A quoted-string (RFC 3261 25.1) with backslash and double quote escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The text inside a quoted-string; text without quotes comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return _ESCAPED.sub(r"\1", inner) if "\\" in inner else inner


class NameAddr(Struct, frozen=True):
    """A name-addr or addr-spec with header parameters: From, To, Contact, Route, P-Asserted-Identity and others.

    ``display`` is the display name as written, quotes included ("" for none); ``uri`` the text of the URI. In the form
    without angle brackets every parameter is a header parameter (RFC 3261 20.10).
    """

    display: str
    uri: str
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> "NameAddr":
        """Read one value; raises ProtocolError ``sip.name-addr`` or ``sip.params``."""
        return name_addr_of(text)

    @classmethod
    def _parse(cls, text: str) -> "NameAddr":
        plain = _PLAIN_NAME_ADDR.fullmatch(text)
        if plain is None:
            return cls._parse_any(text)
        # From, To, Contact and Route as nearly everybody writes them: a quarter of the cost of the general way.
        display, uri, tag = plain.groups("")
        return cls(display, uri, (("tag", tag),)) if tag else cls(display, uri)

    @classmethod
    def _parse_any(cls, text: str) -> "NameAddr":
        text = text.strip()
        start = 0
        if text[:1] == '"':
            quoted = _QUOTED.match(text)
            if quoted is None:
                raise ProtocolError("sip.name-addr", f"display name without closing quote: {text[:120]!r}")
            start = quoted.end()
        opening = text.find("<", start)
        if opening < 0:
            match = _ADDR_SPEC.fullmatch(text)
            if match is None:
                raise ProtocolError("sip.name-addr", f"not a name-addr: {text[:120]!r}")
            return cls("", match.group(1), parse_params(match.group(2)))
        closing = text.find(">", opening)
        uri = text[opening + 1 : closing].strip() if closing > 0 else ""
        between = text[start:opening]
        if not _URI_TEXT.fullmatch(uri) or not (
            between.isspace() or not between if start else _DISPLAY.fullmatch(between)
        ):
            raise ProtocolError("sip.name-addr", f"not a name-addr: {text[:120]!r}")
        display = text[:start] if start else between.rstrip()
        return cls(display, uri, parse_params(text[closing + 1 :]) if closing + 1 < len(text) else ())

    def __str__(self) -> str:
        display = self.display
        if display:
            if display[0] != '"' and not _DISPLAY_TOKENS.fullmatch(display):
                display = quote(display)
            display += " "
        return f"{display}<{self.uri}>{join_params(self.params)}"

    @property
    def display_name(self) -> str:
        """The display name without quotes and escapes."""
        return unquote(self.display)

    @property
    def tag(self) -> str | None:
        """The tag parameter of From and To, or None."""
        return find_param(self.params, "tag")

    @property
    def sip_uri(self) -> SipUri:
        """The URI parsed; raises ProtocolError ``sip.uri`` for another scheme."""
        return SipUri.parse(self.uri)

    def param(self, name: str) -> str | None:
        """The value of a header parameter without quotes; "" for a flag, None when absent."""
        value = find_param(self.params, name)
        return unquote(value) if value else value

    def with_param(self, name: str, value: str | None = None) -> "NameAddr":
        """A copy with that parameter replaced or appended (None: a flag)."""
        return replace(self, params=put_param(self.params, name, value))

    def without_param(self, name: str) -> "NameAddr":
        """A copy without that parameter."""
        return replace(self, params=drop_param(self.params, name))

    def with_uri(self, uri: object) -> "NameAddr":
        """A copy with another URI."""
        return replace(self, uri=str(uri))


class Via(Struct, frozen=True):
    """One Via value (RFC 3261 20.42); ``transport`` in upper case, ``host`` without brackets."""

    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> "Via":
        """Read one value; raises ProtocolError ``sip.via``."""
        return via_of(text)

    @classmethod
    def _parse(cls, text: str) -> "Via":
        plain = _PLAIN_VIA.fullmatch(text)
        if plain is None:
            return cls._parse_any(text)
        # As nearly everybody writes it: a third of the cost of the general way.
        transport, host, port, branch, rest = plain.groups()
        params: Params = (("branch", branch),)
        return cls(transport, host, int(port) if port else None, params + parse_params(rest) if rest else params)

    @classmethod
    def _parse_any(cls, text: str) -> "Via":
        match = _VIA.fullmatch(text)
        if match is None:
            raise ProtocolError("sip.via", f"not a Via: {text[:120]!r}")
        transport, host, port, rest = match.groups()
        number = int(port) if port is not None else None
        if number is not None and number > 65535:
            raise ProtocolError("sip.via", f"port {number} in Via")
        params = parse_params(rest) if rest else ()
        return cls(transport.upper(), host[1:-1] if host[0] == "[" else host, number, params)

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {self.sent_by}{join_params(self.params)}"

    @property
    def sent_by(self) -> str:
        """``host`` or ``host:port`` as written, IPv6 in brackets."""
        host = bracketed(self.host)
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def branch(self) -> str | None:
        """The branch parameter, or None (only peers older than RFC 3261 leave it out)."""
        return find_param(self.params, "branch")

    @property
    def received(self) -> str | None:
        """The address in ``received`` without brackets, or None."""
        value = find_param(self.params, "received")
        return value.strip("[]") if value else value

    @property
    def rport(self) -> int | None:
        """The port in ``rport``; None when absent, without a value or not a port (see :attr:`has_rport`)."""
        value = find_param(self.params, "rport")
        if not value or len(value) > 5 or not (value.isascii() and value.isdigit()):
            return None
        return int(value)

    @property
    def has_rport(self) -> bool:
        """True when the sender asks for, or the receiver filled in, ``rport`` (RFC 3581 3)."""
        return find_param(self.params, "rport") is not None

    def param(self, name: str) -> str | None:
        """The value of a parameter; "" for a flag, None when absent."""
        value = find_param(self.params, name)
        return unquote(value) if value else value

    def with_param(self, name: str, value: str | None = None) -> "Via":
        """A copy with that parameter replaced or appended (None: a flag)."""
        return replace(self, params=put_param(self.params, name, value))

    def without_param(self, name: str) -> "Via":
        """A copy without that parameter."""
        return replace(self, params=drop_param(self.params, name))


class CSeq(Struct, frozen=True):
    """Command sequence (RFC 3261 20.16): a 32-bit unsigned number and a method."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> "CSeq":
        """Read a CSeq; raises ProtocolError ``sip.cseq``, also for a number beyond 32 bits."""
        return cseq_of(text)

    @classmethod
    def _parse(cls, text: str) -> "CSeq":
        match = _CSEQ.fullmatch(text)
        if match is None or (number := int(match.group(1))) > MAX_CSEQ:
            raise ProtocolError("sip.cseq", f"not a CSeq: {text[:80]!r}")
        return cls(number, match.group(2))

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


class SecMechanism(Struct, frozen=True):
    """One sec-mechanism of Security-Client, Security-Server or Security-Verify (RFC 3329 2.2).

    ``str`` gives back the parameters in the order and case in which they came.
    """

    name: str
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> "SecMechanism":
        """Read one mechanism; raises ProtocolError ``sip.sec-mechanism`` or ``sip.params``."""
        match = _MECHANISM.fullmatch(text)
        if match is None:
            raise ProtocolError("sip.sec-mechanism", f"not a security mechanism: {text[:80]!r}")
        return cls(match.group(1), parse_params(match.group(2)) if match.group(2) else ())

    def __str__(self) -> str:
        return self.name + join_params(self.params)

    @property
    def media_plane(self) -> bool:
        """True when marked ``mediasec`` (TS 24.229 7.2A.7): a mechanism for media, not for signalling.

        A contribution writes ``mediasec=name`` instead of the flag; that is tolerated here and never written.
        """
        return find_param(self.params, "mediasec") is not None

    def param(self, name: str) -> str | None:
        """The value of a parameter without quotes; "" for a flag, None when absent."""
        value = find_param(self.params, name)
        return unquote(value) if value else value


# The same text is read several times while a message is handled, and again in the other messages of its dialog. The
# values are frozen; the parser bounds the length of the texts.
name_addr_of = lru_cache(maxsize=512)(NameAddr._parse)
"""As :meth:`NameAddr.parse`, without a step between."""
via_of = lru_cache(maxsize=512)(Via._parse)
"""As :meth:`Via.parse`, without a step between."""
cseq_of = lru_cache(maxsize=512)(CSeq._parse)
"""As :meth:`CSeq.parse`, without a step between."""


def parse_sec_mechanisms(values: Iterable[str]) -> tuple[SecMechanism, ...]:
    """Read header values, comma lists and repeated lines alike; raises ProtocolError."""
    return tuple(SecMechanism.parse(part) for value in values for part in split_values(value))
