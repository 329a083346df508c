"""Header lines to names and values, the fields that everybody reads being checked at the door."""

import re
from collections.abc import Callable

from imswire.base import ProtocolError
from imswire.sip.faults import BadMessage
from imswire.sip.headers import Headers, canonical, first_of, remember
from imswire.sip.values import CSeq, NameAddr, Via

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


# Most lines come again: in the next message of the dialog, in the next call of the same UE, in every call. What was
# read of a line, and that a field which everybody reads is well formed, is remembered by its text.
_LINES_LIMIT = 2048
LINE_LENGTH = 256
"""Characters of the longest line that is remembered."""
_lines: dict[str, tuple[str, str]] = {}


def read_lines(lines: list[str]) -> tuple[list[tuple[str, str]], bool]:
    """Canonical name and value of each line; and True when :func:`check_core` would find nothing to object to.

    Raises :class:`BadMessage` ``sip.header`` for what is no header line.
    """
    read = list(map(_lines.get, lines))
    sound = True
    if not all(read):
        if len(_lines) > _LINES_LIMIT:
            _lines.clear()
        for index, found in enumerate(read):
            if found is None:
                read[index], good = _read_line(lines[index])
                sound = sound and good
    return read, sound  # type: ignore[return-value]  # no None is left


def _read_line(line: str) -> tuple[tuple[str, str], bool]:
    name, colon, value = line.partition(":")
    key = _known.get(name) if colon else None
    if key is None:
        key = _key(name, colon)
    value = value.strip()
    if "\n" in value:
        value = _FOLD.sub(" ", value)
    found = (key, value)
    view = _CORE.get(key)
    if view is not None:
        try:
            view(value)
        except ProtocolError:
            return found, False  # it is looked at again when it is known that nothing worse is wrong
    if len(line) <= LINE_LENGTH:
        _lines[line] = found
    return found, True


def _top_via(value: str) -> None:
    Via.parse(first_of(value) if "," in value else value)


def _one_word(value: str) -> None:
    if not value or " " in value:
        raise BadMessage("sip.call-id", f"not a Call-ID: {value[:80]!r}")


_CORE: dict[str, Callable[[str], object]] = {
    "via": _top_via,
    "from": NameAddr.parse,
    "to": NameAddr.parse,
    "cseq": CSeq.parse,
    "call-id": _one_word,
}


def check_core(headers: Headers) -> None:
    """Top Via, From, To, Call-ID and CSeq are read by everybody: bad ones are refused at the door.

    The views remember what they read, so that those who ask later, and the next messages of the dialog, get it free.
    """
    for key, view in _CORE.items():
        view(headers.first(key))
