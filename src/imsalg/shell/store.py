"""State that outlives the process, behind one interface: in memory for tests, in one SQLite file for the daemon.

Values are octets that their owner packs and unpacks; ``kind`` is a table of the owner's ("node", "binding", "call").
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from imsalg.core.records import Change, Keep


class StoreError(Exception):
    """The kept state cannot be used; the text names the file, what is wrong with it, and what to do."""


class Store(Protocol):
    """What every store does."""

    lasting: bool
    """True when what is written is there after the end of the process, however it ended."""

    def get(self, kind: str, key: str) -> bytes | None:
        """One value, or None."""
        ...

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Write or replace a value, at once."""
        ...

    def write(self, changes: Sequence[Change]) -> None:
        """All changes, or none of them: one transaction. Raises :class:`StoreError`. May be called in any thread."""
        ...

    def items(self) -> Iterator[tuple[str, str, bytes]]:
        """All values as (kind, key, value)."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class MemoryStore:
    """A store in dictionaries. ``lasting`` is True for a test that hands it from one node to the next."""

    def __init__(self, *, lasting: bool = False) -> None:
        self.lasting = lasting
        self._values: dict[tuple[str, str], bytes] = {}

    def get(self, kind: str, key: str) -> bytes | None:
        return self._values.get((kind, key))

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._values[kind, key] = value

    def write(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, Keep):
                self._values[change.kind, change.key] = change.value
            else:
                self._values.pop((change.kind, change.key), None)

    def items(self) -> Iterator[tuple[str, str, bytes]]:
        yield from [(kind, key, value) for (kind, key), value in self._values.items()]

    def close(self) -> None:
        """Nothing is pending."""
