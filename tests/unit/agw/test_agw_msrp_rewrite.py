"""The MSRP rewriter: against the framer of the endpoints, under every cut, and what it refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples

from agw.core.msrp_rewrite import ANSWERS, HEAD_LIMIT, MsrpRewriter
from agw.core.orders import PathSwap
from imswire.msrp.framer import BodyRead, EndRead, HeadRead, MsrpFramer
from imswire.msrp.message import RequestHead, ResponseHead

OWN = "msrps://192.0.2.1:20000/bob;tcp"
UE = "msrps://ue.example.net:7000/alice;tcp"
PEER = "msrp://198.51.100.9:9000/bob;tcp"
OUR_CORE = "msrp://198.51.100.1:30000/alice;tcp"
SWAP = PathSwap("bob", OWN, PEER, OUR_CORE)
ROOM = 8_192
PATHS = f"To-Path: {OWN}\r\nFrom-Path: {UE}\r\n"
SWAPPED = f"To-Path: {PEER}\r\nFrom-Path: {OUR_CORE}\r\n"


def send(tid: str, body: bytes | None, flag: str = "$", paths: str = PATHS, more: str = "") -> bytes:
    head = f"MSRP {tid} SEND\r\n{paths}Message-ID: m-{tid}\r\nByte-Range: 1-*/*\r\n{more}".encode()
    if body is not None:
        head += b"Content-Type: text/plain\r\n\r\n" + body + b"\r\n"
    return head + f"-------{tid}{flag}\r\n".encode()


def response(tid: str, paths: str = PATHS) -> bytes:
    return f"MSRP {tid} 200 OK\r\n{paths}-------{tid}$\r\n".encode()


def report(tid: str, paths: str = PATHS) -> bytes:
    text = (
        f"MSRP {tid} REPORT\r\n{paths}Message-ID: m-1\r\nByte-Range: 1-3/3\r\nStatus: 000 200 OK\r\n-------{tid}$\r\n"
    )
    return text.encode()


class Line:
    """A rewriter fed from one buffer that is used again for each read, as in the relay."""

    def __init__(self, swap: PathSwap = SWAP) -> None:
        self.rewriter = MsrpRewriter(swap)
        self.buffer = bytearray(ROOM + 400_000)
        self.view = memoryview(self.buffer)
        self.out = b""
        self.answers: list[bytes] = []

    def read(self, data: bytes) -> list[bytes | memoryview]:
        held = self.rewriter.held
        start = ROOM - len(held)
        self.buffer[start : ROOM + len(data)] = held + data
        pieces = self.rewriter.rewrite(self.buffer, self.view, start, ROOM + len(data))
        self.out += b"".join(pieces)
        self.answers += self.rewriter.answers
        self.rewriter.answers.clear()
        return pieces

    def feed(self, data: bytes, sizes: list[int]) -> bytes:
        at, turn = 0, 0
        while at < len(data) and self.rewriter.fault is None:
            size = sizes[turn % len(sizes)]
            self.read(data[at : at + size])
            at, turn = at + size, turn + 1
        return self.out


STREAM = b"".join(
    [
        send("aaaa1", b"hello"),
        response("rrrr1"),
        send("bbbb2", b"\r\n-------bbbb2! not the end \r\n-------bbbb2$\r not yet \r\n-------bbbb", "+"),
        report("pppp1"),
        send("bbbb3", b"second chunk\r", "#"),
        send("cccc1", b""),
        send("dddd1", None),
        b"MSRP eeee SEND\r\n" + PATHS.encode() + b"Message-ID: x123\r\nContent-Type: a/b\r\n\r\n-------eeee$\r\n",
        f"MSRP ffff 200\r\nto-path:{OWN}\r\nFROM-PATH:   {UE} \r\n-------ffff$\r\n".encode(),
        b"MSRP gggg NICKNAME\r\n" + PATHS.encode() + b'Use-Nickname: "Alice"\r\n-------gggg$\r\n',
        send("hhhh1", bytes(range(256)) * 40, "+"),
    ]
)
EXPECTED = STREAM.replace(PATHS.encode(), SWAPPED.encode()).replace(
    f"to-path:{OWN}\r\nFROM-PATH:   {UE} \r\n".encode(), SWAPPED.encode()
)


def test_paths_are_replaced_and_nothing_else_in_requests_responses_and_reports() -> None:
    line = Line()
    assert line.feed(STREAM, [len(STREAM)]) == EXPECTED
    assert (line.rewriter.messages, line.rewriter.refused, line.answers) == (11, 0, [])
    assert line.rewriter.between
    assert line.rewriter.held == b""


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
def test_every_cut_gives_the_same_result(sizes: list[int]) -> None:
    assert Line().feed(STREAM, sizes) == EXPECTED


def test_one_octet_at_a_time() -> None:
    line = Line()
    assert line.feed(STREAM, [1]) == EXPECTED
    assert line.rewriter.fault is None


def test_endpoints_read_the_result_as_they_would_have_read_the_original() -> None:
    def events(data: bytes) -> list[object]:
        found: list[object] = []
        for event in MsrpFramer().feed(data):
            match event:
                case HeadRead():
                    paths = (event.head.to_path, event.head.from_path)
                    found += [event.head.headers[2:], paths in ((OWN, UE), (PEER, OUR_CORE))]
                case BodyRead():
                    found.append(bytes(event.data))
                case EndRead():
                    found.append(event.flag)
        return found

    assert events(Line().feed(STREAM, [7])) == events(STREAM)


def test_a_long_body_is_passed_as_views_of_the_buffer() -> None:
    """Two pieces for a head and its body, one for a read within a body: nothing is copied or joined."""
    line = Line()
    body = b"x" * 200_000
    first = line.read(send("aaaa1", body)[:100_000])
    second = line.read(send("aaaa1", body)[100_000:])
    assert [type(piece) for piece in first] == [memoryview, bytes, memoryview]
    assert [type(piece) for piece in second] == [memoryview]
    assert isinstance(second[0], memoryview)
    assert second[0].obj is line.buffer
    assert line.out == send("aaaa1", body, paths=SWAPPED)


def test_what_is_held_is_bounded() -> None:
    line = Line()
    line.feed(send("aaaa1", b"x" * 5_000)[:3_000], [11])
    assert len(line.rewriter.held) <= 45
    line = Line()
    line.feed(b"MSRP aaaa1 SEND\r\n" + PATHS.encode() + b"X: " + b"y" * 20_000, [1_000])
    assert line.rewriter.fault is not None
    assert line.rewriter.fault.reason == "msrp.head-size"
    assert (line.out, line.rewriter.held) == (b"", b"")


@pytest.mark.parametrize("sizes", [[1], [50], [100_000]])
def test_a_head_of_exactly_the_limit_passes_and_one_octet_more_does_not(sizes: list[int]) -> None:
    bare = len(send("aaaa1", None)) - len("-------aaaa1$\r\n")
    for more, good in ((HEAD_LIMIT - bare, True), (HEAD_LIMIT - bare + 1, False)):
        data = send("aaaa1", None, more="X: " + "y" * (more - 5) + "\r\n")
        line = Line()
        line.feed(data, sizes)
        # Octet by octet the end-line would have to fit as well; no sender comes near.
        if sizes == [100_000]:
            assert (line.rewriter.fault is None) is good
        elif not good:
            assert line.rewriter.fault is not None


@pytest.mark.parametrize("sizes", [[1], [13], [10_000]])
def test_an_unknown_session_is_answered_with_481_and_the_rest_goes_on(sizes: list[int]) -> None:
    stranger = f"To-Path: msrps://192.0.2.1:20000/carol;tcp\r\nFrom-Path: {UE}\r\n"
    data = send("aaaa1", b"one") + send("bbbb1", b"lost" * 50, paths=stranger) + send("cccc1", b"two")
    line = Line()
    line.feed(data, sizes)
    assert line.out == send("aaaa1", b"one", paths=SWAPPED) + send("cccc1", b"two", paths=SWAPPED)
    (answer,) = line.answers
    head, end = MsrpFramer().feed(answer)
    assert isinstance(head, HeadRead)
    assert isinstance(head.head, ResponseHead)
    assert (head.head.transaction_id, head.head.status) == ("bbbb1", 481)
    assert head.head.to_path == UE
    assert head.head.from_path == "msrps://192.0.2.1:20000/carol;tcp"
    assert end == EndRead("$")
    assert line.rewriter.refused == 1


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (send("bbbb1", b"x", paths=f"From-Path: {UE}\r\nTo-Path: {OWN}\r\n"), 400),
        (send("bbbb1", b"x", more="no header line\r\n"), 400),
        (send("bbbb1", b"x", paths=f"To-Path: http://example.net\r\nFrom-Path: {UE}\r\n"), 400),
        (send("bbbb1", b"x", paths=f"To-Path: {OWN} {PEER}\r\nFrom-Path: {UE}\r\n"), 481),
        (send("bbbb1", b"x", paths=f"To-Path: msrps://192.0.2.1:20000;tcp\r\nFrom-Path: {UE}\r\n"), 481),
        (send("bbbb1", b"x", paths=f"To-Path: {OWN.replace('bob', 'BOB')}\r\nFrom-Path: {UE}\r\n"), 481),
        (send("bbbb1", b"x", paths=f"To-Path: {OWN}\r\nFrom-Path: \r\n"), 0),
        (send("bbbb1", b"x", paths=""), 0),
        (send("bbbb1", b"x", paths=PATHS.replace("bob", "carol"), more="Failure-Report: no\r\n"), 0),
        (report("bbbb1", PATHS.replace("bob", "carol")), 0),
        (response("bbbb1", PATHS.replace("bob", "carol")), 0),
        (f"MSRP bbbb1 200 OK\r\n{PATHS}\r\nbody\r\n-------bbbb1$\r\n".encode(), 0),
    ],
)
def test_what_is_refused_is_answered_if_it_may_be_and_never_passed(message: bytes, status: int) -> None:
    """RFC 4975 7.1.4, 7.2, 10: no answer to responses, to REPORTs, or where no failure report is wanted."""
    line = Line()
    line.feed(send("aaaa1", b"one") + message + send("cccc1", b"two"), [5])
    assert line.rewriter.fault is None
    assert line.out == send("aaaa1", b"one", paths=SWAPPED) + send("cccc1", b"two", paths=SWAPPED)
    assert len(line.answers) == (1 if status else 0)
    assert all(f"MSRP bbbb1 {status} ".encode() in answer for answer in line.answers)
    assert line.rewriter.refused == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "msrp.start-line"),
        (b"\x16\x03\x01\x02\x00", "msrp.start-line"),
        (b"MSRP a SEND\r\n", "msrp.start-line"),
        (b"MSRP aaaa send\r\n", "msrp.start-line"),
        (b"MSRP aaaa SEND\r\n" + PATHS.encode() + b"-------aaaa!\r\n", "msrp.end-line"),
        (b"MSRP " + b"a" * 9_000, "msrp.head-size"),
        (b"MSRP aaaa SEND\r\n" + PATHS.encode() + b"-------other$\r\n" + b"x" * 9_000, "msrp.head-size"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 100_000])
def test_what_is_not_msrp_ends_the_stream_after_what_was(data: bytes, reason: str, size: int) -> None:
    line = Line()
    line.feed(send("aaaa1", b"one") + data, [size])
    assert line.rewriter.fault is not None
    assert line.rewriter.fault.reason == reason
    assert line.out == send("aaaa1", b"one", paths=SWAPPED)


@pytest.mark.parametrize("size", [1, 9, 100_000])
def test_messages_of_the_gateway_are_put_between_two_chunks(size: int) -> None:
    line = Line()
    own = b"MSRP own1 481 No Such Session\r\n...\r\n"
    first, second = send("aaaa1", b"x" * 300), send("bbbb1", b"y")
    line.read(first[:250])
    assert not line.rewriter.between
    assert line.rewriter.insert(own)
    line.feed(first[250:] + second, [size])
    swapped = [message.replace(PATHS.encode(), SWAPPED.encode()) for message in (first, second)]
    assert line.out == swapped[0] + own + swapped[1]


def test_waiting_answers_are_bounded() -> None:
    line = Line()
    line.read(send("aaaa1", b"x" * 300)[:250])
    assert [line.rewriter.insert(b"x") for _ in range(ANSWERS + 1)] == [True] * ANSWERS + [False]
    flood = Line()
    flood.read(b"".join(send(f"tid{n}x", b"", paths=PATHS.replace("bob", "carol")) for n in range(100)))
    assert len(flood.answers) == ANSWERS
    assert flood.rewriter.refused == 100


def test_at_the_end_of_the_stream_a_held_body_goes_out_and_half_a_head_does_not() -> None:
    line = Line()
    line.read(send("aaaa1", b"body")[:-3])
    assert line.out + line.rewriter.remainder() == send("aaaa1", b"body", paths=SWAPPED)[:-3]
    line = Line()
    line.read(b"MSRP aaaa1 SEND\r\nTo-Path: ")
    assert (line.out, line.rewriter.remainder()) == (b"", b"")


def test_a_new_from_path_of_the_same_session_is_accepted() -> None:
    """The peer is known by its connection and its certificate; what it writes about itself is replaced anyway."""
    line = Line()
    other = PATHS.replace("ue.example.net", "10.0.0.1")
    line.read(send("aaaa1", b"x") + send("bbbb1", b"y", paths=other) + send("cccc1", b"z"))
    assert line.out == b"".join(
        send(t, b, paths=SWAPPED) for t, b in (("aaaa1", b"x"), ("bbbb1", b"y"), ("cccc1", b"z"))
    )


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(1, 60), min_size=1, max_size=10), st.integers(0, 3_000))
def test_any_octets_anywhere_raise_nothing_and_hold_little(noise: bytes, sizes: list[int], at: int) -> None:
    data = STREAM[:at] + noise + STREAM[at:]
    line = Line()
    line.feed(data, sizes)
    whole = Line()
    whole.read(data)
    assert (line.out, line.answers) == (whole.out, whole.answers)
    assert (line.rewriter.fault is None) == (whole.rewriter.fault is None)
    assert len(line.rewriter.held) <= HEAD_LIMIT


def test_request_head_type_is_what_the_endpoints_use() -> None:
    (head, *_) = MsrpFramer().feed(Line().feed(send("aaaa1", b"x"), [3]))
    assert isinstance(head, HeadRead)
    assert isinstance(head.head, RequestHead)
    assert (head.head.to_path, head.head.from_path) == (PEER, OUR_CORE)
