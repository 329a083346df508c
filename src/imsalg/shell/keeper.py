"""Writes down what outlives the process, away from the path of messages: in batches, in a thread of its own.

Each ``interval`` the journal's marks become a batch (encoded on the loop, a slice at a time, so that no message waits
for long), and the thread commits it. Meanwhile further marks gather, each key once: a slow disk makes batches larger,
never a queue longer. What is lost when the process is killed is what was marked after the last batch that was
committed: ``interval`` and the time of one commit.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from imsalg.core.journal import Journal
from imsalg.core.records import Change
from imsalg.shell.store import Store, StoreError
from imskit.logs import get_logger

log = get_logger("imsalg.keeper")

SLICE = 128
"""Records that are encoded at a time: some 2 ms."""
AFTER_FAILURE = 1.0
"""Seconds before what could not be written is tried again."""


class Keeper:
    """Between a journal and a store. ``now`` is the engine's clock. Starts at once; :meth:`close` writes the rest."""

    def __init__(self, journal: Journal, store: Store, now: Callable[[], float], interval: float) -> None:
        self._journal = journal
        self._store = store
        self._now = now
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imsalg-store")
        self._batch: list[Change] = []
        self._writing = False
        self._closed = False
        self.commits = 0
        self.records = 0
        """Records written or deleted since the start."""
        self.failures = 0
        """Transactions that could not be committed."""
        self.seconds = 0.0
        """How long the last commit took."""
        self._timer = self._loop.call_later(interval, self._gather)

    @property
    def pending(self) -> int:
        """Changes that are not committed yet."""
        return len(self._journal) + len(self._batch)

    @property
    def kept(self) -> int:
        """Records of registrations and calls in the store, once everything is committed."""
        return self._journal.kept

    def _gather(self) -> None:
        """Encode one slice of the marks; when none is left, or enough came together, the thread has it."""
        if self._closed:
            return
        self._batch += self._journal.take(self._now(), time.time(), SLICE)
        if len(self._journal) and len(self._batch) < 64 * SLICE:
            self._timer = self._loop.call_later(0.0, self._gather)
        elif self._batch:
            self._writing = True
            self._thread.submit(self._write, self._batch)
        else:
            self._timer = self._loop.call_later(self._interval, self._gather)

    def _write(self, batch: Sequence[Change]) -> None:
        """In the thread."""
        began = time.monotonic()
        problem = ""
        try:
            self._store.write(batch)
        except StoreError as error:
            problem = str(error)
        try:
            self._loop.call_soon_threadsafe(self._written, problem, time.monotonic() - began)
        except RuntimeError:
            return  # the loop is closed: close() has had its last batch written

    def _written(self, problem: str, seconds: float) -> None:
        self._writing = False
        if problem:
            self.failures += 1
            log.error("state cannot be written; it is tried again", error=problem, records=len(self._batch))
        else:
            self.commits += 1
            self.records += len(self._batch)
            self.seconds = seconds
            self._batch = []
        if not self._closed:
            self._timer = self._loop.call_later(AFTER_FAILURE if problem else self._interval, self._gather)

    def close(self) -> None:
        """Write what is left and end the thread; blocks for the time of a commit."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._thread.shutdown(wait=True)
        # A batch that the thread has had may be written twice: records are whole, so that it makes no difference.
        rest = [*self._batch, *self._journal.take(self._now(), time.time())]
        if not rest:
            return
        try:
            self._store.write(rest)
        except StoreError as error:
            self.failures += 1
            log.error("the last state could not be written", error=str(error), records=len(rest))
