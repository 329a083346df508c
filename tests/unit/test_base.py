"""TPKT framing, the backoff value and the error type that all codecs share."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imswire.base import Backoff, Cutter, LimitExceeded, ProtocolError, TpktFramer, tpkt


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    return [*pieces, stream[at:]]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 40), max_size=60))
def test_framing_does_not_depend_on_how_the_stream_is_cut(payloads: list[bytes], sizes: list[int]) -> None:
    framer = TpktFramer()
    stream = b"".join(tpkt(payload) for payload in payloads)
    assert [out for piece in cut(stream, sizes) for out in framer.feed(piece)] == payloads
    assert framer.pending == 0


class General(TpktFramer):
    """Without the short way for one whole packet."""

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        return Cutter.feed(self, data)


def outcome(framer: TpktFramer, pieces: list[bytes]) -> list[object]:
    out: list[object] = []
    for piece in pieces:
        try:
            out.append((framer.feed(piece), framer.pending, str(framer.error)))
        except ProtocolError as error:
            out.append((type(error), str(error), framer.pending))
    return out


packet = st.builds(
    lambda version, length, payload: bytes([version, 0]) + (len(payload) + 4 + length).to_bytes(2) + payload,
    st.sampled_from([3, 3, 3, 3, 2]),
    st.sampled_from([0, 0, 0, 0, 0, 1, -1, -3, 300]).filter(bool) | st.just(0),
    st.binary(min_size=3, max_size=60),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(packet | st.binary(max_size=6) | st.builds(tpkt, st.binary(max_size=70)), max_size=6))
def test_the_short_way_for_one_packet_is_the_general_one(pieces: list[bytes]) -> None:
    assert outcome(TpktFramer(50), pieces) == outcome(General(50), pieces)
    kinds = [bytearray(piece) if number % 2 else memoryview(piece) for number, piece in enumerate(pieces)]
    assert outcome(TpktFramer(50), kinds) == outcome(General(50), pieces)  # type: ignore[arg-type]


def test_a_wrong_version_is_named_with_its_offset() -> None:
    framer = TpktFramer()
    assert framer.feed(tpkt(b"MEGACO/1") + b"GET / HTTP/1.1\r\n") == [b"MEGACO/1"]
    assert framer.error is not None
    with pytest.raises(ProtocolError) as error:
        framer.feed(b"more")
    assert error.value is framer.error
    assert error.value.reason == "tpkt.version"
    assert error.value.offset == 12
    assert "71" in str(error.value)


@pytest.mark.parametrize("header", [b"\x03\x00\x00\x00", b"\x03\x00\x00\x03"])
def test_a_length_below_the_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"tpkt\.length"):
        TpktFramer().feed(header)


def test_an_oversized_packet_is_refused_before_it_is_collected() -> None:
    framer = TpktFramer(limit=100)
    with pytest.raises(LimitExceeded, match="limit 100"):
        framer.feed(b"\x03\x00\x01\x00")


def test_the_writer_never_truncates() -> None:
    assert len(tpkt(bytes(65_531))) == 65_535
    with pytest.raises(LimitExceeded):
        tpkt(bytes(65_532))


def test_backoff_grows_to_its_cap() -> None:
    backoff = Backoff(first=0.5, cap=3.0)
    assert [backoff.delay(n) for n in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.delay(10_000) == 3.0
