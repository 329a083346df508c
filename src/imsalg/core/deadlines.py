"""A deadline per key, set and moved at will: what bounds the life of things that peers keep alive.

A deadline that is moved later costs nothing until the old time has come: the heap holds about one entry per key.
"""

import heapq
import itertools


class Deadlines[K]:
    """Keys with the time that each is due; times are those of the engine's clock."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._queued: dict[K, float] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: K, when: float) -> None:
        """``key`` is due at ``when``, whatever was said of it before."""
        self._due[key] = when
        queued = self._queued.get(key)
        if queued is None or queued > when:
            self._push(key, when)

    def discard(self, key: K) -> None:
        """``key`` is never due."""
        self._due.pop(key, None)
        if len(self._heap) > 2 * len(self._due) + 64:
            self._rebuild()

    def next_timer(self) -> float | None:
        """When to look again: not later than the earliest deadline."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> list[K]:
        """The keys that are due; they are forgotten."""
        gone: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._queued.get(key) == when:
                del self._queued[key]
            due = self._due.get(key)
            if due is None or key in self._queued:
                continue
            if due <= now:
                del self._due[key]
                gone.append(key)
            else:
                self._push(key, due)
        return gone

    def _push(self, key: K, when: float) -> None:
        self._queued[key] = when
        heapq.heappush(self._heap, (when, next(self._order), key))

    def _rebuild(self) -> None:
        self._heap.clear()
        self._queued.clear()
        for key, when in self._due.items():
            self._push(key, when)
