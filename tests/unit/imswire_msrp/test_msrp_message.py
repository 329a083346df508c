"""URIs and their comparison, heads, responses and reports."""

import pytest

from imswire.base import ProtocolError
from imswire.msrp.message import (
    ByteRange,
    RequestHead,
    ResponseHead,
    Status,
    is_ident,
    parse_head,
    report_on,
    response_to,
)
from imswire.msrp.uri import MsrpUri, parse_path

BASE = "msrp://bob.example.com:8493/si438ds;tcp"


@pytest.mark.parametrize(
    "other",
    [
        BASE,
        "MSRP://bob.example.com:8493/si438ds;tcp",
        "msrp://BOB.example.com:8493/si438ds;TCP",
        "msrp://user@bob.example.com:8493/si438ds;tcp",
        "msrp://%62ob.example.com:8493/si438ds;tcp;foo=bar",
    ],
)
def test_equivalent_uris(other: str) -> None:
    assert MsrpUri.parse(BASE).same_as(MsrpUri.parse(other))


@pytest.mark.parametrize(
    "other",
    [
        "msrps://bob.example.com:8493/si438ds;tcp",
        "msrp://bob.example.org:8493/si438ds;tcp",
        "msrp://bob.example.com:8494/si438ds;tcp",
        "msrp://bob.example.com/si438ds;tcp",
        "msrp://bob.example.com:8493/SI438ds;tcp",
        "msrp://bob.example.com:8493;tcp",
        "msrp://bob.example.com:8493/si438ds;sctp",
    ],
)
def test_different_uris(other: str) -> None:
    assert not MsrpUri.parse(BASE).same_as(MsrpUri.parse(other))


def test_addresses_are_compared_by_value() -> None:
    one, two = MsrpUri.parse("msrp://[2001:DB8:0::1]:9/s;tcp"), MsrpUri.parse("msrp://[2001:db8::0:1]:9/s;tcp")
    assert one.same_as(two)
    assert str(two) == "msrp://[2001:db8::0:1]:9/s;tcp"


def test_matching_by_session_id_alone() -> None:
    here = MsrpUri.parse(BASE)
    assert here.same_session(MsrpUri.parse("msrps://192.0.2.1:9/si438ds;tcp"))
    assert not here.same_session(MsrpUri.parse("msrps://192.0.2.1:9/other;tcp"))
    bare = MsrpUri.parse("msrp://h:1;tcp")
    assert not bare.same_session(bare)


@pytest.mark.parametrize("text", ["", "msrp:/h;tcp", "msrp://h:1/s", "msrp://h:99999/s;tcp", "msrp://h h:1/s;tcp"])
def test_bad_uris(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"msrp\.uri"):
        MsrpUri.parse(text)


def test_paths() -> None:
    assert [uri.host for uri in parse_path(f"msrp://relay:1/r;tcp {BASE}")] == ["relay", "bob.example.com"]
    with pytest.raises(ProtocolError):
        parse_path("  ")


@pytest.mark.parametrize("text", ["1-0/0", "1-25/25", "1-*/*", "2049-*/100000", "7-6/*"])
def test_byte_range_round_trip(text: str) -> None:
    assert str(ByteRange.parse(text)) == text


@pytest.mark.parametrize("text", ["", "0-1/1", "5-3/9", "1-10/9", "12-*/9", "1-/9", "1-1", "a-b/c", "1-1/1/1"])
def test_bad_byte_ranges(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"msrp\.byte-range"):
        ByteRange.parse(text)


def test_status_round_trip() -> None:
    assert Status.parse("000 200 OK") == Status(200, "OK")
    assert str(Status(413)) == "000 413"
    with pytest.raises(ProtocolError):
        Status.parse("200 OK")


SEND = (
    b"MSRP a786hjs2 SEND\r\n"
    b"To-Path: msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp\r\n"
    b"From-Path: msrp://relay.example.com:1/r;tcp msrp://atlanta.example.com:7654/jshA7weztas;tcp\r\n"
    b"Message-ID: 87652491\r\n"
    b"Byte-Range: 1-25/25\r\n"
    b"X-Odd: caf\xe9 :x\r\n"
    b"Content-Type: text/plain\r\n"
)


def request(raw: bytes = SEND, *, has_body: bool = True) -> RequestHead:
    head = parse_head(raw, has_body=has_body)
    assert isinstance(head, RequestHead)
    return head


def test_a_send_head() -> None:
    head = request()
    head.validate()
    assert (head.transaction_id, head.method, head.message_id) == ("a786hjs2", "SEND", "87652491")
    assert head.byte_range == ByteRange(1, 25, 25)
    assert (head.success_report, head.failure_report) == (False, "yes")
    assert head.get("content-TYPE") == head.content_type == "text/plain"
    assert head.to_bytes() == SEND + b"\r\n"
    assert head.end_line("+") == b"\r\n-------a786hjs2+\r\n"


def test_a_response_head() -> None:
    raw = b"MSRP a786hjs2 200 OK fine\r\nTo-Path: msrp://a:1/s;tcp\r\nFrom-Path: msrp://b:2/t;tcp\r\n"
    head = parse_head(raw)
    assert isinstance(head, ResponseHead)
    assert (head.status, head.comment, head.to_path, head.from_path) == (
        200,
        "OK fine",
        "msrp://a:1/s;tcp",
        "msrp://b:2/t;tcp",
    )
    assert head.to_bytes() == raw + b"-------a786hjs2$\r\n"
    bare = parse_head(b"MSRP a786hjs2 481\r\n")
    assert bare.to_bytes() == b"MSRP a786hjs2 481\r\n-------a786hjs2$\r\n"
    with pytest.raises(ProtocolError, match=r"msrp\.to-path"):
        _ = bare.to_path


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "msrp.start-line"),
        (b"MSRP abc SEND\r\n", "msrp.start-line"),
        (b"MSRP -abcd SEND\r\n", "msrp.start-line"),
        (b"MSRP abcd send\r\n", "msrp.start-line"),
        (b"MSRP abcd 20\r\n", "msrp.start-line"),
        (b"MSRP  abcd SEND\r\n", "msrp.start-line"),
        (b"msrp abcd SEND\r\n", "msrp.start-line"),
        (b"MSRP abcd SEND", "msrp.header"),
        (b"MSRP abcd SEND\r\nTo-Path\r\n", "msrp.header"),
        (b"MSRP abcd SEND\r\n: x\r\n", "msrp.header"),
        (b"MSRP abcd SEND\r\nA: x\x00\r\n", "msrp.header"),
        (b"MSRP abcd SEND\r\nA: x\ny\r\n", "msrp.header"),
    ],
)
def test_bad_heads(raw: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_head(raw)
    assert caught.value.reason == reason


def test_a_response_has_no_body() -> None:
    with pytest.raises(ProtocolError, match="response-body"):
        parse_head(b"MSRP abcd 200 OK\r\n", has_body=True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"To-Path", b"X-Path", "msrp.paths"),
        (b"From-Path", b"X-Path", "msrp.paths"),
        (b"To-Path: msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp", b"To-Path: ", "msrp.paths"),
        (b"Message-ID", b"X-ID", "msrp.message-id"),
        (b"87652491", b"8 7", "msrp.message-id"),
        (b"1-25/25", b"25-1/25", "msrp.byte-range"),
        (b"X-Odd: caf\xe9 :x", b"Success-Report: maybe", "msrp.success-report"),
        (b"X-Odd: caf\xe9 :x", b"Failure-Report: maybe", "msrp.failure-report"),
        (b"Content-Type", b"X-Type", "msrp.content-type"),
        (b" SEND", b" REPORT", "msrp.status"),
    ],
)
def test_validation(old: bytes, new: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        request(SEND.replace(old, new)).validate()
    assert caught.value.reason == reason


def test_other_methods_need_only_the_paths() -> None:
    request(b"MSRP abcd AUTH\r\nTo-Path: x\r\nFrom-Path: y\r\n", has_body=False).validate()


def test_a_response_to_send_goes_one_hop_back() -> None:
    response = response_to(request(), 200)
    assert response is not None
    assert response.headers == (
        ("To-Path", "msrp://relay.example.com:1/r;tcp"),
        ("From-Path", "msrp://biloxi.example.com:12763/kjhd37s2s20w2a;tcp"),
    )
    other = response_to(request(SEND.replace(b" SEND", b" AUTH")), 501, "msrp://me:1/s;tcp")
    assert other is not None
    assert other.to_path.endswith("jshA7weztas;tcp")
    assert other.from_path == "msrp://me:1/s;tcp"


@pytest.mark.parametrize(
    ("report", "status", "answered"),
    [
        ("yes", 200, True),
        ("yes", 413, True),
        ("no", 200, False),
        ("no", 481, False),
        ("partial", 200, False),
        ("partial", 415, True),
    ],
)
def test_failure_report_decides_about_responses(report: str, status: int, answered: bool) -> None:
    raw = SEND.replace(b"X-Odd: caf\xe9 :x", b"Failure-Report: " + report.encode())
    assert (response_to(request(raw), status) is not None) is answered


def test_a_report_is_never_answered_and_carries_the_whole_path() -> None:
    report = report_on(request(), "tid12345", "msrp://me:1/s;tcp", Status(200, "OK"), ByteRange(1, 25, 25))
    report.validate()
    assert report.to_path == request().from_path
    assert report.to_bytes().endswith(b"Message-ID: 87652491\r\nByte-Range: 1-25/25\r\nStatus: 000 200 OK\r\n")
    assert response_to(report, 481) is None


def test_a_head_that_would_break_its_lines_is_not_written() -> None:
    for headers in ((("A", "x\r\nB: y"),), (("A b", "x"),)):
        with pytest.raises(ProtocolError, match=r"msrp\.header"):
            RequestHead("abcd", "SEND", headers).to_bytes()


@pytest.mark.parametrize(("text", "good"), [("a786", True), ("a" * 32, True), ("abc", False), ("a" * 33, False)])
def test_idents(text: str, good: bool) -> None:
    assert is_ident(text) is good
