"""UDP on the fast path: a non-blocking socket that is drained when the poller says readable."""

import asyncio
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD

from imskit.icmp import report_errors, reports
from imskit.sockets import Address, bound_socket, local_address

# Datagrams that one wake-up may take before the loop sees to other sockets; the poller is level-triggered.
_BUDGET = 64
_LARGEST = 65_535
_NOTHING = bytes(4)
_QUEUE_OCTETS = 1_048_576
_SO_MEMINFO = 55  # Linux: the first two of its counters are octets in the receive queue and their limit
_RECEIVE_BUFFER = 4_194_304


class UdpSocket:
    """One bound UDP socket; ``on_datagram(data, remote)`` is called for everything that arrives.

    ``send`` goes straight to the kernel. While the kernel's buffer is full, datagrams wait in a bounded queue; beyond
    that they are dropped and counted in ``dropped``, as the network itself would (the transactions above retransmit).

    With ``on_unreachable(quoted, remote, reason)`` the network's word that a datagram did not arrive (ICMP) is asked
    for; ``quoted`` is what it repeats of that datagram.
    """

    def __init__(
        self,
        host: str,
        port: int,
        on_datagram: Callable[[bytes, Address], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        connect: Address | None = None,
        on_error: Callable[[OSError], None] | None = None,
        on_unreachable: Callable[[bytes, Address, str], None] | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._sock = bound_socket(socket.SOCK_DGRAM, host, port, receive_buffer=_RECEIVE_BUFFER)
        if connect is not None:
            self._sock.connect(connect)  # ICMP errors are reported on connected sockets only
        self._connected = connect
        self._longer_names = self._sock.family == socket.AF_INET6  # flow info and scope follow
        self._descriptor = self._sock.fileno()
        self._next = bytearray(4)  # to be written into: octets that cannot be cost ioctl an exception of its own
        self.local: Address = local_address(self._sock)
        self.on_datagram = on_datagram
        self._on_error = on_error
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._queued = 0
        self.received = 0
        self.sent = 0
        self.dropped = 0
        self.closed = False
        self.unreachable = 0
        self.on_unreachable = on_unreachable
        self._watched: socket.socket | select.epoll = self._sock
        if on_unreachable is not None:
            # An error in the queue shows as POLLERR, at which libuv stops watching a descriptor. It is watched through
            # a poller of its own, which is merely readable then.
            report_errors(self._sock)
            self._watched = select.epoll(1)
            self._watched.register(self._sock, select.EPOLLIN)
        self._loop.add_reader(self._watched, self._readable)

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; raises OSError when the kernel refuses it (too long, no route)."""
        if self._queue:
            self._enqueue(data, remote)
            return
        try:
            self._put(data, remote)
        except (BlockingIOError, InterruptedError):
            self._enqueue(data, remote)
            if self._queue:
                self._loop.add_writer(self._sock, self._writable)

    def waiting(self) -> tuple[int, int]:
        """Octets that wait in the kernel to be received, by its own count, and how many may; (0, 1) when unknown."""
        try:
            meters = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 8)
        except OSError:
            return 0, 1
        octets, size = struct.unpack("II", meters)
        return octets, size

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._watched)
        self._loop.remove_writer(self._sock)
        if isinstance(self._watched, select.epoll):
            self._watched.close()
        self._queue.clear()
        self._sock.close()

    def _put(self, data: bytes, remote: Address) -> None:
        try:
            if self._connected is None:
                self._sock.sendto(data, remote)
            else:
                self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            raise
        except OSError:
            if self.on_unreachable is None or self._connected is not None:
                raise
            self._errors()
            self._sock.sendto(data, remote)  # it may have been the error of an earlier datagram
        self.sent += 1

    def _errors(self) -> int:
        """Read the queue of errors; returns how many were the network's word on datagrams of before."""
        if self.on_unreachable is None:
            return 0
        found = reports(self._sock)
        self.unreachable += len(found)
        for quoted, remote, number in found:
            # Not from within a send: whoever sends is in the middle of something.
            self._loop.call_soon(self.on_unreachable, quoted, remote, os.strerror(number).lower())
        return len(found)

    def _enqueue(self, data: bytes, remote: Address) -> None:
        if self._queued + len(data) > _QUEUE_OCTETS:
            self.dropped += 1
            return
        self._queue.append((data, remote))
        self._queued += len(data)

    def _writable(self) -> None:
        while self._queue:
            data, remote = self._queue[0]
            try:
                self._put(data, remote)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._writable)  # an error may have stopped the watching
                return
            except OSError as error:
                self.dropped += 1
                self._failed(error)
                if self.closed:
                    return
            self._queue.popleft()
            self._queued -= len(data)
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        sock, deliver = self._sock, self.on_datagram
        for turn in range(_BUDGET):
            try:
                data, remote = sock.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                if turn == 0:
                    self._errors()
                return
            except OSError as error:  # an ICMP error that the kernel kept for us
                if not self._errors():
                    self._failed(error)
                    return
                continue
            self.received += 1
            deliver(data, remote[:2] if self._longer_names else remote)
            # The kernel is asked for the length of the next one, for to receive and find nothing costs an exception
            # in each wake-up. An empty datagram looks like none and has a wake-up of its own.
            if self.closed:
                return
            ioctl(self._descriptor, FIONREAD, self._next)
            if self._next == _NOTHING:
                return

    def _failed(self, error: OSError) -> None:
        if self._on_error is not None:
            self._on_error(error)
