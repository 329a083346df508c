"""BFCP octets: the layout of RFC 8855 5, reading what was written, and raising instead of truncating."""

import pytest
from tests.unit.imswire_bfcp.bfcp_samples import CONTENTS, SAMPLES

from imswire.base import ProtocolError
from imswire.bfcp.attributes import (
    Attribute,
    ErrorValue,
    Extension,
    Group,
    Number,
    PriorityValue,
    RequestStatus,
    Supported,
    Text,
)
from imswire.bfcp.message import Message, error, parse
from imswire.bfcp.tables import FORMATS, GRAMMAR, MEMBERS, AttributeType, ErrorCode, Primitive, Status

_T = AttributeType


def test_tables_and_samples_are_complete() -> None:
    assert set(GRAMMAR) == set(Primitive) == set(CONTENTS)
    assert set(FORMATS) == set(AttributeType)
    assert set(MEMBERS) == {type for type, format in FORMATS.items() if format == "Grouped"}

    def types(attributes: tuple[Attribute, ...]) -> set[int]:
        inner = [types(one.members) for one in attributes if isinstance(one, Group)]
        return {one.type for one in attributes}.union(*inner)

    assert set(AttributeType) <= set().union(*(types(contents) for contents in CONTENTS.values()))


def test_the_octets_of_a_floor_request() -> None:
    message = Message(
        Primitive.FLOOR_REQUEST,
        0x01020304,
        0x0506,
        0x0708,
        (
            Number(_T.FLOOR_ID, 0x0A0B, mandatory=True),
            Text(_T.PARTICIPANT_PROVIDED_INFO, "abc"),
            PriorityValue(4),
        ),
    )
    octets = message.to_bytes()
    assert octets == bytes.fromhex(
        "20 01 0004 01020304 0506 0708"  # version 1, FloorRequest, 4 words, conference, transaction, user
        "05 04 0a0b"  # FLOOR-ID with M
        "10 05 616263 000000"  # PARTICIPANT-PROVIDED-INFO, 5 octets, padded
        "08 04 8000"  # PRIORITY: 3 bits and 13 reserved
    )
    assert parse(octets) == message


def test_the_octets_of_a_group_and_its_length() -> None:
    status = Group(_T.FLOOR_REQUEST_STATUS, 543, (RequestStatus(Status.ACCEPTED, 2), Text(_T.STATUS_INFO, "x")))
    group = Group(_T.FLOOR_REQUEST_INFORMATION, 764, (status,))
    octets = Message(Primitive.FLOOR_REQUEST_STATUS, 1, 0, 1, (group,)).to_bytes()[12:]
    assert octets == bytes.fromhex("1e 10 02fc  22 0c 021f  0a 04 0202  12 03 78 00")


def test_the_octets_of_an_error() -> None:
    octets = Message(Primitive.ERROR, 1, 2, 3, (ErrorValue.unknown((100, 101)),)).to_bytes()[12:]
    assert octets == bytes.fromhex("0c 05 04 c8 ca 000000")
    octets = Message(Primitive.HELLO_ACK, 1, 2, 3, (Supported(_T.SUPPORTED_ATTRIBUTES, (1, 18)),)).to_bytes()[12:]
    assert octets == bytes.fromhex("14 04 02 24")


@pytest.mark.parametrize("primitive", list(Primitive), ids=lambda one: one.name)
def test_reads_what_it_wrote(primitive: Primitive) -> None:
    message = SAMPLES[primitive]
    octets = message.to_bytes()
    assert len(octets) % 4 == 0
    again = parse(octets)
    assert again == message
    assert again.primitive is primitive
    again.check()


def test_reserved_bits_and_padding_are_ignored() -> None:
    octets = bytes.fromhex("3f 01 0003 00000001 0001 0001  04 04 0001  10 03 61 ff  08 04 9fff")
    message = parse(octets)
    assert message.numbers(_T.FLOOR_ID) == (1,)
    assert message.text(_T.PARTICIPANT_PROVIDED_INFO) == "a"
    assert message.attributes[-1] == PriorityValue(4)


def test_a_group_that_does_not_count_the_padding_of_its_last_member() -> None:
    octets = bytes.fromhex("20 06 0005 00000001 0001 0001  1c 07 0001 18 03 61 00  1c 07 0002 18 03 62 00 0000 0000")
    with pytest.raises(ProtocolError):
        parse(octets)
    message = parse(octets[:2] + b"\x00\x04" + octets[4:28])
    assert [group.members for group in message.groups(_T.BENEFICIARY_INFORMATION)] == [
        (Text(_T.USER_DISPLAY_NAME, "a"),),
        (Text(_T.USER_DISPLAY_NAME, "b"),),
    ]


def test_text_that_is_not_utf_8_survives() -> None:
    octets = bytes.fromhex("20 0d 0002 00000001 0001 0001  0c 03 05 00  0e 04 ff fe")
    assert parse(octets).to_bytes() == octets


def test_priority_above_4_counts_as_4() -> None:
    assert [PriorityValue(level).effective for level in (0, 4, 5, 7)] == [0, 4, 4, 4]


def test_unknown_attributes_are_kept_and_mandatory_ones_named_once() -> None:
    inner = Group(_T.BENEFICIARY_INFORMATION, 1, (Extension(77, b"abc", mandatory=True), Extension(78, b"")))
    message = Message(
        Primitive.USER_STATUS, 1, 1, 1, (Extension(99, b"x", mandatory=True), inner, Extension(99, b"", mandatory=True))
    )
    again = parse(message.to_bytes())
    assert again == message
    assert again.unknown_mandatory == (99, 77)
    assert parse(error(again, 4, types=again.unknown_mandatory).to_bytes()).error == ErrorValue(4, b"\xc6\x9a")
    assert ErrorValue.unknown((99, 77)).types == (99, 77)
    assert ErrorValue(5, b"\xc6").types == ()


def test_known_attributes_with_the_mandatory_bit_are_not_unknown() -> None:
    message = Message(Primitive.FLOOR_RELEASE, 1, 1, 1, (Number(_T.FLOOR_REQUEST_ID, 1, mandatory=True),))
    assert parse(message.to_bytes()).unknown_mandatory == ()


def test_an_unknown_primitive_can_be_read() -> None:
    message = Message(200, 1, 2, 3, (Number(_T.FLOOR_ID, 1),))
    again = parse(message.to_bytes())
    assert again == message
    again.check()


LONG = "x" * 254


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(1, 1, 1, 1, (Number(_T.FLOOR_ID, 65_536),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (Number(_T.FLOOR_ID, -1),)), "bfcp.range"),
        (Message(256, 1, 1, 1), "bfcp.range"),
        (Message(1, 1 << 32, 1, 1), "bfcp.range"),
        (Message(1, 1, 1 << 16, 1), "bfcp.range"),
        (Message(1, 1, 1, 1 << 16), "bfcp.range"),
        (Message(1, 1, 1, 1, (PriorityValue(8),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (RequestStatus(1, 256),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (RequestStatus(256),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (ErrorValue(256),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (Supported(_T.SUPPORTED_ATTRIBUTES, (128,)),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (Supported(_T.SUPPORTED_PRIMITIVES, (256,)),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (Extension(128, b""),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (Extension(0, b""),)), "bfcp.range"),
        (Message(1, 1, 1, 1, (Text(_T.ERROR_INFO, LONG),)), "bfcp.oversize"),
        (Message(1, 1, 1, 1, (Extension(99, bytes(254)),)), "bfcp.oversize"),
        (Message(1, 1, 1, 1, (Group(_T.BENEFICIARY_INFORMATION, 1, (Text(13, LONG[:248]),)),)), "bfcp.oversize"),
        (Message(1, 1, 1, 1, (Number(_T.FLOOR_ID, 1),) * 65_536), "bfcp.oversize"),
        (Message(1, 1, 1, 1, (Number(_T.PRIORITY, 1),)), "bfcp.attribute"),
        (Message(1, 1, 1, 1, (Extension(_T.FLOOR_ID, b"\0\1"),)), "bfcp.attribute"),
        (Message(1, 1, 1, 1, (Number(99, 1),)), "bfcp.attribute"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_raises(message: Message, reason: str) -> None:
    with pytest.raises(ProtocolError) as fault:
        message.to_bytes()
    assert fault.value.reason == reason


def test_groups_do_not_nest_without_end() -> None:
    group = Group(_T.FLOOR_REQUEST_INFORMATION, 1)
    for _ in range(3):
        group = Group(_T.FLOOR_REQUEST_INFORMATION, 1, (group,))
    with pytest.raises(ProtocolError, match="nesting"):
        Message(1, 1, 1, 1, (group,)).to_bytes()


def test_the_longest_text_is_written() -> None:
    message = Message(Primitive.ERROR, 1, 1, 1, (ErrorValue(14), Text(_T.ERROR_INFO, LONG[:253])))
    assert parse(message.to_bytes()) == message


def test_an_error_s_text_for_humans_is_cut_at_a_character() -> None:
    message = error(Message(1, 1, 1, 1), ErrorCode.GENERIC, "é" * 200)
    assert message.text(_T.ERROR_INFO) == "é" * 125
    message.to_bytes()
