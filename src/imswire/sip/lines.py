"""Header lines to names and values, the fields that everybody reads being checked at the door."""

import re
from collections.abc import Callable

from imswire.sip.faults import BadMessage
from imswire.sip.headers import Field, Headers, canonical, first_of, remember
from imswire.sip.values import cseq_of, name_addr_of, via_of

_HEADER_NAME = re.compile(r"([A-Za-z0-9.!%*_+`'~-]+)[ \t]*")
_FOLD = re.compile(r"[ \t]*\r\n[ \t]+")


def unfold(lines: list[str]) -> list[str]:
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


_known: dict[str, str] = {}


def _key(name: str, colon: str) -> str:
    """The canonical form of a name as it stands before the colon, checked (RFC 3261 25.1 HCOLON allows white space)."""
    if not colon:
        raise BadMessage("sip.header", f"line without a colon: {name[:80]!r}")
    match = _HEADER_NAME.fullmatch(name)
    if match is None:
        raise BadMessage("sip.header", f"{name[:80]!r} is not a header name")
    key = canonical(match.group(1))
    remember(_known, name, key)
    return key


def read_line(line: str) -> Field:
    """Canonical name and value of one header line; raises :class:`BadMessage` ``sip.header`` for what is none."""
    name, colon, value = line.partition(":")
    key = _known.get(name) if colon else None
    if key is None:
        key = _key(name, colon)
    value = value.strip()
    return key, _FOLD.sub(" ", value) if "\n" in value else value


LINE_LENGTH = 256
"""Characters of the longest line that is remembered."""
MORE_VIAS = 7
"""Commas of the Via line with most values that :class:`KnownLines` takes."""
_LINES_LIMIT = 2048


class KnownLines(dict[str, Field]):
    """Canonical name and value of header lines that :func:`check_core` would not object to, by their text.

    Most lines come again: in the next message of the dialog, in the next call of the same UE. So what
    was read and checked once is remembered. A line is read when it is first asked for; ProtocolError is raised for
    what is folded, broken or seldom, and the message is then read from its beginning without what is remembered.
    """

    def __missing__(self, line: str) -> Field:
        if "\r" in line or "\n" in line:
            raise BadMessage("sip.line-end")
        found = read_line(line)
        view = _USUAL.get(found[0])
        if view is not None:
            view(found[1])
        if len(line) <= LINE_LENGTH:
            if len(self) >= _LINES_LIMIT:
                self.clear()
            self[line] = found
        return found


def _top_via(value: str) -> None:
    via_of(first_of(value) if "," in value else value)


def _few_vias(value: str) -> None:
    if "," in value:
        if value.count(",") > MORE_VIAS:
            raise BadMessage("sip.oversize")
        value = first_of(value)
    via_of(value)


def _one_word(value: str) -> None:
    if not value or " " in value:
        raise BadMessage("sip.call-id", f"not a Call-ID: {value[:80]!r}")


_CORE: dict[str, Callable[[str], object]] = {
    "via": _top_via,
    "from": name_addr_of,
    "to": name_addr_of,
    "cseq": cseq_of,
    "call-id": _one_word,
}
_USUAL = {**_CORE, "via": _few_vias}


def check_core(headers: Headers) -> None:
    """Top Via, From, To, Call-ID and CSeq are read by everybody: bad ones are refused at the door.

    The views remember what they read, so that those who ask later, and the next messages of the dialog, get it free.
    """
    for key, view in _CORE.items():
        view(headers.first(key))
