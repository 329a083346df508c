"""Wireshark's dissectors as witnesses: a call through the real processes is captured on loopback and decoded by tshark.

The lab listens on a loopback address of its own, so that the capture holds this call and nothing else. The capture goes
through a pipe to the test: a probe that came through says that it runs, a second one that all before it was taken.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tests.unit.agw.agw_support import on_loop

from imskit.driver import spawn
from imslab.lab import Lab

DEADLINE = 20.0
HOST = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}.7"
SECRET = "this text is for nobody on the access side"
PROBE_EVERY = 0.05

pytestmark = [
    pytest.mark.interop,
    pytest.mark.system,
    pytest.mark.xdist_group("tshark"),
    pytest.mark.skipif(
        shutil.which("tshark") is None or shutil.which("dumpcap") is None,
        reason="needs the programs tshark and dumpcap (Debian package tshark)",
    ),
]

FIELDS = (
    "frame.number",
    "frame.protocols",
    "tcp.stream",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sip.Method",
    "sip.Status-Code",
    "sdp.media.proto",
    "megaco.command",
    "megaco.termid",
    "megaco.error",
    "msrp.method",
    "msrp.status.code",
    "tls.handshake.type",
    "tls.app_data",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
    "tcp.payload",
)
ERROR = 0x00800000
"""PI_ERROR; chats, notes and warnings (a repeated segment, a reset connection) are below."""


class Capture:
    """dumpcap on the loopback interface, its output taken from a pipe."""

    def __init__(self, filter: str) -> None:
        self._filter = filter
        self._data = bytearray()
        self._grown = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind((HOST, 0))

    async def start(self) -> None:
        """Until a probe has come through; skips the test where capturing is not allowed."""
        self._process = await asyncio.create_subprocess_exec(
            *("dumpcap", "-i", "lo", "-q", "-w", "-", "-f", self._filter),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = spawn(self._read(), name="capture")
        try:
            await self._probe(b"probe: the capture runs")
        except EOFError:
            assert self._process.stderr is not None
            text = (await self._process.stderr.read()).decode(errors="replace").strip()
            pytest.skip(
                f"capturing on lo is not permitted here: {text.splitlines()[-1] if text else 'no reason given'}"
            )

    async def stop(self) -> bytes:
        """Everything up to now, as pcapng."""
        await self._probe(b"probe: all was taken")
        await self.kill()
        return bytes(self._data)

    async def kill(self) -> None:
        """End the program, if it runs, and take what it still had: a packet cut in two is no capture."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        if self._reader is not None:
            await self._reader
        self._sink.close()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65_536):
            self._data += data
            self._grown.set()
        self._grown.set()

    async def _probe(self, token: bytes) -> None:
        """Send ``token`` to ourselves until it is seen in the capture."""
        async with asyncio.timeout(DEADLINE):
            while token not in self._data:
                if self._reader is None or self._reader.done():
                    raise EOFError("dumpcap ended")
                self._sink.sendto(token, self._sink.getsockname())
                self._grown.clear()
                try:
                    async with asyncio.timeout(PROBE_EVERY):
                        await self._grown.wait()
                except TimeoutError:
                    continue


def lab_in(folder: Path) -> Lab:
    transports = ("udp", "tcp")
    realm = {"addresses": [HOST], "quarantine": 2.0}
    lab = Lab(
        directory=folder,
        core={"listen": [{"transport": transport, "host": HOST, "port": 0} for transport in transports]},
        imsalg={
            "listen": [
                {"realm": side, "transport": transport, "host": HOST, "port": 0}
                for side in ("access", "core")
                for transport in transports
            ]
        },
        agw={"realm": {"access": realm, "core": realm}},
    )
    lab.host = HOST
    return lab


class Recorded:
    """The capture and the ports in it."""

    def __init__(self, file: Path, sip: set[int], h248: int, access: set[int], core: set[int]) -> None:
        self.file = file
        self.access = access
        self.core = core
        self.packets = decode(file, sip, h248, access, core)


def decode(file: Path, sip: set[int], h248: int, access: set[int], core: set[int]) -> list[dict[str, str]]:
    """One tshark run: every packet as a dictionary of its fields."""
    kinds = [(f"{layer}.port=={port}", "sip") for port in sorted(sip) for layer in ("udp", "tcp")]
    kinds += [(f"tcp.port=={h248}", "megaco")]
    kinds += [(f"tcp.port=={port}", "tls") for port in sorted(access)]
    kinds += [(f"tcp.port=={port}", "msrp") for port in sorted(core)]
    command = ["tshark", "-n", "-r", str(file), "-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]
    command += [part for port, name in kinds for part in ("-d", f"{port},{name}")]
    command += [part for field in FIELDS for part in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two UEs register, one calls the other, texts go both ways, the call ends, both deregister."""
    folder = tmp_path_factory.mktemp("capture")

    async def main() -> Recorded:
        lab = lab_in(folder)
        capture: Capture | None = None
        try:
            await lab.start_one("core")
            await lab.start_one("imsalg")
            h248 = lab.processes["imsalg"].ready["gateways"]["port"]
            capture = Capture(f"host {HOST} or tcp port {h248}")
            await capture.start()
            await lab.start_one("agw")
            alice, bob = await lab.ue("alice", transport="tcp"), await lab.ue("bob")
            outgoing = alice.dial(bob.account.aor)
            incoming = await bob.wait_call()
            incoming.ring()
            incoming.accept()
            await outgoing.answered()
            for one in (outgoing, incoming):
                await one.session.opened()
            await outgoing.session.send_text(SECRET)
            assert (await incoming.session.receive()).text == SECRET
            await incoming.session.send_text(SECRET[::-1])
            assert (await outgoing.session.receive()).text == SECRET[::-1]
            await outgoing.hangup()
            await incoming.wait_end()
            await lab.wait_lines(lambda lines: sum(line.kind == "bytes" for line in lines) == 2)
            for agent in (alice, bob):
                await agent.unregister()
            ready = [*lab.processes["imsalg"].ready["sip"], *lab.processes["core"].ready["sip"]]
            lines = lab.lines()
            data = await capture.stop()
        finally:
            if capture is not None:
                await capture.kill()
            await lab.stop()
        file = folder / "call.pcapng"
        file.write_bytes(data)
        ports = {
            side: {
                int(line.local.rpartition(":")[2])
                for line in lines
                if line.kind == "tcp" and line.realm == side and line.local
            }
            for side in ("access", "core")
        }
        return Recorded(file, {entry["port"] for entry in ready}, h248, ports["access"], ports["core"])

    return on_loop(main)


def test_nothing_is_malformed(recorded: Recorded) -> None:
    severities = [int(one, 0) for packet in recorded.packets for one in packet["_ws.expert.severity"].split("|") if one]
    assert severities, "every SIP message has a remark of the least severity"
    assert max(severities) < ERROR
    assert [packet for packet in recorded.packets if packet["_ws.malformed"]] == []


def test_every_packet_with_content_was_dissected(recorded: Recorded) -> None:
    unknown = [packet for packet in recorded.packets if packet["frame.protocols"].endswith(":data")]
    # The probes of the capture itself, from one socket to itself, have no dissector; nothing else is without one.
    assert len(unknown) >= 2
    assert all(packet["udp.srcport"] == packet["udp.dstport"] != "" for packet in unknown)


def values(packets: list[dict[str, str]], field: str) -> Counter[str]:
    """How often each value of a field occurs."""
    return Counter(value for packet in packets for value in packet[field].split("|") if value)


def test_sip_of_the_call(recorded: Recorded) -> None:
    packets = [packet for packet in recorded.packets if ":sip" in packet["frame.protocols"]]
    methods = values(packets, "sip.Method")
    # Each request is seen from the UE to the IMS-ALG, to the core, and for those of the call back the same way.
    assert methods["REGISTER"] >= 2 * 3 * 2
    for method in ("INVITE", "ACK", "BYE"):
        assert methods[method] >= 4, method
    assert set(values(packets, "sip.Status-Code")) >= {"100", "180", "200", "401"}
    assert set(values(packets, "sdp.media.proto")) == {"TCP/TLS/MSRP", "TCP/MSRP"}


def test_h248_of_the_call(recorded: Recorded) -> None:
    packets = [packet for packet in recorded.packets if ":megaco" in packet["frame.protocols"]]
    commands = values(packets, "megaco.command")
    # Two passages, two terminations each, request and reply.
    assert [commands[name] for name in ("Add", "Modify", "Subtract")] == [8, 8, 8]
    assert commands["ServiceChange"] >= 2
    terminations = set(values(packets, "megaco.termid"))
    assert len([name for name in terminations if name.startswith("ip/access/")]) == 2
    assert len([name for name in terminations if name.startswith("ip/core/")]) == 2
    assert not values(packets, "megaco.error")


def media(recorded: Recorded, ports: set[int]) -> tuple[list[dict[str, str]], bytes]:
    """The TCP packets of the streams at these ports, and all octets in them."""
    names = {str(port) for port in ports}
    packets = [packet for packet in recorded.packets if names & {packet["tcp.srcport"], packet["tcp.dstport"]}]
    return packets, b"".join(bytes.fromhex(packet["tcp.payload"]) for packet in packets)


def test_core_side_is_plain_msrp(recorded: Recorded) -> None:
    packets, octets = media(recorded, recorded.core)
    assert values(packets, "msrp.method")["SEND"] >= 2
    assert values(packets, "msrp.status.code")["200"] >= 2
    assert octets.count(SECRET.encode()) == 1
    assert octets.count(SECRET[::-1].encode()) == 1


def test_access_side_is_tls_and_shows_nothing(recorded: Recorded) -> None:
    packets, octets = media(recorded, recorded.access)
    streams = {packet["tcp.stream"] for packet in packets}
    assert len(streams) == 2, "one for each UE"
    for stream in streams:
        mine = [packet for packet in packets if packet["tcp.stream"] == stream]
        assert {"1", "2"} <= set(values(mine, "tls.handshake.type")), "ClientHello and ServerHello"
        assert values(mine, "tls.app_data")
        assert {packet["frame.protocols"].partition(":tcp")[2] for packet in mine} <= {"", ":tls", ":tls:tls"}
        first = next(packet["tcp.payload"] for packet in mine if packet["tcp.payload"])
        assert first.startswith("16"), "the first octet is that of a handshake record"
    for text in (SECRET, SECRET[::-1], "MSRP", "msrp"):
        assert text.encode() not in octets
