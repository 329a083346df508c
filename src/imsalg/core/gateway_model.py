"""What the controller keeps of its media gateways, and what it reports of them to calls: values without behaviour."""

import math
from collections.abc import Iterable
from enum import Enum, auto

from msgspec import Struct

from imswire.h248.iq import MediaFailure
from imswire.h248.model import CHOOSE_CONTEXT, ErrorDescriptor, TransactionReply
from imswire.h248.transaction import TransactionLayer

NO_TERMINATION = 431
"""The error of an audit of everything in a gateway that holds nothing."""


def message_id(name: str) -> str:
    """The mId for a node's name (RFC 3525 B.2): a domain name goes in angle brackets, a device name stands as it is."""
    return f"<{name}>" if "." in name and name[0] not in "<[" else name


def after(since: float, wait: float) -> float:
    """``wait`` seconds after ``since``; never where it is 0."""
    return since + wait if wait > 0 else math.inf


def audited_contexts(reply: TransactionReply) -> tuple[set[int], ErrorDescriptor | None]:
    """The contexts that an audit of everything found, or the error that says that it found out nothing."""
    faults = [reply.error] if reply.error is not None else []
    for action in reply.actions:
        faults += [fault for fault in (action.error, *(c.error for c in action.commands)) if fault is not None]
    for fault in faults:
        if fault.code != NO_TERMINATION:
            return set(), fault
    return {action.context for action in reply.actions if 0 < action.context < CHOOSE_CONTEXT}, None


class Done(Struct, frozen=True):
    """A transaction with ``ticket`` has its outcome: a reply, or an error ``code`` (0: no reply came) with ``text``."""

    ticket: int
    reply: TransactionReply | None = None
    code: int = 0
    text: str = ""


class Lost(Struct, frozen=True):
    """These contexts of the gateway are gone, and with them the calls that claim them."""

    gateway: str
    contexts: tuple[int, ...]
    text: str


class Failed(Struct, frozen=True):
    """A Notify: the media of a claimed context failed."""

    gateway: str
    context: int
    termination: str
    failure: MediaFailure


Report = Done | Lost | Failed


class State(Enum):
    """Where a gateway is. Only one that is IN_SERVICE gets new calls."""

    IN_SERVICE = auto()
    LEAVING = auto()
    """ServiceChange Graceful: its calls go on."""
    AWAY = auto()
    """The link is down; the grace time runs."""


class Walk:
    """An audit that runs: ``claimed`` are the contexts that were claimed when it began, ``found`` those that it found.

    Where the gateway has too many for one message, ``unchecked`` are claimed ones that are still to be looked for,
    ``names`` the names of terminations that are still to be asked for, the last one first.
    """

    __slots__ = ("claimed", "found", "names", "pages", "unchecked")

    def __init__(self, claimed: Iterable[int]) -> None:
        self.claimed = frozenset(claimed)
        self.found: set[int] = set()
        self.unchecked: list[int] = []
        self.names: list[str] = []
        self.pages = 0


class Gateway:
    """One gateway.

    ``contexts`` maps what is claimed to the call's key; ``reserving`` counts contexts asked for; ``suspects`` are
    contexts that an audit found and nobody claims; ``probed`` is when the heartbeat was sent that has no answer yet.
    ``walk`` is the audit that runs, ``audit_again`` asks for another one after it, ``audit_at`` tells when one is due.
    ``owed`` are the contexts that are still to be subtracted because that was refused or not answered, with the times
    that it was tried, and ``owed_at`` when it is tried again.
    """

    __slots__ = (
        "audit_again",
        "audit_at",
        "audit_due",
        "away_until",
        "contexts",
        "heard",
        "link",
        "mid",
        "owed",
        "owed_at",
        "probe_at",
        "probed",
        "reserving",
        "state",
        "suspects",
        "walk",
    )

    def __init__(self, mid: str, link: int, now: float) -> None:
        self.mid = mid
        self.link = link
        self.state = State.IN_SERVICE
        self.contexts: dict[int, str] = {}
        self.reserving = 0
        self.heard = now
        self.probe_at = now
        self.probed: float | None = None
        self.away_until = 0.0
        self.audit_due = False
        self.suspects: set[int] = set()
        self.walk: Walk | None = None
        self.audit_again = False
        self.audit_at = math.inf
        self.owed: dict[int, int] = {}
        self.owed_at = math.inf

    @property
    def load(self) -> int:
        """What balances new calls."""
        return len(self.contexts) + self.reserving


class Ticket(Struct, frozen=True):
    """A transaction in flight: its number for whoever waits, the call it is for, and how many contexts it asks for."""

    number: int
    call: str = ""
    call_id: str = ""
    reserving: int = 0


class Link:
    """One association of the shell. ``tickets`` are the transactions in flight, by transaction id; ``ending`` the
    contexts that they subtract."""

    __slots__ = ("bad", "ending", "gateway", "layer", "number", "peer", "tickets")

    def __init__(self, number: int, peer: str, layer: TransactionLayer) -> None:
        self.number = number
        self.peer = peer
        self.layer = layer
        self.gateway: Gateway | None = None
        self.tickets: dict[int, Ticket] = {}
        self.ending: dict[int, tuple[int, ...]] = {}
        self.bad = 0
