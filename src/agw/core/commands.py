"""Carries out H.248 transactions, one after another, each command in order (RFC 3525 8.2).

A command that needs the executor (Add waits for its port, Subtract and an audit of statistics for counters) puts the
runner into a waiting state; the reports that end it come in through :meth:`Runner.reported`. All other events are
handled meanwhile. The first command that fails ends its transaction, unless it is optional (8.2.1).
"""

from collections import deque
from collections.abc import Callable, Iterator

from agw.core import orders
from agw.core.described import described
from agw.core.media import MediaControl
from agw.core.model import Context, Leg, Store, Tcp
from imswire.h248 import packages
from imswire.h248.errors import H248Error, error
from imswire.h248.iq import (
    AddResult,
    Statistics,
    add_reply,
    audit_contexts_reply,
    modify_reply,
    read_add,
    read_modify,
    subtract_reply,
)
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
    TransactionRequest,
)

_AUDIT_OCTETS = 64
"""Octets that one termination takes in an audit reply, at most, when no descriptor is asked for."""
_CONTEXT_OCTETS = 20
"""Octets that one context takes in the list of all contexts, at most."""
_STATISTICS = ("Statistics",)
"""What the controller asks of a termination that it subtracts."""
_ANSWERS = frozenset((orders.Listening, orders.Released, orders.Counted))
"""Reports that end the wait for a leg."""


class _Run:
    """One transaction in execution. ``actions`` and ``commands`` give what has not begun; ``action`` and ``command``
    have begun, and are None before the first."""

    __slots__ = (
        "action",
        "actions",
        "command",
        "commands",
        "context",
        "done",
        "finish",
        "replies",
        "spread",
        "tid",
        "waiting",
    )

    def __init__(self, tid: int, request: TransactionRequest) -> None:
        self.tid = tid
        self.actions: Iterator[Action] = iter(request.actions)
        self.action: Action | None = None
        self.commands: Iterator[Command] = iter(())
        self.command: Command | None = None
        self.context: Context | None = None
        self.done: list[Action] = []
        self.replies: list[Command] = []
        self.spread: dict[int, list[Command]] | None = None
        """Replies of a command for all contexts, by context."""
        self.waiting: set[int] = set()
        """Legs of which a report is to come before the command can be finished."""
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
        self._rows: dict[str, Callable[[_Run, Action, Command, float], bool]] = {
            "Add": self._add,
            "Modify": self._modify,
            "Subtract": self._subtract,
            "AuditValue": self._audit,
            "ServiceChange": self._service_change,
        }
        """The commands by name; True where a report has to be waited for."""
        self.accepting = True

    # --- in ---

    def submit(self, tid: int, request: TransactionRequest, now: float) -> None:
        """Queue one transaction; it runs at once when nothing else does."""
        if len(self._queue) >= self._limit:
            self._reply(tid, (), error(510, "too many transactions are waiting"), now)
            return
        if self._run is not None:
            self._queue.append((tid, request))
            return
        run = self._run = _Run(tid, request)
        self._go(run, now)

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
        if type(report) in _ANSWERS or (type(report) is orders.ListenFailed and leg.tcp is not Tcp.STARTING):
            run.waiting.discard(leg.id)
            if not run.waiting:
                self._go(run, now)

    # --- the loop ---

    def _go(self, run: _Run, now: float) -> None:
        """Work off a transaction that waits for nothing, and those behind it."""
        try:
            while self._carry_on(run, now):
                self._run = None
                self._reply(run.tid, tuple(run.done), None, now)
                if not self._queue:
                    return
                run = self._run = _Run(*self._queue.popleft())
        except Exception:
            # A bug ends its own transaction, not those behind it.
            self._run = None
            self._reply(run.tid, (), error(500), now)
            if self._queue:
                run = self._run = _Run(*self._queue.popleft())
                self._go(run, now)
            raise

    def _carry_on(self, run: _Run, now: float) -> bool:
        """Do what can be done; False where something has to be waited for, True when the transaction is complete."""
        action = run.action
        while action is not None or (action := next(run.actions, None)) is not None:
            try:
                if run.action is None:
                    self._open_action(run, action, now)
                elif run.finish is not None:
                    finish, run.finish = run.finish, None
                    finish()
                for command in run.commands:
                    run.command = command
                    if self._rows.get(command.name, self._unknown)(run, action, command, now):
                        return False
            except H248Error as fault:
                if not self._command_failed(run, action, fault, now):
                    return True
            else:
                self._close_action(run, action, now)
                action = None
        return True

    def _open_action(self, run: _Run, action: Action, now: float) -> None:
        run.action, run.commands = action, iter(action.commands)
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
        context, replies = run.context, run.replies
        if run.spread:
            run.done += [Action(number, tuple(each)) for number, each in run.spread.items()]
        if replies or fault is not None or not run.spread:
            # A new context whose only Add failed does not exist, so it has no identifier to tell.
            failed = replies and replies[-1].error is not None and (context is None or not context.legs)
            identity = action.context if context is None or failed else context.id
            run.done.append(Action(identity, tuple(replies), error=fault))
        if context is not None and context.legs:
            # Only now, so that nobody is dialled by half an answer.
            self._media.advance(context, now)
        elif context is not None:
            self._store.drop_if_empty(context)
        run.action = run.command = run.context = run.spread = None
        run.replies = []

    def _command_failed(self, run: _Run, action: Action, fault: H248Error, now: float) -> bool:
        """What follows from an error; True where the transaction goes on with the next command."""
        command = run.command
        run.finish = None
        run.waiting.clear()
        if command is None or (run.context is None and action.context not in (NULL_CONTEXT, ALL_CONTEXTS)):
            self._close_action(run, action, now, fault.descriptor())
            return False
        run.replies.append(Command(command.name, command.termination, error=fault.descriptor()))
        if command.optional:
            return True
        self._close_action(run, action, now)
        return False

    # --- the commands ---

    def _unknown(self, _run: _Run, _action: Action, command: Command, _now: float) -> bool:
        raise H248Error(443, command.name)

    def _service_change(self, _run: _Run, _action: Action, command: Command, _now: float) -> bool:
        method = command.service_change.method if command.service_change else None
        raise H248Error(501, f"ServiceChange {method or ''} from the controller".replace("  ", " "))

    def _add(self, run: _Run, _action: Action, command: Command, now: float) -> bool:
        context = run.context
        if context is None:
            raise H248Error(421, "Add needs a context")
        if command.termination != CHOOSE:
            if command.termination.lower() in self._store.names:
                raise H248Error(433, command.termination)
            raise H248Error(430, f"{command.termination}: terminations are chosen by the gateway")
        leg = self._media.add(context, read_add(command), now)
        run.waiting.add(leg.id)
        run.finish = lambda: self._added(run, leg)
        return True

    def _added(self, run: _Run, leg: Leg) -> None:
        if leg.tcp is Tcp.DOWN or leg.releasing or leg.id not in self._store.legs:
            self._media.abandon(leg)
            raise H248Error(510, f"no usable port in realm {leg.request.realm}")
        request, place, fingerprint = leg.request, leg.place, None
        if request.fingerprint_hash is not None:
            wanted = request.fingerprint_hash.lower()
            fingerprint = wanted, leg.fingerprints[wanted]
        path = None if request.local_session is None else leg.path
        run.replies.append(add_reply(AddResult(leg.name, place.advertised, place.port, fingerprint, path), request))

    def _modify(self, run: _Run, _action: Action, command: Command, now: float) -> bool:
        for leg in self._named(run, command.termination):
            self._media.modify(leg, read_modify(command, leg.request), now)
            run.replies.append(modify_reply(leg.name))
        return False

    def _subtract(self, run: _Run, action: Action, command: Command, now: float) -> bool:
        legs = self._matching(run, action, command)
        statistics = _wants_statistics(command)

        def finish() -> None:
            for leg in legs:
                figures = Statistics(leg.sent, leg.received, int((now - leg.since) * 1000)) if statistics else None
                self._answer(run, action, command, leg, subtract_reply(leg.name, figures))

        run.finish = finish
        for leg in legs:
            run.waiting.add(leg.id)
            self._media.release(leg)
        return True

    def _audit(self, run: _Run, action: Action, command: Command, now: float) -> bool:
        items = {item.lower() for item in command.audit.items} if command.audit else set()
        if action.context == NULL_CONTEXT:
            if command.termination.upper() != ROOT:
                raise H248Error(431 if command.termination == ALL else 430, command.termination)
            found = packages.PACKAGE_IDS if "packages" in items else None
            run.replies.append(Command("AuditValue", ROOT, packages=found))
            return False
        if action.context == ALL_CONTEXTS and command.termination.upper() == ROOT:
            self._list_contexts(run)
            return False
        legs = self._matching(run, action, command)
        if not command.wildcard and not items and len(legs) * _AUDIT_OCTETS > self._message:
            raise H248Error(533, f"{len(legs)} terminations; audit them by context")

        def finish() -> None:
            for leg in legs:
                reply = described(leg, items, now)
                self._answer(run, action, command, leg, reply)

        if "statistics" in items:
            for leg in legs:
                if not leg.releasing:
                    run.waiting.add(leg.id)
                    self._media.count(leg)
        if not run.waiting:
            finish()
            return False
        run.finish = finish
        return True

    def _list_contexts(self, run: _Run) -> None:
        """Name every context (RFC 3525 7.2.5)."""
        if len(self._store.contexts) * _CONTEXT_OCTETS > self._message:
            raise H248Error(533, f"{len(self._store.contexts)} contexts; audit them by number")
        run.spread = {}
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
            if run.spread is None:
                run.spread = {}
            run.spread.setdefault(leg.context.id, []).append(reply)
        else:
            run.replies.append(reply)

    def _named(self, run: _Run, termination: str) -> list[Leg]:
        """The terminations of the action's context that a name or wildcard means."""
        if run.context is None:
            raise H248Error(430, f"{termination}: no termination of that name outside a context")
        if termination == ALL and run.context.legs:
            return run.context.legs.copy()
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


def _wants_statistics(command: Command) -> bool:
    """Whether a Subtract asks for statistics: it does where it names nothing."""
    audit = command.audit
    return audit is None or audit.items == _STATISTICS or "statistics" in [item.lower() for item in audit.items]


def _matches(pattern: str, name: str) -> bool:
    """``*``, ``ip/access/*`` or a plain name; case does not matter (RFC 3525 B.2)."""
    head, star, _ = pattern.lower().partition("*")
    return name.lower().startswith(head) if star else name.lower() == head
