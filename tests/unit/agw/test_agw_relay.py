"""The byte path and the TLS gate on real sockets."""

import asyncio
import hashlib
import socket
from typing import Literal

import pytest
from OpenSSL import SSL
from tests.unit.agw.agw_support import (
    AGW,
    DEADLINE,
    MALLORY,
    UE,
    Rig,
    TlsPeer,
    Version,
    accept,
    connect,
    fingerprints,
    listener,
    on_loop,
    pair,
    read_all,
    rig,
    until,
)

from agw.core import orders
from agw.settings import LimitSettings, TimerSettings, TlsSettings
from agw.shell import records


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("role", ["client", "server"])
def test_both_roles_versions_and_families(role: Literal["client", "server"], version: Version, host: str) -> None:
    async def main() -> None:
        async with rig() as r, pair(r, role, version, host) as p:
            await asyncio.to_thread(p.ue.send, b"from the UE")
            assert await asyncio.to_thread(p.core.recv, 100) == b"from the UE"
            await asyncio.to_thread(p.core.sendall, b"from the core")
            assert await asyncio.to_thread(p.ue.recv) == b"from the core"
            opened = r.seen(orders.TlsOpen, 1)[0]
            assert opened.version == f"TLSv{version}"
            assert opened.seen == UE.fingerprint("sha-256")
            certificate = p.ue.tls.get_peer_certificate(as_cryptography=True)
            assert certificate == AGW.certificate
            r(orders.Release(1))
            released = r.seen(orders.Released, 1)[0]
            assert (released.received, released.sent) == (11, 13)

    on_loop(main)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_fifty_megabytes_each_way_at_the_same_time(version: Version) -> None:
    block = bytes(range(256)) * 4096
    size = 50

    async def main() -> None:
        async with rig() as r, pair(r, version=version) as p:

            def core_sends() -> None:
                for number in range(size):
                    p.core.sendall(number.to_bytes(4) + block[4:])
                p.core.shutdown(socket.SHUT_WR)

            def core_reads() -> str:
                return hashlib.sha256(read_all(p.core)).hexdigest()

            def ue_talks() -> str:
                # One TLS object serves one thread: small turns of writing and reading.
                heard, sent, digest = 0, 0, hashlib.sha256()
                while heard < size << 20 or sent < size:
                    if sent < size:
                        p.ue.send(sent.to_bytes(4) + block[4:])
                        sent += 1
                    target = min(size << 20, (sent << 20) if sent < size else size << 20)
                    while heard < target:
                        data = p.ue.recv(262_144)
                        heard += len(data)
                        digest.update(data)
                p.ue.close_notify()
                assert p.ue.recv() == b""
                return digest.hexdigest()

            expected = hashlib.sha256(b"".join(n.to_bytes(4) + block[4:] for n in range(size))).hexdigest()
            found = await asyncio.gather(
                asyncio.to_thread(core_reads), asyncio.to_thread(ue_talks), asyncio.to_thread(core_sends)
            )
            assert [found[0], found[1]] == [expected, expected]
            ended = await r.wait(orders.RelayEnded, 2 if r.seen(orders.RelayEnded, 2) else 1)
            assert ended.orderly

    on_loop(main)


def test_half_close_of_the_ue_travels_and_the_core_goes_on() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            await asyncio.to_thread(p.ue.send, b"last words")
            await asyncio.to_thread(p.ue.close_notify)
            assert await asyncio.to_thread(read_all, p.core) == b"last words"
            await asyncio.to_thread(p.core.sendall, b"still here")
            assert await asyncio.to_thread(p.ue.recv) == b"still here"
            assert not r.seen(orders.RelayEnded, 1)
            p.core.close()
            assert await asyncio.to_thread(p.ue.recv) == b""
            assert (await r.wait(orders.RelayEnded, 2)).orderly
            assert r.seen(orders.HalfClosed, 1)

    on_loop(main)


def test_half_close_of_the_core_travels_and_the_ue_goes_on() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            await asyncio.to_thread(p.core.sendall, b"last words")
            p.core.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(p.ue.read_all) == b"last words"
            await asyncio.to_thread(p.ue.send, b"still here")
            assert await asyncio.to_thread(p.core.recv, 100) == b"still here"
            assert not r.seen(orders.RelayEnded, 2)
            await asyncio.to_thread(p.ue.close_notify)
            assert await asyncio.to_thread(read_all, p.core) == b""
            assert (await r.wait(orders.RelayEnded, 1)).orderly

    on_loop(main)


def test_slow_core_slows_the_ue_and_nothing_is_lost() -> None:
    async def main() -> None:
        async with rig(limits=LimitSettings(pending=65_536)) as r, pair(r) as p:
            data = bytes(range(251)) * 160_000  # 40 MB, far more than all socket buffers together
            sending = asyncio.ensure_future(asyncio.to_thread(p.ue.send, data))
            end = r.executor.end_of(1)
            assert end is not None
            await until(lambda: end.other.pending is not None)
            assert len(end.other.pending or b"") <= 65_536 + 16_384
            assert not end.reading
            assert not sending.done()
            received = bytearray()

            def drain_all() -> None:
                while len(received) < len(data):
                    received.extend(p.core.recv(262_144))

            await asyncio.to_thread(drain_all)
            await sending
            assert received == data

    on_loop(main)


def test_slow_ue_slows_the_core_and_nothing_is_lost() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            data = bytes(range(251)) * 160_000
            sending = asyncio.ensure_future(asyncio.to_thread(p.core.sendall, data))
            end = r.executor.end_of(1)
            assert end is not None
            await until(lambda: end.pending is not None)
            assert len(end.pending or b"") <= 262_144
            assert not end.other.reading

            def drain_all() -> bytes:
                received = bytearray()
                while len(received) < len(data):
                    received += p.ue.recv(262_144)
                return bytes(received)

            assert await asyncio.to_thread(drain_all) == data
            await sending

    on_loop(main)


def test_release_delivers_the_tail_before_it_closes() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            data = bytes(200_000)
            await asyncio.to_thread(p.core.sendall, data)
            p.core.shutdown(socket.SHUT_WR)
            r(orders.Release(2))
            r(orders.Release(1))
            assert await asyncio.to_thread(p.ue.read_all) == data

    on_loop(main)


def test_reset_of_one_side_ends_the_relay_and_the_other_side_is_closed() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            p.core.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            p.core.close()
            ended = await r.wait(orders.RelayEnded, 2)
            assert not ended.orderly
            assert await asyncio.to_thread(p.ue.recv) == b""

    on_loop(main)


async def incoming(r: Rig, order: orders.ArmTls, peer_identity: object = UE, version: Version = "1.3") -> TlsPeer:
    """A UE connects to leg 1 and the order is given; the handshake is still to be made."""
    port = r.listen(1)
    sock = await asyncio.to_thread(connect, port)
    await r.wait(orders.Accepted, 1)
    r(order)
    return TlsPeer(sock, "client", version, peer_identity)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("known", [True, False])
def test_wrong_fingerprint_is_refused_and_nothing_passes(known: bool, version: Version) -> None:
    async def main() -> None:
        async with rig() as r:
            wanted = fingerprints(UE)
            peer = await incoming(r, orders.ArmTls(1, "server", wanted if known else None), MALLORY, version)
            server = listener()
            await r.dial(2, server.getsockname()[1])
            core = await accept(server)

            def attack() -> str:
                try:
                    peer.handshake()
                    peer.send(b"secret")
                    return "closed" if peer.recv() == b"" else "served"
                except SSL.Error as error:
                    return str(error)

            attacking = asyncio.ensure_future(asyncio.to_thread(attack))
            if not known:
                await r.wait(orders.HandshakeDone, 1)
                r(orders.SetFingerprints(1, wanted))
            failed = await r.wait(orders.VerifyFailed, 1)
            assert failed.what == "mismatch"
            assert failed.expected == (UE.fingerprint("sha-256"),)
            assert failed.seen == MALLORY.fingerprint("sha-256")
            assert failed.subject == "CN=mallory"
            outcome = await attacking
            assert ("alert" in outcome) if known else (outcome == "closed")
            r(orders.StartRelay(1, 2))  # even an order could not join it now
            r(orders.Drop(2))
            assert await asyncio.to_thread(read_all, core) == b""
            assert not r.seen(orders.TlsOpen, 1)

    on_loop(main)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_peer_without_certificate_is_refused(version: Version) -> None:
    async def main() -> None:
        async with rig() as r:
            peer = await incoming(r, orders.ArmTls(1, "server", fingerprints(UE)), None, version)

            def attempt() -> None:
                peer.handshake()
                peer.recv()

            attacking = asyncio.ensure_future(asyncio.to_thread(attempt))
            failed = await r.wait(orders.VerifyFailed, 1)
            assert (failed.what, failed.seen) == ("missing", b"")
            with pytest.raises(SSL.Error):
                await attacking

    on_loop(main)


def test_only_the_most_preferred_hash_counts() -> None:
    async def main() -> None:
        async with rig() as r:
            both = (("sha-256", UE.fingerprint("sha-256")), ("sha-512", MALLORY.fingerprint("sha-512")))
            peer = await incoming(r, orders.ArmTls(1, "server", both))
            attempt = asyncio.ensure_future(asyncio.to_thread(peer.handshake))
            failed = await r.wait(orders.VerifyFailed, 1)
            assert failed.hash == "sha-512"
            await asyncio.gather(attempt, return_exceptions=True)

    on_loop(main)


def test_handshake_and_early_bytes_wait_for_the_fingerprint() -> None:
    async def main() -> None:
        async with rig() as r:
            peer = await incoming(r, orders.ArmTls(1, "server", None))
            await asyncio.to_thread(peer.handshake)
            await asyncio.to_thread(peer.send, b"early")
            await r.wait(orders.HandshakeDone, 1)
            server = listener()
            await r.dial(2, server.getsockname()[1])
            core = await accept(server)
            assert not r.seen(orders.TlsOpen, 1)
            r(orders.SetFingerprints(1, fingerprints(UE)))
            assert r.seen(orders.TlsOpen, 1)
            r(orders.StartRelay(1, 2))
            assert await asyncio.to_thread(core.recv, 100) == b"early"

    on_loop(main)


def test_fingerprint_that_never_comes() -> None:
    async def main() -> None:
        async with rig(TlsSettings(verify_timeout=0.1)) as r:
            peer = await incoming(r, orders.ArmTls(1, "server", None))
            await asyncio.to_thread(peer.handshake)
            assert "no fingerprint" in (await r.wait(orders.TlsFailed, 1)).text
            assert await asyncio.to_thread(peer.recv) == b""

    on_loop(main)


def test_handshake_that_does_not_come() -> None:
    async def main() -> None:
        async with rig(TlsSettings(handshake_timeout=0.1)) as r:
            peer = await incoming(r, orders.ArmTls(1, "server", fingerprints(UE)))
            assert "too long" in (await r.wait(orders.TlsFailed, 1)).text
            assert r.executor.half_open == 0
            peer.close()

    on_loop(main)


def test_rubbish_instead_of_a_client_hello() -> None:
    async def main() -> None:
        async with rig() as r:
            peer = await incoming(r, orders.ArmTls(1, "server", fingerprints(UE)))
            peer.sock.sendall(b"MSRP a786hjs2 SEND\r\n")
            assert (await r.wait(orders.TlsFailed, 1)).text
            peer.close()

    on_loop(main)


def test_more_handshakes_than_allowed_wait_for_their_turn() -> None:
    async def main() -> None:
        async with rig(limits=LimitSettings(half_open=1)) as r:
            first = await asyncio.to_thread(connect, r.listen(1))
            second = await asyncio.to_thread(connect, r.listen(2))
            for leg in (1, 2):
                await r.wait(orders.Accepted, leg)
                r(orders.ArmTls(leg, "server", fingerprints(UE)))
            assert r.executor.half_open == 1
            waiting = asyncio.ensure_future(asyncio.to_thread(TlsPeer(second).handshake))
            await asyncio.to_thread(TlsPeer(first).handshake)
            await waiting
            await r.wait(orders.TlsOpen, 2)
            assert r.seen(orders.TlsOpen, 1)
            assert r.executor.half_open == 0
            first.close()
            second.close()

    on_loop(main)


def test_idle_relay_is_closed_in_order() -> None:
    async def main() -> None:
        async with rig(timers=TimerSettings(idle=0.3)) as r, pair(r) as p:
            assert "idle" in (await r.wait(orders.RelayEnded, 1)).text
            assert await asyncio.to_thread(p.ue.recv) == b""
            assert await asyncio.to_thread(p.core.recv, 1) == b""

    on_loop(main)


def test_half_closed_relay_does_not_stay_for_ever() -> None:
    async def main() -> None:
        async with rig(timers=TimerSettings(half_close=0.3)) as r, pair(r) as p:
            p.core.shutdown(socket.SHUT_WR)
            assert "half-closed" in (await r.wait(orders.RelayEnded, 1)).text
            assert await asyncio.to_thread(p.ue.read_all) == b""

    on_loop(main)


def test_inactivity_is_reported_once_and_the_relay_goes_on() -> None:
    async def main() -> None:
        async with rig(timers=TimerSettings(half_close=1.0)) as r, pair(r, inactivity=0.3) as p:
            await r.wait(orders.Inactive, 1)
            await r.wait(orders.Inactive, 2)
            await asyncio.to_thread(p.ue.send, b"awake")
            assert await asyncio.to_thread(p.core.recv, 100) == b"awake"
            assert len(r.seen(orders.Inactive, 1)) == 1

    on_loop(main)


def test_counters_can_be_asked_for_while_the_relay_runs() -> None:
    async def main() -> None:
        async with rig() as r, pair(r) as p:
            await asyncio.to_thread(p.ue.send, b"x" * 10)
            assert await asyncio.to_thread(p.core.recv, 100) == b"x" * 10
            r(orders.Count(1))
            r(orders.Count(2))
            r(orders.Count(99))
            assert [(c.received, c.sent) for c in r.reports if isinstance(c, orders.Counted)] == [
                (10, 0),
                (0, 10),
                (0, 0),
            ]

    on_loop(main)


@pytest.mark.parametrize("size", [1, 1000, 16_384, 300_000])
def test_both_record_readers_read_the_same(size: int) -> None:
    one, other = socket.socketpair()
    client, server = TlsPeer(one), TlsPeer(other, "server")

    async def shake() -> None:
        await asyncio.gather(asyncio.to_thread(client.handshake), asyncio.to_thread(server.handshake))

    on_loop(shake)
    view = memoryview(bytearray(65_536))
    fast = records.fast_reader(view)
    assert fast is not None, "this pyOpenSSL hides its binding: the relay runs with the slow reader"
    for read in (fast, records.slow_reader()):
        data = bytes(range(256)) * (size // 256 + 1)

        async def send(data: bytes = data, read: records.Reader = read) -> bytes:
            sending = asyncio.ensure_future(asyncio.to_thread(client.send, data))
            got = bytearray()
            async with asyncio.timeout(DEADLINE):
                while len(got) < len(data):
                    count, left, error = read(server.tls, view, len(view) - records.RECORD)
                    assert left == 0
                    assert error is None or isinstance(error, SSL.WantReadError)
                    got += view[:count]
                    await asyncio.sleep(0)
            await sending
            return bytes(got)

        assert on_loop(send) == data
    client.close_notify()
    ended = fast(server.tls, view, 16_384)
    assert isinstance(ended[2], SSL.ZeroReturnError)
    one.close()
    other.close()
