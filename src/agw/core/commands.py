"""Carries out H.248 transactions, one after another, each command in order (RFC 3525 8.2).

A command that needs the executor (Add waits for its port, Subtract and an audit of statistics for counters) puts the
runner into a waiting state; the reports that end it come in through :meth:`Runner.reported`. All other events are
handled meanwhile. The first command that fails ends its transaction, unless it is optional (8.2.1).
"""

from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from agw.core import orders
from agw.core.media import MediaControl
from agw.core.model import TLS_STATES, Context, Leg, Store, Tcp
from imswire.h248 import packages
from imswire.h248.body import Body, write_body
from imswire.h248.errors import H248Error, error
from imswire.h248.iq import (
    PROTOS,
    AddResult,
    Statistics,
    add_reply,
    audit_contexts_reply,
    modify_reply,
    read_add,
    read_modify,
    subtract_reply,
    to_add,
    to_statistics,
)
from imswire.h248.iq_inspect import TlsState, tls_properties
from imswire.h248.model import (
    ALL,
    ALL_CONTEXTS,
    CHOOSE,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    ROOT,
    Action,
    Command,
    ErrorDescriptor,
    Media,
    Stream,
    TransactionRequest,
)

_AUDIT_OCTETS = 64
"""Octets that one termination takes in an audit reply, at most, when no descriptor is asked for."""
_CONTEXT_OCTETS = 20
"""Octets that one context takes in the list of all contexts, at most."""


class _Run:
    """One transaction in execution."""

    __slots__ = ("action", "command", "context", "done", "finish", "replies", "request", "spread", "tid", "waiting")

    def __init__(self, tid: int, request: TransactionRequest) -> None:
        self.tid = tid
        self.request = request
        self.action = 0
        self.command = 0
        self.context: Context | None = None
        self.done: list[Action] = []
        self.replies: list[Command] = []
        self.spread: dict[int, list[Command]] = {}
        """Replies of a command for all contexts, by context."""
        self.waiting: dict[int, Leg] = {}
        self.finish: Callable[[], None] | None = None


class Runner:
    """Executes transactions and calls ``reply`` (transaction, actions, error) once for each.

    ``contexts`` is the most that may exist; ``accepting`` tells whether new contexts may be made.
    """

    def __init__(
        self,
        store: Store,
        media: MediaControl,
        reply: Callable[[int, tuple[Action, ...], ErrorDescriptor | None, float], None],
        *,
        contexts: int,
        queue: int,
        message: int = 65_531,
    ) -> None:
        self._store = store
        self._media = media
        self._reply = reply
        self._contexts = contexts
        self._limit = queue
        self._message = message
        self._queue: deque[tuple[int, TransactionRequest]] = deque()
        self._run: _Run | None = None
        self.accepting = True

    # --- in ---

    def submit(self, tid: int, request: TransactionRequest, now: float) -> None:
        """Queue one transaction; it runs at once when nothing else does."""
        if len(self._queue) >= self._limit:
            self._reply(tid, (), error(510, "too many transactions are waiting"), now)
            return
        self._queue.append((tid, request))
        self._go(now)

    def aborted(self, tid: int) -> None:
        """The transaction was answered otherwise (error 506); if it has not begun it never will."""
        self._queue = deque(entry for entry in self._queue if entry[0] != tid)

    def clear(self) -> None:
        """The association is gone: what has not begun is forgotten, and what runs is not waited for. Terminations that
        it made stay, and those that it ends go: the controller audits when it is back."""
        self._queue.clear()
        run, self._run = self._run, None
        if run is not None and run.context is not None:
            self._store.drop_if_empty(run.context)

    def reported(self, leg: Leg, report: orders.Report, now: float) -> None:
        """A report about ``leg`` was taken; if the running command waits for it, go on."""
        run = self._run
        if run is None or leg.id not in run.waiting:
            return
        match report:
            case orders.Released() | orders.Counted() | orders.Listening():
                pass
            case orders.ListenFailed() if leg.tcp is not Tcp.STARTING:
                pass
            case _:
                return
        del run.waiting[leg.id]
        if not run.waiting:
            self._go(now)

    # --- the loop ---

    def _go(self, now: float) -> None:
        while True:
            if self._run is None:
                if not self._queue:
                    return
                self._run = _Run(*self._queue.popleft())
            run = self._run
            if run.waiting:
                return
            if self._step(run, now):
                continue
            self._run = None
            self._reply(run.tid, tuple(run.done), None, now)

    def _step(self, run: _Run, now: float) -> bool:
        """Do the next thing; False when the transaction is complete."""
        if run.action >= len(run.request.actions):
            return False
        action = run.request.actions[run.action]
        command = action.commands[run.command] if run.command < len(action.commands) else None
        try:
            if run.finish is not None:
                finish, run.finish = run.finish, None
                run.command += 1
                finish()
                return True
            if run.command == 0 and run.context is None:
                self._open_action(run, action, now)
            if command is None:
                self._close_action(run, action, now)
                return True
            self._begin(run, action, command, now)
            if run.finish is None:
                run.command += 1
        except H248Error as fault:
            return self._command_failed(run, action, command, fault, now)
        return True

    def _open_action(self, run: _Run, action: Action, now: float) -> None:
        if action.context == CHOOSE_CONTEXT:
            if not self.accepting:
                raise H248Error(503, "this gateway is leaving service")
            if len(self._store.contexts) >= self._contexts:
                raise H248Error(510, f"{self._contexts} contexts exist")
            run.context = self._store.new_context(now)
        elif action.context not in (NULL_CONTEXT, ALL_CONTEXTS):
            run.context = self._store.contexts.get(action.context)
            if run.context is None:
                raise H248Error(411, str(action.context))

    def _close_action(self, run: _Run, action: Action, now: float, fault: ErrorDescriptor | None = None) -> None:
        for context, replies in run.spread.items():
            run.done.append(Action(context, tuple(replies)))
        if run.replies or fault is not None or not run.spread:
            # A new context whose only Add failed does not exist, so it has no identifier to tell.
            identity = run.context.id if run.context is not None and run.context.legs else action.context
            if not run.replies or run.replies[-1].error is None:
                identity = action.context if run.context is None else run.context.id
            run.done.append(Action(identity, tuple(run.replies), error=fault))
        if run.context is not None:
            # Only now, so that nobody is dialled by half an answer.
            self._media.advance(run.context, now)
            self._store.drop_if_empty(run.context)
        run.replies, run.spread, run.context = [], {}, None
        run.action += 1
        run.command = 0

    def _command_failed(self, run: _Run, action: Action, command: Command | None, fault: H248Error, now: float) -> bool:
        run.finish = None
        run.waiting = {}
        if command is None or (run.context is None and action.context not in (NULL_CONTEXT, ALL_CONTEXTS)):
            self._close_action(run, action, now, fault.descriptor())
            return False
        run.replies.append(Command(command.name, command.termination, error=fault.descriptor()))
        if command.optional:
            run.command += 1
            return True
        self._close_action(run, action, now)
        return False

    # --- the commands ---

    def _begin(self, run: _Run, action: Action, command: Command, now: float) -> None:
        match command.name:
            case "Add":
                self._add(run, command, now)
            case "Modify":
                self._modify(run, command, now)
            case "Subtract":
                self._subtract(run, action, command, now)
            case "AuditValue":
                self._audit(run, action, command, now)
            case "ServiceChange":
                method = command.service_change.method if command.service_change else None
                raise H248Error(501, f"ServiceChange {method or ''} from the controller".replace("  ", " "))
            case _:
                raise H248Error(443, command.name)

    def _add(self, run: _Run, command: Command, now: float) -> None:
        context = run.context
        if context is None:
            raise H248Error(421, "Add needs a context")
        if command.termination != CHOOSE:
            if command.termination.lower() in self._store.names:
                raise H248Error(433, command.termination)
            raise H248Error(430, f"{command.termination}: terminations are chosen by the gateway")
        leg = self._media.add(context, read_add(command), now)
        run.waiting = {leg.id: leg}
        run.finish = lambda: self._added(run, leg)

    def _added(self, run: _Run, leg: Leg) -> None:
        if leg.tcp is Tcp.DOWN or leg.releasing or leg.id not in self._store.legs:
            self._media.abandon(leg)
            raise H248Error(510, f"no usable port in realm {leg.request.realm}")
        wanted = leg.request.fingerprint_hash
        fingerprint = None if wanted is None else (wanted.lower(), leg.fingerprints[wanted.lower()])
        place = leg.place
        result = AddResult(leg.name, place.advertised, place.port, fingerprint, leg.path)
        run.replies.append(add_reply(result, leg.request))

    def _modify(self, run: _Run, command: Command, now: float) -> None:
        for leg in self._named(run, command.termination):
            self._media.modify(leg, read_modify(command, leg.request), now)
            run.replies.append(modify_reply(leg.name))

    def _subtract(self, run: _Run, action: Action, command: Command, now: float) -> None:
        legs = self._matching(run, action, command)
        statistics = command.audit is None or "statistics" in (item.lower() for item in command.audit.items)
        since = {leg.id: leg.since for leg in legs}

        def finish() -> None:
            for leg in legs:
                figures = Statistics(leg.sent, leg.received, int((now - since[leg.id]) * 1000)) if statistics else None
                self._answer(run, action, command, leg, subtract_reply(leg.name, figures))

        run.waiting = {leg.id: leg for leg in legs}
        run.finish = finish
        for leg in legs:
            self._media.release(leg)

    def _audit(self, run: _Run, action: Action, command: Command, now: float) -> None:
        items = {item.lower() for item in command.audit.items} if command.audit else set()
        if action.context == NULL_CONTEXT:
            if command.termination.upper() != ROOT:
                raise H248Error(431 if command.termination == ALL else 430, command.termination)
            found = packages.PACKAGE_IDS if "packages" in items else None
            run.replies.append(Command("AuditValue", ROOT, packages=found))
            return
        if action.context == ALL_CONTEXTS and command.termination.upper() == ROOT:
            self._list_contexts(run)
            return
        legs = self._matching(run, action, command)
        if not command.wildcard and not items and len(legs) * _AUDIT_OCTETS > self._message:
            raise H248Error(533, f"{len(legs)} terminations; audit them by context")

        def finish() -> None:
            for leg in legs:
                reply = _described(leg, items, now)
                self._answer(run, action, command, leg, reply)

        if "statistics" in items:
            run.waiting = {leg.id: leg for leg in legs if not leg.releasing}
        run.finish = finish
        for leg in run.waiting.values():
            self._media.count(leg)

    def _list_contexts(self, run: _Run) -> None:
        """Name every context (RFC 3525 7.2.5)."""
        if len(self._store.contexts) * _CONTEXT_OCTETS > self._message:
            raise H248Error(533, f"{len(self._store.contexts)} contexts; audit them by number")
        for action in audit_contexts_reply(self._store.contexts):
            if action.context == ALL_CONTEXTS:
                run.replies += action.commands
            else:
                run.spread[action.context] = list(action.commands)

    def _answer(self, run: _Run, action: Action, command: Command, leg: Leg, reply: Command) -> None:
        """File the reply for one termination; a wildcarded response (``W-``) is one reply for all of them."""
        if command.wildcard:
            if not run.replies or run.replies[-1].name != command.name:
                run.replies.append(Command(command.name, command.termination))
        elif action.context == ALL_CONTEXTS:
            run.spread.setdefault(leg.context.id, []).append(reply)
        else:
            run.replies.append(reply)

    def _named(self, run: _Run, termination: str) -> list[Leg]:
        """The terminations of the action's context that a name or wildcard means."""
        if run.context is None:
            raise H248Error(430, f"{termination}: no termination of that name outside a context")
        if "*" in termination:
            legs = [leg for leg in run.context.legs if _matches(termination, leg.name)]
            if not legs:
                raise H248Error(431, termination)
            return legs
        leg = self._store.names.get(termination.lower())
        if leg is None:
            raise H248Error(430, termination)
        if leg.context is not run.context:
            raise H248Error(435, termination)
        return [leg]

    def _matching(self, run: _Run, action: Action, command: Command) -> list[Leg]:
        if action.context != ALL_CONTEXTS:
            return self._named(run, command.termination)
        legs = [leg for leg in self._store.legs.values() if _matches(command.termination, leg.name)]
        if not legs:
            raise H248Error(431 if "*" in command.termination else 430, command.termination)
        return legs


def _matches(pattern: str, name: str) -> bool:
    """``*``, ``ip/access/*`` or a plain name; case does not matter (RFC 3525 B.2)."""
    head, star, _ = pattern.lower().partition("*")
    return name.lower().startswith(head) if star else name.lower() == head


def _described(leg: Leg, items: set[str], now: float) -> Command:
    """The reply to an audit of one termination."""
    media = events = statistics = None
    request = leg.request
    asked = to_add(request)
    if "media" in items and asked.media is not None:
        kind, formats = PROTOS[request.proto]
        place = leg.place
        local = Body(
            kind, request.proto, formats, request.family, place.advertised, place.port, request.setup, path=leg.path
        )
        stream = asked.media.streams[0]
        control = stream.control
        if request.tls and control is not None:
            seen = TlsState(TLS_STATES[leg.tls], leg.tls_version, leg.cipher, leg.verified)
            control = replace(control, properties=(*control.properties, *tls_properties(seen)))
        media = Media((Stream(1, control, write_body(local), stream.remote),))
    if "events" in items:
        events = asked.events
    if "statistics" in items:
        statistics = to_statistics(Statistics(leg.sent, leg.received, int((now - leg.since) * 1000)))
    return Command("AuditValue", leg.name, media=media, events=events, statistics=statistics)
