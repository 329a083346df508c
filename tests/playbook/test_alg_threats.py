"""What a hostile peer may try on the P-CSCF, each with the answer that it gets (RFC 3261 26.1, RFC 3329, TS 33.203).

MALLORY is another registered UE, or a stranger, on the same access side; ``establish`` makes the call that is attacked.
"""

import pytest
from tests.playbook.alg_harness import (
    ACCESS,
    AUDIO,
    KEY,
    SCSCF,
    UE,
    UE_B,
    Book,
    answer,
    register,
    request,
    settings,
    sip,
    wire,
)
from tests.playbook.test_alg_proxy import establish, from_called, from_caller, originate

from imsalg.core.events import BadMessageIn, Received
from imsalg.core.tokens import PATH, TokenMint
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, parse
from imswire.sip.transaction import Send

MALLORY = UE_B
STRANGER = Flow("udp", "access", ACCESS, ("203.0.113.66", 5060))
SAME_HOST = Flow("udp", "access", ACCESS, (UE.remote[0], 49_999))


def final(book: Book) -> Response:
    """The only final response that was sent since the last look."""
    [found] = [m for m, _ in book.out() if isinstance(m, Response) and m.status >= 200]
    return found


# --- requests in somebody else's dialog -------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [MALLORY, STRANGER], ids=["another UE", "a stranger"])
@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO", "REFER"])
def test_a_request_in_anothers_dialog_with_a_stolen_route_is_403(source: Flow, method: str) -> None:
    """The other end of the call has seen the token; that does not make it the caller."""
    book = Book()
    _, ok = establish(book)
    register(book, "mallory", MALLORY)
    book.receive(source, from_caller(method, 2, ok))
    assert final(book).status == 403
    assert book.engine.gauges["calls"] == 1
    book.receive(SCSCF, from_called("INFO", 2, originated(book)))
    assert book.out()[-1][1] == UE, "nor has the way to the UE changed"


def originated(book: Book) -> Request:
    """The INVITE of the only call, with our Record-Routes."""
    [call] = book.engine.context.calls.values()
    values = [f"<sip:{call.tokens[side]}@x;lr>" for side in call.tokens]
    access, core = values
    made = parse(sip(request("INVITE")))
    assert isinstance(made, Request)
    made.headers.add("Record-Route", core.replace("@x", "@10.9.0.1:5060"))
    made.headers.add("Record-Route", access.replace("@x", "@10.0.0.1:5060"))
    return made


@pytest.mark.parametrize("source", [MALLORY, STRANGER])
def test_a_bye_without_our_route_is_481(source: Flow) -> None:
    book = Book()
    _, ok = establish(book)
    book.receive(source, request("BYE", to=str(ok.to), number=2, branch="spoof"))
    assert final(book).status == 481
    assert book.engine.gauges["calls"] == 1


def test_an_ack_of_a_stranger_goes_nowhere() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("INVITE"), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.9.0.50:5060>", body=AUDIO), SCSCF))
    ok = book.response(200)
    book.receive(STRANGER, from_caller("ACK", 1, ok, branch="spoof"))
    assert book.out() == []
    book.receive(UE, from_caller("ACK", 1, ok))
    assert book.request("ACK")


def test_the_same_ue_may_come_from_another_port_or_connection() -> None:
    book = Book()
    _, ok = establish(book)
    book.receive(SAME_HOST, from_caller("INFO", 2, ok))
    assert book.request("INFO")


def test_a_ue_that_registered_from_elsewhere_keeps_its_call() -> None:
    book = Book()
    _, ok = establish(book)
    register(book, "alice", STRANGER)
    book.receive(STRANGER, from_caller("BYE", 2, ok))
    assert book.request("BYE")


def test_a_subscription_is_not_refreshed_by_another_ue() -> None:
    book = Book()
    register(book)
    register(book, "mallory", MALLORY)
    book.receive(UE, request("SUBSCRIBE", "Event: reg", uri="sip:alice@example.net"))
    subscribe = book.request("SUBSCRIBE")
    book.feed(wire(answer(subscribe, 200, "Contact: <sip:core@10.9.0.9>"), SCSCF))
    routes = [f"Route: {value}" for value in reversed(book.response(200).headers.values("record-route"))]
    again = request("SUBSCRIBE", *routes, "Event: reg", uri="sip:core@10.9.0.9", to="<sip:b@c>;tag=callee", number=2)
    book.receive(MALLORY, again.replace("a1", "m1"))
    assert final(book).status == 481
    book.receive(UE, again.replace("a1", "a2"))
    assert book.request("SUBSCRIBE")


# --- CANCEL and responses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [MALLORY, STRANGER, SCSCF])
def test_a_cancel_of_a_stranger_is_481_and_cancels_nothing(source: Flow) -> None:
    book = Book()
    invite = originate(book)
    book.feed(wire(answer(invite, 180), SCSCF))
    book.out()
    book.receive(source, request("CANCEL"))
    assert final(book).status == 481
    book.receive(UE, request("CANCEL"))
    assert {m.method for m, _ in book.out() if isinstance(m, Request)} == {"CANCEL"}


def test_responses_to_guessed_branches_are_dropped() -> None:
    book = Book()
    invite = originate(book)
    forged = answer(invite, 200, "Contact: <sip:evil@10.9.0.66>", body=AUDIO)
    branch = (invite.via.branch or "").encode()
    for guess in (branch + b"0", branch[:-1] + b"Z", b"z9hG4bK", b"z9hG4bKa1", branch.upper()):
        book.feed(wire(forged.replace(branch, guess), SCSCF))
    assert book.out() == []
    book.feed(wire(forged, UE_B))
    assert book.out() == [], "from the other side, even with the right one"
    assert book.engine.stats.dropped == 6


def test_a_response_on_behalf_of_a_ue_comes_from_its_host() -> None:
    book = Book()
    path = register(book)
    book.receive(SCSCF, request("INVITE", f"Route: {path}", uri="sip:alice@10.0.0.7:5070", flow=SCSCF), AUDIO)
    invite = book.request("INVITE")
    ok = answer(invite, 200, "Contact: <sip:alice@10.0.0.7:5070>", body=AUDIO)
    book.feed(wire(ok, STRANGER))
    assert book.out() == []
    book.feed(wire(ok, SAME_HOST))
    assert book.response(200)


# --- CSeq -------------------------------------------------------------------------------------------------------------


def test_cseq_games_in_a_dialog() -> None:
    """Order is the other end's to judge (RFC 3261 12.2.2): lower and equal numbers pass."""
    book = Book()
    _, ok = establish(book)
    for number, branch in ((5, "x1"), (3, "x2"), (5, "x3"), (0, "x4")):
        book.receive(UE, from_caller("INFO", number, ok, branch=branch))
        assert book.request("INFO").cseq.number == number
    book.receive(UE, from_caller("INFO", 2**31, ok))
    assert final(book).status == 400, "no number would be left for a BYE in the UE's name (RFC 3261 8.1.1.5)"
    book.receive(UE, from_caller("INFO", 2**31 - 1, ok))
    assert book.request("INFO")


def test_a_call_does_not_begin_with_a_number_that_leaves_no_room() -> None:
    book = Book()
    register(book)
    book.receive(UE, request("INVITE", number=2**31), AUDIO)
    assert final(book).status == 400
    assert book.engine.gauges["calls"] == 0


def test_a_method_that_differs_from_cseq_is_400() -> None:
    data = sip(request("INVITE")).replace(b"1 INVITE", b"1 BYE")
    assert refusal(data).startswith(b"SIP/2.0 400 ")


def refusal(data: bytes, flow: Flow = STRANGER) -> bytes:
    """What the door and the engine answer to octets; b"" for nothing."""
    book = Book()
    try:
        event: Received | BadMessageIn = Received(parse(data), flow)
    except BadMessage as error:
        event = BadMessageIn(error, flow)
    sent = [one.message.to_bytes() for one in book.engine.handle(event, book.now) if isinstance(one, Send)]
    assert book.engine.stats.bugs == 0
    return b"".join(one for one in sent if not one.startswith(b"SIP/2.0 100"))


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx",
        "Via: " + ", ".join(["SIP/2.0/UDP h"] * 100),
        "Route: <sip:a;lr>",
        "X-Bomb: x",
        "Contact: <sip:a@b>",
        f"Subject: {'x' * 9000}",
    ],
)
def test_ten_thousand_headers_are_513(line: str) -> None:
    bomb = (line + "\r\n").encode() * 10_000
    data = sip(request("OPTIONS")).replace(b"Max-Forwards", bomb + b"Max-Forwards")
    assert refusal(data).startswith(b"SIP/2.0 513 ")
    assert len(refusal(data)) < 20_000, "and what comes back is bounded"


def test_a_route_that_leads_back_here_over_and_over_ends() -> None:
    """A UE's Route is not followed: the registration's is; so nothing can be sent round in circles."""
    book = Book()
    register(book)
    loop = ["Route: <sip:10.0.0.1:5060;lr>", "Route: <sip:10.9.0.1:5060;lr>"] * 30
    book.receive(UE, request("INVITE", *loop, uri="sip:bob@10.0.0.1:5060"), AUDIO)
    invite, flow = book.out()[-1]
    assert isinstance(invite, Request)
    assert flow.remote == ("10.9.0.9", 5060)
    assert "route" not in invite.headers


def test_a_core_that_sends_in_circles_runs_out_of_hops() -> None:
    book = Book()
    register(book)
    hops = 70
    for turn in range(100):
        book.receive(UE, request("MESSAGE", branch=f"turn{turn}").replace("Forwards: 70", f"Forwards: {hops}"))
        sent = book.out()[-1][0]
        if isinstance(sent, Response):
            assert (sent.status, turn) == (483, 70)
            return
        hops = sent.max_forwards or 0
    pytest.fail("it never ended")


def test_routes_of_the_core_through_here_again_and_again_end_at_no_binding() -> None:
    book = Book()
    register(book)
    loop = ["Route: <sip:10.9.0.1:5060;lr>"] * 60
    book.receive(SCSCF, request("INVITE", *loop, uri="sip:10.9.0.1:5060", flow=SCSCF), AUDIO)
    assert final(book).status >= 400


# --- tokens -----------------------------------------------------------------------------------------------------------


def to_ue(book: Book, route: str, uri: str = "sip:alice@10.0.0.7:5070") -> None:
    book.receive(SCSCF, request("INVITE", f"Route: {route}", uri=uri, flow=SCSCF, call_id=route[-40:-20]), AUDIO)


def test_a_path_token_made_with_another_key_is_403() -> None:
    book = Book()
    path = register(book)
    forged = TokenMint(bytes(reversed(KEY))).seal_flow(PATH, STRANGER)
    to_ue(book, path[: path.index(":") + 1] + forged + path[path.index("@") :])
    assert final(book).status == 403


def test_every_changed_character_of_a_path_is_403_or_no_token() -> None:
    book = Book()
    path = register(book)
    start, end = path.index(":") + 1, path.index("@") - 1  # the last one may hold bits that no octet uses
    for index in range(start, end, 5):
        changed = path[:index] + ("A" if path[index] != "A" else "B") + path[index + 1 :]
        to_ue(book, changed)
        assert final(book).status == 403


def test_a_replayed_path_of_a_registration_that_is_over_is_404() -> None:
    book = Book()
    path = register(book)
    book.advance(7000)
    to_ue(book, path)
    assert final(book).status == 404


def test_a_replayed_record_route_of_a_call_that_is_over_is_481() -> None:
    book = Book()
    _, ok = establish(book)
    book.receive(UE, from_caller("BYE", 2, ok))
    bye = book.request("BYE")
    book.feed(wire(answer(bye, 200), SCSCF))
    book.advance(100)
    book.out()
    book.receive(UE, from_caller("INFO", 3, ok))
    assert final(book).status == 481


def test_a_path_does_not_name_a_ue_for_another_contact() -> None:
    """With a true Path of alice, requests for somebody else's contact do not reach alice's neighbours."""
    book = Book()
    path = register(book)
    register(book, "mallory", MALLORY)
    to_ue(book, path, "sip:mallory@10.0.0.8:5070")
    sent = [(m, flow) for m, flow in book.out() if isinstance(m, Request)]
    assert all(flow == UE for _, flow in sent)


# --- registration -----------------------------------------------------------------------------------------------------


def hijack(book: Book, aor: str, contact: str, flow: Flow) -> Request:
    book.receive(
        flow,
        f"""
        REGISTER sip:example.net SIP/2.0
        Via: SIP/2.0/UDP {flow.remote[0]}:{flow.remote[1]};branch=z9hG4bKhijack{aor}
        From: <sip:{aor}@example.net>;tag=reg
        To: <sip:{aor}@example.net>
        Call-ID: reg-alice
        CSeq: 99 REGISTER
        Contact: <{contact}>;expires=600
        Max-Forwards: 70
        """,
    )
    return book.request("REGISTER")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_registration_is_not_taken_over_without_the_cores_200(status: int) -> None:
    """The same AOR, Contact, Call-ID and a higher CSeq from another flow: the core asks for the secret."""
    book = Book()
    path = register(book)
    asked = hijack(book, "alice", "sip:alice@10.0.0.7:5070", STRANGER)
    assert asked.headers.get("path") != path
    to_ue(book, path)
    assert book.out()[-1][1] == UE, "while it is being asked"
    book.feed(wire(answer(asked, status), SCSCF))
    assert final(book).status == status
    to_ue(book, path)
    book.receive(STRANGER, request("MESSAGE", branch="as-alice"))
    assert final(book).status == 403, "and the stranger is no UE"


def test_a_contact_of_another_user_does_not_draw_its_calls() -> None:
    """Mallory registers, rightly, but names alice's address as her Contact: alice's calls go on to alice."""
    book = Book()
    path = register(book)
    asked = hijack(book, "mallory", "sip:alice@10.0.0.7:5070", MALLORY)
    granted = "Contact: <sip:alice@10.0.0.7:5070>;expires=600"
    book.feed(wire(answer(asked, 200, granted), SCSCF))
    book.out()
    to_ue(book, path)
    assert book.out()[-1][1] == UE
    book.receive(UE, request("MESSAGE", branch="by-alice"))
    assert book.request("MESSAGE").headers.get("p-asserted-identity") == "<sip:alice@example.net>"
    book.receive(MALLORY, request("MESSAGE", branch="by-mallory"))
    assert book.request("MESSAGE").headers.get("p-asserted-identity") == "<sip:mallory@example.net>"


def test_a_stranger_does_not_deregister_anybody() -> None:
    book = Book()
    path = register(book)
    book.receive(
        STRANGER,
        """
        REGISTER sip:example.net SIP/2.0
        Via: SIP/2.0/UDP 203.0.113.66;branch=z9hG4bKaway
        From: <sip:alice@example.net>;tag=reg
        To: <sip:alice@example.net>
        Call-ID: away
        CSeq: 1 REGISTER
        Contact: *
        Expires: 0
        Max-Forwards: 70
        """,
    )
    asked = book.request("REGISTER")
    book.feed(wire(answer(asked, 401), SCSCF))
    book.out()
    to_ue(book, path)
    assert book.out()[-1][1] == UE


# --- amplification ----------------------------------------------------------------------------------------------------


def test_a_stranger_gets_one_refusal_and_no_repetitions() -> None:
    """Over UDP an INVITE from a forged address would have its refusal sent eleven times (RFC 3261 17.2.1, timer G)."""
    book = Book()
    book.receive(STRANGER, request("INVITE", flow=STRANGER), AUDIO)
    first = book.out()
    assert [m.status for m, _ in first if isinstance(m, Response)] == [100, 403]
    assert book.engine.next_timer() is None, "nothing is kept"
    book.receive(STRANGER, request("INVITE", flow=STRANGER), AUDIO)
    assert [m.to_bytes() for m, _ in book.out()] == [m.to_bytes() for m, _ in first], "the same again, tag included"
    ack = request("ACK", flow=STRANGER, to=str(first[-1][0].to))
    book.receive(STRANGER, ack)
    assert book.out() == []


@pytest.mark.parametrize(
    "data",
    [
        sip(request("INVITE", flow=STRANGER), AUDIO),
        sip(request("OPTIONS", flow=STRANGER)),
        sip(request("FOO", flow=STRANGER)),
        sip(request("BYE", flow=STRANGER)),
        sip(request("OPTIONS", flow=STRANGER)).replace(b"sip:bob@example.net SIP", b"x SIP"),
        b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/UDP a\r\nf:x\r\nt:y\r\ni:z\r\nCSeq: 1 OPTIONS\r\n\r\n",
        b"X x\r\nv: SIP/2.0/UDP a\r\n\r\n",
    ],
)
def test_what_comes_back_over_udp_is_little_more_than_what_was_sent(data: bytes) -> None:
    assert len(refusal(data)) <= len(data) + 300


@pytest.mark.parametrize(
    "data", [b"\r\n\r\n", b"\0", b"", b"SIP/2.0 200 OK\r\n\r\n", b"x" * 60_000, b"ACK x SIP/2.0\r\n\r\n"]
)
def test_rubbish_is_met_with_silence(data: bytes) -> None:
    assert refusal(data) == b""


# --- limits ---------------------------------------------------------------------------------------


def test_calls_beyond_the_limit_are_503_with_retry_after() -> None:
    book = Book(settings(limits={"calls": 1}))
    register(book)
    book.receive(UE, request("INVITE", call_id="one", branch="one"), AUDIO)
    assert book.request("INVITE")
    book.receive(UE, request("INVITE", call_id="two", branch="two"), AUDIO)
    refused = final(book)
    assert (refused.status, refused.headers.get("retry-after")) == (503, "10")
