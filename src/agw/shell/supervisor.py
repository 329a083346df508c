"""``agw run``: one worker process per core, each a media gateway of its own; the dead are replaced.

The supervisor touches no media. It starts ``python -m agw run --worker N`` for every worker, waits until each one is
served by the controller, then tells whoever waits for that (``--ready-fd``). SIGTERM goes to all workers, which leave
service in order; at a second one they end their sessions at once; what has not ended in time is killed. A worker that
dies is started again after a wait that grows while it keeps dying; one that cannot start because of its settings ends
everything.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

from agw.settings import Settings
from agw.shell.worker import END_NOW, write_ready
from imskit.driver import spawn
from imskit.logs import configure, get_logger
from imskit.sdnotify import Notifier
from imskit.shutdown import Shutdown
from imswire.base import Backoff

log = get_logger("agw.supervisor")

UNUSABLE = 2
"""Exit status of a worker (and of the supervisor) whose settings cannot be used."""

_PR_SET_PDEATHSIG = 1
_STEADY = 30.0  # seconds of life after which a worker counts as healthy again
_KILL_GRACE = 5.0  # seconds beyond the drain time


def worker_count(settings: Settings) -> int:
    """Workers to run: as set, or one for each CPU that this process may use."""
    return settings.agw.workers or os.process_cpu_count() or 1


def die_with_parent() -> None:
    """In a worker: get SIGTERM when the supervisor dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Supervisor:
    """Starts, watches and ends the workers of one settings file."""

    def __init__(self, settings: Settings, config: Path, ready_fd: int | None) -> None:
        self._settings = settings
        self._config = config
        self._ready_fd = ready_fd
        self._count = worker_count(settings)
        self._notifier = Notifier()
        self._shutdown = Shutdown(self._hangup, self._again)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._waiting = set(range(self._count))
        self._status = 0
        self._metrics: dict[int, object] = {}

    async def run(self) -> int:
        """Supervise until the end was asked for and every worker is gone; the exit status."""
        backoff = Backoff(0.25, 10.0)
        tasks = [spawn(self._keep(number, backoff), name=f"worker {number}") for number in range(self._count)]
        # The service has started even where the controller comes later; the status line tells the difference.
        self._notifier.ready("waiting for the controller")
        self._notifier.start_watchdog()
        reason = await self._shutdown.wait()
        log.info("stopping", reason=reason, workers=len(self._processes))
        self._notifier.stopping()
        self._signal_all(signal.SIGTERM)
        _, late = await asyncio.wait(tasks, timeout=self._settings.agw.drain_time + _KILL_GRACE)
        if late:
            log.warning("killing workers that did not end in time", workers=len(self._processes))
            self._signal_all(signal.SIGKILL)
            await asyncio.wait(tasks, timeout=_KILL_GRACE)
        self._notifier.close()
        return self._status

    async def _keep(self, number: int, backoff: Backoff) -> None:
        attempt = 0
        while not self._shutdown.reason:
            began = time.monotonic()
            status = await self._one(number)
            if self._shutdown.reason:
                return
            if status == UNUSABLE:
                self._status = status
                self._shutdown.request("a worker cannot use its settings")
                return
            attempt = 0 if time.monotonic() - began > _STEADY else attempt + 1
            wait = backoff.delay(max(0, attempt - 1))
            log.error("worker died", worker=number, status=status, restart_in=wait)
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._shutdown.wait()
        except TimeoutError:
            return

    async def _one(self, number: int) -> int:
        """Run one worker to its end; its exit status."""
        reader, writer = os.pipe()
        loop = asyncio.get_running_loop()
        loop.add_reader(reader, self._told, number, reader)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agw",
                "run",
                "--config",
                str(self._config),
                "--worker",
                str(number),
                "--ready-fd",
                str(writer),
                pass_fds=(writer,),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            log.error("worker cannot be started", worker=number, error=error.strerror)
            os.close(writer)
            return -1
        os.close(writer)
        self._processes[number] = process
        if self._shutdown.reason:
            process.terminate()
        status = await process.wait()
        self._processes.pop(number, None)
        return status

    def _told(self, number: int, reader: int) -> None:
        """A worker is in service (it wrote its line), or it ended before that."""
        line = os.read(reader, 4096)
        asyncio.get_running_loop().remove_reader(reader)
        os.close(reader)
        if not line or not self._waiting:
            return
        self._waiting.discard(number)
        self._metrics.update(_metrics_of(number, line))
        if self._waiting:
            return
        pids = [process.pid for _, process in sorted(self._processes.items())]
        log.info("ready", workers=self._count)
        self._notifier.status(f"{self._count} workers in service")
        if self._ready_fd is not None:
            facts: dict[str, object] = {"pid": os.getpid(), "workers": pids, "ports": []}
            if self._metrics:
                facts["metrics"] = [where for _, where in sorted(self._metrics.items())]
            write_ready(self._ready_fd, facts)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            try:
                process.send_signal(number)
            except ProcessLookupError:
                continue

    def _again(self) -> None:
        log.warning("ending now", workers=len(self._processes))
        self._signal_all(END_NOW)

    def _hangup(self) -> None:
        self._signal_all(signal.SIGHUP)


def _metrics_of(number: int, line: bytes) -> dict[int, object]:
    """Where a worker serves its metrics, from its own ready line."""
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return {number: facts["metrics"]} if "metrics" in facts else {}


async def run_supervisor(settings: Settings, config: Path, ready_fd: int | None) -> int:
    """Supervise the workers of ``config``; the exit status."""
    configure(settings.log.level, settings.log.format)
    return await Supervisor(settings, config, ready_fd).run()
