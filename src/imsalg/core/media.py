"""The media half of the IMS-ALG: SDP offers and answers in, verdicts and H.248 out (:mod:`imsalg.core.media_events`).

A :class:`MediaHalf` is a machine: it owns the calls and the gateways, hands each event to the one it is for, and
carries between them what they have to say to each other, until nobody has anything left to say.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from imsalg.core.call import Call
from imsalg.core.call_model import ConnectionClosed, Failure, LineFailed, MediaFailed, Stage
from imsalg.core.call_state import CallState
from imsalg.core.gateway_audit import PROBE
from imsalg.core.gateway_model import Done, Failed, Lost, State, Ticket
from imsalg.core.gateways import Gateways
from imsalg.core.media_events import (
    AccessProfile,
    AnswerIn,
    BadFromGateway,
    CallEnded,
    FromGateway,
    GatewayDown,
    GatewayUp,
    Inspect,
    LegConfirmed,
    Log,
    MediaCommand,
    MediaEvent,
    OfferFailed,
    OfferIn,
    Refuse,
    Trace,
)
from imsalg.core.media_failures import FAILURES, reaction
from imsalg.core.media_looks import Looks
from imsalg.core.records import MediaRecord
from imsalg.media_settings import MediaSettings
from imswire.h248.model import CHOOSE_CONTEXT, Action


class MediaHalf:
    """See the module's text. Ids are injected: ``first_transaction`` is the first H.248 transaction id on each link,
    and ``jitter`` gives numbers in [0, 1) for repetitions over UDP. Without ``tracing`` no Trace commands come
    out."""

    def __init__(
        self,
        settings: MediaSettings,
        *,
        first_transaction: int = 1,
        jitter: Callable[[], float] = lambda: 1.0,
        tracing: bool = True,
    ) -> None:
        self.settings = settings
        self.gateways = Gateways(
            settings,
            self.emit,
            self._call_id,
            first_transaction=first_transaction,
            jitter=jitter,
            tracing=tracing,
        )
        self.calls: dict[str, Call] = {}
        self.lines: Counter[tuple[str, ...]] = Counter()
        """Guarded lines: medium, direction of the offer, and whether they were agreed ``secured`` or ``passed``, or
        were ``refused``."""
        self.bodies: Counter[tuple[str, ...]] = Counter()
        """Session descriptions that went on: ``offer`` or ``answer``, ``rewritten`` or ``unchanged``."""
        self.refused: Counter[int] = Counter()
        """Offers and answers refused here, by SIP status."""
        self.failures: Counter[str] = Counter()
        """Media failures that gateways reported, by their kind (a key of :data:`FAILURES`)."""
        self.changed: set[str] | None = None
        """Keys of calls whose media have changed, for whoever writes them down; None when nobody does."""
        self._tracing = tracing
        self._out: list[MediaCommand] = []
        self._now = 0.0
        self._waiting: dict[int, CallState] = {}
        self._last_ticket = 0
        self._looks = Looks(self.gateways, self._ticket, self.emit)

    # --- the machine ---

    def handle(self, event: MediaEvent, now: float) -> list[MediaCommand]:
        """Take one event."""
        self._now = now
        EVENTS[type(event)](self, event)
        return self._flush()

    def expire(self, now: float) -> list[MediaCommand]:
        """Run the timers that are due."""
        self._now = now
        self.gateways.expire(now)
        return self._flush()

    def next_timer(self) -> float | None:
        """The earliest timer, or None."""
        return self.gateways.next_timer()

    def reconfigure(self, settings: MediaSettings) -> None:
        """Other settings from now on, for the next offer of each call; times of gateways at once."""
        self.settings = settings
        self.gateways.reconfigure(settings)

    def busy(self) -> bool:
        """True while a gateway owes the reply to anything but a heartbeat."""
        links = self.gateways.links.values()
        return any(ticket is not PROBE for link in links for ticket in link.tickets.values())

    def stats(self) -> dict[str, int]:
        """Gauges: calls known, contexts held, gateways in service."""
        gateways = self.gateways.gateways.values()
        return {
            "calls": len(self.calls),
            "contexts": sum(len(gateway.contexts) for gateway in gateways),
            "gateways": sum(gateway.state is State.IN_SERVICE for gateway in gateways),
        }

    # --- calls ---

    def _offer(self, event: OfferIn) -> None:
        call = self.calls.get(event.call)
        if call is None:
            if len(self.calls) >= self.settings.limits.calls:
                retry = self.settings.retry_after
                self.emit(
                    Refuse(event.call, event.token, 503, "Service Unavailable", "too many calls with media", retry)
                )
                return
            call = self.calls[event.call] = Call(self, event)
        call.handle(event)

    def _answer(self, event: AnswerIn) -> None:
        call = self.calls.get(event.call)
        if call is not None:
            call.handle(event)
        else:
            self.emit(Refuse(event.call, event.token, 481, "Call/Transaction Does Not Exist", "the call is over"))

    def _told(self, event: OfferFailed | CallEnded | LegConfirmed) -> None:
        call = self.calls.get(event.call)
        if call is not None:
            call.handle(event)
            self._mark(call)

    def _gateway_up(self, event: GatewayUp) -> None:
        self.gateways.up(event.link, event.peer, self._now, reliable=event.reliable)

    def _gateway_down(self, event: GatewayDown) -> None:
        self.gateways.down(event.link, event.reason, self._now)

    def _from_gateway(self, event: FromGateway) -> None:
        self.gateways.message(event.link, event.message, self._now)

    def _bad_from_gateway(self, event: BadFromGateway) -> None:
        self.gateways.bad(event)

    def _inspect(self, event: Inspect) -> None:
        self._looks.begin(event, self.calls, self._now)

    def _flush(self) -> list[MediaCommand]:
        """Let calls and gateways talk until they are done; then everything that is to go out."""
        gateways = self.gateways
        while gateways.reports:
            reports, gateways.reports = gateways.reports, []
            for report in reports:
                if isinstance(report, Done):
                    self._done(report)
                elif isinstance(report, Lost):
                    self._lost(report)
                else:
                    self._failed(report)
            gateways.settled(self._now)
        out, self._out = self._out, []
        return out

    def _done(self, report: Done) -> None:
        call = self._waiting.pop(report.ticket, None)
        if call is None:
            self._looks.done(report)
            return
        self._mark(call)
        if report.reply is None:
            call.outcome(report.ticket, Failure(report.code, report.text))
        elif report.reply.error is not None:
            call.outcome(report.ticket, Failure(report.reply.error.code, report.reply.error.text))
        else:
            call.outcome(report.ticket, report.reply)

    def _lost(self, report: Lost) -> None:
        lost = frozenset(report.contexts)
        for call in [c for c in self.calls.values() if c.gateway == report.gateway and lost.intersection(c.contexts)]:
            if call.stage is not Stage.RELEASING:
                call.handle(MediaFailed(503, report.text))

    def _failed(self, report: Failed) -> None:
        gateway = self.gateways.gateways.get(report.gateway)
        call = self.calls.get(gateway.contexts.get(report.context, "")) if gateway is not None else None
        if call is None:
            return
        self._mark(call)
        failure = report.failure
        self.failures[failure.kind] += 1
        fields: dict[str, object] = {
            "call_id": call.sip_call_id,
            "user": call.profile.user,
            "gateway": report.gateway,
            "context": report.context,
            "termination": report.termination,
            "kind": failure.kind,
            "text": failure.text,
        }
        if failure.expected or failure.seen:
            fields |= {"expected": failure.expected, "seen": failure.seen}
        row, wanted = FAILURES[failure.kind], reaction(failure.kind, self.settings.failures)
        if wanted == "log" or call.outlives(report.context, report.termination):
            self.emit(Log("info", row.words, fields))
            call.handle(ConnectionClosed(report.context))
            return
        self.emit(Log("error", "media failed", fields))
        if wanted == "drop":
            call.handle(LineFailed(report.context, row.status, row.words))
        else:
            call.handle(MediaFailed(row.status, row.words))

    def _call_id(self, key: str) -> str:
        call = self.calls.get(key)
        return call.sip_call_id if call is not None else ""

    # --- what outlives the process ---

    def _mark(self, call: CallState) -> None:
        if self.changed is not None:
            self.changed.add(call.key)

    def restore(self, key: str, call_id: str, profile: AccessProfile, record: MediaRecord, now: float) -> None:
        """A call of an earlier process: its contexts are claimed, and its gateway is awaited."""
        call = self.calls[key] = Call.restored(self, key, call_id, profile, record)
        if call.gateway is not None and call.contexts:
            self.gateways.expect(call.gateway, dict.fromkeys(call.contexts, key), now)

    # --- what calls ask of the world ---

    def emit(self, command: MediaCommand) -> None:
        """Give a command out."""
        if type(command) is not Trace or self._tracing:
            self._out.append(command)

    def count_line(self, medium: str, direction: str, outcome: str) -> None:
        """A guarded line was agreed, or refused."""
        self.lines[medium, direction, outcome] += 1

    def count_body(self, what: str, *, rewritten: bool) -> None:
        """A session description goes on."""
        self.bodies[what, "rewritten" if rewritten else "unchanged"] += 1

    def count_refusal(self, status: int) -> None:
        """An offer or answer was refused."""
        self.refused[status] += 1

    def choose(self, call: CallState, lines: int) -> bool:
        """Bind ``call`` to a gateway in service."""
        gateway = self.gateways.choose(call.gateway if call.lines else None)
        if gateway is None:
            return False
        call.gateway = gateway.mid
        return True

    def request(self, call: CallState, actions: tuple[Action, ...]) -> int:
        """Send a transaction for ``call``; its outcome comes through :meth:`CallState.outcome`, never at once."""
        reserving = [action.context for action in actions].count(CHOOSE_CONTEXT)
        ticket = Ticket(self._ticket(), call.key, call.sip_call_id, reserving)
        self._waiting[ticket.number] = call
        self.gateways.transact(call.gateway or "", actions, ticket, self._now)
        return ticket.number

    def _ticket(self) -> int:
        self._last_ticket += 1
        return self._last_ticket

    def order(self, call: CallState, actions: tuple[Action, ...]) -> None:
        """Send a transaction whose outcome nobody waits for."""
        if call.gateway is not None:
            self.gateways.transact(call.gateway, actions, Ticket(0, call.key, call.sip_call_id), self._now)

    def claim(self, call: CallState, context: int, index: int) -> None:
        """That context belongs to the call."""
        self.gateways.claim(call.gateway or "", context, call.key)
        if not self._tracing:
            return
        fields: dict[str, object] = {
            "call": call.key,
            "call_id": call.sip_call_id,
            "gateway": call.gateway,
            "context": context,
            "line": index,
        }
        self.emit(Trace("bind", fields))

    def release(self, call: CallState, context: int) -> None:
        """That context belongs to nobody any more."""
        self.gateways.release(call.gateway or "", context)

    def forget(self, call: CallState) -> None:
        """The call is over."""
        if self.calls.get(call.key) is call:
            del self.calls[call.key]


EVENTS: dict[type[MediaEvent], Callable[[MediaHalf, Any], None]] = {
    OfferIn: MediaHalf._offer,
    AnswerIn: MediaHalf._answer,
    OfferFailed: MediaHalf._told,
    CallEnded: MediaHalf._told,
    LegConfirmed: MediaHalf._told,
    GatewayUp: MediaHalf._gateway_up,
    GatewayDown: MediaHalf._gateway_down,
    FromGateway: MediaHalf._from_gateway,
    BadFromGateway: MediaHalf._bad_from_gateway,
    Inspect: MediaHalf._inspect,
}
"""What takes an event, by its type."""
