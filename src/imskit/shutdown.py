"""Signals of a daemon: SIGTERM and SIGINT end it, SIGHUP reopens its files."""

import asyncio
import signal
from collections.abc import Callable


class Shutdown:
    """Waits for the end of the process; ``on_hangup`` runs at SIGHUP."""

    def __init__(self, on_hangup: Callable[[], None] | None = None) -> None:
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

    async def wait(self) -> str:
        """Return the reason, "SIGTERM" for instance, once the end was asked for."""
        await self._event.wait()
        return self.reason
