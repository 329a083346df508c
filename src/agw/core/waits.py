"""Waits of one constant length: who waits is in order of time by itself, so that nothing has to be sorted."""

from collections.abc import Mapping


class Waits:
    """``seconds`` is the length; 0: nobody waits."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until: dict[int, float] = {}
        self.until: Mapping[int, float] = self._until
        """Who waits, and until when."""

    def begin(self, number: int, now: float) -> None:
        """``number`` waits from now, unless it waits already."""
        if self.seconds and number not in self._until:
            self._until[number] = now + self.seconds

    def end(self, number: int) -> None:
        """It waits no more."""
        self._until.pop(number, None)

    def next_timer(self) -> float | None:
        return next(iter(self._until.values()), None)

    def due(self, now: float) -> list[int]:
        """Who has waited long enough; they wait no more."""
        due = []
        for number, when in self._until.items():
            if when > now:
                break
            due.append(number)
        for number in due:
            del self._until[number]
        return due
