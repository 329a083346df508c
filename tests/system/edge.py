"""P-CSCF/IMS-ALG, and an IMS-AGW where one is wanted, as real processes; UE, core and gateway are sockets of the test.

Everything here blocks, with a deadline. Messages are made as text, so that they can be broken at will.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imskit.tls import Identity
from imslab.toml import dumps, merge
from imswire.base import TpktFramer, tpkt
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse

DEADLINE = 15.0
HOST = "127.0.0.1"
UE = Identity.generate("ue")
FINGERPRINT = "SHA-256 " + ":".join(f"{octet:02X}" for octet in UE.fingerprint("sha-256"))
_SOURCES = str(Path(__file__).resolve().parents[2] / "src")
_numbers = itertools.count(1)


def environment() -> dict[str, str]:
    """The environment of a daemon run from the source tree."""
    return {**os.environ, "PYTHONPATH": _SOURCES}


class Daemon:
    """A process that has said it is ready: ``ready`` holds its real addresses."""

    def __init__(self, name: str, settings: Mapping[str, Any], folder: Path, *, wait: bool = True) -> None:
        path = folder / f"{name}.toml"
        path.write_text(dumps(settings))
        self.log = folder / f"{name}.log"
        reading, writing = os.pipe()
        command = [sys.executable, "-m", name, "run", "--config", str(path), "--ready-fd", str(writing)]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(command, pass_fds=(writing,), env=environment(), stdout=log, stderr=log)
        os.close(writing)
        self._reading = reading
        self.ready: dict[str, Any] = {}
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it says that it is ready; raises RuntimeError with the end of its log."""
        with os.fdopen(self._reading) as ready:
            line = ready.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"{self.popen.args!r} did not become ready: {self.log.read_text()[-2000:]}")
        self.ready = json.loads(line)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL to one that does not listen."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()

    def alive(self) -> bool:
        """True while the process runs."""
        return self.popen.poll() is None


class Peer:
    """One end of SIP over UDP or a stream. ``receive`` drops what belongs to other calls and repeats of old ones."""

    def __init__(self, sock: socket.socket, to: tuple[str, int] | None = None) -> None:
        self.sock = sock
        self.to = to
        self.stream = sock.type == socket.SOCK_STREAM
        sock.settimeout(DEADLINE)
        self._buffer = b""

    @property
    def port(self) -> int:
        """The own port."""
        return int(self.sock.getsockname()[1])

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        """Bytes as they are."""
        where = to or self.to
        if self.stream or where is None:
            self.sock.sendall(data)
        else:
            self.sock.sendto(data, where)

    def receive(self, call_id: str | None = None) -> Request | Response:
        """The next message of that call; a request's source is where answers go to."""
        while True:
            message = self._next()
            if call_id is None or message.call_id == call_id:
                return message

    def final(self, call_id: str) -> Response:
        """The final response of that call's pending request."""
        while True:
            message = self.receive(call_id)
            if isinstance(message, Response) and message.status >= 200:
                return message

    def request(self, method: str, call_id: str) -> Request:
        """The next request of that kind in that call; of another kind there must be none but repeats."""
        while True:
            message = self.receive(call_id)
            if isinstance(message, Request) and message.method == method:
                return message

    def ended(self) -> bool:
        """Read to the end of the stream; True when it has one."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(65_536):
                pass
        return True

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _next(self) -> Request | Response:
        if not self.stream:
            data, source = self.sock.recvfrom(65_536)
            if self.to is None:
                self.last_source = source
            return parse(data)
        while (end := self._buffer.find(b"\r\n\r\n")) < 0 or len(self._buffer) < end + 4 + self._length(end):
            data = self.sock.recv(65_536)
            if not data:
                raise EOFError("the stream ended")
            self._buffer = (self._buffer + data).lstrip(b"\r\n")
        size = end + 4 + self._length(end)
        whole, self._buffer = self._buffer[:size], self._buffer[size:]
        return parse(whole)

    def _length(self, end: int) -> int:
        head = self._buffer[:end].lower()
        return int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])


class Edge:
    """The daemons, a core of one UDP socket, and whatever UEs a test makes."""

    def __init__(
        self,
        folder: Path,
        *,
        alg: Mapping[str, Any] | None = None,
        agw: Mapping[str, Any] | None = None,
        with_agw: bool = True,
    ) -> None:
        """``alg`` and ``agw`` are laid over the settings of the daemons."""
        self.folder = folder
        self._stack = contextlib.ExitStack()
        core = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        core.bind((HOST, 0))
        self.core = Peer(core)
        UE.save(folder / "pcscf.pem", folder / "pcscf.key")
        self.alg = Daemon("imsalg", merge(alg_settings(folder, core.getsockname()[1]), alg or {}), folder)
        self._stack.callback(self.alg.stop)
        self.agw: Daemon | None = None
        if with_agw:
            self.agw = Daemon("agw", agw_settings(folder, self.gateways[1], agw or {}), folder)
            self._stack.callback(self.agw.stop)

    def __enter__(self) -> "Edge":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def gateways(self) -> tuple[str, int]:
        """Where media gateways connect."""
        return self.alg.ready["gateways"]["host"], self.alg.ready["gateways"]["port"]

    def address(self, realm: str = "access", transport: str = "udp") -> tuple[str, int]:
        """Where the IMS-ALG really listens."""
        entry = next(e for e in self.alg.ready["sip"] if (e["realm"], e["transport"]) == (realm, transport))
        return entry["host"], entry["port"]

    @contextlib.contextmanager
    def ue(self, transport: str = "udp") -> Iterator[Peer]:
        """A UE that never registered."""
        if transport == "udp":
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((HOST, 0))
            peer = Peer(sock, self.address())
        else:
            peer = Peer(socket.create_connection(self.address(transport=transport), DEADLINE))
        try:
            yield peer
        finally:
            peer.close()

    def answer(self, request: Request, status: int, body: bytes = b"", **more: str) -> None:
        """The core answers a request it took."""
        response = request.reply(status, to_tag="core")
        if status < 300 and request.method == "INVITE":
            response.headers.set("Contact", f"<sip:bob@{HOST}:{self.core.port}>")
        if body:
            response.headers.set("Content-Type", "application/sdp")
            response.body = body
        for name, value in more.items():
            response.headers.set(name.replace("_", "-"), value)
        self.core.send(response.to_bytes(), self.core.last_source)

    def serves(self) -> None:
        """OPTIONS from a UE to the core and back: the IMS-ALG lives and routes."""
        with self.ue() as ue:
            call_id = fresh("options")
            ue.send(sip("OPTIONS", ue, call_id))
            self.answer(self.core.request("OPTIONS", call_id), 200)
            assert ue.final(call_id).status == 200

    def serves_media(self) -> None:
        """An offer with a line to be secured reaches the core through a fresh context of the gateway."""
        with self.ue() as ue:
            call_id = fresh("offer")
            ue.send(sip("INVITE", ue, call_id, sdp()))
            invite = self.core.request("INVITE", call_id)
            assert b"TCP/MSRP" in invite.body
            assert b"fingerprint" not in invite.body
            self.answer(invite, 486)
            self.core.request("ACK", call_id)
            refused = ue.final(call_id)
            assert refused.status == 486
            ue.send(ack(ue, refused, call_id))


def alg_settings(folder: Path, core: int) -> dict[str, Any]:
    """UEs need no registration, and every TCP/TLS/MSRP line ends at the edge."""
    tls = {"certificate": str(folder / "pcscf.pem"), "key": str(folder / "pcscf.key")}
    return {
        "imsalg": {"name": "pcscf.test.example"},
        "listen": [
            {"realm": "access", "transport": "udp", "host": HOST, "port": 0},
            {"realm": "access", "transport": "tcp", "host": HOST, "port": 0},
            {"realm": "access", "transport": "tls", "host": HOST, "port": 0, **tls},
            {"realm": "core", "transport": "udp", "host": HOST, "port": 0},
            {"realm": "core", "transport": "tcp", "host": HOST, "port": 0},
        ],
        "realm": {
            "access": {"kind": "access", "allow_unregistered": True},
            "core": {"kind": "core", "next_hop": f"sip:{HOST}:{core}"},
        },
        "policy": {"msrp": "always"},
        "gateways": {"listen": f"tcp:{HOST}:0"},
        "trace": {"file": str(folder / "imsalg.trace.jsonl")},
    }


def agw_settings(folder: Path, controller: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """One worker on ports of the system's choice."""
    base: dict[str, Any] = {
        "agw": {"controller": f"tcp:{HOST}:{controller}", "workers": 1, "drain_time": 0.0},
        "realm": {"access": {"ports": "0"}, "core": {"ports": "0"}},
        "timers": {"backoff_first": 0.05},
        "trace": {"file": str(folder / "agw.trace.jsonl")},
    }
    return merge(base, more)


def free_port(*but: int) -> int:
    """A port of the IPv4 loopback that nobody has, outside the range that the system hands out by itself."""
    for port in range(20_000 + os.getpid() % 8_000, 30_000):
        if port in but:
            continue
        with (
            contextlib.suppress(OSError),
            socket.create_server((HOST, port)),
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            udp.bind((HOST, port))
            return port
    raise RuntimeError("no free port")


# --- messages as text ---


def fresh(name: str) -> str:
    """A Call-ID of its own."""
    return f"{name}-{next(_numbers)}-{os.getpid()}"


def sip(method: str, ue: Peer, call_id: str, body: bytes = b"", *more: str, drop: str = "") -> bytes:
    """A request of the UE. ``more`` are header lines; ``drop`` is the name of a header to leave out."""
    lines = [
        f"Via: SIP/2.0/{'TCP' if ue.stream else 'UDP'} {HOST}:{ue.port};branch=z9hG4bK{call_id}-{method};rport",
        "Max-Forwards: 70",
        "From: <sip:alice@test.example>;tag=ue",
        "To: <sip:bob@test.example>",
        f"Call-ID: {call_id}",
        f"CSeq: 1 {method}",
        f"Contact: <sip:alice@{HOST}:{ue.port}>",
        *(["Content-Type: application/sdp"] if body else []),
        *more,
        f"Content-Length: {len(body)}",
    ]
    kept = [line for line in lines if not drop or not line.startswith(f"{drop}:")]
    return f"{method} sip:bob@test.example SIP/2.0\r\n".encode() + "\r\n".join(kept).encode() + b"\r\n\r\n" + body


def ack(ue: Peer, response: Response, call_id: str) -> bytes:
    """The ACK to a final response: in the INVITE's transaction to a failure, along the route set to a 2xx."""
    success = response.status < 300
    target = response.contacts[0].uri if success else "sip:bob@test.example"
    lines = [
        f"ACK {target} SIP/2.0",
        f"Via: SIP/2.0/UDP {HOST}:{ue.port};branch=z9hG4bK{call_id}-{'ACK' if success else 'INVITE'};rport",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in reversed(response.headers.values("record-route")) if success),
        "From: <sip:alice@test.example>;tag=ue",
        f"To: {response.headers.get('to')}",
        f"Call-ID: {call_id}",
        "CSeq: 1 ACK",
        "Content-Length: 0",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def sdp(
    *,
    proto: str = "TCP/TLS/MSRP",
    port: int = 9,
    setup: str = "active",
    fingerprint: str | None = FINGERPRINT,
    more: str = "",
) -> bytes:
    """A session description with one MSRP line, by default one that is to be secured."""
    scheme = "msrps" if "TLS" in proto else "msrp"
    lines = [
        "v=0",
        f"o=- 1 1 IN IP4 {HOST}",
        "s=-",
        f"c=IN IP4 {HOST}",
        "t=0 0",
        f"m=message {port} {proto} *",
        "a=accept-types:*",
        f"a=path:{scheme}://{HOST}:{port or 9}/session;tcp",
        "a=msrp-cema",
        f"a=setup:{setup}",
        *([f"a=fingerprint:{fingerprint}"] if fingerprint is not None else []),
        *([more] if more else []),
    ]
    return ("\r\n".join(lines) + "\r\n").encode()


# --- H.248 as text ---


class H248Peer:
    """One end of an H.248 link over TCP with TPKT, as text."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE)
        self._framer = TpktFramer()
        self._waiting: list[str] = []

    def send(self, text: str) -> None:
        """One message."""
        self.sock.sendall(tpkt(text.encode()))

    def receive(self) -> str:
        """The next message, every run of white space as one space."""
        while not self._waiting:
            data = self.sock.recv(65_536)
            if not data:
                raise EOFError("the link was closed")
            self._waiting += [" ".join(one.decode().split()) for one in self._framer.feed(data)]
        return self._waiting.pop(0)

    def until(self, part: str) -> str:
        """The next message with ``part`` in it; heartbeats and the like are passed over."""
        while part not in (message := self.receive()):
            pass
        return message

    def closed(self) -> bool:
        """Read to the end of the link; True when it has one."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(65_536):
                pass
        return True

    def close(self) -> None:
        """Close the link."""
        self.sock.close()
