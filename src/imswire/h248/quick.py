"""A message in the one form in which this project writes it, read with one expression for each command.

Most messages over Iq are Add, Modify and Subtract in the compact form without white space, of one stream. They are cut
here, and nothing else: the first thing that is otherwise gives None, and the whole message is read by
:mod:`imswire.h248.grammar`, which knows every form and every error. What is the same in message after message (local
control, events, signals) is read there too, once, and remembered by its text.

A command of a call that was read so is remembered as a whole, without what differs from call to call, and
:mod:`imswire.h248.usual` finds it again without any expression.
"""

import re
from typing import Final

from imswire.base import ProtocolError
from imswire.h248 import grammar, usual
from imswire.h248.lexer import MID
from imswire.h248.model import (
    CHOOSE,
    CHOOSE_CONTEXT,
    ROOT,
    Action,
    Audit,
    Command,
    Media,
    Message,
    Parameter,
    Stream,
    Transaction,
    TransactionReply,
    TransactionRequest,
)

_HEAD: Final = re.compile(r"!/1 ([^ \t\r\n;{]{1,80})\n")
_TRANSACTION: Final = re.compile(r"([TP])=([0-9]{1,9})\{")
_CONTEXT: Final = re.compile(r"C=(?:(\$)|([1-9][0-9]{0,8}))\{")
_NAME: Final = r"=([A-Za-z0-9_/$*.\-]++)"
_OCTETS: Final = r"\{([^{}\\\x00]*+)\}"
_FLAT: Final = r"\{[^{};]++\}"
_MEDIA: Final = (
    rf"M\{{ST=1\{{(?=[OLR]\{{)(?:(O{_FLAT})(?:,(?=[LR]\{{)|(?=\}})))?"
    rf"(?:L{_OCTETS}(?:,(?=R\{{)|(?=\}})))?(?:R{_OCTETS})?\}}\}}"
)
_EVENTS: Final = rf"E=[0-9]{{1,9}}\{{(?:[^{{}};]++|{_FLAT})++\}}"
_COUNT: Final = r"=([0-9]{1,20})"
_COMMAND: Final = re.compile(
    rf"(?:(A|MF){_NAME}(?:\{{(?=[MES])(?:{_MEDIA}(?:,(?=E=|SG)|(?=\}})))?(?:({_EVENTS})(?:,(?=SG)|(?=\}})))?(SG{_FLAT})?\}})?"
    rf"|S{_NAME}(?:\{{(?:(AT\{{SA\}})|(SA)\{{nt/os{_COUNT},nt/or{_COUNT},nt/dur{_COUNT}\}})\}})?)([,}}])"
)
_NAMED: Final = 2
_REMOTE: Final = 5
"""Groups of a command: the name of its termination, and the octets of its Remote descriptor."""
_NAMES: Final = {"A": "Add", "MF": "Modify"}
_STATISTICS: Final = Audit(("Statistics",))
_BLANKS: Final = " \t\r\n"
_REMEMBERED: Final = 256
_LONGEST: Final = 512

_parts: Final[dict[str, Command | None]] = {}
"""Text of a descriptor -> what the grammar makes of it; None where it makes nothing of it."""


def read(data: bytes) -> Message | None:
    """The message, or None where it is not written in that form."""
    text = data.decode("utf-8", "surrogateescape")
    found = usual.read(text)
    return _read(text) if found is None else found


def _read(text: str) -> Message | None:
    """The same, command by command."""
    head = _HEAD.match(text)
    if head is None or not MID.fullmatch(head[1]):
        return None
    at, end = head.end(), len(text)
    transactions: list[Transaction] = []
    while at < end:
        opening = _TRANSACTION.match(text, at)
        if opening is None:
            return None
        reply = opening[1] == "P"
        at = opening.end()
        actions: list[Action] = []
        while True:
            context = _CONTEXT.match(text, at)
            if context is None:
                return None
            at = context.end()
            commands: list[Command] = []
            while True:
                found = _COMMAND.match(text, at)
                if found is None or (command := _command(found, reply)) is None:
                    return None
                commands.append(command)
                at = found.end()
                if text[at - 1] == "}":
                    break
            actions.append(Action(CHOOSE_CONTEXT if context[1] else int(context[2]), tuple(commands)))
            sign = text[at : at + 1]
            at += 1
            if sign == "}":
                break
            if sign != ",":
                return None
        number = int(opening[2])
        transactions.append((TransactionReply if reply else TransactionRequest)(number, tuple(actions)))
    return Message(head[1], tuple(transactions)) if transactions else None


def _command(found: re.Match[str], reply: bool) -> Command | None:
    kind, name, *described, subtracted, asked, told, sent, received, duration, _ = found.groups()
    if kind is None:
        if subtracted.upper() == ROOT or (told if not reply else asked) is not None:
            return None
        if told is None:
            return Command("Subtract", subtracted, audit=_STATISTICS if asked else None)
        items = zip(("nt/os", "nt/or", "nt/dur"), (sent, received, duration), strict=True)
        return Command("Subtract", subtracted, statistics=tuple(Parameter(item, value) for item, value in items))
    command = None if name.upper() == ROOT else _described(_NAMES[kind], name, *described)
    if command is not None and command.media is not None and not reply and (kind == "MF" or name == CHOOSE):
        place = found.span(_REMOTE)
        end = found.end() - 1
        split = end if place[0] < 0 else place[0]
        usual.remember(kind, found.string[found.end(_NAMED) : split], found.string[max(place[1], split) : end], command)
    return command


def _described(
    kind: str,
    name: str,
    control: str | None,
    local: str | None,
    remote: str | None,
    events: str | None,
    signals: str | None,
) -> Command | None:
    media = asked = ordered = None
    if control is not None or local is not None or remote is not None:
        read = None
        if control is not None:
            part = _part(control, "M{ST=1{", "}}")
            if part is None or part.media is None:
                return None
            read = part.media.streams[0].control
        local = None if local is None else local.strip(_BLANKS)
        remote = None if remote is None else remote.strip(_BLANKS)
        media = Media((Stream(1, read, local, remote),))
    if events is not None:
        if (part := _part(events)) is None:
            return None
        asked = part.events
    if signals is not None:
        if (part := _part(signals)) is None:
            return None
        ordered = part.signals
    return Command(kind, name, media, asked, ordered)


def _part(text: str, before: str = "", after: str = "") -> Command | None:
    """What the grammar reads in a descriptor, as a command that has nothing else."""
    try:
        return _parts[text]
    except KeyError:
        pass
    if len(text) > _LONGEST:
        return None
    try:
        message = grammar.parse(
            f"!/1 x\nT=1{{C=1{{MF=x{{{before}{text}{after}}}}}}}".encode("utf-8", "surrogateescape")
        )
    except ProtocolError:
        made = None
    else:
        request = message.transactions[0]
        made = request.actions[0].commands[0] if isinstance(request, TransactionRequest) else None
    if len(_parts) >= _REMEMBERED:
        _parts.clear()
    _parts[text] = made
    return made
