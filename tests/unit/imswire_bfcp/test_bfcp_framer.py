"""The BFCP framer: whole messages however the stream is cut, and faults that end it."""

import pytest
from tests.unit.imswire_bfcp.bfcp_samples import SAMPLES

from imswire.bfcp.framer import BfcpFramer
from imswire.bfcp.message import BadMessage
from imswire.bfcp.tables import ErrorCode, Primitive

WHOLE = [message.to_bytes() for message in SAMPLES.values()]
STREAM = b"".join(WHOLE)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 12, 13, 64, len(STREAM)])
def test_every_cut_gives_the_same_messages(size: int) -> None:
    framer = BfcpFramer()
    out = [one for at in range(0, len(STREAM), size) for one in framer.feed(STREAM[at : at + size])]
    assert out == WHOLE
    assert framer.pending == 0


def test_messages_before_a_fault_come_first() -> None:
    framer = BfcpFramer()
    bad = bytes.fromhex("40 0b 0000 00000001 0002 0003")
    assert framer.feed(WHOLE[0] + bad + WHOLE[1]) == WHOLE[:1]
    assert framer.error is not None
    answer = framer.error.answer()
    assert answer is not None
    assert (answer.primitive, answer.conference, answer.transaction, answer.user) == (Primitive.ERROR, 1, 2, 3)
    assert answer.error is not None
    assert answer.error.code == ErrorCode.UNSUPPORTED_VERSION
    assert framer.pending == 0
    with pytest.raises(BadMessage):
        framer.feed(WHOLE[1])


def test_a_payload_above_the_limit_is_refused_before_it_is_held() -> None:
    framer = BfcpFramer(limit=1024)
    with pytest.raises(BadMessage) as fault:
        framer.feed(bytes.fromhex("20 01 0101 00000001 0002 0003"))
    assert (fault.value.reason, fault.value.code) == ("bfcp.oversize", ErrorCode.INCORRECT_LENGTH)
    framer = BfcpFramer(limit=1024)
    assert framer.feed(bytes.fromhex("20 01 0100 00000001 0002 0003")) == []
    assert len(framer.feed(bytes(1024))) == 1


def test_an_error_message_is_never_answered() -> None:
    framer = BfcpFramer()
    with pytest.raises(BadMessage) as fault:
        framer.feed(bytes.fromhex("40 0d 0000 00000001 0002 0003"))
    assert fault.value.answer() is None
