"""Who connects, from where, and when anew: merge mode, filters, early dialogs, delayed offers, mixed sessions."""

import pytest
from tests.playbook.mediaplay import (
    AUDIO,
    PEER_IP,
    UE_IP,
    Play,
    bfcp_line,
    ended,
    peer_line,
    proceed,
    refused,
    sdp,
    settings,
    ue_line,
)

from imsalg.core.call_model import Stage
from imsalg.core.media_events import Side
from imsalg.media_settings import MediaRealm
from imswire.h248 import iq

UE_OFFER = sdp(*ue_line())
PEER_ACTIVE = sdp(*peer_line(), ip=PEER_IP)
PEER_PASSIVE = sdp(*peer_line(setup="passive"), ip=PEER_IP)
MERGE = MediaRealm(tcp_mode="merge")


def established(play: Play, answer: bytes = PEER_ACTIVE) -> None:
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(answer)
    play.drain()
    play.confirm("a")


def configured(play: Play) -> list[iq.StreamRequest]:
    """The core and the access termination of the only context, as the Modify that waits makes them."""
    changed = dict(play.changes())
    names = ("ip/core/1", "ip/access/1")
    return [changed[name].applied(play.added[name]) if name in changed else play.added[name] for name in names]


# --- merge mode (TS 23.334 5.16.2.3) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answered", "roles", "mode", "told"),
    [
        ("active", "active", ("passive", "passive"), "merge", "passive"),
        ("active", "passive", ("active", "passive"), None, "passive"),
        ("passive", "passive", ("active", "active"), "merge", "active"),
        ("passive", "active", ("passive", "active"), None, "active"),
        ("actpass", "active", ("passive", "active"), None, "active"),
        ("actpass", "passive", ("active", "passive"), None, "passive"),
        (None, "active", ("passive", "passive"), "merge", "passive"),
        ("active", "holdconn", ("holdconn", "holdconn"), None, "holdconn"),
    ],
)
def test_both_ends_may_take_either_role(
    offered: str | None, answered: str, roles: tuple[str, str], mode: str | None, told: str
) -> None:
    play = Play(settings(access=MERGE))
    play.offer(sdp(*ue_line(9 if offered == "active" else 2855, setup=offered)))
    assert "a=setup:actpass" in proceed(play.answer_gateway())
    play.answer(sdp(*peer_line(setup=answered), ip=PEER_IP))
    made = configured(play)
    assert (made[0].setup, made[1].setup) == roles
    assert made[0].tcp_mode == made[1].tcp_mode == (mode or "proxy")
    assert made[1].start_tls == (True if roles[1] == "active" else None)
    assert f"a=setup:{told}" in proceed(play.answer_gateway())


def test_an_old_peer_without_setup_answers_passive_and_the_offerer_is_told_so() -> None:
    play = Play(settings(access=MERGE))
    play.offer(sdp(*ue_line(setup="passive")))
    play.answer_gateway()
    play.answer(sdp(*peer_line(setup=None), ip=PEER_IP))
    made = configured(play)
    assert [request.setup for request in made] == ["active", "active"]
    assert "a=setup:active" in proceed(play.answer_gateway())


def test_both_passive_need_ports_to_dial() -> None:
    play = Play(settings(access=MERGE))
    play.offer(sdp(*ue_line(setup="passive")))
    play.answer_gateway()
    assert "port 9" in refused(play.answer(sdp(*peer_line(9, setup="passive"), ip=PEER_IP))).warning


def test_in_proxy_mode_two_active_ends_are_no_answer() -> None:
    play = Play()
    play.offer(sdp(*ue_line(setup="active")))
    assert "a=setup:active" in proceed(play.answer_gateway())
    assert "setup" in refused(play.answer(PEER_ACTIVE)).warning


# --- whom to let in -------------------------------------------------------------------------------------------------


def test_source_filter_by_network_and_ports() -> None:
    access = MediaRealm(source_filter="address-and-port", source_prefix4=24, source_ports="50000-50099")
    play = Play(settings(access=access))
    play.offer(UE_OFFER)
    request = play.adds()[1]
    assert (request.source_filter, request.source_mask) == ("address-and-port", "192.0.2.0/24")
    assert request.source_ports == (50_000, 50_099)


def test_source_filter_by_network_ipv6() -> None:
    play = Play(settings(core=MediaRealm(source_prefix4=8, source_prefix6=64)))
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(sdp(*peer_line(ip="[2001:db8:7::20]"), ip="2001:db8:7::20"))
    (_, core), _ = play.changes()
    assert core.source_mask == "2001:db8:7::/64"


def test_the_address_is_learned_only_where_the_realm_allows_it() -> None:
    play = Play(settings(access=MediaRealm(latch=True)))
    play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE)
    assert [request.latch for request in play.adds()] == [None, None]
    play.answer_gateway()
    play.answer(sdp(*ue_line(setup="active", e2ae=None)), Side.ACCESS)
    (_, access), (_, core) = play.changes()
    assert (access.latch, access.source_filter, core.latch) == (True, None, None)
    plain = Play()
    plain.offer(UE_OFFER)
    assert all(request.latch is None for request in plain.adds())


# --- a re-offer and the connection ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offer",
    [
        sdp(*ue_line(fingerprint="SHA-256 " + ":".join(["AB"] * 32))),
        sdp(*ue_line(), "a=tls-id:abcdefghijklmnopqrstuvwxyz"),
        sdp(*ue_line(path=f"msrps://{UE_IP}:2855/another;tcp")),
        sdp(*ue_line(), ip="192.0.2.11"),
    ],
)
def test_a_reoffer_of_another_end_needs_a_new_connection(offer: bytes) -> None:
    play = Play()
    established(play)
    proceed(play.offer(offer))
    play.answer(PEER_ACTIVE)
    (_, core), (_, access) = play.changes()
    assert (core.reconnect, access.reconnect, access.start_tls) == (True, False, True)
    proceed(play.answer_gateway())
    proceed(play.offer(offer))
    proceed(play.answer(PEER_ACTIVE))
    assert not play.asked


def test_an_answer_from_another_place_needs_a_new_connection() -> None:
    play = Play()
    established(play)
    proceed(play.offer(UE_OFFER))
    play.answer(sdp(*peer_line(9400), ip="203.0.113.44"))
    (_, core), _ = play.changes()
    assert (core.reconnect, core.remote) == (True, iq.RemoteSpec("203.0.113.44", 9400))


@pytest.mark.parametrize("direction", ["sendonly", "inactive", "sendrecv"])
def test_hold_and_resume_by_direction_is_nothing_to_the_gateway(direction: str) -> None:
    play = Play()
    established(play)
    assert f"a={direction}" in proceed(play.offer(sdp(*ue_line(), f"a={direction}")))
    proceed(play.answer(PEER_ACTIVE))
    assert not play.asked


def test_a_held_connection_is_resumed_without_a_new_one() -> None:
    play = Play()
    established(play)
    proceed(play.offer(sdp(*ue_line(setup="holdconn"))))
    play.answer(sdp(*peer_line(setup="holdconn"), ip=PEER_IP))
    assert [change.setup for _, change in play.changes()] == ["holdconn", "holdconn"]
    proceed(play.answer_gateway())
    proceed(play.offer(UE_OFFER))
    play.answer(PEER_ACTIVE)
    (_, core), (_, access) = play.changes()
    assert (core.setup, access.setup, access.start_tls) == ("passive", "active", True)
    assert not core.reconnect


# --- offers in early dialogs, delayed offers ------------------------------------------------------------------------


def early(play: Play, leg: str = "a") -> None:
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE, leg=leg, final=False)
    play.drain()


def test_update_from_the_caller_in_an_early_dialog() -> None:
    play = Play()
    early(play)
    lines = proceed(play.offer(UE_OFFER, leg="a"))
    assert "m=message 20001 TCP/MSRP *" in lines
    proceed(play.answer(PEER_ACTIVE, leg="a"))
    assert not play.asked
    play.confirm("a")
    assert not play.asked
    assert play.half.calls["c1"].stage is Stage.ESTABLISHED


def test_update_from_the_called_side_in_an_early_dialog() -> None:
    play = Play()
    early(play)
    lines = proceed(play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE, leg="a"))
    assert "m=message 20002 TCP/TLS/MSRP *" in lines
    assert "a=3ge2ae:applied" in lines
    proceed(play.answer(sdp(*ue_line(setup="passive", e2ae=None)), Side.ACCESS, leg="a"))
    assert not play.asked


def test_an_update_that_adds_a_line_and_is_refused_leaves_the_early_session() -> None:
    play = Play()
    early(play)
    play.offer(sdp(*ue_line(), *ue_line(2857)), leg="a")
    proceed(play.answer_gateway())
    play.fail_offer()
    assert play.names() == ["Subtract 2 ip/core/2", "Subtract 2 ip/access/2"]
    play.drain()
    assert play.half.calls["c1"].contexts == (1,)
    proceed(play.answer(PEER_ACTIVE, leg="a"))
    play.confirm("a")
    assert not play.asked


def test_an_update_that_policy_refuses_leaves_the_early_session() -> None:
    play = Play()
    early(play)
    assert refused(play.offer(sdp(*peer_line(setup="actpass")), leg="a")).status == 488
    assert "c1" in play.half.calls
    play.fail_offer(initial=True)
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]


def test_an_offer_in_a_leg_that_has_not_answered_is_glare() -> None:
    play = Play()
    early(play)
    assert refused(play.offer(UE_OFFER, leg="b")).status == 491


def test_another_leg_is_confirmed_after_an_update_in_the_first() -> None:
    play = Play()
    early(play)
    proceed(play.offer(UE_OFFER, leg="a"))
    proceed(play.answer(PEER_ACTIVE, leg="a"))
    other = sdp(*peer_line(9100, setup="passive"), ip="203.0.113.21")
    lines = proceed(play.answer(other, leg="b"))
    assert "m=message 20002 TCP/TLS/MSRP *" in lines
    assert not play.asked
    play.confirm("b")
    (_, core), (_, access) = play.changes()
    assert (core.reconnect, core.remote) == (True, iq.RemoteSpec("203.0.113.21", 9100))
    assert (core.setup, access.setup, access.start_tls) == ("active", "passive", None)
    assert play.answer_gateway() == []
    play.confirm("b")
    assert not play.asked


@pytest.mark.parametrize("adds", [False, True])
def test_another_leg_is_confirmed_while_an_update_is_under_way(adds: bool) -> None:
    play = Play()
    early(play)
    other = sdp(*peer_line(9100, setup="passive"), ip="203.0.113.21")
    play.answer(other, leg="b", final=False)
    proceed(play.answer_gateway())
    play.offer(sdp(*ue_line(), *ue_line(2857)) if adds else UE_OFFER, leg="a")
    play.confirm("b")
    if adds:
        assert play.names() == ["Add $ $", "Add $ $"]
        proceed(play.answer_gateway())
        assert play.names()[:2] == ["Subtract 2 ip/core/2", "Subtract 2 ip/access/2"]
        play.answer_gateway()
    assert play.names() == ["Modify 1 ip/core/1/20003", "Modify 1 ip/access/1", "Subtract 1 ip/core/1"]
    play.drain()
    assert play.half.calls["c1"].contexts == (1,)


def test_a_leg_that_never_answered_is_confirmed_after_an_update() -> None:
    play = Play()
    early(play)
    proceed(play.offer(UE_OFFER, leg="a"))
    proceed(play.answer(PEER_ACTIVE, leg="a"))
    assert ended(play.confirm("c")).status == 488


def test_delayed_offer_from_the_core_is_answered_in_the_ack() -> None:
    play = Play()
    play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE, leg="a")
    assert [request.realm for request in play.adds()] == ["access", "core"]
    lines = proceed(play.answer_gateway())
    assert "a=3ge2ae:applied" in lines
    play.answer(sdp(*ue_line(setup="active", e2ae=None)), Side.ACCESS, leg="a")
    assert "m=message 20002 TCP/MSRP *" in proceed(play.answer_gateway())
    assert play.half.calls["c1"].stage is Stage.ESTABLISHED


def test_delayed_offer_from_the_ue() -> None:
    play = Play()
    play.offer(UE_OFFER, Side.ACCESS, leg="a")
    play.answer_gateway()
    play.answer(PEER_PASSIVE, leg="a")
    assert "m=message 20002 TCP/TLS/MSRP *" in proceed(play.answer_gateway())


# --- several lines --------------------------------------------------------------------------------------------------

MIXED = (
    *AUDIO,
    *ue_line(),
    *ue_line(2857, e2ae=None),
    *bfcp_line(),
    "m=message 2859 TCP/MSRP *",
    f"a=path:msrp://{UE_IP}:2859/x;tcp",
)


def test_each_line_of_a_mixed_session_has_its_own_protection() -> None:
    play = Play()
    play.offer(sdp(*MIXED))
    assert len(play.take().actions) == 2
    assert [request.tls_role for request in play.adds()] == [None, None, None, "server"]
    lines = proceed(play.answer_gateway())
    assert [line for line in lines if line.startswith("m=")] == [
        "m=audio 4000 RTP/AVP 0",
        "m=message 20001 TCP/MSRP *",
        "m=message 2857 TCP/TLS/MSRP *",
        "m=application 20003 TCP/BFCP *",
        "m=message 2859 TCP/MSRP *",
    ]
    answer = sdp(
        *AUDIO,
        *peer_line(),
        "m=message 0 TCP/TLS/MSRP *",
        "m=application 0 TCP/BFCP *",
        *peer_line(9004),
        ip=PEER_IP,
    )
    play.answer(answer)
    assert len(play.take().actions) == 1
    lines = proceed(play.drain())
    assert [line for line in lines if line.startswith("m=")][1:4] == [
        "m=message 20002 TCP/TLS/MSRP *",
        "m=message 0 TCP/TLS/MSRP *",
        "m=application 0 TCP/TLS/BFCP *",
    ]
    assert play.half.calls["c1"].contexts == (1,)


def test_lines_that_changed_places_are_refused() -> None:
    play = Play()
    play.offer(sdp(*ue_line(), *bfcp_line()))
    play.answer_gateway()
    play.answer(sdp(*peer_line(), *bfcp_line(7100, secure=False, setup="active"), ip=PEER_IP))
    play.drain()
    play.confirm("a")
    assert refused(play.offer(sdp(*bfcp_line(), *ue_line()))).status == 488


def test_the_place_of_a_removed_line_is_used_again() -> None:
    play = Play()
    established(play)
    proceed(play.offer(sdp("m=message 0 TCP/TLS/MSRP *")))
    proceed(play.answer(sdp("m=message 0 TCP/MSRP *", ip=PEER_IP)))
    play.drain()
    play.offer(sdp(*bfcp_line()))
    assert play.adds()[1].tls_role == "server"


def test_the_number_of_lines_has_a_limit() -> None:
    play = Play()
    refusal = refused(play.offer(sdp(*("m=audio 4000 RTP/AVP 0",) * 65)))
    assert refusal.status == 488
    assert not play.half.calls


def test_the_gateway_uses_a_hash_that_the_ue_offered() -> None:
    play = Play()
    play.offer(sdp(*ue_line(fingerprint="SHA-512 " + ":".join(["AB"] * 64)), *ue_line(2857)))
    assert [request.fingerprint_hash for request in play.adds()] == [None, "sha-512", None, "sha-256"]
