"""Ends of calls at every stage: media that fail, ends that hang up, ACKs and refreshes that never come, the node's
own end."""

import pytest
from tests.playbook.alg_gateway import Gateway
from tests.playbook.alg_harness import SCSCF, UE, Book, answer, register, request, settings, wire
from tests.playbook.test_alg_media import PLAIN_ANSWER, PLAIN_OFFER, SECURE_ANSWER, SECURE_OFFER, establish, originate
from tests.playbook.test_alg_offers import ALICE, RELIABLE, delayed, early, finish, kinds, settle
from tests.playbook.test_alg_proxy import BOB, from_called, from_caller
from tests.playbook.test_alg_proxy import establish as plain_call

from imsalg.core.events import Drain, Drained
from imsalg.core.media_events import EndCall
from imswire.h248 import iq
from imswire.sip.message import Request, Response

QUIET = {"heartbeat": 1e6, "heartbeat_timeout": 1e6}
"""Nobody asks the scripted gateway whether it lives: time may be moved far."""


def fail(gateway: Gateway) -> None:
    gateway.notify(1, "T1-1", iq.MediaFailure("fingerprint-mismatch", "sha-256 differs"))


def end(book: Book) -> None:
    """The media half gives up whatever call there is, in whatever stage it is."""
    (call,) = book.engine.context.calls.values()
    book.engine.context.pending.append(EndCall(call.key, 488, "media failed"))
    book.feed(Drain(1e6))  # any event: it drains the queue


def answer_all(book: Book) -> list[str]:
    """Answer every request that is out, as both ends would; returns what was sent."""
    seen: list[str] = []
    while out := book.out():
        for message, flow in out:
            if not isinstance(message, Request):
                seen.append(f"{flow.realm} {message.status} {message.cseq.method}")
                continue
            seen.append(f"{flow.realm} {message.method}")
            if message.method in ("BYE", "CANCEL"):
                book.feed(wire(answer(message, 200), flow))
    return list(dict.fromkeys(seen))


def test_early_with_an_update_under_way() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, progress = early(book, gateway)
    book.receive(UE, from_caller("UPDATE", 3, progress), SECURE_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    fail(gateway)
    assert set(answer_all(book)) == {"access 488 INVITE", "access 488 UPDATE", "core CANCEL"}
    book.feed(wire(answer(update, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    book.feed(wire(answer(invite, 487), SCSCF))
    assert [kind for kind in kinds(book) if kind != "core ACK"] == [], "what comes late is swallowed"
    finish(book, gateway)


def test_early_while_an_answer_is_held() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_ANSWER), SCSCF))
    end(book)
    assert answer_all(book) == ["access 488 INVITE", "core CANCEL"]
    book.feed(wire(answer(invite, 487), SCSCF))
    finish(book, gateway)


def test_while_the_2xx_is_held() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    end(book)
    assert answer_all(book) == ["access 488 INVITE", "core ACK", "core BYE"]
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    assert kinds(book) == ["core ACK", "core BYE"], "the repeated 2xx of a lost ACK"
    finish(book, gateway)


def test_while_the_answer_in_the_ack_is_held() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    end(book)
    sent = book.out()
    assert [(m.method, f.realm) for m, f in sent if isinstance(m, Request)] == [
        ("ACK", "core"),
        ("BYE", "core"),
        ("BYE", "access"),
    ]
    assert sent[0][0].body == b"", "what was not secured does not go"
    for message, flow in sent[1:]:
        assert isinstance(message, Request)
        book.feed(wire(answer(message, 200), flow))
    finish(book, gateway)


def test_before_a_delayed_answer_came() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    end(book)
    assert answer_all(book) == ["core BYE"]
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    sent = book.out()
    assert [(m.method, f.realm, m.body) for m, f in sent if isinstance(m, Request)] == [
        ("ACK", "core", b""),
        ("BYE", "access", b""),
    ]
    finish(book, gateway)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_with_a_reoffer_under_way(method: str) -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller(method, 2, ok), SECURE_OFFER)
    settle(gateway)
    pending = book.request(method)
    book.feed(wire(answer(pending, 100), SCSCF))
    fail(gateway)
    sent = answer_all(book)
    assert sent[0] == f"access 488 {method}"
    assert {"core BYE", "access BYE"} <= set(sent)
    assert ("core CANCEL" in sent) is (method == "INVITE")
    book.feed(wire(answer(pending, 487 if method == "INVITE" else 481), SCSCF))
    finish(book, gateway)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_with_the_answer_to_a_reoffer_held(method: str) -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller(method, 2, ok), SECURE_OFFER)
    settle(gateway)
    reply = answer(book.request(method), 200, BOB, body=PLAIN_ANSWER.replace("8000", "8100"))
    book.feed(wire(reply, SCSCF))
    assert book.out() == []
    end(book)
    sent = answer_all(book)
    assert sent[0] == f"access 488 {method}"
    assert sent.count("core BYE") == 1
    assert ("core ACK" in sent) is (method == "INVITE")
    finish(book, gateway)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_bye_answers_what_waits_for_the_gateway(method: str) -> None:
    """RFC 3261 15.1.2: pending requests get 487; nothing may hang because no verdict comes any more."""
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    two_lines = SECURE_OFFER + "\n".join(SECURE_OFFER.splitlines()[6:]).replace("7000", "7002").replace("s1", "s2")
    book.receive(UE, from_caller(method, 2, ok), two_lines)
    book.receive(SCSCF, from_called("BYE", 1, invite))
    sent = answer_all(book)
    assert f"access 487 {method}" in sent
    assert "core 200 BYE" in sent
    finish(book, gateway)


def test_a_bye_in_an_early_dialog_voids_its_offer() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, tag="one", body=PLAIN_OFFER), SCSCF))
    settle(gateway)
    progress = book.response(183)
    book.receive(UE, from_caller("BYE", 2, progress))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    book.out()
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, tag="two", body=PLAIN_OFFER), SCSCF))
    settle(gateway)
    assert book.response(183).to_tag == "two"
    book.feed(wire(answer(invite, 486, tag="two"), SCSCF))
    assert book.response(486)
    finish(book, gateway)


def test_cancel_with_prack_under_way() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_OFFER), SCSCF))
    settle(gateway)
    progress = book.response(183)
    book.receive(UE, from_caller("PRACK", 2, progress, "RAck: 1 1 INVITE"), SECURE_ANSWER)
    book.receive(UE, request("CANCEL", "Reason: SIP;cause=200"))
    cancel = next(m for m, _ in book.out() if isinstance(m, Request))
    assert (cancel.method, cancel.headers.get("reason")) == ("CANCEL", "SIP;cause=200")
    book.feed(wire(answer(cancel, 200), SCSCF))
    book.feed(wire(answer(invite, 487), SCSCF))
    assert set(kinds(book)) == {"core ACK", "access 487"}
    finish(book, gateway)


# --- what never comes -----------------------------------------------------------------------------------------------


def test_no_ack_ends_the_call() -> None:
    book = Book(settings(gateway_timers=QUIET))
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    book.response(200)
    book.advance(2 * book.settings.timers.t64 + 0.1)
    byes = [m for m, _ in book.out() if isinstance(m, Request)]
    assert all((m.headers.get("reason") or "").startswith("SIP;cause=408") for m in byes)
    assert {m.uri for m in byes} == {"sip:bob@10.9.0.50:5060"}, "the caller's waits for its ACK"
    finish(book, gateway)


def test_a_session_that_is_not_refreshed_is_released_when_it_expires() -> None:
    book = Book(settings(gateway_timers=QUIET))
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, "Session-Expires: 1800;refresher=uac", body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    book.advance(900)
    book.out()
    book.receive(UE, from_caller("UPDATE", 2, ok, "Session-Expires: 1800;refresher=uac"))
    book.feed(wire(answer(book.request("UPDATE"), 200, BOB, "x: 1800;refresher=uac"), SCSCF))
    book.out()
    book.advance(1799)
    assert book.engine.gauges["calls"] == 1
    assert not [kind for kind in kinds(book) if "BYE" in kind]
    book.advance(2)
    assert {"core BYE", "access BYE"} <= set(kinds(book))
    finish(book, gateway)


def test_a_call_without_session_timer_may_be_silent_for_so_long() -> None:
    book = Book(settings(timers={"silent_call": 600.0}))
    _, ok = plain_call(book)
    book.advance(500)
    book.out()
    book.receive(UE, from_caller("INFO", 2, ok))
    book.feed(wire(answer(book.request("INFO"), 200), SCSCF))
    book.advance(500)
    assert book.engine.gauges["calls"] == 1
    book.out()
    book.advance(101)
    assert {"core BYE", "access BYE"} <= set(kinds(book))
    book.advance(100)
    assert book.engine.gauges["calls"] == 0


def test_without_a_limit_a_call_may_be_silent() -> None:
    book = Book(settings(timers={"silent_call": 0.0}))
    plain_call(book)
    book.advance(1_000_000)
    assert book.engine.gauges["calls"] == 1


# --- the node's end -------------------------------------------------------------------------------------------------


def test_a_drain_refuses_new_calls_and_releases_the_rest_at_its_end() -> None:
    book = Book(settings(gateway_timers=QUIET))
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.feed(Drain(30.0))
    assert book.engine.draining
    book.receive(UE, request(branch="new", call_id="new"), SECURE_OFFER)
    assert book.response(503).headers.get("retry-after") == "10"
    book.receive(UE, from_caller("UPDATE", 2, ok), SECURE_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    book.feed(wire(answer(update, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert book.response(200), "calls that are there go on"
    book.advance(30.1)
    gateway.take()
    assert gateway.seen[-1] == "Subtract"
    byes = [m for m, _ in book.out() if isinstance(m, Request)]
    assert {m.method for m in byes} == {"BYE"}
    assert all((m.headers.get("reason") or "").startswith("SIP;cause=503") for m in byes)
    finish(book, gateway)


def test_a_drain_without_time_releases_at_once() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    book.out()
    book.feed(Drain())
    ((final, _), (cancel, _)) = book.out()
    assert isinstance(final, Response)
    assert isinstance(cancel, Request)
    assert (final.status, cancel.method) == (503, "CANCEL")
    assert not [one for one in book.other if isinstance(one, Drained)]
    book.feed(wire(answer(cancel, 200), SCSCF))
    book.feed(wire(answer(invite, 487), SCSCF))
    gateway.take()
    assert not [one for one in book.other if isinstance(one, Drained)], "the Subtract has no reply yet"
    gateway.answer()
    assert [one for one in book.other if isinstance(one, Drained)] == [Drained()]
    finish(book, gateway)


# --- the node itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["sip:10.0.0.1", "sip:pcscf.example.net:5060", "sip:10.0.0.1:5060;lr"])
def test_options_for_the_node_itself(uri: str) -> None:
    book = Book()
    book.receive(UE, request("OPTIONS", uri=uri, to=f"<{uri}>"))
    ok = book.response(200)
    assert ok.to_tag
    assert "INVITE" in ok.headers.values("allow")
    assert ok.headers.get("accept") == "application/sdp"
    assert ok.headers.get("supported") == "path, outbound"


def test_options_that_run_out_of_hops_end_here_and_others_pass() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("OPTIONS", branch="o1").replace("Max-Forwards: 70", "Max-Forwards: 0"))
    assert book.response(200)
    book.receive(UE, request("OPTIONS", branch="o2"))
    assert book.request("OPTIONS").uri == "sip:bob@example.net"


def test_sip_lines_of_the_trace_name_the_call() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("BYE", 2, ok))
    settle(gateway)
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    of_call = [t.fields for t in book.traces if t.kind == "sip" and t.fields["call_id"] == "call-1"]
    assert len(of_call) > 8
    assert len({fields.get("call") for fields in of_call}) == 1
    assert of_call[0]["call"]
    assert all("call" not in t.fields for t in book.traces if t.kind == "sip" and t.fields["call_id"] == "reg-alice")


def test_releases_from_the_called_side() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, _ = establish(book, gateway)
    book.receive(SCSCF, from_called("INVITE", 1, invite))
    again = book.request("INVITE")
    book.feed(wire(answer(again, 200, ALICE, tag="al", body=SECURE_OFFER), UE))
    settle(gateway)
    ok = book.response(200)
    assert isinstance(ok, Response)
    book.receive(SCSCF, from_called("ACK", 1, invite))
    assert book.request("ACK"), "a re-offer without an answer comes to nothing; the session stays"
    book.receive(SCSCF, from_called("BYE", 2, invite))
    book.feed(wire(answer(book.request("BYE"), 200), UE))
    finish(book, gateway)


def test_a_release_that_is_due_sooner_does_not_wait_behind_an_older_one() -> None:
    """Ends differ in how long they are waited for (64*T1, twice that): none stands behind another."""
    book = Book()
    _, ok = plain_call(book)
    book.receive(UE, from_caller("BYE", 3, ok))  # it goes on and gets no answer: twice 64*T1
    book.out()
    book.receive(UE, request(call_id="call-2", branch="v2", from_="<sip:alice@example.net>;tag=al2"))
    book.feed(wire(answer(book.request("INVITE"), 200, BOB), SCSCF))
    context = book.engine.context
    first, second = context.calls.values()
    context.pending.append(EndCall(second.key, 488, "media failed"))
    book.feed(Drain(1e6))  # the BYE to the caller waits for its ACK: 64*T1
    due = book.now + book.settings.timers.t64
    assert context.ending.next_timer() == due
    assert context.ending.expire(due) == [second]
    assert context.ending.expire(due + book.settings.timers.t64) == [first]
