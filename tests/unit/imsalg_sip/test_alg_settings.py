"""The daemon's settings: what is refused, with which words, and what the media half gets."""

from pathlib import Path
from typing import Any

import pytest
from tests.playbook.alg_harness import settings
from typer.testing import CliRunner

from imsalg.__main__ import app
from imsalg.settings import Settings
from imskit.settings import SettingsError, dump, load

LISTEN: list[dict[str, Any]] = [
    {"realm": "access", "transport": "udp"},
    {"realm": "core", "transport": "udp", "port": 5062},
]
REALMS = {"access": {"kind": "access"}, "core": {"kind": "core", "next_hop": "sip:127.0.0.1:5070"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"listen": []}, "no [[listen]]"),
        ({"realm": {"access": {"kind": "access"}}}, "no realm of kind 'core'"),
        ({"listen": [*LISTEN, {"realm": "wifi", "transport": "udp"}]}, "no [realm.wifi]"),
        ({"listen": LISTEN[:1]}, "realm 'core' has no [[listen]]"),
        ({"listen": [*LISTEN, {"realm": "access", "transport": "tls"}]}, "'certificate' and 'key'"),
        ({"realm": {**REALMS, "core": {"kind": "core"}}}, "needs 'next_hop'"),
        ({"realm": {**REALMS, "core": {"kind": "core", "next_hop": "127.0.0.1"}}}, "'next_hop' '127.0.0.1'"),
        ({"realm": {**REALMS, "core": {"kind": "core", "next_hop": "sip:127.0.0.1;transport=tcp"}}}, "goes over tcp"),
        (
            {"realm": {**REALMS, "core": {"kind": "core", "next_hop": "sip:scscf.example", "names": "next-hop"}}},
            "must be an IP address",
        ),
        ({"realm": {**REALMS, "core": {"kind": "core", "next_hop": "sips:scscf.example"}}}, "goes over tls"),
        ({"dns": {"nameservers": ["dns.example.net:x"]}}, "HOST:PORT"),
        ({"dns": {"least_ttl": 60, "most_ttl": 5}}, "'least_ttl' is above"),
        ({"realm": {**REALMS, "core": {"kind": "core", "next_hop": "sip:[::1]"}}}, "address family"),
        ({"realm": {**REALMS, "access": {"kind": "access", "core_realm": "x"}}}, "core_realm 'x'"),
        ({"listen": [{**LISTEN[0], "host": "0.0.0.0"}, LISTEN[1]]}, "needs 'advertise'"),
        ({"imsalg": {"token_key": "zz"}}, "not hexadecimal"),
        ({"imsalg": {"token_key": "00ff"}}, "2 octets"),
        ({"gateways": {"listen": "127.0.0.1:2944"}}, "expected tcp:HOST:PORT"),
        ({"policy": {"msrp": "sometimes"}}, "'sometimes'"),
        ({"realm": {**REALMS, "access": {"early_sin": "ignore"}}}, "did you mean 'early_syn'?"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"listen": LISTEN, "realm": REALMS, **change}, Settings)
    assert words in str(caught.value)


def test_the_effective_settings_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "effective.toml"
    path.write_text(dump(settings()))
    assert load(path, Settings) == settings()


def test_check_does_not_print_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "imsalg.toml"
    path.write_text(dump(settings(imsalg={"token_key": "5a" * 16})))
    shown = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert shown.exit_code == 0
    assert "5a5a" not in shown.output
    assert 'token_key = "(set)"' in shown.output


def test_check_names_a_link_that_run_would_refuse(tmp_path: Path) -> None:
    path = tmp_path / "imsalg.toml"
    path.write_text(dump(settings(gateways={"listen": "tcp:192.0.2.1:2944"})))
    refused = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert refused.exit_code == 2
    assert "plain H.248 is for loopback only" in refused.output
    path.write_text(dump(settings(gateways={"listen": "tcp:192.0.2.1:2944", "insecure": True})))
    assert CliRunner().invoke(app, ["check", "--config", str(path)]).exit_code == 0


def test_the_media_half_gets_its_part() -> None:
    media = settings(
        policy={"msrp": "always"}, access={"path_scheme": "rewrite", "agw_realm": "outside"}, limits={"legs": 3}
    ).media()
    assert media.policy.msrp == "always"
    assert media.realm("access").path_scheme == "rewrite"
    assert media.realm("access").agw_realm == "outside"
    assert media.limits.legs == 3


def test_several_core_realms_have_to_be_named() -> None:
    listen = [*LISTEN, {"realm": "core2", "transport": "udp", "port": 5063}]
    realms = {**REALMS, "core2": {"kind": "core", "next_hop": "sip:127.0.0.1:5071"}}
    with pytest.raises(SettingsError, match="needs 'core_realm'"):
        load({"listen": listen, "realm": realms}, Settings)
    realms["access"] = {"kind": "access", "core_realm": "core2"}
    assert load({"listen": listen, "realm": realms}, Settings).core_of("access") == "core2"
