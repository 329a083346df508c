"""Cuts an MSRP byte stream into heads, body pieces and ends (RFC 4975 7.3.1), pure and independent of the cuts.

Only the head of a request is held, and that within a bound. Body octets are handed on at once as views of the data
that was fed in, without joining; at most one possible end-line (about 45 octets) is kept back between two calls.

The end of a body is CRLF, seven hyphens, the transaction id, one of ``$ + #`` and CRLF, and nothing less: the same
text with another flag, without the CRLF before it or with something behind it is body. Byte-Range is never believed
for framing, since it may be wrong or ``*``.
"""

from collections.abc import Iterator

from msgspec import Struct

from imswire.base import LimitExceeded, ProtocolError
from imswire.msrp.message import Head, RequestHead, parse_head, parse_start

FLAGS = b"$+#"
_MAGIC = b"MSRP "
_BLANK = b"\r\n\r\n"
_LONGEST_MARK = 48


class HeadRead(Struct, frozen=True):
    """A head has come. ``raw`` is its text: start line and headers, blank line and end-line excluded."""

    head: Head
    raw: bytes


class BodyRead(Struct, frozen=True):
    """Some octets of the body of the last head, in order; the view is of immutable data and may be kept."""

    data: memoryview


class EndRead(Struct, frozen=True):
    """The end-line: ``$`` complete, ``+`` more chunks follow, ``#`` the message is abandoned."""

    flag: str


FrameEvent = HeadRead | BodyRead | EndRead


class MsrpFramer:
    """``feed`` yields events; exhaust it before feeding again.

    Bad framing raises :class:`ProtocolError` ``msrp.*`` after the events before it: the stream cannot be followed
    any further, and so does every later call. ``head_limit`` bounds the octets of a head, its end included.
    """

    def __init__(self, head_limit: int = 8_192) -> None:
        self._head_limit = head_limit
        self._head = bytearray()
        self._mark = b""  # CRLF "-------" transaction id: what an end-line of the current message begins with
        self._in_body = False
        self._held = b""  # a proper prefix of an end-line, not decided yet
        self._not_body = 0  # how many of the held octets belong to the blank line before the body
        self._broken: ProtocolError | None = None

    @property
    def pending(self) -> int:
        """Octets held."""
        return len(self._head) + len(self._held)

    @property
    def idle(self) -> bool:
        """Between two messages: an end of the stream here loses nothing."""
        return not self._in_body and not self._head

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[FrameEvent]:
        """Take octets from the stream; a buffer that may change afterwards is copied once."""
        whole = data if isinstance(data, bytes) else bytes(data)
        if self._broken is not None:
            raise self._broken
        at = 0
        while at < len(whole):
            try:
                if self._in_body:
                    events, at = self._body(whole, at)
                else:
                    events, at = self._start(whole, at)
            except ProtocolError as error:
                self._broken = error
                raise
            yield from events

    def _start(self, data: bytes, at: int) -> tuple[list[FrameEvent], int]:
        """Collect a head; the number returned is where the rest of ``data`` begins."""
        head = self._head
        before = len(head)
        taken = min(len(data) - at, self._head_limit - before)
        head += memoryview(data)[at : at + taken]
        if not _MAGIC.startswith(head[: len(_MAGIC)]):
            raise ProtocolError("msrp.start-line", f"a message begins with 'MSRP ', not {bytes(head[:5])!r}", 0)
        cut = self._cut(max(0, before - _LONGEST_MARK))
        if cut is None:
            if len(head) >= self._head_limit:
                raise LimitExceeded("msrp.head-size", f"a head of more than {self._head_limit} octets")
            return [], at + taken
        size, consumed, flag = cut
        raw = bytes(head[:size])
        parsed = parse_head(raw, has_body=not flag)
        events: list[FrameEvent] = [HeadRead(parsed, raw)]
        if not flag:
            # A sender may leave out an empty body together with its CRLF: the blank line's CRLF then begins the end.
            self._in_body = True
            self._held = b"\r\n"
            self._not_body = 2
        elif flag != "$" and not isinstance(parsed, RequestHead):
            raise ProtocolError("msrp.end-line", f"a response ended by {flag!r}")
        else:
            events.append(EndRead(flag))
        head.clear()
        return events, at + consumed - before

    def _cut(self, search_from: int) -> tuple[int, int, str] | None:
        """Where the head ends: its size, the octets up to behind its end, and the flag of an end-line or ``""``."""
        head = self._head
        if not self._mark:
            first = head.find(b"\r\n")
            if first < 0:
                return None
            transaction_id, _, _, _ = parse_start(bytes(head[:first]))
            self._mark = b"\r\n-------" + transaction_id.encode()
        blank = head.find(_BLANK, search_from)
        mark = head.find(self._mark, search_from, len(head) if blank < 0 else blank)
        if mark < 0:
            if blank < 0:
                return None
            return blank + 2, blank + 4, ""
        after = mark + len(self._mark)
        rest = bytes(head[after : after + 3])
        if len(rest) < 3:
            return None
        if rest[0] not in FLAGS or rest[1:] != b"\r\n":
            raise ProtocolError("msrp.end-line", f"no end-line: {rest!r} after the transaction id", after)
        self._mark = b""
        return mark + 2, after + 3, chr(rest[0])

    def _body(self, data: bytes, at: int) -> tuple[list[FrameEvent], int]:
        """Hand on body octets up to an end-line or the end of ``data``."""
        mark = self._mark
        full = len(mark) + 3
        if self._held:
            return self._decide(data, at, full)
        view = memoryview(data)
        found = data.find(mark, at)
        while 0 <= found <= len(data) - full:
            if self._is_end(data[found : found + full]):
                events: list[FrameEvent] = [BodyRead(view[at:found])] if found > at else []
                return self._ended(events, data[found + full - 3]), found + full
            # Within a mark there is no second CR, so the next candidate begins behind it.
            found = data.find(mark, found + len(mark))
        stop = len(data)
        candidate = data.find(b"\r", max(at, stop - full + 1))
        while candidate >= 0:
            if self._may_end(data[candidate:]):
                self._held = data[candidate:]
                stop = candidate
                break
            candidate = data.find(b"\r", candidate + 1)
        return ([BodyRead(view[at:stop])] if stop > at else []), len(data)

    def _decide(self, data: bytes, at: int, full: int) -> tuple[list[FrameEvent], int]:
        """Find out with more octets whether what is held is an end-line or body."""
        held = self._held
        window = held + data[at : at + full - len(held)]
        if len(window) == full and self._is_end(window):
            return self._ended([], window[-3]), at + full - len(held)
        if len(window) < full and self._may_end(window):
            self._held = window
            return [], len(data)
        # No other end-line can begin within what is held: a CR at its end would have had to be followed by LF, and
        # with that it would have been one itself.
        body = memoryview(held)[self._not_body :]
        self._held = b""
        self._not_body = 0
        return ([BodyRead(body)] if len(body) else []), at

    def _ended(self, events: list[FrameEvent], flag: int) -> list[FrameEvent]:
        events.append(EndRead(chr(flag)))
        self._in_body = False
        self._held = self._mark = b""
        self._not_body = 0
        return events

    def _is_end(self, window: bytes) -> bool:
        return window.startswith(self._mark) and window[-3] in FLAGS and window.endswith(b"\r\n")

    def _may_end(self, window: bytes) -> bool:
        """Whether ``window``, shorter than an end-line, may be the beginning of one."""
        size = len(self._mark)
        if len(window) <= size:
            return self._mark.startswith(window)
        return window.startswith(self._mark) and window[size] in FLAGS and window[size + 1 :] in (b"", b"\r")
