"""The transaction layer: the doors to the transactions of one element, from the network, the user and the clock.

Theory of operation. Every live transaction is a small record: its place in a table, the message last sent, the timers
that are armed. The interpreter of the tables (:mod:`imswire.sip.transaction_steps`) takes one input for it. All timers
are in :class:`imswire.sip.timer_queues.TimerQueues`.

Nothing here reads a clock or sends: callers give ``now`` (seconds, monotonic) and carry out :class:`Send`.
"""

from collections.abc import Container, Iterable
from functools import lru_cache

from imswire.base import ProtocolError
from imswire.sip.flow import RELIABLE, Flow
from imswire.sip.message import Message, Request, Response
from imswire.sip.tables import (
    INVITE_CLIENT,
    Event,
    State,
)
from imswire.sip.transaction_rules import (
    COOKIE,
    Transaction,
    arrival,
    branch_of,
    class_of,
    fill_via,
    response_flow,
    same_host,
)
from imswire.sip.transaction_steps import Interpreter
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
from imswire.sip.values import Via, cseq_of, via_of

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

_REQUEST = Event.REQUEST


class TransactionLayer(Interpreter):
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
        super().__init__(timers or Timers(), (limits or TransactionLimits()).transactions)
        self._ids = ids
        self._strict = strict

    # --- from the network ---

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
        """Take one parsed message. ``received`` and ``rport`` are filled into a request's top Via (RFC 3581 4)."""
        if type(message) is Response:
            return self._receive_response(message, flow, now)
        return self._receive_request(message, flow, now)

    def transport_failed(self, flow: Flow, now: float) -> list[Output]:
        """The connection of ``flow`` is gone or could not be opened: all transactions that rely on it fail."""
        out: list[Output] = []
        for txn in self._living.relying_on(flow):
            self._step(txn, Event.TRANSPORT_ERROR, None, now, out)
        return out

    def unreachable(self, key: ClientKey, flow: Flow, now: float) -> list[Output]:
        """The network reports that a request of this transaction did not get to the remote end of ``flow``."""
        out: list[Output] = []
        txn = self._living.client(key.branch, key.method)
        if txn is not None and txn.flow.remote == flow.remote and txn.flow.local == flow.local:
            self._step(txn, Event.TRANSPORT_ERROR, None, now, out)
        return out

    def send_failed(self, message: Message, flow: Flow, now: float) -> list[Output]:
        """This one message could not be sent (``flow`` as in its :class:`Send`)."""
        out: list[Output] = []
        txn = self._living.sender_of(message)
        if txn is not None:
            self._step(txn, Event.TRANSPORT_ERROR, None, now, out)
        return out

    def serves(self, branch: str, sent_by: str, method: str) -> bool:
        """True while a request of that top Via and method is being served (or its last response repeated)."""
        return ServerKey(branch, sent_by, method) in self._servers

    @property
    def crowded(self) -> bool:
        """True when fifteen sixteenths of the transactions that there may be live."""
        return self._living.count * 16 >= self._most * 15

    # --- from the transaction user ---

    def respond(self, key: ServerKey, response: Response, now: float) -> list[Output]:
        """Send a response through its server transaction; nothing happens when that is over.

        The response is kept for retransmission: do not change it afterwards. A 2xx given again in Accepted is sent
        again (RFC 6026 7.1).
        """
        txn = self._servers.get(key)
        if txn is None:
            return []
        event = class_of(response)
        move = txn.place.moves[event]
        if move.usual and move.sends:
            txn.place, txn.kept = move.place, response
            if move.last is not None:
                self._queues.last(txn, move.last, now)
            return [Send(response, txn.flow)]
        out: list[Output] = []
        self._step(txn, event, response, now, out)
        return out

    def respond_once(self, key: ServerKey, response: Response, now: float) -> list[Output]:
        """Send a final response; over an unreliable transport forget the transaction with it (RFC 3261 8.2.7).

        It is not repeated, and a repeated request is a new one: nobody can have a victim showered by forging its
        address once.
        """
        out = self.respond(key, response, now)
        txn = self._servers.get(key)
        if txn is not None and not txn.flow.reliable:
            self._remove(txn)
        return out

    def forget(self, key: ServerKey) -> None:
        """End a server transaction without a final response (RFC 4320 4.2: a non-INVITE request gets no 408)."""
        txn = self._servers.get(key)
        if txn is not None:
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
        if self._living.count >= self._most:
            raise self._full()
        branch = self._ids.branch()
        sent = _with_via(request, flow, via_host, via_port, via_params, branch)
        key = ClientKey(branch, request.method)
        reliable = flow.transport in RELIABLE
        ways = self._entries_reliable if reliable else self._entries
        entry = ways.other_client
        if request.method == "INVITE":
            entry = ways.invite_proxy if timer_c else ways.invite_client
        move = entry.moves[_REQUEST]  # it sends the request, and starts timers of fixed lengths
        txn = Transaction(move.place, sent, flow, reliable, key)
        txn.kept = sent
        self._living.add_client(key, txn)
        if move.timing is not None:
            self._queues.turn(txn, (), move.timing.start, now)
        return key, [Send(sent, flow)]

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
        txn = self._living.client(key.branch, key.method)
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
            if txn.place.moves[timer].over:
                self._remove(txn)
            else:
                self._step(txn, timer, None, now, out)
        return out

    # --- looking in ---

    @property
    def stats(self) -> Stats:
        """How many transactions live."""
        servers = len(self._servers)
        return Stats(self._living.count - servers, servers, len(self._queues))

    def state(self, key: ClientKey | ServerKey) -> State:
        """The state of a transaction; TERMINATED when there is none."""
        if isinstance(key, ClientKey):
            txn = self._living.client(key.branch, key.method)
        else:
            txn = self._servers.get(key)
        return State.TERMINATED if txn is None else txn.state

    # --- receiving ---

    def _receive_response(self, response: Response, flow: Flow, now: float) -> list[Output]:
        headers = response.headers
        via, cseq = headers.get("via"), headers.get("cseq")
        if via is not None and "," in via:
            via = headers.first_value("via")
        if via is None or cseq is None:
            raise ProtocolError("sip.missing", "Via and CSeq tell what a response answers")
        branch, method = branch_of(via_of(via)), cseq_of(cseq).method
        txn = self._clients.get(branch)
        if txn is None or txn.request.method != method:
            txn = self._living.client(branch, method)
        # A response from another realm than the request went to is none of ours, whatever its branch says; nor is one
        # from another host where hosts are known by the address that they were asked at.
        if (
            txn is None
            or txn.flow.realm != flow.realm
            or (flow.realm in self._strict and txn.flow.remote[0] != flow.remote[0])
        ):
            return [StrayResponse(response, flow)]
        event = class_of(response)
        move = txn.place.moves[event]
        if move.usual and txn.client_key is not None and not txn.silent:
            txn.place = move.place
            if move.last is not None:
                self._queues.last(txn, move.last, now)
            return [ResponseArrived(txn.client_key, response, flow)]
        out: list[Output] = []
        self._step(txn, event, response, now, out, flow)
        return out

    def _receive_request(self, request: Request, flow: Flow, now: float) -> list[Output]:
        via = request.via
        key, filled = arrival(request, via, flow)
        if filled is not via:
            request.headers.replace_first_value("Via", str(filled))
        txn, method = self._servers.get(key), request.method
        if txn is None:
            return [AckArrived(request, flow)] if method == "ACK" else self._begin(request, key, filled, flow, now)
        out: list[Output] = []
        self._step(txn, Event.ACK if method == "ACK" else Event.REQUEST, request, now, out, flow)
        return out

    def _begin(self, request: Request, key: ServerKey, via: Via, flow: Flow, now: float) -> list[Output]:
        """A new server transaction. Its first row gives the request to the TU, and no timer begins with it."""
        if self._living.count >= self._most:
            raise self._full()
        reliable = flow.transport in RELIABLE
        ways = self._entries_reliable if reliable else self._entries
        entry = ways.invite_server if request.method == "INVITE" else ways.other_server
        begun = entry.moves[_REQUEST].place
        txn = Transaction(begun, request, response_flow(via, flow), reliable, None, key)
        self._living.add_server(key, txn)
        if request.method != "CANCEL":
            return [RequestArrived(key, request, flow)]
        out: list[Output] = []
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


def _with_via(request: Request, flow: Flow, host: str, port: int | None, params: Params, branch: str) -> Request:
    """A copy of ``request`` with our Via on top."""
    via = _via_text(flow.transport, host, port, params) + branch
    return Request(request.method, request.uri, request.headers.under_via(via), request.body)


@lru_cache(maxsize=256)
def _via_text(transport: str, host: str, port: int | None, params: Params) -> str:
    """Our Via up to the branch: the same for all requests that leave by one listener."""
    return f"{Via(transport.upper(), host, port, params)};branch="
