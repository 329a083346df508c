"""Counts what crosses the doors of the IMS-ALG: SIP and H.248 messages, by labels with few values."""

from collections import Counter

from imsalg.core.events import BadMessageIn, Command, Event, Received
from imsalg.core.media_events import BadFromGateway, FromGateway, ToGateway
from imswire.h248.model import Message, TransactionPending, TransactionReply, TransactionRequest
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.transaction import Send

METHODS = frozenset(
    {"INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK", "UPDATE", "INFO"}
    | {"SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"}
)
"""Methods with a name of their own; whatever else somebody invents is ``other``."""

KINDS: dict[type, str] = {TransactionRequest: "request", TransactionReply: "reply", TransactionPending: "pending"}


class Tally:
    """Counters since the start. Repetitions of messages count: they crossed the wire."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, ...]] = Counter()
        """SIP requests by direction, realm and method."""
        self.responses: Counter[tuple[str, ...]] = Counter()
        """SIP responses by direction, realm, method and status class (``2xx``)."""
        self.bad: Counter[str] = Counter({"sip": 0, "h248": 0})
        """Unreadable messages by protocol."""
        self.transactions: Counter[tuple[str, ...]] = Counter()
        """H.248 transactions by direction and kind."""
        self.errors: Counter[tuple[str, ...]] = Counter()
        """H.248 error descriptors received, by class (``5xx``)."""

    def event(self, event: Event) -> None:
        """Something came in."""
        if type(event) is Received:
            self._sip("in", event.message, event.flow)
        elif type(event) is FromGateway:
            self._h248("in", event.message)
        elif type(event) is BadMessageIn:
            self.bad["sip"] += 1
        elif type(event) is BadFromGateway:
            self.bad["h248"] += 1

    def command(self, command: Command) -> None:
        """Something goes out."""
        if type(command) is Send:
            self._sip("out", command.message, command.flow)
        elif type(command) is ToGateway:
            self._h248("out", command.message)

    def _sip(self, direction: str, message: Request | Response, flow: Flow) -> None:
        if type(message) is Request:
            method = message.method
            self.requests[direction, flow.realm, method if method in METHODS else "other"] += 1
            return
        method = (message.headers.get("cseq") or "").rpartition(" ")[2]
        status = f"{message.status // 100}xx" if isinstance(message, Response) else ""
        self.responses[direction, flow.realm, method if method in METHODS else "other", status] += 1

    def _h248(self, direction: str, message: Message) -> None:
        for transaction in message.transactions:
            self.transactions[direction, KINDS.get(type(transaction), "ack")] += 1
            if type(transaction) is not TransactionReply or direction == "out":
                continue
            faults = [transaction.error]
            for action in transaction.actions:
                faults += [action.error, *(command.error for command in action.commands)]
            for fault in faults:
                if fault is not None:
                    self.errors[f"{fault.code // 100}xx",] += 1
