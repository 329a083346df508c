"""The P-CSCF's duties in calls and other requests: identities, privacy, charging, access network (TS 24.229 5.2.6)."""

import pytest
from tests.playbook import alg_harness as lab
from tests.playbook.alg_harness import SCSCF, UE, UE_B, Book, answer, register, request, settings, wire

from imsalg.settings import Settings
from imskit.settings import SettingsError
from imswire.sip.message import Request

ASSOCIATED = "P-Associated-URI: <sip:alice@example.net>, <tel:+4912345>, <sip:office@example.net>"
VECTOR = "P-Charging-Vector"


def message(book: Book, *headers: str, method: str = "MESSAGE", branch: str = "m1") -> Request:
    """What a request of alice becomes towards the core."""
    book.receive(UE, request(method, *headers, branch=branch))
    return book.request(method)


def registered(engine_settings: Settings | None = None) -> Book:
    book = Book(engine_settings)
    register(book, "alice", UE, ASSOCIATED, "Service-Route: <sip:10.9.0.9;lr>")
    return book


@pytest.mark.parametrize(
    ("preferred", "asserted"),
    [
        ((), "<sip:alice@example.net>"),
        (("P-Preferred-Identity: <sip:office@example.net>",), "<sip:office@example.net>"),
        (("P-Preferred-Identity: sip:Office@EXAMPLE.net",), "<sip:alice@example.net>"),  # the user part has case
        (("P-Preferred-Identity: <tel:+4912345>",), "<tel:+4912345>"),
        (("P-Preferred-Identity: <tel:+49-(123).45>",), "<tel:+4912345>"),  # the network's text, not the UE's
        (("P-Preferred-Identity: <sip:off%69ce@example.net>",), "<sip:office@example.net>"),
        (("P-Preferred-Identity: <sip:boss@example.net>",), "<sip:alice@example.net>"),
        (("P-Preferred-Identity: <sip:boss@x.org>, <sip:office@example.net>",), "<sip:office@example.net>"),
        (("P-Asserted-Identity: <sip:boss@example.net>",), "<sip:alice@example.net>"),
    ],
)
def test_the_asserted_identity_is_one_that_is_registered(preferred: tuple[str, ...], asserted: str) -> None:
    sent = message(registered(), *preferred)
    assert sent.headers.get_all("p-asserted-identity") == [asserted]
    assert "p-preferred-identity" not in sent.headers


def test_an_anonymous_request_is_not_taken_for_that_of_another_user_on_the_flow() -> None:
    book = registered()
    register(book, "carol", UE)
    nobody = "<sip:anonymous@anonymous.invalid>;tag=a"
    book.receive(UE, request("MESSAGE", "Privacy: id", from_=nobody, branch="n1"))
    assert "which of its users" in (book.response(403).headers.get("warning") or "")
    for user, number in (("alice", 2), ("carol", 3)):
        own = f"P-Preferred-Identity: <sip:{user}@example.net>"
        book.receive(UE, request("MESSAGE", "Privacy: id", own, from_=nobody, branch=f"n{number}", number=number))
        assert book.request("MESSAGE").headers.get("p-asserted-identity") == f"<sip:{user}@example.net>"


def test_privacy_passes_and_the_core_learns_who_it_is() -> None:
    sent = message(registered(), "Privacy: id")
    assert sent.headers.get("privacy") == "id"
    assert sent.headers.get("p-asserted-identity") == "<sip:alice@example.net>"


def test_an_untrusted_core_learns_less() -> None:
    book = registered(settings(core={"trusted": False}, access={"access_network_info": "IEEE-802.3"}))
    open_ = message(book, "P-Access-Network-Info: IEEE-802.11")
    assert open_.headers.get("p-asserted-identity") == "<sip:alice@example.net>"
    assert "p-access-network-info" not in open_.headers
    assert "p-charging-vector" not in open_.headers
    assert "p-asserted-identity" not in message(book, "Privacy: id", branch="m2").headers


def test_a_trusted_exchange_asserts_for_itself() -> None:
    book = registered(settings(access={"trusted": True}))
    sent = message(book, "P-Asserted-Identity: <sip:extension7@pbx.example>")
    assert sent.headers.get_all("p-asserted-identity") == ["<sip:extension7@pbx.example>"]
    assert message(book, branch="m2").headers.get_all("p-asserted-identity") == ["<sip:alice@example.net>"]


def test_the_network_says_where_the_ue_is() -> None:
    book = registered(settings(access={"access_network_info": "IEEE-802.3;dsl-location=berlin"}))
    sent = message(book, "P-Access-Network-Info: IEEE-802.11, IEEE-802.3;network-provided")
    assert sent.headers.get_all("p-access-network-info") == [
        "IEEE-802.11",
        "IEEE-802.3;dsl-location=berlin;network-provided",
    ]


# --- charging ---


def test_register_and_standalone_requests_have_a_vector_each_of_their_own() -> None:
    book = registered(settings(charging={"ioi": "visited.example"}))
    one, two = message(book), message(book, branch="m2")
    for sent in (one, two):
        assert (sent.headers.get(VECTOR) or "").endswith(
            ";icid-generated-at=pcscf.example.net;orig-ioi=visited.example"
        )
    assert one.headers.get(VECTOR) != two.headers.get(VECTOR)


def test_no_vector_by_setting() -> None:
    assert VECTOR not in message(registered(settings(charging={"vector": False}))).headers


def test_a_call_of_the_ue_keeps_its_vector() -> None:
    book = registered()
    invite = message(book, "P-Charging-Vector: icid-value=forged", method="INVITE")
    vector = invite.headers.get_all(VECTOR)
    assert len(vector) == 1
    assert "forged" not in vector[0]
    charging = ("P-Charging-Vector: icid-value=1;term-ioi=home", "P-Charging-Function-Addresses: ccf=10.0.0.99")
    routes = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    book.feed(wire(answer(invite, 200, *charging, *routes, "Contact: <sip:bob@10.9.0.20>"), SCSCF))
    ok = book.response(200)
    assert VECTOR not in ok.headers
    assert "p-charging-function-addresses" not in ok.headers
    to = "<sip:bob@example.net>;tag=callee"
    route = [f"Route: {value}" for value in reversed(ok.headers.values("record-route"))]
    book.receive(UE, request("ACK", *route, uri="sip:bob@10.9.0.20", branch="k1", to=to))
    book.out()
    book.receive(UE, request("BYE", *route, uri="sip:bob@10.9.0.20", branch="b1", number=2, to=to))
    assert book.request("BYE").headers.get_all(VECTOR) == vector


def test_a_call_that_ends_here_is_charged_as_the_same_one() -> None:
    book = registered(settings(timers={"silent_call": 60.0}))
    invite = message(book, method="INVITE")
    routes = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    book.feed(wire(answer(invite, 200, *routes, "Contact: <sip:bob@10.9.0.20>"), SCSCF))
    ok = book.response(200)
    route = [f"Route: {value}" for value in reversed(ok.headers.values("record-route"))]
    to = "<sip:bob@example.net>;tag=callee"
    book.receive(UE, request("ACK", *route, uri="sip:bob@10.9.0.20", branch="k1", to=to))
    book.out()
    book.advance(61)
    byes = {flow.realm: sent for sent, flow in book.out() if isinstance(sent, Request) and sent.method == "BYE"}
    assert byes["core"].headers.get_all(VECTOR) == invite.headers.get_all(VECTOR) != []
    assert VECTOR not in byes["access"].headers


def test_a_call_to_the_ue_keeps_the_cores_vector() -> None:
    book = Book(settings(charging={"ioi": "visited.example"}))
    path = register(book, "bob", UE_B)
    book.receive(
        SCSCF,
        request(
            "INVITE",
            f"Route: {path}",
            "P-Called-Party-ID: <sip:bob@example.net>",
            'P-Charging-Vector: icid-value="a;b";icid-generated-at=10.9.0.1;orig-ioi=home',
            "P-Charging-Function-Addresses: ccf=10.0.0.99",
            "P-Asserted-Identity: <sip:alice@example.net>",
            uri="sip:bob@10.0.0.8:5070",
            flow=SCSCF,
        ),
    )
    invite = book.request("INVITE")
    assert VECTOR not in invite.headers
    assert "p-charging-function-addresses" not in invite.headers
    assert invite.headers.get("p-called-party-id") == "<sip:bob@example.net>"
    assert invite.headers.get("p-asserted-identity") == "<sip:alice@example.net>"
    routes = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    book.feed(wire(answer(invite, 180, "P-Asserted-Identity: <sip:boss@example.net>", *routes), UE_B))
    ringing = book.response(180)
    assert ringing.headers.get_all("p-asserted-identity") == ["<sip:bob@example.net>"]
    kept = 'icid-value="a;b";icid-generated-at=10.9.0.1'
    assert ringing.headers.get_all(VECTOR) == [f"{kept};term-ioi=visited.example"]
    book.feed(wire(answer(invite, 200, *routes, "Contact: <sip:bob@10.0.0.8:5070>"), UE_B))
    ok = book.response(200)
    route = [f"Route: {value}" for value in ok.headers.values("record-route")]
    book.receive(
        UE_B,
        request(
            "BYE",
            *route,
            uri="sip:alice@10.0.0.7:5070",
            branch="b1",
            from_="<sip:bob@example.net>;tag=callee",
            to="<sip:alice@example.net>;tag=al",
            flow=UE_B,
        ),
    )
    assert book.request("BYE").headers.get_all(VECTOR) == [f"{kept};orig-ioi=visited.example"]


def test_a_called_ue_may_prefer_another_registered_identity() -> None:
    book = Book()
    path = register(book, "bob", UE_B, "P-Associated-URI: <sip:bob@example.net>, <sip:desk@example.net>")
    for number, (wish, expected) in enumerate(
        [("<sip:desk@example.net>", "desk"), ("<sip:boss@example.net>", "bob"), ("<<", "bob")]
    ):
        text = request("MESSAGE", f"Route: {path}", uri="sip:bob@10.0.0.8:5070", branch=f"m{number}", flow=SCSCF)
        book.receive(SCSCF, text)
        sent = book.request("MESSAGE")
        book.feed(wire(answer(sent, 200, f"P-Preferred-Identity: {wish}"), UE_B))
        assert book.response(200).headers.get("p-asserted-identity") == f"<sip:{expected}@example.net>"


def test_private_callers_are_not_shown_to_the_ue() -> None:
    book = Book()
    path = register(book, "bob", UE_B)
    private = ("Privacy: id", "P-Asserted-Identity: <sip:alice@example.net>", "History-Info: <sip:c@x>;index=1")
    text = request("MESSAGE", f"Route: {path}", *private, uri="sip:bob@10.0.0.8:5070", flow=SCSCF)
    book.receive(SCSCF, text)
    sent = book.request("MESSAGE")
    assert sent.headers.get("privacy") == "id"
    assert "p-asserted-identity" not in sent.headers
    assert "history-info" not in sent.headers


def test_a_subscription_keeps_its_vector_without_being_remembered() -> None:
    book = registered()
    sent = message(book, "Event: presence", method="SUBSCRIBE")
    vector = sent.headers.get(VECTOR)
    book.feed(wire(answer(sent, 200, "Contact: <sip:pres@10.9.0.30>"), SCSCF))
    route = [f"Route: {value}" for value in reversed(book.response(200).headers.values("record-route"))]
    to = "<sip:bob@example.net>;tag=callee"
    book.receive(UE, request("SUBSCRIBE", *route, "Event: presence", uri="sip:pres@10.9.0.30", branch="s2", to=to))
    assert book.request("SUBSCRIBE").headers.get(VECTOR) == vector


@pytest.mark.parametrize(
    "wrong",
    [{"access": {"access_network_info": "a\nb"}}, {"charging": {"ioi": "a;b"}}],
)
def test_settings_that_cannot_be_used_are_named(wrong: dict[str, dict[str, str]]) -> None:
    with pytest.raises(SettingsError, match=next(iter(next(iter(wrong.values()))))):
        lab.settings(**wrong)
