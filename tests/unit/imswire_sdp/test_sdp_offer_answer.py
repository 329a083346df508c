"""Pairing, the setup table and one offer at a time."""

from itertools import product

import pytest

from imswire.base import ProtocolError
from imswire.sdp.attributes import Setup
from imswire.sdp.model import SessionDescription
from imswire.sdp.offer_answer import (
    LEGAL_ANSWERS,
    Connector,
    PendingOffer,
    answer_setup,
    check_new_offer,
    connector,
    pair,
    same_proto,
)


def sdp(*lines: tuple[str, int, str]) -> SessionDescription:
    made = SessionDescription.create("IP4", "192.0.2.1", session_id=1)
    for media, port, proto in lines:
        made.add_media(media, port, proto)
    return made


MESSAGE = ("message", 2855, "TCP/MSRP")
AUDIO = ("audio", 4000, "RTP/AVP")


def test_pairs_by_position() -> None:
    offer, answer = sdp(AUDIO, MESSAGE), sdp(AUDIO, ("message", 0, "tcp/msrp"))
    pairs = pair(offer, answer)
    assert [(a is b, c is d) for (a, c), b, d in zip(pairs, offer.media, answer.media, strict=True)] == [
        (True, True)
    ] * 2
    assert pairs[1][1].rejected
    assert same_proto(*pairs[1])
    assert not same_proto(offer.media[0], offer.media[1])


@pytest.mark.parametrize(
    ("offer", "answer", "reason"),
    [
        (sdp(AUDIO, MESSAGE), sdp(AUDIO), "sdp.answer-count"),
        (sdp(AUDIO), sdp(AUDIO, MESSAGE), "sdp.answer-count"),
        (sdp(AUDIO), sdp(MESSAGE), "sdp.answer-media"),
        (sdp(("audio", 0, "RTP/AVP")), sdp(AUDIO), "sdp.answer-media"),
    ],
)
def test_an_answer_that_does_not_fit(offer: SessionDescription, answer: SessionDescription, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        pair(offer, answer)
    assert caught.value.reason == reason


def test_a_new_offer_keeps_its_lines() -> None:
    check_new_offer(sdp(AUDIO), sdp(AUDIO, MESSAGE))
    check_new_offer(sdp(AUDIO), sdp(("audio", 0, "RTP/AVP")))
    with pytest.raises(ProtocolError, match=r"sdp\.offer-count"):
        check_new_offer(sdp(AUDIO, MESSAGE), sdp(AUDIO))


A, P, AP, H = Setup.ACTIVE, Setup.PASSIVE, Setup.ACTPASS, Setup.HOLDCONN
LEGAL = {
    (A, P): Connector.OFFERER,
    (A, H): Connector.NOBODY,
    (P, A): Connector.ANSWERER,
    (P, H): Connector.NOBODY,
    (AP, A): Connector.ANSWERER,
    (AP, P): Connector.OFFERER,
    (AP, H): Connector.NOBODY,
    (H, H): Connector.NOBODY,
}


@pytest.mark.parametrize(("offered", "answered"), list(product(Setup, Setup)))
def test_the_setup_table(offered: Setup, answered: Setup) -> None:
    expected = LEGAL.get((offered, answered))
    if expected is None:
        with pytest.raises(ProtocolError) as caught:
            connector(offered, answered)
        assert caught.value.reason == "sdp.setup-answer"
    else:
        assert connector(offered, answered) is expected


def test_absent_setup_reads_as_rfc_4975_has_it() -> None:
    assert connector(None, None) is Connector.OFFERER
    assert connector(AP, None) is Connector.OFFERER
    assert connector(None, P) is Connector.OFFERER
    with pytest.raises(ProtocolError):
        connector(None, A)
    with pytest.raises(ProtocolError):
        connector(P, None)


@pytest.mark.parametrize(("offered", "preferred"), list(product([None, *Setup], [None, *Setup])))
def test_an_answer_made_is_always_legal(offered: Setup | None, preferred: Setup | None) -> None:
    made = answer_setup(offered, preferred)
    legal = LEGAL_ANSWERS[offered or A]
    assert made in legal
    if preferred in legal:
        assert made is preferred


def test_actpass_is_answered_passive_unless_told_otherwise() -> None:
    assert answer_setup(AP) is P
    assert answer_setup(AP, A) is A
    assert answer_setup(None) is P


def test_one_offer_at_a_time() -> None:
    exchange = PendingOffer()
    exchange.offer("a", sdp(AUDIO))
    assert exchange.offerer == "a"
    for party, reason in (("a", "sdp.offer-pending"), ("b", "sdp.offer-glare")):
        with pytest.raises(ProtocolError) as caught:
            exchange.offer(party, sdp(AUDIO))
        assert caught.value.reason == reason
    with pytest.raises(ProtocolError, match="answer-unexpected"):
        exchange.answer("a", sdp(AUDIO))
    with pytest.raises(ProtocolError, match="answer-count"):
        exchange.answer("b", sdp(AUDIO, MESSAGE))
    assert exchange.offerer == "a"
    assert len(exchange.answer("b", sdp(AUDIO))) == 1
    assert exchange.offerer is None
    with pytest.raises(ProtocolError, match="answer-unexpected"):
        exchange.answer("b", sdp(AUDIO))


def test_a_rejected_offer_leaves_the_agreed_number_of_lines() -> None:
    exchange = PendingOffer()
    exchange.offer("a", sdp(AUDIO))
    exchange.answer("b", sdp(AUDIO))
    exchange.offer("b", sdp(AUDIO, MESSAGE))
    exchange.withdraw()
    exchange.offer("a", sdp(AUDIO))
    exchange.withdraw()
    with pytest.raises(ProtocolError, match="offer-count"):
        exchange.offer("b", sdp())
