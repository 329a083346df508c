"""What is SDP to any reader of Content-Type is SDP at the edge: no spelling takes a session past the media half."""

import pytest
from tests.playbook.alg_gateway import Gateway
from tests.playbook.alg_harness import SCSCF, UE, Book, answer, register, request, settings, sip, wire
from tests.playbook.test_alg_media import PLAIN_ANSWER, PLAIN_OFFER, establish, originate
from tests.playbook.test_alg_proxy import BOB, from_caller

from imsalg.core.events import Received
from imswire.sip.parser import BadMessage, parse

OFFER = "".join(line.strip() + "\r\n" for line in PLAIN_OFFER.strip().splitlines()).encode()


def with_body(head: str, body: bytes, *types: str) -> bytes:
    """The message ``head`` with a body of those Content-Type values."""
    lines = sip(head).decode().rstrip("\r\n").split("\r\n")
    lines = [line for line in lines if not line.startswith("Content-Length")]
    lines += [f"Content-Type: {one}" for one in types]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def multipart(*heads: str, body: bytes = OFFER) -> bytes:
    parts = b"".join(b"--x\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head in heads)
    return parts + b"--x--\r\n"


def offered(body: bytes, *types: str) -> list[int]:
    """The statuses that an INVITE with that body gets where every MSRP line has to be secured; none: it went on."""
    book = Book(settings(policy={"msrp": "required"}))
    Gateway(book)
    register(book)
    book.feed(Received(parse(with_body(request(), body, *types)), UE))
    sent = [message for message, _ in book.out()]
    if any(message.start_line.startswith("INVITE") for message in sent):
        return []
    return [message.status for message in sent if not hasattr(message, "method") and message.status != 100]


@pytest.mark.parametrize(
    "kind", ["application/sdp", "application / sdp", "application/ sdp", "application\t/sdp", "APPLICATION/SDP ; x=y"]
)
def test_blanks_and_case_do_not_hide_an_offer(kind: str) -> None:
    assert offered(OFFER, kind) == [488]


@pytest.mark.parametrize(
    "kind, status",
    [
        ("application/sdp, text/plain", 400),
        ("text/plain, application/sdp", 400),
        ("application", 400),
        ("message/sip", 415),
        ("application/pkcs7-mime;smime-type=enveloped-data", 415),
        ("application / pkcs7-mime", 415),
    ],
)
def test_what_cannot_be_judged_is_refused(kind: str, status: int) -> None:
    assert offered(OFFER, kind) == [status]


def test_a_body_without_a_type_is_refused() -> None:
    assert offered(OFFER) == [400]


def test_two_content_types_are_no_message() -> None:
    with pytest.raises(BadMessage, match="content-type"):
        parse(with_body(request(), OFFER, "text/plain", "application/sdp"))


@pytest.mark.parametrize(
    "kind, head",
    [
        ("multipart/mixed;boundary=x", "Content-Type: application / sdp"),
        ("multipart / mixed;boundary=x", "Content-Type: application/sdp"),
        ("multipart/mixed;boundary=x", "c: application/\r\n sdp"),
        ("multipart/mixed;boundary=x", "Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64"),
    ],
)
def test_blanks_do_not_hide_a_part(kind: str, head: str) -> None:
    assert offered(multipart(head), kind) == [488]


@pytest.mark.parametrize(
    "kind, body",
    [
        ("text/plain", b"hello"),
        ("application/vnd.example+xml; charset=utf-8", b"<x/>"),
        ("multipart/mixed;boundary=x", multipart("Content-Type: text/plain", body=b"send application/sdp, they said")),
    ],
)
def test_other_bodies_go_on(kind: str, body: bytes) -> None:
    assert offered(body, kind) == []


def test_a_re_invite_with_blanks_does_not_open_a_secured_call() -> None:
    book = Book()
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.feed(Received(parse(with_body(from_caller("INVITE", 2, ok), OFFER, "application / sdp")), UE))
    assert not [message for message, flow in book.out() if flow.realm == "core"]  # it waits for the gateway


@pytest.mark.parametrize("kind", ["application / sdp", "application/sdp, text/plain", None])
def test_an_answer_is_known_by_any_spelling(kind: str | None) -> None:
    """The UE is never shown the plain SDP of the core."""
    book = Book()
    gateway = Gateway(book)
    invite = originate(book, gateway)
    line = b"" if kind is None else f"Content-Type: {kind}\r\n".encode()
    reply = answer(invite, 200, BOB, body=PLAIN_ANSWER).replace(b"Content-Type: application/sdp\r\n", line)
    book.feed(wire(reply, SCSCF))
    gateway.answer()
    assert b"TCP/TLS/MSRP" in book.response(200).body


def test_no_spelling_brings_media_along_a_subscription() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("SUBSCRIBE", "Event: presence"))
    subscribe = book.request("SUBSCRIBE")
    book.feed(wire(answer(subscribe, 200, "Contact: <sip:n@10.9.0.30:5070>"), SCSCF))
    book.out()
    routes = ", ".join(subscribe.headers.values("record-route"))
    for number, (kind, body, refused) in enumerate(
        (
            ("application / sdp", OFFER, True),
            ("multipart/mixed;boundary=x", multipart("Content-Type: application / sdp"), True),
            (
                "multipart/related;boundary=x",
                multipart("Content-Type: text/xml", body=b"<a>application/sdp</a>"),
                False,
            ),
        )
    ):
        head = f"""NOTIFY sip:alice@10.0.0.7:5070 SIP/2.0
            Via: SIP/2.0/UDP 10.9.0.9:5060;branch=z9hG4bKn{number}
            Route: {routes}
            From: <sip:bob@example.net>;tag=n
            To: <sip:alice@example.net>;tag=a1
            Call-ID: c1@10.0.0.7
            CSeq: {number + 1} NOTIFY
            Contact: <sip:n@10.9.0.30:5070>
            Event: presence
            Subscription-State: active
            Max-Forwards: 70"""
        book.feed(Received(parse(with_body(head, body, kind)), SCSCF))
        out = [f"{flow.realm} {message.start_line.split()[1]}" for message, flow in book.out()]
        assert out == (["core 403"] if refused else ["access sip:alice@10.0.0.7:5070"])
