"""Counts what happens at a worker, from the reports of its sockets and the messages of its control link."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agw.core import events, orders
from agw.core.model import Store
from agw.core.orders import Report
from agw.core.snapshot import LegFacts
from agw.shell.executor import Executor
from agw.shell.relay import End
from imswire.h248.model import Message, TransactionAck, TransactionPending, TransactionReply, TransactionRequest

KINDS: dict[type, str] = {
    TransactionRequest: "request",
    TransactionReply: "reply",
    TransactionPending: "pending",
    TransactionAck: "ack",
}


class Tally:
    """Counters since the start. Reports are counted before the engine sees them: ``store`` still has their legs."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
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
        self._in: dict[type, int] = dict.fromkeys(KINDS, 0)
        self._out: dict[type, int] = dict.fromkeys(KINDS, 0)
        self.control: Counter[str] = Counter({"up": 0, "down": 0, "unreadable": 0})
        """The control link: came up, ended or could not be made, brought an unreadable message."""

        self.rows: Mapping[type, Callable[[Any], None]] = {
            orders.Accepted: lambda report: self._connection(report.leg, "accepted"),
            orders.Connected: lambda report: self._connection(report.leg, "dialled"),
            orders.Silent: lambda report: self._connection(report.leg, "refused"),
            orders.DialFailed: lambda report: self._connection(report.leg, "dial-failed"),
            orders.HandshakeDone: self._on_handshake,
            orders.TlsOpen: self._on_open,
            orders.VerifyFailed: self._on_verify_failed,
            orders.TlsFailed: self._on_tls_failed,
            orders.SynHeld: self._on_syn_held,
            orders.RelayEnded: self._on_relay_ended,
            orders.Released: self._on_released,
        }
        """What is counted of a report of the executor; most reports of a call count for nothing."""

    def report(self, report: Report) -> None:
        """One report of the executor."""
        row = self.rows.get(type(report))
        if row is not None:
            row(report)

    def _on_handshake(self, report: orders.HandshakeDone) -> None:
        self.handshakes[report.version, "complete"] += 1
        self._unverified.add(report.leg)

    def _on_open(self, report: orders.TlsOpen) -> None:
        if report.leg not in self._unverified:
            self.handshakes[report.version, "complete"] += 1
        self._unverified.discard(report.leg)
        self.verifications["verified"] += 1

    def _on_verify_failed(self, report: orders.VerifyFailed) -> None:
        if report.leg not in self._unverified:
            self.handshakes["none", "refused"] += 1
        self._unverified.discard(report.leg)
        self.verifications[report.what] += 1

    def _on_tls_failed(self, report: orders.TlsFailed) -> None:
        if report.leg in self._unverified:
            self.verifications["timeout"] += 1
        else:
            self.handshakes["none", "failed"] += 1
        self._unverified.discard(report.leg)

    def _on_syn_held(self, report: orders.SynHeld) -> None:
        new = report.count - self._held.get(report.leg, 0)
        self._held[report.leg] = report.count
        self.syn_held[self._realm(report.leg)] += max(0, new)

    def _on_relay_ended(self, report: orders.RelayEnded) -> None:
        self.relays["orderly" if report.orderly else "failed"] += 1

    def _on_released(self, report: orders.Released) -> None:
        leg = report.leg
        if report.received or report.sent or report.rewritten or report.refused:
            realm = self._realm(leg)
            self.bytes[realm, "received"] += report.received
            self.bytes[realm, "sent"] += report.sent
            self.msrp[realm, "rewritten"] += report.rewritten
            self.msrp[realm, "refused"] += report.refused
        self._unverified.discard(leg)
        self._held.pop(leg, None)

    def event(self, event: events.Event) -> None:
        """One event of the control link."""
        if type(event) is events.FromController:
            for transaction in event.message.transactions:
                self._in[type(transaction)] += 1
        elif type(event) is events.ControlUp:
            self.control["up"] += 1
        elif type(event) is events.ControlDown:
            self.control["down"] += 1
        elif type(event) is events.BadFromController:
            self.control["unreadable"] += 1

    def sent(self, message: Message) -> None:
        """One message to the controller."""
        for transaction in message.transactions:
            self._out[type(transaction)] += 1

    def dropped(self, leg: int) -> None:
        """A connection that came from the wrong place."""
        self._connection(leg, "refused")

    @property
    def transactions(self) -> dict[tuple[str, ...], float]:
        """H.248 transactions by direction and kind."""
        ways = (("in", self._in), ("out", self._out))
        return {(way, KINDS[kind]): count for way, counts in ways for kind, count in counts.items() if count}

    def octets(self) -> Counter[tuple[str, ...]]:
        """Application octets by realm and direction, those of living terminations included."""
        total = self.bytes.copy()
        for realm, end in self._ends():
            total[realm, "received"] += end.received
            total[realm, "sent"] += end.sent
        return total

    def messages(self) -> Counter[tuple[str, ...]]:
        """MSRP messages by realm and outcome, those of living terminations included."""
        total = self.msrp.copy()
        for realm, end in self._ends():
            rewritten, refused = end.messages
            total[realm, "rewritten"] += rewritten
            total[realm, "refused"] += refused
        return total

    def _ends(self) -> Iterator[tuple[str, End]]:
        """Relay ends of living terminations, with their realms."""
        for number, leg in self._store.legs.items():
            end = self._executor.end_of(number)
            if end is not None:
                yield leg.place.realm, end

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

    def _realm(self, number: int) -> str:
        store = self._store
        leg = store.legs.get(number)
        if leg is None and number in store.former:
            leg = store.former[number].leg
        return "none" if leg is None else leg.place.realm

    def _connection(self, leg: int, outcome: str) -> None:
        self.connections[self._realm(leg), outcome] += 1
