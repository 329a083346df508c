"""A called UE decides neither where its responses go nor the route set of its dialogs; a neighbour owns no dialog."""

import pytest
from tests.playbook.alg_harness import ACCESS, AUDIO, SCSCF, UE, Book, answer, register, request, wire

from imsalg.core.events import Received
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse

ALICE = "Contact: <sip:alice@10.0.0.7:5070>"
UPSTREAM = "Via: SIP/2.0/UDP 10.9.0.77:5060;branch=z9hG4bKup"
FOREIGN = "<sip:10.66.6.6;lr>"


def called(book: Book, method: str = "INVITE") -> Request:
    """A request for alice as it reaches her."""
    path = register(book)
    head = request(
        method,
        f"Route: {path}",
        "Record-Route: <sip:scscf@10.9.0.9;lr>",
        UPSTREAM,
        uri="sip:alice@10.0.0.7:5070",
        from_="<sip:bob@example.net>;tag=b",
        to="<sip:alice@example.net>",
        flow=SCSCF,
        branch="t1",
    )
    book.receive(SCSCF, head, AUDIO if method == "INVITE" else "")
    return next(message for message, flow in book.out() if flow.realm == "access" and isinstance(message, Request))


def returned(book: Book, response: Response) -> Response:
    """What the core gets of a response of alice."""
    book.feed(Received(parse(response.to_bytes()), UE))
    (sent,) = [message for message, flow in book.out() if flow.realm == "core" and isinstance(message, Response)]
    return sent


@pytest.mark.parametrize(
    "change",
    [
        lambda routes: routes,
        lambda routes: routes[2:],
        lambda routes: [],
        lambda routes: [FOREIGN, *routes],
        lambda routes: [*routes, FOREIGN],
        lambda routes: routes[::-1],
        lambda routes: [", ".join(routes)],
    ],
    ids=["as sent", "ours dropped", "all dropped", "one on top", "one below", "turned round", "in one line"],
)
@pytest.mark.parametrize("status", [180, 200])
def test_the_route_set_is_that_of_the_request(change: object, status: int) -> None:
    book = Book()
    invite = called(book)
    response = parse(answer(invite, status, ALICE, body=AUDIO if status == 200 else ""))
    assert isinstance(response, Response)
    routes = response.headers.values("record-route")
    response.headers.remove("record-route")
    for value in change(routes):  # type: ignore[operator]
        response.headers.add("Record-Route", value)
    assert returned(book, response).headers.values("record-route") == invite.headers.values("record-route")
    (call,) = book.engine.context.calls.values()
    (leg,) = call.legs.values()
    assert FOREIGN not in " ".join(leg.party.record_route)


def test_no_route_set_is_put_where_none_belongs() -> None:
    book = Book()
    message = called(book, "MESSAGE")
    response = parse(answer(message, 200))
    assert isinstance(response, Response)
    response.headers.remove("record-route")
    assert "record-route" not in returned(book, response).headers


@pytest.mark.parametrize("lines", [["SIP/2.0/UDP 10.66.6.6:5060;branch=z9hG4bKup"], [], ["SIP/2.0/UDP [bad"]])
def test_the_way_back_is_that_of_the_request(lines: list[str]) -> None:
    """Our own Via and the core's stay; the one below is another's than the UE's to say."""
    book = Book()
    invite = called(book)
    response = parse(answer(invite, 486))
    assert isinstance(response, Response)
    kept = response.headers.get_all("via")[:-1]
    expected = response.headers.get_all("via")[1:]
    response.headers.remove("via")
    for line in reversed([*kept, *lines]):
        response.headers.prepend("Via", line)
    assert returned(book, response).headers.get_all("via") == expected


# --- neighbours behind one NAT ---

NAT = "203.0.113.5"
AT_ALICE, AT_MALLORY, NEW = (Flow("udp", "access", ACCESS, (NAT, port)) for port in (1001, 2002, 3003))


def call_of(book: Book) -> tuple[str, Response]:
    """The Route lines and the 2xx of a call that alice makes from behind the NAT."""
    book.receive(AT_ALICE, request("INVITE", flow=AT_ALICE), AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.9.0.50:5060>", body=AUDIO), SCSCF))
    ok = book.response(200)
    routes = list(reversed(ok.headers.values("record-route")))
    return f"Route: {', '.join(routes)}", ok


def bye(book: Book, flow: Flow, route: str, ok: Response) -> list[str]:
    head = request(
        "BYE", route, uri="sip:bob@10.9.0.50:5060", to=str(ok.to), branch=f"y{flow.remote[1]}", number=9, flow=flow
    )
    book.receive(flow, head)
    return [
        f"{flow.realm} {message.start_line.split()[0 if isinstance(message, Request) else 1]}"
        for message, flow in book.out()
    ]


@pytest.mark.parametrize(
    "flow, passes",
    [(AT_ALICE, True), (NEW, True), (AT_MALLORY, False)],
    ids=["her flow", "a new one of her host", "her neighbour's"],
)
def test_a_neighbour_who_knows_the_token_ends_no_call(flow: Flow, passes: bool) -> None:
    book = Book()
    register(book, "alice", AT_ALICE)
    register(book, "mallory", AT_MALLORY)
    route, ok = call_of(book)
    book.receive(
        AT_ALICE, request("ACK", route, uri="sip:bob@10.9.0.50:5060", to=str(ok.to), branch="k", flow=AT_ALICE)
    )
    book.out()
    assert bye(book, flow, route, ok) == (["core BYE"] if passes else ["access 403"])
