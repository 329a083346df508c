"""The quick look and the spliced refusal agree with what the parser reads and the slow way answers."""

import pytest
from tests.playbook import alg_harness as lab

from imswire.sip.flow import Flow
from imswire.sip.glance import glance, is_ack_of_refusal, refusal
from imswire.sip.message import Response
from imswire.sip.parser import parse

UDP = Flow("udp", "access", ("10.0.0.1", 5060), ("192.0.2.9", 40000))


def octets(
    *headers: str, via: str = "SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKa;rport", start: str = "INVITE"
) -> bytes:
    lines = (
        f"{start} sip:bob@example.net SIP/2.0",
        f"v: {via}",
        "Record-Route: <sip:other.example.net;lr>",
        "Via: SIP/2.0/TCP 10.1.1.1;branch=z9hG4bKb",
        "f: <sip:alice@example.net>;tag=a",
        "To: <sip:bob@example.net>",
        "i: call-1",
        f"CSeq: 7 {start}",
        *headers,
        "Content-Length: 0",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def refused(data: bytes, flow: Flow = UDP) -> tuple[Response, Flow]:
    made = refusal(glance(data), flow, b"503 Service Unavailable", b"Retry-After: 10\r\n")
    assert made is not None
    message = parse(made[0])
    assert isinstance(message, Response)
    return message, made[1]


def test_a_refusal_is_what_the_parser_would_have_answered() -> None:
    data = octets("Subject: x", "Contact: <sip:a@b>")
    answer, flow = refused(data)
    slow = parse(data)
    assert (answer.status, answer.reason, answer.headers.get("retry-after")) == (503, "Service Unavailable", "10")
    assert flow == UDP, "rport: back to where it came from (RFC 3581 4)"
    assert answer.via.branch == "z9hG4bKa"
    assert (answer.via.received, answer.via.param("rport")) == ("192.0.2.9", "40000")
    for name in ("from", "call-id", "cseq"):
        assert answer.headers.get(name) == slow.headers.get(name)
    assert answer.headers.get_all("via")[1:] == slow.headers.get_all("via")[1:]
    assert answer.to.uri == slow.to.uri
    assert answer.to_tag
    assert "record-route" not in answer.headers


def test_the_same_request_gets_the_same_tag_and_another_one_another() -> None:
    tag = refused(octets())[0].to_tag
    assert refused(octets())[0].to_tag == tag
    assert refused(octets().replace(b"call-1", b"call-2"))[0].to_tag != tag


def test_the_ack_of_a_refusal_is_known_by_its_tag() -> None:
    tag = refused(octets())[0].to_tag
    ack = octets(start="ACK").replace(b"To: <sip:bob@example.net>", f"To: <sip:bob@example.net>;tag={tag}".encode())
    assert is_ack_of_refusal(ack)
    assert not is_ack_of_refusal(octets(start="ACK"))
    assert not is_ack_of_refusal(ack.replace(b"ACK ", b"BYE "))


@pytest.mark.parametrize(
    ("via", "remote", "received"),
    [
        ("SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKa", ("192.0.2.9", 5070), None),
        ("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa", ("192.0.2.9", 5060), None),
        ("SIP/2.0/UDP phone.example.net:5071;branch=z9hG4bKa", ("192.0.2.9", 5071), "192.0.2.9"),
        ("SIP/2.0/UDP phone.example.net:0;branch=z9hG4bKa", ("192.0.2.9", 40000), "192.0.2.9"),
    ],
)
def test_without_rport_the_answer_goes_to_the_port_that_via_names(
    via: str, remote: tuple[str, int], received: str | None
) -> None:
    """RFC 3261 18.2.2."""
    answer, flow = refused(octets(via=via))
    assert flow.remote == remote
    assert answer.via.received == received


def test_over_a_connection_the_answer_stays_on_it() -> None:
    flow = Flow("tcp", "access", ("10.0.0.1", 5060), ("192.0.2.9", 40000), 7)
    assert refused(octets(via="SIP/2.0/TCP 192.0.2.9:5070;branch=z9hG4bKa"), flow)[1] == flow


def test_ipv6() -> None:
    flow = Flow("udp", "access", ("2001:db8::1", 5060), ("2001:db8::9", 40000))
    answer, where = refused(octets(via="SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bKa"), flow)
    assert where.remote == ("2001:db8::9", 5070)
    assert answer.via.received is None


@pytest.mark.parametrize(
    "data",
    [
        octets(start="ACK"),
        octets().replace(b"i: call-1\r\n", b""),
        octets()
        .replace(b"v: SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKa;rport\r\n", b"")
        .replace(b"Via: SIP", b"Via: x"),
        octets("Call-ID: another"),
        octets()[:-4],
        b"INVITE",
        b"",
        b"\x00" * 100,
    ],
)
def test_no_answer_to_an_ack_or_to_what_cannot_be_answered(data: bytes) -> None:
    assert refusal(glance(data), UDP, b"503 x") is None


@pytest.mark.parametrize(
    ("data", "new", "emergency"),
    [
        (octets(), True, False),
        (octets(start="REGISTER"), True, False),
        (octets(start="FOO"), True, False),
        (octets(start="BYE"), False, False),
        (octets(start="CANCEL"), False, False),
        (octets().replace(b"To: <sip:bob@example.net>", b"t: <sip:bob@example.net> ; Tag = x"), False, False),
        (octets().replace(b"sip:bob@example.net SIP", b"urn:service:SOS.fire SIP"), True, True),
        (octets("Contact: <sip:alice@192.0.2.9;sos>", start="REGISTER"), True, True),
        (octets("Contact: <sip:alice@192.0.2.9;sos>"), True, False),
        (octets("Priority: PSAP-callback"), True, False),
        (octets('Contact: <sip:alice@192.0.2.9>;x=";sos"', start="REGISTER"), True, False),
        (octets('Contact: ";sos" <sip:a;sos@192.0.2.9>;sos', "X-Note: <sip:a@b;sos>", start="REGISTER"), True, False),
        (octets('m: "<" <sip:a@b>, <sip:alice@192.0.2.9; SOS>', start="REGISTER"), True, True),
        (octets().replace(b"<sip:bob@example.net>", b"<sip:bob@example.net;tag=1>"), True, False),
        (octets().replace(b"<sip:bob@example.net>", b'"a;tag=1" <sip:bob@example.net>'), True, False),
        (octets().replace(b"<sip:bob@example.net>", b'<sip:bob@example.net>;x=">;tag=1"'), True, False),
        (octets().replace(b"<sip:bob@example.net>", b"sip:bob@example.net;tag=1"), False, False),
        (octets().replace(b"<sip:bob@example.net>", b'"a>" <sip:bob@example.net>;x=">";tag=1'), False, False),
    ],
)
def test_what_is_seen(data: bytes, new: bool, emergency: bool) -> None:
    seen = glance(data)
    assert (seen.new, seen.emergency) == (new, emergency)


@pytest.mark.parametrize("header", ["Priority: PSAP-callback", "priority :\tpsap-callback "])
def test_who_says_to_be_an_emergency_centre(header: str) -> None:
    assert glance(octets(header)).callback
    assert not glance(octets(header, start="MESSAGE")).callback


@pytest.mark.parametrize("header", ["X-Note: psap-callback", "Subject: Priority: psap-callback", "Priority: normal"])
def test_the_word_counts_in_its_own_header_field(header: str) -> None:
    assert not glance(octets(header)).callback


@pytest.mark.parametrize("to", [b"<sip:bob@example.net;tag=1>", b'"a;tag=1" <sip:bob@example.net>'])
def test_a_tag_inside_the_uri_is_none(to: bytes) -> None:
    assert refused(octets().replace(b"<sip:bob@example.net>", to))[0].to_tag


def test_the_key_is_that_of_the_transaction() -> None:
    assert glance(octets()).key == ("z9hG4bKa", "192.0.2.9:5070")
    assert glance(octets(via="SIP/2.0/UDP Phone.Example.net ;branch = z9hG4bKa")).key == (
        "z9hG4bKa",
        "phone.example.net",
    )
    assert glance(octets(via="garbage")).key == ("", "")


def test_a_refusal_is_hardly_longer_than_the_request() -> None:
    """A forged source address must not turn the node into an amplifier."""
    for data in (octets(), lab.sip(lab.request(), lab.AUDIO)):
        made = refusal(glance(data), UDP, b"503 Service Unavailable", b"Retry-After: 10\r\n")
        assert made is not None
        assert len(made[0]) <= len(data) + 110
