"""What the witness of a storm counts, from frames as the loopback shows them."""

import struct

from imslab.storm.capture import Counter, ports_of
from imslab.storm.mark import MARK


def frame(source: int, target: int, content: bytes, *, padding: bytes = b"") -> memoryview:
    tcp = struct.pack("!HHIIBBHHH", source, target, 1, 1, 8 << 4, 0x18, 512, 0, 0) + b"\x01" * 12
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(tcp) + len(content), 0, 0, 64, 6, 0, b"\x7f\0\0\1" * 2)
    return memoryview(b"\0" * 12 + b"\x08\x00" + ip + tcp + content + padding)


def test_the_sides_are_told_apart_and_the_mark_is_found() -> None:
    counter = Counter(ports_of("100-199"), ports_of("200-299"))
    mark = MARK.encode()
    counter.saw(frame(5000, 150, b"sealed"))
    counter.saw(frame(199, 5000, b"... " + mark + b" ..."))
    counter.saw(frame(200, 299, mark))
    counter.saw(frame(5000, 150, b""))
    seen = counter.sightings(3)
    assert (seen.access, seen.access_marked, seen.core, seen.core_marked, seen.missed) == (2, 1, 1, 1, 3)


def test_octets_behind_the_packet_do_not_count() -> None:
    counter = Counter(ports_of("100-199"), ports_of("200-299"))
    counter.saw(frame(5000, 150, b"", padding=MARK.encode()))
    assert counter.sightings(0).access == 0
