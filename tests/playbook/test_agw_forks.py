"""Further terminations of a context at the AGW engine: what may be added, what is chosen, what a failure costs."""

from typing import Any

import pytest
from tests.playbook.agw_harness import Call, Play, access_request, core_request

from agw.core import orders
from agw.core.orders import SynFilter
from imswire.h248 import iq
from imswire.h248.model import Action, Command

FIRST, SECOND = iq.RemoteSpec("198.51.100.9", 9000), iq.RemoteSpec("198.51.100.10", 9000)


def call_with_answer(play: Play) -> Call:
    """The first answer is configured; its end will connect."""
    call = play.originating()
    call.modify(call.core, remote=FIRST, setup="passive", source_filter="address")
    return call


def further(call: Call, **changes: Any) -> Command:
    """Add a termination for a second answer; the reply."""
    wanted: dict[str, Any] = {
        "local_address": call.core.address,
        "local_port": call.core.port,
        "remote": SECOND,
        "mode": "Inactive",
        "notify": False,
        "setup": "passive",
        "source_filter": "address",
    }
    make = changes.pop("make", core_request)
    reply = call.play.request(Action(call.context, (iq.to_add(make(**{**wanted, **changes})),)))
    assert reply is not None
    return reply.actions[0].commands[0]


def test_it_shares_the_port_and_waits_for_its_own_source() -> None:
    play = Play()
    call = call_with_answer(play)
    place = iq.read_add_reply(further(call))
    assert (place.address, place.port) == (call.core.address, call.core.port)
    listen = play.take(orders.Listen)[-1]
    assert (listen.beside, listen.filter) == (call.core_leg, SynFilter("source", "198.51.100.10"))


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "SendReceive"},
        {"remote": None},
        {"local_port": None, "local_address": None},
        {"local_port": 30_003},
        {"local_address": "198.51.100.77"},
        {"make": access_request},
    ],
)
def test_others_are_refused(changes: dict[str, Any]) -> None:
    play = Play()
    reply = further(call_with_answer(play), **changes)
    assert reply.error is not None
    assert reply.error.code == 434
    assert len(play.engine.store.legs) == 2


def test_their_number_has_a_limit() -> None:
    play = Play()
    call = call_with_answer(play)
    for number in range(15):
        assert further(call, remote=iq.RemoteSpec(f"198.51.100.{20 + number}", 9000)).error is None
    refused = further(call, remote=iq.RemoteSpec("198.51.100.99", 9000))
    assert refused.error is not None
    assert refused.error.code == 434


def test_a_failure_of_one_that_is_not_chosen_is_nobodys_end() -> None:
    play = Play()
    call = call_with_answer(play)
    call.modify(call.access, setup="passive")
    place = iq.read_add_reply(further(call, setup="active"))
    spare = play.engine.store.names[place.termination]
    play.post(orders.Accepted(call.access_leg, "192.0.2.77", 5555))
    assert [dial.leg for dial in play.take(orders.Dial)] == [spare.id]
    play.post(orders.DialFailed(spare.id, "refused"))
    assert play.notified() == []
    assert play.engine.store.contexts[call.context].failed == ""


def test_the_one_that_is_left_has_its_timer_for_being_joined() -> None:
    play = Play()
    call = call_with_answer(play)
    spare = play.engine.store.names[iq.read_add_reply(further(call)).termination]
    play.post(orders.Accepted(spare.id, "198.51.100.10", 4000))
    play.pass_time(3600)
    assert play.notified() == []
    change = iq.StreamChange("TCP/MSRP", mode="SendReceive", notify=True)
    gone = iq.to_subtract(call.core.termination)
    reply = play.request(Action(call.context, (iq.to_modify(spare.name, change), gone)))
    assert reply is not None
    assert [command.error for command in reply.actions[0].commands] == [None, None]
    play.pass_time(3600)
    ((_, failure),) = play.notified()
    assert failure.kind == "tcp-failed"


def test_the_port_is_free_again_only_when_the_last_of_them_is_gone() -> None:
    play = Play()
    call = call_with_answer(play)
    place = iq.read_add_reply(further(call))
    free = play.engine.ports.free("core", play.now)
    play.request(Action(call.context, (iq.to_subtract(place.termination),)))
    assert play.engine.ports.free("core", play.now + 100) == free
    call.subtract()
    assert play.engine.ports.free("core", play.now + 100) == free + 1
    assert not play.engine.store.contexts


def test_a_new_connection_concerns_the_chosen_one_alone() -> None:
    play = Play()
    call = call_with_answer(play)
    spare = play.engine.store.names[iq.read_add_reply(further(call)).termination]
    play.post(orders.Accepted(spare.id, "198.51.100.10", 4000))
    before = spare.id
    call.modify(call.core, reconnect=True)
    assert spare.id == before
    assert play.engine.store.names[call.core.termination].id != call.core_leg
