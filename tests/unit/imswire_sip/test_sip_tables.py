import itertools

import pytest

from imswire.sip.tables import TABLES, Event, State, Table, Timer

BY_NAME = pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])


@BY_NAME
def test_total_over_state_and_input(table: Table) -> None:
    assert set(table.rows) == set(itertools.product(table.states, table.inputs))


@BY_NAME
def test_rows_stay_inside_the_table(table: Table) -> None:
    for row in (table.first, *table.rows.values()):
        assert row.next in table.states
        assert set(row.start) | set(row.stop) <= set(Timer)
        # X is armed by the CANCEL action, all others by rows; each must have an input of its own.
        assert set(row.start) <= set(table.inputs)


@BY_NAME
def test_every_state_is_reachable_and_can_end(table: Table) -> None:
    steps = {state: {table.rows[state, one].next for one in table.inputs} for state in table.states}

    def from_(start: State) -> set[State]:
        seen, work = {start}, [start]
        while work:
            for state in steps[work.pop()] - seen:
                seen.add(state)
                work.append(state)
        return seen

    assert from_(table.first.next) == set(table.states)
    for state in table.states:
        assert State.TERMINATED in from_(state)


@BY_NAME
def test_terminated_is_final(table: Table) -> None:
    for one in table.inputs:
        row = table.rows[State.TERMINATED, one]
        assert (row.next, row.actions, row.start) == (State.TERMINATED, (), ())


@BY_NAME
def test_a_timer_that_may_be_armed_is_handled_where_it_may_fire(table: Table) -> None:
    """Follow all paths with the set of armed timers: one that can fire must do something, or be left from before."""
    start = (table.first.next, frozenset(table.first.start))
    seen, work = {start}, [start]
    while work:
        state, armed = work.pop()
        for one in table.inputs:
            if isinstance(one, Timer) and one not in armed:
                continue
            row = table.rows[state, one]
            if isinstance(one, Timer):
                assert row.actions or row.next is not state, f"{one} fires in {state} and does nothing"
            after = (row.next, (armed - {one} - set(row.stop)) | set(row.start))
            if after not in seen and row.next is not State.TERMINATED:
                seen.add(after)
                work.append(after)


def test_roles() -> None:
    for table in TABLES:
        assert table.client == (Event.REQUEST not in table.inputs)
