"""Is this an answer that the secured lines of its offer can live with? Fail closed: whatever is doubtful ends the call.

The answer must keep the transport that each secured line was offered with (RFC 3264 6.1), the UE's must carry a
fingerprint to verify, ``a=setup`` must be legal, and without CEMA the answerer must be where it says that it is (RFC
6714 4).
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from imsalg.core.media_events import Side
from imsalg.core.media_facts import (
    Endpoint,
    endpoint,
    path_matches_connection,
    proto_of,
    usable_fingerprints,
)
from imsalg.core.media_policy import TEXTS, Prints, Proto
from imsalg.core.reservations import active_side, opposite
from imswire.base import ProtocolError
from imswire.sdp.model import Media, SessionDescription
from imswire.sdp.offer_answer import pair


class Answered(Struct, frozen=True):
    """The secured lines of an answer: the answerer's ends, whose end connects (None: held), and what was rejected."""

    ends: dict[int, Endpoint]
    active: dict[int, Side | None]
    rejected: frozenset[int]


def check_answer(
    offer: SessionDescription,
    answer: SessionDescription,
    side: Side,
    secured: Collection[int],
    offered: Mapping[int, Endpoint],
    *,
    allow_sha1: bool = False,
) -> Answered:
    """Check the answer from ``side`` against the lines ``secured`` of the offer, whose ends are ``offered``.

    Raises :class:`ProtocolError` whose hint names the line and says why the call has to end.
    """
    pair(offer, answer)
    ends: dict[int, Endpoint] = {}
    active: dict[int, Side | None] = {}
    rejected = set()
    for index in secured:
        media = answer.media[index]
        if media.rejected:
            rejected.add(index)
            continue
        try:
            ends[index], active[index] = _line(answer, media, side, offered[index], allow_sha1=allow_sha1)
        except ProtocolError as error:
            raise ProtocolError(
                "media.answer", f"answered media line {index + 1}: {error.hint or error.reason}"
            ) from None
    return Answered(ends, active, frozenset(rejected))


def _line(
    answer: SessionDescription, media: Media, side: Side, offered: Endpoint, *, allow_sha1: bool
) -> tuple[Endpoint, Side | None]:
    expected = Proto.MSRP_TLS if side is Side.ACCESS else Proto.MSRP
    if proto_of(media) is not expected:
        raise ProtocolError("sdp.answer-proto", f"{expected} was offered, {media.proto} answered")
    if side is Side.ACCESS:
        prints, _ = usable_fingerprints(answer, media, allow_sha1=allow_sha1)
        if prints is not Prints.USABLE:
            raise ProtocolError("sdp.fingerprint", TEXTS[f"fingerprint-{prints}"])
    end = endpoint(answer, media, allow_sha1=allow_sha1)
    active = active_side(opposite(side), offered, end)
    if not end.cema:
        if active is side:
            # Such an endpoint connects to the a=path it received, past the gateway (RFC 6714 4.1).
            raise ProtocolError("sdp.cema", "the active end does not support msrp-cema")
        if not path_matches_connection(end):
            raise ProtocolError("sdp.cema", "a=msrp-cema is missing and a=path differs from the connection address")
    return end, active
