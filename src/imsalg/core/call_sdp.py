"""Offers and answers of a call, read and written: pure steps between :mod:`imsalg.core.call` and the SDP."""

from collections.abc import Mapping

from msgspec import Struct

from imsalg.core import reservations
from imsalg.core.call_model import Leg, Pending
from imsalg.core.media_answer import check_answer
from imsalg.core.media_events import AccessProfile, AnswerIn, OfferIn, Side
from imsalg.core.media_facts import endpoint, line_facts
from imsalg.core.media_policy import History, Kind, MediaPlan, plan_offer
from imsalg.core.reservations import Line, opposite
from imsalg.core.sdp_rewrite import Anchor, rewrite
from imsalg.media_settings import MediaSettings
from imswire.sdp.model import Limits, SessionDescription
from imswire.sdp.offer_answer import check_new_offer


class OfferRefused(Exception):
    """The policy refuses the offer; ``warning`` names the line and says why."""

    def __init__(self, plan: MediaPlan) -> None:
        super().__init__(plan.warning)
        self.status = plan.status
        self.warning = plan.warning


class Session(Struct, frozen=True):
    """What was agreed before an offer: secured lines, transports of lines that passed, and the last agreed offer."""

    profile: AccessProfile
    lines: Mapping[int, Line]
    passed: Mapping[int, str]
    last: SessionDescription | None


def read_offer(event: OfferIn, session: Session, settings: MediaSettings) -> Pending:
    """Plan an offer; lines that are to be secured and are not yet come out in ``new``, unreserved.

    Raises :class:`OfferRefused` by policy and :class:`ProtocolError` for what cannot be read.
    """
    sdp = SessionDescription.parse(event.body, Limits(media=settings.limits.lines))
    if session.last is not None:
        check_new_offer(session.last, sdp)
    history = {
        index: History.PASSED
        for index, proto in session.passed.items()
        if index < len(sdp.media) and sdp.media[index].proto.upper() == proto
    }
    history.update(dict.fromkeys(session.lines, History.SECURED))
    allow_sha1 = settings.policy.allow_sha1
    facts = line_facts(sdp, event.side, session.profile.agreed, history, allow_sha1=allow_sha1)
    policy = settings.realm(session.profile.access_realm).msrp or settings.policy.msrp
    plans, refusal = plan_offer(facts, policy)
    if refusal is not None:
        raise OfferRefused(refusal)
    pending = Pending(event, sdp)
    for plan in plans:
        if plan.kind is Kind.REMOVED and plan.index in session.lines:
            pending.gone.add(plan.index)
        if plan.kind is not Kind.E2AE:
            continue
        end = endpoint(sdp, sdp.media[plan.index], allow_sha1=allow_sha1)
        line = session.lines.get(plan.index)
        if line is None:
            line = reservations.new_line(plan.index, event.side, end, session.profile, settings)
            pending.new.append(line)
        pending.ends[plan.index] = end
        pending.lines[plan.index] = line
    return pending


def write_offer(pending: Pending, profile: AccessProfile, settings: MediaSettings) -> bytes:
    """The offer as it goes on, all its lines being reserved; raises :class:`ProtocolError`."""
    towards = opposite(pending.offer.side)
    anchors = {index: _anchor(line, towards) for index, line in pending.lines.items()}
    anchors.update({index: Anchor(rejected=True) for index in pending.gone})
    scheme = settings.realm(profile.access_realm).path_scheme
    return rewrite(pending.sdp, towards, anchors, offer=True, path_scheme=scheme)


def read_answer(event: AnswerIn, pending: Pending, profile: AccessProfile, settings: MediaSettings) -> Leg:
    """What a leg answered, what goes back for it, and what its lines are to be; raises :class:`ProtocolError`."""
    sdp = SessionDescription.parse(event.body, Limits(media=settings.limits.lines))
    allow_sha1 = settings.policy.allow_sha1
    answered = check_answer(pending.sdp, sdp, event.side, pending.lines.keys(), pending.ends, allow_sha1=allow_sha1)
    towards = pending.offer.side
    anchors = {index: Anchor(rejected=True) for index in (answered.rejected | pending.gone)}
    wanted = {}
    for index, end in answered.ends.items():
        line = pending.lines[index]
        anchors[index] = _anchor(line, towards)
        ends = {event.side: end, towards: pending.ends[index]}
        wanted[index] = reservations.configured(line, ends, answered.active[index], profile, settings)
    scheme = settings.realm(profile.access_realm).path_scheme
    rewritten = rewrite(sdp, towards, anchors, offer=False, path_scheme=scheme)
    return Leg(event.body, answered, rewritten, wanted)


def _anchor(line: Line, towards: Side) -> Anchor:
    place = line.terminations[towards]
    prints = place.fingerprint if towards is Side.ACCESS else None
    return Anchor(line.requests[towards].family, place.address, place.port, prints)
