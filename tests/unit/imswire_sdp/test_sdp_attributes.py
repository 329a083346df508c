"""Typed views: fingerprints, setup, 3ge2ae, paths and the transport table."""

import pytest

from imswire.base import ProtocolError
from imswire.sdp import attributes as at
from imswire.sdp.attributes import E2ae, Fingerprint, MsrpPath, MsrpUri, Setup
from imswire.sdp.model import Media, SessionDescription

OCTETS = bytes(range(0xA0, 0xC0))
TEXT = "SHA-256 " + OCTETS.hex(":").upper()


def description() -> tuple[SessionDescription, Media]:
    sdp = SessionDescription.create("IP4", "192.0.2.1", session_id=1)
    return sdp, sdp.add_media("message", 2855, "TCP/TLS/MSRP")


@pytest.mark.parametrize("text", [TEXT, TEXT.lower(), "Sha-256  " + TEXT[8:].lower(), TEXT + " "])
def test_fingerprint_any_case_in_upper_case_out(text: str) -> None:
    fingerprint = Fingerprint.parse(text)
    assert fingerprint == Fingerprint("sha-256", OCTETS)
    assert str(fingerprint) == TEXT


def test_an_unknown_hash_is_represented() -> None:
    assert Fingerprint.parse("sha3-256 01:02") == Fingerprint("sha3-256", b"\x01\x02")


@pytest.mark.parametrize(
    "text",
    ["", "SHA-256", "SHA-256 ", "AB:CD", "SHA-256 AB:C", "SHA-256 AB CD", "SHA-256 ABCD", "SHA-256 AB:", TEXT[:-3]],
)
def test_an_unreadable_fingerprint_raises(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Fingerprint.parse(text)
    assert caught.value.reason == "sdp.fingerprint"


def test_media_level_fingerprints_override_the_session_level() -> None:
    sdp, media = description()
    assert at.fingerprints(sdp, media) == ()
    sdp.add_attribute("fingerprint", "SHA-1 " + ":".join(["00"] * 20))
    assert [item.hash for item in at.fingerprints(sdp, media)] == ["sha-1"]
    media.add_attribute("fingerprint", TEXT)
    media.add_attribute("fingerprint", "x-hash 00")
    assert [item.hash for item in at.fingerprints(sdp, media)] == ["sha-256", "x-hash"]


def test_setup_levels_and_values() -> None:
    sdp, media = description()
    assert at.setup_of(media) is None
    sdp.set_attribute("setup", "holdconn")
    assert at.setup_of(media) is None
    assert at.setup_of(media, sdp) is Setup.HOLDCONN
    media.set_attribute("setup", "ActPass")
    assert at.setup_of(media, sdp) is Setup.ACTPASS
    media.set_attribute("setup", "both")
    with pytest.raises(ProtocolError, match=r"sdp\.setup"):
        at.setup_of(media)


def test_e2ae_counts_at_media_level_only() -> None:
    sdp, media = description()
    sdp.set_attribute("3ge2ae", "requested")
    assert at.e2ae_of(media) is None
    for value, expected in (("requested", E2ae.REQUESTED), ("Applied", E2ae.APPLIED), ("later", E2ae.OTHER)):
        media.set_attribute("3ge2ae", value)
        assert at.e2ae_of(media) is expected


@pytest.mark.parametrize(
    "text",
    [
        "msrp://alice.example.com:7394/2s93i93idj;tcp",
        "msrps://[2001:db8::1]:9/a/b+c=;tcp;foo=bar;x",
        "msrp://user@relay.example.com;tcp",
    ],
)
def test_msrp_uri_round_trip(text: str) -> None:
    assert str(MsrpUri.parse(text)) == text


def test_msrp_uri_parts_and_changes() -> None:
    uri = MsrpUri.parse("MSRPS://[2001:db8::1]:2855/id;tcp")
    assert (uri.scheme, uri.host, uri.port, uri.session_id) == ("msrps", "2001:db8::1", 2855, "id")
    assert uri.secure
    assert str(uri.with_scheme("msrp").with_address("192.0.2.1", 9)) == "msrp://192.0.2.1:9/id;tcp"


@pytest.mark.parametrize("text", ["", "sip:a@b", "msrp://host:7394/id", "msrp://h:70000/i;tcp", "msrp://;tcp"])
def test_bad_msrp_uri(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"sdp\.path"):
        MsrpUri.parse(text)


def test_path_first_is_the_hop_last_the_endpoint() -> None:
    _, media = description()
    assert at.path_of(media) is None
    text = "msrps://relay.example.com:9000/r;tcp msrp://alice.example.com:7394/s;tcp"
    media.set_attribute("path", text)
    path = at.path_of(media)
    assert isinstance(path, MsrpPath)
    assert (path.hop.host, path.endpoint.host) == ("relay.example.com", "alice.example.com")
    assert str(path) == text
    media.set_attribute("path", " ")
    with pytest.raises(ProtocolError):
        at.path_of(media)


@pytest.mark.parametrize(
    ("proto", "plain", "secure", "tls"),
    [
        ("TCP/MSRP", "TCP/MSRP", "TCP/TLS/MSRP", False),
        ("tcp/tls/msrp", "TCP/MSRP", "TCP/TLS/MSRP", True),
        ("TCP/BFCP", "TCP/BFCP", "TCP/TLS/BFCP", False),
        ("TCP/TLS/BFCP", "TCP/BFCP", "TCP/TLS/BFCP", True),
    ],
)
def test_transport_table(proto: str, plain: str, secure: str, tls: bool) -> None:
    row = at.transport_of(Media("application", 9, proto, ("*",)))
    assert row is not None
    assert (row.plain, row.secure, row.tls) == (plain, secure, tls)


def test_other_transports_have_no_row() -> None:
    assert at.transport_of(Media("audio", 9, "RTP/AVP", ("0",))) is None


def test_small_views() -> None:
    sdp, media = description()
    assert not at.has_cema(media)
    assert not at.has_sdes(media)
    assert not at.has_key_mgmt(sdp, media)
    assert at.sctp_port(media) is None
    assert at.max_size(media) is None
    assert at.connection_of(media) is None
    assert at.direction_of(media, sdp) == "sendrecv"
    sdp.add_attribute("key-mgmt", "mikey AQAF")
    sdp.add_attribute("inactive")
    for name, value in (
        ("msrp-cema", None),
        ("crypto", "1 AES_CM_128_HMAC_SHA1_80 inline:x"),
        ("tls-id", "abc"),
        ("accept-types", "message/cpim text/plain"),
        ("max-size", "1048576"),
        ("connection", "New"),
        ("floorctrl", "c-only s-only"),
        ("sctp-port", "5000"),
    ):
        media.add_attribute(name, value)
    assert at.has_cema(media)
    assert at.has_sdes(media)
    assert at.has_key_mgmt(sdp, media)
    assert at.tls_id(media) == "abc"
    assert at.accept_types(media) == ("message/cpim", "text/plain")
    assert at.max_size(media) == 1_048_576
    assert at.connection_of(media) == "new"
    assert at.floor_control_roles(media) == ("c-only", "s-only")
    assert at.sctp_port(media) == 5000
    assert at.direction_of(media, sdp) == "inactive"
    media.add_attribute("recvonly")
    assert at.direction_of(media, sdp) == "recvonly"
    media.set_attribute("sctp-port", "70000")
    with pytest.raises(ProtocolError):
        at.sctp_port(media)
