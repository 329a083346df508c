"""The short way through the parser gives what the general way gives, or leaves the message to it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples
from tests.fuzz.test_fuzz_sip import damaged
from tests.unit.imswire_sip.sip_samples import INVITE, INVITE_LINES, raw

from imswire.sip.faults import DEFAULT_LIMITS, BadMessage, Limits
from imswire.sip.lines import KnownLines
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse, parse_any
from imswire.sip.usual import KnownShapes, KnownStarts, usual

USUAL = (
    "Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bKabc",
    "Max-Forwards: 70",
    "From: <sip:alice@example.org>;tag=a1",
    "To: <sip:bob@example.org>",
    "Call-ID: call-1@198.51.100.7",
    "CSeq: 7 INVITE",
    "Contact: <sip:alice@198.51.100.7:40000>",
    "Content-Length: 4",
)
START = "INVITE sip:bob@example.org SIP/2.0"
LINES = (
    *USUAL,
    "v: SIP/2.0/TCP h;branch=z9hG4bKb;rport, SIP/2.0/UDP i",
    "Via: " + ", ".join(["SIP/2.0/UDP h"] * 9),
    "Via: SIP/2.0/UDP h, broken",
    "Via: broken",
    "f: <sip:a@b>",
    "To: <sip:bob",
    "CSeq: 7 BYE",
    "CSeq:  7   INVITE",
    "CSeq: 99999999999 INVITE",
    "Call-ID: two words",
    "Call-ID:",
    "l: 4",
    "Content-Length: 04",
    "Content-Length: 3",
    "Content-Length: 5",
    "Content-Length: x",
    "Max-Forwards: 70, 1",
    "Subject: folded",
    " on",
    "\ton: on",
    "X: a\rb",
    "X: a\nTo: <sip:c@d>",
    "X:\x85value\xa0",
    "no colon",
    "bad name: x",
    "X : spaced",
    "X:" + "a" * 300,
    "Route: <sip:a;lr>, <sip:b;lr>",
    "Record-Route: <sip:a;lr>",
)
STARTS = (
    START,
    "SIP/2.0 200 OK",
    "SIP/2.0 180 ",
    "sip/2.0 180",
    "SIP/2.0 200 O\rK",
    "BYE sip:a SIP/2.0",
    "INVITE sip:" + "a" * 300 + " SIP/2.0",
    "FOO sip:a SIP/2.0",
    "INVITE sip:a SIP/7.0",
    "INVITE  sip:a SIP/2.0",
    "",
    " INVITE sip:a SIP/2.0",
)
SMALL = Limits(message=400, header_bytes=350, headers=12, header_line=320, uri=60, vias=9)


def seen(read: object, data: bytes, limits: Limits) -> tuple[object, ...]:
    """All that can be told of a message that is read, or of its fault."""
    try:
        message = read(data, limits)  # type: ignore[operator]
    except BadMessage as error:
        saved = None if error.message is None else (error.message.start_line, error.message.headers.text)
        return error.reason, error.hint, error.offset, error.status, saved
    start = (message.method, message.uri) if type(message) is Request else (message.status, message.reason)
    headers = message.headers
    firsts = [headers.get(key) for key in headers.keys]
    return type(message), start, headers.keys, list(headers), headers.text, firsts, message.body


def alike(data: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
    assert seen(parse, data, limits) == seen(parse_any, data, limits)
    assert seen(parse, data, limits) == seen(parse_any, data, limits)  # and again, with what is remembered by now


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("line", LINES)
def test_one_odd_line_in_every_place(start: str, line: str) -> None:
    for place in range(len(USUAL) + 1):
        alike(raw(start, *USUAL[:place], line, *USUAL[place:], body=b"v=0\n"))
        alike(raw(start, *USUAL[:place], line, *USUAL[place + 1 :], body=b"v=0\n"))


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES), max_size=14),
    st.booleans(),
    st.sampled_from([b"v=0\n", b"", b"v=0\nmore", b"\r\n\r\n"]),
    st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
    st.sampled_from([DEFAULT_LIMITS, SMALL]),
)
def test_any_lines(start: str, lines: list[str], whole: bool, body: bytes, before: bytes, limits: Limits) -> None:
    alike(before + raw(start, *(USUAL if whole else ()), *lines, body=body), limits)


@settings(max_examples=examples(200), deadline=None)
@given(damaged())
def test_damaged_messages(data: bytes) -> None:
    alike(data)


@pytest.mark.parametrize("data", [INVITE, raw(START, *USUAL, body=b"v=0\n"), INVITE[:-2], b"\r\n\r\n", b""])
def test_limits_hold_in_both_ways(data: bytes) -> None:
    for size in range(0, 1200, 7):
        alike(data, Limits(message=size))
        alike(data, Limits(header_bytes=size))
        alike(data, Limits(header_line=size))
        alike(data, Limits(uri=size))
        alike(data, Limits(headers=size // 7))
        alike(data, Limits(vias=size // 7))


def test_usual_messages_go_the_short_way() -> None:
    request = raw(START, *USUAL)
    head = request.partition(b"\r\n\r\n")[0]
    assert type(usual(head, b"v=0\n", DEFAULT_LIMITS)) is Request
    assert type(usual(head.replace(START.encode(), b"SIP/2.0 200 OK"), b"v=0\n", DEFAULT_LIMITS)) is Response
    assert usual(head, b"v=0\n!", DEFAULT_LIMITS) is None
    assert usual(raw(*INVITE_LINES).partition(b"\r\n\r\n")[0], b"v=0\n", DEFAULT_LIMITS) is None  # a folded line


def test_what_is_remembered_is_bounded() -> None:
    lines, starts, shapes = KnownLines(), KnownStarts(), KnownShapes()
    base = ("via", "from", "to", "call-id", "cseq", "content-length")
    for number in range(5_000):
        assert lines[f"X-{number}: a"] == (f"x-{number}", "a")
        assert lines[f"Y-{number}: {'a' * 300}"] == (f"y-{number}", "a" * 300)
        assert starts[f"OPTIONS sip:{number} SIP/2.0"] == ("OPTIONS", f"sip:{number}", 0)
        assert starts[f"OPTIONS sip:{number}{'a' * 300} SIP/2.0"][0] == "OPTIONS"
        assert shapes[(*base, f"x{number}")].index["to"] == 2
        assert len(lines) <= 2_048
        assert len(starts) <= 1_024
        assert len(shapes) <= 512
    assert max(map(len, lines)) <= 256
    assert max(map(len, starts)) <= 256
