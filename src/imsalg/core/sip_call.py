"""What the P-CSCF remembers of a call and of each request that it forwards.

A :class:`Call` is one INVITE dialog set as this node sees it; a call that spirals through (UE A, core, UE B, all served
here) makes two of them. Calls are found by the key in our Record-Route tokens, never by Call-ID. A :class:`Forward` is
one forwarded request: a server transaction, its client transaction, and what waits for the media half between them.
An :class:`Exchange` is an SDP offer that is not answered everywhere yet.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from imsalg.core.bindings import Binding
from imsalg.core.header_policy import Trust
from imsalg.core.media_events import AccessProfile, Side
from imswire.sip.flow import Flow
from imswire.sip.location import Hop
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ClientKey, ServerKey
from imswire.sip.values import NameAddr

ACCESS: Final = Side.ACCESS
CORE: Final = Side.CORE
"""The sides by names of their own, as are stages, roles and purposes below: each message asks for them dozens of times,
and a member of a class costs more."""
REFRESHING = frozenset({"INVITE", "UPDATE"})
"""Target refresh requests: their Contact is where the sender is reached from now on (RFC 3261 12.2, RFC 3311)."""
_NO_BODIES: Mapping[str, bytes] = {}
_NO_RESPONSES: Mapping[str, Response] = {}
_NO_ROUTES: Mapping[Side, str] = {}


def other(side: Side) -> Side:
    """The opposite side."""
    return CORE if side is ACCESS else ACCESS


class Stage(Enum):
    """Stages of a call."""

    EARLY = auto()  # the initial INVITE has no final answer yet
    ESTABLISHED = auto()  # a 2xx went through
    ENDING = auto()  # released or left by a BYE; only what is under way is still routed


EARLY: Final = Stage.EARLY
ESTABLISHED: Final = Stage.ESTABLISHED
ENDING: Final = Stage.ENDING


class Answer(Exception):
    """An answer of our own: raised by a procedure that refuses a request, or handed on where a call is ended.

    ``warning`` becomes a Warning (and the text of a Reason), ``retry_after`` is seconds. ``once``: over UDP it is sent
    once and forgotten (RFC 3261 8.2.7), for it goes to an address that nobody has vouched for.
    """

    def __init__(
        self,
        status: int,
        warning: str = "",
        *,
        reason: str | None = None,
        retry_after: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        once: bool = False,
        body: bytes = b"",
    ) -> None:
        super().__init__(status, warning)
        self.status = status
        self.warning = warning
        self.reason = reason
        self.retry_after = retry_after
        self.headers = headers
        self.once = once
        self.body = body


class Party:
    """The remote end of the call on one side, as its messages show it.

    ``address`` is its From or To value with tag, ``contact`` its raw Contact value, ``record_route`` the raw
    Record-Route lines of the message that made the dialog; ``routes`` is the route set that was made of them, once
    somebody has asked for it (:meth:`imsalg.core.release.Release.dialog_routes`).
    """

    __slots__ = ("address", "contact", "record_route", "routes")

    def __init__(self, address: str, contact: str, record_route: list[str]) -> None:
        self.address = address
        self.contact = contact
        self.record_route = record_route
        self.routes: tuple[str, ...] | None = None

    def routed(self, record_route: list[str]) -> None:
        """The Record-Route lines that count from now on: those of the 2xx (RFC 3261 13.2.2.4)."""
        if record_route != self.record_route:
            self.record_route = record_route
            self.routes = None


class Leg:
    """One dialog of the call, by the To-tag of the called party (several while early when the core forks)."""

    __slots__ = ("ack_body", "acked", "confirmed", "party", "tag")

    def __init__(self, tag: str, party: Party) -> None:
        self.tag = tag
        self.party = party
        self.confirmed = False
        self.acked = False
        # The CSeq of the last ACK that carried an answer, and the answer as it went on: for repetitions of that ACK.
        self.ack_body: tuple[int, bytes] | None = None


class Role(Enum):
    """What a session description is in the message that carries it."""

    NONE = auto()
    OFFER = auto()
    ANSWER = auto()


NO_ROLE: Final = Role.NONE
OFFER: Final = Role.OFFER
ANSWER: Final = Role.ANSWER


class Exchange:
    """An offer under way (RFC 3264, RFC 6337 2).

    ``side`` offered it in the request of ``forward`` or, ``in_response``, in a response to it. ``leg`` is the dialog
    that it is in, "" for the offer of an initial INVITE, which every dialog may answer. ``settled`` are the legs whose
    answer went through reliably; ``answering`` is True while the answer of a request (PRACK, ACK) is held.
    """

    __slots__ = ("answering", "forward", "in_response", "leg", "settled", "side")

    def __init__(self, side: Side, forward: "Forward", leg: str, *, in_response: bool = False) -> None:
        self.side = side
        self.forward = forward
        self.leg = leg
        self.in_response = in_response
        self.settled: set[str] = set()
        self.answering = False

    def waits(self, leg: str) -> bool:
        """True when this offer forbids a new one in dialog ``leg``."""
        return leg not in self.settled


class Call:
    """One call. ``caller_side`` is where the initial INVITE came from; ``flows`` lead to the next node on each side."""

    __slots__ = (
        "ack_by",
        "binding",
        "bye_waits",
        "call_id",
        "caller",
        "caller_side",
        "charging",
        "confirm_due",
        "cseq",
        "exchanges",
        "flows",
        "forked",
        "forwards",
        "gone",
        "has_media",
        "key",
        "legs",
        "outcome",
        "profile",
        "realms",
        "record_routes",
        "refresh_by",
        "since",
        "stage",
        "tokens",
        "urgent",
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
        self.realms: dict[Side, str] = {ACCESS: profile.access_realm, CORE: profile.core_realm}
        self.binding: tuple[str, str] | None = None  # the key of the served UE's binding
        self.charging = ""  # P-Charging-Vector of the dialog, as far as it stays the same
        self.flows: dict[Side, Flow] = {}
        self.record_routes: Mapping[Side, str] = _NO_ROUTES  # our values as they were written; none after a restart
        self.legs: dict[str, Leg] = {}
        self.forked = False  # several dialogs answered the initial INVITE
        self.gone: Leg | None = None  # the leg that a BYE ended last: the BYE may be repeated (401, 407)
        self.cseq: dict[Side, int] = {ACCESS: 0, CORE: 0}
        self.forwards: set[Forward] = set()
        self.stage: Stage = EARLY
        self.since = 0.0  # when it began, on the engine's clock
        self.outcome = ""  # a key of Stats.outcomes, once it is known why the call ends
        self.urgent = False  # an emergency call, or one that an emergency centre makes back
        self.has_media = False  # the media half knows this call
        # BYEs of ours to the caller that wait for the caller's ACK: the leg and the status and text to give.
        self.bye_waits: list[tuple[Leg, Answer]] = []
        # Offers under way, oldest first: at most that of the initial INVITE or a re-INVITE, and one inside its dialog.
        self.exchanges: list[Exchange] = []
        self.confirm_due: str | None = None  # a leg that the media half will be told of when no offer is under way
        self.ack_by: float | None = None  # when an ACK that is still awaited is given up
        self.refresh_by: float | None = None  # when the session expires (RFC 4028), on the engine's clock

    def saw_cseq(self, side: Side, number: int) -> None:
        """Remember the highest CSeq that ``side`` used, so that a BYE in its name can go beyond it."""
        if number > self.cseq[side]:
            self.cseq[side] = number

    def reached_at(self, side: Side, tag: str, contact: str) -> None:
        """The end on ``side``, with ``tag``, told in a target refresh (:data:`REFRESHING`) where it is from now on."""
        if side is self.caller_side:
            self.caller.contact = contact
        elif (leg := self.legs.get(tag)) is not None:
            leg.party.contact = contact

    @property
    def confirmed_legs(self) -> list[Leg]:
        """The legs with a 2xx."""
        return [leg for leg in self.legs.values() if leg.confirmed]


class Purpose(Enum):
    """Why a request was sent on."""

    PROXY = auto()
    REGISTER = auto()
    ACK = auto()  # the ACK of a 2xx, kept only while its answer waits for the media half
    SUBSCRIBE = auto()  # made here, to learn of registration state
    OWN = auto()  # made here (BYE of a release); its answer ends with us


PROXY: Final = Purpose.PROXY
ACK: Final = Purpose.ACK
OWN: Final = Purpose.OWN


class Behind(Struct, frozen=True):
    """A request that waits behind an ACK of its own side and dialog, as it came."""

    key: ServerKey
    request: Request
    flow: Flow


class Forward:
    """One forwarded request.

    ``received`` is the request as it came (answers are made from it), ``outgoing`` what goes on. ``hold`` is the token
    under which the request or a response of it waits for the media half; ``queue`` holds later responses meanwhile, in
    order. ``leg`` is the dialog that it is in, by the called party's tag. ``role`` and ``held_role`` say what the SDP
    of the request and of the held response is; ``bodies`` has, per leg, the SDP that went on in a reliable response.
    ``hop`` is the next hop as long as it is a name to be looked up, ``others`` are the flows to try when ``flow``
    fails, and ``stamp`` the header field (Record-Route, Path) and token that name the listener it leaves from.
    ``learn`` is the token of a UE's new dialog, to which a response adds the route set. ``behind`` names the requests
    that must not overtake an ACK which is held (:attr:`Context.behind`).
    """

    __slots__ = (
        "aborted",
        "answered",
        "arrival",
        "behind",
        "bodies",
        "call",
        "called",
        "charging",
        "client",
        "flow",
        "held_response",
        "held_role",
        "held_tag",
        "hold",
        "hop",
        "identity",
        "initial",
        "is_invite",
        "learn",
        "leg",
        "others",
        "outgoing",
        "purpose",
        "queue",
        "received",
        "role",
        "secured",
        "sent_2xx",
        "server",
        "side",
        "stamp",
        "trust",
        "unheard",
        "who",
    )

    def __init__(
        self,
        server: ServerKey | None,
        received: Request,
        outgoing: Request,
        way: Flow | Hop,
        side: Side,
        call: Call | None = None,
        *,
        initial: bool = False,
        purpose: Purpose = PROXY,
    ) -> None:
        self.server = server
        self.received = received
        self.outgoing = outgoing
        self.is_invite = received.method == "INVITE"  # or a re-INVITE
        self.flow: Flow
        self.hop: Hop | None
        if type(way) is Flow:
            self.flow, self.hop = way, None
        else:
            self.aim(way)
        self.others: tuple[Flow, ...] = ()
        self.stamp: tuple[str, str] | None = None
        self.learn = ""
        self.side = side
        self.call = call
        self.initial = initial
        self.purpose = purpose
        self.who = ""  # the served user, for traces
        self.client: ClientKey | None = None
        self.arrival: Flow | None = None  # the flow that a REGISTER came over
        self.leg = ""
        self.role: Role = NO_ROLE
        self.hold = 0
        self.held_response: Response | None = None
        self.held_role: Role = NO_ROLE
        self.held_tag = ""  # of the held response to an INVITE
        # Seldom more than one entry, mostly none: what comes to them makes a new value, and none costs nothing.
        self.bodies: Mapping[str, bytes] = _NO_BODIES
        self.queue: tuple[Response, ...] = ()
        self.behind: Sequence[ServerKey] = ()
        self.sent_2xx: Mapping[str, Response] = _NO_RESPONSES
        self.unheard: Response | None = None  # a 2xx that could not be looked at yet: it should come again
        self.answered = False  # a final answer went to the server transaction
        self.aborted = False  # answered by us before the far end did
        self.identity: str | None = None  # what the called UE is asserted to be in its responses
        self.called: Binding | None = None  # the UE that an initial request is for
        self.charging = ""  # the charging vector of responses towards the core
        self.trust = Trust.CORE
        self.secured = False  # a REGISTER under an agreement to secure signalling

    def aim(self, way: Flow | Hop) -> None:
        """Say where the request is to go."""
        if isinstance(way, Flow):
            self.flow, self.hop = way, None
        else:
            self.flow, self.hop = way.flow, way


def flow_of(way: Flow | Hop) -> Flow:
    """The flow, or what stands for it until the name is looked up."""
    return way if isinstance(way, Flow) else way.flow


def reliable(response: Response) -> bool:
    """True for a 2xx and for a provisional response under RFC 3262."""
    if response.status >= 200:
        return response.status < 300
    return "rseq" in response.headers and response.has_option("Require", "100rel")


def leg_of(call: "Call", side: Side, message: Request | Response) -> str:
    """The dialog of ``message``, by the called party's tag; ``side`` is where its *request* came from."""
    return tag_of(message.headers.get("to" if side is call.caller_side else "from"))


def tag_of(value: str | None) -> str:
    """The tag of a From or To value, "" without one. The usual spelling is found without parsing the value."""
    if value is None or value[-1:] == ">":
        return ""
    _, found, tag = value.rpartition(">;tag=")
    if found and ";" not in tag and ">" not in tag and '"' not in tag:  # the one parameter behind a URI in brackets
        return tag.strip()
    if '"' in value:  # brackets and semicolons inside quotes are neither
        return NameAddr.parse(value).tag or ""
    rest = value[value.rfind(">") + 1 :]
    _, found, after = rest.partition(";tag=")
    if found:
        return after.partition(";")[0].strip()
    return NameAddr.parse(value).tag or "" if "tag" in rest.lower() else ""
