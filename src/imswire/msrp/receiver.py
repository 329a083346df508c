"""The receiving half of a session: which octets of which message have come (RFC 4975 7.3.1).

Chunks may come in any order and overlap; only ranges are kept here, the octets themselves go to the user at once.
"""

from imswire.base import LimitExceeded
from imswire.msrp.message import RequestHead


class Coverage:
    """The octets of one message that have come, as sorted ranges ``[start, end)`` that neither touch nor overlap."""

    __slots__ = ("_limit", "_ranges")

    def __init__(self, limit: int = 64) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._limit = limit

    def add(self, start: int, end: int) -> None:
        """Note ``[start, end)``; raises :class:`LimitExceeded` ``msrp.gaps`` where that makes too many ranges."""
        if start >= end:
            return
        ranges = self._ranges
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
            return
        kept: list[tuple[int, int]] = []
        for low, high in ranges:
            if high < start or low > end:
                kept.append((low, high))
            else:
                start, end = min(start, low), max(end, high)
        if len(kept) >= self._limit:
            raise LimitExceeded("msrp.gaps", f"a message in more than {self._limit} pieces")
        kept.append((start, end))
        kept.sort()
        self._ranges = kept

    @property
    def end(self) -> int:
        """One behind the last octet that has come."""
        return self._ranges[-1][1] if self._ranges else 0

    def covers(self, size: int) -> bool:
        """Whether the first ``size`` octets have all come."""
        return size == 0 or (bool(self._ranges) and self._ranges[0][0] == 0 and self._ranges[0][1] >= size)


class Incoming:
    """A message on its way in. ``size`` is known once the chunk flagged ``$`` has come."""

    __slots__ = ("coverage", "message_id", "size")

    def __init__(self, message_id: str, gaps: int) -> None:
        self.message_id = message_id
        self.coverage = Coverage(gaps)
        self.size: int | None = None

    @property
    def complete(self) -> bool:
        """Whether every octet has come."""
        return self.size is not None and self.coverage.covers(self.size)


def type_accepted(content_type: str, accepted: tuple[str, ...]) -> bool:
    """Whether a media type is among ``accepted`` (``*``, ``type/*``, ``type/subtype``); parameters do not count."""
    name = content_type.partition(";")[0].strip().lower()
    major = name.partition("/")[0]
    for entry in accepted:
        wanted = entry.partition(";")[0].strip().lower()
        if wanted in ("*", name) or wanted == f"{major}/*":
            return True
    return False


def first_octet(request: RequestHead) -> int:
    """Offset (from 0) of a chunk's first octet; without a Byte-Range it begins the message."""
    byte_range = request.byte_range
    return 0 if byte_range is None else byte_range.start - 1
