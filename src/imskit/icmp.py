"""What the network says of datagrams that did not arrive: the error queue of a UDP socket (ip(7), IP_RECVERR)."""

import socket
import struct

from imskit.sockets import Address

_IP_RECVERR = 11
_IPV6_RECVERR = 25
_QUOTED = 2048
_CONTROL = 512
_BUDGET = 64
# struct sock_extended_err: errno, origin, type, code, pad, info, data
_EXTENDED = struct.Struct("=IBBBBII")
_UNREACHABLE = {(2, 3), (3, 1)}  # origin ICMP, type 3; origin ICMPv6, type 1 (RFC 792, RFC 4443 3.1)
_FRAGMENTATION_NEEDED = (2, 3, 4)


def report_errors(sock: socket.socket) -> None:
    """Have the kernel keep ICMP errors of every datagram sent from ``sock``, connected or not."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def reports(sock: socket.socket) -> list[tuple[bytes, Address, int]]:
    """Empty the error queue: what is quoted of each datagram that found no receiver, where it went, and the errno.

    At most 64 at a time; the kernel reports the others with the next wake-up.
    """
    found: list[tuple[bytes, Address, int]] = []
    for _ in range(_BUDGET):
        try:
            quoted, control, _, remote = sock.recvmsg(_QUOTED, _CONTROL, socket.MSG_ERRQUEUE)
        except OSError:  # EAGAIN: the queue is empty
            break
        for level, kind, data in control:
            if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                continue
            if len(data) < _EXTENDED.size:
                continue
            number, origin, sort, code, *_ = _EXTENDED.unpack_from(data)
            if (origin, sort) in _UNREACHABLE and (origin, sort, code) != _FRAGMENTATION_NEEDED and remote:
                found.append((quoted, (remote[0], remote[1]), number))
    return found
