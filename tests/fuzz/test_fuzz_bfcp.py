"""BFCP: writing and reading agree, the framer does not care about cuts, a floor server keeps its books on any input."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples

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
from imswire.bfcp.client import FloorClient
from imswire.bfcp.floor import FloorServer
from imswire.bfcp.floor_values import Floor, FloorLimits, SendTo
from imswire.bfcp.framer import BfcpFramer
from imswire.bfcp.message import BadMessage, Message, parse
from imswire.bfcp.tables import FORMATS, Format, Primitive, Status

QUICK = settings(max_examples=examples(200), deadline=None)

SMALL = st.integers(0, 4)
OCTET = st.integers(0, 255)
WORD = st.integers(0, 0xFFFF)


def _types(format: Format) -> st.SearchStrategy[int]:
    return st.sampled_from([int(type) for type, known in FORMATS.items() if known is format])


BITS = st.booleans()
LEAVES: st.SearchStrategy[Attribute] = st.one_of(
    st.builds(Number, _types(Format.NUMBER), WORD, BITS),
    st.builds(PriorityValue, st.integers(0, 7), BITS),
    st.builds(RequestStatus, OCTET, OCTET, BITS),
    st.builds(ErrorValue, OCTET, st.binary(max_size=12), BITS),
    st.builds(Text, _types(Format.TEXT), st.text(max_size=20), BITS),
    st.builds(Supported, _types(Format.PRIMITIVES), st.lists(OCTET, max_size=9).map(tuple), BITS),
    st.builds(Supported, _types(Format.TYPES), st.lists(st.integers(0, 127), max_size=9).map(tuple), BITS),
    st.builds(Extension, st.integers(19, 127), st.binary(max_size=20), BITS),
)
GROUPS = st.builds(Group, _types(Format.GROUP), WORD, st.lists(LEAVES, max_size=3).map(tuple), BITS)
NESTED = st.builds(Group, _types(Format.GROUP), WORD, st.lists(st.one_of(LEAVES, GROUPS), max_size=2).map(tuple), BITS)
ATTRIBUTES = st.lists(st.one_of(LEAVES, GROUPS, NESTED), max_size=5).map(tuple)
MESSAGES = st.builds(Message, OCTET, st.integers(0, 0xFFFFFFFF), WORD, WORD, ATTRIBUTES)


@QUICK
@given(MESSAGES)
def test_reading_undoes_writing(message: Message) -> None:
    octets = message.to_bytes()
    assert parse(octets) == message
    assert parse(octets).to_bytes() == octets


@QUICK
@given(st.lists(MESSAGES, max_size=3), st.lists(st.tuples(st.integers(0, 400), OCTET), max_size=3), st.data())
def test_every_cut_gives_the_same(messages: list[Message], noise: list[tuple[int, int]], data: st.DataObject) -> None:
    stream = bytearray(b"".join(one.to_bytes() for one in messages))
    for at, octet in noise:
        if at < len(stream):
            stream[at] = octet
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))

    def outcome(pieces: list[bytes]) -> tuple[list[bytes], str, int]:
        framer = BfcpFramer(4_096)
        out: list[bytes] = []
        for piece in pieces:
            try:
                out += framer.feed(piece)
            except BadMessage:
                break
            assert framer.pending <= 4_096 + 12
        if framer.error is None:
            return out, "", framer.pending
        return out, framer.error.reason, 0

    pieces = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        pieces.append(bytes(stream[at : at + size]))
        at += size
        turn += 1
    assert outcome(pieces) == outcome([bytes(stream)])


@QUICK
@given(st.one_of(st.binary(max_size=80), st.builds(lambda m, cut: m.to_bytes()[:cut], MESSAGES, st.integers(0, 120))))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        message = parse(octets)
    except BadMessage as fault:
        answer = fault.answer()
        if answer is not None:
            assert parse(answer.to_bytes()).error is not None
        return
    reason = "bfcp.grammar"
    try:
        message.check()
    except ProtocolError as error:
        reason = error.reason
    assert reason == "bfcp.grammar"


ORDERS = st.one_of(
    st.tuples(st.just("request"), st.sampled_from([1, 2, 3]), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.tuples(st.just("release"), st.sampled_from([1, 2, 3]), st.integers(0, 12)),
    st.tuples(st.just("chair"), st.sampled_from(list(Status)), st.integers(0, 12)),
    st.tuples(st.just("observe"), st.sampled_from([1, 2, 3]), st.lists(st.integers(1, 3), max_size=3)),
    st.tuples(st.just("lost"), st.sampled_from([1, 2, 3]), st.just(0)),
    st.tuples(st.just("dismiss"), st.sampled_from([1, 2, 3]), st.just(0)),
    st.tuples(st.just("raw"), st.sampled_from([1, 2, 3]), st.tuples(st.sampled_from(list(Primitive)), ATTRIBUTES)),
)


@QUICK
@given(st.lists(ORDERS, max_size=30))
def test_a_floor_server_keeps_its_books(orders: list[tuple[str, int, object]]) -> None:
    floors = [Floor(1), Floor(2, holders=2), Floor(3, chair=9)]
    server = FloorServer(1, floors, limits=FloorLimits(requests=6, per_user=2))
    clients = {user: FloorClient(1, user, limit=100) for user in (1, 2, 3, 9)}
    for kind, who, what in orders:
        message = None
        outputs = []
        match kind, what:
            case "request", list():
                message = clients[who].request_floor(*what)
            case "release", int():
                message = clients[who].release(what)
            case "chair", int():
                message = clients[9].chair(what, [3], Status(who))
            case "observe", list():
                message = clients[who].query_floors(*what)
            case "raw", (Primitive() as primitive, tuple() as attributes):
                message = Message(primitive, 1, 500, who, attributes)
            case "lost", _:
                outputs = server.lost(who)
            case "dismiss", _:
                outputs = server.dismiss(who, "left")
        if message is not None:
            outputs = server.receive(message.user, message)
            if message.primitive != Primitive.ERROR:
                first = outputs[0]
                assert isinstance(first, SendTo)
                assert (first.client, first.message.transaction) == (message.user, message.transaction)
        for output in outputs:
            if isinstance(output, SendTo):
                told = parse(output.message.to_bytes())
                told.check()
                clients[told.user].receive(told)
        for floor in floors:
            assert len(server.holders(floor.id)) <= floor.holders
        # The first in the queue has nobody before it: only holders can be in its way.
        if any(server.queue(floor.id) for floor in floors):
            assert any(server.holders(floor.id) for floor in floors)
