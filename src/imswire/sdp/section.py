"""The parts of a session description: a line, the values of ``c=`` and ``o=``, and a section with attributes."""

import re

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

    ``lines`` may be read freely; change it through the methods, which keep one line per thing changed.
    """

    __slots__ = ("_ending", "_first", "lines")

    _ORDER: dict[str, int] = _SESSION_ORDER

    def __init__(self, lines: list[Line], ending: str = "\r\n") -> None:
        self.lines = lines
        self._ending = ending
        self._first: dict[str, str] | None = None  # the first value of each attribute, once one was asked for

    @property
    def connection(self) -> Connection | None:
        """The first ``c=`` line of this section itself, or None."""
        for line in self.lines:
            if line.type == "c":
                return Connection.parse(line.value)
        return None

    def set_connection(self, addrtype: str, host: str) -> None:
        """Make ``c=IN addrtype host`` the only ``c=`` line of this section, in the place of the first one."""
        self._set_line("c", f"IN {addrtype} {host}")

    def get(self, name: str) -> str | None:
        """Value of the first attribute ``name``: ``""`` for a flag, None where there is none. Case-sensitive."""
        first = self._first
        if first is None:
            first = self._first = {}
            for line in self.lines:
                if line.type == "a":
                    named, _, value = line.value.partition(":")
                    first.setdefault(named, value)
        return first.get(name)

    def get_all(self, name: str) -> list[str]:
        """Values of every attribute ``name``, in order."""
        prefix = name + ":"
        found = []
        for line in self.lines:
            if line.type == "a":
                value = line.value
                if value.startswith(prefix):
                    found.append(value[len(prefix) :])
                elif value == name:
                    found.append("")
        return found

    def has(self, name: str) -> bool:
        """Whether an attribute ``name`` is there."""
        return self.get(name) is not None

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """All attributes as (name, value), the value ``""`` for a flag."""
        return [(name, value) for name, _, value in (ln.value.partition(":") for ln in self.lines if ln.type == "a")]

    def set_attribute(self, name: str, value: str | None = None) -> None:
        """Replace the first ``a=name`` in its place and drop the others, or append it; None makes a flag."""
        text = _attribute(name, value)
        kept: list[Line] = []
        done = False
        for line in self.lines:
            if line.type != "a" or not _is_attribute(line.value, name):
                kept.append(line)
            elif not done:
                kept.append(line if line.value == text else Line("a", text, line.ending))
                done = True
        self.lines[:] = kept
        self._first = None
        if not done:
            self._append_attribute(text)

    def add_attribute(self, name: str, value: str | None = None) -> None:
        """Append one more ``a=name`` after the last attribute."""
        self._append_attribute(_attribute(name, value))

    def remove_attribute(self, name: str) -> bool:
        """Drop every ``a=name``; tells whether there was one."""
        if self.get(name) is None:
            return False
        before = len(self.lines)
        self._first = None
        self.lines[:] = [ln for ln in self.lines if ln.type != "a" or not _is_attribute(ln.value, name)]
        return len(self.lines) != before

    def _append_attribute(self, text: str) -> None:
        self._first = None
        at = len(self.lines)
        for index in range(at - 1, -1, -1):
            if self.lines[index].type == "a":
                at = index + 1
                break
        self.lines.insert(at, Line("a", text, self._ending))

    def _set_line(self, letter: str, value: str) -> None:
        """Make ``letter=value`` the only line of its type, at the first one's place or where RFC 8866 5 wants it."""
        check_value(value)
        places = [index for index, line in enumerate(self.lines) if line.type == letter]
        if places:
            first = self.lines[places[0]]
            if first.value != value:
                self.lines[places[0]] = Line(letter, value, first.ending)
            for index in reversed(places[1:]):
                del self.lines[index]
            return
        rank = self._ORDER[letter]
        at = len(self.lines)
        for index, line in enumerate(self.lines):
            if self._ORDER.get(line.type, -1) > rank:
                at = index
                break
        self.lines.insert(at, Line(letter, value, self._ending))


def _is_attribute(value: str, name: str) -> bool:
    return value.startswith(name) and (len(value) == len(name) or value[len(name)] == ":")


def _attribute(name: str, value: str | None) -> str:
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise ProtocolError("sdp.attribute", f"{name!r} is no attribute name")
    if value is None:
        return name
    check_value(value)
    return f"{name}:{value}"


def check_value(value: str) -> None:
    """No value made here may break out of its line."""
    if "\r" in value or "\n" in value or "\0" in value:
        raise ProtocolError("sdp.octet", f"CR, LF and NUL are not allowed in a value: {value[:40]!r}")
