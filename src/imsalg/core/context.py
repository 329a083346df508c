"""The working memory of the P-CSCF core and its three ways out: transactions, the media half, commands to the shell.

The procedures (requests, responses, registration, release) hold no state of their own; they share one :class:`Context`.
What the transaction layer and the media half answer is queued in ``pending`` and handled in order by the engine: no
procedure is ever entered while another one runs.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from imsalg.core.agreement import Agreement
from imsalg.core.asserting import Asserting
from imsalg.core.bindings import Binding, Registrar
from imsalg.core.deadlines import Deadlines
from imsalg.core.emergency import Emergency
from imsalg.core.events import Command, Resolve
from imsalg.core.hops import Hops
from imsalg.core.media_events import (
    CallEnded,
    EndCall,
    Log,
    MediaCommand,
    MediaEvent,
    Proceed,
    Refuse,
    Side,
    Trace,
)
from imsalg.core.routing import Listener, Network
from imsalg.core.sip_call import EARLY, ENDING, Answer, Behind, Call, Forward, other
from imsalg.core.sip_trace import trace_fields
from imsalg.core.stats import Stats
from imsalg.core.tokens import TokenMint
from imsalg.media_settings import MediaSettings
from imsalg.settings import Settings
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ClientKey, Output, Send, ServerKey, TransactionLayer
from imswire.sip.values import quote


class Ids(Protocol):
    """The injected source of identifiers."""

    def branch(self) -> str: ...

    def tag(self) -> str: ...

    def token(self, octets: int = 16) -> str: ...


class Media(Protocol):
    """The media half as the SIP half sees it."""

    def handle(self, event: MediaEvent, now: float) -> Sequence[MediaCommand]: ...

    def expire(self, now: float) -> Sequence[MediaCommand]: ...

    def next_timer(self) -> float | None: ...

    def busy(self) -> bool: ...

    def reconfigure(self, settings: MediaSettings) -> None: ...


type Internal = Output | Proceed | Refuse | EndCall | Behind


class Context:
    """See the module's text. ``now`` is the time of the event that is being handled."""

    def __init__(
        self,
        settings: Settings,
        listeners: tuple[Listener, ...],
        layer: TransactionLayer,
        media: Media,
        ids: Ids,
        token_key: bytes,
        *,
        tracing: bool = False,
    ) -> None:
        self.settings = settings
        self.t64 = settings.timers.t64
        self.network = Network(settings, listeners)
        self.emergency = Emergency(settings, self.network)
        self.hops = Hops(settings, self.network, ids.token)
        self.layer = layer
        self.media_half = media
        self.ids = ids
        self.mint = TokenMint(token_key)
        self.asserting = Asserting(settings, token_key)
        self.registrar = Registrar(settings.limits.bindings, settings.limits.contacts_per_user)
        self.sides = {name: Side(realm.kind) for name, realm in settings.realm.items()}
        self.cores = {name: settings.core_of(name) for name, realm in settings.realm.items() if realm.kind == "access"}
        mechanisms = settings.policy.mechanisms
        self.agreements = {name: Agreement(settings.realm[name], mechanisms) for name in self.cores}
        self.warning_host = settings.imsalg.name
        self.tracing = tracing
        self.stats = Stats()
        self.now = 0.0
        self.out: list[Command] = []
        self.pending: deque[Internal] = deque()
        self.calls: dict[str, Call] = {}
        self.by_token: dict[str, tuple[Call, Side]] = {}
        self.urgent_calls = 0  # of self.calls: they have a room of their own, and take none from the others
        self.by_binding: dict[tuple[str, str], dict[str, Call]] = {}
        self.by_client: dict[ClientKey, Forward] = {}
        self.by_server: dict[ServerKey, Forward] = {}
        self.holds: dict[int, Forward] = {}
        self.behind: dict[ServerKey, Behind] = {}  # requests that wait behind a held ACK
        self._last_hold = 0
        # Equal durations, and last again when it is set again: the order is that of time.
        self.linger: OrderedDict[Forward, float] = OrderedDict()
        self.ending: Deadlines[Call] = Deadlines()
        self.deadlines: Deadlines[Call] = Deadlines()
        self.draining = False
        self.changed: set[str] | None = None  # keys of calls, for whoever writes them down (imsalg.core.journal)
        # What is being worked on, for the guard and the trace.
        self.server: ServerKey | None = None
        self.request: Request | None = None
        self.call: Call | None = None
        self.who = ""

    def reconfigure(self, settings: Settings) -> None:
        """Other settings from now on; what was made of them at start is as it was."""
        self.settings = settings
        self.t64 = settings.timers.t64
        limits = settings.limits
        self.registrar.limits(limits.bindings, limits.contacts_per_user)
        self.media_half.reconfigure(settings.media())

    # --- ways out ---

    def transactions(self, outputs: Iterable[Output]) -> None:
        """Take what the transaction layer gave: sends leave at once, the rest waits its turn."""
        for output in outputs:
            if type(output) is Send:
                if self.tracing:
                    self.trace_sip("out", output.message, output.flow)
                self.out.append(output)
            else:
                self.pending.append(output)

    def media(self, event: MediaEvent) -> None:
        """Tell the media half something; its verdicts wait their turn."""
        commands = self.media_half.handle(event, self.now)
        if commands:
            self.media_commands(commands)

    def media_commands(self, commands: Iterable[MediaCommand]) -> None:
        """Take what the media half gave."""
        for command in commands:
            if isinstance(command, (Proceed, Refuse, EndCall)):
                self.pending.append(command)
            elif type(command) is not Trace or self.tracing:
                self.out.append(command)

    def log(self, level: str, event: str, **fields: object) -> None:
        """A log line; not for the path of every message."""
        self.out.append(Log(level, event, fields))

    def trace(self, kind: str, **fields: object) -> None:
        """A trace line, when tracing is on."""
        if self.tracing:
            self.out.append(Trace(kind, fields))

    def trace_sip(self, direction: str, message: Request | Response, flow: Flow) -> dict[str, object]:
        """A ``sip`` trace line; its ``user`` and ``call`` may be filled in later, when they are known."""
        fields = trace_fields(direction, self.sides[flow.realm].value, flow, message, self.who)
        if self.call is not None:
            fields["call"] = self.call.key
        self.out.append(Trace("sip", fields))
        return fields

    # --- answers ---

    def respond(self, key: ServerKey, response: Response) -> None:
        """Send a response through its server transaction."""
        outputs = self.layer.respond(key, response, self.now)
        if outputs:
            self.transactions(outputs)

    def reply(self, request: Request, answer: Answer, *, tagged: bool = True) -> Response:
        """The response that ``answer`` asks for (RFC 3261 8.2.6; the Warning is 20.43's 399).

        Its To tag is a new one, or with ``tagged`` False derived from the request.
        """
        headers = list(answer.headers)
        if answer.warning:
            headers.append(("Warning", f"399 {self.warning_host} {quote(answer.warning)}"))
        if answer.retry_after is not None:
            headers.append(("Retry-After", str(answer.retry_after)))
        tag = self.ids.tag() if tagged else None
        return request.reply(answer.status, answer.reason, to_tag=tag, headers=headers, body=answer.body)

    def answer(self, key: ServerKey, request: Request, answer: Answer) -> None:
        """Answer a request ourselves."""
        if answer.status >= 300:
            self.stats.refused += 1
        if answer.once:
            # No tag of chance: a repetition of the request gets the same response, from nothing that is kept.
            self.transactions(self.layer.respond_once(key, self.reply(request, answer, tagged=False), self.now))
            return
        self.respond(key, self.reply(request, answer))

    def answer_to(self, error: Answer | ProtocolError) -> Answer:
        """What a request gets that cannot be sent on because of ``error``."""
        if isinstance(error, Answer):
            return error
        return Answer(503, error.hint, retry_after=self.settings.limits.retry_after)

    # --- forwards ---

    def send(self, forward: Forward) -> None:
        """Start the client transaction of a forward (RFC 3261 16.6 steps 7 to 11), once it is known where to.

        Raises :class:`Answer` when the name of its next hop leads nowhere.
        """
        if forward.hop is not None and not self._settled(forward):
            return
        flow = forward.flow
        if flow.transport == "udp" and flow.realm in self.hops.limits:
            flow = self._sized(forward)
        face = self.network.face(flow)
        client, outputs = self.layer.request(
            forward.outgoing,
            flow,
            self.now,
            via_host=face.via_host,
            via_port=face.via_port,
            timer_c=forward.received.method == "INVITE",
        )
        forward.client = client
        self.by_client[client] = forward
        self.stats.forwarded += 1
        if forward.others:
            self.hops.watch(forward, self.now)
        self.transactions(outputs)

    def _settled(self, forward: Forward) -> bool:
        """Find out where a next hop given by name is; False while that takes its time."""
        outcome = self.hops.settle(forward, self.now)
        if isinstance(outcome, Resolve):
            self.out.append(outcome)
        if forward.hop is not None:
            return False
        if forward.call is not None:
            forward.call.flows[other(forward.side)] = forward.flow
        return True

    def _sized(self, forward: Forward) -> Flow:
        """RFC 3261 18.1.1: what is too large for UDP goes over TCP, and over UDP again if there is no TCP."""
        before, outgoing = forward.flow, forward.outgoing
        octets = len(outgoing.headers.text) + len(outgoing.body) + len(outgoing.uri)
        flow = self.hops.switched(before, octets, self.now)
        if flow is not before:
            forward.others = (before, *forward.others)
            forward.flow = flow
        return flow

    def send_ack(self, forward: Forward) -> None:
        """Send on the ACK of a 2xx (RFC 3261 16.11): no transaction is made."""
        if forward.hop is not None and not self._settled(forward):
            return
        outgoing, flow = forward.outgoing, forward.flow
        if flow.transport == "udp" and flow.realm in self.hops.limits:
            flow = self._sized(forward)
        face = self.network.face(flow)
        self.transactions(self.layer.send_ack(outgoing, flow, self.now, via_host=face.via_host, via_port=face.via_port))

    def register_forward(self, forward: Forward) -> None:
        """Make a forward findable by its server transaction (CANCEL) and by its call."""
        forward.who = self.who
        if forward.server is not None:
            self.by_server[forward.server] = forward
        if forward.call is not None:
            forward.call.forwards.add(forward)

    def drop_forward(self, forward: Forward) -> None:
        """Forget a forward altogether."""
        if forward.hop is not None:
            self.hops.leave(forward)
        elif forward.others:
            self.hops.tries.discard(forward)
        if forward.server is not None:
            self.by_server.pop(forward.server, None)
        elif forward.behind:
            # Their turn comes when the ACK is on its way; one that was cancelled is not there any more.
            self.pending.extend(found for key in forward.behind if (found := self.behind.pop(key, None)) is not None)
            forward.behind = []
        if forward.client is not None:
            self.by_client.pop(forward.client, None)
        if forward.hold:
            self.holds.pop(forward.hold, None)
            forward.hold = 0
        if forward.call is not None:
            forward.call.forwards.discard(forward)
        if forward in self.linger:
            del self.linger[forward]

    def keep_on(self, forward: Forward) -> None:
        """Keep a forward for 64*T1 from now on, as long as a 2xx is repeated."""
        self.linger[forward] = self.now + self.t64
        self.linger.move_to_end(forward)

    def hold(self, forward: Forward) -> int:
        """A fresh token under which ``forward`` waits for the media half."""
        self._last_hold += 1
        forward.hold = self._last_hold
        self.holds[forward.hold] = forward
        return forward.hold

    # --- calls ---

    def add_call(self, call: Call) -> None:
        """A new call begins."""
        self.resume_call(call, self.now)
        self.stats.calls += 1

    def resume_call(self, call: Call, since: float) -> None:
        """Make a call that began at ``since`` findable by its tokens."""
        call.since = since
        self.calls[call.key] = call
        self.urgent_calls += call.urgent
        for side, token in call.tokens.items():
            self.by_token[token] = (call, side)
        if call.binding is not None:
            self.by_binding.setdefault(call.binding, {})[call.key] = call

    def mark(self, call: Call) -> None:
        """Something of the call changed that has to outlive the process."""
        if self.changed is not None:
            self.changed.add(call.key)

    def rebind(self, former: Binding, binding: Binding) -> None:
        """``binding`` replaces ``former``, of the same UE: so it does for its calls."""
        for key, call in self.by_binding.pop(former.key, {}).items():
            call.binding = binding.key
            self.by_binding.setdefault(binding.key, {})[key] = call
            self.mark(call)

    def calls_of(self, binding: Binding) -> list[Call]:
        """The calls of a registered contact."""
        return list(self.by_binding.get(binding.key, {}).values())

    def media_over(self, call: Call) -> None:
        """Tell the media half, once, that the call is over."""
        if call.has_media:
            call.has_media = False
            self.media(CallEnded(call.key))

    def end_call(self, call: Call) -> None:
        """The call is over and nothing of it is routed any more."""
        known = "failed" if call.stage is EARLY else "completed"
        call.stage = ENDING
        if call.has_media:
            self.media_over(call)
        for forward in list(call.forwards):
            if call.forked and forward.initial and forward in self.linger:
                forward.aborted = True  # another dialog may still accept; nobody is left here who would end it
            if forward.server is None or (forward.answered and not forward.aborted):
                self.drop_forward(forward)  # an aborted one stays: its 2xx may still come and must be ended
        self.ending.discard(call)
        self.deadlines.discard(call)
        if self.changed is not None:
            self.mark(call)
        if self.calls.pop(call.key, None) is not None:
            self.urgent_calls -= call.urgent
            self.stats.outcomes[call.outcome or known] += 1
            for token in call.tokens.values():
                self.by_token.pop(token, None)
            if call.binding is not None and (others := self.by_binding.get(call.binding)) is not None:
                others.pop(call.key, None)
                if not others:
                    del self.by_binding[call.binding]
