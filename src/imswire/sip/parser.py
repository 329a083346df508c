"""Bytes to messages: one datagram or framed message at a time, and the framer for streams."""

import re
from dataclasses import dataclass
from enum import Enum

from imswire.base import ProtocolError
from imswire.sip.headers import Headers, canonical
from imswire.sip.message import METHODS, Request, Response
from imswire.sip.salvage import salvage
from imswire.sip.values import CSeq, NameAddr, Via

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
# ASCII only: without that flag IGNORECASE lets letters of other scripts pass for Latin ones.
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([a-z][a-z0-9+.-]*:[!#-;=?-~]+) SIP/2\.0", re.IGNORECASE | re.ASCII)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE | re.ASCII)
_OTHER_VERSION = re.compile(r"\S+ \S+ SIP/(?!2\.0$)[0-9]+\.[0-9]+", re.IGNORECASE | re.ASCII)
_HEADER_NAME = re.compile(rf"({_TOKEN})[ \t]*")
_FOLD = re.compile(r"[ \t]*\r\n[ \t]+")
_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)

# Header fields that a message has at most once (RFC 3261 20, 7.3.1); Content-Length is counted apart.
_SINGLE = frozenset({"from", "to", "call-id", "cseq", "max-forwards"})
_MANDATORY = ("via", "from", "to", "call-id", "cseq")


@dataclass(frozen=True)
class Limits:
    """Bounds on one message, in bytes or counts. ``message`` includes the body; ``header_bytes`` the start line."""

    message: int = 65_536
    header_bytes: int = 32_768
    headers: int = 256
    header_line: int = 8_192
    uri: int = 4_096
    vias: int = 70


DEFAULT_LIMITS = Limits()


class BadMessage(ProtocolError):
    """A message that cannot be taken.

    ``status`` is the SIP response that fits (400, 414, 501, 505, 513). ``message`` is what could be saved of a request,
    enough for ``message.reply(status)``: method, Via, and of From, To, Call-ID and CSeq those that are there; None
    where no answer can or may be sent (responses, ACK, no usable Via).
    """

    def __init__(
        self, reason: str, hint: str = "", offset: int = -1, *, status: int = 400, message: Request | None = None
    ) -> None:
        super().__init__(reason, hint, offset)
        self.status = status
        self.message = message


def parse(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Request | Response:
    """Read one datagram or one framed message.

    CRLF before the start line is skipped (RFC 3261 7.5). Bytes beyond Content-Length are cut off (18.3). Raises
    :class:`BadMessage`; data of nothing but CRLF has the reason ``sip.keepalive``.
    """
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")
        if not data:
            raise BadMessage("sip.keepalive", "nothing but line ends")
    end = data.find(b"\r\n\r\n", 0, limits.header_bytes + 4)
    head = data[: end if end >= 0 else limits.header_bytes].decode("utf-8", "surrogateescape")
    lines = head.split("\r\n")
    try:
        if end < 0:
            if len(data) > limits.header_bytes:
                raise BadMessage("sip.oversize", f"header section above {limits.header_bytes} bytes", status=513)
            raise BadMessage("sip.header-end", "no empty line ends the header section", len(data))
        if len(data) > limits.message:
            raise BadMessage("sip.oversize", f"{len(data)} bytes, limit {limits.message}", status=513)
        # A CR or LF alone could end a line for the next hop and not for us: no line may hold one.
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise BadMessage("sip.line-end", "a CR or LF that is not part of CRLF in the header section")
        headers = _read_headers(lines, limits, "\r\n " in head or "\r\n\t" in head)
        length = _content_length(headers, len(data) - end - 4)
        body = data[end + 4 : end + 4 + length]
        return _finish(lines[0], headers, body, limits)
    except BadMessage as error:
        error.message = salvage(lines)
        raise
    except ProtocolError as error:
        raise BadMessage(error.reason, error.hint, error.offset, message=salvage(lines)) from error


def _read_headers(lines: list[str], limits: Limits, folded: bool) -> Headers:
    """Header lines after the start line to headers. Three passes of comprehensions: faster than one loop."""
    if len(lines) - 1 > limits.headers:
        raise BadMessage("sip.oversize", f"{len(lines) - 1} header lines, limit {limits.headers}", status=513)
    kept = _unfold(lines) if folded else lines[1:]
    if len(max(kept, key=len, default="")) > limits.header_line:
        raise BadMessage("sip.oversize", f"a header above {limits.header_line} characters", status=513)
    parts = [line.partition(":") for line in kept]
    known = _known
    keys = [known.get(name) if colon else None for name, colon, _ in parts]
    if None in keys:
        keys = [_key(name, colon) for name, colon, _ in parts]
    values = [value.strip() for _, _, value in parts]
    if folded:
        values = [_FOLD.sub(" ", value) if "\n" in value else value for value in values]
    return Headers.from_lines(keys, values, kept)  # type: ignore[arg-type]  # no None is left


def _unfold(lines: list[str]) -> list[str]:
    """Join continuation lines to the line that they continue, line ends and all (RFC 3261 7.3.1)."""
    kept: list[list[str]] = []
    for line in lines[1:]:
        if line[:1] not in (" ", "\t"):
            kept.append([line])
        elif kept:
            kept[-1].append(line)
        else:
            raise BadMessage("sip.start-line", "the start line is folded")
    return ["\r\n".join(parts) for parts in kept]


_KNOWN_LIMIT = 2048
_known: dict[str, str] = {}


def _key(name: str, colon: str) -> str:
    """The canonical form of a name as it stands before the colon, checked (RFC 3261 25.1 HCOLON allows white space)."""
    if not colon:
        raise BadMessage("sip.header", f"line without a colon: {name[:80]!r}")
    match = _HEADER_NAME.fullmatch(name)
    if match is None:
        raise BadMessage("sip.header", f"{name[:80]!r} is not a header name")
    key = canonical(match.group(1))
    if len(_known) < _KNOWN_LIMIT:
        _known[name] = key
    return key


def _content_length(headers: Headers, available: int) -> int:
    """The length of the body: Content-Length when given, else all that is there (RFC 3261 18.3)."""
    text = headers.get("content-length")
    if text is None:
        return available
    repeated = headers.count("content-length") > 1
    if repeated and len(set(headers.get_all("content-length"))) > 1:
        raise BadMessage("sip.content-length", "two Content-Lengths that differ")
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise BadMessage("sip.content-length", f"Content-Length is {text[:40]!r}")
    if repeated:
        headers.set("Content-Length", text)
    length = int(text)
    if length > available:
        raise BadMessage("sip.short-body", f"Content-Length {length}, {available} bytes of body present")
    return length


def _finish(start: str, headers: Headers, body: bytes, limits: Limits) -> Request | Response:
    keys = headers.keys
    distinct = set(keys)
    if not distinct.issuperset(_MANDATORY):
        missing = [name for name in _MANDATORY if name not in distinct]
        raise BadMessage("sip.missing", f"missing: {', '.join(missing)}")
    if len(distinct) != len(keys):
        _check_repeats(headers, limits)
    elif "," in headers.firsts(("via",))[0]:
        _check_vias(headers, limits)
    message: Request | Response
    request = _REQUEST_LINE.fullmatch(start)
    if request is not None:
        message = Request(request.group(1), request.group(2), headers, body)
        if len(message.uri) > limits.uri:
            raise BadMessage("sip.oversize", f"Request-URI of {len(message.uri)} characters", status=414)
    else:
        status = _STATUS_LINE.fullmatch(start)
        if status is None:
            raise _bad_start_line(start)
        message = Response(int(status.group(1)), status.group(2) or "", headers, body)
    _check_core(message)
    return message


def _check_core(message: Request | Response) -> None:
    """Top Via, From, To, Call-ID and CSeq are read by everybody: bad ones are refused at the door.

    The views remember what they read, so that those who ask later, and the next messages of the dialog, get it free.
    """
    headers = message.headers
    via, sender, to, call_id, cseq = headers.firsts(_MANDATORY)
    Via.parse(headers.first_value("via") or "" if "," in via else via)
    NameAddr.parse(sender)
    NameAddr.parse(to)
    method = CSeq.parse(cseq).method
    if isinstance(message, Request) and method != message.method:
        # RFC 4475 3.1.2.18: of a method that nobody here knows it is that which is worth saying.
        status = 400 if message.method in METHODS else 501
        raise BadMessage("sip.cseq", f"CSeq method {method} in a {message.method} request", status=status)
    if not call_id or " " in call_id:
        raise BadMessage("sip.call-id", f"not a Call-ID: {call_id[:80]!r}")


def _check_repeats(headers: Headers, limits: Limits) -> None:
    keys = headers.keys
    for name in _SINGLE:
        if keys.count(name) > 1:
            raise BadMessage("sip.repeated", f"{name} stands in more than one line")
    _check_vias(headers, limits)


def _check_vias(headers: Headers, limits: Limits) -> None:
    vias = headers.get_all("via")
    if len(vias) + sum(value.count(",") for value in vias) > limits.vias:
        raise BadMessage("sip.oversize", f"more than {limits.vias} Via values", status=513)


def _bad_start_line(start: str) -> BadMessage:
    if _OTHER_VERSION.fullmatch(start):
        return BadMessage("sip.version", f"{start[-20:]!r} is not SIP/2.0", status=505)
    return BadMessage("sip.start-line", f"neither a request line nor a status line: {start[:120]!r}", 0)


class Ping(Enum):
    """Line ends between messages on a stream (RFC 5626 3.5.1).

    SINGLE: one CRLF, the pong of a peer that was pinged. DOUBLE: the CRLF right after a single one made a ping of
    CRLFCRLF complete; answer with one CRLF. So a ping is reported as SINGLE, DOUBLE, however the stream was cut.
    """

    SINGLE = "single"
    DOUBLE = "double"


class StreamFramer:
    """Cuts a TCP or TLS stream into messages by Content-Length (RFC 3261 18.3, 7.5).

    ``feed`` returns whole messages and pings in order; what it returns does not depend on how the stream was cut. A
    fault that cannot be resynchronised (no Content-Length, one not a number or given twice, a header section or message
    above the limits, a first byte that starts no message) raises :class:`BadMessage`, then and at every later call; if
    messages were complete before the fault they are returned first and :attr:`error` is set: look at it after each
    call and close the connection.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        self._need = 0
        self._single = False
        self.error: BadMessage | None = None

    @property
    def pending(self) -> int:
        """Bytes held that do not make a whole message yet; at most one message."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes | Ping]:
        """Take bytes from the stream and return whole messages and pings, in order."""
        out: list[bytes | Ping] = []
        if self.error is None:
            self._buffer += data
            try:
                while self._next(out):
                    pass
            except BadMessage as error:
                self.error = error
                self._buffer.clear()
        if self.error is not None and not out:
            raise self.error
        return out

    def _next(self, out: list[bytes | Ping]) -> bool:
        buffer = self._buffer
        if not buffer:
            return False
        if not self._need:
            if buffer[0] == 13:
                return self._line_end(out)
            if not (buffer[0] < 128 and (chr(buffer[0]).isalnum() or buffer[0] in b".!%*_+`'~-")):
                raise BadMessage("sip.framing", f"byte {buffer[0]:#04x} starts no SIP message", 0)
            self._single = False
            self._need = self._message_length()
        if not self._need or len(buffer) < self._need:
            return False
        out.append(bytes(buffer[: self._need]))
        del buffer[: self._need]
        self._need = self._searched = 0
        return True

    def _line_end(self, out: list[bytes | Ping]) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[1] != 10:
            raise BadMessage("sip.framing", "CR without LF between messages", 0)
        out.append(Ping.DOUBLE if self._single else Ping.SINGLE)
        self._single = not self._single
        del self._buffer[:2]
        return True

    def _message_length(self) -> int:
        """Length of the message at the start of the buffer; 0 while its header section is not complete."""
        limits = self._limits
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3), limits.header_bytes + 4)
        self._searched = len(self._buffer)
        if end < 0:
            if len(self._buffer) >= limits.header_bytes + 4:
                raise self._fault("sip.oversize", f"header section above {limits.header_bytes} bytes", 513)
            return 0
        found: list[bytes] = _CONTENT_LENGTH.findall(self._buffer, 0, end)
        if len(found) != 1:
            what = "no Content-Length" if not found else f"{len(found)} Content-Lengths"
            raise self._fault("sip.content-length", f"{what} in a message on a stream")
        text = found[0].strip()
        if not text.isdigit() or len(text) > 10:
            raise self._fault("sip.content-length", f"Content-Length is {text[:40]!r}")
        total = end + 4 + int(text)
        if total > limits.message:
            raise self._fault("sip.oversize", f"message of {total} bytes, limit {limits.message}", 513)
        return total

    def _fault(self, reason: str, hint: str, status: int = 400) -> BadMessage:
        head = bytes(self._buffer[: self._limits.header_bytes]).partition(b"\r\n\r\n")[0]
        salvaged = salvage(head.decode("utf-8", "surrogateescape").split("\r\n"))
        return BadMessage(reason, hint, status=status, message=salvaged)
