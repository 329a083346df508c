"""One suite over every carrier of messages: SIP over UDP, TCP and TLS, H.248 over UDP, TCP and TLS; IPv4 and IPv6.

Each carrier offers the same small face (dial a peer, send, be told of arrivals and ends), so that one set of tests says
what all of them owe: whole messages, unchanged, in order, both ways; an end that is told; a failure that is told.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import pytest
from tests.unit.imskit.kit_support import HOSTS, Files, Side, make_files, on_loop

from imskit.contexts import client_context, server_context
from imskit.links import LinkClient, LinkServer
from imskit.sockets import Address, Endpoint
from imskit.transports import SipTransports
from imswire.base import tpkt
from imswire.sip.flow import Flow, Transport
from imswire.sip.parser import StreamFramer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("tls"))


class Carrier(ABC):
    """A server side and a client side of one transport."""

    def __init__(self) -> None:
        self.server = Side()
        self.client = Side()

    @abstractmethod
    def listen(self) -> Address: ...

    @abstractmethod
    async def dial(self, remote: Address) -> None:
        """Get ready to send to ``remote``."""

    @abstractmethod
    def from_client(self, message: bytes) -> None: ...

    @abstractmethod
    def from_server(self, peer: Any, message: bytes) -> None: ...

    @abstractmethod
    def close_peer(self, peer: Any) -> None:
        """The server closes its connection with the client."""

    @abstractmethod
    async def close(self) -> None: ...

    def message(self, text: str, size: int = 0) -> bytes:
        """A message that the carrier's framing takes, of about ``size`` octets."""
        return text.encode().ljust(size, b".")

    def raw(self, message: bytes) -> bytes:
        """``message`` as it looks on a stream."""
        return message


class SipCarrier(Carrier):
    def __init__(self, transport: Transport, host: str, files: Files) -> None:
        super().__init__()
        self.transport = transport
        self.host = host
        self._server = self._make(self.server)
        self._client = self._make(self.client)
        self._client.set_client_context("access", client_context(ca=files.certificate))
        self._tls = server_context(*files) if transport == "tls" else None
        self._remote: Address = (host, 0)

    @staticmethod
    def _make(side: Side) -> SipTransports:
        return SipTransports(
            StreamFramer,
            on_datagram=side.tell("message"),
            on_frame=side.tell("message"),
            on_flow_opened=side.tell("up"),
            on_flow_closed=side.tell("down"),
            on_stream_error=side.tell("error"),
            on_send_failed=side.tell("failed"),
        )

    def listen(self) -> Address:
        return self._server.add_listener("access", self.transport, self.host, 0, self._tls)

    async def dial(self, remote: Address) -> None:
        if self.transport == "udp":
            self._client.add_listener("access", "udp", self.host, 0)
        self._remote = remote

    def from_client(self, message: bytes) -> None:
        self._client.send(message, self._client.flow_to("access", self.transport, self._remote))

    def from_server(self, peer: Flow, message: bytes) -> None:
        assert self._server.send(message, peer) == peer

    def close_peer(self, peer: Flow) -> None:
        self._server.close_flow(peer, "enough")

    async def close(self) -> None:
        await self._client.close()
        await self._server.close()

    def message(self, text: str, size: int = 0) -> bytes:
        head = f"OPTIONS sip:{text} SIP/2.0\r\nContent-Length: "
        body = b"x" * max(0, size - len(head) - 10)
        return f"{head}{len(body)}\r\n\r\n".encode() + body


class LinkCarrier(Carrier):
    def __init__(self, scheme: Literal["udp", "tcp", "tls"], host: str, files: Files) -> None:
        super().__init__()
        self.scheme = scheme
        tls = scheme == "tls"
        self._client_tls = (
            client_context(ca=files.certificate, certificate=files.certificate, key=files.key) if tls else None
        )
        self._server = LinkServer(
            Endpoint(scheme, host, 0),
            on_up=self.server.tell("up"),
            on_message=self.server.tell("message"),
            on_down=self.server.tell("down"),
            tls=server_context(*files, client_ca=files.certificate) if tls else None,
        )
        self._client: LinkClient | None = None
        self._link = 0

    def listen(self) -> Address:
        assert self._server.reliable == (self.scheme != "udp")
        return self._server.address

    async def dial(self, remote: Address) -> None:
        self._client = LinkClient(
            Endpoint(self.scheme, *remote),
            on_up=self.client.tell("up"),
            on_message=self.client.tell("message"),
            on_down=self.client.tell("down"),
            tls=self._client_tls,
        )
        self._link = self._client.connect()
        assert await self.client.expect("up") == (self._link, remote)
        assert self._client.local is not None

    def from_client(self, message: bytes) -> None:
        assert self._client is not None
        assert self._client.send(self._link, message)

    def from_server(self, peer: int, message: bytes) -> None:
        assert self._server.send(peer, message)

    def close_peer(self, peer: int) -> None:
        self._server.close_link(peer, "enough")

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._server.close()

    def raw(self, message: bytes) -> bytes:
        return tpkt(message)


type MakeCarrier = Callable[[], Carrier]
CARRIERS = [
    (kind, transport, host) for kind in ("SIP", "H248") for transport in ("udp", "tcp", "tls") for host in HOSTS
]


def only(*transports: str) -> pytest.MarkDecorator:
    """The carriers that a test is about, when it is not about all."""
    chosen = [carrier for carrier in CARRIERS if carrier[1] in transports]
    return pytest.mark.parametrize("make", chosen, ids="-".join, indirect=True)


@pytest.fixture(params=CARRIERS, ids="-".join)
def make(request: pytest.FixtureRequest, files: Files) -> MakeCarrier:
    kind, transport, host = request.param
    carrier = SipCarrier if kind == "SIP" else LinkCarrier
    return lambda: carrier(transport, HOSTS[host], files)


@on_loop
async def test_a_message_and_its_answer_arrive_unchanged(make: MakeCarrier) -> None:
    carrier = make()
    await carrier.dial(carrier.listen())
    carrier.from_client(carrier.message("question"))
    peer, seen = await carrier.server.expect("message")
    assert seen == carrier.message("question")
    carrier.from_server(peer, carrier.message("answer"))
    assert await carrier.client.messages(1) == [carrier.message("answer")]
    await carrier.close()


@on_loop
async def test_many_messages_both_ways_keep_their_order(make: MakeCarrier) -> None:
    carrier = make()
    await carrier.dial(carrier.listen())
    sent = [carrier.message(f"m{number}") for number in range(200)]
    for message in sent:
        carrier.from_client(message)
    peer, first = await carrier.server.expect("message")
    assert [first, *await carrier.server.messages(199)] == sent
    for message in sent:
        carrier.from_server(peer, message)
    assert await carrier.client.messages(200) == sent
    await carrier.close()


@pytest.mark.parametrize("size", [1_400, 16_384, 60_000])
@on_loop
async def test_a_large_message_arrives_whole(make: MakeCarrier, size: int) -> None:
    carrier = make()
    await carrier.dial(carrier.listen())
    sent = carrier.message("large", size)
    carrier.from_client(sent)
    peer, seen = await carrier.server.expect("message")
    assert seen == sent
    carrier.from_server(peer, seen)
    assert await carrier.client.messages(1) == [sent]
    await carrier.close()


@only("tcp", "tls")  # datagrams have no end
@on_loop
async def test_an_end_is_told_to_both_sides_and_sending_fails_after_it(make: MakeCarrier) -> None:
    carrier = make()
    await carrier.dial(carrier.listen())
    carrier.from_client(carrier.message("hello"))
    peer, _ = await carrier.server.expect("message")
    carrier.from_server(peer, carrier.message("last"))
    carrier.close_peer(peer)
    assert await carrier.client.messages(1) == [carrier.message("last")], "what was sent before the close arrives"
    _, reason = await carrier.client.expect("down")
    assert reason == "closed by the peer"
    assert await carrier.server.expect("down") == (peer, "enough")
    with pytest.raises(AssertionError):
        carrier.from_server(peer, carrier.message("too late"))
    await carrier.close()


@only("tcp", "tls")
@on_loop
async def test_close_ends_open_connections_and_the_peer_learns_it(make: MakeCarrier) -> None:
    carrier = make()
    await carrier.dial(carrier.listen())
    carrier.from_client(carrier.message("hello"))
    await carrier.server.expect("message")
    await carrier.close()
    await carrier.server.expect("down")


@only("tcp")  # datagrams are not cut, and TLS cuts as it likes
@pytest.mark.parametrize("step", [1, 7, 1_000])
@on_loop
async def test_how_a_stream_is_cut_does_not_matter(make: MakeCarrier, step: int) -> None:
    carrier = make()
    address = carrier.listen()
    _, writer = await asyncio.open_connection(*address)
    sent = [carrier.message(f"m{number}", 300) for number in range(5)]
    octets = b"".join(carrier.raw(message) for message in sent)
    for start in range(0, len(octets), step):
        writer.write(octets[start : start + step])
        await writer.drain()
    assert await carrier.server.messages(5) == sent
    writer.close()
    await carrier.close()
