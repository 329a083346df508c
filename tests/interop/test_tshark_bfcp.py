"""Wireshark's BFCP dissector reads every primitive that we write, with nothing malformed, and names what is in it."""

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imswire_bfcp.bfcp_samples import CONFERENCE, SAMPLES, TRANSACTION, USER

from imswire.bfcp.client import FloorClient
from imswire.bfcp.floor import FloorServer
from imswire.bfcp.floor_values import Floor, SendTo, User
from imswire.bfcp.message import Message
from imswire.bfcp.tables import Primitive

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="needs the program tshark (Debian package tshark)"),
]

PORT = 50_000


def sum16(data: bytes) -> int:
    """The Internet checksum."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data)) if len(data) % 2 == 0 else sum16(data + b"\0") ^ 0xFFFF
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packet(payload: bytes, sequence: int) -> bytes:
    """One TCP segment in an IPv4 packet, from the client's port to the server's."""
    tcp = struct.pack("!HHIIBBHHH", 40_000, PORT, sequence, 1, 5 << 4, 0x18, 65_535, 0, 0)
    ends = bytes((127, 0, 0, 1)) * 2
    check = sum16(ends + struct.pack("!BBH", 0, 6, len(tcp) + len(payload)) + tcp + payload)
    tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp) + len(payload), 1, 0x4000, 64, 6, 0) + ends
    return ip[:10] + struct.pack("!H", sum16(ip)) + ip[12:] + tcp + payload


def capture(path: Path, pieces: list[bytes]) -> None:
    """A pcap file (raw IP) of one TCP stream in these segments."""
    out = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101))
    sequence = 1
    for number, piece in enumerate(pieces):
        one = packet(piece, sequence)
        out += struct.pack("<IIII", 1_700_000_000, number, len(one), len(one)) + one
        sequence += len(piece)
    path.write_bytes(out)


def dissect(path: Path) -> list[dict[str, Any]]:
    """The BFCP layer of every packet, every field as a list of what is shown for it."""
    command = ["tshark", "-r", str(path), "-d", f"tcp.port=={PORT},bfcp", "-T", "json", "--no-duplicate-keys"]
    result = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return [frame["_source"]["layers"] for frame in json.loads(result.stdout)]


def values(layer: Any, name: str) -> list[str]:
    """Everything shown for a field, however deep it stands."""
    found: list[str] = []
    if isinstance(layer, dict):
        for key, value in layer.items():
            if key == name:
                found += value if isinstance(value, list) else [value]
            else:
                found += values(value, name)
    elif isinstance(layer, list):
        for one in layer:
            found += values(one, name)
    return found


def test_every_primitive_is_read_and_nothing_is_malformed(tmp_path: Path) -> None:
    file = tmp_path / "bfcp.pcap"
    capture(file, [message.to_bytes() for message in SAMPLES.values()])
    frames = dissect(file)
    assert len(frames) == len(SAMPLES)
    for primitive, frame in zip(SAMPLES, frames, strict=True):
        assert "bfcp" in frame, primitive.name
        assert "_ws.malformed" not in frame, primitive.name
        assert values(frame, "bfcp.attribute_length.too_small") == []
        layer = frame["bfcp"]
        assert values(layer, "bfcp.primitive") == [str(int(primitive))]
        assert values(layer, "bfcp.conference_id") == [str(CONFERENCE)]
        assert values(layer, "bfcp.transaction_id") == [str(TRANSACTION)]
        assert values(layer, "bfcp.user_id") == [str(USER)]
    by_primitive = dict(zip(SAMPLES, frames, strict=True))
    request = by_primitive[Primitive.FLOOR_REQUEST]
    assert values(request, "bfcp.floor_id") == ["543", "544"]
    assert values(request, "bfcp.beneficiary_id") == ["154"]
    status = by_primitive[Primitive.FLOOR_REQUEST_STATUS]
    assert values(status, "bfcp.request_status") == ["2", "2"]
    assert values(status, "bfcp.user_uri") == ["sip:zoe@lab.example"]
    assert values(status, "bfcp.status_info_text") == ["soon", "after Bob"]
    assert values(by_primitive[Primitive.ERROR], "bfcp.error_code") == ["4"]
    assert values(by_primitive[Primitive.ERROR], "bfcp.error_info_text") == ["what is that?"]


def test_what_server_and_client_say_is_read(tmp_path: Path) -> None:
    said: list[Message] = []
    server = FloorServer(CONFERENCE, [Floor(1), Floor(2, chair=3)], [User(n, f"user {n}") for n in (1, 2, 3)])
    clients = {number: FloorClient(CONFERENCE, number) for number in (1, 2, 3)}

    def ask(message: Message) -> None:
        said.append(message)
        for output in server.receive(message.user, message):
            if isinstance(output, SendTo):
                said.append(output.message)
                clients[output.message.user].receive(output.message)

    ask(clients[1].hello())
    ask(clients[3].query_floors(1, 2))
    ask(clients[1].request_floor(1, 2, info="slides"))
    ask(clients[2].request_floor(1, priority=4))
    ask(clients[3].chair(1, [2], 3, reason="please"))  # type: ignore[arg-type]
    ask(clients[1].query_user(2))
    ask(clients[1].release(1))
    ask(clients[2].release(99))
    file = tmp_path / "bfcp.pcap"
    capture(file, [message.to_bytes() for message in said])
    frames = dissect(file)
    assert [values(frame, "bfcp.primitive") for frame in frames] == [[str(int(one.primitive))] for one in said]
    assert not any("_ws.malformed" in frame for frame in frames)
    assert {Primitive(one.primitive) for one in said} >= {Primitive.ERROR, Primitive.CHAIR_ACTION_ACK}
