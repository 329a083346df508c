"""BFCP messages: common header and attributes (RFC 8855 5.1, 5.3) for reliable transports, version 1."""

from collections.abc import Iterable

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.bfcp.attributes import (
    Attribute,
    ErrorValue,
    Group,
    Number,
    Text,
    number,
    read,
    unknown_mandatory,
    write,
)
from imswire.bfcp.tables import GRAMMAR, MEMBERS, VERSION, AttributeType, ErrorCode, Occurs, Primitive

HEADER = 12
"""Octets of the common header; the payload length counts units of 4 octets after it."""


class Header(Struct, frozen=True):
    """The common header. ``payload`` is in octets. R, F and the reserved bits mean nothing over TCP (5.1)."""

    version: int
    primitive: int
    payload: int
    conference: int
    transaction: int
    user: int


class BadMessage(ProtocolError):
    """A message that cannot be taken. ``code`` is what a floor control server answers; ``header`` what the answer is
    made from, None where there is not even that.
    """

    def __init__(
        self,
        reason: str,
        hint: str = "",
        offset: int = -1,
        *,
        code: ErrorCode = ErrorCode.UNABLE_TO_PARSE,
        header: Header | None = None,
    ) -> None:
        super().__init__(reason, hint, offset)
        self.code = code
        self.header = header

    def answer(self) -> "Message | None":
        """The Error message for it (13.8); an Error is never answered."""
        header = self.header
        if header is None or header.primitive == Primitive.ERROR:
            return None
        return error(header, self.code, self.hint)


class Message(Struct, frozen=True):
    """One message. ``primitive`` is a :class:`Primitive` or a number not known here. ``conference`` has 32 bits,
    ``transaction`` and ``user`` 16; transaction 0 marks what a server sends of its own accord (8.2).
    """

    primitive: int
    conference: int
    transaction: int
    user: int
    attributes: tuple[Attribute, ...] = ()

    def to_bytes(self) -> bytes:
        """The octets; raises ``bfcp.range`` or ``bfcp.oversize``."""
        payload = write(self.attributes)
        if len(payload) // 4 > 0xFFFF:
            raise ProtocolError("bfcp.oversize", f"a payload of {len(payload)} octets, at most {0xFFFF * 4}")
        return b"".join(
            (
                bytes((VERSION << 5, number(self.primitive, 0, 255, "a primitive"))),
                (len(payload) // 4).to_bytes(2),
                number(self.conference, 0, 0xFFFFFFFF, "a conference id").to_bytes(4),
                number(self.transaction, 0, 0xFFFF, "a transaction id").to_bytes(2),
                number(self.user, 0, 0xFFFF, "a user id").to_bytes(2),
                payload,
            )
        )

    def reply(self, primitive: Primitive, attributes: Iterable[Attribute] = ()) -> "Message":
        """A message with this one's conference, transaction and user (8.2)."""
        return Message(primitive, self.conference, self.transaction, self.user, tuple(attributes))

    def all(self, type: int) -> tuple[Attribute, ...]:
        """The attributes of that type, in order; groups are not searched."""
        return tuple(one for one in self.attributes if one.type == type)

    def numbers(self, type: int) -> tuple[int, ...]:
        """The values of the 16-bit attributes of that type."""
        return tuple(one.value for one in self.attributes if isinstance(one, Number) and one.type == type)

    def number(self, type: int) -> int | None:
        """The value of the first 16-bit attribute of that type."""
        return next(iter(self.numbers(type)), None)

    def text(self, type: int) -> str | None:
        """The first text of that type."""
        return next((one.text for one in self.attributes if isinstance(one, Text) and one.type == type), None)

    def groups(self, type: int) -> tuple[Group, ...]:
        """The grouped attributes of that type."""
        return tuple(one for one in self.attributes if isinstance(one, Group) and one.type == type)

    @property
    def error(self) -> ErrorValue | None:
        """The ERROR-CODE."""
        return next((one for one in self.attributes if isinstance(one, ErrorValue)), None)

    @property
    def unknown_mandatory(self) -> tuple[int, ...]:
        """Types of attributes that are not known here and carry the mandatory bit, each once (5.2)."""
        return tuple(dict.fromkeys(unknown_mandatory(self.attributes)))

    def check(self) -> None:
        """Raises ``bfcp.grammar`` where an attribute that 5.2 and 5.3 require is missing, or stands too often."""
        rules = GRAMMAR.get(self.primitive)  # type: ignore[call-overload]  # an IntEnum is looked up by its number
        if rules is None:
            return
        name = Primitive(self.primitive).name.lower().replace("_", " ")
        _count(self.attributes, rules, name)
        for group in (one for one in self.attributes if isinstance(one, Group)):
            _check_group(group)


def error(to: Header | Message, code: int, info: str = "", *, types: Iterable[int] = ()) -> Message:
    """The Error message in answer to ``to`` (13.8). ``info`` is cut to what an attribute holds, at a character's end:
    it is for humans.
    """
    value = ErrorValue.unknown(types) if code == ErrorCode.UNKNOWN_MANDATORY_ATTRIBUTE else ErrorValue(code)
    attributes: list[Attribute] = [value]
    if info:
        text = info.encode("utf-8", "replace")[:250].decode("utf-8", "ignore")
        attributes.append(Text(AttributeType.ERROR_INFO, text))
    return Message(Primitive.ERROR, to.conference, to.transaction, to.user, tuple(attributes))


def parse_header(data: bytes | memoryview) -> Header:
    """The first 12 octets; raises :class:`BadMessage` where there are fewer."""
    if len(data) < HEADER:
        raise BadMessage("bfcp.header", f"{len(data)} octets, the common header has {HEADER}", 0)
    return Header(
        version=data[0] >> 5,
        primitive=data[1],
        payload=int.from_bytes(data[2:4]) * 4,
        conference=int.from_bytes(data[4:8]),
        transaction=int.from_bytes(data[8:10]),
        user=int.from_bytes(data[10:12]),
    )


def parse(data: bytes) -> Message:
    """Read one whole message; raises :class:`BadMessage`.

    A primitive that is not known and attributes that are not known are no errors here: who serves decides in the
    order of RFC 8855 13. Nor is a missing attribute: :meth:`Message.check` looks for those.
    """
    view = memoryview(data)
    header = parse_header(view)
    if header.version != VERSION:
        raise BadMessage(
            "bfcp.version", f"version {header.version}", 0, code=ErrorCode.UNSUPPORTED_VERSION, header=header
        )
    if header.payload != len(data) - HEADER:
        raise BadMessage(
            "bfcp.length",
            f"payload length {header.payload}, {len(data) - HEADER} octets there",
            2,
            code=ErrorCode.INCORRECT_LENGTH,
            header=header,
        )
    try:
        attributes = read(view, HEADER, len(data))
    except ProtocolError as fault:
        raise BadMessage(fault.reason, fault.hint, fault.offset, header=header) from None
    primitive = Primitive(header.primitive) if header.primitive in _KNOWN else header.primitive
    return Message(primitive, header.conference, header.transaction, header.user, attributes)


_KNOWN = frozenset(int(one) for one in Primitive)


def _check_group(group: Group) -> None:
    _count(group.members, MEMBERS[AttributeType(group.type)], AttributeType(group.type).name.replace("_", "-"))
    for member in group.members:
        if isinstance(member, Group):
            _check_group(member)


def _count(attributes: tuple[Attribute, ...], rules: dict[AttributeType, Occurs], where: str) -> None:
    types = [one.type for one in attributes]
    for type, occurs in rules.items():
        seen = types.count(type)
        if seen < occurs.least or (occurs.most is not None and seen > occurs.most):
            raise ProtocolError("bfcp.grammar", f"{where} has {type.name.replace('_', '-')} {seen} times")
