"""Header fields as an ordered multimap that keeps the bytes of every line nobody touched.

Names are compared without case and with compact forms expanded (RFC 3261 7.3.1, 7.3.3). Three parallel lists hold, per
line, the canonical name, a pair of it and the value (outer white space stripped, folding undone), and the line as it
goes on the wire.
"""

from collections.abc import Iterable, Iterator, KeysView

from imswire.sip.commas import first_of, first_value_end, split_values
from imswire.sip.names import NOT_LISTS, called, canonical, remember, written, written_key

__all__ = ["Field", "Headers", "canonical", "first_of", "remember", "split_values"]


type Field = tuple[str, str]
"""Canonical name and value of one line."""
_new = object.__new__


class Headers:
    """Header fields of one message, in order.

    Values given to the writing methods must be free of CR and LF, names must be tokens: anything else raises
    ProtocolError ``sip.header`` (a value can never smuggle in another line).
    """

    __slots__ = ("_fields", "_index", "_keys", "_lines")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._keys: list[str] = []
        self._fields: list[Field] = []
        self._lines: list[str] = []
        self._index: dict[str, int] | None = None
        for name, value in items:
            self._insert(len(self._keys), name, value)

    @staticmethod
    def from_lines(
        keys: list[str], fields: list[Field], lines: list[str], index: dict[str, int] | None = None
    ) -> "Headers":
        """Take over three parallel lists made by the parser: canonical names, those with the values, and the lines.

        The lines have no CRLF at the end. ``index`` says where the first line of each name stands; nobody changes it.
        """
        made = _new(Headers)
        made._keys = keys
        made._fields = fields
        made._lines = lines
        made._index = index
        return made

    # --- reading ---

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Pairs of name as written and value, in order."""
        for line, (_, value) in zip(self._lines, self._fields, strict=True):
            yield line.partition(":")[0].rstrip(), value

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: object) -> bool:
        known = self._keys if self._index is None else self._index
        if name in known:
            return True
        if not isinstance(name, str):
            return False
        key = called.get(name) or canonical(name)
        return key is not name and key in known

    def __eq__(self, other: object) -> bool:
        return self._lines == other._lines if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"

    @property
    def keys(self) -> tuple[str, ...]:
        """Canonical names, one per line, in order."""
        return tuple(self._keys)

    @property
    def text(self) -> str:
        """All lines joined by CRLF, without a CRLF at the end."""
        return "\r\n".join(self._lines)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The whole value of the first line of that name."""
        index = self._index
        if index is not None:
            at = index.get(name)
            if at is None:
                at = index.get(called.get(name) or canonical(name))
            return default if at is None else self._fields[at][1]
        keys = self._keys
        if name in keys:  # asked for by its canonical name, as the hot path does
            return self._fields[keys.index(name)][1]
        key = called.get(name) or canonical(name)
        return self._fields[keys.index(key)][1] if key != name and key in keys else default

    def has_any(self, names: frozenset[str] | KeysView[str]) -> bool:
        """True when a line of any of those canonical names is there."""
        return not names.isdisjoint(self._keys)

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of that name, one entry per line."""
        key = called.get(name) or canonical(name)
        if key not in (self._keys if self._index is None else self._index):
            return []
        return [value for k, value in self._fields if k == key]

    def first(self, key: str) -> str:
        """The value of the first line of a canonical name that is known to be there."""
        return self._fields[self._keys.index(key)][1]

    def count(self, name: str) -> int:
        """Number of lines of that name."""
        return self._keys.count(canonical(name))

    def values(self, name: str) -> list[str]:
        """All values of that name over all lines, comma lists cut (RFC 3261 7.3.1).

        Fields that are not lists (Date, the authentication fields, Subject ...) give one entry per line. Raises
        ProtocolError ``sip.quoting``.
        """
        lines = self.get_all(name)
        if canonical(name) in NOT_LISTS:
            return lines
        if len(lines) == 1:
            return split_values(lines[0])
        return [part for line in lines for part in split_values(line)]

    def first_value(self, name: str) -> str | None:
        """The first value of the first line of that name: the top Via, the top Route."""
        value = self.get(name)
        if value is None or "," not in value:
            return value
        return first_of(value)

    # --- writing ---

    def set(self, name: str, value: str) -> None:
        """Put ``value`` where the first line of that name stands and drop the others; append when there is none."""
        key = called.get(name) or canonical(name)
        count = self._keys.count(key)
        if not count:
            self._insert(len(self._keys), name, value)
            return
        index = self._keys.index(key)
        self._put(index, name, value)
        if count > 1:
            self._drop([i for i in range(index + 1, len(self._keys)) if self._keys[i] == key])

    def add(self, name: str, value: str) -> None:
        """Add a line after the last one of that name, or at the end."""
        key = called.get(name) or canonical(name)
        index = len(self._keys)
        if key in self._keys:
            index -= self._keys[::-1].index(key)
        self._insert(index, name, value)

    def prepend(self, name: str, value: str) -> None:
        """Add a line before the first one of that name, or at the top."""
        key = called.get(name) or canonical(name)
        self._insert(self._keys.index(key) if key in self._keys else 0, name, value)

    def remove(self, name: str) -> bool:
        """Drop all lines of that name; tells whether there was one."""
        key = called.get(name) or canonical(name)
        if key not in self._keys:
            return False
        if self._keys.count(key) == 1:
            self._drop_at(self._keys.index(key))
        else:
            self._drop([i for i, k in enumerate(self._keys) if k == key])
        return True

    def remove_first_value(self, name: str) -> str | None:
        """Take the first comma value off and return it; the rest of the line keeps its text; None when absent."""
        key = called.get(name) or canonical(name)
        if key not in self._keys:
            return None
        index = self._keys.index(key)
        value = self._fields[index][1]
        if "," not in value:
            self._drop_at(index)
            return value
        end = first_value_end(value)
        first, rest = value[:end].strip(), value[end + 1 :].strip()
        if rest:
            self._put(index, self._name_at(index), rest)
        else:
            self._drop_at(index)
        return first

    def replace_first_value(self, name: str, value: str) -> None:
        """Put ``value`` in the place of the first comma value; append a line when there is none."""
        key = called.get(name) or canonical(name)
        if key not in self._keys:
            self._insert(len(self._keys), name, value)
            return
        index = self._keys.index(key)
        old = self._fields[index][1]
        self._put(index, self._name_at(index), value + old[first_value_end(old) :])

    def remove_value(self, name: str, unwanted: str) -> bool:
        """Drop every comma value equal to ``unwanted`` without case (an option tag, a method); tells whether one went.

        A line that becomes empty goes; lines without that value keep their bytes.
        """
        key, want, found = canonical(name), unwanted.lower(), False
        for index in range(len(self._keys) - 1, -1, -1):
            if self._keys[index] != key:
                continue
            parts = split_values(self._fields[index][1])
            kept = [part for part in parts if part.lower() != want]
            if len(kept) == len(parts):
                continue
            found = True
            if kept:
                self._put(index, self._name_at(index), ", ".join(kept))
            else:
                self._drop_at(index)
        return found

    def copy(self) -> "Headers":
        """An independent copy; lines keep their bytes."""
        return Headers.from_lines(self._keys.copy(), self._fields.copy(), self._lines.copy(), self._index)

    def under_via(self, value: str) -> "Headers":
        """A copy with one more Via line before the first one, or on top: ``copy`` and ``prepend`` in one."""
        if "\n" in value or "\r" in value:
            written_key("Via", value)  # says what is wrong with it
        keys, fields, lines = self._keys.copy(), self._fields.copy(), self._lines.copy()
        index = keys.index("via") if "via" in keys else 0
        keys.insert(index, "via")
        fields.insert(index, ("via", value.strip()))
        lines.insert(index, f"Via: {value}")
        return Headers.from_lines(keys, fields, lines)

    def copy_from(self, other: "Headers", name: str) -> None:
        """Append all lines of that name from ``other``, bytes and all."""
        key = canonical(name)
        self._index = None
        for i, k in enumerate(other._keys):
            if k == key:
                self._keys.append(key)
                self._fields.append(other._fields[i])
                self._lines.append(other._lines[i])

    def only(self, keys: frozenset[str]) -> "Headers":
        """A copy that has only the lines of those canonical names, in the order in which they stand here."""
        wanted = [i for i, key in enumerate(self._keys) if key in keys]
        return Headers.from_lines(
            [self._keys[i] for i in wanted], [self._fields[i] for i in wanted], [self._lines[i] for i in wanted]
        )

    # --- inside ---

    def _name_at(self, index: int) -> str:
        return self._lines[index].partition(":")[0].rstrip()

    def _insert(self, index: int, name: str, value: str) -> None:
        key = written.get(name)
        if key is None or "\n" in value or "\r" in value:
            key = written_key(name, value)
        self._keys.insert(index, key)
        self._lines.insert(index, f"{name}: {value}")
        self._fields.insert(index, (key, value.strip()))
        self._index = None

    def _put(self, index: int, name: str, value: str) -> None:
        """Another value where a line of that name stands: all lines keep their places."""
        key = written.get(name)
        if key is None or "\n" in value or "\r" in value:
            key = written_key(name, value)
        self._lines[index] = f"{name}: {value}"
        self._fields[index] = key, value.strip()

    def _drop(self, indexes: list[int]) -> None:
        self._index = None
        for index in reversed(indexes):
            del self._keys[index], self._fields[index], self._lines[index]

    def _drop_at(self, index: int) -> None:
        self._index = None
        del self._keys[index], self._fields[index], self._lines[index]
