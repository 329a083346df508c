"""The timer queues beside a plain list of what is armed: the same timers run out at the same times."""

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.imswire_sip.sip_samples import UDP, request

from imswire.sip.tables import Timer
from imswire.sip.timer_queues import SLACK, TimerQueues
from imswire.sip.transaction_moves import BOUNDS, entries
from imswire.sip.transaction_rules import Transaction
from imswire.sip.transaction_types import Timers

WAITS = (0.5, 1.0, 4.0, 32.0, 181.0)
steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "turn", "stop", "over", "wait", "ask"]),
        st.integers(0, 3),
        st.sampled_from([Timer.A, Timer.B, Timer.C, Timer.M, Timer.X]),
        st.sampled_from(WAITS),
    ),
    max_size=60,
)


def transaction() -> Transaction:
    return Transaction(entries(Timers(), reliable=False).invite_client, request(), UDP, reliable=False)


def start(queues: TimerQueues, txn: Transaction, timer: Timer, wait: float, now: float) -> None:
    queues.turn(txn, (), ((timer, wait, timer in BOUNDS),), now)


class Both:
    """The queues, and what is armed by transaction and letter."""

    def __init__(self) -> None:
        self.queues = TimerQueues()
        self.transactions = [transaction() for _ in range(4)]
        self.armed: dict[tuple[int, Timer], float] = {}
        self.now = 0.0

    def start(self, which: int, timer: Timer, wait: float) -> None:
        start(self.queues, self.transactions[which], timer, wait, self.now)
        self.armed[which, timer] = self.now + wait

    def turn(self, which: int, timer: Timer, wait: float) -> None:
        self.armed.pop((which, Timer.M), None)
        lengths = ((timer, wait, timer in BOUNDS), (Timer.B, 32.0, True))
        self.queues.turn(self.transactions[which], (Timer.M,), lengths, self.now)
        self.armed |= {(which, timer): self.now + wait, (which, Timer.B): self.now + 32.0}

    def over(self, which: int) -> None:
        self.queues.over(self.transactions[which])
        self.transactions[which] = transaction()
        self.armed = {key: when for key, when in self.armed.items() if key[0] != which}

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = sorted(key for key, when in self.armed.items() if when <= self.now)
        fired = [(self.transactions.index(txn), timer) for timer, txn in self.queues.due(self.now)]
        assert sorted(fired) == due
        for key in due:
            del self.armed[key]

    def same(self) -> None:
        assert self.queues.first() == min(self.armed.values(), default=None)


@given(steps)
def test_what_is_armed_runs_out(script: list[tuple[str, int, Timer, float]]) -> None:
    both = Both()
    for what, which, timer, wait in script:
        if what == "start":
            both.start(which, timer, wait)
        elif what == "turn":
            both.turn(which, timer, wait)
        elif what == "stop":
            both.transactions[which].armed.pop(timer, None)
            both.armed.pop((which, timer), None)
        elif what == "over":
            both.over(which)
        elif what == "wait":
            both.wait(wait)
        else:
            both.same()
    both.same()
    both.wait(1000.0)
    assert both.queues.first() is None
    assert len(both.queues) == 0


def test_a_clock_that_is_put_back() -> None:
    both = Both()
    both.now = 10.0
    both.start(0, Timer.M, 32.0)
    both.now = 5.0
    both.start(1, Timer.M, 32.0)
    both.same()
    both.wait(32.0)
    both.same()
    both.wait(5.0)
    assert not both.armed


def test_timers_in_order_of_time_whatever_queue_they_are_in() -> None:
    both = Both()
    both.start(0, Timer.A, 4.0)
    both.now = 3.75
    both.start(1, Timer.A, 0.5)
    both.start(2, Timer.A, 0.125)
    order = [txn for _, txn in both.queues.due(10.0)]
    assert order == [both.transactions[which] for which in (2, 0, 1)]


def test_a_bug_in_one_timer_leaves_the_others_to_run_out() -> None:
    both = Both()
    for which in range(3):
        both.start(which, Timer.A, 0.5)
        both.start(which, Timer.B, 32.0)
    taken = both.queues.due(1.0)
    next(taken)
    taken.close()  # what an exception in its user does
    assert both.queues.first() == 0.5
    assert len(list(both.queues.due(1.0))) == 2
    assert [timer for timer, _ in both.queues.due(40.0)] == [Timer.B] * 3


def test_what_ended_before_its_timers_is_swept() -> None:
    queues = TimerQueues()
    live = transaction()
    start(queues, live, Timer.B, 32.0, 0.0)
    for _ in range(3 * SLACK):
        txn = transaction()
        start(queues, txn, Timer.F, 32.0, 0.0)
        queues.over(txn)
    assert len(queues) < SLACK + 100
    assert queues.first() == 32.0
    assert [txn for _, txn in queues.due(32.0)] == [live]


def test_a_transaction_whose_entry_was_swept_gets_another() -> None:
    queues = TimerQueues()
    txn = transaction()
    start(queues, txn, Timer.B, 32.0, 0.0)
    txn.armed.clear()  # B was stopped
    for _ in range(SLACK + 100):
        other = transaction()
        start(queues, other, Timer.F, 32.0, 0.0)
        queues.over(other)
    start(queues, txn, Timer.X, 32.0, 1.0)
    assert queues.first() == 33.0
