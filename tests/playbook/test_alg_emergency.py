"""Emergency calls and registrations: their way, who may make them, and that nothing stands in it (TS 24.229 5.2.10)."""

from typing import Any
from xml.etree import ElementTree

import pytest
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, UE_B, Book, answer, register, request, settings, wire
from tests.playbook.test_alg_agreement import book as agreement_book

from imsalg.core.events import Drain
from imskit.settings import SettingsError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response

SOS = "urn:service:sos"
ECSCF = Flow("udp", "core", ("10.9.0.1", 5060), ("10.9.0.66", 5060))


def book(core: dict[str, Any] | None = None, **changes: Any) -> Book:
    return Book(settings(core={"emergency_next_hop": "sip:10.9.0.66", **(core or {})}, **changes))


def calls(made: Book, uri: str = SOS, *headers: str, flow: Flow = UE, branch: str = "e1") -> list[tuple[Any, Flow]]:
    made.out()
    made.receive(flow, request("INVITE", *headers, uri=uri, to=f"<{uri}>", branch=branch, flow=flow), AUDIO)
    return [(m, f) for m, f in made.out() if not isinstance(m, Response) or m.status > 100]


def forwarded(made: Book, *args: Any, **kwargs: Any) -> Request:
    (sent, flow), *more = calls(made, *args, **kwargs)
    assert not more
    assert isinstance(sent, Request)
    assert flow == ECSCF
    return sent


def refused(made: Book, status: int, *args: Any, **kwargs: Any) -> Response:
    (sent, _), *more = calls(made, *args, **kwargs)
    assert not more
    assert isinstance(sent, Response)
    assert sent.status == status
    return sent


@pytest.mark.parametrize("uri", [SOS, "urn:service:sos.fire", "URN:service:SOS.police"])
def test_an_emergency_call_goes_to_the_e_cscf_past_the_service_route(uri: str) -> None:
    made = book()
    register(made, "alice", UE, "Service-Route: <sip:orig@10.9.0.9;lr>")
    sent = forwarded(made, uri, "Route: <sip:orig@10.9.0.9;lr>", "Priority: emergency")
    assert sent.uri == uri
    assert sent.headers.get_all("route") == ["<sip:10.9.0.66;lr>"]
    assert sent.headers.get("p-asserted-identity") == "<sip:alice@example.net>"
    assert sent.headers.get("priority") == "emergency"
    assert "resource-priority" not in sent.headers
    assert "record-route" in sent.headers
    assert "p-charging-vector" in sent.headers


@pytest.mark.parametrize("uri", ["urn:service:sosx", "urn:service:counseling", "urn:service:so", "sip:sos@example.net"])
def test_what_is_no_emergency_is_treated_as_ever(uri: str) -> None:
    made = book()
    refused(made, 403, uri)
    register(made)
    (sent, flow), *_ = calls(made, uri, branch="e2")
    assert isinstance(sent, Request)
    assert flow == SCSCF


def test_a_ue_without_registration_may_call_for_help() -> None:
    sent = forwarded(book(), SOS, "P-Preferred-Identity: <sip:boss@example.net>")
    assert "p-asserted-identity" not in sent.headers
    assert "p-preferred-identity" not in sent.headers


def test_by_setting_it_may_not() -> None:
    refused(book(access={"emergency_unregistered": False}), 403)


@pytest.mark.parametrize(
    ("uri", "urgent"),
    [
        ("tel:112", True),
        ("tel:1-1-2;phone-context=+49", True),
        ("sip:112@example.net;user=phone", True),
        ("sip:911@example.net", True),
        ("sip:%3112@example.net;user=phone", True),
        ("sips:11%32:secret@example.net", True),
        ("sip:1-1-2@example.net;user=phone", True),
        ("sip:1(1)2;phone-context=+49@example.net;x;USER=phone", True),
        ("sip:1-1-2@example.net", False),
        ("sip:1-1-2@example.net;user=phonebook", False),
        ("sip:%31%2512@example.net", False),
        ("tel:1123", False),
        ("sip:alice@112", False),
    ],
)
def test_numbers_become_the_service(uri: str, urgent: bool) -> None:
    made = book(access={"emergency_numbers": ["112", "911"], "emergency_priority": "esnet.0"})
    register(made)
    (sent, flow), *_ = calls(made, uri)
    assert isinstance(sent, Request)
    assert (flow == ECSCF) is urgent
    assert sent.uri == (SOS if urgent else uri)
    assert sent.headers.get("resource-priority") == ("esnet.0" if urgent else None)


@pytest.mark.parametrize("changes", [{"access": {"emergency": "alternative"}}, {"core": {"emergency_next_hop": ""}}])
def test_where_there_is_no_e_cscf_the_ue_is_told_what_to_do(changes: dict[str, Any]) -> None:
    made = book(**changes)
    register(made)
    told = refused(made, 380)
    assert told.headers.get("content-type") == "application/3gpp-ims+xml"
    assert told.headers.get("p-asserted-identity") == "<sip:pcscf.example.net>"
    service = ElementTree.fromstring(told.body).find("alternative-service")
    assert service is not None
    assert service.findtext("type") == "emergency"
    assert service.findtext("action") == "emergency-registration"
    stranger = refused(made, 380, flow=UE_B, branch="e2")
    assert b"<action>" not in stranger.body


def test_by_setting_they_are_refused() -> None:
    refused(book(access={"emergency": "refuse"}), 403)


def test_nothing_stands_in_its_way() -> None:
    made = book(limits={"calls": 1})
    register(made, "alice")
    made.receive(UE, request("INVITE", branch="i1"))
    made.out()
    made.receive(UE, request("INVITE", branch="i2", call_id="c2"))
    made.response(503)
    assert forwarded(made)
    ending = book()
    register(ending, "alice")
    ending.receive(UE, request("INVITE", branch="i1"))
    ending.feed(Drain(30.0))
    ending.out()
    ending.receive(UE, request("INVITE", branch="i2", call_id="c2"))
    ending.response(503)
    assert forwarded(ending)


def test_a_drain_does_not_stop_a_call_back() -> None:
    made = book()
    path = register(made, "bob", UE_B)
    made.feed(Drain(30.0))
    for number, (priority, let) in enumerate((("normal", False), ("psap-callback", True))):
        made.out()
        extra = (f"Route: {path}", f"Priority: {priority}")
        text = request("INVITE", *extra, uri="sip:bob@10.0.0.8:5070", branch=f"p{number}", flow=SCSCF)
        made.receive(SCSCF, text)
        assert ([m.method for m, _ in made.out() if isinstance(m, Request)] == ["INVITE"]) is let


def test_where_tls_is_required_a_call_for_help_may_come_in_the_open() -> None:
    made = agreement_book("tls-required", core={"emergency_next_hop": "sip:10.9.0.66"})
    invite = forwarded(made)
    routes = [f"Record-Route: {value}" for value in invite.headers.values("record-route")]
    made.feed(wire(answer(invite, 200, *routes, "Contact: <sip:psap@10.9.0.70>"), ECSCF))
    route = [f"Route: {value}" for value in reversed(made.response(200).headers.values("record-route"))]
    to = f"<{SOS}>;tag=callee"
    made.receive(UE, request("ACK", *route, uri="sip:psap@10.9.0.70", branch="k1", to=to))
    assert made.request("ACK")
    made.receive(UE, request("BYE", *route, uri="sip:psap@10.9.0.70", branch="b1", number=2, to=to))
    assert made.request("BYE")


# --- registration ---


def emergency_register(made: Book, n: int = 1) -> tuple[Request, Flow]:
    made.out()
    made.receive(
        UE,
        f"""
        REGISTER sip:example.net SIP/2.0
        Via: SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKsos{n}
        From: <sip:alice@example.net>;tag=r
        To: <sip:alice@example.net>
        Call-ID: sosreg
        CSeq: {n} REGISTER
        Contact: <sip:alice@10.0.0.7:5070;sos>;expires=600
        Max-Forwards: 70
        """,
    )
    (sent, flow), *more = [(m, f) for m, f in made.out() if isinstance(m, Request)]
    assert not more
    made.feed(wire(answer(sent, 200, "Contact: <sip:alice@10.0.0.7:5070;sos>;expires=600", "Allow-Events: reg"), flow))
    assert made.response(200)  # and no SUBSCRIBE
    return sent, flow


@pytest.mark.parametrize(
    ("core", "host"), [({}, "10.9.0.9"), ({"emergency_register_next_hop": "sip:10.9.0.67"}, "10.9.0.67")]
)
def test_an_emergency_registration_has_its_way(core: dict[str, str], host: str) -> None:
    made = book(core)
    _, flow = emergency_register(made)
    assert flow.remote == (host, 5060)
    assert made.engine.reg_events.state_of("sip:alice@example.net") == ""


def test_an_emergency_registration_is_for_emergencies_alone() -> None:
    made = book()
    emergency_register(made)
    refused(made, 403, "sip:bob@example.net")
    sent = forwarded(made, branch="e2")
    assert sent.headers.get("p-asserted-identity") == "<sip:alice@example.net>"
    no_way = Book(settings(access={"emergency": "alternative"}))
    emergency_register(no_way)
    assert b"<action>" not in refused(no_way, 380).body


def test_it_stands_beside_the_ordinary_one() -> None:
    made = book()
    register(made)
    emergency_register(made)
    assert made.engine.gauges["bindings"] == 2
    (sent, flow), *_ = calls(made, "sip:bob@example.net")
    assert isinstance(sent, Request)
    assert flow == SCSCF


def test_a_ue_that_leaves_keeps_its_emergency_registration() -> None:
    made = book()
    register(made)
    emergency_register(made)
    own = {"uri": "sip:example.net", "to": "<sip:alice@example.net>", "branch": "star"}
    made.receive(UE, request("REGISTER", "Contact: *", "Expires: 0", **own))  # type: ignore[arg-type]
    made.feed(wire(answer(made.request("REGISTER"), 200), SCSCF))
    (binding,) = made.engine.context.registrar.bindings()
    assert binding.emergency
    assert forwarded(made).headers.get("p-asserted-identity") == "<sip:alice@example.net>"


def test_full_tables_do_not_stop_it() -> None:
    made = book(limits={"contacts_per_user": 1, "bindings": 1})
    register(made)
    emergency_register(made)
    assert made.engine.gauges["bindings"] == 2


@pytest.mark.parametrize("hop", ["mailto:x@y", "sip:10.9.0.66;transport=tcp", "sip:[2001:db8::1]"])
def test_a_way_that_leads_nowhere_is_named_at_the_start(hop: str) -> None:
    with pytest.raises(SettingsError, match="emergency_next_hop"):
        book({"emergency_next_hop": hop})
