"""The P-CSCF as a stateful proxy: routing both ways, dialogs, CANCEL, timers, and what may cross the trust boundary."""

import pytest
from tests.playbook.alg_harness import (
    ACCESS,
    AUDIO,
    SCSCF,
    UE,
    UE_B,
    Book,
    answer,
    register,
    request,
    settings,
    sip,
    wire,
)

from imsalg.core.events import BadMessageIn
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, parse

BOB = "Contact: <sip:bob@10.9.0.50:5060>"


def originate(book: Book, *headers: str, body: str = AUDIO) -> Request:
    """A registered UE's INVITE; returns what went to the core."""
    register(book)
    book.receive(UE, request("INVITE", *headers), body)
    return book.request("INVITE")


def establish(book: Book) -> tuple[Request, Response]:
    """Originate, answer 200, ACK; returns the INVITE at the core and the 200 at the UE."""
    invite = originate(book)
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    assert book.request("ACK")
    return invite, ok


def from_caller(method: str, number: int, ok: Response, *headers: str, branch: str = "") -> str:
    """An in-dialog request of the caller with the route set of ``ok``."""
    routes = [f"Route: {value}" for value in reversed(ok.headers.values("record-route"))]
    return request(
        method,
        *routes,
        *headers,
        uri="sip:bob@10.9.0.50:5060",
        branch=branch or f"{method.lower()}{number}",
        number=number,
        to=str(ok.to),
    )


def from_called(method: str, number: int, invite: Request, *headers: str, branch: str = "") -> str:
    """An in-dialog request of the called party with the route set of the INVITE that it got."""
    routes = [f"Route: {value}" for value in invite.headers.values("record-route")]
    return request(
        method,
        *routes,
        *headers,
        uri="sip:alice@10.0.0.7:5070",
        branch=branch or f"c{method.lower()}{number}",
        number=number,
        from_="<sip:bob@example.net>;tag=callee",
        to="<sip:alice@example.net>;tag=al",
        flow=SCSCF,
    )


# --- initial requests -----------------------------------------------------------------------------------------------


def test_an_invite_gets_100_at_once_and_goes_to_the_core_with_two_record_routes() -> None:
    book = Book()
    register(book)
    book.receive(UE, request(), AUDIO)
    trying, invite = (message for message, _ in book.out())
    assert isinstance(trying, Response)
    assert trying.status == 100
    assert trying.to_tag is None
    assert isinstance(invite, Request)
    core, access = invite.headers.values("record-route")
    assert core.endswith("@10.9.0.1:5060;lr>")
    assert access.endswith("@10.0.0.1:5060;lr>")
    assert [via.rpartition(";branch")[0] for via in invite.headers.values("via")] == [
        "SIP/2.0/UDP 10.9.0.1:5060",
        "SIP/2.0/UDP 10.0.0.7:5070",
    ]
    assert invite.headers.get("max-forwards") == "69"
    assert invite.body == sip("INVITE sip:x SIP/2.0", AUDIO).partition(b"\r\n\r\n")[2]


def test_an_invite_of_a_stranger_is_403_unless_the_realm_allows_it() -> None:
    book = Book()
    book.receive(UE, request(), AUDIO)
    refused = book.response(403)
    assert refused.headers.get("warning") == '399 pcscf.example.net "not registered here"'
    book = Book(settings(access={"allow_unregistered": True}))
    book.receive(UE, request(), AUDIO)
    assert "p-asserted-identity" not in book.request("INVITE").headers


def test_the_asserted_identity_comes_from_the_binding() -> None:
    book = Book()
    associated = "P-Associated-URI: <sip:alice@example.net>, <tel:+15551234>"
    register(book, "alice", UE, associated)
    book.receive(UE, request("INVITE", "P-Asserted-Identity: <sip:boss@example.net>"), AUDIO)
    assert book.request("INVITE").headers.get_all("p-asserted-identity") == ["<sip:alice@example.net>"]
    book.receive(UE, request("MESSAGE", "P-Preferred-Identity: <tel:+15551234>", branch="m1", call_id="m"))
    message = book.request("MESSAGE")
    assert message.headers.get_all("p-asserted-identity") == ["<tel:+15551234>"]
    assert "p-preferred-identity" not in message.headers
    book.receive(UE, request("MESSAGE", "P-Preferred-Identity: <sip:boss@example.net>", branch="m2", call_id="m2"))
    assert book.request("MESSAGE").headers.get("p-asserted-identity") == "<sip:alice@example.net>"


def test_several_ues_behind_one_address_are_told_apart() -> None:
    book = Book()
    register(book, "alice")
    register(book, "carol")
    book.receive(UE, request("MESSAGE", from_="<sip:carol@example.net>;tag=c", branch="m1"))
    assert book.request("MESSAGE").headers.get("p-asserted-identity") == "<sip:carol@example.net>"


def test_the_route_of_the_registration_is_enforced() -> None:
    book = Book()
    register(book, "alice", UE, "Service-Route: <sip:orig@10.9.0.20:6000;lr>")
    book.receive(UE, request("MESSAGE", "Route: <sip:10.0.0.1;lr>, <sip:orig@10.9.0.20:6000;lr>", branch="m1"))
    (good, flow), *_ = book.out()
    assert good.headers.get_all("route") == ["<sip:orig@10.9.0.20:6000;lr>"]
    assert flow.remote == ("10.9.0.20", 6000)
    book.receive(UE, request("MESSAGE", "Route: <sip:elsewhere.example;lr>", branch="m2", call_id="m2"))
    (bad, flow), *_ = book.out()
    assert bad.headers.get_all("route") == ["<sip:orig@10.9.0.20:6000;lr>"]
    assert flow.remote == ("10.9.0.20", 6000)


def test_a_wrong_route_is_400_where_the_realm_says_so() -> None:
    book = Book(settings(access={"route_check": "reject"}))
    register(book, "alice", UE, "Service-Route: <sip:orig@10.9.0.20:6000;lr>")
    book.receive(UE, request("MESSAGE", "Route: <sip:elsewhere.example;lr>"))
    assert book.response(400)


def test_a_terminating_invite_follows_the_path_token() -> None:
    book = Book()
    path = register(book, "bob", UE_B)
    vector = "P-Charging-Vector: icid-value=1"
    book.receive(SCSCF, request("INVITE", f"Route: {path}", vector, uri="sip:bob@10.0.0.8:5070", flow=SCSCF), AUDIO)
    invite, flow = book.out()[-1]
    assert flow == UE_B
    assert isinstance(invite, Request)
    assert invite.uri == "sip:bob@10.0.0.8:5070"
    assert "route" not in invite.headers
    assert "p-charging-vector" not in invite.headers
    access, core = invite.headers.values("record-route")
    assert access.endswith("@10.0.0.1:5060;lr>")
    assert core.endswith("@10.9.0.1:5060;lr>")
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.0.0.8:5070>", body=AUDIO), UE_B))
    ok = book.response(200)
    assert ok.headers.get("p-asserted-identity") == "<sip:bob@example.net>"


@pytest.mark.parametrize(
    ("route", "uri", "status"),
    [
        ("<sip:pAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@10.9.0.1:5060;lr>", "sip:alice@10.0.0.7:5070", 403),
        ("<sip:rubbish@10.9.0.1:5060;lr>", "sip:alice@10.0.0.7:5070", 403),
        ("<sip:10.9.0.1:5060;lr>", "sip:nobody@10.0.0.77:5070", 404),
    ],
)
def test_forged_tokens_and_unknown_contacts(route: str, uri: str, status: int) -> None:
    book = Book()
    register(book)
    book.receive(SCSCF, request("INVITE", f"Route: {route}", uri=uri, flow=SCSCF), AUDIO)
    assert book.response(status)


def test_a_record_route_token_is_no_path() -> None:
    book = Book()
    invite = originate(book)
    token = invite.headers.values("record-route")[0]
    text = request("INVITE", f"Route: {token}", uri="sip:alice@10.0.0.7:5070", call_id="x", branch="x", flow=SCSCF)
    book.receive(SCSCF, text, AUDIO)
    assert book.response(403)


def test_hops_run_out_and_unknown_proxy_require() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE").replace("Max-Forwards: 70", "Max-Forwards: 0"))
    assert book.response(483)
    book.receive(UE, request("MESSAGE", "Proxy-Require: foo, sec-agree", branch="m2"))
    assert book.response(420).headers.get("unsupported") == "foo"
    book.receive(UE, request("MESSAGE", "Require: foo, mediasec", "Security-Verify: msrp-tls;mediasec", branch="m3"))
    sent = book.request("MESSAGE")
    assert sent.headers.get("require") == "foo"
    assert "security-verify" not in sent.headers


def test_in_dialog_methods_without_a_dialog_are_481() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("BYE"))
    assert book.response(481)
    book.receive(UE, request("INFO", to="<sip:bob@example.net>;tag=x", branch="i"))
    assert book.response(481)


# --- the walk -------------------------------------------------------------------------------------------------------


def test_a_whole_call_leaves_nothing_behind() -> None:
    book = Book()
    _, ok = establish(book)
    book.receive(UE, from_caller("BYE", 2, ok))
    bye = book.request("BYE")
    assert bye.uri == "sip:bob@10.9.0.50:5060"
    assert "route" not in bye.headers
    book.feed(wire(answer(bye, 200), SCSCF))
    assert book.response(200)
    assert book.engine.gauges["calls"] == 0
    book.advance(64)
    assert book.engine.gauges == {"calls": 0, "bindings": 1, "forwards": 0, "held": 0}


def test_the_called_party_hangs_up() -> None:
    book = Book()
    invite, _ = establish(book)
    book.receive(SCSCF, from_called("BYE", 1, invite))
    (bye, flow), *_ = book.out()
    assert flow == UE
    assert isinstance(bye, Request)
    assert bye.uri == "sip:alice@10.0.0.7:5070"
    book.feed(wire(answer(bye, 200), UE))
    assert book.response(200)
    assert book.engine.gauges["calls"] == 0


def test_in_dialog_routes_beyond_us_are_kept() -> None:
    book = Book()
    invite = originate(book)
    reply = parse(answer(invite, 200, BOB, body=AUDIO))
    reply.headers.prepend("Record-Route", "<sip:as@10.9.0.9:5060;lr>")
    book.feed(wire(reply.to_bytes(), SCSCF))
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    ((ack, flow),) = book.out()
    assert ack.headers.get_all("route") == ["<sip:as@10.9.0.9:5060;lr>"]
    assert flow.remote == ("10.9.0.9", 5060)


def test_a_retransmitted_2xx_goes_through_again_and_its_ack_too() -> None:
    book = Book()
    invite = originate(book)
    reply = answer(invite, 200, BOB, body=AUDIO)
    book.feed(wire(reply, SCSCF))
    first = book.response(200)
    book.feed(wire(reply, SCSCF))
    assert book.response(200).to_bytes() == first.to_bytes()
    for branch in ("k1", "k1"):
        book.receive(UE, from_caller("ACK", 1, first, branch=branch))
        assert book.request("ACK")


def test_a_reinvite_and_an_info_pass_both_ways() -> None:
    book = Book()
    invite, ok = establish(book)
    book.receive(UE, from_caller("INVITE", 2, ok), AUDIO)
    again = book.request("INVITE")
    assert "record-route" not in again.headers
    book.feed(wire(answer(again, 200, BOB, body=AUDIO), SCSCF))
    assert book.response(200)
    book.receive(UE, from_caller("ACK", 2, ok))
    assert book.request("ACK")
    book.receive(SCSCF, from_called("INFO", 1, invite))
    info = book.request("INFO")
    book.feed(wire(answer(info, 200), UE))
    assert book.response(200)
    assert book.engine.gauges["calls"] == 1


def test_a_refused_reinvite_leaves_the_call() -> None:
    book = Book()
    _, ok = establish(book)
    book.receive(UE, from_caller("INVITE", 2, ok), AUDIO)
    again = book.request("INVITE")
    book.feed(wire(answer(again, 488), SCSCF))
    kinds = [message.start_line for message, _ in book.out()]
    assert kinds == [f"ACK {again.uri} SIP/2.0", "SIP/2.0 488 Not Acceptable Here"]
    assert book.engine.gauges["calls"] == 1


def test_a_failure_is_acked_here_and_forwarded() -> None:
    book = Book()
    invite = originate(book)
    book.feed(wire(answer(invite, 486), SCSCF))
    (ack, flow), (busy, _) = book.out()
    assert isinstance(ack, Request)
    assert ack.method == "ACK"
    assert ack.via.branch == invite.via.branch
    assert flow.realm == "core"
    assert isinstance(busy, Response)
    assert busy.status == 486
    book.receive(UE, request("ACK", to=str(busy.to)))
    assert book.out() == []
    assert book.engine.gauges["calls"] == 0


def test_early_dialogs_of_a_fork_pass_as_legs() -> None:
    book = Book()
    invite = originate(book)
    for tag in ("one", "two", "three"):
        book.feed(wire(answer(invite, 180, BOB, tag=tag), SCSCF))
        assert book.response(180).to_tag == tag
    book.feed(wire(answer(invite, 200, BOB, tag="two", body=AUDIO), SCSCF))
    assert book.response(200).to_tag == "two"


def test_legs_are_bounded_and_a_2xx_still_gets_through() -> None:
    book = Book(settings(limits={"legs": 2}))
    invite = originate(book)
    for tag in ("one", "two", "three"):
        book.feed(wire(answer(invite, 180, BOB, tag=tag), SCSCF))
    assert [m.to_tag for m, _ in book.out()] == ["one", "two"]
    for tag in ("four", "five"):
        book.feed(wire(answer(invite, 200, BOB, tag=tag), SCSCF))
        assert book.response(200).to_tag == tag
    book.feed(wire(answer(invite, 200, BOB, tag="six"), SCSCF))
    assert [m.method for m, _ in book.out() if isinstance(m, Request)] == ["ACK", "BYE"]


def test_cancel_goes_hop_by_hop() -> None:
    book = Book()
    invite = originate(book)
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    book.out()
    book.receive(UE, request("CANCEL", 'Reason: SIP;cause=200;text="elsewhere"'))
    (ok, _), (cancel, flow) = book.out()
    assert isinstance(ok, Response)
    assert ok.status == 200
    assert isinstance(cancel, Request)
    assert cancel.method == "CANCEL"
    assert cancel.via.branch == invite.via.branch
    assert cancel.headers.get("reason") == 'SIP;cause=200;text="elsewhere"'
    assert flow == book_flow_to_core()
    book.feed(wire(answer(cancel, 200), SCSCF))
    book.feed(wire(answer(invite, 487), SCSCF))
    assert [m.start_line for m, _ in book.out()] == [f"ACK {invite.uri} SIP/2.0", "SIP/2.0 487 Request Terminated"]
    assert book.engine.gauges["calls"] == 0


def book_flow_to_core() -> Flow:
    return Flow("udp", "core", ("10.9.0.1", 5060), ("10.9.0.9", 5060))


def test_nobody_answers() -> None:
    book = Book()
    originate(book)
    book.advance(33)
    assert book.response(408)
    assert book.engine.gauges["calls"] == 0


def test_timer_c_cancels_an_invite_that_rings_for_ever() -> None:
    book = Book()
    invite = originate(book)
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    book.out()
    book.advance(186)
    assert book.request("CANCEL")
    book.feed(wire(answer(invite, 487), SCSCF))
    assert book.response(487)


def test_a_spiral_makes_two_calls_that_do_not_mix() -> None:
    book = Book()
    path = register(book, "bob", UE_B)
    first = originate(book)
    back = parse(first.to_bytes())
    assert isinstance(back, Request)
    back.uri = "sip:bob@10.0.0.8:5070"
    back.headers.prepend("Via", "SIP/2.0/UDP 10.9.0.9:5060;branch=z9hG4bKcore1")
    back.headers.prepend("Route", path)
    book.feed(wire(back.to_bytes(), SCSCF))
    second, flow = book.out()[-1]
    assert flow == UE_B
    assert isinstance(second, Request)
    assert book.engine.gauges["calls"] == 2
    assert len(second.headers.values("record-route")) == 4

    book.feed(wire(answer(second, 200, "Contact: <sip:bob@10.0.0.8:5070>", body=AUDIO), UE_B))
    at_core = book.response(200)
    at_core.headers.remove_first_value("via")
    book.feed(wire(at_core.to_bytes(), SCSCF))
    ok = book.response(200)

    book.receive(UE, from_caller("BYE", 2, ok).replace("sip:bob@10.9.0.50:5060", "sip:bob@10.0.0.8:5070"))
    (bye, towards), *_ = book.out()
    assert towards.remote == ("10.9.0.1", 5060), "the core does not record-route: the next hop is this node again"
    looped = Flow("udp", "core", ("10.9.0.1", 5060), ("10.9.0.1", 5060))
    book.feed(wire(bye.to_bytes(), looped))
    (bye, towards), *_ = book.out()
    assert towards == UE_B
    assert "route" not in bye.headers


def test_dialogs_that_are_no_calls_are_routed_by_flow_tokens() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("SUBSCRIBE", "Event: reg", uri="sip:alice@example.net"))
    subscribe = book.request("SUBSCRIBE")
    routes = subscribe.headers.values("record-route")
    assert len(routes) == 2
    book.feed(wire(answer(subscribe, 200, "Contact: <sip:core@10.9.0.9>"), SCSCF))
    assert book.response(200)
    notify = request(
        "NOTIFY",
        *(f"Route: {route}" for route in routes),
        uri="sip:alice@10.0.0.7:5070",
        from_="<sip:alice@example.net>;tag=callee",
        to="<sip:alice@example.net>;tag=al",
        flow=SCSCF,
        branch="n1",
    )
    book.receive(SCSCF, notify)
    ((sent, flow),) = book.out()
    assert flow == UE
    assert "route" not in sent.headers
    forged = notify.replace("sip:y", "sip:yA").replace("n1", "n2")
    book.receive(SCSCF, forged)
    assert book.response(403)


def test_a_route_of_the_other_side_is_refused() -> None:
    book = Book()
    _, ok = establish(book)
    turned = request(
        "BYE",
        *(f"Route: {value}" for value in ok.headers.values("record-route")),
        uri="sip:bob@10.9.0.50",
        to=str(ok.to),
        number=2,
        branch="b9",
    )
    book.receive(UE, turned)
    assert book.response(403)
    assert book.engine.gauges["calls"] == 1


def test_a_strict_router_in_front_of_us_is_undone() -> None:
    book = Book()
    _, ok = establish(book)
    core, access = ok.headers.values("record-route")
    text = request(
        "INFO",
        f"Route: {core}",
        "Route: <sip:bob@10.9.0.50:5060>",
        uri=access.strip("<>"),
        to=str(ok.to),
        number=2,
        branch="i1",
    )
    book.receive(UE, text)
    info = book.request("INFO")
    assert info.uri == "sip:bob@10.9.0.50:5060"
    assert "route" not in info.headers


def test_a_ue_on_tcp_is_reached_over_its_connection() -> None:
    tcp = Flow("tcp", "access", ACCESS, ("10.0.0.7", 40100), 12)
    book = Book()
    register(book, "alice", tcp)
    book.receive(tcp, request("INVITE", flow=tcp), AUDIO)
    invite = book.request("INVITE")
    assert "10.0.0.1:5060;transport=tcp;lr" in invite.headers.values("record-route")[1]
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    ((ok, flow),) = book.out()
    assert flow == tcp
    assert isinstance(ok, Response)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_a_bad_message_is_answered_where_it_can_be() -> None:
    book = Book()
    with pytest.raises(BadMessage) as caught:
        parse(sip(request("MESSAGE").replace("MESSAGE sip", "MESSAGE  sip")))
    book.feed(BadMessageIn(caught.value, UE))
    refused = book.response(400)
    assert (refused.headers.get("warning") or "").startswith("399 pcscf.example.net")
    with pytest.raises(BadMessage) as caught:
        parse(b"rubbish\r\n\r\n")
    book.feed(BadMessageIn(caught.value, UE))
    assert book.out() == []
    assert book.engine.stats.bad_messages == 2


def test_too_many_transactions_are_503_without_state() -> None:
    book = Book(settings(limits={"transactions": 2}, access={"allow_unregistered": True}))
    book.receive(UE, request("MESSAGE"))
    book.out()
    book.receive(UE, request("MESSAGE", branch="m2"))
    assert book.response(503).headers.get("retry-after") == "10"


def test_unreadable_values_are_400() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE").replace("Max-Forwards: 70", "Max-Forwards: many"))
    assert book.response(400)
    book.receive(UE, request("MESSAGE", "P-Preferred-Identity: <<>", branch="m3"))
    assert book.response(400)
