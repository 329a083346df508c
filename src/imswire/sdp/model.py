"""Session descriptions as a lossless list of lines (RFC 8866), in which only what is touched changes.

An unchanged parse serialises to the bytes that came in: line ends (CRLF or LF, mixed too), a missing last line end,
blank lines after the end and lines of an unknown type are kept. Text is UTF-8 with surrogateescape, so any other
charset survives as well.

Checked while parsing: ``v=`` is the first line and 0; ``o=`` and ``s=`` occur exactly once and before any ``m=``;
``t=`` occurs; ``c=``, ``o=`` and ``m=`` lines follow their grammar; every m-section in use has a connection. The
order of the other session-level lines (RFC 8866 5) is not enforced: refusing a call because ``b=`` stands before
``c=`` would help nobody, and the order is kept for whoever minds it.
"""

import re
from dataclasses import dataclass
from typing import Self

from imswire.base import LimitExceeded, ProtocolError
from imswire.sdp.section import TOKEN, Connection, Line, Origin, Section, check_value

__all__ = ["Connection", "Limits", "Line", "Media", "Origin", "Section", "SessionDescription"]

_MEDIA_LINE = re.compile(rf"({TOKEN}) ([0-9]{{1,9}})(?:/([0-9]{{1,9}}))? ({TOKEN}(?:/{TOKEN})*) +([^ ].*)")
_MEDIA_ORDER = {letter: rank for rank, letter in enumerate("icbka")}
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class Limits:
    """Bounds of one session description: octets of the whole body, lines in it, and m-lines among those."""

    size: int = 65_536
    lines: int = 2_048
    media: int = 64


class Media(Section):
    """One m-section. ``lines`` are the lines after its m-line.

    ``port`` 0 means rejected or removed (RFC 3264 6 and 8.2); ``port_count`` is the number after ``/`` or None.
    """

    __slots__ = ("_line", "_port", "_port_count", "_proto", "formats", "media")

    _ORDER = _MEDIA_ORDER

    def __init__(
        self,
        media: str,
        port: int,
        proto: str,
        formats: tuple[str, ...],
        lines: list[Line] | None = None,
        *,
        port_count: int | None = None,
        ending: str = "\r\n",
    ) -> None:
        super().__init__([] if lines is None else lines, ending)
        self.media = media
        self.formats = formats
        self._port = _check_port(port)
        self._port_count = port_count
        self._proto = proto
        self._line: Line | None = None

    @classmethod
    def parse_line(cls, line: Line, offset: int = -1) -> Self:
        """Make an m-section without further lines from its m-line; raises ``sdp.media-line`` or ``sdp.port``."""
        match = _MEDIA_LINE.fullmatch(line.value)
        if match is None:
            raise ProtocolError("sdp.media-line", f"m= needs media, port, proto and formats: {line.value!r}", offset)
        media, port, count, proto, formats = match.groups()
        section = cls.__new__(cls)
        section.lines = []
        section._first = None
        section._ending = line.ending
        section.media = media
        section.formats = tuple(formats.split())
        section._port = _check_port(int(port), offset)
        section._port_count = None if count is None else int(count)
        if section._port_count == 0:
            raise ProtocolError("sdp.media-line", "m= asks for zero ports", offset)
        section._proto = proto
        section._line = line
        return section

    @property
    def port(self) -> int:
        """Transport port, 0..65535."""
        return self._port

    @property
    def port_count(self) -> int | None:
        """Number of ports after ``/``, None where the m-line gives none."""
        return self._port_count

    @property
    def proto(self) -> str:
        """Transport protocol as written, ``TCP/TLS/MSRP`` for one."""
        return self._proto

    @property
    def rejected(self) -> bool:
        """Port 0: refused in an answer, removed or not used in an offer (RFC 3264 5.1, 6, 8.2)."""
        return self._port == 0

    def set_port(self, port: int, port_count: int | None = None) -> None:
        """Set the port; raises ``sdp.port`` outside 0..65535."""
        if port != self._port or port_count != self._port_count:
            self._port = _check_port(port)
            self._port_count = port_count
            self._line = None

    def set_proto(self, proto: str) -> None:
        """Set the transport protocol."""
        if proto != self._proto:
            check_value(proto)
            self._proto = proto
            self._line = None

    def line(self) -> Line:
        """The m-line: the one that was read as long as nothing in it changed."""
        if self._line is None:
            count = "" if self._port_count is None else f"/{self._port_count}"
            value = f"{self.media} {self._port}{count} {self._proto} {' '.join(self.formats)}"
            self._line = Line("m", value, self._ending)
        return self._line

    def copy(self) -> "Media":
        """An independent copy (lines are shared values)."""
        twin = Media.__new__(Media)
        twin.lines = self.lines.copy()
        twin._first = None
        twin._ending = self._ending
        twin.media = self.media
        twin.formats = self.formats
        twin._port = self._port
        twin._port_count = self._port_count
        twin._proto = self._proto
        twin._line = self._line
        return twin


class SessionDescription(Section):
    """A whole session description: ``lines`` of the session part, then ``media``.

    Add and remove m-sections through ``media``; RFC 3264 8 forbids to remove one that the peer has seen.
    """

    __slots__ = ("_closed", "_tail", "media")

    def __init__(self, lines: list[Line], media: list[Media] | None = None, ending: str = "\r\n") -> None:
        super().__init__(lines, ending)
        self.media: list[Media] = [] if media is None else media
        self._closed = True
        self._tail = ""

    @classmethod
    def create(
        cls, addrtype: str, host: str, *, session_id: int, session_version: int = 1, username: str = "-"
    ) -> "SessionDescription":
        """A new description without media for an unicast session: v, o, s, c and t lines (RFC 3264 5)."""
        origin = f"{username} {session_id} {session_version} IN {addrtype} {host}"
        check_value(origin)
        values = (("v", "0"), ("o", origin), ("s", "-"), ("c", f"IN {addrtype} {host}"), ("t", "0 0"))
        return cls([Line(letter, value) for letter, value in values])

    @classmethod
    def parse(cls, data: bytes, limits: Limits = Limits()) -> "SessionDescription":
        """Read a body; raises :class:`ProtocolError` ``sdp.*`` with the byte offset of the line at fault."""
        if len(data) > limits.size:
            raise LimitExceeded("sdp.oversize", f"{len(data)} octets, limit {limits.size}")
        text = data.decode("utf-8", "surrogateescape")
        if "\0" in text:
            raise ProtocolError("sdp.octet", "NUL is not allowed", data.index(0))
        if text.count("\r") != text.count("\r\n"):
            raise ProtocolError("sdp.octet", "CR without LF is not allowed", _lone_cr(data))
        # One kind of line end throughout is the rule; only a mixture costs a look at every line.
        crlf = text.count("\r\n")
        uniform = crlf == text.count("\n")
        separator = "\r\n" if uniform and crlf else "\n"
        pieces = text.split(separator)
        self = cls([], ending="\r\n" if crlf or len(pieces) == 1 else "\n")
        self._closed = pieces[-1] == ""
        if self._closed:
            del pieces[-1]
            tail = len(pieces)
            while tail and pieces[tail - 1] in ("", "\r"):
                tail -= 1
            self._tail = "".join(piece + separator for piece in pieces[tail:])
            del pieces[tail:]
        if len(pieces) > limits.lines:
            raise LimitExceeded("sdp.too-many-lines", f"{len(pieces)} lines, limit {limits.lines}")
        if not pieces:
            raise ProtocolError("sdp.version", "an empty body", 0)
        try:
            self._fill(pieces, None if uniform else "\r", limits)
        except ProtocolError as error:
            # Inside, offsets count lines; here they become bytes, which costs only where something is wrong.
            ends = len(separator)
            offset = sum(len(piece.encode("utf-8", "surrogateescape")) + ends for piece in pieces[: error.offset])
            raise type(error)(error.reason, error.hint, offset) from None
        return self

    def _fill(self, pieces: list[str], strip: str | None, limits: Limits) -> None:
        """Sort lines into sections. ``strip`` is what each piece may still carry of its line end."""
        lines = self.lines
        media = self.media
        ending = self._ending
        for index, piece in enumerate(pieces):
            if piece[1:2] != "=" or piece[0] not in _LETTERS:
                raise ProtocolError("sdp.line", f"a line is one letter, '=' and a value: {piece[:40]!r}", index)
            if strip is not None:
                ending = "\r\n" if piece.endswith(strip) else "\n"
                piece = piece.removesuffix(strip)
            letter = piece[0]
            line = Line(letter, piece[2:], ending)
            if letter == "a":
                lines.append(line)
            elif letter == "m":
                if len(media) == limits.media:
                    raise LimitExceeded("sdp.too-many-media", f"more than {limits.media} m-lines", index)
                section = Media.parse_line(line, index)
                media.append(section)
                lines = section.lines
            else:
                lines.append(line)
                if letter == "c":
                    Connection.parse(line.value, index)
                elif letter == "o":
                    Origin.parse(line.value, index)
                elif letter == "t":
                    _check_time(line.value, index)
                if media and letter in "vost":
                    raise ProtocolError("sdp.order", f"{letter}= after the first m=", index)
        self._check_whole()

    def _check_whole(self) -> None:
        """What no single line shows: which lines are there, and how often."""
        letters = [line.type for line in self.lines]
        if letters[:1] != ["v"] or self.lines[0].value.strip() != "0" or letters.count("v") != 1:
            raise ProtocolError("sdp.version", "the first line is v=0, and no other line is v=", 0)
        for letter, slug in (("o", "sdp.origin"), ("s", "sdp.session-name")):
            if letters.count(letter) != 1:
                raise ProtocolError(slug, f"{letters.count(letter)} {letter}= lines, one expected", 0)
        if "t" not in letters:
            raise ProtocolError("sdp.time", "no t= line", 0)
        connections = letters.count("c")
        if connections > 1:
            raise ProtocolError("sdp.connection", "more than one c= at session level", 0)
        if not connections:
            for media in self.media:
                if media.port and media.connection is None:
                    raise ProtocolError("sdp.connection", f"no c= for m={media.media}", 0)

    def to_bytes(self) -> bytes:
        """Serialise; byte-identical to what was parsed where nothing was changed."""
        parts: list[str] = []
        for section in (self, *self.media):
            if isinstance(section, Media):
                line = section.line()
                parts += (line.type, "=", line.value, line.ending)
            for line in section.lines:
                parts += (line.type, "=", line.value, line.ending)
        if not self._closed and parts:
            parts[-1] = ""
        parts.append(self._tail)
        return "".join(parts).encode("utf-8", "surrogateescape")

    @property
    def origin(self) -> Origin:
        """The ``o=`` line."""
        for line in self.lines:
            if line.type == "o":
                return Origin.parse(line.value)
        raise ProtocolError("sdp.origin", "no o= line")

    def set_origin(self, origin: Origin) -> None:
        """Replace the ``o=`` line."""
        self._set_line("o", str(origin))

    @property
    def name(self) -> str:
        """The session name, ``s=``."""
        return next((line.value for line in self.lines if line.type == "s"), "")

    def address_of(self, media: Media) -> Connection:
        """The connection that counts for ``media``: its own, else the session's; raises ``sdp.connection``."""
        connection = media.connection or self.connection
        if connection is None:
            raise ProtocolError("sdp.connection", f"no c= for m={media.media}")
        return connection

    def add_media(self, media: str, port: int, proto: str, formats: tuple[str, ...] = ("*",)) -> Media:
        """Append an m-section and return it."""
        section = Media(media, port, proto, formats, ending=self._ending)
        self.media.append(section)
        return section

    def copy(self) -> "SessionDescription":
        """An independent copy: changing it leaves this one as it is."""
        twin = SessionDescription(self.lines.copy(), [media.copy() for media in self.media], self._ending)
        twin._closed = self._closed
        twin._tail = self._tail
        return twin


def _check_time(value: str, offset: int) -> None:
    fields = value.split()
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() for field in fields):
        raise ProtocolError("sdp.time", f"t= needs two numbers: {value!r}", offset)


def _lone_cr(data: bytes) -> int:
    at = data.find(b"\r")
    while data[at + 1 : at + 2] == b"\n":
        at = data.find(b"\r", at + 1)
    return at


def _check_port(port: int, offset: int = -1) -> int:
    if not 0 <= port <= 65_535:
        raise ProtocolError("sdp.port", f"port {port} is outside 0..65535", offset)
    return port
