import pytest
from tests.unit.imswire_sip.sip_samples import request

from imswire.base import ProtocolError
from imswire.sip.dialog import AnswerRepeater, Dialog, DialogId
from imswire.sip.message import Request, Response


def answered(invite: Request, status: int = 200, routes: str | None = None) -> Response:
    response = invite.reply(status, to_tag="b1", headers=[("Contact", "<sip:bob@192.0.2.9:5060>;expires=5")])
    if routes is not None:
        response.headers.set("Record-Route", routes)
    return response


def uac(routes: str = "<sip:p2;lr>, <sip:p1;lr>") -> Dialog:
    return Dialog.as_uac(request(), answered(request(), routes=routes))


def test_uac_dialog() -> None:
    dialog = uac()
    assert dialog.id == DialogId("call-1", "a1", "b1")
    assert dialog.route_set == ("<sip:p1;lr>", "<sip:p2;lr>")
    bye = dialog.make_request("BYE", [("Reason", "SIP;cause=500")])
    assert bye.start_line == "BYE sip:bob@192.0.2.9:5060 SIP/2.0"
    assert bye.headers.values("route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert (bye.from_tag, bye.to_tag, str(bye.cseq), bye.max_forwards) == ("a1", "b1", "8 BYE", 70)
    assert bye.headers.get("reason") == "SIP;cause=500"
    assert str(dialog.make_request("INFO").cseq) == "9 INFO"
    assert str(dialog.make_ack(7).cseq) == "7 ACK"
    for method in ("ACK", "CANCEL"):
        with pytest.raises(ProtocolError):
            dialog.make_request(method)


def test_uas_dialog() -> None:
    invite = request(Record_Route="<sip:p2;lr>, <sip:p1;lr>")
    dialog = Dialog.as_uas(invite, "b1")
    assert dialog.id == uac().id.mirrored
    assert dialog.id == DialogId.of_incoming(request("BYE", to=";tag=b1"))
    bye = dialog.make_request("BYE")
    assert bye.uri == "sip:alice@198.51.100.7:40000"
    assert bye.headers.values("route") == ["<sip:p2;lr>", "<sip:p1;lr>"]
    assert (bye.from_tag, bye.to_tag, str(bye.cseq)) == ("b1", "a1", "1 BYE")


def test_a_proxy_in_the_middle_reaches_both_ends() -> None:
    received = request(Record_Route="<sip:edge;lr>")
    forwarded = received.copy()
    forwarded.headers.prepend("Record-Route", "<sip:me;lr>")
    response = answered(forwarded, routes="<sip:far;lr>, <sip:near;lr>, <sip:me;lr>, <sip:edge;lr>")
    to_caller = Dialog.as_uas(received, response.to_tag or "")
    to_called = Dialog.as_uac(forwarded, response)
    assert to_caller.route_set == ("<sip:edge;lr>",)
    assert to_called.route_set == ("<sip:near;lr>", "<sip:far;lr>")
    to_called.saw_outgoing(request("UPDATE", cseq=41, to=";tag=b1"))
    assert str(to_called.make_request("BYE").cseq) == "42 BYE"


def test_strict_router() -> None:
    bye = uac("<sip:loose;lr>, <sip:strict>").make_request("BYE")
    assert bye.uri == "sip:strict"
    assert bye.headers.values("route") == ["<sip:loose;lr>", "<sip:bob@192.0.2.9:5060>"]


def test_incoming_order_and_target_refresh() -> None:
    dialog = Dialog.as_uas(request(), "b1")
    assert dialog.take(request("UPDATE", cseq=9, to=";tag=b1"))
    assert not dialog.take(request("INFO", cseq=9, to=";tag=b1"))
    assert not dialog.take(request("INFO", cseq=8, to=";tag=b1"))
    moved = request("INVITE", cseq=20, to=";tag=b1")
    moved.headers.set("Contact", "<sip:alice@elsewhere>")
    assert dialog.take(moved)
    assert dialog.take(request("ACK", cseq=20, to=";tag=b1"))
    assert dialog.remote_target == "sip:alice@elsewhere"


def test_early_becomes_confirmed() -> None:
    dialog = Dialog.as_uac(request(), answered(request(), 180))
    assert dialog.early
    final = answered(request())
    final.headers.set("Contact", "<sip:bob@moved>")
    dialog.take_response(final)
    assert not dialog.early
    assert dialog.remote_target == "sip:bob@moved"


def test_what_makes_no_dialog() -> None:
    response = answered(request())
    response.headers.remove("contact")
    with pytest.raises(ProtocolError):
        Dialog.as_uac(request(), response)
    with pytest.raises(ProtocolError):
        Dialog.as_uas(request(), "")


def test_a_2xx_is_repeated_until_its_ack() -> None:
    repeater = AnswerRepeater()
    ok = answered(request())
    repeater.add("key", ok, 0.0)
    assert repeater.next_timer() == 0.5
    assert repeater.expire(0.4) == []
    assert repeater.expire(0.5) == [("key", ok)]
    assert repeater.next_timer() == 1.5
    assert not repeater.acknowledged(request("ACK", to=";tag=other"))
    assert repeater.acknowledged(request("ACK", to=";tag=b1"))
    assert not repeater.acknowledged(request("ACK", to=";tag=b1"))
    assert repeater.next_timer() is None


def test_a_2xx_without_ack_is_told() -> None:
    repeater = AnswerRepeater()
    repeater.add("key", answered(request()), 0.0)
    times = []
    outcome: list[tuple[object, Response | None]] = []
    while (due := repeater.next_timer()) is not None:
        times.append(due)
        outcome = repeater.expire(due)
    assert times[:5] == [0.5, 1.5, 3.5, 7.5, 11.5]
    assert times[-1] == 32.0
    assert outcome == [("key", None)]


def test_the_repeater_is_bounded() -> None:
    repeater = AnswerRepeater(limit=1)
    repeater.add(1, answered(request()), 0.0)
    repeater.add(2, answered(request(cseq=8)), 0.0)
    assert len(repeater) == 1
