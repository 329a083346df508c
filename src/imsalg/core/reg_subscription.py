"""One subscription to the registration state of a user: its dialog, and when it is refreshed (RFC 6665, RFC 3680)."""

from enum import Enum, auto

from imsalg.core.bindings import Binding
from imswire.sip.values import NameAddr

LEAD = 600.0
"""Seconds before its end that a subscription is refreshed; a short one when half of it has passed (TS 24.229 5.2.3)."""


FLOOR = 60.0
"""Seconds between two refreshes at the least, as far as the grant lasts that long."""


BRIEF = 20.0
"""Seconds: what is granted for less is not kept up, and no grant is refreshed sooner than after half of that."""


class State(Enum):
    """Stages of a subscription."""

    ASKED = auto()  # a SUBSCRIBE has no answer yet
    ACTIVE = auto()
    RESTING = auto()  # refused or over; asked for again when its time has come


class Subscription:
    """One user's subscription: a dialog in which this node is the subscriber."""

    __slots__ = (
        "again_at",
        "aor",
        "asked_at",
        "call_id",
        "contact",
        "core_realm",
        "cseq",
        "identity",
        "lengthened",
        "refresh_at",
        "remote",
        "remote_cseq",
        "routes",
        "service_route",
        "state",
        "tag",
        "target",
        "version",
    )

    def __init__(self, binding: Binding, call_id: str, tag: str) -> None:
        self.aor = binding.aor
        self.identity = NameAddr.parse(binding.default_identity).uri
        self.core_realm = binding.profile.core_realm
        self.service_route = binding.service_route
        self.again_at = 0.0  # before that time a gap in what is told is not filled by another SUBSCRIBE
        self.renewed(call_id, tag)

    def renewed(self, call_id: str, tag: str) -> None:
        """Begin a new dialog."""
        self.state = State.ASKED
        self.call_id = call_id
        self.tag = tag
        self.contact = ""
        self.cseq = 0
        self.lengthened = False  # a 423 was met with the interval that it asks for
        self.remote = ""  # the notifier's To or From with its tag, once known
        self.remote_cseq = -1
        self.target = self.identity
        self.routes: list[str] = []
        self.asked_at = 0.0
        self.refresh_at = 0.0  # 0 while a SUBSCRIBE has no answer, which is what sets it
        self.version = -1

    def lasts(self, seconds: float, now: float, answer: float) -> None:
        """It goes on for ``seconds``: set when to refresh it, where that may be, ``answer`` seconds before its end."""
        after = seconds - LEAD if seconds > 2 * LEAD else max(seconds / 2, min(FLOOR, seconds - answer))
        self.state = State.ACTIVE
        self.refresh_at = max(now + after, self.asked_at + BRIEF / 2)

    def told(self, seconds: float, now: float, answer: float) -> None:
        """The same by a NOTIFY, which may bring a refresh forward but never puts it off."""
        planned = self.refresh_at
        if not planned:  # one is under way, and its answer says how long
            self.state = State.ACTIVE
            return
        self.lasts(seconds, now, answer)
        self.refresh_at = min(self.refresh_at, planned)
