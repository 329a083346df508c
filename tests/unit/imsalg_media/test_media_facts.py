"""Reading SDP for the policy and for the gateway."""

import pytest
from tests.playbook.mediaplay import UE_FP, sdp, ue_line

from imsalg.core.media_events import Side
from imsalg.core.media_facts import endpoint, line_facts, path_matches_connection, usable_fingerprints
from imsalg.core.media_policy import History, Prints, Proto
from imswire.base import ProtocolError
from imswire.sdp.attributes import Setup
from imswire.sdp.model import SessionDescription

AGREED = frozenset({"msrp-tls"})


def parsed(*lines: str, ip: str = "192.0.2.10", session: tuple[str, ...] = ()) -> SessionDescription:
    return SessionDescription.parse(sdp(*lines, ip=ip, session=session))


def test_facts_of_a_full_line() -> None:
    description = parsed(*ue_line(), "m=audio 0 RTP/AVP 0")
    first, second = line_facts(description, Side.ACCESS, AGREED, {0: History.SECURED})
    assert (first.proto, first.requested, first.agreed, first.prints) == (Proto.MSRP_TLS, True, True, Prints.USABLE)
    assert (first.cema, first.removed, first.history) == (True, False, History.SECURED)
    assert (second.proto, second.removed, second.history) == (Proto.OTHER, True, History.NEW)


def test_indication_counts_at_media_level_only() -> None:
    description = parsed(*ue_line(e2ae=None), session=("a=3ge2ae:requested",))
    (facts,) = line_facts(description, Side.ACCESS, AGREED, {})
    assert not facts.requested


@pytest.mark.parametrize(
    ("value", "allow", "outcome"),
    [
        (f"SHA-256 {UE_FP}", False, Prints.USABLE),
        (f"sha-256 {UE_FP.lower()}", False, Prints.USABLE),
        ("SHA-1 " + ":".join(["AB"] * 20), False, Prints.UNKNOWN),
        ("SHA-1 " + ":".join(["AB"] * 20), True, Prints.USABLE),
        ("MD5 " + ":".join(["AB"] * 16), True, Prints.UNKNOWN),
        ("SHA-999 AB", False, Prints.UNKNOWN),
        ("SHA-256 AB:CD", False, Prints.BROKEN),
        ("SHA-256", False, Prints.BROKEN),
        (None, False, Prints.NONE),
    ],
)
def test_fingerprints(value: str | None, allow: bool, outcome: Prints) -> None:
    description = parsed(*ue_line(fingerprint=value))
    assert usable_fingerprints(description, description.media[0], allow_sha1=allow)[0] is outcome


def test_session_level_setup_counts_where_the_line_has_none() -> None:
    description = parsed(*ue_line(setup=None), session=("a=setup:passive",))
    assert endpoint(description, description.media[0]).setup is Setup.PASSIVE


@pytest.mark.parametrize("ip", ["ue.example.com", "224.0.0.1", "0.0.0.0", "999.1.1.1"])
def test_addresses_that_are_no_endpoint(ip: str) -> None:
    description = parsed(*ue_line(), ip=ip)
    assert not line_facts(description, Side.ACCESS, AGREED, {})[0].address_ok
    with pytest.raises(ProtocolError):
        endpoint(description, description.media[0])


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("msrp://192.0.2.10:2855/s;tcp", True),
        ("msrps://alice@192.0.2.10:2855/s;tcp", True),
        ("msrp://192.0.2.10:2855/s;tcp msrp://198.51.100.9:7/x;tcp", True),
        ("msrp://192.0.2.10:2856/s;tcp", False),
        ("msrp://192.0.2.11:2855/s;tcp", False),
        ("msrp://192.0.2.10/s;tcp", False),
        ("msrp://ue.example.com:2855/s;tcp", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_path_against_connection(path: str, matches: bool) -> None:
    description = parsed("m=message 2855 TCP/MSRP *", f"a=path:{path}")
    assert path_matches_connection(endpoint(description, description.media[0])) is matches


def test_ipv6_path_against_connection() -> None:
    description = parsed("m=message 2855 TCP/MSRP *", "a=path:msrp://[2001:DB8::a]:2855/s;tcp", ip="2001:db8::A")
    assert path_matches_connection(endpoint(description, description.media[0]))
