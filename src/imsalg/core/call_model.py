"""What a call is made of: its stages and the table between them, its pending offer and legs, and what it asks of the
world."""

from enum import Enum, auto

from msgspec import Struct

from imsalg.core.media_answer import Answered
from imsalg.core.media_events import (
    AnswerIn,
    CallEnded,
    LegConfirmed,
    OfferFailed,
    OfferIn,
)
from imsalg.core.media_facts import Endpoint
from imsalg.core.reservations import Line, Target
from imswire.h248.model import TransactionReply
from imswire.sdp.offer_answer import Described

PHRASES: dict[int, str] = {
    408: "Request Timeout",
    481: "Call/Transaction Does Not Exist",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    503: "Service Unavailable",
}
NO_ROOM: frozenset[int] = frozenset({412, 432, 434, 502, 503, 505, 506, 510, 511, 512, 513, 521, 526, 529, 530, 531})
"""H.248 errors that mean "not now": 503 with Retry-After; any other error of a gateway is 500."""
TIMED_OUT = 0
"""The code that stands for "no reply came"."""


class Failure(Struct, frozen=True):
    """What the gateway made of a transaction instead of doing it: an H.248 error code (or :data:`TIMED_OUT`) and
    text."""

    code: int
    text: str

    @property
    def status(self) -> int:
        """The SIP status for it."""
        return 503 if self.code in NO_ROOM else 500

    @property
    def temporary(self) -> bool:
        """The same offer may be taken a little later: 500 with Retry-After says so (RFC 3261 21.5.1)."""
        return self.code == TIMED_OUT or self.code in NO_ROOM


class MediaFailed(Struct, frozen=True):
    """The media of the call are gone: gateway lost, fingerprint mismatch ..."""

    status: int
    text: str


class LineFailed(Struct, frozen=True):
    """The media of one context are of no more use and the operator wants the line dropped; ``status`` and ``text`` end
    the call if it was its last line."""

    context: int
    status: int
    text: str


class ConnectionClosed(Struct, frozen=True):
    """A remote end closed its connection; a later exchange for that line needs a new one."""

    context: int


Input = (
    OfferIn
    | AnswerIn
    | OfferFailed
    | CallEnded
    | LegConfirmed
    | TransactionReply
    | Failure
    | MediaFailed
    | LineFailed
    | ConnectionClosed
)


class Stage(Enum):
    """Stages of a call."""

    __hash__ = object.__hash__  # rows are looked up by it; members are single, and Enum's own hash is not C code

    IDLE = auto()
    RESERVING = auto()
    """An offer is held until the gateway has reserved its new lines."""
    OFFERED = auto()
    """The offer went on; answers come."""
    CONFIGURING = auto()
    """An answer, or the confirmation of a leg, waits for the gateway."""
    ESTABLISHED = auto()
    """Offer and answer are complete and final; a new offer may come."""
    RELEASING = auto()
    """Over; only a reply of the gateway may still come."""


class Do(Enum):
    """What a row of the table orders."""

    __hash__ = object.__hash__  # as above

    PLAN = auto()
    GLARE = auto()
    REOFFER = auto()
    ALLOCATED = auto()
    NOT_ALLOCATED = auto()
    ANSWER = auto()
    CONFIGURED = auto()
    NOT_CONFIGURED = auto()
    REPEAT = auto()
    CONFIRM = auto()
    ROLL_BACK = auto()
    ABANDON = auto()
    FAILED = auto()
    DEFER = auto()
    RELEASE = auto()
    END = auto()
    DROP = auto()
    NOTE = auto()
    CLEAN = auto()
    IGNORE = auto()


_S, _D = Stage, Do
TABLE: dict[Stage, dict[type[Input], Do]] = {
    _S.IDLE: {
        OfferIn: _D.PLAN,
        AnswerIn: _D.REPEAT,
        OfferFailed: _D.RELEASE,
        CallEnded: _D.RELEASE,
        LegConfirmed: _D.IGNORE,
        TransactionReply: _D.CLEAN,
        Failure: _D.IGNORE,
        MediaFailed: _D.END,
        LineFailed: _D.END,
        ConnectionClosed: _D.NOTE,
    },
    _S.RESERVING: {
        OfferIn: _D.GLARE,
        AnswerIn: _D.REPEAT,
        OfferFailed: _D.ABANDON,
        CallEnded: _D.RELEASE,
        LegConfirmed: _D.DEFER,
        TransactionReply: _D.ALLOCATED,
        Failure: _D.NOT_ALLOCATED,
        MediaFailed: _D.END,
        LineFailed: _D.END,
        ConnectionClosed: _D.NOTE,
    },
    _S.OFFERED: {
        OfferIn: _D.REOFFER,
        AnswerIn: _D.ANSWER,
        OfferFailed: _D.ROLL_BACK,
        CallEnded: _D.RELEASE,
        LegConfirmed: _D.CONFIRM,
        TransactionReply: _D.CLEAN,
        Failure: _D.IGNORE,
        MediaFailed: _D.END,
        LineFailed: _D.END,
        ConnectionClosed: _D.NOTE,
    },
    _S.CONFIGURING: {
        OfferIn: _D.GLARE,
        AnswerIn: _D.DEFER,
        OfferFailed: _D.DEFER,
        CallEnded: _D.RELEASE,
        LegConfirmed: _D.DEFER,
        TransactionReply: _D.CONFIGURED,
        Failure: _D.NOT_CONFIGURED,
        MediaFailed: _D.END,
        LineFailed: _D.END,
        ConnectionClosed: _D.NOTE,
    },
    _S.ESTABLISHED: {
        OfferIn: _D.PLAN,
        AnswerIn: _D.REPEAT,
        OfferFailed: _D.FAILED,
        CallEnded: _D.RELEASE,
        LegConfirmed: _D.CONFIRM,
        TransactionReply: _D.CLEAN,
        Failure: _D.IGNORE,
        MediaFailed: _D.END,
        LineFailed: _D.DROP,
        ConnectionClosed: _D.NOTE,
    },
    _S.RELEASING: {
        OfferIn: _D.IGNORE,
        AnswerIn: _D.IGNORE,
        OfferFailed: _D.IGNORE,
        CallEnded: _D.IGNORE,
        LegConfirmed: _D.IGNORE,
        TransactionReply: _D.CLEAN,
        Failure: _D.IGNORE,
        MediaFailed: _D.IGNORE,
        LineFailed: _D.IGNORE,
        ConnectionClosed: _D.IGNORE,
    },
}


class Leg:
    """What one leg answered: its bytes, and what was made of them. ``targets`` is what the lines are made for it."""

    __slots__ = ("answered", "body", "rewritten", "targets")

    def __init__(self, body: bytes, answered: Answered, rewritten: bytes) -> None:
        self.body = body
        self.answered = answered
        self.rewritten = rewritten
        self.targets: dict[int, Target] = {}


class Pending:
    """An offer that is not agreed yet. ``lines`` are all that it secures, ``new`` those reserved for it.

    ``guarded`` are lines that pass under TLS of the ends' own. ``undo`` is what lines were before its first answer.
    ``notes`` are words for the log.
    """

    __slots__ = ("ends", "gone", "guarded", "legs", "lines", "new", "notes", "offer", "sdp", "tcp_mode", "undo")

    def __init__(self, offer: OfferIn, sdp: Described) -> None:
        self.offer = offer
        self.sdp = sdp
        self.lines: dict[int, Line] = {}
        self.new: list[Line] = []
        self.gone: set[int] = set()
        self.ends: dict[int, Endpoint] = {}
        self.legs: dict[str, Leg] = {}
        self.undo: dict[int, Target] = {}
        self.guarded: set[int] = set()
        self.notes: list[str] = []
        self.tcp_mode = "proxy"
