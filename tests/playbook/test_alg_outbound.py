"""UEs that keep their flows open themselves (RFC 5626): Path, Flow-Timer, bindings by instance, flows that fail."""

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, Book, answer, request, wire
from tests.playbook.test_alg_proxy import BOB, from_called

from imsalg.core.events import FlowClosed
from imswire.sip.flow import Flow

TCP = Flow("tcp", "access", ("10.0.0.1", 5060), ("10.0.0.7", 40_001), 1)
TCP_AGAIN = Flow("tcp", "access", ("10.0.0.1", 5060), ("10.0.0.7", 40_002), 2)
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id=1'


def register(book: Book, flow: Flow, *extra: str, branch: str = "r1", via: str = "", answered: str = "outbound") -> str:
    """A REGISTER with outbound over ``flow``; returns the Path that went on. ``answered`` is Require in the 200."""
    host, port = flow.remote
    contact = f"<sip:alice@{host}:{port};transport=tcp;ob>;{INSTANCE}"
    book.receive(
        flow,
        f"""
        REGISTER sip:example.net SIP/2.0
        Via: SIP/2.0/TCP {host}:{port};branch=z9hG4bK{branch};rport
        {via}
        From: <sip:alice@example.net>;tag=reg
        To: <sip:alice@example.net>
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
