"""STUN Binding (RFC 5389), as far as keep-alives of SIP over UDP need it (RFC 5626 8): a request in, its answer out.

There is neither authentication nor anything else to negotiate (RFC 5626 8.1), so nothing is kept between two requests.
"""

import zlib
from ipaddress import ip_address

from msgspec import Struct

from imswire.base import ProtocolError

HEADER = 20
COOKIE = b"\x21\x12\xa4\x42"
BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
XOR_MAPPED_ADDRESS = 0x0020
FINGERPRINT = 0x8028
_FINGERPRINT_XOR = 0x5354554E
# Attributes below 0x8000 have to be understood; these are, and mean nothing to a keep-alive (RFC 5389 18.2).
_UNDERSTOOD = frozenset({0x0001, 0x0006, 0x0008, ERROR_CODE, UNKNOWN_ATTRIBUTES, 0x0014, 0x0015, XOR_MAPPED_ADDRESS})
LARGEST = 548
"""Octets of a request that is looked at: what fits any IPv4 path (RFC 5389 7.1)."""


class BindingRequest(Struct, frozen=True):
    """``transaction`` are its 12 octets, ``unknown`` the types that had to be understood and were not."""

    transaction: bytes
    unknown: tuple[int, ...] = ()
    fingerprint: bool = False


def is_stun(data: bytes) -> bool:
    """Whether a datagram is STUN and not SIP: two zero bits and the magic cookie (RFC 5389 6, 8)."""
    return len(data) >= HEADER and data[0] < 0x40 and data[4:8] == COOKIE


def parse_request(data: bytes) -> BindingRequest:
    """Read a Binding request; raises ProtocolError ``stun.message`` for anything else."""
    if not is_stun(data) or len(data) > LARGEST:
        raise ProtocolError("stun.message", f"not a STUN message: {data[:8].hex()}, {len(data)} octets")
    kind, length = int.from_bytes(data[:2]), int.from_bytes(data[2:4])
    if kind != BINDING_REQUEST:
        raise ProtocolError("stun.message", f"type {kind:#06x}, a Binding request (0x0001) was expected")
    if length % 4 or length != len(data) - HEADER:
        raise ProtocolError("stun.message", f"length {length}, {len(data) - HEADER} octets follow", 2)
    unknown: list[int] = []
    at = HEADER
    while at < len(data):
        sort, size = int.from_bytes(data[at : at + 2]), int.from_bytes(data[at + 2 : at + 4])
        end = at + 4 + (size + 3) // 4 * 4
        if end > len(data):
            raise ProtocolError("stun.message", f"attribute {sort:#06x} of {size} octets goes beyond the end", at)
        if sort == FINGERPRINT:
            if size != 4 or end != len(data) or data[at + 4 : end] != _fingerprint(data[:at]):
                raise ProtocolError("stun.message", "the FINGERPRINT does not fit or is not the last attribute", at)
            return BindingRequest(data[8:HEADER], tuple(unknown), True)
        if sort < 0x8000 and sort not in _UNDERSTOOD:
            unknown.append(sort)
        at = end
    return BindingRequest(data[8:HEADER], tuple(unknown))


def answer(request: BindingRequest, remote: tuple[str, int]) -> bytes:
    """The response to a request that came from ``remote``: its own address, or 420 (RFC 5389 7.3.1, 15.2, 15.6)."""
    if request.unknown:
        types = b"".join(one.to_bytes(2) for one in request.unknown)
        reason = b"Unknown Attribute"
        body = _attribute(ERROR_CODE, b"\0\0\x04\x14" + reason) + _attribute(UNKNOWN_ATTRIBUTES, types)
        return _message(BINDING_ERROR, request, body)
    address = ip_address(remote[0])
    mask = COOKIE + request.transaction
    mapped = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    port = remote[1] ^ int.from_bytes(COOKIE[:2])
    family = b"\0\x02" if address.version == 6 else b"\0\x01"
    return _message(BINDING_SUCCESS, request, _attribute(XOR_MAPPED_ADDRESS, family + port.to_bytes(2) + mapped))


def _attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2) + len(value).to_bytes(2) + value + b"\0" * (-len(value) % 4)


def _message(kind: int, request: BindingRequest, body: bytes) -> bytes:
    length = len(body) + (8 if request.fingerprint else 0)
    message = kind.to_bytes(2) + length.to_bytes(2) + COOKIE + request.transaction + body
    return message + _attribute(FINGERPRINT, _fingerprint(message)) if request.fingerprint else message


def _fingerprint(message: bytes) -> bytes:
    """CRC-32 of what precedes, with the length field as it is in the whole message (RFC 5389 15.5)."""
    return (zlib.crc32(message) ^ _FINGERPRINT_XOR).to_bytes(4)
