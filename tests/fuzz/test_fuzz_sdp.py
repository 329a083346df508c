"""Whatever comes in parses or raises ProtocolError, and what parses is written as it was read."""

from collections.abc import Callable
from functools import partial

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples

from imswire.base import ProtocolError
from imswire.sdp import attributes
from imswire.sdp.model import SessionDescription

SEED = (
    b"v=0\r\no=a 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=message 2855 TCP/TLS/MSRP *\r\na=path:msrps://192.0.2.1:2855/s;tcp\r\na=setup:actpass\r\n"
    b"a=3ge2ae:requested\r\na=fingerprint:x 4A:AD\r\nm=audio 0 RTP/AVP 0\r\n"
)
QUICK = settings(max_examples=examples(150), deadline=None)

LINES = st.one_of(
    st.sampled_from(SEED.split(b"\r\n")),
    st.binary(max_size=12),
    st.tuples(st.sampled_from(b"voscmtabz"), st.binary(max_size=16)).map(lambda pair: b"%c=%s" % pair),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Valid bodies with lines put in, and octets of that replaced."""
    lines = SEED.split(b"\r\n")[:-1]
    for extra in draw(st.lists(LINES, max_size=4)):
        lines.insert(draw(st.integers(0, len(lines))), extra)
    ends = draw(st.sampled_from([b"\r\n", b"\n"]))
    whole = bytearray(ends.join(lines) + draw(st.sampled_from([b"", b"\r\n", b"\n", b"\n\n"])))
    for at, octet in draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)):
        whole[at] = octet
    return bytes(whole)


def attempt[T](call: Callable[[], T]) -> tuple[T | None, ProtocolError | None]:
    """The result, or the one error that is allowed."""
    try:
        return call(), None
    except ProtocolError as error:
        return None, error


@QUICK
@example(SEED)
@given(st.one_of(bodies(), st.binary(max_size=200)))
def test_parses_or_protocol_error(raw: bytes) -> None:
    sdp, error = attempt(lambda: SessionDescription.parse(raw))
    if error is not None:
        assert error.reason.startswith("sdp.")
        assert 0 <= error.offset <= len(raw)
    if sdp is None:
        return
    assert sdp.to_bytes() == raw
    for media in sdp.media:
        views: tuple[Callable[[], object], ...] = (
            partial(attributes.fingerprints, sdp, media),
            partial(attributes.setup_of, media, sdp),
            partial(attributes.e2ae_of, media),
            partial(attributes.path_of, media),
            partial(attributes.sctp_port, media),
            partial(attributes.max_size, media),
            partial(sdp.address_of, media),
        )
        for view in views:
            _, error = attempt(view)
            assert error is None or error.reason.startswith("sdp.")


@QUICK
@given(bodies(), st.sampled_from(["setup", "x"]), st.text(max_size=10), st.integers(-1, 70_000))
def test_a_change_stays_where_it_was_made(raw: bytes, name: str, value: str, port: int) -> None:
    try:
        sdp = SessionDescription.parse(raw)
    except ProtocolError:
        return
    if not sdp.media:
        return
    changed = sdp.copy()
    media = changed.media[0]
    try:
        media.set_attribute(name, value)
        media.set_port(port)
    except ProtocolError:
        pass
    again = SessionDescription.parse(changed.to_bytes())
    assert len(again.media) == len(sdp.media)
    assert [line.value for line in again.lines] == [line.value for line in sdp.lines]
    for before, after in zip(sdp.media[1:], again.media[1:], strict=True):
        assert before.line().value == after.line().value
        assert [str(line.value) for line in before.lines] == [str(line.value) for line in after.lines]
    assert sdp.to_bytes() == raw


@QUICK
@given(st.binary(min_size=32, max_size=32), st.booleans())
def test_fingerprint_round_trip(octets: bytes, lower: bool) -> None:
    text = str(attributes.Fingerprint("sha-256", octets))
    assert attributes.Fingerprint.parse(text.lower() if lower else text).octets == octets


@QUICK
@given(st.text(max_size=40), st.sampled_from(["msrp://h:1/s;tcp", "msrps://[::1]:9/a=b;tcp;x=y"]), st.integers(0, 30))
def test_msrp_uri_parses_or_raises(noise: str, good: str, at: int) -> None:
    for text in (noise, good[:at] + noise + good[at:]):
        try:
            uri = attributes.MsrpUri.parse(text)
        except ProtocolError:
            continue
        assert attributes.MsrpUri.parse(str(uri)) == uri
