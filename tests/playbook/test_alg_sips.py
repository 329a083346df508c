"""Requests for sips URIs towards a UE that is not reached over TLS (RFC 3261 26.2.2, RFC 5630)."""

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, Book, answer, register, request, wire
from tests.playbook.test_alg_proxy import BOB, from_called, from_caller


@pytest.mark.parametrize("scheme", ["sips", "SIPS"])
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_a_sips_request_does_not_leave_for_a_ue_in_the_open(method: str, scheme: str) -> None:
    book = Book()
    path = register(book)
    book.receive(SCSCF, request(method, f"Route: {path}", uri=f"{scheme}:alice@10.0.0.7:5070", flow=SCSCF))
    warning = book.response(480).headers.get("warning") or ""
    assert warning.startswith("380 ")
    assert book.engine.gauges["calls"] == 0


def test_inside_a_dialog_it_does_not_either() -> None:
    book = Book()
    register(book)
    book.receive(UE, request(), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    book.receive(UE, from_caller("ACK", 1, book.response(200)))
    book.out()
    book.receive(SCSCF, from_called("INFO", 2, invite).replace("INFO sip:", "INFO sips:"))
    assert book.response(480)
    book.receive(SCSCF, from_called("BYE", 3, invite))
    assert book.request("BYE")


def test_the_core_is_trusted_with_it() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE", uri="sips:bob@example.net"))
    assert book.request("MESSAGE").uri == "sips:bob@example.net"
