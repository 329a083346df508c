"""Generated input for the SIP parser: it parses or raises ProtocolError, and what parses survives a round trip."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples

from imswire.base import ProtocolError
from imswire.sip.auth import Credentials
from imswire.sip.headers import Headers, split_values
from imswire.sip.lines import check_core
from imswire.sip.parser import BadMessage, Limits, Ping, StreamFramer, parse
from imswire.sip.uri import SipUri, parse_uri
from imswire.sip.values import CSeq, NameAddr, SecMechanism, Via

SAMPLE = (
    b"INVITE sip:bob@example.org SIP/2.0\r\n"
    b"v: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bKabc;rport, SIP/2.0/TCP [2001:db8::1];branch=z9hG4bKd\r\n"
    b"Max-Forwards:   70\r\n"
    b'From: "Alice, \\"A\\"" <sip:alice@example.org>;tag=a1\r\n'
    b"To: <sip:bob@example.org>\r\n"
    b"Call-ID: call-1@198.51.100.7\r\n"
    b"CSeq: 7 INVITE\r\n"
    b"Contact: <sip:alice@198.51.100.7:40000>;expires=60\r\n"
    b"Security-Verify: msrp-tls;mediasec\r\n"
    b"Subject: folded\r\n\tline\r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"v=0\n"
)
FEW = settings(max_examples=examples(150), deadline=None)
PIECES = st.one_of(
    st.sampled_from(b'\r\n \t:;,"<>\\=\xff\x00%@[]').map(lambda octet: bytes([octet])),
    st.sampled_from([b"\r\n", b"SIP/2.0", b"Via: ", b"Content-Length: 0\r\n", b"To: x\r\n", b"9" * 20, b"INVITE"]),
)
ALPHABET = st.text(st.sampled_from('ab1 \t;,:=<>@"\\[]%?./-_~sipSIP\udcff\u00e9'), max_size=60)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The sample with a few places cut out, replaced or stuffed."""
    data = bytearray(SAMPLE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 12))
        data[at : at + cut] = draw(st.one_of(PIECES, st.binary(max_size=6)))
    return bytes(data)


def look_at_everything(data: bytes) -> None:
    message = parse(data)
    again = message.to_bytes()
    if "content-length" not in message.headers:
        message.headers.set("Content-Length", str(len(message.body)))
    reparsed = parse(again)
    assert reparsed == message
    assert reparsed.to_bytes() == again
    # The door has looked at these: they never fail behind it.
    assert message.via.transport
    assert message.from_.uri
    assert message.to.uri
    assert message.cseq.method
    assert message.call_id


@FEW
@given(damaged())
def test_parses_or_refuses(data: bytes) -> None:
    try:
        look_at_everything(data)
    except BadMessage as error:
        if error.message is not None:
            reply = error.message.reply(error.status)
            assert "via" in reply.headers
            lines = reply.to_bytes().removesuffix(b"\r\n\r\n").split(b"\r\n")
            assert all(line and b"\r" not in line and b"\n" not in line for line in lines)
            if readable(error.message.headers):  # what cannot be read goes back as it came (RFC 4475 3.1.2)
                assert parse(reply.to_bytes()) is not None


def readable(headers: Headers) -> bool:
    if not all(name in headers for name in ("via", "from", "to", "call-id", "cseq")):
        return False
    try:
        check_core(headers)
    except ProtocolError:
        return False
    return True


@FEW
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        look_at_everything(data)
    except BadMessage:
        return


@FEW
@given(
    st.lists(st.sampled_from([SAMPLE, b"\r\n", b"\r\n\r\n", b"X", b"A b c\r\nl: 2\r\n\r\nhi"]), max_size=5), st.data()
)
def test_framing_does_not_depend_on_chunks(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    assert framed([stream]) == framed([stream[n : n + 1] for n in range(len(stream))])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert framed([stream]) == framed(pieces)


@FEW
@given(damaged())
def test_framing_damaged_streams_does_not_depend_on_chunks(data: bytes) -> None:
    stream = SAMPLE + data + SAMPLE
    limits = Limits(message=1200, header_bytes=900)
    assert framed([stream], limits) == framed([stream[n : n + 1] for n in range(len(stream))], limits)


def framed(chunks: list[bytes], limits: Limits | None = None) -> tuple[list[bytes | Ping], str]:
    framer = StreamFramer(limits or Limits())
    out: list[bytes | Ping] = []
    for chunk in chunks:
        if framer.error is not None:
            break
        try:
            out += framer.feed(chunk)
        except BadMessage:
            break
    assert framer.pending <= 1200 or limits is None
    return out, framer.error.reason if framer.error else ""


@FEW
@given(ALPHABET)
def test_values_parse_or_refuse_and_survive_a_round_trip(text: str) -> None:
    for kind in (SipUri, NameAddr, Via, CSeq, SecMechanism, Credentials):
        try:
            value = kind.parse(text)
        except ProtocolError:
            continue
        assert kind.parse(str(value)) == value
    try:
        uri = parse_uri(text)
        assert parse_uri(str(uri)) == uri
    except ProtocolError:
        pass


@FEW
@given(st.sampled_from(["sip:", "<sip:", "SIP/2.0/UDP ", "1 ", '"', "Digest "]), ALPHABET)
def test_values_that_begin_well(start: str, rest: str) -> None:
    test_values_parse_or_refuse_and_survive_a_round_trip.hypothesis.inner_test(start + rest)  # type: ignore[attr-defined]


@FEW
@given(st.lists(st.text(st.sampled_from('ab"<>\\ ;'), min_size=1, max_size=8), max_size=5))
def test_split_values_gives_what_was_joined(parts: list[str]) -> None:
    try:
        kept = [split_values(part + ",") for part in parts]
    except ProtocolError:
        return
    assert split_values(", ".join(parts)) == [one for some in kept for one in some]


@FEW
@given(
    st.lists(
        st.tuples(st.sampled_from(["Via", "v", "To", "X-A", "x-a", "Route"]), st.sampled_from(["a", "b, c", '"d,e"'])),
        max_size=8,
    )
)
def test_taking_first_values_gives_all_values(items: list[tuple[str, str]]) -> None:
    headers = Headers(items)
    for name in ("via", "to", "x-a", "route"):
        whole = [part for value in headers.get_all(name) for part in split_values(value)]
        taken = []
        while (value := headers.remove_first_value(name)) is not None:
            taken.append(value)
        assert taken == whole
        assert name not in headers
