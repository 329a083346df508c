"""Settings of the AGW, and how addresses and ports are shared out."""

from pathlib import Path
from typing import Any

import pytest

from agw.core import plan
from agw.settings import RealmSettings, Settings, port_range, port_slice
from imskit.settings import SettingsError, dump, load
from imswire.h248.errors import H248Error

ROOT = Path(__file__).parents[3]


def test_defaults_and_the_example_file() -> None:
    assert load({}, Settings).agw.mid == "agw"
    example = load(ROOT / "configs" / "agw.toml", Settings)
    assert set(example.realm) == {"access", "core"}
    assert example.realm["access"].addresses == ("127.0.0.1", "::1")


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    settings = load(ROOT / "configs" / "agw.toml", Settings)
    (tmp_path / "agw.toml").write_text(dump(settings))
    assert load(tmp_path / "agw.toml", Settings) == settings


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ({"agw": {"controler": "tcp:127.0.0.1:1"}}, "did you mean 'controller'"),
        ({"agw": {"controller": "127.0.0.1"}}, "expected"),
        ({"agw": {"controller": "tls:192.0.2.1:2944"}}, "needs 'certificate'"),
        ({"agw": {"mid": "a b"}}, "'mid'"),
        ({"agw": {"mid": "agw-1"}}, "'mid'"),
        ({"agw": {"mid": "<-agw>"}}, "'mid'"),
        ({"realm": {}}, "at least one"),
        ({"realm": {"access": {"ports": "900-1000"}}}, "1024"),
        ({"realm": {"access": {"ports": "x"}}}, "first-last"),
        ({"realm": {"access": {"addresses": ["example.org"]}}}, "not an IP address"),
        ({"realm": {"access": {"addresses": []}}}, "must not be empty"),
        ({"realm": {"a": {"ports": "2000-2010"}, "b": {"ports": "2010-2020"}}}, "overlap"),
        ({"realm": {"a": {"advertise": {"192.0.2.1": "192.0.2.2"}}}}, "not one of"),
        ({"tls": {"min_version": "1.1"}}, "min_version"),
        ({"limits": {"sessions": 0}}, "sessions"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, object], hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        load(data, Settings)


def test_port_slices_cover_the_range_without_overlap() -> None:
    for workers in (1, 2, 3, 7):
        slices = [port_slice("20000-20010", number, workers) for number in range(workers)]
        ports = [port for low, high in slices for port in range(low, high + 1)]
        assert ports == list(range(20000, 20011))
    with pytest.raises(ValueError, match="too few"):
        port_slice("20000-20001", 0, 3)
    assert port_slice("0", 1, 2) == (0, 0)
    assert port_range("20000") == (20000, 20000)


def allocator(**more: Any) -> plan.PortAllocator:
    realm = RealmSettings(
        ("10.0.0.1", "10.0.0.2", "fd00::1"), "20000-20001", advertise={"10.0.0.1": "192.0.2.1"}, **more
    )
    return plan.PortAllocator({"access": realm})


def test_first_address_of_the_family_is_taken_and_the_advertised_one_told() -> None:
    ports = allocator()
    place = ports.take("access", "IP4", None, None, 0.0)
    assert (place.address, place.advertised, place.port) == ("10.0.0.1", "192.0.2.1", 20000)
    assert ports.take("access", "IP6", None, None, 0.0).address == "fd00::1"
    assert ports.take("access", "IP4", "10.0.0.2", None, 0.0).address == "10.0.0.2"
    assert ports.take("access", "IP4", "192.0.2.1", 20001, 0.0).address == "10.0.0.1"


@pytest.mark.parametrize("family", ["IP4", "IP6"])
def test_the_usual_choice_is_what_the_general_way_finds(family: str) -> None:
    usual, general = allocator(), allocator()
    for _ in range(2):
        chosen = usual.take("access", family, None, None, 0.0)
        assert chosen == general._take_named("access", family, None, None, 0.0)
    for ports in (usual.take, general._take_named):
        with pytest.raises(H248Error) as refused:
            ports("access", family, None, None, 0.0)
        assert str(refused.value).endswith("no free port in realm access")
        with pytest.raises(H248Error) as refused:
            ports("video", family, None, None, 0.0)
        assert refused.value.code == 449


def test_out_of_ports_and_quarantine() -> None:
    ports = allocator(quarantine=30.0)
    places = [ports.take("access", "IP6", None, None, 0.0) for _ in range(2)]
    with pytest.raises(H248Error) as refused:
        ports.take("access", "IP6", None, None, 0.0)
    assert refused.value.code == 510
    ports.give_back(places[1], 5.0)
    with pytest.raises(H248Error):
        ports.take("access", "IP6", None, None, 34.9)
    assert ports.take("access", "IP6", None, None, 35.0).port == 20001


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("other", [True, False])
def test_relay_matrix_is_total_over_kinds_for_its_modes(one: bool, other: bool) -> None:
    assert plan.relay_of("proxy", one, other)
    assert plan.relay_of("merge", one, other)
    with pytest.raises(H248Error):
        plan.relay_of("relay", one, other)


@pytest.mark.parametrize(
    "mid, name", [("agw", "agw_2"), ("<agw.example.net>", "<agw-2.example.net>"), ("<agw>", "<agw-2>")]
)
def test_workers_have_names_that_the_grammar_allows(mid: str, name: str) -> None:
    assert load({"agw": {"mid": mid}}, Settings).agw.worker_mid(1) == name
