"""The seam between the SIP half and the media half of the IMS-ALG core.

The SIP half (``proxy``) holds a message that carries SDP and asks with :class:`OfferIn` or :class:`AnswerIn`; the media
half (``call``) answers later, or at once, with exactly one :class:`Proceed` or :class:`Refuse` for that token. While a
message is held, CANCEL, BYE, timers and retransmissions go on being handled (the SIP half may send
:class:`CallEnded` at any time; then no verdict follows for tokens of that call).
Gateways are reached through :class:`ToGateway` / :class:`FromGateway`; the shell owns the links.
"""

from enum import StrEnum

from msgspec import Struct

from imswire.h248.iq_inspect import TlsState
from imswire.h248.model import Message


class Side(StrEnum):
    """The side of the IMS-ALG a message came from."""

    ACCESS = "access"
    CORE = "core"


def direction_of(side: Side) -> str:
    """``originating`` or ``terminating``, as seen by the served user, for a call that comes from ``side``."""
    return "originating" if side is Side.ACCESS else "terminating"


class AccessProfile(Struct, frozen=True):
    """What the media half must know of the served UE: read by value from its binding.

    ``agreed`` holds the media-plane security mechanisms that both the UE and the P-CSCF announced at registration
    (``msrp-tls``, ``bfcp-tls`` ...); empty for a UE without a binding. The realm names select settings and AGW ports.
    """

    access_realm: str = "access"
    core_realm: str = "core"
    agreed: frozenset[str] = frozenset()
    user: str = ""


# --- from the SIP half to the media half ----------------------------------------------------------------------------


class OfferIn(Struct, frozen=True):
    """An SDP offer arrived from ``side`` and is held under ``token``.

    It came in an INVITE, re-INVITE, UPDATE or PRACK, or (delayed) in a reliable provisional response or 2xx; the SIP
    half sees to it that one offer at a time is under way in a dialog, so that the media half may refuse a second one.
    ``call`` is the key of the call (one INVITE dialog set seen by this P-CSCF); ``sip_call_id`` is for logs and traces.
    ``leg`` is the dialog that the offer is in, by the called party's tag; "" for the offer of an initial INVITE, which
    every leg may answer. An offer in a leg that has answered the INVITE in a reliable provisional response means that
    this earlier exchange is agreed for that leg; other legs of an initial INVITE may still answer it.
    """

    call: str
    token: int
    side: Side
    body: bytes
    profile: AccessProfile
    sip_call_id: str = ""
    leg: str = ""


class AnswerIn(Struct, frozen=True):
    """An SDP answer from ``side`` in dialog ``leg`` (the called party's tag), held under ``token``.

    ``final`` is False in a provisional response, reliable or a mere preview (the answer is then complete with
    :class:`LegConfirmed`); True in a 2xx to INVITE, UPDATE or PRACK, in a PRACK and in an ACK: offer and answer are
    agreed. An answer repeated in the same dialog (200 after a reliable 183) is not asked for again.
    """

    call: str
    leg: str
    token: int
    side: Side
    body: bytes
    final: bool


class OfferFailed(Struct, frozen=True):
    """The pending offer was refused (final non-2xx), cancelled or left without an answer; the session goes back to what
    was agreed before.

    ``initial`` True: the whole call ends, everything is subtracted.
    """

    call: str
    initial: bool


class CallEnded(Struct, frozen=True):
    """The call is over (BYE, failure, CANCEL, timeout): subtract everything; held tokens get no verdict."""

    call: str


class LegConfirmed(Struct, frozen=True):
    """A 2xx to INVITE went through: its exchange is agreed for ``leg``.

    The other legs of a fork are over, unless they accept too. While another offer is under way in the
    dialog this waits until that is answered; it may come for an exchange that is complete already.
    """

    call: str
    leg: str


class GatewayUp(Struct, frozen=True):
    """A control association (TCP connection or UDP peer) to a media gateway exists; ``link`` is the shell's number."""

    link: int
    peer: str
    reliable: bool = True


class GatewayDown(Struct, frozen=True):
    """That association is gone."""

    link: int
    reason: str = ""


class FromGateway(Struct, frozen=True):
    """One parsed H.248 message from that association."""

    link: int
    message: Message


class Inspect(Struct, frozen=True):
    """Somebody looks: how far is TLS on the secured lines of these calls? Answered by one :class:`Inspected`."""

    token: int
    calls: tuple[str, ...]


class BadFromGateway(Struct, frozen=True):
    """Bytes that did not parse; ``code`` and ``text`` make the H.248 error descriptor to answer with.

    ``transaction`` is the transaction request at fault, None for the message as a whole (RFC 3525 8.2.2).
    ``answerable`` is False where an answer could loop: the fault is inside a reply.
    """

    link: int
    code: int
    text: str
    transaction: int | None = None
    answerable: bool = True


MediaEvent = (
    OfferIn
    | AnswerIn
    | OfferFailed
    | CallEnded
    | LegConfirmed
    | GatewayUp
    | GatewayDown
    | FromGateway
    | BadFromGateway
    | Inspect
)


# --- from the media half --------------------------------------------------------------------------------------------


class Proceed(Struct, frozen=True):
    """Forward the held message with ``body`` (identical bytes when nothing was to be changed)."""

    call: str
    token: int
    body: bytes


class Refuse(Struct, frozen=True):
    """Do not forward. For an offer in a request: answer ``status`` ``reason`` with the Warning text (399) and, when not
    None, Retry-After seconds; the session stays as it was. An offer in a provisional response to a re-INVITE: that is
    cancelled and answered so. For a held answer, and for an offer in a 2xx, which nobody can refuse: the SIP half ends
    the call towards both sides with that reason. No OfferFailed follows a refused offer."""

    call: str
    token: int
    status: int
    reason: str
    warning: str = ""
    retry_after: int | None = None


class EndCall(Struct, frozen=True):
    """The media of the call failed (fingerprint mismatch, gateway lost ...): release it on both sides.

    Established: BYE both ways; early: CANCEL towards the called side and ``status`` towards the caller; each carries
    ``Reason: SIP;cause=<status>;text="<text>"``. Tokens of the call that are still held get no verdict of their own.
    """

    call: str
    status: int
    text: str


class ToGateway(Struct, frozen=True):
    """Send one H.248 message on that association."""

    link: int
    message: Message


class CloseGateway(Struct, frozen=True):
    """Close that association (protocol failure, no answer, replaced by a newer one)."""

    link: int
    reason: str


class Trace(Struct, frozen=True):
    """A line for the structured trace; see docs/tracing.md for the kinds and their fields."""

    kind: str
    fields: dict[str, object]


class Log(Struct, frozen=True):
    """A log line: ``level`` debug, info, warning or error; ``event`` a short sentence; fields for structlog."""

    level: str
    event: str
    fields: dict[str, object]


class Inspected(Struct, frozen=True):
    """What the gateways said, by gateway and context; what did not answer is not there."""

    token: int
    found: dict[tuple[str, int], TlsState]


MediaCommand = Proceed | Refuse | EndCall | ToGateway | CloseGateway | Trace | Log | Inspected
