"""The floor control server and its clients, message by message (RFC 8855 10 to 13)."""

from collections.abc import Iterable

import pytest

from imswire.bfcp.attributes import Extension, Group, Number, RequestStatus, Supported, Text
from imswire.bfcp.client import Answered, ClientEvent, FloorClient, Notified, RequestChanged, RequestInfo
from imswire.bfcp.floor import FloorServer
from imswire.bfcp.floor_values import LIFE, CloseClient, Floor, FloorLimits, SendTo, User
from imswire.bfcp.framer import BfcpFramer
from imswire.bfcp.message import BadMessage, Message, parse
from imswire.bfcp.tables import AttributeType, ErrorCode, Primitive, Priority, Status

CONFERENCE = 4321
USERS = [User(1, "Alice", "sip:alice@lab.example"), User(2, "Bob"), User(3, "Carol"), User(9, "Chair")]
FLOORS = [Floor(10), Floor(11), Floor(20, chair=9), Floor(30, holders=2)]


class Room:
    """A server and four clients; everything goes through octets."""

    def __init__(self, limits: FloorLimits | None = None, users: Iterable[User] | None = USERS) -> None:
        self.server = FloorServer(CONFERENCE, FLOORS, users, limits)
        self.clients = {user: FloorClient(CONFERENCE, user) for user in (1, 2, 3, 9)}
        self.events: dict[int, list[ClientEvent]] = {user: [] for user in self.clients}

    def send(self, message: Message, client: int | None = None) -> Message:
        """To the server; the answer that came back. All clients take what they are sent."""
        answer = None
        for output in self.server.receive(client or message.user, parse(message.to_bytes())):
            assert isinstance(output, SendTo)
            told = parse(output.message.to_bytes())
            told.check()
            if told.transaction == message.transaction and output.client == (client or message.user):
                answer = told
            taker = self.clients.get(output.client)  # type: ignore[call-overload]
            if taker is not None:
                self.events[taker.user] += taker.receive(told)
        assert answer is not None
        return answer

    def ask(self, user: int, *floors: int, **more: object) -> int:
        """Request floors; the floor request id."""
        answer = self.send(self.clients[user].request_floor(*floors, **more))  # type: ignore[arg-type]
        (group,) = answer.groups(AttributeType.FLOOR_REQUEST_INFORMATION)
        return group.id

    def state(self, user: int, request: int) -> tuple[Status | None, int]:
        """What the client knows of its request."""
        info = self.clients[user].requests[request]
        return info.status, info.position


def code(answer: Message) -> int:
    assert answer.primitive == Primitive.ERROR
    assert answer.error is not None
    return answer.error.code


def test_a_free_floor_is_granted_and_released() -> None:
    room = Room()
    one = room.ask(1, 10)
    assert room.state(1, one) == (Status.GRANTED, 0)
    assert room.server.holders(10) == (1,)
    room.send(room.clients[1].release(one))
    assert room.state(1, one) == (Status.RELEASED, 0)
    assert room.server.holders(10) == ()
    assert code(room.send(room.clients[1].release(one))) == ErrorCode.FLOOR_REQUEST_ID_DOES_NOT_EXIST


def test_the_queue_moves_and_everybody_in_it_is_told() -> None:
    room = Room()
    first, second, third = room.ask(1, 10), room.ask(2, 10), room.ask(3, 10)
    assert room.state(2, second) == (Status.ACCEPTED, 1)
    assert room.state(3, third) == (Status.ACCEPTED, 2)
    room.send(room.clients[1].release(first))
    assert room.state(2, second) == (Status.GRANTED, 0)
    assert room.state(3, third) == (Status.ACCEPTED, 1)
    assert [type(event) for event in room.events[2]] == [Answered, RequestChanged, Notified, RequestChanged]
    room.send(room.clients[3].release(third))
    assert room.state(3, third) == (Status.CANCELLED, 0)


def test_priority_goes_first_and_equal_ones_by_arrival() -> None:
    room = Room()
    holder = room.ask(1, 10)
    late = room.ask(2, 10, priority=Priority.LOW)
    soon = room.ask(3, 10, priority=Priority.HIGHEST)
    assert room.server.queue(10) == (soon, late)
    assert room.state(2, late) == (Status.ACCEPTED, 2)
    room.send(room.clients[1].release(holder))
    assert room.server.holders(10) == (3,)


def test_a_floor_with_two_places() -> None:
    room = Room()
    requests = [room.ask(user, 30) for user in (1, 2, 3)]
    assert room.server.holders(30) == (1, 2)
    assert room.state(3, requests[2]) == (Status.ACCEPTED, 1)


def test_floors_asked_for_together_are_granted_together() -> None:
    room = Room()
    one = room.ask(1, 10)
    both = room.ask(2, 10, 11)
    behind = room.ask(3, 11)
    assert room.server.holders(11) == ()
    assert room.state(3, behind) == (Status.ACCEPTED, 2)
    room.send(room.clients[1].release(one))
    assert (room.server.holders(10), room.server.holders(11)) == ((2,), (2,))
    assert room.clients[2].requests[both].floors == {10: Status.GRANTED, 11: Status.GRANTED}
    room.send(room.clients[2].release(both))
    assert room.server.holders(11) == (3,)


def test_a_chair_accepts_denies_grants_and_revokes() -> None:
    room = Room()
    chair = room.clients[9]
    one = room.ask(1, 20, info="may I?")
    assert room.state(1, one) == (Status.PENDING, 0)
    answer = room.send(chair.chair(one, [20], Status.ACCEPTED))
    assert answer.primitive == Primitive.CHAIR_ACTION_ACK
    assert room.state(1, one) == (Status.GRANTED, 0)
    two, three = room.ask(2, 20), room.ask(3, 20)
    room.send(chair.chair(two, [20], Status.DENIED, reason="not today"))
    assert room.state(2, two) == (Status.DENIED, 0)
    assert room.clients[2].requests[two].reason == "not today"
    room.send(chair.chair(three, [20], Status.GRANTED))
    assert room.state(1, one) == (Status.REVOKED, 0)
    assert room.state(3, three) == (Status.GRANTED, 0)
    room.send(chair.chair(three, [20], Status.REVOKED, reason="time is up"))
    assert room.state(3, three) == (Status.REVOKED, 0)
    assert room.server.holders(20) == ()


def test_a_chair_brings_an_accepted_request_forward() -> None:
    room = Room()
    chair = room.clients[9]
    requests = [room.ask(user, 20) for user in (1, 2, 3)]
    for request in requests:
        room.send(chair.chair(request, [20], Status.ACCEPTED))
    assert room.server.queue(20) == tuple(requests[1:])
    room.send(chair.chair(requests[2], [20], Status.GRANTED))
    assert room.server.holders(20) == (3,)
    assert room.state(1, requests[0])[0] is Status.REVOKED


def test_a_chaired_floor_together_with_a_free_one_waits_for_the_chair() -> None:
    room = Room()
    both = room.ask(1, 10, 20)
    assert room.clients[1].requests[both].floors == {10: Status.ACCEPTED, 20: Status.PENDING}
    assert room.server.holders(10) == ()
    room.send(room.clients[9].chair(both, [20], Status.ACCEPTED))
    assert room.server.holders(10) == room.server.holders(20) == (1,)


@pytest.mark.parametrize(
    ("user", "floors", "status", "expected"),
    [
        (1, [20], Status.GRANTED, ErrorCode.UNAUTHORIZED_OPERATION),
        (9, [11], Status.GRANTED, ErrorCode.INVALID_FLOOR_ID),
        (9, [10], Status.GRANTED, ErrorCode.UNAUTHORIZED_OPERATION),
        (9, [20], Status.RELEASED, ErrorCode.GENERIC),
        (9, [20], Status.REVOKED, ErrorCode.GENERIC),
    ],
)
def test_what_a_chair_may_not(user: int, floors: list[int], status: Status, expected: ErrorCode) -> None:
    room = Room()
    request = room.ask(1, 10, 20)
    assert code(room.send(room.clients[user].chair(request, floors, status))) == expected
    assert room.state(1, request)[0] is Status.PENDING
    assert code(room.send(room.clients[9].chair(777, [20], Status.GRANTED))) == 7


def test_a_request_for_somebody_else() -> None:
    room = Room()
    one = room.ask(1, 10, beneficiary=2)
    assert room.server.holders(10) == (2,)
    info = room.clients[1].requests[one]
    assert (info.beneficiary, info.requested_by) == (2, 1)
    assert code(room.send(room.clients[2].release(one))) == ErrorCode.UNAUTHORIZED_OPERATION
    answer = room.send(room.clients[3].query_user(2))
    assert [group.id for group in answer.groups(AttributeType.FLOOR_REQUEST_INFORMATION)] == [one]
    (person,) = answer.groups(AttributeType.BENEFICIARY_INFORMATION)
    assert person.members == (Text(AttributeType.USER_DISPLAY_NAME, "Bob"),)


def test_queries() -> None:
    room = Room()
    one = room.ask(1, 10, info="a question", priority=3)
    answer = room.send(room.clients[2].query_request(one))
    (group,) = answer.groups(AttributeType.FLOOR_REQUEST_INFORMATION)
    info = RequestInfo.read(group)
    assert (info.status, info.priority, info.info, info.requested_by) == (Status.GRANTED, 3, "a question", 1)
    answer = room.send(room.clients[1].query_user())
    assert len(answer.groups(AttributeType.FLOOR_REQUEST_INFORMATION)) == 1
    hello = room.send(room.clients[1].hello())
    lists = {one.type: one.values for one in hello.attributes if isinstance(one, Supported)}
    assert lists[AttributeType.SUPPORTED_PRIMITIVES] == tuple(range(1, 14))
    assert lists[AttributeType.SUPPORTED_ATTRIBUTES] == tuple(range(1, 19))


def test_observers_are_told_of_every_floor_they_asked_for() -> None:
    room = Room()
    answer = room.send(room.clients[3].query_floors(10, 11))
    assert answer.numbers(AttributeType.FLOOR_ID) == (10,)
    assert [e.message.numbers(AttributeType.FLOOR_ID) for e in room.events[3] if isinstance(e, Notified)] == [(11,)]
    room.events[3].clear()
    one = room.ask(1, 10)
    room.ask(2, 11)
    room.send(room.clients[1].release(one))
    told = [event.message for event in room.events[3] if isinstance(event, Notified)]
    assert [one.numbers(AttributeType.FLOOR_ID)[0] for one in told] == [10, 11, 10]
    assert [len(one.groups(AttributeType.FLOOR_REQUEST_INFORMATION)) for one in told] == [1, 1, 0]
    assert room.send(room.clients[3].query_floors()).attributes == ()
    room.events[3].clear()
    room.ask(1, 10)
    assert room.events[3] == []


def raw(primitive: int, *attributes: object, conference: int = CONFERENCE, user: int = 1) -> Message:
    return Message(primitive, conference, 7, user, attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (raw(99), ErrorCode.UNKNOWN_PRIMITIVE),
        (raw(Primitive.FLOOR_STATUS), ErrorCode.UNKNOWN_PRIMITIVE),
        (raw(Primitive.GOODBYE), ErrorCode.UNKNOWN_PRIMITIVE),
        (raw(99, conference=1), ErrorCode.UNKNOWN_PRIMITIVE),
        (raw(Primitive.HELLO, conference=1), ErrorCode.CONFERENCE_DOES_NOT_EXIST),
        (raw(Primitive.HELLO, user=5), ErrorCode.USER_DOES_NOT_EXIST),
        (raw(Primitive.FLOOR_REQUEST), ErrorCode.UNABLE_TO_PARSE),
        (raw(Primitive.FLOOR_RELEASE), ErrorCode.UNABLE_TO_PARSE),
        (raw(Primitive.FLOOR_REQUEST, Number(AttributeType.FLOOR_ID, 12)), ErrorCode.INVALID_FLOOR_ID),
        (raw(Primitive.FLOOR_QUERY, Number(AttributeType.FLOOR_ID, 12)), ErrorCode.INVALID_FLOOR_ID),
        (raw(Primitive.USER_QUERY, Number(AttributeType.BENEFICIARY_ID, 5)), ErrorCode.USER_DOES_NOT_EXIST),
        (
            raw(Primitive.CHAIR_ACTION, Group(AttributeType.FLOOR_REQUEST_INFORMATION, 1)),
            ErrorCode.UNABLE_TO_PARSE,
        ),
    ],
)
def test_errors(message: Message, expected: ErrorCode) -> None:
    answer = Room().send(message)
    assert code(answer) == expected
    assert (answer.conference, answer.transaction, answer.user) == (message.conference, 7, message.user)


def test_unknown_mandatory_attributes_are_listed_and_others_ignored() -> None:
    room = Room()
    known = Number(AttributeType.FLOOR_ID, 10)
    bad = raw(Primitive.FLOOR_REQUEST, known, Extension(99, b"", mandatory=True), Extension(98, b"", mandatory=True))
    answer = room.send(bad)
    assert answer.error is not None
    assert (answer.error.code, answer.error.types) == (4, (99, 98))
    assert room.server.holders(10) == ()
    assert room.send(raw(Primitive.FLOOR_REQUEST, known, Extension(99, b"")), 1).primitive == 4


def test_bounds() -> None:
    room = Room(FloorLimits(requests=3, per_user=2, floors=1, clients=2))
    assert code(room.send(room.clients[1].request_floor(10, 11))) == ErrorCode.GENERIC
    room.ask(1, 10)
    room.ask(1, 10)
    assert code(room.send(room.clients[1].request_floor(10))) == ErrorCode.TOO_MANY_REQUESTS
    room.ask(2, 10)
    assert code(room.send(room.clients[2].request_floor(10))) == ErrorCode.GENERIC
    assert code(room.send(room.clients[3].hello())) == ErrorCode.GENERIC
    room.server.lost(2)
    assert room.send(room.clients[3].hello()).primitive == Primitive.HELLO_ACK


def test_a_connection_is_one_user_s() -> None:
    room = Room()
    room.send(room.clients[1].hello(), 1)
    answer = room.server.receive(1, raw(Primitive.HELLO, user=2))
    assert isinstance(answer[0], SendTo)
    assert code(answer[0].message) == ErrorCode.UNAUTHORIZED_OPERATION


def test_requests_outlive_a_connection_and_end_with_the_user() -> None:
    room = Room()
    one = room.ask(1, 10)
    two = room.ask(2, 10)
    assert room.server.lost(1) == []
    assert room.server.holders(10) == (1,)
    answer = room.send(room.clients[1].query_user())
    assert [group.id for group in answer.groups(AttributeType.FLOOR_REQUEST_INFORMATION)] == [one]
    told = room.server.dismiss(1, "left")
    messages = [(out.client, out.message) for out in told if isinstance(out, SendTo)]
    assert [client for client, _ in messages] == [1, 2]
    for _, message in messages:
        room.clients[message.user].receive(message)
    assert room.state(1, one)[0] is Status.REVOKED
    assert room.state(2, two)[0] is Status.GRANTED


def test_long_names_and_reasons_never_break_a_message() -> None:
    users = [User(1, "n" * 200, "sip:" + "u" * 200), User(2, "n" * 300)]
    room = Room(users=users)
    one = room.ask(1, 10, info="i" * 253, beneficiary=2, priority=1)
    assert room.clients[1].requests[one].status is Status.GRANTED
    assert room.clients[1].requests[one].info == ""
    room.send(room.clients[2].query_user(1))


def test_garbage_is_answered_and_the_connection_closed() -> None:
    framer = BfcpFramer()
    with pytest.raises(BadMessage) as fault:
        framer.feed(bytes.fromhex("60 0b 0000 00000001 0002 0003"))
    answer, close = Room().server.unreadable("x", fault.value)
    assert isinstance(answer, SendTo)
    assert code(answer.message) == ErrorCode.UNSUPPORTED_VERSION
    assert isinstance(close, CloseClient)
    assert Room().server.receive("x", raw(Primitive.ERROR)) == []


def test_the_life_of_a_request_ends() -> None:
    assert {before for before, _ in LIFE} == {status for status in Status if status.ongoing}
    assert {after for after in LIFE.values() if not after.ongoing} == {
        Status.DENIED,
        Status.CANCELLED,
        Status.RELEASED,
        Status.REVOKED,
    }


def test_a_client_ignores_what_is_not_for_it() -> None:
    client = FloorClient(CONFERENCE, 1)
    hello = client.hello()
    assert list(client.waiting) == [hello]
    for stray in (
        Message(Primitive.HELLO_ACK, CONFERENCE, 99, 1),
        Message(Primitive.HELLO_ACK, CONFERENCE, hello.transaction, 2),
        Message(Primitive.HELLO_ACK, 1, hello.transaction, 1),
    ):
        assert client.receive(stray) == []
    assert client.receive(hello.reply(Primitive.HELLO_ACK)) == [Answered(hello, hello.reply(Primitive.HELLO_ACK))]
    assert client.receive(hello.reply(Primitive.HELLO_ACK)) == []
    assert list(client.waiting) == []


def test_transaction_ids_wrap_and_are_not_used_twice() -> None:
    client = FloorClient(CONFERENCE, 1, limit=3)
    kept = client.hello()
    for _ in range(0xFFFF):
        message = client.hello()
        assert message.transaction not in (0, kept.transaction)
        client.receive(message.reply(Primitive.HELLO_ACK))
    client.hello()
    client.hello()
    with pytest.raises(Exception, match=r"bfcp\.transactions"):
        client.hello()


def test_an_unknown_status_is_none() -> None:
    group = Group(AttributeType.FLOOR_REQUEST_INFORMATION, 1, (Group(18, 1, (RequestStatus(99, 1),)),))
    assert RequestInfo.read(group).status is None
    client = FloorClient(CONFERENCE, 1)
    client.receive(Message(Primitive.FLOOR_REQUEST_STATUS, CONFERENCE, 0, 1, (group,)))
    client.forget(1)
    assert client.requests == {}
