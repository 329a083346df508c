"""The smallest pieces of the text encoding (RFC 3525 B.2), written; what does not fit the grammar is refused.

All of them raise :class:`ProtocolError` ``h248.unwritable``.
"""

import re
from functools import lru_cache
from typing import Final, NoReturn

from imswire.base import ProtocolError
from imswire.h248.cursor import UINT32
from imswire.h248.lexer import MID, QUOTED, SAFE

_WORD: Final = re.compile(rf"[{SAFE}]+")


def refuse(what: str) -> NoReturn:
    """What the grammar cannot carry."""
    raise ProtocolError("h248.unwritable", what)


@lru_cache(maxsize=1024)  # names of packages, properties and terminations come again and again
def word_text(text: str) -> str:
    """A run of SafeChars."""
    if not _WORD.fullmatch(text):
        refuse(f"{text[:40]!r} is not made of SafeChars")
    return text


def number_text(value: int, largest: int = UINT32) -> str:
    """A decimal number up to ``largest``."""
    if not 0 <= value <= largest:
        refuse(f"{value} is not between 0 and {largest}")
    return str(value)


def quoted_text(text: str) -> str:
    """A quoted string."""
    quoted = f'"{text}"'
    if not QUOTED.fullmatch(quoted):
        refuse(f"{text[:40]!r} does not fit a quoted string")
    return quoted


def value_text(text: str, string: bool) -> str:
    """A VALUE; a ``string`` is quoted always, others where they must be."""
    return text if not string and _WORD.fullmatch(text) else quoted_text(text)


@lru_cache(maxsize=64)
def mid_text(text: str) -> str:
    """An mId."""
    if not MID.fullmatch(text):
        refuse(f"{text[:80]!r} is no mId")
    return text
