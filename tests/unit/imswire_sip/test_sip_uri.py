import pytest

from imswire.base import ProtocolError
from imswire.sip.uri import OpaqueUri, SipUri, TelUri, parse_uri


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@example.org",
        "sips:alice:secret@example.org:5061;transport=tcp;lr?Subject=hi&Priority=urgent",
        "sip:[2001:db8::1]:5070;maddr=[2001:db8::2]",
        "sip:alice;day=tuesday@example.org",
        "sip:+1-212-555-1212:1234@gateway.example.org;user=phone",
        "sip:example.org",
        "sip:%61lice@Example.ORG;x",
    ],
)
def test_round_trip(text: str) -> None:
    assert str(SipUri.parse(text)) == text


def test_parts() -> None:
    uri = SipUri.parse("SIPS:alice;day=tue:pw@[2001:db8::1]:5061;Transport=TCP;lr?a=b")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == (
        "sips",
        "alice;day=tue",
        "pw",
        "2001:db8::1",
        5061,
    )
    assert uri.param("transport") == "TCP"
    assert uri.param("lr") == ""
    assert uri.param("ob") is None
    assert uri.headers == "a=b"
    assert uri.transport == "tls"
    assert uri.hostport == "[2001:db8::1]:5061"
    assert uri.aor == "sips:alice;day=tue@[2001:db8::1]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip:@example.org",
        "sip:a b@example.org",
        "sip:alice@exa mple.org",
        "sip:alice@example.org:99999",
        "sip:alice@example.org:",
        "sip:alice@2001:db8::1",
        "sip:alice@[2001:db8:::1]",
        "sip:alice@[example]",
        "sip:a@b@c",
        "sip:a%zz@b",
        "sip:a@b;;lr",
        "sip:a@b;=x",
        "<sip:a@b>",
        "mailto:a@b",
    ],
)
def test_not_sip(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        SipUri.parse(text)
    assert caught.value.reason == "sip.uri"


def test_params_are_edited_in_place() -> None:
    uri = SipUri.parse("sip:a@b;lr;transport=udp;x=1")
    assert str(uri.with_param("Transport", "tcp")) == "sip:a@b;lr;transport=tcp;x=1"
    assert str(uri.with_param("ob")) == "sip:a@b;lr;transport=udp;x=1;ob"
    assert str(uri.without_param("LR")) == "sip:a@b;transport=udp;x=1"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("sip:%61lice@atlanta.example;transport=TCP", "sip:alice@AtLanTa.example;Transport=tcp"),
        ("sip:carol@chicago.example", "sip:carol@chicago.example;newparam=5"),
        ("sip:carol@chicago.example;newparam=5", "sip:carol@chicago.example;security=on"),
        ("sip:a@b?x=1&y=2", "sip:a@b?y=2&x=1"),
    ],
)
def test_same(one: str, two: str) -> None:
    assert SipUri.parse(one).same_as(SipUri.parse(two))
    assert SipUri.parse(two).same_as(SipUri.parse(one))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("SIP:ALICE@example.org", "sip:alice@example.org"),
        ("sip:bob@example.org", "sip:bob@example.org:5060"),
        ("sip:bob@example.org", "sips:bob@example.org"),
        ("sip:bob@example.org", "sip:bob@example.org;transport=udp"),
        ("sip:bob@example.org", "sip:bob@example.org;maddr=192.0.2.1"),
        ("sip:bob@example.org;a=1", "sip:bob@example.org;a=2"),
        ("sip:bob@example.org", "sip:bob@example.org?Subject=x"),
        ("sip:bob@example.org", "sip:example.org"),
    ],
)
def test_not_same(one: str, two: str) -> None:
    assert not SipUri.parse(one).same_as(SipUri.parse(two))


def test_tel() -> None:
    uri = parse_uri("tel:+1-201-555-0123;ext=7")
    assert isinstance(uri, TelUri)
    assert (uri.digits, uri.param("ext"), str(uri)) == ("+12015550123", "7", "tel:+1-201-555-0123;ext=7")
    assert uri.same_as(parse_uri("tel:+12015550123;EXT=7"))
    assert not uri.same_as(parse_uri("tel:+12015550123"))
    with pytest.raises(ProtocolError):
        parse_uri("tel:alice")


def test_opaque() -> None:
    uri = parse_uri("URN:service:sos")
    assert uri == OpaqueUri("urn", "service:sos")
    assert str(uri) == "urn:service:sos"
    with pytest.raises(ProtocolError):
        parse_uri("no scheme")
