"""The numbers of BFCP as tables (RFC 8855 5.1 to 5.3): primitives, attributes, their formats and where they belong.

What an RFC 4582 peer knows is a subset: primitives 1 to 13 and error codes 1 to 9.
"""

from enum import IntEnum, StrEnum

from msgspec import Struct

VERSION = 1
"""The only version over a reliable transport (5.1); version 2 belongs to UDP."""


class Primitive(IntEnum):
    """Table 1."""

    FLOOR_REQUEST = 1
    FLOOR_RELEASE = 2
    FLOOR_REQUEST_QUERY = 3
    FLOOR_REQUEST_STATUS = 4
    USER_QUERY = 5
    USER_STATUS = 6
    FLOOR_QUERY = 7
    FLOOR_STATUS = 8
    CHAIR_ACTION = 9
    CHAIR_ACTION_ACK = 10
    HELLO = 11
    HELLO_ACK = 12
    ERROR = 13
    FLOOR_REQUEST_STATUS_ACK = 14
    FLOOR_STATUS_ACK = 15
    GOODBYE = 16
    GOODBYE_ACK = 17


RELIABLE = tuple(Primitive(number) for number in range(1, 14))
"""The primitives in use over TCP. The others acknowledge and part over unreliable transports (5.3.14 to 5.3.17)."""

TO_SERVER = frozenset(
    {
        Primitive.FLOOR_REQUEST,
        Primitive.FLOOR_RELEASE,
        Primitive.FLOOR_REQUEST_QUERY,
        Primitive.USER_QUERY,
        Primitive.FLOOR_QUERY,
        Primitive.CHAIR_ACTION,
        Primitive.HELLO,
    }
)
"""What a floor control server takes over TCP."""


class AttributeType(IntEnum):
    """Table 2."""

    BENEFICIARY_ID = 1
    FLOOR_ID = 2
    FLOOR_REQUEST_ID = 3
    PRIORITY = 4
    REQUEST_STATUS = 5
    ERROR_CODE = 6
    ERROR_INFO = 7
    PARTICIPANT_PROVIDED_INFO = 8
    STATUS_INFO = 9
    SUPPORTED_ATTRIBUTES = 10
    SUPPORTED_PRIMITIVES = 11
    USER_DISPLAY_NAME = 12
    USER_URI = 13
    BENEFICIARY_INFORMATION = 14
    FLOOR_REQUEST_INFORMATION = 15
    REQUESTED_BY_INFORMATION = 16
    FLOOR_REQUEST_STATUS = 17
    OVERALL_REQUEST_STATUS = 18


class Format(StrEnum):
    """How the contents of an attribute are laid out. Finer than the four formats of 5.2, which do not say what an
    OctetString holds.
    """

    NUMBER = "Unsigned16"
    PRIORITY = "priority"
    STATUS = "request status"
    ERROR = "error code"
    TEXT = "text"
    TYPES = "list of types"
    PRIMITIVES = "list of primitives"
    GROUP = "Grouped"


_T = AttributeType
FORMATS: dict[AttributeType, Format] = {
    _T.BENEFICIARY_ID: Format.NUMBER,
    _T.FLOOR_ID: Format.NUMBER,
    _T.FLOOR_REQUEST_ID: Format.NUMBER,
    _T.PRIORITY: Format.PRIORITY,
    _T.REQUEST_STATUS: Format.STATUS,
    _T.ERROR_CODE: Format.ERROR,
    _T.ERROR_INFO: Format.TEXT,
    _T.PARTICIPANT_PROVIDED_INFO: Format.TEXT,
    _T.STATUS_INFO: Format.TEXT,
    _T.SUPPORTED_ATTRIBUTES: Format.TYPES,
    _T.SUPPORTED_PRIMITIVES: Format.PRIMITIVES,
    _T.USER_DISPLAY_NAME: Format.TEXT,
    _T.USER_URI: Format.TEXT,
    _T.BENEFICIARY_INFORMATION: Format.GROUP,
    _T.FLOOR_REQUEST_INFORMATION: Format.GROUP,
    _T.REQUESTED_BY_INFORMATION: Format.GROUP,
    _T.FLOOR_REQUEST_STATUS: Format.GROUP,
    _T.OVERALL_REQUEST_STATUS: Format.GROUP,
}


class Status(IntEnum):
    """Table 4, Request Status values."""

    PENDING = 1
    ACCEPTED = 2
    GRANTED = 3
    DENIED = 4
    CANCELLED = 5
    RELEASED = 6
    REVOKED = 7

    @property
    def ongoing(self) -> bool:
        """The request still waits for the floor or holds it (10.1.2)."""
        return self <= Status.GRANTED


class ErrorCode(IntEnum):
    """Table 5."""

    CONFERENCE_DOES_NOT_EXIST = 1
    USER_DOES_NOT_EXIST = 2
    UNKNOWN_PRIMITIVE = 3
    UNKNOWN_MANDATORY_ATTRIBUTE = 4
    UNAUTHORIZED_OPERATION = 5
    INVALID_FLOOR_ID = 6
    FLOOR_REQUEST_ID_DOES_NOT_EXIST = 7
    TOO_MANY_REQUESTS = 8
    USE_TLS = 9
    UNABLE_TO_PARSE = 10
    USE_DTLS = 11
    UNSUPPORTED_VERSION = 12
    INCORRECT_LENGTH = 13
    GENERIC = 14


class Priority(IntEnum):
    """Table 3; a higher value counts as HIGHEST, an absent attribute as NORMAL."""

    LOWEST = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3
    HIGHEST = 4


class Occurs(Struct, frozen=True):
    """How often an attribute may stand in its place; ``most`` None is any number."""

    least: int = 0
    most: int | None = 1


_ONE, _OPTIONAL, _ANY, _SOME = Occurs(1, 1), Occurs(0, 1), Occurs(0, None), Occurs(1, None)

GRAMMAR: dict[Primitive, dict[AttributeType, Occurs]] = {
    Primitive.FLOOR_REQUEST: {
        _T.FLOOR_ID: _SOME,
        _T.BENEFICIARY_ID: _OPTIONAL,
        _T.PARTICIPANT_PROVIDED_INFO: _OPTIONAL,
        _T.PRIORITY: _OPTIONAL,
    },
    Primitive.FLOOR_RELEASE: {_T.FLOOR_REQUEST_ID: _ONE},
    Primitive.FLOOR_REQUEST_QUERY: {_T.FLOOR_REQUEST_ID: _ONE},
    Primitive.FLOOR_REQUEST_STATUS: {_T.FLOOR_REQUEST_INFORMATION: _ONE},
    Primitive.USER_QUERY: {_T.BENEFICIARY_ID: _OPTIONAL},
    Primitive.USER_STATUS: {_T.BENEFICIARY_INFORMATION: _OPTIONAL, _T.FLOOR_REQUEST_INFORMATION: _ANY},
    Primitive.FLOOR_QUERY: {_T.FLOOR_ID: _ANY},
    Primitive.FLOOR_STATUS: {_T.FLOOR_ID: _ANY, _T.FLOOR_REQUEST_INFORMATION: _ANY},
    Primitive.CHAIR_ACTION: {_T.FLOOR_REQUEST_INFORMATION: _ONE},
    Primitive.CHAIR_ACTION_ACK: {},
    Primitive.HELLO: {},
    Primitive.HELLO_ACK: {_T.SUPPORTED_PRIMITIVES: _ONE, _T.SUPPORTED_ATTRIBUTES: _ONE},
    Primitive.ERROR: {_T.ERROR_CODE: _ONE, _T.ERROR_INFO: _OPTIONAL},
    Primitive.FLOOR_REQUEST_STATUS_ACK: {},
    Primitive.FLOOR_STATUS_ACK: {},
    Primitive.GOODBYE: {},
    Primitive.GOODBYE_ACK: {},
}
"""The message formats of 5.3. RFC 4582 5.3 has the same ones; order is not enforced, and known attributes in a place
where the table has none are left to the reader, as extensions are.
"""

MEMBERS: dict[AttributeType, dict[AttributeType, Occurs]] = {
    _T.BENEFICIARY_INFORMATION: {_T.USER_DISPLAY_NAME: _OPTIONAL, _T.USER_URI: _OPTIONAL},
    _T.REQUESTED_BY_INFORMATION: {_T.USER_DISPLAY_NAME: _OPTIONAL, _T.USER_URI: _OPTIONAL},
    _T.FLOOR_REQUEST_STATUS: {_T.REQUEST_STATUS: _OPTIONAL, _T.STATUS_INFO: _OPTIONAL},
    _T.OVERALL_REQUEST_STATUS: {_T.REQUEST_STATUS: _OPTIONAL, _T.STATUS_INFO: _OPTIONAL},
    _T.FLOOR_REQUEST_INFORMATION: {
        _T.OVERALL_REQUEST_STATUS: _OPTIONAL,
        _T.FLOOR_REQUEST_STATUS: _SOME,
        _T.BENEFICIARY_INFORMATION: _OPTIONAL,
        _T.REQUESTED_BY_INFORMATION: _OPTIONAL,
        _T.PRIORITY: _OPTIONAL,
        _T.PARTICIPANT_PROVIDED_INFO: _OPTIONAL,
    },
}
"""What the grouped attributes hold (5.2.14 to 5.2.18)."""
