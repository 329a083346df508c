"""Which of the core's state has changed since it was last written down, and how it is written.

The tables of the core mark a key when something of it changes: one set entry, whatever is going on. The shell takes the
changes in batches; only then, and only for the newest state of a key, a record is made and encoded. What came and went
between two batches leaves nothing. A call is worth keeping from its 2xx on: before that its ends begin anew.

A record that cannot be made is left out, and a former one of its key forgotten: the others are kept all the same.
"""

from collections.abc import Callable

from msgspec import Struct

from imsalg.core.bindings import Binding
from imsalg.core.context import Context
from imsalg.core.media import MediaHalf
from imsalg.core.records import (
    BINDING,
    CALL,
    H248_ID,
    NODE,
    BindingRecord,
    CallRecord,
    Change,
    Forget,
    Keep,
    LegRecord,
    PartyRecord,
    encode,
    escape,
    unescape,
)
from imsalg.core.reg_event import RegEvents
from imsalg.core.sip_call import Call, Leg, Party, Stage


def binding_key(key: tuple[str, str]) -> str:
    """The store's key of a binding: UTF-8 text, whatever octets address and contact are made of."""
    text = "\n".join(key)
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"\n{escape(text)}"  # no address is empty
    return text


def binding_of(key: str) -> tuple[str, str]:
    """The binding that :func:`binding_key` names; raises ValueError for a key that it never makes."""
    aor, _, contact = (unescape(key[1:]) if key.startswith("\n") else key).partition("\n")
    return aor, contact


class Unkept(Struct, frozen=True):
    """A record that could not be made, and why."""

    kind: str
    key: str
    error: str


class Journal:
    """The marks. ``calls`` and ``bindings`` are keys whose state has changed."""

    def __init__(self, ctx: Context, media: MediaHalf, reg_events: RegEvents) -> None:
        self._reg_events = reg_events
        self.media = media
        self._registrar = ctx.registrar
        self._live = ctx.calls
        self._kept: dict[str, set[str]] = {CALL: set(), BINDING: set()}
        self._h248_id = 0
        self.calls: set[str] = set()
        self.bindings: set[tuple[str, str]] = set()
        self.unkept: list[Unkept] = []
        """Records that were left out since somebody last emptied this list."""
        ctx.changed = media.changed = self.calls
        self._registrar.changed = self.bindings

    def __len__(self) -> int:
        return len(self.calls) + len(self.bindings)

    @property
    def kept(self) -> int:
        """Records that the store holds once it has what was taken."""
        return sum(map(len, self._kept.values()))

    def stored(self, kind: str, key: str) -> None:
        """The store holds that record from an earlier process."""
        self._kept[kind].add(key)

    def take(self, now: float, wall: float, limit: int = 1_000_000) -> list[Change]:
        """At most ``limit`` marks as changes, and the marks are gone. ``wall`` is Unix time at ``now``."""
        changes: list[Change] = []
        offset = wall - now
        calls, bindings = self.calls, self.bindings
        while calls and len(changes) < limit:
            key = calls.pop()
            call = self._live.get(key)
            alive = call if call is not None and call.stage is not Stage.EARLY else None
            self._change(changes, CALL, key, self._made(CALL, key, self._call, alive, offset))
        while bindings and len(changes) < limit:
            pair = bindings.pop()
            key = binding_key(pair)
            value = self._made(BINDING, key, self._binding, self._registrar.by_key(pair), offset)
            self._change(changes, BINDING, key, value)
        used = self.media.gateways.last_transaction
        if changes and used != self._h248_id:
            self._h248_id = used
            changes.append(Keep(NODE, H248_ID, str(used).encode()))
        return changes

    def _made[T](
        self, kind: str, key: str, make: Callable[[T, float], BindingRecord | CallRecord], of: T | None, offset: float
    ) -> bytes | None:
        if of is None:
            return None
        try:
            return encode(make(of, offset))
        except Exception as error:  # noqa: BLE001  a bug with one record must not end the keeping of all others
            self.unkept.append(Unkept(kind, key, repr(error)))
            return None

    def _change(self, changes: list[Change], kind: str, key: str, value: bytes | None) -> None:
        kept = self._kept[kind]
        if value is not None:
            kept.add(key)
            changes.append(Keep(kind, key, value))
        elif key in kept:
            kept.discard(key)
            changes.append(Forget(kind, key))

    def _call(self, call: Call, offset: float) -> CallRecord:
        half = self.media.calls.get(call.key)
        return CallRecord(
            key=call.key,
            call_id=call.call_id,
            caller_side=call.caller_side,
            caller=_party(call.caller),
            profile=call.profile,
            flows=call.flows,
            cseq=call.cseq,
            legs=tuple(_leg(leg) for leg in call.legs.values() if leg.confirmed),
            since=call.since + offset,
            gone=_leg(call.gone) if call.gone is not None else None,
            ending=call.stage is Stage.ENDING,
            has_media=call.has_media,
            media=half.record() if half is not None and call.has_media else None,
            refresh_by=_wall(call.refresh_by, offset),
            ack_by=_wall(call.ack_by, offset),
            outcome=call.outcome,
            charging=call.charging,
            binding=call.binding,
            urgent=call.urgent,
        )

    def _binding(self, binding: Binding, offset: float) -> BindingRecord:
        return BindingRecord(
            aor=binding.aor,
            contact=binding.contact,
            realm=binding.profile.access_realm,
            core_realm=binding.profile.core_realm,
            path_token=binding.path_token,
            expires=binding.expires_at + offset,
            flow=binding.flow,
            service_route=binding.service_route,
            associated=binding.associated,
            agreed=binding.agreed,
            secured=binding.secured,
            emergency=binding.emergency,
            flow_name=binding.flow_name,
            subscribed=bool(self._reg_events.state_of(binding.aor)),
        )


def _wall(time: float | None, offset: float) -> float | None:
    return None if time is None else time + offset


def _party(party: Party) -> PartyRecord:
    return PartyRecord(party.address, party.contact, tuple(party.record_route))


def _leg(leg: Leg) -> LegRecord:
    return LegRecord(leg.tag, _party(leg.party), leg.confirmed, leg.acked)
