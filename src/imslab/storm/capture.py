"""A witness outside of all processes under test: which media ports carry the mark of a message in plain text.

``python -m imslab.storm.capture ACCESS CORE`` (port ranges as ``first-last``) listens on the loopback interface with a
packet socket, says ``ready`` on standard output, and writes what it counted as one JSON line when its standard input
ends. It needs the right to open packet sockets (root, or CAP_NET_RAW), and sees IPv4.

Between UE and IMS-AGW the mark must never be seen. On the core side it must: media are plain TCP there by design, and a
count above zero shows that the witness was awake.
"""

import ctypes
import select
import socket
import struct
import sys

import msgspec

from imslab.storm.mark import MARK

_ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETHERNET = 14
_IPV4, _TCP = 0x0800, 6
_MAX_PACKET = 1 << 17
_BUFFER = 64 << 20

_LOAD_HALF, _LOAD_BYTE, _LOAD_HALF_BEHIND = 0x28, 0x30, 0x48
_LOAD_HEADER_LENGTH = 0xB1  # X <- 4 * (octet & 15)
_JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_GREATER, _RETURN = 0x15, 0x35, 0x25, 0x06


class Sightings(msgspec.Struct, frozen=True):
    """TCP segments with content on each side, those of them with the mark, and packets that were missed."""

    access: int = 0
    access_marked: int = 0
    core: int = 0
    core_marked: int = 0
    missed: int = 0


def port_filter(first: int, last: int) -> bytes:
    """BPF: TCP over IPv4 whose source or destination port lies between ``first`` and ``last``."""
    code = (
        (_LOAD_HALF, 0, 0, 12),
        (_JUMP_EQUAL, 0, 10, _IPV4),
        (_LOAD_BYTE, 0, 0, _ETHERNET + 9),
        (_JUMP_EQUAL, 0, 8, _TCP),
        (_LOAD_HEADER_LENGTH, 0, 0, _ETHERNET),
        (_LOAD_HALF_BEHIND, 0, 0, _ETHERNET),
        (_JUMP_AT_LEAST, 0, 1, first),
        (_JUMP_GREATER, 0, 3, last),
        (_LOAD_HALF_BEHIND, 0, 0, _ETHERNET + 2),
        (_JUMP_AT_LEAST, 0, 2, first),
        (_JUMP_GREATER, 1, 0, last),
        (_RETURN, 0, 0, _MAX_PACKET),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class Counter:
    """Tells the sides apart by their ports: a segment with an access port at either end belongs to the access side."""

    def __init__(self, access: range, core: range) -> None:
        self._access = access
        self._core = core
        self._mark = MARK.encode()
        self._seen = [0, 0, 0, 0]

    def saw(self, packet: memoryview) -> None:
        """One Ethernet frame that the filter let through."""
        ports = _ETHERNET + 4 * (packet[_ETHERNET] & 15)
        (total,) = struct.unpack_from("!H", packet, _ETHERNET + 2)
        # Segmentation is left to the device, and the loopback has none: such a packet may be too long for the field.
        end = min(len(packet), _ETHERNET + total) if total else len(packet)
        content = bytes(packet[ports + 4 * (packet[ports + 12] >> 4) : end])
        if not content:
            return
        pair = struct.unpack_from("!HH", packet, ports)
        side = 0 if any(port in self._access for port in pair) else 2
        self._seen[side] += 1
        self._seen[side + 1] += self._mark in content

    def sightings(self, missed: int) -> Sightings:
        """The counts so far."""
        access, access_marked, core, core_marked = self._seen
        return Sightings(access, access_marked, core, core_marked, missed)


def watch(access: range, core: range) -> Sightings:
    """Count until standard input ends. Raises OSError (PermissionError without the right to capture)."""
    counter = Counter(access, core)
    program = port_filter(min(access.start, core.start), max(access.stop, core.stop) - 1)
    memory = ctypes.create_string_buffer(program, len(program))
    buffer = memoryview(bytearray(_MAX_PACKET))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
        )
        sock.bind(("lo", _ALL_PROTOCOLS))
        sock.setblocking(False)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready, _, _ = select.select([sock, sys.stdin], [], [])
            try:
                while True:
                    size, address = sock.recvfrom_into(buffer)
                    if address[2] != socket.PACKET_OUTGOING:  # the loopback shows each packet twice
                        counter.saw(buffer[:size])
            except BlockingIOError:
                if sys.stdin in ready:
                    break
        _packets, missed = struct.unpack("II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
    return counter.sightings(missed)


def ports_of(text: str) -> range:
    """``first-last`` as a range."""
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


if __name__ == "__main__":
    seen = watch(ports_of(sys.argv[1]), ports_of(sys.argv[2]))
    sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")
