"""What the executor waits for: sockets of legs, their deadlines, idle relays, connections that are being closed.

One coarse ticker does all the timing; it runs only while there is something to watch.
"""

import asyncio
from collections.abc import Callable

from agw.core import orders
from agw.core.orders import Report
from agw.settings import TimerSettings
from agw.shell.legs import LegState
from agw.shell.relay import Closer, End, RelayOwner
from imskit.clock import Cancellable, Clock

_TICK = 0.25  # seconds; the grain of every time limit here


class Idle:
    """What the ticker remembers of a relay."""

    __slots__ = ("a", "b", "limit", "moved", "since", "told")

    def __init__(self, a: End, b: End, now: float, limit: float | None) -> None:
        self.a = a
        self.b = b
        self.limit = limit
        self.moved = 0
        self.since = now
        self.told = False

    def total(self) -> int:
        """Octets so far, whatever their way."""
        return self.a.received + self.b.received + self.a.sent + self.b.sent


class Watcher:
    """The waiting of one worker. ``too_late`` takes a leg whose deadline has passed; ``owner`` ends idle relays."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timers: TimerSettings,
        report: Callable[[Report], None],
        too_late: Callable[[LegState], None],
        owner: RelayOwner,
        clock: Clock,
    ) -> None:
        self._loop = loop
        self.clock = clock
        self._idle = timers.idle
        self._half_close = timers.half_close
        self._report = report
        self._late = too_late
        self._owner = owner
        self._timed: dict[int, LegState] = {}
        self.closers: set[Closer] = set()
        self.relays: dict[int, Idle] = {}
        self._ticker: Cancellable | None = None
        self._closed = False

    @property
    def timed(self) -> int:
        """Legs with a deadline."""
        return len(self._timed)

    def add_relay(self, a: End, b: End, limit: float | None) -> None:
        """Watch a relay; it is known by its first leg."""
        self.relays[a.leg] = Idle(a, b, self.clock.now(), limit)
        self._arm()

    def idle_of(self, end: End) -> float | None:
        """Seconds since a relay last moved octets, in the grain of the ticker; None where none runs."""
        idle = self.relays.get(end.leg) or self.relays.get(end.other.leg)
        if idle is None:
            return None
        moved = idle.moved != idle.total()
        return 0.0 if moved else self.clock.now() - idle.since

    def remove_relay(self, end: End) -> None:
        """The relay of ``end`` is over."""
        self.relays.pop(end.leg, None)
        self.relays.pop(end.other.leg, None)

    def add_closer(self, closer: Closer) -> None:
        """Begin an orderly close and see it through."""
        closer.begin()
        if not closer.done:
            self.closers.add(closer)
            self._arm()

    def close(self) -> None:
        """Stop the ticker and close what is being closed."""
        self._closed = True
        for closer in self.closers:
            closer.close()
        self.closers.clear()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def watch(self, leg: LegState, what: int, callback: Callable[[LegState], None] | None = None) -> None:
        """Call ``callback`` (leg) when the leg's socket is readable (1) or writable (2); 0 ends that."""
        if leg.watching == what or leg.sock is None:
            return
        fd = leg.sock.fileno()
        if leg.watching == 1:
            self._loop.remove_reader(fd)
        elif leg.watching == 2:
            self._loop.remove_writer(fd)
        leg.watching = what
        if what == 1 and callback is not None:
            self._loop.add_reader(fd, callback, leg)
        elif what == 2 and callback is not None:
            self._loop.add_writer(fd, callback, leg)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it when what runs now is done."""
        self._loop.call_soon(callback)

    def limit(self, leg: LegState, seconds: float | None) -> None:
        """Give the leg a deadline from now, or take it away."""
        if seconds is None:
            leg.deadline = None
            self._timed.pop(leg.id, None)
        else:
            leg.deadline = self.clock.now() + seconds
            self._timed[leg.id] = leg
            self._arm()

    def _arm(self) -> None:
        if self._ticker is None and not self._closed and (self._timed or self.closers or self.relays):
            # With nothing but relays to watch a slow tick is enough.
            wait = _TICK if self._timed or self.closers or self._strict else 4 * _TICK
            self._ticker = self.clock.call_at(self.clock.now() + wait, self._tick)

    @property
    def _strict(self) -> bool:
        return 0 < self._idle < 4 or 0 < self._half_close < 4

    def _tick(self) -> None:
        self._ticker = None
        try:
            self._look(self.clock.now())
        finally:  # whatever happens to one leg, the others keep their time limits
            self._arm()

    def _look(self, now: float) -> None:
        for leg in [leg for leg in self._timed.values() if leg.deadline is not None and leg.deadline <= now]:
            if leg.deadline is None or leg.deadline > now:
                continue  # what became of a leg before it has settled this one too
            self.limit(leg, None)
            self._late(leg)
        for closer in [closer for closer in self.closers if closer.done or closer.deadline <= now]:
            closer.close()
            self.closers.discard(closer)
        for idle in list(self.relays.values()):
            self._check_idle(idle, now)

    def _check_idle(self, idle: Idle, now: float) -> None:
        moved = idle.total()
        if moved != idle.moved:
            idle.moved, idle.since, idle.told = moved, now, False
            return
        silent = now - idle.since
        half = idle.a.at_end or idle.b.at_end
        if self._idle and silent >= self._idle:
            self._owner.relay_ended(idle.a, False, f"idle for {self._idle:g} s")
        elif half and self._half_close and silent >= self._half_close:
            self._owner.relay_ended(idle.a if idle.b.at_end else idle.b, False, "half-closed for too long")
        elif idle.limit is not None and silent >= idle.limit and not idle.told:
            idle.told = True
            self._report(orders.Inactive(idle.a.leg, idle.limit))
            self._report(orders.Inactive(idle.b.leg, idle.limit))
