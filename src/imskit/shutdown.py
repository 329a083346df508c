"""Signals of a daemon: SIGTERM and SIGINT end it, a second one at once; SIGHUP is for its files and settings."""

import asyncio
import signal
from collections.abc import Callable


class Shutdown:
    """Waits for the end of the process; ``on_hangup`` runs at SIGHUP, ``on_again`` when the end is asked for twice."""

    def __init__(self, on_hangup: Callable[[], None] | None = None, on_again: Callable[[], None] | None = None) -> None:
        self._on_again = on_again
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.reason = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.request, number.name)
        if on_hangup is not None:
            self._loop.add_signal_handler(signal.SIGHUP, on_hangup)

    def request(self, reason: str) -> None:
        """Ask for the end, as a signal would."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()
        elif self._on_again is not None:
            self._on_again()

    def done(self) -> None:
        """The end is in order: a signal that comes while the process goes must not turn it into a death by signal."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

    async def wait(self) -> str:
        """Return the reason, "SIGTERM" for instance, once the end was asked for."""
        await self._event.wait()
        return self.reason
