"""The timers of all transactions: a queue for each length of time instead of one heap.

The lengths are few (T1 and its doubles, T2, T4, 64*T1, timer C) and time only goes on: what is armed later with the
same length runs out later. So arming appends, and the next one to run out is at the head of a queue. A timer that was
stopped stays where it is; an entry counts only while its transaction still names that very time.
"""

from collections import deque
from collections.abc import Iterator

from imswire.sip.tables import Timer
from imswire.sip.transaction_rules import Transaction

type Entry = tuple[float, int, Timer, Transaction]


class TimerQueues:
    """See the module's text; times are absolute."""

    def __init__(self) -> None:
        self._queues: dict[float, deque[Entry]] = {}
        self._serial = 0
        self._stopped = 0

    def __len__(self) -> int:
        """Entries, those of stopped timers included that were not swept yet."""
        return sum(map(len, self._queues.values()))

    def arm(self, txn: Transaction, timer: Timer, now: float, wait: float) -> None:
        """Let ``timer`` run out ``wait`` seconds from ``now``, in place of an earlier one of that letter."""
        armed = txn.armed
        if timer in armed:
            self._stopped += 1
        when = armed[timer] = now + wait
        self._serial = serial = self._serial + 1
        queue = self._queues.get(wait)
        if queue is None:
            queue = self._queues[wait] = deque()
        queue.append((when, serial, timer, txn))
        if len(queue) > 1 and queue[-2][0] > when:  # a clock that was put back
            self._queues[wait] = deque(sorted(queue, key=_order))

    def stopped(self, count: int) -> None:
        """So many timers were taken out of their transactions; sweeps when most entries are of such."""
        self._stopped += count
        if self._stopped > 1024 and self._stopped * 2 > len(self):
            for wait, queue in list(self._queues.items()):
                alive = deque(entry for entry in queue if entry[3].armed.get(entry[2]) == entry[0])
                self._queues[wait] = alive
                if not alive:
                    del self._queues[wait]
            self._stopped = 0

    def first(self) -> float | None:
        """When the next timer runs out."""
        earliest: float | None = None
        for queue in self._queues.values():
            while queue:
                when, _, timer, txn = queue[0]
                if txn.armed.get(timer) == when:
                    if earliest is None or when < earliest:
                        earliest = when
                    break
                queue.popleft()
                self._stopped -= 1
        return earliest

    def due(self, now: float) -> Iterator[tuple[Timer, Transaction]]:
        """Take what has run out, in order of time, what is armed meanwhile included."""
        while (when := self.first()) is not None and when <= now:
            queue = min((queue for queue in self._queues.values() if queue), key=_head)
            _, _, timer, txn = queue.popleft()
            del txn.armed[timer]
            yield timer, txn


def _order(entry: Entry) -> tuple[float, int]:
    return entry[:2]


def _head(queue: deque[Entry]) -> tuple[float, int]:
    return queue[0][:2]
