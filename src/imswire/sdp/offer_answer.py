"""Offer/answer rules: pairing of m-lines (RFC 3264), the setup table (RFC 4145), one offer at a time (RFC 6337).

For MSRP two documents meet. RFC 4975 8.5 knows no ``a=setup``: the offerer connects. RFC 6135 adds COMEDIA: an offer
says actpass, or active where no reachable address can be given, and never passive; with ``active`` the m-line's port
should be 9; the answerer should take passive unless it is behind a NAT; ``a=connection`` is ignored. The two
interwork because an absent ``a=setup`` reads as active in an offer and passive in an answer (RFC 4145 4).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from imswire.base import ProtocolError
from imswire.sdp.attributes import Setup
from imswire.sdp.model import Media, SessionDescription


class MediaLine(Protocol):
    """An m-line, of a model or of an outline."""

    @property
    def media(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def proto(self) -> str: ...

    @property
    def rejected(self) -> bool: ...


class Described(Protocol):
    """A description as far as rules about the number and kind of its m-lines need it."""

    @property
    def media(self) -> Sequence[MediaLine]: ...


LEGAL_ANSWERS: dict[Setup, frozenset[Setup]] = {
    Setup.ACTIVE: frozenset({Setup.PASSIVE, Setup.HOLDCONN}),
    Setup.PASSIVE: frozenset({Setup.ACTIVE, Setup.HOLDCONN}),
    Setup.ACTPASS: frozenset({Setup.ACTIVE, Setup.PASSIVE, Setup.HOLDCONN}),
    Setup.HOLDCONN: frozenset({Setup.HOLDCONN}),
}
"""RFC 4145 4.1: what an answer may say to an offer."""

_FIRST_CHOICE = {
    Setup.ACTIVE: Setup.PASSIVE,
    Setup.PASSIVE: Setup.ACTIVE,
    Setup.ACTPASS: Setup.PASSIVE,
    Setup.HOLDCONN: Setup.HOLDCONN,
}


class Connector(StrEnum):
    """Who opens the TCP connection after an exchange; NOBODY while the connection is held."""

    OFFERER = "offerer"
    ANSWERER = "answerer"
    NOBODY = "nobody"


def pair(offer: SessionDescription, answer: SessionDescription) -> list[tuple[Media, Media]]:
    """Match the m-sections of an answer with those of its offer, by position; raises what :func:`check_pairs` does."""
    check_pairs(offer, answer)
    return list(zip(offer.media, answer.media, strict=True))


def check_pairs(offer: Described, answer: Described) -> None:
    """The m-sections of an answer match those of its offer, by position (RFC 3264 6).

    Raises ``sdp.answer-count`` where the numbers differ, ``sdp.answer-media`` where a media type differs or an
    m-line that the offer did not use (port 0) is used by the answer.
    """
    if len(offer.media) != len(answer.media):
        raise ProtocolError("sdp.answer-count", f"{len(offer.media)} m-lines offered, {len(answer.media)} answered")
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media, strict=True)):
        if offered.media != answered.media:
            raise ProtocolError("sdp.answer-media", f"m-line {index}: {offered.media} offered, {answered.media} seen")
        if offered.rejected and not answered.rejected:
            raise ProtocolError("sdp.answer-media", f"m-line {index} was offered with port 0 and answered with another")


def same_proto(offered: Media, answered: Media) -> bool:
    """Whether an answered m-line kept the transport protocol offered (RFC 3264 6.1), letter case ignored."""
    return offered.proto.upper() == answered.proto.upper()


def check_new_offer(previous: Described, offer: Described) -> None:
    """A later offer has at least as many m-lines as the description before it (RFC 3264 8).

    Raises ``sdp.offer-count``. Media type and transport of a line may change (RFC 3264 8.3).
    """
    if len(offer.media) < len(previous.media):
        raise ProtocolError("sdp.offer-count", f"{len(previous.media)} m-lines before, only {len(offer.media)} now")


def answer_setup(offered: Setup | None, preferred: Setup | None = None) -> Setup:
    """The setup role for an answer: ``preferred`` if legal, else the natural opposite; actpass becomes passive.

    ``offered`` None is read as active (RFC 4145 4, RFC 4975 8.5).
    """
    offered = offered or Setup.ACTIVE
    if preferred is not None and preferred in LEGAL_ANSWERS[offered]:
        return preferred
    return _FIRST_CHOICE[offered]


def connector(offered: Setup | None, answered: Setup | None) -> Connector:
    """Who connects after offer and answer, absent values read as RFC 4145 4 says (active, passive).

    For MSRP the one who connects is also the TLS client (RFC 6135 6) and the one that sends the first request at
    once (RFC 4975 5.4). Raises ``sdp.setup-answer`` where the answer is not legal for the offer.
    """
    offered = offered or Setup.ACTIVE
    answered = answered or Setup.PASSIVE
    if answered not in LEGAL_ANSWERS[offered]:
        raise ProtocolError("sdp.setup-answer", f"setup:{answered} does not answer setup:{offered}")
    if answered is Setup.HOLDCONN:
        return Connector.NOBODY
    return Connector.ANSWERER if answered is Setup.ACTIVE else Connector.OFFERER


class PendingOffer:
    """One offer at a time in a dialog (RFC 3264 4, RFC 6337 2). Parties are named by any label, ``"a"`` and ``"b"``.

    Keeps the last agreed descriptions only as a number of m-lines, so it costs next to nothing per dialog.
    """

    __slots__ = ("_lines", "_offer", "_offerer")

    def __init__(self) -> None:
        self._offer: SessionDescription | None = None
        self._offerer: str | None = None
        self._lines = 0

    @property
    def offerer(self) -> str | None:
        """Whose offer is outstanding, None for nobody's."""
        return self._offerer

    def offer(self, party: str, sdp: SessionDescription) -> None:
        """An offer by ``party``.

        Raises ``sdp.offer-glare`` where the other party's offer is outstanding (a SIP 491), ``sdp.offer-pending``
        where its own is (a 500 with Retry-After), ``sdp.offer-count`` where it has fewer m-lines than agreed before.
        """
        if self._offerer is not None:
            reason = "sdp.offer-pending" if self._offerer == party else "sdp.offer-glare"
            raise ProtocolError(reason, f"an offer by {self._offerer} is outstanding")
        if len(sdp.media) < self._lines:
            raise ProtocolError("sdp.offer-count", f"{self._lines} m-lines before, only {len(sdp.media)} now")
        self._offer, self._offerer = sdp, party

    def answer(self, party: str, sdp: SessionDescription) -> list[tuple[Media, Media]]:
        """The answer to the outstanding offer: pairs as :func:`pair` makes them, and nothing outstanding any more.

        Raises ``sdp.answer-unexpected`` where no offer of the other party is outstanding, or what :func:`pair` raises
        (the offer then stays outstanding).
        """
        if self._offer is None or self._offerer == party:
            raise ProtocolError("sdp.answer-unexpected", f"no offer for {party} to answer")
        pairs = pair(self._offer, sdp)
        self._lines = max(self._lines, len(pairs))
        self._offer = self._offerer = None
        return pairs

    def withdraw(self) -> None:
        """The offer was rejected or its transaction failed: what was agreed before stays (RFC 3264 4)."""
        self._offer = self._offerer = None
