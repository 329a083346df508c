"""The lossless model: what is not touched keeps its bytes, what is wrong is named."""

from collections.abc import Callable

import pytest

from imswire.base import LimitExceeded, ProtocolError
from imswire.sdp.model import Connection, Limits, Media, Origin, SessionDescription

OFFER = (
    "v=0\r\n"
    "o=alice 2890844526 2890844527 IN IP4 ue.example.com\r\n"
    "s= -\r\n"
    "i=caf\u00e9\r\n"
    "c=IN IP4 192.0.2.1\r\n"
    "b=AS:64\r\n"
    "t=0 0\r\n"
    "a=X-odd Attribute : yes\r\n"
    "m=message 2855 TCP/TLS/MSRP *\r\n"
    "Y=unknown line\r\n"
    "a=accept-types:message/cpim text/plain\r\n"
    "a=path:msrps://192.0.2.1:2855/s8d9f7;tcp\r\n"
    "a=setup:actpass\r\n"
    "a=3ge2ae:requested\r\n"
    "a=msrp-cema\r\n"
    "m=audio 49170/2 RTP/AVP 0  8\r\n"
    "c=IN IP4 192.0.2.2\r\n"
    "a=rtpmap:0 PCMU/8000\r\n"
).encode()


def parse(text: str | bytes) -> SessionDescription:
    return SessionDescription.parse(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "raw",
    [
        OFFER,
        OFFER.replace(b"\r\n", b"\n"),
        OFFER.replace(b"\r\n", b"\n", 5),
        OFFER.removesuffix(b"\r\n"),
        OFFER.replace(b"\r\n", b"\n").removesuffix(b"\n"),
        OFFER.replace(b"\r\n", b"\n", 3).removesuffix(b"\r\n"),
        OFFER + b"\r\n",
        OFFER + b"\r\n\n",
        OFFER.replace(b"caf\xc3\xa9", b"caf\xe9\xff"),
    ],
    ids=["crlf", "lf", "mixed", "open", "lf-open", "mixed-open", "blank-tail", "mixed-tail", "latin-1"],
)
def test_unchanged_is_byte_identical(raw: bytes) -> None:
    sdp = parse(raw)
    assert sdp.to_bytes() == raw
    assert sdp.copy().to_bytes() == raw


def test_fields() -> None:
    sdp = parse(OFFER)
    assert sdp.origin == Origin("alice", "2890844526", "2890844527", "IN", "IP4", "ue.example.com")
    assert sdp.name == " -"
    message, audio = sdp.media
    assert (message.media, message.port, message.port_count, message.proto) == ("message", 2855, None, "TCP/TLS/MSRP")
    assert message.formats == ("*",)
    assert (audio.port, audio.port_count, audio.formats) == (49170, 2, ("0", "8"))
    assert message.connection is None
    assert sdp.address_of(message) == Connection("IN", "IP4", "192.0.2.1")
    assert sdp.address_of(audio) == Connection("IN", "IP4", "192.0.2.2")


def test_attributes_are_found_by_whole_name() -> None:
    media = parse(OFFER).media[0]
    assert media.get("setup") == "actpass"
    assert media.get("msrp-cema") == ""
    assert media.get("msrp") is None
    assert media.get("Setup") is None
    assert not media.has("set")
    assert ("msrp-cema", "") in media.attributes


def test_only_what_is_changed_changes() -> None:
    sdp = parse(OFFER)
    message = sdp.media[0]
    message.set_proto("TCP/MSRP")
    message.set_port(30000)
    message.set_connection("IP6", "2001:db8::1")
    assert message.remove_attribute("3ge2ae")
    assert not message.remove_attribute("3ge2ae")
    message.set_attribute("setup", "passive")
    message.add_attribute("fingerprint", "SHA-256 AB")
    expected = (
        OFFER.replace(b"m=message 2855 TCP/TLS/MSRP *\r\n", b"m=message 30000 TCP/MSRP *\r\n")
        .replace(b"Y=unknown line\r\n", b"Y=unknown line\r\nc=IN IP6 2001:db8::1\r\n")
        .replace(b"a=3ge2ae:requested\r\n", b"")
        .replace(b"setup:actpass", b"setup:passive")
        .replace(b"a=msrp-cema\r\n", b"a=msrp-cema\r\na=fingerprint:SHA-256 AB\r\n")
    )
    assert sdp.to_bytes() == expected


def test_setting_the_same_value_keeps_the_odd_spelling() -> None:
    sdp = parse(OFFER)
    audio = sdp.media[1]
    audio.set_port(49170, 2)
    audio.set_proto("RTP/AVP")
    audio.set_connection("IP4", "192.0.2.2")
    assert sdp.to_bytes() == OFFER
    audio.set_port(0)
    assert audio.rejected
    assert b"m=audio 0 RTP/AVP 0 8\r\n" in sdp.to_bytes()


def test_set_attribute_replaces_the_first_and_drops_the_others() -> None:
    media = Media("message", 1, "TCP/MSRP", ("*",))
    for value in ("one", "two"):
        media.add_attribute("fingerprint", value)
    media.add_attribute("setup", "active")
    media.set_attribute("fingerprint", "three")
    assert media.attributes == [("fingerprint", "three"), ("setup", "active")]
    media.set_attribute("msrp-cema")
    assert media.get("msrp-cema") == ""


def test_added_lines_take_the_line_end_in_use_and_leave_an_open_end_open() -> None:
    sdp = parse(OFFER.replace(b"\r\n", b"\n").removesuffix(b"\n"))
    sdp.media[1].add_attribute("sendrecv")
    sdp.set_attribute("tool", "x")
    out = sdp.to_bytes()
    assert out.endswith(b"a=rtpmap:0 PCMU/8000\na=sendrecv")
    assert b"\r" not in out
    assert b"a=X-odd Attribute : yes\na=tool:x\nm=" in out


def test_session_connection_is_inserted_in_its_place() -> None:
    sdp = parse("v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nb=AS:1\r\nt=0 0\r\n")
    sdp.set_connection("IP4", "192.0.2.9")
    assert sdp.to_bytes() == b"v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nb=AS:1\r\nt=0 0\r\n"


def test_copies_are_independent() -> None:
    sdp = parse(OFFER)
    twin = sdp.copy()
    twin.media[0].set_port(1)
    twin.media[0].remove_attribute("path")
    twin.set_connection("IP4", "192.0.2.77")
    twin.media.pop()
    assert sdp.to_bytes() == OFFER


def test_create_makes_what_parses() -> None:
    sdp = SessionDescription.create("IP4", "192.0.2.3", session_id=7)
    media = sdp.add_media("message", 9, "TCP/MSRP")
    media.set_attribute("setup", "active")
    again = parse(sdp.to_bytes())
    assert again.media[0].get("setup") == "active"
    assert again.origin.session_id == "7"
    changed = Origin("-", "7", "2", "IN", "IP4", "192.0.2.4")
    again.set_origin(changed)
    assert parse(again.to_bytes()).origin == changed


HEAD = "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


@pytest.mark.parametrize(
    ("text", "reason", "offset"),
    [
        ("", "sdp.version", 0),
        ("\r\n", "sdp.version", 0),
        ("o=- 1 1 IN IP4 h\r\nv=0\r\n", "sdp.version", 0),
        ("v=1\r\n" + HEAD[5:], "sdp.version", 0),
        ("v=0\r\ns=-\r\nt=0 0\r\n", "sdp.origin", 0),
        ("v=0\r\no=- 1 IN IP4 h\r\ns=-\r\nt=0 0\r\n", "sdp.origin", 5),
        ("v=0\r\no=- x 1 IN IP4 h\r\ns=-\r\nt=0 0\r\n", "sdp.origin", 5),
        ("v=0\r\no=- 1 1 IN IP4 h\r\nt=0 0\r\n", "sdp.session-name", 0),
        ("v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\n", "sdp.time", 0),
        (HEAD + "t=0\r\n", "sdp.time", 55),
        (HEAD + "c=IN IP4\r\n", "sdp.connection", 55),
        (HEAD + "c=IN IP4 192.0.2.2\r\n", "sdp.connection", 0),
        (HEAD + "m=audio 65536 RTP/AVP 0\r\n", "sdp.port", 55),
        (HEAD + "m=audio 1/0 RTP/AVP 0\r\n", "sdp.media-line", 55),
        (HEAD + "m=audio -1 RTP/AVP 0\r\n", "sdp.media-line", 55),
        (HEAD + "m=audio 1 RTP/AVP\r\n", "sdp.media-line", 55),
        (HEAD + "m=audio 1 RTP//AVP 0\r\n", "sdp.media-line", 55),
        (HEAD + "m=audio\r\n", "sdp.media-line", 55),
        (HEAD + "a\r\n", "sdp.line", 55),
        (HEAD + "\r\na=x\r\n", "sdp.line", 55),
        (HEAD + "1=x\r\n", "sdp.line", 55),
        (HEAD + "a=x\ry\r\n", "sdp.octet", 58),
        (HEAD + "a=\0\r\n", "sdp.octet", 57),
        (HEAD + "m=audio 1 RTP/AVP 0\r\nt=0 0\r\n", "sdp.order", 76),
        (HEAD.replace("c=IN IP4 192.0.2.1\r\n", "") + "m=audio 1 RTP/AVP 0\r\n", "sdp.connection", 0),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str, offset: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert (caught.value.reason, caught.value.offset) == (reason, offset)


def test_a_rejected_line_needs_no_connection() -> None:
    sdp = parse(HEAD.replace("c=IN IP4 192.0.2.1\r\n", "") + "m=audio 0 RTP/AVP 0\r\n")
    with pytest.raises(ProtocolError, match=r"sdp\.connection"):
        sdp.address_of(sdp.media[0])


def test_limits() -> None:
    limits = Limits(size=400, lines=12, media=2)
    fits = HEAD + "m=audio 0 RTP/AVP 0\r\n" * 2
    assert len(SessionDescription.parse(fits.encode(), limits).media) == 2
    for text, reason in (
        (fits + "m=audio 0 RTP/AVP 0\r\n", "sdp.too-many-media"),
        (fits + "a=x\r\n" * 8, "sdp.too-many-lines"),
        (fits + "a=" + "x" * 400, "sdp.oversize"),
    ):
        with pytest.raises(LimitExceeded) as caught:
            SessionDescription.parse(text.encode(), limits)
        assert caught.value.reason == reason


@pytest.mark.parametrize("value", ["a\r\nb=c", "a\nb", "a\0"])
def test_nothing_breaks_out_of_its_line(value: str) -> None:
    sdp = parse(OFFER)
    media = sdp.media[0]
    calls: tuple[Callable[[], None], ...] = (
        lambda: media.set_attribute("setup", value),
        lambda: media.add_attribute("setup", value),
        lambda: media.set_connection("IP4", value),
        lambda: media.set_proto(value),
        lambda: media.add_attribute(value),
    )
    for call in calls:
        with pytest.raises(ProtocolError):
            call()
    assert sdp.to_bytes() == OFFER


@pytest.mark.parametrize("port", [-1, 65_536])
def test_port_is_checked_when_set(port: int) -> None:
    media = parse(OFFER).media[0]
    with pytest.raises(ProtocolError, match=r"sdp\.port"):
        media.set_port(port)
