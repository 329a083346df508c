"""What a Modify says is what the gateway then is: the state kept here and the one kept there never part."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.fuzz.bounds import examples

from imsalg.core import reservations
from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.media_facts import Endpoint
from imsalg.core.msrp_mode import Mode
from imsalg.media_settings import MediaRealm, MediaSettings
from imswire.base import ProtocolError
from imswire.h248 import iq
from imswire.sdp.attributes import Setup

PROFILE = AccessProfile()

roles = st.sampled_from([None, *Setup])
ends = st.builds(
    Endpoint,
    family=st.just("IP4"),
    address=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    port=st.sampled_from([9, 2855, 2857]),
    setup=roles,
    fingerprints=st.sampled_from([(("sha-256", bytes(32)),), (("sha-256", b"\1" * 32),)]),
    path=st.sampled_from(["msrp://192.0.2.1:2855/one;tcp", "msrp://192.0.2.1:2855/two;tcp"]),
    tls_id=st.sampled_from(["", "x"]),
    renewed=st.booleans(),
)
access_realms = st.builds(
    MediaRealm,
    tcp_mode=st.sampled_from(["proxy", "merge"]),
    latch=st.booleans(),
    source_filter=st.sampled_from(["off", "address", "address-and-port"]),
    source_prefix4=st.sampled_from([0, 24]),
    source_ports=st.sampled_from(["", "5000-5010"]),
    early_syn=st.sampled_from(["accept", "ignore"]),
    bfcp_tls_role=st.sampled_from(["offerer", "tcp-active"]),
)
exchanges = st.lists(st.tuples(st.sampled_from(list(Side)), ends, ends, st.booleans()), min_size=1, max_size=6)


def places(line: reservations.Line) -> None:
    line.context = 1
    for side, request in line.requests.items():
        line.terminations[side] = iq.AddResult(side.value, "198.51.100.1", 20_000)
        assert iq.read_add(iq.to_add(request)) == request


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from([("msrp", Mode.AGNOSTIC), ("msrp", Mode.AWARE), ("bfcp", Mode.AGNOSTIC)]), access_realms, exchanges
)
def test_the_gateway_is_what_the_controller_thinks(
    kind: tuple[str, Mode], realm: MediaRealm, script: list[tuple[Side, Endpoint, Endpoint, bool]]
) -> None:
    use = MediaSettings(realms={"access": realm})
    line = reservations.new_line(0, script[0][0], script[0][1], PROFILE, use, *kind)
    places(line)
    gateway = dict(line.requests)
    for offerer, offered, answered, closed in script:
        answerer = reservations.opposite(offerer)
        with suppress(ProtocolError):
            active = reservations.connecting(offerer, offered, answered, realm.tcp_mode)
            line.down = line.down or (closed and line.linked)
            target = reservations.configured(
                line, offerer, {offerer: offered, answerer: answered}, active, PROFILE, use
            )
            action = reservations.modify(line, target, answerer)
            for command in action.commands if action is not None else ():
                side = Side(command.termination)
                change = iq.read_modify(command, gateway[side])
                assert change.reconnect is (target.reconnect and side is answerer)
                gateway[side] = change.applied(gateway[side])
            reservations.adopt(line, target)
            assert gateway == line.requests
            check(line, active)


def check(line: reservations.Line, active: frozenset[Side] | None) -> None:
    """Whoever is to be dialled has a port, and TLS has one client."""
    access = line.requests[Side.ACCESS]
    if active is None:
        assert {request.setup for request in line.requests.values()} == {"holdconn"}
        return
    for request in line.requests.values():
        assert request.setup in ("active", "passive")
        assert request.setup == "passive" or (request.remote is not None and request.remote.port != 9)
    if access.tls_role is None:
        assert access.start_tls is (True if access.setup == "active" else None)
    else:
        assert access.start_tls is (True if access.tls_role == "client" else None)


def test_an_unchanged_line_needs_no_modify() -> None:
    end = Endpoint("IP4", "192.0.2.1", 2855, Setup.ACTPASS)
    line = reservations.new_line(0, Side.ACCESS, end, PROFILE, MediaSettings())
    places(line)
    other = replace(end, address="192.0.2.2", setup=Setup.ACTIVE)
    both = {Side.ACCESS: end, Side.CORE: other}
    active = reservations.connecting(Side.ACCESS, end, other, "proxy")
    target = reservations.configured(line, Side.ACCESS, both, active, PROFILE, MediaSettings())
    assert reservations.modify(line, target, Side.CORE) is not None
    reservations.adopt(line, target)
    again = reservations.configured(line, Side.ACCESS, both, active, PROFILE, MediaSettings())
    assert reservations.modify(line, again, Side.CORE) is None
