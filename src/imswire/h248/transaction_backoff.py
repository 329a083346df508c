"""How long to wait for a reply over UDP before the request is repeated (RFC 3525 D.1.3)."""

from collections.abc import Callable

from imswire.h248.transaction_values import Timers


class Backoff:
    """The measured delay of one peer and its deviation, in seconds; ``jitter`` gives numbers in [0, 1)."""

    def __init__(self, timers: Timers, jitter: Callable[[], float]) -> None:
        self._cap = timers.cap
        self._jitter = jitter
        self._delay = timers.first
        self._deviation = timers.first / 4

    def interval(self, attempt: int) -> float:
        """Wait before repetition ``attempt`` + 1: measured delay, doubled per attempt and spread, plus 4 deviations."""
        average = self._delay * 2.0 ** min(attempt, 16)
        spread = average if attempt == 0 else average * (0.5 + 0.5 * self._jitter())
        return float(min(self._cap, spread + 4 * self._deviation))

    def measured(self, seconds: float) -> None:
        """A request that was sent once was answered after ``seconds``."""
        self._deviation += (abs(seconds - self._delay) - self._deviation) / 4
        self._delay += (seconds - self._delay) / 8
        self._delay = max(self._delay, 0.01)
