"""The media plane security agreement at registration."""

import pytest

from imsalg.core import security
from imsalg.media_settings import MediaPolicy
from imswire.base import ProtocolError
from imswire.sip.headers import Headers

SUPPORTED = ("msrp-tls",)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["msrp-tls;mediasec"], {"msrp-tls"}),
        (["MSRP-TLS ; MediaSec"], {"msrp-tls"}),
        (["ipsec-3gpp;alg=hmac-sha-1-96;spi-c=1;spi-s=2, msrp-tls;mediasec;q=0.5"], {"msrp-tls"}),
        (["sdes-srtp;mediasec", "bfcp-tls;mediasec, udptl-dtls;mediasec"], {"sdes-srtp", "bfcp-tls", "udptl-dtls"}),
        (["bfcp-tls;mediasec=bfcp-tls"], {"bfcp-tls"}),
        (["tls;mediasec=msrp-tls"], {"msrp-tls"}),
        (["msrp-tls"], set()),
        (["dtls-srtp;mediasec"], set()),
        (["tls;q=0.1", "digest;d-alg=md5"], set()),
        ([], set()),
    ],
)
def test_announced(lines: list[str], expected: set[str]) -> None:
    assert security.announced(Headers(("Security-Client", line) for line in lines)) == expected


def test_unreadable_list() -> None:
    headers = Headers([("Security-Client", ";;;")])
    with pytest.raises(ProtocolError):
        security.announced(headers)
    assert security.announced_or_none(headers) is None


def test_server_list_holds_only_what_is_implemented() -> None:
    assert security.server_values(("sdes-srtp", "msrp-tls")) == ("msrp-tls;mediasec",)
    headers = Headers([("Security-Server", "ipsec-3gpp;q=0.1")])
    assert security.add_security_server(headers, SUPPORTED)
    assert headers.get_all("Security-Server") == ["ipsec-3gpp;q=0.1", "msrp-tls;mediasec"]
    assert not security.add_security_server(headers, ())


def test_both_media_are_announced_by_default() -> None:
    assert security.server_values(MediaPolicy().mechanisms) == ("msrp-tls;mediasec", "bfcp-tls;mediasec")


def test_agreed_is_what_both_sides_named() -> None:
    assert security.agreed({"msrp-tls", "sdes-srtp"}, ("msrp-tls", "sdes-srtp")) == {"msrp-tls"}
    assert security.agreed((), SUPPORTED) == frozenset()


@pytest.mark.parametrize(
    ("value", "clean", "missing", "foreign"),
    [
        ("msrp-tls;mediasec", True, set(), set()),
        ("ipsec-3gpp;spi-c=1, msrp-tls;mediasec", True, set(), set()),
        ("ipsec-3gpp;spi-c=1", False, {"msrp-tls"}, set()),
        ("msrp-tls;mediasec, sdes-srtp;mediasec", False, set(), {"sdes-srtp"}),
    ],
)
def test_verify_is_judged_but_nothing_raises(value: str, clean: bool, missing: set[str], foreign: set[str]) -> None:
    outcome = security.check_verify(Headers([("Security-Verify", value)]), SUPPORTED)
    assert (outcome.clean, set(outcome.missing), set(outcome.foreign)) == (clean, missing, foreign)
    assert len(outcome.signalling) == ("ipsec" in value)


def test_agreement_does_not_leave_for_the_core() -> None:
    headers = Headers(
        [
            ("Require", "sec-agree, path , mediasec"),
            ("Proxy-Require", "sec-agree"),
            ("Proxy-Require", "mediasec"),
            ("Security-Client", "msrp-tls;mediasec"),
            ("Security-Verify", "msrp-tls;mediasec"),
            ("Supported", "path, sec-agree"),
        ]
    )
    security.strip_agreement(headers)
    assert list(headers) == [("Require", "path"), ("Supported", "path, sec-agree")]


def test_lines_without_the_tag_keep_their_bytes() -> None:
    headers = Headers([("Require", "a ,b"), ("require", "sec-agree")])
    assert security.strip_option_tag(headers, "Require", "sec-agree")
    assert not security.strip_option_tag(headers, "Require", "sec-agree")
    assert list(headers) == [("Require", "a ,b")]
