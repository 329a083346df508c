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

_SOL_SOCKET = socket.SOL_SOCKET
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("32xI")
"""Of the nine counters of SO_MEMINFO the last one, SK_MEMINFO_DROPS."""

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_LOAD_HALF = 0x28  # BPF_LD | BPF_H | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from here count from the IP header
_WHOLE = 0xFFFFFFFF  # keep the whole segment; a smaller number would cut large ones
_IPV4_SOURCE, _IPV6_SOURCE = 12, 8

_DROP = -1  # a jump behind the instructions of this filter, until their number is known

type _Instruction = tuple[int, int, int, int]


def program(*filters: SynFilter) -> list[_Instruction]:
    """The BPF program that admits what one of the filters admits; a TCP socket's filter sees the TCP header at offset
    0."""
    if any(filter.kind == "open" for filter in filters):
        return [(_RETURN, 0, 0, _WHOLE)]
    return [*(step for filter in filters if filter.kind == "source" for step in _admitting(filter)), (_RETURN, 0, 0, 0)]


def _admitting(filter: SynFilter) -> list[_Instruction]:
    """Return at once what the filter admits, and go on behind the last instruction with everything else."""
    code: list[_Instruction] = []
    if filter.address:
        source = ipaddress.ip_address(filter.address)
        start = _IPV4_SOURCE if source.version == 4 else _IPV6_SOURCE
        bits = source.max_prefixlen if filter.prefix is None else filter.prefix
        for index in range(0, len(source.packed), 4):
            counted = min(32, max(0, bits - 8 * index))
            if counted:
                mask = (0xFFFFFFFF << (32 - counted)) & 0xFFFFFFFF
                code.append((_LOAD_WORD, 0, 0, (_NETWORK_HEADER + start + index) & 0xFFFFFFFF))
                if counted < 32:
                    code.append((_AND, 0, 0, mask))
                code.append((_JUMP_EQUAL, 0, _DROP, int.from_bytes(source.packed[index : index + 4]) & mask))
    if filter.port is not None:
        code.append((_LOAD_HALF, 0, 0, 0))
        if filter.last_port in (None, filter.port):
            code.append((_JUMP_EQUAL, 0, _DROP, filter.port))
        else:
            code.append((_JUMP_AT_LEAST, 0, _DROP, filter.port))
            code.append((_JUMP_GREATER, _DROP, 0, filter.last_port or 0))
    code.append((_RETURN, 0, 0, _WHOLE))
    # Jumps count the instructions that they pass over; what is not admitted goes behind the accepting return.
    drop = len(code)
    return [
        (operation, drop - at - 1 if yes == _DROP else yes, drop - at - 1 if no == _DROP else no, value)
        for at, (operation, yes, no, value) in enumerate(code)
    ]


@functools.lru_cache(maxsize=1024)
def _compiled(*filters: SynFilter) -> tuple[bytes, object]:
    """The argument of SO_ATTACH_FILTER, with the memory that it points to: both live as long as the entry."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program(*filters))
    memory = ctypes.create_string_buffer(code, len(code))
    return struct.pack("HP", len(code) // 8, ctypes.addressof(memory)), memory


def attach(sock: socket.socket, *filters: SynFilter) -> None:
    """Let a socket admit what one of the filters admits, in place of what it admitted before. Raises OSError."""
    argument, _memory = _compiled(*filters)
    sock.setsockopt(_SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def detach(sock: socket.socket) -> None:
    """Take the filter off an accepted socket, which inherits that of its listener."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def dropped(sock: socket.socket) -> int:
    """How many segments the socket has dropped: for a listening one with a filter, the SYNs that met silence."""
    try:
        info = sock.getsockopt(_SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(info)[0]) if len(info) == _MEMINFO.size else 0
