"""The media gateways that this controller (MGC) serves: associations, transactions, life and death (RFC 3525 8, 11).

A gateway is known by its mId from its ServiceChange Restart or Disconnected on; until then a link may carry nothing
else. While its link is down a gateway is kept for a grace time, with its contexts: if it comes back with Disconnected
it is audited, contexts that nobody claims are subtracted and calls whose contexts have vanished are reported. If it
restarts, stays away or does not answer the heartbeat (an AuditValue of ROOT that asks for nothing), it is lost and
everything in it is reported lost.
"""

import math
from collections.abc import Callable

from imsalg.core.gateway_audit import AUDITS, ORDER, PROBE, Audits
from imsalg.core.gateway_debts import Debts, ended_by
from imsalg.core.gateway_model import (
    Done,
    Gateway,
    Link,
    Lost,
    Report,
    State,
    Ticket,
    after,
    message_id,
)
from imsalg.core.gateway_requests import GatewayRequests
from imsalg.core.gateway_service import Announcements
from imsalg.core.gateway_trace import lines_of
from imsalg.core.media_events import BadFromGateway, CloseGateway, Log, MediaCommand, ToGateway, Trace
from imsalg.media_settings import MediaSettings
from imswire.base import LimitExceeded
from imswire.h248.errors import error
from imswire.h248.model import (
    NULL_CONTEXT,
    ROOT,
    Action,
    Audit,
    Command,
    Message,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.transaction import (
    ErrorIn,
    Output,
    ReplyIn,
    RequestFailed,
    RequestIn,
    RequestTimeout,
    Send,
    Timers,
    TransactionLayer,
)

BAD_MESSAGES = 16
"""Unreadable messages on one link, one after another, before it is closed."""


class Gateways:
    """All gateways. Commands go to ``emit``; what calls must know waits in :attr:`reports` until it is taken.

    ``call_id`` finds the SIP Call-ID of a call's key, for traces. ``first_transaction`` and ``jitter`` are injected
    so that tests know every byte. Methods take ``now``.
    """

    def __init__(
        self,
        settings: MediaSettings,
        emit: Callable[[MediaCommand], None],
        call_id: Callable[[str], str],
        *,
        first_transaction: int = 1,
        jitter: Callable[[], float] = lambda: 1.0,
        tracing: bool = True,
    ) -> None:
        self._settings = settings
        self._mid = message_id(settings.mid)
        self._emit = emit
        self._call_id = call_id
        self._first = first_transaction
        self._jitter = jitter
        self._tracing = tracing
        self.links: dict[int, Link] = {}
        self.gateways: dict[str, Gateway] = {}
        self.reports: list[Report] = []
        realms = {realm.agw_realm or name for name, realm in settings.realms.items()}
        self._audits = Audits(self, self.log, tuple(sorted(realms)))
        self._debts = Debts(self, self.log)
        self._announcements = Announcements(self, settings, emit)
        self._requests = GatewayRequests(self, self._announcements)
        self.timeouts = 0
        """Transactions of ours that had no reply in time, or whose link broke."""

    def reconfigure(self, settings: MediaSettings) -> None:
        """Other times and limits from now on; a link keeps the time that its transactions have."""
        self._settings = settings
        self._announcements.reconfigure(settings)
        audit = settings.timers.audit
        for gateway in self.gateways.values():
            # Never later than it was, or settings that are read again and again would put it off for ever.
            gateway.audit_at = min(gateway.audit_at, after(gateway.heard, audit)) if audit > 0 else math.inf

    # --- what calls need ---

    def choose(self, preferred: str | None) -> Gateway | None:
        """The gateway ``preferred`` if there is such a name, else the least loaded one in service."""
        if preferred is not None:
            known = self.gateways.get(preferred)
            return known if known is not None and known.state is not State.AWAY else None
        serving = [gateway for gateway in self.gateways.values() if gateway.state is State.IN_SERVICE]
        if len(serving) == 1:
            return serving[0]
        return min(serving, key=lambda gateway: (gateway.load, gateway.mid), default=None)

    def transact(self, mid: str, actions: tuple[Action, ...], ticket: Ticket, now: float) -> None:
        """Send one transaction; a :class:`Done` follows for a ticket number above 0, even when it cannot be sent."""
        gateway = self.gateways.get(mid)
        link = self.links.get(gateway.link) if gateway is not None and gateway.state is not State.AWAY else None
        if gateway is None or link is None:
            self._done(ticket.number, code=503, text="the media gateway is away")
            return
        ending = ended_by(actions)
        try:
            tid, outputs = link.layer.request(actions, now)
        except LimitExceeded as fault:
            if ticket in AUDITS:
                self._audits.answered(gateway, ticket, None, now)
            if ending:
                self._debts.settled(gateway, ending, None, fault.hint, now)
            self._done(ticket.number, code=510, text=fault.hint)
            return
        link.tickets[tid] = ticket
        if ending:
            link.ending[tid] = ending
        gateway.reserving += ticket.reserving
        self._run(link, outputs, now)

    def claim(self, mid: str, context: int, key: str) -> None:
        """That context belongs to call ``key``."""
        gateway = self.gateways.get(mid)
        if gateway is not None:
            gateway.contexts[context] = key

    def release(self, mid: str, context: int) -> None:
        """That context belongs to nobody."""
        gateway = self.gateways.get(mid)
        if gateway is not None:
            gateway.contexts.pop(context, None)

    def expect(self, mid: str, contexts: dict[int, str], now: float) -> None:
        """A gateway of an earlier process holds these contexts for calls; it has ``restart_grace`` to come back."""
        gateway = self.gateways.get(mid)
        if gateway is None:
            gateway = self.gateways[mid] = Gateway(mid, 0, now)
            gateway.state, gateway.away_until = State.AWAY, now + self._settings.timers.restart_grace
        gateway.contexts.update(contexts)

    @property
    def last_transaction(self) -> int:
        """The last transaction id that was used on any link."""
        return max((link.layer.next_id for link in self.links.values()), default=self._first) - 1

    # --- links ---

    def up(self, number: int, peer: str, now: float, *, reliable: bool) -> None:
        """A link came up; the gateway behind it is to announce itself."""
        if len(self.links) >= self._settings.limits.gateways:
            self._emit(CloseGateway(number, "too many media gateways"))
            return
        request = self._settings.timers.request
        layer = TransactionLayer(
            self._mid,
            reliable=reliable,
            first_id=self._first,
            timers=Timers(deadline=request, give_up=request),
            jitter=self._jitter,
        )
        self.links[number] = Link(number, peer, layer)

    def down(self, number: int, reason: str, now: float) -> None:
        """A link is gone: its transactions fail, and its gateway has the grace time to come back."""
        link = self.links.pop(number, None)
        if link is None:
            return
        self._first = max(self._first, link.layer.next_id)  # no id twice, whoever answers late
        gateway = link.gateway
        if gateway is not None and gateway.link == number:
            gateway.state = State.AWAY
            gateway.away_until = now + self._settings.timers.reconnect_grace
            self.log("warning", "media gateway away", gateway, reason=reason)
        self._run(link, link.layer.reset(), now)
        if gateway is not None and gateway.link == number:
            self.forget_orders(gateway)

    def bad(self, event: BadFromGateway) -> None:
        """Unreadable bytes: answer with an error for the transaction at fault, or for the message when none is known
        (RFC 3525 8.2.2), and close a link on which they do not end."""
        link = self.links.get(event.link)
        if link is None:
            return
        link.bad += 1
        fields = {"peer": link.peer, "code": event.code, "text": event.text}
        self._emit(Log("warning", "unreadable H.248 message", dict(fields)))
        if link.bad > BAD_MESSAGES:
            self._emit(CloseGateway(event.link, "unreadable H.248 messages"))
        elif event.answerable:
            fault = error(event.code, event.text)
            if event.transaction is None:
                self._send(link, Message(self._mid, error=fault))
            else:
                self._send(link, Message(self._mid, (TransactionReply(event.transaction, error=fault),)))

    def message(self, number: int, message: Message, now: float) -> None:
        """One message from a gateway."""
        link = self.links.get(number)
        if link is None:
            return
        link.bad = 0
        if self._tracing:
            self._trace(link, "in", message)
        gateway = link.gateway
        if gateway is not None:
            gateway.heard, gateway.probed = now, None
            gateway.probe_at = now + self._settings.timers.heartbeat
        self._run(link, link.layer.receive(message, now), now, message.mid)

    # --- time ---

    def next_timer(self) -> float | None:
        """The earliest of heartbeats, grace times and transaction timers."""
        timers = self._settings.timers
        due = [timer for link in self.links.values() if (timer := link.layer.next_timer()) is not None]
        for gateway in self.gateways.values():
            if gateway.state is State.AWAY:
                due.append(gateway.away_until)
                continue
            due += (gateway.owed_at, gateway.audit_at)
            if timers.heartbeat > 0:
                due.append(gateway.probe_at if gateway.probed is None else gateway.probed + timers.heartbeat_timeout)
        first = min(due, default=math.inf)
        return first if first < math.inf else None

    def expire(self, now: float) -> None:
        """Run what is due."""
        timers = self._settings.timers
        for link in list(self.links.values()):
            self._run(link, link.layer.expire(now), now)
        for gateway in list(self.gateways.values()):
            if gateway.state is State.AWAY:
                if gateway.away_until <= now:
                    self._lose(gateway, "media gateway did not come back")
                continue
            self._debts.repeat(gateway, now)
            if gateway.audit_at <= now:
                gateway.audit_at = after(now, timers.audit)
                self._audits.start(gateway, now)
            if timers.heartbeat <= 0:
                continue
            if gateway.probed is not None and gateway.probed + timers.heartbeat_timeout <= now:
                if now - gateway.probed > 2 * timers.heartbeat_timeout:
                    gateway.probed = now  # this timer is late by more than itself: we stood still, the answer waits
                else:
                    self._silent(gateway, now)
            elif gateway.probed is None and gateway.probe_at <= now:
                gateway.probed = now
                probe = Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit()),))
                self.transact(gateway.mid, (probe,), PROBE, now)

    def _silent(self, gateway: Gateway, now: float) -> None:
        """The heartbeat was not answered: the gateway is lost, its link of no use."""
        link = self.links.pop(gateway.link, None)
        self._emit(CloseGateway(gateway.link, "no answer to the heartbeat"))
        gateway.state = State.AWAY
        self._lose(gateway, "media gateway does not answer")
        if link is not None:
            link.gateway = None
            self._run(link, link.layer.reset(), now)

    # --- outputs of the transaction layer ---

    def reset(self, link: Link, now: float) -> None:
        """Forget the transactions of a link that is of no use any more: whoever waits for them is told."""
        self._run(link, link.layer.reset(), now)

    def _run(self, link: Link, outputs: list[Output], now: float, mid: str = "") -> None:
        for output in outputs:
            if type(output) is Send:
                self._send(link, output.message)
            elif type(output) is ReplyIn:
                self._settle(link, output.tid, now, output.reply)
            elif type(output) is RequestIn:
                self._request(link, output.tid, output.request, mid, now)
            elif type(output) is RequestTimeout:
                self._settle(link, output.tid, now)
            elif type(output) is RequestFailed:
                self._settle(link, output.tid, now, None, output.error.code, output.error.text)
            elif type(output) is ErrorIn:
                fields = {"peer": link.peer, "code": output.error.code, "text": output.error.text}
                self._emit(Log("warning", "media gateway reports an error", dict(fields)))

    def _settle(
        self,
        link: Link,
        tid: int,
        now: float,
        reply: TransactionReply | None = None,
        code: int = 0,
        text: str = "no reply",
    ) -> None:
        ticket = link.tickets.pop(tid, ORDER)
        ending = link.ending.pop(tid, ()) if link.ending else ()
        if reply is None and code == 0:
            self.timeouts += 1
        reserving = ticket.reserving
        gateway = link.gateway
        if gateway is not None:
            gateway.reserving -= reserving
        if gateway is not None and ticket.number < 0 and ticket in AUDITS:
            self._audits.answered(gateway, ticket, reply, now)
        elif reply is None and reserving and gateway is not None and gateway.state is not State.AWAY:
            # Whether the contexts were made is not known: look.
            self._audits.start(gateway, now)
        if ending and gateway is not None and gateway.state is not State.AWAY:
            self._debts.settled(gateway, ending, reply, text, now)
        if ticket.number > 0:
            self.reports.append(Done(ticket.number, reply, code, text))
        if gateway is not None and reserving:
            self._audits.subtract_suspects(gateway, now)

    def _done(self, ticket: int, reply: TransactionReply | None = None, code: int = 0, text: str = "") -> None:
        if ticket > 0:
            self.reports.append(Done(ticket, reply, code, text))

    # --- requests of the gateway ---

    def _request(self, link: Link, tid: int, request: TransactionRequest, mid: str, now: float) -> None:
        actions = self._requests.carry_out(link, request, mid, now)
        if not actions:
            self._run(link, link.layer.reply(tid, (), now, error(403, "no actions")), now)
            return
        self._run(link, link.layer.reply(tid, actions, now), now)
        gateway = link.gateway
        if gateway is not None and gateway.audit_due:
            gateway.audit_due = False
            self._audits.start(gateway, now)

    # --- loss ---

    def settled(self, now: float) -> None:
        """The reports are taken: look again at unclaimed contexts that had to wait for that."""
        for gateway in self.gateways.values():
            if gateway.suspects:
                self._audits.subtract_suspects(gateway, now)

    def _lose(self, gateway: Gateway, text: str) -> None:
        self.gateways.pop(gateway.mid, None)
        self.log("error", "media gateway lost", gateway, reason=text, contexts=len(gateway.contexts))
        self.forget_contexts(gateway, text)

    def forget_orders(self, gateway: Gateway) -> None:
        """The association is gone, and with it what was asked of the gateway: when it is back it is audited."""
        self._audits.stop(gateway)
        self._debts.forget(gateway)

    def forget_contexts(self, gateway: Gateway, text: str) -> None:
        """The gateway holds nothing any more: its calls are told."""
        if gateway.contexts:
            self.reports.append(Lost(gateway.mid, tuple(sorted(gateway.contexts)), text))
            gateway.contexts.clear()

    # --- out ---

    def _send(self, link: Link, message: Message) -> None:
        if self._tracing:
            self._trace(link, "out", message)
        self._emit(ToGateway(link.number, message))

    def _trace(self, link: Link, direction: str, message: Message) -> None:
        for fields in lines_of(link, direction, message, self._call_id):
            self._emit(Trace("h248", fields))

    def log(self, level: str, event: str, gateway: Gateway, **fields: object) -> None:
        """A log line about a gateway."""
        self._emit(Log(level, event, {"gateway": gateway.mid, **fields}))
