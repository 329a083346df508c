"""The transaction layer: one role-blind interpreter of the four tables, with one place for all timers.

Theory of operation. Every live transaction is a small record: a table, a state, the message last sent and the timers
that are armed. ``_step`` looks up (state, input), takes the row's actions in order, then stops and starts timers; a
timer of length zero (reliable transports) is taken at once. All timers are in :class:`TimerQueues`.

Nothing here reads a clock or sends: callers give ``now`` (seconds, monotonic) and carry out :class:`Send`.
"""

from collections.abc import Container, Iterable
from functools import lru_cache

from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Message, Request, Response
from imswire.sip.tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Event,
    Input,
    State,
    Timer,
)
from imswire.sip.timer_queues import TimerQueues
from imswire.sip.transaction_rules import (
    COOKIE,
    Transaction,
    class_of,
    fill_via,
    hop_request,
    peer,
    response_flow,
    same_host,
    server_key,
    timer_wait,
)
from imswire.sip.transaction_types import (
    AckArrived,
    CancelArrived,
    ClientFailed,
    ClientKey,
    ClientTimeout,
    IdSource,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerKey,
    ServerTimeout,
    Stats,
    StrayResponse,
    Timers,
    TransactionLimits,
)
from imswire.sip.uri import Params
from imswire.sip.values import CSeq, Via

__all__ = [
    "COOKIE",
    "AckArrived",
    "CancelArrived",
    "ClientFailed",
    "ClientKey",
    "ClientTimeout",
    "IdSource",
    "Output",
    "RequestArrived",
    "ResponseArrived",
    "Send",
    "ServerKey",
    "ServerTimeout",
    "Stats",
    "StrayResponse",
    "Timers",
    "TransactionLayer",
    "TransactionLimits",
    "fill_via",
]


class TransactionLayer:
    """All transactions of one element (a proxy, a UE, a registrar), both roles.

    Every method that takes ``now`` returns the outputs in order. Raises LimitExceeded ``sip.transactions`` when a new
    transaction would exceed the limit (answer such a request with a stateless 503); ProtocolError from a message whose
    top Via, CSeq or tags cannot be read (:func:`imswire.sip.parser.parse` refuses those before). In the realms of
    ``strict`` a response counts only when it comes from the host that the request went to.
    """

    def __init__(
        self,
        ids: IdSource,
        timers: Timers | None = None,
        limits: TransactionLimits | None = None,
        strict: Container[str] = (),
    ) -> None:
        self._ids = ids
        self._strict = strict
        self._timers = timers or Timers()
        self._limits = limits or TransactionLimits()
        self._clients: dict[ClientKey, Transaction] = {}
        self._servers: dict[ServerKey, Transaction] = {}
        self._by_peer: dict[tuple[str, str, tuple[str, int]], set[Transaction]] = {}
        self._queues = TimerQueues()

    # --- from the network ---

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
        """Take one parsed message. ``received`` and ``rport`` are filled into a request's top Via (RFC 3581 4)."""
        if isinstance(message, Response):
            return self._receive_response(message, flow, now)
        return self._receive_request(message, flow, now)

    def transport_failed(self, flow: Flow, now: float) -> list[Output]:
        """The connection of ``flow`` is gone or could not be opened: all transactions that rely on it fail."""
        out: list[Output] = []
        for txn in sorted(self._relying_on(flow), key=lambda one: str(one.client_key or one.server_key)):
            self._step(txn, Event.TRANSPORT_ERROR, None, now, out)
        return out

    def unreachable(self, key: ClientKey, flow: Flow, now: float) -> list[Output]:
        """The network reports that a request of this transaction did not get to the remote end of ``flow``."""
        out: list[Output] = []
        txn = self._clients.get(key)
        if txn is not None and txn.flow.remote == flow.remote and txn.flow.local == flow.local:
            self._step(txn, Event.TRANSPORT_ERROR, None, now, out)
        return out

    def send_failed(self, message: Message, flow: Flow, now: float) -> list[Output]:
        """This one message could not be sent (``flow`` as in its :class:`Send`)."""
        out: list[Output] = []
        txn = self._sender_of(message)
        if txn is not None:
            self._step(txn, Event.TRANSPORT_ERROR, None, now, out)
        return out

    def serves(self, branch: str, sent_by: str, method: str) -> bool:
        """True while a request of that top Via and method is being served (or its last response repeated)."""
        return ServerKey(branch, sent_by, method) in self._servers

    @property
    def crowded(self) -> bool:
        """True when fifteen sixteenths of the transactions that there may be live."""
        return (len(self._clients) + len(self._servers)) * 16 >= self._limits.transactions * 15

    # --- from the transaction user ---

    def respond(self, key: ServerKey, response: Response, now: float) -> list[Output]:
        """Send a response through its server transaction; nothing happens when that is over.

        The response is kept for retransmission: do not change it afterwards. A 2xx given again in Accepted is sent
        again (RFC 6026 7.1).
        """
        out: list[Output] = []
        txn = self._servers.get(key)
        if txn is not None:
            self._step(txn, class_of(response), response, now, out)
        return out

    def respond_once(self, key: ServerKey, response: Response, now: float) -> list[Output]:
        """Send a final response; over an unreliable transport forget the transaction with it (RFC 3261 8.2.7).

        It is not repeated, and a repeated request is a new one: nobody can have a victim showered by forging its
        address once.
        """
        out = self.respond(key, response, now)
        txn = self._servers.get(key)
        if txn is not None and not txn.flow.reliable:
            txn.state = State.TERMINATED
            self._remove(txn)
        return out

    def forget(self, key: ServerKey) -> None:
        """End a server transaction without a final response (RFC 4320 4.2: a non-INVITE request gets no 408)."""
        txn = self._servers.get(key)
        if txn is not None:
            txn.state = State.TERMINATED
            self._remove(txn)

    def request(
        self,
        request: Request,
        flow: Flow,
        now: float,
        *,
        via_host: str,
        via_port: int | None,
        via_params: Params = (),
        timer_c: bool = False,
    ) -> tuple[ClientKey, list[Output]]:
        """Start a client transaction: a copy of ``request`` goes out with a new top Via.

        ``timer_c``: a proxy's INVITE is cancelled by itself when no final response comes within timer C of the last
        provisional response above 100 (RFC 3261 16.8). ACK is not sent this way but by :meth:`send_ack`.
        """
        if request.method in ("ACK", "CANCEL"):
            raise ProtocolError("sip.transaction", f"{request.method} does not start a transaction of its own")
        self._check_room()
        branch = self._ids.branch()
        sent = _with_via(request, flow, via_host, via_port, via_params, branch)
        table = INVITE_CLIENT if request.method == "INVITE" else NON_INVITE_CLIENT
        txn = Transaction(table, sent, flow)
        txn.timer_c = timer_c
        out: list[Output] = []
        return self._start_client(txn, branch, now, out), out

    def send_ack(
        self,
        request: Request,
        flow: Flow,
        now: float,
        *,
        via_host: str,
        via_port: int | None,
        via_params: Params = (),
    ) -> list[Output]:
        """Send an ACK for a 2xx with a new top Via; no transaction is made (RFC 3261 13.2.2.4, 16.11)."""
        return [Send(_with_via(request, flow, via_host, via_port, via_params, self._ids.branch()), flow)]

    def cancel(self, key: ClientKey, now: float, headers: Iterable[tuple[str, str]] = ()) -> list[Output]:
        """Cancel an INVITE: at once after a provisional response, else when the first one comes (RFC 3261 9.1).

        ``headers`` (Reason ...) go into the CANCEL. The responses to the CANCEL are absorbed. No effect after a final
        response, on other methods and on unknown keys.
        """
        out: list[Output] = []
        txn = self._clients.get(key)
        if txn is not None and txn.table is INVITE_CLIENT:
            txn.cancel_headers = txn.cancel_headers or tuple(headers)
            self._step(txn, Event.CANCEL, None, now, out)
        return out

    # --- time ---

    def next_timer(self) -> float | None:
        """The absolute time of the earliest armed timer, or None."""
        return self._queues.first()

    def expire(self, now: float) -> list[Output]:
        """Run every timer that is due at ``now``."""
        out: list[Output] = []
        for timer, txn in self._queues.due(now):
            self._step(txn, timer, None, now, out)
        return out

    # --- looking in ---

    @property
    def stats(self) -> Stats:
        """How many transactions live."""
        return Stats(len(self._clients), len(self._servers), len(self._queues))

    def state(self, key: ClientKey | ServerKey) -> State:
        """The state of a transaction; TERMINATED when there is none."""
        txn = self._clients.get(key) if isinstance(key, ClientKey) else self._servers.get(key)
        return State.TERMINATED if txn is None else txn.state

    # --- receiving ---

    def _receive_response(self, response: Response, flow: Flow, now: float) -> list[Output]:
        headers = response.headers
        via, cseq = headers.first_value("via"), headers.get("cseq")
        if via is None or cseq is None:
            raise ProtocolError("sip.missing", "Via and CSeq tell what a response answers")
        txn = self._clients.get(ClientKey(Via.parse(via).branch or "", CSeq.parse(cseq).method))
        # A response from another realm than the request went to is none of ours, whatever its branch says; nor is one
        # from another host where hosts are known by the address that they were asked at.
        if (
            txn is None
            or txn.flow.realm != flow.realm
            or (flow.realm in self._strict and txn.flow.remote[0] != flow.remote[0])
        ):
            return [StrayResponse(response, flow)]
        out: list[Output] = []
        self._step(txn, class_of(response), response, now, out, flow)
        return out

    def _receive_request(self, request: Request, flow: Flow, now: float) -> list[Output]:
        via = request.via
        key = server_key(request, via)
        filled = fill_via(via, flow)
        if filled is not via:
            request.headers.replace_first_value("Via", str(filled))
        out: list[Output] = []
        txn = self._servers.get(key)
        if request.method == "ACK":
            if txn is None:
                return [AckArrived(request, flow)]
            self._step(txn, Event.ACK, request, now, out, flow)
        elif txn is not None:
            self._step(txn, Event.REQUEST, request, now, out, flow)
        else:
            self._check_room()
            table = INVITE_SERVER if request.method == "INVITE" else NON_INVITE_SERVER
            txn = Transaction(table, request, response_flow(filled, flow))
            txn.server_key = key
            self._servers[key] = txn
            self._index(txn)
            self._begin(txn, request, now, out, flow)
            if request.method == "CANCEL":
                self._answer_cancel(txn, key, now, out)
        return out

    def _answer_cancel(self, txn: Transaction, key: ServerKey, now: float, out: list[Output]) -> None:
        invite = self._servers.get(ServerKey(key.branch, key.sent_by, "INVITE"))
        if invite is not None and not same_host(invite.flow, txn.flow):
            # Only who sent the INVITE may cancel it: its branch is no secret of its sender's alone (RFC 3261 26.1.4).
            # Nothing of this one is kept, or it would stand in the way of a true CANCEL.
            out.append(Send(txn.request.reply(481), txn.flow))
            self._remove(txn)
            return
        if invite is None or invite.server_key is None:
            self._step(txn, Event.FAILURE, txn.request.reply(481, to_tag=self._ids.tag()), now, out)
            out.append(CancelArrived(key, None, txn.request))
            return
        # The tag of the responses to the INVITE should be that of the response to the CANCEL (RFC 3261 9.2).
        tag = invite.kept.to_tag if invite.kept is not None else None
        self._step(txn, Event.SUCCESS, txn.request.reply(200, to_tag=tag or self._ids.tag()), now, out)
        if invite.state is State.PROCEEDING:
            out.append(CancelArrived(key, invite.server_key, txn.request))

    # --- the interpreter ---

    def _step(
        self,
        txn: Transaction,
        event: Input,
        message: Message | None,
        now: float,
        out: list[Output],
        flow: Flow | None = None,
    ) -> None:
        row = txn.table.rows[txn.state, event]
        txn.state = row.next
        for action in row.actions:
            self._perform(txn, action, message, now, out, flow or txn.flow)
        if row.stop:
            armed = txn.armed
            before = len(armed)
            for timer in row.stop:
                armed.pop(timer, None)
            if len(armed) != before:
                self._queues.stopped(before - len(armed))
        for timer in row.start:
            self._arm(txn, timer, message, now, out)
        if row.next is State.TERMINATED:
            self._remove(txn)

    def _perform(
        self, txn: Transaction, action: Action, message: Message | None, now: float, out: list[Output], flow: Flow
    ) -> None:
        if action is Action.SEND:
            if message is not None:
                txn.kept = message
                out.append(Send(message, txn.flow))
        elif action is Action.PASS:
            self._pass(txn, message, out, flow)
        else:
            self._seldom(txn, action, message, now, out)

    def _seldom(self, txn: Transaction, action: Action, message: Message | None, now: float, out: list[Output]) -> None:
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
            case Action.RELEASE_CANCEL if txn.cancel_due:
                self._send_cancel(txn, now, out)
            case Action.CANCEL:
                self._send_cancel(txn, now, out)
            case Action.TIMEOUT | Action.FAIL:
                self._tell_end(txn, action is Action.FAIL, out)

    def _pass(self, txn: Transaction, message: Message | None, out: list[Output], flow: Flow) -> None:
        if isinstance(message, Response):
            if txn.client_key is not None and not txn.silent:
                out.append(ResponseArrived(txn.client_key, message, flow))
        elif message is not None:
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
        canceller = Transaction(NON_INVITE_CLIENT, cancel, txn.flow)
        canceller.silent = True
        self._start_client(canceller, cancel.via.branch or "", now, out)
        self._arm(txn, Timer.X, None, now, out)

    def _begin(self, txn: Transaction, message: Request, now: float, out: list[Output], flow: Flow) -> None:
        """Take the table's first row."""
        first = txn.table.first
        for action in first.actions:
            self._perform(txn, action, message, now, out, flow)
        for timer in first.start:
            self._arm(txn, timer, None, now, out)

    def _start_client(self, txn: Transaction, branch: str, now: float, out: list[Output]) -> ClientKey:
        key = ClientKey(branch, txn.request.method)
        txn.client_key = key
        self._clients[key] = txn
        self._index(txn)
        self._begin(txn, txn.request, now, out, txn.flow)
        return key

    # --- timers ---

    def _arm(self, txn: Transaction, timer: Timer, message: Message | None, now: float, out: list[Output]) -> None:
        wait = timer_wait(self._timers, txn, timer, message)
        if wait is None:
            return
        if wait <= 0:
            self._step(txn, timer, None, now, out)
            return
        self._queues.arm(txn, timer, now, wait)

    # --- bookkeeping ---

    def _check_room(self) -> None:
        if len(self._clients) + len(self._servers) >= self._limits.transactions:
            raise LimitExceeded("sip.transactions", f"{self._limits.transactions} transactions live")

    def _remove(self, txn: Transaction) -> None:
        if txn.armed:
            count = len(txn.armed)
            txn.armed.clear()
            self._queues.stopped(count)
        if txn.client_key is not None and self._clients.get(txn.client_key) is txn:
            del self._clients[txn.client_key]
        if txn.server_key is not None and self._servers.get(txn.server_key) is txn:
            del self._servers[txn.server_key]
        if txn.flow.reliable:
            way = peer(txn.flow)
            same = self._by_peer.get(way)
            if same is not None:
                same.discard(txn)
                if not same:
                    del self._by_peer[way]

    def _index(self, txn: Transaction) -> None:
        if txn.flow.reliable:
            self._by_peer.setdefault(peer(txn.flow), set()).add(txn)

    def _relying_on(self, flow: Flow) -> list[Transaction]:
        """Transactions on that connection, and those that asked for any connection to the same peer."""
        if flow.reliable:
            candidates: Iterable[Transaction] = self._by_peer.get(peer(flow), ())
            return [txn for txn in candidates if txn.flow.connection in (0, flow.connection)]
        everything = [*self._clients.values(), *self._servers.values()]
        return [txn for txn in everything if txn.flow == flow]

    def _sender_of(self, message: Message) -> Transaction | None:
        if isinstance(message, Response):
            return self._servers.get(
                ServerKey(message.via.branch or "", message.via.sent_by.lower(), message.cseq.method)
            )
        if message.method == "ACK":
            txn = self._clients.get(ClientKey(message.via.branch or "", "INVITE"))
            return txn if txn is not None and txn.ack is not None else None
        return self._clients.get(ClientKey(message.via.branch or "", message.method))


def _with_via(request: Request, flow: Flow, host: str, port: int | None, params: Params, branch: str) -> Request:
    """A copy of ``request`` with our Via on top."""
    sent = request.copy()
    sent.headers.prepend("Via", _via_text(flow.transport, host, port, params) + branch)
    return sent


@lru_cache(maxsize=256)
def _via_text(transport: str, host: str, port: int | None, params: Params) -> str:
    """Our Via up to the branch: the same for all requests that leave by one listener."""
    return f"{Via(transport.upper(), host, port, params)};branch="
