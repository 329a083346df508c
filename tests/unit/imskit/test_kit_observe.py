"""Traces, logs, sd_notify and the shutdown helper."""

import asyncio
import io
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from imskit.driver import run
from imskit.logs import configure, get_logger
from imskit.sdnotify import Notifier
from imskit.shutdown import Shutdown
from imskit.trace import DISABLED, Tracer


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_trace_line_has_time_node_kind_and_fields(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    tracer = Tracer(file, "agw")
    tracer.write("tcp", what="accepted", count=2, sdp=["a", "b"], path=tmp_path)
    tracer.close()
    (line,) = lines(file)
    assert isinstance(line.pop("t"), float)
    assert line == {
        "node": "agw",
        "kind": "tcp",
        "what": "accepted",
        "count": 2,
        "sdp": ["a", "b"],
        "path": str(tmp_path),
    }


def test_a_disabled_tracer_writes_nothing_and_may_be_used_anyhow() -> None:
    assert not DISABLED.enabled
    DISABLED.write("sip", summary="INVITE")
    DISABLED.flush()
    DISABLED.reopen()
    DISABLED.close()


def test_lines_are_gathered_and_flushed_by_the_loop(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    async def main() -> int:
        arrived = asyncio.Event()
        asyncio.get_running_loop().add_reader(reader, arrived.set)
        tracer = Tracer(pipe, "n")
        tracer.write("a")
        tracer.write("b")
        with pytest.raises(BlockingIOError):
            os.read(reader, 1_000)
        async with asyncio.timeout(5):
            await arrived.wait()
        asyncio.get_running_loop().remove_reader(reader)
        kinds = [json.loads(line)["kind"] for line in os.read(reader, 1_000).splitlines()]
        assert kinds == ["a", "b"], "both lines in one write, without a call of flush"
        tracer.write("c")
        tracer.close()
        tracer.write("after close")
        assert json.loads(os.read(reader, 1_000))["kind"] == "c"
        assert os.read(reader, 1_000) == b""
        return 0

    assert run(main()) == 0
    os.close(reader)


def test_much_is_flushed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"

    async def main() -> int:
        tracer = Tracer(file, "n")
        tracer.write("big", text="x" * 70_000)
        assert file.stat().st_size > 70_000
        tracer.close()
        return 0

    assert run(main()) == 0


def test_reopen_follows_a_log_rotation(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    tracer = Tracer(file, "n")
    tracer.write("a")
    file.rename(tmp_path / "old")
    tracer.reopen()
    tracer.write("b")
    tracer.close()
    assert [line["kind"] for line in lines(tmp_path / "old")] == ["a"]
    assert [line["kind"] for line in lines(file)] == ["b"]


def test_two_tracers_share_a_file_with_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    tracers = [Tracer(file, f"n{number}") for number in range(2)]
    for number in range(100):
        tracers[number % 2].write("k", number=number)
    for tracer in tracers:
        tracer.close()
    assert sorted(line["number"] for line in lines(file)) == list(range(100))


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    tracer = Tracer("/dev/full", "n")
    tracer.write("a")
    tracer.write("b")
    assert tracer.lost == 2
    tracer.close()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored_logging")
def test_json_logs_carry_component_level_time_and_exception() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    log = get_logger("agw.relay", gateway="agw-1")
    log.debug("not shown")
    try:
        raise ValueError("inner")
    except ValueError as error:
        log.error("it failed", link=3, exc_info=error)
    logging.getLogger("asyncio").warning("from %s", "the library")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["event"] == "it failed"
    assert (first["component"], first["gateway"], first["level"], first["link"]) == ("agw.relay", "agw-1", "error", 3)
    assert "ValueError: inner" in first["exception"]
    assert (second["event"], second["level"]) == ("from the library", "warning")


@pytest.mark.usefixtures("restored_logging")
def test_text_logs_without_colours_off_a_terminal() -> None:
    out = io.StringIO()
    configure("debug", "text", out)
    get_logger("x").debug("shown", number=5)
    assert "shown" in out.getvalue()
    assert "number=5" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_sd_notify_speaks_to_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.ready("3 listeners")
        assert sock.recv(100) == b"READY=1\nSTATUS=3 listeners"
        notifier.status("a\nb")
        assert sock.recv(100) == b"STATUS=a b"
        notifier.stopping()
        assert sock.recv(100) == b"STOPPING=1"
        notifier.reloading()
        assert sock.recv(100) == b"RELOADING=1"


def test_sd_notify_takes_an_abstract_socket() -> None:
    name = f"imskit-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert sock.recv(100) == b"READY=1"


def test_sd_notify_without_a_supervisor_is_silent(tmp_path: Path) -> None:
    assert not Notifier({}).enabled
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_the_watchdog_reports_at_half_its_interval(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    pid = str(os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)

        async def main() -> int:
            loop = asyncio.get_running_loop()
            notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "40000", "WATCHDOG_PID": pid})
            assert notifier.watchdog_interval == 0.02
            notifier.start_watchdog()
            async with asyncio.timeout(5):
                for _ in range(3):
                    assert await loop.sock_recv(sock, 100) == b"WATCHDOG=1"
            notifier.close()
            return 0

        assert run(main()) == 0
    assert Notifier({"WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}).watchdog_interval == 0.0


def test_shutdown_by_signal_and_hangup() -> None:
    async def main() -> int:
        hung_up = asyncio.Event()
        shutdown = Shutdown(hung_up.set)
        async with asyncio.timeout(5):
            os.kill(os.getpid(), signal.SIGHUP)
            await hung_up.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await shutdown.wait() == "SIGTERM"
        shutdown.request("too late")
        assert shutdown.reason == "SIGTERM"
        return 0

    assert run(main()) == 0
