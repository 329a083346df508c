"""Calls with media to be secured: the SIP half and the media half together, the gateway scripted."""

import pytest
from tests.playbook.alg_gateway import Gateway
from tests.playbook.alg_harness import SCSCF, UE, UE_B, Book, answer, register, request, settings, wire
from tests.playbook.test_alg_proxy import BOB, from_called, from_caller

from imsalg.core.media_events import GatewayDown
from imswire.h248 import iq
from imswire.sip.message import Request, Response

PRINT = "AA:" * 31 + "AA"

SECURE_OFFER = f"""
    v=0
    o=- 1 1 IN IP4 10.0.0.7
    s=-
    c=IN IP4 10.0.0.7
    t=0 0
    m=message 7000 TCP/TLS/MSRP *
    a=3ge2ae:requested
    a=accept-types:text/plain
    a=path:msrps://10.0.0.7:7000/s1;tcp
    a=msrp-cema
    a=setup:actpass
    a=fingerprint:SHA-256 {PRINT}
"""

PLAIN_OFFER = """
    v=0
    o=- 1 1 IN IP4 10.9.0.50
    s=-
    c=IN IP4 10.9.0.50
    t=0 0
    m=message 8000 TCP/MSRP *
    a=accept-types:text/plain
    a=path:msrp://10.9.0.50:8000/t1;tcp
    a=msrp-cema
    a=setup:actpass
"""

PLAIN_ANSWER = PLAIN_OFFER.replace("a=setup:actpass", "a=setup:active")
SECURE_ANSWER = SECURE_OFFER.replace("a=setup:actpass", "a=setup:active").replace("    a=3ge2ae:requested\n", "")


def originate(book: Book, gateway: Gateway) -> Request:
    """A secured INVITE of alice, reserved; returns what went to the core."""
    register(book)
    book.receive(UE, request(), SECURE_OFFER)
    assert [m.start_line for m, _ in book.out()] == ["SIP/2.0 100 Trying"], "the offer waits for the gateway"
    gateway.answer()
    return book.request("INVITE")


def establish(book: Book, gateway: Gateway) -> tuple[Request, Response]:
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    assert book.out() == [], "the answer waits for the gateway"
    gateway.answer()
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    assert book.request("ACK")
    return invite, ok


def test_originating_walk() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    offered = invite.body.decode()
    assert "TCP/MSRP" in offered
    assert "10.5.0.1" in offered
    assert "3ge2ae" not in offered
    assert "fingerprint" not in offered
    answered = ok.body.decode()
    assert "TCP/TLS/MSRP" in answered
    assert "a=fingerprint:SHA-256 00:01:02" in answered
    assert int(ok.headers.get("content-length") or 0) == len(ok.body)
    assert gateway.seen == ["Add", "Add", "Modify", "Modify"]

    book.receive(UE, from_caller("BYE", 2, ok))
    assert gateway.answer()[0].name == "Subtract"
    bye = book.request("BYE")
    book.feed(wire(answer(bye, 200), SCSCF))
    assert book.response(200)
    assert book.engine.gauges["calls"] == 0
    assert book.media.calls == {}


def test_terminating_walk() -> None:
    book = Book()
    gateway = Gateway(book)
    path = register(book, "bob", UE_B)
    book.receive(SCSCF, request("INVITE", f"Route: {path}", uri="sip:bob@10.0.0.8:5070", flow=SCSCF), PLAIN_OFFER)
    book.out()
    gateway.answer()
    invite = book.request("INVITE")
    offered = invite.body.decode()
    assert "TCP/TLS/MSRP" in offered
    assert "a=3ge2ae:applied" in offered
    assert "a=fingerprint:SHA-256 00:01" in offered
    reply = answer(invite, 200, "Contact: <sip:bob@10.0.0.8:5070>", body=SECURE_ANSWER)
    book.feed(wire(reply, UE_B))
    gateway.answer()
    ok = book.response(200)
    assert "TCP/MSRP" in ok.body.decode()
    assert "fingerprint" not in ok.body.decode()


def test_a_repeated_2xx_while_held_and_after_gives_the_same_answer_once() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    reply = answer(invite, 200, BOB, body=PLAIN_ANSWER)
    book.feed(wire(reply, SCSCF))
    book.feed(wire(reply, SCSCF))
    assert book.out() == []
    gateway.answer()
    first = book.response(200)
    book.feed(wire(reply, SCSCF))
    assert book.response(200).to_bytes() == first.to_bytes()
    assert gateway.seen.count("Modify") == 2


def test_ringing_passes_while_nothing_is_held_and_waits_behind_what_is() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    assert book.response(180)
    book.feed(wire(answer(invite, 183, BOB, "Require: 100rel", "RSeq: 1", body=PLAIN_ANSWER), SCSCF))
    book.feed(wire(answer(invite, 200, BOB), SCSCF))
    assert book.out() == []
    gateway.answer()
    assert [m.start_line for m, _ in book.out()] == ["SIP/2.0 183 Session Progress", "SIP/2.0 200 OK"]


def test_cancel_while_reserving() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request(), SECURE_OFFER)
    book.out()
    book.receive(UE, request("CANCEL"))
    assert [m.start_line for m, _ in book.out()] == ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]
    assert book.engine.gauges["calls"] == 0
    gateway.answer()
    assert gateway.answer()[0].name == "Subtract", "what was reserved too late is given back"
    assert book.out() == []
    assert book.media.calls == {}


def test_a_failure_while_the_early_answer_is_held() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 183, BOB, "Require: 100rel", "RSeq: 1", body=PLAIN_ANSWER), SCSCF))
    book.out()
    book.feed(wire(answer(invite, 486), SCSCF))
    assert [m.start_line for m, _ in book.out()][-1] == "SIP/2.0 486 Busy Here"
    assert book.engine.gauges["calls"] == 0


def test_no_gateway_is_503_with_retry_after() -> None:
    book = Book()
    register(book)
    book.receive(UE, request(), SECURE_OFFER)
    refused = book.response(503)
    assert refused.headers.get("retry-after") == "10"
    assert (refused.headers.get("warning") or "").startswith("399 pcscf.example.net")
    assert book.engine.gauges["calls"] == 0


def test_a_gateway_without_room_is_503() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request(), SECURE_OFFER)
    book.out()
    gateway.answer(error=510)
    assert book.response(503).headers.get("retry-after") == "10"


@pytest.mark.parametrize("body", ["v=0\nm=message", "rubbish", SECURE_OFFER.replace(f"SHA-256 {PRINT}", "SHA-256 A")])
def test_broken_sdp_in_an_offer_is_488(body: str) -> None:
    book = Book()
    Gateway(book)
    register(book)
    book.receive(UE, request(), body)
    assert book.response(488).headers.get("warning")
    assert book.engine.gauges["calls"] == 0


def test_broken_sdp_in_an_answer_releases_the_call() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, body="v=0\nm=message"), SCSCF))
    final, ack, bye = (message for message, _ in book.out())
    assert isinstance(final, Response)
    assert final.status in (488, 500)
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    assert (ack.method, bye.method) == ("ACK", "BYE")
    assert ack.uri == bye.uri == "sip:bob@10.9.0.50:5060"
    assert (ack.cseq.number, bye.cseq.number) == (1, 2)
    assert bye.to_tag == "callee"
    assert (bye.headers.get("reason") or "").startswith(f"SIP;cause={final.status}")
    gateway.take()
    assert gateway.seen[-1] == "Subtract"
    assert book.engine.gauges["calls"] == 0


def test_fingerprint_mismatch_ends_an_established_call_on_both_sides() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, _ = establish(book, gateway)
    failure = iq.MediaFailure("fingerprint-mismatch", "sha-256 differs")
    gateway.notify(1, "T1-1", failure)
    (to_callee, core), (to_caller, access) = book.out()
    assert isinstance(to_callee, Request)
    assert isinstance(to_caller, Request)
    assert core.remote == ("10.9.0.50", 5060)
    assert access == UE
    assert to_callee.uri == "sip:bob@10.9.0.50:5060"
    assert (to_callee.from_tag, to_callee.to_tag, to_callee.cseq.number) == ("al", "callee", 2)
    assert to_caller.uri == "sip:alice@10.0.0.7:5070"
    assert (to_caller.from_tag, to_caller.to_tag, to_caller.cseq.number) == ("callee", "al", 1)
    for bye in (to_callee, to_caller):
        assert (bye.headers.get("reason") or "").startswith("SIP;cause=488;text=")
        assert bye.call_id == invite.call_id
        assert "route" not in bye.headers
    book.feed(wire(answer(to_callee, 200), SCSCF))
    book.feed(wire(answer(to_caller, 200), UE))
    assert book.engine.gauges["calls"] == 0


def test_a_release_before_the_ack_waits_with_the_callers_bye() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    gateway.answer()
    ok = book.response(200)
    gateway.notify(1, "T1-1", iq.MediaFailure("tls-failed", "alert"))
    assert book.request("BYE").uri == "sip:bob@10.9.0.50:5060"
    book.receive(UE, from_caller("ACK", 1, ok))
    ack, bye = (m for m, _ in book.out())
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    assert (ack.method, bye.method, bye.uri) == ("ACK", "BYE", "sip:alice@10.0.0.7:5070")


def test_a_gateway_lost_while_early_cancels_and_answers() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    book.out()
    book.feed(GatewayDown(1, "connection reset"))
    book.advance(book.settings.gateway_timers.reconnect_grace + 0.1)
    final, cancel = (message for message, _ in book.out()[:2])
    assert isinstance(final, Response)
    assert final.status >= 500
    assert isinstance(cancel, Request)
    assert cancel.method == "CANCEL"
    assert (cancel.headers.get("reason") or "").startswith("SIP;cause=")
    # The 2xx that crossed the CANCEL must not leave the called party in a call.
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    assert [m.method for m, _ in book.out() if isinstance(m, Request)] == ["ACK", "BYE"]
    book.advance(70)
    assert book.engine.gauges["forwards"] == 0


def test_a_reoffer_without_change_allocates_nothing_and_a_removed_line_subtracts() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    gateway.seen.clear()
    book.receive(UE, from_caller("INVITE", 2, ok), SECURE_OFFER)
    again = book.request("INVITE")
    assert gateway.seen == []
    book.feed(wire(answer(again, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    gateway.take()
    assert "Add" not in gateway.seen
    while gateway.requests:
        gateway.answer()
    assert book.response(200)
    book.receive(UE, from_caller("ACK", 2, ok))
    book.out()
    book.receive(UE, from_caller("INVITE", 3, ok), SECURE_OFFER.replace("message 7000", "message 0"))
    gateway.take()
    while gateway.requests:
        gateway.answer()
    removal = book.request("INVITE")
    book.feed(wire(answer(removal, 200, BOB, body=PLAIN_ANSWER.replace("message 8000", "message 0")), SCSCF))
    gateway.take()
    while gateway.requests:
        gateway.answer()
    assert book.response(200)
    assert "Subtract" in gateway.seen
    assert book.engine.gauges["calls"] == 1


def test_a_refused_answer_to_a_reinvite_releases_both_sides() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, _ = establish(book, gateway)
    book.receive(SCSCF, from_called("INVITE", 1, invite), PLAIN_OFFER)
    gateway.take()
    while gateway.requests:
        gateway.answer()
    again = book.request("INVITE")
    book.feed(wire(answer(again, 200, "Contact: <sip:alice@10.0.0.7:5070>", body="v=0\nm=x"), UE))
    methods = [(m.method, f.realm) for m, f in book.out() if isinstance(m, Request)]
    assert methods == [("ACK", "access"), ("BYE", "access"), ("BYE", "core")]


def test_always_secures_even_a_ue_that_never_agreed() -> None:
    book = Book(settings(policy={"msrp": "always"}, access={"allow_unregistered": True}))
    gateway = Gateway(book)
    book.receive(UE, request(), SECURE_OFFER)
    gateway.answer()
    assert b"TCP/MSRP" in book.request("INVITE").body


@pytest.mark.parametrize("record_route", [False, True])
@pytest.mark.parametrize("check", ["replace", "reject"])
def test_a_ue_in_a_call_cannot_choose_where_its_requests_go(check: str, record_route: bool) -> None:
    """TS 24.229 5.2.6.3: Route of later requests is that of the dialog, or it is replaced or refused."""
    book = Book(settings(access={"route_check": check}))
    gateway = Gateway(book)
    invite = originate(book, gateway)
    reply = answer(invite, 200, BOB, body=PLAIN_ANSWER)
    if record_route:
        reply = reply.replace(b"Record-Route:", b"Record-Route: <sip:10.9.0.77;lr>\r\nRecord-Route:", 1)
    book.feed(wire(reply, SCSCF))
    gateway.answer()
    ok = book.response(200)
    hop = "10.9.0.77" if record_route else "10.9.0.50"
    for method, number in (("ACK", 1), ("INFO", 2)):
        book.receive(UE, from_caller(method, number, ok))
        ((passed, flow),) = book.out()
        assert (passed.cseq.method, flow.remote[0]) == (method, hop)
    astray = from_caller("INFO", 3, ok).strip() + "\nRoute: <sip:10.88.88.88:2944;lr>"
    book.receive(UE, astray)
    if check == "reject":
        assert book.response(400)
    else:
        ((passed, flow),) = book.out()
        assert flow.remote[0] == hop
        assert "10.88.88.88" not in str(passed.headers.get_all("route"))


def test_a_bye_that_was_challenged_is_repeated_and_other_dialogs_are_unknown() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("INFO", 2, ok).replace("tag=callee", "tag=nobody"))
    assert book.response(481)
    book.receive(UE, from_caller("BYE", 3, ok))
    gateway.answer()
    book.feed(wire(answer(book.request("BYE"), 407), SCSCF))
    assert book.response(407)
    book.receive(UE, from_caller("BYE", 4, ok))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    assert book.response(200)
    assert book.engine.gauges["calls"] == 0


def test_the_trace_joins_sip_and_the_gateway() -> None:
    book = Book()
    gateway = Gateway(book)
    establish(book, gateway)
    kinds = {trace.kind for trace in book.traces}
    assert {"sip", "h248", "bind"} <= kinds
    first = next(t.fields for t in book.traces if t.kind == "sip" and "INVITE sip" in str(t.fields["summary"]))
    assert first["dir"] == "in"
    assert first["user"] == "alice"
    assert first["sdp"] == [
        "c=IP4 10.0.0.7 m=7000 TCP/TLS/MSRP",
        "3ge2ae:requested",
        "path:msrps",
        "msrp-cema",
        "setup:actpass",
        "fingerprint:SHA-256 AA:AA..",
    ]
