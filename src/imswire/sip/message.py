"""Requests and responses: a start line, headers that keep their bytes, and a body."""

from collections.abc import Iterable
from hashlib import blake2s
from typing import final

from msgspec import Struct, field

from imswire.base import ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.values import CSeq, NameAddr, Via, cseq_of, name_addr_of, via_of

REASONS: dict[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    430: "Flow Failed",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}

METHODS = frozenset(
    {
        *("ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER"),
        *("REGISTER", "SUBSCRIBE", "UPDATE"),
    }
)
"""The methods that are registered (IANA, sip-methods); others pass a proxy too."""

# Responses to these may make a dialog or add a usage, so Record-Route is copied into them (RFC 3261 12.1.1, RFC 6665).
DIALOG_METHODS = frozenset({"INVITE", "SUBSCRIBE", "NOTIFY", "REFER"})

_REPLY = frozenset({"via", "from", "to", "call-id", "cseq"})
_REPLY_100 = _REPLY | {"timestamp"}
_REPLY_DIALOG = _REPLY | {"record-route"}


class _Message:
    """What requests and responses have in common. Header access parses on demand and raises ProtocolError."""

    __slots__ = ()

    headers: Headers
    body: bytes

    @property
    def start_line(self) -> str:
        """The first line without its CRLF."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Message):
            return NotImplemented
        return self.start_line == other.start_line and self.headers == other.headers and self.body == other.body

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.start_line!r}>"

    def to_bytes(self) -> bytes:
        """The message as it goes on the wire.

        Untouched lines keep their bytes. Content-Length is put right when it is missing or differs from the body.
        Raises ProtocolError ``sip.start-line`` for a start line that cannot be one line.
        """
        headers, body = self.headers, self.body
        length = str(len(body))
        text, given = headers.text, headers.get("content-length")
        if given is None:
            text = f"{text}\r\nContent-Length: {length}" if text else f"Content-Length: {length}"
        elif given != length and not _same_number(given, length):
            headers = headers.copy()
            headers.set("Content-Length", length)
            text = headers.text
        start = self.start_line
        if "\r" in start or "\n" in start:
            raise ProtocolError("sip.start-line", f"line end inside {start[:80]!r}")
        return f"{start}\r\n{text}\r\n\r\n".encode("utf-8", "surrogateescape") + body

    def need(self, name: str) -> str:
        """The value of a mandatory header; raises ProtocolError ``sip.missing``."""
        value = self.headers.get(name)
        if value is None:
            raise ProtocolError("sip.missing", f"{name} is missing")
        return value

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.need("call-id")

    @property
    def cseq(self) -> CSeq:
        """The CSeq."""
        return cseq_of(self.need("cseq"))

    @property
    def via(self) -> Via:
        """The top Via."""
        top = self.headers.first_value("via")
        if top is None:
            raise ProtocolError("sip.missing", "Via is missing")
        return via_of(top)

    @property
    def from_(self) -> NameAddr:
        """The From value."""
        return name_addr_of(self.need("from"))

    @property
    def to(self) -> NameAddr:
        """The To value."""
        return name_addr_of(self.need("to"))

    @property
    def from_tag(self) -> str | None:
        """The tag of From; None when absent."""
        return self.from_.tag

    @property
    def to_tag(self) -> str | None:
        """The tag of To; None when absent."""
        return self.to.tag

    @property
    def contacts(self) -> list[NameAddr]:
        """All Contact values; ``*`` raises ProtocolError (see :attr:`contact_star`)."""
        return [NameAddr.parse(value) for value in self.headers.values("contact")]

    @property
    def contact_star(self) -> bool:
        """True for ``Contact: *`` (RFC 3261 10.2.2)."""
        return self.headers.get("contact") == "*"

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters; "" when absent.

        Without blanks too: RFC 3261 25.1 allows them around the slash. Of a list, which is none by the grammar, it is
        the first, which is what other readers take.
        """
        kind = (self.headers.get("content-type") or "").partition(";")[0].partition(",")[0]
        return "".join(kind.split()).lower()

    @property
    def expires(self) -> int | None:
        """Expires in seconds, at most 2**32-1; None when absent; raises ProtocolError ``sip.number``."""
        return self._number("expires", 2**32 - 1)

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards; None when absent; raises ProtocolError ``sip.number`` when it is not 0..255."""
        value = self._number("max-forwards", 2**32 - 1)
        if value is not None and value > 255:
            raise ProtocolError("sip.number", f"Max-Forwards {value} is above 255")
        return value

    def has_option(self, header: str, tag: str) -> bool:
        """True when the option tag stands in Require, Supported, Proxy-Require ... (compared without case)."""
        wanted = tag.lower()
        return any(value.lower() == wanted for value in self.headers.values(header))

    def _number(self, name: str, most: int) -> int | None:
        text = self.headers.get(name)
        if text is None:
            return None
        if not _is_number(text, 64):
            raise ProtocolError("sip.number", f"{name} is {text[:40]!r}, a number was expected")
        return min(int(text), most)


@final
class Request(_Message, Struct, eq=False):
    """A SIP request. ``uri`` is the text of the Request-URI."""

    method: str
    uri: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def start_line(self) -> str:
        """``INVITE sip:bob@example.org SIP/2.0``."""
        return f"{self.method} {self.uri} SIP/2.0"

    def copy(self) -> "Request":
        """An independent copy; lines keep their bytes."""
        return Request(self.method, self.uri, self.headers.copy(), self.body)

    def reply(
        self,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> "Response":
        """A response to this request (RFC 3261 8.2.6).

        Via, From, To, Call-ID and CSeq are copied line by line; Timestamp into a 100; Record-Route into 101..299 of
        methods that can make a dialog (12.1.1). Above 100 a To without tag gets ``to_tag`` or, when that is None, one
        derived from the request, the same each time (8.2.7). A broken request is answered with what it has of them
        (RFC 4475 3.3.1); ProtocolError is raised where there is no Via, which says where to.
        """
        wanted = _REPLY
        if status == 100:
            wanted = _REPLY_100
        elif status < 300 and self.method in DIALOG_METHODS:
            wanted = _REPLY_DIALOG
        answer = self.headers.only(wanted)
        if "via" not in answer:
            raise ProtocolError("sip.missing", "no response can be made without Via")
        if status > 100 and (to := answer.get("to")) is not None and self._lacks_to_tag():
            answer.set("To", f"{to};tag={to_tag or self._derived_tag()}")
        for name, value in headers:
            answer.add(name, value)
        return Response(status, REASONS.get(status, "Unknown") if reason is None else reason, answer, body)

    def _lacks_to_tag(self) -> bool:
        try:
            return self.to.tag is None
        except ProtocolError:  # a To that cannot be read goes back as it came (RFC 4475 3.1.2.6)
            return False

    def _derived_tag(self) -> str:
        named = (self.headers.get(name) or "" for name in ("call-id", "from", "cseq"))
        seed = "\n".join((self.headers.get("via") or "", *named))
        return blake2s(seed.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


@final
class Response(_Message):
    """A SIP response."""

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(
        self, status: int, reason: str | None = None, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.status = status
        self.reason = REASONS.get(status, "Unknown") if reason is None else reason
        self.headers = Headers() if headers is None else headers
        self.body = body

    @property
    def start_line(self) -> str:
        """``SIP/2.0 200 OK``."""
        return f"SIP/2.0 {self.status} {self.reason}"

    def copy(self) -> "Response":
        """An independent copy; lines keep their bytes."""
        return Response(self.status, self.reason, self.headers.copy(), self.body)


type Message = Request | Response


def _is_number(text: str, most_digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= most_digits


def _same_number(given: str, length: str) -> bool:
    """True for a Content-Length that is the length written in another way."""
    return _is_number(given, 10) and int(given) == int(length)
