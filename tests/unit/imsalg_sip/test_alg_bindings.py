"""The registrar of bindings: indexes, expiry, bounds."""

import pytest

from imsalg.core.bindings import Binding, Registrar, contact_key, identity_key
from imswire.base import LimitExceeded
from imswire.sip.flow import Flow


def flow(port: int = 5070, host: str = "10.0.0.7", connection: int = 0) -> Flow:
    return Flow("tcp" if connection else "udp", "access", ("10.0.0.1", 5060), (host, port), connection)


def binding(user: str = "alice", port: int = 5070, expires_at: float = 100.0, **options: object) -> Binding:
    way = options.pop("flow", flow(port))
    assert isinstance(way, Flow)
    contact = f"sip:{user}@10.0.0.7:{port}"
    return Binding(f"sip:{user}@example.net", contact, way, "ptoken", expires_at, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("sip:a@h:5070", "sip:a@H:5070;ob", True),
        ("sip:a@h:5070;transport=udp", "sip:a@h:5070", True),
        ("sip:a@h:5070;transport=tcp", "sip:a@h:5070", False),
        ("sip:a@h", "sip:b@h", False),
        ("tel:+1", "tel:+1", True),
    ],
)
def test_contacts_are_compared_by_address(one: str, two: str, same: bool) -> None:
    assert (contact_key(one) == contact_key(two)) is same


def test_identities_are_compared_without_port_and_parameters() -> None:
    assert identity_key("sip:Alice@Example.NET:5060;user=phone") == identity_key("sip:Alice@example.net")
    assert identity_key("sip:alice@example.net") != identity_key("sip:Alice@example.net")
    assert identity_key("tel:+1555;phone-context=x") == "tel:+1555"


def test_the_sender_of_a_request() -> None:
    registrar = Registrar(10, 5)
    alice, carol = binding("alice"), binding("carol")
    registrar.put(alice)
    assert registrar.sender(flow(), None, ()) is alice
    registrar.put(carol)
    assert registrar.sender(flow(), "sip:carol@10.0.0.7:5070", ()) is carol
    assert registrar.sender(flow(), None, ("sip:carol@example.net",)) is carol
    assert registrar.sender(flow(), None, ("sip:nobody@example.net",)) is alice
    assert registrar.sender(flow(6000), "sip:alice@10.0.0.7:5070", ()) is alice, "another port of the same host"
    assert registrar.sender(flow(6000, "10.0.0.66"), "sip:alice@10.0.0.7:5070", ()) is None, "a borrowed contact"


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
