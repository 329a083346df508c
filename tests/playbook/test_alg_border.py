"""What UEs may not have said for them at the border: claims of protection, of urgency, of being an emergency centre."""

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, UE_B, Book, answer, register, request, settings, wire

from imsalg.core.events import Drain
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response

CREDENTIALS = 'Digest username="alice@example.net",realm="example.net",nonce="n",uri="sip:example.net",response="r"'


def registering(book: Book, *headers: str, contact: str = "<sip:alice@10.0.0.7:5070>;expires=600") -> None:
    """A REGISTER of alice with those header lines."""
    book.receive(
        UE,
        "\n".join(
            (
                "REGISTER sip:example.net SIP/2.0",
                "Via: SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKborder",
                "From: <sip:alice@example.net>;tag=reg",
                "To: <sip:alice@example.net>",
                "Call-ID: border",
                "CSeq: 1 REGISTER",
                f"Contact: {contact}",
                "Max-Forwards: 70",
                *headers,
            )
        ),
    )


@pytest.mark.parametrize(
    "claim",
    ['integrity-protected="yes"', "integrity-protected=tls-yes", 'Integrity-Protected = "auth-done"'],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_ue_does_not_speak_of_its_own_protection(claim: str, trusted: bool) -> None:
    book = Book(settings(access={"trusted": trusted}))
    registering(
        book,
        f"Authorization: {CREDENTIALS}, {claim}",
        f"authorization: Digest {claim} ,{CREDENTIALS[7:]}",
    )
    sent = book.request("REGISTER").headers.get_all("authorization")
    assert sent == [CREDENTIALS, CREDENTIALS]


def test_credentials_go_on_as_they_stand() -> None:
    book = Book()
    line = CREDENTIALS + ',opaque="a,integrity-protected=\\"yes\\""'
    registering(book, f"Authorization: {line}")
    assert book.request("REGISTER").headers.get_all("authorization") == [line]


@pytest.mark.parametrize(
    "line",
    [
        f"{CREDENTIALS}, Digest integrity-protected=yes",
        f"{CREDENTIALS};integrity-protected=yes",
        f'{CREDENTIALS},opaque=",integrity-protected=yes',
        "integrity-protected=yes",
    ],
)
def test_credentials_that_hide_such_a_claim_are_refused(line: str) -> None:
    book = Book()
    registering(book, f"Authorization: {line}")
    assert book.response(400)


ECSCF = {"emergency_next_hop": "sip:10.9.0.112"}
SOS = "urn:service:sos"


@pytest.mark.parametrize("trusted", [False, True])
def test_a_ue_does_not_say_that_an_emergency_centre_calls(trusted: bool) -> None:
    book = Book(settings(access={"trusted": trusted}))
    register(book)
    for number, value in enumerate(("psap-callback", "PSAP-Callback", "urgent")):
        text = request("INVITE", f"Priority: {value}", branch=f"p{number}", call_id=f"p{number}")
        book.receive(UE, text, AUDIO)
        assert book.request("INVITE").headers.get("priority") == (value if trusted or value == "urgent" else None)
    book.feed(Drain(None))
    book.out()
    book.receive(UE, request("INVITE", "Priority: psap-callback", branch="d", call_id="d"), AUDIO)
    assert book.response(503)


@pytest.mark.parametrize("trusted", [False, True])
def test_the_cores_word_for_it_counts_when_the_core_is_trusted(trusted: bool) -> None:
    book = Book(settings(core={"trusted": trusted}))
    path = register(book)
    text = request(
        "INVITE", f"Route: {path}", "Priority: psap-callback", uri="sip:alice@10.0.0.7:5070", branch="a", flow=SCSCF
    )
    book.receive(SCSCF, text, AUDIO)
    assert book.request("INVITE").headers.get("priority") == ("psap-callback" if trusted else None)
    book.feed(Drain(None))
    book.out()
    book.receive(SCSCF, text.replace("z9hG4bKa", "z9hG4bKb").replace("call-1", "call-2"), AUDIO)
    if trusted:
        assert book.request("INVITE")
    else:
        assert book.response(503)


def test_one_register_is_for_emergencies_or_is_not() -> None:
    book = Book(settings(core={**ECSCF, "emergency_register_next_hop": "sip:10.9.0.200"}))
    sos, plain = "<sip:alice@10.0.0.7:5070;sos>;expires=600", "<sip:alice@10.0.0.7:5070>;expires=600"
    registering(book, contact=f"{sos}, {plain}")
    assert book.response(400)
    book = Book(book.settings)
    registering(book, f"m: {sos}", contact=plain)
    assert book.response(400)
    book = Book(book.settings)
    registering(book, contact=f"{sos}, <sip:alice@10.0.0.7:5071;sos>")
    assert book.request("REGISTER")


def callers(count: int) -> list[Flow]:
    return [Flow("udp", "access", UE.local, (f"198.51.100.{number}", 5060)) for number in range(count)]


def statuses(book: Book) -> list[int | str]:
    """What was sent: methods of requests, final statuses of responses."""
    sent = [m.method if isinstance(m, Request) else m.status for m, _ in book.out()]
    return [one for one in sent if one != 100]


def test_calls_for_help_take_no_room_from_the_others() -> None:
    book = Book(settings(limits={"calls": 3}, core=ECSCF))
    register(book)
    for number, flow in enumerate(callers(5)):
        name = f"q{number}"
        book.receive(flow, request("INVITE", uri=SOS, branch=name, call_id=name, flow=flow), AUDIO)
        assert statuses(book) == (["INVITE"] if number < 3 else [503])
    for number in range(4):
        book.receive(UE, request("INVITE", branch=f"o{number}", call_id=f"o{number}"), AUDIO)
        assert statuses(book) == (["INVITE"] if number < 3 else [503]), "nor the others from them"


def test_the_room_of_calls_for_help_comes_back() -> None:
    book = Book(settings(limits={"calls": 1}, core=ECSCF))
    for number, flow in enumerate(callers(3)):
        name = f"q{number}"
        book.receive(flow, request("INVITE", uri=SOS, branch=name, call_id=name, flow=flow), AUDIO)
        (sent, where), *_ = [one for one in book.out() if isinstance(one[0], Request)]
        assert isinstance(sent, Request)
        book.feed(wire(answer(sent, 486), Flow("udp", "core", SCSCF.local, where.remote)))
        assert [m.status for m, _ in book.out() if isinstance(m, Response)] == [486]
        assert book.engine.context.urgent_calls == 0


@pytest.mark.parametrize("method", ["SUBSCRIBE", "MESSAGE", "PUBLISH", "REFER", "OPTIONS"])
def test_who_is_not_registered_may_call_for_help_and_no_more(method: str) -> None:
    book = Book(settings(core=ECSCF))
    register(book)
    book.receive(UE_B, request(method, uri=SOS, flow=UE_B))
    assert book.response(403)
    book.receive(UE, request(method, uri=SOS, branch="r", call_id="r"))
    assert book.request(method).uri == SOS
    book.receive(UE_B, request("INVITE", uri=SOS, branch="i", call_id="i", flow=UE_B), AUDIO)
    assert book.request("INVITE").uri == SOS
