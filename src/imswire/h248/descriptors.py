"""The productions of RFC 3525 Annex B.2 below a command: each reads one descriptor from a cursor, past its name."""

import re
from collections.abc import Callable
from typing import Any, Final

from imswire.h248.cursor import UINT16, UINT32, Cursor
from imswire.h248.lexer import octets
from imswire.h248.model import (
    Audit,
    ErrorDescriptor,
    Event,
    Events,
    LocalControl,
    Media,
    ObservedEvents,
    Parameter,
    ServiceChange,
    Signal,
    Signals,
    Stream,
    TerminationState,
    Unknown,
)
from imswire.h248.tokens import (
    AUDIT_ITEMS,
    BUFFERS,
    CHANGE_PARTS,
    COMPLETIONS,
    CONTROL_PARTS,
    EVENT_PARTS,
    MEDIA_PARTS,
    METHODS,
    MODES,
    SERVICE_STATES,
    SIGNAL_LIST,
    SIGNAL_PARTS,
    SIGNAL_TYPES,
    STATE_PARTS,
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


def media(c: Cursor) -> Media:
    """``{ ... }`` of a Media descriptor: streams, or the parts of one implicit stream, and a termination state."""
    c.take("{")
    streams: list[Stream] = []
    parts: dict[str, Any] = {}
    state: TerminationState | None = None
    while True:
        token = c.tokens[c.at]
        match MEDIA_PARTS.find(token):
            case "Stream":
                c.at += 1
                streams.append(_stream(c))
            case "TerminationState":
                c.at += 1
                if state is not None:
                    c.refuse(448, "TerminationState appears twice")
                state = _state(c)
            case _:
                _stream_part(c, parts)
        if not c.more():
            break
    if not parts:
        return Media(tuple(streams), state)
    if streams:
        c.refuse(442, "Media holds both Stream descriptors and parts without one")
    return Media((Stream(1, **parts),), state, implicit_stream=True)


def _stream(c: Cursor) -> Stream:
    number = c.equal_number(UINT16)
    c.take("{")
    parts: dict[str, Any] = {}
    while True:
        _stream_part(c, parts)
        if not c.more():
            return Stream(number, **parts)


def _stream_part(c: Cursor, parts: dict[str, Any]) -> None:
    token = c.tokens[c.at]
    value: object
    if len(token) > 1 and token[-1] == "}":
        name = "local" if token[0] in "Ll" else "remote"
        c.at += 1
        value = octets(token)
    else:
        match MEDIA_PARTS.find(token):
            case "LocalControl":
                name = "control"
                c.at += 1
                value = _control(c)
            case "Statistics":
                name = "statistics"
                c.at += 1
                value = statistics(c)
            case _:
                c.fail("a part of a media descriptor")
    if name in parts:
        c.refuse(448, f"{name} appears twice in one stream")
    parts[name] = value


_controls: Final[dict[tuple[str, ...], LocalControl]] = {}
_REMEMBERED: Final = 256


def _control(c: Cursor) -> LocalControl:
    """``{ ... }`` of a LocalControl descriptor.

    It says what a realm is like, not what a call is like: the same tokens come with every call and are read once.
    """
    start, tokens = c.at, c.tokens
    try:
        end = tokens.index("}", start) + 1
    except ValueError:
        return _read_control(c)
    key = tuple(tokens[start:end])
    known = _controls.get(key)
    if known is not None:
        c.at = end
        return known
    control = _read_control(c)
    if c.at == end:  # not where a brace inside came first
        if len(_controls) >= _REMEMBERED:
            _controls.clear()
        _controls[key] = control
    return control


def _read_control(c: Cursor) -> LocalControl:
    c.take("{")
    mode: str | None = None
    reserve: dict[str, bool] = {}
    properties: list[Parameter] = []
    while True:
        token = c.tokens[c.at]
        part = "" if "/" in token else CONTROL_PARTS.find(token)
        if not part:
            properties.append(c.parameter(_package_item(c)))
        else:
            c.at += 1
            if part in reserve or (part == "Mode" and mode is not None):
                c.refuse(456, f"{part} appears twice")
            c.take("=")
            if part == "Mode":
                mode = MODES.find(c.tokens[c.at])
                if not mode:
                    c.fail("a stream mode", 517)
                c.at += 1
            else:
                reserve[part] = _on_off(c)
        if not c.more():
            return LocalControl(mode, reserve.get("ReservedValue"), reserve.get("ReservedGroup"), tuple(properties))


def _on_off(c: Cursor) -> bool:
    word = c.word("ON or OFF").lower()
    if word not in ("on", "off"):
        c.refuse(449, f"ON or OFF expected, {word[:40]} seen")
    return word == "on"


def _package_item(c: Cursor) -> str:
    """pkgdName: ``package/item``, either of which may be ``*``."""
    name = c.word("package/item")
    package, slash, item = name.partition("/")
    if not (package and slash and item):
        c.at -= 1
        c.fail("package/item")
    return name


def _state(c: Cursor) -> TerminationState:
    c.take("{")
    found: dict[str, str] = {}
    properties: list[Parameter] = []
    while True:
        part = STATE_PARTS.find(c.tokens[c.at])
        if not part:
            properties.append(c.parameter(_package_item(c)))
        else:
            c.at += 1
            if part in found:
                c.refuse(456, f"{part} appears twice")
            c.take("=")
            table = SERVICE_STATES if part == "ServiceStates" else BUFFERS
            found[part] = c.keyword(table, f"a value of {part}")
        if not c.more():
            return TerminationState(found.get("ServiceStates"), found.get("Buffer"), tuple(properties))


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
    name = _package_item(c)
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


def statistics(c: Cursor) -> tuple[Parameter, ...]:
    """``{ package/item [= value], ... }``."""
    c.take("{")
    found: list[Parameter] = []
    while True:
        name = _package_item(c)
        found.append(Parameter(name, c.value() if c.maybe("=") else None))
        if not c.more():
            return tuple(found)


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
