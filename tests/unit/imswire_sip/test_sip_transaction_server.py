"""Server transactions: RFC 3261 17.2, 9.2 and 18.2, RFC 6026, RFC 3581."""

import pytest
from tests.unit.imswire_sip.sip_samples import TCP, UDP, Ids, kinds, request, sent

from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.parser import parse
from imswire.sip.tables import State
from imswire.sip.transaction import (
    AckArrived,
    CancelArrived,
    RequestArrived,
    Send,
    ServerKey,
    ServerTimeout,
    TransactionLayer,
)
from imswire.sip.values import Via


def arrive(
    method: str = "INVITE", flow: Flow = UDP, layer: TransactionLayer | None = None
) -> tuple[TransactionLayer, ServerKey, Request]:
    layer = layer or TransactionLayer(Ids())
    message = request(method)
    out = layer.receive(message, flow, 0.0)
    assert isinstance(out[0], RequestArrived)
    assert len(out) == 1
    return layer, out[0].key, message


@pytest.mark.parametrize(
    ("via", "expected"),
    [
        ("h:5070;branch=b;rport", "h:5070;branch=b;rport=40000;received=198.51.100.7"),
        ("198.51.100.7;branch=b;rport", "198.51.100.7;branch=b;rport=40000;received=198.51.100.7"),
        ("h;rport=1;received=6.6.6.6", "h;rport=40000;received=198.51.100.7"),
        ("h:5070;branch=b", "h:5070;branch=b;received=198.51.100.7"),
        ("198.51.100.7:9;branch=b", "198.51.100.7:9;branch=b"),
        ("198.51.100.7:9;received=6.6.6.6;branch=b", "198.51.100.7:9;branch=b"),
    ],
)
def test_received_and_rport(via: str, expected: str) -> None:
    message = request()
    message.headers.set("Via", f"SIP/2.0/UDP {via}, SIP/2.0/UDP next")
    TransactionLayer(Ids()).receive(message, UDP, 0.0)
    assert message.headers.get("via") == f"SIP/2.0/UDP {expected}, SIP/2.0/UDP next"


def test_ipv6_addresses_are_compared_by_value() -> None:
    flow = Flow("udp", "access", ("2001:db8::1", 5060), ("2001:db8::7", 5060))
    message = request()
    message.headers.set("Via", "SIP/2.0/UDP [2001:0DB8:0::7];branch=z9hG4bKb")
    before = message.to_bytes()
    TransactionLayer(Ids()).receive(message, flow, 0.0)
    assert message.to_bytes() == before


def test_responses_go_to_the_sent_by_port_without_rport() -> None:
    layer = TransactionLayer(Ids())
    for via, port in (
        ("h:5070;branch=z9hG4bK1", 5070),
        ("h;branch=z9hG4bK2", 5060),
        ("h:9;branch=z9hG4bK3;rport", 40000),
    ):
        message = request()
        message.headers.set("Via", f"SIP/2.0/UDP {via}")
        (arrived,) = layer.receive(message, UDP, 0.0)
        assert isinstance(arrived, RequestArrived)
        (out,) = layer.respond(arrived.key, message.reply(100), 0.0)
        assert isinstance(out, Send)
        assert out.flow.remote == ("198.51.100.7", port)


def test_retransmitted_invite_gets_the_last_provisional_again() -> None:
    layer, key, message = arrive()
    assert layer.receive(request(), UDP, 0.1) == []
    trying = message.reply(100)
    assert layer.respond(key, trying, 0.2) == [Send(trying, UDP)]
    ringing = message.reply(180, to_tag="b")
    layer.respond(key, ringing, 0.3)
    assert layer.receive(request(), UDP, 0.4) == [Send(ringing, UDP)]


def test_refused_invite_repeats_until_ack() -> None:
    layer, key, message = arrive()
    busy = message.reply(486)
    layer.respond(key, busy, 0.0)
    assert layer.next_timer() == 0.5
    assert layer.expire(0.5) == [Send(busy, UDP)]
    assert layer.expire(1.5) == [Send(busy, UDP)]
    assert layer.receive(request(), UDP, 2.0) == [Send(busy, UDP)]
    assert layer.receive(request("ACK"), UDP, 2.1) == []
    assert layer.state(key) is State.CONFIRMED
    assert layer.receive(request("ACK"), UDP, 2.2) == []
    assert layer.expire(7.1) == []
    assert layer.state(key) is State.TERMINATED


def test_no_ack_is_told() -> None:
    layer, key, message = arrive(flow=TCP)
    layer.respond(key, message.reply(486), 0.0)
    assert layer.next_timer() == 32.0
    assert layer.expire(32.0) == [ServerTimeout(key)]
    assert layer.stats.servers == 0


def test_ack_ends_at_once_on_tcp() -> None:
    layer, key, message = arrive(flow=TCP)
    layer.respond(key, message.reply(486), 0.0)
    assert layer.receive(request("ACK"), TCP, 0.1) == []
    assert layer.stats.servers == 0


def test_accepted_absorbs_invites_and_lets_2xx_through() -> None:
    layer, key, message = arrive()
    ok = message.reply(200, to_tag="b")
    layer.respond(key, ok, 0.0)
    assert layer.state(key) is State.ACCEPTED
    assert layer.receive(request(), UDP, 0.1) == []
    assert layer.respond(key, ok, 0.5) == [Send(ok, UDP)]
    assert layer.respond(key, message.reply(486), 0.6) == []
    # The ACK of a 2xx has a branch of its own; one that has the INVITE's is passed up all the same.
    for branch in ("z9hG4bKnew", "z9hG4bKabc"):
        ack = request("ACK", branch)
        assert layer.receive(ack, UDP, 0.7) == [AckArrived(ack, UDP)]
    assert layer.expire(32.0) == []
    assert layer.state(key) is State.TERMINATED
    assert layer.respond(key, ok, 33.0) == []


def test_non_invite_final_is_repeated_until_timer_j() -> None:
    layer, key, message = arrive("OPTIONS")
    assert layer.receive(request("OPTIONS"), UDP, 0.1) == []
    ok = message.reply(200)
    assert layer.respond(key, ok, 0.2) == [Send(ok, UDP)]
    assert layer.respond(key, message.reply(500), 0.3) == []
    assert layer.receive(request("OPTIONS"), UDP, 0.4) == [Send(ok, UDP)]
    assert layer.next_timer() == 32.2
    layer.expire(32.2)
    assert kinds(layer.receive(request("OPTIONS"), UDP, 33.0)) == ["RequestArrived"]


def test_non_invite_on_tcp_ends_with_its_final_response() -> None:
    layer, key, message = arrive("OPTIONS", TCP)
    assert kinds(layer.respond(key, message.reply(200), 0.2)) == ["Send"]
    assert layer.stats.servers == 0


def test_cancel_is_answered_and_told() -> None:
    layer, key, message = arrive()
    layer.respond(key, message.reply(180, to_tag="b1"), 0.0)
    cancel = request("CANCEL")
    out = layer.receive(cancel, UDP, 1.0)
    assert kinds(out) == ["Send", "CancelArrived"]
    assert sent(out)[0].start_line == "SIP/2.0 200 OK"
    assert sent(out)[0].to_tag == "b1"
    assert out[1] == CancelArrived(ServerKey(key.branch, key.sent_by, "CANCEL"), key, cancel)
    assert sent(layer.receive(request("CANCEL"), UDP, 1.1)) == sent(out)
    assert layer.state(key) is State.PROCEEDING


def test_cancel_after_the_final_response_has_no_effect() -> None:
    layer, key, message = arrive()
    layer.respond(key, message.reply(200, to_tag="b1"), 0.0)
    out = layer.receive(request("CANCEL"), UDP, 1.0)
    assert kinds(out) == ["Send"]
    assert sent(out)[0].start_line == "SIP/2.0 200 OK"


def test_cancel_of_nothing_gets_481() -> None:
    layer = TransactionLayer(Ids())
    out = layer.receive(request("CANCEL"), UDP, 1.0)
    assert kinds(out) == ["Send", "CancelArrived"]
    assert sent(out)[0].start_line.startswith("SIP/2.0 481")
    assert isinstance(out[1], CancelArrived)
    assert out[1].invite_key is None


@pytest.mark.parametrize("change", [("branch", "z9hG4bKxyz"), ("sent-by", "198.51.100.8:40000"), ("method", "OPTIONS")])
def test_another_branch_sent_by_or_method_is_another_transaction(change: tuple[str, str]) -> None:
    layer, key, _ = arrive()
    what, value = change
    other = request(value if what == "method" else "INVITE", value if what == "branch" else "z9hG4bKabc")
    if what == "sent-by":
        other.headers.set("Via", f"SIP/2.0/UDP {value};branch=z9hG4bKabc;rport")
    (out,) = layer.receive(other, UDP, 0.1)
    assert isinstance(out, RequestArrived)
    assert out.key != key
    assert layer.stats.servers == 2


def test_rfc_2543_matching_without_the_cookie() -> None:
    def old(method: str, *, cseq: int = 1, to: str = "") -> Request:
        message = request(method, "1", cseq=cseq, to=to)
        message.headers.set("Via", str(Via("UDP", "old.example")))
        return message

    layer = TransactionLayer(Ids())
    (first,) = layer.receive(old("INVITE"), UDP, 0.0)
    assert isinstance(first, RequestArrived)
    assert layer.receive(old("INVITE"), UDP, 0.1) == []
    layer.respond(first.key, first.request.reply(486, to_tag="b"), 0.2)
    assert layer.receive(old("ACK", to=";tag=b"), UDP, 0.3) == []
    assert layer.state(first.key) is State.CONFIRMED
    assert kinds(layer.receive(old("INVITE", cseq=2), UDP, 0.4)) == ["RequestArrived"]


def test_an_ack_without_a_transaction_is_passed_up() -> None:
    ack = request("ACK")
    assert TransactionLayer(Ids()).receive(ack, UDP, 0.0) == [AckArrived(ack, UDP)]


def test_a_lost_connection_ends_its_server_transactions() -> None:
    layer, key, message = arrive(flow=TCP)
    layer.respond(key, message.reply(180, to_tag="b"), 0.0)
    assert layer.transport_failed(TCP, 1.0) == [ServerTimeout(key, transport=True)]
    assert layer.respond(key, message.reply(200, to_tag="b"), 2.0) == []


def test_a_response_that_cannot_be_sent_ends_its_transaction() -> None:
    layer, key, message = arrive()
    busy = message.reply(486)
    layer.respond(key, busy, 0.0)
    assert layer.send_failed(busy, UDP, 0.1) == [ServerTimeout(key, transport=True)]
    assert layer.stats.servers == 0


def test_a_parsed_message_goes_through_unchanged_but_for_its_via() -> None:
    data = request().to_bytes()
    message = parse(data)
    TransactionLayer(Ids()).receive(message, UDP, 0.0)
    assert message.to_bytes() == data.replace(b";rport", b";rport=40000;received=198.51.100.7")
