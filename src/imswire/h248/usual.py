"""The messages that every call has, read without looking at what is the same in all of them.

A call's Add and Modify requests differ in the name of the termination and in the octets of the Remote descriptor; what
stands before and after these is one of a few texts. Each was read by :mod:`imswire.h248.quick` when it came first and
is remembered here. The other messages of a call (the replies, and Subtract) are two short commands, cut by one
expression. None for everything else: then it is read command by command.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from imswire.h248.lexer import MID
from imswire.h248.model import (
    CHOOSE,
    CHOOSE_CONTEXT,
    Action,
    Audit,
    Command,
    Media,
    Message,
    Parameter,
    Stream,
    TransactionReply,
    TransactionRequest,
)

_OPENING: Final = re.compile(r"!/1 ([^ \t\r\n;{]{1,80})\n([TP])=([0-9]{1,9})\{C=(\$|[1-9][0-9]{0,8})\{")
_NEXT: Final = re.compile(r"\},C=(\$|[1-9][0-9]{0,8})\{")
_NAME: Final = r"((?!(?i:root)(?:[{,}]|\Z))[A-Za-z0-9_/.\-]++)"
"""A termination that is neither ROOT nor a wildcard."""
_TERMINATION: Final = re.compile(_NAME)
_COUNT: Final = r"=([0-9]{1,20})"


def _two(command: str) -> re.Pattern[str]:
    """Two commands of one kind, one for each side of a call."""
    return re.compile(f"{command},{command}")


_TWO_ASKED: Final = _two(rf"S={_NAME}\{{AT\{{SA\}}\}}")
_TWO_CHOSEN: Final = _two(rf"A={_NAME}\{{M\{{ST=1\{{L\{{([^{{}}\\\x00]++)\}}\}}\}}\}}")
_DONE: Final = re.compile(rf"MF={_NAME}(?:,MF={_NAME})?")
_TWO_COUNTED: Final = _two(rf"S={_NAME}\{{SA\{{nt/os{_COUNT},nt/or{_COUNT},nt/dur{_COUNT}\}}\}}")
_BLANKS: Final = " \t\r\n"
_REMEMBERED: Final = 256
_LONGEST: Final = 512
_STATISTICS: Final = Audit(("Statistics",))

type Commands = tuple[Command, ...]

_known: Final[dict[tuple[str, str, str], Command]] = {}
"""Kind of a command, its text between name and Remote's octets, its text after them -> a command that was read so."""


def remember(kind: str, before: str, after: str, command: Command) -> None:
    """A command (``A = $`` or ``MF``) was read: its text from behind the name of the termination to the octets of its
    Remote, or to its end where it has none, and its text behind these octets."""
    if len(before) > _LONGEST or len(after) > _LONGEST:
        return
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _known[kind, before, after] = command


def read(text: str) -> Message | None:
    """The message; None where it is none that every call has, or where it has parts that did not come before."""
    opening = _OPENING.match(text)
    if opening is None or not text.endswith("}}"):
        return None
    mid, kind, number, context = opening.groups()
    at = opening.end()
    reader = _READERS.get(kind + text[at])
    if reader is None or not _is_mid(mid):
        return None
    actions = []
    while True:
        following = _NEXT.search(text, at) if "},C=" in text else None
        end = len(text) - 2 if following is None else following.start()
        commands = reader(text, at, end)
        if commands is None:
            return None
        actions.append(Action(CHOOSE_CONTEXT if context == CHOOSE else int(context), commands))
        if following is None:
            break
        context, at = following[1], following.end()
    make = TransactionRequest if kind == "T" else TransactionReply
    return Message(mid, (make(int(number), tuple(actions)),))


@lru_cache(maxsize=64)
def _is_mid(text: str) -> bool:
    return MID.fullmatch(text) is not None


# --- requests with descriptors ---


def _adds(text: str, at: int, end: int) -> Commands | None:
    commands = []
    while True:
        following = text.find(",A=", at, end)
        stop = end if following < 0 else following
        if not text.startswith("A=$", at) or (command := _found("A", CHOOSE, text, at + 3, stop)) is None:
            return None
        commands.append(command)
        if following < 0:
            return tuple(commands)
        at = following + 1


def _modifies(text: str, at: int, end: int) -> Commands | None:
    commands = []
    while True:
        following = text.find(",MF=", at, end)
        stop = end if following < 0 else following
        named = _TERMINATION.match(text, at + 3, stop) if text.startswith("MF=", at) else None
        if named is None or (command := _found("MF", named[1], text, named.end(), stop)) is None:
            return None
        commands.append(command)
        if following < 0:
            return tuple(commands)
        at = following + 1


def _found(kind: str, name: str, text: str, at: int, end: int) -> Command | None:
    """The command whose text, from behind its name, stands between ``at`` and ``end``."""
    opening = text.find("R{\r\n", at, end)
    if opening < 0:
        known = _known.get((kind, text[at:end], ""))
        if known is None or kind == "A":
            return known
        return Command("Modify", name, known.media, known.events, known.signals)
    opening += 2
    closing = text.find("}", opening, end)
    if closing < 0:
        return None
    known = _known.get((kind, text[at:opening], text[closing:end]))
    octets = text[opening:closing]
    if known is None or known.media is None or "{" in octets or "\\" in octets or "\0" in octets:
        return None
    stream = known.media.streams[0]
    media = Media((Stream(1, stream.control, stream.local, octets.strip(_BLANKS)),))
    return Command(known.name, name, media, known.events, known.signals)


# --- short commands, one for each side ---


def _asked(text: str, at: int, end: int) -> Commands | None:
    found = _TWO_ASKED.fullmatch(text, at, end)
    if found is None:
        return None
    first, second = found.groups()
    return (
        Command("Subtract", first, None, None, None, None, _STATISTICS),
        Command("Subtract", second, None, None, None, None, _STATISTICS),
    )


def _chosen(text: str, at: int, end: int) -> Commands | None:
    found = _TWO_CHOSEN.fullmatch(text, at, end)
    if found is None:
        return None
    first, local, second, other = found.groups()
    return (
        Command("Add", first, Media((Stream(1, None, local.strip(_BLANKS)),))),
        Command("Add", second, Media((Stream(1, None, other.strip(_BLANKS)),))),
    )


def _done(text: str, at: int, end: int) -> Commands | None:
    found = _DONE.fullmatch(text, at, end)
    if found is None:
        return None
    first, second = found.groups()
    done = Command("Modify", first)
    return (done,) if second is None else (done, Command("Modify", second))


def _counted(text: str, at: int, end: int) -> Commands | None:
    found = _TWO_COUNTED.fullmatch(text, at, end)
    if found is None:
        return None
    first, *counts, second, sent, received, duration = found.groups()
    return _subtracted(first, *counts), _subtracted(second, sent, received, duration)


def _subtracted(name: str, sent: str, received: str, duration: str) -> Command:
    counters = (Parameter("nt/os", sent), Parameter("nt/or", received), Parameter("nt/dur", duration))
    return Command("Subtract", name, None, None, None, None, None, None, counters)


_READERS: Final[dict[str, Callable[[str, int, int], Commands | None]]] = {
    "TA": _adds,
    "TM": _modifies,
    "TS": _asked,
    "PA": _chosen,
    "PM": _done,
    "PS": _counted,
}
"""By the letters of a transaction and of its first command: what reads the commands of an action."""
