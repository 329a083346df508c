"""Bad BFCP and the answer each piece gets: reason, error code, and whether an answer is possible at all."""

import pytest

from imswire.base import ProtocolError
from imswire.bfcp.message import BadMessage, parse
from imswire.bfcp.tables import ErrorCode

ID = "00000001 0002 0003"

UNREADABLE: list[tuple[str, str, str, ErrorCode, bool]] = [
    # what is wrong, octets, reason, code, can be answered
    ("empty", "", "bfcp.header", ErrorCode.UNABLE_TO_PARSE, False),
    ("half a header", "20 01 0000 00000001", "bfcp.header", ErrorCode.UNABLE_TO_PARSE, False),
    ("text", "48656c6c6f2c20776f726c6421", "bfcp.version", ErrorCode.UNSUPPORTED_VERSION, True),
    ("version 0", f"00 0b 0000 {ID}", "bfcp.version", ErrorCode.UNSUPPORTED_VERSION, True),
    ("version 2 over TCP", f"40 0b 0000 {ID}", "bfcp.version", ErrorCode.UNSUPPORTED_VERSION, True),
    ("version 7", f"e0 0b 0000 {ID}", "bfcp.version", ErrorCode.UNSUPPORTED_VERSION, True),
    ("length too large", f"20 0b 0001 {ID}", "bfcp.length", ErrorCode.INCORRECT_LENGTH, True),
    ("length too small", f"20 0b 0000 {ID} 04040001", "bfcp.length", ErrorCode.INCORRECT_LENGTH, True),
    ("an odd octet", f"20 0b 0001 {ID} 0404000100", "bfcp.length", ErrorCode.INCORRECT_LENGTH, True),
    ("an Error that is bad", f"20 0d 0001 {ID}", "bfcp.length", ErrorCode.INCORRECT_LENGTH, False),
    ("attribute length 0", f"20 01 0001 {ID} 04000001", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("attribute length 1", f"20 01 0001 {ID} 04010001", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("attribute past the end", f"20 01 0001 {ID} 10050001", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("attribute of 255 past the end", f"20 01 0001 {ID} c8ff0001", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("FLOOR-ID of length 2", f"20 01 0001 {ID} 04020000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("FLOOR-ID of length 3", f"20 01 0001 {ID} 04030000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("FLOOR-ID of length 6", f"20 01 0002 {ID} 0406000100000000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("PRIORITY of length 3", f"20 01 0001 {ID} 08030000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("REQUEST-STATUS of length 2", f"20 01 0001 {ID} 0a020000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("ERROR-CODE without a code", f"20 01 0001 {ID} 0c020000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("group without its id", f"20 01 0001 {ID} 1c020000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    ("member past its group", f"20 01 0002 {ID} 1c080001 18060000", "bfcp.attribute", ErrorCode.UNABLE_TO_PARSE, True),
    (
        "groups in groups",
        f"20 01 0005 {ID} 1e140001 1e100001 1e0c0001 1e080001 1e040001",
        "bfcp.nesting",
        ErrorCode.UNABLE_TO_PARSE,
        True,
    ),
]


@pytest.mark.parametrize(
    ("octets", "reason", "code", "answered"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
def test_unreadable(octets: str, reason: str, code: ErrorCode, answered: bool) -> None:
    with pytest.raises(BadMessage) as fault:
        parse(bytes.fromhex(octets))
    assert (fault.value.reason, fault.value.code) == (reason, code)
    answer = fault.value.answer()
    assert (answer is not None) == answered
    if answer is not None:
        again = parse(answer.to_bytes())
        assert again.error is not None
        assert again.error.code == code


GRAMMAR = [
    ("FloorRequest without a floor", "01", ""),
    ("two beneficiaries", "01", "04040001 02040001 02040002"),
    ("two priorities", "01", "04040001 08040000 08040000"),
    ("FloorRelease without a request", "02", ""),
    ("FloorRelease of two requests", "02", "06040001 06040002"),
    ("FloorRequestQuery without a request", "03", ""),
    ("FloorRequestStatus without information", "04", ""),
    ("information without a floor", "04", "1e040001"),
    ("two overall statuses", "04", "1e100001 22040001 24040001 24040001"),
    ("two names", "06", "1c0c0001 18036100 18036200"),
    ("ChairAction without information", "09", ""),
    ("HelloAck without attributes", "0c", "16030100"),
    ("Error without a code", "0d", ""),
    ("Error with two codes", "0d", "0c030100 0c030200"),
]


@pytest.mark.parametrize(("primitive", "payload"), [row[1:] for row in GRAMMAR], ids=[row[0] for row in GRAMMAR])
def test_readable_but_not_what_the_primitive_needs(primitive: str, payload: str) -> None:
    octets = bytes.fromhex(payload)
    message = parse(bytes.fromhex(f"20 {primitive} {len(octets) // 4:04x} {ID}") + octets)
    with pytest.raises(ProtocolError) as fault:
        message.check()
    assert fault.value.reason == "bfcp.grammar"
