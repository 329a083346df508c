"""Values to the text encoding of H.248 (RFC 3525 Annex B.2): compact or indented, with short or long tokens.

Nothing is truncated, dropped or repaired: what the grammar cannot carry raises ProtocolError ``h248.unwritable``.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from imswire.h248 import brief, packages
from imswire.h248.atoms import mid_text, number_text, quoted_text, refuse, value_text, word_text
from imswire.h248.cursor import UINT16, UINT32
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    Action,
    Command,
    ErrorDescriptor,
    Event,
    LocalControl,
    Media,
    Message,
    Parameter,
    ServiceChange,
    Signal,
    Stream,
    TerminationState,
    Transaction,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
    Unknown,
)
from imswire.h248.tokens import TOKENS

_CONTEXTS: Final = {NULL_CONTEXT: "-", CHOOSE_CONTEXT: "$", ALL_CONTEXTS: "*"}
_LISTINGS: Final = {"and": ("[", ",", "]"), "or": ("{", ",", "}"), "range": ("[", ":", "]")}


def write(message: Message, *, pretty: bool = False, compact_tokens: bool | None = None) -> bytes:
    """The text of a message.

    ``pretty`` indents it; ``compact_tokens`` chooses the short tokens (None: if not pretty).
    Raises :class:`ProtocolError` ``h248.unwritable`` for what the grammar cannot carry.
    """
    short = not pretty if compact_tokens is None else compact_tokens
    if short and not pretty and (made := brief.text(message, _command_text)) is not None:
        return made.encode("utf-8", "surrogateescape")
    return _writer(pretty, short).message(message).encode("utf-8", "surrogateescape")


def _command_text(command: Command) -> str:
    """A command of a request in the compact form."""
    return _writer(False, True).command(command, reply=False)


class _Writer:
    """One style of writing. Methods return the text of an element; ``depth`` is its indentation."""

    __slots__ = ("_equal", "_pretty", "_token")

    def __init__(self, pretty: bool, short: bool) -> None:
        self._pretty = pretty
        self._equal = " = " if pretty else "="
        self._token: Callable[[str], str] = TOKENS.__getitem__ if short else str

    def _group(self, head: str, items: Iterable[str], depth: int) -> str:
        """``head { item, item }``; the items were made for ``depth + 1``."""
        if not self._pretty:
            return f"{head}{{{','.join(items)}}}"
        inner = "\n" + "  " * (depth + 1)
        made = f",{inner}".join(items)
        return f"{head} {{{inner}{made}\n{'  ' * depth}}}" if made else f"{head} {{ }}"

    def _pair(self, token: str, value: str) -> str:
        return f"{self._token(token)}{self._equal}{value}"

    def _keyword(self, value: str) -> str:
        """A value that is a token of the grammar, or an extension."""
        return self._token(value) if value in TOKENS else word_text(value)

    # --- message and transactions ---

    def message(self, message: Message) -> str:
        head = f"{self._token('MEGACO')}/{number_text(message.version, 99)} {mid_text(message.mid)}\n"
        if message.authentication is not None:
            head = f"{self._pair('Authentication', message.authentication)}\n{head}"
        if message.error is not None:
            if message.transactions:
                refuse("a message holds either an error or transactions")
            return head + self._error(message.error, 0)
        if not message.transactions:
            refuse("a message without transactions")
        return head + ("\n" if self._pretty else "").join(map(self._transaction, message.transactions))

    def _transaction(self, transaction: Transaction) -> str:
        match transaction:
            case TransactionRequest():
                if not transaction.actions:
                    refuse("a transaction without actions")
                head = self._pair("Transaction", number_text(transaction.id))
                return self._group(head, [self._action(action, reply=False) for action in transaction.actions], 0)
            case TransactionReply():
                return self._reply(transaction)
            case TransactionPending():
                return self._group(self._pair("Pending", number_text(transaction.id)), (), 0)
            case TransactionAck():
                if not transaction.ranges:
                    refuse("an acknowledgement without transaction ids")
                ranges = (
                    number_text(first) if first == last else f"{number_text(first)}-{number_text(last)}"
                    for first, last in transaction.ranges
                )
                return self._group(self._token("TransactionResponseAck"), ranges, 0)

    def _reply(self, reply: TransactionReply) -> str:
        items = [self._token("ImmAckRequired")] if reply.immediate_ack else []
        if reply.error is not None:
            if reply.actions:
                refuse("a reply holds either an error or actions")
            items.append(self._error(reply.error, 1))
        elif not reply.actions:
            refuse("a reply without actions")
        items += [self._action(action, reply=True) for action in reply.actions]
        return self._group(self._pair("Reply", number_text(reply.id)), items, 0)

    def _error(self, error: ErrorDescriptor, depth: int) -> str:
        head = self._pair("Error", number_text(error.code, 9999))
        return self._group(head, (quoted_text(error.text),) if error.text else (), depth)

    def _action(self, action: Action, *, reply: bool) -> str:
        items: list[str] = []
        if action.priority is not None:
            items.append(self._pair("Priority", number_text(action.priority, UINT16)))
        if action.emergency:
            items.append(self._token("Emergency"))
        items += map(self._unknown, action.unknown)
        if action.audit_context or action.context_audit:
            if not action.context_audit:
                refuse("a ContextAudit of nothing")
            items.append(self._group(self._token("ContextAudit"), map(self._token, action.context_audit), 2))
        items += [self.command(command, reply=reply) for command in action.commands]
        if action.error is not None:
            if not reply:
                refuse("an error in an action request")
            items.append(self._error(action.error, 2))
        if not items:
            refuse("an action without content")
        context = _CONTEXTS.get(action.context) or number_text(action.context)
        return self._group(self._pair("Context", context), items, 1)

    # --- commands and descriptors ---

    def command(self, command: Command, *, reply: bool) -> str:
        """The text of a command of a request or a reply."""
        head = f"{'O-' if command.optional else ''}{'W-' if command.wildcard else ''}{self._token(command.name)}"
        if command.terminations is not None:
            head += self._equal + self._token("Context")
            items = [self._error(command.error, 3)] if command.error else [word_text(t) for t in command.terminations]
            return self._group(head, items, 2)
        head += self._equal + word_text(command.termination)
        items = []
        if command.media is not None:
            items.append(self._media(command.media))
        if command.events is not None:
            items.append(self._events(command.events.request_id, command.events.events, "Events"))
        if command.signals is not None:
            signals = [self._named(signal, 4) for signal in command.signals.signals]
            signals += map(self._unknown, command.signals.unknown)
            items.append(self._group(self._token("Signals"), signals, 3))
        items += map(self._unknown, command.unknown)
        if command.observed is not None:
            items.append(self._events(command.observed.request_id, command.observed.events, "ObservedEvents"))
        if command.service_change is not None:
            items.append(self._services(command.service_change))
        if command.statistics is not None:
            items.append(self._statistics(command.statistics, 3))
        if command.packages is not None:
            items.append(self._group(self._token("Packages"), map(word_text, command.packages), 3))
        if command.audit is not None:
            audited = [self._token(item) for item in command.audit.items]
            items += audited if reply else [self._group(self._token("Audit"), audited, 3)]
        if command.error is not None:
            items.append(self._error(command.error, 3))
        return self._group(head, items, 2) if items else head

    def _unknown(self, unknown: Unknown) -> str:
        return f"{self._token(unknown.name)} {unknown.text}" if unknown.text else self._token(unknown.name)

    def _media(self, media: Media) -> str:
        items = [] if media.state is None else [self._state(media.state)]
        for stream in media.streams:
            if media.implicit_stream:
                items += self._stream(stream, 4)
            else:
                head = self._pair("Stream", number_text(stream.id, UINT16))
                items.append(self._group(head, self._stream(stream, 5), 4))
        if not items:
            refuse("a Media descriptor without content")
        return self._group(self._token("Media"), items, 3)

    def _stream(self, stream: Stream, depth: int) -> list[str]:
        items = []
        if stream.control is not None:
            items.append(self._control(stream.control, depth))
        if stream.local is not None:
            items.append(self._octets("Local", stream.local, depth))
        if stream.remote is not None:
            items.append(self._octets("Remote", stream.remote, depth))
        if stream.statistics is not None:
            items.append(self._statistics(stream.statistics, depth))
        if not items:
            refuse("a stream without content")
        return items

    def _octets(self, token: str, text: str, depth: int) -> str:
        """SDP stands at the start of its lines whatever the indentation; only ``}`` is escaped."""
        if "\0" in text:
            refuse("a zero octet in an octet string")
        head = f"{self._token(token)} {{" if self._pretty else f"{self._token(token)}{{"
        end = "  " * depth if self._pretty else ""
        return "{}\r\n{}\r\n{}}}".format(head, text.replace("}", "\\}"), end) if text else f"{head}}}"

    def _control(self, control: LocalControl, depth: int) -> str:
        items = [] if control.mode is None else [self._pair("Mode", self._keyword(control.mode))]
        reserved = (("ReservedValue", control.reserve_value), ("ReservedGroup", control.reserve_group))
        items += [self._pair(token, "ON" if on else "OFF") for token, on in reserved if on is not None]
        items += [self._parameter(parameter) for parameter in control.properties]
        if not items:
            refuse("a LocalControl descriptor without content")
        return self._group(self._token("LocalControl"), items, depth)

    def _state(self, state: TerminationState) -> str:
        items = []
        if state.service_states is not None:
            items.append(self._pair("ServiceStates", self._keyword(state.service_states)))
        if state.buffer is not None:
            items.append(self._pair("Buffer", self._keyword(state.buffer)))
        items += [self._parameter(parameter) for parameter in state.properties]
        if not items:
            refuse("a TerminationState descriptor without content")
        return self._group(self._token("TerminationState"), items, 4)

    def _events(self, request: int | None, events: tuple[Event, ...], token: str) -> str:
        if request is None and not events and token == "Events":
            return self._token(token)
        if request is None or not events:
            refuse(f"{token} needs both a request id and events")
        number = "*" if request == UINT32 else number_text(request)
        return self._group(self._pair(token, number), [self._named(event, 4) for event in events], 3)

    def _named(self, item: Event | Signal, depth: int) -> str:
        """An event or a signal with its parameters."""
        items = [] if item.stream is None else [self._pair("Stream", number_text(item.stream, UINT16))]
        items += [self._argument(item.name, parameter) for parameter in item.parameters]
        head = word_text(item.name)
        if isinstance(item, Event) and item.timestamp is not None:
            head = f"{word_text(item.timestamp)}:{head}"
        return self._group(head, items, depth) if items else head

    def _argument(self, owner: str, parameter: Parameter) -> str:
        name = parameter.name
        if name not in TOKENS:
            return self._parameter(parameter, f"{owner}/{name}")
        value = parameter.value
        if parameter.body is not None:
            head = self._pair(name, "") if name == "DigitMap" else self._token(name)
            return f"{head}{{{parameter.body}}}"
        if isinstance(value, tuple):
            return self._pair(name, f"{{{','.join(map(self._keyword, value))}}}")
        return self._token(name) if value is None else self._pair(name, self._keyword(value))

    def _parameter(self, parameter: Parameter, qualified: str | None = None) -> str:
        """A package parameter; ``qualified`` is its name in the string table if that differs."""
        name, value = word_text(parameter.name), parameter.value
        string = (qualified or name).lower() in packages.STRINGS
        if value is None or parameter.body is not None:
            refuse(f"{name} has no value")
        if isinstance(value, tuple):
            if not value or parameter.relation != "=" or (parameter.listing == "range" and len(value) != 2):
                refuse(f"{name} has a list that cannot be written")
            start, between, end = _LISTINGS[parameter.listing]
            return f"{name}{self._equal}{start}{between.join(value_text(each, string) for each in value)}{end}"
        relation = self._equal if parameter.relation == "=" else parameter.relation
        return f"{name}{relation}{value_text(value, string)}"

    def _statistics(self, statistics: tuple[Parameter, ...], depth: int) -> str:
        if not statistics:
            refuse("a Statistics descriptor without content")
        items = [self._parameter(each) if each.value is not None else word_text(each.name) for each in statistics]
        return self._group(self._token("Statistics"), items, depth)

    def _services(self, change: ServiceChange) -> str:
        items: list[str] = []
        for field, token, made in _CHANGES:
            value: Any = getattr(change, field)
            if value is not None:
                text = self._keyword(value) if field == "method" else made(value)
                items.append(self._pair(token, text) if token else text)
        items += [self._parameter(extension) for extension in change.extensions]
        if not items:
            refuse("a Services descriptor without content")
        return self._group(self._token("Services"), items, 3)


@lru_cache(maxsize=4)
def _writer(pretty: bool, short: bool) -> _Writer:
    return _Writer(pretty, short)


_CHANGES: Final[tuple[tuple[str, str, Callable[[Any], str]], ...]] = (
    ("method", "Method", word_text),
    ("reason", "Reason", quoted_text),
    ("delay", "Delay", number_text),
    ("address", "ServiceChangeAddress", mid_text),
    ("profile", "Profile", word_text),
    ("version", "Version", number_text),
    ("mgc_id", "MgcIdToTry", mid_text),
    ("timestamp", "", word_text),
)
"""Field of :class:`ServiceChange`, token, and how the value is written."""
