"""Deadlines that move: each is due once, when it was said last, and old times leave no litter."""

from hypothesis import given
from hypothesis import strategies as st

from imsalg.core.deadlines import Deadlines

steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(1, 50)),
        st.tuples(st.just("discard"), st.sampled_from("abc")),
        st.tuples(st.just("wait"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(steps)
def test_against_a_plain_table(script: list[tuple[object, ...]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    table: dict[str, float] = {}
    now = 0.0
    for step in script:
        match step:
            case ("set", str(key), int(ahead)):
                deadlines.set(key, now + ahead)
                table[key] = now + ahead
            case ("discard", str(key)):
                deadlines.discard(key)
                table.pop(key, None)
            case ("wait", int(seconds)):
                now += seconds
                due = sorted(key for key, when in table.items() if when <= now)
                assert sorted(deadlines.expire(now)) == due
                for key in due:
                    del table[key]
        assert len(deadlines) == len(table)
        if table:
            soonest = deadlines.next_timer()
            assert soonest is not None
            assert soonest <= min(table.values())


def test_a_deadline_that_moves_for_ever_leaves_no_litter() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for number in range(10_000):
        deadlines.set(number, 1000.0 + number)
        deadlines.discard(number)
    assert deadlines.next_timer() is None or len(deadlines.expire(1e9)) == 0
    for number in range(1_000):
        deadlines.set(7, 100.0 + number)
    assert deadlines.expire(1098.0) == []
    assert deadlines.expire(1099.0) == [7]
