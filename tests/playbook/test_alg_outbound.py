"""UEs that keep their flows open themselves (RFC 5626): Path, Flow-Timer, bindings by instance, flows that fail."""

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, Book, answer, request, wire
from tests.playbook.test_alg_agreement import TLS
from tests.playbook.test_alg_agreement import book as agreement_book
from tests.playbook.test_alg_proxy import BOB, from_called

from imsalg.core.events import FlowClosed
from imswire.sip.flow import Flow
from imswire.sip.message import Request

TCP = Flow("tcp", "access", ("10.0.0.1", 5060), ("10.0.0.7", 40_001), 1)
TCP_AGAIN = Flow("tcp", "access", ("10.0.0.1", 5060), ("10.0.0.7", 40_002), 2)
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id=1'


def register(
    book: Book,
    flow: Flow,
    *extra: str,
    branch: str = "r1",
    via: str = "",
    answered: str = "outbound",
    uri: str = "",
    user: str = "alice",
) -> str:
    """A REGISTER with outbound over ``flow``; returns the Path that went on. ``answered`` is Require in the 200."""
    host, port = flow.remote
    contact = f"<{uri or f'sip:alice@{host}:{port};transport=tcp;ob'}>;{INSTANCE}"
    book.receive(
        flow,
        f"""
        REGISTER sip:example.net SIP/2.0
        Via: SIP/2.0/TCP {host}:{port};branch=z9hG4bK{branch};rport
        {via}
        From: <sip:{user}@example.net>;tag=reg
        To: <sip:{user}@example.net>
        Call-ID: reg
        CSeq: 1 REGISTER
        Supported: path, outbound
        Contact: {contact}
        """,
    )
    sent = book.request("REGISTER")
    more = [f"Require: {answered}"] if answered else []
    book.feed(wire(answer(sent, 200, f"Contact: {contact};expires=600", *more, *extra), SCSCF))
    return sent.headers.get("path") or ""


def test_path_and_flow_timer_for_a_ue_with_outbound() -> None:
    book = Book()
    assert register(book, TCP).endswith(";lr;ob>")
    assert book.response(200).headers.get("flow-timer") == "120"


def test_nobody_else_is_told() -> None:
    book = Book()
    path = register(book, TCP, via="Via: SIP/2.0/UDP 10.5.5.5;branch=z9hG4bKb", answered="")
    assert path.endswith(";lr>")  # the UE is not the node before us (5.1)
    assert "flow-timer" not in book.response(200).headers


def test_udp_is_kept_open_more_often() -> None:
    book = Book()
    register(book, UE)
    assert book.response(200).headers.get("flow-timer") == "25"


def test_the_same_instance_over_a_new_connection_replaces_its_binding() -> None:
    book = Book()
    old = register(book, TCP)
    new = register(book, TCP_AGAIN, branch="r2")
    assert old != new
    assert book.engine.gauges["bindings"] == 1
    book.out()
    book.receive(
        SCSCF, request("INVITE", f"Route: {old}", uri="sip:alice@10.0.0.7:40001;transport=tcp;ob", flow=SCSCF), AUDIO
    )
    assert book.response(404)
    book.receive(
        SCSCF,
        request(
            "INVITE",
            f"Route: {new}",
            uri="sip:alice@10.0.0.7:40002;transport=tcp;ob",
            branch="i2",
            call_id="i2",
            flow=SCSCF,
        ),
        AUDIO,
    )
    assert [flow for message, flow in book.out() if message.start_line.startswith("INVITE")] == [TCP_AGAIN]


def test_a_call_follows_the_instance_to_its_new_connection() -> None:
    book = Book()
    register(book, TCP)
    book.out()
    book.receive(TCP, request(), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    book.out()
    book.feed(FlowClosed(TCP, "reset"))
    register(book, TCP_AGAIN, branch="r2")  # with another Contact
    book.out()
    book.receive(SCSCF, from_called("INFO", 2, invite))
    assert [(message.start_line.split()[0], flow) for message, flow in book.out()] == [("INFO", TCP_AGAIN)]


BEHIND = "sip:alice@192.168.1.2:5060"


def moved(port: int, host: str = "10.0.0.7") -> Flow:
    """Where a NAT shows alice from now on."""
    return Flow("udp", "access", UE.local, (host, port))


def in_call(book: Book, flow: Flow) -> Request:
    """alice calls over ``flow``; the INVITE as the core sees it."""
    book.out()
    book.receive(
        flow, request(flow=flow).replace(f"<sip:alice@{flow.remote[0]}:{flow.remote[1]}>", f"<{BEHIND}>"), AUDIO
    )
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    return invite


@pytest.mark.parametrize(
    ("to", "answered", "follows"),
    [
        (moved(6111), "outbound", True),
        (moved(6111), "", True),
        (moved(6111, "10.0.0.99"), "outbound", True),
        (moved(6111, "10.0.0.99"), "", False),  # perhaps another UE with the same Contact, behind another NAT
    ],
)
def test_a_call_over_udp_follows_its_ue_to_another_port(to: Flow, answered: str, follows: bool) -> None:
    book = Book()
    register(book, UE, uri=BEHIND, answered=answered)
    invite = in_call(book, UE)
    register(book, UE, branch="r2", uri=BEHIND, answered=answered)
    register(book, to, branch="r3", uri=BEHIND, answered=answered)
    book.out()
    book.receive(SCSCF, from_called("BYE", 2, invite))
    assert [(message.start_line.split()[0], flow) for message, flow in book.out()] == [("BYE", to if follows else UE)]


def test_a_call_over_udp_stays_where_somebody_else_is_registered_or_it_never_was() -> None:
    book = Book()
    register(book, UE, uri=BEHIND)
    invite = in_call(book, UE)
    register(book, UE, branch="b1", uri="sip:bob@192.168.1.2:5060", user="bob")
    register(book, moved(6111), branch="r2", uri=BEHIND)
    book.out()
    book.receive(SCSCF, from_called("BYE", 2, invite))
    assert [flow for _, flow in book.out()] == [UE], "the flow lives on"
    book = Book()
    register(book, UE, uri="sip:alice@10.0.0.7:5070")
    other = moved(5999)
    book.receive(other, request(flow=other).replace("10.0.0.7:5999>", "10.0.0.7:5070>"), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    register(book, UE, branch="r2", uri="sip:alice@10.0.0.7:5070")
    book.out()
    book.receive(SCSCF, from_called("BYE", 2, invite))
    assert [flow for _, flow in book.out()] == [other], "a port of the UE that it uses for this call"


def subscribed(book: Book, flow: Flow, uri: str) -> str:
    """alice subscribes over ``flow``; what a NOTIFY names as Route."""
    book.out()
    text = request("SUBSCRIBE", "Event: presence", flow=flow)
    book.receive(flow, text.replace(f"<sip:alice@{flow.remote[0]}:{flow.remote[1]}>", f"<{uri}>"))
    sent = book.request("SUBSCRIBE")
    book.feed(wire(answer(sent, 200, "Contact: <sip:n@10.9.0.30:5070>"), SCSCF))
    book.out()
    return ", ".join(sent.headers.values("record-route"))


def notified(book: Book, route: str, uri: str) -> list[Flow]:
    """Where a NOTIFY of the core goes."""
    book.out()
    heads = (f"Route: {route}", "Event: presence", "Subscription-State: active")
    branch, bob, alice = f"n{len(book.every)}", "<sip:bob@example.net>;tag=callee", "<sip:alice@example.net>;tag=al"
    book.receive(SCSCF, request("NOTIFY", *heads, uri=uri, from_=bob, to=alice, branch=branch, flow=SCSCF))
    return [flow for _, flow in book.out()]


@pytest.mark.parametrize(("old", "new"), [(UE, moved(6111)), (TCP, TCP_AGAIN)])
def test_a_subscription_follows_its_ue_to_the_flow_that_it_registers_over(old: Flow, new: Flow) -> None:
    book = Book()
    register(book, old, uri=BEHIND)
    route = subscribed(book, old, BEHIND)
    assert notified(book, route, BEHIND) == [old]
    register(book, new, branch="r2", uri=BEHIND)
    assert notified(book, route, BEHIND) == [new]


def test_a_subscription_does_not_follow_another_user_with_the_same_contact() -> None:
    book = Book()
    register(book, UE, uri=BEHIND)
    route = subscribed(book, UE, BEHIND)
    book.advance(601)
    register(book, moved(6111, "10.0.0.99"), branch="r2", uri=BEHIND, user="bob")
    assert notified(book, route, BEHIND) == [UE]


def test_a_subscription_over_tls_does_not_leave_it() -> None:
    book = agreement_book("tls")
    contact = "sip:alice@10.0.0.7:41000;transport=tls"
    register(book, TLS, uri=contact)
    route = subscribed(book, TLS, contact)
    register(book, moved(6111), branch="r2", uri=contact)
    assert notified(book, route, contact) == [TLS]


def test_a_flow_that_is_gone_is_430_to_who_wants_it() -> None:
    book = Book()
    path = register(book, TCP)
    book.out()
    book.feed(FlowClosed(TCP, "reset"))
    book.receive(
        SCSCF, request("INVITE", f"Route: {path}", uri="sip:alice@10.0.0.7:40001;transport=tcp;ob", flow=SCSCF), AUDIO
    )
    assert book.response(430)


@pytest.mark.parametrize("change", [lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"), lambda t: t[:6] + t[7:]])
def test_a_flow_token_that_was_tampered_with_is_403(change: object) -> None:
    book = Book()
    path = register(book, TCP)
    token = path[len("<sip:") : path.index("@")]
    assert callable(change)
    forged = path.replace(token, change(token))
    book.out()
    book.receive(
        SCSCF, request("INVITE", f"Route: {forged}", uri="sip:alice@10.0.0.7:40001;transport=tcp", flow=SCSCF), AUDIO
    )
    assert book.response(403)
