"""Scripts of media gateways against the media half: announcement, balance, loss, return, audit, notifications."""

from dataclasses import replace

import pytest
from tests.playbook.mediaplay import (
    PEER_IP,
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

from imsalg.core.media_events import (
    BadFromGateway,
    CloseGateway,
    EndCall,
    FromGateway,
    GatewayDown,
    GatewayUp,
    MediaCommand,
    Side,
    ToGateway,
    Trace,
)
from imsalg.media_settings import FailureSettings, GatewayTimers
from imswire.h248 import iq
from imswire.h248.errors import error
from imswire.h248.model import (
    ALL_CONTEXTS,
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
from imswire.h248.parser import parse
from imswire.h248.writer import write

UE_OFFER = sdp(*ue_line())
PEER = sdp(*peer_line(), ip=PEER_IP)
LIVELY = GatewayTimers(heartbeat=2.0, heartbeat_timeout=2.0, reconnect_grace=2.0, request=4.0)


def call(play: Play, name: str = "c1") -> None:
    play.offer(UE_OFFER, call=name)
    play.answer_gateway()
    play.answer(PEER, call=name)
    play.drain()


def closed(commands: list[MediaCommand]) -> list[int]:
    return [command.link for command in commands if isinstance(command, CloseGateway)]


def announce(
    play: Play, link: int, method: str, reason: str = "905 Out", *, mid: str | None = None
) -> list[MediaCommand]:
    change = ServiceChange(method=method, reason=reason, version=1)
    return play.says(link, Command("ServiceChange", ROOT, service_change=change), NULL_CONTEXT, mid=mid)


def error_of(reply: TransactionReply) -> int | None:
    fault = reply.actions[0].commands[0].error
    return fault.code if fault is not None else None


def test_calls_go_to_the_least_loaded_gateway() -> None:
    play = Play(gateways=2)
    for name in ("c1", "c2", "c3"):
        play.offer(UE_OFFER, call=name)
    assert [link for link, _ in play.asked] == [1, 2, 1]
    play.drain()
    assert {mid: g.load for mid, g in play.half.gateways.gateways.items()} == {"agw-1": 2, "agw-2": 1}


def test_a_call_keeps_its_gateway() -> None:
    play = Play(gateways=2)
    call(play)
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    assert [link for link, _ in play.asked] == [1]


@pytest.mark.parametrize("method", ["Handoff", "Failover", "Nonsense"])
def test_other_service_changes_are_refused(method: str) -> None:
    play = Play()
    announce(play, 1, method)
    assert error_of(play.replies[-1]) == 501


def test_a_leaving_gateway_gets_no_new_calls_and_keeps_its_own() -> None:
    play = Play()
    call(play)
    assert announce(play, 1, "Graceful") == []
    assert refused(play.offer(UE_OFFER, call="c2")).status == 503
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    assert play.names() == ["Add $ $", "Add $ $"]


def test_a_gateway_that_takes_its_leave_back_gets_new_calls_and_keeps_its_own() -> None:
    play = Play()
    call(play)
    announce(play, 1, "Graceful")
    assert refused(play.offer(UE_OFFER, call="c2")).status == 503
    assert announce(play, 1, "Restart", "918 Cancel Graceful") == []
    play.offer(UE_OFFER, call="c3")
    assert set(play.half.calls) == {"c1", "c3"}


@pytest.mark.parametrize("method", ["Forced", "Restart"])
def test_a_gateway_that_restarts_or_stops_loses_its_calls(method: str) -> None:
    play = Play()
    call(play)
    end = ended(announce(play, 1, method))
    assert (end.call, end.status) == ("c1", 503)
    assert not play.half.calls


def test_commands_before_the_announcement_are_refused() -> None:
    play = Play(gateways=0)
    play.feed(GatewayUp(1, "peer"))
    play.says(1, Command("Notify", "ip/1"), 3)
    assert error_of(play.replies[-1]) == 505
    announce(play, 1, "Restart")
    play.says(1, Command("AuditValue", ROOT, audit=Audit()), NULL_CONTEXT)
    assert error_of(play.replies[-1]) == 443


def test_loss_of_the_link_ends_calls_after_the_grace_time() -> None:
    play = Play(settings(timers=replace(LIVELY, heartbeat=0)))
    call(play)
    assert play.feed(GatewayDown(1, "reset")) == []
    assert play.wait(1.9) == []
    end = ended(play.wait(0.2))
    assert (end.status, end.text) == (503, "media gateway did not come back")
    assert refused(play.offer(UE_OFFER, call="c2")).status == 503


def test_loss_of_the_link_refuses_what_waits_at_once() -> None:
    play = Play()
    play.offer(UE_OFFER)
    refusal = refused(play.feed(GatewayDown(1, "reset")))
    assert (refusal.status, refusal.retry_after) == (503, 10)


def test_a_silent_gateway_is_noticed_and_given_up() -> None:
    play = Play(settings(timers=LIVELY))
    call(play)
    assert play.wait(2.0) == []
    assert play.names() == ["AuditValue 0 ROOT"]
    out = play.wait(2.0)
    assert closed(out) == [1]
    assert ended([c for c in out if not isinstance(c, CloseGateway)]).text == "media gateway does not answer"


def test_a_controller_that_stood_still_gives_the_gateway_its_time_again() -> None:
    """After SIGSTOP, or on a machine that slept, the timer runs before the answer that waits in the socket is read."""
    play = Play(settings(timers=LIVELY))
    call(play)
    play.wait(2.0)
    assert play.half.expire(play.now + 10.0) == []
    play.now += 10.0
    assert play.drain() == []
    assert play.half.calls


def test_a_gateway_that_answers_the_heartbeat_stays() -> None:
    play = Play(settings(timers=LIVELY))
    call(play)
    for _ in range(5):
        assert play.wait(2.0) == []
        assert play.drain() == []
    assert not [c for c in play.commands if isinstance(c, Trace) and "AuditValue" in str(c.fields)]


def returned(play: Play, found: tuple[int, ...]) -> list[MediaCommand]:
    """The gateway comes back on link 2 and answers the audit with the contexts ``found``."""
    play.feed(GatewayDown(1, "reset"))
    play.feed(GatewayUp(2, "peer"))
    announce(play, 2, "Disconnected", mid="agw-1")
    assert play.names() == [f"AuditValue {ALL_CONTEXTS} ROOT"]
    link, request = play.asked.pop(0)
    assert link == 2
    return says(play, request.id, *iq.audit_contexts_reply(found))


def says(play: Play, tid: int, *actions: Action) -> list[MediaCommand]:
    """The gateway that is back on link 2 replies."""
    return play.feed(FromGateway(2, Message("agw-1", (TransactionReply(tid, actions),))))


def back(play: Play) -> int:
    """The gateway comes back and is asked for its contexts: the transaction id."""
    play.feed(GatewayDown(1, "reset"))
    play.feed(GatewayUp(2, "peer"))
    announce(play, 2, "Disconnected", mid="agw-1")
    return play.asked.pop(0)[1].id


def refusal_of_list(code: int) -> Action:
    return Action(ALL_CONTEXTS, (Command("AuditValue", ROOT, error=error(code)),))


def test_a_gateway_that_has_no_list_of_contexts_is_asked_for_terminations() -> None:
    play = Play()
    call(play)
    assert says(play, back(play), refusal_of_list(430)) == []
    assert play.names() == [f"AuditValue {ALL_CONTEXTS} *"]
    tid = play.asked.pop(0)[1].id
    assert says(play, tid, *iq.audit_reply([(1, ["a", "b"]), (9, ["c"])])) == []
    assert play.names() == ["Subtract 9 *"]


def test_too_many_contexts_for_one_message_are_looked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imsalg.core.gateway_audit.BATCH", 2)
    play = Play()
    names = [f"c{number}" for number in range(1, 6)]
    for name in names:
        call(play, name)
    assert says(play, back(play), refusal_of_list(533)) == []
    asked: list[int] = []
    gone = {2, 5}
    ends: list[str] = []
    while play.asked:
        request = play.asked.pop(0)[1]
        if request.actions[0].commands[0].name == "Subtract":
            continue
        if request.actions[0].context == ALL_CONTEXTS:
            says(play, request.id, Action(ALL_CONTEXTS, error=error(431)))
            continue
        asked += [action.context for action in request.actions]
        actions = []
        for action in request.actions:
            missing = action.context in gone
            actions.append(Action(action.context, () if missing else (Command("AuditValue", "*"),)))
            if missing:
                actions[-1] = Action(action.context, error=error(411))
                break
        ends += [c.call for c in says(play, request.id, *actions) if isinstance(c, EndCall)]
    assert asked == [1, 2, 3, 4, 5]
    assert ends == ["c2", "c5"]
    assert sorted(play.half.calls) == ["c1", "c3", "c4"]


def test_an_audit_in_parts_that_is_refused_ends_no_call() -> None:
    play = Play()
    call(play)
    assert says(play, back(play), refusal_of_list(533)) == []
    assert play.names() == ["AuditValue 1 *"]
    tid = play.asked.pop(0)[1].id
    assert says(play, tid, Action(1, error=error(500))) == []
    assert "c1" in play.half.calls
    assert not play.asked


def test_a_gateway_that_comes_back_keeps_its_calls_and_loses_orphans() -> None:
    play = Play()
    call(play)
    assert returned(play, (1, 9)) == []
    assert play.names() == ["Subtract 9 *"]
    assert play.wait(60) == []
    play.drain()
    assert proceed(play.offer(UE_OFFER))


def test_a_context_that_vanished_ends_its_call() -> None:
    play = Play()
    call(play)
    assert ended(returned(play, ())).text == "media gateway lost the context"


def test_call_that_ended_while_its_gateway_was_away_is_subtracted_later() -> None:
    play = Play()
    call(play)
    play.feed(GatewayDown(1, "reset"))
    assert play.end() == []
    assert not play.asked
    play.feed(GatewayUp(2, "peer"))
    announce(play, 2, "Disconnected", mid="agw-1")
    link, request = play.asked.pop(0)
    actions = (Action(1, (Command("AuditValue", "ip/core/1"),)),)
    play.feed(FromGateway(link, Message("agw-1", (TransactionReply(request.id, actions),))))
    assert play.names() == ["Subtract 1 *"]


def test_a_second_association_replaces_the_first() -> None:
    play = Play()
    call(play)
    play.feed(GatewayUp(2, "peer"))
    assert closed(announce(play, 2, "Disconnected", mid="agw-1")) == [1]
    assert play.feed(GatewayDown(1, "closed")) == []
    assert play.half.gateways.gateways["agw-1"].link == 2


def test_contexts_of_an_unanswered_reservation_are_found_by_audit() -> None:
    play = Play()
    play.offer(UE_OFFER)
    assert refused(play.wait(4.5)).status == 500
    play.asked.pop(0)
    link, request = play.asked.pop(0)
    actions = (Action(1, (Command("AuditValue", "ip/core/1"),)),)
    play.feed(FromGateway(link, Message("agw-1", (TransactionReply(request.id, actions),))))
    assert play.names() == ["Subtract 1 *"]


def test_an_audit_does_not_take_a_reservation_under_way_for_an_orphan() -> None:
    play = Play()
    call(play)
    play.feed(GatewayUp(2, "peer"))
    announce(play, 2, "Disconnected", mid="agw-1")
    play.offer(UE_OFFER, call="c2")
    _, audit = play.asked.pop(0)
    found = tuple(Action(context, (Command("AuditValue", f"ip/core/{context}"),)) for context in (1, 2, 7))
    play.feed(FromGateway(2, Message("agw-1", (TransactionReply(audit.id, found),))))
    assert play.names() == ["Add $ $", "Add $ $"]
    play.contexts["agw-2"] = 1
    proceed(play.answer_gateway())
    assert play.names() == ["Subtract 7 *"]


@pytest.mark.parametrize(
    ("kind", "status"), [("fingerprint-mismatch", 488), ("tls-failed", 488), ("tcp-failed", 503), ("inactive", 408)]
)
def test_failures_of_media_end_the_call(kind: str, status: int) -> None:
    play = Play()
    call(play)
    failure = iq.MediaFailure(kind, "why", expected="SHA-256 AA", seen="SHA-256 BB")
    if kind != "fingerprint-mismatch":
        failure = iq.MediaFailure(kind, "why")
    assert ended(play.says(1, iq.to_notify("ip/access/1", failure, 1), 1)).status == status
    assert error_of(play.replies[-1]) is None
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]


def test_by_setting_a_failed_line_is_dropped_and_the_call_goes_on() -> None:
    use = replace(settings(), failures=FailureSettings(tls_failed="drop", remote_closed="release"))
    play = Play(use)
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    play.answer_gateway()
    play.answer(sdp(*peer_line(), *peer_line(9002), ip=PEER_IP))
    play.drain()
    play.confirm("a")
    failed = iq.to_notify("ip/access/1", iq.MediaFailure("tls-failed", "no certificate"), 1)
    assert play.says(1, failed, 1) == []
    assert play.names() == ["Subtract 1 ip/core/1", "Subtract 1 ip/access/1"]
    play.drain()
    # A later offer of that line begins anew.
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    assert play.names() == ["Add $ $", "Add $ $"]
    lines = proceed(play.answer_gateway())
    assert "m=message 20005 TCP/MSRP *" in lines
    play.answer(sdp(*peer_line(), *peer_line(9002), ip=PEER_IP))
    assert play.names() == ["Modify 3 ip/core/3", "Modify 3 ip/access/3"]
    play.drain()
    assert play.half.calls["c1"].contexts == (3, 2)
    closed_ = iq.to_notify("ip/core/2", iq.MediaFailure("remote-closed", "bye"), 1)
    assert ended(play.says(1, closed_, 2)).text == "media connection closed"


def test_dropping_the_last_line_ends_the_call() -> None:
    play = Play(replace(settings(), failures=FailureSettings(inactive="drop")))
    call(play)
    assert ended(play.says(1, iq.to_notify("ip/core/1", iq.MediaFailure("inactive", "x"), 1), 1)).status == 408


def test_a_line_that_fails_while_an_offer_is_under_way_ends_the_call() -> None:
    play = Play(replace(settings(), failures=FailureSettings(tcp_failed="drop")))
    call(play)
    play.offer(sdp(*ue_line(), *ue_line(2857)))
    assert ended(play.says(1, iq.to_notify("ip/core/1", iq.MediaFailure("tcp-failed", "x"), 1), 1)).status == 503


def test_after_a_closed_connection_a_reoffer_asks_for_a_new_one() -> None:
    play = Play()
    call(play)
    play.confirm("a")
    play.says(1, iq.to_notify("ip/access/1", iq.MediaFailure("remote-closed", "bye"), 1), 1)
    proceed(play.offer(UE_OFFER))
    play.answer(PEER)
    request = play.take()
    first = iq.read_modify(request.actions[0].commands[0], iq.StreamRequest("core", "TCP"))
    assert first.reconnect
    proceed(play.answer_gateway())
    proceed(play.offer(UE_OFFER))
    proceed(play.answer(PEER))
    assert not play.asked


def test_a_closed_connection_is_logged_only() -> None:
    play = Play()
    call(play)
    assert play.says(1, iq.to_notify("ip/access/1", iq.MediaFailure("remote-closed", "bye"), 1), 1) == []
    assert "c1" in play.half.calls


def test_notification_for_a_released_context() -> None:
    play = Play()
    assert play.says(1, iq.to_notify("ip/access/1", iq.MediaFailure("tcp-failed", "x"), 1), 77) == []
    assert error_of(play.replies[-1]) is None


def test_unreadable_bytes_are_answered_and_do_not_go_on_for_ever() -> None:
    play = Play()
    commands = play.half.handle(BadFromGateway(1, 400, "syntax"), play.now)
    sent = [c.message for c in commands if isinstance(c, ToGateway)]
    assert [m.error.code for m in sent if m.error is not None] == [400]
    out: list[MediaCommand] = []
    for _ in range(16):
        out += play.feed(BadFromGateway(1, 400, "syntax"))
    assert closed(out) == [1]


def test_a_broken_transaction_is_answered_as_such_and_a_broken_reply_not_at_all() -> None:
    play = Play()
    commands = play.half.handle(BadFromGateway(1, 442, 'a "quoted"\x01 text', transaction=77), play.now)
    (sent,) = [c.message for c in commands if isinstance(c, ToGateway)]
    (reply,) = parse(write(sent)).transactions
    assert isinstance(reply, TransactionReply)
    assert reply.id == 77
    assert reply.error == error(442, "a 'quoted'  text")
    commands = play.half.handle(BadFromGateway(1, 442, "in a reply", answerable=False), play.now)
    assert not [c for c in commands if isinstance(c, ToGateway)]


def test_a_repeated_announcement_is_answered_once_more_and_changes_nothing() -> None:
    play = Play(gateways=0)
    play.feed(GatewayUp(1, "peer", reliable=False))
    change = Command("ServiceChange", ROOT, service_change=ServiceChange(method="Restart", version=1))
    request = Message("agw-1", (TransactionRequest(9, (Action(NULL_CONTEXT, (change,)),)),))
    play.feed(FromGateway(1, request))
    call(play)
    assert play.feed(FromGateway(1, request)) == []
    assert "c1" in play.half.calls
    assert play.replies[0] == play.replies[1]


def test_trace_lines_name_call_and_fields() -> None:
    play = Play()
    call(play)
    lines = [c.fields for c in play.commands if isinstance(c, Trace) and c.kind == "h248" and c.fields.get("call_id")]
    assert [(line["dir"], line["type"]) for line in lines] == [("out", "request"), ("in", "reply")] * 2
    assert lines[0]["commands"] == [
        {
            "command": "Add",
            "context": "$",
            "termination": "$",
            "fields": ["realm=core", "mode=proxy", "m=TCP", "L=$"],
        },
        {
            "command": "Add",
            "context": "$",
            "termination": "$",
            "fields": [
                "realm=access",
                "mode=proxy",
                "gm/saf=on",
                "m=TCP/TLS",
                "L=$",
                "fp=?",
                "R=192.0.2.10:2855",
                "fp=SHA-256 " + ":".join(f"{i:02X}" for i in range(32)),
            ],
        },
    ]


def test_trace_lines_show_roles_and_paths() -> None:
    play = Play()
    play.offer(
        sdp(*bfcp_line(7100, secure=False), *peer_line(9002, setup="actpass", cema=False), ip=PEER_IP), Side.CORE
    )
    play.answer_gateway()
    play.answer(
        sdp(*bfcp_line(setup="active", e2ae=None), *ue_line(setup="passive", e2ae=None, cema=False)), Side.ACCESS
    )
    made = [str(c.fields["commands"]) for c in play.commands if isinstance(c, Trace) and c.kind == "h248"]
    offered, configured = made[-3], made[-1]
    assert "'tls-role=client'" in offered
    assert "'TLS=active'" in offered
    assert "'path=msrps://$:$/peer;tcp'" in offered
    assert f"'path=msrp://{PEER_IP}:9002/peer;tcp'" in offered
    assert "'path=msrps://192.0.2.10:2855/ue;tcp'" in configured
