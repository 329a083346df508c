"""Sockets and their addresses: parsing, binding, and the options that notice a dead peer in seconds."""

import contextlib
import errno
import ipaddress
import socket
import struct
from typing import Literal

from msgspec import Struct

type Address = tuple[str, int]  # numeric host (IPv6 without brackets) and port

BACKLOG = 1024
# Accepting or reading may go on after these: the peer gave up, or the call was interrupted.
PASSING_ERRORS = frozenset({errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM})
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Endpoint(Struct, frozen=True):
    """A place to listen at or to connect to, as written in settings: ``tcp:127.0.0.1:2944``, ``udp:[::1]:2944``."""

    scheme: Literal["tcp", "udp", "tls"]
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}:{address_text((self.host, self.port))}"

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def parse_endpoint(text: str, default_scheme: Literal["tcp", "udp", "tls"] = "tcp") -> Endpoint:
    """Read ``[scheme:]host:port``; raises ValueError that says what is wrong."""
    scheme, rest = default_scheme, text
    for known in ("tcp", "udp", "tls"):
        if text.startswith(known + ":"):
            scheme, rest = known, text[4:]
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address goes in brackets, and schemes are tcp, udp and tls")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r}: expected [tcp:|udp:|tls:]HOST:PORT")
    return Endpoint(scheme, host, int(port))


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and the name localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_text(address: Address) -> str:
    """``host:port`` with brackets around IPv6."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bound_socket(kind: socket.SocketKind, host: str, port: int, *, receive_buffer: int = 0) -> socket.socket:
    """A non-blocking socket bound to a numeric address; raises OSError whose text names the address.

    An IPv6 socket is IPv6 only, so that both families may be bound to one port side by side.
    """
    if host == "localhost":
        host = "127.0.0.1"
    family = family_of(host)
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot bind {address_text((host, port))}: {error.strerror}") from None
    return sock


def detect_dead_peer(sock: socket.socket, idle: float, give_up: float) -> None:
    """Make the kernel end a TCP connection whose peer is gone.

    A probe goes out after ``idle`` seconds of silence; data or probes that stay unacknowledged for ``give_up`` seconds,
    and a window that stays shut so long, end the connection (TCP_USER_TIMEOUT, RFC 5482).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(idle)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(give_up / 3)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(give_up * 1000)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reset(sock: socket.socket) -> None:
    """Close with RST: refuses a connection without leaving a TIME_WAIT behind."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def local_address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return name[0], name[1]
