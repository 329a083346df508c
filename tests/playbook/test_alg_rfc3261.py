"""The rules of RFC 3261 and its extensions that a proxy keeps by leaving things alone, and those where it must not."""

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, UE_B, Book, answer, register, request, settings, sip, wire

from imsalg.core.events import Received
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse

OURS = {"via", "max-forwards", "record-route", "route", "content-length", "p-charging-vector", "p-asserted-identity"}
"""What a proxy changes in a request, and the P-CSCF adds to it."""


def others(message: Request | Response) -> list[tuple[str, str]]:
    """The header lines that are none of our business, as written."""
    return [(name, value) for name, value in message.headers if name.lower() not in OURS]


def call(book: Book) -> tuple[Request, Response]:
    register(book)
    book.receive(UE, request("INVITE", "Supported: 100rel, timer"), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.9.0.50>", body=AUDIO), SCSCF))
    return invite, book.response(200)


def inside(ok: Response, method: str, *headers: str, number: int = 2, branch: str = "in") -> str:
    route = f"Route: {', '.join(ok.headers.values('record-route')[::-1])}"
    to = f"<sip:bob@example.net>;tag={ok.to_tag}"
    return request(method, route, *headers, uri="sip:bob@10.9.0.50", to=to, number=number, branch=branch)


# --- responses pass as they are (16.7) ---


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (180, ("Alert-Info: <http://x/y>",)),
        (181, ()),
        (199, ("Reason: Q.850;cause=16",)),
        (300, ("Contact: <sip:a@h>;q=0.7, <sip:b@h>;q=0.3",)),
        (302, ("Contact: <sip:carol@elsewhere.example;transport=tcp>;expires=60", "Expires: 60")),
        (305, ("Contact: <sip:proxy.example>",)),
        (380, ()),
        (401, ('WWW-Authenticate: Digest realm="r", nonce="n", qop="auth,auth-int"',)),
        (407, ('Proxy-Authenticate: Digest realm="a"', 'Proxy-Authenticate: Digest realm="b"')),
        (413, ("Retry-After: 18000;duration=3600",)),
        (415, ("Accept: application/sdp", "Accept-Encoding: gzip")),
        (420, ("Unsupported: foo, bar",)),
        (421, ("Require: 100rel",)),
        (422, ("Min-SE: 1800",)),
        (433, ()),
        (486, ("Retry-After: 120 (in a meeting)",)),
        (488, ('Warning: 304 h "Media type not available"',)),
        (500, ("Retry-After: 3",)),
        (504, ()),
        (513, ()),
        (580, ()),
        (600, ()),
        (603, ("Retry-After: 10",)),
        (606, ('Warning: 399 h "no"',)),
    ],
)
def test_responses_to_invite_pass_as_they_are(status: int, headers: tuple[str, ...]) -> None:
    book = Book()
    register(book)
    book.receive(UE, request(), AUDIO)
    invite = book.request("INVITE")
    theirs = parse(answer(invite, status, *headers))
    book.feed(Received(parse(theirs.to_bytes()), SCSCF))
    passed = book.response(status)
    for line in headers:
        name, _, value = line.partition(":")
        assert value.strip() in passed.headers.get_all(name) or name == "Reason"
    assert passed.headers.count("via") == 1
    assert (book.engine.gauges["calls"] == 1) is (status < 200)


def test_503_of_either_side_becomes_500_and_keeps_retry_after() -> None:
    """16.7 step 6: a 503 would say that this node serves nothing."""
    book = Book()
    path = register(book)
    book.receive(UE, request("MESSAGE"))
    book.feed(wire(answer(book.request("MESSAGE"), 503, "Retry-After: 30"), SCSCF))
    assert book.response(500).headers.get("retry-after") == "30"
    book.receive(SCSCF, request("INVITE", f"Route: {path}", uri="sip:alice@10.0.0.7:5070", flow=SCSCF), AUDIO)
    book.feed(wire(answer(book.request("INVITE"), 503), UE))
    assert book.response(500)
    again = Book()
    again.receive(UE, request("REGISTER", uri="sip:example.net"))
    again.feed(wire(answer(again.request("REGISTER"), 503), SCSCF))
    assert again.response(500)


# --- requests pass as they are (16.6) ---


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("PRACK", ("RAck: 1 1 INVITE",)),
        ("UPDATE", ("Session-Expires: 1800;refresher=uac", "Min-SE: 90", "Supported: timer")),
        ("INFO", ("Info-Package: foo",)),
        ("REFER", ("Refer-To: <sip:carol@example.net?Replaces=1%40h%3Bto-tag%3D2>", "Refer-Sub: false")),
        ("SUBSCRIBE", ("Event: dialog;id=7", "Expires: 0")),
        ("NOTIFY", ("Event: refer", "Subscription-State: terminated;reason=noresource")),
        ("MESSAGE", ("Content-Disposition: render",)),
        ("OPTIONS", ("Accept: application/sdp",)),
        ("PUBLISH", ("SIP-If-Match: abc", "Event: presence")),
        ("BANANA", ("X-Peel: yes",)),
    ],
)
def test_methods_inside_a_call_pass_with_all_they_carry(method: str, headers: tuple[str, ...]) -> None:
    book = Book()
    _, ok = call(book)
    text = inside(ok, method, *headers)
    book.receive(UE, text)
    sent, flow = next((m, f) for m, f in book.out() if isinstance(m, Request))
    assert (sent.method, flow.remote) == (method, ("10.9.0.50", 5060))
    assert others(sent) == others(parse(sip(text)))
    book.feed(wire(answer(sent, 202, "X-Answer: 1"), SCSCF))
    assert book.response(202).headers.get("x-answer") == "1"
    assert book.engine.gauges["calls"] == 1


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("MESSAGE", ("Expires: 60",)),
        ("PUBLISH", ("Event: presence", "Expires: 3600")),
        ("OPTIONS", ()),
        ("SUBSCRIBE", ("Event: presence",)),
        ("REFER", ("Refer-To: <sip:c@example.net>", "Target-Dialog: x;local-tag=1;remote-tag=2")),
        ("BANANA", ()),
    ],
)
def test_methods_outside_dialogs_pass_both_ways(method: str, headers: tuple[str, ...]) -> None:
    book = Book()
    path = register(book)
    book.receive(UE, request(method, *headers))
    sent = book.request(method)
    assert (sent.headers.count("record-route") > 0) is (method in ("SUBSCRIBE", "REFER"))
    book.feed(wire(answer(sent, 200), SCSCF))
    assert book.response(200)
    book.receive(
        SCSCF,
        request(method, f"Route: {path}", *headers, uri="sip:alice@10.0.0.7:5070", branch="t", call_id="t", flow=SCSCF),
    )
    sent = book.request(method)
    assert sent.uri == "sip:alice@10.0.0.7:5070"
    assert "route" not in sent.headers


@pytest.mark.parametrize(
    "uri",
    [
        "tel:+1-201-555-0123;phone-context=example.net",
        "sip:+12015550123;phone-context=x@example.net;user=phone",
        "sip:%61li%63e%40home:pass@EXAMPLE.net;method=INVITE;lr",
        "urn:service:information",
    ],
)
def test_request_uris_keep_their_spelling(uri: str) -> None:
    book = Book()
    register(book)
    book.receive(UE, request(uri=uri), AUDIO)
    sent, flow = next((m, f) for m, f in book.out() if isinstance(m, Request))
    assert (sent.uri, flow) == (uri, SCSCF)


def test_compact_forms_folded_lines_and_lists_keep_their_bytes() -> None:
    book = Book()
    register(book)
    data = (
        b"MESSAGE sip:bob@example.net SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKc\r\n"
        b"f: <sip:alice@example.net>;tag=al\r\nt: <sip:bob@example.net>\r\ni: c-1\r\nCSeq: 1\r\n MESSAGE\r\n"
        b's: one\r\n two\r\n\tthree\r\nk: a,b ,c\r\nSupported: d\r\nX-Odd \t: "a, b";c=<d,e>\r\n'
        b"c: text/plain\r\n\r\nhello"
    )
    book.feed(wire(data, UE))
    sent = next(m for m, _ in book.out() if isinstance(m, Request)).to_bytes()
    for line in (
        b"\r\ns: one\r\n two\r\n\tthree\r\n",
        b"\r\nk: a,b ,c\r\n",
        b'\r\nX-Odd \t: "a, b";c=<d,e>\r\n',
        b"\r\ni: c-1",
    ):
        assert line in sent
    assert sent.endswith(b"\r\nContent-Length: 5\r\n\r\nhello")  # 18.3: a datagram may leave it out, we do not


def test_an_encoded_body_that_nobody_here_has_to_read_passes() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE", "Content-Encoding: gzip", "Content-Type: text/plain"))
    assert book.request("MESSAGE").headers.get("content-encoding") == "gzip"


# --- where a proxy speaks for itself ---


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE"])
def test_no_hops_left_is_483(method: str) -> None:
    book = Book()
    register(book)
    book.receive(UE, request(method).replace("Max-Forwards: 70", "Max-Forwards: 0"))
    assert book.response(483)
    assert not book.engine.gauges["forwards"]


def test_a_request_without_max_forwards_gets_70() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE").replace("Max-Forwards: 70\n", ""))
    assert book.request("MESSAGE").headers.get("max-forwards") == "70"


@pytest.mark.parametrize("method", ["MESSAGE", "BANANA"])
def test_a_silent_server_of_other_methods_is_not_reported(method: str) -> None:
    """RFC 4320 4.2: the 408 would come when its receiver has given up."""
    book = Book()
    register(book)
    book.receive(UE, request(method))
    book.request(method)
    book.advance(40)
    assert [m for m, _ in book.out() if isinstance(m, Response)] == []
    assert book.engine.gauges["forwards"] == 0
    book.advance(200)
    assert book.engine.next_timer() is None or book.engine.next_timer() > book.now + 1000  # type: ignore[operator]


def test_cancel_of_what_is_not_known_is_481_and_goes_nowhere() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("CANCEL"))
    assert [m.start_line for m, _ in book.out()] == ["SIP/2.0 481 Call/Transaction Does Not Exist"]


def test_cancel_before_any_answer_waits_for_one_and_a_2xx_that_crosses_it_wins() -> None:
    """9.1 and 15: no CANCEL before a provisional response; after a 2xx it has no effect."""
    book = Book()
    register(book)
    book.receive(UE, request(), AUDIO)
    invite = book.request("INVITE")
    book.receive(UE, request("CANCEL"))
    assert [m.start_line for m, _ in book.out()] == ["SIP/2.0 200 OK"]
    book.feed(wire(answer(invite, 180), SCSCF))
    assert [m.method for m, _ in book.out() if isinstance(m, Request)] == ["CANCEL"]
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.9.0.50>", body=AUDIO), SCSCF))
    assert book.response(200)
    assert book.engine.gauges["calls"] == 1


def test_strict_routers_on_either_side() -> None:
    """16.4 (in front of us, with our Path in the Request-URI) and 16.6 step 6 (behind us, in the Service-Route)."""
    book = Book()
    path = register(book, "alice", UE, "Service-Route: <sip:10.9.0.60>, <sip:last@10.9.0.61;lr>")
    book.receive(UE, request(), AUDIO)
    sent, flow = next((m, f) for m, f in book.out() if isinstance(m, Request))
    assert (sent.uri, flow.remote) == ("sip:10.9.0.60", ("10.9.0.60", 5060))
    assert sent.headers.values("route") == ["<sip:last@10.9.0.61;lr>", "<sip:bob@example.net>"]
    book.receive(
        SCSCF,
        request(
            "MESSAGE", "Route: <sip:alice@10.0.0.7:5070>", uri=path.strip("<>"), branch="s", call_id="s", flow=SCSCF
        ),
    )
    sent, flow = next((m, f) for m, f in book.out() if isinstance(m, Request))
    assert (sent.uri, flow) == ("sip:alice@10.0.0.7:5070", UE)
    assert "route" not in sent.headers


def test_session_timers_are_left_to_the_ends() -> None:
    """RFC 4028 8: a proxy that asks for nothing changes nothing; 422 and Min-SE are the ends' business."""
    book = Book()
    register(book)
    book.receive(UE, request("INVITE", "x: 90;refresher=uas", "Min-SE: 90", "k: timer"), AUDIO)
    invite = book.request("INVITE")
    assert invite.headers.get("session-expires") == "90;refresher=uas"
    book.feed(
        wire(answer(invite, 200, "Contact: <sip:b@10.9.0.50>", "Session-Expires: 90;refresher=uas", body=AUDIO), SCSCF)
    )
    assert book.response(200).headers.get("session-expires") == "90;refresher=uas"


def test_an_answer_in_a_coding_that_cannot_be_read_ends_the_call() -> None:
    """RFC 5621 and fail closed: what cannot be judged does not pass for an answer."""
    book = Book(settings(access={"allow_unregistered": True}, policy={"msrp": "optional"}))
    register(book)
    book.receive(UE, request(), AUDIO)
    invite = book.request("INVITE")
    book.feed(
        wire(answer(invite, 200, "Contact: <sip:b@10.9.0.50>", "Content-Encoding: gzip", body="\x1f not SDP"), SCSCF)
    )
    sent = [m for m, _ in book.out()]
    assert [m.method for m in sent if isinstance(m, Request)] == ["ACK", "BYE"]
    assert [m.status for m in sent if isinstance(m, Response)][-1] >= 488
    assert book.engine.gauges["calls"] == 0


def test_two_ues_of_one_edge_do_not_share_transactions() -> None:
    book = Book()
    register(book)
    register(book, "bob", UE_B)
    book.receive(UE, request("MESSAGE", branch="same"))
    book.receive(UE_B, request("MESSAGE", branch="same", from_="<sip:bob@example.net>;tag=b", flow=UE_B))
    assert len({m.via.branch for m, _ in book.out() if isinstance(m, Request)}) == 2
