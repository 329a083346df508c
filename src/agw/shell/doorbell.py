"""Which of the listening sockets somebody waits at: one poller for all of them, and one descriptor for the loop.

A port usually opens, closes its door and goes again without a visitor. A watch of the loop's own for each costs it four
system calls to set up and to take down; here it is one entry, which the kernel removes with the socket.
"""

import asyncio
import select
from collections.abc import Callable

from agw.shell.legs import Door

_AT_ONCE = 256
"""Doors that are looked at in one turn of the loop; the poller tells of the others in the next."""


class Doorbell:
    """Calls ``answer`` with each door that has a connection to be accepted, again and again until it was accepted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: Callable[[Door], None]) -> None:
        self._loop = loop
        self._answer = answer
        self._doors: dict[int, Door] = {}
        self._poller: select.epoll | None = None

    @property
    def watched(self) -> int:
        """Doors that it tells of."""
        return len(self._doors)

    def watch(self, door: Door) -> None:
        """Tell of this door from now on; what is watched already stays so."""
        descriptor = door.sock.fileno()
        if self._doors.get(descriptor) is door:
            return
        poller = self._poller
        if poller is None:
            poller = self._poller = select.epoll()
            self._loop.add_reader(poller.fileno(), self._ring)
        self._doors[descriptor] = door
        poller.register(descriptor, select.EPOLLIN)

    def pause(self, door: Door) -> None:
        """Tell of it no more; its socket stays."""
        if self._doors.pop(door.sock.fileno(), None) is not None and self._poller is not None:
            self._poller.unregister(door.sock.fileno())

    def forget(self, door: Door) -> None:
        """Its socket is about to be closed, which takes it out of the poller."""
        self._doors.pop(door.sock.fileno(), None)

    def stop(self) -> None:
        """Tell of nothing any more."""
        if self._poller is not None:
            self._loop.remove_reader(self._poller.fileno())
            self._poller.close()
            self._poller = None
        self._doors.clear()

    def _ring(self) -> None:
        if self._poller is None:
            return
        for descriptor, _ in self._poller.poll(0, _AT_ONCE):
            door = self._doors.get(descriptor)
            if door is not None:
                # Each in a callback of its own: what goes wrong with one does not keep the others waiting.
                self._loop.call_soon(self._answer, door)
