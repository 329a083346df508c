"""Edges of routes and dialogs: what reads in two ways, what goes around the media half, whose dialog it is.

Each attack stands beside what looks like it and has to go on working (RFC 3261 16.3 to 16.6, RFC 6665, RFC 5057).
"""

import pytest
from tests.playbook.alg_harness import (
    ACCESS,
    AUDIO,
    LISTENERS,
    SCSCF,
    UE,
    Book,
    answer,
    register,
    request,
    settings,
    wire,
)
from tests.playbook.test_alg_dialogs import CONTACT, again, routes_of, subscribed

from imsalg.core.routing import Listener
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response

SERVICE_ROUTE = "<sip:orig@10.9.0.9;lr>"
EVIL = "<sip:10.66.6.6;lr>"
BEYOND = "<sip:10.9.0.40:5080;lr>"
TARGET = "sip:bob@10.9.0.50:5060"


def sent_by(book: Book) -> list[tuple[Request, Flow]]:
    """The requests that were sent since the last look."""
    return [(message, flow) for message, flow in book.out() if isinstance(message, Request)]


def call_of(book: Book, *beyond: str) -> Response:
    """A call that alice began; its 200 as she sees it."""
    register(book, "alice", UE, f"Service-Route: {SERVICE_ROUTE}")
    book.receive(UE, request("INVITE", f"Route: {SERVICE_ROUTE}"), AUDIO)
    ok = answer(book.request("INVITE"), 200, f"Contact: <{TARGET}>", body=AUDIO)
    if beyond:
        ok = ok.replace(b"Record-Route: ", f"Record-Route: {', '.join(beyond)}\r\nRecord-Route: ".encode(), 1)
    book.feed(wire(ok, SCSCF))
    found = book.response(200)
    book.receive(UE, inside("ACK", found, number=1, branch="k1"))
    book.out()
    return found


def inside(
    method: str,
    ok: Response,
    *,
    number: int = 2,
    uri: str = TARGET,
    routes: list[str] | None = None,
    branch: str = "i2",
) -> str:
    """A request of alice in the dialog of ``ok``."""
    values = routes_of(ok) if routes is None else routes
    return request(method, f"Route: {', '.join(values)}", uri=uri, number=number, to=str(ok.to), branch=branch)


# --- a display name is no route ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", ["", "<sip:10.0.0.1:5060;lr>, "])
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
@pytest.mark.parametrize("mode", ["replace", "reject"])
def test_a_route_in_a_display_name_does_not_lead_away(mode: str, method: str, own: str) -> None:
    book = Book(settings(access={"route_check": mode}))
    register(book, "alice", UE, f"Service-Route: {SERVICE_ROUTE}")
    book.receive(UE, request(method, f'Route: {own}"{SERVICE_ROUTE}" {EVIL}'))
    if mode == "reject":
        assert book.response(400)
    else:
        [(sent, flow)] = sent_by(book)
        assert (sent.headers.values("route"), flow) == ([SERVICE_ROUTE], SCSCF)


@pytest.mark.parametrize(
    "route", [SERVICE_ROUTE, '"S-CSCF" <sip:orig@10.9.0.9;lr>', "<SIP:orig@10.9.0.9;LR>", "<sip:orig@10.9.0.9;lr>;x=y"]
)
def test_the_registered_route_passes_and_goes_on_as_the_core_wrote_it(route: str) -> None:
    book = Book(settings(access={"route_check": "reject"}))
    register(book, "alice", UE, f"Service-Route: {SERVICE_ROUTE}")
    book.receive(UE, request("MESSAGE", f"Route: <sip:10.0.0.1:5060;lr>, {route}"))
    [(sent, flow)] = sent_by(book)
    assert (sent.headers.values("route"), flow) == ([SERVICE_ROUTE], SCSCF)


def test_a_display_name_that_names_us_is_not_taken_off() -> None:
    book = Book(settings(access={"route_check": "reject"}))
    register(book, "alice", UE, f"Service-Route: {SERVICE_ROUTE}")
    book.receive(UE, request("MESSAGE", f'Route: "<sip:10.0.0.1:5060;lr>" {EVIL}, {SERVICE_ROUTE}'))
    assert book.response(400)


@pytest.mark.parametrize("mode", ["replace", "reject"])
def test_a_display_name_does_not_lead_out_of_a_call(mode: str) -> None:
    book = Book(settings(access={"route_check": mode}))
    ok = call_of(book, BEYOND)
    access, core, beyond = routes_of(ok)
    book.receive(UE, inside("INFO", ok, routes=[access, core, f'"{beyond}" {EVIL}']))
    if mode == "reject":
        assert book.response(400)
    else:
        [(sent, flow)] = sent_by(book)
        assert (sent.headers.values("route"), flow.remote) == ([BEYOND], ("10.9.0.40", 5080))
    for number, method in enumerate(("INFO", "MESSAGE"), 3):
        book.receive(UE, inside(method, ok, number=number, branch=f"g{number}"))
        [(sent, flow)] = sent_by(book)
        assert flow.remote == ("10.9.0.40", 5080)


def test_a_display_name_does_not_lead_out_of_a_subscription() -> None:
    book = Book()
    _, ok = subscribed(book, BEYOND)
    access, core, beyond = routes_of(ok)
    book.receive(UE, again(access, core, f'"{beyond}" {EVIL}', branch="x1"))
    assert book.response(400)
    book.receive(UE, again(access, core, f'"{EVIL}" {beyond}', branch="x2"))
    [(sent, flow)] = sent_by(book)
    assert (sent.headers.values("route"), flow.remote) == ([BEYOND], ("10.9.0.40", 5080))


# --- the remote target ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["sip:bob@10.9.0.5", "sip:bob@10.9.0.50:506", f"{TARGET};maddr=10.66.6.6", "sip:bob"])
def test_a_part_of_the_remote_target_is_not_the_target(uri: str) -> None:
    book = Book(settings(access={"route_check": "reject"}))
    ok = call_of(book)
    book.receive(UE, inside("INFO", ok, uri=uri))
    assert book.response(400)
    book.receive(UE, inside("INFO", ok, number=3, branch="i3"))
    assert [flow.remote for _, flow in sent_by(book)] == [("10.9.0.50", 5060)]


# --- a dialog that is no call agrees upon no media --------------------------------------------------------------------

NOTED = "<sip:bob@example.net>;tag=callee"


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "PRACK"])
@pytest.mark.parametrize("body", [AUDIO, ""], ids=["with SDP", "without"])
def test_no_call_is_begun_along_a_subscription(method: str, body: str) -> None:
    book = Book()
    _, ok = subscribed(book, BEYOND)
    route = f"Route: {', '.join(routes_of(ok))}"
    book.receive(UE, request(method, route, "RAck: 1 1 INVITE", uri=CONTACT, to=NOTED, branch="m1", number=2), body)
    assert book.response(481)
    assert book.engine.gauges["calls"] == 0
    book.receive(UE, again(*routes_of(ok)))
    assert sent_by(book), "the subscription itself goes on"


@pytest.mark.parametrize("method", ["MESSAGE", "NOTIFY", "OPTIONS"])
def test_sdp_in_whatever_request_along_a_subscription_is_403(method: str) -> None:
    book = Book()
    _, ok = subscribed(book, BEYOND)
    route = f"Route: {', '.join(routes_of(ok))}"
    book.receive(UE, request(method, route, uri=CONTACT, to=NOTED, branch="m1", number=2), AUDIO)
    assert book.response(403)
    book.receive(UE, request(method, route, uri=CONTACT, to=NOTED, branch="m2", number=3))
    assert [sent.method for sent, _ in sent_by(book)] == [method]


def test_nor_from_the_core_by_our_path_or_token() -> None:
    book = Book()
    _, ok = subscribed(book, BEYOND)
    [binding] = book.engine.context.registrar.bindings()
    path = f"<sip:{binding.path_token}@10.9.0.1:5060;lr>"
    for number, own in enumerate((path, routes_of(ok)[1])):
        book.receive(
            SCSCF,
            request(
                "INVITE",
                f"Route: {own}",
                uri="sip:alice@10.0.0.7:5070",
                from_="<sip:eve@example.net>;tag=e",
                to="<sip:alice@example.net>;tag=al",
                branch=f"c{number}",
                number=7 + number,
                flow=SCSCF,
            ),
            AUDIO,
        )
        assert book.response(481)
    note = request(
        "NOTIFY",
        f"Route: {routes_of(ok)[1]}",
        "Event: presence",
        "Subscription-State: active",
        f"Contact: <{CONTACT}>",
        uri="sip:alice@10.0.0.7:5070",
        from_=NOTED,
        to="<sip:alice@example.net>;tag=al",
        branch="n1",
        flow=SCSCF,
    )
    book.receive(SCSCF, note)
    assert [flow for _, flow in sent_by(book)] == [UE]


# --- strict routers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [SERVICE_ROUTE, "<sip:eve@x.example?Replaces=abc>", "<http://x>"])
@pytest.mark.parametrize("user", ["alice", "carol", "paul", "xavier", "yves"])
def test_a_user_of_this_host_is_not_taken_for_a_token(user: str, last: str) -> None:
    book = Book()
    register(book, "alice", UE, f"Service-Route: {SERVICE_ROUTE}")
    book.receive(UE, request("MESSAGE", f"Route: {last}", uri=f"sip:{user}@10.0.0.1:5060"))
    [(sent, flow)] = sent_by(book)
    assert (sent.uri, sent.headers.values("route"), flow) == (f"sip:{user}@10.0.0.1:5060", [SERVICE_ROUTE], SCSCF)


def test_what_a_strict_router_leaves_is_unwrapped_and_checked() -> None:
    book = Book()
    ok = call_of(book, BEYOND)
    access, *rest = routes_of(ok)
    ours = access.strip("<>")
    book.receive(UE, inside("INFO", ok, uri=ours, routes=[*rest, f"<{TARGET}>"]))
    [(sent, flow)] = sent_by(book)
    assert (sent.uri, sent.headers.values("route"), flow.remote) == (TARGET, [BEYOND], ("10.9.0.40", 5080))
    for number, (last, status) in enumerate((("<sip:eve@x.example?Replaces=abc>", 400), ("<http://x>", 416)), 3):
        book.receive(UE, inside("INFO", ok, number=number, branch=f"s{number}", uri=ours, routes=[*rest, last]))
        assert book.response(status)


# --- a token is no permit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "REFER", "NOTIFY"])
def test_a_subscription_ends_with_the_registration(method: str) -> None:
    book = Book()
    _, ok = subscribed(book, BEYOND)
    book.receive(UE, again(*routes_of(ok), method=method))
    assert [sent.method for sent, _ in sent_by(book)] == [method]
    registrar = book.engine.context.registrar
    [binding] = registrar.bindings()
    registrar.remove(binding)
    book.receive(UE, again(*routes_of(ok), method=method, branch="s3"))
    assert book.response(403)
    book.now += 1
    register(book)
    book.receive(UE, again(*routes_of(ok), method=method, branch="s4"))
    assert [sent.method for sent, _ in sent_by(book)] == [method]


@pytest.mark.parametrize(("method", "status"), [("SUBSCRIBE", 481), ("MESSAGE", 481), ("NOTIFY", 0)])
def test_a_token_from_before_the_answer_leads_nowhere_but_with_a_notify(method: str, status: int) -> None:
    book = Book()
    sent, _ = subscribed(book)
    core, access = sent.headers.values("record-route")
    book.receive(UE, again(access, core, method=method, uri="sip:premium@other.example"))
    if status:
        assert book.response(status)
    else:
        assert [flow for _, flow in sent_by(book)] == [SCSCF]


def test_a_registration_for_emergencies_does_not_carry_a_subscription() -> None:
    book = Book()
    _, ok = subscribed(book, BEYOND)
    [binding] = book.engine.context.registrar.bindings()
    binding.emergency = True
    book.receive(UE, again(*routes_of(ok)))
    assert book.response(403)


# --- what began over TLS ----------------------------------------------------------------------------------------------

TLS = Flow("tls", "access", ("10.0.0.1", 5061), ("10.0.0.7", 40_000), 7)
OPEN = Flow("udp", "access", ACCESS, ("10.0.0.7", 9_999))
AGREED = ("Security-Verify: tls;q=0.2", "Require: sec-agree", "Proxy-Require: sec-agree")
BY_TLS = "<sip:alice@10.0.0.7:40000;transport=tls>"


def over_tls(*verify: str) -> Book:
    """alice is registered over TLS; with ``verify`` she has agreed to it."""
    listen = [
        {"realm": "access", "transport": "udp", "host": ACCESS[0]},
        {"realm": "access", "transport": "tls", "host": ACCESS[0], "certificate": "c", "key": "k"},
        {"realm": "core", "transport": "udp", "host": "10.9.0.1"},
    ]
    book = Book(
        settings(
            access={"signalling": "tls", "emergency_unregistered": True},
            core={"emergency_next_hop": "sip:10.9.0.112"},
            listen=listen,
        ),
        listeners=(*LISTENERS, Listener("access", "tls", "10.0.0.1", 5061)),
    )
    lines = [
        "REGISTER sip:example.net SIP/2.0",
        "Via: SIP/2.0/TLS 10.0.0.7:40000;branch=z9hG4bKr",
        "From: <sip:alice@example.net>;tag=reg",
        "To: <sip:alice@example.net>",
        "Call-ID: reg",
        "CSeq: 1 REGISTER",
        f"Contact: {BY_TLS};expires=6000",
        "Max-Forwards: 70",
        *(("Security-Client: tls;q=0.2", *verify) if verify else ()),
    ]
    book.receive(TLS, "\n".join(lines))
    book.feed(wire(answer(book.request("REGISTER"), 200, f"Contact: {BY_TLS};expires=6000"), SCSCF))
    book.out()
    return book


def of_alice(text: str) -> str:
    """The request with the Contact that she registered, wherever it comes from."""
    lines = [f"Contact: {BY_TLS}" if line.startswith("Contact:") else line for line in text.splitlines()]
    return "\n".join(lines)


@pytest.mark.parametrize("verify", [(), AGREED], ids=["registered over TLS", "agreed to TLS"])
def test_a_subscription_over_tls_is_not_continued_in_the_open(verify: tuple[str, ...]) -> None:
    book = over_tls(*verify)
    book.receive(TLS, of_alice(request("SUBSCRIBE", "Event: presence", *verify, flow=TLS)))
    book.feed(wire(answer(book.request("SUBSCRIBE"), 200, f"Contact: <{CONTACT}>"), SCSCF))
    routes = f"Route: {', '.join(routes_of(book.response(200)))}"

    def refresh(flow: Flow, number: int, *more: str) -> None:
        text = request("SUBSCRIBE", routes, *more, uri=CONTACT, number=number, to=NOTED, branch=f"r{number}", flow=flow)
        book.receive(flow, of_alice(text))

    refresh(OPEN, 2, *verify)
    assert book.response(403)
    refresh(TLS, 3, *verify)
    assert book.request("SUBSCRIBE")
    if verify:
        refresh(TLS, 4)
        assert book.response(494), "the agreement is repeated in each request (RFC 3329 2.3.1)"


@pytest.mark.parametrize("verify", [(), AGREED], ids=["registered over TLS", "agreed to TLS"])
def test_an_emergency_call_in_the_open_is_served_in_nobodys_name(verify: tuple[str, ...]) -> None:
    book = over_tls(*verify)
    book.receive(OPEN, of_alice(request("INVITE", uri="urn:service:sos", branch="e1", call_id="e1", flow=OPEN)), AUDIO)
    [(sent, flow)] = sent_by(book)
    assert flow.remote == ("10.9.0.112", 5060)
    assert "p-asserted-identity" not in sent.headers
    book.receive(TLS, of_alice(request("INVITE", uri="urn:service:sos", branch="e2", call_id="e2", flow=TLS)), AUDIO)
    [(sent, flow)] = sent_by(book)
    assert sent.headers.get("p-asserted-identity") == "<sip:alice@example.net>"


# --- whose dialog it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("domain", "method"), [("evil.example", "BYE"), ("evil.example", "INFO")])
def test_a_user_of_the_same_name_elsewhere_is_another_ue(domain: str, method: str) -> None:
    book = Book()
    ok = call_of(book)
    moved = Flow("udp", "access", ACCESS, ("192.0.2.66", 5060))
    as_there = f"sip:alice@{domain}"
    lines = [
        "REGISTER sip:example.net SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.66:5060;branch=z9hG4bKe",
        f"From: <{as_there}>;tag=reg",
        f"To: <{as_there}>",
        "Call-ID: rege",
        "CSeq: 1 REGISTER",
        "Contact: <sip:alice@192.0.2.66:5060>;expires=600",
        "Max-Forwards: 70",
    ]
    book.receive(moved, "\n".join(lines))
    sent = book.request("REGISTER")
    book.feed(wire(answer(sent, 200, "Contact: <sip:alice@192.0.2.66:5060>;expires=600"), SCSCF))
    book.out()
    book.receive(moved, inside(method, ok))
    assert book.response(403)
    assert book.engine.gauges["calls"] == 1
    book.now += 1
    register(book, "alice", moved)
    book.receive(moved, inside(method, ok, number=3, branch="i3"))
    assert book.request(method), "the caller, who has moved"
