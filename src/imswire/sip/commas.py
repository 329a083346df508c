"""Header values that are lists, cut at their commas (RFC 3261 7.3.1)."""

import re
from collections.abc import Iterator

from imswire.base import ProtocolError

_TOP_LEVEL = re.compile(r'"(?:[^"\\]|\\.)*"|<[^>]*>|[,"<]', re.DOTALL)


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


def first_value_end(text: str) -> int:
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
    return text[: first_value_end(text)].strip()
