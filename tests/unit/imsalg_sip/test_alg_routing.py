"""Our own addresses in Route, next hops, and strict routers."""

import pytest
from tests.playbook.alg_harness import LISTENERS, UE, settings

from imsalg.core.routing import Listener, Network, OwnRoute, next_uri, unwrap_strict
from imsalg.core.sip_call import flow_of
from imswire.base import ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.message import Request

NETWORK = Network(
    settings(), (*LISTENERS, Listener("core", "tcp", "10.9.0.1", 5060), Listener("core", "udp", "::1", 6060))
)


@pytest.mark.parametrize(
    ("value", "own"),
    [
        ("<sip:tok@10.0.0.1:5060;lr>", OwnRoute("tok", True)),
        ("<sip:10.0.0.1;lr>", OwnRoute("", True)),
        ("<SIP:tok@PCSCF.example.net;LR>;x=1", OwnRoute("tok", True)),
        ("sip:tok@10.9.0.1:5060", OwnRoute("tok", False)),
        ("<sip:tok@[::1]:6060;transport=udp;lr>", OwnRoute("tok", True)),
        ("<sip:tok@10.0.0.1:5062;lr>", None),
        ("<sip:10.0.0.1.example.net;lr>", None),
        ("<tel:+1>", None),
        ('"<sip:tok@10.0.0.1:5060;lr>" <sip:elsewhere;lr>', None),
        ('"<sip:elsewhere;lr>" <sip:tok@10.0.0.1:5060;lr>', OwnRoute("tok", True)),
        ("<sip:10.0.0.1:5060;x@elsewhere;lr>", None),
        ('"unreadable <sip:tok@10.0.0.1:5060;lr>', None),
    ],
)
def test_which_values_are_ours(value: str, own: OwnRoute | None) -> None:
    assert NETWORK.own_route(value) == own


def test_own_values_are_popped_up_to_the_first_token() -> None:
    headers = Headers((("Route", "<sip:10.0.0.1;lr>, <sip:t1@10.0.0.1:5060;lr>, <sip:t2@10.9.0.1:5060;lr>"),))
    assert NETWORK.pop_own(headers) == "t1"
    assert not NETWORK.pop_exact(headers, "t3")
    assert NETWORK.pop_exact(headers, "t2")
    assert NETWORK.pop_own(headers) is None
    assert "route" not in headers
    only = Headers((("Route", "<sip:10.0.0.1;lr>"), ("Route", "<sip:elsewhere;lr>")))
    assert NETWORK.pop_own(only) == ""
    assert only.get("route") == "<sip:elsewhere;lr>"


@pytest.mark.parametrize(
    ("uri", "remote", "transport"),
    [
        ("sip:bob@10.9.0.50", ("10.9.0.50", 5060), "udp"),
        ("sip:bob@10.9.0.50:7000;transport=tcp", ("10.9.0.50", 7000), "tcp"),
        ("sip:bob@[2001:db8::5]:7000", ("2001:db8::5", 7000), "udp"),
        ("sip:x@named.example;maddr=10.9.0.51", ("10.9.0.51", 5060), "udp"),
        ("sip:bob@Example.net.:7000;transport=tcp", ("example.net", 7000), "tcp"),
        ("sips:bob@example.net", ("10.9.0.9", 5060), "udp"),
        ("tel:+15551234", ("10.9.0.9", 5060), "udp"),
        ("sip:bob@10.9.0.50;transport=sctp", ("10.9.0.9", 5060), "udp"),
    ],
)
def test_next_hops(uri: str, remote: tuple[str, int], transport: str) -> None:
    for _ in range(2):  # computed, then remembered
        flow = flow_of(NETWORK.resolve(uri, "core"))
        assert flow.remote == remote
        assert flow.transport == transport
        assert flow.realm == "core"


def test_a_face_names_its_listener_in_record_route() -> None:
    assert NETWORK.face(UE).record_route("t") == "<sip:t@10.0.0.1:5060;lr>"
    v6 = NETWORK.face(flow_of(NETWORK.resolve("sip:b@[2001:db8::5]", "core")))
    assert v6.record_route("t") == "<sip:t@[::1]:6060;lr>"
    behind = Network(settings(), (Listener("access", "tcp", "0.0.0.0", 5060, "203.0.113.1"), *LISTENERS[2:]))
    assert behind.face(UE.__replace__(transport="tcp")).record_route("t") == "<sip:t@203.0.113.1:5060;transport=tcp;lr>"
    with pytest.raises(ProtocolError, match=r"route\.listener"):
        NETWORK.face(UE.__replace__(transport="tls"))


def test_strict_routers_in_front_and_behind() -> None:
    request = Request("BYE", "sip:bob@target", Headers((("Route", "<sip:strict.example>"), ("Route", "<sip:last;lr>"))))
    assert next_uri(request) == "sip:strict.example"
    assert request.uri == "sip:strict.example"
    assert request.headers.get_all("route") == ["<sip:last;lr>", "<sip:bob@target>"]
    back = Request("BYE", "sip:tok@us", Headers((("Route", "<sip:a;lr>, <sip:b;lr>, <sip:bob@target>"),)))
    unwrap_strict(back)
    assert back.uri == "sip:bob@target"
    assert back.headers.get_all("route") == ["<sip:a;lr>", "<sip:b;lr>"]
