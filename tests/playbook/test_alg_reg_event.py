"""The subscription to registration state: asked for, refreshed, refused, and what a NOTIFY ends (RFC 3680)."""

from typing import Any

import pytest
from tests.playbook.alg_harness import SCSCF, UE, UE_B, Book, answer, register, request, settings, wire

from imswire.sip.message import Request, Response
from imswire.sip.reginfo import CONTENT_TYPE, ContactInfo, RegInfo, RegistrationInfo, write_reginfo

ALICE = "sip:alice@10.0.0.7:5070"
OFFERED = "Allow-Events: presence, reg"


def subscribed(*headers: str, book: Book | None = None, **changes: Any) -> tuple[Book, Request]:
    """alice is registered with a core that tells of registration state; the SUBSCRIBE that followed."""
    made = book or Book(settings(reg_event={"subscribe": "always", **changes}))
    made.advance(40)
    seen = len(made.every)
    register(made, "alice", UE, *headers)
    found = [m for m in made.every[seen:] if isinstance(m, Request) and m.method == "SUBSCRIBE"]
    assert len(found) == 1
    return made, found[0]


def accept(book: Book, subscribe: Request, expires: int = 600_000) -> None:
    headers = (f"Expires: {expires}", "Contact: <sip:scscf@10.9.0.9>", "Record-Route: <sip:10.9.0.8;lr>")
    book.feed(wire(answer(subscribe, 200, *headers, tag="core"), SCSCF))


def document(
    version: int, state: str, event: str = "deactivated", *, full: bool = False, aor: str = "sip:alice@example.net"
) -> bytes:
    contact = "terminated" if state == "terminated" else "active"
    contacts = (ContactInfo(ALICE, contact, event, "c1", 60),)
    return write_reginfo(RegInfo(version, full, (RegistrationInfo(aor, "r1", state, contacts),)))


def notify(
    book: Book,
    subscribe: Request,
    body: bytes,
    *headers: str,
    number: int = 1,
    content: str = CONTENT_TYPE,
    **changes: str,
) -> Response:
    """Send a NOTIFY of the core; its answer."""
    book.out()
    tag = changes.get("tag", "core")
    text = request(
        "NOTIFY",
        *(headers or ("Subscription-State: active;expires=600000",)),
        f"Event: {changes.get('event', 'reg')}",
        "Contact: <sip:scscf@10.9.0.9>",
        uri="sip:10.9.0.1:5060",
        branch=f"n{number}-{len(body)}-{int(book.now)}",
        number=number,
        from_=f"<sip:alice@example.net>;tag={tag}",
        to=changes.get("to", subscribe.headers.get("from") or ""),
        call_id=subscribe.call_id,
        flow=SCSCF,
    )
    lines = text.split("\n") + ([f"Content-Type: {content}"] if body else []) + [f"Content-Length: {len(body)}"]
    book.feed(wire(("\r\n".join(lines) + "\r\n\r\n").encode() + body, SCSCF))
    answers = [m for m, _ in book.sent if isinstance(m, Response) and m.cseq.method == "NOTIFY"]
    assert len(answers) == 1
    return answers[0]


def in_call(book: Book) -> Response:
    """alice calls somebody beyond the core; the 200 as she sees it."""
    book.out()
    book.receive(UE, request("INVITE", branch="i1"))
    invite = book.request("INVITE")
    routes = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    book.feed(wire(answer(invite, 200, *routes, "Contact: <sip:bob@10.9.0.20>"), SCSCF))
    ok = book.response(200)
    route = [f"Route: {value}" for value in reversed(ok.headers.values("record-route"))]
    book.receive(UE, request("ACK", *route, uri="sip:bob@10.9.0.20", branch="k1", to=ok.headers.get("to") or ""))
    book.out()
    return ok


def test_the_subscribe_is_what_the_standard_asks_for() -> None:
    _, sent = subscribed("P-Associated-URI: <sip:office@example.net>, <sip:alice@example.net>")
    assert sent.uri == "sip:office@example.net"
    assert sent.headers.get("to") == "<sip:office@example.net>"
    assert (sent.headers.get("from") or "").startswith("<sip:pcscf.example.net>;tag=")
    assert sent.headers.get("event") == "reg"
    assert sent.headers.get("accept") == CONTENT_TYPE
    assert sent.headers.get("expires") == "600000"
    assert sent.headers.get("contact") == "<sip:10.9.0.1:5060>"
    assert sent.headers.get("p-asserted-identity") == "<sip:pcscf.example.net>"
    assert "p-charging-vector" in sent.headers
    assert "route" not in sent.headers
    assert "record-route" not in sent.headers


def test_by_setting_it_goes_along_the_service_route() -> None:
    _, sent = subscribed("Service-Route: <sip:orig@10.9.0.9;lr>", route="service-route")
    assert sent.headers.get_all("route") == ["<sip:orig@10.9.0.9;lr>"]


@pytest.mark.parametrize(
    ("subscribe", "headers", "asked"),
    [("offered", (), False), ("offered", (OFFERED,), True), ("always", (), True), ("off", (OFFERED,), False)],
)
def test_who_is_asked(subscribe: str, headers: tuple[str, ...], asked: bool) -> None:
    book = Book(settings(reg_event={"subscribe": subscribe}))
    register(book, "alice", UE, *headers)
    assert (book.engine.reg_events.state_of("sip:alice@example.net") == "asked") is asked


def test_the_network_ends_a_registration_and_its_calls() -> None:
    book, sent = subscribed()
    accept(book, sent)
    assert notify(book, sent, document(0, "active", "registered", full=True)).status == 200
    register(book, "bob", UE_B)
    in_call(book)
    assert book.engine.gauges["bindings"] == 2
    answered = notify(
        book, sent, document(1, "terminated"), "Subscription-State: terminated;reason=noresource", number=2
    )
    assert answered.status == 200
    byes = [(m, flow) for m, flow in book.out() if isinstance(m, Request) and m.method == "BYE"]
    assert {flow.realm for _, flow in byes} == {"access", "core"}
    for bye, _ in byes:
        assert "the network ended the registration" in (bye.headers.get("reason") or "")
    assert book.engine.gauges["bindings"] == 1
    assert len(book.engine.reg_events) == 1  # bob's
    assert book.engine.stats.network_deregistrations == 1
    book.receive(UE, request("MESSAGE", branch="m9"))
    assert book.response(403)
    for bye, flow in byes:
        book.feed(wire(answer(bye, 200), flow))
    assert book.engine.gauges["calls"] == 0
    _, again = subscribed(book=book)
    assert again.call_id != sent.call_id


def test_a_call_that_is_only_ringing_is_refused() -> None:
    book, sent = subscribed()
    accept(book, sent)
    book.out()
    book.receive(UE, request("INVITE", branch="i1"))
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 180), SCSCF))
    notify(book, sent, document(0, "terminated", full=True))
    out = book.out()
    assert 480 in [m.status for m, _ in out if isinstance(m, Response)]
    assert "CANCEL" in [m.method for m, _ in out if isinstance(m, Request)]


@pytest.mark.parametrize("event", ["deactivated", "rejected", "probation", "unregistered", "expired"])
@pytest.mark.parametrize("state", ["active", "terminated"])
def test_every_way_to_end_a_contact(event: str, state: str) -> None:
    book, sent = subscribed()
    accept(book, sent)
    contacts = (ContactInfo(ALICE.upper().replace("SIP:ALICE", "sip:alice"), "terminated", event, "c1"),)
    info = RegInfo(0, True, (RegistrationInfo("sip:alice@EXAMPLE.net", "r1", state, contacts),))
    notify(book, sent, write_reginfo(info))
    assert book.engine.gauges["bindings"] == 0


def test_other_contacts_and_other_users_stay() -> None:
    book, sent = subscribed()
    accept(book, sent)
    other = (ContactInfo("sip:alice@10.0.0.99:5070", "terminated", "deactivated", "c2"),)
    notify(
        book, sent, write_reginfo(RegInfo(0, True, (RegistrationInfo("sip:alice@example.net", "r", "active", other),)))
    )
    notify(book, sent, document(1, "terminated", aor="sip:bob@example.net"), number=2)
    assert book.engine.gauges["bindings"] == 1


def test_an_identity_that_is_no_longer_registered_is_not_asserted() -> None:
    book, sent = subscribed("P-Associated-URI: <sip:alice@example.net>, <sip:office@example.net>")
    accept(book, sent)
    notify(book, sent, document(0, "terminated", aor="sip:office@example.net"))
    book.out()
    book.receive(UE, request("MESSAGE", "P-Preferred-Identity: <sip:office@example.net>", branch="m1"))
    assert book.request("MESSAGE").headers.get("p-asserted-identity") == "<sip:alice@example.net>"


def test_a_shortened_registration_ends_sooner() -> None:
    book, sent = subscribed()
    accept(book, sent)
    notify(book, sent, document(0, "active", "shortened", full=True))
    book.advance(61)
    assert book.engine.gauges["bindings"] == 0


def test_partial_documents_build_on_one_another() -> None:
    book, sent = subscribed()
    accept(book, sent)
    notify(book, sent, document(4, "active", "registered", full=True))
    notify(book, sent, document(4, "terminated"), number=2)  # an old version says nothing new
    assert book.engine.gauges["bindings"] == 1
    notify(book, sent, document(7, "active", "refreshed"), number=3)  # two are missing
    refresh = [m for m, _ in book.out() if isinstance(m, Request)]
    assert [m.method for m in refresh] == ["SUBSCRIBE"]
    assert refresh[0].uri == "sip:scscf@10.9.0.9"
    assert refresh[0].headers.get_all("route") == ["<sip:10.9.0.8;lr>"]
    assert refresh[0].headers.get("to") == "<sip:alice@example.net>;tag=core"
    assert refresh[0].cseq.number == 2


def test_it_is_refreshed_in_time_and_not_for_those_who_left() -> None:
    book, sent = subscribed()
    accept(book, sent, expires=2000)
    book.out()
    book.advance(1399)
    assert not book.out()
    book.advance(2)
    assert book.request("SUBSCRIBE").cseq.number == 2
    book.advance(7000)  # no answer any more, and the registration ends
    book.out()
    assert len(book.engine.reg_events) == 0
    book.advance(600_000)
    assert not book.out()


def test_a_notifier_that_lost_the_dialog_is_asked_anew() -> None:
    book, sent = subscribed()
    accept(book, sent, expires=200)
    book.out()
    book.advance(101)
    refresh = book.request("SUBSCRIBE")
    book.feed(wire(answer(refresh, 481), SCSCF))
    book.advance(6)
    new = book.request("SUBSCRIBE")
    assert new.call_id != sent.call_id
    assert new.to_tag is None


@pytest.mark.parametrize("status", [405, 420, 489, 501])
def test_a_core_that_does_not_know_the_event_is_left_in_peace(status: int) -> None:
    book, sent = subscribed(retry_after=500)
    book.feed(wire(answer(sent, status), SCSCF))
    for user, flow in (("alice", UE), ("bob", UE_B)):
        book.advance(40)
        register(book, user, flow)
        assert book.engine.reg_events.state_of(f"sip:{user}@example.net") == ""
    assert book.engine.gauges["bindings"] == 2
    book.advance(501)
    register(book, "bob", UE_B)
    assert book.engine.reg_events.state_of("sip:bob@example.net") == "asked"


@pytest.mark.parametrize("status", [401, 403, 404, 480, 500, 503, 603])
def test_a_refusal_for_one_user_rests_and_is_tried_again(status: int) -> None:
    book, sent = subscribed(retry_after=500)
    book.feed(wire(answer(sent, status), SCSCF))
    assert book.engine.reg_events.state_of("sip:alice@example.net") == "resting"
    book.advance(40)
    register(book, "alice", UE)
    assert book.engine.reg_events.state_of("sip:alice@example.net") == "resting"
    book.out()
    book.advance(501)
    assert book.request("SUBSCRIBE").call_id != sent.call_id


def test_silence_harms_nobody() -> None:
    book, _ = subscribed()
    book.advance(33)
    book.out()
    assert book.engine.reg_events.state_of("sip:alice@example.net") == "resting"
    assert book.engine.gauges["bindings"] == 1
    assert book.engine.gauges["forwards"] == 0


def test_a_longer_interval_is_asked_for_when_the_core_wants_it() -> None:
    book, sent = subscribed(expires=60)
    book.feed(wire(answer(sent, 423, "Min-Expires: 3600"), SCSCF))
    assert book.request("SUBSCRIBE").headers.get("expires") == "3600"


def test_a_notify_may_overtake_the_200() -> None:
    book, sent = subscribed()
    assert notify(book, sent, document(0, "active", "registered", full=True)).status == 200
    accept(book, sent)
    assert notify(book, sent, document(1, "terminated"), number=2).status == 200
    assert book.engine.gauges["bindings"] == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"to": "<sip:pcscf.example.net>;tag=wrong"}, 481),
        ({"tag": "fork"}, 481),
        ({"event": "presence"}, 489),
        ({"content": "text/plain"}, 415),
        ({"body": b"<reginfo"}, 400),
        ({"body": b"<!DOCTYPE r [<!ENTITY a 'b'>]><r>&a;</r>"}, 400),
        ({"body": b"<a>" * 100}, 503),
    ],
)
def test_what_is_wrong_with_a_notify_is_said(changes: dict[str, Any], status: int) -> None:
    book, sent = subscribed()
    accept(book, sent)
    body = changes.pop("body", document(0, "terminated"))
    assert notify(book, sent, body, **changes).status == status
    assert book.engine.gauges["bindings"] == 1


def test_old_requests_are_not_believed() -> None:
    book, sent = subscribed()
    accept(book, sent)
    notify(book, sent, document(0, "active", "registered", full=True), number=5)
    assert notify(book, sent, document(1, "terminated"), number=4).status == 500
    assert book.engine.gauges["bindings"] == 1


def test_a_ue_cannot_notify() -> None:
    book, sent = subscribed()
    accept(book, sent)
    book.out()
    to = sent.headers.get("from") or ""
    book.receive(UE_B, request("NOTIFY", "Event: reg", to=to, call_id=sent.call_id, branch="n", flow=UE_B))
    assert book.response(481)


def test_a_subscription_that_the_notifier_ends_for_no_lasting_reason_is_asked_for_again() -> None:
    book, sent = subscribed()
    accept(book, sent)
    notify(book, sent, b"", "Subscription-State: terminated;reason=deactivated")
    book.out()
    book.advance(6)
    assert book.request("SUBSCRIBE").to_tag is None


def asked(book: Book) -> list[Request]:
    """The SUBSCRIBEs since the last look."""
    return [m for m, _ in book.out() if isinstance(m, Request) and m.method == "SUBSCRIBE"]


@pytest.mark.parametrize(("granted", "most"), [(0, 1), (1, 10), (100, 10)])
def test_a_notifier_that_grants_next_to_nothing_is_not_asked_all_the_time(granted: int, most: int) -> None:
    book, sent = subscribed()
    accept(book, sent, expires=granted)
    book.out()
    seen = 0
    for _ in range(590):
        book.advance(1)
        for again in asked(book):
            seen += 1
            accept(book, again, expires=granted)
    assert seen <= most
    book.advance(3600)
    assert seen or asked(book), "it is asked again, in its time"


@pytest.mark.parametrize("granted", [20, 30, 60, 62, 100, 119, 120, 600, 1201])
def test_a_short_grant_is_refreshed_before_it_ends(granted: int) -> None:
    book, sent = subscribed()
    accept(book, sent, expires=granted)
    book.out()
    ends, seen = book.now + granted, 0
    for _ in range(5 * granted):
        book.advance(1)
        for again in asked(book):
            assert again.call_id == sent.call_id
            assert book.now <= ends - min(granted / 2, 32) + 0.5, "there is time for the answer"
            accept(book, again, expires=granted)
            ends, seen = book.now + granted, seen + 1
    assert 5 <= seen <= 10


@pytest.mark.parametrize(("told", "after"), [(1, 10), (15, 10), (100, 60), (280, 140), (400, 200), (None, 300)])
def test_what_notify_says_brings_a_refresh_forward_and_never_puts_it_off(told: int | None, after: int) -> None:
    book, sent = subscribed()
    accept(book, sent, expires=600)
    begun, seen = book.now, len(book.every)
    for second in range(300):
        if book.now - begun < after and second % 7 == 0:
            left = 600 - second if told is None else told
            notify(book, sent, b"", f"Subscription-State: active;expires={left}", number=second + 1)
        if any(isinstance(m, Request) for m in book.every[seen:]):
            break
        book.advance(1)
    assert book.now - begun == after


def test_what_notify_says_while_a_refresh_is_under_way_makes_no_other() -> None:
    book, sent = subscribed()
    accept(book, sent, expires=60)
    book.out()
    book.advance(30)
    (again,) = asked(book)
    notify(book, sent, b"", "Subscription-State: active;expires=2")
    book.advance(0.4)
    assert asked(book) == []
    accept(book, again, expires=60)
    book.advance(29)
    assert asked(book) == []
    book.advance(1)
    assert len(asked(book)) == 1


def test_a_longer_interval_is_asked_for_once() -> None:
    book, sent = subscribed(expires=60)
    book.feed(wire(answer(sent, 423, "Min-Expires: 3600"), SCSCF))
    (again,) = asked(book)
    book.feed(wire(answer(again, 423, "Min-Expires: 7200"), SCSCF))
    book.advance(60)
    assert asked(book) == []
    assert book.engine.gauges["bindings"] == 1


def test_a_subscription_that_is_active_for_no_time_is_over() -> None:
    book, sent = subscribed()
    accept(book, sent)
    assert notify(book, sent, b"", "Subscription-State: active;expires=0").status == 200
    book.out()
    book.advance(50)
    assert asked(book) == []
    book.advance(11)
    assert {m.to_tag for m in asked(book)} == {None}, "a new dialog"


def test_gaps_in_what_is_told_are_not_filled_one_by_one() -> None:
    book, sent = subscribed()
    accept(book, sent)
    book.out()
    seen = 0
    for number in range(1, 20):
        notify(book, sent, document(2 * number, "active", "refreshed"), number=number)
        for refresh in asked(book):
            seen += 1
            accept(book, refresh)
    assert seen == 1
    book.advance(60)
    notify(book, sent, document(50, "active", "refreshed"), number=20)
    assert len(asked(book)) == 1
