"""Application-aware MSRP relaying: one direction of a session, paths replaced, everything else passed as it came.

The gateway is the peer of both ends (RFC 4975 without CEMA, TS 23.334 5.19): each end addresses it by the URI that its
own SDP got. In every request, response and REPORT the To-Path, which must name this gateway, becomes the path of the
other end, and the From-Path becomes the URI that the gateway has towards that end. Sessions are matched by their id.

Theory of operation. MSRP has no length: a chunk ends where its transaction id says (RFC 4975 7.1). So the octets are
scanned for one end-line at a time, and what lies between two path blocks (headers, body, end-line, next start line) is
passed on as ONE view of the receive buffer; a message costs two pieces, whatever its size, and no octet of a body is
looked at twice, copied or joined. Nearly every head has the same two path lines as the one before, which then is one
comparison. What cannot be decided yet, an incomplete head (bounded) or what may be the beginning of an end-line (some
40 octets), is held back until the next read.
"""

import re

from agw.core.orders import PathSwap
from imswire.base import LimitExceeded, ProtocolError
from imswire.msrp.message import RequestHead, parse_head, response_to
from imswire.msrp.uri import MsrpUri

HEAD_LIMIT = 8_192
"""Octets of a head, from its start line to the blank line or the end-line."""
ANSWERS = 16
"""Responses of the gateway's own that may wait for the end of a chunk."""

type Piece = bytes | memoryview

_CRLF = b"\r\n"
_BLANK = b"\r\n\r\n"
_MAGIC = b"MSRP "
_FLAGS = b"$+#"
_FIRST = rb"MSRP ([A-Za-z0-9][A-Za-z0-9.\-+%=]{3,31}) (?:([A-Z]{1,32})|[0-9]{3}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?)"
_LINES = rb"(?:[A-Za-z][!#$%&'*+\-.0-9A-Z^_`a-z{|}~]*:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*"
_START = re.compile(_FIRST)
_PATHS = re.compile(
    rb"To-Path:[ \t]*([^\x00-\x1f\x7f]*?)[ \t]*\r\nFrom-Path:[ \t]*([^\x00-\x1f\x7f]*?)[ \t]*\r\n", re.IGNORECASE
)
_NOTHING = re.compile(rb"(?!)")
_HEADERS = re.compile(_LINES)


class MsrpRewriter:
    """One direction. :meth:`rewrite` takes what was read; the attributes beside it say what else is to be done.

    ``held``: octets to put before the next read. ``answers``: responses to the sender of this direction, which go out
    through the rewriter of the other one. ``fault``: the stream cannot be followed any further; close it.
    """

    __slots__ = (
        "_dropping",
        "_due",
        "_mark",
        "_out",
        "_seen",
        "_swap",
        "_usual",
        "answers",
        "fault",
        "held",
        "messages",
        "refused",
    )

    def __init__(self, swap: PathSwap) -> None:
        self._swap = swap
        self._out = f"To-Path: {swap.to_path}\r\nFrom-Path: {swap.from_path}\r\n".encode()
        self._seen = b"\0"  # the path lines that were checked last
        self._usual = _NOTHING  # a whole head with these path lines
        self._mark = b""  # CRLF "-------" transaction id of the chunk that is being passed; empty between two chunks
        self._dropping = False
        self._due: list[bytes] = []
        self.held = b""
        self.answers: list[bytes] = []
        self.fault: ProtocolError | None = None
        self.messages = 0
        """Chunks and responses that were passed on."""
        self.refused = 0

    @property
    def between(self) -> bool:
        """Nothing of an unfinished chunk has gone out: another message may be put in here."""
        return not self._mark or self._dropping

    def insert(self, message: bytes) -> bool:
        """Put a message of the gateway's own in front of the next chunk; False when too many wait already."""
        if len(self._due) >= ANSWERS:
            return False
        self._due.append(message)
        return True

    def remainder(self) -> bytes:
        """At the end of the stream: held octets of a body, which go out as they are; half a head does not."""
        rest, self.held = self.held, b""
        return rest if self._mark and not self._dropping else b""

    def rewrite(self, buffer: bytearray, view: memoryview, start: int, end: int) -> list[Piece]:
        """What to send for ``buffer[start:end]``, which begins with the octets of ``held``; views are of ``view``.

        The result is the same however the stream was cut.
        """
        pieces: list[Piece] = []
        run = at = start  # pieces reach up to ``run``, the scan up to ``at``
        keep = end  # from here on nothing is decided
        try:
            while at < end:
                if not self._mark and not self._due:
                    # The whole of a message with the usual paths, which is what nearly all are. The rest decides about
                    # everything else, and could do this too.
                    usual = self._usual.match(buffer, at, min(end, at + HEAD_LIMIT))
                    if usual is not None:
                        first, after = usual.span(3)
                        tail, close = usual.span(4)
                        mark = b"\r\n-------" + usual[1]
                        stop = buffer.find(mark, tail - 2, end)
                        flag = stop + len(mark)
                        if (
                            0 <= stop < end - len(mark) - 2
                            and buffer[flag] in _FLAGS
                            and buffer[flag + 1] == 13
                            and buffer[flag + 2] == 10
                            and (stop == tail - 2 if close - tail == 7 else usual[2] is not None)
                        ):
                            pieces.append(view[run:first])
                            pieces.append(self._out)
                            run, at = after, flag + 3
                            self.messages += 1
                            continue
                if self._mark:
                    stop = buffer.find(self._mark, at, end)
                else:
                    head = self._head(buffer, at, end)
                    if head is None:  # incomplete
                        keep = at
                        break
                    first, after, stop, at = head
                    if after:
                        pieces += (view[run:first], self._out)
                        run = after
                    elif first > run:  # refused: what was before it goes, it does not
                        pieces.append(view[run:first])
                done = -1 if stop < 0 else self._end_line(buffer, stop, end)
                if done < 0:
                    keep = self._undecided(buffer, at, end)
                    break
                at = done
                if self._dropping:
                    self._dropping, run = False, at
                self._mark = b""
                if self._due:
                    pieces += (view[run:at], *self._due)
                    self._due.clear()
                    run = at
        except ProtocolError as error:
            self.fault = error.with_traceback(None)  # whose frames hold this rewriter
            keep = at
        if not self._dropping and keep > run:
            pieces.append(view[run:keep])
        self.held = bytes(view[keep:end]) if keep < end and self.fault is None else b""
        return pieces

    # --- heads ---

    def _head(self, buffer: bytearray, at: int, end: int) -> tuple[int, int, int, int] | None:
        """Check the head at ``at``: (where its path lines begin, where they end, the first candidate for its end-line
        or -1, where to look for one); None while it is incomplete.

        A head that is refused has 0 for the end of its path lines, and begins at ``at``.
        """
        bound = min(end, at + HEAD_LIMIT)
        line = buffer.find(_CRLF, at, bound)
        if line < 0:
            if not _MAGIC.startswith(buffer[at : min(end, at + 5)]):
                raise ProtocolError("msrp.start-line", f"a message begins with 'MSRP ', not {_some(buffer, at)}")
            return _incomplete(at, end)
        match = _START.fullmatch(buffer, at, line)
        if match is None:
            raise ProtocolError("msrp.start-line", f"not an MSRP start line: {_some(buffer, at)}")
        mark = b"\r\n-------" + match[1]
        stop = buffer.find(mark, line, end)
        blank = buffer.find(_BLANK, line, bound if stop < 0 else min(bound, stop + 2))
        if blank >= 0:
            tail = blank + 2
        elif stop < 0 or stop + len(mark) + 3 > end:
            return _incomplete(at, end)
        else:
            tail = stop + 2
            if tail - at > HEAD_LIMIT:
                raise LimitExceeded("msrp.head-size", f"a head of more than {HEAD_LIMIT} octets")
            if buffer[stop + len(mark)] not in _FLAGS or not buffer.startswith(_CRLF, stop + len(mark) + 1):
                raise ProtocolError("msrp.end-line", f"no end-line: {_some(buffer, stop + 2)}")
        self._mark = mark
        first = line + 2
        if buffer.startswith(self._seen, first):
            after, status = first + len(self._seen), 0
        else:
            after, status = self._new_paths(buffer, first, tail)
        if not status and (_HEADERS.fullmatch(buffer, after, tail) is None or (blank >= 0 and match[2] is None)):
            status = 400
        if status:
            self._refuse(bytes(buffer[at:tail]), match[2] is not None, status)
            return at, 0, stop, tail - 2
        self.messages += 1
        return first, after, stop, tail - 2

    def _new_paths(self, buffer: bytearray, first: int, tail: int) -> tuple[int, int]:
        """Check path lines that differ from the last ones: (where they end, 0 or the status of the refusal)."""
        match = _PATHS.match(buffer, first, tail)
        if match is None:
            return 0, 400
        try:
            # One hop: a path of several URIs goes through relays, of which this gateway is none.
            uri = MsrpUri.parse(match[1].decode("ascii"))
            named = bool(match[2])
        except (ProtocolError, UnicodeDecodeError):
            return 0, 481 if len(match[1].split()) > 1 else 400
        if not named:
            return 0, 400
        if uri.session_id != self._swap.session:
            return 0, 481
        self._seen = bytes(buffer[first : match.end()])
        self._usual = re.compile(_FIRST + rb"\r\n(" + re.escape(self._seen) + rb")" + _LINES + rb"(\r\n|-------)")
        return match.end(), 0

    def _refuse(self, raw: bytes, request: bool, status: int) -> None:
        """Do not pass this message on; answer a request that wants an answer (RFC 4975 7.1.4, 10.5)."""
        self._dropping = True
        self.refused += 1
        if not request or len(self.answers) >= ANSWERS:
            return
        try:
            try:
                head = parse_head(raw)
            except ProtocolError:
                # Start line and path lines are enough to answer to.
                start, _, rest = raw.partition(_CRLF)
                paths = _PATHS.match(rest)
                head = parse_head(start + _CRLF + (paths[0] if paths else b""))
            if isinstance(head, RequestHead):
                own = None if head.get("To-Path") else self._swap.own
                response = response_to(head, status, own)
                if response is not None:
                    self.answers.append(response.to_bytes())
        except ProtocolError:
            return  # nobody to answer to

    # --- ends ---

    def _end_line(self, buffer: bytearray, found: int, end: int) -> int:
        """Behind the end-line of the chunk, for which ``found`` is the first candidate; -1 if it has not come."""
        mark = self._mark
        size = len(mark)
        while 0 <= found <= end - size - 3:
            flag = found + size
            if buffer[flag] in _FLAGS and buffer[flag + 1] == 13 and buffer[flag + 2] == 10:
                return flag + 3
            # Within a mark there is no second CR, so the next candidate begins behind it.
            found = buffer.find(mark, flag, end)
        return -1

    def _undecided(self, buffer: bytearray, at: int, end: int) -> int:
        """Where the last octets begin that may be the beginning of an end-line; ``end`` if none may."""
        mark = self._mark
        size = len(mark)
        found = buffer.find(b"\r", max(at, end - size - 2), end)
        while found >= 0:
            rest = bytes(buffer[found:end])
            if mark.startswith(rest):
                return found
            if rest.startswith(mark) and rest[size] in _FLAGS and rest[size + 1 :] in (b"", b"\r"):
                return found
            found = buffer.find(b"\r", found + 1, end)
        return end


def _some(buffer: bytearray, at: int) -> str:
    return repr(bytes(buffer[at : at + 40]))


def _incomplete(at: int, end: int) -> tuple[int, int, int, int] | None:
    if end - at >= HEAD_LIMIT:
        raise LimitExceeded("msrp.head-size", f"a head of more than {HEAD_LIMIT} octets")
    return None
