"""BFCP attributes as values, and their type-length-value form (RFC 8855 5.2).

An attribute that the table does not know is kept as :class:`Extension`, mandatory bit and octets, so that a server can
name it in its Error and a reader can pass over it. Writing never truncates: what does not fit raises.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.bfcp.tables import FORMATS, AttributeType, ErrorCode, Format

MAX_LENGTH = 255
"""The Length field has 8 bits: octets of an attribute with its header, and of a group with all that is in it."""

_DEPTH = 3
"""Groups in groups: RFC 8855 has two levels; one more is left to extensions."""


class Number(Struct, frozen=True):
    """BENEFICIARY-ID, FLOOR-ID, FLOOR-REQUEST-ID: 16 bits."""

    type: int
    value: int
    mandatory: bool = False


class PriorityValue(Struct, frozen=True):
    """PRIORITY (5.2.4): 3 bits as they came; :attr:`effective` is what counts."""

    level: int
    mandatory: bool = False

    @property
    def type(self) -> int:
        """PRIORITY."""
        return AttributeType.PRIORITY

    @property
    def effective(self) -> int:
        """Values above 4 count as 4."""
        return min(self.level, 4)


class RequestStatus(Struct, frozen=True):
    """REQUEST-STATUS (5.2.5). ``status`` is a :class:`~imswire.bfcp.tables.Status` or a value not known here;
    ``position`` in the queue counts from 1, 0 where it does not apply or is not told.
    """

    status: int
    position: int = 0
    mandatory: bool = False

    @property
    def type(self) -> int:
        """REQUEST-STATUS."""
        return AttributeType.REQUEST_STATUS


class ErrorValue(Struct, frozen=True):
    """ERROR-CODE (5.2.6). ``details`` are the error specific details as octets; use :meth:`unknown` and
    :attr:`types` for those of code 4.
    """

    code: int
    details: bytes = b""
    mandatory: bool = False

    @classmethod
    def unknown(cls, types: Iterable[int]) -> "ErrorValue":
        """Unknown Mandatory Attribute with the types that were not understood (5.2.6.1)."""
        return cls(ErrorCode.UNKNOWN_MANDATORY_ATTRIBUTE, _shifted(types))

    @property
    def type(self) -> int:
        """ERROR-CODE."""
        return AttributeType.ERROR_CODE

    @property
    def types(self) -> tuple[int, ...]:
        """The attribute types named by code 4; empty for any other code."""
        if self.code != ErrorCode.UNKNOWN_MANDATORY_ATTRIBUTE:
            return ()
        return tuple(octet >> 1 for octet in self.details)


class Text(Struct, frozen=True):
    """An attribute of UTF-8 text. What is not UTF-8 survives reading and writing (surrogateescape)."""

    type: int
    text: str
    mandatory: bool = False


class Supported(Struct, frozen=True):
    """SUPPORTED-ATTRIBUTES (types, 5.2.10) or SUPPORTED-PRIMITIVES (5.2.11)."""

    type: int
    values: tuple[int, ...]
    mandatory: bool = False


class Extension(Struct, frozen=True):
    """An attribute not known here, contents as they came without padding."""

    type: int
    data: bytes
    mandatory: bool = False


class Group(Struct, frozen=True):
    """A grouped attribute: the 16 bits in its header (``id``) and what follows (5.2.14 to 5.2.18)."""

    type: int
    id: int
    members: "tuple[Attribute, ...]" = ()
    mandatory: bool = False

    def all(self, type: int) -> "tuple[Attribute, ...]":
        """The members of that type."""
        return tuple(one for one in self.members if one.type == type)


Attribute = Number | PriorityValue | RequestStatus | ErrorValue | Text | Supported | Extension | Group


def unknown_mandatory(attributes: Iterable[Attribute]) -> Iterator[int]:
    """Types of attributes with the mandatory bit that are not known here, in groups too; one may come repeatedly."""
    for one in attributes:
        if isinstance(one, Extension):
            if one.mandatory:
                yield one.type
        elif isinstance(one, Group):
            yield from unknown_mandatory(one.members)


# --- reading ---


def read(data: memoryview, at: int, end: int, depth: int = 0) -> tuple[Attribute, ...]:
    """The attributes in ``data[at:end]``, which is 32-bit aligned; raises ``bfcp.attribute``.

    ``data`` is the whole message, so that offsets in errors count from its first octet.
    """
    found: list[Attribute] = []
    while at < end:
        if end - at < 2:
            raise ProtocolError("bfcp.attribute", "no room for an attribute's header", at)
        head, length = data[at], data[at + 1]
        if length < 2:
            raise ProtocolError("bfcp.attribute", f"length {length} is below the attribute's own header", at + 1)
        if at + length > end:
            raise ProtocolError("bfcp.attribute", f"length {length}, {end - at} octets left", at + 1)
        found.append(_one(data, at, head >> 1, bool(head & 1), length, depth))
        at += _padded(length)
    return tuple(found)


def _one(data: memoryview, at: int, type: int, mandatory: bool, length: int, depth: int) -> Attribute:
    format = FORMATS.get(type)  # type: ignore[call-overload]  # an IntEnum is looked up by its number
    body = bytes(data[at + 2 : at + length])
    least = _LEAST.get(format, 0)
    if len(body) < least or (format in _FIXED and len(body) != least):
        raise ProtocolError("bfcp.attribute", f"{_name(type)} of length {length}", at + 1)
    match format:
        case None:
            return Extension(type, body, mandatory)
        case Format.NUMBER:
            return Number(type, int.from_bytes(body), mandatory)
        case Format.PRIORITY:
            return PriorityValue(body[0] >> 5, mandatory)
        case Format.STATUS:
            return RequestStatus(body[0], body[1], mandatory)
        case Format.ERROR:
            return ErrorValue(body[0], body[1:], mandatory)
        case Format.TEXT:
            return Text(type, body.decode("utf-8", "surrogateescape"), mandatory)
        case Format.TYPES:
            return Supported(type, tuple(octet >> 1 for octet in body), mandatory)
        case Format.PRIMITIVES:
            return Supported(type, tuple(body), mandatory)
    if depth == _DEPTH:
        raise ProtocolError("bfcp.nesting", f"{_name(type)} inside {_DEPTH} groups", at)
    # Padding of the last member may be missing in the group's length: the next attribute is aligned all the same.
    members = read(data, at + 4, at + _padded(length), depth + 1)
    return Group(type, int.from_bytes(body[:2]), members, mandatory)


_LEAST: dict[Format | None, int] = {
    Format.NUMBER: 2,
    Format.PRIORITY: 2,
    Format.STATUS: 2,
    Format.ERROR: 1,
    Format.GROUP: 2,
}
"""Octets after the header that an attribute has at least."""
_FIXED = frozenset({Format.NUMBER, Format.PRIORITY, Format.STATUS})
"""Formats that have exactly so many."""


# --- writing ---


def write(attributes: Iterable[Attribute], depth: int = 0) -> bytes:
    """The octets of attributes with their padding; raises ``bfcp.range``, ``bfcp.oversize`` or ``bfcp.nesting``."""
    out = bytearray()
    for one in attributes:
        number(one.type, 1, 127, "an attribute type")
        body = _body(one, depth)
        length = 2 + len(body)
        if length > MAX_LENGTH:
            raise ProtocolError("bfcp.oversize", f"{_name(one.type)} of {length} octets, at most {MAX_LENGTH}")
        out += bytes((one.type << 1 | one.mandatory, length)) + body + bytes(_padded(length) - length)
    return bytes(out)


def _body(one: Attribute, depth: int) -> bytes:
    format = FORMATS.get(one.type)  # type: ignore[call-overload]
    wanted = _CLASSES[format]
    if not isinstance(one, wanted):
        raise ProtocolError("bfcp.attribute", f"{_name(one.type)} written as {type(one).__name__}")
    match one:
        case Number():
            return number(one.value, 0, 0xFFFF, _name(one.type)).to_bytes(2)
        case PriorityValue():
            return bytes((number(one.level, 0, 7, "a priority") << 5, 0))
        case RequestStatus():
            return bytes((number(one.status, 0, 255, "a status"), number(one.position, 0, 255, "a queue position")))
        case ErrorValue():
            return bytes((number(one.code, 0, 255, "an error code"),)) + one.details
        case Text():
            return one.text.encode("utf-8", "surrogateescape")
        case Supported():
            if format is Format.TYPES:
                return _shifted(one.values)
            return bytes(number(value, 0, 255, "a primitive") for value in one.values)
        case Extension():
            return one.data
        case Group():
            if depth == _DEPTH:
                raise ProtocolError("bfcp.nesting", f"{_name(one.type)} inside {_DEPTH} groups")
            return number(one.id, 0, 0xFFFF, _name(one.type)).to_bytes(2) + write(one.members, depth + 1)


_CLASSES: dict[Format | None, type] = {
    None: Extension,
    Format.NUMBER: Number,
    Format.PRIORITY: PriorityValue,
    Format.STATUS: RequestStatus,
    Format.ERROR: ErrorValue,
    Format.TEXT: Text,
    Format.TYPES: Supported,
    Format.PRIMITIVES: Supported,
    Format.GROUP: Group,
}


def number(value: int, low: int, high: int, what: str) -> int:
    """``value`` if it is in range; raises ``bfcp.range``."""
    if not low <= value <= high:
        raise ProtocolError("bfcp.range", f"{what} is {value}, {low} to {high} allowed")
    return value


def _shifted(types: Iterable[int]) -> bytes:
    """Attribute types as 7 bits each beside a reserved one."""
    return bytes(number(one, 0, 127, "an attribute type") << 1 for one in types)


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _name(type: int) -> str:
    try:
        return AttributeType(type).name.replace("_", "-")
    except ValueError:
        return f"attribute {type}"
