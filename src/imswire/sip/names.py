"""Names of header fields: compact forms, what is no list, and what may be written (RFC 3261 7.3.1, 7.3.3)."""

import re
import sys

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
called: dict[str, str] = {}
"""What :func:`canonical` remembers."""
written: dict[str, str] = {}
"""Canonical forms of names that may be written, by the names."""
_NAME = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")


def canonical(name: str) -> str:
    """The lower-case long form of a header name: ``v`` and ``Via`` both give ``via``.

    The memo is bounded: long names are computed anew each time, and it begins anew when it is full.
    """
    found = called.get(name)
    if found is None:
        lower = name.lower()
        # One object per well-known name: comparing keys is then mostly comparing addresses.
        found = COMPACT.get(lower, lower)
        if len(name) <= NAME_LENGTH:
            found = sys.intern(found)
            remember(called, name, found)
    return found


def written_key(name: str, value: str) -> str:
    """The canonical form of a name that may be written on a line, with a value that is no more than one line."""
    key = written.get(name)
    if key is None and _NAME.fullmatch(name):
        key = canonical(name)
        remember(written, name, key)
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
