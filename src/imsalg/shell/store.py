"""State that may outlive the process, behind one interface.

Values are octets that their owner packs and unpacks; ``kind`` is a table ("node", "binding", "call"). The memory store
forgets everything at the end of the process.
"""

from collections.abc import Iterator
from typing import Protocol


class Store(Protocol):
    """What every store does. Writing must not block for longer than a dictionary would."""

    def get(self, kind: str, key: str) -> bytes | None:
        """One value, or None."""
        ...

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Write or replace a value."""
        ...

    def delete(self, kind: str, key: str) -> None:
        """Forget a value; nothing happens when there is none."""
        ...

    def items(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """All values of a kind."""
        ...

    def close(self) -> None:
        """Write what is pending and let go of files."""
        ...


class MemoryStore:
    """A store in dictionaries."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, bytes]] = {}

    def get(self, kind: str, key: str) -> bytes | None:
        return self._tables.get(kind, {}).get(key)

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._tables.setdefault(kind, {})[key] = value

    def delete(self, kind: str, key: str) -> None:
        self._tables.get(kind, {}).pop(key, None)

    def items(self, kind: str) -> Iterator[tuple[str, bytes]]:
        yield from list(self._tables.get(kind, {}).items())

    def close(self) -> None:
        """Nothing is pending."""
