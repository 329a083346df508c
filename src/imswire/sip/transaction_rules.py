"""The rules that the transaction layer applies: matching keys, Via filling, hop-by-hop requests, timer lengths."""

from functools import lru_cache
from ipaddress import ip_address

from msgspec.structs import replace

from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.message import Message, Request, Response
from imswire.sip.tables import Event, State, Table, Timer
from imswire.sip.transaction_moves import Place
from imswire.sip.transaction_types import ClientKey, ServerKey, Timers
from imswire.sip.values import CSeq, Via

COOKIE = "z9hG4bK"
NEVER = float("inf")
_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}


class Transaction:
    """One live transaction; only the interpreter touches it.

    ``kept`` is the message to send again, ``armed`` says when each timer runs out. ``watch`` is when an entry of the
    timer queues runs out that looks at all of them (:mod:`imswire.sip.timer_queues`), ``interval`` the length of the
    last repetition. ``silent`` is a CANCEL, of whose responses nobody is told.

    A plain class: its fields change with each message, and those of a ``Struct`` are ten times as dear to set.
    """

    __slots__ = (
        "ack",
        "armed",
        "cancel_due",
        "cancel_headers",
        "cancelled",
        "client_key",
        "flow",
        "interval",
        "kept",
        "place",
        "reliable",
        "request",
        "server_key",
        "silent",
        "watch",
    )

    def __init__(
        self,
        place: Place,
        request: Request,
        flow: Flow,
        reliable: bool,
        client_key: ClientKey | None = None,
        server_key: ServerKey | None = None,
        silent: bool = False,
    ) -> None:
        self.place = place
        self.request = request
        self.flow = flow
        self.reliable = reliable
        self.client_key = client_key
        self.server_key = server_key
        self.silent = silent
        self.kept: Message | None = None
        self.armed: dict[Timer, float] = {}
        self.watch = NEVER
        self.interval = 0.0
        self.ack: Request | None = None
        self.cancel_due = False
        self.cancelled = False
        self.cancel_headers: tuple[tuple[str, str], ...] = ()

    @property
    def state(self) -> State:
        """The state that it is in."""
        return self.place.state

    @property
    def table(self) -> Table:
        """The machine that it is of."""
        return self.place.table


def fill_via(via: Via, flow: Flow) -> Via:
    """The top Via of a request that came over ``flow`` with ``received`` and ``rport`` (RFC 3261 18.2.1, RFC 3581 4).

    What the sender put into them itself is replaced or taken out. The same object comes back when nothing changes.
    """
    host, port = flow.remote
    if via.has_rport:
        wanted = via.with_param("received", host).with_param("rport", str(port))
        return via if wanted == via else wanted
    if _same_host(via.host, host):
        return via if via.received is None else via.without_param("received")
    return via if via.received == host else via.with_param("received", host)


def _same_host(named: str, address: str) -> bool:
    if named.lower() == address.lower():
        return True
    if ":" not in named or ":" not in address:
        return False
    try:
        return ip_address(named) == ip_address(address)
    except ValueError:
        return False


def same_host(one: Flow, other: Flow) -> bool:
    """True when two messages came from the same host of the same realm."""
    return one.realm == other.realm and one.remote[0] == other.remote[0]


def response_flow(via: Via, flow: Flow) -> Flow:
    """Where responses go: the same connection; on UDP the source port with rport, else the sent-by port (18.2.2)."""
    if via.port == flow.remote[1] or flow.reliable or via.has_rport:
        return flow
    port = via.port or _DEFAULT_PORT[flow.transport]
    return flow if port == flow.remote[1] else replace(flow, remote=(flow.remote[0], port))


def server_key(request: Request, via: Via) -> ServerKey:
    method = "INVITE" if request.method == "ACK" else request.method
    branch = branch_of(via)
    if not branch.startswith(COOKIE) or len(branch) == len(COOKIE):
        # RFC 3261 17.2.3 for peers of RFC 2543, and for those that name no transaction (RFC 4475 3.2.1). The To tag is
        # left out: it differs between INVITE and its ACK.
        branch = f"{request.uri} {request.call_id} {request.from_tag} {request.cseq.number} {branch}"
    return ServerKey(branch, sent_by(via.host, via.port), method)


def arrival(request: Request, via: Via, flow: Flow) -> tuple[ServerKey, Via]:
    """The key of a request, and its top Via as :func:`fill_via` leaves it.

    One look is enough where a Via names nothing but the transaction and the address that it came from.
    """
    params = via.params
    if len(params) == 1 and via.host == flow.remote[0]:
        name, branch = params[0]
        if name == "branch" and branch and branch.startswith(COOKIE) and len(branch) > len(COOKIE):
            method = request.method
            return ServerKey(branch, sent_by(via.host, via.port), "INVITE" if method == "ACK" else method), via
    return server_key(request, via), fill_via(via, flow)


def branch_of(via: Via) -> str:
    """The branch of a Via, "" when it has none; it is nearly always the first parameter."""
    params = via.params
    if params and params[0][0] == "branch":
        return params[0][1] or ""
    return via.branch or ""


@lru_cache(maxsize=512)
def sent_by(host: str, port: int | None) -> str:
    """The sent-by of a Via for comparing: a peer has the same one in all its requests."""
    return Via("", host, port).sent_by.lower()


def peer(flow: Flow) -> tuple[str, str, tuple[str, int]]:
    return flow.transport, flow.realm, flow.remote


_PROVISIONAL, _SUCCESS, _FAILURE = Event.PROVISIONAL, Event.SUCCESS, Event.FAILURE


def class_of(response: Response) -> Event:
    status = response.status
    if status < 200:
        return _PROVISIONAL
    return _SUCCESS if status < 300 else _FAILURE


def hop_request(invite: Request, method: str, refused: Response | None = None) -> Request:
    """CANCEL, or the ACK of a non-2xx, for an INVITE as it was sent (RFC 3261 9.1, 17.1.1.3).

    One Via, equal to the INVITE's top one; the same Request-URI, Route, From, Call-ID and CSeq number; To of the INVITE
    for CANCEL and of the response for ACK.
    """
    headers = Headers((("Via", invite.headers.first_value("via") or ""),))
    headers.copy_from(invite.headers, "route")
    headers.add("Max-Forwards", "70")
    headers.copy_from(invite.headers, "from")
    headers.copy_from((refused or invite).headers, "to")
    headers.copy_from(invite.headers, "call-id")
    headers.add("CSeq", str(CSeq(invite.cseq.number, method)))
    return Request(method, invite.uri, headers)


def timer_wait(times: Timers, txn: Transaction, timer: Timer, message: Message | None) -> float | None:
    """Seconds that a timer without a fixed length takes (RFC 3261 appendix A, 16.6 step 11); None: not to be armed.

    That is a repetition that is started anew (unreliable transports alone have those), and timer C.
    """
    if timer is Timer.C:
        return None if type(message) is Response and message.status == 100 else times.c
    wait = (txn.interval or times.t1) * 2
    if timer is not Timer.A:
        wait = min(wait, times.t2)
    txn.interval = wait
    return times.t2 if timer is Timer.E and txn.state is State.PROCEEDING else wait
