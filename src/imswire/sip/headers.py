"""Header fields as an ordered multimap that keeps the bytes of every line nobody touched.

Names are compared without case and with compact forms expanded (RFC 3261 7.3.1, 7.3.3). Three parallel lists hold, per
line, the canonical name, the value (outer white space stripped, folding undone) and the line as it goes on the wire.
"""

import re
import sys
from collections.abc import Iterable, Iterator, KeysView

from imswire.base import ProtocolError

COMPACT: dict[str, str] = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

# Fields whose grammar has commas that do not separate values, or that are free text (RFC 3261 20, 25.1).
NOT_LISTS = frozenset(
    {
        "authorization",
        "call-id",
        "content-length",
        "content-type",
        "cseq",
        "date",
        "from",
        "max-forwards",
        "organization",
        "proxy-authenticate",
        "proxy-authorization",
        "retry-after",
        "server",
        "subject",
        "timestamp",
        "to",
        "user-agent",
        "www-authenticate",
    }
)

_CACHE_LIMIT = 2048
NAME_LENGTH = 64
"""Characters of the longest header name that is remembered."""
_cache: dict[str, str] = {}
_written: dict[str, str] = {}
_TOP_LEVEL = re.compile(r'"(?:[^"\\]|\\.)*"|<[^>]*>|[,"<]', re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")


def canonical(name: str) -> str:
    """The lower-case long form of a header name: ``v`` and ``Via`` both give ``via``.

    The memo is bounded: long names are computed anew each time, and it begins anew when it is full.
    """
    found = _cache.get(name)
    if found is None:
        lower = name.lower()
        # One object per well-known name: comparing keys is then mostly comparing addresses.
        found = COMPACT.get(lower, lower)
        if len(name) <= NAME_LENGTH:
            found = sys.intern(found)
            remember(_cache, name, found)
    return found


def _key(name: str, value: str) -> str:
    """The canonical form of a name that may be written on a line, with a value that is no more than one line."""
    key = _written.get(name)
    if key is None and _NAME.fullmatch(name):
        key = canonical(name)
        remember(_written, name, key)
    if key is None or "\n" in value or "\r" in value:
        raise ProtocolError("sip.header", f"{name!r} with value {value[:80]!r} cannot be written as one header line")
    return key


def remember(memo: dict[str, str], name: str, found: str) -> None:
    """Keep what was found of a header name, in bounded room: what peers make up does not stay."""
    if len(name) > NAME_LENGTH:
        return
    if len(memo) >= _CACHE_LIMIT:
        memo.clear()
    memo[name] = found


def split_values(text: str) -> list[str]:
    """Cut one header value at its top-level commas, those outside quoted strings and angle brackets.

    Empty elements are dropped. Raises ProtocolError ``sip.quoting`` for a quote or bracket that is never closed.
    """
    if "," not in text:
        stripped = text.strip()
        return [stripped] if stripped else []
    if '"' not in text and "<" not in text:
        return [part for raw in text.split(",") if (part := raw.strip())]
    parts: list[str] = []
    start = 0
    for cut in _commas(text):
        parts.append(text[start:cut].strip())
        start = cut + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _commas(text: str) -> Iterator[int]:
    for match in _TOP_LEVEL.finditer(text):
        token = match.group()
        if token == ",":
            yield match.start()
        elif token in ('"', "<"):
            raise ProtocolError("sip.quoting", f"{token} is opened and never closed", match.start())


def _first_value_end(text: str) -> int:
    """Offset of the first top-level comma, or the length of the text."""
    comma = text.find(",")
    if comma < 0:
        return len(text)
    opening = text.find("<", 0, comma)
    if text.find('"', 0, comma) < 0 and (opening < 0 or text.find(">", opening, comma) > text.rfind("<", 0, comma)):
        return comma  # no quotes before it, and the one bracket before it is closed
    return next(_commas(text), len(text))


def first_of(text: str) -> str:
    """The first value of a comma list."""
    return text[: _first_value_end(text)].strip()


class Headers:
    """Header fields of one message, in order.

    Values given to the writing methods must be free of CR and LF, names must be tokens: anything else raises
    ProtocolError ``sip.header`` (a value can never smuggle in another line).
    """

    __slots__ = ("_index", "_keys", "_lines", "_values")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._keys: list[str] = []
        self._values: list[str] = []
        self._lines: list[str] = []
        self._index: dict[str, int] | None = None
        for name, value in items:
            self._insert(len(self._keys), name, value)

    @classmethod
    def from_lines(
        cls, keys: list[str], values: list[str], lines: list[str], index: dict[str, int] | None = None
    ) -> "Headers":
        """Take over three parallel lists made by the parser: canonical names, values, lines without the last CRLF.

        ``index`` says where the first line of each name stands, and nobody changes it.
        """
        self = cls.__new__(cls)
        self._keys = keys
        self._values = values
        self._lines = lines
        self._index = index
        return self

    # --- reading ---

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Pairs of name as written and value, in order."""
        for line, value in zip(self._lines, self._values, strict=True):
            yield line.partition(":")[0].rstrip(), value

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: object) -> bool:
        known = self._keys if self._index is None else self._index
        return name in known or (isinstance(name, str) and (_cache.get(name) or canonical(name)) in known)

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
                at = index.get(_cache.get(name) or canonical(name))
            return default if at is None else self._values[at]
        keys = self._keys
        if name in keys:  # asked for by its canonical name, as the hot path does
            return self._values[keys.index(name)]
        key = _cache.get(name) or canonical(name)
        return self._values[keys.index(key)] if key != name and key in keys else default

    def has_any(self, names: frozenset[str] | KeysView[str]) -> bool:
        """True when a line of any of those canonical names is there."""
        return not names.isdisjoint(self._keys)

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of that name, one entry per line."""
        key = _cache.get(name) or canonical(name)
        keys = self._keys
        if key not in (keys if self._index is None else self._index):
            return []
        if keys.count(key) == 1:
            return [self._values[keys.index(key)]]
        return [value for k, value in zip(keys, self._values, strict=True) if k == key]

    def first(self, key: str) -> str:
        """The value of the first line of a canonical name that is known to be there."""
        return self._values[self._keys.index(key)]

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
        key = _cache.get(name) or canonical(name)
        if key not in self._keys:
            self._insert(len(self._keys), name, value)
            return
        index = self._keys.index(key)
        self._put(index, name, value)
        if self._keys.count(key) > 1:
            self._drop([i for i in range(index + 1, len(self._keys)) if self._keys[i] == key])

    def add(self, name: str, value: str) -> None:
        """Add a line after the last one of that name, or at the end."""
        key = _cache.get(name) or canonical(name)
        index = len(self._keys)
        if key in self._keys:
            index -= self._keys[::-1].index(key)
        self._insert(index, name, value)

    def prepend(self, name: str, value: str) -> None:
        """Add a line before the first one of that name, or at the top."""
        key = _cache.get(name) or canonical(name)
        self._insert(self._keys.index(key) if key in self._keys else 0, name, value)

    def remove(self, name: str) -> bool:
        """Drop all lines of that name; tells whether there was one."""
        key = _cache.get(name) or canonical(name)
        keys = self._keys
        if key not in keys:
            return False
        self._drop([keys.index(key)] if keys.count(key) == 1 else [i for i, k in enumerate(keys) if k == key])
        return True

    def remove_first_value(self, name: str) -> str | None:
        """Take the first comma value off and return it; the rest of the line keeps its text; None when absent."""
        key = _cache.get(name) or canonical(name)
        if key not in self._keys:
            return None
        index = self._keys.index(key)
        value = self._values[index]
        if "," not in value:
            del self._keys[index], self._values[index], self._lines[index]
            self._index = None
            return value
        end = _first_value_end(value)
        first, rest = value[:end].strip(), value[end + 1 :].strip()
        if rest:
            self._put(index, self._name_at(index), rest)
        else:
            self._drop([index])
        return first

    def replace_first_value(self, name: str, value: str) -> None:
        """Put ``value`` in the place of the first comma value; append a line when there is none."""
        key = _cache.get(name) or canonical(name)
        if key not in self._keys:
            self._insert(len(self._keys), name, value)
            return
        index = self._keys.index(key)
        old = self._values[index]
        self._put(index, self._name_at(index), value + old[_first_value_end(old) :])

    def remove_value(self, name: str, unwanted: str) -> bool:
        """Drop every comma value equal to ``unwanted`` without case (an option tag, a method); tells whether one went.

        A line that becomes empty goes; lines without that value keep their bytes.
        """
        key, want, found = canonical(name), unwanted.lower(), False
        for index in range(len(self._keys) - 1, -1, -1):
            if self._keys[index] != key:
                continue
            parts = split_values(self._values[index])
            kept = [part for part in parts if part.lower() != want]
            if len(kept) == len(parts):
                continue
            found = True
            if kept:
                self._put(index, self._name_at(index), ", ".join(kept))
            else:
                self._drop([index])
        return found

    def copy(self) -> "Headers":
        """An independent copy; lines keep their bytes."""
        return Headers.from_lines(self._keys.copy(), self._values.copy(), self._lines.copy(), self._index)

    def under_via(self, value: str) -> "Headers":
        """A copy with one more Via line before the first one, or on top: ``copy`` and ``prepend`` in one."""
        if "\n" in value or "\r" in value:
            _key("Via", value)  # says what is wrong with it
        keys, values, lines = self._keys, self._values, self._lines
        index = keys.index("via") if "via" in keys else 0
        made = Headers.from_lines(keys.copy(), values.copy(), lines.copy())
        made._keys.insert(index, "via")
        made._values.insert(index, value.strip())
        made._lines.insert(index, f"Via: {value}")
        return made

    def copy_from(self, other: "Headers", name: str) -> None:
        """Append all lines of that name from ``other``, bytes and all."""
        key = canonical(name)
        self._index = None
        for i, k in enumerate(other._keys):
            if k == key:
                self._keys.append(key)
                self._values.append(other._values[i])
                self._lines.append(other._lines[i])

    def only(self, keys: frozenset[str]) -> "Headers":
        """A copy that has only the lines of those canonical names, in the order in which they stand here."""
        wanted = [i for i, key in enumerate(self._keys) if key in keys]
        return Headers.from_lines(
            [self._keys[i] for i in wanted], [self._values[i] for i in wanted], [self._lines[i] for i in wanted]
        )

    # --- inside ---

    def _name_at(self, index: int) -> str:
        return self._lines[index].partition(":")[0].rstrip()

    def _insert(self, index: int, name: str, value: str) -> None:
        key = _written.get(name)
        if key is None or "\n" in value or "\r" in value:
            key = _key(name, value)
        self._keys.insert(index, key)
        self._lines.insert(index, f"{name}: {value}")
        self._values.insert(index, value.strip())
        self._index = None

    def _put(self, index: int, name: str, value: str) -> None:
        """Another value where a line of that name stands: all lines keep their places."""
        if name not in _written or "\n" in value or "\r" in value:
            _key(name, value)
        self._lines[index] = f"{name}: {value}"
        self._values[index] = value.strip()

    def _drop(self, indexes: list[int]) -> None:
        self._index = None
        for index in reversed(indexes):
            del self._keys[index], self._values[index], self._lines[index]
