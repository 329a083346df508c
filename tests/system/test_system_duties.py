"""The P-CSCF's duties with real processes: security of signalling, registrations that the network ends,
emergency calls."""

import asyncio
import subprocess
from collections.abc import Iterator

import pytest
from tests.system.labs import BOB, PLAIN, SECURE, Labs, command, establish, log_of, plain_environment, register

from imslab.lab import Lab
from imslab.ue.account import UeOptions
from imslab.ue.call import SipFailure


@pytest.fixture(scope="module")
def labs() -> Iterator[Labs]:
    running = Labs()
    yield running
    running.close()


def test_where_tls_is_required_a_ue_agrees_to_it_and_calls(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        options = UeOptions(signalling=("tls",))
        open_ = await lab.ue("alice", options=options, register=False)
        with pytest.raises(SipFailure) as refused:
            await open_.register()
        assert refused.value.status == 494
        assert refused.value.response is not None
        ours = refused.value.response.headers.get("security-server")
        assert ours == "tls;q=0.2, msrp-tls;mediasec, bfcp-tls;mediasec"
        silent = await lab.ue("alice", options=UeOptions(mediasec=()), register=False)
        with pytest.raises(SipFailure) as demanded:
            await silent.register()
        assert demanded.value.status == 421

        alice = await lab.ue("alice", transport="tls", options=options)
        bob = await lab.ue("bob", transport="tls", options=options)
        assert alice.registration is not None
        assert ", ".join(alice.registration.security_server) == ours
        talk = await establish(alice, bob)
        await talk.texts()
        await talk.hang_up()

        alice._security_server = ("msrp-tls;mediasec",)  # somebody bids down
        for attempt in (alice.call(BOB), alice.register(renew=False)):
            with pytest.raises(SipFailure) as tampered:
                await attempt
            assert tampered.value.status == 494

    labs(sip_tls=True, imsalg={"realm": {"access": {"signalling": "tls-required"}}}).run(scenario)


def test_the_network_ends_a_registration_and_its_calls(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        told = await asyncio.to_thread(
            subprocess.run,
            command("imslab", "deregister", "alice", "--socket", str(lab.core_socket)),
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            env=plain_environment(),
        )
        assert told.stdout.strip() == "alice: 1 contact(s) de-registered"
        for call in talk.ends:
            await call.wait_end()
        with pytest.raises(SipFailure) as refused:
            await alice.call(BOB)
        assert refused.value.status == 403
        assert "de-registered by the network" in log_of(lab, "imsalg")

        await alice.register(renew=False)  # and everything begins anew
        again = await establish(alice, bob)
        await again.hang_up()
        assert await lab.deregister("alice")

    labs().run(scenario)


def test_a_core_that_does_not_tell_of_registration_state_is_no_obstacle(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await establish(*await register(lab))
        await talk.hang_up()

    labs(core={"reg_event": False}, imsalg={"reg_event": {"subscribe": "always"}}).run(scenario)


def test_a_ue_that_is_not_registered_calls_for_help(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        bob = await SECURE.register(lab, "bob")
        stranger = await lab.ue("alice", register=False, options=UeOptions(mediasec=()), media=PLAIN.media)
        with pytest.raises(SipFailure) as refused:
            await stranger.call(BOB)
        assert refused.value.status == 403
        outgoing = stranger.dial("urn:service:sos.fire")
        incoming = await bob.wait_call()
        incoming.accept()
        await outgoing.answered()
        assert await outgoing.hangup() == 200
        await incoming.wait_end()

    labs(core={"psap": "bob"}).run(scenario)


def test_without_an_e_cscf_the_ue_is_told_to_go_elsewhere(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice = await SECURE.register(lab, "alice")
        with pytest.raises(SipFailure) as told:
            await alice.call("urn:service:sos")
        assert told.value.status == 380
        assert told.value.response is not None
        assert told.value.response.content_type == "application/3gpp-ims+xml"

    labs().run(scenario)
