"""A floor participant or chair as a pure machine: builds requests, matches answers, follows its floor requests
(RFC 8855 8.1, 10 to 12).
"""

from collections.abc import Iterable

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.bfcp.attributes import Attribute, Group, Number, PriorityValue, RequestStatus, Text
from imswire.bfcp.message import Message
from imswire.bfcp.tables import AttributeType, Primitive, Status

_MAX_ID = 0xFFFF


class RequestInfo(Struct, frozen=True):
    """What a FLOOR-REQUEST-INFORMATION says. ``status`` is None where it says nothing or something unknown;
    ``floors`` maps floor ids to their own status; ``beneficiary`` and ``requested_by`` are user ids.
    """

    id: int
    status: Status | None
    position: int
    floors: dict[int, Status | None]
    beneficiary: int | None = None
    requested_by: int | None = None
    priority: int | None = None
    info: str = ""
    reason: str = ""

    @classmethod
    def read(cls, group: Group) -> "RequestInfo":
        """Read the attribute; what is missing stays empty."""
        status, position, reason = None, 0, ""
        floors: dict[int, Status | None] = {}
        users: dict[int, int] = {}
        priority, info = None, ""
        for one in group.members:
            match one:
                case Group(type=AttributeType.OVERALL_REQUEST_STATUS):
                    status, position, reason = _overall(one)
                case Group(type=AttributeType.FLOOR_REQUEST_STATUS):
                    floors[one.id] = _overall(one)[0]
                case Group():
                    users[one.type] = one.id
                case PriorityValue():
                    priority = one.effective
                case Text():
                    info = one.text
                case _:
                    pass
        beneficiary = users.get(AttributeType.BENEFICIARY_INFORMATION)
        requested_by = users.get(AttributeType.REQUESTED_BY_INFORMATION)
        return cls(group.id, status, position, floors, beneficiary, requested_by, priority, info, reason)


class Answered(Struct, frozen=True):
    """The answer to one of our requests; an Error is an answer too."""

    request: Message
    answer: Message


class Notified(Struct, frozen=True):
    """Something the server says of its own accord (transaction 0)."""

    message: Message


class RequestChanged(Struct, frozen=True):
    """One of our floor requests has another status or place in the queue."""

    info: RequestInfo


ClientEvent = Answered | Notified | RequestChanged


class FloorClient:
    """One user's side of a connection. The methods that build messages return them ready to be sent.

    ``requests`` holds the last known state of our floor requests, ended ones until :meth:`forget`. ``limit`` bounds
    requests without answer and floor requests followed.
    """

    def __init__(self, conference: int, user: int, limit: int = 1_024) -> None:
        self.conference = conference
        self.user = user
        self.requests: dict[int, RequestInfo] = {}
        self._limit = limit
        self._waiting: dict[int, Message] = {}
        self._last = 0

    @property
    def waiting(self) -> tuple[Message, ...]:
        """Requests without answer: they may be sent again on a new connection (6.1)."""
        return tuple(self._waiting.values())

    def request_floor(
        self, *floors: int, beneficiary: int | None = None, priority: int | None = None, info: str = ""
    ) -> Message:
        """FloorRequest (10.1.1)."""
        attributes: list[Attribute] = [Number(AttributeType.FLOOR_ID, floor) for floor in floors]
        if beneficiary is not None:
            attributes.append(Number(AttributeType.BENEFICIARY_ID, beneficiary))
        if info:
            attributes.append(Text(AttributeType.PARTICIPANT_PROVIDED_INFO, info))
        if priority is not None:
            attributes.append(PriorityValue(priority))
        return self._message(Primitive.FLOOR_REQUEST, attributes)

    def release(self, request: int) -> Message:
        """FloorRelease: gives a floor back, or cancels a request (10.2.1)."""
        return self._message(Primitive.FLOOR_RELEASE, [Number(AttributeType.FLOOR_REQUEST_ID, request)])

    def query_request(self, request: int) -> Message:
        """FloorRequestQuery (12.2.1)."""
        return self._message(Primitive.FLOOR_REQUEST_QUERY, [Number(AttributeType.FLOOR_REQUEST_ID, request)])

    def query_floors(self, *floors: int) -> Message:
        """FloorQuery: be told of these floors from now on, or of none any more (12.1.1)."""
        return self._message(Primitive.FLOOR_QUERY, [Number(AttributeType.FLOOR_ID, floor) for floor in floors])

    def query_user(self, user: int | None = None) -> Message:
        """UserQuery about another user, or about ourselves (12.3.1)."""
        about: list[Attribute] = [] if user is None else [Number(AttributeType.BENEFICIARY_ID, user)]
        return self._message(Primitive.USER_QUERY, about)

    def hello(self) -> Message:
        """Hello (12.4.1)."""
        return self._message(Primitive.HELLO, ())

    def chair(
        self, request: int, floors: Iterable[int], status: Status, *, position: int = 0, reason: str = ""
    ) -> Message:
        """ChairAction with one decision for some floors of a request (11.1)."""
        said: list[Attribute] = [RequestStatus(status, position)]
        if reason:
            said.append(Text(AttributeType.STATUS_INFO, reason))
        members = tuple(Group(AttributeType.FLOOR_REQUEST_STATUS, floor, tuple(said)) for floor in floors)
        return self._message(Primitive.CHAIR_ACTION, [Group(AttributeType.FLOOR_REQUEST_INFORMATION, request, members)])

    def receive(self, message: Message) -> list[ClientEvent]:
        """A message from the server. What belongs to another conference or user, or answers nothing, is ignored."""
        if (message.conference, message.user) != (self.conference, self.user):
            return []
        events: list[ClientEvent] = []
        if message.transaction == 0:
            events.append(Notified(message))
        else:
            asked = self._waiting.pop(message.transaction, None)
            if asked is None:
                return []
            events.append(Answered(asked, message))
        if message.primitive == Primitive.FLOOR_REQUEST_STATUS:
            for group in message.groups(AttributeType.FLOOR_REQUEST_INFORMATION):
                info = RequestInfo.read(group)
                if info.id in self.requests or len(self.requests) < self._limit:
                    self.requests[info.id] = info
                    events.append(RequestChanged(info))
        return events

    def forget(self, request: int) -> None:
        """Stop following a floor request that has ended."""
        self.requests.pop(request, None)

    def _message(self, primitive: Primitive, attributes: Iterable[Attribute]) -> Message:
        """A request with a transaction id that is not in use, never 0 (8.1)."""
        if len(self._waiting) >= self._limit:
            raise ProtocolError("bfcp.transactions", f"{self._limit} requests without answer")
        self._last = self._last % _MAX_ID + 1
        while self._last in self._waiting:
            self._last = self._last % _MAX_ID + 1
        message = Message(primitive, self.conference, self._last, self.user, tuple(attributes))
        self._waiting[self._last] = message
        return message


def _overall(group: Group) -> tuple[Status | None, int, str]:
    status, position, reason = None, 0, ""
    for one in group.members:
        if isinstance(one, RequestStatus):
            status, position = (Status(one.status) if one.status in _STATUSES else None), one.position
        elif isinstance(one, Text):
            reason = one.text
    return status, position, reason


_STATUSES = frozenset(int(one) for one in Status)
