"""Every wait of the sockets ends by a clock that the test moves, and nothing that was opened stays behind."""

import asyncio
import contextlib
import gc
import os
import resource
import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest
from OpenSSL import SSL
from tests.unit.agw.agw_support import (
    UE,
    Rig,
    TlsPeer,
    accept,
    connect,
    fingerprints,
    listener,
    on_loop,
    pair,
    rig,
    until,
)

from agw.core import orders
from agw.core.orders import CLOSED
from agw.settings import LimitSettings, TimerSettings, TlsSettings
from agw.shell import sockets
from agw.shell.legs import LegState
from agw.shell.sockets import has_sent
from imskit.clock import ManualClock

TIMERS = TimerSettings(dial=15.0, half_close=60.0, linger=3.0, idle=0.0)
TLS = TlsSettings(handshake_timeout=10.0, verify_timeout=30.0)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def watched(limits: LimitSettings | None = None, timers: TimerSettings = TIMERS) -> AsyncIterator[Rig]:
    """A rig on a manual clock. At the end every leg is released: no descriptor, task, watch or deadline may remain."""
    before, tasks = descriptors(), len(asyncio.all_tasks())
    clock = ManualClock()
    async with rig(TLS, limits, timers, clock) as r:
        r.clock = clock
        yield r
        for leg in sorted({report.leg for report in r.reports}):
            r(orders.Release(leg))
        clock.advance(10.0)
        assert set(r.executor.held.values()) == {0}
        assert clock.scheduled == []
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert descriptors() <= before


async def armed(r: Rig, leg: int = 1, known: bool = True) -> socket.socket:
    """A peer that has connected, with TLS awaited from it."""
    sock = await asyncio.to_thread(connect, r.listen(leg))
    await r.wait(orders.Accepted, leg)
    r(orders.ArmTls(leg, "server", fingerprints(UE) if known else None))
    return sock


def test_dial_into_silence() -> None:
    async def main() -> None:
        async with watched() as r:
            port = r.listen(1, "127.0.0.1", CLOSED)
            r(orders.Dial(2, "127.0.0.1", 0, "127.0.0.1", port))
            r.clock.advance(14.9)
            assert not r.seen(orders.DialFailed, 2)
            r.clock.advance(0.5)
            assert r.seen(orders.DialFailed, 2)[0].text == "timed out"

    on_loop(main)


def test_handshake_that_does_not_come() -> None:
    async def main() -> None:
        async with watched() as r:
            with await armed(r):
                r.clock.advance(9.9)
                assert not r.seen(orders.TlsFailed, 1)
                r.clock.advance(0.5)
                assert "too long" in r.seen(orders.TlsFailed, 1)[0].text

    on_loop(main)


def test_fingerprint_that_does_not_come() -> None:
    async def main() -> None:
        async with watched() as r:
            with await armed(r, known=False) as sock:
                await asyncio.to_thread(TlsPeer(sock).handshake)
                await r.wait(orders.HandshakeDone, 1)
                r.clock.advance(29.9)
                assert not r.seen(orders.TlsFailed, 1)
                r.clock.advance(0.5)
                assert "no fingerprint" in r.seen(orders.TlsFailed, 1)[0].text

    on_loop(main)


def test_half_closed_and_silent() -> None:
    async def main() -> None:
        async with watched() as r, pair(r) as p:
            p.core.shutdown(socket.SHUT_WR)
            await r.wait(orders.HalfClosed, 2)
            r.clock.advance(59.0)
            assert not r.seen(orders.RelayEnded, 1)
            r.clock.advance(2.5)
            assert "half-closed" in r.seen(orders.RelayEnded, 1)[0].text

    on_loop(main)


def test_idle_and_inactive() -> None:
    async def main() -> None:
        async with watched(timers=TimerSettings(idle=100.0)) as r, pair(r, inactivity=30.0):
            r.clock.advance(29.0)
            assert not r.seen(orders.Inactive, 1)
            r.clock.advance(3.0)
            assert r.seen(orders.Inactive, 1)
            assert r.seen(orders.Inactive, 2)
            r.clock.advance(66.0)
            assert not r.seen(orders.RelayEnded, 1)
            assert (r.executor.idle_of(1) or 0) >= 97
            r.clock.advance(5.0)
            assert "idle" in r.seen(orders.RelayEnded, 1)[0].text

    on_loop(main)


def test_a_peer_that_never_closes_is_left_after_the_linger_time() -> None:
    async def main() -> None:
        async with watched() as r, pair(r):
            r(orders.Release(1))
            r(orders.Release(2))
            assert r.executor.held["closing"] == 2
            r.clock.advance(2.9)
            assert r.executor.held["closing"] == 2
            r.clock.advance(0.5)
            assert r.executor.held["closing"] == 0

    on_loop(main)


def test_a_peer_that_reads_nothing_is_left_after_the_linger_time_too() -> None:
    async def main() -> None:
        async with watched(LimitSettings(pending=65_536)) as r, pair(r) as p:
            sending = asyncio.ensure_future(asyncio.to_thread(flood, p.ue))
            end = r.executor.end_of(2)
            assert end is not None
            await until(lambda: end.pending is not None)
            r(orders.Release(1))
            r(orders.Release(2))
            r.clock.advance(3.5)
            assert r.executor.held["closing"] == 0
            await sending

    on_loop(main)


def flood(peer: TlsPeer) -> None:
    """Send until the other end is gone."""
    with contextlib.suppress(SSL.Error, OSError):
        for _ in range(1_000):
            peer.send(bytes(65_536))


def test_a_thousand_half_open_connections_take_turns_and_leave_nothing() -> None:
    """They connect and say nothing; the ones that mean it get through as soon as the time of the others is over."""
    count = 1_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4_096:
        pytest.skip(f"needs 4,096 descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_096), hard))

    async def main() -> None:
        async with watched(LimitSettings(half_open=64)) as r:
            with contextlib.ExitStack() as stack:
                for leg in range(1, count + 1):
                    stack.enter_context(await armed(r, leg))
                assert r.executor.half_open == 64
                assert r.executor.held["queued"] == count - 64
                r.clock.advance(9.0)
                late = stack.enter_context(await armed(r, count + 1))
                r.clock.advance(1.5)
                assert len([x for x in r.reports if isinstance(x, orders.TlsFailed)]) == count
                await asyncio.to_thread(TlsPeer(late).handshake)
                await r.wait(orders.TlsOpen, count + 1)
                assert r.executor.half_open == 0

    try:
        on_loop(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


GARBAGE = [
    b"\x00",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\xff\xff" + b"\xff" * 2_000,
    b"\x80\x2e\x01\x03\x01",
    b"\x15\x03\x03\x00\x02\x02\x28",
    bytes(range(256)) * 300,
]


def test_garbage_on_media_ports_ends_its_own_leg_only() -> None:
    async def main() -> None:
        async with watched() as r, pair(r) as p:
            for number, rubbish in enumerate(GARBAGE * 5, start=10):
                with await armed(r, number) as sock:
                    sock.sendall(rubbish)
                    sock.shutdown(socket.SHUT_WR)
                    await r.wait(orders.TlsFailed, number)
            await asyncio.to_thread(p.ue.send, b"still here")
            assert await asyncio.to_thread(p.core.recv, 100) == b"still here"
            assert r.executor.half_open == 0

    on_loop(main)


def test_connections_that_come_and_go_leave_nothing() -> None:
    async def main() -> None:
        async with watched() as r:
            server = listener()
            for number in range(1, 41):
                access, core = 2 * number, 2 * number + 1
                sock = await armed(r, access)
                peer = TlsPeer(sock)
                await asyncio.to_thread(peer.handshake)
                await r.wait(orders.TlsOpen, access)
                await r.dial(core, server.getsockname()[1])
                far = await accept(server)
                r(orders.StartRelay(access, core))
                if number % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.close()
                await r.wait(orders.RelayEnded, access)
                far.close()
                r(orders.Release(access))
                r(orders.Release(core))
            server.close()
            assert r.executor.sessions == 0

    on_loop(main)


FAILING = 200
"""Handshakes that fail as soon as they begin; more than there is room for one inside the other."""


async def crowd(r: Rig) -> list[socket.socket]:
    """A silent peer (leg 1) that has the only turn, and a crowd behind it that does not speak TLS."""
    socks = [await armed(r)]
    r.clock.advance(5.0)
    for leg in range(2, 2 + FAILING):
        sock = await asyncio.to_thread(connect, r.listen(leg))
        socks.append(sock)
        sock.sendall(b"garbage, no TLS at all\r\n")
        await r.wait(orders.Accepted, leg)
        connection = r.executor.socket_of(leg)
        assert connection is not None
        await until(partial(has_sent, connection))
    for leg in range(2, 2 + FAILING):
        r(orders.ArmTls(leg, "server", fingerprints(UE)))
    assert r.executor.held["queued"] == FAILING
    return socks


def failed(r: Rig) -> int:
    return sum(isinstance(report, orders.TlsFailed) for report in r.reports)


def test_a_queue_of_handshakes_that_fail_at_once_is_worked_off_when_the_first_peer_leaves() -> None:
    async def main() -> None:
        async with watched(LimitSettings(half_open=1)) as r:
            socks = await crowd(r)
            socks[0].close()
            await until(lambda: failed(r) == 1 + FAILING)
            for sock in socks:
                sock.close()

    on_loop(main)


def test_a_queue_of_handshakes_that_fail_at_once_is_worked_off_when_the_first_peer_is_late() -> None:
    async def main() -> None:
        async with watched(LimitSettings(half_open=1)) as r:
            socks = await crowd(r)
            r.clock.advance(5.5)
            await until(lambda: failed(r) == 1 + FAILING)
            for sock in socks:
                sock.close()

    on_loop(main)


def test_a_queue_of_handshakes_that_fail_at_once_does_not_disturb_the_release_of_another_leg() -> None:
    async def main() -> None:
        async with watched(LimitSettings(half_open=1)) as r:
            socks = await crowd(r)
            r(orders.Release(1))
            assert r.seen(orders.Released, 1)
            await until(lambda: failed(r) == FAILING)
            for sock in socks:
                sock.close()

    on_loop(main)


def test_a_leg_that_the_end_of_another_has_settled_is_not_reported_late() -> None:
    async def main() -> None:
        async with watched() as r:
            first = await armed(r, 1)
            second = await armed(r, 2)
            told = r.executor._report

            def report(what: orders.Report) -> None:
                told(what)
                if isinstance(what, orders.TlsFailed) and what.leg == 1:
                    r(orders.Drop(2))  # as the engine does: the other leg of a context goes with the first

            r.executor._report = report
            r.clock.advance(11.0)
            assert r.seen(orders.TlsFailed, 1)
            assert not r.seen(orders.TlsFailed, 2)
            first.close()
            second.close()

    on_loop(main)


def test_an_error_about_one_leg_leaves_the_others_their_time_limits() -> None:
    async def main() -> None:
        async with watched() as r:
            socks = [await armed(r, leg) for leg in (1, 2)]
            told = r.executor._report

            def report(what: orders.Report) -> None:
                if isinstance(what, orders.TlsFailed) and what.leg == 1:
                    raise RuntimeError("a bug")
                told(what)

            r.executor._report = report
            with pytest.raises(RuntimeError):
                r.clock.advance(11.0)
            r.clock.advance(1.0)
            assert r.seen(orders.TlsFailed, 2)
            for sock in socks:
                sock.close()

    on_loop(main)


def test_orders_that_are_waited_for_are_answered_even_where_they_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    async def main() -> None:
        async with watched() as r:
            with monkeypatch.context() as patch:
                patch.setattr(sockets, "listening", bug)
                with pytest.raises(RuntimeError):
                    r(orders.Listen(1, "127.0.0.1", 0, CLOSED))
            assert r.seen(orders.ListenFailed, 1)
            r.listen(2)
            doors = r.executor._doors
            close = doors.close

            def closing(leg: LegState) -> None:
                close(leg)
                bug()

            with monkeypatch.context() as patch:
                patch.setattr(doors, "close", closing)
                with pytest.raises(RuntimeError):
                    r(orders.Release(2))
            assert r.seen(orders.Released, 2)

    on_loop(main)
