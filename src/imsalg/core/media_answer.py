"""Is this an answer that the secured lines of its offer can live with? Fail closed: whatever is doubtful ends the call.

The answer must keep the transport that each line was offered with (RFC 3264 6.1), also of lines that pass under TLS of
the ends' own; the UE's must carry a fingerprint to verify; ``a=setup`` must be legal. What an MSRP end without CEMA can
be served with is told in :mod:`imsalg.core.msrp_mode`.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import Struct

from imsalg.core.media_events import Side
from imsalg.core.media_facts import Endpoint, endpoint, proto_of, usable_fingerprints
from imsalg.core.media_kinds import MEDIA
from imsalg.core.media_policy import TEXTS, Prints, Proto
from imsalg.core.msrp_mode import Mode, Paths, paths_of
from imsalg.core.reservations import Line, connecting, opposite
from imsalg.media_settings import MsrpMode
from imswire.base import ProtocolError
from imswire.sdp.model import Media, SessionDescription
from imswire.sdp.offer_answer import Described, check_pairs


class Cema(StrEnum):
    """What becomes of ``a=msrp-cema`` in an answer on its way to the offerer."""

    KEEP = "keep"
    ADD = "add"
    FALL_BACK = "fall-back"
    """It stays away, so that the offerer makes a new offer without it."""


class Answered(Struct, frozen=True):
    """The secured lines of an answer: the answerer's ends, the sides whose ends connect (None: held), what was
    rejected, and what is to be done with ``a=msrp-cema`` (KEEP where a line is not named)."""

    ends: dict[int, Endpoint]
    active: dict[int, frozenset[Side] | None]
    rejected: frozenset[int]
    cema: dict[int, Cema]


class Offered(Struct, frozen=True):
    """What an answer is held against: the offer, its secured lines and their ends, and the lines that pass under
    TLS."""

    sdp: Described
    lines: Mapping[int, Line]
    ends: Mapping[int, Endpoint]
    guarded: Collection[int] = ()
    tcp_mode: str = "proxy"


def check_answer(
    offered: Offered, answer: SessionDescription, side: Side, *, mode: MsrpMode = "auto", allow_sha1: bool = False
) -> Answered:
    """Check the answer from ``side``.

    Raises :class:`ProtocolError` whose hint names the line and says why the call has to end.
    """
    check_pairs(offered.sdp, answer)
    found = Answered({}, {}, frozenset(i for i in offered.lines if answer.media[i].rejected), {})
    for index in sorted({*offered.lines, *offered.guarded}):
        media = answer.media[index]
        if media.rejected:
            continue
        try:
            if index in offered.lines:
                _line(found, index, offered, answer, side, mode=mode, allow_sha1=allow_sha1)
            elif proto_of(media) is Proto.PLAIN:
                raise ProtocolError(
                    "sdp.answer-proto", f"{offered.sdp.media[index].proto} was offered, {media.proto} answered"
                )
        except ProtocolError as error:
            raise ProtocolError(
                "media.answer", f"answered media line {index + 1}: {error.hint or error.reason}"
            ) from None
    return found


def _line(
    found: Answered,
    index: int,
    offered: Offered,
    answer: SessionDescription,
    side: Side,
    *,
    mode: MsrpMode,
    allow_sha1: bool,
) -> None:
    media, line = answer.media[index], offered.lines[index]
    medium = MEDIA[line.medium]
    expected = medium.secure if side is Side.ACCESS else medium.plain
    if media.proto.upper() != expected:
        raise ProtocolError("sdp.answer-proto", f"{expected} was offered, {media.proto} answered")
    if side is Side.ACCESS:
        prints, _ = usable_fingerprints(answer, media, allow_sha1=allow_sha1)
        if prints is not Prints.USABLE:
            raise ProtocolError("sdp.fingerprint", TEXTS[f"fingerprint-{prints}"])
    end = endpoint(answer, media, allow_sha1=allow_sha1)
    active = connecting(opposite(side), offered.ends[index], end, offered.tcp_mode)
    if medium.paths:
        cema = _cema(line, media, end, connects=active is not None and side in active, mode=mode)
        if cema is not Cema.KEEP:
            found.cema[index] = cema
        if cema is Cema.FALL_BACK:
            active = None  # nobody is to connect before the next offer
    found.ends[index], found.active[index] = end, active


def _cema(line: Line, media: Media, end: Endpoint, *, connects: bool, mode: MsrpMode) -> Cema:
    if line.mode is not Mode.AWARE and end.cema:
        return Cema.KEEP
    paths = paths_of(media)
    if line.mode is Mode.AWARE:
        if paths is not Paths.ONE:
            raise ProtocolError("sdp.path", TEXTS[paths.value])
        return Cema.KEEP
    if paths is Paths.RELAYS:
        raise ProtocolError("sdp.path", TEXTS["relays"])
    if not connects:
        return Cema.ADD
    if mode == "agnostic":
        # Such an endpoint connects to the a=path it received, past the gateway (RFC 6714 4.1).
        raise ProtocolError("sdp.cema", "the active end does not support msrp-cema")
    return Cema.FALL_BACK


def guarded_lines(sdp: SessionDescription, secured: Collection[int]) -> set[int]:
    """Lines of an offer that pass under TLS of the ends' own: their answer must not take it away."""
    found = set()
    for index, media in enumerate(sdp.media):
        if index not in secured and not media.rejected and proto_of(media) is Proto.TLS:
            found.add(index)
    return found
