"""Text encoding of H.248 to values: RFC 3525 Annex B.2 from the message down to the commands."""

from collections.abc import Callable
from typing import Any, Final

from imswire.h248 import descriptors, media_descriptor
from imswire.h248.cursor import UINT16, UINT32, Cursor
from imswire.h248.errors import H248Error
from imswire.h248.lexer import MAX_MESSAGE, lex
from imswire.h248.model import (
    ALL,
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    ROOT,
    Action,
    Audit,
    Command,
    ErrorDescriptor,
    Message,
    Transaction,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
    Unknown,
)
from imswire.h248.tokens import (
    AUDIT_ITEMS,
    COMMANDS,
    CONTEXT,
    CONTEXT_AUDITS,
    CONTEXT_PARTS,
    DESCRIPTORS,
    ERROR,
    IMMEDIATE_ACK,
    REPLY_DESCRIPTORS,
    REQUEST_DESCRIPTORS,
    TRANSACTIONS,
)

_CONTEXTS: Final = {"-": NULL_CONTEXT, "$": CHOOSE_CONTEXT, "*": ALL_CONTEXTS}

_READERS: Final[dict[str, tuple[str, Callable[[Cursor], Any]]]] = {
    "Media": ("media", media_descriptor.media),
    "Events": ("events", descriptors.events),
    "Signals": ("signals", descriptors.signals),
    "ObservedEvents": ("observed", descriptors.observed),
    "Audit": ("audit", descriptors.audit),
    "Services": ("service_change", descriptors.services),
    "Statistics": ("statistics", media_descriptor.statistics),
    "Packages": ("packages", descriptors.packages),
    "Error": ("error", descriptors.error),
}
"""Descriptor name to the field of :class:`Command` and the production; others are kept as :class:`Unknown`."""


def parse(data: bytes, limit: int = MAX_MESSAGE) -> Message:
    """Read one message of at most ``limit`` bytes.

    Raises :class:`H248Error` with the code of RFC 3525 8.2.2 and what :func:`~imswire.h248.errors.error_answer` needs,
    or :class:`imswire.base.LimitExceeded`.
    """
    lexed = lex(data, limit)
    cursor = Cursor(lexed)
    transactions: list[Transaction] = []
    try:
        error = _message(cursor, transactions)
    except H248Error as fault:
        fault.version = lexed.version
        fault.parsed = Message(lexed.mid, tuple(transactions), None, lexed.version, lexed.authentication)
        raise
    return Message(lexed.mid, tuple(transactions), error, lexed.version, lexed.authentication)


def _message(c: Cursor, transactions: list[Transaction]) -> ErrorDescriptor | None:
    if ERROR.find(c.tokens[0]):
        c.at = 1
        error = descriptors.error(c)
        if c.tokens[c.at]:
            c.fail("the end")
        return error
    while True:
        transactions.append(_transaction(c))
        if not c.tokens[c.at]:
            return None


def _transaction(c: Cursor) -> Transaction:
    c.level = 400
    kind = c.keyword(TRANSACTIONS, "a transaction")
    if kind == "Transaction":
        return _request(c)
    try:
        match kind:
            case "Reply":
                return _reply(c)
            case "Pending":
                pending = TransactionPending(c.equal_number())
                c.take("{")
                c.take("}")
                return pending
            case _:
                return _acknowledgement(c)
    except H248Error as fault:
        fault.answerable = False
        raise


def _acknowledgement(c: Cursor) -> TransactionAck:
    c.take("{")
    ranges: list[tuple[int, int]] = []
    while True:
        word = c.word("a transaction id")
        first, dash, last = word.partition("-")
        digits = first + last
        if not (
            first and digits.isdigit() and digits.isascii() and (last or not dash) and max(len(first), len(last)) <= 10
        ):
            c.refuse(400, f"a transaction id or range expected, {word[:40]} seen")
        low, high = int(first), int(last or first)
        if not low <= high <= UINT32:
            c.refuse(400, f"range {word[:40]} is not one")
        ranges.append((low, high))
        if not c.more():
            return TransactionAck(tuple(ranges))


def _request(c: Cursor) -> TransactionRequest:
    c.level = 403
    number = c.equal_number()
    try:
        c.take("{")
        actions = [_action(c, REQUEST_DESCRIPTORS)]
        while c.more():
            actions.append(_action(c, REQUEST_DESCRIPTORS))
    except H248Error as fault:
        fault.transaction_id = number
        raise
    return TransactionRequest(number, tuple(actions))


def _reply(c: Cursor) -> TransactionReply:
    c.level = 403
    number = c.equal_number()
    c.take("{")
    immediate = False
    if IMMEDIATE_ACK.find(c.tokens[c.at]):
        immediate = True
        c.at += 1
        c.take(",")
    if ERROR.find(c.tokens[c.at]):
        c.at += 1
        error = descriptors.error(c)
        c.take("}")
        return TransactionReply(number, (), error, immediate)
    actions = [_action(c, REPLY_DESCRIPTORS)]
    while c.more():
        actions.append(_action(c, REPLY_DESCRIPTORS))
    return TransactionReply(number, tuple(actions), None, immediate)


def _action(c: Cursor, legal: dict[str, frozenset[str]]) -> Action:
    c.level = 403
    c.keyword(CONTEXT, "Context")
    c.level = 422
    c.take("=")
    context = _CONTEXTS.get(c.tokens[c.at])
    if context is None:
        context = c.number()
        if context == NULL_CONTEXT or context >= CHOOSE_CONTEXT:
            c.refuse(422, f"ContextID {context} is reserved")
    else:
        c.at += 1
    c.take("{")
    commands: list[Command] = []
    parts: dict[str, Any] = {}
    while True:
        token = c.tokens[c.at]
        part = "" if token in COMMANDS else CONTEXT_PARTS.find(token)
        if part:
            _context_part(c, part, parts, reply=legal is REPLY_DESCRIPTORS)
        else:
            commands.append(_command(c, legal))
            c.level = 422
        if not c.more():
            c.level = 403
            return Action(context, tuple(commands), **parts)


def _context_part(c: Cursor, part: str, parts: dict[str, Any], *, reply: bool) -> None:
    c.at += 1
    found: dict[str, Any]
    match part:
        case "Error" if reply:
            found = {"error": descriptors.error(c)}
        case "Priority":
            found = {"priority": c.equal_number(UINT16)}
        case "Emergency":
            found = {"emergency": True}
        case "ContextAudit":
            c.take("{")
            items = [c.keyword(CONTEXT_AUDITS, "a context property")]
            while c.more():
                items.append(c.keyword(CONTEXT_AUDITS, "a context property"))
            found = {"audit_context": True, "context_audit": tuple(items)}
        case "Topology":
            found = {"unknown": (Unknown(part, c.raw()),)}
        case _:
            c.refuse(422, f"{part} is not legal in an action request")
    if not found.keys().isdisjoint(parts):
        c.refuse(422, f"{part} appears twice")
    parts.update(found)


def _command(c: Cursor, legal: dict[str, frozenset[str]]) -> Command:
    token = c.tokens[c.at]
    name = COMMANDS.find(token)
    parts: dict[str, Any] = {}
    if not name:
        if token[:2].upper() == "O-":
            parts["optional"] = True
            token = token[2:]
        if token[:2].upper() == "W-":
            parts["wildcard"] = True
            token = token[2:]
        name = COMMANDS.find(token)
        if not name:
            c.fail("a command", 443 if token[:1].isalpha() else 0)
    c.at += 1
    c.level = 442
    termination = c.equal_word("a TerminationID")
    reply = legal is REPLY_DESCRIPTORS
    if reply and name.startswith("Audit") and CONTEXT.find(termination) and c.tokens[c.at] == "{":
        return _context_audit_reply(c, name, parts)
    if len(termination) == 4 and termination.upper() == ROOT:
        termination = ROOT
    if c.maybe("{"):
        _descriptors(c, name, legal[name], parts, reply=reply)
    elif not reply and name in ("Notify", "ServiceChange", "AuditValue", "AuditCapability"):
        c.fail("{")
    return Command(name, termination, **parts)


def _context_audit_reply(c: Cursor, name: str, parts: dict[str, Any]) -> Command:
    """``AuditValue = Context { T1, T2 }`` or an error descriptor in the braces."""
    c.take("{")
    if ERROR.find(c.tokens[c.at]) and c.tokens[c.at + 1] == "=":
        c.at += 1
        parts["error"] = descriptors.error(c)
        c.take("}")
        return Command(name, ALL, terminations=(), **parts)
    terminations = [c.word("a TerminationID")]
    while c.more():
        terminations.append(c.word("a TerminationID"))
    return Command(name, ALL, terminations=tuple(terminations), **parts)


def _descriptors(c: Cursor, name: str, legal: frozenset[str], parts: dict[str, Any], *, reply: bool) -> None:
    """``descriptor, ... }`` into the fields of :class:`Command`."""
    items: list[str] = []
    unknown: list[Unknown] = []
    while True:
        descriptor = DESCRIPTORS.find(c.tokens[c.at])
        if not descriptor:
            c.fail("a descriptor", 444 if c.tokens[c.at][:1].isalpha() else 0)
        c.at += 1
        if descriptor not in legal:
            c.refuse(447, f"{descriptor} is not legal in {name}")
        bare = reply and c.tokens[c.at] in (",", "}")
        if bare and descriptor != "Events" and AUDIT_ITEMS.find(descriptor):
            if descriptor in items:
                c.refuse(448, f"{descriptor} appears twice")
            items.append(descriptor)
        elif descriptor in _READERS:
            key, read = _READERS[descriptor]
            if key in parts:
                c.refuse(448, f"{descriptor} appears twice in {name}")
            parts[key] = read(c)
        else:
            if any(known.name == descriptor for known in unknown):
                c.refuse(448, f"{descriptor} appears twice in {name}")
            unknown.append(Unknown(descriptor, c.raw()))
        if not c.more():
            break
    if items:
        parts["audit"] = Audit(tuple(items))
    if unknown:
        parts["unknown"] = tuple(unknown)
