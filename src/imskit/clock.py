"""Clocks and id sources: the only places where a daemon asks for the time or for randomness."""

import asyncio
import heapq
import itertools
import secrets
import time
from collections.abc import Callable
from typing import Protocol


class Cancellable(Protocol):
    """Something that was scheduled and may be called off."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """What the shell knows of time: seconds, as floats.

    ``now`` is monotonic and is the time that machines see; ``wall`` is Unix time for traces and certificates;
    ``call_at`` schedules on the scale of ``now``.
    """

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable: ...


class SystemClock:
    """The clock of the machine, scheduling on an event loop (by default the one that runs)."""

    # uvloop counts in whole milliseconds and may fire a fraction of one early; a shorter wait would spin.
    _GRAIN = 0.001

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()

    now = staticmethod(time.monotonic)  # asked once for each event
    wall = staticmethod(time.time)

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(max(self._GRAIN, when - time.monotonic()), callback)


class ManualTimer:
    """One entry of a :class:`ManualClock`."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock that stands still until a test moves it; ``advance`` runs what falls due, in order of time."""

    def __init__(self, now: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._offset = wall - now
        self._heap: list[tuple[float, int, ManualTimer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._offset

    def call_at(self, when: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(when, callback)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move ahead by ``seconds``, stopping at every timer on the way."""
        self.advance_to(self._now + seconds)

    def advance_to(self, when: float) -> None:
        while self._heap and self._heap[0][0] <= when:
            due, _, timer = heapq.heappop(self._heap)
            self._now = max(self._now, due)
            if timer.callback is not None:
                timer.callback()
        self._now = max(self._now, when)

    @property
    def scheduled(self) -> list[float]:
        """Times of the timers that are still armed, earliest first."""
        return sorted(when for when, _, timer in self._heap if timer.callback is not None)


class SystemIds:
    """Unguessable identifiers from the operating system (RFC 3261 8.1.1.7, 19.3).

    Random octets are fetched by the thousand, since a call needs half a dozen identifiers; none is used twice. Not to
    be shared with a forked child, which would have the same octets ahead.
    """

    _FETCH = 2048

    def __init__(self) -> None:
        self._octets = b""
        self._used = 0

    def _hex(self, octets: int) -> str:
        start, end = self._used, self._used + octets
        if end > len(self._octets):
            self._octets = secrets.token_bytes(max(self._FETCH, octets))
            start, end = 0, octets
        self._used = end
        return self._octets[start:end].hex()

    def branch(self) -> str:
        """A Via branch with the magic cookie of RFC 3261."""
        return "z9hG4bK" + self._hex(12)

    def tag(self) -> str:
        """A From or To tag; 64 random bits (RFC 3261 19.3 asks for 32)."""
        return self._hex(8)

    def token(self, octets: int = 16) -> str:
        """A hex token of ``octets`` random octets: nonces, flow tokens, session ids."""
        return self._hex(octets)

    def number(self, bits: int = 31) -> int:
        """A random number of at most ``bits`` bits."""
        return secrets.randbits(bits)


class SeededIds:
    """Predictable identifiers for tests that compare exact bytes: ``prefix`` and a running number."""

    def __init__(self, prefix: str = "t") -> None:
        self._prefix = prefix
        self._count = itertools.count(1)

    def branch(self) -> str:
        return f"z9hG4bK-{self._prefix}-{next(self._count)}"

    def tag(self) -> str:
        return f"{self._prefix}-tag-{next(self._count)}"

    def token(self, octets: int = 16) -> str:
        return f"{self._prefix}{next(self._count):0{max(2, 2 * octets - len(self._prefix))}x}"

    def number(self, bits: int = 31) -> int:
        return next(self._count) % (1 << bits)
