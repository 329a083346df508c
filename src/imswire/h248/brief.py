"""The messages that every call has, written in the compact form without walking through all that a message may have.

What an Add or a Modify request says beside the name of its termination and its Remote is the same in call after call:
the writer makes that text once for each, and it is remembered by the descriptors that it was made of. None for every
message that is otherwise: :mod:`imswire.h248.writer` writes it, descriptor by descriptor. A test holds both against
each other.
"""

from collections.abc import Callable
from typing import Final

from imswire.h248.atoms import mid_text, number_text, word_text
from imswire.h248.model import (
    CHOOSE,
    CHOOSE_CONTEXT,
    Action,
    Command,
    Events,
    LocalControl,
    Media,
    Message,
    Parameter,
    Signals,
    Stream,
    TransactionReply,
    TransactionRequest,
)

_LETTERS: Final = {"Add": "A", "Modify": "MF"}
_ASKED: Final = ("Statistics",)
_REMEMBERED: Final = 256
_MARK: Final = "\x01"
"""Stands for the octets of the Remote while the text around them is made."""

type Shape = tuple[str, LocalControl | None, str | None, Events | None, Signals | None, bool]
type Write = Callable[[Command], str]

_texts: Final[dict[Shape, tuple[str, str]]] = {}
"""What a command says, and whether it has a Remote -> its text behind the name, and behind the Remote's octets."""


def text(message: Message, write: Write) -> str | None:
    """The text of a message; ``write`` makes that of a command in the general way."""
    if len(message.transactions) != 1 or message.version != 1 or message.error is not None:
        return None
    transaction = message.transactions[0]
    if type(transaction) is TransactionRequest:
        letter, command_text = "T", _request
    elif type(transaction) is TransactionReply and transaction.error is None and not transaction.immediate_ack:
        letter, command_text = "P", _reply
    else:
        return None
    actions = []
    for action in transaction.actions:
        if not action.commands or _has_more(action):
            return None
        commands = []
        for command in action.commands:
            made = None if _is_special(command) else command_text(command, write)
            if made is None:
                return None
            commands.append(made)
        context = CHOOSE if action.context == CHOOSE_CONTEXT else str(action.context)
        actions.append(f"C={context}{{{','.join(commands)}}}")
    if not actions or message.authentication is not None:
        return None
    return f"!/1 {mid_text(message.mid)}\n{letter}={number_text(transaction.id)}{{{','.join(actions)}}}"


def _has_more(action: Action) -> bool:
    """It has more than commands, or its context has another name than ``$`` or a number."""
    if not 0 < action.context <= CHOOSE_CONTEXT or action.error is not None or action.unknown:
        return True
    return action.priority is not None or action.emergency or action.audit_context or bool(action.context_audit)


def _is_special(command: Command) -> bool:
    """It is not of a call, or it failed."""
    if command.error is not None or command.observed is not None or command.service_change is not None:
        return True
    if command.packages is not None or command.unknown or command.terminations is not None:
        return True
    return command.optional or command.wildcard


def _request(command: Command, write: Write) -> str | None:
    if command.name == "Subtract":
        audit = command.audit
        if audit is None or audit.items != _ASKED or command.statistics is not None or _describes(command):
            return None
        return f"S={word_text(command.termination)}{{AT{{SA}}}}"
    letter = _LETTERS.get(command.name)
    if letter is None or command.audit is not None or command.statistics is not None:
        return None
    stream = _only_stream(command.media)
    if stream is None or (stream.local is not None and CHOOSE not in stream.local):
        return None  # a text that names an end is not worth being remembered
    remote = stream.remote
    shape = (command.name, stream.control, stream.local, command.events, command.signals, remote is None)
    around = _texts.get(shape) or _around(command, stream, shape, write)
    if around is None or (remote is not None and not _fits(remote)):
        return None
    return f"{letter}={word_text(command.termination)}{around[0]}{remote or ''}{around[1]}"


def _around(command: Command, stream: Stream, shape: Shape, write: Write) -> tuple[str, str] | None:
    """The text of a command that was not written before, without the name and the Remote's octets."""
    marked = Stream(1, stream.control, stream.local, None if stream.remote is None else _MARK)
    made = write(Command(command.name, "x", Media((marked,)), command.events, command.signals))
    before, mark, after = made.partition(_MARK)
    if bool(mark) is (stream.remote is None) or _MARK in after:
        return None
    if len(_texts) >= _REMEMBERED:
        _texts.clear()
    around = _texts[shape] = before[before.index("=x") + 2 :], after
    return around


def _reply(command: Command, write: Write) -> str | None:
    if command.audit is not None or command.events is not None or command.signals is not None:
        return None
    name, counted = command.name, command.statistics
    if name == "Subtract":
        counters = None if counted is None or command.media is not None else _counters(counted)
        return None if counters is None else f"S={word_text(command.termination)}{{{counters}}}"
    if counted is not None:
        return None
    if name == "Modify" and command.media is None:
        return f"MF={word_text(command.termination)}"
    stream = _only_stream(command.media) if name == "Add" else None
    if stream is None or stream.control is not None or stream.remote is not None:
        return None
    local = stream.local
    if local is None or not _fits(local):
        return None
    return f"A={word_text(command.termination)}{{M{{ST=1{{L{{\r\n{local}\r\n}}}}}}}}"


def _describes(command: Command) -> bool:
    return command.media is not None or command.events is not None or command.signals is not None


def _only_stream(media: Media | None) -> Stream | None:
    """Stream 1 of media that have nothing else, and no statistics of its own."""
    if media is None or len(media.streams) != 1 or media.state is not None or media.implicit_stream:
        return None
    stream = media.streams[0]
    return stream if stream.id == 1 and stream.statistics is None else None


def _fits(octets: str) -> bool:
    """They stand between braces as they are."""
    return octets != "" and "}" not in octets and "\0" not in octets


def _counters(statistics: tuple[Parameter, ...]) -> str | None:
    """The three counters of a termination; None where it has others."""
    if len(statistics) != 3:
        return None
    sent, received, duration = statistics
    if sent.name != "nt/os" or received.name != "nt/or" or duration.name != "nt/dur":
        return None
    for counter in statistics:
        value = counter.value
        if type(value) is not str or not (value.isdigit() and value.isascii()):
            return None
        if counter.relation != "=" or counter.body is not None:
            return None
    return f"SA{{nt/os={sent.value},nt/or={received.value},nt/dur={duration.value}}}"
