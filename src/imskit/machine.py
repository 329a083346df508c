"""The contract between a pure core and the driver that runs it."""

from collections.abc import Sequence
from typing import Protocol


class Machine[E, C](Protocol):
    """A synchronous state machine with time as an argument.

    ``handle`` takes one event and returns commands; ``expire`` runs every timer that is due at ``now``;
    ``next_timer`` is the absolute time (same clock as ``now``: seconds, monotonic) of the earliest timer, or None.
    """

    def handle(self, event: E, now: float) -> Sequence[C]: ...

    def expire(self, now: float) -> Sequence[C]: ...

    def next_timer(self) -> float | None: ...
