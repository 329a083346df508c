"""The session description inside a body: found, replaced and taken out; the rest keeps its octets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsalg.core.sdp_body import drop_sdp, put_sdp, readable, sdp_of
from imsalg.core.sip_call import Answer
from imswire.sip.headers import Headers
from imswire.sip.message import Request

SDP = b"v=0\r\ns=-\r\n"


def message(kind: str, body: bytes, *more: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:bob@example.net", Headers((("Content-Type", kind), *more)), body)


def parts(*inner: bytes, boundary: bytes = b"b1", preamble: bytes = b"") -> bytes:
    return preamble + b"".join(b"--%s\r\n%s\r\n" % (boundary, one) for one in inner) + b"--%s--\r\n" % boundary


TEXT = b"Content-Type: text/plain\r\n\r\nhello"
PART = b"Content-Type: application/sdp\r\nContent-Disposition: session\r\n\r\n" + SDP


def test_a_body_that_is_sdp() -> None:
    one = message("application/SDP; x=1", SDP)
    assert sdp_of(one) == SDP
    put_sdp(one, b"new")
    assert one.body == b"new"
    drop_sdp(one)
    assert (one.body, "content-type" in one.headers) == (b"", False)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/mixed;boundary=b1", parts(TEXT, PART)),
        ('multipart/mixed; boundary="b1"', parts(PART, TEXT)),
        ("multipart/related;boundary=b1", parts(TEXT, PART, TEXT, preamble=b"read me\r\n")),
        ("multipart/mixed;boundary=b1", parts(b"\r\nno header", PART)),
    ],
)
def test_a_part_of_a_multipart_body(kind: str, body: bytes) -> None:
    one = message(kind, body)
    assert sdp_of(one) == SDP
    put_sdp(one, b"v=0 longer than before")
    assert one.body == body.replace(SDP, b"v=0 longer than before")
    put_sdp(one, SDP)
    assert one.body == body
    drop_sdp(one)
    assert sdp_of(one) is None
    assert one.body == body.replace(b"--b1\r\n" + PART + b"\r\n", b"")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", SDP),
        ("multipart/mixed", parts(PART)),
        ("multipart/mixed;boundary=other", parts(PART)),
        ("multipart/mixed;boundary=b1", parts(TEXT)),
        ("multipart/mixed;boundary=b1", parts(b"Content-Transfer-Encoding: base64\r\n" + PART)),
        ("multipart/mixed;boundary=b1", b"--b1\r\n" + PART),
        ("multipart/mixed;boundary=b1", b"--b1"),
        ("application/sdp", b""),
    ],
)
def test_no_session_description(kind: str, body: bytes) -> None:
    assert sdp_of(message(kind, body)) is None


@given(st.binary(max_size=40), st.lists(st.sampled_from([TEXT, PART, b"", b"\r\n", b"--b1", b"\r\n\r\n"]), max_size=5))
def test_any_body_can_be_looked_at(start: bytes, inner: list[bytes]) -> None:
    one = message("multipart/mixed;boundary=b1", start + parts(*inner))
    found = sdp_of(one)
    if found is not None:
        before = one.body
        put_sdp(one, found)
        assert one.body == before
        drop_sdp(one)
        assert len(one.body) < len(before)


def test_an_encoded_body_is_refused() -> None:
    with pytest.raises(Answer) as caught:
        readable(message("application/sdp", SDP, ("Content-Encoding", "gzip")))
    assert caught.value.status == 415
    readable(message("application/sdp", SDP, ("Content-Encoding", "identity")))
    readable(message("text/plain", b"x", ("Content-Encoding", "gzip")))


NESTED = b"Content-Type: multipart/alternative;boundary=b2\r\n\r\n" + parts(PART, boundary=b"b2")
CODED = b"Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0wDQo="


@pytest.mark.parametrize(
    "body", [parts(PART, PART), parts(PART, NESTED), parts(TEXT, NESTED), parts(CODED), parts(*[TEXT] * 20, PART)]
)
def test_sdp_that_is_not_the_one_part_that_is_judged_is_refused(body: bytes) -> None:
    with pytest.raises(Answer) as caught:
        readable(message("multipart/mixed;boundary=b1", body))
    assert caught.value.status == 488


@pytest.mark.parametrize("body", [parts(TEXT), parts(TEXT, PART)])
def test_a_multipart_body_that_can_be_judged_passes(body: bytes) -> None:
    readable(message("multipart/mixed;boundary=b1", body))
