"""Answers of a forked call: each with its own core-side termination, and the one connection of the UE for the confirmed
one."""

import pytest
from tests.playbook.both_cores import World, line_of, released, ue
from tests.playbook.mediaplay import PEER_IP, UE_IP, Play, ended, peer_line, proceed, sdp, settings, ue_line

from agw.core import orders
from imsalg.core.media_events import AnswerIn, LegConfirmed, MediaCommand, Proceed, Side
from imsalg.media_settings import MediaRealm
from imswire.h248 import iq

OTHER_IP, THIRD_IP = "203.0.113.21", "203.0.113.22"
UE_OFFER = sdp(*ue_line())


def at(ip: str, setup: str = "active", port: int = 9000, *, cema: bool = True) -> bytes:
    return sdp(*peer_line(port, setup=setup, ip=ip, cema=cema, path=f"msrp://{ip}:{port}/of-{ip};tcp"), ip=ip)


def forked(play: Play, first: bytes, second: bytes) -> None:
    """Two dialogs have answered early; the gateway has been asked about the second one."""
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(first, leg="a", final=False)
    play.answer_gateway()
    play.answer(second, leg="b", final=False)


def test_a_further_early_answer_gets_a_termination_at_the_same_port() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    assert play.names() == ["Add 1 $"]
    (add,) = play.adds()
    assert (add.local_port, add.mode, add.notify) == (20_001, "Inactive", False)
    assert (add.remote, add.setup, add.source_filter) == (iq.RemoteSpec(OTHER_IP, 9000), "passive", "address")
    assert "m=message 20002 TCP/TLS/MSRP *" in proceed(play.answer_gateway())
    (line,) = play.half.calls["c1"].contexts
    assert line == 1


def test_the_confirmed_one_takes_the_place_of_the_first() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP, "passive"))
    proceed(play.answer_gateway())
    play.confirm("b")
    assert play.names() == ["Modify 1 ip/core/1/20003", "Modify 1 ip/access/1", "Subtract 1 ip/core/1"]
    core, access = play.take().actions[0].commands[:2]
    chosen = iq.read_modify(core, play.added["ip/core/1/20003"])
    assert (chosen.mode, chosen.notify, chosen.reconnect) == ("SendReceive", True, False)
    assert iq.read_modify(access, play.added["ip/access/1"]).setup == "passive"
    assert play.answer_gateway() == []
    play.end()
    assert play.names() == ["Subtract 1 *"]


def test_the_first_is_confirmed_and_the_others_go() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    proceed(play.answer_gateway())
    play.answer(at(THIRD_IP), leg="c", final=False)
    proceed(play.answer_gateway())
    play.answer(at(PEER_IP), leg="a")
    assert play.names() == ["Subtract 1 ip/core/1/20003", "Subtract 1 ip/core/1/20004"]
    play.drain()
    assert play.half.calls["c1"].contexts == (1,)


def test_the_second_is_confirmed_in_a_200_with_its_answer() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    proceed(play.answer_gateway())
    assert play.answer(at(OTHER_IP), leg="b") == []
    assert play.names() == ["Modify 1 ip/core/1/20003", "Subtract 1 ip/core/1"]
    proceed(play.answer_gateway())


def test_a_gateway_without_further_terminations_serves_the_confirmed_one_on_a_new_connection() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    assert "m=message 20002 TCP/TLS/MSRP *" in proceed(play.refuse_gateway(434))
    play.confirm("b")
    (_, core), (_, access) = play.changes()
    assert (core.remote, core.reconnect) == (iq.RemoteSpec(OTHER_IP, 9000), True)
    assert (access.start_tls, access.reconnect) == (True, False)
    assert play.answer_gateway() == []


def test_a_gateway_that_does_not_reply_does_not_hold_the_answer_for_ever() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    assert any(isinstance(command, Proceed) for command in play.wait(5))
    play.end()
    assert "Subtract 1 *" in play.names()


@pytest.mark.parametrize(
    "first,second",
    [
        (at(PEER_IP), at(PEER_IP)),
        (at(PEER_IP), at(PEER_IP, port=9001)),
        (at(PEER_IP, "passive"), at(PEER_IP, "passive")),
        (at(PEER_IP), at(OTHER_IP, "holdconn")),
    ],
)
def test_answers_that_cannot_be_told_apart_share_a_termination(first: bytes, second: bytes) -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(first, leg="a", final=False)
    play.answer_gateway()
    proceed(play.answer(second, leg="b", final=False))
    assert not play.asked


def test_signalled_ports_tell_answers_of_one_host_apart_where_the_realm_filters_by_them() -> None:
    play = Play(settings(core=MediaRealm(source_filter="address-and-port")))
    forked(play, at(PEER_IP), at(PEER_IP, port=9001))
    (add,) = play.adds()
    assert (add.source_filter, add.remote) == ("address-and-port", iq.RemoteSpec(PEER_IP, 9001))


def test_where_addresses_are_learned_no_answer_has_its_own() -> None:
    play = Play(settings(core=MediaRealm(latch=True)))
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(at(PEER_IP), leg="a", final=False)
    play.answer_gateway()
    proceed(play.answer(at(OTHER_IP), leg="b", final=False))


def test_a_connection_of_an_answer_that_is_not_agreed_fails_without_ending_the_call() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    proceed(play.answer_gateway())
    failure = iq.to_notify("ip/core/1", iq.MediaFailure("tcp-failed", "refused"), 1)
    assert play.says(1, failure, 1) == []
    assert play.half.failures == {"tcp-failed": 1}
    play.confirm("a")
    (_, core), _ = play.changes()
    assert core.reconnect


def test_the_ue_side_still_ends_the_call() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    proceed(play.answer_gateway())
    failure = iq.to_notify("ip/access/1", iq.MediaFailure("fingerprint-mismatch", "other", "a", "b"), 1)
    out = [command for command in play.says(1, failure, 1) if type(command).__name__ != "Log"]
    assert ended(out).status == 488


def test_the_call_ends_while_a_termination_is_asked_for() -> None:
    play = Play()
    forked(play, at(PEER_IP), at(OTHER_IP))
    play.end()
    assert play.names() == ["Add 1 $", "Subtract 1 *"]
    play.drain()
    assert not play.half.calls


# --- both cores -------------------------------------------------------------------------------------------------------


class Forked(World):
    """Two dialogs have answered an offer of the UE early, A first."""

    def __init__(self, first: bytes, second: bytes, ue_setup: str = "actpass", offer: bytes = b"") -> None:
        super().__init__()
        self.core_port = line_of(self.offer(offer or ue(ue_setup), Side.ACCESS))[1]
        self.says("a", first)
        self.says("b", second)

    def says(self, leg: str, body: bytes, *, final: bool = False) -> MediaCommand:
        self.token += 1
        self.to_alg_event(AnswerIn("c", leg, self.token, Side.CORE, body, final))
        return self.verdicts[-1]

    def accepts(self, leg: str, body: bytes) -> None:
        assert isinstance(self.says(leg, body, final=True), Proceed)
        self.to_alg_event(LegConfirmed("c", leg))

    def from_peer(self, ip: str) -> int | None:
        return self.connect("198.51.100.2", self.core_port, (ip, 5000))

    def from_ue(self) -> int:
        leg = self.connect("198.51.100.1", 20_000, (UE_IP, 5000))
        assert leg is not None
        self.tls_opens(leg)
        return leg


def test_both_ends_connect_at_once_and_the_confirmed_one_is_relayed() -> None:
    world = Forked(at(PEER_IP), at(OTHER_IP))
    second = world.from_peer(OTHER_IP)
    assert second is not None
    assert not world.dialled  # nobody dials the UE for an answer that is not served
    first = world.from_peer(PEER_IP)
    access = world.only_dialled()
    assert first != second
    assert world.from_peer(THIRD_IP) is None
    world.accepts("b", at(OTHER_IP))
    world.to_agw(orders.Connected(access, 20_000))
    world.tls_opens(access)
    assert world.relayed == [(access, second)]
    world.hang_up()
    released(world)


def test_the_ue_keeps_its_connection_when_nothing_has_passed() -> None:
    world = Forked(at(PEER_IP, "passive"), at(OTHER_IP, "passive"), "active")
    access = world.from_ue()
    dialled = {place[0]: leg for leg, place in world.dialled.items()}
    assert dialled.keys() == {PEER_IP, OTHER_IP}
    for leg in dialled.values():
        world.to_agw(orders.Connected(leg, world.core_port))
    assert world.relayed == [(access, dialled[PEER_IP])]
    world.untouched = True
    world.accepts("b", at(OTHER_IP, "passive"))
    assert world.relayed[1:] == [(access, dialled[OTHER_IP])]
    assert access in world.listening  # the very same leg
    world.hang_up()
    released(world)


def test_octets_of_one_answer_never_reach_another() -> None:
    world = Forked(at(PEER_IP, "passive"), at(OTHER_IP, "passive"), "active")
    access = world.from_ue()
    dialled = {place[0]: leg for leg, place in world.dialled.items()}
    for leg in dialled.values():
        world.to_agw(orders.Connected(leg, world.core_port))
    world.accepts("b", at(OTHER_IP, "passive"))
    assert len(world.relayed) == 1
    assert access not in world.listening
    again = world.from_ue()
    assert world.relayed[1:] == [(again, dialled[OTHER_IP])]
    world.hang_up()
    released(world)


def test_the_confirmed_answer_turns_the_roles_of_the_ues_connection() -> None:
    world = Forked(at(PEER_IP, "passive"), at(OTHER_IP, "active"))
    access = world.from_ue()
    second = world.from_peer(OTHER_IP)
    world.accepts("b", at(OTHER_IP, "active"))
    assert access not in world.listening
    (again,) = [leg for leg, place in world.dialled.items() if place[0] == UE_IP]
    world.to_agw(orders.Connected(again, 20_000))
    assert world.armed[again][0] == "client"
    world.tls_opens(again)
    assert world.relayed == [(again, second)]


def test_a_loser_that_closes_first_costs_the_winner_nothing() -> None:
    world = Forked(at(PEER_IP), at(OTHER_IP))
    first, second = world.from_peer(PEER_IP), world.from_peer(OTHER_IP)
    access = world.only_dialled()
    world.to_agw(orders.Connected(access, 20_000))
    world.tls_opens(access)
    assert world.relayed == [(access, first)]
    assert first is not None
    world.to_agw(orders.RelayEnded(first, True, "closed"))
    world.dialled.clear()
    world.accepts("b", at(OTHER_IP))
    again = world.only_dialled()
    assert world.dialled[again] == (UE_IP, 2855)
    world.to_agw(orders.Connected(again, 20_000))
    world.tls_opens(again)
    assert world.relayed[1:] == [(again, second)]
    world.hang_up()
    released(world)


def test_an_answer_that_cannot_be_reached_yet_is_dialled_again_when_it_is_confirmed() -> None:
    world = Forked(at(PEER_IP), at(OTHER_IP, "passive"))
    spare = next(leg for leg in world.agw.store.legs.values() if leg.spare)
    assert spare.request.remote == iq.RemoteSpec(OTHER_IP, 9000)
    world.accepts("b", at(OTHER_IP, "passive"))
    world.from_ue()
    assert world.dialled[spare.id] == (OTHER_IP, 9000)


def test_messages_without_cema_name_the_session_of_the_answer_that_is_served() -> None:
    answers = [at(ip, "passive", cema=False) for ip in (PEER_IP, OTHER_IP)]
    world = Forked(answers[0], answers[1], offer=sdp(*ue_line(cema=False, setup="active")))
    world.from_ue()
    dialled = {place[0]: leg for leg, place in world.dialled.items()}
    world.to_agw(orders.Connected(dialled[OTHER_IP], world.core_port))
    world.accepts("b", answers[1])
    (swap,) = world.swapped
    assert swap is not None
    assert swap[0].session == f"of-{OTHER_IP}"
    assert swap[0].to_path == f"msrp://{OTHER_IP}:9000/of-{OTHER_IP};tcp"


@pytest.mark.parametrize("up", [True, False])
def test_a_2xx_with_another_address_is_dialled_there_and_nobody_gets_its_octets_at_the_old_one(up: bool) -> None:
    world = Forked(at(PEER_IP, "passive"), at(OTHER_IP, "passive"), "active")
    access = world.from_ue()
    dialled = {place[0]: leg for leg, place in world.dialled.items()}
    for ip, leg in dialled.items():
        if up or ip == PEER_IP:
            world.to_agw(orders.Connected(leg, world.core_port))
    world.untouched = True
    world.dialled.clear()
    relays = len(world.relayed)
    world.accepts("b", at(THIRD_IP, "passive"))
    again = world.only_dialled()
    assert world.dialled[again] == (THIRD_IP, 9000)
    assert len(world.relayed) == relays
    world.to_agw(orders.Connected(again, world.core_port))
    assert world.relayed[relays:] == [(access, again)]
    world.hang_up()
    released(world)
