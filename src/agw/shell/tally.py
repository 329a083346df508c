"""Counts what happens at a worker, from the reports of its sockets and the messages of its control link."""

from collections import Counter

from agw.core import events, orders
from agw.core.model import Store
from agw.core.orders import Report
from agw.core.snapshot import LegFacts
from agw.shell.executor import Executor
from imswire.h248.model import Message, TransactionPending, TransactionReply, TransactionRequest

KINDS: dict[type, str] = {TransactionRequest: "request", TransactionReply: "reply", TransactionPending: "pending"}


class Tally:
    """Counters since the start. Commands are counted before the executor sees them, reports before the engine does."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        self._realms: dict[int, str] = {}
        self._unverified: set[int] = set()
        self._held: dict[int, int] = {}
        self.connections: Counter[tuple[str, ...]] = Counter()
        """TCP connections of media by realm and outcome."""
        self.handshakes: Counter[tuple[str, ...]] = Counter()
        """TLS handshakes by version ("none" where there was none yet) and outcome."""
        self.verifications: Counter[str] = Counter()
        """Checks of a peer's certificate by outcome."""
        self.relays: Counter[str] = Counter()
        """Relays that are over, by outcome."""
        self.syn_held: Counter[str] = Counter()
        """SYNs that were left unanswered, by realm."""
        self.msrp: Counter[tuple[str, ...]] = Counter()
        """MSRP messages of released terminations, by realm and outcome (rewritten, refused)."""
        self.bytes: Counter[tuple[str, ...]] = Counter()
        """Application octets of released terminations, by realm and direction."""
        self.transactions: Counter[tuple[str, ...]] = Counter()
        """H.248 transactions by direction and kind."""
        self.control: Counter[str] = Counter({"up": 0, "down": 0, "unreadable": 0})
        """The control link: came up, ended or could not be made, brought an unreadable message."""

    def report(self, report: Report) -> None:
        """One report of the executor."""
        match report:
            case orders.Accepted():
                self._connection(report.leg, "accepted")
            case orders.Connected():
                self._connection(report.leg, "dialled")
            case orders.Silent():
                self._connection(report.leg, "refused")
            case orders.DialFailed():
                self._connection(report.leg, "dial-failed")
            case orders.HandshakeDone():
                self.handshakes[report.version, "complete"] += 1
                self._unverified.add(report.leg)
            case orders.TlsOpen():
                if report.leg not in self._unverified:
                    self.handshakes[report.version, "complete"] += 1
                self._unverified.discard(report.leg)
                self.verifications["verified"] += 1
            case orders.VerifyFailed():
                if report.leg not in self._unverified:
                    self.handshakes["none", "refused"] += 1
                self._unverified.discard(report.leg)
                self.verifications[report.what] += 1
            case orders.TlsFailed():
                if report.leg in self._unverified:
                    self.verifications["timeout"] += 1
                else:
                    self.handshakes["none", "failed"] += 1
                self._unverified.discard(report.leg)
            case orders.SynHeld():
                new = report.count - self._held.get(report.leg, 0)
                self._held[report.leg] = report.count
                self.syn_held[self._realm(report.leg)] += max(0, new)
            case orders.RelayEnded():
                self.relays["orderly" if report.orderly else "failed"] += 1
            case orders.Released():
                realm = self._realm(report.leg)
                self.bytes[realm, "received"] += report.received
                self.bytes[realm, "sent"] += report.sent
                self.msrp[realm, "rewritten"] += report.rewritten
                self.msrp[realm, "refused"] += report.refused
                self._realms.pop(report.leg, None)
                self._unverified.discard(report.leg)
                self._held.pop(report.leg, None)

    def event(self, event: events.Event) -> None:
        """One event of the control link."""
        match event:
            case events.FromController():
                self._h248("in", event.message)
            case events.ControlUp():
                self.control["up"] += 1
            case events.ControlDown():
                self.control["down"] += 1
            case events.BadFromController():
                self.control["unreadable"] += 1

    def command(self, command: events.Command) -> None:
        """One command of the engine."""
        if type(command) is events.SendH248:
            self._h248("out", command.message)
        elif type(command) is orders.Drop:
            self._connection(command.leg, "refused")
        elif isinstance(command, (orders.Listen, orders.Dial)) and (leg := self._store.legs.get(command.leg)):
            self._realms[command.leg] = leg.place.realm

    def octets(self) -> Counter[tuple[str, ...]]:
        """Application octets by realm and direction, those of living terminations included."""
        total = self.bytes.copy()
        for leg, realm in self._realms.items():
            end = self._executor.end_of(leg)
            if end is not None:
                total[realm, "received"] += end.received
                total[realm, "sent"] += end.sent
        return total

    def messages(self) -> Counter[tuple[str, ...]]:
        """MSRP messages by realm and outcome, those of living terminations included."""
        total = self.msrp.copy()
        for leg, realm in self._realms.items():
            end = self._executor.end_of(leg)
            if end is not None:
                rewritten, refused = end.messages
                total[realm, "rewritten"] += rewritten
                total[realm, "refused"] += refused
        return total

    def facts(self, leg: int) -> LegFacts:
        """What the sockets of a leg tell beside the engine."""
        end = self._executor.end_of(leg)
        received, sent = (end.received, end.sent) if end is not None else (0, 0)
        rewritten, refused = end.messages if end is not None else (0, 0)
        return LegFacts(
            rewritten=rewritten,
            refused=refused,
            received=received,
            sent=sent,
            syn_held=self._held.get(leg, 0),
        )

    def _realm(self, leg: int) -> str:
        return self._realms.get(leg, "none")

    def _connection(self, leg: int, outcome: str) -> None:
        self.connections[self._realm(leg), outcome] += 1

    def _h248(self, direction: str, message: Message) -> None:
        for transaction in message.transactions:
            self.transactions[direction, KINDS.get(type(transaction), "ack")] += 1
