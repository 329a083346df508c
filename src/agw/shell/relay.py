"""The byte path: two non-blocking sockets, each with or without TLS, joined in both directions.

Theory of operation. A readable end is read into the worker's one buffer until it would block or the buffer is full, and
what was read goes to the other end with ONE send. What the other end does not take is kept (never more than the buffer
holds) and the source is not read until it has gone, so a slow receiver slows its sender and nothing else. One wake-up
reads at most one buffer, so a busy session cannot starve the rest. The end of one direction is passed on when its last
byte has gone: close_notify on TLS, FIN on TCP; the other direction goes on. No task, no queue and no event per byte.

Decrypted bytes that OpenSSL holds do not wake the poller: a TLS end is read until it would block, and where reading
stops earlier it is taken up again by the loop.
"""

import asyncio
import contextlib
import socket
from typing import Protocol

from OpenSSL import SSL

from agw.shell.records import RECORD, WOULD_BLOCK, Reader, reader_for

HEADROOM = 8_192
"""Octets of the buffer before what is read."""


class RelayOwner(Protocol):
    """Who is told about the life of a relay."""

    def half_closed(self, end: "End") -> None:
        """That end will receive no more; its close was passed on."""

    def relay_ended(self, end: "End", orderly: bool, text: str) -> None:
        """Both directions are over (``end`` closed last), or ``end`` failed. Sockets are still open."""


class Pump:
    """What all relays of one worker share: the loop, the buffer, and who is told.

    ``view`` is read into; the ``HEADROOM`` octets of ``buffer`` before it take what an application-aware end has held
    back from its last read.
    """

    __slots__ = ("buffer", "fill", "loop", "owner", "read", "view", "whole")

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: RelayOwner, size: int = 262_144) -> None:
        self.loop = loop
        self.owner = owner
        self.buffer = bytearray(HEADROOM + max(size, 2 * RECORD))
        self.whole = memoryview(self.buffer)
        self.view = self.whole[HEADROOM:]
        self.read: Reader = reader_for(self.view)
        self.fill = len(self.view) - RECORD
        """Reading of records stops above this mark, so that a whole one always fits."""


class End:
    """One end of a relay. ``received`` and ``sent`` count application octets from and to its peer."""

    __slots__ = (
        "at_end",
        "broken",
        "fd",
        "leg",
        "live",
        "other",
        "pending",
        "pump",
        "reading",
        "received",
        "sent",
        "sock",
        "tls",
        "told_end",
        "truncated",
        "writing",
    )

    def __init__(self, leg: int, sock: socket.socket, tls: SSL.Connection | None, pump: Pump) -> None:
        self.leg = leg
        self.sock = sock
        self.fd = sock.fileno()
        self.tls = tls
        self.pump = pump
        self.other: End = self
        self.received = 0
        self.sent = 0
        self.pending: bytes | memoryview | None = None
        self.live = False
        self.reading = False
        self.writing = False
        self.at_end = False
        """The peer has closed its direction."""
        self.told_end = False
        """The peer was told that the other side has closed."""
        self.broken = False
        """The connection failed: there is nothing left to close in order."""
        self.truncated = False
        """The peer closed TCP without close_notify."""

    @property
    def messages(self) -> tuple[int, int]:
        """MSRP messages of the peer that were passed on with other paths, and that were refused."""
        return 0, 0

    # --- watching the socket ---

    def watch(self, on: bool) -> None:
        if on != self.reading:
            self.reading = on
            if on:
                self.pump.loop.add_reader(self.fd, self.readable)
            else:
                self.pump.loop.remove_reader(self.fd)

    def watch_write(self, on: bool) -> None:
        if on != self.writing:
            self.writing = on
            if on:
                self.pump.loop.add_writer(self.fd, self.writable)
            else:
                self.pump.loop.remove_writer(self.fd)

    # --- source ---

    def readable(self) -> None:
        """Read once, pass on, notice the end."""
        if not self.live or self.at_end or self.other.pending is not None:
            return
        if self.tls is None:
            try:
                count = self.sock.recv_into(self.pump.view)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(error.strerror or str(error))
                return
            if count == 0:
                self.at_end = True
        else:
            failure, count = self._read_records(self.tls)
            if failure:
                if count:
                    self._pass_on(count)
                self._fail(failure)
                return
        if count:
            self._pass_on(count)
        if self.at_end and self.live:
            self._ended()

    def _read_records(self, tls: SSL.Connection) -> tuple[str, int]:
        """(failure text or "", octets now in the buffer); sets ``at_end``."""
        pump = self.pump
        count, left, error = pump.read(tls, pump.view, pump.fill)
        if error is None:
            if left:
                pump.loop.call_soon(self.readable)
        elif error is WOULD_BLOCK:
            pass
        elif isinstance(error, SSL.WantWriteError):
            self.watch_write(True)  # a key update must be answered first (RFC 8446 4.6.3)
        elif isinstance(error, SSL.ZeroReturnError):
            self.at_end = True
        elif isinstance(error, SSL.SysCallError) and error.args[0] <= 0:
            self.at_end = self.truncated = True
        else:
            return _tls_text(error), count
        return "", count

    def _pass_on(self, count: int) -> None:
        self.received += count
        sink = self.other
        sink.send(self.pump.view[:count])
        if sink.pending is not None:
            self.watch(False)

    def _ended(self) -> None:
        self.watch(False)
        sink = self.other
        if sink.pending is None:
            sink.pass_end()

    # --- sink ---

    def send(self, data: memoryview) -> None:
        """Give ``data`` to the peer; what it does not take now is kept in ``pending``."""
        done, size = 0, len(data)
        tls = self.tls
        try:
            if tls is None:
                done = self.sock.send(data)
            else:
                while done < size:
                    done += tls.send(data[done:] if done else data)
        except (BlockingIOError, InterruptedError, SSL.WantWriteError, SSL.WantReadError):
            pass
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        except SSL.Error as error:
            self._fail(_tls_text(error))
            return
        self.sent += done
        if done < size:
            # TLS wants a repeated write to begin with the same octets: that is the case, they are copied as they are.
            self.pending = bytes(data[done:])
            self.watch_write(True)

    def writable(self) -> None:
        """Send what is pending; then let the source be read again, or pass its end on."""
        if not self.live:
            return
        if self.pending is not None:
            data, self.pending = memoryview(self.pending), None
            self.watch_write(False)
            self.send(data)
            if not self.live or self.pending is not None:
                return
        else:
            self.watch_write(False)
        source = self.other
        if source.at_end:
            self.pass_end()
        elif not source.reading:
            source.watch(True)
            source.readable()
        if self.live and self.tls is not None and self.reading:
            self.readable()

    def pass_end(self) -> None:
        """Tell the peer that no more comes: half-close travels as half-close."""
        if self.told_end or not self.live:
            return
        try:
            if self.tls is None:
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.tls.shutdown()
        except SSL.WantWriteError:
            self.watch_write(True)  # writable() comes back here, for there is nothing pending
            return
        except (OSError, SSL.Error):
            pass  # the peer is gone; reading from it tells
        self.told_end = True
        owner = self.pump.owner
        owner.half_closed(self.other)
        if self.live and self.at_end and self.other.told_end:
            owner.relay_ended(self.other, True, "closed")

    def _fail(self, text: str) -> None:
        if self.live:
            self.broken = True
            self.pump.owner.relay_ended(self, False, text)

    # --- life ---

    def stop(self) -> None:
        """Take the end off the loop; its socket stays as it is."""
        self.live = False
        self.watch(False)
        self.watch_write(False)

    def forget(self) -> None:
        """Let go, for good: ends that hold each other, or themselves, keep all their TLS until the collector comes."""
        del self.other
        self.tls = self.pending = None


def start(a: End, b: End) -> None:
    """Join two ends and move what is already there."""
    a.other, b.other = b, a
    a.live = b.live = True
    a.watch(True)
    b.watch(True)
    a.readable()
    b.readable()


def untouched(end: End) -> bool:
    """Nothing has passed between an end and the other, in either direction, not even a close."""
    ends = (end, end.other)
    return not any(one.received or one.sent or one.at_end or one.broken or one.pending is not None for one in ends)


def drain(end: End, rounds: int = 16) -> None:
    """Before an ordered close: pass on what ``end`` has already received, without waiting for more."""
    for _ in range(rounds):
        before = end.received
        if not end.live or end.at_end or end.other.pending is not None:
            return
        end.readable()
        if end.received == before:
            return


class Closer:
    """Closes one socket in order, so that the tail of the stream is not lost.

    What is pending is sent, then close_notify, then the writing direction is shut; the rest of the peer's stream is
    read and thrown away until it ends or the deadline passes. A close with unread bytes would be a reset, which can
    overtake bytes that the peer has not read yet.
    """

    __slots__ = (
        "deadline",
        "done",
        "fd",
        "loop",
        "peer_done",
        "pending",
        "sock",
        "tls",
        "view",
        "write_done",
        "writing",
    )

    def __init__(
        self,
        pump: Pump,
        sock: socket.socket,
        tls: SSL.Connection | None,
        pending: bytes | memoryview | None,
        deadline: float,
    ) -> None:
        self.loop = pump.loop
        self.view = pump.view
        self.sock = sock
        self.fd = sock.fileno()
        self.tls = tls
        self.pending = pending
        self.deadline = deadline
        self.done = False
        self.writing = False
        self.write_done = False
        self.peer_done = False

    def begin(self) -> None:
        """Do what can be done at once; ``done`` tells whether that was all."""
        self.loop.add_reader(self.fd, self.discard)
        self.discard()
        self.flush()

    def flush(self) -> None:
        """Send pending octets, close_notify and FIN, as far as the socket takes them."""
        if self.done or self.write_done:
            return
        try:
            while self.pending:
                data = memoryview(self.pending)
                sent = self.sock.send(data) if self.tls is None else self.tls.send(data)
                self.pending = data[sent:] if sent < len(data) else None
            if self.tls is not None and not self.tls.get_shutdown() & SSL.SENT_SHUTDOWN:
                self.tls.shutdown()
            self.sock.shutdown(socket.SHUT_WR)
            self.write_done = True
        except (BlockingIOError, InterruptedError, SSL.WantWriteError, SSL.WantReadError):
            if not self.writing:
                self.writing = True
                self.loop.add_writer(self.fd, self.flush)
            return
        except (OSError, SSL.Error):
            self.close()
            return
        if self.writing:
            self.writing = False
            self.loop.remove_writer(self.fd)
        if self.peer_done:
            self.close()

    def discard(self) -> None:
        """Read to the end of the peer's stream."""
        if self.done:
            return
        try:
            if self.sock.recv_into(self.view) == 0:
                self.peer_done = True
                self.loop.remove_reader(self.fd)
                if self.write_done:
                    self.close()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()

    def close(self) -> None:
        """Close at once."""
        if self.done:
            return
        self.done = True
        self.loop.remove_reader(self.fd)
        if self.writing:
            self.loop.remove_writer(self.fd)
        self.tls = None
        with contextlib.suppress(OSError):
            self.sock.close()


def _tls_text(error: SSL.Error) -> str:
    return str(error.args[1]) if isinstance(error, SSL.SysCallError) and len(error.args) > 1 else f"TLS: {error}"
