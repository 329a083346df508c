"""Reading SDP for the policy and for the gateway."""

import pytest
from msgspec.structs import replace
from tests.playbook.mediaplay import UE_FP, sdp, ue_line

from imsalg.core.media_events import Side
from imsalg.core.media_facts import Endpoint, endpoint, line_facts, usable_fingerprints
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
    assert (first.proto, first.requested, first.agreed, first.prints) == (Proto.TLS, True, True, Prints.USABLE)
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
    ("path", "place"),
    [
        ("msrp://192.0.2.77:2999/s;tcp", ("IP4", "192.0.2.77", 2999)),
        ("msrps://alice@192.0.2.77:2999/s;tcp", ("IP4", "192.0.2.77", 2999)),
        ("msrp://[2001:DB8::a]:2999/s;tcp", ("IP6", "2001:DB8::a", 2999)),
        ("msrp://192.0.2.77/s;tcp", ("IP4", "192.0.2.10", 2855)),
        ("msrp://ue.example.com:2999/s;tcp", ("IP4", "192.0.2.10", 2855)),
        ("msrp://224.0.0.1:2999/s;tcp", ("IP4", "192.0.2.10", 2855)),
        ("nonsense", ("IP4", "192.0.2.10", 2855)),
    ],
)
def test_without_cema_an_end_is_where_its_path_says(path: str, place: tuple[str, str, int]) -> None:
    bare = parsed("m=message 2855 TCP/MSRP *", f"a=path:{path}")
    end = endpoint(bare, bare.media[0])
    assert (end.family, end.address, end.port) == place
    cema = parsed("m=message 2855 TCP/MSRP *", f"a=path:{path}", "a=msrp-cema")
    assert endpoint(cema, cema.media[0]).port == 2855


def test_the_port_of_an_active_end_stays_discard() -> None:
    description = parsed("m=message 9 TCP/MSRP *", "a=path:msrp://192.0.2.10:2855/s;tcp", "a=setup:active")
    assert endpoint(description, description.media[0]).port == 9


END = Endpoint("IP4", "192.0.2.1", 2855, Setup.ACTPASS, (("sha-256", b"a"),), "msrp://192.0.2.1:2855/s;tcp", True, "x")


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({}, False),
        ({"setup": Setup.PASSIVE}, False),
        ({"cema": False}, False),
        ({"address": "192.0.2.2"}, True),
        ({"port": 2856}, True),
        ({"port": 9}, False),
        ({"port": 2856, "setup": Setup.ACTIVE}, False),
        ({"fingerprints": (("sha-256", b"b"),)}, True),
        ({"path": "msrp://192.0.2.1:2855/other;tcp"}, True),
        ({"tls_id": "y"}, True),
    ],
)
def test_what_makes_another_end_of_it(change: dict[str, object], other: bool) -> None:
    assert END.differs(replace(END, **change)) is other


@pytest.mark.parametrize(
    ("line", "renewed"),
    [("m=application 7000 TCP/BFCP *", True), ("m=message 7000 TCP/MSRP *", False), ("m=audio 7000 RTP/AVP 0", False)],
)
def test_a_connection_is_renewed_by_attribute_for_bfcp_only(line: str, renewed: bool) -> None:
    description = parsed(line, "a=connection:new")
    assert endpoint(description, description.media[0]).renewed is renewed


def test_a_secured_line_with_another_medium_has_changed_its_transport() -> None:
    description = parsed("m=application 7000 TCP/TLS/BFCP *", "a=3ge2ae:requested", f"a=fingerprint:SHA-256 {UE_FP}")
    history = {0: History.SECURED}
    (facts,) = line_facts(description, Side.ACCESS, AGREED, history, {0: ("msrp", False)})
    assert facts.proto is Proto.OTHER
    (same,) = line_facts(description, Side.ACCESS, AGREED, history, {0: ("bfcp", False)})
    assert (same.proto, same.medium, same.agreed) == (Proto.TLS, "bfcp", False)
