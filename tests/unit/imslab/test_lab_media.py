"""Session descriptions of the lab UE: what it offers, what it answers, whom it refuses."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from imskit.driver import run
from imskit.tls import Identity
from imslab.ue.chat import Incoming, file_name
from imslab.ue.media import MediaOptions, MsrpMedia, NotAcceptable
from imswire.msrp.events import MessageStarted
from imswire.sdp.attributes import E2ae, Setup, e2ae_of, fingerprints, has_cema, path_of, setup_of
from imswire.sdp.model import SessionDescription

IDENTITY = Identity.generate("test")


def media(options: MediaOptions | None = None) -> MsrpMedia:
    return MsrpMedia("127.0.0.1", IDENTITY, options or MediaOptions())


def on_loop(body: Callable[[], None]) -> None:
    async def main() -> int:
        body()
        await asyncio.sleep(0)
        return 0

    assert run(main()) == 0


def test_offer_has_everything_that_e2ae_needs() -> None:
    def body() -> None:
        one = media()
        sdp = SessionDescription.parse(one.offer())
        (line,) = sdp.media
        path = path_of(line)
        assert (line.proto, line.port, setup_of(line), e2ae_of(line)) == (
            "TCP/TLS/MSRP",
            one.port,
            Setup.ACTPASS,
            E2ae.REQUESTED,
        )
        assert path is not None
        assert (path.hop.scheme, path.hop.port) == ("msrps", one.port)
        assert has_cema(line)
        assert [f.octets for f in fingerprints(sdp, line)] == [IDENTITY.fingerprint()]
        one.close()

    on_loop(body)


def test_wrong_fingerprint_differs_and_plain_offer_has_none() -> None:
    def body() -> None:
        wrong = media(MediaOptions(wrong_fingerprint=True))
        sdp = SessionDescription.parse(wrong.offer())
        assert fingerprints(sdp, sdp.media[0])[0].octets != IDENTITY.fingerprint()
        plain = media(MediaOptions(secure=False))
        sdp = SessionDescription.parse(plain.offer())
        assert sdp.media[0].proto == "TCP/MSRP"
        assert not sdp.media[0].has("fingerprint")
        assert e2ae_of(sdp.media[0]) is None
        wrong.close()
        plain.close()

    on_loop(body)


@pytest.mark.parametrize(
    ("offered", "wanted", "answered"),
    [
        (Setup.ACTPASS, Setup.ACTIVE, Setup.ACTIVE),
        (Setup.ACTPASS, Setup.PASSIVE, Setup.PASSIVE),
        (Setup.ACTIVE, Setup.ACTIVE, Setup.PASSIVE),
        (Setup.PASSIVE, Setup.PASSIVE, Setup.ACTIVE),
        (Setup.HOLDCONN, Setup.ACTIVE, Setup.HOLDCONN),
        (None, Setup.ACTIVE, None),
    ],
)
def test_answers_take_a_legal_role(offered: Setup | None, wanted: Setup, answered: Setup | None) -> None:
    def body() -> None:
        offerer, answerer = media(MediaOptions(offer_setup=offered)), media(MediaOptions(answer_setup=wanted))
        sdp = SessionDescription.parse(answerer.answer(offerer.offer()))
        assert setup_of(sdp.media[0]) is answered
        assert e2ae_of(sdp.media[0]) is None
        assert (sdp.media[0].port == 9) == (answered is Setup.ACTIVE)
        offerer.close()
        answerer.close()

    on_loop(body)


@pytest.mark.parametrize("role", [Setup.ACTIVE, Setup.PASSIVE])
def test_a_later_offer_is_answered_in_the_role_that_one_has(role: Setup) -> None:
    def body() -> None:
        offerer, answerer = media(), media(MediaOptions(answer_setup=role))
        offerer.answered(answerer.answer(offerer.offer()))
        answerer.confirmed()
        again = answerer.again()
        other = Setup.PASSIVE if role is Setup.ACTIVE else Setup.ACTIVE
        answers = (offerer.again(body=again), other), (answerer.again(body=offerer.again()), role)
        for answer, expected in answers:
            assert setup_of(SessionDescription.parse(answer).media[0]) is expected
        offerer.close()
        answerer.close()

    on_loop(body)


def test_other_lines_are_answered_with_port_0_in_their_place() -> None:
    def body() -> None:
        extra = "m=audio 4000 RTP/AVP 0 8\na=rtpmap:0 PCMU/8000\n"
        offerer, answerer = media(MediaOptions(extra_media=extra)), media()
        offer = offerer.offer()
        assert b"m=audio 4000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\n" in offer
        sdp = SessionDescription.parse(answerer.answer(offer))
        assert [(m.media, m.port == 0, m.proto) for m in sdp.media] == [
            ("message", False, "TCP/TLS/MSRP"),
            ("audio", True, "RTP/AVP"),
        ]
        offerer.close()
        answerer.close()

    on_loop(body)


@pytest.mark.parametrize(
    "offer",
    [
        b"not an SDP",
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 5000 TCP/MSRP *\r\n",
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 5000 TCP/MSRP *\r\n"
        b"a=path:msrp://127.0.0.2:5000/abc;tcp\r\n",
    ],
)
def test_offers_that_cannot_be_accepted(offer: bytes) -> None:
    def body() -> None:
        one = media()
        with pytest.raises(NotAcceptable):
            one.answer(offer)
        one.close()

    on_loop(body)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('attachment; filename="photo.jpg"', "photo.jpg"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename=C:\\x\\y.txt", "y.txt"),
        ('attachment; filename=".."', "file"),
        ("inline", ""),
    ],
)
def test_file_names_lose_their_folders(value: str, name: str) -> None:
    started = MessageStarted("m", "application/octet-stream", 1, (("Content-Disposition", value),))
    assert file_name(started) == name


def test_a_received_file_never_replaces_another(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    kept = []
    for number in range(2):
        arrived = tmp_path / f"msrp-{number}"
        arrived.write_text(str(number))
        kept.append(Incoming("m", "text/plain", 1, "", path=arrived, name="a.txt").keep())
    assert [path.name for path in kept if path is not None] == ["a-1.txt", "a-2.txt"]
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert not (tmp_path / "msrp-0").exists()
