"""The tables of :mod:`imswire.sip.tables` as the interpreter walks them: made of the rows once for each set of times.

Nothing is decided here. A row's actions are sorted into the one that nearly every message is about (send it, or pass it
on) and the rest; its timers into those whose length is fixed and those of which :func:`timer_wait` must be asked; and
what may come in a state is one dictionary of that state.
"""

from functools import lru_cache

from msgspec import Struct

from imswire.sip.tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Event,
    Input,
    Row,
    State,
    Table,
    Timer,
)
from imswire.sip.transaction_types import Timers

type Length = tuple[Timer, float, bool]
"""A timer, the seconds that it takes, and whether it is one of :data:`BOUNDS`."""

BOUNDS = frozenset({Timer.B, Timer.C, Timer.F, Timer.H, Timer.X})
"""They bound a wait and are nearly always stopped."""
DOUBLING = frozenset({Timer.A, Timer.E, Timer.G})
"""Repetitions: not over reliable transports, each time twice as long."""
LINGERING = frozenset({Timer.D, Timer.J, Timer.I, Timer.K})
"""What a transaction waits for when all is over; nothing over reliable transports."""
LAST = LINGERING | {Timer.L, Timer.M}
"""Where one of these begins, the transaction has no other timer left; when it runs out, the transaction is over."""
SHORT = frozenset({Timer.I, Timer.K})
"""They take T4; all others that are not named here take 64*T1, but for timer C."""


class Place:
    """One state of one machine, and the move for each input in it."""

    __slots__ = ("moves", "state", "table")

    def __init__(self, table: Table, state: State) -> None:
        self.table = table
        self.state = state
        self.moves: dict[Input, Move] = {}


class Timing(Struct, frozen=True, eq=False):
    """What a row does to the timers: ``asked`` have no length of their own, ``at_once`` take no time."""

    stop: tuple[Timer, ...]
    start: tuple[Length, ...]
    asked: tuple[Timer, ...]
    at_once: tuple[Timer, ...]


class Move(Struct, frozen=True, eq=False):
    """One row. ``sends`` or ``gives``: its first action is SEND or PASS, and ``rest`` are those after it.

    ``usual`` is a row of which that one action is all, but for a timer of :data:`LAST` that it may start, ``last``.
    ``over`` is one that does nothing but end the transaction.
    """

    place: Place
    sends: bool
    gives: bool
    rest: tuple[Action, ...]
    timing: Timing | None
    ends: bool
    usual: bool
    last: Length | None
    over: bool


class Entries(Struct, frozen=True, eq=False):
    """Where transactions begin; ``invite_proxy`` is that of a proxy's INVITE, which has a timer C."""

    invite_client: Place
    invite_proxy: Place
    other_client: Place
    invite_server: Place
    other_server: Place


class Setting(Struct, frozen=True):
    """What the timers of a machine depend on; ``timer_c`` is a proxy's."""

    times: Timers
    reliable: bool
    timer_c: bool = False


@lru_cache(maxsize=32)
def entries(times: Timers, reliable: bool) -> Entries:
    """All machines, with timers of those lengths, over transports of that kind."""
    usual = Setting(times, reliable)
    return Entries(
        _entry(INVITE_CLIENT, usual),
        _entry(INVITE_CLIENT, Setting(times, reliable, timer_c=True)),
        _entry(NON_INVITE_CLIENT, usual),
        _entry(INVITE_SERVER, usual),
        _entry(NON_INVITE_SERVER, usual),
    )


def _entry(table: Table, setting: Setting) -> Place:
    """Before any state: the request that makes a transaction is the one input, and its move the first row."""
    places = {state: Place(table, state) for state in table.states}
    for (state, one), row in table.rows.items():
        places[state].moves[one] = _move(row, places, _timing(row, one, setting))
    entry = Place(table, State.TERMINATED)
    entry.moves[Event.REQUEST] = _move(table.first, places, _timing(table.first, None, setting))
    return entry


def _move(row: Row, places: dict[State, Place], timing: Timing | None) -> Move:
    first = row.actions[0] if row.actions else None
    sends, gives = first is Action.SEND, first is Action.PASS
    rest = row.actions[1:] if sends or gives else row.actions
    ends = row.next is State.TERMINATED
    last = _last(timing)
    usual = (sends or gives) and not rest and not ends and (timing is None or last is not None)
    over = ends and not row.actions and timing is None
    return Move(places[row.next], sends, gives, rest, timing, ends, usual, last, over)


def _last(timing: Timing | None) -> Length | None:
    """The timer of :data:`LAST` that is all that is started."""
    if timing is None or timing.asked or timing.at_once or len(timing.start) != 1:
        return None
    return timing.start[0] if timing.start[0][0] in LAST else None


def _timing(row: Row, cause: Input | None, setting: Setting) -> Timing | None:
    start = [timer for timer in row.start if setting.timer_c or timer is not Timer.C]
    at_once: list[Timer] = []
    if setting.reliable:
        at_once = [timer for timer in start if timer in LINGERING]
        start = [timer for timer in start if timer not in LINGERING and timer not in DOUBLING]
    if not start and not at_once and not row.stop:
        return None
    # A repetition is T1 after what it repeats for the first time, and started anew by its own running out alone; timer
    # C is started anew by all provisional responses but one.
    asked = [timer for timer in start if cause is not None and (timer is cause or timer is Timer.C)]
    fixed = [(timer, _length(timer, setting.times), timer in BOUNDS) for timer in start if timer not in asked]
    return Timing(row.stop, tuple(fixed), tuple(asked), tuple(at_once))


def _length(timer: Timer, times: Timers) -> float:
    if timer in DOUBLING:
        return times.t1
    if timer is Timer.C:
        return times.c
    return times.t4 if timer in SHORT else 64 * times.t1
