"""The short way through the parser, for messages as nearly everybody writes them.

Start lines, header lines and the orders in which header fields stand come again in call after call. What was read and
checked of each is remembered by its text, in bounded room; a message whose parts are known is put together from them.
Whatever is seldom, doubtful or wrong is left to the general way, which knows nothing of what is remembered here and has
the words for every fault: :func:`usual` gives what :func:`imswire.sip.parser.parse` would, or None.
"""

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.sip.faults import BadMessage, Limits
from imswire.sip.headers import Headers
from imswire.sip.lines import LINE_LENGTH, MORE_VIAS, KnownLines
from imswire.sip.message import Request, Response
from imswire.sip.start import Start, read_start
from imswire.sip.values import cseq_of

MANDATORY = ("via", "from", "to", "call-id", "cseq")
SINGLE = frozenset({"from", "to", "call-id", "cseq", "max-forwards", "content-type"})
"""Header fields that a message has at most once (RFC 3261 20, 7.3.1); Content-Length is counted apart."""

_STARTS_LIMIT = 1024
_SHAPES_LIMIT = 512


class Shape(Struct, frozen=True):
    """Canonical names in their order, which hold what every message needs and nothing twice that may stand but once.

    ``index`` is the place of the first line of each name, ``cseq`` and ``length`` those of CSeq and Content-Length.
    """

    index: dict[str, int]
    cseq: int
    length: int
    vias: int


class KnownStarts(dict[str, Start]):
    """What start lines say, by their text."""

    def __missing__(self, start: str) -> Start:
        found = read_start(start)
        if "\r" in start or "\n" in start:
            raise BadMessage("sip.line-end")
        if len(start) <= LINE_LENGTH:
            if len(self) >= _STARTS_LIMIT:
                self.clear()
            self[start] = found
        return found


class KnownShapes(dict[tuple[str, ...], Shape]):
    """Shapes by their names; ProtocolError is raised for what is none."""

    def __missing__(self, keys: tuple[str, ...]) -> Shape:
        index = {key: len(keys) - 1 - back for back, key in enumerate(reversed(keys))}
        if not index.keys() >= {*MANDATORY, "content-length"}:
            raise BadMessage("sip.missing")
        if any(keys.count(key) > 1 for key in (*SINGLE, "content-length")):
            raise BadMessage("sip.repeated")
        found = Shape(index, index["cseq"], index["content-length"], keys.count("via"))
        if len(self) >= _SHAPES_LIMIT:
            self.clear()
        self[keys] = found
        return found


_line = KnownLines().__getitem__
_start = KnownStarts().__getitem__
_shape = KnownShapes().__getitem__


def usual(head: bytes, body: bytes, limits: Limits) -> Request | Response | None:
    """The message with that header section and what came after it; None where the general way is to be gone."""
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    start = lines.pop(0)
    if len(head) > limits.header_line or len(lines) > limits.headers or len(start) > limits.uri:
        return None
    try:
        method, text, status = _start(start)
        fields = list(map(_line, lines))
        keys = [field[0] for field in fields]
        shape = _shape(tuple(keys))
    except ProtocolError:
        return None
    if fields[shape.length][1] != str(len(body)) or shape.vias > limits.vias // (1 + MORE_VIAS):
        return None
    headers = Headers.from_lines(keys, fields, lines, shape.index)
    if not method:
        return Response(status, text, headers, body)
    return Request(method, text, headers, body) if method == cseq_of(fields[shape.cseq][1]).method else None
