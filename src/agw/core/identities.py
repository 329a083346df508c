"""Which certificate a termination shows: that of its realm when it was added, whatever the realm has since."""

from collections.abc import Mapping

from msgspec import Struct


class Known(Struct, frozen=True):
    """A certificate by the number that the shell knows it by, and its fingerprints by hash."""

    number: int
    fingerprints: Mapping[str, bytes]


class IdentityBook:
    """Counts who uses which certificate, so that one that was replaced lives as long as its last termination."""

    def __init__(self, default: Known) -> None:
        self._default = default
        self._realms: Mapping[str, Known] = {}
        self._used: dict[int, int] = {}

    def current(self, realm: str) -> Known:
        """What a new termination of the realm announces."""
        return self._realms.get(realm, self._default)

    def replace(self, default: Known, realms: Mapping[str, Known]) -> list[int]:
        """New terminations announce these; the numbers that nobody uses any more."""
        old = self._current()
        self._default, self._realms = default, realms
        return sorted(old - self._current() - self._used.keys())

    def take(self, number: int) -> None:
        """A termination announces this certificate."""
        self._used[number] = self._used.get(number, 0) + 1

    def give_back(self, number: int) -> bool:
        """A termination is gone; True when nobody needs the certificate any more."""
        left = self._used.get(number, 0) - 1
        if left > 0:
            self._used[number] = left
            return False
        if self._used.pop(number, None) is None or number == self._default.number:
            return False
        return number not in self._current()

    def _current(self) -> set[int]:
        return {self._default.number, *(known.number for known in self._realms.values())}
