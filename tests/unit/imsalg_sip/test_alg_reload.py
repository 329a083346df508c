"""Settings for a node that runs: whole or nothing, and every row of the table is about a key that exists."""

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from tests.playbook import alg_harness as lab

from imsalg.core.events import Reconfigure
from imsalg.settings import Settings
from imsalg.shell.reload import LIVE, Change, changes, read
from imskit.settings import SettingsError, dump, flat, load

NEVER = (
    "realm.core.kind",
    "realm.core.next_hop",
    "listen.1.host",
    "imsalg.name",
    "gateways.listen",
    "policy.mechanisms",
)


def full() -> dict[str, object]:
    """Every key that settings may have, some of them given only to be there."""
    word = {"originating": "required", "terminating": "off"}
    made = lab.settings(policy={"msrp": word, "bfcp": word}, access={"msrp": word, "bfcp": "off"})
    more = lab.settings(access={"msrp": "off", "bfcp": word}, policy={"msrp": "off", "bfcp": "off"})
    files = {f"{table}.{key}": "x" for table in ("listen.1", "gateways") for key in ("certificate", "key", "ca")}
    return {**flat(made), **flat(more), **files}


@pytest.mark.parametrize("pattern", LIVE)
def test_every_live_key_exists(pattern: str) -> None:
    assert any(fnmatchcase(key, pattern) for key in full())


def test_what_is_fixed_at_start_is_not_live() -> None:
    assert not [key for key in NEVER if Change(key, 1, 2).live]
    assert Change("realm.access.early_syn", "accept", "ignore").live
    assert not Change("realm.access.sub.early_syn", "accept", "ignore").live


def test_a_reload_names_what_changed_or_every_reason_why_not(tmp_path: Path) -> None:
    old = lab.settings()
    path = tmp_path / "imsalg.toml"
    path.write_text(dump(old))
    old = load(path, Settings)
    assert read(path, old)[1] == []
    text = dump(old).replace('msrp = "optional"', 'msrp = "required"').replace("latch = false", "latch = true", 1)
    path.write_text(text)
    new, changed, _ = read(path, old)
    assert new.policy.msrp == "required"
    assert sorted(map(str, changed)) == ["policy.msrp: optional -> required", "realm.access.latch: false -> true"]
    path.write_text(
        text.replace("pcscf.example.net", "other.example.net").replace('host = "10.0.0.1"', 'host = "10.0.0.2"')
    )
    with pytest.raises(SettingsError) as refused:
        read(path, old)
    problems = str(refused.value).splitlines()
    assert len(problems) == 2, problems
    assert "imsalg.name: pcscf.example.net -> other.example.net" in problems[0] + problems[1]
    path.write_text(text.replace("[policy]", "[polcy]"))
    with pytest.raises(SettingsError, match="polcy"):
        read(path, old)


def test_the_token_key_is_never_shown() -> None:
    old = lab.settings(imsalg={"token_key": "00" * 16})
    new = replace(old, imsalg=replace(old.imsalg, token_key="ff" * 16))
    (change,) = changes(old, new)
    assert str(change) == "imsalg.token_key"
    assert not change.live


def test_new_settings_hold_for_the_next_offer_and_the_next_binding() -> None:
    book = lab.Book()
    lab.register(book)
    new = lab.settings(policy={"msrp": "required"}, limits={"bindings": 1}, access={"allow_unregistered": True})
    book.feed(Reconfigure(new))
    assert book.media.settings.policy.msrp == "required"
    assert not book.engine.context.registrar.has_room("sip:bob@example.net", "sip:bob@10.0.0.8")
    book.receive(lab.UE_B, lab.request("INVITE", from_="<sip:zoe@example.net>;tag=z", flow=lab.UE_B), lab.AUDIO)
    assert book.request("INVITE"), "taken without a registration from now on"
