"""Offers and answers of a call, read and written: pure steps between :mod:`imsalg.core.call` and the SDP."""

from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from imsalg.core import reservations
from imsalg.core.call_model import Leg, Pending
from imsalg.core.media_answer import Answered, Cema, Offered, check_answer, guarded_lines
from imsalg.core.media_events import AccessProfile, AnswerIn, OfferIn, Side
from imsalg.core.media_facts import Endpoint, endpoint, line_facts
from imsalg.core.media_kinds import MEDIA
from imsalg.core.media_policy import History, Kind, MediaPlan, plan_offer, policy_for
from imsalg.core.reservations import Line, opposite
from imsalg.core.sdp_rewrite import Anchor, rewrite
from imsalg.media_settings import MediaSettings
from imswire.h248.iq import session_path
from imswire.sdp.attributes import Setup
from imswire.sdp.model import Limits, SessionDescription
from imswire.sdp.offer_answer import Described, check_new_offer, check_pairs
from imswire.sdp.outline import outline


class OfferRefused(Exception):
    """The policy refuses the offer; ``warning`` names the line and says why, ``medium`` is what it is of."""

    def __init__(self, plan: MediaPlan, medium: str) -> None:
        super().__init__(plan.warning)
        self.status = plan.status
        self.medium = medium
        self.warning = plan.warning


class Session(Struct, frozen=True):
    """What was agreed before an offer: secured lines, transports of lines that passed, and the last agreed offer."""

    profile: AccessProfile
    lines: Mapping[int, Line]
    passed: Mapping[int, str]
    last: Described | None


_MSRP = b"\nm=message "
"""What no body of plain audio and video has."""


@lru_cache(maxsize=8)
def _limits(lines: int) -> Limits:
    """Bounds of a body, made once for each setting."""
    return Limits(media=lines)


def _history(sdp: SessionDescription, session: Session) -> dict[int, History]:
    """What the lines of an offer were until now, where they were anything."""
    history = {
        index: History.PASSED
        for index, proto in session.passed.items()
        if index < len(sdp.media) and sdp.media[index].proto.upper() == proto
    }
    history.update(dict.fromkeys(session.lines, History.SECURED))
    return history


def read_offer(event: OfferIn, session: Session, settings: MediaSettings) -> Pending:
    """Plan an offer; lines that are to be secured and are not yet come out in ``new``, unreserved.

    A line whose messages are to be handled otherwise from now on, or whose media was given up, is new too; the old
    one goes when the new one is agreed. Raises :class:`OfferRefused` by policy and :class:`ProtocolError` for what
    cannot be read. An offer of plain audio and video, whose lines pass in every row of the matrix, is not read further.
    """
    if not session.lines and _MSRP not in event.body:
        plain = outline(event.body, settings.limits.lines)
        if plain is not None:
            if session.last is not None:
                check_new_offer(session.last, plain)
            return Pending(event, plain)
    sdp = SessionDescription.parse(event.body, _limits(settings.limits.lines))
    if session.last is not None:
        check_new_offer(session.last, sdp)
    history = _history(sdp, session) if session.passed or session.lines else {}
    secured = {index: (line.medium, line.aware) for index, line in session.lines.items()} if session.lines else None
    allow_sha1 = settings.policy.allow_sha1
    facts = line_facts(sdp, event.side, session.profile.agreed, history, secured, allow_sha1=allow_sha1)
    realm = session.profile.access_realm
    plans, refusal = plan_offer(facts, settings, realm)
    if refusal is not None:
        raise OfferRefused(refusal, facts[refusal.index].medium)
    pending = Pending(event, sdp)
    pending.tcp_mode = settings.realm(realm).tcp_mode
    for plan, fact in zip(plans, facts, strict=True):
        if plan.kind is Kind.REMOVED and plan.index in session.lines:
            pending.gone.add(plan.index)
        if plan.kind is Kind.PASS and plan.reason:
            pending.notes.append(plan.warning)
        if plan.kind is not Kind.E2AE:
            continue
        end = endpoint(sdp, sdp.media[plan.index], allow_sha1=allow_sha1)
        line = session.lines.get(plan.index)
        if line is None or line.dead or line.mode is not plan.mode:
            line = reservations.new_line(plan.index, event.side, end, session.profile, settings, fact.medium, plan.mode)
            pending.new.append(line)
        pending.ends[plan.index] = end
        pending.lines[plan.index] = line
    if len(pending.lines) < len(facts):
        guarded = guarded_lines(sdp, pending.lines)
        pending.guarded = {index for index in guarded if policy_for(facts[index], settings, realm) != "off"}
    return pending


def write_offer(pending: Pending, profile: AccessProfile, settings: MediaSettings) -> bytes:
    """The offer as it goes on, all its lines being reserved; raises :class:`ProtocolError`."""
    if not isinstance(pending.sdp, SessionDescription):
        return pending.offer.body
    towards = opposite(pending.offer.side)
    anchors = {}
    for index, line in pending.lines.items():
        end = pending.ends[index]
        sent = reservations.setup_to_offer(end.setup, pending.tcp_mode)
        setup = None if sent is end.setup else sent
        anchors[index] = _anchor(line, towards, end, setup=setup)
    for index in pending.gone:
        anchors[index] = Anchor(rejected=True)
    scheme = settings.realm(profile.access_realm).path_scheme
    return rewrite(pending.sdp, towards, anchors, offer=True, path_scheme=scheme)


def read_answer(event: AnswerIn, pending: Pending, profile: AccessProfile, settings: MediaSettings) -> Leg:
    """What a leg answered and what goes back for it; raises :class:`ProtocolError`."""
    if not (pending.lines or pending.guarded or pending.gone):
        plain = outline(event.body, settings.limits.lines)
        if plain is not None:
            check_pairs(pending.sdp, plain)
            return Leg(event.body, Answered({}, {}, frozenset(), {}), event.body)
    sdp = SessionDescription.parse(event.body, _limits(settings.limits.lines))
    realm = settings.realm(profile.access_realm)
    offered = Offered(pending.sdp, pending.lines, pending.ends, pending.guarded, pending.tcp_mode)
    answered = check_answer(offered, sdp, event.side, mode=realm.msrp_mode, allow_sha1=settings.policy.allow_sha1)
    towards = pending.offer.side
    anchors = dict.fromkeys(answered.rejected | pending.gone, Anchor(rejected=True))
    for index, end in answered.ends.items():
        line = pending.lines[index]
        setup = _answered_setup(answered, index, end, pending, towards)
        cema = True if answered.cema.get(index) is Cema.ADD else None
        anchors[index] = _anchor(line, towards, end, setup=setup, cema=cema)
    rewritten = rewrite(sdp, towards, anchors, offer=False, path_scheme=realm.path_scheme)
    return Leg(event.body, answered, rewritten)


def targets(
    pending: Pending, leg: Leg, profile: AccessProfile, settings: MediaSettings
) -> dict[int, reservations.Target]:
    """What the lines are to be for ``leg``, as they stand now."""
    offerer = pending.offer.side
    return {
        index: reservations.configured(
            pending.lines[index],
            offerer,
            {opposite(offerer): end, offerer: pending.ends[index]},
            leg.answered.active[index],
            profile,
            settings,
        )
        for index, end in leg.answered.ends.items()
    }


def _answered_setup(answered: Answered, index: int, end: Endpoint, pending: Pending, offerer: Side) -> Setup | None:
    """The role that the answer has to name where the offer went on with another one than the offerer's."""
    offered, active = pending.ends[index].setup, answered.active[index]
    if active is None or reservations.setup_to_offer(offered, pending.tcp_mode) is offered:
        return None
    wanted = Setup.PASSIVE if offerer in active else Setup.ACTIVE
    return None if (end.setup or Setup.PASSIVE) is wanted else wanted


def _anchor(
    line: Line, towards: Side, end: Endpoint, *, setup: Setup | None = None, cema: bool | None = None
) -> Anchor:
    place, request = line.terminations[towards], line.requests[towards]
    aware = line.aware
    return Anchor(
        family=request.family,
        address=place.address,
        port=place.port,
        fingerprint=place.fingerprint if towards is Side.ACCESS else None,
        path=session_path(request.proto, end.session, place.address, place.port) if aware else None,
        setup=setup,
        cema=False if aware else cema,
        paths=MEDIA[line.medium].paths,
    )
