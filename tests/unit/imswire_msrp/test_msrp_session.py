"""The endpoint machine: two sessions joined in memory, and one against handwritten octets."""

import io
from collections.abc import Callable

import pytest

from imswire.base import LimitExceeded, ProtocolError
from imswire.msrp.events import (
    Chunk,
    MessageAborted,
    MessageAccepted,
    MessageComplete,
    MessageFailed,
    MessageStarted,
    ReportIn,
    ResponseIn,
    SessionBound,
    SessionEvent,
    SessionFailed,
    SessionLimits,
)
from imswire.msrp.framer import HeadRead, MsrpFramer
from imswire.msrp.message import ByteRange, RequestHead, ResponseHead
from imswire.msrp.session import MsrpSession

A = "msrp://a.example.com:1000/aaaa;tcp"
B = "msrp://b.example.com:2000/bbbb;tcp"


class Ids:
    """Predictable idents."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._count = 0

    def token(self, octets: int = 16, /) -> str:
        self._count += 1
        return f"{self._prefix}{self._count:07d}"


def alice(**options: object) -> MsrpSession:
    return MsrpSession(A, B, ids=Ids("a"), active=True, **options)  # type: ignore[arg-type]


def bob(**options: object) -> MsrpSession:
    return MsrpSession(B, A, ids=Ids("b"), **options)  # type: ignore[arg-type]


def drain(session: MsrpSession, size: int = 70_000, now: float = 0.0) -> bytes:
    out = bytearray()
    while (piece := session.next_output(size, now)) is not None:
        assert 0 < len(piece) <= size
        out += piece
    return bytes(out)


def exchange(one: MsrpSession, two: MsrpSession, size: int = 70_000) -> tuple[list[SessionEvent], list[SessionEvent]]:
    """Carry octets both ways until nobody has any."""
    seen: tuple[list[SessionEvent], list[SessionEvent]] = ([], [])
    moved = True
    while moved:
        moved = False
        for source, sink, events in ((one, two, seen[1]), (two, one, seen[0])):
            piece = source.next_output(size, 0.0)
            if piece is not None:
                moved = True
                events += sink.feed(piece, 0.0)
    return seen


def heads(octets: bytes) -> list[RequestHead | ResponseHead]:
    return [event.head for event in MsrpFramer().feed(octets) if isinstance(event, HeadRead)]


def send(
    body: bytes | None,
    *,
    flag: str = "$",
    tid: str = "hand1234",
    to: str = B,
    message_id: str = "mess1234",
    byte_range: str | None = None,
    extra: tuple[tuple[str, str], ...] = (),
    content_type: str = "text/plain",
    method: str = "SEND",
) -> bytes:
    headers = [("To-Path", to), ("From-Path", A), ("Message-ID", message_id), *extra]
    if byte_range is not None:
        headers.append(("Byte-Range", byte_range))
    if body is not None:
        headers.append(("Content-Type", content_type))
    head = RequestHead(tid, method, tuple(headers), body is not None)
    return head.to_bytes() + (body or b"") + head.end_line(flag)


def data_of(events: list[SessionEvent]) -> bytes:
    """The message as a receiver puts it together: every chunk at its offset."""
    whole = bytearray()
    for event in events:
        if isinstance(event, Chunk):
            end = event.offset + len(event.data)
            whole.extend(bytes(max(0, end - len(whole))))
            whole[event.offset : end] = event.data
    return bytes(whole)


def only[T](events: list[SessionEvent], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def test_the_active_side_binds_with_an_empty_send() -> None:
    a, b = alice(), bob()
    b.send_text("waits")
    assert b.next_output(70_000, 0.0) is None
    first = drain(a)
    assert first == (
        b"MSRP a0000001 SEND\r\nTo-Path: " + B.encode() + b"\r\nFrom-Path: " + A.encode() + b"\r\n"
        b"Message-ID: a0000002\r\nByte-Range: 1-0/0\r\n-------a0000001$\r\n"
    )
    assert b.feed(first, 0.0) == [SessionBound()]
    assert [head.get("From-Path") for head in heads(drain(b))] == [B, B]


def test_the_active_side_with_something_to_say_says_it_first() -> None:
    a, b = alice(), bob()
    message_id = a.send_text("h\u00e9llo")
    to_a, to_b = exchange(a, b)
    assert to_b[0] == SessionBound()
    started = only(to_b, MessageStarted)
    assert [(event.message_id, event.content_type, event.total) for event in started] == [(message_id, "text/plain", 6)]
    assert data_of(to_b).decode() == "h\u00e9llo"
    assert to_b[-1] == MessageComplete(message_id, 6)
    assert to_a == [ResponseIn(message_id, 200, "OK", ByteRange(1, 6, 6)), MessageAccepted(message_id)]
    assert a.idle
    assert b.idle


@pytest.mark.parametrize("size", [1, 100, 3_000, 70_000])
@pytest.mark.parametrize("length", [0, 1, 2_048, 2_049, 65_536, 300_001])
def test_any_length_both_ways_through_any_window(size: int, length: int) -> None:
    if size == 1 and length > 3_000:
        size = 37
    data = bytes(range(256)) * (length // 256 + 1)
    data = data[:length]
    a, b = alice(), bob()
    a.send_message(length, io.BytesIO(data).read, success_report=True)
    b.send_message(None, io.BytesIO(data).read)
    to_a, to_b = exchange(a, b, size)
    for events in (to_a, to_b):
        assert data_of(events) == data
        assert [event.size for event in only(events, MessageComplete)] == [length]
        assert len(only(events, MessageAccepted)) == 1
    reports = only(to_a, ReportIn)
    assert [(event.status, event.byte_range) for event in reports] == [(200, ByteRange(1, length, length))]
    assert a.idle
    assert b.idle


def test_chunks_carry_exact_ranges_and_large_ones_are_interruptible() -> None:
    a = alice()
    a.send_message(150_000, io.BytesIO(bytes(150_000)).read)
    found = heads(drain(a, 200_000))
    assert [head.get("Byte-Range") for head in found] == ["1-*/150000", "65537-*/150000", "131073-*/150000"]
    assert {head.get("Content-Type") for head in found} == {"application/octet-stream"}
    small = alice(limits=SessionLimits(chunk=1_000))
    small.send_message(None, io.BytesIO(bytes(2_500)).read)
    assert [head.get("Byte-Range") for head in heads(drain(small))] == ["1-1000/*", "1001-2000/*", "2001-2500/2500"]


def test_memory_stays_bounded_for_a_long_message() -> None:
    asked: list[int] = []

    def read(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    a = alice()
    a.send_message(1 << 40, read)
    assert asked == []
    first = a.next_output(1 << 30, 0.0)
    assert first is not None
    assert len(first) < 67_000
    assert asked == [65_536]


def test_unanswered_chunks_stop_at_the_window() -> None:
    a, b = alice(limits=SessionLimits(window=3, chunk=2_048)), bob()
    a.send_message(20_000, io.BytesIO(bytes(20_000)).read)
    held = drain(a)
    assert len(heads(held)) == 3
    b.feed(held, 0.0)
    a.feed(drain(b), 0.0)
    assert len(heads(drain(a))) == 3


def test_messages_take_turns() -> None:
    a = alice()
    long = a.send_message(200_000, io.BytesIO(bytes(200_000)).read)
    short = a.send_text("now")
    order = [head.get("Message-ID") for head in heads(drain(a))]
    assert order == [long, short, long, long, long]


def test_responses_go_before_chunks() -> None:
    a, b = alice(), bob()
    b.feed(drain(a), 0.0)
    b.send_text("x")
    kinds = [type(head) for head in heads(drain(b))]
    assert kinds == [ResponseHead, RequestHead]


def test_the_transaction_id_is_not_in_the_body() -> None:
    a, b = alice(), bob()
    ids = Ids("a")
    body = b"".join(b"\r\n-------" + ids.token().encode() + b"$\r\n" for _ in range(3))
    a.send_message(len(body), io.BytesIO(body).read)
    _, to_b = exchange(a, b)
    assert data_of(to_b) == body
    assert len(only(to_b, MessageComplete)) == 1


def test_chunks_out_of_order_and_overlapping() -> None:
    b = bob()
    events: list[SessionEvent] = []
    for part, start, flag in ((b"world", 7, "$"), (b"HELLO", 1, "+"), (b"lo, w", 4, "+")):
        events += b.feed(send(part, flag=flag, byte_range=f"{start}-*/11"), 0.0)
    assert data_of(events) == b"HELlo, wrld"
    assert [event.size for event in only(events, MessageComplete)] == [11]
    assert b.idle is False
    drain(b)
    assert b.idle


def test_a_message_is_complete_only_when_no_octet_is_missing() -> None:
    b = bob()
    events = b.feed(send(b"cc", byte_range="5-6/6") + send(b"aa", flag="+", byte_range="1-2/6"), 0.0)
    assert only(events, MessageComplete) == []
    events += b.feed(send(b"bb", flag="+", byte_range="3-4/6"), 0.0)
    assert only(events, MessageComplete) == [MessageComplete("mess1234", 6)]
    assert data_of(events) == b"aabbcc"


def test_an_abandoned_message() -> None:
    b = bob()
    events = b.feed(send(b"aa", flag="+") + send(b"", flag="#", byte_range="3-2/*"), 0.0)
    assert events[-1] == MessageAborted("mess1234", "abandoned by its sender")


@pytest.mark.parametrize(
    ("options", "octets", "status"),
    [
        ({}, send(b"x", to="msrp://b.example.com:2000/other;tcp"), 481),
        ({}, send(b"x", to="msrps://b.example.com:2000/bbbb;tcp"), 481),
        ({"match": "session-id"}, send(b"x", to="msrps://192.0.2.1:9/bbbb;tcp"), 200),
        ({"match": "session-id"}, send(b"x", to="msrps://192.0.2.1:9/cccc;tcp"), 481),
        ({}, send(b"x", to="msrp://B.example.COM:2000/bbbb;TCP"), 200),
        ({}, send(b"x", to=f"{A} {B}"), 481),
        ({}, send(b"x", to="nonsense"), 400),
        ({}, send(b"x", byte_range="9-1/3"), 400),
        ({}, send(b"x", message_id="no"), 400),
        ({"accept_types": ("message/cpim", "image/*")}, send(b"x"), 415),
        ({"accept_types": ("message/cpim", "text/*")}, send(b"x", content_type="Text/Plain;charset=utf-8"), 200),
        ({"limits": SessionLimits(message=10)}, send(b"x", byte_range="1-*/11"), 413),
        ({"limits": SessionLimits(message=10)}, send(b"x" * 11), 413),
        ({"limits": SessionLimits(message=10)}, send(b"x", byte_range="11-11/*"), 413),
        ({"limits": SessionLimits(messages=0)}, send(b"x"), 413),
        ({}, send(None), 200),
        ({}, send(None, method="AUTH"), 501),
    ],
)
def test_what_a_request_is_answered(options: dict[str, object], octets: bytes, status: int) -> None:
    b = bob(**options)
    events = b.feed(octets, 0.0)
    responses = heads(drain(b))
    assert [head.status for head in responses if isinstance(head, ResponseHead)] == [status]
    assert (len(only(events, MessageComplete)) == 1) is (status == 200 and b"Content-Type" in octets)
    assert b.bound is (status == 200 or bool(only(events, MessageAborted)))
    assert not b.failed


def test_no_response_where_none_is_wanted() -> None:
    b = bob()
    b.feed(send(b"x", extra=(("Failure-Report", "no"),)), 0.0)
    b.feed(send(b"x", extra=(("Failure-Report", "partial"),)), 0.0)
    b.feed(send(b"x", extra=(("Failure-Report", "no"),), to=A), 0.0)
    assert drain(b) == b""
    b.feed(send(b"x", extra=(("Failure-Report", "partial"),), to=A), 0.0)
    assert [head.get("To-Path") for head in heads(drain(b))] == [A]


def test_a_message_in_too_many_pieces_is_refused() -> None:
    b = bob(limits=SessionLimits(gaps=3))
    events: list[SessionEvent] = []
    for start in (1, 3, 5, 7, 9):
        events += b.feed(send(b"x", flag="+", byte_range=f"{start}-{start}/*"), 0.0)
    assert only(events, MessageAborted) == [MessageAborted("mess1234", "refused with 413")]
    assert [head.status for head in heads(drain(b)) if isinstance(head, ResponseHead)] == [200, 200, 200, 413, 413]


def test_refusing_stops_the_sender() -> None:
    a, b = alice(limits=SessionLimits(window=1)), bob()
    message_id = a.send_message(500_000, io.BytesIO(bytes(500_000)).read)
    b.feed(a.next_output(70_000, 0.0) or b"", 0.0)
    b.refuse(message_id)
    to_a, to_b = exchange(a, b)
    assert only(to_b, MessageComplete) == []
    assert only(to_a, MessageFailed) == [MessageFailed(message_id, 413, "Message Too Large")]
    assert drain(a) == b""


def respond(octets: bytes, status: int) -> bytes:
    return b"".join(
        ResponseHead(head.transaction_id, status, "", (("To-Path", A), ("From-Path", B))).to_bytes()
        for head in heads(octets)
    )


def test_what_waits_fails_with_the_status_that_ended_the_session() -> None:
    a = alice()
    greeting = a.next_output(10_000, 0.0) or b""
    message_id = a.send_text("too late")
    events = a.feed(respond(greeting, 481), 0.0)
    assert [(one.message_id, one.status) for one in only(events, MessageFailed)] == [(message_id, 481)]
    assert [one.status for one in only(events, SessionFailed)] == [481]


@pytest.mark.parametrize("status", [481, 506])
def test_no_session_at_the_peer_ends_ours(status: int) -> None:
    a = alice()
    message_id = a.send_text("x")
    events = a.feed(respond(drain(a), status), 0.0)
    assert [type(event) for event in events] == [ResponseIn, MessageFailed, SessionFailed]
    assert only(events, MessageFailed)[0].message_id == message_id
    assert a.failed
    assert a.next_output(1_000, 0.0) is None
    assert a.next_timer() is None
    assert a.feed(b"anything", 0.0) == []
    with pytest.raises(ProtocolError, match="session-over"):
        a.send_text("more")


def test_a_refused_first_request_ends_the_session() -> None:
    a = alice()
    assert [type(event) for event in a.feed(respond(drain(a), 403), 0.0)] == [SessionFailed]


@pytest.mark.parametrize(("report", "fails"), [("yes", True), ("partial", True), ("no", False)])
def test_an_error_response_fails_the_message(report: str, fails: bool) -> None:
    a = alice()
    a.send_text("x", failure_report=report)
    events = a.feed(respond(drain(a), 415), 0.0)
    assert [event.status for event in only(events, MessageFailed)] == ([415] if fails else [])


def test_a_failure_report_fails_the_message_and_strangers_are_ignored() -> None:
    a = alice()
    message_id = a.send_text("x", success_report=True)
    a.feed(respond(drain(a), 200), 0.0)

    def report(about: str, status: str) -> bytes:
        return send(None, to=A, method="REPORT", message_id=about, extra=(("Status", status),), byte_range="1-1/1")

    assert a.feed(report("stranger", "000 200 OK") + report(message_id, "001 200 OK"), 0.0) == []
    assert a.feed(report(message_id, "000 408 late"), 0.0) == [
        ReportIn(message_id, 408, "late", ByteRange(1, 1, 1)),
        MessageFailed(message_id, 408, "late"),
    ]
    assert drain(a) == b""


def test_no_response_in_time() -> None:
    a = alice()
    first = a.send_text("x")
    assert a.next_timer() is None
    drain(a, now=100.0)
    second = a.send_text("y")
    drain(a, now=110.0)
    assert a.next_timer() == 130.0
    assert a.expire(129.9) == []
    assert a.expire(130.0) == [MessageFailed(first, 408, "no response")]
    assert a.next_timer() == 140.0
    assert a.expire(140.0) == [MessageFailed(second, 408, "no response")]
    assert a.next_timer() is None


def test_an_unanswered_first_request_ends_the_session() -> None:
    a = alice()
    drain(a)
    assert a.expire(30.0) == [SessionFailed("no response to the first request", 408)]
    assert a.failed


def test_giving_up_a_message_tells_the_peer() -> None:
    a, b = alice(), bob()
    message_id = a.send_message(500_000, io.BytesIO(bytes(500_000)).read)
    b.feed(a.next_output(70_000, 0.0) or b"", 0.0)
    a.abort(message_id)
    to_a, to_b = exchange(a, b)
    assert only(to_b, MessageAborted) == [MessageAborted(message_id, "abandoned by its sender")]
    assert only(to_a, MessageFailed) == [MessageFailed(message_id, 0, "given up")]
    assert a.idle


def test_a_reader_that_ends_early_abandons_its_message() -> None:
    a, b = alice(), bob()
    message_id = a.send_message(10, io.BytesIO(b"four").read)
    to_a, to_b = exchange(a, b)
    assert data_of(to_b) == b"four"
    assert to_b[-1] == MessageAborted(message_id, "abandoned by its sender")
    assert only(to_a, MessageFailed)[0].status == 0


def test_a_reader_that_gives_little_at_a_time_still_fills_chunks() -> None:
    source = io.BytesIO(bytes(5_000))
    a = alice()
    a.send_message(5_000, lambda size: source.read(min(size, 7)))
    assert [head.get("Byte-Range") for head in heads(drain(a))] == ["1-*/5000"]


def test_broken_framing_ends_the_session_after_what_was_good() -> None:
    b = bob()
    events = b.feed(send(b"good") + b"nonsense", 0.0)
    assert len(only(events, MessageComplete)) == 1
    assert isinstance(events[-1], SessionFailed)
    assert b.failed
    assert len(heads(drain(b))) == 1


def test_a_lost_connection_fails_what_was_under_way() -> None:
    a, b = alice(), bob()
    message_id = a.send_message(500_000, io.BytesIO(bytes(500_000)).read)
    b.feed(a.next_output(70_000, 0.0) or b"", 0.0)
    assert a.connection_lost(0.0) == [
        MessageFailed(message_id, 0, "the connection has ended"),
        SessionFailed("the connection has ended"),
    ]
    assert b.connection_lost(0.0) == [
        MessageAborted(message_id, "the connection has ended"),
        SessionFailed("the connection has ended"),
    ]
    assert b.connection_lost(0.0) == []


def test_unread_responses_are_bounded() -> None:
    b = bob(limits=SessionLimits(backlog=1_000))
    events: list[SessionEvent] = []
    for _ in range(100):
        events += b.feed(send(b"x"), 0.0)
    assert len(only(events, SessionFailed)) == 1
    assert b.backlog <= 1_000


def test_the_queue_is_bounded() -> None:
    a = alice(limits=SessionLimits(queue=2))
    a.send_text("1")
    a.send_text("2")
    with pytest.raises(LimitExceeded, match=r"msrp\.queue"):
        a.send_text("3")


def test_a_bad_source_of_ids_is_a_bug_and_said_so() -> None:
    with pytest.raises(ValueError, match="no MSRP ident"):
        MsrpSession(A, B, ids=Ids("-")).send_text("x")


def test_fifty_megabytes_pass_both_ways_in_bounded_pieces() -> None:
    size = 50_000_000
    block = bytes(range(256)) * 256

    def reader() -> Callable[[int], bytes]:
        left = size

        def read(wanted: int) -> bytes:
            nonlocal left
            piece = block[: min(wanted, left)]
            left -= len(piece)
            return piece

        return read

    a, b = alice(), bob()
    a.send_message(size, reader())
    b.send_message(size, reader())
    got = [0, 0]
    complete = 0
    moved = True
    while moved:
        moved = False
        for index, (one, two) in enumerate(((a, b), (b, a))):
            piece = one.next_output(66_000, 0.0)
            if piece is None:
                continue
            moved = True
            for event in two.feed(piece, 0.0):
                if isinstance(event, Chunk):
                    assert event.offset == got[index]
                    got[index] += len(event.data)
                complete += isinstance(event, MessageComplete)
    assert got == [size, size]
    assert complete == 2
