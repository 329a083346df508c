"""State x input for the transaction machines as they really run, and for the stages of a call in the engine.

:mod:`tests.unit.imswire_sip.test_sip_tables` proves the tables total; here the interpreter is led through them: every
order of inputs of a few steps, on both kinds of transport, and every pair of state and input is met on the way.
"""

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import FACTOR, examples
from tests.playbook.test_alg_random import STARTS, Run, steps
from tests.unit.imswire_sip.sip_samples import TCP, UDP, Ids, request

from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.tables import TABLES, Event, Input, State, Table
from imswire.sip.transaction import (
    ClientFailed,
    ClientTimeout,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerTimeout,
    TransactionLayer,
)
from imswire.sip.transaction_moves import Entries, Move, Place, entries
from imswire.sip.transaction_types import Timers

DEPTH = 4


type Met = set[tuple[str, State, Input]]


class Noting(dict[Input, Move]):
    """The moves of a place; notes each one that is looked up."""

    def __init__(self, place: Place, met: Met) -> None:
        super().__init__(place.moves)
        self.place, self.met = place, met

    def __getitem__(self, one: Input) -> Move:
        self.met.add((self.place.table.name, self.place.state, one))
        return super().__getitem__(one)


class Watched(TransactionLayer):
    """Notes each pair of state and input that a transaction meets, whichever way it is taken."""

    def __init__(self, met: Met) -> None:
        super().__init__(Ids())
        self._entries, self._entries_reliable = (noting(reliable, met) for reliable in (False, True))


def noting(reliable: bool, met: Met) -> Entries:
    """Machines of its own, whose places note what is looked up in them."""
    own = entries.__wrapped__(Timers(), reliable)
    work = [own.invite_client, own.invite_proxy, own.other_client, own.invite_server, own.other_server]
    while work:
        place = work.pop()
        if type(place.moves) is dict:
            work += [move.place for move in place.moves.values()]
            place.moves = Noting(place, met)
    return own


class Bench:
    """One transaction of one machine and everything that came out."""

    def __init__(self, table: Table, flow: Flow, met: Met) -> None:
        self.table, self.flow = table, flow
        self.layer = Watched(met)
        self.now = 0.0
        self.out: list[Output] = []
        self.again = False  # the request came once more when all was over: a new one
        method = "INVITE" if table.name.startswith("INVITE") else "OPTIONS"
        self.request = request(method, "z9hG4bKm")
        if table.client:
            self.key, out = self.layer.request(
                self.request, flow, 0.0, via_host="h", via_port=None, timer_c=method == "INVITE"
            )
            sent = out[0]
            assert isinstance(sent, Send)
            assert isinstance(sent.message, Request)
            self.request = sent.message
        else:
            out = self.layer.receive(self.request, flow, 0.0)
            arrived = next(one for one in out if isinstance(one, RequestArrived))
            self.server = arrived.key
        self.out += out

    def take(self, what: str) -> None:
        """One input by its name."""
        layer, now = self.layer, self.now
        if what == "time":
            if (due := layer.next_timer()) is not None:
                assert due > now
                self.now = due
                self.out += layer.expire(due)
        elif what == "lost":
            self.out += layer.transport_failed(self.flow, now)
        elif what == "cancel":
            self.out += layer.cancel(self.key, now)
        elif what in ("request", "ack"):
            message = self.request if what == "request" else request("ACK", "z9hG4bKm")
            alive = bool(layer.stats.servers)
            out = layer.receive(message.copy(), self.flow, now)
            anew = any(isinstance(one, RequestArrived) for one in out)
            assert not (alive and anew), "a repetition is not given to the user"
            self.again = self.again or anew
            self.out += out
        else:
            answer = self.request.reply(int(what), to_tag="x")
            self.out += (
                layer.receive(answer, self.flow, now) if self.table.client else layer.respond(self.server, answer, now)
            )


CLIENT = ("100", "180", "200", "486", "cancel", "lost", "time")
SERVER = ("100", "180", "200", "486", "request", "ack", "lost", "time")


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_every_order_of_inputs_ends_and_tells_its_user_once(table: Table, flow: Flow) -> None:
    met: Met = set()
    for script in product(CLIENT if table.client else SERVER, repeat=DEPTH):
        bench = Bench(table, flow, met)
        for what in script:
            bench.take(what)
        while bench.layer.next_timer() is not None:
            bench.take("time")
        told = [one for one in bench.out if isinstance(one, ClientTimeout | ClientFailed | ServerTimeout)]
        finals = [one for one in bench.out if isinstance(one, ResponseArrived) and one.response.status >= 300]
        # In Accepted a server tells of each 2xx that could not go (RFC 6026 7.1); all else is told once.
        most = 1 + (0 if table.client else script.count("lost"))
        assert len(told) + len(finals) <= most or bench.again, script
        stats = bench.layer.stats
        if table.client or ({"200", "486", "lost"} & set(script) and not bench.again):
            assert (stats.clients, stats.servers, stats.timers) == (0, 0, 0), script
    states = {state for state in table.states if state is not State.TERMINATED}
    if flow is UDP:
        seen = {(state, one) for name, state, one in met if name == table.name}
        wanted = {(state, one) for state in states for one in table.inputs if isinstance(one, Event)}
        missing = {pair for pair in wanted - seen if (table.name, *pair) not in UNREACHED}
        assert missing == set()


UNREACHED = frozenset(
    (table.name, state, Event.ACK)
    for table in TABLES
    for state in table.states
    if table.name.startswith("non-INVITE") and not table.client
)
"""An ACK never matches a transaction that is not of an INVITE (RFC 3261 17.2.3)."""


ONE = [
    *[("ue", method, body) for method in ("INVITE", "UPDATE", "PRACK", "ACK", "BYE", "INFO") for body in (0, 1, 5)],
    *[("core", method, body) for method in ("INVITE", "UPDATE", "PRACK", "ACK", "BYE", "INFO") for body in (0, 1, 5)],
    *[
        ("response", 0, status, sure, tag, 1)
        for status in (180, 183, 200, 486)
        for sure in (False, True)
        for tag in ("one", "two")
    ],
    *[("gateway", None), ("gateway", 510), ("notify", 1), ("cancel",), ("drain",), ("time", 40.0), ("time", 200.0)],
]
"""Every kind of input that a call can meet, once."""


@pytest.mark.parametrize("start", STARTS)
def test_every_input_in_every_stage_of_a_call(start: str) -> None:
    """From each stage, the gateway's answer at once and not in turn: no bug, and in the end nothing is left."""
    for number, step in enumerate(ONE):
        for eager in (True, False) if FACTOR > 1 else (number % 2 == 0,):
            ends(start, eager, [step])


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(STARTS)), st.booleans(), st.lists(st.one_of(st.sampled_from(ONE), steps), max_size=6))
def test_any_few_inputs_in_any_stage_of_a_call(start: str, eager: bool, script: list[tuple[object, ...]]) -> None:
    ends(start, eager, script)


def ends(start: str, eager: bool, script: list[tuple[object, ...]]) -> None:
    run = Run(0 if start in list(STARTS)[:8] else 5, start, eager=eager)
    for step in script:
        run.perform(step)
    run.settle()
    for _ in range(4):
        run.book.advance(600.0)
        run.settle()
    engine = run.book.engine
    assert engine.stats.bugs == 0, (start, script)
    gauges = engine.gauges
    assert (gauges["calls"], gauges["held"], gauges["forwards"]) == (0, 0, 0), (start, script)
