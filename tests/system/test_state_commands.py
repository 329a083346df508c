"""Reload, drain, the second signal and a state file that cannot be used, as an operator meets them."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.test_imsalg_process import CONFIG, DEADLINE, SRC, message, run

from imskit.admin import Query, ask
from imskit.tls import Identity
from imswire.sip.message import Response
from imswire.sip.parser import parse

pytestmark = pytest.mark.system


def certificate(folder: Path) -> None:
    Identity.generate("pcscf.test.example", hosts=("127.0.0.1",)).save(folder / "cert.pem", folder / "key.pem")


class Node:
    """An imsalg that runs in ``folder``; its settings and certificates are there to be changed."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, **more: str) -> None:
        self.folder = folder
        self.config = folder / "imsalg.toml"
        if not self.config.exists():
            certificate(folder)
            extra = (
                f'[admin]\nsocket = "{folder}/admin.sock"\n[timers]\ndrain_time = 30.0\n[policy]\nmsrp = "optional"\n'
            )
            self.config.write_text(CONFIG.format(core=9, work=folder) + extra)
        read, write = os.pipe()
        command = [sys.executable, "-m", "imsalg", "run", "--config", str(self.config), "--ready-fd", str(write)]
        self.log = folder / "imsalg.log"
        with self.log.open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(SRC), **more}
            self.popen = subprocess.Popen(command, pass_fds=(write,), env=environment, stderr=log, stdout=log)
        stack.callback(self.popen.wait)
        stack.callback(self.popen.kill)
        os.close(write)
        with os.fdopen(read) as ready:
            line = ready.readline()
        assert line, self.log.read_text()
        self.ready: dict[str, Any] = json.loads(line)

    def tell(self, command: str, id: str = "") -> dict[str, Any]:
        answer: dict[str, Any] = ask(self.folder / "admin.sock", Query(command, id))
        return answer

    def address(self, transport: str) -> tuple[str, int]:
        found = next(one for one in self.ready["sip"] if (one["transport"], one["realm"]) == (transport, "access"))
        return found["host"], found["port"]

    def invite(self, branch: str) -> Response:
        """The first answer above 100 to an INVITE from a UE."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ue:
            ue.bind(("127.0.0.1", 0))
            ue.settimeout(DEADLINE)
            data = message("UDP", ue.getsockname()[1], branch).replace(b"MESSAGE", b"INVITE")
            ue.sendto(data, self.address("udp"))
            while True:
                reply = parse(ue.recv(65_535))
                assert isinstance(reply, Response)
                if reply.status > 100:
                    return reply

    def logged(self, words: str) -> None:
        """Wait for a line of the log."""
        end = time.monotonic() + DEADLINE
        while words not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with contextlib.ExitStack() as stack:
        yield Node(tmp_path_factory.mktemp("node"), stack)


def peer_certificate(node: Node) -> tuple[ssl.SSLSocket, bytes]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_socket(socket.create_connection(node.address("tls"), DEADLINE))
    shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return tls, shown


def test_hangup_reads_certificates_anew_and_drops_no_connection(node: Node) -> None:
    old, before = peer_certificate(node)
    with old:
        certificate(node.folder)
        node.popen.send_signal(signal.SIGHUP)
        node.logged("settings reloaded")
        new, after = peer_certificate(node)
        new.close()
        assert before != after
        old.sendall(b"\r\n\r\n")
        assert old.recv(10) == b"\r\n"


def test_reload_is_whole_or_nothing(node: Node) -> None:
    text = node.config.read_text()
    node.config.write_text(text.replace('msrp = "optional"', 'msrp = "required"'))
    done = run("reload", "--config", str(node.config))
    assert done.returncode == 0, done.stderr
    assert "policy.msrp: optional -> required" in done.stdout
    node.config.write_text(text.replace("pcscf.test.example", "other.test.example"))
    refused = run("reload", "--config", str(node.config))
    assert refused.returncode == 1
    assert "imsalg.name: pcscf.test.example -> other.test.example" in refused.stderr
    (node.folder / "key.pem").rename(node.folder / "key.off")
    node.config.write_text(text)
    broken = run("reload", "--config", str(node.config))
    (node.folder / "key.off").rename(node.folder / "key.pem")
    assert broken.returncode == 1
    assert "key.pem" in broken.stderr
    assert node.tell("reload") == {"changed": ["policy.msrp: required -> optional"]}, "nothing of it was taken before"


def test_drain_and_undrain(node: Node) -> None:
    assert node.tell("drain") == {"draining": True, "calls": 0, "seconds": None}
    refused = node.invite("d1")
    assert refused.status == 503
    assert refused.headers.get("retry-after")
    assert "goes out of service" in (refused.headers.get("warning") or "")
    shown = run("undrain", "--config", str(node.config))
    assert "New calls are taken." in shown.stdout
    assert "goes out of service" not in (node.invite("d2").headers.get("warning") or ""), "it went on"


def test_the_state_file_is_private_and_shown(node: Node) -> None:
    (file,) = node.folder.glob("imsalg.db")
    assert file.stat().st_mode & 0o777 == 0o600
    assert node.tell("state")["store"] == "sqlite"
    second = run("run", "--config", str(node.config))
    assert second.returncode == 1
    assert "another imsalg uses it" in second.stderr


def test_a_second_signal_ends_at_once_and_in_order(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        node = Node(tmp_path, stack)
        ringing = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ringing.bind(("127.0.0.1", 0))
        # An INVITE that nobody answers is a call in progress: drain_time is 30 s.
        data = message("UDP", ringing.getsockname()[1], "s1").replace(b"MESSAGE", b"INVITE")
        ringing.sendto(data, node.address("udp"))
        ringing.settimeout(DEADLINE)
        assert b" 100 " in ringing.recv(65_535)
        for _ in range(3):
            node.popen.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert node.popen.wait(DEADLINE) == 0
        assert time.monotonic() - began < 20.0


def test_a_state_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        state = tmp_path / "state"
        state.mkdir()
        first = Node(tmp_path, stack, STATE_DIRECTORY=str(state))
        first.popen.terminate()
        assert first.popen.wait(DEADLINE) == 0
    file = state / "imsalg.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        (key,) = db.execute("SELECT value FROM record WHERE key = 'token_key'").fetchone()
        assert len(key) == 32
        db.execute("PRAGMA user_version = 99")
    config = tmp_path / "imsalg.toml"
    environment = {**os.environ, "PYTHONPATH": str(SRC), "STATE_DIRECTORY": str(state)}
    command = [sys.executable, "-m", "imsalg", "run", "--config", str(config)]
    failed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE, check=False)
    assert failed.returncode == 1
    assert "it has schema 99" in failed.stderr
    assert "--set-state-aside" in failed.stderr
    assert "Traceback" not in failed.stderr
    again = subprocess.Popen([*command, "--set-state-aside"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert again.stderr is not None
        line = again.stderr.readline()
        assert "the old state is in" in line
        assert len(list(state.glob("imsalg.db.aside-*"))) == 1
    finally:
        again.terminate()
        again.communicate(timeout=DEADLINE)
