import pytest

from imswire.base import ProtocolError
from imswire.sip.values import CSeq, NameAddr, SecMechanism, Via, parse_params, parse_sec_mechanisms, quote, unquote


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ("<sip:a@b>", "", "sip:a@b", None),
        ("<sip:a@b>;tag=7", "", "sip:a@b", "7"),
        ("Bob <sip:a@b;lr>;Tag=x", "Bob", "sip:a@b;lr", "x"),
        ("Bob Smith<sip:a@b>", "Bob Smith", "sip:a@b", None),
        ('"A \\"q\\" <x>, y" <sip:a@b>;tag=1', 'A "q" <x>, y', "sip:a@b", "1"),
        ("sip:a@b;tag=9", "", "sip:a@b", "9"),
        ("  < tel:+1234 > ; tag = 5 ", "", "tel:+1234", "5"),
    ],
)
def test_name_addr(text: str, display: str, uri: str, tag: str | None) -> None:
    value = NameAddr.parse(text)
    assert (value.display_name, value.uri, value.tag) == (display, uri, tag)
    assert NameAddr.parse(str(value)) == value


@pytest.mark.parametrize(
    "text", ['"A \\"q" <sip:a@b;lr>;tag=1;x="a;b"', "Bob Smith <sip:a@b>", '<sip:a@b>;+g.3gpp.icsi-ref="u";q=1']
)
def test_name_addr_round_trip(text: str) -> None:
    assert str(NameAddr.parse(text)) == text


def test_name_addr_quotes_what_is_no_token() -> None:
    assert str(NameAddr("Bob, S.", "sip:a@b")) == '"Bob, S." <sip:a@b>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<>",
        "Bob",
        '"Bob <sip:a@b>',
        "<sip:a@b",
        "sip:a b@c",
        "<sip:a@b> x",
        "Bob, S <sip:a@b>",
        "<a@b>",
        '"a" b <sip:a@b>',
        "*",
    ],
)
def test_not_name_addr(text: str) -> None:
    with pytest.raises(ProtocolError):
        NameAddr.parse(text)


def test_name_addr_edits() -> None:
    value = NameAddr.parse('<sip:a@b>;expires=60;+sip.instance="<urn:x>"')
    assert value.param("expires") == "60"
    assert value.param("+sip.instance") == "<urn:x>"
    assert str(value.with_param("expires", "30").without_param("+sip.instance")) == "<sip:a@b>;expires=30"
    assert str(value.with_uri("sip:c@d")).startswith("<sip:c@d>;expires=60")
    assert value.sip_uri.host == "b"


def test_via() -> None:
    via = Via.parse('sip / 2.0 / udp [2001:db8::1]:5070 ;branch=z9hG4bK1;received=192.0.2.1;rport=99;x="a;b"')
    assert (via.transport, via.host, via.port, via.sent_by) == ("UDP", "2001:db8::1", 5070, "[2001:db8::1]:5070")
    assert (via.branch, via.received, via.rport, via.has_rport, via.param("x")) == (
        "z9hG4bK1",
        "192.0.2.1",
        99,
        True,
        "a;b",
    )
    assert Via.parse(str(via)) == via


def test_via_rport_flag() -> None:
    via = Via.parse("SIP/2.0/TCP h;rport;branch=b")
    assert via.has_rport
    assert via.rport is None
    assert str(via.with_param("rport", "5")) == "SIP/2.0/TCP h;rport=5;branch=b"
    assert str(via.without_param("rport")) == "SIP/2.0/TCP h;branch=b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/3.0/UDP h",
        "SIP/2.0/UDP h:99999",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP h x",
    ],
)
def test_not_via(text: str) -> None:
    with pytest.raises(ProtocolError):
        Via.parse(text)


def test_cseq() -> None:
    assert CSeq.parse("0009  INVITE") == CSeq(9, "INVITE")
    assert str(CSeq(4294967295, "BYE")) == "4294967295 BYE"


@pytest.mark.parametrize(
    "text", ["", "INVITE", "1", "-1 INVITE", "4294967296 INVITE", "1 IN VITE", "9" * 500 + " X", "١ BYE"]
)
def test_not_cseq(text: str) -> None:
    with pytest.raises(ProtocolError):
        CSeq.parse(text)


def test_params() -> None:
    assert parse_params(' ; a=1 ;b;c="x;\\"y" ; D=[::1]') == (
        ("a", "1"),
        ("b", None),
        ("c", '"x;\\"y"'),
        ("D", "[::1]"),
    )
    for bad in ("a=1", ";", ";=1", ';a="x', ";a=1 b"):
        with pytest.raises(ProtocolError):
            parse_params(bad)


def test_quoting() -> None:
    assert quote('a"b\\c') == '"a\\"b\\\\c"'
    assert unquote(quote('a"b\\c')) == 'a"b\\c'
    assert unquote("plain") == "plain"


def test_sec_mechanisms_from_lines_and_lists_alike() -> None:
    listed = parse_sec_mechanisms(["ipsec-3gpp;q=0.1;alg=hmac-sha-1-96, msrp-tls;mediasec", "bfcp-tls;mediasec"])
    split = parse_sec_mechanisms(["ipsec-3gpp;q=0.1;alg=hmac-sha-1-96", "msrp-tls;mediasec , bfcp-tls;mediasec"])
    assert listed == split
    assert [one.name for one in listed if one.media_plane] == ["msrp-tls", "bfcp-tls"]
    assert [str(one) for one in listed] == [
        "ipsec-3gpp;q=0.1;alg=hmac-sha-1-96",
        "msrp-tls;mediasec",
        "bfcp-tls;mediasec",
    ]
    assert listed[0].param("q") == "0.1"
    with pytest.raises(ProtocolError):
        SecMechanism.parse(";x")
