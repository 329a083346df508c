"""A 2xx that comes amid another offer is looked at when it is repeated; when it never is, the call ends."""

from tests.playbook.alg_gateway import Gateway
from tests.playbook.alg_harness import SCSCF, UE, Book, answer, register, request, settings, wire
from tests.playbook.test_alg_media import PLAIN_OFFER, SECURE_OFFER, establish
from tests.playbook.test_alg_offers import TLS_LINE, finish, kinds, settle
from tests.playbook.test_alg_proxy import BOB, from_caller

from imswire.sip.message import Request


def calm() -> Book:
    """A book whose gateway is not asked for heartbeats."""
    return Book(settings(gateway_timers={"heartbeat": 1e6, "heartbeat_timeout": 1e6}))


def early_update(book: Book) -> Request:
    """An INVITE of alice without offer; her UPDATE in the early dialog waits for the gateway. Returns the INVITE."""
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    book.receive(UE, from_caller("UPDATE", 2, book.response(180)), SECURE_OFFER)
    return invite


def again(book: Book, gateway: Gateway) -> tuple[Request, Request, bytes]:
    """A re-INVITE of alice without offer and, behind it, her UPDATE with one; and a 2xx with an offer to the first."""
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("INVITE", 2, ok))
    invite = book.request("INVITE")
    book.receive(UE, from_caller("UPDATE", 3, ok), SECURE_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    offer = answer(invite, 200, BOB, body=PLAIN_OFFER)
    book.feed(wire(offer, SCSCF))
    assert book.out() == [], "two offers at once"
    return invite, update, offer


def test_the_repetition_goes_through_and_nothing_ends() -> None:
    book = calm()
    gateway = Gateway(book)
    _, update, offer = again(book, gateway)
    book.feed(wire(answer(update, 491), SCSCF))
    book.out()
    book.advance(4.0)
    book.feed(wire(offer, SCSCF))
    settle(gateway)
    ok = book.response(200)
    assert TLS_LINE in ok.body
    book.advance(book.settings.timers.t64 - 3.9)
    assert book.out() == [], "64*T1 after the first one nothing happens"
    assert book.engine.gauges["calls"] == 1


def test_without_a_repetition_the_initial_invite_is_answered_and_its_dialog_ended() -> None:
    book = calm()
    gateway = Gateway(book)
    invite = early_update(book)
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_OFFER), SCSCF))
    book.out()
    settle(gateway)
    book.advance(book.settings.timers.t64 - 1.0)
    assert not {"access 408", "core BYE"} & set(kinds(book)), "it may still be repeated"
    book.advance(1.1)
    assert {"access 408", "core ACK", "core BYE"} <= set(kinds(book))
    finish(book, gateway)


def test_without_a_repetition_of_the_2xx_to_a_reinvite_both_sides_are_released() -> None:
    book = calm()
    gateway = Gateway(book)
    again(book, gateway)
    book.advance(book.settings.timers.t64 + 0.1)
    assert {"access 408", "access BYE", "core ACK", "core BYE"} <= set(kinds(book))
    finish(book, gateway)
