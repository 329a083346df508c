"""The engine rebuilt from the records of an earlier process, before its first event.

Registrations hold for the time that they have left. A binding over TCP or TLS has lost its connection: it stays
registered and cannot be reached until the UE registers over another one (RFC 5626 4.2.1). Established calls are routed,
watched and released as before; their contexts are claimed for the gateway, which has ``restart_grace`` to come back and
is audited then. A call whose media were not agreed is ended towards both sides. What cannot be read, or belongs to
realms that are not served any more, is left out and forgotten; so is what an unexpected fault stops, and that one only.
"""

from collections.abc import Iterable

from msgspec import Struct

from imsalg.core.bindings import Binding
from imsalg.core.context import Context
from imsalg.core.guard import Guard
from imsalg.core.journal import Journal, binding_of
from imsalg.core.media_events import Side
from imsalg.core.records import BINDING, CALL, BindingRecord, CallRecord, LegRecord, PartyRecord, decode
from imsalg.core.reg_event import RegEvents
from imsalg.core.release import Release
from imsalg.core.sip_call import Answer, Call, Leg, Party, Stage
from imsalg.core.tokens import CALL_ACCESS, CALL_CORE
from imswire.base import ProtocolError
from imswire.sip.flow import Flow


class Restored(Struct, frozen=True):
    """How many of each came back, and how many records were of no use."""

    bindings: int = 0
    calls: int = 0
    left_out: int = 0


class Restorer:
    """Takes records one by one; ``wall`` is Unix time at the context's ``now``."""

    def __init__(
        self,
        ctx: Context,
        release: Release,
        guard: Guard,
        reg_events: RegEvents,
        journal: Journal,
        wall: float,
    ) -> None:
        self._reg_events = reg_events
        self._ctx = ctx
        self._release = release
        self._guard = guard
        self._media = journal.media
        self._journal = journal
        self._offset = ctx.now - wall

    def run(self, records: Iterable[tuple[str, str, bytes]]) -> Restored:
        """Rebuild everything that can be; (kind, key, value) of each record."""
        found = {BINDING: 0, CALL: 0}
        left_out = 0
        for kind, key, value in records:
            if kind not in found:
                continue
            self._journal.stored(kind, key)
            try:
                record = decode(kind, value)
                kept = self._binding(record) if isinstance(record, BindingRecord) else self._call(record)
            except Exception as error:  # noqa: BLE001  the restart is for all the others too
                text = str(error) if isinstance(error, ProtocolError) else repr(error)
                self._ctx.log("error", "a kept record is of no use", kind=kind, key=key, error=text)
                kept = False
                self._take_back(kind, key)
            if kept:
                found[kind] += 1
                continue
            left_out += 1
            if kind == CALL:
                self._journal.calls.add(key)
            else:
                self._forget_binding(key)
        return Restored(found[BINDING], found[CALL], left_out)

    def _take_back(self, kind: str, key: str) -> None:
        """What was made of a call before the fault goes."""
        call = self._ctx.calls.get(key) if kind == CALL else None
        if call is None:
            return
        try:
            self._release.end(call)
        except Exception as error:  # noqa: BLE001  as above
            self._ctx.log("error", "bug while ending a call", call=key, error=repr(error))

    # --- bindings ---

    def _forget_binding(self, key: str) -> None:
        try:
            self._journal.bindings.add(binding_of(key))
        except ValueError:
            self._ctx.log("error", "a kept record has a key that is none of ours", kind=BINDING, key=key)

    def _binding(self, record: BindingRecord) -> bool:
        ctx = self._ctx
        expires_at = record.expires + self._offset
        if expires_at <= ctx.now or ctx.cores.get(record.realm) != record.core_realm:
            return False
        flow = record.flow
        binding = Binding(
            record.aor,
            record.contact,
            flow or Flow("tcp", record.realm, ("", 0), ("", 0)),
            record.path_token,
            expires_at,
            service_route=record.service_route,
            associated=record.associated,
            agreed=record.agreed,
            core_realm=record.core_realm,
            secured=record.secured,
            emergency=record.emergency,
            flow_name=record.flow_name,
        )
        if flow is None or flow.reliable:
            binding.flow = None  # the connection went with the process that had it
        ctx.registrar.put(binding)
        self._journal.bindings.discard(binding.key)
        if record.subscribed:
            self._reg_events.resumed(binding)
        return True

    # --- calls ---

    def _call(self, record: Struct) -> bool:
        ctx = self._ctx
        if not isinstance(record, CallRecord):
            return False
        profile = record.profile
        if ctx.cores.get(profile.access_realm) != profile.core_realm or not (record.legs or record.ending):
            return False
        payload = record.key.encode()
        tokens = {Side.ACCESS: ctx.mint.seal(CALL_ACCESS, payload), Side.CORE: ctx.mint.seal(CALL_CORE, payload)}
        call = Call(record.key, record.call_id, record.caller_side, _party(record.caller), profile, tokens)
        call.flows = dict(record.flows)
        call.cseq = dict(record.cseq)
        call.legs = {leg.tag: _leg(leg) for leg in record.legs}
        call.gone = _leg(record.gone) if record.gone is not None else None
        call.outcome, call.charging = record.outcome, record.charging
        call.stage = Stage.ENDING if record.ending else Stage.ESTABLISHED
        call.binding, call.urgent = record.binding, record.urgent
        ctx.resume_call(call, record.since + self._offset)
        if record.ending:
            ctx.ending.set(call, ctx.now + 2 * ctx.settings.timers.t64)
            return True
        call.refresh_by = _mono(record.refresh_by, self._offset)
        call.ack_by = _mono(record.ack_by, self._offset)
        call.has_media = record.has_media
        if record.media is not None:
            self._media.restore(call.key, call.call_id, profile, record.media, ctx.now)
        self._guard.touched(call)
        self._journal.calls.discard(call.key)
        if record.has_media and record.media is None:
            call.has_media = False
            self._release.give_up(call, Answer(500, "the node restarted before the media were agreed"))
        return True


def _mono(time: float | None, offset: float) -> float | None:
    return None if time is None else time + offset


def _party(record: PartyRecord) -> Party:
    return Party(record.address, record.contact, list(record.record_route))


def _leg(record: LegRecord) -> Leg:
    leg = Leg(record.tag, _party(record.party))
    leg.confirmed, leg.acked = record.confirmed, record.acked
    return leg
