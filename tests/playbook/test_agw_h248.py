"""H.248 at the AGW engine: association, error codes, wildcards, audits, leaving service."""

import pytest
from msgspec.structs import replace
from tests.playbook.agw_harness import Play, access_request, core_request, everywhere, settings

from agw.core import events, orders
from imswire.h248 import iq, packages
from imswire.h248.errors import H248Error
from imswire.h248.model import (
    ALL,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    ROOT,
    Action,
    Audit,
    Command,
    Message,
    ServiceChange,
    TransactionReply,
    TransactionRequest,
)


def code_of(reply: TransactionReply | None) -> int:
    """The one error code of a reply, wherever it stands."""
    assert reply is not None
    faults = [reply.error, *(a.error for a in reply.actions), *(c.error for a in reply.actions for c in a.commands)]
    (found,) = [fault.code for fault in faults if fault is not None]
    return found


def code_of_any(reply: TransactionReply | None) -> int:
    """The error code of a whole reply, 0 for none."""
    assert reply is not None
    return reply.error.code if reply.error is not None else 0


def last_change(play: Play) -> ServiceChange:
    command = play.requests()[-1].actions[0].commands[0]
    assert (command.name, command.termination) == ("ServiceChange", ROOT)
    assert command.service_change is not None
    return command.service_change


# --- association ----------------------------------------------------------------------------------------------------


def test_start_announces_a_restart_with_profile() -> None:
    play = Play(serve=False)
    play.post(events.Start())
    assert play.others == [events.ConnectControl()]
    play.post(events.ControlUp("mgc:2944"))
    change = last_change(play)
    assert (change.method, change.reason) == ("Restart", "901 Cold Boot")
    assert (change.profile, change.version) == (packages.PROFILE, 1)
    assert not play.engine.serving
    play.answer_service_change()
    assert play.engine.serving
    assert events.Registered(True) in play.others


def test_commands_before_the_service_change_reply_are_refused() -> None:
    play = Play(serve=False)
    play.post(events.ControlUp("mgc:2944"))
    assert code_of(play.request(iq.add_pair(core_request(), access_request()))) == 505


def test_refused_announcement_closes_the_link_and_is_tried_again_with_backoff() -> None:
    play = Play(serve=False)
    waits = []
    for _ in range(4):
        play.post(events.ControlUp("mgc:2944"))
        tid = play.requests()[-1].id
        refusal = TransactionReply(tid, error=H248Error(502).descriptor())
        play.post(events.FromController(Message("mgc", (refusal,))))
        assert events.DisconnectControl in map(type, play.others)
        play.others.clear()
        play.post(events.ControlDown("closed"))
        due = play.engine.next_timer()
        assert due is not None
        waits.append(due - play.now)
        play.pass_time(waits[-1])
        assert play.others[-1] == events.ConnectControl()
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_unanswered_announcement_gives_the_link_up() -> None:
    play = Play(serve=False)
    play.post(events.ControlUp("mgc:2944"))
    play.pass_time(5.0)
    assert isinstance(play.others[-1], events.DisconnectControl)


def test_lost_controller_keeps_media_and_comes_back_with_disconnected() -> None:
    play = Play()
    call = play.originating()
    play.post(events.ControlDown("reset"))
    play.pass_time(0.5)
    assert play.others[-1] == events.ConnectControl()
    play.post(events.ControlUp("mgc:2944"))
    assert (last_change(play).method, last_change(play).reason) == ("Disconnected", "900 Service Restored")
    play.answer_service_change()
    play.pass_time(120.0)
    assert call.context in play.engine.store.contexts


def test_media_outlive_the_controller_for_the_orphan_time_only() -> None:
    play = Play()
    play.originating()
    play.post(events.ControlDown("reset"))
    play.pass_time(59.0)
    assert play.take(orders.Release) == []
    play.pass_time(1.0)
    assert len(play.take(orders.Release)) == 2
    assert not play.engine.store.contexts


def test_a_controller_that_audited_and_fell_silent_is_taken_for_lost() -> None:
    play = Play()
    heartbeat = Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit()),))
    assert play.request(heartbeat) is not None
    play.pass_time(9.0)
    assert play.request(heartbeat) is not None
    play.pass_time(9.0)
    assert not [c for c in play.others if isinstance(c, events.DisconnectControl)]
    play.pass_time(1.0)
    assert isinstance(play.others[-1], events.DisconnectControl)


def test_a_controller_that_never_audits_may_be_silent() -> None:
    play = Play()
    play.pass_time(1000.0)
    assert not [c for c in play.others if isinstance(c, events.DisconnectControl)]


def test_repeated_request_gets_the_stored_reply_and_runs_once() -> None:
    play = Play()
    request = TransactionRequest(77, (iq.add_pair(core_request(), access_request()),))
    for _ in range(3):
        play.post(events.FromController(Message("mgc", (request,))))
    assert len(play.engine.store.contexts) == 1
    replies = [t for m in play.sent for t in m.transactions if isinstance(t, TransactionReply)]
    assert len(replies) == 3
    assert replies[0] == replies[1] == replies[2]


def test_everything_is_handled_while_an_add_waits_for_its_port() -> None:
    play = Play()
    call = play.originating()
    play.silent = True
    assert play.request(iq.add_pair(core_request(), access_request())) is None
    (listen,) = [order for order in play.orders if isinstance(order, orders.Listen) and order.leg > call.core_leg + 1]
    play.post(orders.Accepted(call.core_leg, "198.51.100.9", 4444))
    assert [order.leg for order in play.take(orders.Dial)] == [call.access_leg]
    play.post(events.ControlDown("reset"))
    play.post(events.ControlUp("mgc:2944"))
    play.silent = False
    play.post(orders.Listening(listen.leg, listen.port))
    play.answer_service_change()
    assert play.engine.serving


@pytest.mark.parametrize("ending", [False, True])
def test_a_command_without_an_end_does_not_outlive_its_association(ending: bool) -> None:
    play = Play()
    call = play.originating()
    play.silent = True
    command = Action(call.context, (iq.to_subtract(),)) if ending else iq.add_pair(core_request(), access_request())
    assert play.request(command) is None
    play.silent = False
    play.post(events.ControlDown("reset"))
    play.serve()
    assert play.request(Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit()),))) is not None
    assert play.request(iq.add_pair(core_request(), access_request())) is not None


def test_transactions_run_one_after_another() -> None:
    play = Play()
    play.silent = True
    assert play.request(iq.add_pair(core_request(), access_request())) is None
    first = play.orders[-1]
    assert isinstance(first, orders.Listen)
    assert play.request(Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit()),))) is None
    play.silent = False
    play.post(orders.Listening(first.leg, first.port))
    assert play.reply() is not None


# --- error codes ----------------------------------------------------------------------------------------------------


def modify(termination: str) -> Command:
    return Command("Modify", termination)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Action(4711, (iq.to_subtract(),)), 411),
        (Action(CHOOSE_CONTEXT, (Command("Add", "ip/access/99"),)), 430),
        (Action(CHOOSE_CONTEXT, (Command("Add", "$"),)), 441),
        (everywhere(iq.to_subtract()), 431),
        (everywhere(iq.to_subtract("ip/core/*")), 431),
        (everywhere(iq.to_subtract("ip/core/7")), 430),
        (Action(NULL_CONTEXT, (Command("ServiceChange", ROOT, service_change=ServiceChange("Handoff")),)), 501),
        (Action(NULL_CONTEXT, (Command("Move", "ip/core/7"),)), 443),
        (Action(NULL_CONTEXT, (Command("AuditCapability", ROOT),)), 443),
        (Action(NULL_CONTEXT, (modify("ip/core/7"),)), 430),
        (Action(NULL_CONTEXT, (Command("AuditValue", ALL, audit=Audit()),)), 431),
        (Action(CHOOSE_CONTEXT, (iq.to_add(iq.StreamRequest("nowhere", "TCP")),)), 449),
        (Action(CHOOSE_CONTEXT, (iq.to_add(core_request(tcp_mode="relay")),)), 501),
        (Action(CHOOSE_CONTEXT, (iq.to_add(iq.StreamRequest("access", "TCP/TLS", fingerprint_hash="md5")),)), 449),
        (Action(CHOOSE_CONTEXT, (iq.to_add(core_request(local_address="203.0.113.1")),)), 449),
        (Action(CHOOSE_CONTEXT, (iq.to_add(core_request(local_port=4)),)), 510),
    ],
)
def test_error_codes_without_any_context(action: Action, code: int) -> None:
    play = Play()
    assert code_of(play.request(action)) == code
    assert not play.engine.store.contexts
    assert not play.engine.store.legs


def test_error_codes_within_contexts() -> None:
    play = Play()
    call, other = play.originating(), play.originating()
    within = call.context
    assert code_of(play.request(Action(within, (modify("ip/core/99"),)))) == 430
    assert code_of(play.request(Action(within, (modify(other.core.termination),)))) == 435
    assert code_of(play.request(Action(within, (modify("ip/video/*"),)))) == 431
    assert code_of(play.request(Action(within, (Command("Add", call.core.termination),)))) == 433
    assert code_of(play.request(Action(within, (iq.to_add(core_request()),)))) == 434
    assert len(play.engine.store.legs) == 4


def test_a_failed_command_ends_its_transaction_and_an_optional_one_does_not() -> None:
    for optional in (False, True):
        play = Play()
        call = play.originating()
        bad = Command("Modify", "ip/core/99", optional=optional)
        reply = play.request(Action(call.context, (bad, iq.to_subtract())))
        assert reply is not None
        assert [c.error.code if c.error else 0 for c in reply.actions[0].commands] == (
            [430, 0, 0] if optional else [430]
        )
        assert bool(play.engine.store.contexts) is not optional


def test_after_an_optional_add_without_a_port_the_next_command_is_carried_out() -> None:
    play = Play()
    play.busy = set(range(20000, 20100))
    first = replace(iq.to_add(access_request()), optional=True)
    reply = play.request(Action(CHOOSE_CONTEXT, (first, iq.to_add(core_request()))))
    assert reply is not None
    (action,) = reply.actions
    assert [c.error.code if c.error else 0 for c in action.commands] == [510, 0]
    assert [leg.request.realm for leg in play.engine.store.contexts[action.context].legs] == ["core"]


def test_a_bug_ends_its_own_transaction_and_not_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    play = Play()
    call = play.originating()
    play.silent = True
    assert play.request(iq.add_pair(core_request(), access_request())) is None
    assert play.request(Action(call.context, (modify(call.core.termination),))) is None
    assert play.request(Action(call.context, (iq.to_subtract(call.core.termination),))) is None
    running = max(play.engine.store.legs)
    tid = play._tid - 2
    with monkeypatch.context() as patch:
        patch.setattr("agw.core.commands.modify_reply", bug)
        play.post(orders.Listening(running, 30001))
        with pytest.raises(RuntimeError):
            play.post(orders.Listening(running + 1, 20001))
    play.silent = False
    play.post(orders.Released(call.core_leg, 0, 0))
    assert [code_of_any(play.reply(tid + more)) for more in range(3)] == [0, 500, 0]
    assert code_of_any(play.request(Action(call.context, (modify(call.access.termination),)))) == 0


def test_bad_messages_are_answered_and_logged() -> None:
    play = Play()
    answer = Message("agw-1", error=H248Error(400).descriptor())
    play.post(events.BadFromController("h248.400: rubbish", answer))
    assert play.sent[-1] == answer


def test_too_many_waiting_transactions() -> None:
    play = Play(settings(transactions=1))
    play.silent = True
    for _ in range(2):
        assert play.request(iq.add_pair(core_request(), access_request())) is None
    assert code_of(play.request(iq.add_pair(core_request(), access_request()))) == 510


# --- wildcards and audits -------------------------------------------------------------------------------------------


def test_subtract_of_everything_answers_by_context() -> None:
    play = Play()
    calls = [play.originating(), play.originating()]
    reply = play.request(everywhere(iq.to_subtract()))
    assert reply is not None
    assert [action.context for action in reply.actions] == [call.context for call in calls]
    assert all(len(action.commands) == 2 for action in reply.actions)
    assert not play.engine.store.contexts


def test_subtract_with_wildcarded_response_answers_once() -> None:
    play = Play()
    call = play.originating()
    reply = play.request(Action(call.context, (iq.to_subtract(wildcard_reply=True),)))
    assert reply is not None
    assert [c.termination for c in reply.actions[0].commands] == [ALL]
    assert not play.engine.store.contexts


def test_subtract_of_one_termination_keeps_the_other() -> None:
    play = Play()
    call = play.originating()
    reply = play.request(Action(call.context, (iq.to_subtract(call.core.termination, statistics=False),)))
    assert reply is not None
    assert reply.actions[0].commands[0].statistics is None
    assert [leg.name for leg in play.engine.store.legs.values()] == [call.access.termination]


def test_audit_lists_contexts_for_a_controller_that_has_forgotten() -> None:
    play = Play()
    calls = [play.originating(), play.originating()]
    reply = play.request(everywhere(Command("AuditValue", ALL, audit=Audit())))
    assert reply is not None
    found = {action.context: [command.termination for command in action.commands] for action in reply.actions}
    assert found == {call.context: [call.core.termination, call.access.termination] for call in calls}


def test_audit_of_media_and_statistics() -> None:
    play = Play()
    call = play.originating()
    play.counters = {call.access_leg: (5, 6)}
    command = Command("AuditValue", call.access.termination, audit=Audit(("Media", "Statistics", "Events")))
    reply = play.request(Action(call.context, (command,)))
    assert reply is not None
    answer = reply.actions[0].commands[0]
    assert answer.media is not None
    local = answer.media.streams[0].local
    assert local is not None
    assert "c=IN IP4 192.0.2.1" in local
    assert "20000" in local
    assert iq.read_statistics(answer.statistics).octets_received == 5
    assert answer.events is not None


def test_audit_of_packages() -> None:
    play = Play()
    reply = play.request(Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit(("Packages",))),)))
    assert reply is not None
    assert reply.actions[0].commands[0].packages == packages.PACKAGE_IDS


# --- leaving service ------------------------------------------------------------------------------------------------


def test_leaving_without_sessions_says_forced_and_goes() -> None:
    play = Play()
    play.post(events.Drain())
    assert last_change(play).method == "Forced"
    play.answer_service_change()
    assert play.others[-1] == events.Exit()


def test_leaving_with_sessions_waits_for_them() -> None:
    play = Play()
    call = play.originating()
    play.post(events.Drain())
    change = last_change(play)
    assert (change.method, change.delay) == ("Graceful", 5)
    play.answer_service_change()
    assert code_of(play.request(iq.add_pair(core_request(), access_request()))) == 503
    call.subtract()
    assert last_change(play).method == "Forced"
    play.pass_time(1.0)  # no answer comes
    assert play.others[-1] == events.Exit()


def test_leaving_ends_what_does_not_end() -> None:
    play = Play()
    play.originating()
    play.post(events.Drain())
    play.answer_service_change()
    play.pass_time(5.0)
    assert not play.engine.store.contexts
    assert last_change(play).method == "Forced"


def test_asked_to_leave_twice_it_ends_sessions_now() -> None:
    play = Play()
    play.originating()
    play.post(events.Drain())
    play.answer_service_change()
    play.post(events.Drain())
    assert not play.engine.store.contexts
    assert last_change(play).method == "Forced"
    play.answer_service_change()
    assert play.others[-1] == events.Exit()


def test_resting_takes_nothing_new_until_it_is_taken_back() -> None:
    play = Play()
    call = play.originating()
    play.post(events.Rest())
    change = last_change(play)
    assert (change.method, change.delay) == ("Graceful", None)
    play.answer_service_change()
    announced = len(play.requests())
    play.post(events.Rest())
    assert len(play.requests()) == announced, "said once"
    assert code_of(play.request(iq.add_pair(core_request(), access_request()))) == 503
    play.pass_time(60.0)
    assert len(play.engine.store.contexts) == 1, "what runs goes on"
    call.subtract()
    assert events.Exit() not in play.others
    play.post(events.Resume())
    change = last_change(play)
    assert (change.method, change.reason) == ("Restart", "918 Cancel Graceful")
    play.answer_service_change()
    play.originating()
    assert len(play.engine.store.contexts) == 1


def test_a_resting_gateway_says_so_in_a_new_association() -> None:
    play = Play()
    play.post(events.Rest())
    play.answer_service_change()
    play.post(events.ControlDown("reset"))
    play.post(events.ControlUp("mgc:2944"))
    assert last_change(play).method == "Disconnected"
    play.answer_service_change()
    assert last_change(play).method == "Graceful"
    play.answer_service_change()
    play.post(events.Drain())
    assert last_change(play).method == "Forced"


def test_leaving_without_controller() -> None:
    play = Play(serve=False)
    play.post(events.Start())
    play.post(events.ControlDown("refused"))
    play.post(events.Drain())
    assert play.others[-1] == events.Exit()
    assert play.engine.next_timer() is None
