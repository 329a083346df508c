"""BFCP at the edge (TR 29.828 5.2.1.3): the SDP offerer is TLS client whoever opens the TCP connection (RFC 8856 8)."""

import pytest
from tests.playbook.mediaplay import AGW_IP, PEER_IP, UE_IP, Play, bfcp_line, proceed, refused, sdp, settings, ue_line

from imsalg.core.media_events import Side
from imsalg.media_settings import MediaRealm
from imswire.h248 import iq

UE_OFFER = sdp(*bfcp_line())
CORE_OFFER = sdp(*bfcp_line(7100, secure=False), ip=PEER_IP)
PEER_ACTIVE = sdp(*bfcp_line(7100, secure=False, setup="active"), ip=PEER_IP)
PEER_PASSIVE = sdp(*bfcp_line(7100, secure=False, setup="passive"), ip=PEER_IP)
UE_ACTIVE = sdp(*bfcp_line(setup="active", e2ae=None))
UE_PASSIVE = sdp(*bfcp_line(setup="passive", e2ae=None))


def test_originating_offer() -> None:
    play = Play()
    play.offer(UE_OFFER)
    core, access = play.adds()
    assert (core.realm, core.proto, core.remote, core.tls_role) == ("core", "TCP", None, None)
    assert (access.realm, access.proto, access.tls_role, access.start_tls) == ("access", "TCP/TLS", "server", None)
    assert access.remote == iq.RemoteSpec(UE_IP, 7000, (("sha-256", bytes(range(32))),))
    lines = proceed(play.answer_gateway())
    assert "m=application 20001 TCP/BFCP *" in lines
    assert f"c=IN IP4 {AGW_IP}" in lines
    assert {"a=setup:actpass", "a=connection:new", "a=floorctrl:c-only"} <= set(lines)
    assert not [line for line in lines if "fingerprint" in line or "3ge2ae" in line]


@pytest.mark.parametrize(
    ("answer", "core_role", "access_role"), [(PEER_ACTIVE, "passive", "active"), (PEER_PASSIVE, "active", "passive")]
)
def test_originating_answer_makes_no_tls_client_of_the_gateway(answer: bytes, core_role: str, access_role: str) -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(answer)
    (_, core), (_, access) = play.changes()
    assert (core.setup, core.remote) == (core_role, iq.RemoteSpec(PEER_IP, 7100))
    assert (access.setup, access.start_tls, access.tls_role) == (access_role, None, None)
    lines = proceed(play.answer_gateway())
    assert "m=application 20002 TCP/TLS/BFCP *" in lines
    assert any(line.startswith("a=fingerprint:SHA-256 20:21") for line in lines)
    assert not [line for line in lines if "3ge2ae" in line]


def test_terminating_offer_orders_tls_at_once() -> None:
    play = Play(settings(access=MediaRealm(early_syn="ignore")))
    play.offer(CORE_OFFER, Side.CORE)
    access, core = play.adds()
    assert (access.realm, access.proto, access.tls_role, access.start_tls) == ("access", "TCP/TLS", "client", True)
    assert (access.ignore_syn, access.remote, access.fingerprint_hash) == (True, None, "sha-256")
    assert (core.realm, core.proto, core.remote) == ("core", "TCP", iq.RemoteSpec(PEER_IP, 7100))
    lines = proceed(play.answer_gateway())
    assert "m=application 20001 TCP/TLS/BFCP *" in lines
    assert "a=3ge2ae:applied" in lines
    assert any(line.startswith("a=fingerprint:SHA-256 20:21") for line in lines)


@pytest.mark.parametrize(("answer", "role"), [(UE_ACTIVE, "passive"), (UE_PASSIVE, "active")])
def test_terminating_answer_leaves_the_order_to_start_tls(answer: bytes, role: str) -> None:
    play = Play()
    play.offer(CORE_OFFER, Side.CORE)
    play.answer_gateway()
    play.answer(answer, Side.ACCESS)
    (name, access), _ = play.changes()
    assert (name, access.setup) == ("ip/access/1", role)
    assert access.remote == iq.RemoteSpec(UE_IP, 7000, (("sha-256", bytes(range(32))),))
    assert access.applied(play.added[name]).start_tls is True
    lines = proceed(play.answer_gateway())
    assert "m=application 20002 TCP/BFCP *" in lines
    assert not [line for line in lines if "fingerprint" in line or "3ge2ae" in line]


def test_by_setting_the_side_that_connects_is_tls_client() -> None:
    realm = MediaRealm(bfcp_tls_role="tcp-active")
    play = Play(settings(access=realm))
    play.offer(UE_OFFER)
    assert play.adds()[1].tls_role is None
    play.answer_gateway()
    play.answer(PEER_ACTIVE)
    (_, _), (_, access) = play.changes()
    assert (access.setup, access.start_tls) == ("active", True)
    other = Play(settings(access=realm))
    other.offer(CORE_OFFER, Side.CORE)
    assert (other.adds()[0].tls_role, other.adds()[0].start_tls) == (None, None)


def call(play: Play) -> None:
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE)
    play.drain()
    play.confirm("a")


def test_reoffer_that_keeps_the_connection() -> None:
    play = Play()
    call(play)
    kept = sdp(*bfcp_line(connection="existing"))
    assert "a=connection:existing" in proceed(play.offer(kept))
    proceed(play.answer(sdp(*bfcp_line(7100, secure=False, setup="active", connection="existing"), ip=PEER_IP)))
    assert not play.asked


@pytest.mark.parametrize("connection", ["existing", None])
def test_reoffer_without_change_from_the_core_keeps_the_tls_roles(connection: str | None) -> None:
    play = Play()
    call(play)
    proceed(play.offer(sdp(*bfcp_line(7100, secure=False, connection=connection), ip=PEER_IP), Side.CORE))
    proceed(play.answer(sdp(*bfcp_line(setup="active", e2ae=None, connection=connection)), Side.ACCESS))
    assert not play.asked


def test_new_connection_offered_from_the_core_turns_the_tls_roles() -> None:
    play = Play()
    call(play)
    proceed(play.offer(CORE_OFFER, Side.CORE))
    play.answer(UE_ACTIVE, Side.ACCESS)
    (name, access), (_, core) = play.changes()
    assert (name, access.reconnect, core.reconnect) == ("ip/access/1", True, False)
    assert (access.tls_role, access.start_tls, access.setup, core.setup) == ("client", True, "passive", "active")
    proceed(play.answer_gateway())
    proceed(play.offer(UE_OFFER))
    play.answer(PEER_ACTIVE)
    (_, core), (_, access) = play.changes()
    assert (core.reconnect, access.tls_role, access.start_tls) == (True, "server", None)


@pytest.mark.parametrize(
    ("policy", "agreed", "words"),
    [("required", False, "bfcp-tls was not agreed"), ("required", True, "")],
)
def test_the_policy_of_bfcp_is_its_own(policy: str, agreed: bool, words: str) -> None:
    play = Play(settings("off", bfcp=policy), agreed=agreed)
    out = play.offer(sdp(*bfcp_line(), *ue_line()))
    if words:
        assert words in refused(out).warning
    else:
        assert len(play.take().actions) == 1
        lines = proceed(play.answer_gateway())
        assert "m=application 20001 TCP/BFCP *" in lines
        assert "m=message 2855 TCP/TLS/MSRP *" in lines


def test_a_line_cannot_turn_from_one_medium_into_another() -> None:
    play = Play()
    call(play)
    refusal = refused(play.offer(sdp(*ue_line())))
    assert (refusal.status, "cannot change its transport" in refusal.warning) == (488, True)


def test_a_plain_answer_to_a_secured_line_ends_the_call() -> None:
    play = Play()
    play.offer(CORE_OFFER, Side.CORE)
    play.answer_gateway()
    refusal = refused(play.answer(sdp(*bfcp_line(secure=False, setup="active")), Side.ACCESS))
    assert "TCP/TLS/BFCP was offered, TCP/BFCP answered" in refusal.warning


@pytest.mark.parametrize(("policy", "through"), [("optional", False), ("off", True)])
def test_a_plain_answer_to_a_line_that_passed_under_tls_ends_the_call(policy: str, through: bool) -> None:
    play = Play(settings(bfcp=policy), agreed=False)
    proceed(play.offer(UE_OFFER))
    out = play.answer(PEER_ACTIVE)
    if through:
        proceed(out)
    else:
        assert "TCP/TLS/BFCP was offered, TCP/BFCP answered" in refused(out).warning
