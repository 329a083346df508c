"""The engine of the P-CSCF/IMS-ALG: SIP transactions, proxy, registration and the media half behind one door.

``handle`` takes one event and runs it to completion: what the transaction layer and the media half answer goes through
one queue, in order. Time is an argument. An exception that is no ProtocolError is a bug: it ends the call that it
happened in (500, media subtracted) and is counted and logged; everything else goes on.
"""

from collections.abc import Iterable

from imsalg.core import bugs
from imsalg.core.context import Context, Ids, Internal, Media
from imsalg.core.dialog_requests import DialogRequests
from imsalg.core.events import (
    BadMessageIn,
    Command,
    Drain,
    Drained,
    Event,
    FlowClosed,
    Received,
    Reconfigure,
    Resolved,
    Restore,
    SendFailed,
    Undrain,
    Unreachable,
)
from imsalg.core.flow_dialogs import FlowDialogs
from imsalg.core.guard import Guard
from imsalg.core.initial_requests import InitialRequests
from imsalg.core.journal import Journal
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import (
    BadFromGateway,
    FromGateway,
    GatewayDown,
    GatewayUp,
    Inspect,
)
from imsalg.core.offers import Offers
from imsalg.core.reg_event import RegEvents
from imsalg.core.registration import Registration
from imsalg.core.release import Release
from imsalg.core.requests import Requests
from imsalg.core.responses import Responses
from imsalg.core.restore import Restorer
from imsalg.core.routing import Listener
from imsalg.core.sip_call import Answer, Call
from imsalg.core.sip_trace import complete
from imsalg.core.stats import Stats
from imsalg.core.turns import Turns
from imsalg.settings import Settings
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.transaction import (
    ClientKey,
    Send,
    Timers,
    TransactionLayer,
    TransactionLimits,
)


class Engine:
    """See the module's text. It is a Machine[Event, Command] (:mod:`imskit.machine`).

    ``media`` is the media half, ``ids`` the source of branches, tags and call keys, ``token_key`` the secret of Path
    and Record-Route tokens, ``listeners`` the SIP sockets that are open.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Iterable[Listener],
        media: Media,
        ids: Ids,
        token_key: bytes,
        *,
        tracing: bool = False,
    ) -> None:
        timers = settings.timers
        layer = TransactionLayer(
            ids,
            Timers(t1=timers.t1, t2=timers.t2, t4=timers.t4, c=timers.timer_c),
            TransactionLimits(transactions=settings.limits.transactions),
            strict=frozenset(name for name, realm in settings.realm.items() if realm.kind == "access"),
        )
        self._ctx = Context(settings, tuple(listeners), layer, media, ids, token_key, tracing=tracing)
        self._layer = layer
        self._media = media
        self._release = Release(self._ctx)
        offers = Offers(self._ctx, self._release)
        self._guard = Guard(self._ctx, self._release)
        dialogs = FlowDialogs(self._ctx)
        inside = DialogRequests(self._ctx, self._release, offers, self._guard, dialogs)
        self._reg_events = RegEvents(self._ctx, self._release)
        self._responses = Responses(self._ctx, self._release, offers, self._guard, dialogs)
        self._registration = Registration(self._ctx, self._responses.targets, self._reg_events)
        self.turns = Turns(
            self._ctx,
            self._release,
            offers,
            requests=Requests(self._ctx, inside, InitialRequests(self._ctx, offers, dialogs)),
            inside=inside,
            responses=self._responses,
            registration=self._registration,
            reg_events=self._reg_events,
        )
        self._journal: Journal | None = None
        self._drain_by: float | None = None
        self._drained = False
        self._seen: Call | None = None  # the call that an event is of, for the trace

    # --- what the shell and tests may look at ---

    @property
    def stats(self) -> Stats:
        """Counters since the start."""
        return self._ctx.stats

    @property
    def context(self) -> Context:
        """The working memory, for :mod:`imsalg.core.snapshot`: to be read only."""
        return self._ctx

    @property
    def reg_events(self) -> RegEvents:
        """The subscriptions to registration state, to be read only."""
        return self._reg_events

    @property
    def gauges(self) -> dict[str, int]:
        """What is alive now."""
        ctx = self._ctx
        return {
            "calls": len(ctx.calls),
            "bindings": len(ctx.registrar),
            "forwards": len(ctx.by_client),
            "held": len(ctx.holds),
        }

    def serves(self, branch: str, sent_by: str, method: str) -> bool:
        """True for a repetition of a request that is being served, for :mod:`imsalg.core.admission`."""
        return self._layer.serves(branch, sent_by, method)

    @property
    def crowded(self) -> bool:
        """True when there is hardly room for more transactions."""
        return self._layer.crowded

    # --- Machine ---

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event; returns the commands to carry out, in order."""
        ctx = self._ctx
        ctx.now = now
        if ctx.tracing:
            ctx.who, ctx.call, self._seen = "", None, None
            if type(event) is Received:
                ctx.trace_sip("in", event.message, event.flow)
        first: Internal | None = None
        try:
            if type(event) is Received:
                outputs = self._layer.receive(event.message, event.flow, now)
                if len(outputs) == 1 and type(outputs[0]) is not Send:  # nearly always: its turn is now
                    first = outputs[0]
                else:
                    ctx.transactions(outputs)
            else:
                ctx.server = ctx.request = ctx.call = None
                if type(event) is FromGateway:
                    ctx.media(event)
                else:
                    self._event(event)
        except Exception as error:  # noqa: BLE001  outermost door: a bug ends one call, never the daemon
            self._failed(event, error)
        if first is not None:
            self._run(first)
        elif ctx.pending:
            self._run(ctx.pending.popleft())
        out, ctx.out = ctx.out, []
        if ctx.draining:
            self._drain_over(out)
        if ctx.tracing:
            complete(out, ctx.who, self._seen if type(event) is Received else None)
        return out

    def expire(self, now: float) -> list[Command]:
        """Run every timer that is due."""
        ctx = self._ctx
        ctx.now = now
        ctx.who, ctx.call = "", None
        ctx.transactions(self._layer.expire(now))
        due = self._media.next_timer()
        if due is not None and due <= now:
            if ctx.pending:
                self._run(ctx.pending.popleft())
            ctx.media_commands(self._media.expire(now))
        if ctx.pending:
            self._run(ctx.pending.popleft())
        self._registration.expire(now)
        self._reg_events.expire(now)
        while ctx.linger and (first := next(iter(ctx.linger.items())))[1] <= now:
            self._responses.lingered(first[0])
        for call in ctx.ending.expire(now):
            self._release.ending_due(call)
        for call in ctx.deadlines.expire(now):
            self._guard.due(call)
        for forward in ctx.hops.tries.expire(now):
            self._responses.targets.silent(forward)
        if self._drain_by is not None and self._drain_by <= now:
            self._drain_due()
        if ctx.pending:
            self._run(ctx.pending.popleft())
        out, ctx.out = ctx.out, []
        if ctx.draining:
            self._drain_over(out)
        return out

    def next_timer(self) -> float | None:
        """The earliest timer of all parts."""
        ctx = self._ctx
        earliest = self._layer.next_timer()
        others = (
            self._media.next_timer(),
            ctx.registrar.next_timer(),
            self._reg_events.next_timer(),
            ctx.deadlines.next_timer(),
            ctx.ending.next_timer(),
            ctx.hops.tries.next_timer(),
            self._drain_by,
        )
        for time in others:
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        if ctx.linger and (earliest is None or next(iter(ctx.linger.values())) < earliest):
            earliest = next(iter(ctx.linger.values()))
        return earliest

    # --- what outlives the process ---

    def keep(self, media: MediaHalf) -> Journal:
        """Mark from now on what changes and has to outlive the process; the caller takes it from the journal."""
        self._journal = Journal(self._ctx, media, self._reg_events)
        return self._journal

    def _restore(self, event: Restore) -> None:
        if self._journal is None:
            return
        found = Restorer(self._ctx, self._release, self._guard, self._reg_events, self._journal, event.wall).run(
            event.records
        )
        self._ctx.log("info", "state restored", bindings=found.bindings, calls=found.calls, left_out=found.left_out)

    # --- the end of the process ---

    @property
    def draining(self) -> bool:
        """True once the node has been told to end: new calls are refused."""
        return self._ctx.draining

    def _drain_begins(self, seconds: float | None) -> None:
        """Refuse new calls from now on; what is left after ``seconds`` is released, or lives as long as it likes."""
        ctx = self._ctx
        ctx.draining, self._drained = True, False
        self._drain_by = ctx.now + seconds if seconds is not None else None
        if seconds is not None and (seconds <= 0 or not ctx.calls):
            self._drain_due()

    def _undrain(self) -> None:
        self._ctx.draining = self._drained = False
        self._drain_by = None

    def _drain_over(self, out: list[Command]) -> None:
        """Say so, once, when nothing is left."""
        ctx = self._ctx
        if not self._drained and not ctx.calls and not ctx.by_client and not self._media.busy():
            self._drained = True
            out.append(Drained())

    def _drain_due(self) -> None:
        ctx, self._drain_by = self._ctx, None
        for call in list(ctx.calls.values()):
            self._release.give_up(call, Answer(503, "the node goes out of service"))

    # --- dispatch ---

    def _run(self, item: Internal) -> None:
        """Take ``item``, and then what waits, until nothing does."""
        ctx, turns = self._ctx, self.turns.by_type
        pending = ctx.pending
        while True:
            ctx.server = ctx.request = ctx.call = None
            try:
                turns[type(item)](item)
            except Exception as error:  # noqa: BLE001  outermost door, as above
                bugs.report(ctx, self._release, error, item)
            if ctx.tracing:
                self._seen = self._seen or ctx.call
            if not pending:
                return
            item = pending.popleft()

    def _event(self, event: Event) -> None:
        ctx = self._ctx
        if isinstance(event, (GatewayUp, GatewayDown, BadFromGateway, Inspect)):
            ctx.media(event)
        elif isinstance(event, BadMessageIn):
            self._bad_message(event)
        elif isinstance(event, FlowClosed):
            self._registration.flow_closed(event.flow)
            if not event.flow.connection:  # it never came up
                ctx.hops.refused(event.flow, ctx.now)
            ctx.transactions(self._layer.transport_failed(event.flow, ctx.now))
        elif isinstance(event, Resolved):
            for forward in ctx.hops.resolved(event, ctx.now):
                self._responses.targets.located(forward)
        elif isinstance(event, Unreachable):
            key = ClientKey(event.branch, event.method)
            ctx.transactions(self._layer.unreachable(key, event.flow, ctx.now))
        elif isinstance(event, Drain):
            self._drain_begins(event.seconds)
        elif isinstance(event, Undrain):
            self._undrain()
        elif isinstance(event, Reconfigure):
            ctx.reconfigure(event.settings)
        elif isinstance(event, Restore):
            self._restore(event)
        elif isinstance(event, SendFailed):
            ctx.transactions(self._layer.send_failed(event.message, event.flow, ctx.now))

    def _failed(self, event: Event, error: Exception) -> None:
        ctx = self._ctx
        if type(event) is Received:
            ctx.server = ctx.request = ctx.call = None  # of the event before: this one came no further
        if type(event) is Received and isinstance(error, ProtocolError):
            try:
                self._not_taken(event.message, event.flow, error)
            except Exception as second:  # noqa: BLE001  outermost door, as above
                error = second
            else:
                return
        bugs.report(ctx, self._release, error, event)

    def _not_taken(self, message: Request | Response, flow: Flow, error: ProtocolError) -> None:
        """The transaction layer has no room for a message, or cannot tell what it belongs to."""
        ctx = self._ctx
        if isinstance(error, LimitExceeded):
            ctx.stats.refused += 1
            if isinstance(message, Request) and message.method != "ACK":
                retry = ctx.settings.limits.retry_after
                self._stateless(message, flow, Answer(503, "too many transactions", retry_after=retry))
            return
        ctx.stats.bad_messages += 1
        ctx.log("info", "message dropped", peer=str(flow.remote), error=str(error))

    def _bad_message(self, event: BadMessageIn) -> None:
        """RFC 3261 16.3 step 1, 18.3, 21.4.1: answer what can be answered, drop and count the rest."""
        ctx, error = self._ctx, event.error
        ctx.stats.bad_messages += 1
        request = error.message
        answered = request is not None and request.method != "ACK"
        ctx.log("info", "bad message", peer=str(event.flow.remote), error=str(error), answered=answered)
        if request is not None and answered:
            self._stateless(request, event.flow, Answer(error.status, error.hint or error.reason))

    def _stateless(self, request: Request, flow: Flow, answer: Answer) -> None:
        try:
            response = self._ctx.reply(request, answer)
        except ProtocolError:  # its own header values cannot be copied: nothing to answer with
            self._ctx.stats.dropped += 1
            return
        self._ctx.transactions([Send(response, flow)])
