"""H.248 links: messages over TCP with TPKT framing (RFC 1006 6, H.248.1 D.2) and over UDP (H.248.1 D.1).

The controller (MGC) listens with :class:`LinkServer`, a gateway (MG) connects with :class:`LinkClient`. Whoever can
speak on a link commands the media, so a link stays on loopback or is TLS that authenticates both sides, unless the
settings say ``insecure = true``.
"""

import asyncio
import itertools
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from imskit.common_settings import StreamSettings
from imskit.contexts import is_mutual
from imskit.driver import spawn
from imskit.settings import SettingsError
from imskit.sockets import Address, Endpoint
from imskit.streams import Stream, StreamListener, dial, reason_of
from imskit.udp import UdpSocket
from imswire.base import ProtocolError, TpktFramer, tpkt

# A controller keeps few links; a gateway that dies is to be noticed within seconds.
LINK_SETTINGS = StreamSettings(
    connect_timeout=3.0,
    idle_timeout=86_400.0,
    message_timeout=10.0,
    handshake_timeout=5.0,
    write_limit=4_194_304,
    connections=1_024,
    connections_per_source=256,
    keepalive_idle=2.0,
    peer_timeout=5.0,
)
LARGEST_MESSAGE = 65_531
"""Octets of the largest H.248 message: what one TPKT packet carries."""
_UDP_LARGEST = 65_507
_UDP_LINKS = 1_024

type OnUp = Callable[[int, Address], None]
type OnMessage = Callable[[int, bytes], None]
type OnDown = Callable[[int, str], None]


class LinkRefused(SettingsError):
    """The settings ask for a link that would be neither local nor authenticated."""

    def __init__(self, endpoint: Endpoint, why: str) -> None:
        super().__init__([f"H.248 at {endpoint}: {why}, or write insecure = true if the network protects it"])


def check_endpoint(endpoint: Endpoint, tls: ssl.SSLContext | None, insecure: bool) -> None:
    """Raise :class:`LinkRefused` unless the link is local, authenticated on both sides, or declared insecure."""
    if endpoint.scheme == "tls":
        if tls is None:
            raise LinkRefused(endpoint, "TLS needs a certificate, its key and the peer's authority")
        if not is_mutual(tls) and not insecure:
            raise LinkRefused(endpoint, "TLS has to verify the peer")
    elif tls is not None:
        raise LinkRefused(endpoint, f"a TLS context does not go with {endpoint.scheme}; use tls:")
    elif not endpoint.loopback and not insecure:
        raise LinkRefused(endpoint, "plain H.248 is for loopback only; use tls: with certificates on both sides")


def check_plain(endpoint: Endpoint, insecure: bool) -> None:
    """What :func:`check_endpoint` says of a link without TLS; for a look at settings that opens no certificate."""
    if endpoint.scheme != "tls":
        check_endpoint(endpoint, None, insecure)


class LinkServer:
    """The controller's side: every peer is one link, numbered from 1.

    ``on_up(link, peer)`` comes first, then ``on_message(link, payload)``, and ``on_down(link, reason)`` last. Over UDP
    a link begins with the first datagram of a peer and ends when the owner closes it, or when too many peers push the
    longest silent one out. A TPKT packet above ``message_limit`` octets ends its link as soon as its header is read;
    a larger datagram is handed over, for the parser to refuse. Raises LinkRefused and OSError from the constructor;
    ``address`` is the real address.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_up: OnUp,
        on_message: OnMessage,
        on_down: OnDown,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        message_limit: int = LARGEST_MESSAGE,
        settings: StreamSettings = LINK_SETTINGS,
    ) -> None:
        check_endpoint(endpoint, tls, insecure)
        self._message_limit = message_limit
        self._on_up = on_up
        self._on_message = on_message
        self._on_down = on_down
        self._settings = settings
        self._numbers = itertools.count(1)
        self._streams: dict[int, Stream] = {}
        self._peers: OrderedDict[Address, int] = OrderedDict()
        self._addresses: dict[int, Address] = {}
        self._listener: StreamListener | None = None
        self._udp: UdpSocket | None = None
        if endpoint.scheme == "udp":
            self._udp = UdpSocket(endpoint.host, endpoint.port, self._datagram)
            self.address: Address = self._udp.local
        else:
            self._listener = StreamListener(endpoint.host, endpoint.port, self._stream, settings, tls)
            self.address = self._listener.local

    @property
    def reliable(self) -> bool:
        """True for TCP and TLS: H.248 transactions need no retransmission."""
        return self._udp is None

    def set_tls(self, context: ssl.SSLContext) -> None:
        """The context for links that come from now on."""
        if self._listener is not None:
            self._listener.set_tls(context)

    def send(self, link: int, payload: bytes) -> bool:
        """Send one H.248 message; False when the link cannot take it. Raises LimitExceeded above 65,531 octets."""
        if self._udp is None:
            stream = self._streams.get(link)
            return stream is not None and stream.write(tpkt(payload))
        address = self._addresses.get(link)
        return address is not None and _send_datagram(self._udp, payload, address)

    def close_link(self, link: int, reason: str) -> None:
        """End one link; ``on_down`` follows."""
        if (stream := self._streams.get(link)) is not None:
            stream.close(reason)
        elif (address := self._addresses.pop(link, None)) is not None:
            del self._peers[address]
            asyncio.get_running_loop().call_soon(self._on_down, link, reason)

    def close(self, reason: str = "shut down") -> None:
        """Stop listening and end every link in order."""
        if self._listener is not None:
            self._listener.close()
        for link in [*self._streams, *self._addresses]:
            self.close_link(link, reason)
        if self._udp is not None:
            self._udp.close()

    def _stream(self) -> Stream:
        return Stream(next(self._numbers), TpktFramer(self._message_limit), self, self._settings)

    def _datagram(self, data: bytes, remote: Address) -> None:
        link = self._peers.get(remote)
        if link is None:
            if len(self._peers) >= _UDP_LINKS:
                self.close_link(next(iter(self._peers.values())), "pushed out by newer peers")
            link = next(self._numbers)
            self._peers[remote] = link
            self._addresses[link] = remote
            self._on_up(link, remote)
        else:
            self._peers.move_to_end(remote)
        self._on_message(link, data)

    # what the streams report

    def stream_opened(self, stream: Stream) -> None:
        self._streams[stream.number] = stream
        self._on_up(stream.number, stream.remote)

    def stream_frame(self, stream: Stream, frame: Any) -> None:
        self._on_message(stream.number, frame)

    def stream_error(self, stream: Stream, error: ProtocolError) -> None:
        """TPKT cannot be resynchronised: the stream closes itself and says why."""

    def stream_closed(self, stream: Stream, reason: str) -> None:
        self._streams.pop(stream.number, None)
        self._on_down(stream.number, reason)


class LinkClient:
    """A gateway's side: one link at a time; its owner decides when to connect again.

    ``connect()`` starts one attempt and returns the link's number. Either ``on_up(link, peer)`` follows, then messages
    and at last ``on_down(link, reason)``; or ``on_down`` alone when the attempt failed. Callbacks never come from
    within ``connect``. ``message_limit`` is that of :class:`LinkServer`. Raises LinkRefused from the constructor.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_up: OnUp,
        on_message: OnMessage,
        on_down: OnDown,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        local_host: str | None = None,
        insecure: bool = False,
        message_limit: int = LARGEST_MESSAGE,
        settings: StreamSettings = LINK_SETTINGS,
    ) -> None:
        check_endpoint(endpoint, tls, insecure)
        self._message_limit = message_limit
        self.endpoint = endpoint
        self._on_up = on_up
        self._on_message = on_message
        self._on_down = on_down
        self._tls = tls
        self._server_name = server_name
        self._local_host = local_host
        self._settings = settings
        self._numbers = itertools.count(1)
        self._link = 0
        self._stream: Stream | None = None
        self._udp: UdpSocket | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def reliable(self) -> bool:
        """True for TCP and TLS: H.248 transactions need no retransmission."""
        return self.endpoint.scheme != "udp"

    @property
    def local(self) -> Address | None:
        """Our address on the link, None while it is down."""
        if self._udp is not None:
            return self._udp.local
        return self._stream.local if self._stream is not None and self._stream.open else None

    def connect(self) -> int:
        """Start an attempt; raises RuntimeError while an earlier link is up or under way."""
        if self._link:
            raise RuntimeError("the link is up or under way")
        self._link = next(self._numbers)
        start = self._connect_udp if self.endpoint.scheme == "udp" else self._connect_stream
        self._task = spawn(start(self._link), name=f"link to {self.endpoint}")
        return self._link

    def send(self, link: int, payload: bytes) -> bool:
        """Send one H.248 message; False when the link cannot take it. Raises LimitExceeded above 65,531 octets."""
        if link != self._link:
            return False
        if self._udp is not None:
            return _send_datagram(self._udp, payload, (self.endpoint.host, self.endpoint.port))
        return self._stream is not None and self._stream.write(tpkt(payload))

    def close(self, reason: str = "shut down") -> None:
        """End the link, or the attempt; ``on_down`` follows if there was one."""
        if self._udp is not None:
            self._ended(self._link, reason)
        elif self._stream is not None and self._stream.open:
            self._stream.close(reason)
        elif self._task is not None and self._link:
            self._task.cancel()
            self._ended(self._link, reason)

    async def _connect_udp(self, link: int) -> None:
        host = "127.0.0.1" if self.endpoint.host == "localhost" else self.endpoint.host
        peer = (host, self.endpoint.port)
        local = self._local_host or ("::" if ":" in host else "0.0.0.0")
        try:
            self._udp = UdpSocket(
                local,
                0,
                lambda data, _: self._on_message(link, data),
                connect=peer,
                on_error=lambda error: self._ended(link, reason_of(error)),
            )
        except OSError as error:
            self._ended(link, reason_of(error))
            return
        self._on_up(link, peer)

    async def _connect_stream(self, link: int) -> None:
        stream = Stream(link, TpktFramer(self._message_limit), self, self._settings)
        self._stream = stream
        problem = await dial(
            stream,
            (self.endpoint.host, self.endpoint.port),
            self._settings,
            local_host=self._local_host,
            tls=self._tls,
            server_name=self._server_name,
        )
        if problem:
            self._ended(link, problem)

    def _ended(self, link: int, reason: str) -> None:
        if link != self._link:
            return
        self._link = 0
        self._stream = None
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        asyncio.get_running_loop().call_soon(self._on_down, link, reason)

    # what the stream reports

    def stream_opened(self, stream: Stream) -> None:
        if stream.number == self._link:
            self._on_up(stream.number, stream.remote)
        else:  # the attempt was called off while it succeeded
            stream.abort("called off")

    def stream_frame(self, stream: Stream, frame: Any) -> None:
        self._on_message(stream.number, frame)

    def stream_error(self, stream: Stream, error: ProtocolError) -> None:
        """TPKT cannot be resynchronised: the stream closes itself and says why."""

    def stream_closed(self, stream: Stream, reason: str) -> None:
        self._ended(stream.number, reason)


def _send_datagram(udp: UdpSocket, payload: bytes, remote: Address) -> bool:
    if len(payload) > _UDP_LARGEST or udp.closed:
        return False
    try:
        udp.send(payload, remote)
    except OSError:
        return False
    return True
