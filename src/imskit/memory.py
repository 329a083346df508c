"""Giving memory back. What was freed between things that live stays with the allocator, and a daemon that once was busy
looks as if it leaked; glibc returns whole free pages when it is asked to."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

_EVERY = 2.0  # seconds between two looks at the load
_WORTH = 50  # a peak below this is not worth the walk over the heap


class Trimmer:
    """Watches ``load()`` (calls, contexts) and gives memory back when it has fallen to half of its peak, or less.

    The collection before it and the walk over the heap take milliseconds, so they are made only then. Where the C
    library has no ``malloc_trim`` there is only the collection.
    """

    def __init__(self, load: Callable[[], int], *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._load = load
        self._loop = loop or asyncio.get_running_loop()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._peak = 0
        self.times = 0
        """How often memory was given back."""
        self._timer = self._loop.call_later(_EVERY, self._again)

    def look(self) -> None:
        """Give memory back if the load has fallen."""
        load = self._load()
        self._peak = max(self._peak, load)
        if self._peak >= _WORTH and 2 * load <= self._peak:
            self._peak = load
            self.times += 1
            gc.collect()
            if self._trim is not None:
                self._trim(0)

    def close(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _again(self) -> None:
        self.look()
        self._timer = self._loop.call_later(_EVERY, self._again)
