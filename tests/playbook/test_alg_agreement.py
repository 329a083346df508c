"""Security of signalling by agreement (RFC 3329 with TLS): what is asked for, compared and refused."""

import pytest
from tests.playbook.alg_harness import ACCESS, KEY, LISTENERS, SCSCF, UE, Book, answer, request, settings, wire

from imsalg.core.engine import Engine
from imsalg.core.media import MediaHalf
from imsalg.core.routing import Listener
from imsalg.settings import Settings
from imskit.clock import SeededIds
from imskit.settings import SettingsError
from imswire.sip.flow import Flow
from imswire.sip.message import Request

TLS = Flow("tls", "access", (ACCESS[0], 5061), ("10.0.0.7", 41000), 7)
OURS = "tls;q=0.2, msrp-tls;mediasec, bfcp-tls;mediasec"
MEDIA = "msrp-tls;mediasec, bfcp-tls;mediasec"
DEMANDS = ("Require: sec-agree", "Proxy-Require: sec-agree")
CHALLENGE = 'WWW-Authenticate: Digest realm="example.net", nonce="n1", algorithm=MD5'
IPSEC = "ipsec-3gpp;alg=hmac-sha-1-96;spi-c=1;spi-s=2;port-c=3;port-s=4"


def with_tls(core: dict[str, str], access: dict[str, str]) -> Settings:
    """Settings with a tls listener in the access realm."""
    return settings(
        access=access,
        core=core,
        listen=[
            {"realm": "access", "transport": "udp", "host": ACCESS[0]},
            {"realm": "access", "transport": "tls", "host": ACCESS[0], "port": 5061, "certificate": "c", "key": "k"},
            {"realm": "core", "transport": "udp", "host": "10.9.0.1"},
        ],
    )


def book(signalling: str, core: dict[str, str] | None = None) -> Book:
    made = Book(with_tls(core or {}, {"signalling": signalling}))
    listeners = (*LISTENERS, Listener("access", "tls", ACCESS[0], 5061))
    made.media = MediaHalf(made.settings.media())
    made.engine = Engine(made.settings, listeners, made.media, SeededIds("p"), KEY, tracing=True)
    return made


def send(made: Book, flow: Flow, *headers: str, number: int = 1, method: str = "REGISTER") -> None:
    own = {"REGISTER": "<sip:alice@example.net>"}.get(method, "<sip:bob@example.net>")
    host, port = flow.remote
    contact = () if method == "MESSAGE" else (f"Contact: <sip:alice@{host}:{port};transport={flow.transport}>",)
    text = request(method, *contact, *headers, to=own, uri="sip:example.net", branch=f"r{number}", flow=flow)
    made.receive(flow, text.replace("CSeq: 1", f"CSeq: {number}"))


def registered(made: Book, sent: Request) -> None:
    contact = sent.headers.get("contact")
    made.feed(wire(answer(sent, 200, f"Contact: {contact};expires=600"), SCSCF))


def agreed() -> Book:
    """alice is registered over TLS under an agreement that began in the open."""
    made = book("tls")
    send(made, UE, "Security-Client: tls, msrp-tls;mediasec", *DEMANDS)
    sent = made.request("REGISTER")
    for name in ("security-client", "proxy-require"):
        assert name not in sent.headers
    assert sent.headers.get("require") == "path"
    made.feed(wire(answer(sent, 401, CHALLENGE), SCSCF))
    assert made.response(401).headers.get_all("security-server") == [OURS]
    verify = (f"Security-Verify: {OURS}", "Security-Client: tls, msrp-tls;mediasec", *DEMANDS)
    send(made, TLS, *verify, number=2)
    registered(made, made.request("REGISTER"))
    assert "security-server" not in made.response(200).headers
    return made


def test_an_agreement_begins_in_the_open_and_ends_over_tls() -> None:
    made = agreed()
    send(made, TLS, f"Security-Verify: {OURS}", *DEMANDS, number=3, method="MESSAGE")
    sent = made.request("MESSAGE")
    for name in ("security-verify", "require", "proxy-require"):
        assert name not in sent.headers


@pytest.mark.parametrize(
    "verify",
    [
        MEDIA,  # bidding down: our entry was taken out on the way
        "tls;q=0.1, " + MEDIA,
        "tls, " + MEDIA,
        "tls;q=0.2;x=1, " + MEDIA,
        f"{IPSEC};q=0.5, {OURS}",
        f"{OURS}, digest;q=0.1",
    ],
)
@pytest.mark.parametrize("method", ["REGISTER", "MESSAGE"])
def test_what_was_tampered_with_is_494_with_the_true_list(verify: str, method: str) -> None:
    made = agreed()
    send(made, TLS, f"Security-Verify: {verify}", "Security-Client: tls", *DEMANDS, number=3, method=method)
    refused = made.response(494)
    assert refused.headers.get_all("security-server") == [OURS]
    assert refused.headers.get("require") == "sec-agree"


@pytest.mark.parametrize("verify", [OURS, OURS.replace("tls;q=0.2", "TLS ; Q=0.2"), "tls;q=0.2, x-new;mediasec"])
def test_media_plane_entries_and_letter_case_do_not_matter(verify: str) -> None:
    made = agreed()
    send(made, TLS, f"Security-Verify: {verify}", "Security-Client: tls", *DEMANDS, number=3)
    assert made.request("REGISTER")


def test_who_agreed_to_tls_is_held_to_it() -> None:
    made = agreed()
    send(made, TLS, number=3, method="MESSAGE")
    assert "Security-Verify is missing" in (made.response(494).headers.get("warning") or "")
    spoofed = Flow("udp", "access", ACCESS, ("10.0.0.7", 41000))
    contact = "Contact: <sip:alice@10.0.0.7:41000;transport=tls>"
    made.receive(spoofed, request("MESSAGE", contact, branch="x1", flow=spoofed))
    assert made.response(494)


@pytest.mark.parametrize("verify", [OURS, MEDIA])
def test_a_list_that_comes_back_in_the_open_is_not_believed(verify: str) -> None:
    made = book("tls")
    send(made, UE, "Security-Client: tls, msrp-tls;mediasec", f"Security-Verify: {verify}", *DEMANDS)
    assert made.response(494).headers.get("security-server") == OURS


def test_ues_without_the_mechanism_go_on_where_tls_is_only_offered() -> None:
    made = book("tls")
    send(made, UE)
    registered(made, made.request("REGISTER"))
    assert "security-server" not in made.response(200).headers
    client = f"Security-Client: {IPSEC}, msrp-tls;mediasec"
    send(made, UE, client, *DEMANDS, number=2)
    made.feed(wire(answer(made.request("REGISTER"), 401, CHALLENGE), SCSCF))
    assert made.response(401).headers.get("security-server") == OURS
    send(made, UE, client, f"Security-Verify: {OURS}", *DEMANDS, number=3)
    assert made.request("REGISTER")


def test_a_request_that_announces_tls_in_the_open_is_494() -> None:
    made = book("tls")
    send(made, UE, "Security-Client: tls", *DEMANDS, method="MESSAGE")
    assert made.response(494).headers.get("security-server") == OURS


@pytest.mark.parametrize("method", ["REGISTER", "MESSAGE", "INVITE"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [((), 421), (("Supported: path, sec-agree",), 494), (DEMANDS, 494), (("Require: foo",), 421)],
)
def test_where_tls_is_required_nothing_else_is_served(method: str, headers: tuple[str, ...], status: int) -> None:
    made = book("tls-required")
    send(made, UE, *headers, method=method)
    refused = made.response(status)
    assert refused.headers.get("security-server") == OURS
    assert refused.headers.get("require") == "sec-agree"
    assert made.engine.stats.forwarded == 0


def test_another_hop_in_between_is_no_partner_for_an_agreement() -> None:
    made = book("tls-required")
    send(made, UE, "Via: SIP/2.0/UDP 10.0.0.99;branch=z9hG4bKother")
    assert made.response(502)


def test_tls_from_the_start_needs_no_agreement() -> None:
    made = book("tls-required")
    send(made, TLS)
    registered(made, made.request("REGISTER"))
    assert made.response(200)
    send(made, TLS, number=2, method="MESSAGE")
    assert made.request("MESSAGE")


def test_a_call_over_tls_is_not_continued_in_the_open() -> None:
    made = agreed()
    verify = (f"Security-Verify: {OURS}", *DEMANDS)
    made.receive(TLS, request("INVITE", *verify, branch="i1", flow=TLS))
    invite = made.request("INVITE")
    routes = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    made.feed(wire(answer(invite, 200, *routes, "Contact: <sip:bob@10.9.0.20>"), SCSCF))
    route = [f"Route: {value}" for value in reversed(made.response(200).headers.values("record-route"))]
    to = "<sip:bob@example.net>;tag=callee"
    bye = request("BYE", *route, uri="sip:bob@10.9.0.20", branch="b1", number=2, to=to)
    made.receive(UE, bye)
    assert made.response(403)
    made.receive(TLS, request("BYE", *route, uri="sip:bob@10.9.0.20", branch="b2", number=2, to=to, flow=TLS))
    assert made.request("BYE")


# --- bidding down ---

DIGEST = 'Authorization: Digest username="alice", realm="example.net", nonce="{}", uri="sip:example.net", response="{}"'
CLIENT = "Security-Client: tls, msrp-tls;mediasec"


def again(*headers: str, number: int) -> str:
    """A REGISTER of alice with whatever Contact."""
    to = "<sip:alice@example.net>"
    return request("REGISTER", *headers, uri="sip:example.net", to=to, branch=f"again{number}", number=number)


@pytest.mark.parametrize("response", ["6629fae49393a05397450978507c4ef1", 'x", auts="y'])
def test_who_announced_tls_does_not_register_in_the_open(response: str) -> None:
    made = book("tls")
    send(made, UE, CLIENT, *DEMANDS)
    made.feed(wire(answer(made.request("REGISTER"), 401, CHALLENGE), SCSCF))
    assert made.response(401)
    send(made, UE, CLIENT, *DEMANDS, DIGEST.format("n1", response), number=2)
    assert made.response(494).headers.get("security-server") == OURS
    send(made, UE, CLIENT, DIGEST.format("n1", "").replace('response=""', "RESPONSE = abc"), number=3)
    assert made.response(494)
    assert not list(made.engine.context.registrar.bindings())


def test_a_ue_that_names_itself_before_it_is_asked_begins_an_agreement() -> None:
    made = book("tls")
    send(made, UE, CLIENT, *DEMANDS, DIGEST.format("", ""))
    made.feed(wire(answer(made.request("REGISTER"), 401, CHALLENGE), SCSCF))
    assert made.response(401).headers.get("security-server") == OURS


def test_a_registrar_that_does_not_ask_makes_no_registration_in_the_open() -> None:
    made = book("tls")
    send(made, UE, CLIENT, *DEMANDS)
    registered(made, made.request("REGISTER"))
    assert made.response(494).headers.get("security-server") == OURS
    assert not list(made.engine.context.registrar.bindings())
    send(made, TLS, CLIENT, f"Security-Verify: {OURS}", *DEMANDS, number=2)
    registered(made, made.request("REGISTER"))
    assert made.response(200)


@pytest.mark.parametrize("client", [(), ("Security-Client: digest",)])
@pytest.mark.parametrize("demand", [*DEMANDS, "Require: foo, SEC-AGREE"])
def test_a_demand_for_an_agreement_in_the_open_is_494(demand: str, client: tuple[str, ...]) -> None:
    made = book("tls")
    send(made, UE)
    registered(made, made.request("REGISTER"))
    made.out()
    send(made, UE, demand, *client, method="MESSAGE", number=2)
    assert made.response(494).headers.get("security-server") == OURS
    send(made, UE, "Supported: sec-agree", method="MESSAGE", number=3)
    assert made.request("MESSAGE")


def test_media_plane_security_alone_is_agreed_upon_in_the_open() -> None:
    made = book("tls")
    send(made, UE, "Security-Client: msrp-tls;mediasec", *DEMANDS)
    registered(made, made.request("REGISTER"))
    assert made.response(200).headers.get("security-server") == OURS
    send(made, UE, f"Security-Verify: {OURS}", *DEMANDS, method="MESSAGE", number=2)
    assert made.request("MESSAGE")


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:alice@10.0.0.7:41000;transport=tls>;expires=600",
        "<sip:alice@10.0.0.7:41000>;expires=600",
        "<sip:alice@10.0.0.7:41000;transport=tls>;expires=0",
        "*",
    ],
)
@pytest.mark.parametrize("client", ["Supported: path", "Security-Client: digest"])
def test_an_agreement_is_not_undone_in_the_open(contact: str, client: str) -> None:
    made = agreed()
    made.receive(UE, again(f"Contact: {contact}", "Expires: 0", client, number=9))
    assert made.response(494).headers.get("security-server") == OURS
    (binding,) = made.engine.context.registrar.bindings()
    assert binding.secured


def test_another_ue_of_the_same_user_goes_on_without_an_agreement() -> None:
    made = agreed()
    other = Flow("udp", "access", ACCESS, ("10.0.0.8", 5070))
    send(made, other, number=9)
    registered(made, made.request("REGISTER"))
    assert made.response(200)
    assert sorted(one.secured for one in made.engine.context.registrar.bindings()) == [False, True]
    send(made, other, method="MESSAGE", number=10)
    assert made.request("MESSAGE")


def test_who_had_an_agreement_may_begin_anew() -> None:
    made = agreed()
    contact = "Contact: <sip:alice@10.0.0.7:41000;transport=tls>"
    made.receive(UE, again(contact, CLIENT, *DEMANDS, number=9))
    made.feed(wire(answer(made.request("REGISTER"), 401, CHALLENGE), SCSCF))
    assert made.response(401).headers.get("security-server") == OURS
    made.receive(UE, again(contact, CLIENT, *DEMANDS, number=10))
    registered(made, made.request("REGISTER"))
    assert made.response(494)
    (binding,) = made.engine.context.registrar.bindings()
    assert binding.secured
    assert binding.flow == TLS


# --- no mechanism for signalling is offered ---


def test_a_mechanism_that_was_never_offered_cannot_be_repeated() -> None:
    made = Book()
    send(made, UE, "Security-Client: msrp-tls;mediasec", f"Security-Verify: {OURS}", *DEMANDS)
    assert made.response(494).headers.get("security-server") == MEDIA


def test_ipsec_beside_media_mechanisms_is_passed_over_or_refused() -> None:
    client = f"Security-Client: {IPSEC}, msrp-tls;mediasec"
    lenient = Book()
    send(lenient, UE, client, *DEMANDS)
    assert lenient.request("REGISTER")
    strict = Book(settings(access={"ipsec_3gpp": "refuse"}))
    send(strict, UE, client, *DEMANDS)
    assert strict.response(494).headers.get("security-server") == MEDIA
    send(strict, UE, "Security-Client: msrp-tls;mediasec", *DEMANDS, number=2)
    assert strict.request("REGISTER")
    nothing = Book(settings(access={"ipsec_3gpp": "refuse"}, policy={"mechanisms": []}))
    send(nothing, UE, client, *DEMANDS)
    assert nothing.response(420).headers.get("unsupported") == "sec-agree"


def test_a_realm_without_tls_listener_cannot_offer_it() -> None:
    with pytest.raises(SettingsError, match="no tls"):
        settings(access={"signalling": "tls"})
