"""The short way for plain audio and video: whatever takes it comes out as it would on the full one."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from imsalg.core import call_sdp
from imsalg.core.call_sdp import OfferRefused, Session, read_answer, read_offer, write_offer
from imsalg.core.media_events import AccessProfile, AnswerIn, OfferIn, Side
from imsalg.core.media_kinds import medium_by_transport
from imsalg.media_settings import MediaPolicy, MediaSettings, PolicyWord
from imswire.base import ProtocolError
from imswire.sdp.model import Limits, SessionDescription
from imswire.sdp.outline import MOST, Outline, outline

PLAIN = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendrecv\r\n"
    b"m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    b"m=video 0 RTP/SAVPF 96\r\nc=IN IP6 2001:db8::1\r\nb=AS:500\r\na=crypto:1 x\r\n"
)
GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.*.*"))
PIECES = (
    (b"\r\n", b"\n"),
    (b"\r\n", b"\r"),
    (b"\r\n", b"\r\n\r\n"),
    (b"\r\n", b" \r\n"),
    (b"RTP/AVP", b"TCP/MSRP"),
    (b"RTP/AVP", b"tcp/tls/msrp"),
    (b"RTP/AVP", b"TCP/TLS/BFCP"),
    (b"RTP/AVP", b"rtp/avp"),
    (b"RTP/AVP", b"UDP/TLS/RTP/SAVPF"),
    (b"audio", b"message"),
    (b"audio", b"AUDIO"),
    (b"audio", b"video"),
    (b"m=", b"M="),
    (b"m=", b"a="),
    (b"49170", b"65536"),
    (b"49170", b"0"),
    (b"a=sendrecv", b"a=3ge2ae:requested"),
    (b"a=sendrecv", b"a=x\r\nm=message 9 TCP/TLS/MSRP *"),
    (b"a=sendrecv", b"a=\xff\xc3\xa9"),
    (b"a=sendrecv", b"a="),
    (b"a=sendrecv", b"a"),
    (b"t=0 0\r\n", b""),
    (b"v=0", b"v=1"),
    (b"s=-", b"s=a\0b"),
    (b"IN IP4", b"IN\xc2\xa0IP4"),
    (b" 1 1 ", b" 1 x "),
    (b"c=IN IP4 192.0.2.1\r\n", b""),
    (b"0 8 101", b"*"),
)


def generated() -> Iterator[bytes]:
    """Bodies with up to four faults or oddities, and with octets changed."""
    some = random.Random(3264)
    yield PLAIN
    for _ in range(3_000):
        body = PLAIN
        for _ in range(some.randrange(4)):
            old, new = some.choice(PIECES)
            body = body.replace(old, new, some.choice((1, 1, -1)))
        if some.random() < 0.4:
            at = some.randrange(len(body) - 2)
            octet = some.choice((bytes([some.randrange(256)]), b"\r\n", b"m=", b""))
            body = body[:at] + octet + body[at + some.randrange(3) :]
        yield body


def golden() -> Iterator[bytes]:
    for path in GOLDEN:
        text = path.read_bytes()
        yield text
        yield text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_what_has_an_outline_is_accepted_by_the_model_which_sees_the_same_lines() -> None:
    seen = 0
    for body in (*golden(), *generated()):
        found = outline(body)
        if found is None:
            continue
        seen += 1
        full = SessionDescription.parse(body)
        assert full.to_bytes() == body
        assert [(m.media, m.port, m.proto) for m in found.media] == [(m.media, m.port, m.proto) for m in full.media]
        assert all(medium_by_transport(line.proto) is None for line in found.media)
    assert seen > 500


HARMLESS = (
    (b"\r\n", b" \r\n"),
    (b"m=", b"a="),
    (b"49170", b"0"),
    (b"audio", b"video"),
    (b"RTP/AVP", b"UDP/TLS/RTP/SAVPF"),
)
"""Pieces that leave a plain body plain, besides those at session level."""


@pytest.mark.parametrize(
    ("old", "new"),
    [piece for piece in PIECES if piece not in HARMLESS and (piece[0] != b"a=sendrecv" or piece[1] in (b"a=", b"a"))],
)
def test_what_is_out_of_the_ordinary_has_none(old: bytes, new: bytes) -> None:
    assert outline(PLAIN) is not None
    changed = PLAIN.replace(old, new, 1)
    assert changed != PLAIN
    assert outline(changed) is None


def test_an_msrp_line_behind_plain_ones_is_never_missed() -> None:
    for line in (b"m=message 9 TCP/MSRP *", b"m=message 0 TCP/TLS/MSRP *", b"m=application 9 tcp/bfcp *", b"M=x"):
        assert outline(PLAIN + line + b"\r\n") is None
        assert outline(PLAIN.replace(b"a=sendrecv", line)) is None


def test_bounds() -> None:
    assert outline(PLAIN, 2) is not None
    assert outline(PLAIN, 1) is None
    long = PLAIN + b"a=" + b"x" * (MOST - len(PLAIN) - 4) + b"\r\n"
    assert outline(long) is not None
    assert outline(long[:-2] + b"x\r\n") is None
    assert outline(b"") is None


def exchange(offer: bytes, answer: bytes, side: Side, word: PolicyWord, last: bytes | None) -> tuple[object, ...]:
    """What comes of an offer that needs no gateway and of its answer, in words that do not show which way it took."""
    settings = MediaSettings(policy=MediaPolicy(msrp=word, bfcp=word))
    profile = AccessProfile(access_realm="access", core_realm="core")
    before = SessionDescription.parse(last) if last is not None else None
    passed = {i: m.proto.upper() for i, m in enumerate(before.media) if not m.rejected} if before is not None else {}
    event = OfferIn("call", 1, side, offer, profile)
    try:
        pending = read_offer(event, Session(profile, {}, passed, before), settings)
    except OfferRefused as refusal:
        return refusal.status, refusal.medium, refusal.warning
    except ProtocolError as error:
        return error.reason, error.hint
    lines = tuple((m.media, m.port, m.proto, m.rejected) for m in pending.sdp.media)
    if pending.new:
        return lines, "secured", len(pending.new)
    out: tuple[object, ...] = (lines, write_offer(pending, profile, settings), pending.guarded, pending.notes)
    other = Side.CORE if side is Side.ACCESS else Side.ACCESS
    try:
        leg = read_answer(AnswerIn("call", "leg", 2, other, answer, final=True), pending, profile, settings)
    except ProtocolError as error:
        return *out, error.reason, error.hint
    return *out, leg.body, leg.answered, leg.rewritten


def test_both_ways_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [*golden(), *list(generated())[:600]]
    some = random.Random(8866)
    words: tuple[PolicyWord, ...] = ("off", "optional", "required", "always")
    readable = [body for body in bodies if can_be_read(body)]
    cases = []
    for body in bodies:
        answer = some.choice((body, PLAIN, some.choice(bodies)))
        last = some.choice((None, PLAIN, some.choice(readable)))
        cases.append((body, answer, some.choice((Side.ACCESS, Side.CORE)), some.choice(words), last))
    short = [exchange(*case) for case in cases]

    def none(body: bytes, most: int = 64) -> Outline | None:
        return None

    monkeypatch.setattr(call_sdp, "outline", none)
    for case, seen in zip(cases, short, strict=True):
        assert exchange(*case) == seen


def can_be_read(body: bytes) -> bool:
    try:
        SessionDescription.parse(body, Limits())
    except ProtocolError:
        return False
    return True
