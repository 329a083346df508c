"""Framing: bounded heads, bodies as views, ends that cannot be faked, and the same result for every cut."""

from collections.abc import Iterable

import pytest

from imswire.base import LimitExceeded, ProtocolError
from imswire.msrp.framer import BodyRead, EndRead, HeadRead, MsrpFramer

PATHS = b"To-Path: msrp://b:2/t;tcp\r\nFrom-Path: msrp://a:1/s;tcp\r\n"


def chunk(body: bytes | None, tid: bytes = b"tid12345", flag: bytes = b"$", method: bytes = b"SEND") -> bytes:
    head = b"MSRP " + tid + b" " + method + b"\r\n" + PATHS + b"Message-ID: abcd\r\n"
    if body is not None:
        head += b"Content-Type: text/plain\r\n\r\n" + body + b"\r\n"
    return head + b"-------" + tid + flag + b"\r\n"


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


Outcome = list[tuple[str, bytes | str]]


def run(data: Iterable[bytes], limit: int = 8_192) -> Outcome:
    """Events with neighbouring body pieces joined, and the reason of an error at the end."""
    framer = MsrpFramer(limit)
    seen: Outcome = []
    body = bytearray()
    try:
        for piece in data:
            for event in framer.feed(piece):
                if isinstance(event, BodyRead):
                    body += event.data
                    continue
                if isinstance(event, HeadRead):
                    seen.append(("head", event.raw))
                else:
                    seen += [("body", bytes(body)), ("end", event.flag)]
                    body.clear()
    except ProtocolError as error:
        seen += [("body", bytes(body)), ("error", error.reason)]
    return seen


def bodies(outcome: Outcome) -> list[bytes | str]:
    return [value for kind, value in outcome if kind == "body"]


TID = b"tid12345"
LOOK_ALIKES = [
    b"-------tid12345$",
    b"x-------tid12345$\r\n",
    b"\r\n-------tid12345",
    b"\r\n-------tid12345!\r\n",
    b"\r\n-------tid12345$x",
    b"\r\n-------tid12345$\rx",
    b"\r\n-------tid12345$\r\r\n-------tid12345$",
    b"\r\n-------tid12346$\r\n",
    b"\r\n------tid12345$\r\n",
    b"\r\r\n-------tid1234",
    b"\r\n\r\n-------",
    b"\n-------tid12345$\r\n",
    b"-" * 40,
]


@pytest.mark.parametrize("look_alike", LOOK_ALIKES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_look_alikes_are_body(look_alike: bytes, size: int) -> None:
    body = b"before" + look_alike + b"after"
    stream = chunk(body) + chunk(look_alike, b"other678", b"+") + chunk(None)
    outcome = run(pieces(stream, size))
    assert bodies(outcome) == [body, look_alike, b""]
    assert [value for kind, value in outcome if kind == "end"] == ["$", "+", "$"]


@pytest.mark.parametrize("size", [1, 5, 1_000])
def test_heads_bodies_and_responses(size: int) -> None:
    response = b"MSRP resp1234 200 OK\r\n" + PATHS + b"-------resp1234$\r\n"
    stream = chunk(b"") + response + chunk(b"\r\n", flag=b"#") + chunk(None, method=b"REPORT")
    outcome = run(pieces(stream, size))
    assert [kind for kind, _ in outcome] == ["head", "body", "end"] * 4
    assert bodies(outcome) == [b"", b"", b"\r\n", b""]
    assert outcome[3] == ("head", response[: -len("-------resp1234$\r\n")])


@pytest.mark.parametrize("size", [1, 1_000])
def test_an_empty_body_may_lack_its_own_line_end(size: int) -> None:
    stream = chunk(b"").replace(b"\r\n\r\n\r\n", b"\r\n\r\n")
    assert bodies(run(pieces(stream + chunk(b"x"), size))) == [b"", b"x"]


@pytest.mark.parametrize("size", [1, 1_000])
def test_a_body_that_begins_like_an_end(size: int) -> None:
    assert bodies(run(pieces(chunk(b"-------tid1234"), size))) == [b"-------tid1234"]


def test_bodies_are_views_of_what_was_fed() -> None:
    framer = MsrpFramer()
    head = chunk(b"x").partition(b"x\r\n")[0]
    assert len(list(framer.feed(head))) == 1
    big = b"y" * 100_000
    events = list(framer.feed(big))
    # The blank line's CRLF was held back in case an end-line followed; it is not body and is not handed on.
    assert len(events) == 1
    assert isinstance(events[0], BodyRead)
    assert events[0].data.obj is big
    assert framer.pending == 0
    assert not framer.idle
    assert list(framer.feed(b"\r\n-------tid12345+\r\n")) == [EndRead("+")]
    assert framer.idle


def test_a_buffer_that_is_used_again_is_copied() -> None:
    framer = MsrpFramer()
    buffer = bytearray(chunk(b"stays"))
    body = [event for event in framer.feed(memoryview(buffer)) if isinstance(event, BodyRead)]
    buffer[:] = bytes(len(buffer))
    assert bytes(body[0].data) == b"stays"


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_a_head_is_bounded(size: int) -> None:
    whole = chunk(None)
    assert [kind for kind, _ in run(pieces(whole, size), len(whole))] == ["head", "body", "end"]
    assert run(pieces(whole, size), len(whole) - 1) == [("body", b""), ("error", "msrp.head-size")]
    with pytest.raises(LimitExceeded):
        list(MsrpFramer().feed(b"MSRP " + b"x" * 10_000))


def test_what_is_held_never_exceeds_the_bound() -> None:
    framer = MsrpFramer(200)
    stream = chunk(b"\r\n-------tid1234" * 50) * 3
    for piece in pieces(stream, 3):
        list(framer.feed(piece))
        assert framer.pending <= 200


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "msrp.start-line"),
        (b"MSRQ", "msrp.start-line"),
        (b"\r\nMSRP", "msrp.start-line"),
        (b"MSRP tid12345 send\r\n", "msrp.start-line"),
        (b"MSRP tid12345 SEND\r\nTo-Path\r\n\r\n", "msrp.header"),
        (b"MSRP tid12345 SEND\r\n-------tid12345!\r\n", "msrp.end-line"),
        (b"MSRP tid12345 SEND\r\n-------tid12345$x\n", "msrp.end-line"),
        (b"MSRP tid12345 200 OK\r\nA: b\r\n-------tid12345+\r\n", "msrp.end-line"),
        (b"MSRP tid12345 200 OK\r\nA: b\r\n\r\n", "msrp.response-body"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_broken_framing_ends_after_what_was_good(stream: bytes, reason: str, size: int) -> None:
    outcome = run(pieces(chunk(b"good") + stream, size))
    assert [kind for kind, _ in outcome[:3]] == ["head", "body", "end"]
    assert outcome[-1] == ("error", reason)


def test_after_an_error_every_call_raises_it() -> None:
    framer = MsrpFramer()
    for data in (b"nonsense", chunk(b"x")):
        with pytest.raises(ProtocolError, match="start-line"):
            list(framer.feed(data))
