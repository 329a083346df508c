"""Kamailio as the home network: registrar with digest and Path, location service, and a proxy that forks.

Its configuration refuses what a home network would not take: a REGISTER without Path or with the security agreement
in it, an initial request that did not come along the Service-Route or without an asserted identity. A call that goes
through has all of that.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.interop.capture import faults, values
from tests.interop.kamailio_core import Recording, needs_kamailio, recorded_lab
from tests.system.labs import FLOWS, PLAIN, SECURE, Talk, Ue, connect, establish, register

from imsalg.settings import Settings
from imskit.settings import load
from imslab.lab import Lab
from imslab.ue.agent import UeAgent, UeOptions
from imslab.ue.call import Call, SipFailure
from imswire.sip.uri import SipUri

pytestmark = [
    pytest.mark.interop,
    pytest.mark.system,
    pytest.mark.xdist_group("kamailio"),
    needs_kamailio,
]


@pytest.fixture(scope="module")
def home() -> Iterator[Recording]:
    """One Kamailio, one P-CSCF and one gateway for the tests of this file, reached over UDP and TCP."""
    with recorded_lab() as recording:
        yield recording


async def refused(call: Call) -> int:
    with pytest.raises(SipFailure) as failure:
        await call.answered()
    return failure.value.status


# --- registration ---


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_registration_with_digest_through_path(home: Recording, transport: str) -> None:
    async def scenario(lab: Lab) -> None:
        alice = await lab.ue("alice", transport="tcp" if transport == "tcp" else "udp")
        assert alice.registration is not None
        assert alice.registration.algorithm == "MD5"
        host, port = lab.core_address()
        assert alice.registration.service_route == (f"<sip:orig@{host}:{port};lr>",)
        assert alice.registration.agreed == {"msrp-tls"}
        contacts = home.lab.kamailio.contacts("alice")
        assert list(contacts) == [alice.contact_uri]
        path = SipUri.parse(contacts[alice.contact_uri].strip("<>"))
        assert (path.host, path.port) == lab.address("core")
        await alice.unregister()
        assert home.lab.kamailio.contacts("alice") == {}

    home.run.run(scenario)


def test_a_wrong_password_gets_no_binding(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        account = (await lab.ue("alice", register=False)).account
        async with UeAgent(replace(account, password="not hers"), UeOptions(host=lab.host)) as mallory:
            with pytest.raises(SipFailure) as failure:
                await mallory.register()
        assert failure.value.status == 401
        assert home.lab.kamailio.contacts("alice") == {}

    home.run.run(scenario)


def test_a_registration_is_renewed_in_place(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        alice = await lab.ue("alice")
        before = home.lab.kamailio.contacts("alice")
        await alice.register()
        assert home.lab.kamailio.contacts("alice") == before

    home.run.run(scenario)


# --- calls ---


@pytest.mark.parametrize("by", [0, 1], ids=["caller", "called"])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_secured_chat_and_bye_from_either_side(home: Recording, flow: str, by: int) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        assert [bool(version) for version in talk.tls()] == [end is SECURE for end in FLOWS[flow]]
        assert await talk.ends[by].hangup() == 200
        await talk.ends[1 - by].wait_end()

    home.run.run(scenario)


@pytest.mark.parametrize("transports", [("tcp", "udp"), ("udp", "tcp")], ids="-".join)
def test_ues_over_different_transports(home: Recording, transports: tuple[str, str]) -> None:
    async def scenario(lab: Lab) -> None:
        ends = [replace(SECURE, transport="tcp" if one == "tcp" else "udp") for one in transports]
        talk = await connect(lab, *ends)
        await talk.texts()
        await talk.hang_up()

    home.run.run(scenario)


def test_the_called_ue_calls_back(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        for caller, called in ((alice, bob), (bob, alice)):
            talk = await establish(caller, called)
            await talk.texts()
            await talk.hang_up()

    home.run.run(scenario)


def test_the_service_route_is_put_in_where_the_ue_forgets_it(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        assert alice.registration is not None
        alice.registration = replace(alice.registration, service_route=())
        talk = await establish(alice, bob)
        await talk.hang_up()

    home.run.run(scenario)


@pytest.mark.parametrize("by", [0, 1], ids=["caller", "called"])
def test_reinvite_from_either_side(home: Recording, by: int) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab)
        await talk.texts()
        await talk.ends[by].reoffer()
        await talk.texts()
        await talk.hang_up()

    home.run.run(scenario)


def test_cancel_while_it_rings(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        outgoing = alice.dial(bob.account.aor)
        incoming = await bob.wait_call()
        incoming.ring()
        assert await outgoing.ringing() == 180
        outgoing.cancel()
        assert await refused(outgoing) == 487
        assert "487" in await incoming.wait_end()

    home.run.run(scenario)


@pytest.mark.parametrize("status", [302, 404, 486, 488, 603])
def test_what_the_called_side_refuses(home: Recording, status: int) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        outgoing = alice.dial(bob.account.aor)
        (await bob.wait_call()).reject(status)
        assert await refused(outgoing) == status

    home.run.run(scenario)


@pytest.mark.parametrize(
    "uri, status",
    [("sip:carol@lab.example", 480), ("sip:nobody@lab.example", 480), ("sip:bob@elsewhere.example", 404)],
)
def test_what_the_home_network_refuses(home: Recording, uri: str, status: int) -> None:
    async def scenario(lab: Lab) -> None:
        alice = await lab.ue("alice")
        assert await refused(alice.dial(uri)) == status

    home.run.run(scenario)


def test_delayed_offer_and_prack(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        alice = await lab.ue("alice", options=UeOptions(reliable="required"))
        bob = await SECURE.register(lab, "bob")
        outgoing = alice.dial(bob.account.aor, delayed=True)
        incoming = await bob.wait_call()
        incoming.ring(183, sdp=True)
        await incoming.pracked()
        incoming.accept()
        await outgoing.answered()
        talk = Talk(outgoing, incoming)
        await talk.texts()
        await talk.hang_up()

    home.run.run(scenario)


# --- forks ---


async def ringing_everywhere(lab: Lab, kinds: tuple[Ue, ...]) -> tuple[Call, list[Call], list[UeAgent]]:
    """A call from alice, and what rings at each of bob's UEs."""
    alice = await SECURE.register(lab, "alice")
    phones = [await kind.register(lab, "bob") for kind in kinds]
    outgoing = alice.dial(phones[0].account.aor)
    calls = [await phone.wait_call() for phone in phones]
    for call in calls:
        call.ring()
    assert await outgoing.ringing() == 180
    return outgoing, calls, phones


@pytest.mark.parametrize("answering", [0, 1])
def test_a_fork_to_two_contacts_is_answered_by_one(home: Recording, answering: int) -> None:
    async def scenario(lab: Lab) -> None:
        outgoing, calls, phones = await ringing_everywhere(lab, (SECURE, replace(SECURE, transport="tcp")))
        assert set(home.lab.kamailio.contacts("bob")) == {phone.contact_uri for phone in phones}
        calls[answering].accept()
        await outgoing.answered()
        assert "487" in await calls[1 - answering].wait_end()
        talk = Talk(outgoing, calls[answering])
        await talk.texts()
        await talk.hang_up()

    home.run.run(scenario)


def test_a_fork_of_which_one_is_busy(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        outgoing, (one, other), _ = await ringing_everywhere(lab, (SECURE, PLAIN))
        one.reject(486)
        other.accept()
        await outgoing.answered()
        talk = Talk(outgoing, other)
        await talk.texts()
        await talk.hang_up()

    home.run.run(scenario)


def test_a_fork_that_is_declined_everywhere(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        outgoing, (one, other), _ = await ringing_everywhere(lab, (SECURE, SECURE))
        one.reject(603)
        assert "487" in await other.wait_end()
        assert await refused(outgoing) == 603

    home.run.run(scenario)


def test_a_fork_is_cancelled_everywhere(home: Recording) -> None:
    async def scenario(lab: Lab) -> None:
        outgoing, calls, _ = await ringing_everywhere(lab, (SECURE, SECURE))
        outgoing.cancel()
        assert await refused(outgoing) == 487
        for call in calls:
            assert "487" in await call.wait_end()

    home.run.run(scenario)


# --- witnesses; last in this file ---


def test_kamailio_found_no_fault(home: Recording) -> None:
    assert home.lab.kamailio.complaints() == []


def test_tshark_found_no_fault(home: Recording) -> None:
    packets = home.packets()
    assert faults(packets) == []
    methods = values(packets, "sip.Method")
    assert set(methods) >= {"REGISTER", "INVITE", "ACK", "CANCEL", "BYE", "PRACK"}
    assert set(values(packets, "sdp.media.proto")) >= {"TCP/TLS/MSRP", "TCP/MSRP"}
    assert set(values(packets, "megaco.command")) >= {"ServiceChange", "Add", "Modify", "Subtract"}
    assert values(packets, "tls.handshake.type")
    assert values(packets, "msrp.method")["SEND"]


# --- other ways between the P-CSCF and the home network ---


def one_call(recording: Recording, ends: Ue = SECURE) -> None:
    """Registrations and a call with texts."""

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, ends, ends)
        await talk.texts()
        await talk.hang_up()

    recording.run.run(scenario)
    assert recording.lab.kamailio.complaints() == []
    assert faults(recording.packets()) == []


def test_ues_over_ipv6_and_the_home_network_over_tcp() -> None:
    with recorded_lab(core_transport="tcp", ipv6=True) as recording:
        one_call(recording)


def test_ues_and_the_home_network_over_tls() -> None:
    with recorded_lab(core_transport="tls", sip_tls=True) as recording:
        if not recording.lab.kamailio.has_tls:
            pytest.skip("Kamailio has no TLS here (Debian package kamailio-tls-modules)")
        one_call(recording, replace(SECURE, transport="tls"))


def test_the_example_for_operators_is_in_order() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "imsalg-kamailio.toml"
    settings = load(tomllib.loads(path.read_text()), Settings)
    assert settings.realm["core"].next_hop.startswith("sip:")
