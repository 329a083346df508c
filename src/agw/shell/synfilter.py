"""Silence instead of refusal: classic BPF programs on listening sockets (TR 29.828 5.2.1.2.2 step 11).

A bound socket that does not listen answers a SYN with RST, and most clients then give up. A listening socket with a
socket filter that returns 0 drops the SYN unseen; the client repeats it, and after the filter was replaced the repeated
one is answered. No privilege is needed (socket(7), SO_ATTACH_FILTER).
"""

import ctypes
import functools
import ipaddress
import socket
import struct

from agw.core.orders import SynFilter

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_LOAD_HALF = 0x28  # BPF_LD | BPF_H | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from here count from the IP header
_WHOLE = 0xFFFFFFFF  # keep the whole segment; a smaller number would cut large ones
_IPV4_SOURCE, _IPV6_SOURCE = 12, 8

type _Instruction = tuple[int, int, int, int]


def program(filter: SynFilter) -> list[_Instruction]:
    """The BPF program of a filter; a TCP socket's filter sees the TCP header at offset 0."""
    if filter.kind == "closed":
        return [(_RETURN, 0, 0, 0)]
    if filter.kind == "open":
        return [(_RETURN, 0, 0, _WHOLE)]
    source = ipaddress.ip_address(filter.address)
    start = _IPV4_SOURCE if source.version == 4 else _IPV6_SOURCE
    checks = [
        (_LOAD_WORD, _NETWORK_HEADER + start + index, int.from_bytes(source.packed[index : index + 4]))
        for index in range(0, len(source.packed), 4)
    ]
    if filter.port is not None:
        checks.append((_LOAD_HALF, 0, filter.port))
    code: list[_Instruction] = []
    for number, (load, offset, value) in enumerate(checks):
        to_drop = 2 * (len(checks) - number - 1) + 1  # over the rest and the accepting return
        code += [(load, 0, 0, offset & 0xFFFFFFFF), (_JUMP_EQUAL, 0, to_drop, value)]
    return [*code, (_RETURN, 0, 0, _WHOLE), (_RETURN, 0, 0, 0)]


@functools.lru_cache(maxsize=1024)
def _compiled(filter: SynFilter) -> tuple[bytes, object]:
    """The argument of SO_ATTACH_FILTER, with the memory that it points to: both live as long as the entry."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program(filter))
    memory = ctypes.create_string_buffer(code, len(code))
    return struct.pack("HP", len(code) // 8, ctypes.addressof(memory)), memory


def attach(sock: socket.socket, filter: SynFilter) -> None:
    """Put the filter on a socket, replacing one that is there. Raises OSError."""
    argument, _memory = _compiled(filter)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def detach(sock: socket.socket) -> None:
    """Take the filter off an accepted socket, which inherits that of its listener."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def dropped(sock: socket.socket) -> int:
    """How many segments the socket has dropped: for a listening one with a filter, the SYNs that met silence."""
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    except OSError:
        return 0
    return int(struct.unpack_from("I", info, 4 * _SK_MEMINFO_DROPS)[0]) if len(info) >= 36 else 0
