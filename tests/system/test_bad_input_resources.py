"""No media gateway, none of its ports left, no sense in a settings file: refused with a reason, and service goes on."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.system.edge import (
    DEADLINE,
    Edge,
    Peer,
    ack,
    agw_settings,
    alg_settings,
    environment,
    free_port,
    fresh,
    sdp,
    sip,
)

from imslab.toml import dumps, merge
from imswire.sip.message import Response

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("bad-input-resources")]


def refused_offer(ue: Peer, body: bytes) -> Response:
    call_id = fresh("offer")
    ue.send(sip("INVITE", ue, call_id, body))
    refused = ue.final(call_id)
    ue.send(ack(ue, refused, call_id))
    return refused


def check_unavailable(refused: Response, reason: str) -> None:
    assert refused.status == 503
    assert int(refused.headers.get("retry-after") or "0") > 0
    assert reason in (refused.headers.get("warning") or "")


def test_no_gateway_connected(tmp_path: Path) -> None:
    with Edge(tmp_path, with_agw=False) as edge, edge.ue() as ue:
        check_unavailable(refused_offer(ue, sdp()), "no media gateway is in service")
        edge.serves()
        # What needs no gateway is served: a line that passes unchanged.
        call_id = fresh("plain")
        ue.send(sip("INVITE", ue, call_id, plain := sdp(proto="TCP/MSRP", port=7000, fingerprint=None)))
        invite = edge.core.request("INVITE", call_id)
        assert invite.body == plain
        edge.answer(invite, 486)
        ue.send(ack(ue, ue.final(call_id), call_id))


@pytest.mark.parametrize("what", ["core", "access", "contexts"])
def test_gateway_out_of_ports_or_contexts(tmp_path: Path, what: str) -> None:
    scarce: dict[str, object] = {"limits": {"sessions": 1}}
    if what != "contexts":
        scarce = {"realm": {what: {"ports": str(free_port()), "quarantine": 0.0}}}
    with Edge(tmp_path, agw=scarce) as edge, edge.ue() as ue:
        call_id = fresh("first")
        ue.send(sip("INVITE", ue, call_id, sdp()))
        first = edge.core.request("INVITE", call_id)
        check_unavailable(refused_offer(ue, sdp()), "no media resources")
        edge.serves()
        edge.answer(first, 486)
        edge.core.request("ACK", call_id)
        ue.send(ack(ue, ue.final(call_id), call_id))
        # The first call is over: what it had is there for the next.
        edge.serves_media()


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("name", ["imsalg", "agw"])
def test_unknown_key_in_a_settings_file(tmp_path: Path, name: str, command: str) -> None:
    good = alg_settings(tmp_path, 5070) if name == "imsalg" else agw_settings(tmp_path, 2944, {})
    path = tmp_path / f"{name}.toml"
    path.write_text(dumps(merge(good, {"realm": {"core": {"prots": "1-2", "path_sheme": "keep"}}})))
    done = subprocess.run(
        [sys.executable, "-m", name, command, "--config", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 2
    wrong, right = ("path_sheme", "path_scheme") if name == "imsalg" else ("prots", "ports")
    assert f"unknown key '{wrong}'; did you mean '{right}'?" in done.stderr
    assert f"{name}.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "hint"),
    [("[imsalg\n", "line 1"), ("", "listen"), ('listen = "udp"\n', "listen"), ("\xff", "imsalg.toml")],
    ids=["syntax", "empty", "type", "encoding"],
)
def test_settings_file_that_cannot_be_read(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "imsalg.toml"
    path.write_bytes(text.encode("latin-1"))
    done = subprocess.run(
        [sys.executable, "-m", "imsalg", "run", "--config", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
