"""The rules that the transaction layer applies: matching keys, Via filling, hop-by-hop requests, timer lengths."""

from ipaddress import ip_address

from msgspec.structs import replace

from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.message import Message, Request, Response
from imswire.sip.tables import Event, State, Table, Timer
from imswire.sip.transaction_types import ClientKey, ServerKey, Timers
from imswire.sip.values import CSeq, Via

COOKIE = "z9hG4bK"
_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}


class Transaction:
    """One live transaction; only the interpreter touches it."""

    __slots__ = (
        "ack",
        "armed",
        "cancel_due",
        "cancel_headers",
        "cancelled",
        "client_key",
        "flow",
        "kept",
        "request",
        "server_key",
        "silent",
        "state",
        "table",
        "timer_c",
        "waits",
    )

    def __init__(self, table: Table, request: Request, flow: Flow) -> None:
        self.table = table
        self.request = request
        self.flow = flow
        self.state = table.first.next
        self.kept: Message | None = None
        self.ack: Request | None = None
        self.armed: dict[Timer, float] = {}
        self.waits: dict[Timer, float] = {}
        self.client_key: ClientKey | None = None
        self.server_key: ServerKey | None = None
        self.silent = False
        self.timer_c = False
        self.cancel_due = False
        self.cancelled = False
        self.cancel_headers: tuple[tuple[str, str], ...] = ()


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
    if flow.reliable or via.has_rport:
        return flow
    port = via.port or _DEFAULT_PORT[flow.transport]
    return flow if port == flow.remote[1] else replace(flow, remote=(flow.remote[0], port))


def server_key(request: Request, via: Via) -> ServerKey:
    method = "INVITE" if request.method == "ACK" else request.method
    branch = via.branch or ""
    if not branch.startswith(COOKIE) or len(branch) == len(COOKIE):
        # RFC 3261 17.2.3 for peers of RFC 2543, and for those that name no transaction (RFC 4475 3.2.1). The To tag is
        # left out: it differs between INVITE and its ACK.
        branch = f"{request.uri} {request.call_id} {request.from_tag} {request.cseq.number} {branch}"
    return ServerKey(branch, via.sent_by.lower(), method)


def peer(flow: Flow) -> tuple[str, str, tuple[str, int]]:
    return flow.transport, flow.realm, flow.remote


def class_of(response: Response) -> Event:
    if response.status < 200:
        return Event.PROVISIONAL
    return Event.SUCCESS if response.status < 300 else Event.FAILURE


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
    """Seconds that a timer takes for this transaction (RFC 3261 appendix A, RFC 6026); None: not to be armed."""
    if timer in _DOUBLING:
        if txn.flow.reliable:
            return None
        cap = float("inf") if timer is Timer.A else times.t2
        wait = min(txn.waits.get(timer, times.t1 / 2) * 2, cap)
        txn.waits[timer] = wait
        return times.t2 if timer is Timer.E and txn.state is State.PROCEEDING else wait
    if timer is Timer.C:
        trying = isinstance(message, Response) and message.status == 100
        return times.c if txn.timer_c and not trying else None
    if timer in _LINGERING and txn.flow.reliable:
        return 0.0
    return times.t4 if timer in _SHORT else 64 * times.t1


_DOUBLING = frozenset({Timer.A, Timer.E, Timer.G})
_LINGERING = frozenset({Timer.D, Timer.J, Timer.I, Timer.K})
_SHORT = frozenset({Timer.I, Timer.K})
