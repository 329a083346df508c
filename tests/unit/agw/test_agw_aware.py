"""Application-aware relaying on real sockets: between a TLS peer and a plain one, each with its own paths."""

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import AsyncIterator

import pytest
from tests.unit.agw.agw_support import (
    UE,
    Pair,
    Rig,
    TlsPeer,
    accept,
    connect,
    fingerprints,
    listener,
    on_loop,
    read_all,
    rig,
    until,
)

from agw.core import orders
from agw.core.orders import PathSwap
from agw.settings import LimitSettings
from agw.shell.aware import AwareEnd
from imswire.msrp.framer import BodyRead, EndRead, HeadRead, MsrpFramer
from imswire.msrp.message import ResponseHead

OWN, UE_PATH = "msrps://192.0.2.1:20000/bob;tcp", "msrps://192.0.2.77:7000/alice;tcp"
OURS, PEER = "msrp://198.51.100.1:30000/alice;tcp", "msrp://198.51.100.9:9000/bob;tcp"
SWAPS = (PathSwap("bob", OWN, PEER, OURS), PathSwap("alice", OURS, UE_PATH, OWN))
FROM_UE = f"To-Path: {OWN}\r\nFrom-Path: {UE_PATH}\r\n".encode()
TO_CORE = f"To-Path: {PEER}\r\nFrom-Path: {OURS}\r\n".encode()
FROM_CORE = f"To-Path: {OURS}\r\nFrom-Path: {PEER}\r\n".encode()
TO_UE = f"To-Path: {UE_PATH}\r\nFrom-Path: {OWN}\r\n".encode()


def chunk(tid: str, paths: bytes, body: bytes, flag: str = "$") -> bytes:
    head = b"MSRP " + tid.encode() + b" SEND\r\n" + paths + b"Message-ID: m1234\r\nByte-Range: 1-*/*\r\n"
    return head + b"Content-Type: a/b\r\n\r\n" + body + f"\r\n-------{tid}{flag}\r\n".encode()


def answer(tid: str, paths: bytes) -> bytes:
    return b"MSRP " + tid.encode() + b" 200 OK\r\n" + paths + f"-------{tid}$\r\n".encode()


@contextlib.asynccontextmanager
async def pair(rig: Rig, swaps: tuple[PathSwap, PathSwap] = SWAPS) -> AsyncIterator[Pair]:
    core_server = listener()
    port = rig.listen(1)
    ue = TlsPeer(await asyncio.to_thread(connect, port))
    await rig.wait(orders.Accepted, 1)
    rig(orders.ArmTls(1, "server", fingerprints(UE)))
    await asyncio.to_thread(ue.handshake)
    await rig.wait(orders.TlsOpen, 1)
    await rig.dial(2, core_server.getsockname()[1])
    core = await accept(core_server)
    core_server.close()
    rig(orders.StartRelay(1, 2, None, swaps))
    try:
        yield Pair(rig, ue, core)
    finally:
        ue.close()
        core.close()


def exactly(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := sock.recv(size - len(got))):
        got += more
    return got


def exactly_tls(peer: TlsPeer, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := peer.recv()):
        got += more
    return got


def test_requests_and_responses_each_way() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            sent, expected = chunk("aaaa1", FROM_UE, b"hello"), chunk("aaaa1", TO_CORE, b"hello")
            await asyncio.to_thread(p.ue.send, sent)
            assert await asyncio.to_thread(exactly, p.core, len(expected)) == expected
            reply, expected_reply = answer("aaaa1", FROM_CORE), answer("aaaa1", TO_UE)
            await asyncio.to_thread(p.core.sendall, reply)
            assert await asyncio.to_thread(exactly_tls, p.ue, len(expected_reply)) == expected_reply
            r(orders.Release(1))
            released = r.seen(orders.Released, 1)[0]
            assert (released.received, released.sent) == (len(sent), len(expected_reply))

    on_loop(main)


@pytest.mark.parametrize("direction", ["from the UE", "from the core"])
def test_a_file_of_fifty_megabytes_is_bit_exact(direction: str) -> None:
    """Chunks of many sizes, REPORTs between them, cuts anywhere."""
    dice = random.Random(7)
    data = dice.randbytes(1 << 20) * 50
    up = direction == "from the UE"
    paths = FROM_UE if up else FROM_CORE

    def stream() -> list[bytes]:
        pieces, at, number = [], 0, 0
        while at < len(data):
            size = dice.choice((1, 400, 2_048, 10_000, 65_536, 1_000_000))
            number += 1
            last = at + size >= len(data)
            pieces.append(chunk(f"t{number:07}", paths, data[at : at + size], "$" if last else "+"))
            if dice.random() < 0.2:
                report = b"MSRP r%06d REPORT\r\n" % number + paths
                pieces.append(report + b"Message-ID: m9999\r\nStatus: 000 200 OK\r\n-------r%06d$\r\n" % number)
            at += size
        return pieces

    def check(feed: list[bytes]) -> str:
        digest, framer = hashlib.sha256(), MsrpFramer()
        wanted = (PEER, OURS) if up else (UE_PATH, OWN)
        for piece in feed:
            for event in framer.feed(piece):
                if isinstance(event, BodyRead):
                    digest.update(event.data)
                elif isinstance(event, HeadRead):
                    assert (event.head.to_path, event.head.from_path) == wanted
        assert framer.idle
        return digest.hexdigest()

    async def main() -> None:
        async with rig() as r, pair(r) as p:

            def send() -> None:
                for piece in stream():
                    p.ue.send(piece) if up else p.core.sendall(piece)
                p.ue.close_notify() if up else p.core.shutdown(socket.SHUT_WR)

            def read() -> list[bytes]:
                recv = (lambda: p.core.recv(262_144)) if up else p.ue.recv
                return list(iter(recv, b""))

            _, got = await asyncio.gather(asyncio.to_thread(send), asyncio.to_thread(read))
            assert await asyncio.to_thread(check, got) == hashlib.sha256(data).hexdigest()

    on_loop(main)


def test_an_unknown_session_gets_481_between_two_chunks_of_the_other_direction() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            whole, expected = chunk("bbbb1", FROM_CORE, b"x" * 3_000), chunk("bbbb1", TO_UE, b"x" * 3_000)
            await asyncio.to_thread(p.core.sendall, whole[:2_000])
            begun = await asyncio.to_thread(p.ue.recv)
            stray = chunk("aaaa1", FROM_UE.replace(b"/bob", b"/carol"), b"lost")
            good, passed = chunk("aaaa2", FROM_UE, b"kept"), chunk("aaaa2", TO_CORE, b"kept")
            await asyncio.to_thread(p.ue.send, stray + good)
            assert await asyncio.to_thread(exactly, p.core, len(passed)) == passed
            await asyncio.to_thread(p.core.sendall, whole[2_000:])
            rest = await asyncio.to_thread(exactly_tls, p.ue, len(expected) - len(begun))
            assert (begun + rest)[: len(expected)] == expected
            tail = (begun + rest)[len(expected) :]
            while not tail.endswith(b"-------aaaa1$\r\n"):
                tail += await asyncio.to_thread(p.ue.recv)
            head, end = MsrpFramer().feed(tail)
            assert isinstance(head, HeadRead)
            assert isinstance(head.head, ResponseHead)
            assert (head.head.status, head.head.to_path) == (481, UE_PATH)
            assert end == EndRead("$")
            for leg in (1, 2):
                r(orders.Release(leg))
            counted = {leg: r.seen(orders.Released, leg)[0] for leg in (1, 2)}
            assert {leg: (one.rewritten, one.refused) for leg, one in counted.items()} == {1: (1, 1), 2: (1, 0)}

    on_loop(main)


def test_what_is_not_msrp_closes_both_sides_with_a_reason() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            await asyncio.to_thread(p.ue.send, chunk("aaaa1", FROM_UE, b"ok") + b"GET / HTTP/1.1\r\n\r\n")
            expected = chunk("aaaa1", TO_CORE, b"ok")
            assert await asyncio.to_thread(read_all, p.core) == expected
            ended = await r.wait(orders.RelayEnded, 1)
            assert not ended.orderly
            assert "not MSRP: msrp.start-line" in ended.text
            assert await asyncio.to_thread(p.ue.recv) == b""

    on_loop(main)


def test_a_malformed_request_is_answered_and_the_session_goes_on() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            bad = chunk("aaaa1", FROM_UE + b"this is no header\r\n", b"lost")
            await asyncio.to_thread(p.ue.send, bad + chunk("aaaa2", FROM_UE, b"kept"))
            expected = chunk("aaaa2", TO_CORE, b"kept")
            assert await asyncio.to_thread(exactly, p.core, len(expected)) == expected
            assert b"MSRP aaaa1 400 Bad Request" in await asyncio.to_thread(p.ue.recv)

    on_loop(main)


def test_one_octet_at_a_time_and_half_close() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            sent, expected = chunk("aaaa1", FROM_CORE, b"hello"), chunk("aaaa1", TO_UE, b"hello")

            def trickle() -> None:
                for octet in sent:
                    p.core.sendall(bytes([octet]))
                p.core.shutdown(socket.SHUT_WR)

            _, got = await asyncio.gather(asyncio.to_thread(trickle), asyncio.to_thread(p.ue.read_all))
            assert got == expected
            await asyncio.to_thread(p.ue.send, chunk("aaaa2", FROM_UE, b"still here"))
            wanted = chunk("aaaa2", TO_CORE, b"still here")
            assert await asyncio.to_thread(exactly, p.core, len(wanted)) == wanted

    on_loop(main)


def test_the_held_end_of_a_broken_off_body_is_delivered() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            await asyncio.to_thread(p.ue.send, chunk("aaaa1", FROM_UE, b"body")[:-2])
            await asyncio.to_thread(p.ue.close_notify)
            assert await asyncio.to_thread(read_all, p.core) == chunk("aaaa1", TO_CORE, b"body")[:-2]

    on_loop(main)


@pytest.mark.parametrize("slow", ["core", "ue"])
@pytest.mark.parametrize("size", [300, 100_000])
def test_a_slow_receiver_slows_its_sender_and_nothing_is_lost(slow: str, size: int) -> None:
    """Small messages, so that a gathering write stops between and within pieces."""

    async def main() -> None:
        async with rig(limits=LimitSettings(pending=65_536)) as r, pair(r) as p:
            count = 12_000_000 // size
            body = bytes(range(256)) * (size // 256 + 1)
            up = slow == "core"
            paths, swapped = (FROM_UE, TO_CORE) if up else (FROM_CORE, TO_UE)
            sent = b"".join(chunk(f"t{n:07}", paths, body[:size]) for n in range(count))
            expected = b"".join(chunk(f"t{n:07}", swapped, body[:size]) for n in range(count))
            sending = asyncio.ensure_future(asyncio.to_thread(p.ue.send if up else p.core.sendall, sent))
            source = r.executor.end_of(1 if up else 2)
            assert isinstance(source, AwareEnd)
            await until(lambda: source.other.pending is not None)
            assert not source.reading

            def drain() -> bytes:
                got = bytearray()
                while len(got) < len(expected):
                    got += p.core.recv(262_144) if up else p.ue.recv(262_144)
                return bytes(got)

            assert await asyncio.to_thread(drain) == expected
            await sending

    on_loop(main)


def test_a_flood_of_refused_requests_from_a_peer_that_reads_nothing_stays_bounded() -> None:
    async def main() -> None:
        async with rig(limits=LimitSettings(pending=65_536)) as r, pair(r) as p:
            stray = chunk("aaaa1", FROM_CORE.replace(b"/alice", b"/carol"), b"x" * 10)
            good, passed = chunk("aaaa2", FROM_CORE, b"kept"), chunk("aaaa2", TO_UE, b"kept")
            end = r.executor.end_of(2)
            assert isinstance(end, AwareEnd)
            await asyncio.to_thread(p.core.sendall, stray * 100_000 + good)
            assert await asyncio.to_thread(exactly_tls, p.ue, len(passed)) == passed
            assert end.rewriter.refused == 100_000
            assert len(end.pending or b"") <= 65_536 + 4_096

    on_loop(main)
