"""MSRP: the framer's result does not depend on the cuts, heads survive writing, sessions never raise."""

from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples

from imswire.base import ProtocolError
from imswire.msrp.events import Chunk, MessageComplete, SessionFailed
from imswire.msrp.framer import BodyRead, EndRead, HeadRead, MsrpFramer
from imswire.msrp.message import ByteRange, RequestHead, parse_head
from imswire.msrp.session import MsrpSession
from imswire.msrp.uri import MsrpUri

QUICK = settings(max_examples=examples(150), deadline=None)
TID = b"tid12345"
URI = b"msrp://b:2/t;tcp"
MARK = b"\r\n-------" + TID

BITS = st.one_of(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-------", b"-------" + TID, MARK, MARK + b"$", MARK + b"$\r", b"MSRP "]
    ),
    st.binary(max_size=6),
)
BODIES = st.lists(BITS, max_size=8).map(b"".join)
HEADERS = [
    b"To-Path: " + URI,
    b"From-Path: msrp://a:1/s;tcp",
    b"Message-ID: mess1234",
    b"Byte-Range: 1-*/9",
    b"Odd: \xff",
]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few requests and responses, whole or with octets replaced and cut off."""
    out = bytearray()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.sampled_from([b"SEND", b"REPORT", b"AUTH", b"200 OK", b"481"]))
        out += b"MSRP " + TID + b" " + start + b"\r\n"
        out += b"".join(line + b"\r\n" for line in draw(st.lists(st.sampled_from(HEADERS), max_size=5)))
        if draw(st.booleans()):
            out += b"Content-Type: text/plain\r\n\r\n" + draw(BODIES) + b"\r\n"
        out += b"-------" + TID + draw(st.sampled_from([b"$", b"+", b"#", b"!"])) + b"\r\n"
    for at, octet in draw(st.lists(st.tuples(st.integers(0, len(out) - 1), st.integers(0, 255)), max_size=2)):
        out[at] = octet
    return bytes(out[: draw(st.integers(0, len(out)))] if draw(st.booleans()) else out)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
        turn += 1
    return pieces


def outcome(pieces: list[bytes], limit: int) -> tuple[list[tuple[str, bytes]], int]:
    """Events with body pieces joined, an error's reason as the last one; and what is still held."""
    framer = MsrpFramer(limit)
    seen: list[tuple[str, bytes]] = []
    try:
        for piece in pieces:
            for event in framer.feed(piece):
                match event:
                    case HeadRead(_, raw):
                        seen.append(("head", raw))
                    case EndRead(flag):
                        seen.append(("end", flag.encode()))
                    case BodyRead(data):
                        if seen[-1][0] == "body":
                            seen[-1] = ("body", seen[-1][1] + data)
                        else:
                            seen.append(("body", bytes(data)))
            assert framer.pending <= limit
    except ProtocolError as error:
        seen.append((error.reason, b""))
        return seen, 0
    return seen, framer.pending


@QUICK
@given(st.one_of(streams(), st.binary(max_size=80)), st.lists(st.integers(1, 40), min_size=1), st.integers(60, 400))
def test_framing_does_not_depend_on_the_cuts(data: bytes, sizes: list[int], limit: int) -> None:
    whole = outcome([data], limit)
    assert outcome(cut(data, sizes), limit) == whole
    assert outcome(cut(data, [1]), limit) == whole


@QUICK
@example(body=MARK + b"$\r")
@example(body=b"-------" + TID + b"$")
@given(body=BODIES)
def test_a_body_comes_out_as_it_went_in(body: bytes) -> None:
    if MARK in b"\r\n" + body and any(MARK + flag + b"\r\n" in b"\r\n" + body + b"\r\n" for flag in (b"$", b"+", b"#")):
        return
    head = RequestHead(TID.decode(), "SEND", (("Content-Type", "text/plain"),), True)
    stream = head.to_bytes() + body + head.end_line()
    expected = [("head", head.to_bytes()[:-2])] + ([("body", body)] if body else []) + [("end", b"$")]
    for sizes in ([len(stream)], [1], [3, 11]):
        assert outcome(cut(stream, sizes), 500) == (expected, 0)


@QUICK
@given(st.one_of(streams(), st.binary(max_size=60)), st.booleans())
def test_heads_parse_or_raise_and_survive_writing(raw: bytes, has_body: bool) -> None:
    raw = raw.partition(b"\r\n-------")[0].partition(b"\r\n\r\n")[0] + b"\r\n"
    try:
        head = parse_head(raw, has_body=has_body)
    except ProtocolError:
        return
    written = head.to_bytes()
    written = written[:-2] if has_body else written.removesuffix(f"-------{head.transaction_id}$\r\n".encode())
    assert parse_head(written, has_body=has_body) == head
    if isinstance(head, RequestHead):
        try:
            head.validate()
        except ProtocolError as error:
            reason = error.reason
        else:
            reason = "msrp."
        assert reason.startswith("msrp.")


def survives[T](parse: Callable[[str], T], text: str) -> None:
    try:
        value = parse(text)
    except ProtocolError:
        return
    assert parse(str(value)) == value


@QUICK
@given(st.text(max_size=20), st.integers(0, 30))
def test_values_parse_or_raise(noise: str, at: int) -> None:
    for good in ("msrp://u@h:1/s;tcp", "msrps://[::1]:9/a=b;tcp;x=y"):
        survives(MsrpUri.parse, good[:at] + noise + good[at:])
    survives(ByteRange.parse, noise)
    survives(ByteRange.parse, "1-*/9"[: at % 5] + noise)


class Ids:
    def __init__(self) -> None:
        self._count = 0

    def token(self, octets: int = 16, /) -> str:
        self._count += 1
        return f"id{self._count:06d}"


@QUICK
@given(streams(), st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_a_session_takes_anything(data: bytes, sizes: list[int], active: bool) -> None:
    session = MsrpSession(URI.decode(), "msrp://a:1/s;tcp", ids=Ids(), active=active)
    failures = 0
    for piece in cut(data, sizes):
        failures += sum(isinstance(event, SessionFailed) for event in session.feed(piece, 0.0))
        while (out := session.next_output(100, 0.0)) is not None:
            assert 0 < len(out) <= 100
    assert failures <= 1
    assert session.failed is (failures == 1)


@QUICK
@given(st.lists(BODIES, min_size=1, max_size=4), st.integers(1, 5_000), st.integers(1, 9))
def test_messages_arrive_whole(texts: list[bytes], window: int, chunk: int) -> None:
    one = MsrpSession("msrp://a:1/s;tcp", URI.decode(), ids=Ids(), active=True)
    two = MsrpSession(URI.decode(), "msrp://a:1/s;tcp", ids=Ids())
    sent = {}
    for body in texts:
        whole = body * chunk
        sent[one.send_message(len(whole), iter_reader(whole), success_report=True)] = whole
    got: dict[str, bytearray] = {key: bytearray() for key in sent}
    complete: dict[str, int] = {}
    moved = True
    while moved:
        moved = False
        for source, sink in ((one, two), (two, one)):
            piece = source.next_output(window, 0.0)
            if piece is None:
                continue
            moved = True
            for event in sink.feed(piece, 0.0):
                match event:
                    case Chunk(message_id, offset, data):
                        assert offset == len(got[message_id])
                        got[message_id] += data
                    case MessageComplete(message_id, size):
                        complete[message_id] = size
                    case _:
                        assert not isinstance(event, SessionFailed)
    assert got == sent
    assert complete == {key: len(whole) for key, whole in sent.items()}
    assert one.idle
    assert two.idle


def iter_reader(whole: bytes) -> Callable[[int], bytes]:
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        piece = whole[at : at + size]
        at += len(piece)
        return piece

    return read
