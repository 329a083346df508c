"""Bounded message streams over TCP and TLS: what SIP and H.248 connections have in common."""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from imskit.common_settings import StreamSettings
from imskit.driver import spawn
from imskit.logs import get_logger
from imskit.sockets import (
    OUT_OF_RESOURCES,
    PASSING_ERRORS,
    Address,
    bound_socket,
    detect_dead_peer,
    local_address,
    reset,
)
from imswire.base import ProtocolError
from imswire.sources import source_of

log = get_logger("imskit.streams")

_ACCEPT_BUDGET = 64
_ACCEPT_PAUSE = 0.5  # seconds without accepting when the process is out of descriptors
_LINGER = 2.0  # seconds that a closing connection may take to get its last octets out


class Framer(Protocol):
    """Cuts one connection's octets into frames, of any type, and raises ProtocolError where that is impossible.

    A framer that has a ``pending`` attribute (octets of an unfinished frame) gets the half-message timeout too. One
    that has an ``error`` attribute may return the frames before a fault and set the error there, instead of raising.
    """

    def feed(self, data: bytes, /) -> Sequence[Any]: ...


class StreamOwner(Protocol):
    """Whom a connection reports to. Every opened connection is closed once; nothing follows ``stream_closed``."""

    def stream_opened(self, stream: "Stream") -> None: ...

    def stream_frame(self, stream: "Stream", frame: Any) -> None: ...

    def stream_error(self, stream: "Stream", error: ProtocolError) -> None: ...

    def stream_closed(self, stream: "Stream", reason: str) -> None: ...


class Stream(asyncio.Protocol):
    """One TCP or TLS connection with its framer and its bounds.

    ``number`` and ``label`` are the owner's to tell connections apart.
    """

    def __init__(
        self, number: int, framer: Framer, owner: StreamOwner, settings: StreamSettings, label: Any = None
    ) -> None:
        self.number = number
        self.label = label
        self.local: Address = ("", 0)
        self.remote: Address = ("", 0)
        self.open = False
        self.closing = False
        self.on_lost: Callable[[Stream], None] | None = None
        self._framer = framer
        self._holds = hasattr(framer, "pending")
        self._owner = owner
        self._settings = settings
        self._reason = ""
        self._faulty = False
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._partial_since: float | None = None
        self._transport: asyncio.Transport | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._partial_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS object of the connection, None for TCP."""
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    def write(self, data: bytes) -> bool:
        """Send; False when the connection cannot take it (closing, or the peer left too much unread)."""
        if self._transport is None or self.closing:
            return False
        self._last = self._loop.time()
        self._transport.write(data)
        return not self.closing

    def close(self, reason: str) -> None:
        """Close in order: what was written goes out, then FIN (or close_notify), within a deadline."""
        if self.closing or self._transport is None:
            return
        self.closing = True
        self._reason = reason
        self._linger_timer = self._loop.call_later(_LINGER, self._transport.abort)
        if self._transport.can_write_eof():
            # Closing with unread input would send RST, which may overtake a last answer. So: FIN, read to the peer's
            # FIN and throw it away, then close.
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once; what the peer has not read is lost."""
        if self._transport is not None:
            self.closing = True
            self._reason = self._reason or reason
            self._transport.abort()

    def drop(self, reason: str) -> None:
        """End a connection whose transport may have gone without a word (a cancelled attempt does that in uvloop)."""
        self.abort(reason)
        self.connection_lost(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if not local or not remote:  # gone before it was looked at
            self._transport.abort()
            return
        self.local, self.remote = local[:2], remote[:2]
        self._transport.set_write_buffer_limits(high=self._settings.write_limit)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # the peer may be gone already; connection_lost will say so
                detect_dead_peer(sock, self._settings.keepalive_idle, self._settings.peer_timeout)
        self._idle_timer = self._loop.call_later(self._settings.idle_timeout, self._check_idle)
        self.open = True
        self._owner.stream_opened(self)

    def data_received(self, data: bytes) -> None:
        if self.closing or self._faulty:
            return
        self._last = self._loop.time()
        try:
            frames = self._framer.feed(data)
        except ProtocolError as raised:
            self._bad_input(raised)
            return
        if self._holds and (self._partial_since is not None or self._framer.pending):  # type: ignore[attr-defined]
            self._watch_partial(bool(frames))
        for frame in frames:
            self._owner.stream_frame(self, frame)
            if self.closing:
                return
        error: ProtocolError | None = getattr(self._framer, "error", None)
        if error is not None:
            self._bad_input(error)

    def _bad_input(self, error: ProtocolError) -> None:
        self._faulty = True
        self._owner.stream_error(self, error)
        self._loop.call_soon(self.close, f"bad input: {error}")  # after what the owner still sends

    def eof_received(self) -> bool:
        if not self.closing:
            self.closing = True
            self._reason = "closed by the peer"
        return False  # the transport closes itself after what was written

    def pause_writing(self) -> None:
        # Called from within write() when more than write_limit octets wait for a peer that does not read.
        self.abort(f"the peer does not read: more than {self._settings.write_limit} octets wait")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._idle_timer, self._partial_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._transport = None
        self.closing = True
        if self.open:
            self.open = False
            self._owner.stream_closed(self, self._reason or reason_of(exc))
        if self.on_lost is not None:
            self.on_lost(self)

    # timers: armed seldom and checked when they fire, so that a message costs no timer

    def _check_idle(self) -> None:
        left = self._last + self._settings.idle_timeout - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._check_idle)
        else:
            self.close(f"idle for {self._settings.idle_timeout:g} s")

    def _watch_partial(self, progress: bool) -> None:
        if not getattr(self._framer, "pending", 0):
            self._partial_since = None
            return
        if self._partial_since is None or progress:
            self._partial_since = self._last
        if self._partial_timer is None:
            self._partial_timer = self._loop.call_later(self._settings.message_timeout, self._check_partial)

    def _check_partial(self) -> None:
        self._partial_timer = None
        if self._partial_since is None:
            return
        left = self._partial_since + self._settings.message_timeout - self._loop.time()
        if left > 0:
            self._partial_timer = self._loop.call_later(left, self._check_partial)
        else:
            self.close(f"a message stayed unfinished for {self._settings.message_timeout:g} s")


def reason_of(error: BaseException | None) -> str:
    """A short text for logs and callers: why a connection ended or never was."""
    if error is None:
        return "closed"
    if isinstance(error, TimeoutError) and not error.args:
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class StreamListener:
    """A listening TCP or TLS socket that counts connections from accept, before any handshake.

    ``make()`` builds the protocol of each connection that was let in. Connections beyond ``settings.connections``, or
    beyond ``settings.connections_per_source`` from one address (IPv6: one /64), are reset at once and counted in
    ``refused``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        make: Callable[[], Stream],
        settings: StreamSettings,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make = make
        self._settings = settings
        self._tls = tls
        self._sock = bound_socket(socket.SOCK_STREAM, host, port)
        self.local: Address = local_address(self._sock)
        self._sources: Counter[str] = Counter()
        self._admitted: dict[Stream, str] = {}
        self.accepted = 0
        self.refused = 0
        self.failed_handshakes = 0
        self._pause: asyncio.TimerHandle | None = None
        self._handshakes: dict[asyncio.Task[None], Stream] = {}
        self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        """Stop listening; connections that are open stay."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock)
        if self._pause is not None:
            self._pause.cancel()
        self._sock.close()
        for task, stream in self._handshakes.items():
            if not stream.open:  # uvloop would drop an open one without connection_lost
                task.cancel()

    def set_tls(self, context: ssl.SSLContext) -> None:
        """The context for connections that come from now on; those that are open keep theirs."""
        self._tls = context

    @property
    def current(self) -> int:
        """Connections that came in here and have not ended, those in a handshake too."""
        return len(self._admitted)

    def _release(self, stream: Stream) -> None:
        source = self._admitted.pop(stream, None)
        if source is None:
            return
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]

    def _readable(self) -> None:
        for _ in range(_ACCEPT_BUDGET):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in PASSING_ERRORS:
                    continue
                self._accept_failed(error)
                return
            self._admit(sock, source_of(address[0]))

    def _accept_failed(self, error: OSError) -> None:
        if error.errno not in OUT_OF_RESOURCES:
            log.error("accept failed", local=self.local, error=str(error))
        else:
            log.error("no descriptors left to accept with", local=self.local, error=str(error))
        # The connection stays in the backlog and the socket readable: without a pause this would be a busy loop.
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(_ACCEPT_PAUSE, self._loop.add_reader, self._sock, self._readable)

    def _admit(self, sock: socket.socket, source: str) -> None:
        settings = self._settings
        # Counter.get, not [], so that a refused source leaves no entry behind.
        if self.current >= settings.connections or self._sources.get(source, 0) >= settings.connections_per_source:
            self.refused += 1
            if self.refused & (self.refused - 1) == 0:  # the 1st, 2nd, 4th, 8th...: an attack must not fill the log
                log.warning("connections refused", local=self.local, source=source, refused=self.refused)
            reset(sock)
            return
        self.accepted += 1
        sock.setblocking(False)
        stream = self._make()
        stream.on_lost = self._release
        self._admitted[stream] = source
        self._sources[source] += 1
        task = spawn(self._open(sock, stream, source), name="accept")
        self._handshakes[task] = stream
        task.add_done_callback(self._handshakes.pop)

    async def _open(self, sock: socket.socket, stream: Stream, source: str) -> None:
        options: dict[str, Any] = {}
        if self._tls is not None:
            options = {"ssl": self._tls, "ssl_shutdown_timeout": _LINGER}
            options["ssl_handshake_timeout"] = self._settings.handshake_timeout
        try:
            await self._loop.connect_accepted_socket(lambda: stream, sock, **options)
        except OSError as error:  # ssl.SSLError and TimeoutError are among them
            self.failed_handshakes += 1
            log.debug("connection failed before it was open", source=source, error=reason_of(error))
        finally:
            if not stream.open:
                sock.close()
                self._release(stream)


async def dial(
    stream: Stream,
    remote: Address,
    settings: StreamSettings,
    *,
    local_host: str | None = None,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> str:
    """Connect ``stream`` to ``remote``; "" when it is open, else the reason why not.

    ``server_name`` is the name that the server's certificate must show (the remote host when absent).
    """
    loop = asyncio.get_running_loop()
    local = (local_host, 0) if local_host else None
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl": tls, "server_hostname": server_name or remote[0], "ssl_shutdown_timeout": _LINGER}
        options["ssl_handshake_timeout"] = settings.handshake_timeout
    try:
        async with asyncio.timeout(settings.connect_timeout):
            await loop.create_connection(lambda: stream, remote[0], remote[1], local_addr=local, **options)
    except TimeoutError:
        stream.drop("opened too late")
        return f"no connection within {settings.connect_timeout:g} s"
    except OSError as error:  # ssl.SSLError is one
        return reason_of(error)
    return "" if stream.open else "closed while connecting"
