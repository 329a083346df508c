"""The lab as processes on loopback: the demonstration, an early SYN, and what is said when a port is taken."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from imskit.driver import run
from imslab.lab import Lab
from imslab.ladder.read import read_traces
from imslab.process import LabError, environment
from imslab.ue.media import MediaOptions

pytestmark = pytest.mark.system


def on_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> int:
        async with asyncio.timeout(60):
            await main()
        return 0

    assert run(limited()) == 0


def test_up_once_shows_both_calls_and_verifies_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imslab", "up", "--once", "--free-ports", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    for title in (
        "Originating call of alice to sip:bob@lab.example",
        "Terminating call to bob",
        "Originating call of bob to sip:alice@lab.example",
        "Terminating call to alice",
    ):
        assert title in done.stdout
    assert done.stdout.count("✔ fingerprint verified SHA-256") == 4
    assert "all verified" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 200
    assert read_traces(sorted((tmp_path / "run").glob("*.trace.jsonl")))


def test_early_syn_is_held_and_the_repeated_one_taken() -> None:
    async def main() -> None:
        async with Lab(early_syn="ignore") as lab:
            alice = await lab.ue("alice")
            bob = await lab.ue("bob", media=MediaOptions(early_syn=True))
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            answer = incoming.prepare()
            await incoming.media.syn_sent.wait()
            incoming.confirm(answer)
            await outgoing.answered()
            await outgoing.session.send_text("after the repeated SYN")
            assert (await incoming.session.receive()).text == "after the repeated SYN"
            held = await lab.wait_trace(
                lambda line: line.kind == "tcp" and line.what == "syn-held" and line.realm == "access"
            )
            accepted = await lab.wait_trace(
                lambda line: (
                    (line.kind, line.what, line.context, line.realm) == ("tcp", "accepted", held.context, "access")
                )
            )
            assert held.count == 1
            assert accepted.t > held.t
            assert await outgoing.hangup() == 200

    on_loop(main)


def test_a_busy_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
            listen = [{"transport": "udp", "host": "127.0.0.1", "port": port}]
            lab = Lab(directory=tmp_path, fixed_ports=True, core={"listen": listen})
            with pytest.raises(LabError, match=rf"core needs udp 127\.0\.0\.1:{port}, .*in use"):
                await lab.start()
            assert not lab.processes
            await lab.stop()

    on_loop(main)


def test_settings_that_a_daemon_refuses_are_shown_at_once() -> None:
    async def main() -> None:
        lab = Lab(imsalg={"imsalg": {"nmae": "x"}})
        try:
            with pytest.raises(LabError, match=r"unknown key 'nmae'.*'name'"):
                await lab.start()
        finally:
            await lab.stop()

    on_loop(main)
