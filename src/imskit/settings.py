"""TOML settings files into frozen dataclasses, with errors that a person can act on.

A daemon describes its settings as nested frozen dataclasses; :func:`load` reads a file (or a dict) into them.
Field types may be ``str``, ``int``, ``float`` (whole numbers are taken too; durations are seconds), ``bool``,
``Path``, ``Literal``, ``X | None``, ``tuple[X, ...]``, ``list[X]``, ``frozenset[X]``, ``dict[str, X]``, another
dataclass, and any of these as ``Annotated[X, Range(...)]``. A key of the file is the name of the field unless
``field(metadata={"key": "other"})``. A ``__post_init__`` that raises ValueError adds a check of its own. Tables
are dataclasses, lists of tables ``tuple[Dataclass, ...]``, tables by name ``dict[str, Dataclass]``.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec


class SettingsError(Exception):
    """Settings that cannot be used; ``problems`` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Range(msgspec.Struct, frozen=True):
    """Bounds of a number or, for a list or string, of its length; both ends belong to the range."""

    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None:
            return f"at most {self.high}"
        return f"at least {self.low}" if self.high is None else f"{self.low} to {self.high}"

    def holds(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


Port = Annotated[int, Range(0, 65535)]
Seconds = Annotated[float, Range(0, None)]
Positive = Annotated[int, Range(1, None)]


def load[T](source: str | Path | Mapping[str, Any], cls: type[T]) -> T:
    """Read ``source`` (a TOML file's path, or the parsed mapping) into an instance of the dataclass ``cls``.

    Raises :class:`SettingsError`, which names the file, the table, the key and the nearest valid key, for every
    problem at once.
    """
    if isinstance(source, Mapping):
        name, data = "settings", dict(source)
    else:
        name, data = str(source), _read(Path(source))
    reader = _Reader(name)
    value = reader.table(data, cls, ())
    if reader.problems:
        raise SettingsError(reader.problems)
    return typing.cast(T, value)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError([f"{path}: no such file"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: not UTF-8 text: {error.reason} at octet {error.start}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: not valid TOML: {error}"]) from None


_BAD = object()
type _Where = tuple[str | int, ...]


class _Reader:
    """Walks data and types side by side and gathers what is wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []

    def problem(self, where: _Where, text: str) -> Any:
        self.problems.append(f"{self.name}: {_table_name(where)}{text}")
        return _BAD

    def table(self, data: Mapping[str, Any], cls: Any, where: _Where) -> Any:
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = {f.metadata.get("key", f.name): f for f in dataclasses.fields(cls) if f.init}
        for key in data:
            if key not in fields:
                self.problem(where, f"unknown key {key!r}{_nearest(key, fields)}")
        values: dict[str, Any] = {}
        sound = all(key in fields for key in data)
        for key, field in fields.items():
            if key in data:
                values[field.name] = self.value(data[key], hints[field.name], (*where, key))
                sound = sound and values[field.name] is not _BAD
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                sound = False
                self.problem(where, f"required key {key!r} is missing")
        if not sound:
            return _BAD
        try:
            return cls(**values)
        except ValueError as error:
            return self.problem(where, str(error))

    def value(self, data: Any, kind: Any, where: _Where) -> Any:
        if isinstance(kind, typing.TypeAliasType):
            return self.value(data, kind.__value__, where)
        origin = get_origin(kind)
        if origin is Annotated:
            inner, *extras = get_args(kind)
            return self.within(self.value(data, inner, where), extras, where)
        if origin is Literal:
            return self.choice(data, get_args(kind), where)
        if origin in (Union, types.UnionType):
            return self.union(data, get_args(kind), where)
        if origin in (tuple, list, frozenset, set):
            return self.sequence(data, kind, origin, where)
        if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
            if not isinstance(data, dict):
                return self.wrong(data, kind, where)
            items = {key: self.value(item, get_args(kind)[1], (*where, key)) for key, item in data.items()}
            return _BAD if any(item is _BAD for item in items.values()) else items
        if dataclasses.is_dataclass(kind):
            return self.table(data, kind, where) if isinstance(data, dict) else self.wrong(data, kind, where)
        return self.scalar(data, kind, where)

    def scalar(self, data: Any, kind: Any, where: _Where) -> Any:
        if kind is Any:
            return data
        if kind is Path and isinstance(data, str):
            return Path(data)
        if kind is float and type(data) is int:
            return float(data)
        # bool is an int to Python but not to a reader of settings
        return data if type(data) is kind else self.wrong(data, kind, where)

    def sequence(self, data: Any, kind: Any, origin: Any, where: _Where) -> Any:
        if not isinstance(data, list):
            return self.wrong(data, kind, where)
        inner = get_args(kind)[0]
        items = [self.value(item, inner, (*where, index)) for index, item in enumerate(data, 1)]
        return _BAD if any(item is _BAD for item in items) else origin(items)

    def union(self, data: Any, choices: tuple[Any, ...], where: _Where) -> Any:
        choices = tuple(choice for choice in choices if choice is not types.NoneType)  # TOML has no null
        if len(choices) == 1:
            return self.value(data, choices[0], where)
        for choice in choices:
            trial = _Reader(self.name)
            value = trial.value(data, choice, where)
            if not trial.problems:
                return value
        expected = " or ".join(_kind_name(choice) for choice in choices)
        return self.at(where, f"is {_shown(data)}, expected {expected}")

    def choice(self, data: Any, choices: tuple[Any, ...], where: _Where) -> Any:
        if any(type(data) is type(choice) and data == choice for choice in choices):
            return data
        near = _nearest(data, [c for c in choices if isinstance(c, str)]) if isinstance(data, str) else ""
        expected = ", ".join(repr(choice) for choice in choices)
        return self.at(where, f"is {data!r}, expected one of {expected}{near}")

    def within(self, value: Any, extras: Iterable[Any], where: _Where) -> Any:
        if value is _BAD or value is None:
            return value
        for extra in extras:
            if not isinstance(extra, Range):
                continue
            size = value if isinstance(value, (int, float)) else len(value)
            if not extra.holds(size):
                what = "" if isinstance(value, (int, float)) else f" with {size} items"
                return self.at(where, f"is {value!r}{what}, expected {extra}")
        return value

    def wrong(self, data: Any, kind: Any, where: _Where) -> Any:
        return self.at(where, f"is {_shown(data)}, expected {_kind_name(kind)}")

    def at(self, where: _Where, text: str) -> Any:
        *table, key = where
        if isinstance(key, int):
            *table, list_key = table
            return self.problem(tuple(table), f"item {key} of key {list_key!r} {text}")
        return self.problem(tuple(table), f"key {key!r} {text}")


def _nearest(key: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(valid), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _table_name(where: _Where) -> str:
    if not where:
        return ""
    name = ""
    for part in where:
        if isinstance(part, int):
            name += f" #{part}"
        else:
            name += f".{part}" if name else part
    return f"[{name}] "


_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
    Path: "a path in quotes",
}


def _shown(data: Any) -> str:
    kind = _KINDS.get(type(data), type(data).__name__)
    return kind if isinstance(data, (dict, list)) else f"{kind} ({str(data)[:40]!r})"


def _kind_name(kind: Any) -> str:
    origin = get_origin(kind)
    if isinstance(kind, typing.TypeAliasType):
        return _kind_name(kind.__value__)
    if origin is Annotated:
        return _kind_name(get_args(kind)[0])
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if origin in (Union, types.UnionType):
        return " or ".join(_kind_name(choice) for choice in get_args(kind))
    if origin in (tuple, list, frozenset, set):
        inner = get_args(kind)[0]
        return "a list of tables" if dataclasses.is_dataclass(inner) else f"a list ({_kind_name(inner)} each)"
    if origin is dict or dataclasses.is_dataclass(kind):
        return "a table"
    return _KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def dump(settings: Any) -> str:
    """The effective settings as TOML text: what :func:`load` would read back; keys that are None are left out."""
    lines: list[str] = []
    _dump_table(_plain(settings), (), lines)
    return "\n".join(lines).strip("\n") + "\n"


def flat(settings: Any) -> dict[str, Any]:
    """The effective settings by dotted key ("realm.access.latch"; list items by number from 1), without those that are
    None."""
    found: dict[str, Any] = {}
    _flatten("", _plain(settings), found)
    return found


def _flatten(prefix: str, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{prefix}.{key}" if prefix else key, item, found)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value, 1):
            _flatten(f"{prefix}.{number}", item, found)
    else:
        found[prefix] = value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        named = ((f.metadata.get("key", f.name), getattr(value, f.name)) for f in dataclasses.fields(value))
        return {key: _plain(item) for key, item in named if item is not None}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _dump_table(table: Mapping[str, Any], where: tuple[str, ...], lines: list[str]) -> None:
    def is_tables(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)

    below = {key: value for key, value in table.items() if isinstance(value, dict) or is_tables(value)}
    lines += [f"{_toml_key(key)} = {_toml(value)}" for key, value in table.items() if key not in below]
    for key, value in below.items():
        path = (*where, _toml_key(key))
        for item in value if isinstance(value, list) else [value]:
            lines += ["", f"[[{'.'.join(path)}]]" if isinstance(value, list) else f"[{'.'.join(path)}]"]
            _dump_table(item, path, lines)


def _toml_key(key: str) -> str:
    plain = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if plain else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A TOML basic string takes the escapes of JSON, which also must cover DEL.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return repr(value)
