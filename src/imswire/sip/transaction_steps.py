"""The interpreter of the four tables, blind to roles: what one input does to one transaction.

``_step`` finds the move for the input in the transaction's place, does what it says in order, and then stops and starts
timers; a timer of length zero (reliable transports) is taken at once.
"""

from imswire.base import LimitExceeded
from imswire.sip.flow import Flow
from imswire.sip.message import Message, Request, Response
from imswire.sip.tables import Action, Event, Input, Timer
from imswire.sip.timer_queues import TimerQueues
from imswire.sip.transaction_living import Living
from imswire.sip.transaction_moves import BOUNDS, entries
from imswire.sip.transaction_rules import Transaction, branch_of, hop_request, timer_wait
from imswire.sip.transaction_types import (
    AckArrived,
    ClientFailed,
    ClientKey,
    ClientTimeout,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerTimeout,
    Timers,
)

RELEASE_CANCEL = Action.RELEASE_CANCEL
"""By a name of its own: every first provisional response asks for it, and nearly never is a CANCEL due."""


class Interpreter:
    """The transactions that live, and what becomes of them.

    :class:`imswire.sip.transaction.TransactionLayer` has the doors.
    """

    def __init__(self, timers: Timers, most: int) -> None:
        self._timers = timers
        self._most = most
        self._entries, self._entries_reliable = entries(timers, reliable=False), entries(timers, reliable=True)
        self._living = Living()
        self._clients = self._living.clients
        self._servers = self._living.servers
        self._queues = TimerQueues()

    def _step(
        self,
        txn: Transaction,
        event: Input,
        message: Message | None,
        now: float,
        out: list[Output],
        flow: Flow | None = None,
    ) -> None:
        move = txn.place.moves[event]
        txn.place = move.place
        if move.sends:
            if message is not None:
                txn.kept = message
                out.append(Send(message, txn.flow))
        elif move.gives:
            self._give(txn, message, out, flow or txn.flow)
        for action in move.rest:
            if action is not RELEASE_CANCEL or txn.cancel_due:
                self._perform(txn, action, message, now, out, flow or txn.flow)
        timing = move.timing
        if timing is not None:
            self._queues.turn(txn, timing.stop, timing.start, now)
            if timing.asked:
                self._ask(txn, timing.asked, message, now)
            if timing.at_once:
                for timer in timing.at_once:
                    self._step(txn, timer, None, now, out)
        if move.ends:
            self._remove(txn)

    def _ask(self, txn: Transaction, timers: tuple[Timer, ...], message: Message | None, now: float) -> None:
        """Start the timers whose length is a matter of what went before."""
        for timer in timers:
            wait = timer_wait(self._timers, txn, timer, message)
            if wait is not None:
                self._queues.turn(txn, (), ((timer, wait, timer in BOUNDS),), now)

    def _perform(
        self, txn: Transaction, action: Action, message: Message | None, now: float, out: list[Output], flow: Flow
    ) -> None:
        """The actions that are seldom taken, or come after others."""
        match action:
            case Action.REPEAT if txn.kept is not None:
                out.append(Send(txn.kept, txn.flow))
            case Action.ACK:
                if txn.ack is None and isinstance(message, Response):
                    txn.ack = hop_request(txn.request, "ACK", message)
                if txn.ack is not None:
                    out.append(Send(txn.ack, txn.flow))
            case Action.HOLD_CANCEL:
                txn.cancel_due = True
            case Action.CANCEL | Action.RELEASE_CANCEL:
                self._send_cancel(txn, now, out)
            case Action.TIMEOUT | Action.FAIL:
                self._tell_end(txn, action is Action.FAIL, out)
            case Action.PASS:
                self._give(txn, message, out, flow)

    def _give(self, txn: Transaction, message: Message | None, out: list[Output], flow: Flow) -> None:
        """Give a message to the TU; nobody waits for the responses to a CANCEL."""
        if type(message) is Response:
            if txn.client_key is not None and not txn.silent:
                out.append(ResponseArrived(txn.client_key, message, flow))
        elif type(message) is Request:
            if message.method == "ACK":
                out.append(AckArrived(message, flow))
            elif txn.server_key is not None and message.method != "CANCEL":
                out.append(RequestArrived(txn.server_key, message, flow))

    def _tell_end(self, txn: Transaction, transport: bool, out: list[Output]) -> None:
        if txn.server_key is not None:
            out.append(ServerTimeout(txn.server_key, transport))
        elif txn.client_key is not None and not txn.silent:
            out.append(ClientFailed(txn.client_key) if transport else ClientTimeout(txn.client_key))

    def _send_cancel(self, txn: Transaction, now: float, out: list[Output]) -> None:
        if txn.cancelled:
            return
        txn.cancelled = True
        cancel = hop_request(txn.request, "CANCEL")
        for name, value in txn.cancel_headers:
            cancel.headers.add(name, value)
        key = ClientKey(branch_of(cancel.via), "CANCEL")
        ways = self._entries_reliable if txn.reliable else self._entries
        canceller = Transaction(ways.other_client, cancel, txn.flow, txn.reliable, key, silent=True)
        self._living.add_client(key, canceller)
        self._step(canceller, Event.REQUEST, cancel, now, out)
        self._queues.turn(txn, (), ((Timer.X, 64 * self._timers.t1, True),), now)

    def _full(self) -> LimitExceeded:
        return LimitExceeded("sip.transactions", f"{self._most} transactions live")

    def _remove(self, txn: Transaction) -> None:
        self._living.remove(txn)
        self._queues.over(txn)
