"""Dialogs as a user agent sees them (RFC 3261 12), for endpoints and for a proxy that must end a call itself."""

from collections.abc import Iterable

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.message import Message, Request, Response
from imswire.sip.transaction_types import Timers
from imswire.sip.uri import SipUri
from imswire.sip.values import CSeq, NameAddr

# Requests whose Contact, and that of their 2xx, moves the remote target (RFC 3261 12.2, RFC 3311 5.1, RFC 6665 4.4.1).
TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})


class DialogId(Struct, frozen=True):
    """Call-ID with the tags as one side sees them; a missing remote tag is ""."""

    call_id: str
    local_tag: str
    remote_tag: str

    @classmethod
    def of_incoming(cls, request: Request) -> "DialogId":
        """The id of the dialog a received request belongs to: the local tag is To's."""
        return cls(request.call_id, request.to_tag or "", request.from_tag or "")

    @classmethod
    def of_outgoing(cls, message: Message) -> "DialogId":
        """The id seen from the sender of a request, or from the receiver of its response: the local tag is From's."""
        return cls(message.call_id, message.from_tag or "", message.to_tag or "")

    @property
    def mirrored(self) -> "DialogId":
        """The same dialog seen from the other side."""
        return DialogId(self.call_id, self.remote_tag, self.local_tag)


class Dialog:
    """One dialog: route set, remote target and sequence numbers (RFC 3261 12.1, 12.2).

    ``route_set`` holds Route values in sending order. ``local_cseq`` is the last number sent, ``remote_cseq`` the last
    received or None.
    """

    __slots__ = ("early", "id", "local", "local_cseq", "remote", "remote_cseq", "remote_target", "route_set")

    def __init__(
        self,
        id: DialogId,
        local: NameAddr,
        remote: NameAddr,
        *,
        remote_target: str,
        route_set: tuple[str, ...] = (),
        local_cseq: int = 0,
        remote_cseq: int | None = None,
        early: bool = False,
    ) -> None:
        self.id = id
        self.local = local
        self.remote = remote
        self.remote_target = remote_target
        self.route_set = route_set
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.early = early

    @classmethod
    def as_uac(cls, request: Request, response: Response) -> "Dialog":
        """The caller's dialog from a request as sent and a 101..299 response as received (12.1.2).

        The route set is the response's Record-Route in reverse order. Record-Route values that the request already
        carried when it was sent lie behind the sender and are left out: so a proxy that passes the request as it
        forwarded it gets the dialog from itself to the called side. Raises ProtocolError ``sip.dialog`` without a
        Contact or a To tag.
        """
        recorded = response.headers.values("record-route")
        behind = len(request.headers.values("record-route"))
        ahead = recorded[: len(recorded) - behind] if behind else recorded
        return cls(
            _complete(DialogId.of_outgoing(response)),
            response.from_,
            response.to,
            remote_target=_target(response),
            route_set=tuple(reversed(ahead)),
            local_cseq=response.cseq.number,
            early=response.status < 200,
        )

    @classmethod
    def as_uas(cls, request: Request, local_tag: str, *, early: bool = False) -> "Dialog":
        """The called side's dialog from a request as received and the To tag of the response (12.1.1).

        A proxy that passes the request as it received it gets the dialog from itself to the caller. Raises
        ProtocolError ``sip.dialog`` without a Contact or a From tag.
        """
        return cls(
            _complete(DialogId(request.call_id, local_tag, request.from_tag or "")),
            request.to.with_param("tag", local_tag),
            request.from_,
            remote_target=_target(request),
            route_set=tuple(request.headers.values("record-route")),
            remote_cseq=request.cseq.number,
            early=early,
        )

    def make_request(self, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """A new request within the dialog with the next CSeq (12.2.1.1); ``headers`` come behind the mandatory ones.

        ACK and CANCEL are not made this way. Raises ProtocolError.
        """
        if method in ("ACK", "CANCEL"):
            raise ProtocolError("sip.dialog", f"{method} takes the CSeq of its INVITE")
        self.local_cseq += 1
        return self._build(method, self.local_cseq, headers, body)

    def make_ack(self, cseq: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """The ACK for a 2xx to the INVITE with that CSeq number (13.2.2.4)."""
        return self._build("ACK", cseq, headers, body)

    def take(self, request: Request) -> bool:
        """Take a request received within the dialog: False when its CSeq is out of order (answer 500, 12.2.2).

        ACK repeats the number of its INVITE and is always in order. The remote target follows target refresh requests.
        """
        number = request.cseq.number
        if request.method != "ACK":
            if self.remote_cseq is not None and number <= self.remote_cseq:
                return False
            self.remote_cseq = number
        if request.method in TARGET_REFRESH:
            self._refresh(request)
        return True

    def take_response(self, response: Response) -> None:
        """Take a response to a request sent within the dialog: a 2xx confirms and may move the remote target."""
        if 200 <= response.status < 300:
            self.early = False
            if response.cseq.method in TARGET_REFRESH:
                self._refresh(response)

    def saw_outgoing(self, request: Request) -> None:
        """Note a request that the local side itself sent past us, so that the next CSeq made here is higher."""
        self.local_cseq = max(self.local_cseq, request.cseq.number)

    def _refresh(self, message: Message) -> None:
        if "contact" in message.headers:
            self.remote_target = _target(message)

    def _build(self, method: str, number: int, headers: Iterable[tuple[str, str]], body: bytes) -> Request:
        uri, routes = self.remote_target, list(self.route_set)
        if routes:
            first = NameAddr.parse(routes[0]).uri
            if not SipUri.parse(first).has_param("lr"):
                # A strict router (12.2.1.1): it wants itself in the Request-URI and the target at the end.
                uri, routes = first, [*routes[1:], f"<{self.remote_target}>"]
        fields = Headers([("Route", route) for route in routes])
        for name, value in (
            ("Max-Forwards", "70"),
            ("From", str(self.local)),
            ("To", str(self.remote)),
            ("Call-ID", self.id.call_id),
            ("CSeq", str(CSeq(number, method))),
            *headers,
        ):
            fields.add(name, value)
        return Request(method, uri, fields, body)


class AnswerRepeater:
    """Repeats a UAS's 2xx to INVITE until its ACK comes (RFC 3261 13.3.1.4): T1, doubling to T2, for 64*T1 in all.

    Needed on every transport, because the hop after next may be UDP. Keys are the UAS's :class:`DialogId` and the CSeq
    number. What is due comes out of :meth:`expire` with the ``handle`` given to :meth:`add` (a ServerKey, say): the
    response, to be sent again through ``TransactionLayer.respond``, or None when no ACK came: end the session by BYE.
    """

    def __init__(self, timers: Timers | None = None, limit: int = 10_000) -> None:
        self._timers = timers or Timers()
        self._limit = limit
        self._waiting: dict[tuple[DialogId, int], _Repeat] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, handle: object, response: Response, now: float) -> None:
        """Start for a 2xx just sent. Above the limit the response is not repeated."""
        if len(self._waiting) >= self._limit:
            return
        key = (DialogId.of_outgoing(response).mirrored, response.cseq.number)
        first = self._timers.t1
        self._waiting[key] = _Repeat(handle, response, now + first, first, now + 64 * self._timers.t1)

    def acknowledged(self, ack: Request) -> bool:
        """Stop for that ACK; False when nothing waited for it (a repeated ACK)."""
        return self._waiting.pop((DialogId.of_incoming(ack), ack.cseq.number), None) is not None

    def next_timer(self) -> float | None:
        """The absolute time of the next repetition, or None."""
        return min((one.due for one in self._waiting.values()), default=None)

    def expire(self, now: float) -> list[tuple[object, Response | None]]:
        """Pairs of handle and response to send again, or None for "no ACK came"."""
        out: list[tuple[object, Response | None]] = []
        for key, one in list(self._waiting.items()):
            if one.due > now:
                continue
            if one.end <= now:
                del self._waiting[key]
                out.append((one.handle, None))
                continue
            out.append((one.handle, one.response))
            wait = min(one.wait * 2, self._timers.t2)
            self._waiting[key] = _Repeat(one.handle, one.response, min(now + wait, one.end), wait, one.end)
        return out


class _Repeat(Struct, frozen=True):
    handle: object
    response: Response
    due: float
    wait: float
    end: float


def _target(message: Message) -> str:
    contacts = message.headers.values("contact")
    if not contacts:
        raise ProtocolError("sip.dialog", "no Contact to be the remote target")
    return NameAddr.parse(contacts[0]).uri


def _complete(id: DialogId) -> DialogId:
    if not id.local_tag or not id.remote_tag:
        raise ProtocolError("sip.dialog", "a dialog needs both tags")
    return id
