"""H.248 under hypothesis: bytes parse or are refused by name, and what can be written reads back equal."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples
from tests.unit.imswire_h248.h248_corpus import MESSAGES

from imswire.base import ProtocolError
from imswire.h248 import iq
from imswire.h248.errors import H248Error, error_answer
from imswire.h248.iq_parts import SOURCE_FILTERS
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    Action,
    Audit,
    Command,
    ErrorDescriptor,
    Event,
    Events,
    LocalControl,
    Media,
    Message,
    Parameter,
    Signal,
    Signals,
    Stream,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.packages import TCP_MODES
from imswire.h248.parser import parse
from imswire.h248.transaction import RequestIn, TransactionLayer
from imswire.h248.writer import write

QUICK = settings(max_examples=examples(150), deadline=None)
TEXTS = [write(message, pretty=pretty) for message in MESSAGES.values() for pretty in (True, False)]


def parses_or_is_refused(data: bytes) -> None:
    try:
        message = parse(data)
    except ProtocolError as fault:
        answer = error_answer(fault, "gw") if isinstance(fault, H248Error) else None
        if answer is not None:
            assert parse(write(answer)) == answer
        return
    for pretty in (True, False):
        assert parse(write(message, pretty=pretty)) == message


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    parses_or_is_refused(data)


@QUICK
@given(st.binary(max_size=200))
def test_any_body(data: bytes) -> None:
    parses_or_is_refused(b"!/1 gw " + data)


@QUICK
@given(st.data())
def test_damaged_messages(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(TEXTS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                del text[at : at + data.draw(st.integers(1, 20))]
            case 1:
                text[at:at] = data.draw(
                    st.sampled_from([b"{", b"}", b",", b"=", b'"', b"L{", b";", b"\\}", b"\0", b"["])
                )
            case 2:
                text[at] = data.draw(st.integers(0, 255))
            case _:
                text[at:at] = data.draw(st.sampled_from(TEXTS))[:200]
        if not text:
            break
    parses_or_is_refused(bytes(text))


TOKENS = """T C A MF M ST L R O E SG AT SV OE P PN K IA ER $ * - 1 7 a/b = = { { } } , , [ ] : # " "x" L{v=0}"""


@QUICK
@given(st.data())
def test_shuffled_tokens(data: st.DataObject) -> None:
    words = st.sampled_from(TOKENS.split())
    parses_or_is_refused(("!/1 gw T=1{C=1{" + " ".join(data.draw(st.lists(words, max_size=40)))).encode())


SAFE = "ABCxyz019+-&!_/'?@^`~*$\\()%|."
words = st.text(SAFE, min_size=1, max_size=12)
quotable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"'), max_size=20)
values = st.one_of(words, quotable)
names = st.builds(lambda a, b: f"{a}/{b}", st.text("abcXYZ", min_size=1, max_size=6), st.text("abc19", min_size=1))
sdp = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80).map(
    lambda text: text.strip(" \t\r\n")
)
parameters = st.one_of(
    st.builds(Parameter, names, values),
    st.builds(Parameter, names, values, st.sampled_from("#<>")),
    st.builds(Parameter, names, st.lists(values, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Parameter,
        names,
        st.lists(values, min_size=2, max_size=2).map(tuple),
        st.just("="),
        st.sampled_from(["or", "range"]),
    ),
)
controls = st.builds(
    LocalControl,
    st.sampled_from(["SendOnly", "ReceiveOnly", "SendReceive", "Inactive", "LoopBack"]),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.lists(parameters, max_size=3).map(tuple),
)
streams = st.builds(Stream, st.integers(0, 65535), controls, st.none() | sdp, st.none() | sdp)
medias = st.builds(Media, st.lists(streams, min_size=1, max_size=2).map(tuple))
arguments = st.lists(st.builds(Parameter, st.text("xyz", min_size=1, max_size=5), values), max_size=2).map(tuple)
events = st.builds(
    Events,
    st.integers(0, 0xFFFFFFFF),
    st.lists(st.builds(Event, names, arguments, st.none() | st.integers(0, 65535)), min_size=1, max_size=2).map(tuple),
)
signals = st.builds(Signals, st.lists(st.builds(Signal, names, arguments), max_size=2).map(tuple))
terminations = st.sampled_from(["$", "*", "ROOT", "T1", "ip/1/2", "L", "R", "Local", "Context"])
adds = st.builds(
    Command,
    st.sampled_from(["Add", "Move", "Modify"]),
    terminations,
    media=st.none() | medias,
    events=st.none() | events,
    signals=st.none() | signals,
    optional=st.booleans(),
    wildcard=st.booleans(),
)
subtracts = st.builds(
    Command,
    st.sampled_from(["Subtract", "AuditValue", "AuditCapability"]),
    terminations,
    audit=st.lists(st.sampled_from(["Media", "Statistics", "Packages"]), max_size=3).map(lambda x: Audit(tuple(x))),
)
contexts = st.sampled_from([0, CHOOSE_CONTEXT, ALL_CONTEXTS]) | st.integers(1, 0xFFFFFFFD)
actions = st.builds(
    Action,
    contexts,
    st.lists(adds | subtracts, min_size=1, max_size=3).map(tuple),
    st.none() | st.integers(0, 65535),
    st.booleans(),
)
faults = st.builds(ErrorDescriptor, st.integers(0, 9999), quotable)
ids = st.integers(0, 0xFFFFFFFF)
transactions = st.one_of(
    st.builds(TransactionRequest, ids, st.lists(actions, min_size=1, max_size=2).map(tuple)),
    st.builds(TransactionReply, ids, error=faults, immediate_ack=st.booleans()),
    st.builds(TransactionPending, ids),
    st.builds(
        TransactionAck,
        st.lists(st.tuples(ids, ids).map(lambda pair: (min(pair), max(pair))), min_size=1, max_size=3).map(tuple),
    ),
)
mids = st.sampled_from(["[127.0.0.1]:2944", "[::1]", "<a.b-c.d>:1", "gw", "a/b@c-d.e", "MTP{0123abcd}"])
messages = st.builds(
    Message, mids, st.lists(transactions, min_size=1, max_size=3).map(tuple), version=st.integers(1, 3)
)


@QUICK
@given(messages, st.booleans(), st.booleans())
def test_what_is_written_reads_back(message: Message, pretty: bool, short: bool) -> None:
    assert parse(write(message, pretty=pretty, compact_tokens=short)) == message


fingerprints = st.tuples(st.sampled_from(["sha-256"]), st.binary(min_size=32, max_size=32))
remotes = st.builds(
    iq.RemoteSpec,
    st.ip_addresses().map(str),
    st.integers(0, 65535),
    st.lists(fingerprints, max_size=2).map(tuple),
)
requests = st.builds(
    iq.StreamRequest,
    realm=quotable,
    proto=st.sampled_from(sorted(iq.PROTOS)),
    family=st.sampled_from(["IP4", "IP6"]),
    local_address=st.none() | st.ip_addresses().map(str),
    local_port=st.none() | st.integers(0, 65535),
    tcp_mode=st.sampled_from(TCP_MODES),
    setup=st.none() | st.sampled_from(iq.SETUPS),
    ignore_syn=st.booleans(),
    source_filter=st.sampled_from(sorted(SOURCE_FILTERS)),
    fingerprint_hash=st.none() | st.sampled_from(["sha-256", "sha-512"]),
    remote=st.none() | remotes,
    start_tls=st.sampled_from([None, True]),
    tls_role=st.sampled_from([None, "client", "server"]),
    source_mask=st.none() | st.ip_addresses().map(lambda address: f"{address}/{address.max_prefixlen}"),
    source_ports=st.none() | st.integers(1, 65535).map(lambda port: (port, min(port + 9, 65535))),
    latch=st.none() | st.booleans(),
    inactivity=st.none() | st.integers(0, 100_000),
    notify=st.just(True),
    request_id=st.integers(0, 0xFFFFFFFE),
)


@QUICK
@given(requests)
def test_stream_requests_survive_the_wire(request: iq.StreamRequest) -> None:
    message = Message("alg", (TransactionRequest(1, (Action(CHOOSE_CONTEXT, (iq.to_add(request),)),)),))
    transaction = parse(write(message)).transactions[0]
    assert isinstance(transaction, TransactionRequest)
    assert iq.read_add(transaction.actions[0].commands[0]) == request


@QUICK
@given(adds)
def test_commands_are_understood_or_refused(command: Command) -> None:
    for read in (iq.read_add, iq.read_add_reply, iq.read_notify, iq.read_service_change):
        with suppress(H248Error):
            read(command)


@QUICK
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.floats(0, 20)), max_size=40))
def test_no_order_of_events_executes_twice(reliable: bool, steps: list[tuple[int, int, float]]) -> None:
    """Whatever arrives and whenever: within LONG-TIMER a transaction id is executed once, and timers run dry."""
    machine = TransactionLayer("gw", reliable=reliable)
    now = 0.0
    executed: dict[int, float] = {}
    made: list[int] = []
    work = (Action(1, (Command("Subtract", "*"),)),)
    for kind, tid, wait in steps:
        outputs = []
        match kind:
            case 0:
                outputs = machine.receive(Message("p", (TransactionRequest(tid, work),)), now)
            case 1:
                outputs = machine.reply(tid, work, now)
            case 2:
                outputs = machine.receive(Message("p", (TransactionAck(((tid, tid + 1),)),)), now)
            case 3:
                number, outputs = machine.request(work, now)
                made.append(number)
            case 4:
                target = made[-1] if made else tid
                outputs = machine.receive(Message("p", (TransactionReply(target, work, immediate_ack=tid == 1),)), now)
            case _:
                now += wait
                outputs = machine.expire(now)
        for output in outputs:
            if isinstance(output, RequestIn):
                assert output.tid not in executed or now - executed[output.tid] >= 30.0
                executed[output.tid] = now
        assert 0 <= machine.outstanding <= len(made)
        assert 0 <= machine.executing <= 5
    for tid in range(1, 5):
        machine.reply(tid, work, now)
    for _ in range(10_000):
        due = machine.next_timer()
        if due is None:
            break
        machine.expire(due)
    assert machine.next_timer() is None
    assert (machine.outstanding, machine.executing) == (0, 0)
