"""Compiled tables say what the tables say; the short ways of the rules say what the long ones do."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.imswire_sip.sip_samples import CORE, TCP, UDP, request

from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Event,
    Row,
    State,
    Table,
    Timer,
)
from imswire.sip.transaction_moves import BOUNDS, DOUBLING, LAST, LINGERING, Move, Place, entries
from imswire.sip.transaction_rules import arrival, branch_of, fill_via, response_flow, sent_by, server_key
from imswire.sip.transaction_types import Timers
from imswire.sip.values import Via

TIMES = Timers(t1=0.25, t2=2.0, t4=3.0, c=200.0)
FIXED = {Timer.I: 3.0, Timer.K: 3.0, Timer.A: 0.25, Timer.E: 0.25, Timer.G: 0.25, Timer.C: 200.0}


def machines(reliable: bool) -> Iterator[tuple[Table, Place, bool]]:
    found = entries(TIMES, reliable)
    yield INVITE_CLIENT, found.invite_client, False
    yield INVITE_CLIENT, found.invite_proxy, True
    yield NON_INVITE_CLIENT, found.other_client, False
    yield INVITE_SERVER, found.invite_server, False
    yield NON_INVITE_SERVER, found.other_server, False


def same(move: Move, row: Row, timer_c: bool, reliable: bool) -> None:
    """The parts of a move, put together again, are the row."""
    assert move.place.state is row.next
    assert move.ends == (row.next is State.TERMINATED)
    usual(row, move)
    first = (Action.SEND,) * move.sends + (Action.PASS,) * move.gives
    assert first + move.rest == row.actions
    start = {timer for timer in row.start if timer_c or timer is not Timer.C}
    start -= DOUBLING if reliable else set()
    if move.timing is None:
        assert (start, row.stop) == (set(), ())
        return
    timing = move.timing
    assert timing.stop == row.stop
    lengths = [timer for timer, _, _ in timing.start]
    assert sorted([*lengths, *timing.asked, *timing.at_once]) == sorted(start)
    assert set(timing.at_once) == (start & LINGERING if reliable else set())
    assert set(timing.asked) <= DOUBLING | {Timer.C}
    for timer, wait, bound in timing.start:
        assert wait == FIXED.get(timer, 64 * 0.25)
        assert bound == (timer in BOUNDS)


def usual(row: Row, move: Move) -> None:
    """What the short ways go by: one action at most, nothing to stop that could still run, no end."""
    last = move.last
    assert last is None or (move.timing is not None and move.timing.start == (last,) and last[0] in LAST)
    if move.usual:
        assert row.actions in ((Action.SEND,), (Action.PASS,))
        assert row.next is not State.TERMINATED
        assert (move.timing is None) == (last is None)
    if move.over:
        assert row == Row(State.TERMINATED)


def test_first_rows_are_what_transactions_begin_with() -> None:
    for reliable in (False, True):
        for table, entry, _ in machines(reliable):
            move = entry.moves[Event.REQUEST]
            assert (move.sends, move.gives, move.rest, move.ends) == (table.client, not table.client, (), False)
            timing = move.timing
            assert timing is None or (table.client and not (timing.stop or timing.asked or timing.at_once))


@pytest.mark.parametrize("reliable", [False, True])
def test_nothing_but_the_last_timer_can_run_once_it_begins(reliable: bool) -> None:
    """All timers that a walk through the machine can have armed are stopped by the row that begins the last one."""
    for _, entry, _ in machines(reliable):
        work: list[tuple[Place, frozenset[Timer]]] = [(entry, frozenset())]
        seen = set()
        while work:
            place, armed = work.pop()
            for move in place.moves.values():
                timing = move.timing
                left = armed - set(timing.stop) if timing is not None else armed
                if move.last is not None:
                    assert left <= {move.last[0]}
                if timing is not None:
                    left |= {timer for timer, _, _ in timing.start} | set(timing.asked)
                if not move.ends and (move.place, left) not in seen:
                    seen.add((move.place, left))
                    work.append((move.place, left))


@pytest.mark.parametrize("reliable", [False, True])
def test_moves_are_the_rows_of_the_tables(reliable: bool) -> None:
    for table, entry, timer_c in machines(reliable):
        assert list(entry.moves) == [Event.REQUEST]
        same(entry.moves[Event.REQUEST], table.first, timer_c, reliable)
        seen: dict[State, Place] = {}
        work = [entry.moves[Event.REQUEST].place]
        while work:
            place = work.pop()
            assert seen.setdefault(place.state, place) is place
            assert place.table is table
            assert set(place.moves) == set(table.inputs)
            for one, move in place.moves.items():
                same(move, table.rows[place.state, one], timer_c, reliable)
                if move.place.state not in seen:
                    work.append(move.place)
        assert set(seen) == set(table.states)


params = st.lists(
    st.sampled_from(
        [
            *(
                ("branch", "z9hG4bKx"),
                ("branch", "z9hG4bK"),
                ("branch", "old"),
                ("Branch", "z9hG4bKy"),
                ("branch", None),
                ("rport", None),
                ("rport", "7"),
            ),
            *(("received", "198.51.100.7"), ("received", "192.0.2.9"), ("ttl", "3")),
        ]
    ),
    max_size=3,
).map(tuple)
vias = st.builds(
    Via,
    st.just("UDP"),
    st.sampled_from(["198.51.100.7", "host.example", "2001:db8::7", "2001:DB8::7"]),
    st.sampled_from([None, 5060, 5061, 40000]),
    params,
)
ADDRESSES = ["198.51.100.7", "2001:db8::7"]
flows = st.builds(
    Flow,
    st.sampled_from(["udp", "tcp", "tls"]),
    st.just("access"),
    st.just(("192.0.2.1", 5060)),
    st.tuples(st.sampled_from(ADDRESSES), st.sampled_from([5060, 5061, 40000])),
)


def long_way(via: Via, flow: Flow) -> Via:
    """RFC 3261 18.2.1, RFC 3581 4, step by step."""
    host, port = flow.remote
    if via.has_rport:
        return via.with_param("received", host).with_param("rport", str(port))
    if via.host.lower() == host.lower():
        return via.without_param("received")
    return via.with_param("received", host)


@given(vias, flows)
def test_a_via_is_filled_as_the_rules_say(via: Via, flow: Flow) -> None:
    filled = fill_via(via, flow)
    if filled is via and via.received is not None:  # the same address, whatever its spelling
        assert long_way(via, flow).received == via.received
    else:
        assert filled == long_way(via, flow)
    port = via.port or (5061 if flow.transport == "tls" else 5060)
    same_port = flow.reliable or via.has_rport
    assert response_flow(via, flow).remote == (flow.remote if same_port else (flow.remote[0], port))


@given(st.sampled_from(["INVITE", "ACK", "OPTIONS"]), vias, flows)
def test_an_arrival_is_its_key_and_its_via(method: str, via: Via, flow: Flow) -> None:
    message = request(method)
    assert arrival(message, via, flow) == (server_key(message, via), fill_via(via, flow))


@given(vias)
def test_branch_and_sent_by(via: Via) -> None:
    assert branch_of(via) == (via.branch or "")
    assert sent_by(via.host, via.port) == via.sent_by.lower()


@pytest.mark.parametrize("items", [(), (("To", "x"),), (("To", "x"), ("v", "SIP/2.0/UDP a"), ("Via", "SIP/2.0/UDP b"))])
def test_under_via_is_copy_and_prepend(items: tuple[tuple[str, str], ...]) -> None:
    headers = Headers(items)
    before = headers.text
    wanted = headers.copy()
    wanted.prepend("Via", "SIP/2.0/UDP h;branch=z")
    made = headers.under_via("SIP/2.0/UDP h;branch=z")
    assert (made.keys, made.text, made.get_all("via")) == (wanted.keys, wanted.text, wanted.get_all("via"))
    assert headers.text == before
    for value in ("a\nb", "a\rb"):
        with pytest.raises(ProtocolError):
            headers.under_via(value)


def test_flows_of_the_samples() -> None:
    via = request().via
    assert response_flow(via, UDP) is UDP
    assert response_flow(via, TCP) is TCP
    assert response_flow(Via("UDP", "h", 5060), CORE) is CORE
