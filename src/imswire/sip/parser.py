"""Bytes to messages: one datagram or framed message at a time, and the framer for streams."""

import re
from enum import Enum
from itertools import cycle, islice

from imswire.base import ProtocolError
from imswire.sip.faults import DEFAULT_LIMITS, BadMessage, Limits
from imswire.sip.headers import Headers
from imswire.sip.lines import check_core, read_line, unfold
from imswire.sip.message import METHODS, Request, Response
from imswire.sip.salvage import salvage
from imswire.sip.start import read_start
from imswire.sip.usual import MANDATORY, SINGLE, usual
from imswire.sip.values import CSeq

__all__ = ["DEFAULT_LIMITS", "BadMessage", "Limits", "Ping", "StreamFramer", "parse"]

_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)


def parse(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Request | Response:
    """Read one datagram or one framed message.

    CRLF before the start line is skipped (RFC 3261 7.5). Bytes beyond Content-Length are cut off (18.3). Raises
    :class:`BadMessage`; data of nothing but CRLF has the reason ``sip.keepalive``.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if end and len(head) <= limits.header_bytes and len(data) <= limits.message:
        message = usual(head, body, limits)
        if message is not None:
            return message
    return parse_any(data, limits)


def parse_any(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Request | Response:
    """As :func:`parse`, the general way: for what is not usual, and the one that says what is wrong."""
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
        return _message(data, end + 4, head, lines, limits)
    except BadMessage as error:
        error.message = salvage(lines)
        raise
    except ProtocolError as error:
        raise BadMessage(error.reason, error.hint, error.offset, message=salvage(lines)) from error


def _message(data: bytes, start: int, head: str, lines: list[str], limits: Limits) -> Request | Response:
    """The message of which ``head`` is the header section; its body begins at ``start``."""
    if len(lines) - 1 > limits.headers:
        raise BadMessage("sip.oversize", f"{len(lines) - 1} header lines, limit {limits.headers}", status=513)
    folded = "\r\n " in head or "\r\n\t" in head
    kept = unfold(lines) if folded else lines[1:]
    if len(head) > limits.header_line and len(max(kept, key=len, default="")) > limits.header_line:
        raise BadMessage("sip.oversize", f"a header above {limits.header_line} characters", status=513)
    fields = [read_line(line) for line in kept]
    keys = [field[0] for field in fields]
    headers = Headers.from_lines(keys, fields, kept)
    available = len(data) - start
    length = _content_length(headers, available) if "content-length" in keys else available
    body = data[start : start + length]
    distinct = set(keys)
    if not distinct.issuperset(MANDATORY):
        missing = [name for name in MANDATORY if name not in distinct]
        raise BadMessage("sip.missing", f"missing: {', '.join(missing)}")
    if len(distinct) != len(keys):
        _check_repeats(keys)
    if head.count(",") + keys.count("via") > limits.vias:
        _check_vias(headers, limits)
    message = _started(lines[0], headers, body, limits)
    check_core(headers)
    if type(message) is Request and (method := CSeq.parse(headers.first("cseq")).method) != message.method:
        # RFC 4475 3.1.2.18: of a method that nobody here knows it is that which is worth saying.
        status = 400 if message.method in METHODS else 501
        raise BadMessage("sip.cseq", f"CSeq method {method} in a {message.method} request", status=status)
    return message


def _content_length(headers: Headers, available: int) -> int:
    """The length of the body: Content-Length when given, else all that is there (RFC 3261 18.3)."""
    text = headers.first("content-length")
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


def _started(start: str, headers: Headers, body: bytes, limits: Limits) -> Request | Response:
    """The message with that start line."""
    method, text, status = read_start(start)
    if not method:
        return Response(status, text, headers, body)
    if len(text) > limits.uri:
        raise BadMessage("sip.oversize", f"Request-URI of {len(text)} characters", status=414)
    return Request(method, text, headers, body)


def _check_repeats(keys: list[str]) -> None:
    for name in SINGLE:
        if keys.count(name) > 1:
            raise BadMessage("sip.repeated", f"{name} stands in more than one line")


def _check_vias(headers: Headers, limits: Limits) -> None:
    vias = headers.get_all("via")
    if len(vias) + sum(value.count(",") for value in vias) > limits.vias:
        raise BadMessage("sip.oversize", f"more than {limits.vias} Via values", status=513)


class Ping(Enum):
    """Line ends between messages on a stream (RFC 5626 3.5.1).

    SINGLE: one CRLF, the pong of a peer that was pinged. DOUBLE: the CRLF right after a single one made a ping of
    CRLFCRLF complete; answer with one CRLF. So a ping is reported as SINGLE, DOUBLE, however the stream was cut.
    """

    SINGLE = "single"
    DOUBLE = "double"


_PINGS = (Ping.SINGLE, Ping.DOUBLE)
_RUN = re.compile(rb"(?:\r\n)++")


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
        run = _RUN.match(self._buffer)
        if run is None:
            raise BadMessage("sip.framing", "CR without LF between messages", 0)
        count = run.end() // 2  # all of them at one stroke: a read full of line ends must cost nobody a turn
        out.extend(islice(cycle(_PINGS), self._single, self._single + count))
        self._single ^= bool(count & 1)
        del self._buffer[: 2 * count]
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
