"""The Media descriptor of RFC 3525 Annex B.2 with all that it nests, read from a cursor past its name."""

from typing import Any, Final

from imswire.h248.cursor import UINT16, Cursor
from imswire.h248.lexer import octets
from imswire.h248.model import LocalControl, Media, Parameter, Stream, TerminationState
from imswire.h248.tokens import BUFFERS, CONTROL_PARTS, MEDIA_PARTS, MODES, SERVICE_STATES, STATE_PARTS


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
            properties.append(c.parameter(package_item(c)))
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


def _state(c: Cursor) -> TerminationState:
    c.take("{")
    found: dict[str, str] = {}
    properties: list[Parameter] = []
    while True:
        part = STATE_PARTS.find(c.tokens[c.at])
        if not part:
            properties.append(c.parameter(package_item(c)))
        else:
            c.at += 1
            if part in found:
                c.refuse(456, f"{part} appears twice")
            c.take("=")
            table = SERVICE_STATES if part == "ServiceStates" else BUFFERS
            found[part] = c.keyword(table, f"a value of {part}")
        if not c.more():
            return TerminationState(found.get("ServiceStates"), found.get("Buffer"), tuple(properties))


def statistics(c: Cursor) -> tuple[Parameter, ...]:
    """``{ package/item [= value], ... }``."""
    c.take("{")
    found: list[Parameter] = []
    while True:
        name = package_item(c)
        found.append(Parameter(name, c.value() if c.maybe("=") else None))
        if not c.more():
            return tuple(found)


def package_item(c: Cursor) -> str:
    """pkgdName: ``package/item``, either of which may be ``*``."""
    name = c.word("package/item")
    package, slash, item = name.partition("/")
    if not (package and slash and item):
        c.at -= 1
        c.fail("package/item")
    return name
