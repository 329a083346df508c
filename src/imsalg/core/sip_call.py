"""What the P-CSCF remembers of a call and of each request that it forwards.

A :class:`Call` is one INVITE dialog set as this node sees it; a call that spirals through (UE A, core, UE B, all served
here) makes two of them. Calls are found by the key in our Record-Route tokens, never by Call-ID. A :class:`Forward` is
one forwarded request: a server transaction, its client transaction, and what waits for the media half between them.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from imsalg.core.media_events import AccessProfile, Side
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ClientKey, ServerKey
from imswire.sip.values import NameAddr


def other(side: Side) -> Side:
    """The opposite side."""
    return Side.CORE if side is Side.ACCESS else Side.ACCESS


class Stage(Enum):
    """Stages of a call."""

    EARLY = auto()  # the initial INVITE has no final answer yet
    ESTABLISHED = auto()  # a 2xx went through
    ENDING = auto()  # released or left by a BYE; only what is under way is still routed


class Answer(Exception):
    """An answer of our own: raised by a procedure that refuses a request, or handed on where a call is ended.

    ``warning`` becomes a Warning (and the text of a Reason), ``retry_after`` is seconds.
    """

    def __init__(
        self,
        status: int,
        warning: str = "",
        *,
        reason: str | None = None,
        retry_after: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(status, warning)
        self.status = status
        self.warning = warning
        self.reason = reason
        self.retry_after = retry_after
        self.headers = headers


class Party:
    """The remote end of the call on one side, as its messages show it; read only when a BYE to it is to be made.

    ``address`` is its From or To value with tag, ``contact`` its raw Contact value, ``record_route`` the raw
    Record-Route lines of the message that made the dialog.
    """

    __slots__ = ("address", "contact", "record_route")

    def __init__(self, address: str, contact: str, record_route: list[str]) -> None:
        self.address = address
        self.contact = contact
        self.record_route = record_route


class Leg:
    """One dialog of the call, by the To-tag of the called party (several while early when the core forks)."""

    __slots__ = ("acked", "confirmed", "party", "tag")

    def __init__(self, tag: str, party: Party) -> None:
        self.tag = tag
        self.party = party
        self.confirmed = False
        self.acked = False


class Call:
    """One call. ``caller_side`` is where the initial INVITE came from; ``flows`` lead to the next node on each side."""

    __slots__ = (
        "bye_waits",
        "call_id",
        "caller",
        "caller_side",
        "cseq",
        "flows",
        "forwards",
        "gone",
        "has_media",
        "key",
        "legs",
        "profile",
        "realms",
        "stage",
        "tokens",
    )

    def __init__(
        self, key: str, call_id: str, caller_side: Side, caller: Party, profile: AccessProfile, tokens: dict[Side, str]
    ) -> None:
        self.key = key
        self.call_id = call_id
        self.caller_side = caller_side
        self.caller = caller
        self.profile = profile
        self.tokens = tokens
        self.realms: dict[Side, str] = {Side.ACCESS: profile.access_realm, Side.CORE: profile.core_realm}
        self.flows: dict[Side, Flow] = {}
        self.legs: dict[str, Leg] = {}
        self.gone: Leg | None = None  # the leg that a BYE ended last: the BYE may be repeated (401, 407)
        self.cseq: dict[Side, int] = {Side.ACCESS: 0, Side.CORE: 0}
        self.forwards: set[Forward] = set()
        self.stage = Stage.EARLY
        self.has_media = False  # the media half knows this call
        # A BYE of ours to the caller that waits for the caller's ACK: the leg and the status and text to give.
        self.bye_waits: tuple[Leg, Answer] | None = None

    def saw_cseq(self, side: Side, number: int) -> None:
        """Remember the highest CSeq that ``side`` used, so that a BYE in its name can go beyond it."""
        if number > self.cseq[side]:
            self.cseq[side] = number

    @property
    def confirmed_legs(self) -> list[Leg]:
        """The legs with a 2xx."""
        return [leg for leg in self.legs.values() if leg.confirmed]


class Purpose(Enum):
    """Why a request was sent on."""

    PROXY = auto()
    REGISTER = auto()
    OWN = auto()  # made here (BYE of a release); its answer ends with us


class Forward:
    """One forwarded request.

    ``received`` is the request as it came (answers are made from it), ``outgoing`` what goes on. ``hold`` is the token
    under which the request or a response of it waits for the media half; ``queue`` holds later responses meanwhile, in
    order.
    """

    __slots__ = (
        "aborted",
        "answered",
        "arrival",
        "call",
        "client",
        "flow",
        "held_response",
        "hold",
        "identity",
        "initial",
        "offered",
        "outgoing",
        "purpose",
        "queue",
        "received",
        "sent_2xx",
        "server",
        "side",
        "who",
    )

    def __init__(
        self,
        server: ServerKey | None,
        received: Request,
        outgoing: Request,
        flow: Flow,
        side: Side,
        call: Call | None = None,
        *,
        initial: bool = False,
        purpose: Purpose = Purpose.PROXY,
    ) -> None:
        self.server = server
        self.received = received
        self.outgoing = outgoing
        self.flow = flow
        self.side = side
        self.call = call
        self.initial = initial
        self.purpose = purpose
        self.who = ""  # the served user, for traces
        self.client: ClientKey | None = None
        self.arrival: Flow | None = None  # the flow that a REGISTER came over
        self.offered = False  # it carried an SDP offer
        self.hold = 0
        self.held_response: Response | None = None
        self.queue: deque[Response] = deque()
        self.sent_2xx: dict[str, Response] = {}
        self.answered = False  # a final answer went to the server transaction
        self.aborted = False  # answered by us before the far end did
        self.identity: str | None = None  # what the called UE is asserted to be in its responses

    @property
    def is_invite(self) -> bool:
        """True for INVITE and re-INVITE."""
        return self.received.method == "INVITE"


def has_sdp(message: Request | Response) -> bool:
    """True when the body is SDP."""
    return bool(message.body) and message.content_type == "application/sdp"


def tag_of(value: str | None) -> str:
    """The tag of a From or To value, "" without one. The usual spelling is found without parsing the value."""
    if value is None:
        return ""
    rest = value[value.rfind(">") + 1 :]
    _, found, after = rest.partition(";tag=")
    if found and not rest.startswith('"'):
        return after.partition(";")[0].strip()
    return NameAddr.parse(value).tag or "" if "tag" in rest.lower() else ""
