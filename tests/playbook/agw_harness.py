"""A script for the AGW engine: the controller and the executor are played by the test, time by hand, no socket."""

from typing import Any

from agw.core import events, orders
from agw.core.engine import AgwEngine
from agw.core.events import Command, Event
from agw.settings import AgwSection, LimitSettings, RealmSettings, Settings, TimerSettings
from imswire.h248 import iq
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    Action,
    Message,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.model import Command as H248Command

OURS = bytes(range(32))
UE = (("sha-256", bytes(32)),)


def settings(**limits: int) -> Settings:
    realms = {
        "access": RealmSettings(("192.0.2.1", "2001:db8::1"), "20000-20003", quarantine=10.0),
        "core": RealmSettings(("198.51.100.1", "2001:db8:1::1"), "30000-30003", quarantine=10.0),
    }
    return Settings(
        AgwSection(mid="agw", drain_time=5.0),
        realms,
        limits=LimitSettings(**limits),
        timers=TimerSettings(orphan_time=60.0, heartbeat=10.0, backoff_first=0.5, backoff_cap=4.0, transaction=5.0),
    )


class Play:
    """``orders`` and ``sent`` gather what the engine wants; Listen is answered at once, with a failure where ``busy``
    or another leg has the port. ``places`` and ``filters`` are those of the listening sockets, by leg."""

    def __init__(self, given: Settings | None = None, *, serve: bool = True, tracing: bool = False) -> None:
        self.engine = AgwEngine(given or settings(), "agw-1", {"sha-256": OURS}, tracing=tracing)
        self.now = 100.0
        self.orders: list[orders.Order] = []
        self.sent: list[Message] = []
        self.others: list[Command] = []
        self.busy: set[int] = set()
        self.places: dict[int, tuple[str, int]] = {}
        self.filters: dict[int, orders.SynFilter] = {}
        self.silent = False
        self.counters: dict[int, tuple[int, int]] = {}
        self._tid = 1000
        if serve:
            self.serve()

    def serve(self) -> None:
        self.post(events.ControlUp("mgc:2944"))
        self.answer_service_change()

    def answer_service_change(self) -> None:
        request = self.requests()[-1]
        self.post(events.FromController(Message("mgc", (TransactionReply(request.id, request.actions),))))

    # --- in ---

    def post(self, event: Event) -> None:
        queue = [event]
        while queue:
            event = queue.pop(0)
            if isinstance(event, orders.Accepted):
                self._close(event.leg)
            for command in self.engine.handle(event, self.now):
                queue += self._take(command)

    def _close(self, leg: int) -> None:
        if leg in self.filters:
            self.filters[leg] = orders.CLOSED

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        queue: list[Event] = []
        for command in self.engine.expire(self.now):
            queue += self._take(command)
        for event in queue:
            self.post(event)

    def _take(self, command: Command) -> list[Event]:
        match command:
            case events.SendH248():
                self.sent.append(command.message)
            case orders.Listen() if not self.silent:
                self.orders.append(command)
                place = (command.address, command.port)
                if command.port in self.busy or (command.beside is None and place in self.places.values()):
                    return [orders.ListenFailed(command.leg, True, "in use")]
                self.places[command.leg], self.filters[command.leg] = place, command.filter
                return [orders.Listening(command.leg, command.port)]
            case orders.SetFilter():
                self.orders.append(command)
                if command.leg in self.filters:
                    self.filters[command.leg] = command.filter
            case orders.Dial():
                self.orders.append(command)
                self._close(command.leg)
            case orders.Release() if not self.silent:
                self.orders.append(command)
                self.filters.pop(command.leg, None)
                had = self.places.pop(command.leg, None)
                if command.heir is not None and had is not None:
                    self.places[command.heir], self.filters[command.heir] = had, orders.CLOSED
                return [orders.Released(command.leg, *self.counters.get(command.leg, (0, 0)))]
            case orders.Count():
                return [orders.Counted(command.leg, *self.counters.get(command.leg, (0, 0)))]
            case (
                events.Trace()
                | events.Log()
                | events.Exit()
                | events.Registered()
                | events.ConnectControl()
                | events.DisconnectControl()
            ):
                self.others.append(command)
            case _:
                self.orders.append(command)
        return []

    def request(self, *actions: Action) -> TransactionReply | None:
        """Send a transaction; its reply, or None while there is none."""
        self._tid += 1
        self.post(events.FromController(Message("mgc", (TransactionRequest(self._tid, actions),))))
        return self.reply(self._tid)

    def reply(self, tid: int | None = None) -> TransactionReply | None:
        for message in reversed(self.sent):
            for transaction in message.transactions:
                if isinstance(transaction, TransactionReply) and transaction.id == (tid or self._tid):
                    return transaction
        return None

    # --- out ---

    def requests(self) -> list[TransactionRequest]:
        return [t for m in self.sent for t in m.transactions if isinstance(t, TransactionRequest)]

    def notified(self) -> list[tuple[str, iq.MediaFailure]]:
        commands = [c for t in self.requests() for a in t.actions for c in a.commands if c.name == "Notify"]
        return [(command.termination, failure) for command in commands for failure in iq.read_notify(command)]

    def take(self, kind: type[Any]) -> list[Any]:
        """The orders of a kind so far; they are forgotten."""
        found = [order for order in self.orders if isinstance(order, kind)]
        self.orders = [order for order in self.orders if not isinstance(order, kind)]
        return found

    def traces(self, kind: str) -> list[dict[str, object]]:
        return [c.fields for c in self.others if isinstance(c, events.Trace) and c.kind == kind]

    # --- the flow's commands ---

    def add(self, first: iq.StreamRequest, second: iq.StreamRequest) -> "Call":
        reply = self.request(iq.add_pair(first, second))
        assert reply is not None
        assert reply.error is None
        action = reply.actions[0]
        results = [iq.read_add_reply(command) for command in action.commands]
        legs = [self.engine.store.names[result.termination] for result in results]
        access, core = (0, 1) if first.tls else (1, 0)
        return Call(self, action.context, results[access], results[core], legs[access].id, legs[core].id)

    def originating(self, **access: Any) -> "Call":
        """Steps 2 to 7: core first, access with the UE's address and fingerprint."""
        return self.add(core_request(), access_request(remote=iq.RemoteSpec("192.0.2.77", 7000, UE), **access))

    def terminating(self, **access: Any) -> "Call":
        """Steps 2 to 7: access first, core with the offerer's address."""
        return self.add(access_request(**access), core_request(remote=iq.RemoteSpec("198.51.100.9", 9000)))


class Call:
    """One context with its two legs."""

    def __init__(
        self, play: Play, context: int, access: iq.AddResult, core: iq.AddResult, access_leg: int, core_leg: int
    ) -> None:
        self.play = play
        self.context = context
        self.access = access
        self.core = core
        self.access_leg = access_leg
        self.core_leg = core_leg

    def modify(self, result: iq.AddResult, **change: Any) -> H248Command:
        proto = "TCP/TLS/MSRP" if result is self.access else "TCP/MSRP"
        command = iq.to_modify(result.termination, iq.StreamChange(proto, **change))
        reply = self.play.request(Action(self.context, (command,)))
        assert reply is not None
        return reply.actions[0].commands[0]

    def subtract(self) -> TransactionReply:
        reply = self.play.request(Action(self.context, (iq.to_subtract(),)))
        assert reply is not None
        return reply


def core_request(**more: Any) -> iq.StreamRequest:
    return iq.StreamRequest("core", "TCP/MSRP", **more)


def access_request(**more: Any) -> iq.StreamRequest:
    return iq.StreamRequest("access", "TCP/TLS/MSRP", fingerprint_hash="sha-256", **more)


def everywhere(command: H248Command) -> Action:
    return Action(ALL_CONTEXTS, (command,))


def new_context(*commands: H248Command) -> Action:
    return Action(CHOOSE_CONTEXT, commands)
