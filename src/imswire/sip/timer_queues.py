"""The timers of all transactions: a queue for each length of time instead of one heap.

The lengths are few (T1 and its doubles, T2, T4, 64*T1) and time only goes on: what is armed later with the same length
runs out later. So arming appends, and the next one to run out is at the head of a queue. A timer that was stopped stays
where it is; an entry counts only while its transaction still names that very time.

Timers that bound a wait (B, C, F, H, X) are nearly always stopped. As long as an entry of the same transaction runs out
before such a one would, it has none of its own: that entry is the transaction's ``watch``, and whatever has become of
its timer, when its time has come the transaction is looked at.
"""

import heapq
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from operator import itemgetter

from imswire.sip.tables import Timer
from imswire.sip.transaction_moves import BOUNDS, Length
from imswire.sip.transaction_rules import NEVER, Transaction

type Entry = tuple[float, Timer, Transaction]

SLACK = 1024
"""Transactions whose entries may stay behind them before most of all entries have to be such."""
_time = itemgetter(0)


class TimerQueues:
    """See the module's text; times are absolute."""

    def __init__(self) -> None:
        self._queues: dict[float, deque[Entry]] = {}
        self._heap: list[tuple[float, int, Entry]] = []  # what would not be in order in a queue
        self._serial = 0
        self._ready: deque[Entry] = deque()  # what has run out and is being taken
        self._left = 0

    def __len__(self) -> int:
        """Entries, those of stopped timers included that were not swept yet."""
        return len(self._heap) + len(self._ready) + sum(map(len, self._queues.values()))

    def turn(self, txn: Transaction, stop: tuple[Timer, ...], start: tuple[Length, ...], now: float) -> None:
        """Stop timers; let others run out so many seconds from ``now``, in place of earlier ones of their letters."""
        armed, queues = txn.armed, self._queues
        for timer in stop:
            armed.pop(timer, None)
        for timer, wait, bound in start:
            when = armed[timer] = now + wait
            if when < txn.watch:
                txn.watch = when
            elif bound:
                continue
            queue = queues.get(wait)
            if queue is None:
                queue = queues[wait] = deque()
            if queue and queue[-1][0] > when:  # a clock that was put back
                self._push((when, timer, txn))
            else:
                queue.append((when, timer, txn))

    def last(self, txn: Transaction, length: Length, now: float) -> None:
        """Let the last timer of a transaction begin: whatever else it waited for is over."""
        timer, wait, _ = length
        when = now + wait
        armed = txn.armed
        if armed:
            armed.clear()
        armed[timer] = when
        if when < txn.watch:
            txn.watch = when
        queue = self._queues.get(wait)
        if queue and queue[-1][0] <= when:
            queue.append((when, timer, txn))
        else:
            self.turn(txn, (), (length,), now)

    def over(self, txn: Transaction) -> None:
        """No timer of this transaction counts any more; sweeps when most entries are of such transactions."""
        if not txn.armed and txn.watch == NEVER:
            return
        txn.armed.clear()
        self._left += 1
        if self._left > SLACK and self._left * 2 > len(self):
            for wait, queue in self._queues.items():
                self._queues[wait] = deque(_alive(queue))
            kept = list(_alive(entry for _, _, entry in self._heap))
            self._heap.clear()
            for entry in kept:
                self._push(entry)
            self._left = 0

    def first(self) -> float | None:
        """When the next timer runs out."""
        earliest = NEVER
        for queue in (self._ready, *self._queues.values()):
            while queue:
                when, timer, txn = queue[0]
                if txn.armed.get(timer) == when:
                    if when < earliest:
                        earliest = when
                    break
                self._passed(queue.popleft())
        heap = self._heap
        while heap:
            when, timer, txn = entry = heap[0][2]
            if txn.armed.get(timer) == when:
                return min(when, earliest)
            heapq.heappop(heap)
            self._passed(entry)
        return None if earliest == NEVER else earliest

    def due(self, now: float) -> Generator[tuple[Timer, Transaction]]:
        """Take what has run out, in order of time."""
        ready, heap = self._ready, self._heap
        for queue in self._queues.values():
            while queue and queue[0][0] <= now:
                entry = queue.popleft()
                when, timer, txn = entry
                if txn.armed.get(timer) == when:
                    ready.append(entry)
                elif when == txn.watch:
                    self._passed(entry)
        if len(ready) > 1:
            ready = self._ready = deque(sorted(ready, key=_time))
        while ready or (heap and heap[0][0] <= now):
            if heap and heap[0][0] <= now and (not ready or heap[0][0] < ready[0][0]):
                ready.appendleft(heapq.heappop(heap)[2])
            entry = ready.popleft()
            when, timer, txn = entry
            if txn.armed.get(timer) != when:
                self._passed(entry)
                continue
            del txn.armed[timer]
            if txn.watch == when:
                txn.watch = NEVER
            try:
                yield timer, txn
            finally:
                if txn.armed:
                    self._passed(entry)

    def _passed(self, entry: Entry) -> None:
        """An entry is out of the queues; what it watched over gets another one."""
        when, _, txn = entry
        if txn.watch == when:
            txn.watch = NEVER
        for timer, other in txn.armed.items():
            if other < txn.watch and timer in BOUNDS:
                txn.watch = other
                self._push((other, timer, txn))

    def _push(self, entry: Entry) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (entry[0], self._serial, entry))


def _alive(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Those of transactions that wait for a timer; the others are watched by none of theirs any more."""
    for entry in entries:
        if entry[2].armed:
            yield entry
        else:
            entry[2].watch = NEVER
