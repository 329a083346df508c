"""SIP over UDP, TCP and TLS, IPv4 and IPv6 (RFC 3261 18): flows on one side, sockets on the other."""

import asyncio
import itertools
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from imskit.common_settings import StreamSettings
from imskit.driver import spawn
from imskit.logs import get_logger
from imskit.sockets import Address, address_text, family_of
from imskit.streams import Framer, Stream, StreamListener, dial
from imskit.udp import UdpSocket
from imswire.base import ProtocolError
from imswire.sip.flow import RELIABLE, Flow, Transport

log = get_logger("imskit.transports")

type _Remote = tuple[str, Transport, Address, str | None]  # realm, transport, remote address, name that was verified


class Listening(Struct, frozen=True):
    """A listener with the address that it really has."""

    realm: str
    transport: Transport
    address: Address


class _Dialling:
    """An outgoing connection that is not open yet, with what waits for it."""

    def __init__(self, flow: Flow, stream: Stream) -> None:
        self.flow = flow
        self.stream = stream
        self.waiting: list[tuple[bytes, Flow]] = []
        self.octets = 0
        self.task: asyncio.Task[None] | None = None


class _Arrivals:
    """What arrives at one UDP listener, with the flow it came over, which is made once for each remote end."""

    _FLOWS = 4096

    def __init__(self, realm: str, local: Address, deliver: Callable[[Flow, bytes], None]) -> None:
        self._realm = realm
        self._local = local
        self._deliver = deliver
        self._flows: dict[Address, Flow] = {}

    def take(self, data: bytes, remote: Address) -> None:
        """One datagram."""
        self._deliver(self._flows.get(remote) or self._new(remote), data)

    def _new(self, remote: Address) -> Flow:
        if len(self._flows) >= self._FLOWS:
            self._flows.clear()
        flow = self._flows[remote] = Flow("udp", self._realm, self._local, remote)
        return flow


_NO_UDP: tuple[str, UdpSocket | None] = ("", None)


def _ignore(*_: object) -> None:
    """Stands in for a callback that the owner does not need."""


class SipTransports:
    """Every SIP socket of a process.

    Callbacks, all synchronous and all called from the event loop:

    - ``on_datagram(flow, data)``: one UDP datagram.
    - ``on_frame(flow, frame)``: one frame of a TCP or TLS connection, whatever the framer returned, unchanged.
    - ``on_stream_error(flow, error)``: the framer raised ProtocolError; what the owner sends on ``flow`` before it
      returns (or posts to be run at once) still goes out, then the connection is closed.
    - ``on_flow_opened(flow)`` / ``on_flow_closed(flow, reason)``: a connection came up (either direction) or ended.
    - ``on_unreachable(flow, quoted, reason)``: the network says (ICMP) that a datagram did not reach the remote end of
      ``flow``; ``quoted`` is what it repeats of the datagram, and proves that it was one of ours.
    - ``on_send_failed(flow, reason)``: ``send`` could not deliver; ``flow`` is the value that was given to ``send``.
      Never called from within ``send``.

    ``framer_factory()`` gives each connection its framer. Listeners and sockets use the loop that runs. Connections are
    numbered from ``first_connection``: another one in each process, where flows outlive the process that had them.
    """

    def __init__(
        self,
        framer_factory: Callable[[], Framer],
        *,
        on_datagram: Callable[[Flow, bytes], None],
        on_frame: Callable[[Flow, Any], None],
        on_flow_closed: Callable[[Flow, str], None] = _ignore,
        on_flow_opened: Callable[[Flow], None] = _ignore,
        on_stream_error: Callable[[Flow, ProtocolError], None] = _ignore,
        on_send_failed: Callable[[Flow, str], None] = _ignore,
        on_unreachable: Callable[[Flow, bytes, str], None] | None = None,
        settings: StreamSettings | None = None,
        first_connection: int = 1,
    ) -> None:
        self._framer_factory = framer_factory
        self._on_datagram = on_datagram
        self._on_frame = on_frame
        self._on_flow_closed = on_flow_closed
        self._on_flow_opened = on_flow_opened
        self._on_stream_error = on_stream_error
        self._on_send_failed = on_send_failed
        self._on_unreachable = on_unreachable
        self._settings = settings or StreamSettings()
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(first_connection)
        self._udp: dict[Address, tuple[str, UdpSocket]] = {}
        self._listeners: list[tuple[Listening, StreamListener | None]] = []
        self._client_contexts: dict[str, ssl.SSLContext] = {}
        self._open: dict[int, tuple[Stream, Flow]] = {}
        self._dialling: dict[int, _Dialling] = {}
        self._by_remote: dict[_Remote, int] = {}
        self._remote_of: dict[int, _Remote] = {}
        self._drained = asyncio.Event()
        self._closing = False

    # listening

    def add_listener(
        self, realm: str, transport: Transport, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> Address:
        """Listen at a numeric address; port 0 lets the kernel choose. Returns the real address.

        Raises OSError when the address cannot be bound and ValueError for TLS without a context.
        """
        listener: StreamListener | None = None
        if transport == "udp":
            reporting = self._on_unreachable is not None
            udp = UdpSocket(host, port, _ignore, on_unreachable=_ignore if reporting else None)
            udp.on_datagram = _Arrivals(realm, udp.local, self._on_datagram).take
            if reporting:
                udp.on_unreachable = partial(self._unreached, realm, udp.local)
            self._udp[udp.local] = (realm, udp)
            address = udp.local
        else:
            if (transport == "tls") != (tls is not None):
                raise ValueError(f"a {transport} listener needs {'a' if transport == 'tls' else 'no'} TLS context")
            listener = StreamListener(host, port, partial(self._accepted, realm, transport), self._settings, tls)
            address = listener.local
        self._listeners.append((Listening(realm, transport, address), listener))
        return address

    @property
    def listening(self) -> list[Listening]:
        return [listening for listening, _ in self._listeners]

    def set_server_context(self, place: int, context: ssl.SSLContext) -> None:
        """The context for connections that come in from now on at the listener that was added as number ``place``."""
        listener = self._listeners[place][1]
        if listener is not None:
            listener.set_tls(context)

    def set_client_context(self, realm: str, context: ssl.SSLContext) -> None:
        """The context for outgoing TLS of ``realm``; it decides how servers are verified."""
        self._client_contexts[realm] = context

    # sending

    def flow_to(self, realm: str, transport: Transport, remote: Address) -> Flow:
        """A flow towards ``remote`` from the first listener of the realm that has its transport and address family.

        For TCP and TLS without such a listener the local address is left to the kernel. Raises LookupError for UDP.
        """
        family = family_of(remote[0])
        for listening, _ in self._listeners:
            fits = listening.realm == realm and listening.transport == transport
            if fits and family_of(listening.address[0]) == family:
                return Flow(transport, realm, listening.address, remote)
        if transport == "udp":
            raise LookupError(f"realm {realm} has no UDP listener for {remote[0]}")
        return Flow(transport, realm, ("::" if ":" in remote[0] else "0.0.0.0", 0), remote)

    def send(self, data: bytes, flow: Flow, *, server_name: str | None = None) -> Flow | None:
        """Send one message or keep-alive on ``flow``.

        Returns the flow that carries it, with its connection number; None when it cannot be sent, and then
        ``on_send_failed`` follows. A TCP or TLS flow with connection 0 uses the connection that was opened to its
        remote in its realm (with its certificate verified for ``server_name``), or opens one. A connection that came
        in is used only by its number.
        """
        if flow.transport == "udp":
            return self.send_datagram(data, flow)
        number = flow.connection or self._by_remote.get((flow.realm, flow.transport, flow.remote, server_name), 0)
        if (dialling := self._dialling.get(number)) is not None:
            return self._wait(dialling, data, flow)
        stream, carrier = self._open.get(number, (None, flow))
        if stream is not None and flow.connection and carrier.remote != flow.remote:
            return self._failed(flow, "the connection is another's")  # a flow of an earlier process
        if stream is not None and stream.write(data):
            return carrier
        if flow.connection:
            return self._failed(flow, "the connection is closing" if stream is not None else "the connection is gone")
        return self._dial(data, flow, server_name)

    def send_datagram(self, data: bytes, flow: Flow) -> Flow | None:
        """What :meth:`send` does for a flow over UDP."""
        realm, udp = self._udp.get(flow.local, _NO_UDP)
        if udp is None or udp.closed or realm != flow.realm:
            return self._failed(flow, "no such UDP listener")
        try:
            udp.send(data, flow.remote)
        except OSError as error:
            return self._failed(flow, error.strerror or str(error))
        return flow

    def is_open(self, flow: Flow) -> bool:
        """True for UDP and for a connection that is open."""
        return flow.transport not in RELIABLE or flow.connection in self._open

    def close_flow(self, flow: Flow, reason: str) -> None:
        """Close the connection of ``flow`` after what was sent; ``on_flow_closed`` follows."""
        if (found := self._open.get(flow.connection)) is not None:
            found[0].close(reason)

    @property
    def connections(self) -> int:
        """Open TCP and TLS connections."""
        return len(self._open)

    def stats(self) -> dict[str, int]:
        """Counters since the start, for metrics."""
        listeners = [listener for _, listener in self._listeners if listener is not None]
        return {
            "connections": len(self._open),
            "dialling": len(self._dialling),
            "accepted": sum(listener.accepted for listener in listeners),
            "refused": sum(listener.refused for listener in listeners),
            "failed_handshakes": sum(listener.failed_handshakes for listener in listeners),
            "datagrams_in": sum(udp.received for _, udp in self._udp.values()),
            "datagrams_out": sum(udp.sent for _, udp in self._udp.values()),
            "datagrams_dropped": sum(udp.dropped for _, udp in self._udp.values()),
            "datagrams_unreachable": sum(udp.unreachable for _, udp in self._udp.values()),
        }

    def waiting(self) -> list[tuple[int, int]]:
        """For each UDP socket the octets that wait in the kernel, and how many may."""
        return [udp.waiting() for _, udp in self._udp.values()]

    async def close(self, deadline: float = 3.0) -> None:
        """Stop listening, close every connection in order, and abort what is left after ``deadline`` seconds."""
        self._closing = True
        for _, listener in self._listeners:
            if listener is not None:
                listener.close()
        for _, udp in self._udp.values():
            udp.close()
        for stream, _ in list(self._open.values()):
            stream.close("shut down")
        for dialling in list(self._dialling.values()):
            if dialling.task is not None:
                dialling.task.cancel()
            self._dial_ended(dialling, "shut down")
        self._check_drained()
        try:
            async with asyncio.timeout(deadline):
                await self._drained.wait()
        except TimeoutError:
            for stream, _ in list(self._open.values()):
                stream.abort("shut down")

    # UDP

    def _unreached(self, realm: str, bound: Address, quoted: bytes, remote: Address, reason: str) -> None:
        if self._on_unreachable is not None and not self._closing:
            self._on_unreachable(Flow("udp", realm, bound, remote), quoted, reason)

    # connections

    def _accepted(self, realm: str, transport: Transport) -> Stream:
        return self._stream(realm, transport)

    def _stream(self, realm: str, transport: Transport) -> Stream:
        return Stream(next(self._numbers), self._framer_factory(), self, self._settings, label=(realm, transport))

    def _dial(self, data: bytes, flow: Flow, server_name: str | None) -> Flow | None:
        context = self._client_contexts.get(flow.realm) if flow.transport == "tls" else None
        if self._closing:
            return self._failed(flow, "shut down")
        if flow.transport == "tls" and context is None:
            return self._failed(flow, f"realm {flow.realm} has no TLS client context")
        if len(self._remote_of) >= self._settings.outgoing:
            return self._failed(flow, "too many outgoing connections")
        stream = self._stream(flow.realm, flow.transport)
        dialling = _Dialling(Flow(flow.transport, flow.realm, flow.local, flow.remote, stream.number), stream)
        key: _Remote = (flow.realm, flow.transport, flow.remote, server_name)
        self._dialling[stream.number] = dialling
        self._by_remote[key] = stream.number
        self._remote_of[stream.number] = key
        connect = self._connect(dialling, context, server_name)
        dialling.task = spawn(connect, name=f"dial {address_text(flow.remote)}")
        return self._wait(dialling, data, flow)

    def _wait(self, dialling: _Dialling, data: bytes, flow: Flow) -> Flow | None:
        if dialling.octets + len(data) > self._settings.pending_limit:
            return self._failed(flow, "too much waits for the connection to open")
        dialling.waiting.append((data, flow))
        dialling.octets += len(data)
        return dialling.flow

    async def _connect(self, dialling: _Dialling, context: ssl.SSLContext | None, server_name: str | None) -> None:
        flow = dialling.flow
        problem = await dial(
            dialling.stream,
            flow.remote,
            self._settings,
            local_host=flow.local[0],
            tls=context,
            server_name=server_name,
        )
        if problem:
            self._dial_ended(dialling, problem)

    def _dial_ended(self, dialling: _Dialling, reason: str) -> None:
        if self._dialling.pop(dialling.flow.connection, None) is None:
            return
        self._forget(dialling.stream)
        for _, flow in dialling.waiting:
            self._failed(flow, reason)

    def _forget(self, stream: Stream) -> None:
        key = self._remote_of.pop(stream.number, None)
        if key is not None and self._by_remote.get(key) == stream.number:
            del self._by_remote[key]

    def _failed(self, flow: Flow, reason: str) -> Flow | None:
        self._loop.call_soon(self._on_send_failed, flow, reason)
        return None

    def _check_drained(self) -> None:
        if self._closing and not self._open:
            self._drained.set()

    # what the streams report

    def stream_opened(self, stream: Stream) -> None:
        realm, transport = stream.label
        flow = Flow(transport, realm, stream.local, stream.remote, stream.number)
        self._open[stream.number] = (stream, flow)
        dialling = self._dialling.pop(stream.number, None)
        for data, given in dialling.waiting if dialling is not None else ():
            if not stream.write(data):
                self._failed(given, "the connection is closing")
        self._on_flow_opened(flow)
        if self._closing:
            stream.close("shut down")

    def stream_frame(self, stream: Stream, frame: Any) -> None:
        self._on_frame(self._open[stream.number][1], frame)

    def stream_error(self, stream: Stream, error: ProtocolError) -> None:
        self._on_stream_error(self._open[stream.number][1], error)

    def stream_closed(self, stream: Stream, reason: str) -> None:
        _, flow = self._open.pop(stream.number)
        self._forget(stream)
        self._on_flow_closed(flow, reason)
        self._check_drained()
