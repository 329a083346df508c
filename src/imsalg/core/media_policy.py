"""What happens to each media line of an offer: a matrix, not a chain of ifs (TR 29.828 5.2.1.2.2 and 5.2.1.2.3 step 1).

:data:`MATRIX` maps what is known of a line (:class:`LineFacts`) and the operator's word to a :class:`Verdict`. Exactly
one row matches each combination; a combination without a row is refused. A line that is to be secured must then satisfy
:data:`REQUIREMENTS`.

The operator has a word for each medium (:data:`~imsalg.core.media_kinds.MEDIA`), realm and direction; below, TLS and
plain stand for the two transports of the medium, ``TCP/TLS/MSRP`` and ``TCP/MSRP``, ``TCP/TLS/BFCP`` and ``TCP/BFCP``.
The direction is that of the offer: a line that the UE offers is originating, in whatever call (TR 29.828 5.2.1.2.2).

``off``       nothing is done; every line passes unchanged.
``optional``  e2ae where the standard wants it: from the UE TLS with ``a=3ge2ae:requested`` and agreement at
              registration; towards the UE plain when the UE agreed. All else passes unchanged to the byte.
              ``requested`` without agreement passes too: step 1 makes agreement a condition for taking part in the
              security, and the UE's TLS then runs end to end, verified against the fingerprint in the peer's answer.
              It never becomes plain text, because an answer with another transport is not an answer to that line
              (RFC 3264 6).
``required``  every line is secured at the edge or the offer is refused with 488; lines keyed end to end by
              ``a=key-mgmt`` or ``a=crypto`` still pass.
``always``    TLS is terminated for every TLS line from a UE that has a fingerprint and added for every plain line
              towards a UE, even without agreement or indication (the notes on GSMA RCS 5.1).
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from imsalg.core.media_events import Side
from imsalg.core.media_kinds import MEDIA
from imsalg.core.msrp_mode import Mode, Paths, mode_of
from imsalg.media_settings import MediaSettings, MsrpMode, PolicyWord


class Proto(StrEnum):
    """The transports that the matrix tells apart: those of a medium of the edge, and all else."""

    TLS = "tls"
    PLAIN = "plain"
    OTHER = "other"


class History(StrEnum):
    """What this media line was until now: new in the session, passed through with the same transport, or secured."""

    NEW = "new"
    PASSED = "passed"
    SECURED = "secured"


class Prints(StrEnum):
    """The fingerprint attributes that apply to a line."""

    NONE = "none"
    USABLE = "usable"
    UNKNOWN = "unknown"
    BROKEN = "broken"


class Verdict(StrEnum):
    """What the matrix says; all but the first two refuse the offer."""

    PASS = "pass"
    SECURE = "secure"
    NO_TLS = "no-tls"
    NOT_REQUESTED = "not-requested"
    NOT_AGREED = "not-agreed"
    END_TO_END = "end-to-end"
    DOWNGRADE = "downgrade"
    TAKEOVER = "takeover"
    REPLACED = "replaced"
    NO_ROW = "no-row"


class LineFacts(Struct, frozen=True):
    """One m-line of an offer as the matrix sees it.

    ``requested``: ``a=3ge2ae:requested`` at media level. ``keyed``: ``a=key-mgmt`` or ``a=crypto`` applies.
    ``address_ok``: its connection is an IP address with a port. ``prints`` counts media and session level. ``medium``
    is a key of :data:`~imsalg.core.media_kinds.MEDIA`, empty for other lines. ``paths`` and ``aware`` (rewritten
    already) are for MSRP.
    """

    index: int
    side: Side
    proto: Proto
    history: History = History.NEW
    requested: bool = False
    agreed: bool = False
    prints: Prints = Prints.NONE
    keyed: bool = False
    cema: bool = False
    removed: bool = False
    address_ok: bool = True
    label: str = ""
    medium: str = "msrp"
    paths: Paths = Paths.ONE
    aware: bool = False


class Row(Struct, frozen=True):
    """One row; None matches anything, a tuple any of its members."""

    verdict: Verdict
    proto: tuple[Proto, ...]
    side: Side | None = None
    history: tuple[History, ...] = (History.NEW,)
    policy: tuple[PolicyWord, ...] | None = None
    keyed: bool | None = False
    requested: bool | None = None
    agreed: bool | None = None
    fingerprint: bool | None = None

    def matches(self, facts: LineFacts, policy: PolicyWord) -> bool:
        """True when every column of the row holds for the line under ``policy``."""
        return (
            facts.proto in self.proto
            and facts.history in self.history
            and (self.side is None or facts.side is self.side)
            and (self.policy is None or policy in self.policy)
            and (self.keyed is None or facts.keyed is self.keyed)
            and (self.requested is None or facts.requested is self.requested)
            and (self.agreed is None or facts.agreed is self.agreed)
            and (self.fingerprint is None or (facts.prints is not Prints.NONE) is self.fingerprint)
        )


_TLS, _PLAIN, _BOTH = (Proto.TLS,), (Proto.PLAIN,), (Proto.TLS, Proto.PLAIN)
_SECURED = (History.SECURED,)
_UE, _CORE = Side.ACCESS, Side.CORE

MATRIX: tuple[Row, ...] = (
    # Lines that are none of our business.
    Row(Verdict.PASS, (Proto.OTHER,), history=(History.NEW, History.PASSED), keyed=None),
    Row(Verdict.PASS, _BOTH, history=(History.PASSED,), keyed=None),
    Row(Verdict.PASS, _BOTH, keyed=True),
    Row(Verdict.PASS, _BOTH, policy=("off",)),
    # Lines that are secured already stay so, whoever offers them again.
    Row(Verdict.SECURE, _TLS, _UE, _SECURED, keyed=None),
    Row(Verdict.DOWNGRADE, _PLAIN, _UE, _SECURED, keyed=None),
    Row(Verdict.SECURE, _PLAIN, _CORE, _SECURED, keyed=None),
    Row(Verdict.TAKEOVER, _TLS, _CORE, _SECURED, keyed=None),
    Row(Verdict.REPLACED, (Proto.OTHER,), history=_SECURED, keyed=None),
    # From the UE, without TLS: an indication there contradicts the transport.
    Row(Verdict.PASS, _PLAIN, _UE, policy=("optional", "always"), requested=False),
    Row(Verdict.NO_TLS, _PLAIN, _UE, policy=("optional", "always"), requested=True),
    Row(Verdict.NO_TLS, _PLAIN, _UE, policy=("required",)),
    # From the UE, with TLS.
    Row(Verdict.PASS, _TLS, _UE, policy=("optional",), requested=False),
    Row(Verdict.PASS, _TLS, _UE, policy=("optional",), requested=True, agreed=False),
    Row(Verdict.SECURE, _TLS, _UE, policy=("optional", "required"), requested=True, agreed=True),
    Row(Verdict.NOT_REQUESTED, _TLS, _UE, policy=("required",), requested=False),
    Row(Verdict.NOT_AGREED, _TLS, _UE, policy=("required",), requested=True, agreed=False),
    Row(Verdict.SECURE, _TLS, _UE, policy=("always",), fingerprint=True),
    Row(Verdict.SECURE, _TLS, _UE, policy=("always",), fingerprint=False, requested=True),
    Row(Verdict.PASS, _TLS, _UE, policy=("always",), fingerprint=False, requested=False),
    # Towards the UE.
    Row(Verdict.SECURE, _PLAIN, _CORE, policy=("optional", "required"), agreed=True),
    Row(Verdict.PASS, _PLAIN, _CORE, policy=("optional",), agreed=False),
    Row(Verdict.NOT_AGREED, _PLAIN, _CORE, policy=("required",), agreed=False),
    Row(Verdict.SECURE, _PLAIN, _CORE, policy=("always",)),
    Row(Verdict.PASS, _TLS, _CORE, policy=("optional", "always")),
    Row(Verdict.END_TO_END, _TLS, _CORE, policy=("required",)),
)

TEXTS: dict[str, str] = {
    Verdict.NO_TLS: "protection is required but the line is offered without TLS",
    Verdict.NOT_REQUESTED: "policy requires 3ge2ae:requested",
    Verdict.NOT_AGREED: "{mechanism} was not agreed at registration",
    Verdict.END_TO_END: "policy requires protection at the access edge, not end to end",
    Verdict.DOWNGRADE: "the line is protected and cannot go on without TLS",
    Verdict.TAKEOVER: "the line is protected at the access edge and cannot become end to end",
    Verdict.REPLACED: "the line is protected and cannot change its transport",
    Verdict.NO_ROW: "no rule for this media line",
    "fingerprint-none": "no certificate fingerprint",
    "fingerprint-unknown": "no fingerprint with a supported hash (sha-256 at least)",
    "fingerprint-broken": "the certificate fingerprint cannot be read",
    "address": "the connection address is not an IP address",
    "no-cema": "a=msrp-cema is missing and message paths are not rewritten",
    "relays": "a=path names MSRP relays, so that neither its addresses can be replaced nor the line be protected",
    "path-missing": "there is no a=path",
    "path-broken": "a=path cannot be read",
    "path-session": "a=path has no session id",
}
"""Slug -> the words of the Warning."""

REQUIREMENTS: tuple[tuple[str, Side | None, Prints | None], ...] = (
    ("fingerprint-none", _UE, Prints.NONE),
    ("fingerprint-broken", _UE, Prints.BROKEN),
    ("fingerprint-unknown", _UE, Prints.UNKNOWN),
)
"""A line from the UE that is to be secured needs fingerprints to verify: (refusal, side, what refuses)."""


class Kind(StrEnum):
    """What is done with a line."""

    PASS = "pass"
    E2AE = "e2ae"
    REMOVED = "removed"
    REFUSE = "refuse"


class MediaPlan(Struct, frozen=True):
    """The decision for one m-line. A refusal has the SIP status, its slug and the Warning text that names the line.

    A line that passes although policy would have it secured has slug and text too, for the log. ``mode`` says whether
    the AGW rewrites messages.
    """

    index: int
    kind: Kind
    status: int = 0
    reason: str = ""
    warning: str = ""
    mode: Mode = Mode.AGNOSTIC


def verdict(facts: LineFacts, policy: PolicyWord) -> Verdict:
    """The matrix alone, for a line that is not removed."""
    return next((row.verdict for row in MATRIX if row.matches(facts, policy)), Verdict.NO_ROW)


def _worded(facts: LineFacts, slug: str) -> str:
    name = f"media line {facts.index + 1}"
    if facts.label:
        name += f" ({facts.label})"
    medium = MEDIA.get(facts.medium)
    return f"{name}: {TEXTS[slug].format(mechanism=medium.mechanism if medium else 'protection')}"


def refusal(facts: LineFacts, slug: str) -> MediaPlan:
    """A plan that refuses the whole offer with 488 because of this line (RFC 3261 21.4.26, Warning 399)."""
    return MediaPlan(facts.index, Kind.REFUSE, 488, slug, _worded(facts, slug))


def decide(facts: LineFacts, policy: PolicyWord, mode: MsrpMode = "auto") -> MediaPlan:
    """The plan of one line: the matrix, then what a line to be secured must have."""
    if facts.removed:
        return MediaPlan(facts.index, Kind.REMOVED)
    key = (
        facts.side,
        facts.proto,
        facts.history,
        facts.requested,
        facts.agreed,
        facts.prints,
        facts.keyed,
        facts.cema,
        facts.address_ok,
        facts.medium,
        facts.paths,
        facts.aware,
        policy,
        mode,
    )
    known = _KNOWN.get(key)
    if known is None:
        known = _KNOWN[key] = _outcome(facts, policy, mode)
    kind, handling, slug = known
    if kind is Kind.REFUSE:
        return refusal(facts, slug)
    if slug:
        return MediaPlan(facts.index, kind, reason=slug, warning=_worded(facts, slug))
    return MediaPlan(facts.index, kind, mode=handling)


type Outcome = tuple[Kind, Mode, str]
"""What is done with a line, how, and the slug of why."""

_KNOWN: dict[tuple[object, ...], Outcome] = {}
"""What was decided before. Each part of a key has a handful of values, so that there is no end to be put to it."""


def _outcome(facts: LineFacts, policy: PolicyWord, mode: MsrpMode) -> Outcome:
    """The decision by all that lines have in common, which is all but their place and their words."""
    outcome = verdict(facts, policy)
    if outcome is Verdict.PASS:
        return Kind.PASS, Mode.AGNOSTIC, ""
    if outcome is not Verdict.SECURE:
        return Kind.REFUSE, Mode.AGNOSTIC, outcome
    for slug, side, prints in REQUIREMENTS:
        if facts.side is side and facts.prints is prints:
            return Kind.REFUSE, Mode.AGNOSTIC, slug
    if not facts.address_ok:
        return Kind.REFUSE, Mode.AGNOSTIC, "address"
    if not MEDIA[facts.medium].paths:
        return Kind.E2AE, Mode.AGNOSTIC, ""
    handling = mode_of(mode, cema=facts.cema, paths=facts.paths, aware=facts.aware)
    if isinstance(handling, Mode):
        return Kind.E2AE, handling, ""
    if handling == "relays" and policy == "optional" and facts.history is History.NEW:
        return Kind.PASS, Mode.AGNOSTIC, handling
    return Kind.REFUSE, Mode.AGNOSTIC, handling


def plan_offer(
    lines: Sequence[LineFacts], settings: MediaSettings, realm: str
) -> tuple[tuple[MediaPlan, ...], MediaPlan | None]:
    """Plans for all lines of an offer from or to a UE of access realm ``realm``, and the first refusal if there is one:
    then the whole offer is refused.

    A mixed offer is not trimmed: the caller learns which line was not acceptable and can offer again without it.
    """
    mode = settings.realm(realm).msrp_mode
    plans = tuple([decide(line, policy_for(line, settings, realm), mode) for line in lines])
    for plan in plans:
        if plan.kind is Kind.REFUSE:
            return plans, plan
    return plans, None


def policy_for(line: LineFacts, settings: MediaSettings, realm: str) -> PolicyWord:
    """The operator's word for a line; ``off`` for media without one."""
    if line.medium not in MEDIA:
        return "off"
    return settings.policy_of(realm, line.medium, originating=line.side is Side.ACCESS)
