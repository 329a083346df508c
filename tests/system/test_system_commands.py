"""The commands as an operator meets them: help, check, readiness, the demonstration, and ending in order."""

import asyncio
import os
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.labs import DEADLINE, Labs, command, connect, fresh_lab, log_of, plain_environment

from imslab.lab import Lab

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-commands")]

CONFIGS = Path(__file__).parents[2] / "configs"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=DEADLINE, check=False, env=plain_environment()
    )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("imsalg",), ("run", "check", "Examples")),
        (("imsalg", "run"), ("--config", "--ready-fd", "Example")),
        (("imsalg", "check"), ("--config", "Example")),
        (("agw",), ("run", "check", "Examples")),
        (("agw", "run"), ("--config", "--worker", "Examples")),
        (("agw", "check"), ("--config", "Example")),
        (("imslab",), ("up", "ue", "core", "ladder")),
        (("imslab", "up"), ("--once", "--run-dir", "Examples")),
        (("imslab", "ue"), ("--call", "--answer", "Examples")),
        (("imslab", "ladder"), ("--format", "Examples")),
        (("imslab", "core"), ("--config", "Example")),
    ],
    ids=" ".join,
)
def test_help(arguments: tuple[str, ...], shown: tuple[str, ...]) -> None:
    done = run(*arguments, "--help")
    assert done.returncode == 0
    for word in shown:
        assert word in done.stdout


@pytest.mark.parametrize("daemon", ["imsalg", "agw"])
@pytest.mark.parametrize("folder", [CONFIGS, CONFIGS / "lab"], ids=["deployment", "lab"])
def test_the_settings_that_are_shipped_are_good(daemon: str, folder: Path) -> None:
    done = run(daemon, "check", "--config", str(folder / f"{daemon}.toml"))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\[tls\]|^\[policy\]", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("action", ["check", "run"])
@pytest.mark.parametrize(
    ("daemon", "good", "bad"),
    [("imsalg", "path_scheme", "path_shceme"), ("agw", "quarantine", "quarantaine")],
)
def test_an_unknown_key_is_named_with_its_file_and_the_nearest_key(
    tmp_path: Path, daemon: str, good: str, bad: str, action: str
) -> None:
    path = tmp_path / f"{daemon}.toml"
    path.write_text((CONFIGS / "lab" / f"{daemon}.toml").read_text("utf-8").replace(f"{good} =", f"{bad} ="))
    done = run(daemon, action, "--config", str(path))
    assert done.returncode == 2
    assert f"{path}: [realm.access] unknown key '{bad}'; did you mean '{good}'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("daemon", ["imsalg", "agw"])
def test_a_missing_file_is_said_in_one_line(tmp_path: Path, daemon: str) -> None:
    done = run(daemon, "run", "--config", str(tmp_path / "nowhere.toml"))
    assert done.returncode != 0
    assert "nowhere.toml" in done.stderr
    assert "Traceback" not in done.stderr


class NotifySocket:
    """What service managers read: states, with the process that sent each."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)

    def states(self) -> Iterator[tuple[int, str]]:
        """(process id, text) of every notification so far."""
        size = struct.calcsize("3i")
        while True:
            try:
                text, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(size))
            except BlockingIOError:
                return
            yield struct.unpack("3i", ancillary[0][2][:size])[0], text.decode()

    def close(self) -> None:
        self._socket.close()


def test_readiness_and_the_end_are_notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notify = NotifySocket(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    try:
        with fresh_lab() as lab_run:
            processes = {name: lab_run.lab.processes[name].pid for name in ("imsalg", "agw")}
            seen = list(notify.states())
            for pid in processes.values():
                assert any(sender == pid and text.startswith("READY=1") for sender, text in seen)
        seen = list(notify.states())
        for pid in processes.values():
            assert any(sender == pid and text.startswith("STOPPING=1") for sender, text in seen)
        # Type=notify listens to the main process alone: workers must keep quiet.
        assert {sender for sender, _ in seen} <= set(processes.values())
    finally:
        notify.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_each_daemon_in_order(number: signal.Signals) -> None:
    async def scenario(lab: Lab) -> None:
        for name in ("agw", "imsalg", "core"):
            process = lab.processes[name]
            os.kill(process.pid, number)
            assert await process.wait(10.0) == 0
            for word in ("Traceback", "error"):
                assert word not in log_of(lab, name)

    with fresh_lab(workers=2) as lab_run:
        workers = lab_run.lab.processes["agw"].ready["workers"]
        lab_run.run(scenario, tidy=False)
        assert not alive(workers)


def test_traces_are_opened_again_after_a_rotation(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        for name in ("imsalg", "agw"):
            path = lab.directory / f"{name}.trace.jsonl"
            path.rename(path.with_suffix(".1"))
            os.kill(lab.processes[name].pid, signal.SIGHUP)
        talk = await connect(lab)
        await talk.texts()
        await talk.hang_up()
        lines = await lab.wait_lines(
            lambda lines: {one.node for one in lines if one.kind in ("bytes", "bind")} == {"imsalg", "agw"}
        )
        assert lines

    with fresh_lab() as lab_run:
        lab_run.run(scenario, tidy=False)


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that live."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that exist."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_the_lab_serves_until_ctrl_c(tmp_path: Path) -> None:
    """``imslab up``: the demonstration, then service; SIGINT stops every process, status 0."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *command("imslab", "up", "--free-ports", "--run-dir", str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=plain_environment(),
            start_new_session=True,
        )
        seen = b""
        try:
            async with asyncio.timeout(DEADLINE):
                assert process.stdout is not None
                while b"serving" not in seen:
                    line = await process.stdout.readline()
                    assert line, seen.decode()
                    seen += line
                children = children_of(process.pid)
                assert len(children) == 3
                process.send_signal(signal.SIGINT)
                rest = await process.stdout.read()
                assert await process.wait() == 0, rest.decode()
            assert "stopped" in rest.decode()
            assert "Traceback" not in rest.decode()
            assert not alive(children)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for hint in ("Register a softphone", "imslab ue", "imslab ladder", "all verified"):
            assert hint in seen.decode()

    asyncio.run(main())
