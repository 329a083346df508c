"""Counts what crosses the doors of the IMS-ALG: SIP and H.248 messages, by labels with few values.

A message costs one or two looks into dictionaries of words. The labels are put together when the metrics are read.
"""

from collections import Counter

from imswire.h248.model import Message, TransactionPending, TransactionReply, TransactionRequest
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response

METHODS = frozenset(
    {"INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK", "UPDATE", "INFO"}
    | {"SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"}
)
"""Methods with a name of their own; whatever else somebody invents is ``other``."""

KINDS: dict[type, str] = {TransactionRequest: "request", TransactionReply: "reply", TransactionPending: "pending"}

type _Rows = dict[tuple[str, ...], int]

_CSEQS = 1024
"""CSeq values whose method is remembered; they start at 1 or so in every dialog."""
_CSEQ_LENGTH = 64


class SipTally:
    """SIP messages of one direction since the start. Repetitions count: they crossed the wire."""

    def __init__(self, direction: str) -> None:
        self._direction = direction
        self._requests: dict[str, dict[str, int]] = {}
        """By realm and method."""
        self._responses: dict[str, dict[str, dict[int, int]]] = {}
        """By realm, method and status."""
        self._methods: dict[str, str] = {}
        """Of responses, by their CSeq."""

    def count(self, message: Request | Response, flow: Flow) -> None:
        """One message crossed the door."""
        if type(message) is Request:
            methods = self._requests.get(flow.realm) or self._new_requests(flow.realm)
            method = message.method
            methods[method if method in methods else "other"] += 1
        elif type(message) is Response:
            try:
                cseq = message.headers.first("cseq")
            except ValueError:  # an answer to a request that had none
                cseq = ""
            method = self._methods.get(cseq) or self._method_of(cseq)
            by_method = self._responses.get(flow.realm) or self._new_responses(flow.realm)
            statuses = by_method[method]
            status = message.status
            statuses[status] = statuses.get(status, 0) + 1

    def _new_requests(self, realm: str) -> dict[str, int]:
        made = self._requests[realm] = dict.fromkeys((*METHODS, "other"), 0)
        return made

    def _new_responses(self, realm: str) -> dict[str, dict[int, int]]:
        made: dict[str, dict[int, int]] = {method: {} for method in (*METHODS, "other")}
        self._responses[realm] = made
        return made

    def _method_of(self, cseq: str) -> str:
        method = cseq.rpartition(" ")[2]
        if method not in METHODS:
            method = "other"
        if len(self._methods) >= _CSEQS:
            self._methods.clear()
        if len(cseq) <= _CSEQ_LENGTH:
            self._methods[cseq] = method
        return method

    def requests(self) -> _Rows:
        """By direction, realm and method."""
        return {
            (self._direction, realm, method): number
            for realm, methods in self._requests.items()
            for method, number in methods.items()
            if number
        }

    def responses(self) -> _Rows:
        """By direction, realm, method and status class (``2xx``)."""
        rows: Counter[tuple[str, ...]] = Counter()
        for realm, methods in self._responses.items():
            for method, statuses in methods.items():
                for status, number in statuses.items():
                    rows[self._direction, realm, method, f"{status // 100}xx"] += number
        return rows


class H248Tally:
    """H.248 messages since the start, both directions."""

    def __init__(self) -> None:
        self._in: dict[type, int] = {}
        self._out: dict[type, int] = {}
        self.errors: Counter[tuple[str, ...]] = Counter()
        """Error descriptors received, by class (``5xx``)."""

    def came(self, message: Message) -> None:
        """One message from a gateway."""
        counts = self._in
        for transaction in message.transactions:
            kind = type(transaction)
            counts[kind] = counts.get(kind, 0) + 1
            if type(transaction) is TransactionReply:
                self._count_errors(transaction)

    def went(self, message: Message) -> None:
        """One message to a gateway."""
        counts = self._out
        for transaction in message.transactions:
            kind = type(transaction)
            counts[kind] = counts.get(kind, 0) + 1

    def _count_errors(self, reply: TransactionReply) -> None:
        if reply.error is not None:
            self._error(reply.error.code)
        for action in reply.actions:
            if action.error is not None:
                self._error(action.error.code)
            for command in action.commands:
                if command.error is not None:
                    self._error(command.error.code)

    def _error(self, code: int) -> None:
        self.errors[f"{code // 100}xx",] += 1

    def transactions(self) -> _Rows:
        """Transactions by direction and kind."""
        rows: Counter[tuple[str, ...]] = Counter()
        for direction, counts in (("in", self._in), ("out", self._out)):
            for kind, number in counts.items():
                rows[direction, KINDS.get(kind, "ack")] += number
        return rows
