"""After the basic flows: TLS roles, new connections, TCP modes, filters, paths, certificates, time limits."""

from dataclasses import replace
from typing import Any

import pytest
from tests.playbook.agw_harness import OURS, UE, Call, Play, access_request, core_request, settings

from agw.core import events, orders
from agw.core.identities import Known
from agw.core.model import Tcp
from agw.core.orders import CLOSED, OPEN, PathSwap, SynFilter
from agw.core.snapshot import LegFacts
from agw.settings import RealmSettings, Settings, TimerSettings, TlsSettings
from imswire.h248 import iq
from imswire.h248.model import Action

UE_PATH = "msrps://192.0.2.77:7000/alice;tcp"
PEER_PATH = "msrp://198.51.100.9:9000/bob;tcp"
OTHER = (("sha-256", bytes([7]) * 32),)


def realm_settings(access: dict[str, Any] | None = None, **parts: Any) -> Settings:
    base = settings()
    realms = {**base.realm, "access": replace(base.realm["access"], **(access or {}))}
    return replace(base, realm=realms, **parts)


def opened(play: Play, leg: int) -> None:
    play.post(orders.TlsOpen(leg, "TLSv1.3", "TLS_AES_128_GCM_SHA256", "sha-256", bytes(32)))


def relaying(play: Play, call: Call) -> None:
    """The answer names the UE, which connects; the core is dialled, the UE is verified."""
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 50000, UE))
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    play.post(orders.Connected(call.core_leg, 30000))
    opened(play, call.access_leg)
    assert len(play.take(orders.StartRelay)) == 1


def code(play: Play, *requests: iq.StreamRequest) -> tuple[int, str]:
    """The error that an Add gets."""
    reply = play.request(Action(0xFFFFFFFE, tuple(iq.to_add(request) for request in requests)))
    assert reply is not None
    faults = [command.error for action in reply.actions for command in action.commands if command.error]
    return faults[0].code, faults[0].text


# --- TLS roles ------------------------------------------------------------------------------------------------------


def test_server_on_a_connection_that_was_dialled() -> None:
    """BFCP, originating: the SDP offerer is TLS client whoever connects (RFC 8856 8)."""
    play = Play()
    call = play.originating(tls_role="server")
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    assert [order.role for order in play.take(orders.ArmTls)] == ["server"]


def test_client_on_an_accepted_connection_that_was_ordered_in_the_add() -> None:
    """BFCP, terminating: TR 29.828 5.2.1.3.3 step 2."""
    play = Play()
    call = play.terminating(tls_role="client", start_tls=True)
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    assert play.take(orders.ArmTls) == [orders.ArmTls(call.access_leg, "client", None)]


def test_a_client_without_the_order_to_start_waits_for_it() -> None:
    play = Play()
    call = play.terminating(tls_role="client")
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    assert play.take(orders.ArmTls) == []
    call.modify(call.access, start_tls=True)
    assert [order.role for order in play.take(orders.ArmTls)] == ["client"]


# --- new connections ------------------------------------------------------------------------------------------------


def test_reconnect_ends_both_connections_in_order_and_listens_on_the_same_ports() -> None:
    play = Play(tracing=True)
    call = play.terminating()
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    play.take(orders.Listen)
    relaying(play, call)
    play.counters = {call.access_leg: (500, 70), call.core_leg: (70, 500)}
    play.now += 2
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.78", 9, OTHER), reconnect=True, source_filter="address")
    released = [order.leg for order in play.take(orders.Release)]
    assert sorted(released) == sorted([call.access_leg, call.core_leg])
    assert play.take(orders.Listen) == []  # the ports never stopped being ours
    assert sorted(port for _, port in play.places.values()) == [20000, 30000]
    filters = {play.places[leg][1]: filter for leg, filter in play.filters.items()}
    assert filters == {20000: SynFilter("source", "192.0.2.78"), 30000: OPEN}
    assert not set(play.filters) & {call.access_leg, call.core_leg}
    assert play.notified() == []
    (trace,) = play.traces("bytes")
    assert (trace["a_to_c"], trace["c_to_a"], trace["seconds"]) == (500, 70, 2.0)
    # What is still said about the old connections changes nothing.
    play.post(orders.RelayEnded(call.access_leg, True, "closed"))
    play.post(orders.TlsFailed(call.access_leg, "late"))
    assert play.notified() == []
    call.access_leg = play.engine.store.names[call.access.termination].id
    call.core_leg = play.engine.store.names[call.core.termination].id
    play.post(orders.Accepted(call.access_leg, "192.0.2.78", 50001))
    assert play.take(orders.ArmTls)[-1].fingerprints == OTHER
    play.post(orders.Connected(call.core_leg, 30000))
    opened(play, call.access_leg)
    assert play.take(orders.StartRelay) == [orders.StartRelay(call.access_leg, call.core_leg)]
    play.counters = {call.access_leg: (1, 2), call.core_leg: (2, 1)}
    reply = call.subtract()
    found = {c.termination: iq.read_statistics(c.statistics) for c in reply.actions[0].commands}
    assert found[call.access.termination] == iq.Statistics(72, 501, 2000)
    assert not play.engine.store.former


def test_reconnect_of_both_terminations_dials_nobody_before_the_whole_answer_is_known() -> None:
    play = Play()
    call = play.add(
        core_request(setup="active", remote=iq.RemoteSpec("198.51.100.9", 9000)),
        access_request(setup="active", remote=iq.RemoteSpec("192.0.2.77", 7000, UE)),
    )
    assert len(play.take(orders.Dial)) == 2
    change: dict[str, Any] = {"reconnect": True}
    ports = sorted(play.places.values())
    commands = (
        iq.to_modify(
            call.core.termination,
            iq.StreamChange("TCP/MSRP", remote=iq.RemoteSpec("198.51.100.10", 9001), **change),
        ),
        iq.to_modify(
            call.access.termination,
            iq.StreamChange("TCP/TLS/MSRP", remote=iq.RemoteSpec("192.0.2.78", 7001, UE), **change),
        ),
    )
    play.request(Action(call.context, commands))
    dialled = {(order.remote_address, order.remote_port) for order in play.take(orders.Dial)}
    assert dialled == {("198.51.100.10", 9001), ("192.0.2.78", 7001)}
    assert play.notified() == []
    assert sorted(play.places.values()) == ports


def test_whoever_connects_before_the_new_connection_is_ordered_meets_silence() -> None:
    """An active UE dials with its answer, which the gateway hears of a little later; both sides, whoever connected."""
    play = Play()
    call = play.terminating()
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    assert play.filters == {call.access_leg: OPEN, call.core_leg: OPEN}
    relaying(play, call)
    silence = {call.access_leg: CLOSED, call.core_leg: CLOSED}
    assert play.filters == silence
    play.post(orders.RelayEnded(call.access_leg, True, "closed"))
    assert play.filters == silence
    call.modify(call.access, reconnect=True)
    assert sorted(filter.kind for filter in play.filters.values()) == ["open", "open"]
    assert not set(silence) & set(play.filters)
    call.subtract()
    assert not play.places


def test_a_side_that_is_to_dial_answers_nobody_until_it_is_to_listen() -> None:
    play = Play()
    call = play.terminating(setup="active")
    assert play.filters == {call.access_leg: CLOSED, call.core_leg: OPEN}
    call.modify(call.access, setup="passive", remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    assert play.filters[call.access_leg] == OPEN


def test_a_new_connection_with_a_change_of_both_terminations_takes_each_port_once() -> None:
    play = Play()
    call = play.terminating()
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    relaying(play, call)
    play.orders.clear()
    commands = (
        iq.to_modify(call.access.termination, iq.StreamChange("TCP/TLS/MSRP", reconnect=True, setup="passive")),
        iq.to_modify(
            call.core.termination, iq.StreamChange("TCP/MSRP", remote=iq.RemoteSpec("198.51.100.9", 9001), setup="")
        ),
    )
    play.request(Action(call.context, commands))
    assert play.notified() == []
    assert play.take(orders.Listen) == []
    assert len(play.take(orders.Release)) == 2


def test_reconnect_revives_a_context_that_has_failed() -> None:
    play = Play()
    call = play.terminating()
    relaying(play, call)
    play.post(orders.RelayEnded(call.access_leg, True, "closed"))
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE), reconnect=True)
    leg = play.engine.store.names[call.access.termination]
    play.post(orders.Accepted(leg.id, "192.0.2.77", 50000))
    assert play.take(orders.ArmTls)[-1] == orders.ArmTls(leg.id, "server", UE)


def test_changes_without_reconnect_are_for_the_next_connection() -> None:
    play = Play()
    call = play.terminating()
    relaying(play, call)
    play.orders.clear()
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.99", 9, OTHER), source_filter="address")
    assert play.orders == []
    call.modify(call.access, reconnect=True)
    assert SynFilter("source", "192.0.2.99") in play.filters.values()


# --- TCP modes ------------------------------------------------------------------------------------------------------


def test_merge_with_passive_sides_joins_two_incoming_connections() -> None:
    play = Play()
    passive: dict[str, Any] = {"tcp_mode": "merge", "setup": "passive"}
    call = play.add(core_request(**passive), access_request(**passive, remote=iq.RemoteSpec("192.0.2.77", 9, UE)))
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 9000))
    assert play.take(orders.Dial) == []
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    opened(play, call.access_leg)
    assert len(play.take(orders.StartRelay)) == 1


@pytest.mark.parametrize("mode", ["merge", "proxy"])
def test_active_on_both_sides_dials_both(mode: str) -> None:
    play = Play()
    active: dict[str, Any] = {"tcp_mode": mode, "setup": "active"}
    call = play.add(
        core_request(**active, remote=iq.RemoteSpec("198.51.100.9", 9000)),
        access_request(**active, remote=iq.RemoteSpec("192.0.2.77", 7000, UE), start_tls=True),
    )
    assert {order.leg for order in play.take(orders.Dial)} == {call.core_leg, call.access_leg}
    play.post(orders.Connected(call.core_leg, 30000))
    play.post(orders.Connected(call.access_leg, 20000))
    assert [order.role for order in play.take(orders.ArmTls)] == ["client"]
    opened(play, call.access_leg)
    assert len(play.take(orders.StartRelay)) == 1


def test_stateless_relaying_is_refused_with_a_reason() -> None:
    play = Play()
    number, text = code(play, core_request(tcp_mode="relay"))
    assert number == 501
    assert "unterminated" in text


# --- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"source_filter": "address", "source_mask": "192.0.2.0/25"}, SynFilter("source", "192.0.2.0", prefix=25)),
        ({"source_filter": "address-and-port"}, SynFilter("source", "192.0.2.77", 7000)),
        (
            {"source_filter": "address-and-port", "source_ports": (6000, 6100)},
            SynFilter("source", "192.0.2.77", 6000, 6100),
        ),
        (
            {"source_filter": "address-and-port", "source_mask": "192.0.2.0/24", "source_ports": (6000, 6000)},
            SynFilter("source", "192.0.2.0", 6000, 6000, 24),
        ),
        ({"source_filter": "off", "source_mask": "192.0.2.0/25"}, OPEN),
    ],
)
def test_source_filters(asked: dict[str, Any], expected: SynFilter) -> None:
    play = Play()
    call = play.originating(**asked)
    filters = {order.leg: order.filter for order in play.take(orders.Listen)}
    assert filters[call.access_leg] == expected


@pytest.mark.parametrize(
    ("admitted", "address", "port"),
    [(True, "192.0.2.1", 10), (True, "192.0.2.127", 20), (False, "192.0.2.128", 15), (False, "192.0.2.1", 21)],
)
def test_networks_and_port_ranges_admit(admitted: bool, address: str, port: int) -> None:
    assert SynFilter("source", "192.0.2.0", 10, 20, 25).admits(address, port) is admitted
    assert not SynFilter("source", "2001:db8::", None, None, 32).admits(address, port)


def test_a_mask_that_comes_later_drops_a_connection_from_elsewhere() -> None:
    play = Play()
    call = play.terminating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.66", 50000))
    call.modify(call.access, source_filter="address", source_mask="192.0.2.64/31")
    assert play.take(orders.Drop) == [orders.Drop(call.access_leg)]


def test_latching_only_where_the_realm_allows_it() -> None:
    play = Play()
    number, text = code(play, access_request(latch=True))
    assert number == 449
    assert "does not learn" in text
    play = Play(realm_settings({"latch": True}))
    call = play.originating(latch=True, source_filter="address-and-port")
    filters = {order.leg: order.filter for order in play.take(orders.Listen)}
    assert filters[call.access_leg] == OPEN  # the signalled address is one behind the NAT
    play.post(orders.Accepted(call.access_leg, "203.0.113.5", 61000))
    assert play.take(orders.Drop) == []
    assert len(play.take(orders.ArmTls)) == 1


def test_latching_does_not_open_what_is_to_be_held() -> None:
    play = Play(realm_settings({"latch": True}))
    call = play.terminating(latch=True, ignore_syn=True, source_filter="address")
    assert {order.leg: order.filter for order in play.take(orders.Listen)}[call.access_leg] == CLOSED
    call.modify(call.access, remote=iq.RemoteSpec("10.0.0.7", 9, UE))
    assert play.take(orders.SetFilter) == [orders.SetFilter(call.access_leg, OPEN)]


def test_families_differ_between_the_sides_and_agree_within_one() -> None:
    play = Play()
    call = play.add(
        core_request(family="IP6", remote=iq.RemoteSpec("2001:db8:1::9", 9000)),
        access_request(remote=iq.RemoteSpec("192.0.2.77", 7000, UE)),
    )
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    (dial,) = play.take(orders.Dial)
    assert (dial.address, dial.remote_address) == ("2001:db8:1::1", "2001:db8:1::9")
    error = call.modify(call.access, source_filter="address", source_mask="2001:db8::/32").error
    assert error is not None
    assert error.code == 449
    number, _ = code(play, core_request(remote=iq.RemoteSpec("2001:db8::9", 9000)))
    assert number == 449


def test_advertised_address_goes_into_descriptors_and_paths_and_the_bound_one_to_the_socket() -> None:
    play = Play(realm_settings({"advertise": {"192.0.2.1": "203.0.113.1"}}))
    call = play.add(core_request(local_session="alice"), access_request(local_session="bob"))
    assert (call.access.address, call.access.path) == ("203.0.113.1", "msrps://203.0.113.1:20000/bob;tcp")
    assert {order.address for order in play.take(orders.Listen)} == {"192.0.2.1", "198.51.100.1"}


# --- MSRP paths -----------------------------------------------------------------------------------------------------


def test_aware_relay_gets_the_paths_of_both_directions() -> None:
    play = Play()
    call = play.add(
        core_request(local_session="alice"),
        access_request(local_session="bob", remote=iq.RemoteSpec("192.0.2.77", 7000, UE, UE_PATH)),
    )
    own, ours = "msrps://192.0.2.1:20000/bob;tcp", "msrp://198.51.100.1:30000/alice;tcp"
    assert (call.access.path, call.core.path) == (own, ours)
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    call.modify(call.access, start_tls=True)
    opened(play, call.access_leg)
    assert play.take(orders.StartRelay) == []  # the peer's path comes with the answer
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 9000, path=PEER_PATH))
    (relay,) = play.take(orders.StartRelay)
    assert relay.rewrite == (PathSwap("bob", own, PEER_PATH, ours), PathSwap("alice", ours, UE_PATH, own))


def test_a_side_whose_session_comes_with_the_answer_is_waited_for() -> None:
    """The gateway stands for the opposite party, whose session id the answer tells."""
    play = Play()
    call = play.add(
        core_request(local_session="alice"),
        access_request(remote=iq.RemoteSpec("192.0.2.77", 7000, UE, UE_PATH)),
    )
    assert call.access.path is None
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    call.modify(call.core, remote=iq.RemoteSpec("198.51.100.9", 9000, path=PEER_PATH))
    play.post(orders.Connected(call.core_leg, 30000))
    opened(play, call.access_leg)
    assert play.take(orders.StartRelay) == []
    call.modify(call.access, local_session="bob")
    (relay,) = play.take(orders.StartRelay)
    assert [swap.session for swap in relay.rewrite] == ["bob", "alice"]


# --- certificates ---------------------------------------------------------------------------------------------------


def test_the_hash_that_is_asked_for_is_answered() -> None:
    play = Play()
    prints = {"sha-256": OURS, "sha-384": bytes(48), "sha-512": bytes(64)}
    play.post(events.Identities(Known(5, prints)))
    for name, octets in prints.items():
        request = iq.StreamRequest("access", "TCP/TLS", fingerprint_hash=name)
        reply = play.request(Action(0xFFFFFFFE, (iq.to_add(request),)))
        assert reply is not None
        assert iq.read_add_reply(reply.actions[0].commands[0]).fingerprint == (name, octets)
    assert code(play, iq.StreamRequest("access", "TCP/TLS", fingerprint_hash="sha-224"))[0] == 449


def test_a_session_keeps_the_certificate_that_it_announced() -> None:
    play = Play()
    old = play.terminating()
    assert play.take(orders.ForgetIdentity) == []
    new_print = bytes([9]) * 32
    play.post(events.Identities(Known(1, {"sha-256": new_print}), {"core": Known(2, {"sha-256": OURS})}))
    new = play.terminating()
    assert (old.access.fingerprint, new.access.fingerprint) == (("sha-256", OURS), ("sha-256", new_print))
    for call, number in ((old, 0), (new, 1)):
        play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
        assert play.take(orders.ArmTls)[-1].identity == number
    assert play.take(orders.ForgetIdentity) == []
    old.subtract()
    assert [order.identity for order in play.take(orders.ForgetIdentity)] == [0]
    new.subtract()
    assert play.take(orders.ForgetIdentity) == []
    play.post(events.Identities(Known(3, {"sha-256": OURS})))
    assert [order.identity for order in play.take(orders.ForgetIdentity)] == [1, 2]


def test_a_certificate_for_each_session() -> None:
    play = Play(realm_settings({"certificate_per_session": True}))
    play.silent = True
    reply = play.request(Action(0xFFFFFFFE, (iq.to_add(access_request()),)))
    assert reply is None
    (made,) = play.take(orders.MakeIdentity)
    (listen,) = play.take(orders.Listen)
    mine = bytes([3]) * 32
    play.post(orders.IdentityMade(made.leg, 44, (("sha-256", mine),)))
    play.post(orders.Listening(listen.leg, listen.port))
    reply = play.reply()
    assert reply is not None
    result = iq.read_add_reply(reply.actions[0].commands[0])
    assert result.fingerprint == ("sha-256", mine)
    play.silent = False
    play.request(Action(reply.actions[0].context, (iq.to_subtract(),)))
    assert [order.identity for order in play.take(orders.ForgetIdentity)] == [44]


def test_secrets_are_logged_for_the_peers_that_were_named_and_with_a_warning() -> None:
    tls = TlsSettings(key_log="keys.txt", key_log_peers=("192.0.2.77/32",))
    play = Play(realm_settings(tls=tls))
    for address, logged in (("192.0.2.77", True), ("192.0.2.78", False)):
        call = play.terminating()
        play.others.clear()
        play.post(orders.Accepted(call.access_leg, address, 50000))
        assert play.take(orders.ArmTls)[-1].key_log == ("keys.txt" if logged else "")
        warnings = [c for c in play.others if isinstance(c, events.Log) and c.level == "warning"]
        assert len(warnings) == (1 if logged else 0)


def test_secrets_are_logged_for_the_context_that_was_chosen() -> None:
    play = Play()
    chosen, other = play.terminating(), play.terminating()
    play.post(events.LogKeys(chosen.context, "/tmp/keys.txt"))
    play.post(events.LogKeys(4711, "/tmp/keys.txt"))
    play.others.clear()
    for call in (chosen, other):
        play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    assert [order.key_log for order in play.take(orders.ArmTls)] == ["/tmp/keys.txt", ""]
    warnings = [c.fields["context"] for c in play.others if isinstance(c, events.Log) and c.level == "warning"]
    assert warnings == [chosen.context]


# --- time -----------------------------------------------------------------------------------------------------------


def timed(**timers: float) -> Play:
    base = settings()
    values = {name: getattr(base.timers, name) for name in TimerSettings.__dataclass_fields__}
    return Play(replace(base, timers=TimerSettings(**{**values, **timers})))


def test_held_syns_are_given_up_and_told() -> None:
    play = timed(syn_held=20.0)
    call = play.terminating(ignore_syn=True)
    play.pass_time(19.9)
    assert play.notified() == []
    play.pass_time(0.1)
    ((termination, failure),) = play.notified()
    assert (termination, failure.kind) == (call.access.termination, "tcp-failed")
    assert "no remote address" in failure.text
    assert play.filters == {call.access_leg: CLOSED, call.core_leg: CLOSED}


def test_held_syns_that_found_their_address_are_not_given_up() -> None:
    play = timed(syn_held=20.0)
    call = play.terminating(ignore_syn=True)
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    play.pass_time(100.0)
    assert play.notified() == []
    assert play.engine.next_timer() is None


def test_a_connection_does_not_wait_for_ever_for_the_other_side() -> None:
    play = timed(join=30.0)
    call = play.originating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    opened(play, call.access_leg)
    play.pass_time(29.9)
    assert play.notified() == []
    assert play.engine.next_timer() == 130.0
    play.pass_time(0.1)
    ((termination, failure),) = play.notified()
    assert (termination, failure.kind) == (call.core.termination, "tcp-failed")
    assert play.take(orders.Drop) == [orders.Drop(call.access_leg)]
    assert play.filters[call.core_leg] == CLOSED


def test_tls_that_nobody_starts_is_given_up() -> None:
    play = timed(join=30.0)
    call = play.originating()
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.post(orders.Connected(call.access_leg, 20000))
    play.pass_time(30.0)
    ((termination, failure),) = play.notified()
    assert (termination, failure.kind) == (call.access.termination, "tls-failed")
    assert {order.leg for order in play.take(orders.Drop)} == {call.access_leg, call.core_leg}


def test_joined_sides_are_not_watched_any_more() -> None:
    play = timed(join=30.0)
    call = play.terminating()
    relaying(play, call)
    play.pass_time(60.0)
    assert play.engine.next_timer() is None
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE), reconnect=True)
    play.pass_time(60.0)
    assert play.engine.next_timer() is None
    leg = play.engine.store.names[call.access.termination]
    play.post(orders.Accepted(leg.id, "192.0.2.77", 50000))
    assert play.engine.next_timer() == play.now + 30.0
    call.subtract()
    play.pass_time(60.0)
    assert play.engine.next_timer() is None
    assert play.notified() == []


def test_waits_can_be_switched_off() -> None:
    play = timed(join=0.0, syn_held=0.0)
    call = play.terminating(ignore_syn=True)
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    play.pass_time(10_000.0)
    assert play.engine.next_timer() is None
    assert play.notified() == []


# --- seeing it ------------------------------------------------------------------------------------------------------


def test_snapshot_is_plain_and_complete() -> None:
    play = Play()
    call = play.terminating(ignore_syn=True, source_filter="address")
    call.modify(call.access, remote=iq.RemoteSpec("192.0.2.77", 9, UE))
    relaying(play, call)
    play.now += 5
    found: Any = play.engine.snapshot(play.now, facts=lambda leg: LegFacts(received=leg * 10, sent=1, idle=2.0))
    assert (found["gateway"], found["in_service"], found["total"]) == ("agw-1", True, 1)
    (context,) = found["contexts"]
    assert (context["state"], context["relaying_for"], context["idle"]) == ("relaying", 5.0, 2.0)
    access, core = context["terminations"]
    assert access["security"] == "TLSv1.3 verified sha-256"
    assert (access["peer"], access["direction"], access["tcp"]) == ("192.0.2.77:50000", "in", "connected")
    assert (core["peer"], core["direction"], core["security"]) == ("198.51.100.9:9000", "out", "plain")
    assert (access["source_filter"], core["source_filter"]) == ("192.0.2.77", "open")
    assert access["received"] == 10 * call.access_leg
    play.post(orders.RelayEnded(call.access_leg, True, "closed"))
    (context,) = play.engine.snapshot(play.now)["contexts"]  # type: ignore[misc]
    assert (context["state"], context["failure"]) == ("closed", "remote-closed")


def test_all_contexts_can_be_listed() -> None:
    play = Play()
    reply = play.request(iq.audit_contexts())
    assert reply is not None
    assert iq.read_contexts_reply(reply.actions) == set()
    calls = [play.originating() for _ in range(3)]
    reply = play.request(iq.audit_contexts())
    assert reply is not None
    assert iq.read_contexts_reply(reply.actions) == {call.context for call in calls}
    these = iq.audit_these(call.context for call in calls)
    reply = play.request(*these)
    assert reply is not None
    assert iq.read_contexts_reply(reply.actions) == {call.context for call in calls}


def test_a_connection_that_comes_up_after_it_was_given_up_is_closed() -> None:
    play = Play()
    call = play.terminating()
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 50000))
    play.post(orders.VerifyFailed(call.access_leg, "mismatch", "sha-256", (), b"\0" * 32, "CN=ue", "not the one"))
    play.take(orders.Drop)
    play.post(orders.Connected(call.core_leg, 30000))
    assert play.take(orders.Drop) == [orders.Drop(call.core_leg)]
    assert play.engine.store.legs[call.core_leg].tcp is Tcp.DOWN


def test_realms_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="go together"):
        RealmSettings(certificate="x.pem")
    with pytest.raises(ValueError, match="go together"):
        TlsSettings(key_log="x")
    with pytest.raises(ValueError, match="not a network"):
        TlsSettings(key_log="x", key_log_peers=("nobody",))


def test_a_full_port_range_refuses_and_keeps_nothing_of_what_it_refused() -> None:
    play = Play()
    calls = [play.originating() for _ in range(4)]
    for _ in range(3):
        reply = play.request(iq.add_pair(core_request(), access_request()))
        assert reply is not None
        faults = [command.error.code for command in reply.actions[0].commands if command.error]
        assert faults == [510]
    assert len(play.engine.store.contexts) == 4
    for call in calls:
        call.subtract()
    ports = play.engine.ports
    # Four of IPv6 were never touched; those of IPv4 rest.
    assert (ports.free("access", play.now), ports.free("core", play.now)) == (4, 4)
    play.now += 11
    assert (ports.free("access", play.now), ports.free("core", play.now)) == (8, 8)
    assert play.originating().access.port == 20000


def test_an_add_that_finds_no_port_leaves_nothing_behind() -> None:
    play = Play()
    play.busy = set(range(20_000, 20_004))
    play.post(events.Identities(Known(1, {"sha-256": OURS}), {}))
    play.orders.clear()
    reply = play.request(iq.add_pair(access_request(), core_request()))
    assert reply is not None
    error = reply.actions[0].commands[0].error
    assert error is not None
    assert error.code == 510
    (made,) = {order.leg for order in play.orders if isinstance(order, orders.Listen)}
    assert [order.leg for order in play.take(orders.Release)] == [made]  # what the executor knows of it
    play.post(events.Identities(Known(2, {"sha-256": OURS}), {}))
    assert [order.identity for order in play.take(orders.ForgetIdentity)] == [1]
    assert not play.engine.store.legs
    assert not play.engine.store.contexts
