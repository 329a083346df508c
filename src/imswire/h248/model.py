"""H.248 messages as values (RFC 3525 Annex B.2, in its terms). What the parser makes and the writer takes.

Context identifiers are ``int`` or one of the constants below; termination identifiers are ``str`` in which ``*`` is
ALL and ``$`` is CHOOSE. Parameter values are ``str`` (one value), or ``tuple[str, ...]`` for a list (``[a, b]``).
"""

from msgspec import Struct

NULL_CONTEXT = 0
"""The null context, written ``-`` (RFC 3525 6.1)."""
CHOOSE_CONTEXT = 0xFFFFFFFE
"""``$``: the MG chooses (RFC 3525 Annex A, ContextID)."""
ALL_CONTEXTS = 0xFFFFFFFF
"""``*``: every context."""

CHOOSE = "$"
ALL = "*"
ROOT = "ROOT"


class Parameter(Struct, frozen=True, cache_hash=True):
    """``name = value``: a package property, an event or signal parameter, a statistic (name ``pkg/item`` or ``item``).

    ``relation`` is ``=``, ``#`` (not equal), ``<`` or ``>``. A statistic without a value has ``value`` None.
    ``listing`` matters for a tuple: ``and`` is ``[a, b]``, ``or`` is ``{a, b}``, ``range`` is ``[a:b]``. ``body`` is
    the text between braces of a parameter that nests descriptors (``Embed { ... }``, ``DigitMap``), kept unread.
    """

    name: str
    value: str | tuple[str, ...] | None = None
    relation: str = "="
    listing: str = "and"
    body: str | None = None


class ErrorDescriptor(Struct, frozen=True):
    """``Error = code { "text" }``; codes as registered (RFC 3525 and H.248.8)."""

    code: int
    text: str = ""


class LocalControl(Struct, frozen=True, cache_hash=True):
    """LocalControl descriptor (RFC 3525 7.1.7).

    ``mode`` is one of SendOnly, ReceiveOnly, SendReceive, Inactive, LoopBack.
    """

    mode: str | None = None
    reserve_value: bool | None = None
    reserve_group: bool | None = None
    properties: tuple[Parameter, ...] = ()


class Stream(Struct, frozen=True):
    """One stream of a Media descriptor.

    ``local`` and ``remote`` are SDP text as carried between the braces, with inner line ends and every byte kept; white
    space next to the braces is no part of it (RFC 3525 B.2: LBRKT and RBRKT take it), and ``\\}`` is already ``}``.
    """

    id: int = 1
    control: LocalControl | None = None
    local: str | None = None
    remote: str | None = None
    statistics: tuple[Parameter, ...] | None = None


class TerminationState(Struct, frozen=True):
    """TerminationState descriptor (RFC 3525 7.1.5)."""

    service_states: str | None = None
    buffer: str | None = None
    properties: tuple[Parameter, ...] = ()


class Media(Struct, frozen=True):
    """Media descriptor (RFC 3525 7.1.4). A message that names no Stream uses stream 1 with ``implicit_stream`` True."""

    streams: tuple[Stream, ...] = ()
    state: TerminationState | None = None
    implicit_stream: bool = False


class Event(Struct, frozen=True, cache_hash=True):
    """A requested or observed event: ``pkg/event { parameters }``. ``timestamp`` is ``YYYYMMDDThhmmsscc`` or None."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    stream: int | None = None
    timestamp: str | None = None


class Events(Struct, frozen=True, cache_hash=True):
    """Events descriptor; an empty one (no request id) clears all events (RFC 3525 7.1.9)."""

    request_id: int | None = None
    events: tuple[Event, ...] = ()


class ObservedEvents(Struct, frozen=True):
    """ObservedEvents descriptor of a Notify (RFC 3525 7.1.17)."""

    request_id: int
    events: tuple[Event, ...] = ()


class Unknown(Struct, frozen=True):
    """A descriptor that is in the grammar but not in the profile (Mux, Modem, DigitMap ...), kept as its tokens' text.

    ``text`` is what stood between the name and the end of the descriptor: ``= H221 { T1, T2 }``; its tokens are joined
    by single spaces, comments are left out.
    """

    name: str
    text: str


class Signal(Struct, frozen=True, cache_hash=True):
    """A signal to be applied: ``pkg/signal { parameters }``."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    stream: int | None = None


class Signals(Struct, frozen=True, cache_hash=True):
    """Signals descriptor; an empty one stops all signals (RFC 3525 7.1.11). Signal lists stand in ``unknown``."""

    signals: tuple[Signal, ...] = ()
    unknown: tuple[Unknown, ...] = ()


class Audit(Struct, frozen=True):
    """Audit descriptor: the descriptors asked for (``Media``, ``Events``, ``Statistics``, ``Packages`` ...) or none."""

    items: tuple[str, ...] = ()


class ServiceChange(Struct, frozen=True):
    """ServiceChange descriptor (RFC 3525 7.2.8).

    ``method``: Restart, Graceful, Forced, Handoff, Failover, Disconnected, or an extension ``X-...``.
    """

    method: str | None = None
    reason: str | None = None
    delay: int | None = None
    address: str | None = None
    profile: str | None = None
    version: int | None = None
    mgc_id: str | None = None
    timestamp: str | None = None
    extensions: tuple[Parameter, ...] = ()


Descriptor = (
    Media
    | Events
    | ObservedEvents
    | Signals
    | Audit
    | ServiceChange
    | Unknown
    | ErrorDescriptor
    | tuple[Parameter, ...]
)
"""A tuple of :class:`Parameter` stands for the Statistics descriptor of a command."""

COMMANDS: tuple[str, ...] = (
    "Add",
    "Move",
    "Modify",
    "Subtract",
    "AuditValue",
    "AuditCapability",
    "Notify",
    "ServiceChange",
)


class Command(Struct, frozen=True):
    """One command request, or reply when it stands in an :class:`ActionReply`.

    ``name`` is one of :data:`COMMANDS` (long form). ``optional`` is the ``O-`` prefix, ``wildcard`` the ``W-`` prefix.
    A reply to a failed command carries an :class:`ErrorDescriptor` in ``error``. In a reply ``audit`` holds the bare
    names of audited descriptors that are empty. ``terminations`` is set in the audit reply of the form
    ``AuditValue = Context { T1, T2 }`` (``termination`` is then ``*``).
    """

    name: str
    termination: str
    media: Media | None = None
    events: Events | None = None
    signals: Signals | None = None
    observed: ObservedEvents | None = None
    audit: Audit | None = None
    service_change: ServiceChange | None = None
    statistics: tuple[Parameter, ...] | None = None
    packages: tuple[str, ...] | None = None
    error: ErrorDescriptor | None = None
    unknown: tuple[Unknown, ...] = ()
    optional: bool = False
    wildcard: bool = False
    terminations: tuple[str, ...] | None = None


class Action(Struct, frozen=True):
    """The commands for one context; the same shape serves requests and replies (``error`` only in replies).

    ``context_audit`` names what a ContextAudit asks for (``Topology``, ``Emergency``, ``Priority``); a topology
    descriptor stands in ``unknown``.
    """

    context: int
    commands: tuple[Command, ...] = ()
    priority: int | None = None
    emergency: bool = False
    audit_context: bool = False
    error: ErrorDescriptor | None = None
    context_audit: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()


class TransactionRequest(Struct, frozen=True, tag=True):
    """``Transaction = id { actions }``."""

    id: int
    actions: tuple[Action, ...] = ()


class TransactionReply(Struct, frozen=True, tag=True):
    """``Reply = id { [ImmAckRequired] (error | actions) }``."""

    id: int
    actions: tuple[Action, ...] = ()
    error: ErrorDescriptor | None = None
    immediate_ack: bool = False


class TransactionPending(Struct, frozen=True, tag=True):
    """``Pending = id { }``."""

    id: int


class TransactionAck(Struct, frozen=True, tag=True):
    """``TransactionResponseAck { id, id-id }``: inclusive ranges."""

    ranges: tuple[tuple[int, int], ...] = ()


Transaction = TransactionRequest | TransactionReply | TransactionPending | TransactionAck


class Message(Struct, frozen=True):
    """``MEGACO/version mId body``: either an error for the whole message or a list of transactions.

    ``authentication`` is the text of an authentication header after its ``=`` (RFC 3525 10.2), not verified here.
    ``mid`` is the text of the mId as written: ``[127.0.0.1]:2944``, ``<example.net>:2944``, ``agw_1`` (device name).
    """

    mid: str
    transactions: tuple[Transaction, ...] = ()
    error: ErrorDescriptor | None = None
    version: int = 1
    authentication: str | None = None
