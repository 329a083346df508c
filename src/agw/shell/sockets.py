"""Sockets of media legs: what the kernel has to be told so that a port listens, dials and changes between the two."""

import errno
import socket

from agw.core.orders import SynFilter
from agw.shell import synfilter

_BACKLOG = 8
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK


def family_of(address: str) -> socket.AddressFamily:
    """IPv4 or IPv6, by the text of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listening(address: str, port: int, filter: SynFilter) -> socket.socket:
    """A non-blocking socket that listens there, port 0 anywhere; from the first SYN on the filter is in force. Raises
    OSError."""
    family = family_of(address)
    sock = socket.socket(family, _STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if filter.kind != "open":
            synfilter.attach(sock, filter)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket, keepalive: float) -> None:
    """Make a connection ready for media; ``keepalive``: seconds until its peer is looked for, 0: never.

    There is no TCP_USER_TIMEOUT: a receiver that takes its time is alive.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(keepalive)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(keepalive / 4)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def has_sent(sock: socket.socket) -> bool:
    """Whether octets of the peer wait to be read; False where there are none, and where it has closed or reset."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def connect(
    sock: socket.socket, listener: socket.socket | None, local: tuple[str, int], remote: tuple[str, int]
) -> int:
    """Bind and begin to connect; an errno, 0 when connected at once. ``listener`` is the one that may have the port.

    Beside SO_REUSEADDR, which is for connections that are still closing, Linux lets a port that is being listened on be
    bound where both sockets have SO_REUSEPORT at that moment, and only then: afterwards nobody shall share it.
    """
    both = (sock, listener) if listener is not None else ()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in both:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind(local)
        finally:
            for each in both:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        return sock.connect_ex(remote)
    except OSError as error:  # connecting: an address that cannot be read
        return error.errno or errno.EINVAL
