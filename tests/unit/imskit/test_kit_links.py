"""H.248 links: who may connect, failures that are told, framing faults."""

import asyncio
import socket
from pathlib import Path

import pytest
from tests.unit.imskit.kit_support import Files, Side, make_files, on_loop

from imskit import links
from imskit.contexts import client_context, server_context
from imskit.links import LinkClient, LinkRefused, LinkServer
from imskit.sockets import Address, Endpoint, bound_socket, parse_endpoint
from imswire.base import LimitExceeded, tpkt

LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("tls"))


def server_at(side: Side, endpoint: str, **options: object) -> LinkServer:
    return LinkServer(
        parse_endpoint(endpoint),
        on_up=side.tell("up"),
        on_message=side.tell("message"),
        on_down=side.tell("down"),
        **options,  # type: ignore[arg-type]
    )


def client_at(side: Side, scheme: str, remote: Address, **options: object) -> LinkClient:
    return LinkClient(
        Endpoint(scheme, *remote),  # type: ignore[arg-type]
        on_up=side.tell("up"),
        on_message=side.tell("message"),
        on_down=side.tell("down"),
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("endpoint", ["tcp:0.0.0.0:2944", "udp:0.0.0.0:2944", "tcp:[::]:2944", "tcp:192.0.2.1:2944"])
def test_plain_h248_stays_on_loopback(endpoint: str) -> None:
    with pytest.raises(LinkRefused, match=r"plain H\.248 is for loopback only.*insecure = true"):
        server_at(Side(), endpoint)
    with pytest.raises(LinkRefused):
        client_at(Side(), endpoint[:3], ("192.0.2.1", 2944))


def test_tls_has_to_be_mutual(files: Files) -> None:
    with pytest.raises(LinkRefused, match="needs a certificate"):
        server_at(Side(), "tls:0.0.0.0:0")
    with pytest.raises(LinkRefused, match="verify the peer"):
        server_at(Side(), "tls:0.0.0.0:0", tls=server_context(*files))
    with pytest.raises(LinkRefused, match="does not go with tcp"):
        server_at(Side(), "tcp:127.0.0.1:0", tls=server_context(*files, client_ca=files.certificate))
    with pytest.raises(LinkRefused, match="verify the peer"):
        client_at(Side(), "tls", (LOCAL, 1), tls=client_context(verify=False))


@on_loop
async def test_insecure_opens_any_address() -> None:
    server = server_at(Side(), "tcp:0.0.0.0:0", insecure=True)
    assert server.address[1] > 0
    server.close()


@on_loop
async def test_a_tls_client_without_a_certificate_gets_no_link(files: Files) -> None:
    a, b = Side(), Side()
    server = server_at(b, "tls:127.0.0.1:0", tls=server_context(*files, client_ca=files.certificate))
    client = client_at(a, "tls", server.address, tls=client_context(ca=files.certificate))
    client.connect()
    # In TLS 1.3 a client learns after its own handshake that the server refuses it.
    await a.expect("down")
    assert b.events.empty()
    client.close()
    server.close()


@on_loop
async def test_a_stranger_as_server_gets_no_link(files: Files, tmp_path: Path) -> None:
    a, b = Side(), Side()
    stranger = make_files(tmp_path, "stranger")
    server = server_at(b, "tls:127.0.0.1:0", tls=server_context(*stranger, client_ca=files.certificate))
    trust = client_context(ca=files.certificate, certificate=files.certificate, key=files.key)
    client = client_at(a, "tls", server.address, tls=trust)
    client.connect()
    kind, _, reason = await a.next()
    assert kind == "down"
    assert "verif" in reason.lower()
    server.close()


@on_loop
async def test_nobody_there_is_told_and_the_next_attempt_may_succeed() -> None:
    a, b = Side(), Side()
    sock = socket.socket()  # holds the port and does not listen
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOCAL, 0))
    address: Address = sock.getsockname()
    client = client_at(a, "tcp", address)
    first = client.connect()
    with pytest.raises(RuntimeError, match="under way"):
        client.connect()
    assert a.events.empty()
    link, reason = await a.expect("down")
    assert link == first
    assert "refused" in reason
    assert client.local is None
    server = server_at(b, f"tcp:127.0.0.1:{address[1]}")
    second = client.connect()
    assert await a.expect("up") == (second, address)
    assert not client.send(first, b"for the link before")
    assert client.send(second, b"hello")
    assert await b.messages(1) == [b"hello"]
    sock.close()
    client.close()
    server.close()


@on_loop
async def test_a_udp_gateway_learns_that_the_controller_is_gone() -> None:
    side = Side()
    sock = bound_socket(socket.SOCK_DGRAM, LOCAL, 0)
    address: Address = sock.getsockname()
    sock.close()
    client = client_at(side, "udp", address)
    link = client.connect()
    await side.expect("up")
    client.send(link, b"hello")
    assert await side.expect("down") == (link, "connection refused")
    assert not client.send(link, b"too late")


@on_loop
async def test_an_attempt_may_be_called_off() -> None:
    a, b = Side(), Side()
    server = server_at(b, "tcp:127.0.0.1:0")
    client = client_at(a, "tcp", server.address)
    link = client.connect()
    client.close("changed our mind")
    assert await a.next() == ("down", link, "changed our mind")
    server.close()


@on_loop
async def test_what_is_not_tpkt_ends_the_link() -> None:
    side = Side()
    server = server_at(side, "tcp:127.0.0.1:0")
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(tpkt(b"good"))
    link, payload = await side.expect("message")
    assert payload == b"good"
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    gone, reason = await side.expect("down")
    assert gone == link
    assert "TPKT version 71" in reason
    server.close()


@on_loop
async def test_a_packet_above_the_limit_ends_either_end_by_its_header() -> None:
    a, b = Side(), Side()
    server = server_at(b, "tcp:127.0.0.1:0", message_limit=1_000)
    client = client_at(a, "tcp", server.address)
    link = client.connect()
    await a.expect("up")
    assert client.send(link, bytes(1_000))
    assert client.send(link, bytes(1_001))
    await b.expect("up")
    await b.expect("message")
    _, reason = await b.expect("down")
    assert "tpkt.oversize" in reason
    server.close()
    await a.expect("down")

    listening = await asyncio.start_server(lambda _, writer: writer.write(b"\x03\0\x10\0"), LOCAL, 0)
    limited = client_at(a, "tcp", listening.sockets[0].getsockname(), message_limit=1_000)
    limited.connect()
    await a.expect("up")
    _, reason = await a.expect("down")
    assert "tpkt.oversize" in reason
    listening.close()


@on_loop
async def test_an_oversized_message_is_refused_not_truncated() -> None:
    a, b = Side(), Side()
    server = server_at(b, "tcp:127.0.0.1:0")
    client = client_at(a, "tcp", server.address)
    link = client.connect()
    await a.expect("up")
    with pytest.raises(LimitExceeded):
        client.send(link, b"x" * 65_532)
    assert client.send(link, b"x" * 65_531)
    assert await b.messages(1) == [b"x" * 65_531]
    client.close()
    server.close()


@on_loop
async def test_udp_links_are_one_per_peer_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_UDP_LINKS", 2)
    side = Side()
    server = server_at(side, "udp:127.0.0.1:0")
    peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    numbers = []
    for peer in (peers[0], peers[1], peers[0], peers[2]):
        peer.sendto(b"x", server.address)
        numbers.append((await side.expect("message"))[0])
    assert numbers[0] == numbers[2]
    assert len(set(numbers)) == 3
    assert await side.expect("down") == (numbers[1], "pushed out by newer peers"), "the longest silent one goes"
    assert not server.send(numbers[1], b"x")
    assert server.send(numbers[3], b"y")
    peers[2].settimeout(5)
    assert peers[2].recv(10) == b"y"
    server.close_link(numbers[0], "enough")
    assert await side.expect("down") == (numbers[0], "enough")
    assert not server.send(numbers[3], b"x" * 65_508)
    server.close()
    for peer in peers:
        peer.close()


@on_loop
async def test_a_restarted_gateway_is_a_new_link() -> None:
    a, b = Side(), Side()
    server = server_at(b, "tcp:127.0.0.1:0")
    client = client_at(a, "tcp", server.address)
    client.connect()
    first, _ = await b.expect("up")
    await a.expect("up")
    client.close()
    await a.expect("down")
    assert (await b.expect("down"))[0] == first
    client.connect()
    second, _ = await b.expect("up")
    assert second != first
    client.close()
    server.close()
