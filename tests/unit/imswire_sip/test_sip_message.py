import pytest
from tests.unit.imswire_sip.sip_samples import INVITE, INVITE_LINES, raw, request

from imswire.base import ProtocolError
from imswire.sip.headers import canonical
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse
from imswire.sip.values import CSeq


def invite() -> Request:
    message = parse(INVITE)
    assert isinstance(message, Request)
    return message


def test_untouched_message_keeps_its_bytes() -> None:
    assert invite().to_bytes() == INVITE


def test_only_touched_lines_change() -> None:
    message = invite()
    message.headers.set("Max-Forwards", "69")
    message.headers.prepend("Via", "SIP/2.0/UDP edge;branch=z9hG4bK9")
    lines = list(INVITE_LINES)
    lines[2] = "Max-Forwards: 69"
    lines.insert(1, "Via: SIP/2.0/UDP edge;branch=z9hG4bK9")
    assert message.to_bytes() == raw(*lines, body=b"v=0\n")


def test_bytes_that_are_not_utf8_survive() -> None:
    data = INVITE.replace(b"X-Odd:a", b"X-Odd: \xff\xfe\x00z")
    assert parse(data).to_bytes() == data


def test_content_length_follows_the_body() -> None:
    message = invite()
    message.body = b"longer body"
    assert b"\r\nContent-Length: 11\r\n\r\nlonger body" in message.to_bytes()
    assert message.headers.get("content-length") == "4"
    bare = Request("OPTIONS", "sip:a@b")
    assert bare.to_bytes() == b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n"


def test_a_start_line_cannot_smuggle_lines() -> None:
    with pytest.raises(ProtocolError):
        Request("OPTIONS", "sip:a@b\r\nX: y").to_bytes()
    with pytest.raises(ProtocolError):
        Response(200, "OK\r\nX: y").to_bytes()


def test_views() -> None:
    message = invite()
    assert (message.call_id, message.cseq, message.from_tag, message.to_tag) == (
        "call-1@198.51.100.7",
        CSeq(7, "INVITE"),
        "a1",
        None,
    )
    assert message.from_.display_name == "Alice, A."
    assert message.via.branch == "z9hG4bKabc"
    assert [one.uri for one in message.contacts] == ["sip:alice@198.51.100.7:40000"]
    assert message.content_type == "application/sdp"
    assert (message.max_forwards, message.expires) == (70, None)
    assert message.has_option("supported", "PATH")
    assert message.headers.get("subject") == "a folded line"
    assert not message.contact_star


def test_numbers_are_bounded() -> None:
    message = invite()
    message.headers.set("Expires", "99999999999999999999")
    assert message.expires == 2**32 - 1
    message.headers.set("Expires", "soon")
    with pytest.raises(ProtocolError):
        _ = message.expires
    message.headers.set("Max-Forwards", "256")
    with pytest.raises(ProtocolError):
        _ = message.max_forwards


def test_response_round_trip() -> None:
    data = raw("SIP/2.0 200 ", *INVITE_LINES[1:], body=b"v=0\n")
    message = parse(data)
    assert isinstance(message, Response)
    assert (message.status, message.reason) == (200, "")
    assert message.to_bytes() == data


def test_reply_copies_what_rfc_3261_8_2_6_says() -> None:
    message = invite()
    message.headers.add("Timestamp", "54")
    trying = message.reply(100)
    assert trying.start_line == "SIP/2.0 100 Trying"
    assert trying.to_tag is None
    assert [name.lower() for name, _ in trying.headers] == ["v", "from", "t", "call-id", "cseq", "timestamp"]
    ringing = message.reply(180, to_tag="b1", headers=[("Contact", "<sip:bob@b>")])
    assert ringing.to_tag == "b1"
    assert ringing.headers.get("record-route") == "<sip:edge.example.org;lr>"
    assert "timestamp" not in ringing.headers
    assert "record-route" not in message.reply(486).headers
    assert message.reply(480, "Gone fishing").reason == "Gone fishing"


def test_reply_makes_the_same_tag_each_time() -> None:
    one, two = invite().reply(486), invite().reply(486)
    assert one.to_tag
    assert one.to_tag == two.to_tag
    assert request(branch="z9hG4bKother").reply(486).to_tag != one.to_tag
    assert request(to=";tag=given").reply(486, to_tag="other").to_tag == "given"


def test_reply_needs_a_via_and_copies_what_else_there_is() -> None:
    message = invite()
    for name in ("to", "cseq", "call-id", "from"):
        message.headers.remove(name)
    answer = message.reply(400)
    assert list(answer.headers) == [line for line in message.headers if canonical(line[0]) == "via"]
    message.headers.remove("via")
    with pytest.raises(ProtocolError) as caught:
        message.reply(400)
    assert caught.value.reason == "sip.missing"


def test_copy_is_independent() -> None:
    message = invite()
    other = message.copy()
    other.headers.remove("via")
    other.method = "BYE"
    assert message.to_bytes() == INVITE
    assert message == invite()
    assert message != other
