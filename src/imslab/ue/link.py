"""One TCP or TLS connection under an MSRP or BFCP session: bytes in and out, the handshake, and the fingerprint check.

TLS is pyOpenSSL on memory BIOs above an asyncio transport. Nothing reaches the session before the peer's certificate
matched
the session description (RFC 4975 14.4); what comes earlier stays in the TLS object.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from OpenSSL import SSL

from imskit.tls import FingerprintMismatch, peer_leaf, tls_error_text, verify_leaf

_PIECE = 262_144
_CLOSE_WAIT = 2.0


class LinkError(Exception):
    """The connection could not be made, was refused by the check, or broke."""


class LinkSession(Protocol):
    """What a connection carries: a pure machine with octets on one side and events on the other."""

    def feed(self, data: bytearray, now: float, /) -> list[Any]: ...
    def next_output(self, size: int, now: float, /) -> bytes | None: ...
    def next_timer(self) -> float | None: ...
    def expire(self, now: float, /) -> list[Any]: ...
    def connection_lost(self, now: float, /) -> list[Any]: ...


class MsrpLink(asyncio.Protocol):
    """The connection of one session. ``opened`` resolves when bytes may flow; ``closed`` with the reason at the end.

    ``context`` None is plain TCP; ``server`` chooses the TLS role. The expected fingerprints may be told later than
    the handshake
    (:meth:`expect`), and so may the session machine (:meth:`attach`).
    """

    def __init__(
        self,
        context: SSL.Context | None,
        *,
        server: bool,
        on_events: Callable[[list[Any]], None],
        check: bool = True,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.handshaken: asyncio.Future[None] = loop.create_future()
        for future in (self.opened, self.handshaken):
            future.add_done_callback(_retrieved)
        self.server = server
        self._tls = None if context is None else SSL.Connection(context, None)
        if self._tls is not None:
            self._tls.set_accept_state() if server else self._tls.set_connect_state()
        self._on_events = on_events
        self._check = check
        self._fingerprints: tuple[tuple[str, bytes], ...] | None = None
        self._session: LinkSession | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._early = bytearray()
        self._paused = False
        self._shaking = self._tls is not None
        self._verified = self._tls is None
        self._pumping = False
        self._beat = 0.0
        self._drops = bytearray()
        self.local: tuple[str, int] = ("", 0)
        self.peer: tuple[str, int] = ("", 0)

    # --- what the owner tells ---

    def expect(self, fingerprints: tuple[tuple[str, bytes], ...]) -> None:
        """The peer's fingerprints from its session description; needed for TLS."""
        self._fingerprints = fingerprints
        self._progress()

    def attach(self, session: LinkSession) -> None:
        """The session machine that this connection carries."""
        self._session = session
        self._progress()

    @property
    def tls_version(self) -> str:
        """``TLSv1.3`` and so on; empty without TLS or before the handshake."""
        return "" if self._tls is None or self._shaking else self._tls.get_protocol_version_name()

    def pump(self) -> None:
        """Send what the session has to send, as far as the connection takes it."""
        session, transport = self._session, self._transport
        if session is None or transport is None or not self.opened.done() or self._pumping or self.closed.done():
            return
        self._pumping = True
        try:
            while not self._paused and not transport.is_closing():
                data = session.next_output(65_536, time.monotonic())
                if data is None:
                    break
                self._write(data)
        finally:
            self._pumping = False
        self._rearm()

    def close(self) -> None:
        """End in order: close_notify, end of writing, and the rest of the peer's stream is read for a moment."""
        transport = self._transport
        if transport is None or self.closed.done():
            return
        if self._tls is not None and self._verified:
            with contextlib.suppress(SSL.Error):
                self._tls.shutdown()
            self._flush()
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        asyncio.get_running_loop().call_later(_CLOSE_WAIT, transport.abort)

    def abort(self, reason: str) -> None:
        """End at once, for a cause."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is up; a TLS client speaks first."""
        self._transport = cast(asyncio.Transport, transport)
        self.local = self._transport.get_extra_info("sockname")[:2]
        self.peer = (self._transport.get_extra_info("peername") or ("", 0))[:2]  # None: reset already
        self._progress()

    def data_received(self, data: bytes) -> None:
        """Bytes from the wire."""
        if self._tls is not None:
            self._tls.bio_write(data)
        else:
            self._early += data
        self._progress()

    def eof_received(self) -> bool:
        """The peer has said everything; we close too."""
        self._finish("closed by the peer")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._finish(str(error) if error is not None else "closed")

    def hold_reading(self, on: bool) -> None:
        """Be a slow reader: take nothing from the connection until told otherwise."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading() if on else self._transport.resume_reading()

    def trickle(self, seconds: float) -> None:
        """Be a slow writer: one octet, and so long nothing."""
        self._beat = seconds

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport takes bytes again."""
        self._paused = False
        self.pump()

    # --- inside ---

    def _progress(self) -> None:
        if self._transport is None or self.closed.done():
            return
        if self._shaking and not self._handshake():
            return
        if not self._verified and not self._verify():
            return
        if self._session is None:
            return
        if not self.opened.done():
            self.opened.set_result(None)
        self._read()
        self.pump()

    def _handshake(self) -> bool:
        tls = self._tls
        if tls is None:
            return True
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return False
        except SSL.Error as error:
            self._flush()
            self.abort(f"TLS handshake: {tls_error_text(error)}")
            return False
        self._flush()
        self._shaking = False
        if not self.handshaken.done():
            self.handshaken.set_result(None)
        return True

    def _verify(self) -> bool:
        if self._tls is None or self._fingerprints is None:
            return self._tls is None
        try:
            if self._check:
                verify_leaf(peer_leaf(self._tls), self._fingerprints)
        except FingerprintMismatch as mismatch:
            self.abort(f"fingerprint {mismatch.what}: {mismatch.hint}")
            return False
        self._verified = True
        return True

    def _read(self) -> None:
        if self._tls is None:
            data, self._early = self._early, bytearray()
            if data:
                self._feed(data)
            return
        while not self.closed.done():
            try:
                data = bytearray(self._tls.recv(_PIECE))
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._finish("closed by the peer")
                break
            except SSL.Error as error:
                self.abort(f"TLS: {tls_error_text(error)}")
                break
            self._feed(data)
        self._flush()

    def _feed(self, data: bytearray) -> None:
        if self._session is not None:
            self._on_events(self._session.feed(data, time.monotonic()))

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._tls is None:
            self._emit(data)
            return
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.send(view) :]
            except SSL.Error as error:
                self.abort(f"TLS: {tls_error_text(error)}")
                return
        self._flush()

    def _flush(self) -> None:
        while self._tls is not None and self._transport is not None:
            try:
                self._emit(self._tls.bio_read(_PIECE))
            except SSL.WantReadError:
                return

    def _emit(self, data: bytes) -> None:
        if self._transport is None:
            return
        if not self._beat and not self._drops:
            self._transport.write(data)
            return
        idle = not self._drops
        self._drops += data
        if idle:
            self._drip()

    def _drip(self) -> None:
        if self._transport is None or self._transport.is_closing() or not self._drops:
            self._drops.clear()
            return
        self._transport.write(bytes(self._drops[:1]))
        del self._drops[:1]
        asyncio.get_running_loop().call_later(self._beat, self._drip)

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = None if self._session is None else self._session.next_timer()
        if due is not None and not self.closed.done():
            self._timer = asyncio.get_running_loop().call_later(max(0.001, due - time.monotonic()), self._expire)

    def _expire(self) -> None:
        if self._session is not None:
            self._on_events(self._session.expire(time.monotonic()))
        self.pump()

    def _finish(self, reason: str) -> None:
        if self.closed.done():
            return
        if self._tls is not None and not self._verified:
            reason = f"{reason} before the TLS session was verified"
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        for future in (self.handshaken, self.opened):
            if not future.done():
                future.set_exception(LinkError(reason))
        if self._session is not None:
            self._on_events(self._session.connection_lost(time.monotonic()))


def _retrieved(future: asyncio.Future[None]) -> None:
    """Mark the exception as seen: not every owner waits for every stage."""
    if not future.cancelled():
        future.exception()
