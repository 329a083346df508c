"""The imsalg daemon as a process on loopback: it starts, serves, answers what is broken, and ends in order."""

import contextlib
import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from imswire.sip.message import Request, Response
from imswire.sip.parser import parse

pytestmark = pytest.mark.system

SRC = Path(__file__).resolve().parents[2] / "src"
DEADLINE = 20.0

CONFIG = """
[imsalg]
name = "pcscf.test.example"
[[listen]]
realm = "access"
transport = "udp"
host = "127.0.0.1"
port = 0
[[listen]]
realm = "access"
transport = "tcp"
host = "127.0.0.1"
port = 0
[[listen]]
realm = "access"
transport = "udp"
host = "::1"
port = 0
[[listen]]
realm = "access"
transport = "tls"
host = "127.0.0.1"
port = 0
certificate = "{work}/cert.pem"
key = "{work}/key.pem"
[[listen]]
realm = "core"
transport = "udp"
host = "127.0.0.1"
port = 0
[realm.access]
kind = "access"
allow_unregistered = true
[realm.core]
kind = "core"
next_hop = "sip:127.0.0.1:{core}"
[gateways]
listen = "tcp:127.0.0.1:0"
[trace]
file = "{work}/trace.jsonl"
"""


class Process:
    """A running daemon with its real addresses and a core of one UDP socket."""

    def __init__(self, popen: subprocess.Popen[bytes], ready: dict[str, Any], core: socket.socket, trace: Path) -> None:
        self.popen = popen
        self.ready = ready
        self.core = core
        self.trace = trace

    def address(self, realm: str, transport: str, host: str = "127.0.0.1") -> tuple[str, int]:
        wanted = (realm, transport, host)
        found = next(one for one in self.ready["sip"] if (one["realm"], one["transport"], one["host"]) == wanted)
        return found["host"], found["port"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a self-signed certificate for 127.0.0.1 and its key."""
    work = tmp_path_factory.mktemp("tls")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pcscf")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (work / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (work / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return work


@pytest.fixture
def alg(certificate: Path) -> Iterator[Process]:
    with contextlib.ExitStack() as stack:
        core = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        core.bind(("127.0.0.1", 0))
        core.settimeout(DEADLINE)
        trace = certificate / "trace.jsonl"
        trace.unlink(missing_ok=True)
        config = certificate / "imsalg.toml"
        config.write_text(CONFIG.format(core=core.getsockname()[1], work=certificate))
        read, write = os.pipe()
        command = [sys.executable, "-m", "imsalg", "run", "--config", str(config), "--ready-fd", str(write)]
        popen = subprocess.Popen(command, pass_fds=(write,), env={**os.environ, "PYTHONPATH": str(SRC)})
        stack.callback(popen.wait)
        stack.callback(popen.kill)
        os.close(write)
        with os.fdopen(read) as ready:
            line = ready.readline()
        assert line, "the daemon did not become ready"
        yield Process(popen, json.loads(line), core, trace)


@pytest.fixture
def ue() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(DEADLINE)
        yield sock


def message(transport: str, port: int, branch: str = "b1") -> bytes:
    lines = [
        "MESSAGE sip:bob@test.example SIP/2.0",
        f"Via: SIP/2.0/{transport} 127.0.0.1:{port};branch=z9hG4bK{branch};rport",
        "Max-Forwards: 70",
        "From: <sip:alice@test.example>;tag=1",
        "To: <sip:bob@test.example>",
        f"Call-ID: {branch}",
        "CSeq: 1 MESSAGE",
        "Content-Type: text/plain",
        "Content-Length: 2",
    ]
    return ("\r\n".join(lines) + "\r\n\r\nhi").encode()


def answered(core: socket.socket) -> Request:
    """Take one request at the core and answer it 200."""
    data, source = core.recvfrom(65_535)
    request = parse(data)
    assert isinstance(request, Request)
    core.sendto(request.reply(200, to_tag="core").to_bytes(), source)
    return request


def test_a_message_goes_through_over_udp(alg: Process, ue: socket.socket) -> None:
    ue.sendto(b"\r\n\r\n", alg.address("access", "udp"))
    ue.sendto(message("UDP", ue.getsockname()[1]), alg.address("access", "udp"))
    assert answered(alg.core).body == b"hi"
    reply = parse(ue.recv(65_535))
    assert isinstance(reply, Response)
    assert reply.status == 200
    assert reply.via.rport == ue.getsockname()[1]


def test_ipv6_towards_the_ue_and_ipv4_towards_the_core(alg: Process) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        sock.settimeout(DEADLINE)
        port = sock.getsockname()[1]
        sock.sendto(message("UDP", port).replace(b"127.0.0.1", b"[::1]"), alg.address("access", "udp", "::1"))
        assert answered(alg.core).via.host == "127.0.0.1"
        reply = parse(sock.recv(65_535))
        assert reply.via.sent_by == f"[::1]:{port}"


def test_tls_towards_the_ue(alg: Process, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with (
        socket.create_connection(alg.address("access", "tls"), DEADLINE) as tcp,
        context.wrap_socket(tcp, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(message("TLS", tls.getsockname()[1]))
        answered(alg.core)
        assert tls.recv(65_535).startswith(b"SIP/2.0 200 OK")


def test_tcp_has_keepalives_and_carries_messages_in_pieces(alg: Process) -> None:
    with socket.create_connection(alg.address("access", "tcp"), DEADLINE) as tcp:
        tcp.sendall(b"\r\n\r\n")
        assert tcp.recv(10) == b"\r\n"
        data = message("TCP", tcp.getsockname()[1])
        tcp.sendall(data[:50])
        tcp.sendall(data[50:])
        assert answered(alg.core).body == b"hi"
        assert tcp.recv(65_535).startswith(b"SIP/2.0 200 OK")


def test_broken_input_is_answered_and_the_daemon_goes_on(alg: Process, ue: socket.socket) -> None:
    address, port = alg.address("access", "udp"), ue.getsockname()[1]
    ue.sendto(b"\x00\xff" * 300, address)
    ue.sendto(message("UDP", port).replace(b"Content-Length: 2", b"Content-Length: 99"), address)
    assert ue.recv(65_535).startswith(b"SIP/2.0 400")
    big = message("UDP", port, "b2").replace(b"Content-Type", b"X-Big: " + b"x" * 40_000 + b"\r\nContent-Type")
    ue.sendto(big, address)
    assert ue.recv(65_535).startswith(b"SIP/2.0 513")
    with socket.create_connection(alg.address("access", "tcp"), DEADLINE) as tcp:
        tcp.sendall(b"MESSAGE sip:a SIP/2.0\r\n" + b"X: " + b"y" * 40_000)
        with contextlib.suppress(ConnectionResetError):
            while tcp.recv(65_535):
                pass
    ue.sendto(message("UDP", port, "b3"), address)
    answered(alg.core)
    assert ue.recv(65_535).startswith(b"SIP/2.0 200")


def test_sigterm_ends_it_with_status_0_and_the_trace_is_there(alg: Process, ue: socket.socket) -> None:
    ue.sendto(message("UDP", ue.getsockname()[1]), alg.address("access", "udp"))
    answered(alg.core)
    ue.recv(65_535)
    alg.popen.send_signal(signal.SIGTERM)
    assert alg.popen.wait(DEADLINE) == 0
    lines = [json.loads(line) for line in alg.trace.read_text().splitlines()]
    assert [(one["dir"], one["realm"]) for one in lines if one["kind"] == "sip"] == [
        ("in", "access"),
        ("out", "core"),
        ("in", "core"),
        ("out", "access"),
    ]
    assert {one["user"] for one in lines if one["kind"] == "sip"} == {"alice"}


def test_sigterm_ends_calls_on_both_sides_first(alg: Process, ue: socket.socket) -> None:
    invite = message("UDP", ue.getsockname()[1]).replace(b"MESSAGE", b"INVITE")
    ue.sendto(invite, alg.address("access", "udp"))
    assert ue.recv(65_535).startswith(b"SIP/2.0 100")
    data, source = alg.core.recvfrom(65_535)
    request = parse(data)
    assert isinstance(request, Request)
    alg.core.sendto(request.reply(180, to_tag="core").to_bytes(), source)
    assert ue.recv(65_535).startswith(b"SIP/2.0 180")
    alg.popen.send_signal(signal.SIGTERM)
    assert ue.recv(65_535).startswith(b"SIP/2.0 503")
    cancel = answered(alg.core)
    assert cancel.method == "CANCEL"
    assert (cancel.headers.get("reason") or "").startswith("SIP;cause=503")
    alg.core.sendto(request.reply(487, to_tag="core").to_bytes(), source)
    assert alg.core.recv(65_535).startswith(b"ACK ")
    assert alg.popen.wait(DEADLINE) == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imsalg", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE, check=False)


def test_check_prints_what_is_in_effect_and_names_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "imsalg.toml"
    config.write_text(CONFIG.format(core=5070, work=tmp_path))
    good = run("check", "--config", str(config))
    assert good.returncode == 0
    assert 'route_check = "replace"' in good.stdout
    config.write_text(CONFIG.format(core=5070, work=tmp_path).replace("allow_unregistered", "allow_unregisterd"))
    bad = run("check", "--config", str(config))
    assert bad.returncode == 2
    assert "unknown key 'allow_unregisterd'; did you mean 'allow_unregistered'?" in bad.stderr


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, certificate: Path, ue: socket.socket) -> None:
    config = tmp_path / "imsalg.toml"
    taken = CONFIG.format(core=5070, work=certificate).replace("port = 0", f"port = {ue.getsockname()[1]}", 1)
    config.write_text(taken)
    failed = run("run", "--config", str(config))
    assert failed.returncode == 1
    assert "cannot bind 127.0.0.1:" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_example_settings_are_valid() -> None:
    assert run("check", "--config", str(SRC.parent / "configs" / "imsalg.toml")).returncode == 0
