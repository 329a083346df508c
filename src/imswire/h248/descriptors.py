"""The productions of RFC 3525 Annex B.2 below a command: each reads one descriptor from a cursor, past its name.

Media with all that it nests is in :mod:`imswire.h248.media_descriptor`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from imswire.h248.cursor import UINT16, UINT32, Cursor
from imswire.h248.media_descriptor import package_item
from imswire.h248.model import (
    Audit,
    ErrorDescriptor,
    Event,
    Events,
    ObservedEvents,
    Parameter,
    ServiceChange,
    Signal,
    Signals,
    Unknown,
)
from imswire.h248.tokens import (
    AUDIT_ITEMS,
    CHANGE_PARTS,
    COMPLETIONS,
    EVENT_PARTS,
    METHODS,
    SIGNAL_LIST,
    SIGNAL_PARTS,
    SIGNAL_TYPES,
    Keywords,
)

_TIMESTAMP: Final = re.compile(r"[0-9]{8}T[0-9]{8}", re.IGNORECASE)


def error(c: Cursor) -> ErrorDescriptor:
    """``= code { "text" }``."""
    c.take("=")
    code = c.number(9999)
    c.take("{")
    token = c.tokens[c.at]
    text = ""
    if len(token) > 1 and token[0] == '"':
        text = token[1:-1]
        c.at += 1
    c.take("}")
    return ErrorDescriptor(code, text)


def events(c: Cursor) -> Events:
    """Nothing (clears all), or ``= request-id { event, ... }``."""
    if c.tokens[c.at] != "=":
        return Events()
    request = _request_id(c)
    c.take("{")
    found: list[Event] = []
    while True:
        name, parameters, stream = _parametrised(c, EVENT_PARTS)
        found.append(Event(name, parameters, stream))
        if not c.more():
            return Events(request, tuple(found))


def _request_id(c: Cursor) -> int:
    c.take("=")
    return UINT32 if c.maybe("*") else c.number()


def observed(c: Cursor) -> ObservedEvents:
    """``= request-id { [timestamp :] event, ... }``."""
    request = _request_id(c)
    c.take("{")
    found: list[Event] = []
    while True:
        timestamp = None
        if c.tokens[c.at + 1] == ":" and _TIMESTAMP.fullmatch(c.tokens[c.at]):
            timestamp = c.tokens[c.at].upper()
            c.at += 2
        name, parameters, stream = _parametrised(c, EVENT_PARTS)
        found.append(Event(name, parameters, stream, timestamp))
        if not c.more():
            return ObservedEvents(request, tuple(found))


def signals(c: Cursor) -> Signals:
    """``{ }`` or, as some peers write it, nothing (stops all); or ``{ signal, ... }``."""
    if c.tokens[c.at] in (",", "}"):
        return Signals()
    c.take("{")
    if c.maybe("}"):
        return Signals()
    found: list[Signal] = []
    lists: list[Unknown] = []
    while True:
        if SIGNAL_LIST.find(c.tokens[c.at]):
            c.at += 1
            lists.append(Unknown("SignalList", c.raw()))
        else:
            name, parameters, stream = _parametrised(c, SIGNAL_PARTS)
            found.append(Signal(name, parameters, stream))
        if not c.more():
            return Signals(tuple(found), tuple(lists))


def _parametrised(c: Cursor, table: Keywords) -> tuple[str, tuple[Parameter, ...], int | None]:
    """An event or signal: name, parameters, stream."""
    name = package_item(c)
    if c.tokens[c.at] != "{":
        return name, (), None
    c.at += 1
    stream: int | None = None
    parameters: list[Parameter] = []
    while True:
        part = table.find(c.tokens[c.at])
        if part == "Stream":
            c.at += 1
            stream = c.equal_number(UINT16)
        elif part:
            c.at += 1
            parameters.append(_special(c, part))
        else:
            parameters.append(c.parameter(c.word("a parameter")))
        if not c.more():
            return name, tuple(parameters), stream


def _special(c: Cursor, part: str) -> Parameter:
    """The parameters of events and signals that are tokens of the grammar."""
    match part:
        case "Embed":
            return Parameter(part, body=c.body())
        case "KeepActive":
            return Parameter(part)
        case "DigitMap":
            if c.tokens[c.at] == "=" and c.tokens[c.at + 1] == "{":
                c.at += 1
                return Parameter(part, body=c.body())
            return Parameter(part, c.equal_word("a digit map name"))
        case "SignalType":
            c.take("=")
            return Parameter(part, c.keyword(SIGNAL_TYPES, "a signal type"))
        case "Duration":
            return Parameter(part, str(c.equal_number(UINT16)))
        case _:
            c.take("=")
            c.take("{")
            reasons = [c.keyword(COMPLETIONS, "a notification reason")]
            while c.more():
                reasons.append(c.keyword(COMPLETIONS, "a notification reason"))
            return Parameter(part, tuple(reasons), listing="or")


def audit(c: Cursor) -> Audit:
    """``{ }`` or ``{ item, ... }``."""
    c.take("{")
    if c.maybe("}"):
        return Audit()
    items = [c.keyword(AUDIT_ITEMS, "a descriptor to audit")]
    while c.more():
        items.append(c.keyword(AUDIT_ITEMS, "a descriptor to audit"))
    return Audit(tuple(items))


def packages(c: Cursor) -> tuple[str, ...]:
    """``{ name-version, ... }``."""
    c.take("{")
    found: list[str] = []
    while True:
        item = c.word("a package")
        name, _, version = item.rpartition("-")
        if not name or not version.isdigit():
            c.refuse(c.level, f"package-version expected, {item[:40]} seen")
        found.append(item)
        if not c.more():
            return tuple(found)


def services(c: Cursor) -> ServiceChange:
    """``{ parameter, ... }`` of a ServiceChange."""
    c.take("{")
    found: dict[str, Any] = {}
    extensions: list[Parameter] = []
    while True:
        part = CHANGE_PARTS.find(c.tokens[c.at])
        if part:
            c.at += 1
            key, read = _CHANGES[part]
            if key in found:
                c.refuse(456, f"{part} appears twice")
            found[key] = read(c)
        elif _TIMESTAMP.fullmatch(c.tokens[c.at]):
            found["timestamp"] = c.word().upper()
        elif c.tokens[c.at][:2].upper() in ("X-", "X+"):
            extensions.append(c.parameter(c.word()))
        else:
            c.fail("a ServiceChange parameter", 446)
        if not c.more():
            return ServiceChange(extensions=tuple(extensions), **found)


def _method(c: Cursor) -> str:
    word = c.equal_word("a method")
    found = METHODS.find(word)
    if not found and word[:2].upper() not in ("X-", "X+"):
        c.refuse(449, f"method cannot be {word[:40]}")
    return found or word


def _equal_value(c: Cursor) -> str:
    c.take("=")
    return c.value()


def _equal_identity(c: Cursor) -> str:
    c.take("=")
    return c.identity()


def _profile(c: Cursor) -> str:
    return c.equal_word("profile/version")


_CHANGES: Final[dict[str, tuple[str, Callable[[Cursor], object]]]] = {
    "Method": ("method", _method),
    "Reason": ("reason", _equal_value),
    "Delay": ("delay", Cursor.equal_number),
    "ServiceChangeAddress": ("address", _equal_identity),
    "Profile": ("profile", _profile),
    "MgcIdToTry": ("mgc_id", _equal_identity),
    "Version": ("version", lambda c: c.equal_number(99)),
}
