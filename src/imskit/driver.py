"""Runs a pure machine on an event loop: one queue, one timer, commands executed in order.

Nothing else in the project creates tasks (:func:`spawn`) or starts an event loop (:func:`run`).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import uvloop

from imskit.clock import Cancellable, Clock, ManualClock, SeededIds, SystemClock, SystemIds
from imskit.logs import get_logger
from imskit.machine import Machine

__all__ = ["Clock", "Driver", "ManualClock", "SeededIds", "SystemClock", "SystemIds", "run", "spawn"]

log = get_logger("imskit.driver")

# A timer whose expiry raised stays due; without this wait (seconds) a bug would become a busy loop.
_AFTER_BUG = 0.1
# Seconds that a timer may be late. Under load some timer runs out in every millisecond: they are taken together, and
# while one is armed that runs out within this time the machine is not asked for another.
_LATE = 0.02
# Seconds of lateness that mean that the loop stood still. libuv runs timers after the callbacks of the sockets that it
# found ready, so that a long callback lets a timer run out whose answer arrived meanwhile and is still in its socket:
# the poller has one more round first. No more than one: under a flood it always finds something.
_STALL = 0.05


class Driver[E, C]:
    """Feeds events to ``machine`` and its commands to ``execute``: FIFO, run to completion, never re-entrant.

    ``post`` from inside ``execute`` (or from the machine's owner while a command runs) appends to the queue. One timer
    is armed for ``machine.next_timer()``. An exception that escapes from the machine or from ``execute`` is a bug; it
    goes to ``on_bug(error, event)`` (``event`` is None when a timer ran) and the queue goes on.

    Commands of a type that ``orders`` names go there instead of to ``execute``: the frequent ones, straight to whoever
    carries them out. Without ``clock`` the driver runs on ``loop`` (or the running loop). Not thread safe: other
    threads use ``loop.call_soon_threadsafe(driver.post, event)``.
    """

    def __init__(
        self,
        machine: Machine[E, C],
        execute: Callable[[C], None],
        *,
        orders: Mapping[type, Callable[[Any], None]] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
        on_bug: Callable[[BaseException, E | None], None] | None = None,
    ) -> None:
        self._machine = machine
        self._execute = execute
        self._orders = dict(orders or {})
        self._clock: Clock = clock if clock is not None else SystemClock(loop)
        self._now = self._clock.now
        self._on_bug = on_bug
        self._queue: deque[E] = deque()
        self._running = False
        self._closed = False
        self._timer: Cancellable | None = None
        self._armed_for = 0.0
        self._not_before = 0.0
        self._polled = False

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def pending(self) -> int:
        """Events that wait for the one that is being handled."""
        return len(self._queue)

    def post(self, event: E) -> None:
        """Hand over one event; it is handled before this returns unless another one is being handled."""
        if self._closed:
            return
        if self._running:
            self._queue.append(event)
        else:
            self._run(event)

    def close(self) -> None:
        """Drop what is queued and disarm the timer; later posts are ignored."""
        self._closed = True
        self._queue.clear()
        self._disarm()

    def _run(self, event: E) -> None:
        """Handle ``event``, and then what waits in the queue: all of an event's way in one frame."""
        queue, orders, execute = self._queue, self._orders, self._execute
        self._running = True
        try:
            while True:
                now = self._now()
                commands: Sequence[C] = ()
                try:
                    commands = self._machine.handle(event, now)
                except Exception as error:  # noqa: BLE001  outermost door: a bug ends its own call, never the daemon
                    self._bug(error, event)
                for command in commands:
                    try:
                        orders.get(type(command), execute)(command)
                    except Exception as error:  # noqa: BLE001  the other commands of this event are still owed
                        self._bug(error, event)
                if not queue:
                    break
                event = queue.popleft()
        finally:
            self._running = False
        if self._timer is None or self._armed_for > now + _LATE:
            self._arm()

    def _fire(self) -> None:
        self._timer = None
        if self._closed or self._running:
            return
        now = self._now()
        if now > self._armed_for + _STALL and not self._polled:
            # Not call_soon, which uvloop runs before it polls.
            self._polled = True
            self._timer = self._clock.call_at(now, self._fire)
            return
        self._polled = False
        self._running = True
        try:
            due = self._machine.next_timer()
            if due is not None and due <= now:
                self._not_before = now + _LATE
                self._carry_out(self._machine.expire(now))
        except Exception as error:  # noqa: BLE001  outermost door, as above
            self._not_before = now + _AFTER_BUG
            self._bug(error, None)
        finally:
            self._running = False
        if self._queue:
            self._run(self._queue.popleft())
        else:
            self._arm()

    def _carry_out(self, commands: Sequence[C]) -> None:
        """Those of a timer."""
        for command in commands:
            try:
                self._orders.get(type(command), self._execute)(command)
            except Exception as error:  # noqa: BLE001  as above
                self._bug(error, None)

    def _bug(self, error: BaseException, event: E | None) -> None:
        if self._on_bug is None:
            log.error("unexpected exception", trigger=repr(event)[:400], exc_info=error)
            return
        try:
            self._on_bug(error, event)
        except Exception as second:  # the reporter of bugs is the last door of all
            log.error("on_bug itself failed", exc_info=second)

    def _arm(self) -> None:
        if self._closed:
            return
        try:
            due = self._machine.next_timer()
        except Exception as error:  # noqa: BLE001  outermost door, as above; the next event asks again
            self._bug(error, None)
            due = None
        if due is None:
            self._disarm()
            return
        due = max(due, self._not_before)
        # An armed timer that is earlier than needed is left alone: it fires, finds nothing due and is armed anew.
        # Timers mostly move later, so this saves a cancel and a heap insertion per event.
        if self._timer is not None:
            if self._armed_for <= due:
                return
            self._timer.cancel()
        self._armed_for = due
        self._timer = self._clock.call_at(due, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_tasks: set[asyncio.Task[Any]] = set()


def spawn[T](coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start ``coro`` as a task of the running loop; the only creator of tasks in the project.

    A reference is held until the task ends, and an exception that nobody awaits is logged at once with ``name``.
    """
    task = asyncio.get_running_loop().create_task(coro, name=name)
    _tasks.add(task)
    task.add_done_callback(_task_done)
    return task


def _task_done(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task failed", task=task.get_name(), exc_info=error)


def run(main: Coroutine[Any, Any, int | None]) -> int:
    """Run ``main`` on uvloop until it returns; its result is the exit status (None is 0, Ctrl-C is 130)."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main) or 0
    except KeyboardInterrupt:
        return 130
