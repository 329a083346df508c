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
from imswire.sdp.section import TOKEN, Connection, Line, Origin, Section, check_time, check_value, line_of

__all__ = ["Connection", "Limits", "Line", "Media", "Origin", "Section", "SessionDescription"]

_MEDIA_LINE = re.compile(rf"({TOKEN}) ([0-9]{{1,9}})(?:/([0-9]{{1,9}}))? ({TOKEN}(?:/{TOKEN})*) +([^ ].*)")
_ANY = r"=[^\r\n\0]*\r\n"
_CONNECTION = r"c=[!-~]+ [!-~]+ [!-~]+\r\n"
_USUAL = re.compile(
    r"v=0\r\n"
    r"o=[!-~]+ [0-9]+ [0-9]+ [!-~]+ [!-~]+ [!-~]+\r\n"
    rf"s{_ANY}"
    rf"(?:[iuepb]{_ANY})*"
    rf"{_CONNECTION}"
    rf"(?:[iuepb]{_ANY})*"
    r"t=[0-9]+ [0-9]+\r\n"
    rf"(?:[abrzk]{_ANY})*"
    r"(?:m=[a-z]+ [0-9]{1,5} [A-Za-z0-9]+(?:/[A-Za-z0-9]+)* [!-~]+(?: [!-~]+)*\r\n"
    rf"(?:[aibk]{_ANY}|{_CONNECTION})*)*"
)
"""A body as nearly all are, where each line ends with CRLF: all that is checked of lines one by one holds, but for the
range of ports. It lets a short way through and refuses nothing."""
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

    __slots__ = ("_line", "_port_count", "_proto", "formats", "media", "port")

    _ORDER = _MEDIA_ORDER

    def __init__(
        self,
        media: str,
        port: int,
        proto: str,
        formats: tuple[str, ...],
        *,
        port_count: int | None = None,
        ending: str = "\r\n",
        mark: str = "",
    ) -> None:
        super().__init__([], ending, mark)
        self.media = media
        self.formats = formats
        self.port = _check_port(port)
        """Transport port, 0..65535; change it with :meth:`set_port`."""
        self._port_count = port_count
        self._proto = proto
        self._line: str | None = None

    @classmethod
    def parse_line(cls, text: str, offset: int = -1, ending: str = "\r\n", mark: str = "") -> Self:
        """Make an m-section without further lines from its m-line; raises ``sdp.media-line`` or ``sdp.port``."""
        value = text[2:].removesuffix("\r")
        match = _MEDIA_LINE.fullmatch(value)
        if match is None:
            raise ProtocolError("sdp.media-line", f"m= needs media, port, proto and formats: {value!r}", offset)
        media, port, count, proto, formats = match.groups()
        number = _check_port(int(port), offset)
        port_count = None if count is None else int(count)
        if port_count == 0:
            raise ProtocolError("sdp.media-line", "m= asks for zero ports", offset)
        section = cls(media, number, proto, tuple(formats.split()), port_count=port_count, ending=ending, mark=mark)
        section._line = text
        return section

    @classmethod
    def usual(cls, texts: list[str]) -> Self:
        """The m-section of texts that :data:`_USUAL` matched, its m-line first and without its type."""
        text = texts[0]
        media, port, proto, formats = text.split(" ", 3)
        section = cls.__new__(cls)
        section.ending = "\r\n"
        section.mark = ""
        section._first = None
        section.media = media
        section.formats = tuple(formats.split())
        section.port = int(port)
        section._port_count = None
        section._proto = proto
        section._line = f"m={text}"
        del texts[0]
        section.texts = texts
        return section

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
        return self.port == 0

    def set_port(self, port: int, port_count: int | None = None) -> None:
        """Set the port; raises ``sdp.port`` outside 0..65535."""
        if port != self.port or port_count != self._port_count:
            self.port = _check_port(port)
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
        return line_of(self.text(), self.ending)

    def text(self) -> str:
        """The same as it stands."""
        if self._line is None:
            count = "" if self._port_count is None else f"/{self._port_count}"
            self._line = f"m={self.media} {self.port}{count} {self._proto} {' '.join(self.formats)}{self.mark}"
        return self._line

    def text_with(self, proto: str, port: int | None) -> str:
        """The m-line with that transport and, unless None, that one port; the section itself stays as it is."""
        if proto != self._proto:
            check_value(proto)
        elif port is None or (port == self.port and self._port_count is None):
            return self.text()
        if port is None:
            place = f"{self.port}" if self._port_count is None else f"{self.port}/{self._port_count}"
        else:
            place = f"{_check_port(port)}"
        return f"m={self.media} {place} {proto} {' '.join(self.formats)}{self.mark}"

    def copy(self) -> "Media":
        """An independent copy."""
        twin = Media.__new__(Media)
        twin.texts = self.texts.copy()
        twin.ending = self.ending
        twin.mark = self.mark
        twin._first = self._first
        twin.media = self.media
        twin.formats = self.formats
        twin.port = self.port
        twin._port_count = self._port_count
        twin._proto = self._proto
        twin._line = self._line
        return twin


class SessionDescription(Section):
    """A whole session description: ``lines`` of the session part, then ``media``.

    Add and remove m-sections through ``media``; RFC 3264 8 forbids to remove one that the peer has seen.
    """

    __slots__ = ("_closed", "_tail", "media")

    def __init__(
        self, texts: list[str], media: list[Media] | None = None, ending: str = "\r\n", mark: str = ""
    ) -> None:
        super().__init__(texts, ending, mark)
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
        return cls([f"{letter}={value}" for letter, value in values])

    @classmethod
    def parse(cls, data: bytes, limits: Limits = Limits()) -> "SessionDescription":
        """Read a body; raises :class:`ProtocolError` ``sdp.*`` with the byte offset of the line at fault."""
        if len(data) > limits.size:
            raise LimitExceeded("sdp.oversize", f"{len(data)} octets, limit {limits.size}")
        text = data.decode("utf-8", "surrogateescape")
        if _USUAL.fullmatch(text) is not None:
            usual = cls._usual(text, limits)
            if usual is not None:
                return usual
        return cls._general(data, text, limits)

    @classmethod
    def _general(cls, data: bytes, text: str, limits: Limits) -> "SessionDescription":
        """Line by line; the same as :meth:`parse`, which has a short way before it."""
        if "\0" in text:
            raise ProtocolError("sdp.octet", "NUL is not allowed", data.index(0))
        if text.count("\r") != text.count("\r\n"):
            raise ProtocolError("sdp.octet", "CR without LF is not allowed", _lone_cr(data))
        # One kind of line end throughout is the rule; only a mixture leaves a CR at the end of lines.
        crlf = text.count("\r\n")
        uniform = crlf == text.count("\n")
        separator = "\r\n" if uniform and crlf else "\n"
        pieces = text.split(separator)
        self = cls([], ending="\r\n" if len(pieces) == 1 else separator, mark="\r" if crlf and not uniform else "")
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
            self._fill(pieces, limits)
        except ProtocolError as error:
            # Inside, offsets count lines; here they become bytes, which costs only where something is wrong.
            ends = len(separator)
            offset = sum(len(piece.encode("utf-8", "surrogateescape")) + ends for piece in pieces[: error.offset])
            raise type(error)(error.reason, error.hint, offset) from None
        return self

    @classmethod
    def _usual(cls, text: str, limits: Limits) -> "SessionDescription | None":
        """The short way for a body that :data:`_USUAL` has checked line by line; None for what it does not check."""
        session, *sections = text[:-2].split("\r\nm=")
        media = [Media.usual(section.split("\r\n")) for section in sections]
        texts = session.split("\r\n")
        lines = len(texts)
        for one in media:
            lines += 1 + len(one.texts)
            if one.port > 65_535:
                return None
        return None if lines > limits.lines or len(media) > limits.media else cls(texts, media)

    def _fill(self, pieces: list[str], limits: Limits) -> None:
        """Sort lines into sections, checking each."""
        texts = self.texts
        media = self.media
        for index, piece in enumerate(pieces):
            if piece[1:2] != "=" or piece[0] not in _LETTERS:
                hint = piece.removesuffix("\r")[:40]
                raise ProtocolError("sdp.line", f"a line is one letter, '=' and a value: {hint!r}", index)
            letter = piece[0]
            if letter == "a":
                texts.append(piece)
            elif letter == "m":
                if len(media) == limits.media:
                    raise LimitExceeded("sdp.too-many-media", f"more than {limits.media} m-lines", index)
                section = Media.parse_line(piece, index, self.ending, self.mark)
                media.append(section)
                texts = section.texts
            else:
                texts.append(piece)
                value = piece[2:].removesuffix("\r")
                if letter == "c":
                    Connection.parse(value, index)
                elif letter == "o":
                    Origin.parse(value, index)
                elif letter == "t":
                    check_time(value, index)
                if media and letter in "vost":
                    raise ProtocolError("sdp.order", f"{letter}= after the first m=", index)
        self._check_whole()

    def _check_whole(self) -> None:
        """What no single line shows: which lines are there, and how often."""
        letters = [text[0] for text in self.texts]
        if letters[:1] != ["v"] or self.texts[0][2:].strip() != "0" or letters.count("v") != 1:
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
        return self.joined(self.texts, [[media.text(), *media.texts] for media in self.media])

    def joined(self, session: list[str], sections: list[list[str]]) -> bytes:
        """The octets with other texts: of the session part, and of each m-section with its m-line first."""
        ending = self.ending
        parts = session.copy()
        for media, texts in zip(self.media, sections, strict=True):
            if media.ending != ending:
                return self._mixed_bytes(session, sections)
            parts += texts
        if self._closed:
            parts.append(self._tail)
        else:
            parts[-1] = parts[-1].removesuffix("\r")
        return ending.join(parts).encode("utf-8", "surrogateescape")

    def _mixed_bytes(self, session: list[str], sections: list[list[str]]) -> bytes:
        """The same where sections from elsewhere have other line ends."""
        ends = [(session, self.ending)]
        ends += [(texts, media.ending) for media, texts in zip(self.media, sections, strict=True)]
        whole = "".join([text + ending for texts, ending in ends for text in texts])
        if not self._closed:
            whole = whole.removesuffix("\n").removesuffix("\r")
        return f"{whole}{self._tail}".encode("utf-8", "surrogateescape")

    @property
    def origin(self) -> Origin:
        """The ``o=`` line."""
        for text in self.texts:
            if text[0] == "o":
                return Origin.parse(text[2:].removesuffix("\r"))
        raise ProtocolError("sdp.origin", "no o= line")

    def set_origin(self, origin: Origin) -> None:
        """Replace the ``o=`` line."""
        self._set_line("o", str(origin))

    @property
    def name(self) -> str:
        """The session name, ``s=``."""
        return next((text[2:].removesuffix("\r") for text in self.texts if text[0] == "s"), "")

    def address_of(self, media: Media) -> Connection:
        """The connection that counts for ``media``: its own, else the session's; raises ``sdp.connection``."""
        connection = media.connection or self.connection
        if connection is None:
            raise ProtocolError("sdp.connection", f"no c= for m={media.media}")
        return connection

    def add_media(self, media: str, port: int, proto: str, formats: tuple[str, ...] = ("*",)) -> Media:
        """Append an m-section and return it."""
        section = Media(media, port, proto, formats, ending=self.ending, mark=self.mark)
        self.media.append(section)
        return section

    def copy(self) -> "SessionDescription":
        """An independent copy: changing it leaves this one as it is."""
        twin = SessionDescription.__new__(SessionDescription)
        twin.texts = self.texts.copy()
        twin.ending = self.ending
        twin.mark = self.mark
        twin._first = self._first
        twin.media = [media.copy() for media in self.media]
        twin._closed = self._closed
        twin._tail = self._tail
        return twin


def _lone_cr(data: bytes) -> int:
    at = data.find(b"\r")
    while data[at + 1 : at + 2] == b"\n":
        at = data.find(b"\r", at + 1)
    return at


def _check_port(port: int, offset: int = -1) -> int:
    if not 0 <= port <= 65_535:
        raise ProtocolError("sdp.port", f"port {port} is outside 0..65535", offset)
    return port
