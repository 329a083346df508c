"""A call through real processes, looked at in every way there is: metrics, health, ``show`` and its JSON."""

import asyncio
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from imskit.driver import run
from imslab.lab import Lab
from imslab.process import environment
from imslab.storm import measure
from imslab.storm.traffic import Traffic, eventually
from imslab.ue.agent import UeOptions
from imslab.ue.media import MediaOptions

pytestmark = pytest.mark.system

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
UNITS = (
    "_total",
    "_bytes",
    "_seconds",
    "_state",
    *("_calls", "_contexts", "_sessions", "_handshakes", "_ports", "_registrations", "_transactions", "_messages"),
    *("_connections", "_gateways", "_links", "_tasks", "_fds", "_sources", "_records"),
)
"""How names end: ``_total`` of counters, units, and for numbers of things the things."""
SERIES = 400
"""Label combinations of one daemon at most."""
FREE_TEXT = re.compile(r"@|sip:|\d+\.\d+\.\d+\.\d+|[0-9a-f]{10,}")
"""What must never be in a label: users, addresses, identifiers."""


def ask(address: tuple[str, int], path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def show(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], env=environment(), capture_output=True, text=True, timeout=30, check=False
    )


def at(ready: dict[str, Any]) -> tuple[str, int]:
    return ready["host"], ready["port"]


def weather(main: Callable[[], Coroutine[None, None, None]]) -> None:
    async def bounded() -> int:
        async with asyncio.timeout(60):
            await main()
        return 0

    assert run(bounded()) == 0


METRICS = {"metrics": {"listen": "127.0.0.1:0"}}


def families(text: str) -> dict[str, tuple[str, str]]:
    """Name -> type and help."""
    kinds = dict(line.split(" ", 3)[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    helps = dict(line.split(" ", 3)[2:4] for line in text.splitlines() if line.startswith("# HELP"))
    assert kinds.keys() == helps.keys()
    return {name: (kinds[name], helps[name]) for name in kinds}


def sound(prefix: str, text: str) -> None:
    """Every metric has words and a unit, and its labels cannot grow without bounds."""
    found = families(text)
    for name, (kind, words) in found.items():
        assert len(words.split()) >= 2, name
        assert name.startswith((prefix, "process_")), name
        assert name.endswith(UNITS), name
        assert name.endswith("_total") == (kind == "counter"), name
    series = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(series) < SERIES
    for line in series:
        labels = re.findall(r'="([^"]*)"', line)
        assert not any(FREE_TEXT.search(label) for label in labels), line
    documented = PAGE.read_text()
    assert [name for name in found if name.startswith(prefix) and f"`{name}`" not in documented] == []


def test_a_call_is_seen_everywhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with Lab(directory=tmp_path, imsalg=METRICS, agw=METRICS, workers=2) as lab:
            alg = at(lab.processes["imsalg"].ready["metrics"])
            workers = [at(one) for one in lab.processes["agw"].ready["metrics"]]
            traffic = Traffic([(await lab.ue("alice"), await lab.ue("bob"))])
            await traffic.fill(1)
            (talk,) = traffic.talks
            await eventually("messages", lambda: talk.messages > 1)
            await asyncio.to_thread(looked_at, tmp_path, talk.near.call_id)
            await asyncio.to_thread(healthy, alg, workers)
            during = await asyncio.to_thread(measure.metrics_of, alg)
            await traffic.close()
            await eventually("the end", lambda: measure.held(tmp_path).idle)
            after = await asyncio.to_thread(measure.metrics_of, alg)
            media = [await asyncio.to_thread(measure.metrics_of, one) for one in workers]
        assert during['imsalg_active_calls{stage="established"}'] == 2
        assert during["imsalg_active_contexts"] == 2
        assert during['imsalg_known_gateways{state="in_service"}'] == 2
        assert during["imsalg_active_registrations"] == 2
        for direction in ("originating", "terminating"):
            line = f'imsalg_media_lines_total{{direction="{direction}",medium="msrp",outcome="secured"}}'
            assert after[line] == 1
        assert after['imsalg_calls_ended_total{outcome="completed"}'] == after["imsalg_calls_started_total"] == 2
        assert after["imsalg_active_contexts"] == 0
        assert after["imsalg_h248_timeouts_total"] == after["imsalg_bugs_total"] == 0
        total = {name: sum(one.get(name, 0.0) for one in media) for one in media for name in one}
        assert total['agw_verifications_total{outcome="verified"}'] == 2
        assert sum(total[f'agw_tls_handshakes_total{{outcome="complete",version="TLSv1.{n}"}}'] for n in "23") == 2
        received = total['agw_media_bytes_total{direction="received",realm="access"}']
        assert received == total['agw_media_bytes_total{direction="sent",realm="core"}'] > 0

    weather(main)


def test_a_plain_line_is_called_plain(tmp_path: Path) -> None:
    async def main() -> None:
        async with Lab(directory=tmp_path, msrp="off") as lab:
            for user in ("alice", "bob"):
                await lab.ue(user, media=MediaOptions(secure=False), options=UeOptions(mediasec=()))
            traffic = Traffic([(lab.ues[0], lab.ues[1])])
            assert await traffic.fill(1) == 1
            calls = await asyncio.to_thread(show, "imsalg", "show", "calls", "--socket", str(tmp_path / "imsalg.sock"))
            assert calls.stdout.count("1 msrp: plain by policy off") == 2, calls
            await traffic.close()

    weather(main)


def looked_at(directory: Path, call_id: str) -> None:
    alg, agw = ("--socket", str(directory / "imsalg.sock")), ("--socket", str(directory / "agw.sock"))
    calls = show("imsalg", "show", "calls", *alg)
    assert calls.returncode == 0, calls.stderr
    assert calls.stdout.count(call_id) == 2
    assert len(re.findall(r"msrp: e2ae TLS 1\.[23] verified sha-256 \(context \d+\)", calls.stdout)) == 2, calls.stdout
    rows = json.loads(show("imsalg", "show", "call", call_id, "--json", *alg).stdout)
    assert {one["direction"] for one in rows} == {"originating", "terminating"}
    line = rows[0]["lines"][0]
    assert re.fullmatch(r"e2ae TLS 1\.[23] verified sha-256", line["security"])
    assert line["tls"]["version"] in ("TLSv1.2", "TLSv1.3")
    assert line["tls"]["cipher"]
    assert line["tls"]["verified"] == "sha-256"
    assert line["medium"] == "msrp"
    contexts = json.loads(show("agw", "show", "contexts", "--json", *agw).stdout)
    assert [one["gateway"] for one in contexts] == ["agw_1", "agw_2"]
    assert sum(one["total"] for one in contexts) == 2
    one = show("agw", "show", "context", f"{line['gateway']}/{line['context']}", *agw)
    assert one.returncode == 0, one.stderr
    assert re.search(r"e2ae TLS 1\.[23] verified sha-256", one.stdout)
    assert f"Call {call_id}" in show("imsalg", "show", "call", call_id, *alg).stdout
    assert "sip:alice@lab.example" in show("imsalg", "show", "registrations", *alg).stdout
    assert show("imsalg", "show", "registrations", "bob", *alg).stdout.count("@lab.example") == 1
    assert show("imsalg", "show", "gateways", *alg).stdout.count("in service") == 2
    assert show("agw", "show", "workers", "-c", str(directory / "agw.toml")).stdout.count("yes") == 2
    missing = show("imsalg", "show", "call", "nobody", *alg)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no call has the Call-ID or key 'nobody'" in missing.stderr
    assert "no context '4711'" in show("agw", "show", "context", "4711", *agw).stderr
    (directory / "agw-1.sock").stat()


def healthy(alg: tuple[str, int], workers: list[tuple[str, int]]) -> None:
    for address, prefix in ((alg, "imsalg_"), *((one, "agw_") for one in workers)):
        assert ask(address, "/healthz") == (200, "ok\n")
        assert ask(address, "/readyz") == (200, "ready\n")
        status, text = ask(address, "/metrics")
        assert status == 200
        sound(prefix, text)


def test_readiness_follows_the_association(tmp_path: Path) -> None:
    async def main() -> None:
        async with Lab(directory=tmp_path, imsalg=METRICS, agw=METRICS) as lab:
            alg = at(lab.processes["imsalg"].ready["metrics"])
            worker = at(lab.processes["agw"].ready["metrics"][0])
            await lab.processes["agw"].stop()
            await eventually("the IMS-ALG notices", lambda: ask(alg, "/readyz")[0] == 503)
            assert ask(alg, "/readyz") == (503, "not ready: no media gateway is in service\n")
            assert ask(alg, "/healthz")[0] == 200
            await lab.start_one("agw")
            worker = at(lab.processes["agw"].ready["metrics"][0])
            await eventually("both are ready", lambda: {ask(one, "/readyz")[0] for one in (alg, worker)} == {200})
            lab.processes["imsalg"].kill()
            await eventually("the AGW notices", lambda: ask(worker, "/readyz") == (503, "not ready: no controller\n"))

    weather(main)


def test_without_a_daemon_show_says_what_to_do(tmp_path: Path) -> None:
    for words in (("imsalg", "show", "calls"), ("agw", "show", "contexts")):
        done = show(*words, "--socket", str(tmp_path / "none.sock"))
        assert done.returncode == 1
        assert f"Either {words[0]} does not run" in done.stderr
        undecided = show(*words)
        assert undecided.returncode == 2
        assert "give --config FILE or --socket PATH" in undecided.stderr
