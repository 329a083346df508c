"""Writing TOML: settings files of the lab made from dictionaries. Reading is the standard library's business."""

import json
from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top: tables are merged, everything else (lists too) is replaced."""
    out = dict(base)
    for key, value in over.items():
        known = out.get(key)
        out[key] = merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return out


def dumps(data: Mapping[str, Any]) -> str:
    """``data`` as TOML. Raises TypeError for values that TOML has no form for."""
    lines: list[str] = []
    _table(data, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(data: Mapping[str, Any], path: str, lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping) or _is_tables(value):
            later.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in later:
        name = f"{path}.{_key(key)}" if path else _key(key)
        for entry in value if isinstance(value, (list, tuple)) else (value,):
            head = f"[[{name}]]" if isinstance(value, (list, tuple)) else f"[{name}]"
            lines += ["", head]
            _table(entry, name, lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key) else _text(key)


def _text(text: str) -> str:
    """A basic string: JSON's form but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return "[" + ", ".join(_value(entry) for entry in value) + "]"
        case Mapping():
            return "{ " + ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items()) + " }"
        case _:
            raise TypeError(f"no TOML form for {type(value).__name__}")
