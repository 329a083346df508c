"""What goes through: large files, message paths, and what can be read on which side of the edge."""

import asyncio
import ctypes
import hashlib
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.system.labs import FLOWS, PLAIN, SECURE, Labs, added, connect, media_lines, watch

from imslab.lab import Lab
from imslab.ue.chat import ChatError
from imswire.sdp.attributes import Setup

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-content")]

FILE_SIZE = 50_000_000
ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26


def large_file(path: Path) -> str:
    """A file of 50 MB that does not compress or repeat; its SHA-256."""
    block = secrets.token_bytes(1_000_000)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(FILE_SIZE // len(block)):
            piece = number.to_bytes(8) + block[8:]
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("cema", [True, False], ids=["agnostic", "aware"])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_large_file_each_way_at_the_same_time(labs: Labs, tmp_path: Path, flow: str, cema: bool) -> None:
    """Without CEMA the AGW rewrites the paths of every message on its way (RFC 6714, TS 23.334 5.19)."""

    async def scenario(lab: Lab) -> None:
        before = len(lab.lines())
        talk = await connect(lab, *(end.having(cema=cema) for end in FLOWS[flow]))
        files = [tmp_path / "from-alice.bin", tmp_path / "from-bob.bin"]
        digests = [large_file(one) for one in files]
        sent = await asyncio.gather(
            talk.outgoing.session.send_file(files[0]), talk.incoming.session.send_file(files[1])
        )
        received = [await talk.incoming.session.receive(), await talk.outgoing.session.receive()]
        assert [one.sha256 for one in sent] == digests
        assert [one.sha256 for one in received] == digests
        assert [one.size for one in received] == [FILE_SIZE, FILE_SIZE]
        for one in received:
            assert one.path is not None
            one.path.unlink()
        await talk.hang_up()
        lines = await lab.wait_lines(lambda lines: bool(media_lines(lines, talk.outgoing, "bytes")))
        for line in media_lines(lines, talk.outgoing, "bytes"):
            assert min(line.a_to_c, line.c_to_a) > FILE_SIZE
        assert bool(added("m=TCP/TLS/MSRP", lines[before:])) is not cema

    labs().run(scenario, deadline=120)


CEMA = [(True, False), (False, True), (False, False)]
"""Which end knows CEMA, where not both do."""


@pytest.mark.parametrize("answered", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("knows", CEMA)
def test_ends_without_cema_talk_through_the_edge(
    labs: Labs, flow: str, knows: tuple[bool, bool], answered: Literal[Setup.ACTIVE, Setup.PASSIVE]
) -> None:
    """One end, or neither: each sees the edge in the other's path where it cannot reach it otherwise."""
    a, b = (end.having(cema=cema, answer_setup=answered) for end, cema in zip(FLOWS[flow], knows, strict=True))

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a, b)
        if talk.outgoing.fallback is not None:
            await talk.outgoing.fallback
        await talk.texts()
        assert [bool(version) for version in talk.tls()] == [end.media.secure for end in (a, b)]
        await talk.hang_up()

    labs().run(scenario)


def test_the_last_octet_before_hanging_up_arrives(labs: Labs, tmp_path: Path) -> None:
    """The receiver has the whole file although the sender closes as soon as it is written."""

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab)
        source = tmp_path / "tail.bin"
        source.write_bytes(secrets.token_bytes(3_000_000))
        sent = await talk.outgoing.session.send_file(source)
        talk.outgoing.session.close()
        received = await talk.incoming.session.receive()
        assert received.sha256 == sent.sha256
        assert received.path is not None
        received.path.unlink()
        await talk.hang_up()

    labs().run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
def test_paths_are_kept_and_match_whole(labs: Labs, flow: str) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a.having(match="strict"), b.having(match="strict"))
        await talk.texts()
        for one, other in ((talk.outgoing, talk.incoming), (talk.incoming, talk.outgoing)):
            assert one.media.remote is not None
            assert other.media.local is not None
            assert one.media.remote.media[0].get("path") == other.media.local.media[0].get("path")
        await talk.hang_up()

    labs(path_scheme="keep").run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
def test_rewritten_paths_match_by_session_id(labs: Labs, flow: str) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a.having(match="session-id"), b.having(match="session-id"))
        await talk.texts()
        for call, end in ((talk.outgoing, a), (talk.incoming, b)):
            assert call.media.remote is not None
            path = call.media.remote.media[0].get("path") or ""
            assert path.startswith("msrps:" if end.media.secure else "msrp:")
        await talk.hang_up()

    labs(path_scheme="rewrite").run(scenario)


@pytest.mark.parametrize("answered", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("flow", ["originating", "terminating"])
def test_rewritten_paths_are_refused_by_a_strict_peer(
    labs: Labs, flow: str, answered: Literal[Setup.ACTIVE, Setup.PASSIVE]
) -> None:
    """The trap of rewriting in SDP alone: RFC 4975 6.1 compares whole URIs, so To-Path fits nobody, hence 481."""
    a, b = (end.having(answer_setup=answered) for end in FLOWS[flow])

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a, b)
        first, other = talk.ends if answered is Setup.PASSIVE else talk.ends[::-1]  # the active end speaks first
        with pytest.raises(ChatError, match="481"):
            await first.session.send_text("to another scheme")
        assert other.session.received.empty()
        await talk.hang_up()

    labs(path_scheme="rewrite").run(scenario)


def test_rewritten_twice_is_as_it_was(labs: Labs) -> None:
    """Two UEs behind such edges see each other's own scheme again: even strict ones talk."""

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab)
        await talk.texts()
        await talk.hang_up()

    labs(path_scheme="rewrite").run(scenario)


@pytest.mark.parametrize("answered", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("flow", ["originating", "terminating"])
def test_plain_towards_the_core_and_tls_towards_the_ue(
    labs: Labs, monkeypatch: pytest.MonkeyPatch, flow: str, answered: Literal[Setup.ACTIVE, Setup.PASSIVE]
) -> None:
    octets = watch(monkeypatch)
    a, b = (end.having(answer_setup=answered) for end in FLOWS[flow])

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a, b)
        await talk.texts()
        for call, end in ((talk.outgoing, a), (talk.incoming, b)):
            link = call.session.link
            assert link is not None
            seen = bytes(octets[link.local])
            if end.media.secure:
                assert seen[:2] == b"\x16\x03"  # a TLS handshake record
                assert b"MSRP" not in seen
            else:
                assert seen.startswith(b"MSRP ")
                assert b"\r\nFrom-Path: msrp" in seen
                assert b"from alice" in seen or b"from bob" in seen
        await talk.hang_up()

    labs(path_scheme="keep").run(scenario)


class Wire:
    """TCP payloads on the loopback interface to and from some ports, captured from when it is made."""

    def __init__(self, sock: socket.socket, ports: tuple[int, ...]) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        # Other traffic of the machine must not fill the socket's buffer: ldxb 4*([14]&0xf), then both ports compared.
        compared = [(0x48, 0, 0, offset, port) for offset in (14, 16) for port in ports]
        code = [(0xB1, 0, 0, 14)]
        for number, (load, _, _, offset, port) in enumerate(compared):
            to_accept = 2 * (len(compared) - number - 1) + 1
            code += [(load, 0, 0, offset), (0x15, to_accept, 0, port)]
        code += [(0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
        memory = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
        given = struct.pack("HP", len(code), ctypes.addressof(memory))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def segments(self) -> Iterator[tuple[int, int, bytes]]:
        """(source port, destination port, payload) of what was captured until now."""
        while True:
            try:
                packet = self._socket.recv(65_535)
            except BlockingIOError:
                return
            if len(packet) < 54 or packet[23] != socket.IPPROTO_TCP:
                continue
            start = 14 + 4 * (packet[14] & 15)
            source, destination = struct.unpack_from("!HH", packet, start)
            payload = packet[start + 4 * (packet[start + 12] >> 4) :]
            if payload:
                yield source, destination, payload


@pytest.fixture
def capture() -> Iterator[Callable[..., Wire]]:
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        pytest.skip(f"capturing on the loopback interface is not allowed here: {error.strerror}")
    with sock:

        def begin(*ports: int) -> Wire:
            wire = Wire(sock, ports)
            sock.bind(("lo", ETH_P_IP))
            return wire

        yield begin


def test_a_capture_shows_plain_text_on_the_core_leg_only(labs: Labs, capture: Callable[..., Wire]) -> None:
    secret = secrets.token_hex(16)

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, SECURE, PLAIN)
        await talk.texts()  # both ends are connected now
        access, core = (call.session.link for call in talk.ends)
        assert access is not None
        assert core is not None
        wire = capture(access.local[1], core.local[1])
        await talk.outgoing.session.send_text(secret)
        assert (await talk.incoming.session.receive()).text == secret
        plain: dict[str, bool] = {}
        for source, destination, payload in wire.segments():
            leg = "access" if access.local[1] in (source, destination) else "core"
            plain[leg] = plain.get(leg, False) or secret.encode() in payload
        assert plain == {"access": False, "core": True}
        await talk.hang_up()

    labs(path_scheme="keep").run(scenario)
