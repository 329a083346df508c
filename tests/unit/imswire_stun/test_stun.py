"""STUN Binding against the vectors of RFC 5769, and what is no Binding request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imswire.base import ProtocolError
from imswire.stun import BindingRequest, answer, is_stun, parse_request

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex("000100002112a442") + TRANSACTION
SAMPLE = bytes.fromhex(  # RFC 5769 2.1
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)


def test_the_sample_request() -> None:
    request = parse_request(SAMPLE)
    assert request == BindingRequest(TRANSACTION, (0x0024,), True)
    refused = answer(request, ("192.0.2.1", 32853))
    assert refused[:2] == b"\x01\x11"
    assert b"\x00\x09\x00\x15\x00\x00\x04\x14Unknown Attribute" in refused
    assert b"\x00\x0a\x00\x02\x00\x24" in refused
    assert refused[-8:-4] == b"\x80\x28\x00\x04"
    assert int.from_bytes(refused[2:4]) == len(refused) - 20


@pytest.mark.parametrize(
    ("host", "mapped"),
    [
        ("192.0.2.1", "002000080001a147e112a643"),
        ("2001:db8:1234:5678:11:2233:4455:6677", "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"),
    ],
)
def test_the_answer_shows_the_address_that_it_came_from(host: str, mapped: str) -> None:
    reply = answer(parse_request(REQUEST), (host, 32853))
    assert reply == b"\x01\x01" + (len(reply) - 20).to_bytes(2) + REQUEST[4:] + bytes.fromhex(mapped)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        b"\x01\x01" + REQUEST[2:],  # a response
        b"\x00\x11" + REQUEST[2:],  # an indication
        REQUEST[:2] + b"\x00\x04" + REQUEST[4:],  # a length that does not fit
        REQUEST[:4] + b"\0\0\0\0" + REQUEST[8:],  # RFC 3489: no cookie
        REQUEST[:2] + b"\x00\x08" + REQUEST[4:] + b"\x80\x22\xff\xff\0\0\0\0",  # an attribute beyond the end
        SAMPLE[:-1] + b"\x00",  # a FINGERPRINT that does not fit
        REQUEST[:2] + b"\x02\x30" + REQUEST[4:] + b"\x80\x22\x02\x2c" + bytes(556),  # too large
    ],
)
def test_what_is_no_binding_request(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"stun\.message"):
        parse_request(data)


def test_sip_is_never_taken_for_stun() -> None:
    assert not is_stun(b"INVITE sip:bob@example.net SIP/2.0\r\n")
    assert not is_stun(b"\r\n\r\n")
    assert is_stun(REQUEST)


@given(st.binary(max_size=64))
def test_anything_is_parsed_or_refused(tail: bytes) -> None:
    data = REQUEST[:2] + len(tail).to_bytes(2) + REQUEST[4:] + tail
    try:
        request = parse_request(data)
    except ProtocolError:
        return
    assert len(answer(request, ("192.0.2.1", 1))) <= 2 * len(data) + 64
