"""Scripts of calls against the media half: both flows, failures while the gateway is asked, forks and re-offers."""

import pytest
from tests.playbook.mediaplay import (
    AGW_IP,
    AUDIO,
    PEER_IP,
    UE_IP,
    Play,
    ended,
    one,
    peer_line,
    proceed,
    refused,
    sdp,
    settings,
    ue_line,
)

from imsalg.core.media_events import Proceed, Side, Trace
from imsalg.media_settings import MediaRealm
from imswire.h248 import iq
from imswire.h248.iq import StreamRequest
from imswire.h248.model import CHOOSE_CONTEXT, TransactionRequest

PEER_ACTIVE = sdp(*peer_line(), ip=PEER_IP)
PEER_PASSIVE = sdp(*peer_line(setup="passive"), ip=PEER_IP)
UE_OFFER = sdp(*ue_line())
UE_ANSWER = sdp(*ue_line(setup="active", e2ae=None))


def adds(request: TransactionRequest) -> list[StreamRequest]:
    return [iq.read_add(command) for action in request.actions for command in action.commands]


def changes(request: TransactionRequest) -> list[tuple[str, iq.StreamChange]]:
    out = []
    for command in (command for action in request.actions for command in action.commands):
        access = command.termination.startswith("ip/access")
        state = StreamRequest(realm="r", proto="TCP/TLS" if access else "TCP", family="IP4")
        out.append((command.termination, iq.read_modify(command, state)))
    return out


def originate(play: Play, answer: bytes = PEER_ACTIVE) -> None:
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(answer)
    play.drain()
    play.confirm("a")


# --- originating (TR 29.828 5.2.1.2.2) ------------------------------------------------------------------------------


def test_originating_offer_is_one_transaction_core_first() -> None:
    play = Play()
    assert play.offer(UE_OFFER) == []
    request = play.take()
    assert [action.context for action in request.actions] == [CHOOSE_CONTEXT]
    core, access = adds(request)
    assert (core.realm, core.proto, core.tcp_mode, core.remote) == ("core", "TCP", "proxy", None)
    assert (access.realm, access.proto, access.fingerprint_hash) == ("access", "TCP/TLS", "sha-256")
    assert access.remote == iq.RemoteSpec(UE_IP, 2855, (("sha-256", bytes(range(32))),))
    lines = proceed(play.answer_gateway())
    assert "m=message 20001 TCP/MSRP *" in lines
    assert f"c=IN IP4 {AGW_IP}" in lines
    assert not [line for line in lines if "fingerprint" in line or "3ge2ae" in line]
    assert "a=setup:actpass" in lines
    assert f"a=path:msrps://{UE_IP}:2855/ue;tcp" in lines


def test_originating_answer_active_makes_the_gateway_tls_client() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    assert play.answer(PEER_ACTIVE) == []
    (core_name, core), (access_name, access) = changes(play.take())
    assert (core_name, access_name) == ("ip/core/1", "ip/access/1")
    assert core.remote == iq.RemoteSpec(PEER_IP, 9000)
    assert (core.setup, core.source_filter) == ("passive", "address")
    assert (access.start_tls, access.setup, access.remote) == (True, "active", None)
    lines = proceed(play.answer_gateway())
    assert "m=message 20002 TCP/TLS/MSRP *" in lines
    assert "a=setup:active" in lines
    assert any(line.startswith("a=fingerprint:SHA-256 20:21:22") for line in lines)
    assert not [line for line in lines if "3ge2ae" in line]


def test_originating_answer_passive_leaves_the_gateway_tls_server() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_PASSIVE)
    (_, core), (_, access) = changes(play.take())
    assert (core.setup, access.setup, access.start_tls) == ("active", "passive", None)


def test_answer_without_setup_means_that_the_offerer_connects() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(sdp(*peer_line(setup=None), ip=PEER_IP))
    (_, core), (_, access) = changes(play.take())
    assert (core.setup, access.setup, access.start_tls) == ("active", "passive", None)


def test_holdconn_dials_nobody() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(sdp(*peer_line(setup="holdconn"), ip=PEER_IP))
    (_, core), (_, access) = changes(play.take())
    assert (core.setup, access.setup, access.start_tls) == ("holdconn", "holdconn", None)


def test_early_syn_is_ignored_by_setting_until_the_answer() -> None:
    ignore = MediaRealm(early_syn="ignore", source_filter="address-and-port")
    play = Play(settings(core=ignore))
    play.offer(UE_OFFER)
    core, access = adds(play.take())
    assert (core.ignore_syn, core.source_filter) == (True, "off")
    assert (access.ignore_syn, access.source_filter) == (False, "address")
    play.answer_gateway()
    play.answer(PEER_ACTIVE)
    (_, change), _ = changes(play.take())
    assert (change.ignore_syn, change.source_filter) == (False, "address-and-port")


def test_bye_subtracts_both_terminations() -> None:
    play = Play()
    originate(play)
    assert play.end() == []
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]
    play.drain()
    assert not play.half.calls
    assert play.half.gateways.gateways["agw-1"].load == 0


# --- terminating (5.2.1.2.3) ----------------------------------------------------------------------------------------


def test_terminating_call() -> None:
    play = Play(settings(access=MediaRealm(early_syn="ignore")))
    play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE)
    access, core = adds(play.take())
    assert (access.realm, access.proto, access.ignore_syn, access.remote) == ("access", "TCP/TLS", True, None)
    assert (core.realm, core.proto, core.remote) == ("core", "TCP", iq.RemoteSpec(PEER_IP, 9000))
    lines = proceed(play.answer_gateway())
    assert "m=message 20001 TCP/TLS/MSRP *" in lines
    assert "a=3ge2ae:applied" in lines
    assert any(line.startswith("a=fingerprint:SHA-256 20:21") for line in lines)
    play.answer(UE_ANSWER, Side.ACCESS)
    (name, change), (_, other) = changes(play.take())
    assert name == "ip/access/1"
    assert change.remote == iq.RemoteSpec(UE_IP, 2855, (("sha-256", bytes(range(32))),))
    assert (change.setup, change.ignore_syn, change.start_tls) == ("passive", False, None)
    assert (other.setup, other.remote) == ("active", None)
    lines = proceed(play.answer_gateway())
    assert "m=message 20002 TCP/MSRP *" in lines
    assert not [line for line in lines if "fingerprint" in line or "3ge2ae" in line]


def test_terminating_ue_passive_is_dialled_with_tls_from_us() -> None:
    play = Play()
    play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE)
    play.answer_gateway()
    play.answer(sdp(*ue_line(setup="passive", e2ae=None)), Side.ACCESS)
    (_, access), (_, core) = changes(play.take())
    assert (access.setup, access.start_tls, core.setup) == ("active", True, "passive")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (sdp(*peer_line(setup="active"), ip=UE_IP), "TCP/TLS/MSRP was offered"),
        (sdp(*ue_line(setup="active", e2ae=None, fingerprint=None)), "no certificate fingerprint"),
        (sdp(*ue_line(setup="active", e2ae=None, fingerprint="SHA-256 zz")), "cannot be read"),
        (sdp(*ue_line(setup="active", e2ae=None, fingerprint="MD5 " + ":".join(["AA"] * 16))), "supported hash"),
        (sdp(*ue_line(setup="active", e2ae=None), *AUDIO), "answered"),
        (b"v=0\r\nrubbish", ""),
        (sdp(*ue_line(setup="actpass", e2ae=None)), "setup"),
    ],
)
def test_an_answer_that_is_not_safe_ends_the_call(body: bytes, words: str) -> None:
    play = Play()
    play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE)
    play.answer_gateway()
    refusal = refused(play.answer(body, Side.ACCESS))
    assert refusal.status == 488
    assert words in refusal.warning
    assert not play.asked
    play.end()
    assert play.names() == ["Subtract 1 ip/access/1", "Subtract 1 ip/core/1"]


def test_without_cema_a_passive_answerer_is_dialled_where_its_path_says() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    elsewhere = peer_line(setup="passive", cema=False, path="msrp://203.0.113.99:9000/peer;tcp")
    play.answer(sdp(*elsewhere, ip=PEER_IP))
    (_, core), _ = changes(play.take())
    assert core.remote == iq.RemoteSpec("203.0.113.99", 9000)
    assert "a=msrp-cema" in proceed(play.answer_gateway())


def test_passive_answer_on_the_discard_port_is_refused() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    assert "port 9" in refused(play.answer(sdp(*peer_line(9, setup="passive"), ip=PEER_IP))).warning


def test_line_rejected_by_the_answer_is_subtracted() -> None:
    play = Play()
    play.offer(sdp(*AUDIO, *ue_line()))
    play.answer_gateway()
    lines = proceed(play.answer(sdp(*AUDIO, "m=message 0 TCP/MSRP *", ip=PEER_IP)))
    assert "m=message 0 TCP/TLS/MSRP *" in lines
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]


# --- lines that pass ------------------------------------------------------------------------------------------------


def test_other_lines_pass_to_the_byte_beside_a_secured_one() -> None:
    play = Play()
    play.offer(sdp(*AUDIO, *ue_line(), "m=video 0 RTP/AVP 31"))
    lines = proceed(play.answer_gateway())
    assert lines[:7] == sdp(*AUDIO).decode().split("\r\n")[:7]
    assert lines[-2] == "m=video 0 RTP/AVP 31"
    assert f"c=IN IP4 {UE_IP}" in lines
    assert lines.index(f"c=IN IP4 {AGW_IP}") > lines.index("m=message 20001 TCP/MSRP *")


def test_a_call_without_secured_lines_needs_no_gateway() -> None:
    play = Play(gateways=0)
    offer = sdp(*AUDIO)
    assert proceed(play.offer(offer)) == offer.decode().split("\r\n")
    answer = sdp(*AUDIO, ip=PEER_IP)
    assert proceed(play.answer(answer)) == answer.decode().split("\r\n")
    assert not play.asked


def test_two_secured_lines_are_one_transaction_each_way() -> None:
    play = Play()
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    assert play.names() == ["Add $ $"] * 4
    assert len(play.asked) == 1
    play.answer_gateway()
    play.answer(sdp(*peer_line(), *peer_line(9002), ip=PEER_IP))
    assert len(play.asked) == 1
    assert play.names() == [f"Modify {c} ip/{r}/{c}" for c in (1, 2) for r in ("core", "access")]
    binds = [c.fields for c in play.commands if isinstance(c, Trace) and c.kind == "bind"]
    assert [(b["context"], b["line"], b["call_id"]) for b in binds] == [(1, 0, "c1@lab"), (2, 1, "c1@lab")]


# --- what can go wrong while the gateway is asked -------------------------------------------------------------------


def test_call_ends_while_the_reservation_is_under_way() -> None:
    play = Play()
    play.offer(UE_OFFER)
    assert play.end() == []
    assert not play.half.calls
    assert play.answer_gateway() == []
    assert play.names() == ["Subtract 1 *"]


def test_call_ends_while_the_gateway_is_configured() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE)
    assert play.end() == []
    assert play.names()[-2:] == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]
    assert play.drain() == []
    assert not play.half.calls


def test_gateway_out_of_ports_after_the_first_termination() -> None:
    play = Play()
    play.offer(UE_OFFER)
    refusal = refused(play.refuse_gateway(510, after=1))
    assert (refusal.status, refusal.retry_after) == (503, 10)
    assert "nsufficient resources" in refusal.warning
    assert play.names() == ["Subtract 1 *"]
    assert not play.half.calls


@pytest.mark.parametrize(("code", "status"), [(432, 503), (500, 500), (449, 500), (512, 503)])
def test_gateway_errors_become_sip_answers(code: int, status: int) -> None:
    play = Play()
    play.offer(UE_OFFER)
    refusal = refused(play.refuse_gateway(code))
    assert (refusal.status, refusal.retry_after is not None) == (status, status == 503)


def test_gateway_does_not_answer() -> None:
    play = Play()
    play.offer(UE_OFFER)
    out = play.wait(4.5)
    assert (refused(out).status, refused(out).retry_after) == (500, 10)
    assert any(name.startswith("AuditValue") for name in play.names())


def test_modify_refused_ends_the_call() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE)
    assert refused(play.refuse_gateway(449)).status == 500
    play.end()
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]


def test_no_gateway_in_service() -> None:
    refusal = refused(Play(gateways=0).offer(UE_OFFER))
    assert (refusal.status, refusal.retry_after, refusal.warning) == (503, 10, "no media gateway is in service")


def test_offer_while_another_is_pending() -> None:
    play = Play()
    play.offer(UE_OFFER)
    assert refused(play.offer(UE_OFFER)).status == 491
    play.answer_gateway()
    assert refused(play.offer(PEER_ACTIVE, Side.CORE)).status == 491


def test_reply_that_lacks_a_termination() -> None:
    play = Play()
    play.offer(UE_OFFER)
    out = play.answer_gateway(lambda r: type(r)(r.id, (type(r.actions[0])(7, r.actions[0].commands[:1]),)))
    assert refused(out).status == 500
    assert play.names() == ["Subtract 7 *"]


# --- forks, provisional answers -------------------------------------------------------------------------------------


def test_same_answer_in_183_and_200_is_configured_once() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE, final=False)
    first = play.answer_gateway()
    again = play.answer(PEER_ACTIVE)
    assert not play.asked
    assert proceed(first) == proceed(again)
    play.confirm("a")
    assert not play.asked


def test_answer_repeated_while_the_gateway_is_configured_waits() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE, final=False)
    assert play.answer(PEER_ACTIVE) == []
    out = play.answer_gateway()
    assert [type(c) for c in out] == [Proceed, Proceed]
    assert not play.asked


def test_second_leg_answers_in_its_200() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE, leg="a", final=False)
    play.answer_gateway()
    assert play.answer(sdp(*peer_line(9100), ip=PEER_IP), leg="b") == []
    (_, core), (_, access) = changes(play.take())
    assert (core.reconnect, access.start_tls) == (True, True)
    proceed(play.answer_gateway())


def test_confirmed_leg_that_never_answered_ends_the_call() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    assert ended(play.confirm("z")).status == 488
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]


def test_gateway_refuses_the_confirmed_leg() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER_ACTIVE, leg="a", final=False)
    play.answer_gateway()
    play.answer(sdp(*peer_line(9100), ip=PEER_IP), leg="b", final=False)
    play.confirm("b")
    assert ended(play.refuse_gateway(500)).status == 500


# --- re-offers ------------------------------------------------------------------------------------------------------


def test_reoffer_without_change_asks_the_gateway_nothing() -> None:
    play = Play()
    originate(play)
    again = proceed(play.offer(UE_OFFER))
    assert "m=message 20001 TCP/MSRP *" in again
    assert "m=message 20002 TCP/TLS/MSRP *" in proceed(play.answer(PEER_ACTIVE, leg="b"))
    assert not play.asked


def test_reoffer_from_the_core_of_an_originating_session() -> None:
    play = Play()
    originate(play)
    lines = proceed(play.offer(sdp(*peer_line(setup="actpass"), ip=PEER_IP), Side.CORE))
    assert "m=message 20002 TCP/TLS/MSRP *" in lines
    assert "a=3ge2ae:applied" in lines
    lines = proceed(play.answer(sdp(*ue_line(setup="passive", e2ae=None)), Side.ACCESS))
    assert "m=message 20001 TCP/MSRP *" in lines
    assert not play.asked


def test_reoffer_that_moves_the_ue_is_configured_with_the_answer() -> None:
    play = Play()
    originate(play)
    proceed(play.offer(sdp(*ue_line(2999))))
    assert not play.asked
    play.answer(PEER_ACTIVE)
    (name, core), (_, access) = changes(play.take())
    assert (name, core.reconnect, core.remote) == ("ip/core/1", True, None)
    assert (access.reconnect, access.start_tls) == (False, True)
    assert access.remote is not None
    assert access.remote.port == 2999
    proceed(play.answer_gateway())


def test_reoffer_adds_a_line_and_fails() -> None:
    play = Play()
    originate(play)
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    assert play.names() == ["Add $ $"] * 2
    proceed(play.answer_gateway())
    play.fail_offer()
    assert play.names() == ["Subtract 2 ip/core/2", "Subtract 2 ip/access/2"]
    play.drain()
    proceed(play.offer(UE_OFFER))
    assert not play.asked


def test_reoffer_cancelled_while_its_line_is_reserved() -> None:
    play = Play()
    originate(play)
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    play.fail_offer()
    play.offer(sdp(*ue_line(), *ue_line(2859)))
    assert play.answer_gateway() == []
    assert play.names() == ["Add $ $", "Add $ $", "Subtract 2 *"]
    proceed(play.answer_gateway())
    assert play.half.calls["c1"].contexts == (1, 3)


def test_failed_reoffer_with_an_early_answer_is_modified_back() -> None:
    play = Play()
    originate(play)
    proceed(play.offer(sdp(*ue_line(2999))))
    play.answer(PEER_ACTIVE, final=False)
    play.answer_gateway()
    play.fail_offer()
    (_, core), (name, change) = changes(play.take())
    assert (name, core.reconnect) == ("ip/access/1", True)
    assert change.remote is not None
    assert change.remote.port == 2855


def test_reoffer_removes_the_line() -> None:
    play = Play()
    originate(play)
    lines = proceed(play.offer(sdp("m=message 0 TCP/TLS/MSRP *")))
    assert "m=message 0 TCP/MSRP *" in lines
    assert not play.asked
    lines = proceed(play.answer(sdp("m=message 0 TCP/MSRP *", ip=PEER_IP)))
    assert "m=message 0 TCP/TLS/MSRP *" in lines
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]


def test_reoffer_that_drops_the_protection_is_refused() -> None:
    play = Play()
    originate(play)
    refusal = refused(play.offer(sdp(*peer_line(setup="actpass"))))
    assert (refusal.status, "without TLS" in refusal.warning) == (488, True)
    proceed(play.offer(UE_OFFER))


def test_reoffer_after_an_early_answer_whose_200_had_no_sdp() -> None:
    play = Play()
    originate(play)
    proceed(play.offer(UE_OFFER))
    proceed(play.answer(PEER_ACTIVE, final=False))
    proceed(play.offer(UE_OFFER))


def test_reoffer_with_fewer_lines_is_refused() -> None:
    play = Play()
    play.offer(sdp(*AUDIO, *ue_line()))
    play.answer_gateway()
    play.answer(sdp(*AUDIO, *peer_line(), ip=PEER_IP))
    play.drain()
    assert refused(play.offer(UE_OFFER)).status == 488


def test_held_line_is_configured_when_it_is_let_go() -> None:
    play = Play()
    originate(play, sdp(*peer_line(setup="holdconn"), ip=PEER_IP))
    proceed(play.offer(UE_OFFER))
    play.answer(PEER_ACTIVE)
    (_, core), (_, access) = changes(play.take())
    assert (core.setup, access.setup, access.start_tls) == ("passive", "active", True)


def test_a_line_that_passed_stays_as_it_is_in_later_offers() -> None:
    play = Play(gateways=0)
    plain = sdp(*peer_line(setup="actpass"))
    proceed(play.offer(plain))
    proceed(play.answer(PEER_PASSIVE))
    again = sdp(*peer_line(setup="actpass"), ip=PEER_IP)
    assert proceed(play.offer(again, Side.CORE)) == again.decode().split("\r\n")


def test_broken_offer_is_488_and_leaves_no_call() -> None:
    play = Play()
    assert refused(play.offer(b"nonsense")).status == 488
    assert not play.half.calls
    assert one(play.answer(PEER_ACTIVE)).__class__.__name__ == "Refuse"


def test_late_leg_of_a_call_that_only_passes() -> None:
    play = Play(gateways=0)
    play.offer(sdp(*AUDIO))
    play.answer(sdp(*AUDIO, ip=PEER_IP), leg="a")
    late = sdp("m=audio 7000 RTP/AVP 0", ip=PEER_IP)
    assert proceed(play.answer(late, leg="b")) == late.decode().split("\r\n")


def test_late_leg_of_a_secured_call_is_not_let_through() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(sdp("m=message 0 TCP/MSRP *", ip=PEER_IP), leg="a")
    play.drain()
    assert refused(play.answer(PEER_ACTIVE, leg="b")).status == 488
    assert proceed(play.answer(sdp("m=message 0 TCP/MSRP *", ip=PEER_IP), leg="a"))


def test_gauges() -> None:
    play = Play()
    assert play.half.stats() == {"calls": 0, "contexts": 0, "gateways": 1}
    originate(play)
    assert play.half.stats() == {"calls": 1, "contexts": 1, "gateways": 1}


def test_second_2xx_of_a_fork_is_secured_and_leaves_the_gateway_alone() -> None:
    play = Play()
    originate(play)
    lines = proceed(play.answer(sdp(*peer_line(9100), ip="203.0.113.21"), leg="b"))
    assert "m=message 20002 TCP/TLS/MSRP *" in lines
    play.confirm("b")
    assert not play.asked
    assert refused(play.answer(sdp(*peer_line(), *AUDIO, ip=PEER_IP), leg="c")).status == 488
