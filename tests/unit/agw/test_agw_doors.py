"""Several legs at one port: whose connection it is, who follows whom, and a connection that changes its partner."""

import asyncio
import errno
import resource
import socket

from tests.unit.agw.agw_support import Rig, accept, connect, listener, on_loop, rig, until

from agw.core import orders
from agw.core.orders import CLOSED, OPEN, SynFilter
from agw.shell import synfilter

A, B, NOBODY = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def share(r: Rig, first: SynFilter, second: SynFilter) -> int:
    """Legs 1 and 2 at one port."""
    port = r.listen(1, "127.0.0.1", first)
    r(orders.Listen(2, "127.0.0.1", port, second, beside=1))
    assert r.seen(orders.Listening, 2) == [orders.Listening(2, port)]
    return port


async def silent(r: Rig, port: int, source: str, leg: int) -> None:
    """Nobody answers a SYN from there."""
    sock = r.executor.listener_of(leg)
    assert sock is not None
    before = synfilter.dropped(sock)
    with socket.socket() as client:
        client.setblocking(False)
        client.bind((source, 0))
        assert client.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
        await until(lambda: synfilter.dropped(sock) > before)


def test_each_leg_has_the_connection_from_its_source_in_any_order() -> None:
    async def main() -> None:
        async with rig() as r:
            port = share(r, SynFilter("source", A), SynFilter("source", B))
            await silent(r, port, NOBODY, 1)
            second = await asyncio.to_thread(connect, port, "127.0.0.1", B)
            assert (await r.wait(orders.Accepted, 2)).address == B
            await silent(r, port, B, 1)
            first = await asyncio.to_thread(connect, port, "127.0.0.1", A)
            assert (await r.wait(orders.Accepted, 1)).address == A
            first.close()
            second.close()

    on_loop(main)


def test_a_leg_that_waits_for_anybody_leaves_the_other_its_own() -> None:
    async def main() -> None:
        async with rig() as r:
            port = share(r, OPEN, SynFilter("source", B))
            second = await asyncio.to_thread(connect, port, "127.0.0.1", B)
            await r.wait(orders.Accepted, 2)
            first = await asyncio.to_thread(connect, port, "127.0.0.1", NOBODY)
            await r.wait(orders.Accepted, 1)
            first.close()
            second.close()

    on_loop(main)


def test_the_port_stays_with_the_leg_that_is_left_and_goes_with_the_last() -> None:
    async def main() -> None:
        async with rig() as r:
            port = share(r, SynFilter("source", A), SynFilter("source", B))
            r(orders.Release(1))
            await silent(r, port, A, 2)
            (await asyncio.to_thread(connect, port, "127.0.0.1", B)).close()
            await r.wait(orders.Accepted, 2)
            r(orders.Release(2))
            with socket.socket() as late:
                assert late.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            assert r.executor.held["legs"] == 0

    on_loop(main)


def test_a_leg_that_begins_anew_keeps_its_share() -> None:
    async def main() -> None:
        async with rig() as r:
            port = share(r, SynFilter("source", A), SynFilter("source", B))
            r(orders.Release(2, heir=3))
            await silent(r, port, B, 1)
            r(orders.SetFilter(3, SynFilter("source", B)))
            (await asyncio.to_thread(connect, port, "127.0.0.1", B)).close()
            await r.wait(orders.Accepted, 3)

    on_loop(main)


def test_a_port_that_is_gone_cannot_be_shared() -> None:
    async def main() -> None:
        async with rig() as r:
            r(orders.Listen(2, "127.0.0.1", 5000, CLOSED, beside=1))
            assert r.seen(orders.ListenFailed, 2)

    on_loop(main)


def test_both_dial_from_the_port_that_they_share() -> None:
    async def main() -> None:
        async with rig() as r:
            port = share(r, CLOSED, CLOSED)
            servers = [listener(), listener()]
            for leg, server in enumerate(servers, start=1):
                r(orders.Dial(leg, "127.0.0.1", port, "127.0.0.1", server.getsockname()[1]))
                assert (await r.wait(orders.Connected, leg)).local_port == port

    on_loop(main)


def joined(keep: bool, first_words: bytes) -> tuple[bool, bytes]:
    """A relay of legs 10 and 1 is taken apart and 10 is joined with 2: was it kept, and what 2 heard."""
    found: list[tuple[bool, bytes]] = []

    async def main() -> None:
        async with rig() as r:
            ours = r.listen(10)
            ue = await asyncio.to_thread(connect, ours)
            await r.wait(orders.Accepted, 10)
            peers = []
            for leg in (1, 2):
                server = listener()
                await r.dial(leg, server.getsockname()[1])
                peers.append(await accept(server))
            r(orders.StartRelay(10, 1))
            if first_words:
                ue.sendall(first_words)
                assert await asyncio.to_thread(peers[0].recv, 100) == first_words
            r(orders.Release(1, keep=keep))
            kept = r.seen(orders.Released, 1)[0].kept
            heard = b""
            if kept:
                r(orders.StartRelay(10, 2))
                ue.sendall(b"for the second")
                heard = await asyncio.to_thread(peers[1].recv, 100)
            else:
                assert await asyncio.to_thread(ue.recv, 100) == b""
            assert await asyncio.to_thread(peers[0].recv, 100) == b""
            found.append((kept, heard))
            for leg in (10, 2):
                r(orders.Release(leg))
            assert r.executor.held["relays"] == 0
            assert r.executor.held["legs"] == 0
            for sock in (ue, *peers):
                sock.close()

    on_loop(main)
    return found[0]


def test_a_connection_that_carried_nothing_is_joined_with_another_leg() -> None:
    assert joined(keep=True, first_words=b"") == (True, b"for the second")


def test_one_that_carried_octets_ends_with_its_partner() -> None:
    assert joined(keep=True, first_words=b"for the first") == (False, b"")


def test_without_the_order_nothing_is_kept() -> None:
    assert joined(keep=False, first_words=b"") == (False, b"")


def test_programs_of_several_filters() -> None:
    one, two = SynFilter("source", "192.0.2.1"), SynFilter("source", "192.0.2.2", 7000)
    both = synfilter.program(one, two)
    assert both == [*synfilter.program(one)[:-1], *synfilter.program(two)]
    assert synfilter.program(one, OPEN) == synfilter.program(OPEN)


def test_without_descriptors_nobody_of_before_becomes_the_peer_of_a_door_that_opens_again() -> None:
    async def main() -> None:
        async with rig() as r:
            errors: list[dict[str, object]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
            port = r.listen(1, "127.0.0.1", OPEN)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket() as early:
                early.setblocking(False)
                early.bind((A, 0))
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                try:
                    early.connect_ex(("127.0.0.1", port))
                    await until(lambda: r.executor.held["doors"] == 0)  # there is no descriptor for the visitor
                    r(orders.SetFilter(1, CLOSED))
                    r(orders.SetFilter(1, SynFilter("source", B)))
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await until(lambda: ended(early))
            (await asyncio.to_thread(connect, port, "127.0.0.1", B)).close()
            await r.wait(orders.Accepted, 1)
            assert [one.address for one in r.seen(orders.Accepted, 1)] == [B]
            assert errors == []

    on_loop(main)


def ended(client: socket.socket) -> bool:
    """Its peer has closed or reset the connection."""
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
