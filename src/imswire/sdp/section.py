"""The parts of a session description: a line, the values of ``c=`` and ``o=``, and a section with attributes."""

import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from imswire.base import ProtocolError

TOKEN = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
"""The ``token`` of RFC 8866 9 as a regular expression."""
_ATTRIBUTE_NAME = re.compile(TOKEN)
_SESSION_ORDER = {letter: rank for rank, letter in enumerate("vosiuepcbtrzka")}


class Line(Struct, frozen=True):
    """One line: a type letter, the text after ``=``, and the line end it came with."""

    type: str
    value: str
    ending: str = "\r\n"

    def __str__(self) -> str:
        return f"{self.type}={self.value}{self.ending}"


class Connection(Struct, frozen=True):
    """``c=<nettype> <addrtype> <connection-address>`` (RFC 8866 5.7); ``address`` as written."""

    net: str
    addrtype: str
    address: str

    @classmethod
    def parse(cls, value: str, offset: int = -1) -> "Connection":
        """Read the value of a ``c=`` line; raises ``sdp.connection``."""
        fields = value.split()
        if len(fields) != 3:
            raise ProtocolError("sdp.connection", f"c= needs nettype, addrtype and address: {value!r}", offset)
        return cls(*fields)

    def __str__(self) -> str:
        return f"{self.net} {self.addrtype} {self.address}"


_connection = lru_cache(maxsize=1024)(Connection.parse)  # the same ends come again and again


class Origin(Struct, frozen=True):
    """``o=`` (RFC 8866 5.2). The two numbers stay text: they may be longer than any machine integer."""

    username: str
    session_id: str
    session_version: str
    net: str
    addrtype: str
    address: str

    @classmethod
    def parse(cls, value: str, offset: int = -1) -> "Origin":
        """Read the value of an ``o=`` line; raises ``sdp.origin``."""
        fields = value.split()
        if len(fields) != 6:
            raise ProtocolError("sdp.origin", f"o= needs six fields, {len(fields)} seen", offset)
        for number in fields[1:3]:
            if not (number.isascii() and number.isdigit()):
                raise ProtocolError("sdp.origin", f"o= session id and version are digits, {number!r} seen", offset)
        return cls(*fields)

    def __str__(self) -> str:
        return " ".join((self.username, self.session_id, self.session_version, self.net, self.addrtype, self.address))


class Section:
    """A run of lines with attributes: the session part, or one m-section without its m-line.

    ``texts`` are the lines as they stand, ``a=setup:passive``, without what ends them: ``ending`` is that of all lines.
    Where a description mixes line ends it is LF, and a text bears the CR of its own, as new ones do (``mark``). Texts
    may be read freely; change them through the methods, which keep one line per thing changed.
    """

    __slots__ = ("_first", "ending", "mark", "texts")

    _ORDER: dict[str, int] = _SESSION_ORDER

    def __init__(self, texts: list[str], ending: str = "\r\n", mark: str = "") -> None:
        self.texts = texts
        self.ending = ending
        self.mark = mark
        self._first: dict[str, str] | None = None  # the first value of each attribute, once one was asked for

    @property
    def lines(self) -> list[Line]:
        """The lines as values, made anew each time; setting them replaces all."""
        return [line_of(text, self.ending) for text in self.texts]

    @lines.setter
    def lines(self, lines: list[Line]) -> None:
        self._first = None
        if any(line.ending != self.ending for line in lines) and self.ending == "\r\n":
            self.ending, self.mark = "\n", "\r"
        self.texts = [f"{line.type}={line.value}{line.ending.removesuffix(self.ending)}" for line in lines]

    @property
    def connection(self) -> Connection | None:
        """The first ``c=`` line of this section itself, or None."""
        for text in self.texts:
            if text[0] == "c":
                return _connection(text[2:].removesuffix("\r"))
        return None

    @property
    def connected(self) -> bool:
        """Whether this section itself has a ``c=`` line."""
        return "c" in [text[0] for text in self.texts]

    def set_connection(self, addrtype: str, host: str) -> None:
        """Make ``c=IN addrtype host`` the only ``c=`` line of this section, in the place of the first one."""
        self._set_line("c", f"IN {addrtype} {host}")

    @property
    def values(self) -> dict[str, str]:
        """The first value of each attribute, ``""`` for a flag; to be read only."""
        first = self._first
        if first is None:
            first = self._first = {}
            mark = self.mark
            for text in self.texts:
                if text[0] == "a":
                    name, _, value = (text[2:].removesuffix(mark) if mark else text[2:]).partition(":")
                    if name not in first:
                        first[name] = value
        return first

    def get(self, name: str) -> str | None:
        """Value of the first attribute ``name``: ``""`` for a flag, None where there is none. Case-sensitive."""
        first = self._first
        return (self.values if first is None else first).get(name)

    def get_all(self, name: str) -> list[str]:
        """Values of every attribute ``name``, in order."""
        first = self._first
        if name not in (self.values if first is None else first):
            return []
        found = [text[2:].rstrip("\r").partition(":") for text in self.texts if text.startswith(f"a={name}")]
        return [value for named, _, value in found if named == name]

    def has(self, name: str) -> bool:
        """Whether an attribute ``name`` is there."""
        first = self._first
        return name in (self.values if first is None else first)

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """All attributes as (name, value), the value ``""`` for a flag."""
        parts = [text[2:].rstrip("\r").partition(":") for text in self.texts if text[0] == "a"]
        return [(name, value) for name, _, value in parts]

    def set_attribute(self, name: str, value: str | None = None) -> None:
        """Replace the first ``a=name`` in its place and drop the others, or append it; None makes a flag."""
        self.change({name: "" if value is None else value})

    def remove_attribute(self, name: str) -> bool:
        """Drop every ``a=name``; tells whether there was one."""
        if not self.has(name):
            return False
        self.change({name: None})
        return True

    def change(self, wanted: Mapping[str, str | None]) -> None:
        """Give attributes other values, all in one pass: the first of each name is replaced in its place (a flag where
        the value is ``""``) and the others are dropped; where there was none it is appended, last. None drops all."""
        done: set[str] = set()
        if not wanted.keys().isdisjoint(self.values):
            self._replace(wanted, done)
        for name, value in wanted.items():
            if value is not None and name not in done:
                self._append_attribute(_attribute(name, value))

    def _replace(self, wanted: Mapping[str, str | None], done: set[str]) -> None:
        """The part of it that is about attributes that are there; ``done`` gets the names of those with a value."""
        kept: list[str] = []
        mark = self.mark
        for text in self.texts:
            name = (text[2:].removesuffix(mark) if mark else text[2:]).partition(":")[0] if text[0] == "a" else ""
            if name not in wanted:
                kept.append(text)
                continue
            value = wanted[name]
            if value is not None and name not in done:
                done.add(name)
                kept.append(_attribute(name, value) + ("\r" if text[-1] == "\r" else ""))
        self.texts = kept
        self._first = None

    def add_attribute(self, name: str, value: str | None = None) -> None:
        """Append one more ``a=name`` after the last attribute."""
        self._append_attribute(_attribute(name, value or ""))

    def _append_attribute(self, text: str) -> None:
        self._first = None
        texts = self.texts
        texts.insert(_after_attributes(texts), text + self.mark)

    def changed(self, wanted: Mapping[str, str | None], connection: str | None = None) -> list[str]:
        """The texts as :meth:`change` and, with ``IN addrtype host``, :meth:`set_connection` would leave them, made in
        one pass; the section itself stays as it is."""
        kept: list[str] = []
        done: set[str] = set()
        mark = self.mark
        line = connection
        for text in self.texts:
            letter = text[0]
            if letter == "a":
                name = (text[2:].removesuffix(mark) if mark else text[2:]).partition(":")[0]
                if name in wanted:
                    value = wanted[name]
                    if value is not None and name not in done:
                        done.add(name)
                        kept.append(_attribute(name, value) + ("\r" if text[-1] == "\r" else ""))
                    continue
            elif letter == "c" and connection is not None:
                if line is not None:
                    check_value(line)
                    kept.append(f"c={line}\r" if text[-1] == "\r" else f"c={line}")
                    line = None
                continue
            kept.append(text)
        for name, value in wanted.items():
            if value is not None and name not in done:
                kept.insert(_after_attributes(kept), _attribute(name, value) + mark)
        if line is not None:
            check_value(line)
            kept.insert(self._place_of("c", kept), f"c={line}{mark}")
        return kept

    def _place_of(self, letter: str, texts: list[str]) -> int:
        """Where RFC 8866 5 wants a line of a type that ``texts`` do not have."""
        rank = self._ORDER[letter]
        for index, text in enumerate(texts):
            if self._ORDER.get(text[0], -1) > rank:
                return index
        return len(texts)

    def _set_line(self, letter: str, value: str) -> None:
        """Make ``letter=value`` the only line of its type, at the first one's place or where RFC 8866 5 wants it."""
        check_value(value)
        texts = self.texts
        places = [index for index, text in enumerate(texts) if text[0] == letter]
        if places:
            mark = "\r" if texts[places[0]][-1] == "\r" else ""
            texts[places[0]] = f"{letter}={value}{mark}"
            for index in reversed(places[1:]):
                del texts[index]
            return
        texts.insert(self._place_of(letter, texts), f"{letter}={value}{self.mark}")


def line_of(text: str, ending: str) -> Line:
    """The line of a text of a section with that ending."""
    if text[-1] == "\r":
        return Line(text[0], text[2:-1], "\r\n")
    return Line(text[0], text[2:], ending)


def _after_attributes(texts: list[str]) -> int:
    """The place after the last attribute, the end where there is none."""
    for index in range(len(texts) - 1, -1, -1):
        if texts[index][0] == "a":
            return index + 1
    return len(texts)


@lru_cache(maxsize=64)  # the house writes a handful of attributes
def _flag(name: str) -> str:
    """The text of an attribute without a value."""
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise ProtocolError("sdp.attribute", f"{name!r} is no attribute name")
    return f"a={name}"


def _attribute(name: str, value: str) -> str:
    """The text of an attribute, a flag where there is no value."""
    flag = _flag(name)
    if not value:
        return flag
    check_value(value)
    return f"{flag}:{value}"


def check_value(value: str) -> None:
    """No value made here may break out of its line."""
    if "\r" in value or "\n" in value or "\0" in value:
        raise ProtocolError("sdp.octet", f"CR, LF and NUL are not allowed in a value: {value[:40]!r}")


def check_time(value: str, offset: int) -> None:
    """The value of a ``t=`` line (RFC 8866 5.9)."""
    fields = value.split()
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() for field in fields):
        raise ProtocolError("sdp.time", f"t= needs two numbers: {value!r}", offset)
