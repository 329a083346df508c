"""Both flows of TR 29.828 5.2.1.2 through the AGW engine, and what may go wrong with a leg."""

from itertools import product

import pytest
from tests.playbook.agw_harness import OURS, UE, Play, access_request, core_request, settings

from agw.core import orders
from agw.core.orders import CLOSED, OPEN, SynFilter
from imswire.h248 import iq


def test_originating_flow_with_an_active_core_peer() -> None:
    play = Play()
    call = play.originating()
    assert (call.core.address, call.core.port, call.core.fingerprint) == ("198.51.100.1", 30000, None)
    assert (call.access.address, call.access.port) == ("192.0.2.1", 20000)
    assert call.access.fingerprint == ("sha-256", OURS)
    # step 10 and 11: the peer's SYN makes the gateway connect to the UE, but no TLS yet
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    (dial,) = play.take(orders.Dial)
    assert dial == orders.Dial(call.access_leg, "192.0.2.1", 20000, "192.0.2.77", 7000)
    play.post(orders.Connected(call.access_leg, 20000))
    assert play.take(orders.ArmTls) == []
    # steps 13 to 18
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 4444))
    assert play.take(orders.ArmTls) == []
    call.modify(call.access, start_tls=True)
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "client", UE)]
    assert play.take(orders.StartRelay) == []
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "TLS_AES_128_GCM_SHA256", "sha-256", bytes(32)))
    assert play.take(orders.StartRelay) == [orders.StartRelay(call.access_leg, call.core_leg)]
    assert play.notified() == []


@pytest.mark.parametrize("mode", ["proxy", "merge"])
@pytest.mark.parametrize("one, other", list(product([None, "active", "passive", "actpass", "holdconn"], repeat=2)))
def test_who_dials_though_nobody_has_connected(mode: str, one: str | None, other: str | None) -> None:
    """In merge mode a side that is to be active; otherwise both, where both are to be."""
    play = Play()
    remote = iq.RemoteSpec("198.51.100.9", 4444)
    call = play.add(
        core_request(remote=remote, setup=one, tcp_mode=mode),
        access_request(remote=iq.RemoteSpec("192.0.2.77", 7000, UE), setup=other, tcp_mode=mode),
    )
    active = [leg for leg, setup in ((call.core_leg, one), (call.access_leg, other)) if setup == "active"]
    dialled = [order.leg for order in play.take(orders.Dial)]
    assert dialled == (active if mode == "merge" or len(active) == 2 else [])


def test_order_to_start_tls_before_tcp_is_up() -> None:
    play = Play()
    call = play.originating()
    call.modify(call.access, start_tls=True)
    assert play.take(orders.ArmTls) == []
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    assert [order.role for order in play.take(orders.ArmTls)] == ["client"]


def test_originating_flow_with_a_passive_core_peer() -> None:
    play = Play()
    call = play.originating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "server", UE)]
    assert play.take(orders.Dial) == []  # the core's address is not known yet: the connection waits
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 9000), setup="active")
    (dial,) = play.take(orders.Dial)
    assert (dial.leg, dial.remote_address, dial.remote_port) == (call.core_leg, "198.51.100.9", 9000)
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.2", "x", "sha-256", bytes(32)))
    assert play.take(orders.StartRelay) == []
    play.post(orders.Connected(call.core_leg, 30000))
    assert len(play.take(orders.StartRelay)) == 1


def test_terminating_flow_where_the_handshake_comes_before_the_fingerprint() -> None:
    play = Play(tracing=True)
    call = play.terminating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "server", None)]
    assert [order.leg for order in play.take(orders.Dial)] == [call.core_leg]
    play.post(orders.Connected(call.core_leg, 30000))
    play.post(orders.HandshakeDone(call.access_leg, "TLSv1.3", "x"))
    assert play.take(orders.StartRelay) == []
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE), setup="passive")
    assert play.take(orders.SetFingerprints) == [orders.SetFingerprints(call.access_leg, UE)]
    assert play.take(orders.StartRelay) == []
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "x", "sha-256", bytes(32)))
    assert len(play.take(orders.StartRelay)) == 1
    assert [trace["what"] for trace in play.traces("verify")] == ["pending", "verified"]


def test_terminating_flow_where_the_ue_is_passive() -> None:
    play = Play()
    call = play.terminating()
    call.modify(
        call.access, remote=iq.RemoteSpec("192.0.2.77", 7000, UE), setup="active", start_tls=True, ignore_syn=False
    )
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.access_leg, CLOSED)]
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "client", UE)]


def test_early_syn_is_ignored_until_the_remote_is_known_and_then_only_its_source_counts() -> None:
    play = Play(tracing=True)
    request = core_request(ignore_syn=True, source_filter="address-and-port")
    call = play.add(request, access_request(remote=iq.RemoteSpec("192.0.2.77", 7000, UE)))
    listens = {order.leg: order.filter for order in play.take(orders.Listen)}
    assert listens == {call.core_leg: CLOSED, call.access_leg: OPEN}
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 4444))
    wanted = SynFilter("source", "198.51.100.9", 4444)
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.core_leg, wanted)]
    play.post(orders.SynHeld(call.core_leg, 1))
    assert [(trace["what"], trace["count"]) for trace in play.traces("tcp") if "count" in trace] == [("syn-held", 1)]


@pytest.mark.parametrize("port", [9, 0])
def test_the_discard_port_names_no_port_to_filter_by(port: int) -> None:
    play = Play()
    call = play.terminating(ignore_syn=True, source_filter="address-and-port")
    play.take(orders.Listen)
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", port, UE))
    (order,) = play.take(orders.SetFilter)
    assert order.filter == SynFilter("source", "192.0.2.77", None)


def test_a_filter_is_ordered_again_only_where_it_changes() -> None:
    play = Play()
    call = play.terminating(ignore_syn=True, source_filter="address")
    play.take(orders.Listen)
    for address, ordered in (("192.0.2.77", 1), ("192.0.2.77", 0), ("192.0.2.78", 1), ("192.0.2.78", 0)):
        call.modify(call.access, remote=iq.RemoteSpec(address, 9, UE))
        assert len(play.take(orders.SetFilter)) == ordered
        assert play.filters[call.access_leg] == SynFilter("source", address)


def test_a_filter_is_ordered_again_after_a_connection() -> None:
    """The listening socket answers nobody while it has a connection, so that the same filter is to be told anew."""
    play = Play()
    call = play.terminating(source_filter="address", remote=iq.RemoteSpec("192.0.2.77", 9))
    play.take(orders.Listen)
    wanted = SynFilter("source", "192.0.2.77")
    play.post(orders.Accepted(call.access_leg, "192.0.2.66", 50000))
    assert play.take(orders.Drop) == [orders.Drop(call.access_leg)]
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.access_leg, wanted)]
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    assert play.take(orders.SetFilter) == []


def test_a_connection_from_elsewhere_is_dropped_when_the_address_becomes_known() -> None:
    play = Play()
    call = play.terminating(source_filter="address")
    play.take(orders.Listen)
    play.post(orders.Accepted(call.access_leg, "192.0.2.66", 50000))
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    assert play.take(orders.Drop) == [orders.Drop(call.access_leg)]
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.access_leg, SynFilter("source", "192.0.2.77"))]
    play.take(orders.ArmTls)
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50001))
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "server", UE)]


def test_whoever_comes_before_the_answer_gets_no_octet_until_it_says_who_may() -> None:
    """The UE is verified before UE B has answered: what it sends must not go to whoever has found the port."""
    play = Play()
    call = play.originating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 7000))
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "x", "sha-256", bytes(32)))
    play.post(orders.Accepted(call.core_leg, "203.0.113.66", 4444))
    assert play.take(orders.StartRelay) == []
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 9), setup="passive", source_filter="address")
    assert play.take(orders.Drop) == [orders.Drop(call.core_leg)]
    assert play.take(orders.StartRelay) == []
    assert play.filters[call.core_leg] == SynFilter("source", "198.51.100.9")
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    (order,) = play.take(orders.StartRelay)
    assert (order.a, order.b) == (call.access_leg, call.core_leg)


def test_a_stranger_who_says_nothing_makes_room_for_another() -> None:
    play = Play()
    call = play.originating()
    play.post(orders.Accepted(call.core_leg, "203.0.113.66", 4444))
    play.pass_time(9.9)
    assert play.take(orders.DropSilent) == []
    play.pass_time(0.2)
    assert play.take(orders.DropSilent) == [orders.DropSilent(call.core_leg)]
    play.post(orders.Silent(call.core_leg))
    assert play.filters[call.core_leg] == OPEN
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.pass_time(5.0)
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 9))
    play.pass_time(100.0)
    assert play.take(orders.DropSilent) == []
    assert play.notified() == []


@pytest.mark.parametrize(
    "failure",
    [
        orders.TlsFailed(0, "wrong version number"),
        orders.VerifyFailed(0, "missing", "", (), b"", "", "the peer sent no certificate"),
    ],
    ids=["no-tls", "no-certificate"],
)
def test_whoever_fails_before_the_ue_was_named_ends_nothing(failure: orders.Report) -> None:
    """While UE B rings its address is unknown and anybody may reach the port: a scan must not end the call."""
    play = Play()
    call = play.terminating()
    play.take(orders.Listen)
    play.post(orders.Accepted(call.access_leg, "192.0.2.66", 50000))
    play.post(orders.Connected(call.core_leg, 30000))
    values = {name: getattr(failure, name) for name in failure.__struct_fields__}
    play.post(type(failure)(**{**values, "leg": call.access_leg}))
    assert play.notified() == []
    assert play.take(orders.Drop) == []
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.access_leg, OPEN)]
    play.take(orders.ArmTls)
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50001))
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "server", None)]
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE), setup="passive")
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "x", "sha-256", bytes(32)))
    assert len(play.take(orders.StartRelay)) == 1


def test_merge_mode_waits_for_both_peers() -> None:
    play = Play()
    remote = iq.RemoteSpec("192.0.2.77", 7000, UE)
    call = play.add(
        core_request(tcp_mode="merge", remote=iq.RemoteSpec("198.51.100.9", 1)),
        access_request(tcp_mode="merge", remote=remote),
    )
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "x", "sha-256", bytes(32)))
    assert play.take(orders.Dial) == []
    assert len(play.take(orders.StartRelay)) == 1


def test_holdconn_neither_answers_nor_dials() -> None:
    play = Play()
    call = play.originating()
    call.modify(call.access, setup="holdconn")
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.access_leg, CLOSED)]
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    assert play.take(orders.Dial) == []
    call.modify(call.access, setup="actpass")
    assert len(play.take(orders.Dial)) == 1


def test_wrong_fingerprint_closes_both_sides_and_names_both_fingerprints() -> None:
    play = Play()
    call = play.terminating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    play.post(orders.Connected(call.core_leg, 30000))
    seen = bytes([1]) * 32
    play.post(orders.VerifyFailed(call.access_leg, "mismatch", "sha-256", (bytes(32),), seen, "CN=mallory", "no match"))
    assert play.take(orders.Drop) == [orders.Drop(call.core_leg)]
    ((termination, failure),) = play.notified()
    assert termination == call.access.termination
    assert failure.kind == "fingerprint-mismatch"
    assert failure.expected == "SHA-256 " + ":".join(["00"] * 32)
    assert failure.seen == "SHA-256 " + ":".join(["01"] * 32)
    (log,) = [c for c in play.others if getattr(c, "level", "") == "error"]
    fields = getattr(log, "fields", {})
    assert fields["subject"] == "CN=mallory"
    assert fields["termination"] == termination
    assert fields["context"] == call.context
    assert play.take(orders.StartRelay) == []


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        (orders.DialFailed(0, "Connection refused"), "tcp-failed"),
        (orders.TlsFailed(0, "handshake took too long"), "tls-failed"),
        (orders.RelayEnded(0, True, "closed"), "remote-closed"),
    ],
)
def test_failures_are_notified_once_and_only_where_asked_for(report: orders.Report, kind: str) -> None:
    for notify in (True, False):
        play = Play()
        call = play.originating(notify=notify)
        play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
        values = {name: getattr(report, name) for name in report.__struct_fields__}
        play.post(type(report)(**{**values, "leg": call.access_leg}))
        assert [failure.kind for _, failure in play.notified()] == ([kind] if notify else [])


def test_inactivity_is_watched_and_notified() -> None:
    play = Play()
    call = play.originating(inactivity=30)
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 4444))
    call.modify(call.access, start_tls=True)
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "x", "sha-256", bytes(32)))
    (order,) = play.take(orders.StartRelay)
    assert order.inactivity == 30
    play.post(orders.Inactive(call.access_leg, 30.0))
    play.post(orders.Inactive(call.core_leg, 30.0))  # nobody asked about this one
    assert [failure.kind for _, failure in play.notified()] == ["inactive"]


def test_statistics_come_with_the_subtract_and_bytes_are_traced() -> None:
    play = Play(tracing=True)
    call = play.originating()
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 4444))
    call.modify(call.access, start_tls=True)
    play.post(orders.TlsOpen(call.access_leg, "TLSv1.3", "x", "sha-256", bytes(32)))
    play.counters = {call.access_leg: (500, 70), call.core_leg: (70, 500)}
    play.now += 2
    reply = call.subtract()
    found = {c.termination: iq.read_statistics(c.statistics) for c in reply.actions[0].commands}
    assert found[call.access.termination] == iq.Statistics(70, 500, 2000)
    assert found[call.core.termination] == iq.Statistics(500, 70, 2000)
    (trace,) = play.traces("bytes")
    assert (trace["a_to_c"], trace["c_to_a"], trace["seconds"]) == (500, 70, 2.0)
    assert not play.engine.store.contexts


def test_ports_in_use_by_others_are_passed_over() -> None:
    play = Play()
    play.busy = {30000, 30001, 20000}
    call = play.originating()
    assert (call.core.port, call.access.port) == (30002, 20001)


def test_a_port_rests_before_it_is_used_again() -> None:
    play = Play()
    for expected in (20000, 20001, 20002, 20003):
        call = play.originating()
        assert call.access.port == expected
        call.subtract()
    assert play.request(iq.add_pair(core_request(), access_request())) is not None
    reply = play.reply()
    assert reply is not None
    assert [c.error.code for a in reply.actions for c in a.commands if c.error] == [510]
    play.now += 11
    assert play.originating().access.port == 20000


def test_ipv6_addresses_are_chosen_by_family() -> None:
    play = Play()
    call = play.add(core_request(family="IP6"), access_request(family="IP6"))
    assert (call.core.address, call.access.address) == ("2001:db8:1::1", "2001:db8::1")


def test_sessions_are_limited() -> None:
    play = Play(settings(sessions=1))
    play.originating()
    reply = play.request(iq.add_pair(core_request(), access_request()))
    assert reply is not None
    assert reply.actions[0].error is not None
    assert reply.actions[0].error.code == 510
