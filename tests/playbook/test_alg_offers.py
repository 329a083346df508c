"""Offers and answers in every place that SIP has for them, through both halves; the gateway is scripted."""

import pytest
from tests.playbook.alg_gateway import Gateway
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, Book, answer, register, request, sip, wire
from tests.playbook.test_alg_media import PLAIN_ANSWER, PLAIN_OFFER, SECURE_ANSWER, SECURE_OFFER, establish, originate
from tests.playbook.test_alg_proxy import BOB, from_called, from_caller

from imswire.sip.message import Request, Response

ALICE = "Contact: <sip:alice@10.0.0.7:5070>"
RELIABLE = ("Require: 100rel", "RSeq: 1")
TLS_LINE = b"TCP/TLS/MSRP"
TCP_LINE = b" TCP/MSRP"


def settle(gateway: Gateway) -> None:
    """Let the gateway answer whatever it has been asked."""
    gateway.take()
    while gateway.requests:
        gateway.answer()


def kinds(book: Book) -> list[str]:
    """What went out, retransmissions aside: ``core BYE``, ``access 491`` ..."""
    found = [
        f"{flow.realm} {message.method if isinstance(message, Request) else message.status}"
        for message, flow in book.out()
    ]
    return list(dict.fromkeys(found))


def early(book: Book, gateway: Gateway) -> tuple[Request, Response]:
    """An INVITE of alice whose offer was answered in a reliable 183; PRACK and its 200 have passed."""
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    progress = book.response(183)
    prack(book, progress)
    return invite, progress


def prack(book: Book, progress: Response, body: str = "", number: int = 2) -> Request:
    book.receive(UE, from_caller("PRACK", number, progress, "RAck: 1 1 INVITE"), body)
    sent = book.request("PRACK")
    book.feed(wire(answer(sent, 200), SCSCF))
    assert book.response(200)
    return sent


def finish(book: Book, gateway: Gateway) -> None:
    """After the end of all calls nothing may be left, at once or after every timer."""
    settle(gateway)
    book.advance(200)
    settle(gateway)
    assert book.engine.stats.bugs == 0
    assert book.media.calls == {}
    gauges = book.engine.gauges
    assert (gauges["calls"], gauges["held"], gauges["forwards"]) == (0, 0, 0)


# --- UPDATE ---------------------------------------------------------------------------------------------------------


def test_an_update_of_the_caller_carries_an_offer_and_its_2xx_the_answer() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("UPDATE", 2, ok), SECURE_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    assert TCP_LINE in update.body
    assert b"fingerprint" not in update.body
    book.feed(wire(answer(update, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert TLS_LINE in book.response(200).body


def test_an_update_of_the_called_party_goes_the_other_way() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, _ = establish(book, gateway)
    book.receive(SCSCF, from_called("UPDATE", 1, invite), PLAIN_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    assert TLS_LINE in update.body
    book.feed(wire(answer(update, 200, ALICE, tag="al", body=SECURE_ANSWER), UE))
    settle(gateway)
    assert TCP_LINE in book.response(200).body


def test_an_update_without_sdp_passes_at_once_even_while_an_offer_is_under_way() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    book.receive(UE, from_caller("INVITE", 2, ok), SECURE_OFFER)
    settle(gateway)
    book.out()
    book.receive(SCSCF, from_called("UPDATE", 1, invite))
    assert book.request("UPDATE")


def test_a_refused_update_leaves_the_session() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    two_lines = SECURE_OFFER + "\n".join(SECURE_OFFER.splitlines()[6:]).replace("7000", "7002").replace("s1", "s2")
    book.receive(UE, from_caller("UPDATE", 2, ok), two_lines)
    settle(gateway)
    book.feed(wire(answer(book.request("UPDATE"), 488), SCSCF))
    assert book.response(488)
    gateway.take()
    assert gateway.seen[-1] == "Subtract", "the added line is given back"
    settle(gateway)
    book.receive(UE, from_caller("INVITE", 3, ok), SECURE_OFFER)
    settle(gateway)
    assert TCP_LINE in book.request("INVITE").body


def test_a_2xx_to_update_without_an_answer_rolls_back() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("UPDATE", 2, ok), SECURE_OFFER)
    book.feed(wire(answer(book.request("UPDATE"), 200, BOB), SCSCF))
    assert book.response(200)
    book.receive(UE, from_caller("UPDATE", 3, ok), SECURE_OFFER)
    assert book.request("UPDATE"), "no offer is under way any more"


def test_an_answer_in_the_2xx_to_update_that_cannot_be_read_releases_both_sides() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("UPDATE", 2, ok), SECURE_OFFER)
    book.feed(wire(answer(book.request("UPDATE"), 200, BOB, body="v=0\nm=x"), SCSCF))
    sent = [(m.method if isinstance(m, Request) else m.status, m.headers.get("reason")) for m, _ in book.out()]
    assert [kind for kind, _ in sent] == [488, "BYE", "BYE"]
    assert all((reason or "").startswith("SIP;cause=488") for kind, reason in sent if kind == "BYE")


def test_an_update_in_an_early_dialog_follows_the_early_answer() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, progress = early(book, gateway)
    book.receive(UE, from_caller("UPDATE", 3, progress), SECURE_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    assert TCP_LINE in update.body
    # The 200 to the INVITE overtakes that to the UPDATE.
    book.feed(wire(answer(invite, 200, BOB), SCSCF))
    ok = book.response(200)
    book.feed(wire(answer(update, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert TLS_LINE in book.response(200).body
    book.receive(UE, from_caller("ACK", 1, ok))
    assert book.request("ACK")
    book.receive(UE, from_caller("BYE", 4, ok))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    finish(book, gateway)


def test_sdp_in_a_provisional_response_to_update_is_taken_out() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("UPDATE", 2, ok), SECURE_OFFER)
    settle(gateway)
    book.feed(wire(answer(book.request("UPDATE"), 180, BOB, body=PLAIN_ANSWER), SCSCF))
    assert book.response(180).body == b""


# --- glare ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("second", ["INVITE", "UPDATE"])
def test_crossing_offers_are_491_and_doubled_ones_500(first: str, second: str) -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    book.receive(UE, from_caller(first, 2, ok), SECURE_OFFER)
    settle(gateway)
    pending = book.request(first)
    book.receive(SCSCF, from_called(second, 1, invite), PLAIN_OFFER)
    assert book.response(491)
    book.receive(UE, from_caller(second, 3, ok), SECURE_OFFER)
    assert 0 <= int(book.response(500).headers.get("retry-after") or -1) <= 10
    book.feed(wire(answer(pending, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert book.response(200)
    book.receive(SCSCF, from_called(second, 2, invite), PLAIN_OFFER)
    settle(gateway)
    assert book.request(second), "the first is over: another one may come"


def test_glare_while_the_gateway_is_still_asked() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    two_lines = SECURE_OFFER + "\n".join(SECURE_OFFER.splitlines()[6:]).replace("7000", "7002").replace("s1", "s2")
    book.receive(UE, from_caller("UPDATE", 2, ok), two_lines)
    assert book.out() == []
    book.receive(SCSCF, from_called("INVITE", 1, invite), PLAIN_OFFER)
    assert book.response(491)
    settle(gateway)
    assert book.request("UPDATE")


def test_a_second_invite_without_sdp_is_refused_too() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    book.receive(UE, from_caller("INVITE", 2, ok))
    book.request("INVITE")
    book.receive(SCSCF, from_called("INVITE", 1, invite))
    assert book.response(491)
    book.receive(UE, from_caller("INVITE", 3, ok))
    assert book.response(500).headers.get("retry-after") is not None


def test_update_before_the_initial_offer_is_answered() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 183, BOB, "Require: 100rel", "RSeq: 1"), SCSCF))
    progress = book.response(183)
    book.receive(UE, from_caller("UPDATE", 2, progress), SECURE_OFFER)
    assert book.response(500)
    book.receive(SCSCF, from_called("UPDATE", 1, invite), PLAIN_OFFER)
    assert book.response(491)


# --- PRACK ----------------------------------------------------------------------------------------------------------


def test_an_offer_in_prack_is_answered_in_its_2xx() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    progress = book.response(183)
    book.receive(UE, from_caller("PRACK", 2, progress, "RAck: 1 1 INVITE"), SECURE_OFFER)
    settle(gateway)
    sent = book.request("PRACK")
    assert TCP_LINE in sent.body
    book.feed(wire(answer(sent, 200, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert TLS_LINE in book.response(200).body
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    assert book.response(200).body == progress.body, "the 200 repeats what the 183 said, and nothing is asked again"


def test_a_delayed_offer_in_a_reliable_183_is_answered_in_prack() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_OFFER), SCSCF))
    assert book.out() == []
    settle(gateway)
    progress = book.response(183)
    assert TLS_LINE in progress.body
    assert b"3ge2ae:applied" in progress.body
    # The 183 again, over UDP: the same, and no H.248.
    gateway.seen.clear()
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_OFFER), SCSCF))
    assert book.response(183).body == progress.body
    book.receive(UE, from_caller("PRACK", 2, progress, "RAck: 1 1 INVITE"), SECURE_ANSWER)
    gateway.take()
    assert gateway.seen == ["Modify", "Modify"]
    assert book.out() == [], "the PRACK waits for the gateway"
    settle(gateway)
    sent = book.request("PRACK")
    assert TCP_LINE in sent.body
    book.feed(wire(answer(sent, 200), SCSCF))
    book.out()
    book.feed(wire(answer(invite, 200, BOB), SCSCF))
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    assert book.request("ACK").body == b""
    book.receive(UE, from_caller("BYE", 3, ok))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    finish(book, gateway)


def test_an_answer_in_prack_that_cannot_be_read_ends_the_early_call() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 183, BOB, *RELIABLE, body=PLAIN_OFFER), SCSCF))
    settle(gateway)
    progress = book.response(183)
    book.receive(UE, from_caller("PRACK", 2, progress, "RAck: 1 1 INVITE"), "v=0\nm=x")
    sent = [(f.realm, m.method if isinstance(m, Request) else m.status, str(m.cseq)) for m, f in book.out()]
    assert sent == [
        ("access", 488, "2 PRACK"),
        ("access", 488, "1 INVITE"),
        ("core", "CANCEL", "1 CANCEL"),
    ]
    book.feed(wire(answer(invite, 487), SCSCF))
    finish(book, gateway)


def test_sdp_in_an_unreliable_response_to_an_invite_without_offer_is_taken_out() -> None:
    book = Book()
    Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 183, BOB, body=PLAIN_OFFER), SCSCF))
    progress = book.response(183)
    assert progress.body == b""
    assert "content-type" not in progress.headers


# --- delayed offers in 2xx and ACK ----------------------------------------------------------------------------------


def delayed(book: Book, gateway: Gateway) -> tuple[Request, Response]:
    """An INVITE without SDP whose 200 carries the offer; returns INVITE at the core and 200 at the UE."""
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_OFFER), SCSCF))
    assert book.out() == []
    settle(gateway)
    ok = book.response(200)
    assert TLS_LINE in ok.body
    return invite, ok


def test_the_ack_with_the_answer_waits_and_its_repetitions_are_taken_care_of() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = delayed(book, gateway)
    repeated = answer(invite, 200, BOB, body=PLAIN_OFFER)
    book.feed(wire(repeated, SCSCF))
    assert book.response(200).to_bytes() == ok.to_bytes(), "nobody has acknowledged it: it goes through again"
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    assert book.out() == []
    book.feed(wire(repeated, SCSCF))
    book.receive(UE, from_caller("ACK", 1, ok, branch="again"), SECURE_ANSWER)
    assert book.out() == [], "the ACK is here already and only waits"
    settle(gateway)
    ack = book.request("ACK")
    assert TCP_LINE in ack.body
    book.feed(wire(repeated, SCSCF))
    assert book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok, branch="third"), SECURE_ANSWER)
    assert book.request("ACK").body == ack.body
    assert gateway.seen == ["Add", "Add", "Modify", "Modify"]
    book.receive(UE, from_caller("BYE", 2, ok))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    finish(book, gateway)


def test_an_ack_without_the_answer_ends_the_call() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok))
    assert kinds(book) == ["core ACK", "core BYE", "access BYE"]


def test_an_answer_in_ack_that_is_refused_ends_the_call() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok), "v=0\nm=x")
    sent = book.out()
    assert [m.method for m, _ in sent if isinstance(m, Request)] == ["ACK", "BYE", "BYE"]
    assert sent[0][0].body == b""


def test_a_delayed_offer_in_2xx_that_is_refused_ends_the_call() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body="v=0\nm=x"), SCSCF))
    assert kinds(book) == ["access 488", "core ACK", "core BYE"]
    book.advance(1)
    finish(book, gateway)


def test_a_delayed_audio_offer_passes_unchanged_both_ways() -> None:
    book = Book()
    Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=AUDIO), SCSCF))
    ok = book.response(200)
    plain = sip("INVITE sip:x SIP/2.0", AUDIO).partition(b"\r\n\r\n")[2]
    assert ok.body == plain
    book.receive(UE, from_caller("ACK", 1, ok), AUDIO)
    assert book.request("ACK").body == plain


def test_a_delayed_reoffer_by_the_called_party() -> None:
    """re-INVITE without SDP from the core: alice offers in her 200, the answer comes in the core's ACK."""
    book = Book()
    gateway = Gateway(book)
    invite, _ = establish(book, gateway)
    book.receive(SCSCF, from_called("INVITE", 1, invite))
    again = book.request("INVITE")
    book.feed(wire(answer(again, 200, ALICE, tag="al", body=SECURE_OFFER), UE))
    settle(gateway)
    assert TCP_LINE in book.response(200).body
    book.receive(SCSCF, from_called("ACK", 1, invite), PLAIN_ANSWER)
    settle(gateway)
    assert TLS_LINE in book.request("ACK").body


def test_a_refused_early_reoffer_in_a_response_keeps_the_session() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("INVITE", 2, ok))
    again = book.request("INVITE")
    book.feed(wire(answer(again, 183, BOB, *RELIABLE, body="v=0\nm=x"), SCSCF))
    assert kinds(book) == ["access 488", "core CANCEL"]
    book.feed(wire(answer(again, 487), SCSCF))
    book.out()
    assert book.engine.gauges["calls"] == 1
    book.receive(UE, from_caller("INVITE", 3, ok), SECURE_OFFER)
    settle(gateway)
    assert book.request("INVITE")


# --- forks ----------------------------------------------------------------------------------------------------------


def test_each_leg_of_a_fork_has_its_answer_and_one_is_accepted() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    other = PLAIN_ANSWER.replace("10.9.0.50", "10.9.0.51").replace("t1", "u1")
    for tag, body in (("one", PLAIN_ANSWER), ("two", other)):
        book.feed(wire(answer(invite, 183, BOB, *RELIABLE, tag=tag, body=body), SCSCF))
        settle(gateway)
        progress = book.response(183)
        assert progress.to_tag == tag
        assert TLS_LINE in progress.body
    book.feed(wire(answer(invite, 200, BOB, tag="two"), SCSCF))
    settle(gateway)
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    book.request("ACK")
    # The other leg accepts as well: the caller hangs it up, and the call goes on.
    book.feed(wire(answer(invite, 200, BOB, tag="one"), SCSCF))
    settle(gateway)
    late = book.response(200)
    book.receive(UE, from_caller("ACK", 1, late, branch="l"))
    book.receive(UE, from_caller("BYE", 2, late))
    bye = next(m for m, _ in book.out() if isinstance(m, Request) and m.method == "BYE")
    book.feed(wire(answer(bye, 200), SCSCF))
    assert book.engine.gauges["calls"] == 1
    book.out()
    book.receive(UE, from_caller("BYE", 3, ok))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    finish(book, gateway)


@pytest.mark.parametrize("body", ["", PLAIN_ANSWER])
def test_a_leg_that_accepts_when_the_call_is_over_is_ended_here(body: str) -> None:
    """The media are released and the caller has gone: the edge acknowledges the late 2xx and ends its dialog."""
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    for tag in ("one", "two"):
        book.feed(wire(answer(invite, 180, BOB, tag=tag), SCSCF))
        assert book.response(180).to_tag == tag
    book.feed(wire(answer(invite, 200, BOB, tag="one", body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    ok = book.response(200)
    book.receive(UE, from_caller("ACK", 1, ok))
    assert book.request("ACK")
    book.receive(UE, from_caller("BYE", 2, ok))
    settle(gateway)
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    assert book.engine.gauges["calls"] == 0
    book.out()
    late = answer(invite, 200, BOB, tag="two", body=body)
    book.feed(wire(late, SCSCF))
    ack, bye = (message for message, _ in book.out() if isinstance(message, Request))
    assert (ack.method, bye.method) == ("ACK", "BYE")
    assert ack.to_tag == bye.to_tag == "two"
    assert (bye.headers.get("reason") or "").startswith("SIP;cause=487")
    book.feed(wire(answer(bye, 200), SCSCF))
    book.feed(wire(late, SCSCF))
    assert kinds(book) == ["core ACK"]  # its ACK was lost
    finish(book, gateway)


def test_a_bad_answer_of_a_late_leg_ends_that_leg_alone() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, _ = establish(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, tag="late", body="v=0\nm=x"), SCSCF))
    assert kinds(book) == ["core ACK", "core BYE"]
    assert book.engine.gauges["calls"] == 1


def test_an_answer_of_another_leg_waits_for_its_repetition_while_an_update_is_under_way() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, progress = early(book, gateway)
    book.receive(UE, from_caller("UPDATE", 3, progress), SECURE_OFFER)
    settle(gateway)
    update = book.request("UPDATE")
    late = answer(invite, 183, BOB, *RELIABLE, tag="two", body=PLAIN_ANSWER)
    book.feed(wire(late, SCSCF))
    assert book.out() == []
    book.feed(wire(answer(update, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert book.response(200)
    book.feed(wire(late, SCSCF))
    settle(gateway)
    assert book.response(183).to_tag == "two"


def test_a_preview_is_rewritten_and_the_final_answer_counts() -> None:
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 183, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    preview = book.response(183)
    assert TLS_LINE in preview.body
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER), SCSCF))
    settle(gateway)
    assert book.response(200).body == preview.body


def test_a_different_answer_after_a_reliable_one_does_not_count() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, progress = early(book, gateway)
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_ANSWER.replace("10.9.0.50", "10.9.0.66")), SCSCF))
    assert book.response(200).body == progress.body


# --- hold and resume ------------------------------------------------------------------------------------------------


def test_hold_and_resume_from_both_sides() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    for number, direction in ((2, "inactive"), (3, "sendrecv")):
        book.receive(UE, from_caller("INVITE", number, ok), SECURE_OFFER.rstrip() + f"\na={direction}")
        settle(gateway)
        again = book.request("INVITE")
        assert f"a={direction}".encode() in again.body
        book.feed(wire(answer(again, 200, BOB, body=PLAIN_ANSWER.rstrip() + f"\na={direction}"), SCSCF))
        settle(gateway)
        assert f"a={direction}".encode() in book.response(200).body
        book.receive(UE, from_caller("ACK", number, ok))
        book.out()
    book.receive(SCSCF, from_called("UPDATE", 1, invite), PLAIN_OFFER.rstrip() + "\na=sendonly")
    settle(gateway)
    assert b"a=sendonly" in book.request("UPDATE").body
    assert "Subtract" not in gateway.seen


# --- bodies ---------------------------------------------------------------------------------------------------------


def test_sdp_in_a_multipart_body_is_secured_in_place() -> None:
    book = Book()
    gateway = Gateway(book)
    register(book)
    sdp = "\r\n".join(line.strip() for line in SECURE_OFFER.strip().splitlines()) + "\r\n"
    parts = (
        f"--b1\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b1--"
    )
    head = sip(request("INVITE", "Content-Type: multipart/mixed;boundary=b1"))
    data = head.replace(b"Content-Length: 0", f"Content-Length: {len(parts)}".encode()) + parts.encode()
    book.feed(wire(data, UE))
    settle(gateway)
    body = book.request("INVITE").body
    assert body.startswith(
        b"--b1\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0"
    )
    assert body.endswith(b"\r\n--b1--")
    assert TCP_LINE in body
    assert b"3ge2ae" not in body


def test_an_encoded_offer_is_415() -> None:
    book = Book()
    Gateway(book)
    register(book)
    book.receive(UE, request("INVITE", "Content-Encoding: gzip"), SECURE_OFFER)
    assert book.response(415).headers.get("accept-encoding") == "identity"
    assert book.engine.gauges["calls"] == 0


def test_a_bye_does_not_overtake_an_ack_that_waits() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    book.receive(UE, from_caller("BYE", 2, ok))
    sent = kinds(book)
    settle(gateway)
    assert (sent + kinds(book))[:2] == ["core ACK", "core BYE"]


def test_what_waits_behind_an_ack_goes_on_when_the_media_fail() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    book.receive(UE, from_caller("INFO", 2, ok))
    book.receive(UE, from_caller("BYE", 3, ok))
    assert kinds(book) == []
    gateway.take()
    while gateway.requests:
        gateway.answer(510)
    sent = [(flow.realm, message.start_line) for message, flow in book.out()]
    assert [line.split()[0] for realm, line in sent if realm == "core"] == ["ACK", "BYE", "BYE"], "ours, and the UE's"
    assert [line.split()[1] for realm, line in sent if line.startswith("SIP")] == ["481"], "the INFO came too late"
    assert not book.engine.context.behind


def test_what_waits_behind_an_ack_is_bounded_and_may_be_cancelled() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    book.receive(UE, from_caller("INVITE", 2, ok, branch="again"))
    assert kinds(book) == ["access 100"]
    book.receive(UE, from_caller("CANCEL", 2, ok, branch="again"))
    assert kinds(book) == ["access 200", "access 487"]
    for number in range(3, 11):
        book.receive(UE, from_caller("INFO", number, ok))
    assert kinds(book) == ["access 500"]
    settle(gateway)
    assert [message.start_line.split()[0] for message, _ in book.out()] == ["ACK"] + ["INFO"] * 7
    assert not book.engine.context.behind


def test_others_do_not_wait_behind_an_ack() -> None:
    book = Book()
    gateway = Gateway(book)
    invite, ok = delayed(book, gateway)
    book.receive(UE, from_caller("ACK", 1, ok), SECURE_ANSWER)
    book.receive(SCSCF, from_called("INFO", 1, invite))
    assert kinds(book) == ["access INFO"]
