"""From the bytes of a message to its header and a flat list of tokens, by one compiled expression each.

White space and comments separate tokens and vanish. A token is a run of SafeChars, a quoted string with its quotes, a
single sign, or a whole Local or Remote descriptor with its octet string, which may hold anything. A name after ``=`` is
never that descriptor, even if it is spelt alike and followed by ``{`` (a termination called ``L``): then ``=`` and the
name are one token, which :func:`swallowed` undoes.
"""

import re
from typing import Final

from msgspec import Struct

from imswire.base import LimitExceeded
from imswire.h248.errors import H248Error

MAX_MESSAGE: Final = 65_535
"""Default bound of a message in bytes: what a TPKT packet or a UDP datagram can carry."""
SUPPORTED_VERSIONS: Final = (1, 2, 3)
"""Versions whose header is accepted; what later versions added to the grammar is refused where it stands."""

_LWSP = r"(?:[ \t\r\n]++|;[^\r\n]*+)*+"
SAFE = r"A-Za-z0-9+\-&!_/'?@^`~*$\\()%|."
_WORD = rf"[{SAFE}]++"
_QUOTED = r'"[ -!#-~\t]*+"'
# An octet string without its end takes the rest of the message: found out once, not again at every later brace.
_OCTETS = r"\{(?:[^\\}\x00]++|\\\}?+)*+(?:\}|.*+)"

_MID = (
    r"\[[0-9A-Fa-f.:]{2,45}\](?::[0-9]{1,5})?+|<[A-Za-z0-9][A-Za-z0-9\-.]{0,63}>(?::[0-9]{1,5})?+"
    rf"|(?i:mtp){_LWSP}\{{{_LWSP}[0-9A-Fa-f]{{4,8}}{_LWSP}\}}|[A-Za-z0-9*/_$@.\-]{{1,64}}"
)
# A device name by the grammar has neither "-" nor "."; both are let pass.
MID = re.compile(_MID)
QUOTED = re.compile(_QUOTED)
_HEADER = re.compile(
    rf"{_LWSP}(?:(?i:authentication|au){_LWSP}={_LWSP}"
    rf"(?P<auth>0x[0-9A-Fa-f]{{8}}:0x[0-9A-Fa-f]{{8}}:0x[0-9A-Fa-f]{{24,128}})[ \t\r\n;]{_LWSP})?+"
    rf"(?P<token>(?i:megaco)|!)/(?P<version>[0-9]{{1,2}})(?=[ \t\r\n;]){_LWSP}"
    rf"(?P<mid>{_MID})(?=[ \t\r\n;]|\Z)"
)
_DESCRIPTOR = r"[LlRr](?:(?<=[Ll])(?i:ocal)|(?<=[Rr])(?i:emote))?+"
_TOKEN = re.compile(
    rf"{_LWSP}({_DESCRIPTOR}{_LWSP}{_OCTETS}|{_WORD}|[{{}},\[\]:#<>]"
    # A name after "=" is never the descriptor: swallowed here, it cannot start one.
    rf"|=(?:{_LWSP}{_DESCRIPTOR}(?={_LWSP}\{{))?+|{_QUOTED}|\Z|.)",
    re.DOTALL,
)
_SEPARATORS = re.compile(_LWSP)
_OPENING = re.compile(rf"[A-Za-z]++{_LWSP}\{{[ \t\r\n]*+")


class Lexed(Struct, frozen=True):
    """Header of a message and the tokens of its body; ``""`` is the end, at least two stand there.

    ``text`` and ``body_at`` let :func:`offset_of` find where a token stood.
    """

    version: int
    mid: str
    authentication: str | None
    tokens: list[str]
    text: str
    body_at: int


def lex(data: bytes, limit: int = MAX_MESSAGE) -> Lexed:
    """Cut a message into tokens.

    Raises :class:`LimitExceeded` above ``limit`` bytes, :class:`H248Error` 400 for a header that is none, 406 for a
    version that is not supported. Octets beyond ASCII, which only SDP may hold, pass as UTF-8 with surrogate escapes.
    """
    if len(data) > limit:
        raise LimitExceeded("h248.oversize", f"message of {len(data)} bytes, limit {limit}", limit)
    text = data.decode("utf-8", "surrogateescape")
    header = _HEADER.match(text)
    if header is None:
        raise H248Error(400, "message does not start with MEGACO/version and an mId", 0)
    version = int(header["version"])
    if version not in SUPPORTED_VERSIONS:
        raise H248Error(
            406,
            f"version {version}; up to {SUPPORTED_VERSIONS[-1]} is understood",
            header.start("version"),
            version=version,
        )
    mid = header["mid"]
    if mid[:3].lower() == "mtp" and "{" in mid:
        mid = re.sub(r";[^\r\n]*+|\s++", "", mid)
    return Lexed(version, mid, header["auth"], [*_TOKEN.findall(text, header.end()), "", ""], text, header.end())


def offset_of(lexed: Lexed, index: int) -> int:
    """Character offset of token number ``index`` in the message."""
    at = lexed.body_at
    for number, match in enumerate(_TOKEN.finditer(lexed.text, lexed.body_at)):
        at = match.start(1)
        if number == index:
            break
    return at


def swallowed(token: str) -> str:
    """The name inside a token that starts with ``=`` and is longer than that."""
    match = _SEPARATORS.match(token, 1)
    return token[match.end() if match else 1 :]


def octets(token: str) -> str:
    """The octet string of a Local or Remote token: without the white space at its ends, ``\\}`` as ``}``."""
    match = _OPENING.match(token)
    inner = token[match.end() if match else 0 : -1].rstrip(" \t\r\n")
    return inner.replace("\\}", "}") if "\\}" in inner else inner
