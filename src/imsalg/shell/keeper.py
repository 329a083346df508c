"""Writes down what outlives the process, away from the path of messages: in batches, in a thread of its own.

Each ``interval`` the journal's marks become a batch (encoded on the loop, a slice at a time, so that no message waits
for long), and the thread commits it. Meanwhile further marks gather, each key once: a slow disk makes batches larger,
never a queue longer. What is lost when the process is killed is what was marked after the last batch that was
committed: ``interval`` and the time of one commit.

Whatever fails is counted and logged, and the keeping goes on: a store that cannot be written is tried again, and a
change that alone cannot be written, or a record that cannot be made, is left out.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from imsalg.core.journal import Journal
from imsalg.core.records import Change
from imsalg.shell.store import Store, StoreError
from imskit.logs import get_logger

log = get_logger("imsalg.keeper")

SLICE = 128
"""Records that are encoded at a time: some 2 ms."""
MOST = 64 * SLICE
"""Changes in a batch: more stay marks, of which there is one a key."""
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
        self._closed = False
        self.commits = 0
        self.records = 0
        """Records written or deleted since the start."""
        self.failures = 0
        """Transactions that could not be committed, and slices that could not be made."""
        self.left_out = 0
        """Records that could not be made or written, each by its own fault."""
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
        again = AFTER_FAILURE
        try:
            if len(self._batch) < MOST:
                self._batch += self._taken(SLICE)
            if len(self._journal) and len(self._batch) < MOST:
                again = 0.0
            elif self._batch:
                self._thread.submit(self._write, self._batch)
                return  # _written goes on
            else:
                again = self._interval
        except Exception as error:  # outermost door of a timer: whatever it was, the keeping goes on
            self.failures += 1
            log.error("state cannot be gathered; it is tried again", exc_info=error)
        self._timer = self._loop.call_later(again, self._gather)

    def _taken(self, limit: int) -> list[Change]:
        changes = self._journal.take(self._now(), time.time(), limit)
        unkept = self._journal.unkept
        for one in unkept:
            self._leave_out(one.kind, one.key, one.error)
        unkept.clear()
        return changes

    def _leave_out(self, kind: str, key: str, error: str) -> None:
        self.left_out += 1
        log.error("a record cannot be kept and is left out", kind=kind, key=key, error=error)

    def _write(self, batch: Sequence[Change]) -> None:
        """In the thread."""
        began = time.monotonic()
        problem, bad = self._commit(batch)
        try:
            self._loop.call_soon_threadsafe(self._written, problem, bad, time.monotonic() - began)
        except RuntimeError:
            return  # the loop is closed: close() has had its last batch written

    def _commit(self, batch: Sequence[Change]) -> tuple[str, Mapping[Change, str]]:
        """Write ``batch``; returns why it could not be written, and the changes that never can be, with the reason."""
        bad: dict[Change, str] = {}
        try:
            self._store.write(batch)
        except StoreError as error:
            return str(error), bad
        except Exception:  # noqa: BLE001  one of them is at fault; which one it is shows below
            for change in batch:
                try:
                    self._store.write([change])
                except StoreError as error:
                    return str(error), bad
                except Exception as error:  # noqa: BLE001  as above
                    bad[change] = repr(error)
        return "", bad

    def _written(self, problem: str, bad: Mapping[Change, str], seconds: float) -> None:
        if self._closed:
            return  # close() has written it again, and has said what there was to say
        for change, error in bad.items():
            self._leave_out(change.kind, change.key, error)
        if problem:
            self._batch = [change for change in self._batch if change not in bad] if bad else self._batch
            self.failures += 1
            log.error("state cannot be written; it is tried again", error=problem, records=len(self._batch))
        else:
            self.commits += 1
            self.records += len(self._batch) - len(bad)
            self.seconds = seconds
            self._batch = []
        self._timer = self._loop.call_later(AFTER_FAILURE if problem else self._interval, self._gather)

    def close(self) -> None:
        """Write what is left and end the thread; blocks for the time of a commit."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._thread.shutdown(wait=True)
        rest = list(self._batch)
        # A batch that the thread has had may be written twice: records are whole, so that it makes no difference.
        try:
            rest += self._taken(1_000_000)
        except Exception as error:  # the store has still to be closed, and what was gathered before to be written
            self.failures += 1
            log.error("the last state could not be gathered", exc_info=error)
        if not rest:
            return
        problem, bad = self._commit(rest)
        for change, reason in bad.items():
            self._leave_out(change.kind, change.key, reason)
        if problem:
            self.failures += 1
            log.error("the last state could not be written", error=problem, records=len(rest))
        else:
            self.commits += 1
            self.records += len(rest) - len(bad)
            self._batch = []
