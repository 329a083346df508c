"""What nobody claims ends, however much of it there is, and whatever became of the order to end it."""

import math
from dataclasses import replace

import pytest
from tests.playbook.both_cores import World, line_of, peer, released, ue
from tests.playbook.mediaplay import PEER_IP, Play, peer_line, sdp, ue_line

from agw.core import events as agw_events
from imsalg.core.media_events import FromGateway, GatewayDown, Side
from imswire.h248 import iq
from imswire.h248.errors import error
from imswire.h248.model import ALL_CONTEXTS, Action, Command, Message, TransactionReply, TransactionRequest
from imswire.h248.parser import parse

UE_OFFER = sdp(*ue_line())
PEER = sdp(*peer_line(), ip=PEER_IP)
MANY = 4_200


def strangers(world: World, count: int) -> None:
    """Contexts that the controller does not know of: it died after it had asked for them."""
    pair = iq.add_pair(iq.StreamRequest("core", "TCP"), iq.StreamRequest("access", "TCP"))
    for tid in range(900_000, 900_000 + count // 100):
        message = Message("mgc", (TransactionRequest(tid, (pair,) * 100),))
        world.to_agw(agw_events.FromController(message))


def reconnect(world: World) -> None:
    world.to_alg_event(GatewayDown(world.link, "reset"))
    world.to_agw(agw_events.ControlDown("reset"))
    world.online()


def test_thousands_that_nobody_claims_are_found_and_ended() -> None:
    world = World(ports=MANY + 10)
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    line_of(world.answer(peer("active"), Side.CORE))
    claimed = set(world.agw.store.contexts)
    strangers(world, MANY)
    assert len(world.agw.store.contexts) == MANY + 1
    world.messages.clear()
    reconnect(world)
    assert set(world.agw.store.contexts) == claimed
    assert world.half.calls
    assert max(map(len, world.messages)) <= 65_531
    assert len(world.messages) < 150
    world.hang_up()
    released(world)


def test_a_periodic_audit_ends_what_nobody_claims() -> None:
    world = World()
    line_of(world.offer(ue("actpass"), Side.ACCESS))
    line_of(world.answer(peer("active"), Side.CORE))
    claimed = set(world.agw.store.contexts)
    pair = iq.add_pair(iq.StreamRequest("core", "TCP"), iq.StreamRequest("access", "TCP"))
    world.to_agw(agw_events.FromController(Message("mgc", (TransactionRequest(900_000, (pair,)),))))
    world.wait(299.0)
    assert len(world.agw.store.contexts) == 2
    world.wait(2.0)
    assert set(world.agw.store.contexts) == claimed
    assert world.half.calls


def said(play: Play, request: TransactionRequest, *actions: Action) -> None:
    play.feed(FromGateway(1, Message("agw-1", (TransactionReply(request.id, actions),))))


def ended_call(play: Play) -> TransactionRequest:
    """A call that has ended: its Subtract, which nobody has answered yet."""
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER)
    play.drain()
    play.end()
    ((_, request),) = play.asked
    play.asked.clear()
    return request


def test_a_refused_subtract_is_repeated_until_it_is_done() -> None:
    play = Play()
    request = ended_call(play)
    said(play, request, Action(1, (Command("Subtract", "ip/access/1", error=error(500)),)))
    for wait in (1.0, 2.0):
        assert not play.asked
        play.wait(wait)
        assert play.names() == ["Subtract 1 *"]
        _, request = play.asked.pop()
        said(play, request, Action(1, error=error(510)))
    play.wait(4.0)
    _, request = play.asked.pop()
    said(play, request, Action(1, (Command("Subtract", "*"),)))
    play.wait(200.0)
    assert not play.asked


@pytest.mark.parametrize("code", [411, 430, 431])
def test_a_context_that_is_gone_is_not_subtracted_again(code: int) -> None:
    play = Play()
    said(play, ended_call(play), Action(1, error=error(code)))
    play.wait(200.0)
    assert not play.asked


def test_a_subtract_without_answer_is_repeated_and_then_left_to_the_audit() -> None:
    play = Play()
    ended_call(play)
    play.wait(100.0)
    assert play.names() == ["Subtract 1 *"] * 4
    play.asked.clear()
    play.wait(200.0)
    assert play.names() == [f"AuditValue {ALL_CONTEXTS} ROOT"]
    _, request = play.asked.pop()
    said(play, request, *iq.audit_contexts_reply([1]))
    assert play.names() == ["Subtract 1 *"]


def test_what_stood_behind_a_refusal_in_the_transaction_is_ended_as_well() -> None:
    play = Play()
    play.wait(300.0)
    _, request = play.asked.pop()
    said(play, request, *iq.audit_contexts_reply([7, 8, 9]))
    _, request = play.asked.pop()
    assert [action.context for action in request.actions] == [7, 8, 9]
    said(play, request, Action(7, (Command("Subtract", "*"),)), Action(8, error=error(411)))
    play.wait(1.0)
    assert play.names() == ["Subtract 9 *"]


def test_a_call_that_ends_while_an_audit_runs_is_subtracted_once_and_one_that_begins_is_kept() -> None:
    play = Play()
    play.offer(UE_OFFER)
    play.answer_gateway()
    play.answer(PEER)
    play.drain()
    play.wait(299.0)
    play.wait(1.0)
    _, audit = play.asked.pop()
    play.end()
    ((_, ending),) = play.asked
    play.asked.clear()
    play.offer(UE_OFFER, call="c2")
    play.answer_gateway()
    said(play, audit, *iq.audit_contexts_reply([1]))
    assert not play.asked
    said(play, ending, Action(1, (Command("Subtract", "*"),)))
    assert "c2" in play.half.calls
    play.wait(200.0)
    assert not play.asked


def test_an_audit_without_answer_does_not_keep_the_next_one_away() -> None:
    play = Play()
    for _ in range(3):
        play.wait(300.0)
        assert play.names() == [f"AuditValue {ALL_CONTEXTS} ROOT"]
        play.asked.clear()


def test_names_are_asked_for_with_one_digit_more_where_they_are_too_many() -> None:
    play = Play()
    play.wait(300.0)
    _, request = play.asked.pop()
    said(play, request, Action(ALL_CONTEXTS, (Command("AuditValue", "ROOT", error=error(533)),)))
    asked = []
    while play.asked:
        _, request = play.asked.pop(0)
        name = request.actions[0].commands[0].termination
        if request.actions[0].commands[0].name == "Subtract":
            assert [action.context for action in request.actions] == [3, 4]
            break
        asked.append(name)
        if name in ("ip/access/*", "ip/access/1*"):
            actions = [Action(ALL_CONTEXTS, error=error(533))]
        elif name == "ip/access/1":
            actions = [Action(3, (Command("AuditValue", name),))]
        elif name == "ip/access/17*":
            actions = [Action(context, (Command("AuditValue", f"{name[:-1]}{context}"),)) for context in (3, 4)]
        else:
            actions = [Action(ALL_CONTEXTS, error=error(431))]
        said(play, request, *actions)
    assert {"ip/core/*", "ip/access/1", "ip/access/10*", "ip/access/19*", "ip/access/9*"} <= set(asked)
    assert len(asked) == len(set(asked)) == 2 + 10 + 11


def test_a_wildcard_of_a_name_and_of_a_number_reads_as_it_is_written() -> None:
    message = parse(b"!/1 mgc\nT=1{C=*{AV=ip/core/1*{AT{}}}}")
    assert message.transactions == (TransactionRequest(1, (iq.audit_named("ip/core/1*"),)),)


def test_reloaded_settings_stop_and_begin_the_periodic_audit() -> None:
    world = World()
    (gateway,) = world.half.gateways.gateways.values()

    def audit_every(seconds: float) -> float:
        half = world.half
        half.reconfigure(replace(half.settings, timers=replace(half.settings.timers, audit=seconds)))
        return gateway.audit_at

    assert audit_every(0.0) == math.inf
    world.messages.clear()
    world.wait(1_000.0)
    assert not world.messages
    assert world.half.next_timer() is None
    audit_every(300.0)
    world.wait(1.0)
    assert world.messages  # nothing was heard for longer than that
    assert world.now + 290.0 < gateway.audit_at <= world.now + 300.0
    sooner = audit_every(10.0)
    assert sooner <= world.now + 10.0
    assert audit_every(10.0) == sooner  # settings that are read again put nothing off
    assert audit_every(0.0) == math.inf
