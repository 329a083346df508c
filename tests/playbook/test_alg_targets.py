"""Next hops by name, targets that fail, and requests too large for UDP (RFC 3263, RFC 2782, RFC 3261 18.1.1)."""

import pytest
from tests.playbook.alg_harness import (
    AUDIO,
    LISTENERS,
    SCSCF,
    UE,
    UE_B,
    Book,
    answer,
    register,
    request,
    settings,
    wire,
)

from imsalg.core.events import FlowClosed, Resolve, Resolved, Unreachable
from imsalg.core.routing import Listener
from imswire.sip.flow import Flow, Transport
from imswire.sip.location import Target, in_order
from imswire.sip.message import Request

TCP_CORE = Listener("core", "tcp", "10.9.0.1", 5060)
ONE = Flow("udp", "core", ("10.9.0.1", 5060), ("10.9.0.11", 5060))
TWO = Flow("udp", "core", ("10.9.0.1", 5060), ("10.9.0.12", 5070))


def named(**changes: object) -> Book:
    """An edge whose core is ``sip:scscf.example.net`` and whose UEs need no registration."""
    core = {"next_hop": "sip:scscf.example.net", "datagram_limit": 0}
    return Book(settings(core=core, access={"allow_unregistered": True}, **changes), listeners=(*LISTENERS, TCP_CORE))


def asked(book: Book) -> list[Resolve]:
    """What is to be looked up, since the last call."""
    found, book.other = [one for one in book.other if isinstance(one, Resolve)], []
    return found


def target(address: str, port: int = 5060, transport: Transport = "udp", priority: int = 0, weight: int = 0) -> Target:
    return Target(transport, (address,), port, 0, priority, weight)


PAIR = (target("10.9.0.12", 5070, priority=20), target("10.9.0.11", priority=10))


def resolved(book: Book, *targets: Target, ttl: float = 300.0, error: str = "", unsure: bool = False) -> None:
    """The answer to the one question that was asked."""
    (question,) = asked(book)
    book.feed(Resolved(question.hop, targets, ttl, error, unsure=unsure))


def sent(book: Book, method: str) -> tuple[Request, Flow]:
    """The one request of that method sent since the last look."""
    found = [(m, flow) for m, flow in book.out() if isinstance(m, Request) and m.method == method]
    assert len({m.via.branch for m, _ in found}) == 1, found
    return found[0]


def test_requests_wait_for_a_name_and_go_together() -> None:
    book = named()
    book.receive(UE, request("OPTIONS", call_id="o-1", branch="o1"))
    book.receive(UE, request("MESSAGE", call_id="m-1", branch="m1"))
    (question,) = asked(book)
    assert (question.hop.host, question.hop.port, question.hop.transport) == ("scscf.example.net", 0, "")
    assert question.offers == {("udp", False), ("tcp", False)}
    assert book.lines() == []
    book.feed(Resolved(question.hop, PAIR, 300.0))
    out = book.out()
    assert [(m.method, flow) for m, flow in out if isinstance(m, Request)] == [("OPTIONS", ONE), ("MESSAGE", ONE)]
    book.advance(299)
    book.out()
    book.receive(UE, request("OPTIONS", call_id="o-2", branch="o2"))
    assert sent(book, "OPTIONS")[1] == ONE
    assert asked(book) == []
    book.advance(2)
    book.receive(UE, request("OPTIONS", call_id="o-3", branch="o3"))
    assert len(asked(book)) == 1


def test_a_numeric_next_hop_asks_nothing() -> None:
    book = Book()
    register(book)
    book.receive(UE, request(), AUDIO)
    assert asked(book) == []
    assert sent(book, "INVITE")[1] == SCSCF


def test_a_silent_target_is_left_for_the_next_and_ended_when_it_wakes() -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    resolved(book, *PAIR)
    first, flow = sent(book, "INVITE")
    assert flow == ONE
    book.advance(4)
    tries = [(m, flow) for m, flow in book.out() if isinstance(m, Request)]
    second, flow = tries[-1]
    assert flow == TWO
    assert second.via.branch != first.via.branch
    assert second.headers.get_all("record-route") == first.headers.get_all("record-route")
    book.feed(wire(answer(first, 180), ONE))
    assert sent(book, "CANCEL")[1] == ONE
    book.feed(wire(answer(first, 200, "Contact: <sip:bob@10.9.0.99>", tag="late"), ONE))
    ended = [m.method for m, _ in book.out() if isinstance(m, Request)]
    assert ended == ["ACK", "BYE"]
    book.feed(wire(answer(second, 200, "Contact: <sip:bob@10.9.0.98>", body=AUDIO), TWO))
    assert book.response(200).to_tag == "callee"
    book.receive(UE, request(call_id="call-2", branch="b2"), AUDIO)
    assert sent(book, "INVITE")[1] == TWO  # the silent one comes last for a while
    book.advance(61)
    book.out()
    book.receive(UE, request(call_id="call-3", branch="b3"), AUDIO)
    assert sent(book, "INVITE")[1] == ONE


def test_a_target_that_says_trying_is_waited_for() -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    resolved(book, *PAIR)
    first, _ = sent(book, "INVITE")
    book.feed(wire(answer(first, 100), ONE))
    book.advance(30)
    assert book.lines() == []


def test_503_goes_to_the_next_target_and_to_the_caller_as_500() -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    resolved(book, *PAIR)
    first, _ = sent(book, "INVITE")
    book.feed(wire(answer(first, 503, "Retry-After: 120"), ONE))
    out = [(m, flow) for m, flow in book.out() if isinstance(m, Request)]
    assert [(m.method, flow) for m, flow in out] == [("ACK", ONE), ("INVITE", TWO)]
    book.feed(wire(answer(out[1][0], 503), TWO))
    assert book.response(500).reason == "Server Internal Error"
    book.advance(100)
    book.out()
    book.receive(UE, request("OPTIONS", call_id="o", branch="o"))
    assert sent(book, "OPTIONS")[1] == TWO


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE"])
def test_what_the_network_reports_counts_only_with_our_branch(method: str) -> None:
    book = named()
    book.receive(UE, request(method))
    resolved(book, *PAIR)
    first, _ = sent(book, method)
    branch = first.via.branch or ""
    book.feed(Unreachable(ONE, "z9hG4bK-guess", method))
    book.feed(Unreachable(TWO, branch, method))
    assert book.lines() == []
    book.feed(Unreachable(ONE, branch, method))
    second, flow = sent(book, method)
    assert flow == TWO
    book.feed(Unreachable(TWO, second.via.branch or "", method))
    assert book.response(503)


def test_a_dead_core_by_address_is_503_at_once() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE"))
    first, _ = sent(book, "MESSAGE")
    book.feed(Unreachable(SCSCF, first.via.branch or "", "MESSAGE", "connection refused"))
    assert book.response(503)


@pytest.mark.parametrize(("unsure", "status", "kept"), [(False, 502, 30), (True, 504, 5)])
def test_a_name_that_leads_nowhere_is_answered_and_remembered(unsure: bool, status: int, kept: int) -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    resolved(book, error="no such name", unsure=unsure)
    assert "scscf.example.net: no such name" in (book.response(status).headers.get("warning") or "")
    assert book.engine.gauges["calls"] == 0
    book.receive(UE, request(call_id="call-2", branch="b2"), AUDIO)
    assert book.response(status)
    assert asked(book) == []
    assert book.engine.gauges["calls"] == 0
    book.advance(kept + 1)
    book.receive(UE, request("REGISTER", call_id="r", branch="r"))
    assert len(asked(book)) == 1


def test_cancel_while_the_name_is_looked_up() -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    (question,) = asked(book)
    book.out()
    book.receive(UE, request("CANCEL"))
    assert [m.start_line for m, _ in book.out()] == ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]
    book.feed(Resolved(question.hop, PAIR, 300.0))
    assert book.lines() == []
    assert book.engine.gauges["calls"] == 0


def test_too_many_searches_are_503() -> None:
    book = Book(settings(dns={"searches": 1}))
    register(book, "alice", UE, "Service-Route: <sip:orig@one.example.net;lr>")
    register(book, "bob", UE_B, "Service-Route: <sip:orig@two.example.net;lr>")
    book.receive(UE, request(), AUDIO)
    (question,) = asked(book)
    assert question.hop.host == "one.example.net"
    book.out()
    book.receive(UE_B, request(from_="<sip:bob@example.net>;tag=b", call_id="c-2", branch="b2", flow=UE_B), AUDIO)
    assert book.response(503).headers.get("retry-after")
    assert asked(book) == []


def test_the_path_names_the_listener_that_is_used_in_the_end() -> None:
    book = named()
    book.receive(UE, request("REGISTER", uri="sip:example.net"))
    resolved(book, target("10.9.0.13", transport="tcp"))
    register_on, flow = sent(book, "REGISTER")
    assert flow.transport == "tcp"
    assert (register_on.headers.get("path") or "").endswith("@10.9.0.1:5060;transport=tcp;lr>")


def test_the_record_route_names_the_listener_that_is_used_in_the_end() -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    resolved(book, target("10.9.0.11", transport="tcp"), target("10.9.0.12", priority=1))
    invite, flow = sent(book, "INVITE")
    assert flow.transport == "tcp"
    top = invite.headers.first_value("record-route") or ""
    assert top.endswith("@10.9.0.1:5060;transport=tcp;lr>")
    assert len(invite.headers.values("record-route")) == 2
    book.feed(FlowClosed(flow, "connection refused"))
    again, flow = sent(book, "INVITE")
    assert flow.transport == "udp"
    assert (again.headers.first_value("record-route") or "").endswith("@10.9.0.1:5060;lr>")
    assert len(again.headers.values("record-route")) == 2


def test_requests_in_a_dialog_follow_names_too_and_so_does_our_bye() -> None:
    book = named()
    book.receive(UE, request(), AUDIO)
    resolved(book, target("10.9.0.11"))
    invite, _ = sent(book, "INVITE")
    record = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    book.feed(
        wire(
            answer(invite, 200, "Contact: <sip:bob@as.example.org:7000;transport=tcp>", *record, body=AUDIO),
            ONE,
        )
    )
    ok = book.response(200)
    route = [f"Route: {value}" for value in reversed(ok.headers.values("record-route"))]
    to = f"<sip:bob@example.net>;tag={ok.to_tag}"
    uri = "sip:bob@as.example.org:7000;transport=tcp"
    book.receive(UE, request("ACK", *route, uri=uri, to=to, branch="k"))
    (question,) = asked(book)
    assert (question.hop.host, question.hop.port, question.hop.transport) == ("as.example.org", 7000, "tcp")
    book.feed(Resolved(question.hop, (target("10.9.0.20", 7000, "tcp"),), 60.0))
    acked, flow = sent(book, "ACK")
    assert (flow.transport, flow.remote) == ("tcp", ("10.9.0.20", 7000))
    assert acked.uri == uri
    book.advance(86_400)  # silent for too long: BYE both ways, ours to the name
    (question,) = asked(book)
    book.feed(Resolved(question.hop, (target("10.9.0.20", 7000, "tcp"),), 60.0))
    assert ("BYE", ("10.9.0.20", 7000)) in [(m.method, flow.remote) for m, flow in book.out() if isinstance(m, Request)]


def test_large_requests_go_over_tcp_and_back_to_udp_when_it_is_refused() -> None:
    book = Book(listeners=(*LISTENERS, TCP_CORE))
    register(book)
    padding = f"Subject: {'x' * 1200}"
    book.receive(UE, request("MESSAGE", branch="s"))
    assert sent(book, "MESSAGE")[1] == SCSCF
    book.receive(UE, request("MESSAGE", padding, branch="l1"))
    first, flow = sent(book, "MESSAGE")
    assert (flow.transport, flow.remote, first.via.transport) == ("tcp", SCSCF.remote, "TCP")
    book.feed(FlowClosed(flow, "connection refused"))
    second, flow = sent(book, "MESSAGE")
    assert (flow, second.via.transport) == (SCSCF, "UDP")
    assert second.via.branch != first.via.branch
    book.feed(wire(answer(second, 503), SCSCF))
    assert book.response(500)
    book.receive(UE, request("MESSAGE", padding, branch="l2"))
    assert sent(book, "MESSAGE")[1] == SCSCF
    book.advance(61)
    book.out()
    book.receive(UE, request("MESSAGE", padding, branch="l3"))
    third, flow = sent(book, "MESSAGE")
    assert flow.transport == "tcp"
    book.feed(wire(answer(third, 200), flow))
    assert book.response(200)


def test_a_503_over_tcp_is_not_asked_again_over_udp() -> None:
    book = Book(listeners=(*LISTENERS, TCP_CORE))
    register(book)
    book.receive(UE, request("MESSAGE", f"Subject: {'x' * 1200}"))
    first, flow = sent(book, "MESSAGE")
    book.feed(wire(answer(first, 503), flow))
    assert book.response(500)


def test_the_order_of_rfc_2782() -> None:
    servers = [target("10.0.0.1", weight=0), target("10.0.0.2", weight=3), target("10.0.0.3", weight=1)]
    first: dict[str, int] = {}
    for number in range(5):
        top = in_order([*servers, target("10.0.0.9", priority=1)], lambda most, n=number: min(n, most))  # type: ignore[misc]
        assert top[-1][1] == "10.0.0.9"
        assert len(top) == 4
        first[top[0][1]] = first.get(top[0][1], 0) + 1
    assert first == {"10.0.0.1": 1, "10.0.0.3": 1, "10.0.0.2": 3}
    both = in_order([Target("udp", ("10.0.0.1", "10.0.0.2"), 5060), target("10.0.0.3", priority=1)], lambda _: 0)
    assert [address for _, address, _ in both] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
