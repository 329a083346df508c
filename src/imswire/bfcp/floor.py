"""A floor control server for one conference as a pure machine (RFC 8855 13): requests, queue, chairs, observers.

Connections are named by any hashable ``client``; the user id in a client's first message is its own from then on.
Floors requested together are granted together (4.1). The queue is one: by priority, then by arrival; a request waits
behind an earlier one that wants a floor it wants itself.
"""

from collections.abc import Hashable, Iterable, Mapping

from imswire.base import ProtocolError
from imswire.bfcp.attributes import Attribute, Group, Number, RequestStatus, Supported, Text
from imswire.bfcp.floor_request import FloorRequest, information, person
from imswire.bfcp.floor_values import LIFE, CloseClient, Floor, FloorLimits, Output, SendTo, Step, User
from imswire.bfcp.message import BadMessage, Message, error
from imswire.bfcp.tables import RELIABLE, TO_SERVER, AttributeType, ErrorCode, Primitive, Priority, Status

_MAX_ID = 0xFFFF


class _Refused(Exception):
    """The message is answered with an Error."""

    def __init__(self, code: ErrorCode, info: str = "", types: tuple[int, ...] = ()) -> None:
        super().__init__(info)
        self.code = code
        self.info = info
        self.types = types


class FloorServer:
    """Feed it messages with :meth:`receive`; carry out what it returns. ``users`` None lets anybody take part."""

    def __init__(
        self,
        conference: int,
        floors: Iterable[Floor],
        users: Iterable[User] | None = None,
        limits: FloorLimits | None = None,
    ) -> None:
        self.conference = conference
        self._floors = {floor.id: floor for floor in floors}
        self._users: Mapping[int, User] | None = None if users is None else {user.id: user for user in users}
        self._limits = limits or FloorLimits()
        self._requests: dict[int, FloorRequest] = {}
        self._clients: dict[Hashable, int] = {}
        self._observed: dict[Hashable, tuple[int, ...]] = {}
        self._last_id = 0
        self._rank = 0
        self._touched: set[int] = set()

    # --- what can be seen from outside ---

    def holders(self, floor: int) -> tuple[int, ...]:
        """The users who hold a floor: the beneficiaries of its granted requests."""
        granted = [one for one in self._ordered(Status.GRANTED) if floor in one.floors]
        return tuple(one.owner if one.beneficiary is None else one.beneficiary for one in granted)

    def queue(self, floor: int) -> tuple[int, ...]:
        """The ids of the accepted requests that wait for a floor, the next one first."""
        return tuple(one.id for one in self._ordered(Status.ACCEPTED) if floor in one.floors)

    # --- events ---

    def receive(self, client: Hashable, message: Message) -> list[Output]:
        """A message from a client. The answer comes first, then what others are told."""
        if message.primitive == Primitive.ERROR:
            return []
        try:
            answer = self._answer(client, message)
        except _Refused as refused:
            return [SendTo(client, error(message, refused.code, refused.info, types=refused.types))]
        except ProtocolError as fault:
            return [SendTo(client, error(message, ErrorCode.UNABLE_TO_PARSE, str(fault)))]
        return [*answer, *self._news()]

    def unreadable(self, client: Hashable, fault: BadMessage) -> list[Output]:
        """What cannot be read: the Error that fits, and the end of the connection (6.1)."""
        answer = fault.answer()
        told: list[Output] = [] if answer is None else [SendTo(client, answer)]
        return [*told, CloseClient(client, str(fault))]

    def lost(self, client: Hashable) -> list[Output]:
        """The connection is gone; the requests of its user stay, for it may come back (6.1)."""
        self._clients.pop(client, None)
        self._observed.pop(client, None)
        return []

    def dismiss(self, user: int, reason: str = "") -> list[Output]:
        """The user has left the conference: its requests end."""
        for request in list(self._requests.values()):
            if request.owner == user:
                request.reason = reason
                self._step(request, Step.REVOKE if request.status is Status.GRANTED else Step.DENY)
        return self._news()

    # --- messages ---

    def _answer(self, client: Hashable, message: Message) -> list[Output]:
        """The checks of 13 in their order, then the primitive's own part."""
        if message.primitive not in TO_SERVER:
            raise _Refused(ErrorCode.UNKNOWN_PRIMITIVE, f"primitive {int(message.primitive)}")
        if message.conference != self.conference:
            raise _Refused(ErrorCode.CONFERENCE_DOES_NOT_EXIST)
        if self._users is not None and message.user not in self._users:
            raise _Refused(ErrorCode.USER_DOES_NOT_EXIST)
        unknown = message.unknown_mandatory
        if unknown:
            raise _Refused(ErrorCode.UNKNOWN_MANDATORY_ATTRIBUTE, types=unknown)
        message.check()
        if self._clients.get(client, message.user) != message.user:
            raise _Refused(ErrorCode.UNAUTHORIZED_OPERATION, "this connection belongs to another user")
        if client not in self._clients and len(self._clients) >= self._limits.clients:
            raise _Refused(ErrorCode.GENERIC, "too many connections")
        self._clients[client] = message.user
        match message.primitive:
            case Primitive.FLOOR_REQUEST:
                return [SendTo(client, self._requested(message))]
            case Primitive.FLOOR_RELEASE:
                return [SendTo(client, self._released(message))]
            case Primitive.FLOOR_REQUEST_QUERY:
                return [SendTo(client, self._status(self._named(message), message))]
            case Primitive.USER_QUERY:
                return [SendTo(client, self._user(message))]
            case Primitive.FLOOR_QUERY:
                return self._observe(client, message)
            case Primitive.CHAIR_ACTION:
                return [SendTo(client, self._chaired(message))]
        return [SendTo(client, _capabilities(message))]

    def _requested(self, message: Message) -> Message:
        floors = tuple(dict.fromkeys(message.numbers(AttributeType.FLOOR_ID)))
        self._known_floors(floors)
        limits = self._limits
        if len(floors) > limits.floors or len(self._requests) >= limits.requests:
            raise _Refused(ErrorCode.GENERIC, "too many floors, or too many floor requests")
        beneficiary = message.number(AttributeType.BENEFICIARY_ID)
        if beneficiary is not None and self._users is not None and beneficiary not in self._users:
            raise _Refused(ErrorCode.USER_DOES_NOT_EXIST, "the beneficiary")
        for floor in floors:
            mine = sum(one.owner == message.user and floor in one.floors for one in self._requests.values())
            if mine >= limits.per_user:
                raise _Refused(ErrorCode.TOO_MANY_REQUESTS, f"{mine} ongoing requests for floor {floor}")
        self._rank += 1
        request = FloorRequest(self._new_id(), floors, message, self._rank)
        self._requests[request.id] = request
        request.agreed = {floor for floor in floors if self._floors[floor].chair is None}
        self._touched.update(floors)
        if len(request.agreed) == len(floors):
            self._step(request, Step.ACCEPT)
        self._settle()
        return self._status(request, message, told=True)

    def _released(self, message: Message) -> Message:
        request = self._named(message)
        if request.owner != message.user:
            raise _Refused(ErrorCode.UNAUTHORIZED_OPERATION, "not your floor request")
        self._step(request, Step.RELEASE)
        return self._status(request, message, told=True)

    def _user(self, message: Message) -> Message:
        beneficiary = message.number(AttributeType.BENEFICIARY_ID)
        if beneficiary is not None and self._users is not None and beneficiary not in self._users:
            raise _Refused(ErrorCode.USER_DOES_NOT_EXIST, "the beneficiary")
        about = message.user if beneficiary is None else beneficiary
        attributes: list[Attribute] = []
        if beneficiary is not None:
            attributes.append(person(AttributeType.BENEFICIARY_INFORMATION, beneficiary, self._known(beneficiary)))
        concerned = [one for one in self._requests.values() if one.concerns(about)]
        attributes += [self._information(one) for one in concerned[: self._limits.listed]]
        return message.reply(Primitive.USER_STATUS, attributes)

    def _observe(self, client: Hashable, message: Message) -> list[Output]:
        floors = tuple(dict.fromkeys(message.numbers(AttributeType.FLOOR_ID)))
        self._known_floors(floors)
        self._observed[client] = floors
        if not floors:
            del self._observed[client]
            return [SendTo(client, message.reply(Primitive.FLOOR_STATUS))]
        first = message.reply(Primitive.FLOOR_STATUS, self._floor(floors[0]))
        return [SendTo(client, first), *(SendTo(client, self._notice(client, floor)) for floor in floors[1:])]

    def _chaired(self, message: Message) -> Message:
        (group,) = message.groups(AttributeType.FLOOR_REQUEST_INFORMATION)
        request = self._requests.get(group.id)
        if request is None:
            raise _Refused(ErrorCode.FLOOR_REQUEST_ID_DOES_NOT_EXIST)
        overall = next((_said(one) for one in _groups(group, AttributeType.OVERALL_REQUEST_STATUS)), None)
        wanted: dict[int, RequestStatus] = {}
        for one in _groups(group, AttributeType.FLOOR_REQUEST_STATUS):
            if one.id not in request.floors:
                raise _Refused(ErrorCode.INVALID_FLOOR_ID, f"floor {one.id} is not in that request")
            if self._floors[one.id].chair != message.user:
                raise _Refused(ErrorCode.UNAUTHORIZED_OPERATION, f"not the chair of floor {one.id}")
            said = _said(one) or overall
            if said is None:
                raise _Refused(ErrorCode.GENERIC, f"no status for floor {one.id}")
            wanted[one.id] = said
        statuses = {int(one.status) for one in wanted.values()}
        if Status.DENIED in statuses or Status.REVOKED in statuses:
            step = Step.DENY if Status.DENIED in statuses else Step.REVOKE
        elif statuses <= {Status.ACCEPTED, Status.GRANTED}:
            step = Step.ACCEPT
        else:
            raise _Refused(ErrorCode.GENERIC, "a chair says accepted, granted, denied or revoked")
        if (request.status, step) not in LIFE:
            raise _Refused(ErrorCode.GENERIC, f"the request is {request.status.name.lower()}")
        request.reason = _reason(group)
        if step is not Step.ACCEPT:
            self._step(request, step)
        else:
            self._agree(request, wanted)
        return message.reply(Primitive.CHAIR_ACTION_ACK)

    def _agree(self, request: FloorRequest, wanted: Mapping[int, RequestStatus]) -> None:
        """Chairs agree, each for its floors; the request waits until all have (11.1)."""
        request.agreed.update(wanted)
        self._touched.update(wanted)
        if any(one.status == Status.GRANTED for one in wanted.values()):
            # To the front of the queue; whoever holds the floor has to make room for it (4.2).
            request.priority, request.rank = int(Priority.HIGHEST) + 1, -self._rank
            request.pushed.update(floor for floor, one in wanted.items() if one.status == Status.GRANTED)
        if len(request.agreed) < len(request.floors):
            return
        self._step(request, Step.ACCEPT)
        for floor in request.pushed:
            holding = [one for one in self._ordered(Status.GRANTED) if floor in one.floors]
            if len(holding) >= self._floors[floor].holders:
                self._step(holding[0], Step.REVOKE)

    # --- the state of the conference ---

    def _step(self, request: FloorRequest, step: Step) -> None:
        request.status = LIFE[request.status, step]
        request.position = 0
        self._touched.update(request.floors)

    def _settle(self) -> None:
        """Grant whose turn has come and number the others."""
        free = {floor.id: floor.holders for floor in self._floors.values()}
        for one in self._ordered(Status.GRANTED):
            for floor in one.floors:
                free[floor] -= 1
        ahead: dict[int, int] = {}
        for request in self._ordered(Status.ACCEPTED):
            if all(free[floor] > 0 and not ahead.get(floor) for floor in request.floors):
                self._step(request, Step.GRANT)
                for floor in request.floors:
                    free[floor] -= 1
                continue
            request.position = min(255, 1 + max(ahead.get(floor, 0) for floor in request.floors))
            for floor in request.floors:
                ahead[floor] = ahead.get(floor, 0) + 1

    def _news(self) -> list[Output]:
        """What requesters and observers are told of changes, with transaction 0 (13.1.2, 13.5.2)."""
        self._settle()
        out: list[Output] = []
        for request in list(self._requests.values()):
            if request.told != (request.status, request.position):
                request.told = (request.status, request.position)
                self._touched.update(request.floors)
                for client in self._connections(request.owner):
                    message = Message(Primitive.FLOOR_REQUEST_STATUS, self.conference, 0, request.owner)
                    out.append(SendTo(client, self._status(request, message)))
        for client, floors in self._observed.items():
            out += [SendTo(client, self._notice(client, floor)) for floor in floors if floor in self._touched]
        self._touched.clear()
        for request in [one for one in self._requests.values() if not one.status.ongoing]:
            del self._requests[request.id]
        return out

    def _ordered(self, status: Status) -> list[FloorRequest]:
        found = [one for one in self._requests.values() if one.status is status]
        return sorted(found, key=lambda one: one.order)

    def _named(self, message: Message) -> FloorRequest:
        request = self._requests.get(message.number(AttributeType.FLOOR_REQUEST_ID) or 0)
        if request is None:
            raise _Refused(ErrorCode.FLOOR_REQUEST_ID_DOES_NOT_EXIST)
        return request

    def _known_floors(self, floors: Iterable[int]) -> None:
        for floor in floors:
            if floor not in self._floors:
                raise _Refused(ErrorCode.INVALID_FLOOR_ID, f"floor {floor}")

    def _connections(self, user: int) -> list[Hashable]:
        return [client for client, whose in self._clients.items() if whose == user]

    def _new_id(self) -> int:
        while True:
            self._last_id = self._last_id % _MAX_ID + 1
            if self._last_id not in self._requests:
                return self._last_id

    # --- attributes ---

    def _known(self, user: int) -> User | None:
        return None if self._users is None else self._users.get(user)

    def _information(self, request: FloorRequest) -> Group:
        return information(request, self._known(request.owner))

    def _status(self, request: FloorRequest, to: Message, *, told: bool = False) -> Message:
        if told:
            request.told = (request.status, request.position)
        return to.reply(Primitive.FLOOR_REQUEST_STATUS, (self._information(request),))

    def _notice(self, client: Hashable, floor: int) -> Message:
        return Message(Primitive.FLOOR_STATUS, self.conference, 0, self._clients[client], tuple(self._floor(floor)))

    def _floor(self, floor: int) -> list[Attribute]:
        waiting = [*self._ordered(Status.GRANTED), *self._ordered(Status.ACCEPTED), *self._ordered(Status.PENDING)]
        listed = [one for one in waiting if floor in one.floors][: self._limits.listed]
        return [Number(AttributeType.FLOOR_ID, floor), *(self._information(one) for one in listed)]


def _capabilities(hello: Message) -> Message:
    return hello.reply(
        Primitive.HELLO_ACK,
        (
            Supported(AttributeType.SUPPORTED_PRIMITIVES, tuple(int(one) for one in RELIABLE)),
            Supported(AttributeType.SUPPORTED_ATTRIBUTES, tuple(int(one) for one in AttributeType)),
        ),
    )


def _groups(group: Group, type: AttributeType) -> list[Group]:
    return [one for one in group.all(type) if isinstance(one, Group)]


def _said(group: Group) -> RequestStatus | None:
    return next((one for one in group.members if isinstance(one, RequestStatus)), None)


def _reason(group: Group) -> str:
    inner = [*_groups(group, AttributeType.OVERALL_REQUEST_STATUS), *_groups(group, AttributeType.FLOOR_REQUEST_STATUS)]
    return next((one.text for status in inner for one in status.members if isinstance(one, Text)), "")
