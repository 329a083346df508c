"""The short way of reading a usual body gives what the way line by line gives, for all that it lets through."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imswire.base import ProtocolError
from imswire.sdp import model
from imswire.sdp.model import Limits, SessionDescription

SESSION = ["v=0", "o=alice 1 2 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", "a=setup:actpass"]
MEDIA = [
    "m=message 9 TCP/TLS/MSRP *",
    "a=path:msrps://192.0.2.1:9/x;tcp",
    "a=msrp-cema",
    "m=audio 65535 RTP/AVP 0 8",
    "c=IN IP6 ::1",
    "b=AS:64",
]
ODD = [
    "m=audio 65536 RTP/AVP 0",
    "m=audio 4/2 RTP/AVP 0",
    "m=audio 4/0 RTP/AVP 0",
    "m=audio  4 RTP/AVP 0",
    "m=a=b 0 RTP/AVP  0 \t8",
    "c=IN IP4",
    "c=IN IP4 a b",
    "o=- 1 x IN IP4 h",
    "t=0",
    "t=0 0 0",
    "s=\x85",
    "s=",
    "a=",
    "x=1",
    "=1",
    "",
    "a=\r",
    "a=x\0",
    "v=0",
    "v=1",
]


BOUNDS = Limits()


def outcome(read: Callable[[], SessionDescription]) -> object:
    try:
        sdp = read()
    except ProtocolError as error:
        return type(error), error.reason, error.hint, error.offset
    sections = [(media.line(), media.port, media.formats, media.media, media.proto) for media in sdp.media]
    lines = [(section.lines, section.attributes, section.connection) for section in (sdp, *sdp.media)]
    return sdp.to_bytes(), sections, lines


def both(body: bytes, limits: Limits = BOUNDS) -> None:
    text = body.decode("utf-8", "surrogateescape")
    short = outcome(lambda: SessionDescription.parse(body, limits))
    assert short == outcome(lambda: SessionDescription._general(body, text, limits))


def test_the_short_way_is_taken() -> None:
    text = "\r\n".join([*SESSION, *MEDIA, ""])
    assert model._USUAL.fullmatch(text) is not None
    both(text.encode())


@pytest.mark.parametrize("limits", [Limits(lines=11), Limits(lines=12), Limits(media=1), Limits(media=2)])
def test_bounds_hold_on_the_short_way(limits: Limits) -> None:
    both("\r\n".join([*SESSION, *MEDIA, ""]).encode(), limits)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(ODD + SESSION + MEDIA), st.booleans()), max_size=3),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from(["", "\r\n", "\n", "\r\n\r\n"]),
)
def test_both_ways_say_the_same(changes: list[tuple[int, str, bool]], ending: str, last: str) -> None:
    lines = [*SESSION, *MEDIA]
    for at, line, instead in changes:
        lines[at : at + instead] = [line]
    both((ending.join(lines) + last).encode("utf-8", "surrogateescape"))


NAMES = ["setup", "path", "msrp-cema", "fingerprint"]


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(["a=setup:x", "a=path:y", "a=msrp-cema", "a=setupx:1", "b=AS:1", "a=setup"]), max_size=6),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([None, "", "z"])),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from(["\r\n", "\n"]),
)
def test_changes_together_are_the_changes_one_by_one(
    lines: list[str], wanted: dict[str, str | None], first: str, rest: str
) -> None:
    body = SESSION[0] + first + rest.join([*SESSION[1:], MEDIA[0], *lines, ""])
    together, single = (SessionDescription.parse(body.encode()) for _ in range(2))
    together.media[0].change(wanted)
    media = single.media[0]
    there = media.values
    for name, value in sorted(wanted.items(), key=lambda one: one[0] not in there):  # what is there comes first
        if value is None:
            media.remove_attribute(name)
        else:
            media.set_attribute(name, value or None)
        assert media.get_all(name) == ([] if value is None else [value])
    assert together.to_bytes() == single.to_bytes()
    if not wanted:
        assert together.to_bytes() == body.encode()


TEXTS = ["a=setup:x", "a=path:y", "c=IN IP4 h", "c=IN IP6 ::2", "b=AS:1", "k=clear:1", "i=z", "a=setup"]


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(TEXTS), max_size=6),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([None, "", "z"])),
    st.sampled_from([None, "IN IP4 192.0.2.9"]),
    st.sampled_from(["TCP/MSRP", "TCP/TLS/MSRP"]),
    st.sampled_from([None, 9, 10]),
    st.sampled_from(["m=message 9 TCP/TLS/MSRP *", "m=message 9/2 TCP/TLS/MSRP  * x"]),
    st.sampled_from([("\r\n", "\r\n"), ("\n", "\n"), ("\r\n", "\n"), ("\n", "\r\n")]),
    st.booleans(),
)
def test_texts_with_changes_are_those_of_a_changed_copy(
    lines: list[str],
    wanted: dict[str, str | None],
    connection: str | None,
    proto: str,
    port: int | None,
    media_line: str,
    endings: tuple[str, str],
    closed: bool,
) -> None:
    first, rest = endings
    body = (SESSION[0] + first + rest.join([*SESSION[1:], media_line, *lines, *([""] if closed else [])])).encode()
    sdp = SessionDescription.parse(body)
    copy = sdp.copy()
    media, twin = sdp.media[0], copy.media[0]
    made = sdp.joined(sdp.texts, [[media.text_with(proto, port), *media.changed(wanted, connection)]])
    twin.set_proto(proto)
    if port is not None:
        twin.set_port(port)
    twin.change(wanted)
    if connection is not None:
        twin.set_connection(*connection.split(" ")[1:])
    assert made == copy.to_bytes()
    assert sdp.to_bytes() == body
