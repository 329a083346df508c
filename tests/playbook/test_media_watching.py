"""Somebody looks at running calls: what the gateways say of TLS, the words for it, and the counters."""

import pytest
from tests.playbook.both_cores import World, peer, ue
from tests.playbook.mediaplay import AUDIO, PEER_IP, Play, bfcp_line, peer_line, sdp, settings, ue_line

from agw.core import orders
from imsalg.core.media_events import GatewayDown, Inspect, Inspected, Side
from imsalg.core.snapshot import passed_words, secured_words
from imsalg.media_settings import DirectionPolicy, MediaRealm, MediaSettings
from imswire.h248.iq_inspect import TlsState

UE = sdp(*ue_line())
PEER = sdp(*peer_line(), ip=PEER_IP)


def look(world: World) -> dict[tuple[str, int], TlsState]:
    """What comes back when somebody asks for call ``c``."""
    before = len(world.others)
    world.to_alg_event(Inspect(7, ("c", "of nobody")))
    (answer,) = world.others[before:]
    assert isinstance(answer, Inspected)
    assert answer.token == 7
    return answer.found


def words(world: World, tls: TlsState) -> str:
    (line,) = world.half.calls["c"].lines.values()
    return secured_words(line, tls, agreed=True)


def test_each_step_of_tls_has_its_words() -> None:
    world = World()
    world.offer(ue("active"), Side.ACCESS)
    world.answer(peer("passive"), Side.CORE)
    place = ("agw-1", 1)
    assert look(world) == {place: TlsState("waiting")}
    assert words(world, look(world)[place]) == "e2ae, waits for the connection"
    access = world.connect("198.51.100.1", 20_000, ("192.0.2.10", 5000))
    assert access is not None
    assert words(world, look(world)[place]) == "e2ae TLS, handshake under way"
    world.to_agw(orders.HandshakeDone(access, "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"))
    assert words(world, look(world)[place]) == "e2ae TLS 1.2, waits for the fingerprint"
    world.tls_opens(access)
    found = look(world)
    assert found == {place: TlsState("verified", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "sha-256")}
    assert words(world, found[place]) == "e2ae TLS 1.3 verified sha-256"


def test_a_session_that_failed_is_called_failed() -> None:
    world = World()
    world.offer(ue("active"), Side.ACCESS)
    world.answer(peer("passive"), Side.CORE)
    (line,) = world.half.calls["c"].lines.values()
    assert secured_words(line, TlsState("failed"), agreed=True) == "e2ae TLS, failed"


def test_a_gateway_that_is_away_says_nothing_and_nobody_waits_for_it() -> None:
    world = World()
    world.offer(ue("active"), Side.ACCESS)
    world.answer(peer("passive"), Side.CORE)
    world.to_alg_event(GatewayDown(world.link))
    assert look(world) == {}
    (line,) = world.half.calls["c"].lines.values()
    assert secured_words(line, None, agreed=True) == "e2ae, in force at the gateway"


def test_many_calls_are_asked_for_in_parts() -> None:
    play = Play()
    for number in range(40):
        play.offer(UE, call=f"c{number}")
        play.drain()
    play.feed(Inspect(3, tuple(play.half.calls)))
    assert [len(request.actions) for _, request in play.asked] == [32, 8]
    assert not any(isinstance(command, Inspected) for command in play.drain()[:-1])
    (answer,) = [command for command in play.commands if isinstance(command, Inspected)]
    assert answer == Inspected(3, {})  # this gateway has no word for it


@pytest.mark.parametrize(
    "offered_by,proto,medium,text",
    [
        (Side.ACCESS, "TCP/MSRP", "msrp", "plain by policy off"),
        (Side.CORE, "TCP/MSRP", "msrp", "passed through, plain under policy optional"),
        (Side.ACCESS, "TCP/TLS/MSRP", "msrp", "passed through, TLS is the endpoints' own"),
        (Side.ACCESS, "RTP/AVP", "audio", "passed through"),
    ],
)
def test_the_word_for_a_line_that_passes_is_that_of_its_offer(
    offered_by: Side, proto: str, medium: str, text: str
) -> None:
    use = MediaSettings(realms={"access": MediaRealm(msrp=DirectionPolicy("off", "optional"))})
    assert passed_words(medium, proto, offered_by, "access", use) == text


def test_lines_are_counted_by_the_direction_of_their_offer() -> None:
    play = Play()
    play.offer(PEER, Side.CORE)  # the call is the UE's, its INVITE had no offer: the answer comes in the ACK
    play.drain()
    play.answer(sdp(*ue_line(e2ae=None, setup="passive")), Side.ACCESS)
    play.drain()
    both = sdp(*ue_line(e2ae="applied", setup="passive"), *bfcp_line())
    play.offer(both, Side.ACCESS)
    play.drain()
    play.answer(sdp(*peer_line(), *bfcp_line(secure=False, setup="active"), ip=PEER_IP))
    play.drain()
    assert play.half.lines == {
        ("msrp", "terminating", "secured"): 1,
        ("bfcp", "originating", "secured"): 1,
    }
    assert play.half.bodies == {("offer", "rewritten"): 2, ("answer", "rewritten"): 2}


def test_what_is_refused_and_what_goes_on_untouched_is_counted_too() -> None:
    play = Play(settings("required"))
    play.offer(sdp(*ue_line(fingerprint=None)), call="c1")
    play.offer(sdp(*AUDIO), call="c2")
    play.answer(sdp(*AUDIO, ip=PEER_IP), call="c2")
    assert play.half.lines == {("msrp", "originating", "refused"): 1}
    assert play.half.bodies == {("offer", "unchanged"): 1, ("answer", "unchanged"): 1}
    assert play.half.refused == {488: 1}
