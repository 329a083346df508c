"""Settings: TOML into frozen dataclasses, and errors that name file, table, key and the nearest valid key."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imskit.common_settings import MediaTlsSettings, StreamSettings
from imskit.settings import Port, Positive, Range, Seconds, SettingsError, dump, load


@dataclass(frozen=True)
class Listen:
    host: str
    port: Port
    transport: Literal["udp", "tcp", "tls"] = "udp"


@dataclass(frozen=True)
class Realm:
    kind: Literal["access", "core"]
    addresses: tuple[str, ...] = ()
    timeout: Seconds = 5.0
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    calls: Positive = 100
    ratio: float = 0.5
    wide: bool = False
    low: int = 0
    high: int = 10

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("'low' is above 'high'")


@dataclass(frozen=True)
class Settings:
    name: str
    listen: tuple[Listen, ...] = ()
    realm: dict[str, Realm] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    trace: str | None = None
    from_: str = field(default="here", metadata={"key": "from"})
    where: Path = Path("/nowhere")
    size: int | str = 1
    tags: frozenset[str] = frozenset()


FULL = """
name = "a"
from = "there"
size = "large"
tags = ["y", "x"]
where = "/some/file"

[[listen]]
host = "127.0.0.1"
port = 5060

[[listen]]
host = "::1"
port = 5061
transport = "tls"

[realm.access]
kind = "access"
addresses = ["127.0.0.1", "::1"]
timeout = 3
extra = { a = "1" }

[limits]
wide = true
ratio = 1
"""


def problems(data: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load({"name": "n", **data}, Settings)
    return caught.value.problems


def test_a_full_file(tmp_path: Path) -> None:
    file = tmp_path / "full.toml"
    file.write_text(FULL)
    assert load(file, Settings) == Settings(
        name="a",
        listen=(Listen("127.0.0.1", 5060), Listen("::1", 5061, "tls")),
        realm={"access": Realm("access", ("127.0.0.1", "::1"), 3.0, {"a": "1"})},
        limits=Limits(wide=True, ratio=1.0),
        from_="there",
        where=Path("/some/file"),
        size="large",
        tags=frozenset({"x", "y"}),
    )


def test_an_unknown_key_names_file_table_and_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "typo.toml"
    file.write_text('name = "a"\n[limits]\ncals = 5\n')
    with pytest.raises(SettingsError) as caught:
        load(file, Settings)
    assert str(caught.value) == f"{file}: [limits] unknown key 'cals'; did you mean 'calls'?"


@pytest.mark.parametrize(
    "data, expected",
    [
        ({"nmae": "x"}, "settings: unknown key 'nmae'; did you mean 'name'?"),
        ({"zzz": 1}, "settings: unknown key 'zzz'"),
        ({"limits": {"calls": "many"}}, "settings: [limits] key 'calls' is a string ('many'), expected a whole number"),
        ({"limits": {"calls": True}}, "settings: [limits] key 'calls' is a boolean ('True'), expected a whole number"),
        ({"limits": {"calls": 1.5}}, "settings: [limits] key 'calls' is a number ('1.5'), expected a whole number"),
        ({"limits": {"calls": 0}}, "settings: [limits] key 'calls' is 0, expected at least 1"),
        ({"limits": {"wide": 1}}, "settings: [limits] key 'wide' is a whole number ('1'), expected a boolean"),
        ({"limits": {"low": 11}}, "settings: [limits] 'low' is above 'high'"),
        ({"limits": 3}, "settings: key 'limits' is a whole number ('3'), expected a table"),
        ({"realm": {"a": {}}}, "settings: [realm.a] required key 'kind' is missing"),
        (
            {"realm": {"a": {"kind": "acess"}}},
            "settings: [realm.a] key 'kind' is 'acess', expected one of 'access', 'core'; did you mean 'access'?",
        ),
        (
            {"realm": {"a": {"kind": "core", "timeout": -1}}},
            "settings: [realm.a] key 'timeout' is -1.0, expected at least 0",
        ),
        (
            {"realm": {"a": {"kind": "core", "addresses": ["x", 5]}}},
            "settings: [realm.a] item 2 of key 'addresses' is a whole number ('5'), expected a string",
        ),
        (
            {"listen": [{"host": "h", "port": 1}, {"host": "h", "port": 70_000}]},
            "settings: [listen #2] key 'port' is 70000, expected 0 to 65535",
        ),
        ({"listen": {"host": "h"}}, "settings: key 'listen' is a table, expected a list of tables"),
        ({"size": [1]}, "settings: key 'size' is a list, expected a whole number or a string"),
        ({"trace": 1}, "settings: key 'trace' is a whole number ('1'), expected a string"),
        ({"where": 1}, "settings: key 'where' is a whole number ('1'), expected a path in quotes"),
    ],
)
def test_each_problem_has_its_sentence(data: dict[str, Any], expected: str) -> None:
    assert problems(data) == (expected,)


def test_all_problems_are_told_at_once() -> None:
    assert len(problems({"x": 1, "limits": {"calls": 0, "wide": 3}, "listen": [{}]})) == 5


def test_a_missing_required_key_at_the_top() -> None:
    with pytest.raises(SettingsError, match="settings: required key 'name' is missing"):
        load({}, Settings)


def test_a_missing_file_and_a_file_that_is_not_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: no such file"):
        load(tmp_path / "none.toml", Settings)
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(SettingsError, match=r"bad\.toml: not valid TOML: .*line 1"):
        load(tmp_path / "bad.toml", Settings)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"\n')
    with pytest.raises(SettingsError, match=r"latin\.toml: not UTF-8"):
        load(tmp_path / "latin.toml", Settings)
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path, Settings)


def test_range_texts() -> None:
    assert [str(Range(1, 2)), str(Range(1)), str(Range(None, 2))] == ["1 to 2", "at least 1", "at most 2"]


def test_dump_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "full.toml"
    file.write_text(FULL)
    settings = load(file, Settings)
    again = tmp_path / "again.toml"
    again.write_text(dump(settings))
    assert load(again, Settings) == settings
    assert "[[listen]]" in dump(settings)
    assert "[realm.access]" in dump(settings)
    assert "trace" not in dump(settings)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    name=TEXT,
    realms=st.dictionaries(TEXT, st.builds(Realm, st.just("core"), st.lists(TEXT).map(tuple))),
    low=st.integers(-(2**53), 10),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_is_dumped_loads_to_the_same(name: str, realms: dict[str, Realm], low: int, ratio: float) -> None:
    settings = Settings(name=name, realm=realms, limits=Limits(low=low, ratio=ratio))
    assert load(tomllib.loads(dump(settings)), Settings) == settings


def test_common_tables_check_themselves() -> None:
    with pytest.raises(SettingsError, match="'certificate' and 'key' go together"):
        load({"certificate": "x.pem"}, MediaTlsSettings)
    with pytest.raises(SettingsError, match="'min_version' is above 'max_version'"):
        load({"min_version": "1.3", "max_version": "1.2"}, MediaTlsSettings)
    assert load({"idle_timeout": 10}, StreamSettings).idle_timeout == 10.0
