"""Dialogs that are no calls, and what a UE may not do along a dialog (RFC 6665, RFC 3515, TS 24.229 5.2.6.3)."""

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, Book, answer, register, request, settings, wire

from imswire.sip.message import Request, Response

PCSCF_AS = "<sip:10.9.0.40:5080;lr>"
CONTACT = "sip:notifier@10.9.0.30:5070"


def subscribed(book: Book, *beyond: str, method: str = "SUBSCRIBE") -> tuple[Request, Response]:
    """A dialog that the UE began; ``beyond`` are the Record-Route values of the core, nearest to the notifier first."""
    register(book)
    extra = ["Event: presence"] if method == "SUBSCRIBE" else ["Refer-To: <sip:carol@example.net>"]
    book.receive(UE, request(method, *extra))
    sent = book.request(method)
    ok = answer(sent, 200, f"Contact: <{CONTACT}>")
    if beyond:
        ok = ok.replace(b"Record-Route: ", f"Record-Route: {', '.join(beyond)}\r\nRecord-Route: ".encode(), 1)
    book.feed(wire(ok, SCSCF))
    return sent, book.response(200)


def routes_of(ok: Response) -> list[str]:
    """The route set of the UE (RFC 3261 12.1.2)."""
    return ok.headers.values("record-route")[::-1]


def again(*routes: str, uri: str = CONTACT, branch: str = "s2", method: str = "SUBSCRIBE") -> str:
    lines = [f"Route: {', '.join(routes)}"] if routes else []
    return request(method, *lines, "Event: presence", uri=uri, to="<sip:bob@example.net>;tag=callee", branch=branch)


@pytest.mark.parametrize("method", ["SUBSCRIBE", "REFER"])
@pytest.mark.parametrize("beyond", [(), (PCSCF_AS,), ("<sip:10.9.0.41;lr>", PCSCF_AS)])
def test_a_refresh_along_the_dialog_goes_through(method: str, beyond: tuple[str, ...]) -> None:
    book = Book()
    _, ok = subscribed(book, *beyond, method=method)
    book.receive(UE, again(*routes_of(ok)))
    sent, flow = next((m, f) for m, f in book.out() if isinstance(m, Request))
    assert sent.headers.values("route") == list(beyond[::-1])
    assert flow.remote == (("10.9.0.40", 5080) if beyond else ("10.9.0.30", 5070))


def test_a_ue_cannot_send_to_anybody_along_a_subscription() -> None:
    book = Book()
    _, ok = subscribed(book, PCSCF_AS)
    access, core, beyond = routes_of(ok)
    for number, routes in enumerate(
        (
            [access, core, "<sip:10.66.6.6;lr>"],
            [access, core, beyond, "<sip:10.66.6.6;lr>"],
            [access, "<sip:10.66.6.6>"],
        )
    ):
        book.receive(UE, again(*routes, branch=f"x{number}"))
        assert book.response(400)
    book.receive(UE, again(access, core, uri="sip:evil@10.66.6.6", branch="x9"))  # the route set left out
    assert book.response(481)


def test_another_target_without_a_route_set_is_481() -> None:
    book = Book()
    _, ok = subscribed(book)
    book.receive(UE, again(*routes_of(ok), uri="sip:evil@10.66.6.6"))
    assert book.response(481)
    book.receive(UE, again(*routes_of(ok), branch="s3"))
    assert [f.remote for m, f in book.out() if isinstance(m, Request)] == [("10.9.0.30", 5070)]


def test_the_token_of_the_request_alone_is_not_enough() -> None:
    book = Book()
    sent, _ = subscribed(book, PCSCF_AS)
    core, access = sent.headers.values("record-route")
    book.receive(UE, again(access, core, "<sip:10.66.6.6;lr>"))
    assert book.response(400)


def notify(*headers: str, uri: str = "sip:alice@10.0.0.7:5070", branch: str = "n1", tag: str = "callee") -> str:
    return request(
        "NOTIFY",
        *headers,
        "Event: presence",
        "Subscription-State: active",
        f"Contact: <{CONTACT}>",
        uri=uri,
        from_=f"<sip:bob@example.net>;tag={tag}",
        to="<sip:alice@example.net>;tag=al",
        branch=branch,
        flow=SCSCF,
    )


def test_notify_before_the_2xx_and_from_a_fork_makes_dialogs_of_its_own() -> None:
    """RFC 6665 4.1.2.4, 4.3: each NOTIFY has a Record-Route, and its dialog a route set of its own."""
    book = Book()
    register(book)
    book.receive(UE, request("SUBSCRIBE", "Event: presence"))
    sent = book.request("SUBSCRIBE")
    core, access = sent.headers.values("record-route")
    for number, beyond in enumerate((PCSCF_AS, "<sip:10.9.0.41:5080;lr>")):
        book.receive(
            SCSCF, notify(f"Route: {core}, {access}", f"Record-Route: {beyond}", branch=f"n{number}", tag=f"f{number}")
        )
        told, flow = next((m, f) for m, f in book.out() if isinstance(m, Request))
        assert flow == UE
        assert "route" not in told.headers
        recorded = told.headers.values("record-route")
        assert recorded[2] == beyond
        route = f"Route: {', '.join(recorded)}"
        to = f"<sip:bob@example.net>;tag=f{number}"
        book.receive(UE, request("SUBSCRIBE", route, "Event: presence", uri=CONTACT, to=to, branch=f"r{number}"))
        onward = next(m for m, _ in book.out() if isinstance(m, Request))
        assert onward.headers.values("route") == [beyond]


def test_a_subscription_to_the_ue_works_both_ways() -> None:
    book = Book()
    path = register(book)
    book.receive(
        SCSCF,
        request(
            "SUBSCRIBE",
            f"Route: {path}",
            f"Record-Route: {PCSCF_AS}",
            "Event: presence",
            uri="sip:alice@10.0.0.7:5070",
            from_="<sip:bob@example.net>;tag=b",
            to="<sip:alice@example.net>",
            flow=SCSCF,
        ),
    )
    asked = book.request("SUBSCRIBE")
    recorded = asked.headers.values("record-route")
    book.feed(wire(answer(asked, 200, "Contact: <sip:alice@10.0.0.7:5070>", tag="al"), UE))
    accepted = book.response(200)
    told = request(
        "NOTIFY",
        f"Route: {', '.join(recorded)}",
        "Event: presence",
        "Subscription-State: active",
        uri=CONTACT,
        from_="<sip:alice@example.net>;tag=al",
        to="<sip:bob@example.net>;tag=b",
        branch="n1",
    )
    book.receive(UE, told)
    onward = book.request("NOTIFY")
    assert onward.headers.values("route") == [PCSCF_AS]
    assert len(onward.headers.values("record-route")) == 2
    core_routes = accepted.headers.values("record-route")[::-1]
    assert core_routes[0] == PCSCF_AS
    refresh = request(
        "SUBSCRIBE",
        f"Route: {', '.join(core_routes[1:])}",
        "Event: presence",
        uri="sip:alice@10.0.0.7:5070",
        from_="<sip:bob@example.net>;tag=b",
        to="<sip:alice@example.net>;tag=al",
        branch="s9",
        number=2,
        flow=SCSCF,
    )
    book.receive(SCSCF, refresh)
    ((refreshed, flow),) = [(m, f) for m, f in book.out() if isinstance(m, Request) and m.method == "SUBSCRIBE"]
    assert flow == UE
    assert "route" not in refreshed.headers


@pytest.mark.parametrize("mode", ["replace", "reject"])
def test_a_ue_in_a_call_without_route_set_cannot_turn_it_elsewhere(mode: str) -> None:
    book = Book(settings(access={"route_check": mode}))
    register(book)
    book.receive(UE, request(), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.9.0.50:5060>", body=AUDIO), SCSCF))
    ok = book.response(200)
    route = f"Route: {', '.join(routes_of(ok))}"
    to = f"<sip:bob@example.net>;tag={ok.to_tag}"
    book.receive(UE, request("INFO", route, uri="sip:bob@10.9.0.50:5060;x=y", to=to, branch="i1", number=2))
    assert [f.remote for m, f in book.out() if isinstance(m, Request)] == [("10.9.0.50", 5060)]
    book.receive(UE, request("INFO", route, uri="sip:bob@10.66.6.6", to=to, branch="i2", number=3))
    if mode == "reject":
        assert book.response(400)
    else:
        assert [f for m, f in book.out() if isinstance(m, Request) and m.cseq.number == 3] == [SCSCF]


def test_a_response_that_would_go_nowhere_is_502() -> None:
    """RFC 3261 16.7 step 3: with our Via gone there has to be another one."""
    book = Book()
    register(book)
    book.receive(UE, request("MESSAGE"))
    sent = book.request("MESSAGE")
    ok = answer(sent, 200).split(b"\r\n")
    vias = [line for line in ok if line.startswith(b"Via:")]
    book.feed(wire(b"\r\n".join(line for line in ok if line not in vias[1:]), SCSCF))
    assert book.response(502)
