"""Listening with silence, dialling, and what the system refuses."""

import asyncio
import contextlib
import errno
import socket

import pytest
from tests.unit.agw.agw_support import accept, connect, listener, on_loop, read_all, rig, until

from agw.core import orders
from agw.core.orders import CLOSED, SynFilter
from agw.settings import TimerSettings
from agw.shell import synfilter
from agw.shell.sockets import has_sent


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("with_port", [False, True])
def test_early_syn_meets_silence_and_the_repeated_one_is_accepted(host: str, with_port: bool) -> None:
    """TR 29.828 5.2.1.2.2 steps 11 and 13: dropped, not refused; the client's own retransmission gets through."""

    async def main() -> None:
        async with rig() as r:
            port = r.listen(1, host, CLOSED)
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
                client.setblocking(False)
                client.bind((host, 0))
                source = client.getsockname()[1]
                assert client.connect_ex((host, port)) == errno.EINPROGRESS
                await held(r.executor.listener_of(1))
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                r(orders.SetFilter(1, SynFilter("source", host, source if with_port else None)))
                assert r.seen(orders.SynHeld, 1)[0].count >= 1
                accepted = await r.wait(orders.Accepted, 1)
                assert (accepted.address, accepted.port) == (host, source)

    on_loop(main)


async def held(sock: socket.socket | None, count: int = 1) -> None:
    """Until the kernel has dropped so many SYNs at this listening socket."""
    assert sock is not None
    await until(lambda: synfilter.dropped(sock) >= count)


def test_only_the_signalled_source_address_is_answered() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1, "127.0.0.1", SynFilter("source", "127.0.0.3"))
            with socket.socket() as stranger:
                stranger.setblocking(False)
                stranger.bind(("127.0.0.2", 0))
                assert stranger.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
                await held(r.executor.listener_of(1))
                friend = await asyncio.to_thread(connect, port, "127.0.0.1", "127.0.0.3")
                accepted = await r.wait(orders.Accepted, 1)
                assert accepted.address == "127.0.0.3"
                friend.close()

    on_loop(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_only_the_signalled_source_port_is_answered(host: str) -> None:
    async def main() -> None:
        async with rig() as r:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.bind((host, 0))
                right = probe.getsockname()[1]
            port = r.listen(1, host, SynFilter("source", host, right))
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as stranger:
                stranger.setblocking(False)
                assert stranger.connect_ex((host, port)) == errno.EINPROGRESS
                await held(r.executor.listener_of(1))
                friend = await asyncio.to_thread(connect, port, host, host, right)
                assert (await r.wait(orders.Accepted, 1)).port == right
                friend.close()

    on_loop(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_only_sources_within_the_network_and_the_ports_are_answered(host: str) -> None:
    """The kernel's filter, where there is more than one address on loopback, and of the ports in both families."""

    async def main() -> None:
        async with rig() as r:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as probe:
                probe.bind((host, 0))
                low = probe.getsockname()[1]
            network = SynFilter("source", "::" if ":" in host else "127.0.0.0", low, low + 3, 64 if ":" in host else 30)
            port = r.listen(1, host, network)
            strangers = [(host, 0)] if ":" in host else [(host, 0), ("127.0.0.9", low)]
            for number, source in enumerate(strangers, start=1):
                with socket.socket(family) as stranger:
                    stranger.setblocking(False)
                    stranger.bind(source)
                    assert stranger.connect_ex((host, port)) == errno.EINPROGRESS
                    await held(r.executor.listener_of(1), number)
            friend = await asyncio.to_thread(connect, port, host, host if ":" in host else "127.0.0.3", low)
            assert (await r.wait(orders.Accepted, 1)).port == low
            friend.close()

    on_loop(main)


def test_large_segments_pass_a_connection_that_came_through_a_filter() -> None:
    """The accepted socket must not inherit a filter that cuts or costs."""

    async def main() -> None:
        async with rig() as r:
            port = r.listen(1, "127.0.0.1", SynFilter("source", "127.0.0.1"))
            client = await asyncio.to_thread(connect, port)
            await r.wait(orders.Accepted, 1)
            server = listener()
            await r.dial(2, server.getsockname()[1])
            core = await accept(server)
            r(orders.StartRelay(1, 2))
            data = bytes(range(256)) * 20_000

            def send() -> None:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)

            got, _ = await asyncio.gather(asyncio.to_thread(read_all, core), asyncio.to_thread(send))
            assert got == data
            client.close()
            core.close()

    on_loop(main)


def knock(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A SYN that is not waited for."""
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    client.setblocking(False)
    assert client.connect_ex((host, port)) == errno.EINPROGRESS
    return client


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("over", [False, True], ids=["relaying", "the old one has ended"])
def test_one_connection_is_accepted_and_the_next_waits_for_the_order(host: str, over: bool) -> None:
    """The peer of a new connection may be earlier than the order for it: its SYN meets silence, not RST."""

    async def main() -> None:
        async with rig() as r:
            port = r.listen(1, host)
            first = await asyncio.to_thread(connect, port, host)
            await r.wait(orders.Accepted, 1)
            if over:
                r(orders.Drop(1))
            with knock(port, host) as early:
                await held(r.executor.listener_of(1))
                assert early.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                r(orders.Release(1, 2))
                assert r.seen(orders.Released, 1)
                r(orders.SetFilter(2, orders.OPEN))
                accepted = await r.wait(orders.Accepted, 2)
                assert (accepted.address, accepted.port) == early.getsockname()[:2]
                assert r.seen(orders.SynHeld, 1) or r.seen(orders.SynHeld, 2)
            r(orders.Release(2))
            first.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(connect, port, host)

    on_loop(main)


def test_who_queued_behind_the_accepted_connection_is_not_taken_for_a_later_one() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            clients = [connect(port) for _ in range(3)]
            await r.wait(orders.Accepted, 1)
            for stranger in clients[1:]:
                assert await asyncio.to_thread(stranger.recv, 1) == b""
            r(orders.Release(1, 2))
            r(orders.SetFilter(2, orders.OPEN))
            again = await asyncio.to_thread(connect, port)
            assert (await r.wait(orders.Accepted, 2)).port == again.getsockname()[1]
            for client in (*clients, again):
                client.close()

    on_loop(main)


def test_who_came_before_the_door_was_shut_is_turned_away_though_it_opens_at_once() -> None:
    """Nothing of the loop runs between the orders, so that the poller has told of nobody yet."""

    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            strangers = [connect(port) for _ in range(2)]
            r(orders.SetFilter(1, CLOSED))
            r(orders.SetFilter(1, orders.OPEN))
            late = await asyncio.to_thread(connect, port)
            assert (await r.wait(orders.Accepted, 1)).port == late.getsockname()[1]
            for stranger in strangers:
                assert await asyncio.to_thread(stranger.recv, 1) == b""
            for client in (*strangers, late):
                client.close()

    on_loop(main)


def test_who_came_before_the_door_was_shut_is_turned_away_while_it_stays_shut() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            strangers = [connect(port) for _ in range(2)]
            r(orders.SetFilter(1, CLOSED))
            for stranger in strangers:
                assert await asyncio.to_thread(stranger.recv, 1) == b""
                stranger.close()
            assert not r.seen(orders.Accepted, 1)

    on_loop(main)


def test_many_doors_are_answered_in_one_turn_and_leave_nothing_behind() -> None:
    async def main() -> None:
        async with rig() as r:
            ports = [r.listen(leg) for leg in range(1, 40)]
            clients = [connect(port) for port in ports]
            for leg in range(1, 40):
                await r.wait(orders.Accepted, leg)
                r(orders.Release(leg))
            assert r.executor.held["doors"] == 0
            for client in clients:
                client.close()

    on_loop(main)


def test_a_filter_that_crosses_with_an_accepted_connection_opens_nothing() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            first = await asyncio.to_thread(connect, port)
            await r.wait(orders.Accepted, 1)
            r(orders.SetFilter(1, orders.OPEN))
            with knock(port):
                await held(r.executor.listener_of(1))
            first.close()

    on_loop(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_after_dialling_the_port_listens_again_and_dials_again(host: str) -> None:
    """The UE was dialled, connects itself to the same port after a new offer, and is dialled after another one."""

    async def main() -> None:
        async with rig() as r:
            port = r.listen(1, host)
            with listener(host) as server:
                remote = server.getsockname()[1]
                r(orders.Dial(1, host, port, host, remote))
                assert (await r.wait(orders.Connected, 1)).local_port == port
                old = await accept(server)
                with knock(port, host) as early:
                    await held(r.executor.listener_of(1))
                    r(orders.Release(1, 2))
                    assert await asyncio.to_thread(old.recv, 1) == b""
                    r(orders.SetFilter(2, orders.OPEN))
                    assert (await r.wait(orders.Accepted, 2)).port == early.getsockname()[1]
                r(orders.Release(2, 3))
                with listener(host) as other:
                    r(orders.Dial(3, host, port, host, other.getsockname()[1]))
                    assert (await r.wait(orders.Connected, 3)).local_port == port
                    assert not [x for x in r.reports if isinstance(x, (orders.ListenFailed, orders.DialFailed))]
                old.close()

    on_loop(main)


def test_nobody_else_may_listen_on_the_port_after_it_was_dialled_from() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            with listener() as server:
                r(orders.Dial(1, "127.0.0.1", port, "127.0.0.1", server.getsockname()[1]))
                await r.wait(orders.Connected, 1)
            r(orders.Listen(2, "127.0.0.1", port, orders.OPEN))
            assert r.seen(orders.ListenFailed, 2)[0].in_use

    on_loop(main)


def test_dropped_leg_listens_again_on_its_port() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            first = await asyncio.to_thread(connect, port)
            await r.wait(orders.Accepted, 1)
            r(orders.Drop(1))
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(first.recv, 1) == b""
            r.reports.clear()
            r(orders.SetFilter(1, orders.OPEN))
            second = await asyncio.to_thread(connect, port)
            await r.wait(orders.Accepted, 1)
            first.close()
            second.close()

    on_loop(main)


def test_port_in_use_and_foreign_address_are_told_apart() -> None:
    async def main() -> None:
        async with rig() as r:
            with listener() as taken:
                r(orders.Listen(1, "127.0.0.1", taken.getsockname()[1], orders.OPEN))
                assert r.seen(orders.ListenFailed, 1)[0].in_use
            r(orders.Listen(2, "192.0.2.1", 0, orders.OPEN))
            assert not r.seen(orders.ListenFailed, 2)[0].in_use

    on_loop(main)


def test_dial_comes_from_the_leg_s_own_port() -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            with listener() as server:
                r(orders.Dial(1, "127.0.0.1", port, "127.0.0.1", server.getsockname()[1]))
                assert (await r.wait(orders.Connected, 1)).local_port == port
                sock, address = server.accept()
                assert address[1] == port
                sock.close()

    on_loop(main)


def test_dial_takes_another_port_while_the_old_connection_is_still_known() -> None:
    """The pair of addresses is taken (TIME_WAIT of an older session, say): bound, but connect is refused locally."""

    async def main() -> None:
        async with rig() as r:
            with listener() as server:
                remote = server.getsockname()[1]
                port = r.listen(1)
                r(orders.Dial(1, "127.0.0.1", port, "127.0.0.1", remote))
                await r.wait(orders.Connected, 1)
                r(orders.Dial(2, "127.0.0.1", port, "127.0.0.1", remote))
                assert not r.seen(orders.DialFailed, 2)
                assert (await r.wait(orders.Connected, 2)).local_port != port

    on_loop(main)


def test_a_vanished_peer_is_looked_for() -> None:
    async def main() -> None:
        async with rig() as r:
            with listener() as server:
                r(orders.Dial(1, "127.0.0.1", 0, "127.0.0.1", server.getsockname()[1]))
                await r.wait(orders.Connected, 1)
                sock = r.executor._legs[1].sock
                assert sock is not None
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    on_loop(main)


def test_refused_dial() -> None:
    async def main() -> None:
        async with rig() as r:
            with listener() as server:
                port = server.getsockname()[1]
            r(orders.Dial(1, "127.0.0.1", 0, "127.0.0.1", port))
            assert "refused" in (await r.wait(orders.DialFailed, 1)).text

    on_loop(main)


def test_dial_into_silence_times_out() -> None:
    async def main() -> None:
        async with rig(timers=TimerSettings(dial=0.1)) as r:
            port = r.listen(1, "127.0.0.1", CLOSED)
            r(orders.Dial(2, "127.0.0.1", 0, "127.0.0.1", port))
            assert (await r.wait(orders.DialFailed, 2)).text == "timed out"
            r(orders.Release(1))
            assert r.seen(orders.SynHeld, 1)

    on_loop(main)


def test_unusable_remote_address() -> None:
    async def main() -> None:
        async with rig() as r:
            r(orders.Dial(1, "127.0.0.1", 0, "not-an-address", 5000))
            assert r.seen(orders.DialFailed, 1)

    on_loop(main)


def test_release_of_what_does_not_exist_is_answered() -> None:
    async def main() -> None:
        async with rig() as r:
            r(orders.Release(77))
            assert r.seen(orders.Released, 77)

    on_loop(main)


def test_filter_programs() -> None:
    assert synfilter.program(CLOSED) == [(0x06, 0, 0, 0)]
    assert synfilter.program(orders.OPEN) == [(0x06, 0, 0, 0xFFFFFFFF)]
    v4 = synfilter.program(SynFilter("source", "192.0.2.1", 7000))
    assert v4 == [
        (0x20, 0, 0, 0xFFF0000C),
        (0x15, 0, 3, 0xC0000201),
        (0x28, 0, 0, 0),
        (0x15, 0, 1, 7000),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    ]
    v6 = synfilter.program(SynFilter("source", "2001:db8::1"))
    assert [step[3] for step in v6[:8:2]] == [0xFFF00008, 0xFFF0000C, 0xFFF00010, 0xFFF00014]
    assert [step[2] for step in v6[1:8:2]] == [7, 5, 3, 1]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (
            SynFilter("source", "192.0.2.128", None, None, 25),
            [(0x20, 0, 0, 0xFFF0000C), (0x54, 0, 0, 0xFFFFFF80), (0x15, 0, 1, 0xC0000280)],
        ),
        (
            SynFilter("source", "2001:db8::", None, None, 32),
            [(0x20, 0, 0, 0xFFF00008), (0x15, 0, 1, 0x20010DB8)],
        ),
        (SynFilter("source", "0.0.0.0", None, None, 0), []),
        (SynFilter("source", "", 5000, 5010), [(0x28, 0, 0, 0), (0x35, 0, 2, 5000), (0x25, 1, 0, 5010)]),
        (SynFilter("source", "", 5000, 5000), [(0x28, 0, 0, 0), (0x15, 0, 1, 5000)]),
    ],
)
def test_filter_programs_of_networks_and_port_ranges(
    filter: SynFilter, expected: list[tuple[int, int, int, int]]
) -> None:
    assert synfilter.program(filter) == [*expected, (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)]


@pytest.mark.parametrize("what", ["nothing", "closes", "octets"])
def test_a_connection_on_which_nothing_came_makes_room(what: str) -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            with await asyncio.to_thread(connect, port) as first:
                await r.wait(orders.Accepted, 1)
                sock = r.executor.socket_of(1)
                assert sock is not None
                if what == "octets":
                    first.sendall(b"M")
                    await until(lambda: has_sent(sock))
                elif what == "closes":
                    first.shutdown(socket.SHUT_WR)
                r(orders.DropSilent(1))
                if what == "octets":
                    assert not r.seen(orders.Silent, 1)
                    return
                assert r.seen(orders.Silent, 1)
                assert await asyncio.to_thread(first.recv, 1) == b""
            r.reports.clear()
            r(orders.SetFilter(1, orders.OPEN))
            with await asyncio.to_thread(connect, port):
                await r.wait(orders.Accepted, 1)

    on_loop(main)
