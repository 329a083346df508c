"""One message of every primitive, and between them every attribute."""

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
from imswire.bfcp.message import Message
from imswire.bfcp.tables import RELIABLE, AttributeType, Primitive, Status

_T = AttributeType
CONFERENCE, TRANSACTION, USER = 4321, 123, 234

INFORMATION = Group(
    _T.FLOOR_REQUEST_INFORMATION,
    789,
    (
        Group(
            _T.OVERALL_REQUEST_STATUS,
            789,
            (RequestStatus(Status.ACCEPTED, 1), Text(_T.STATUS_INFO, "soon")),
        ),
        Group(_T.FLOOR_REQUEST_STATUS, 543, (RequestStatus(Status.ACCEPTED), Text(_T.STATUS_INFO, "after Bob"))),
        Group(_T.FLOOR_REQUEST_STATUS, 544),
        Group(
            _T.BENEFICIARY_INFORMATION,
            154,
            (Text(_T.USER_DISPLAY_NAME, "Zoë"), Text(_T.USER_URI, "sip:zoe@lab.example")),
        ),
        Group(_T.REQUESTED_BY_INFORMATION, 235, (Text(_T.USER_DISPLAY_NAME, "Bob"),)),
        PriorityValue(3),
        Text(_T.PARTICIPANT_PROVIDED_INFO, "a question"),
    ),
)

CONTENTS: dict[Primitive, tuple[Attribute, ...]] = {
    Primitive.FLOOR_REQUEST: (
        Number(_T.FLOOR_ID, 543),
        Number(_T.FLOOR_ID, 544),
        Number(_T.BENEFICIARY_ID, 154),
        Text(_T.PARTICIPANT_PROVIDED_INFO, "¿a question?"),
        PriorityValue(4),
    ),
    Primitive.FLOOR_RELEASE: (Number(_T.FLOOR_REQUEST_ID, 789),),
    Primitive.FLOOR_REQUEST_QUERY: (Number(_T.FLOOR_REQUEST_ID, 789),),
    Primitive.FLOOR_REQUEST_STATUS: (INFORMATION,),
    Primitive.USER_QUERY: (Number(_T.BENEFICIARY_ID, 154),),
    Primitive.USER_STATUS: (
        Group(_T.BENEFICIARY_INFORMATION, 154, (Text(_T.USER_URI, "sip:zoe@lab.example"),)),
        INFORMATION,
        INFORMATION,
    ),
    Primitive.FLOOR_QUERY: (Number(_T.FLOOR_ID, 543), Number(_T.FLOOR_ID, 544)),
    Primitive.FLOOR_STATUS: (Number(_T.FLOOR_ID, 543), INFORMATION),
    Primitive.CHAIR_ACTION: (
        Group(
            _T.FLOOR_REQUEST_INFORMATION,
            789,
            (Group(_T.FLOOR_REQUEST_STATUS, 543, (RequestStatus(Status.GRANTED),)),),
        ),
    ),
    Primitive.CHAIR_ACTION_ACK: (),
    Primitive.HELLO: (),
    Primitive.HELLO_ACK: (
        Supported(_T.SUPPORTED_PRIMITIVES, tuple(int(one) for one in RELIABLE)),
        Supported(_T.SUPPORTED_ATTRIBUTES, tuple(int(one) for one in AttributeType)),
    ),
    Primitive.ERROR: (ErrorValue.unknown((100, 101, 102)), Text(_T.ERROR_INFO, "what is that?")),
    Primitive.FLOOR_REQUEST_STATUS_ACK: (),
    Primitive.FLOOR_STATUS_ACK: (),
    Primitive.GOODBYE: (Extension(99, b"by", mandatory=False),),
    Primitive.GOODBYE_ACK: (),
}

SAMPLES = {
    primitive: Message(primitive, CONFERENCE, TRANSACTION, USER, contents) for primitive, contents in CONTENTS.items()
}
