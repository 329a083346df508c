"""The IMS-ALG's media core against the IMS-AGW's core: whole secured sessions as bytes of H.248, with no socket."""

import pytest
from tests.playbook.both_cores import AGW_PRINT, IGNORE, UE_PRINT, World, line_of, peer, released, ue
from tests.playbook.mediaplay import PEER_IP, UE_IP, bfcp_line, peer_line, sdp, ue_line

from agw.core import events as agw_events
from agw.core import orders
from imsalg.core.media_events import (
    CallEnded,
    EndCall,
    GatewayDown,
    Refuse,
    Side,
)
from imsalg.media_settings import MediaRealm
from imswire.sdp.attributes import Setup, fingerprints, setup_of
from imswire.sdp.offer_answer import LEGAL_ANSWERS


def test_originating_with_early_syn_ignored() -> None:
    world = World(core=IGNORE)
    core_address, core_port, media, _ = line_of(world.offer(ue("actpass"), Side.ACCESS))
    assert (core_address, media.proto) == ("198.51.100.2", "TCP/MSRP")
    assert world.connect(core_address, core_port, (PEER_IP, 5000)) is None
    access_address, _, media, body = line_of(world.answer(peer("active"), Side.CORE))
    assert (access_address, media.proto) == ("198.51.100.1", "TCP/TLS/MSRP")
    assert [item.octets for item in fingerprints(body, media)] == [AGW_PRINT]
    assert world.connect(core_address, core_port, ("203.0.113.66", 5000)) is None
    assert world.connect(core_address, core_port, (PEER_IP, 5000)) is not None
    access = world.only_dialled()
    assert world.dialled[access] == (UE_IP, 2855)
    assert not world.armed
    world.to_agw(orders.Connected(access, 20_000))
    assert world.armed[access] == ("client", (("sha-256", UE_PRINT),))
    assert not world.relayed
    world.tls_opens(access)
    assert len(world.relayed) == 1
    world.hang_up()
    released(world)


def test_originating_with_early_syn_accepted_waits_for_the_order_to_start_tls() -> None:
    world = World()
    core_address, core_port, _, _ = line_of(world.offer(ue("actpass"), Side.ACCESS))
    assert world.connect(core_address, core_port, (PEER_IP, 5000)) is not None
    access = world.only_dialled()
    world.to_agw(orders.Connected(access, 20_000))
    assert not world.armed
    line_of(world.answer(peer("active"), Side.CORE))
    assert world.armed[access][0] == "client"
    world.tls_opens(access)
    assert world.relayed


def test_early_connection_from_elsewhere_is_dropped_when_the_answer_comes() -> None:
    world = World()
    core_address, core_port, _, _ = line_of(world.offer(ue("passive"), Side.ACCESS))
    stranger = world.connect(core_address, core_port, ("203.0.113.66", 5000))
    line_of(world.answer(peer("active"), Side.CORE))
    assert world.connect(core_address, core_port, ("203.0.113.66", 5000)) is None
    assert world.connect(core_address, core_port, (PEER_IP, 5001)) == stranger


def test_originating_peer_passive() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    address, port, _, _ = line_of(world.answer(peer("passive"), Side.CORE))
    access = world.connect(address, port, (UE_IP, 40_000))
    assert access is not None
    assert world.armed[access] == ("server", (("sha-256", UE_PRINT),))
    core = world.only_dialled()
    assert world.dialled[core] == (PEER_IP, 9000)
    world.to_agw(orders.Connected(core, 30_000))
    assert not world.relayed
    world.tls_opens(access)
    assert world.relayed == [(access, core)]


def test_terminating_handshake_before_the_answer_waits_for_the_fingerprint() -> None:
    world = World()
    address, port, media, body = line_of(world.offer(peer("actpass"), Side.CORE))
    assert (address, media.proto, media.get("3ge2ae")) == ("198.51.100.1", "TCP/TLS/MSRP", "applied")
    assert [item.octets for item in fingerprints(body, media)] == [AGW_PRINT]
    access = world.connect(address, port, (UE_IP, 40_000))
    assert access is not None
    assert world.armed[access] == ("server", None)
    core = world.only_dialled()
    world.to_agw(orders.Connected(core, 30_000))
    world.to_agw(orders.HandshakeDone(access, "TLSv1.3", "TLS_AES_128_GCM_SHA256"))
    assert not world.relayed
    _, _, media, _ = line_of(world.answer(ue("active", None), Side.ACCESS))
    assert (media.proto, media.has("fingerprint")) == ("TCP/MSRP", False)
    assert world.armed[access] == ("server", (("sha-256", UE_PRINT),))
    world.tls_opens(access)
    assert world.relayed == [(access, core)]
    world.hang_up()
    released(world)


def test_terminating_ue_passive_is_dialled() -> None:
    world = World(access=IGNORE)
    line_of(world.offer(peer("actpass"), Side.CORE))
    address, port, _, _ = line_of(world.answer(ue("passive", None), Side.ACCESS))
    assert world.connect(address, port, (PEER_IP, 5000)) is not None
    access = world.only_dialled()
    assert world.dialled[access] == (UE_IP, 2855)
    world.to_agw(orders.Connected(access, 20_000))
    assert world.armed[access][0] == "client"


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("offered", "answered"), [(o, a) for o in Setup for a in sorted(LEGAL_ANSWERS[o])])
def test_every_legal_pair_of_roles_connects_the_right_way(side: Side, offered: Setup, answered: Setup) -> None:
    world = World()
    first, second = (ue, peer) if side is Side.ACCESS else (peer, ue)
    place = {}
    address, port, media, body = line_of(world.offer(first(offered.value), side))
    other = Side.CORE if side is Side.ACCESS else Side.ACCESS
    place[other] = (address, port)
    assert setup_of(media, body) is offered
    address, port, media, body = line_of(world.answer(second(answered.value), other))
    place[side] = (address, port)
    assert setup_of(media, body) is answered
    sources = {Side.ACCESS: (UE_IP, 41_000), Side.CORE: (PEER_IP, 42_000)}
    listening = {host: syn for host, _, syn in world.listening.values()}
    if answered is Setup.HOLDCONN:
        assert not any(syn.admits(*sources[s]) for s in Side for h, syn in listening.items() if h == place[s][0])
        return
    active = other if answered is Setup.ACTIVE else side
    accepted = world.connect(*place[active], sources[active])
    dialled = world.only_dialled()
    assert world.dialled[dialled] == ((UE_IP, 2855) if active is Side.CORE else (PEER_IP, 9000))
    world.to_agw(orders.Connected(dialled, 1))
    if active is Side.CORE:
        assert world.armed == {dialled: ("client", (("sha-256", UE_PRINT),))}
        world.tls_opens(dialled)
    else:
        assert world.armed == {accepted: ("server", (("sha-256", UE_PRINT),))}
        world.tls_opens(accepted or 0)
    assert len(world.relayed) == 1


def test_wrong_fingerprint_ends_the_call_and_everything_is_subtracted() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    address, port, _, _ = line_of(world.answer(peer("passive"), Side.CORE))
    access = world.connect(address, port, (UE_IP, 40_000))
    wrong = orders.VerifyFailed(access or 0, "mismatch", "sha-256", (UE_PRINT,), b"\1" * 32, "CN=mallory", "no match")
    world.to_agw(wrong)
    end = world.verdicts[-1]
    assert isinstance(end, EndCall)
    assert (end.call, end.status, end.text) == ("c", 488, "certificate fingerprint mismatch")
    world.hang_up()
    released(world)


def test_gateway_out_of_ports_is_503_with_retry_after_and_leaves_nothing() -> None:
    world = World(ports=1)
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    refusal = world.offer(ue("actpass"), Side.ACCESS, call="d")
    assert isinstance(refusal, Refuse)
    assert (refusal.status, refusal.retry_after) == (503, 10)
    world.hang_up()
    released(world)


def test_gateway_that_returns_keeps_the_session_and_loses_what_nobody_claims() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    line_of(world.answer(peer("passive"), Side.CORE))
    line_of(world.offer(ue("actpass"), Side.ACCESS, call="d"))
    assert len(world.agw.store.contexts) == 2
    down = world.link
    world.to_agw(agw_events.ControlDown("cable"))
    world.to_alg_event(GatewayDown(down, "cable"))
    world.to_alg_event(CallEnded("d"))
    world.online()
    assert len(world.agw.store.contexts) == 1
    world.hang_up()
    released(world)


def test_gateway_that_restarts_loses_its_calls() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    line_of(world.answer(peer("passive"), Side.CORE))
    world.to_alg_event(GatewayDown(world.link, "killed"))
    world.listening.clear()
    world.agw = world.new_gateway(first_tid=1000)
    world.online()
    end = world.verdicts[-1]
    assert isinstance(end, EndCall)
    assert (end.status, end.text) == (503, "media gateway restarted")
    released(world)


def test_reoffer_from_the_other_side_leaves_a_running_session_alone() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    line_of(world.answer(peer("passive"), Side.CORE))
    before = len(world.messages)
    address, _, media, _ = line_of(world.offer(peer("actpass"), Side.CORE))
    assert (address, media.proto) == ("198.51.100.1", "TCP/TLS/MSRP")
    line_of(world.answer(ue("passive", None), Side.ACCESS))
    assert len(world.messages) == before


# --- BFCP: the SDP offerer is TLS client (RFC 8856 8) ----------------------------------------------------------------


def bfcp_ue(setup: str, e2ae: str | None = "requested", connection: str = "new") -> bytes:
    return sdp(*bfcp_line(setup=setup, e2ae=e2ae, connection=connection))


def bfcp_peer(setup: str, connection: str = "new") -> bytes:
    return sdp(*bfcp_line(7100, secure=False, setup=setup, connection=connection), ip=PEER_IP)


@pytest.mark.parametrize("active", list(Side))
@pytest.mark.parametrize("offerer", list(Side))
def test_bfcp_tls_follows_the_offer_whoever_connects(offerer: Side, active: Side) -> None:
    world = World()
    other = Side.CORE if offerer is Side.ACCESS else Side.ACCESS
    place = {}
    role = "active" if active is other else "passive"
    if offerer is Side.ACCESS:
        offer, answer = bfcp_ue("actpass"), bfcp_peer(role)
    else:
        offer, answer = bfcp_peer("actpass"), bfcp_ue(role, None)
    address, port, media, _ = line_of(world.offer(offer, offerer))
    place[other] = (address, port)
    assert media.proto == ("TCP/BFCP" if offerer is Side.ACCESS else "TCP/TLS/BFCP")
    address, port, _, _ = line_of(world.answer(answer, other))
    place[offerer] = (address, port)
    sources = {Side.ACCESS: (UE_IP, 41_000), Side.CORE: (PEER_IP, 42_000)}
    accepted = world.connect(*place[active], sources[active])
    dialled = world.only_dialled()
    assert world.dialled[dialled] == ((UE_IP, 7000) if active is Side.CORE else (PEER_IP, 7100))
    world.to_agw(orders.Connected(dialled, 1))
    access = accepted if active is Side.ACCESS else dialled
    client = "client" if offerer is Side.CORE else "server"
    assert world.armed == {access: (client, (("sha-256", UE_PRINT),))}
    assert not world.relayed
    world.tls_opens(access or 0)
    assert len(world.relayed) == 1
    world.hang_up()
    released(world)


def test_bfcp_terminating_starts_tls_before_the_answer_and_waits_for_the_fingerprint() -> None:
    world = World()
    address, port, _, _ = line_of(world.offer(bfcp_peer("actpass"), Side.CORE))
    access = world.connect(address, port, (UE_IP, 40_000))
    assert access is not None
    assert world.armed[access] == ("client", None)
    world.to_agw(orders.Connected(world.only_dialled(), 1))
    world.to_agw(orders.HandshakeDone(access, "TLSv1.3", "TLS_AES_128_GCM_SHA256"))
    assert not world.relayed
    line_of(world.answer(bfcp_ue("active", None), Side.ACCESS))
    assert world.armed[access] == ("client", (("sha-256", UE_PRINT),))
    world.tls_opens(access)
    assert len(world.relayed) == 1


# --- messages that are rewritten -------------------------------------------------------------------------------------


def test_without_cema_the_gateway_exchanges_the_paths_of_messages() -> None:
    world = World()
    core, core_port, _, _ = line_of(world.offer(sdp(*ue_line(cema=False)), Side.ACCESS))
    address, port, media, _ = line_of(world.answer(sdp(*peer_line(setup="passive", cema=False), ip=PEER_IP), Side.CORE))
    assert media.get("path") == f"msrps://{address}:{port}/peer;tcp"
    access = world.connect(address, port, (UE_IP, 40_000))
    world.to_agw(orders.Connected(world.only_dialled(), 1))
    world.tls_opens(access or 0)
    (swap,) = world.swapped
    ours, theirs = f"msrps://{address}:{port}/peer;tcp", f"msrp://{core}:{core_port}/ue;tcp"
    assert swap == (
        orders.PathSwap("peer", ours, f"msrp://{PEER_IP}:9000/peer;tcp", theirs),
        orders.PathSwap("ue", theirs, f"msrps://{UE_IP}:2855/ue;tcp", ours),
    )


def test_early_bytes_of_an_aware_line_wait_for_the_answer() -> None:
    world = World()
    core, core_port, _, _ = line_of(world.offer(sdp(*ue_line(cema=False)), Side.ACCESS))
    assert world.connect(core, core_port, (PEER_IP, 5000)) is not None
    access = world.only_dialled()
    world.to_agw(orders.Connected(access, 20_000))
    assert not world.relayed
    line_of(world.answer(sdp(*peer_line(setup="active", cema=False), ip=PEER_IP), Side.CORE))
    world.tls_opens(access)
    (swap,) = world.swapped
    assert swap is not None


def test_with_cema_no_message_is_looked_at() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    address, port, _, _ = line_of(world.answer(peer("passive"), Side.CORE))
    access = world.connect(address, port, (UE_IP, 40_000))
    world.to_agw(orders.Connected(world.only_dialled(), 1))
    world.tls_opens(access or 0)
    assert world.swapped == [None]


# --- merge mode and new connections ----------------------------------------------------------------------------------


def test_merge_with_both_ends_active_waits_for_both() -> None:
    world = World(access=MediaRealm(tcp_mode="merge"))
    core, core_port, media, body = line_of(world.offer(ue("active"), Side.ACCESS))
    assert setup_of(media, body) is Setup.ACTPASS
    address, port, media, body = line_of(world.answer(peer("active"), Side.CORE))
    assert setup_of(media, body) is Setup.PASSIVE
    access = world.connect(address, port, (UE_IP, 40_000))
    assert not world.dialled
    assert world.connect(core, core_port, (PEER_IP, 5000)) is not None
    assert world.armed[access or 0][0] == "server"
    world.tls_opens(access or 0)
    assert len(world.relayed) == 1


def test_merge_with_both_ends_passive_dials_both() -> None:
    world = World(access=MediaRealm(tcp_mode="merge"))
    line_of(world.offer(ue("passive"), Side.ACCESS))
    line_of(world.answer(peer("passive"), Side.CORE))
    assert sorted(world.dialled.values()) == [(UE_IP, 2855), (PEER_IP, 9000)]
    for leg in list(world.dialled):
        world.to_agw(orders.Connected(leg, 1))
    (access,) = world.armed
    assert world.armed[access][0] == "client"
    world.tls_opens(access)
    assert len(world.relayed) == 1


def test_a_reoffer_of_another_end_begins_a_new_connection_on_the_same_ports() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    address, port, _, _ = line_of(world.answer(peer("passive"), Side.CORE))
    access = world.connect(address, port, (UE_IP, 40_000))
    world.to_agw(orders.Connected(world.only_dialled(), 1))
    world.tls_opens(access or 0)
    moved = sdp(*ue_line(path=f"msrps://{UE_IP}:2855/another;tcp"), ip="192.0.2.99")
    line_of(world.offer(moved, Side.ACCESS))
    again = line_of(world.answer(peer("passive"), Side.CORE))[:2]
    assert again == (address, port)
    world.dialled.clear()
    assert world.connect(address, port, (UE_IP, 40_001)) is None
    fresh = world.connect(address, port, ("192.0.2.99", 40_001))
    assert fresh is not None
    world.to_agw(orders.Connected(world.only_dialled(), 1))
    world.tls_opens(fresh)
    assert len(world.relayed) == 2
    world.hang_up()
    released(world)
