import pytest
from tests.unit.imswire_sip.sip_samples import INVITE, raw

from imswire.sip.parser import BadMessage, Limits, Ping, StreamFramer

SMALL = raw("OPTIONS sip:a@b SIP/2.0", "l : 3", body=b"abc")


def bytewise(data: bytes, limits: Limits | None = None) -> tuple[list[bytes | Ping], str]:
    framer = StreamFramer(limits or Limits())
    out: list[bytes | Ping] = []
    for index in range(len(data)):
        try:
            out += framer.feed(data[index : index + 1])
        except BadMessage as error:
            return out, error.reason
    return out, ""


def test_messages_and_pings() -> None:
    data = b"\r\n\r\n" + INVITE + SMALL + b"\r\n" + SMALL + b"\r\n\r\n\r\n\r\n"
    expected = [Ping.SINGLE, Ping.DOUBLE, INVITE, SMALL, Ping.SINGLE, SMALL]
    expected += [Ping.SINGLE, Ping.DOUBLE, Ping.SINGLE, Ping.DOUBLE]
    assert StreamFramer().feed(data) == expected
    assert bytewise(data) == (expected, "")


def test_a_message_comes_only_when_whole() -> None:
    framer = StreamFramer()
    assert framer.feed(INVITE[:-1]) == []
    assert framer.pending == len(INVITE) - 1
    assert framer.feed(INVITE[-1:]) == [INVITE]
    assert framer.pending == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (raw("OPTIONS sip:a@b SIP/2.0", "To: x"), "sip.content-length"),
        (raw("OPTIONS sip:a@b SIP/2.0", "Content-Length: 1", "L: 1"), "sip.content-length"),
        (raw("OPTIONS sip:a@b SIP/2.0", "Content-Length: -1"), "sip.content-length"),
        (raw("OPTIONS sip:a@b SIP/2.0", "Content-Length: 99999999999"), "sip.content-length"),
        (raw("OPTIONS sip:a@b SIP/2.0", "Content-Length: 1000"), "sip.oversize"),
        (b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"a" * 500, "sip.oversize"),
        (b"\x16\x03\x01\x02", "sip.framing"),
        (b"\rX", "sip.framing"),
        (b"\n", "sip.framing"),
    ],
)
def test_faults_are_fatal(data: bytes, reason: str) -> None:
    limits = Limits(message=1000, header_bytes=200)
    framer = StreamFramer(limits)
    with pytest.raises(BadMessage) as caught:
        framer.feed(data)
    assert caught.value.reason == reason
    assert bytewise(data, limits)[1] == reason
    with pytest.raises(BadMessage):
        framer.feed(SMALL)


def test_messages_before_a_fault_are_not_lost() -> None:
    framer = StreamFramer()
    assert framer.feed(SMALL + b"\x00") == [SMALL]
    assert framer.error is not None
    assert framer.error.reason == "sip.framing"
    with pytest.raises(BadMessage):
        framer.feed(b"")


def test_a_folded_content_length_counts() -> None:
    data = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length:\r\n  3\r\n\r\nabc"
    assert StreamFramer().feed(data + data) == [data, data]


def test_a_content_length_in_the_body_does_not_count() -> None:
    body = b"\r\nContent-Length: 9\r\n\r\n"
    data = raw("OPTIONS sip:a@b SIP/2.0", f"Content-Length: {len(body)}", body=body)
    assert StreamFramer().feed(data) == [data]


def test_header_section_of_exactly_the_limit() -> None:
    head = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0"
    data = head + b"\r\n\r\n"
    assert StreamFramer(Limits(header_bytes=len(head))).feed(data) == [data]
    assert bytewise(data, Limits(header_bytes=len(head))) == ([data], "")
    assert bytewise(data, Limits(header_bytes=len(head) - 1)) == ([], "sip.oversize")


def test_a_stream_fault_can_be_answered() -> None:
    framer = StreamFramer()
    head = INVITE.replace(b"Content-Length: 4\r\n", b"")
    with pytest.raises(BadMessage) as caught:
        framer.feed(head)
    assert caught.value.message is not None
    assert caught.value.message.reply(caught.value.status).status == 400


def test_a_long_run_of_line_ends_is_cut_at_one_stroke() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n" * 3 + b"\r") == [Ping.SINGLE, Ping.DOUBLE, Ping.SINGLE]
    out = framer.feed(b"\n" + b"\r\n" * 1_000_001 + INVITE)
    assert len(out) == 1_000_003
    assert out[:2] == [Ping.DOUBLE, Ping.SINGLE]
    assert out[-2:] == [Ping.SINGLE, INVITE]
    assert framer.feed(b"\r\n") == [Ping.SINGLE]
