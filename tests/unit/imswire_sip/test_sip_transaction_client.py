"""Client transactions: RFC 3261 17.1 and 9.1, RFC 6026."""

import pytest
from tests.unit.imswire_sip.sip_samples import CORE, TCP, UDP, Ids, kinds, request, sent

from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.tables import State
from imswire.sip.transaction import (
    ClientFailed,
    ClientKey,
    ClientTimeout,
    Output,
    ResponseArrived,
    Send,
    StrayResponse,
    TransactionLayer,
    TransactionLimits,
)


def start(
    method: str = "INVITE", flow: Flow = CORE, layer: TransactionLayer | None = None, *, timer_c: bool = False
) -> tuple[TransactionLayer, ClientKey, Request]:
    layer = layer or TransactionLayer(Ids())
    key, out = layer.request(
        request(method, Route="<sip:a;lr>, <sip:b;lr>"), flow, 0.0, via_host="192.0.2.1", via_port=5062, timer_c=timer_c
    )
    first = sent(out)[0]
    assert isinstance(first, Request)
    return layer, key, first


def answer(to: Request, status: int, tag: str = "b1") -> Response:
    return to.reply(status, to_tag=tag)


def fire_until(layer: TransactionLayer, end: float) -> list[tuple[float, str]]:
    """Run timers as a driver does; pairs of time and output kind."""
    seen: list[tuple[float, str]] = []
    while (due := layer.next_timer()) is not None and due <= end:
        seen += [(due, kind) for kind in kinds(layer.expire(due))]
    return seen


def test_request_gets_a_via_and_the_original_stays() -> None:
    layer = TransactionLayer(Ids())
    original = request()
    key, out = layer.request(original, CORE, 0.0, via_host="2001:db8::1", via_port=5062, via_params=(("rport", None),))
    message = sent(out)[0]
    assert message.headers.get_all("via")[0] == "SIP/2.0/UDP [2001:db8::1]:5062;rport;branch=z9hG4bK-1"
    assert len(message.headers.get_all("via")) == 2
    assert original.headers.count("via") == 1
    assert key == ClientKey("z9hG4bK-1", "INVITE")


def test_invite_retransmits_and_times_out_on_udp() -> None:
    layer, key, _ = start()
    seen = fire_until(layer, 100.0)
    assert seen == [(at, "Send") for at in (0.5, 1.5, 3.5, 7.5, 15.5, 31.5)] + [(32.0, "ClientTimeout")]
    assert layer.state(key) is State.TERMINATED
    assert layer.stats.clients == 0


def test_invite_does_not_retransmit_on_tcp() -> None:
    layer, _, _ = start(flow=TCP)
    assert fire_until(layer, 100.0) == [(32.0, "ClientTimeout")]


def test_a_retransmission_is_the_same_message() -> None:
    layer, _, first = start()
    assert sent(layer.expire(0.5))[0].to_bytes() == first.to_bytes()


def test_provisional_stops_retransmission() -> None:
    layer, key, first = start()
    out = layer.receive(answer(first, 180), CORE, 0.1)
    assert kinds(out) == ["ResponseArrived"]
    assert layer.state(key) is State.PROCEEDING
    assert fire_until(layer, 1000.0) == []


def test_non_2xx_is_acknowledged_by_the_transaction() -> None:
    layer, key, first = start()
    refusal = answer(first, 486)
    out = layer.receive(refusal, CORE, 1.0)
    assert kinds(out) == ["Send", "ResponseArrived"]
    ack = sent(out)[0]
    assert isinstance(ack, Request)
    assert ack.start_line == "ACK sip:bob@example.org SIP/2.0"
    assert ack.headers.get_all("via") == [first.headers.get("via")]
    assert str(ack.cseq) == "7 ACK"
    assert ack.to_tag == "b1"
    assert ack.from_ == first.from_
    assert ack.headers.values("route") == ["<sip:a;lr>", "<sip:b;lr>"]
    # Retransmitted: acknowledged again, not passed up; timer D ends it.
    assert layer.receive(refusal.copy(), CORE, 2.0) == [Send(ack, CORE)]
    assert layer.receive(answer(first, 200), CORE, 2.0) == []
    assert fire_until(layer, 100.0) == []
    assert layer.state(key) is State.TERMINATED


def test_timer_d_is_zero_on_tcp() -> None:
    layer, key, first = start(flow=TCP)
    assert kinds(layer.receive(answer(first, 486), TCP, 1.0)) == ["Send", "ResponseArrived"]
    assert layer.state(key) is State.TERMINATED
    assert layer.next_timer() is None


def test_every_2xx_is_passed_up_until_timer_m() -> None:
    layer, key, first = start()
    assert kinds(layer.receive(answer(first, 200, "b1"), CORE, 1.0)) == ["ResponseArrived"]
    assert kinds(layer.receive(answer(first, 200, "b1"), CORE, 2.0)) == ["ResponseArrived"]
    assert kinds(layer.receive(answer(first, 200, "b2"), CORE, 3.0)) == ["ResponseArrived"]
    assert layer.receive(answer(first, 486), CORE, 3.0) == []
    assert layer.state(key) is State.ACCEPTED
    assert layer.expire(33.0) == []
    assert kinds(layer.receive(answer(first, 200), CORE, 34.0)) == ["StrayResponse"]


def test_non_invite_retransmits_with_t2_cap() -> None:
    layer, _, _ = start("OPTIONS")
    seen = fire_until(layer, 100.0)
    assert seen[:6] == [(at, "Send") for at in (0.5, 1.5, 3.5, 7.5, 11.5, 15.5)]
    assert seen[-1] == (32.0, "ClientTimeout")


def test_non_invite_in_proceeding_repeats_every_t2() -> None:
    layer, _, first = start("OPTIONS")
    layer.receive(answer(first, 100), CORE, 0.1)
    assert [at for at, _ in fire_until(layer, 10.0)] == [0.5, 4.5, 8.5]


@pytest.mark.parametrize(("flow", "kept"), [(CORE, State.COMPLETED), (TCP, State.TERMINATED)])
def test_non_invite_final_is_passed_once(flow: Flow, kept: State) -> None:
    layer, key, first = start("OPTIONS", flow)
    assert kinds(layer.receive(answer(first, 200), flow, 1.0)) == ["ResponseArrived"]
    assert layer.state(key) is kept
    assert ResponseArrived not in [type(one) for one in layer.receive(answer(first, 200), flow, 1.1)]
    layer.expire(6.1)
    assert layer.stats.clients == 0


def test_cancel_waits_for_a_provisional_response() -> None:
    layer, key, first = start()
    assert layer.cancel(key, 0.1, [("Reason", "SIP;cause=200")]) == []
    out = layer.receive(answer(first, 100), CORE, 0.2)
    assert kinds(out) == ["ResponseArrived", "Send"]
    cancel = sent(out)[0]
    assert isinstance(cancel, Request)
    assert cancel.start_line == "CANCEL sip:bob@example.org SIP/2.0"
    assert cancel.headers.get_all("via") == [first.headers.get("via")]
    assert str(cancel.cseq) == "7 CANCEL"
    assert cancel.to_tag is None
    assert cancel.headers.get("reason") == "SIP;cause=200"
    assert cancel.headers.values("route") == first.headers.values("route")
    # Its responses are nobody's business above; the INVITE still gets its 487.
    assert layer.receive(answer(cancel, 200), CORE, 0.3) == []
    assert kinds(layer.receive(answer(first, 487), CORE, 0.4)) == ["Send", "ResponseArrived"]


def test_cancel_after_a_provisional_goes_at_once_and_once() -> None:
    layer, key, first = start()
    layer.receive(answer(first, 180), CORE, 0.1)
    assert kinds(layer.cancel(key, 0.2)) == ["Send"]
    assert layer.cancel(key, 0.3) == []


def test_an_invite_that_ignores_cancel_is_given_up() -> None:
    layer, key, first = start(flow=TCP)
    layer.receive(answer(first, 180), TCP, 0.0)
    cancel = sent(layer.cancel(key, 1.0))[0]
    assert isinstance(cancel, Request)
    layer.receive(answer(cancel, 200), TCP, 1.0)
    assert fire_until(layer, 32.9) == []
    assert layer.expire(33.0) == [ClientTimeout(key)]
    assert layer.stats.clients == 0


def test_a_cancel_nobody_answers_tells_only_about_the_invite() -> None:
    layer, key, first = start()
    layer.receive(answer(first, 180), CORE, 0.0)
    layer.cancel(key, 0.0)
    out: list[Output] = []
    while (due := layer.next_timer()) is not None:
        out += layer.expire(due)
    assert [one for one in out if not isinstance(one, Send)] == [ClientTimeout(key)]


def test_cancel_has_no_effect_after_final_or_on_others() -> None:
    layer, key, first = start()
    layer.receive(answer(first, 200), CORE, 0.1)
    assert layer.cancel(key, 0.2) == []
    _, other, _ = start("OPTIONS", layer=layer)
    assert layer.cancel(other, 0.2) == []
    assert layer.cancel(ClientKey("unknown", "INVITE"), 0.2) == []


def test_timer_c_cancels_and_is_restarted_by_all_but_100() -> None:
    layer, _, first = start(flow=TCP, timer_c=True)
    layer.receive(answer(first, 180), TCP, 10.0)
    layer.receive(answer(first, 100), TCP, 100.0)
    assert layer.next_timer() == 191.0
    layer.receive(answer(first, 183), TCP, 150.0)
    assert fire_until(layer, 330.9) == []
    out = layer.expire(331.0)
    assert isinstance(sent(out)[0], Request)
    assert sent(out)[0].cseq.method == "CANCEL"


def test_a_response_from_another_realm_is_stray() -> None:
    layer, key, first = start()
    forged = answer(first, 200)
    assert layer.receive(forged, UDP, 1.0) == [StrayResponse(forged, UDP)]
    assert layer.state(key) is State.CALLING


def test_a_response_with_an_unknown_branch_is_stray() -> None:
    layer, _, first = start()
    response = answer(first, 200)
    response.headers.set("Via", "SIP/2.0/UDP h;branch=z9hG4bKother")
    assert kinds(layer.receive(response, CORE, 1.0)) == ["StrayResponse"]


def test_send_failure_ends_one_transaction() -> None:
    layer, key, first = start()
    _, other, _ = start(layer=layer)
    assert layer.send_failed(first, CORE, 1.0) == [ClientFailed(key)]
    assert layer.state(other) is State.CALLING


def test_connection_failure_ends_all_that_rely_on_it() -> None:
    layer, key, first = start(flow=TCP)
    anywhere = Flow("tcp", "access", TCP.local, TCP.remote)
    _, dialling, _ = start("OPTIONS", anywhere, layer)
    _, elsewhere, _ = start("OPTIONS", CORE, layer)
    layer.receive(answer(first, 180), TCP, 0.5)
    assert set(layer.transport_failed(TCP, 1.0)) == {ClientFailed(key), ClientFailed(dialling)}
    assert layer.state(elsewhere) is State.TRYING
    assert layer.transport_failed(TCP, 1.0) == []


def test_a_failed_dial_spares_open_connections() -> None:
    layer, key, _ = start(flow=TCP)
    anywhere = Flow("tcp", "access", TCP.local, TCP.remote)
    _, dialling, _ = start("OPTIONS", anywhere, layer)
    assert layer.transport_failed(anywhere, 1.0) == [ClientFailed(dialling)]
    assert layer.state(key) is State.CALLING


def test_ack_for_2xx_is_no_transaction() -> None:
    layer = TransactionLayer(Ids())
    out = layer.send_ack(request("ACK"), CORE, 0.0, via_host="h", via_port=None)
    assert sent(out)[0].via.branch == "z9hG4bK-1"
    assert layer.stats.clients == 0
    for method in ("ACK", "CANCEL"):
        with pytest.raises(ProtocolError):
            layer.request(request(method), CORE, 0.0, via_host="h", via_port=None)


def test_transactions_are_bounded() -> None:
    layer = TransactionLayer(Ids(), limits=TransactionLimits(transactions=2))
    _, key, first = start(layer=layer)
    start(layer=layer)
    with pytest.raises(LimitExceeded):
        start(layer=layer)
    with pytest.raises(LimitExceeded):
        layer.receive(request(), UDP, 0.0)
    # What ends a transaction is never refused.
    layer.receive(answer(first, 180), CORE, 0.1)
    assert kinds(layer.cancel(key, 0.1)) == ["Send"]


def test_stopped_timers_do_not_pile_up() -> None:
    layer = TransactionLayer(Ids())
    for _ in range(3000):
        _, _, first = start("OPTIONS", TCP, layer)
        layer.receive(answer(first, 200), TCP, 0.0)
    assert layer.stats.clients == 0
    assert layer.stats.timers < 1100
    assert layer.next_timer() is None
