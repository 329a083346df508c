"""The registrar of bindings: indexes, expiry, bounds."""

from typing import Literal

import pytest

from imsalg.core.bindings import Binding, Registrar, Rule, contact_key, identity_key
from imswire.base import LimitExceeded
from imswire.sip.flow import Flow


def flow(port: int = 5070, host: str = "10.0.0.7", connection: int = 0) -> Flow:
    return Flow("tcp" if connection else "udp", "access", ("10.0.0.1", 5060), (host, port), connection)


def binding(user: str = "alice", port: int = 5070, expires_at: float = 100.0, **options: object) -> Binding:
    way = options.pop("flow", flow(port))
    assert isinstance(way, Flow)
    contact = str(options.pop("contact", f"sip:{user}@10.0.0.7:{port}"))
    return Binding(f"sip:{user}@example.net", contact, way, "ptoken", expires_at, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("sip:a@h:5070", "sip:a@H:5070;ob", True),
        ("sip:a@h:5070;transport=udp", "sip:a@h:5070", True),
        ("sip:a@h:5070;transport=tcp", "sip:a@h:5070", False),
        ("sip:a@h", "sip:b@h", False),
        ("tel:+1", "tel:+1", True),
        ("sip:%61lice@h", "sip:alice@h", True),
        ("sip:a%3bb@h", "sip:a%3Bb@h", True),
        ("sip:a%3bb@h", "sip:a;b@h", False),
        ("sip:a%40b@h", "sip:b@h", False),
    ],
)
def test_contacts_are_compared_by_address(one: str, two: str, same: bool) -> None:
    assert (contact_key(one) == contact_key(two)) is same


def test_identities_are_compared_without_port_and_parameters() -> None:
    assert identity_key("sip:Alice@Example.NET:5060;user=phone") == identity_key("sip:Alice@example.net")
    assert identity_key("sip:alice@example.net") != identity_key("sip:Alice@example.net")
    assert identity_key("tel:+1555;phone-context=x") == "tel:+1555"
    assert identity_key("tel:+1-(5.5)5") == "tel:+1555"
    assert identity_key("sip:%61lice@example.net") == "sip:alice@example.net"
    assert identity_key("sip:a-b@example.net") != identity_key("sip:ab@example.net")


@pytest.mark.parametrize("octet", ["%0d%0a", "%20", "%3e", "%40", "%25"])
def test_what_an_escape_keeps_out_of_a_message_stays_escaped(octet: str) -> None:
    assert identity_key(f"sip:a{octet}b@example.net") == f"sip:a{octet.upper()}b@example.net"


def test_the_sender_of_a_request() -> None:
    registrar = Registrar(10, 5)
    alice, carol = binding("alice"), binding("carol")
    registrar.put(alice)
    assert registrar.sender(flow(), None, ()) is alice
    assert registrar.sender(flow(6000), "sip:alice@10.0.0.7:5070", ()) is alice, "another port of the same host"
    registrar.put(carol)
    assert registrar.sender(flow(), "sip:carol@10.0.0.7:5070", ()) is carol
    assert registrar.sender(flow(), None, ("sip:carol@example.net",)) is carol
    assert registrar.sender(flow(), None, ("sip:carol@example.net", "sip:alice@example.net")) is carol
    assert registrar.sender(flow(), None, ("sip:alice@example.net", "sip:carol@example.net")) is alice
    assert registrar.sender(flow(), None, ("sip:nobody@example.net",)) is None
    assert registrar.sender(flow(6000, "10.0.0.66"), "sip:alice@10.0.0.7:5070", ()) is None, "a borrowed contact"


def test_one_contact_of_two_users_says_nothing_of_either() -> None:
    registrar = Registrar(10, 5)
    contact = "sip:box@10.0.0.7:5070"
    alice, carol = binding("alice", contact=contact), binding("carol", contact=contact)
    registrar.put(alice)
    registrar.put(carol)
    for way, rule in ((flow(), "flow"), (other_flow(), "host")):
        assert registrar.sender(way, contact, ("sip:carol@example.net",), rule) is carol  # type: ignore[arg-type]
        assert registrar.sender(way, contact, (), rule) is None  # type: ignore[arg-type]


def test_several_registrations_of_one_user_are_one_users() -> None:
    registrar = Registrar(10, 5)
    urgent, other = (binding("alice", contact=f"sip:alice@10.0.0.7:507{n}", emergency=n == 0) for n in (0, 1))
    registrar.put(urgent)
    assert registrar.sender(flow(), None, ()) is urgent
    registrar.put(other)
    assert registrar.sender(flow(), None, ()) is other
    assert registrar.sender(flow(), urgent.contact, ()) is urgent


def other_flow(transport: Literal["udp", "tcp", "tls"] = "udp", host: str = "10.0.0.7") -> Flow:
    """Where nobody has registered."""
    return Flow(transport, "access", ("10.0.0.1", 5060), (host, 6000), 0 if transport == "udp" else 9)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize(("rule", "found"), [("flow", False), ("own-host", True), ("host", True)])
def test_another_flow_of_the_ues_own_host(rule: Rule, transport: Literal["udp", "tcp", "tls"], found: bool) -> None:
    registrar = Registrar(10, 5)
    alice = binding("alice")
    registrar.put(alice)
    assert registrar.sender(other_flow(transport), alice.contact, (), rule) is (alice if found else None)


@pytest.mark.parametrize(("rule", "found"), [("flow", False), ("own-host", False), ("host", True)])
def test_behind_a_nat_a_contact_proves_nothing(rule: Rule, found: bool) -> None:
    """The Contact of alice is private; another one behind her NAT writes it."""
    registrar = Registrar(10, 5)
    alice = binding("alice", flow=flow(40_000, "203.0.113.9"))
    registrar.put(alice)
    stranger = other_flow(host="203.0.113.9")
    assert registrar.sender(stranger, alice.contact, ("sip:alice@example.net",), rule) is (alice if found else None)
    assert registrar.sender(flow(40_000, "203.0.113.9"), None, (), rule) is alice, "her own flow always does"


def test_two_users_behind_one_address_are_known_by_their_flows_alone() -> None:
    registrar = Registrar(10, 5)
    alice, carol = binding("alice"), binding("carol", 5080)
    registrar.put(alice)
    registrar.put(carol)
    assert registrar.sender(other_flow(), alice.contact, ()) is None
    assert registrar.sender(flow(5080), alice.contact, ("sip:alice@example.net",)) is carol, "a borrowed Contact"
    registrar.remove(carol)
    assert registrar.sender(other_flow(), alice.contact, ()) is alice


def test_contacts_of_one_user_do_not_shut_each_other_out() -> None:
    registrar = Registrar(10, 5)
    phone, tablet = binding("alice"), binding("alice", 5080)
    work = Binding("sip:work@example.net", "sip:work@10.0.0.7:5090", flow(5090), "p", 100.0)
    one = binding("alice", associated=("<sip:alice@example.net>", "<sip:work@example.net>"))
    for each in (phone, tablet):
        registrar.put(each)
    assert registrar.sender(other_flow(), phone.contact, ()) is phone
    registrar.put(one)
    registrar.put(work)
    assert registrar.sender(other_flow(), one.contact, ()) is one, "an identity of the same subscription"


@pytest.mark.parametrize("rule", ["own-host", "host"])
def test_what_was_registered_over_tls_comes_over_tls(rule: Rule) -> None:
    registrar = Registrar(10, 5)
    alice = binding("alice", flow=Flow("tls", "access", ("10.0.0.1", 5061), ("10.0.0.7", 5070), 3))
    registrar.put(alice)
    assert registrar.sender(other_flow("tcp"), alice.contact, (), rule) is None
    assert registrar.sender(other_flow("tls"), alice.contact, (), rule) is alice


def test_a_host_whose_connection_closed_is_nobodys() -> None:
    registrar = Registrar(10, 5)
    way = flow(40_000, connection=4)
    alice, carol = binding("alice"), binding("carol", flow=way)
    registrar.put(alice)
    registrar.put(carol)
    assert registrar.sender(other_flow(), alice.contact, ()) is None
    registrar.flow_closed(way)
    assert registrar.sender(other_flow(), alice.contact, ()) is alice
    registrar.remove(carol)


def test_the_receiver_of_a_request() -> None:
    registrar = Registrar(10, 5)
    alice, carol = binding("alice"), binding("carol")
    registrar.put(alice)
    assert registrar.receiver(flow(), "sip:whatever@x") is alice
    registrar.put(carol)
    assert registrar.receiver(flow(), "sip:carol@10.0.0.7:5070;ob") is carol
    assert registrar.receiver(flow(), "sip:whatever@x") is None
    assert registrar.receiver(flow(1), "sip:carol@10.0.0.7:5070") is None


def test_replacing_removing_and_expiring() -> None:
    registrar = Registrar(10, 5)
    first, second = binding(expires_at=10.0), binding(expires_at=50.0)
    registrar.put(first)
    registrar.put(second)
    assert len(registrar) == 1
    registrar.remove(first)
    assert len(registrar) == 1, "what was replaced cannot be removed again"
    assert registrar.expire(20.0) == []
    assert registrar.expire(50.0) == [second]
    assert registrar.on_flow(flow()) == []
    assert registrar.next_timer() is None


def test_refreshes_do_not_pile_up() -> None:
    registrar = Registrar(10, 5)
    for n in range(1_000):
        registrar.put(binding(expires_at=1_000.0 + n))
    assert len(registrar._heap) < 100
    assert [one.expires_at for one in registrar.expire(5_000.0)] == [1_999.0]


def test_bounds() -> None:
    registrar = Registrar(limit=3, per_user=2)
    registrar.put(binding(port=1))
    registrar.put(binding(port=2))
    with pytest.raises(LimitExceeded):
        registrar.put(binding(port=3))
    registrar.put(binding("carol"))
    assert not registrar.has_room("sip:dave@example.net", "sip:dave@h")
    assert registrar.has_room("sip:alice@example.net", "sip:alice@10.0.0.7:2")


def test_a_closed_flow() -> None:
    registrar = Registrar(10, 5)
    way = flow(40000, connection=4)
    lost = binding(flow=way)
    registrar.put(lost)
    assert registrar.flow_closed(way) == [lost]
    assert lost.flow is None
    assert len(registrar) == 1
    registrar.put(binding(flow=flow(40001, connection=5)))
    assert len(registrar) == 1


def test_identities_of_a_binding() -> None:
    one = binding(associated=('"Alice" <sip:alice@example.net>', "<tel:+1555>"))
    assert one.default_identity == '"Alice" <sip:alice@example.net>'
    assert one.identity("tel:+1555") == "<tel:+1555>"
    assert one.identity("sip:boss@example.net") is None
    assert binding().default_identity == "<sip:alice@example.net>"
