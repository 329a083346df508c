"""REGISTER through the P-CSCF: Path, security agreement, bindings and what becomes of them."""

import pytest
from tests.playbook.alg_harness import ACCESS, SCSCF, UE, Book, answer, settings, wire
from tests.playbook.alg_harness import request as invite

from imsalg.core.events import FlowClosed
from imswire.sip.flow import Flow
from imswire.sip.message import Request

REGISTER = """
    REGISTER sip:example.net SIP/2.0
    Via: SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKr{n};rport
    From: <sip:alice@example.net>;tag=r1
    To: <sip:alice@example.net>
    Call-ID: reg1
    CSeq: {n} REGISTER
    Contact: <sip:alice@10.0.0.7:5070>;expires={expires}
    Max-Forwards: 70
"""
OURS = "msrp-tls;mediasec, bfcp-tls;mediasec"
CHALLENGE = 'WWW-Authenticate: Digest realm="example.net", nonce="n1", algorithm=MD5'


def register(book: Book, n: int = 1, *extra: str, expires: int = 600, flow: Flow = UE) -> Request:
    """Send a REGISTER and return what went to the core."""
    book.receive(flow, REGISTER.format(n=n, expires=expires) + "\n".join(extra))
    return book.request("REGISTER")


def granted(request: Request, expires: int = 600, *extra: str) -> bytes:
    return answer(request, 200, f"Contact: <sip:alice@10.0.0.7:5070>;expires={expires}", *extra)


def test_a_register_goes_to_the_core_with_path_and_visited_network() -> None:
    book = Book()
    sent = register(book)
    path = sent.headers.get("path") or ""
    assert path.startswith("<sip:p")
    assert path.endswith("@10.9.0.1:5060;lr>")
    assert sent.headers.get("require") == "path"
    assert sent.headers.get("supported") == "path"
    assert sent.headers.get("p-visited-network-id") == "example.net"
    assert sent.headers.get("max-forwards") == "69"
    assert "record-route" not in sent.headers
    assert sent.via.sent_by == "10.9.0.1:5060"


def test_the_ues_route_and_assertions_do_not_reach_the_core() -> None:
    book = Book()
    sent = register(
        book,
        1,
        "Route: <sip:10.0.0.1:5060;lr>",
        "P-Asserted-Identity: <sip:boss@example.net>",
        "P-Charging-Vector: icid-value=x",
        "P-Access-Network-Info: IEEE-802.11",
    )
    assert "route" not in sent.headers
    assert "p-asserted-identity" not in sent.headers
    vectors = sent.headers.get_all("p-charging-vector")  # its own
    assert len(vectors) == 1
    assert vectors[0].endswith(";icid-generated-at=pcscf.example.net")
    assert sent.headers.get("p-access-network-info") == "IEEE-802.11"


def test_without_any_announcement_a_ue_registers_and_sees_no_security_server() -> None:
    book = Book()
    book.feed(wire(granted(register(book)), SCSCF))
    ok = book.response(200)
    assert "security-server" not in ok.headers
    assert book.engine.gauges["bindings"] == 1


@pytest.mark.parametrize(
    "client",
    [
        ("Security-Client: msrp-tls;mediasec",),
        ("Security-Client: sdes-srtp;mediasec, msrp-tls;mediasec, bfcp-tls;mediasec",),
        ("Security-Client: ipsec-3gpp;alg=hmac-sha-1-96;spi-c=1;spi-s=2;port-c=3;port-s=4, msrp-tls;mediasec",),
        ("Security-Client: tls;q=0.1", "Security-Client: udptl-dtls;mediasec", "Security-Client: msrp-tls;mediasec"),
        ("Security-Client: tls;mediasec=msrp-tls",),
    ],
)
def test_agreement_with_a_challenge(client: tuple[str, ...]) -> None:
    book = Book()
    demands = ("Require: mediasec", "Proxy-Require: mediasec, sec-agree", "Supported: sec-agree")
    sent = register(book, 1, *client, *demands)
    for name in ("security-client", "proxy-require"):
        assert name not in sent.headers
    assert sent.headers.get("require") == "path"
    book.feed(wire(answer(sent, 401, CHALLENGE), SCSCF))
    challenge = book.response(401)
    assert challenge.headers.get_all("security-server") == [OURS]

    verify = (f"Security-Verify: {OURS}", "Require: mediasec", "Authorization: Digest x=1")
    sent = register(book, 2, *client, *verify)
    assert "security-verify" not in sent.headers
    book.feed(wire(granted(sent, 600, "Service-Route: <sip:10.9.0.9;lr>"), SCSCF))
    ok = book.response(200)
    assert "security-server" not in ok.headers
    assert ok.headers.get("service-route") == "<sip:10.9.0.9;lr>"
    agreed = ["bfcp-tls", "msrp-tls"] if "bfcp-tls" in client[0] else ["msrp-tls"]
    assert [log.fields["agreed"] for log in book.logs if log.event == "registered"] == [agreed]
    assert not [log for log in book.logs if log.event.startswith("Security-Verify")]


def test_the_200_carries_the_list_when_no_challenge_was_needed() -> None:
    book = Book()
    sent = register(book, 1, "Security-Client: msrp-tls;mediasec")
    book.feed(wire(granted(sent), SCSCF))
    assert book.response(200).headers.get("security-server") == OURS


def test_the_trace_shows_the_agreement_towards_the_ue_alone() -> None:
    book = Book()
    client = "Security-Client: msrp-tls;mediasec"
    sent = register(book, 1, client, f"Security-Verify: {OURS}")
    book.feed(wire(answer(sent, 401, CHALLENGE), SCSCF))
    shown = {
        (t.fields["dir"], t.fields["realm"], str(t.fields["summary"])[:3]): t.fields["sdp"]
        for t in book.traces
        if t.kind == "sip"
    }
    assert shown["in", "access", "REG"] == [client, f"Security-Verify: {OURS}"]
    assert shown["out", "access", "401"] == [f"Security-Server: {OURS}"]
    assert shown["out", "core", "REG"] == []


def test_a_wrong_repetition_is_logged_and_the_ue_registers() -> None:
    book = Book()
    sent = register(book, 1, "Security-Client: msrp-tls;mediasec", "Security-Verify: sdes-srtp;mediasec")
    book.feed(wire(granted(sent), SCSCF))
    assert book.response(200)
    warned = next(log for log in book.logs if log.event.startswith("Security-Verify"))
    assert warned.fields["missing"] == ["bfcp-tls", "msrp-tls"]
    assert warned.fields["foreign"] == ["sdes-srtp"]


def test_an_unknown_proxy_require_is_420_and_an_unknown_require_is_not_ours() -> None:
    book = Book()
    book.receive(UE, REGISTER.format(n=1, expires=60) + "Proxy-Require: mediasec, sausages")
    refused = book.response(420)
    assert refused.headers.get("unsupported") == "sausages"
    assert register(book, 2, "Require: gruu").headers.values("require") == ["gruu", "path"]


def test_refresh_replaces_and_expiry_forgets() -> None:
    book = Book()
    book.feed(wire(granted(register(book, 1)), SCSCF))
    book.advance(400)
    book.feed(wire(granted(register(book, 2)), SCSCF))
    book.advance(400)
    assert book.engine.gauges["bindings"] == 1
    book.advance(201)
    assert book.engine.gauges["bindings"] == 0


def test_deregistration_of_one_contact_and_of_all() -> None:
    book = Book()
    book.feed(wire(granted(register(book, 1)), SCSCF))
    book.feed(wire(answer(register(book, 2, expires=0), 200), SCSCF))
    assert book.engine.gauges["bindings"] == 0
    book.feed(wire(granted(register(book, 3)), SCSCF))
    assert book.engine.gauges["bindings"] == 1
    star = REGISTER.format(n=4, expires=0).replace("<sip:alice@10.0.0.7:5070>;expires=0", "*") + "Expires: 0"
    book.out()
    book.receive(UE, star)
    book.feed(wire(answer(book.request("REGISTER"), 200), SCSCF))
    assert book.engine.gauges["bindings"] == 0


def test_a_contact_that_the_registrar_dropped_is_no_binding() -> None:
    book = Book()
    book.feed(wire(answer(register(book), 200, "Contact: <sip:alice@10.0.0.99:5070>;expires=600"), SCSCF))
    assert book.engine.gauges["bindings"] == 0


@pytest.mark.parametrize("named", ["%61lice", "alic%65"])
def test_a_contact_that_the_registrar_writes_without_escapes_is_the_same(named: str) -> None:
    book = Book()
    book.receive(UE, REGISTER.format(n=1, expires=600).replace("<sip:alice@10", f"<sip:{named}@10"))
    sent = book.request("REGISTER")
    book.feed(wire(granted(sent), SCSCF))
    (binding,) = book.engine.context.registrar.bindings()
    assert binding.contact == f"sip:{named}@10.0.0.7:5070"
    path = f"Route: {sent.headers.get('path')}"
    book.out()
    book.receive(SCSCF, invite("INVITE", path, uri="sip:alice@10.0.0.7:5070", flow=SCSCF))
    assert book.request("INVITE").uri == "sip:alice@10.0.0.7:5070"


def test_a_user_that_is_escaped_is_the_same_user() -> None:
    book = Book()
    book.feed(wire(granted(register(book)), SCSCF))
    book.receive(UE, REGISTER.format(n=2, expires=0).replace("To: <sip:alice", "To: <sip:%61lice"))
    book.feed(wire(granted(book.request("REGISTER"), expires=0), SCSCF))
    assert book.engine.gauges["bindings"] == 0


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (["garbage <"], []),
        (["<tel:+1>", "<sip:a@10.9.0.9;lr>"], ["<sip:a@10.9.0.9;lr>"]),
        (["<sip:a@10.9.0.9;lr>, <sip:b@10.9.0.8;lr>"], ["<sip:a@10.9.0.9;lr>", "<sip:b@10.9.0.8;lr>"]),
    ],
)
def test_a_service_route_that_cannot_be_read_is_left_out(told: list[str], kept: list[str]) -> None:
    book = Book()
    book.feed(wire(granted(register(book), 600, *(f"Service-Route: {one}" for one in told)), SCSCF))
    seen = book.response(200).headers.values("service-route")
    assert seen == kept
    book.receive(UE, invite("MESSAGE", *(f"Route: {one}" for one in seen), branch="m1"))
    assert book.request("MESSAGE").headers.values("route") == kept


def test_a_refusal_leaves_no_binding() -> None:
    book = Book()
    book.feed(wire(answer(register(book), 403), SCSCF))
    assert book.response(403)
    assert book.engine.gauges["bindings"] == 0


def test_bindings_are_bounded() -> None:
    book = Book(settings(limits={"bindings": 1}))
    book.feed(wire(granted(register(book)), SCSCF))
    book.out()
    other = REGISTER.format(n=9, expires=60).replace("alice", "carol").replace("z9hG4bKr9", "z9hG4bKr9b")
    book.receive(UE, other)
    assert book.response(503).headers.get("retry-after") == "10"


def test_register_from_the_core_side_is_refused() -> None:
    book = Book()
    book.receive(SCSCF, REGISTER.format(n=1, expires=60))
    assert book.response(403)


def test_a_closed_connection_takes_the_way_to_the_ue_with_it() -> None:
    flow = Flow("tcp", "access", ACCESS, ("10.0.0.7", 41000), 3)
    book = Book()
    sent = register(book, flow=flow)
    path = sent.headers.get("path") or ""
    book.feed(wire(granted(sent), SCSCF))
    book.out()
    book.feed(FlowClosed(flow, "peer closed"))
    book.receive(
        SCSCF,
        f"""
        MESSAGE sip:alice@10.0.0.7:5070 SIP/2.0
        Via: SIP/2.0/UDP 10.9.0.9;branch=z9hG4bKm1
        Route: {path}
        From: <sip:bob@example.net>;tag=b
        To: <sip:alice@example.net>
        Call-ID: m1
        CSeq: 1 MESSAGE
        Max-Forwards: 60
        """,
    )
    assert book.response(430)


def test_the_registrars_silence_is_504() -> None:
    book = Book()
    register(book)
    book.advance(33)
    assert book.response(504)
