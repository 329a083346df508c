"""Lines whose messages the gateway rewrites, beside those it only carries: CEMA on both sides, on one, on none."""

import pytest
from tests.playbook.mediaplay import AGW_IP, PEER_IP, UE_IP, Play, peer_line, proceed, refused, sdp, settings, ue_line

from imsalg.core.media_events import Log, Side
from imsalg.media_settings import MediaRealm, MsrpMode
from imswire.h248 import iq

UE_PLAIN = sdp(*ue_line(cema=False))
UE_CEMA = sdp(*ue_line())
PEER_PLAIN = sdp(*peer_line(cema=False), ip=PEER_IP)
PEER_CEMA = sdp(*peer_line(), ip=PEER_IP)
UE_PATH, PEER_PATH = f"msrps://{UE_IP}:2855/ue;tcp", f"msrp://{PEER_IP}:9000/peer;tcp"


def realm(mode: MsrpMode) -> MediaRealm:
    return MediaRealm(msrp_mode=mode)


def test_without_cema_paths_and_messages_are_rewritten() -> None:
    play = Play()
    play.offer(UE_PLAIN)
    core, access = play.adds()
    assert (core.proto, core.local_session, core.remote) == ("TCP/MSRP", "ue", None)
    assert (access.proto, access.local_session) == ("TCP/TLS/MSRP", None)
    assert access.remote is not None
    assert access.remote.path == UE_PATH
    lines = proceed(play.answer_gateway())
    assert f"a=path:msrp://{AGW_IP}:20001/ue;tcp" in lines
    play.answer(PEER_PLAIN)
    (_, core_change), (_, access_change) = play.changes()
    assert core_change.remote == iq.RemoteSpec(PEER_IP, 9000, (), PEER_PATH)
    assert (access_change.local_session, access_change.start_tls) == ("peer", True)
    lines = proceed(play.answer_gateway())
    assert f"a=path:msrps://{AGW_IP}:20002/peer;tcp" in lines
    assert not [line for line in lines if "cema" in line]


def test_terminating_without_cema() -> None:
    play = Play()
    play.offer(sdp(*peer_line(setup="actpass", cema=False), ip=PEER_IP), Side.CORE)
    access, core = play.adds()
    assert (access.proto, access.local_session, core.local_session) == ("TCP/TLS/MSRP", "peer", None)
    lines = proceed(play.answer_gateway())
    assert f"a=path:msrps://{AGW_IP}:20001/peer;tcp" in lines
    play.answer(sdp(*ue_line(setup="active", e2ae=None, cema=False)), Side.ACCESS)
    (_, access_change), (_, core_change) = play.changes()
    assert access_change.remote is not None
    assert access_change.remote.path == UE_PATH
    assert core_change.local_session == "ue"
    assert f"a=path:msrp://{AGW_IP}:20002/ue;tcp" in proceed(play.answer_gateway())


def test_a_forced_aware_line_strips_cema_on_both_sides() -> None:
    play = Play(settings(access=realm("aware")))
    play.offer(UE_CEMA)
    lines = proceed(play.answer_gateway())
    assert f"a=path:msrp://{AGW_IP}:20001/ue;tcp" in lines
    assert "a=msrp-cema" not in lines
    play.answer(PEER_CEMA)
    assert "a=msrp-cema" not in proceed(play.answer_gateway())


def test_cema_in_the_offer_keeps_the_gateway_agnostic() -> None:
    play = Play()
    play.offer(UE_CEMA)
    assert [request.proto for request in play.adds()] == ["TCP", "TCP/TLS"]
    lines = proceed(play.answer_gateway())
    assert f"a=path:{UE_PATH}" in lines
    assert "a=msrp-cema" in lines


def test_an_active_answerer_without_cema_makes_the_offerer_fall_back() -> None:
    """RFC 6714 4.2: the offerer sees no msrp-cema and another address than in a=path, and offers again without it."""
    play = Play()
    play.offer(UE_CEMA)
    play.answer_gateway()
    play.answer(PEER_PLAIN)
    for _, change in play.changes():
        assert (change.setup, change.start_tls) == ("holdconn", None)
    lines = proceed(play.answer_gateway())
    assert "a=msrp-cema" not in lines
    assert f"a=path:{PEER_PATH}" in lines
    assert [c for c in play.commands if isinstance(c, Log) and c.event == "media line not connected"]
    play.confirm("a")
    play.offer(UE_PLAIN)
    core, _ = play.adds()
    assert (core.proto, core.local_session) == ("TCP/MSRP", "ue")
    lines = proceed(play.answer_gateway())
    assert f"a=path:msrp://{AGW_IP}:20003/ue;tcp" in lines
    play.answer(PEER_PLAIN)
    assert play.names() == ["Modify 2 ip/core/2", "Modify 2 ip/access/2"]
    proceed(play.answer_gateway())
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]
    assert play.half.calls["c1"].contexts == (2,)
    play.drain()


def test_a_fallback_offer_that_fails_leaves_the_line_as_it_was() -> None:
    play = Play()
    play.offer(UE_CEMA)
    play.answer_gateway()
    play.answer(PEER_CEMA)
    play.drain()
    play.confirm("a")
    play.offer(UE_PLAIN)
    play.answer_gateway()
    play.fail_offer()
    assert play.names() == ["Subtract 2 ip/core/2", "Subtract 2 ip/access/2"]
    play.drain()
    assert play.half.calls["c1"].contexts == (1,)
    proceed(play.offer(UE_CEMA))
    assert not play.asked


def test_in_agnostic_mode_an_active_answerer_without_cema_ends_the_call() -> None:
    play = Play(settings(access=realm("agnostic")))
    play.offer(UE_CEMA)
    play.answer_gateway()
    assert "msrp-cema" in refused(play.answer(PEER_PLAIN)).warning


def test_an_aware_line_stays_so_when_the_other_end_has_cema() -> None:
    play = Play()
    play.offer(UE_PLAIN)
    play.answer_gateway()
    play.answer(PEER_CEMA)
    play.drain()
    play.confirm("a")
    lines = proceed(play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE))
    assert f"a=path:msrps://{AGW_IP}:20002/peer;tcp" in lines
    assert "a=msrp-cema" not in lines
    lines = proceed(play.answer(sdp(*ue_line(setup="passive", e2ae=None, cema=False)), Side.ACCESS))
    assert f"a=path:msrp://{AGW_IP}:20001/ue;tcp" in lines
    assert not play.asked


def test_another_session_id_needs_a_new_connection() -> None:
    play = Play()
    play.offer(UE_PLAIN)
    play.answer_gateway()
    play.answer(PEER_PLAIN)
    play.drain()
    play.confirm("a")
    other = f"msrps://{UE_IP}:2855/second;tcp"
    lines = proceed(play.offer(sdp(*ue_line(cema=False, path=other))))
    assert f"a=path:msrp://{AGW_IP}:20001/second;tcp" in lines
    play.answer(PEER_PLAIN)
    (_, core), (_, access) = play.changes()
    assert (core.reconnect, core.local_session) == (True, "second")
    assert access.remote is not None
    assert access.remote.path == other
    proceed(play.answer_gateway())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("msrps://relay.example.com:2855/a;tcp msrps://192.0.2.10:2855/b;tcp", "MSRP relays"),
        ("msrps://192.0.2.10:2855;tcp", "no session id"),
        ("http://192.0.2.10", "cannot be read"),
    ],
)
def test_answers_that_cannot_be_rewritten_end_the_call(path: str, words: str) -> None:
    play = Play()
    play.offer(sdp(*peer_line(setup="actpass", cema=False), ip=PEER_IP), Side.CORE)
    play.answer_gateway()
    answer = ue_line(setup="active", e2ae=None, cema=False, path=path)
    assert words in refused(play.answer(sdp(*answer), Side.ACCESS)).warning


def test_a_line_over_relays_is_left_alone_and_said_so() -> None:
    play = Play()
    offer = sdp(*ue_line(path="msrps://relay.example.com:2855/a;tcp msrps://192.0.2.10:2855/b;tcp", cema=False))
    assert "\r\n".join(proceed(play.offer(offer))).encode() == offer
    (log,) = [c for c in play.commands if isinstance(c, Log) and c.event == "media line left alone"]
    assert "MSRP relays" in str(log.fields["reason"])
    assert not play.asked


def test_a_host_name_in_the_path_stays_for_the_gateway_to_match() -> None:
    play = Play()
    play.offer(sdp(*ue_line(cema=False, path="msrps://ue.example.com:2855/ue;tcp")))
    access = play.adds()[1]
    assert access.remote is not None
    assert (access.remote.address, access.remote.port) == (UE_IP, 2855)
    assert access.remote.path == "msrps://ue.example.com:2855/ue;tcp"


def test_without_setup_the_offerer_connects() -> None:
    play = Play()
    play.offer(sdp(*ue_line(setup=None, cema=False)))
    play.answer_gateway()
    play.answer(sdp(*peer_line(setup=None, cema=False), ip=PEER_IP))
    (_, core), (_, access) = play.changes()
    assert (core.setup, access.setup, access.start_tls) == ("active", "passive", None)


def test_ipv6_paths_have_brackets() -> None:
    play = Play(settings(core=MediaRealm(family="IP4")))
    play.offer(
        sdp(*ue_line(cema=False, ip="[2001:db8::5]", path="msrps://[2001:db8::5]:2855/ue;tcp"), ip="2001:db8::5")
    )
    core, access = play.adds()
    assert (core.family, access.family) == ("IP4", "IP6")
    lines = proceed(play.answer_gateway())
    assert f"a=path:msrp://{AGW_IP}:20001/ue;tcp" in lines
    play.answer(PEER_PLAIN)
    lines = proceed(play.answer_gateway())
    assert "a=path:msrps://[2001:db8::1]:20002/peer;tcp" in lines
    assert "c=IN IP6 2001:db8::1" in lines
