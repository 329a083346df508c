"""Transactions: at most once, repetition, confirmation, pendings, deadlines; no clock, no socket."""

import itertools

import pytest

from imswire.base import LimitExceeded
from imswire.h248 import iq
from imswire.h248.errors import error
from imswire.h248.model import (
    Action,
    Command,
    ErrorDescriptor,
    Message,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.transaction import (
    ErrorIn,
    Limits,
    Output,
    ReplyIn,
    RequestAborted,
    RequestFailed,
    RequestIn,
    RequestTimeout,
    Send,
    Timers,
    TransactionLayer,
)
from imswire.h248.transaction_table import INCOMING, OUTGOING, In, On, Out

ASK = (iq.audit_alive(),)
ANSWER = (Action(0, (Command("AuditValue", "ROOT"),)),)
TIMERS = Timers()


def layer(reliable: bool = True, **more: object) -> TransactionLayer:
    return TransactionLayer("alg", reliable=reliable, **more)  # type: ignore[arg-type]


def sent(outputs: list[Output]) -> list[Message]:
    return [output.message for output in outputs if isinstance(output, Send)]


def request_in(tid: int) -> Message:
    return Message("agw", (TransactionRequest(tid, ASK),))


def reply_in(tid: int, **more: bool) -> Message:
    return Message("agw", (TransactionReply(tid, ANSWER, None, **more),))


def run(machine: TransactionLayer, until: float) -> list[tuple[float, Output]]:
    """Let time pass, timer by timer."""
    seen: list[tuple[float, Output]] = []
    while (due := machine.next_timer()) is not None and due <= until:
        seen += [(round(due, 6), output) for output in machine.expire(due)]
    return seen


# --- tables ---


def test_the_tables_are_total() -> None:
    mine = {On.REPLY, On.PENDING, On.REPEAT, On.DEADLINE}
    theirs = {On.REQUEST, On.ANSWER, On.ACK, On.REPEAT, On.DEADLINE}
    assert set(OUTGOING) == set(itertools.product(Out, mine))
    assert set(INCOMING) == set(itertools.product(In, theirs))
    assert mine | theirs == set(On)


def test_every_state_ends() -> None:
    """From each state some inputs lead to being forgotten."""
    for table in (OUTGOING, INCOMING):
        ends: set[object] = {None}
        for _ in range(5):
            ends |= {state for (state, _), (after, _) in table.items() if after in ends}
        assert ends >= {state for state, _ in table}


# --- as the side that asks ---


@pytest.mark.parametrize("reliable", [True, False])
def test_request_and_reply(reliable: bool) -> None:
    machine = layer(reliable)
    tid, outputs = machine.request(ASK, 0.0)
    assert sent(outputs) == [Message("alg", (TransactionRequest(tid, ASK),))]
    assert machine.outstanding == 1
    reply = reply_in(tid)
    assert machine.receive(reply, 0.1) == [ReplyIn(tid, reply.transactions[0])]  # type: ignore[arg-type]
    assert machine.outstanding == 0
    assert machine.receive(reply, 0.2) == []
    assert run(machine, 100.0) == []
    assert machine.next_timer() is None


def test_reliable_requests_are_not_repeated_and_have_a_deadline() -> None:
    machine = layer()
    tid, _ = machine.request(ASK, 10.0)
    assert machine.next_timer() == 10.0 + TIMERS.deadline
    assert run(machine, 100.0) == [(10.0 + TIMERS.deadline, RequestTimeout(tid))]
    assert machine.outstanding == 0
    assert machine.receive(reply_in(tid), 20.0) == []


def test_udp_requests_are_repeated_with_growing_intervals_until_given_up() -> None:
    machine = layer(False)
    tid, first = machine.request(ASK, 0.0)
    seen = run(machine, 1000.0)
    times = [when for when, output in seen if isinstance(output, Send)]
    assert [output.message for _, output in seen if isinstance(output, Send)] == sent(first) * len(times)
    gaps = [b - a for a, b in itertools.pairwise([0.0, *times])]
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(0.4)
    assert gaps[-1] == TIMERS.cap
    assert 7 <= len(times) <= 11
    assert seen[-1] == (TIMERS.give_up, RequestTimeout(tid))


def test_jitter_spreads_repetitions_but_not_the_first() -> None:
    low, high = (layer(False, jitter=lambda n=n: n) for n in (0.0, 0.99))
    for machine in (low, high):
        machine.request(ASK, 0.0)
    a, b = ([when for when, output in run(m, 3.0) if isinstance(output, Send)] for m in (low, high))
    assert a[0] == b[0]
    assert a[1] < b[1]


def test_measured_delay_sets_the_first_repetition() -> None:
    fast, slow = layer(False), layer(False)
    for machine, delay in ((fast, 0.01), (slow, 1.0)):
        now = 0.0
        for _ in range(40):
            tid, _ = machine.request(ASK, now)
            machine.receive(reply_in(tid), now + delay)
            now += 100.0
            run(machine, now)
        machine.request(ASK, now)
        wait = (machine.next_timer() or 0) - now
        assert delay < wait < delay + 0.2


def test_udp_replies_are_confirmed_in_the_next_request() -> None:
    machine = layer(False)
    ids = [machine.request(ASK, 0.0)[0] for _ in range(5)]
    for tid in (ids[0], ids[2], ids[1], ids[4]):
        machine.receive(reply_in(tid), 0.1)
    tid, outputs = machine.request(ASK, 0.2)
    ack = TransactionAck(((ids[0], ids[2]), (ids[4], ids[4])))
    assert sent(outputs)[0].transactions == (ack, TransactionRequest(tid, ASK))
    assert len(sent(machine.request(ASK, 0.3)[1])[0].transactions) == 1


@pytest.mark.parametrize("reliable", [True, False])
def test_a_reply_that_asks_for_confirmation_gets_it_each_time(reliable: bool) -> None:
    machine = layer(reliable)
    tid, _ = machine.request(ASK, 0.0)
    ack = Send(Message("alg", (TransactionAck(((tid, tid),)),)))
    assert machine.receive(reply_in(tid, immediate_ack=True), 0.1)[0] == ack
    assert machine.receive(reply_in(tid, immediate_ack=True), 0.2) == [ack]
    run(machine, 100.0)
    assert machine.receive(reply_in(tid, immediate_ack=True), 100.0) == [ack]


def test_pending_extends_the_deadline_and_slows_repetition() -> None:
    reliable, udp = layer(), layer(False)
    for machine in (reliable, udp):
        tid, _ = machine.request(ASK, 0.0)
        assert machine.receive(Message("agw", (TransactionPending(tid),)), 0.1) == []
    assert reliable.next_timer() == 0.1 + TIMERS.deadline
    assert udp.next_timer() == 0.1 + TIMERS.cap
    times = [when for when, output in run(udp, 25.0) if isinstance(output, Send)]
    assert times == [pytest.approx(0.1 + TIMERS.cap * n) for n in range(1, 7)]
    assert [type(o) for o in udp.receive(reply_in(tid, immediate_ack=True), 25.0)] == [Send, ReplyIn]


def test_too_many_pendings_fail_the_request() -> None:
    machine = layer(limits=Limits(pendings=2))
    tid, _ = machine.request(ASK, 0.0)
    pending = Message("agw", (TransactionPending(tid),))
    assert machine.receive(pending, 0.1) + machine.receive(pending, 0.2) == []
    assert machine.receive(pending, 0.3) == [RequestFailed(tid, error(506))]
    assert machine.outstanding == 0
    assert machine.next_timer() is None
    assert machine.receive(pending, 0.4) == []


def test_pending_after_the_reply_is_ignored() -> None:
    machine = layer(False)
    tid, _ = machine.request(ASK, 0.0)
    machine.receive(reply_in(tid), 0.1)
    assert machine.receive(Message("agw", (TransactionPending(tid),)), 0.2) == []


def test_errors_without_a_transaction() -> None:
    machine = layer()
    assert machine.receive(Message("agw", error=ErrorDescriptor(400)), 0.0) == [ErrorIn(ErrorDescriptor(400))]
    null = Message("agw", (TransactionReply(0, error=ErrorDescriptor(403)),))
    assert machine.receive(null, 0.0) == [ErrorIn(ErrorDescriptor(403))]
    assert machine.receive(reply_in(77), 0.0) == []


def test_outstanding_requests_are_bounded() -> None:
    machine = layer(limits=Limits(outgoing=2))
    machine.request(ASK, 0.0)
    tid, _ = machine.request(ASK, 0.0)
    with pytest.raises(LimitExceeded):
        machine.request(ASK, 0.0)
    machine.receive(reply_in(tid), 0.1)
    machine.request(ASK, 0.1)


def test_ids_wrap_and_skip_what_is_in_use() -> None:
    machine = layer(first_id=0xFFFFFFFF)
    assert [machine.request(ASK, 0.0)[0] for _ in range(3)] == [0xFFFFFFFF, 1, 2]
    again = layer(first_id=0xFFFFFFFF)
    again.request(ASK, 0.0)
    again.next_id = 0xFFFFFFFF
    assert again.request(ASK, 0.0)[0] == 1


def test_reset_fails_what_waits_and_forgets_the_rest() -> None:
    machine = layer(False)
    a, _ = machine.request(ASK, 0.0)
    b, _ = machine.request(ASK, 0.0)
    machine.receive(reply_in(a), 0.1)
    machine.receive(request_in(9), 0.1)
    assert [o.tid for o in machine.reset() if isinstance(o, RequestFailed)] == [b]
    assert (machine.outstanding, machine.executing, machine.next_timer()) == (0, 0, None)
    assert isinstance(machine.receive(request_in(9), 0.2)[0], RequestIn)
    assert machine.reply(8, ANSWER, 0.2) == []


# --- as the side that answers ---


@pytest.mark.parametrize("reliable", [True, False])
def test_a_repeated_request_is_executed_once(reliable: bool) -> None:
    machine = layer(reliable)
    message = request_in(5)
    assert machine.receive(message, 0.0) == [RequestIn(5, message.transactions[0])]  # type: ignore[arg-type]
    answered = machine.reply(5, ANSWER, 0.1)
    assert sent(answered) == [Message("alg", (TransactionReply(5, ANSWER),))]
    assert machine.executing == 0
    for now in (0.2, 10.0, 30.0):
        assert machine.receive(message, now) == answered
    assert machine.reply(5, ANSWER, 30.0) == []
    run(machine, 31.0)
    assert isinstance(machine.receive(message, 31.0)[0], RequestIn)


def test_a_repetition_during_execution_gets_pending_and_the_reply_asks_for_confirmation() -> None:
    machine = layer(False)
    machine.receive(request_in(5), 0.0)
    assert sent(machine.receive(request_in(5), 0.3)) == [Message("alg", (TransactionPending(5),))]
    reply = sent(machine.reply(5, ANSWER, 0.5))[0].transactions[0]
    assert isinstance(reply, TransactionReply)
    assert reply.immediate_ack
    repeated = [when for when, output in run(machine, 5.0) if isinstance(output, Send)]
    assert len(repeated) >= 3
    assert machine.receive(Message("agw", (TransactionAck(((1, 9),)),)), 5.0) == []
    assert run(machine, 25.0) == []
    assert machine.receive(request_in(5), 25.0) == []


def test_unconfirmed_replies_are_repeated_no_longer_than_they_are_kept() -> None:
    machine = layer(False)
    machine.receive(request_in(5), 0.0)
    machine.receive(request_in(5), 0.1)
    machine.reply(5, ANSWER, 0.2)
    seen = run(machine, 1000.0)
    assert seen
    assert seen[-1][0] <= 0.2 + TIMERS.long
    assert machine.next_timer() is None


def test_pending_is_sent_unasked_when_execution_takes_long() -> None:
    machine = layer()
    machine.receive(request_in(5), 0.0)
    pending = Send(Message("alg", (TransactionPending(5),)))
    assert run(machine, 9.5) == [(1.0, pending), (5.0, pending), (9.0, pending)]
    reply = sent(machine.reply(5, ANSWER, 9.6))[0].transactions[0]
    assert isinstance(reply, TransactionReply)
    assert not reply.immediate_ack


@pytest.mark.parametrize("reliable", [True, False])
def test_too_many_pendings_become_an_error(reliable: bool) -> None:
    machine = layer(reliable, limits=Limits(pendings=2))
    machine.receive(request_in(5), 0.0)
    for now in (0.1, 0.2):
        assert len(machine.receive(request_in(5), now)) == 1
    outputs = machine.receive(request_in(5), 0.3)
    assert isinstance(outputs[0], Send)
    assert outputs[0].message.transactions == (TransactionReply(5, error=error(506), immediate_ack=not reliable),)
    assert outputs[1:] == [RequestAborted(5)]
    assert machine.executing == 0
    assert machine.reply(5, ANSWER, 0.4) == []
    assert machine.receive(request_in(5), 0.5) == outputs[:1]


def test_a_confirmed_request_is_met_with_silence() -> None:
    machine = layer(False)
    machine.receive(request_in(5), 0.0)
    machine.reply(5, ANSWER, 0.1)
    machine.receive(Message("agw", (TransactionAck(((0, 0xFFFFFFFF),)),)), 0.2)
    assert machine.receive(request_in(5), 0.3) == []
    run(machine, 31.0)
    assert isinstance(machine.receive(request_in(5), 31.0)[0], RequestIn)


def test_confirmation_does_not_touch_what_executes() -> None:
    machine = layer(False)
    machine.receive(request_in(5), 0.0)
    machine.receive(Message("agw", (TransactionAck(((5, 5),)),)), 0.2)
    assert len(machine.reply(5, ANSWER, 0.3)) == 1


def test_execution_is_bounded_and_the_refusal_is_not_kept() -> None:
    machine = layer(limits=Limits(executing=1))
    machine.receive(request_in(1), 0.0)
    refusal = sent(machine.receive(request_in(2), 0.0))[0].transactions[0]
    assert isinstance(refusal, TransactionReply)
    assert refusal.error is not None
    assert refusal.error.code == 510
    machine.reply(1, ANSWER, 0.1)
    assert isinstance(machine.receive(request_in(2), 0.2)[0], RequestIn)


def test_kept_replies_are_bounded() -> None:
    machine = layer(limits=Limits(kept=10))
    for tid in range(1, 101):
        machine.receive(request_in(tid), 0.0)
        machine.reply(tid, ANSWER, 0.0)
    assert len(machine._incoming) == 10
    assert sent(machine.receive(request_in(100), 0.1))
    assert isinstance(machine.receive(request_in(1), 0.1)[0], RequestIn)


def test_one_message_may_carry_many_transactions() -> None:
    machine = layer()
    tid, _ = machine.request(ASK, 0.0)
    reply = TransactionReply(tid, ANSWER)
    message = Message("agw", (TransactionRequest(1, ASK), reply, TransactionRequest(2, ASK)))
    assert [type(output) for output in machine.receive(message, 0.1)] == [RequestIn, ReplyIn, RequestIn]


def test_two_layers_over_a_link_that_loses_and_doubles() -> None:
    """Every request is executed once and answered once although each message is lost twice and then doubled."""
    near, far = layer(False), TransactionLayer("agw", reliable=False)
    executed: list[int] = []
    answered: list[int] = []
    losses: dict[bytes, int] = {}
    wire: list[tuple[float, TransactionLayer, Message]] = []

    def carry(outputs: list[Output], target: TransactionLayer, now: float) -> None:
        for message in sent(outputs):
            key = repr(message).encode()
            losses[key] = losses.get(key, 0) + 1
            if losses[key] > 2:
                wire.extend([(now + 0.05, target, message)] * 2)

    wanted = []
    for _ in range(20):
        tid, outputs = near.request(ASK, 0.0)
        wanted.append(tid)
        carry(outputs, far, 0.0)
    for _ in range(20_000):
        times = [t for t in (near.next_timer(), far.next_timer(), *(when for when, _, _ in wire)) if t is not None]
        if not times:
            break
        now = min(times)
        carry(near.expire(now), far, now)
        carry(far.expire(now), near, now)
        due = [entry for entry in wire if entry[0] <= now]
        wire[:] = [entry for entry in wire if entry[0] > now]
        for _, target, message in due:
            outputs = target.receive(message, now)
            carry(outputs, near if target is far else far, now)
            for output in outputs:
                if isinstance(output, RequestIn):
                    executed.append(output.tid)
                    carry(far.reply(output.tid, ANSWER, now), near, now)
                elif isinstance(output, ReplyIn):
                    answered.append(output.tid)
    assert sorted(executed) == sorted(answered) == wanted
    assert near.next_timer() is None
    assert far.next_timer() is None
