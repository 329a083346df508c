"""SIP transports: reuse, bounds, timeouts, TLS verification and the UDP queue."""

import asyncio
import dataclasses
import os
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imskit.kit_support import Files, Side, make_files, on_loop

from imskit import streams
from imskit.common_settings import StreamSettings
from imskit.contexts import client_context, server_context
from imskit.sockets import Address, parse_endpoint
from imskit.streams import StreamListener
from imskit.transports import SipTransports, _Arrivals
from imskit.udp import UdpSocket
from imswire.base import ProtocolError
from imswire.sip.flow import Flow, Transport
from imswire.sip.parser import Ping, StreamFramer

MESSAGE = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"
LOCAL = "127.0.0.1"


def node(side: Side, **settings: Any) -> SipTransports:
    return SipTransports(
        StreamFramer,
        on_datagram=side.tell("message"),
        on_frame=side.tell("message"),
        on_flow_opened=side.tell("up"),
        on_flow_closed=side.tell("down"),
        on_stream_error=side.tell("error"),
        on_send_failed=side.tell("failed"),
        settings=dataclasses.replace(StreamSettings(), **settings),
    )


def message(number: int, size: int = 0) -> bytes:
    return f"OPTIONS sip:{number} SIP/2.0\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size


async def is_reset(host: str, port: int, source: str = LOCAL) -> bool:
    """True if a connection from ``source`` is reset, be it while it opens or right after."""
    try:
        reader, _ = await asyncio.open_connection(host, port, local_addr=(source, 0))
        await reader.readexactly(1)
    except ConnectionResetError:
        return True
    return False


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("tls"))


@on_loop
async def test_a_second_message_reuses_the_connection_and_the_first_ones_wait_in_order() -> None:
    a, b = Side(), Side()
    client, server = node(a), node(b)
    flow = client.flow_to("core", "tcp", server.add_listener("access", "tcp", LOCAL, 0))
    carriers = {client.send(message(number), flow) for number in range(20)}
    assert len(carriers) == 1
    assert await b.messages(20) == [message(number) for number in range(20)]
    opened, _ = await a.expect("up")
    assert client.is_open(opened)
    assert client.send(message(20), flow) == opened
    assert opened.realm == "core"
    assert opened.remote == flow.remote
    await b.messages(1)
    assert server.stats()["accepted"] == 1
    await client.close()
    await server.close()


@on_loop
async def test_realms_do_not_share_a_connection() -> None:
    a, b = Side(), Side()
    client, server = node(a), node(b)
    remote = server.add_listener("access", "tcp", LOCAL, 0)
    for realm in ("core", "access"):
        client.send(MESSAGE, client.flow_to(realm, "tcp", remote))
    await b.messages(2)
    assert server.connections == 2
    await client.close()
    await server.close()


@on_loop
async def test_an_answer_goes_back_on_the_flow_and_flows_tell_their_listener() -> None:
    a, b = Side(), Side()
    client, server = node(a), node(b)
    address = server.add_listener("access", "tcp", LOCAL, 0)
    client.send(MESSAGE, client.flow_to("core", "tcp", address))
    flow, frame = await b.expect("message")
    assert frame == MESSAGE
    assert (flow.transport, flow.realm, flow.local) == ("tcp", "access", address)
    assert flow.connection > 0
    assert server.send(message(7), flow) == flow
    assert await a.messages(1) == [message(7)]
    await client.close()
    await server.close()


@on_loop
async def test_a_new_connection_is_opened_when_the_old_one_has_gone() -> None:
    a, b = Side(), Side()
    client, server = node(a), node(b)
    flow = client.flow_to("core", "tcp", server.add_listener("access", "tcp", LOCAL, 0))
    client.send(MESSAGE, flow)
    first, _ = await b.expect("message")
    server.close_flow(first, "enough")
    gone, _ = await a.expect("down")
    assert not client.is_open(gone)
    client.send(MESSAGE, flow)
    second, _ = await b.expect("message")
    assert second.connection != first.connection
    assert client.send(MESSAGE, gone) is None
    assert await a.expect("failed") == (gone, "the connection is gone")
    await client.close()
    await server.close()


@on_loop
async def test_pings_pass_through_as_the_framer_gave_them() -> None:
    side = Side()
    server = node(side)
    _, writer = await asyncio.open_connection(*server.add_listener("access", "tcp", LOCAL, 0))
    writer.write(b"\r\n\r\n" + MESSAGE)
    frames = [(await side.expect("message"))[1] for _ in range(3)]
    assert frames == [Ping.SINGLE, Ping.DOUBLE, MESSAGE]
    writer.close()
    await server.close()


@on_loop
async def test_a_last_answer_follows_bad_input_and_then_the_connection_ends() -> None:
    side = Side()

    def answer(flow: Flow, error: ProtocolError) -> None:
        side.tell("error")(flow, error)
        server.send(b"SIP/2.0 400 Bad Request\r\n\r\n", flow)

    server = SipTransports(
        StreamFramer,
        on_datagram=side.tell("message"),
        on_frame=side.tell("message"),
        on_flow_closed=side.tell("down"),
        on_stream_error=answer,
    )
    reader, writer = await asyncio.open_connection(*server.add_listener("access", "tcp", LOCAL, 0))
    # Much follows the fault unread; closing over it would reset the connection and eat the answer.
    writer.write(MESSAGE + b"OPTIONS sip:x SIP/2.0\r\n\r\n" + b"y" * 500_000)
    assert await reader.read() == b"SIP/2.0 400 Bad Request\r\n\r\n"
    writer.close()
    kinds = [(await side.next())[0] for _ in range(3)]
    assert kinds == ["message", "error", "down"], "the message before the fault counts, and the fault is told once"
    await server.close()


@on_loop
async def test_connections_are_bounded_per_source_and_per_listener() -> None:
    side = Side()
    server = node(side, connections=3, connections_per_source=2)
    host, port = server.add_listener("access", "tcp", LOCAL, 0)

    async def connect(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port, local_addr=(source, 0))

    kept = []
    for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
        kept.append(await connect(source))
        await side.expect("up")
    for source in ("127.0.0.1", "127.0.0.3"):
        assert await is_reset(host, port, source)
    assert server.stats()["refused"] == 2
    kept[0][1].close()
    await side.expect("down")
    kept.append(await connect("127.0.0.3"))
    await side.expect("up")
    for _, writer in kept:
        writer.close()
    await server.close()


@on_loop
async def test_connections_are_counted_by_what_is_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imskit.streams.source_of", {"127.0.0.1": "one", "127.0.0.2": "one", "127.0.0.3": "two"}.get)
    side = Side()
    server = node(side, connections_per_source=1)
    host, port = server.add_listener("access", "tcp", LOCAL, 0)
    _, first = await asyncio.open_connection(host, port, local_addr=("127.0.0.1", 0))
    await side.expect("up")
    assert await is_reset(host, port, "127.0.0.2")
    _, third = await asyncio.open_connection(host, port, local_addr=("127.0.0.3", 0))
    await side.expect("up")
    first.close()
    third.close()
    await server.close()


@on_loop
async def test_handshakes_count_as_connections_and_have_a_deadline(files: Files) -> None:
    side = Side()
    server = node(side, connections_per_source=1, handshake_timeout=0.2)
    host, port = server.add_listener("access", "tls", LOCAL, 0, server_context(*files))
    reader, writer = await asyncio.open_connection(host, port)
    assert await is_reset(host, port)
    assert await reader.read() == b"", "a client that never says hello is sent away"
    writer.close()
    trust = client_context(ca=files.certificate)
    while True:  # the place is free again once the handshake has been given up
        try:
            _, third = await asyncio.open_connection(host, port, ssl=trust)
        except OSError:
            continue
        break
    await side.expect("up")
    assert server.stats()["failed_handshakes"] >= 1
    third.close()
    await server.close()


@on_loop
async def test_an_idle_connection_is_closed() -> None:
    side = Side()
    server = node(side, idle_timeout=0.05)
    reader, writer = await asyncio.open_connection(*server.add_listener("access", "tcp", LOCAL, 0))
    assert await reader.read() == b""
    writer.close()
    _, reason = await side.expect("down")
    assert reason == "idle for 0.05 s"
    await server.close()


@on_loop
async def test_half_a_message_has_a_deadline_that_dripping_octets_do_not_move() -> None:
    side = Side()
    server = node(side, message_timeout=0.1)
    reader, writer = await asyncio.open_connection(*server.add_listener("access", "tcp", LOCAL, 0))
    writer.write(MESSAGE + b"OPTIONS sip:")

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.ensure_future(drip())
    assert await reader.read() == b""
    writer.close()
    await dripping
    _, reason = await side.expect("down")
    assert reason == "a message stayed unfinished for 0.1 s"
    await server.close()


@on_loop
async def test_whole_messages_do_not_meet_the_half_message_deadline() -> None:
    side = Side()
    server = node(side, message_timeout=0.02, idle_timeout=0.2)
    reader, writer = await asyncio.open_connection(*server.add_listener("access", "tcp", LOCAL, 0))
    writer.write(MESSAGE[:9])
    writer.write(MESSAGE[9:])
    assert await reader.read() == b""
    writer.close()
    _, reason = await side.expect("down")
    assert reason == "idle for 0.2 s"
    await server.close()


@on_loop
async def test_a_peer_that_does_not_read_is_dropped_at_the_write_limit() -> None:
    side = Side()
    server = node(side, write_limit=100_000)
    listener = server.add_listener("access", "tcp", LOCAL, 0)
    _, writer = await asyncio.open_connection(*listener, limit=1_000)
    writer.write(MESSAGE)
    flow, _ = await side.expect("message")
    sent = 0
    while server.send(message(0, 50_000), flow) is not None:
        sent += 1
        assert sent < 10_000, "nothing stops a peer that does not read"
        await asyncio.sleep(0)
    gone, reason = await side.expect("down")
    assert gone == flow
    assert reason == "the peer does not read: more than 100000 octets wait"
    writer.close()
    await server.close()


@on_loop
async def test_nobody_there_fails_every_message_that_waits() -> None:
    side = Side()
    client = node(side)
    free = socket.socket()  # holds a port and does not listen
    free.bind((LOCAL, 0))
    flow = client.flow_to("core", "tcp", free.getsockname())
    assert client.send(MESSAGE, flow) is not None
    client.send(MESSAGE, flow)
    assert side.events.empty(), "a failure is never told from within send"
    for _ in range(2):
        given, reason = await side.expect("failed")
        assert given == flow
        assert "refused" in reason
    assert client.stats()["dialling"] == 0
    free.close()
    await client.close()


@on_loop
async def test_a_connection_that_does_not_open_times_out() -> None:
    side = Side()
    client = node(side, connect_timeout=0.1)
    with socket.socket() as full:
        full.bind((LOCAL, 0))
        full.listen(0)
        # With its backlog full a listener drops SYNs without a word.
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        flow = client.flow_to("core", "tcp", full.getsockname())
        client.send(MESSAGE, flow)
        assert await side.expect("failed") == (flow, "no connection within 0.1 s")
        for sock in waiting:
            sock.close()
    await client.close()


@on_loop
async def test_what_waits_for_a_connection_is_bounded_and_so_are_connections() -> None:
    a, b = Side(), Side()
    client, server = node(a, pending_limit=100, outgoing=1), node(b)
    remote = server.add_listener("access", "tcp", LOCAL, 0)
    flow = client.flow_to("core", "tcp", remote)
    assert client.send(message(0, 20), flow) is not None
    assert client.send(message(1, 90), flow) is None
    other = client.flow_to("access", "tcp", remote)
    assert client.send(MESSAGE, other) is None
    assert await a.expect("failed") == (flow, "too much waits for the connection to open")
    assert await a.expect("failed") == (other, "too many outgoing connections")
    assert await b.messages(1) == [message(0, 20)]
    await client.close()
    await server.close()


@on_loop
async def test_outgoing_tls_verifies_the_server_and_names_what_is_wrong(files: Files, tmp_path: Path) -> None:
    a, b = Side(), Side()
    client, server = node(a), node(b)
    flow = client.flow_to("core", "tls", server.add_listener("access", "tls", LOCAL, 0, server_context(*files)))
    assert client.send(MESSAGE, flow) is None
    assert await a.expect("failed") == (flow, "realm core has no TLS client context")

    client.set_client_context("core", client_context(ca=make_files(tmp_path, "stranger").certificate))
    client.send(MESSAGE, flow)
    given, reason = await a.expect("failed")
    assert given == flow
    assert "verif" in reason.lower()

    client.set_client_context("core", client_context(ca=files.certificate))
    client.send(MESSAGE, flow, server_name="other.example")
    given, reason = await a.expect("failed")
    assert "verif" in reason.lower()

    client.send(MESSAGE, flow)
    assert await b.messages(1) == [MESSAGE]
    await client.close()
    await server.close()


@on_loop
async def test_plain_octets_at_a_tls_port_get_nowhere(files: Files) -> None:
    side = Side()
    server = node(side)
    reader, writer = await asyncio.open_connection(
        *server.add_listener("access", "tls", LOCAL, 0, server_context(*files))
    )
    writer.write(MESSAGE)
    await reader.read()
    writer.close()
    await server.close()
    assert side.events.empty()


@on_loop
async def test_accepted_sockets_notice_a_dead_peer() -> None:
    side = Side()
    server = node(side, keepalive_idle=7.0, peer_timeout=9.0)
    _, writer = await asyncio.open_connection(*server.add_listener("access", "tcp", LOCAL, 0))
    flow, _ = await side.expect("up")
    stream = server._open[flow.connection][0]
    assert stream._transport is not None
    sock = stream._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 9_000
    writer.close()
    await server.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@on_loop
async def test_close_right_after_a_connection_opened_leaves_nothing(files: Files, transport: Transport) -> None:
    side = Side()
    server = node(side)
    tls = server_context(*files) if transport == "tls" else None
    listener = server.add_listener("access", transport, LOCAL, 0, tls)
    trust = client_context(ca=files.certificate) if tls else None
    opening = asyncio.ensure_future(asyncio.open_connection(*listener, ssl=trust))
    flow, _ = await side.expect("up")
    _, writer = await opening
    writer.close()
    await server.close(60.0)  # longer than the deadline of the test: it must not be needed
    gone, _ = await side.expect("down")
    assert gone == flow
    assert server.connections == 0


@on_loop
async def test_close_gives_up_handshakes_that_are_under_way(files: Files) -> None:
    server = node(Side())
    reader, writer = await asyncio.open_connection(
        *server.add_listener("access", "tls", LOCAL, 0, server_context(*files))
    )
    while not server.stats()["accepted"]:  # noqa: ASYNC110  nothing tells of a handshake that has begun
        await asyncio.sleep(0)
    await server.close(60.0)
    assert await reader.read() == b""
    writer.close()


@on_loop
async def test_listeners_that_cannot_be_are_refused(files: Files) -> None:
    server = node(Side())
    _, port = server.add_listener("access", "tcp", LOCAL, 0)
    with pytest.raises(OSError, match=rf"cannot bind 127\.0\.0\.1:{port}"):
        server.add_listener("access", "tcp", LOCAL, port)
    with pytest.raises(ValueError, match="needs a TLS context"):
        server.add_listener("access", "tls", LOCAL, 0)
    with pytest.raises(ValueError, match="needs no TLS context"):
        server.add_listener("access", "tcp", LOCAL, 0, server_context(*files))
    assert [listening.address[1] for listening in server.listening] == [port]
    await server.close()


@on_loop
async def test_running_out_of_descriptors_pauses_accepting_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = asyncio.Event()
    original = StreamListener._accept_failed

    def accept_failed(listener: StreamListener, error: OSError) -> None:
        failed.set()
        original(listener, error)

    monkeypatch.setattr(StreamListener, "_accept_failed", accept_failed)
    monkeypatch.setattr(streams, "_ACCEPT_PAUSE", 0.01)
    side = Side()
    server = node(side)
    address = server.add_listener("access", "tcp", LOCAL, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_connection(address):  # waits in the backlog
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            await failed.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await side.expect("up")
    await server.close()


@on_loop
async def test_both_families_share_a_port() -> None:
    server = node(Side())
    _, port = server.add_listener("access", "udp", LOCAL, 0)
    assert server.add_listener("access", "udp", "::1", port) == ("::1", port)
    assert server.flow_to("access", "udp", ("::1", 9)).local == ("::1", port)
    assert server.flow_to("access", "tcp", ("::1", 9)).local == ("::", 0)
    with pytest.raises(LookupError, match="realm core has no UDP listener"):
        server.flow_to("core", "udp", ("::1", 9))
    await server.close()


@on_loop
async def test_udp_failures_are_told() -> None:
    side = Side()
    client = node(side)
    client.add_listener("access", "udp", LOCAL, 0)
    flow = client.flow_to("access", "udp", (LOCAL, 9))
    assert client.send(b"x" * 70_000, flow) is None
    given, reason = await side.expect("failed")
    assert given == flow
    assert "too long" in reason
    stray = Flow("udp", "access", (LOCAL, 1), (LOCAL, 9))
    assert client.send(MESSAGE, stray) is None
    assert await side.expect("failed") == (stray, "no such UDP listener")
    await client.close()


@on_loop
async def test_closing_while_dialling_fails_what_waits() -> None:
    a, b = Side(), Side()
    client, server = node(a), node(b)
    flow = client.flow_to("core", "tcp", server.add_listener("access", "tcp", LOCAL, 0))
    client.send(MESSAGE, flow)
    await client.close()
    assert await a.expect("failed") == (flow, "shut down")
    assert client.send(MESSAGE, flow) is None
    await server.close()


class Congested(UdpSocket):
    """A socket whose kernel buffer is full for the first ``refusals`` attempts."""

    refusals = 0

    def _put(self, data: bytes, remote: Address) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        super()._put(data, remote)


@on_loop
async def test_datagrams_wait_for_a_full_kernel_buffer_in_order_and_are_bounded() -> None:
    side = Side()
    receiver = UdpSocket(LOCAL, 0, lambda data, remote: side.tell("message")(remote, data))
    sender = Congested(LOCAL, 0, lambda data, remote: None)
    sender.refusals = 3
    for number in range(5):
        sender.send(b"%d" % number, receiver.local)
    assert sender.sent == 0
    assert await side.messages(5) == [b"0", b"1", b"2", b"3", b"4"]
    sender.refusals = 1
    for _ in range(20):
        sender.send(b"x" * 60_000, receiver.local)
    assert sender.dropped == 3, "17 datagrams of 60,000 octets fit 1 MiB"
    assert len(await side.messages(17)) == 17
    sender.close()
    receiver.close()
    sender.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@on_loop
async def test_one_wake_up_takes_all_that_wait_the_empty_ones_too(host: str) -> None:
    got: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
    receiver = UdpSocket(host, 0, lambda data, remote: got.put_nowait((data, remote)))
    sender = UdpSocket(host, 0, lambda data, remote: None)
    sent = [b"a", b"b", b"", b"c", b"", b"", b"d"]
    for data in sent:
        sender.send(data, receiver.local)
    receiver._readable()
    assert [got.get_nowait()[0] for _ in range(2)] == [b"a", b"b"]
    assert got.empty()
    assert [await got.get() for _ in range(5)] == [(data, sender.local) for data in sent[2:]]
    receiver.close()
    sender.close()


def test_flows_are_made_once_for_each_remote_end_and_are_bounded() -> None:
    seen: list[Flow] = []
    arrivals = _Arrivals("access", (LOCAL, 5060), lambda flow, data: seen.append(flow))
    for port in (1, 2, 1):
        arrivals.take(b"x", (LOCAL, port))
    assert seen == [Flow("udp", "access", (LOCAL, 5060), (LOCAL, port)) for port in (1, 2, 1)]
    assert seen[0] is seen[2]
    assert hash(seen[0]) == hash(Flow("udp", "access", (LOCAL, 5060), (LOCAL, 1)))
    for port in range(1, 3 * arrivals._FLOWS):
        arrivals.take(b"x", (LOCAL, port))
    assert len(arrivals._flows) <= arrivals._FLOWS


@pytest.mark.parametrize(
    "text, expected",
    [
        ("tcp:127.0.0.1:2944", ("tcp", "127.0.0.1", 2944)),
        ("udp:[::1]:0", ("udp", "::1", 0)),
        ("tls:mgc.example:2944", ("tls", "mgc.example", 2944)),
        ("localhost:1", ("tcp", "localhost", 1)),
    ],
)
def test_endpoints(text: str, expected: tuple[str, str, int]) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.scheme, endpoint.host, endpoint.port) == expected
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["", "127.0.0.1", "tcp:", "tcp::1:5", "sctp:1.2.3.4:5", "1.2.3.4:70000", "1.2.3.4:x"])
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_endpoint(text)


def test_tls_contexts_of_a_listener_send_no_tickets(files: Files) -> None:
    context: ssl.SSLContext = server_context(*files)
    assert context.num_tickets == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@on_loop
async def test_what_did_not_arrive_is_reported_and_the_socket_goes_on(host: str) -> None:
    gone: asyncio.Queue[tuple[bytes, Address, str]] = asyncio.Queue()
    got: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
    udp = UdpSocket(
        host,
        0,
        lambda data, remote: got.put_nowait((data, remote)),
        on_unreachable=lambda quoted, remote, reason: gone.put_nowait((quoted, remote, reason)),
    )
    dead = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    dead.bind((host, 0))
    nobody = dead.getsockname()[:2]
    dead.close()
    for number in range(3):
        udp.send(b"INVITE %d" % number, nobody)
    udp.send(b"to myself", udp.local)  # the errors of others are not those of this one
    assert await got.get() == (b"to myself", udp.local)
    for number in range(3):
        assert await gone.get() == (b"INVITE %d" % number, nobody, "connection refused")
    for number in range(5):  # an error, then a datagram, again and again: the socket is still watched
        udp.send(b"once more", nobody)
        await gone.get()
        udp.send(b"%d" % number, udp.local)
        assert (await got.get())[0] == b"%d" % number
    assert udp.unreachable == 8
    assert udp.dropped == 0
    udp.close()
