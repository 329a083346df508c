"""What is kept of the core's state beyond the life of the process: records, their octets and their versions.

A record holds what in-dialog routing, release and session timers need, and nothing of transactions that were under way.
Times are Unix time, since the engine's clock means nothing to the next process. A value in the store is one octet with
the version of the record and MessagePack after it: an array, in the order of the fields. A field that is added stands
last and has a default; any other change, one of a default in a value that a record holds too, needs a new version.

Peers' text need not be UTF-8 (its other octets are surrogates in our strings), and strings of MessagePack must be. A
record with such text has ``ESCAPED`` set in its first octet, and each octet of its strings is a character of its own.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.media_facts import Endpoint
from imsalg.core.msrp_mode import Mode
from imswire.base import ProtocolError
from imswire.h248.iq import AddResult, StreamRequest
from imswire.sip.flow import Flow

BINDING, CALL, NODE = "binding", "call", "node"
"""Kinds of records."""
H248_ID, TOKEN_KEY = "h248_id", "token_key"
"""Keys of the node's own values: the last H.248 transaction id in decimal digits, the secret of tokens."""

VERSION = 1
UPGRADES: dict[tuple[str, int], Callable[[bytes], bytes]] = {}
"""(kind, version) -> what makes the MessagePack of the next version of it."""


class Keep(Struct, frozen=True):
    """Write or replace the record ``key`` of ``kind``."""

    kind: str
    key: str
    value: bytes


class Forget(Struct, frozen=True):
    """The record is of no more use."""

    kind: str
    key: str


Change = Keep | Forget


class BindingRecord(Struct, frozen=True, array_like=True):
    """One registered contact. ``flow`` is None when its connection was lost already; ``expires`` is Unix time.

    ``subscribed``: this node had asked for the user's registration events.
    """

    aor: str
    contact: str
    realm: str
    core_realm: str
    path_token: str
    expires: float
    flow: Flow | None = None
    service_route: tuple[str, ...] = ()
    associated: tuple[str, ...] = ()
    agreed: frozenset[str] = frozenset()
    secured: bool = False
    emergency: bool = False
    flow_name: str = ""
    subscribed: bool = False


class PartyRecord(Struct, frozen=True, array_like=True):
    """One end of the call (:class:`imsalg.core.sip_call.Party`)."""

    address: str
    contact: str = ""
    record_route: tuple[str, ...] = ()


class LegRecord(Struct, frozen=True, array_like=True):
    """One dialog."""

    tag: str
    party: PartyRecord
    confirmed: bool = False
    acked: bool = False


class LineRecord(Struct, frozen=True, array_like=True):
    """One secured m-line and what its terminations are configured to be (:class:`imsalg.core.reservations.Line`)."""

    index: int
    medium: str
    mode: Mode
    context: int
    requests: dict[Side, StreamRequest]
    terminations: dict[Side, AddResult]
    ends: dict[Side, Endpoint]
    linked: bool = False
    down: bool = False
    dead: bool = False


class MediaRecord(Struct, frozen=True, array_like=True):
    """The media plan of a call as it was agreed last: ``offer`` of ``offer_side`` with ``lines``, and ``passed``."""

    offer: bytes
    offer_side: Side
    gateway: str | None = None
    lines: tuple[LineRecord, ...] = ()
    passed: dict[int, str] = {}
    served: str = ""


class CallRecord(Struct, frozen=True, array_like=True):
    """An established call, or one that ends (``ending``): its dialogs and its media.

    ``has_media`` without ``media``: nothing was agreed yet. ``since``, ``refresh_by`` and ``ack_by`` are Unix time.
    """

    key: str
    call_id: str
    caller_side: Side
    caller: PartyRecord
    profile: AccessProfile
    flows: dict[Side, Flow]
    cseq: dict[Side, int]
    legs: tuple[LegRecord, ...]
    since: float
    gone: LegRecord | None = None
    ending: bool = False
    has_media: bool = False
    media: MediaRecord | None = None
    refresh_by: float | None = None
    ack_by: float | None = None
    outcome: str = ""
    charging: str = ""
    binding: tuple[str, str] | None = None
    urgent: bool = False


_TYPES: dict[str, type[Struct]] = {BINDING: BindingRecord, CALL: CallRecord}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS = {kind: msgspec.msgpack.Decoder(record) for kind, record in _TYPES.items()}
ESCAPED = 0x80
_MARK = bytes((VERSION,))
_ESCAPED_MARK = bytes((VERSION | ESCAPED,))


def escape(text: str) -> str:
    """Text without surrogates that stands for ``text``, whatever is in that."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def unescape(text: str) -> str:
    """What :func:`escape` was given; raises ValueError for what it never returns."""
    return text.encode("latin-1").decode("utf-8", "surrogatepass")


def encode(record: BindingRecord | CallRecord) -> bytes:
    """The octets of a record, whatever octets its strings were made of."""
    try:
        return _MARK + _ENCODER.encode(record)
    except UnicodeEncodeError:
        return _ESCAPED_MARK + _ENCODER.encode(_each(escape, msgspec.to_builtins(record, builtin_types=(bytes,))))


def _each(change: Callable[[str], str], value: Any) -> Any:
    """``value`` with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        return [_each(change, one) for one in value]
    if isinstance(value, dict):
        return {_each(change, key): _each(change, one) for key, one in value.items()}
    return value


def decode(kind: str, value: bytes) -> Struct:
    """The record in ``value``; raises ProtocolError ``store.record`` for what is none of this or an earlier version."""
    mark, data = (value[0], value[1:]) if value else (0, b"")
    version = mark & ~ESCAPED
    while version != VERSION:
        upgrade = UPGRADES.get((kind, version))
        if upgrade is None:
            raise ProtocolError("store.record", f"a {kind} record of version {version}, expected {VERSION}")
        version, data = version + 1, upgrade(data)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ProtocolError("store.record", f"no records of kind {kind!r} are known")
    try:
        if mark & ESCAPED:
            plain = _each(unescape, msgspec.msgpack.decode(data, strict=True))
            return msgspec.convert(plain, _TYPES[kind], builtin_types=(bytes,))
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ProtocolError("store.record", f"a {kind} record cannot be read: {error}") from None
