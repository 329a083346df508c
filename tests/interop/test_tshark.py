"""Wireshark's dissectors as witnesses: a call through the real processes is captured on loopback and decoded by tshark.

The lab listens on a loopback address of its own, so that the capture holds this call and nothing else.
"""

from pathlib import Path

import pytest
from tests.interop.capture import Capture, Packet, decode, faults, needs_tshark, values
from tests.interop.programs import own_address
from tests.unit.agw.agw_support import on_loop

from imslab.lab import Lab

HOST = own_address(7)
SECRET = "this text is for nobody on the access side"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.system,
    pytest.mark.xdist_group("tshark"),
    needs_tshark,
]


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
        self.packets = decode(file, sip=sip, h248=(h248,), tls=access, msrp=core)


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
            capture = Capture(f"host {HOST} or tcp port {h248}", folder / "call.pcapng", HOST)
            capture.start_or_skip()
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
            capture.stop()
        finally:
            if capture is not None:
                capture.kill()
            await lab.stop()
        ports = {
            side: {
                int(line.local.rpartition(":")[2])
                for line in lines
                if line.kind == "tcp" and line.realm == side and line.local
            }
            for side in ("access", "core")
        }
        return Recorded(capture.file, {entry["port"] for entry in ready}, h248, ports["access"], ports["core"])

    return on_loop(main)


def test_nothing_is_malformed(recorded: Recorded) -> None:
    assert values(recorded.packets, "_ws.expert.severity"), "every SIP message has a remark of the least severity"
    assert faults(recorded.packets) == []


def test_every_packet_with_content_was_dissected(recorded: Recorded) -> None:
    unknown = [packet for packet in recorded.packets if packet["frame.protocols"].endswith(":data")]
    # The probes of the capture itself, from one socket to itself, have no dissector; nothing else is without one.
    assert len(unknown) >= 2
    assert all(packet["udp.srcport"] == packet["udp.dstport"] != "" for packet in unknown)


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


def media(recorded: Recorded, ports: set[int]) -> tuple[list[Packet], bytes]:
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
