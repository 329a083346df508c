"""Floor control through the whole edge with real processes: TR 29.828 5.2.1.3, both UEs behind the same P-CSCF.

Each call passes the edge twice, so one call proves the originating and the terminating procedures: UE A to the AGW
under TLS, plain to the core, and again under TLS from the AGW to UE B.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.system.labs import left_over

from imskit.driver import run
from imskit.tls import Identity
from imslab.lab import Lab
from imslab.ue.account import UeOptions
from imslab.ue.agent import UeAgent
from imslab.ue.call import Call
from imslab.ue.floor import FloorError, FloorHost
from imslab.ue.media import FloorOptions, MediaOptions, Reoffer
from imswire.bfcp.floor_values import Floor
from imswire.bfcp.tables import Status
from imswire.sdp.attributes import E2ae, Setup, transport_of
from imswire.sdp.model import Media

pytestmark = pytest.mark.system

CLIENT = MediaOptions(lines=0, floor=FloorOptions("client"))
SERVER = MediaOptions(lines=0, floor=FloorOptions("server"))
OPTIONS = UeOptions(mediasec=("msrp-tls", "bfcp-tls"))


def in_lab(main: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> int:
        async with asyncio.timeout(60), Lab() as lab:
            await main(lab)
        return 0

    assert run(limited()) == 0


async def two(lab: Lab) -> tuple[UeAgent, UeAgent]:
    """Alice and Bob, both with both mechanisms agreed."""
    agents = [await lab.ue(user, options=OPTIONS) for user in ("alice", "bob")]
    for agent in agents:
        assert agent.registration is not None
        assert agent.registration.agreed == {"msrp-tls", "bfcp-tls"}
    return agents[0], agents[1]


async def called(caller: UeAgent, callee: UeAgent, ours: MediaOptions, theirs: MediaOptions) -> tuple[Call, Call]:
    """An answered call, both ends."""
    outgoing = caller.dial(callee.account.aor, ours)
    incoming = await callee.wait_call()
    incoming.accept(theirs)
    await outgoing.answered()
    return outgoing, incoming


def floor_line(call: Call) -> Media:
    """The BFCP line as the network described it to this UE."""
    assert call.media.remote is not None
    for media in call.media.remote.media:
        transport = transport_of(media)
        if transport is not None and transport.application == "BFCP":
            return media
    raise AssertionError("no BFCP line")


async def floor_is_had(client: Call, server: Call) -> None:
    """Request, grant and release; the server has the same in its books."""
    await client.floor.opened()
    granted = await client.floor.request(1, info="slides")
    assert granted.status is Status.GRANTED
    assert server.floor.host is not None
    assert server.floor.host.server.holders(1) == (server.floor.user,)
    released = await client.floor.release(granted.id)
    assert released.status is Status.RELEASED
    assert server.floor.host.server.holders(1) == ()


async def passes(client: Call, server: Call) -> None:
    """Texts both ways on the MSRP line, and the floor on the BFCP line."""
    for one, other in ((client, server), (server, client)):
        await one.session.send_text(f"from {one.ue.account.user}")
        assert (await other.session.receive()).text == f"from {one.ue.account.user}"
    await floor_is_had(client, server)


def check_passage(outgoing: Call, incoming: Call, client: Call, server: Call) -> None:
    """What the session descriptions and connections of a secured call look like at its ends."""
    links = [outgoing.floor.link, incoming.floor.link]
    assert [link.tls_version for link in links if link is not None] == ["TLSv1.3", "TLSv1.3"]
    # UE A offered and is TLS client; towards UE B the AGW did, so UE B is TLS server, whoever connected.
    assert [link.server for link in links if link is not None] == [False, True]
    assert incoming.media.offered_e2ae is E2ae.APPLIED
    assert [floor_line(end).proto for end in (outgoing, incoming)] == ["TCP/TLS/BFCP"] * 2
    # Each saw the AGW's fingerprint, and what concerns floors unchanged.
    locals_ = [end.media.local for end in (outgoing, incoming)]
    own = [local.media[0].get("fingerprint") for local in locals_ if local is not None]
    assert not {floor_line(end).get("fingerprint") for end in (outgoing, incoming)} & set(own)
    told = server.media.local
    assert told is not None
    for name in ("floorctrl", "confid", "userid", "floorid", "bfcpver", "connection"):
        assert floor_line(client).get_all(name) == told.media[0].get_all(name), name


@pytest.mark.parametrize("caller", ["client", "server"])
def test_floors_are_requested_granted_and_released(caller: str) -> None:
    """Every TCP direction on both sides, six calls at once."""

    async def main(lab: Lab) -> None:
        alice, bob = await two(lab)
        ours, theirs = (CLIENT, SERVER) if caller == "client" else (SERVER, CLIENT)
        directions = [
            (offer, answer)
            for offer in (Setup.ACTPASS, Setup.ACTIVE, Setup.PASSIVE)
            for answer in (Setup.ACTIVE, Setup.PASSIVE)
        ]
        outgoing = {}
        for offer, answer in directions:
            call = alice.dial(bob.account.aor, replace(ours, offer_setup=offer))
            outgoing[call.call_id] = (call, answer)
        incoming = [await bob.wait_call() for _ in directions]
        for call in incoming:
            call.accept(replace(theirs, answer_setup=outgoing[call.call_id][1]))
        for call, _ in outgoing.values():
            await call.answered()

        async def one(there: Call) -> None:
            here, _ = outgoing[there.call_id]
            client, server = (here, there) if caller == "client" else (there, here)
            await floor_is_had(client, server)
            check_passage(here, there, client, server)
            assert await here.hangup() == 200
            await there.wait_end()

        await asyncio.gather(*map(one, incoming))

    in_lab(main)


def test_descriptions_of_rfc_4583_and_msrp_beside_bfcp() -> None:
    async def main(lab: Lab) -> None:
        alice, bob = await two(lab)
        old = replace(CLIENT, floor=FloorOptions("either", form="rfc4583"))
        answer = replace(SERVER, floor=FloorOptions("server", form="rfc4583"))
        outgoing, incoming = await called(alice, bob, old, answer)
        await floor_is_had(outgoing, incoming)
        assert (floor_line(incoming).get("floorctrl"), floor_line(incoming).get("bfcpver")) == ("c-s", None)
        assert floor_line(outgoing).get("floorid") == "1 m-stream:10"
        await outgoing.hangup()

        ours = MediaOptions(lines=2, floor=FloorOptions("client"))
        host = FloorHost(99, [Floor(1)])
        theirs = MediaOptions(lines=2, floor=FloorOptions("server", host=host), answer_setup=Setup.PASSIVE)
        outgoing, incoming = await called(bob, alice, ours, theirs)
        for number, (one, other) in enumerate(zip(outgoing.media.chats, incoming.media.chats, strict=True)):
            await one.send_text(f"line {number}")
            assert (await other.receive()).text == f"line {number}"
        await floor_is_had(outgoing, incoming)
        await outgoing.hangup()

    in_lab(main)


@pytest.mark.parametrize("changed", ["session", "certificate"])
def test_a_later_offer_of_a_new_connection(changed: str) -> None:
    """From either side, MSRP and BFCP, whoever connects: the new connection carries what the old one did.

    An active answerer dials with its 200, before the AGW has heard of it.
    """

    async def main(lab: Lab) -> None:
        alice, bob = await two(lab)
        roles = [(Setup.ACTPASS, Setup.ACTIVE), (Setup.ACTPASS, Setup.PASSIVE), (Setup.ACTIVE, Setup.PASSIVE)]
        roles.append((Setup.PASSIVE, Setup.ACTIVE))
        outgoing = {}
        for offer, answer in roles:
            media = MediaOptions(floor=FloorOptions("client"), offer_setup=offer, answer_setup=answer)
            call = alice.dial(bob.account.aor, media)
            outgoing[call.call_id] = (call, media)
        incoming = [await bob.wait_call() for _ in roles]
        for call in incoming:
            call.accept(replace(outgoing[call.call_id][1], floor=FloorOptions("server")))

        async def renew(here: Call, there: Call, number: int) -> None:
            await here.answered()
            await passes(here, there)
            for offerer in (there, here, there):
                old = [end.session.link for end in (here, there)] + [end.floor.link for end in (here, there)]
                identity = Identity.generate(f"renewed {number}") if changed == "certificate" else None
                await offerer.reoffer(Reoffer(renew=True, identity=identity))
                await passes(here, there)
                new = [end.session.link for end in (here, there)] + [end.floor.link for end in (here, there)]
                assert not [link for link in new if link in old]
            assert await here.hangup() == 200
            await there.wait_end()

        pairs = [(outgoing[call.call_id][0], call) for call in incoming]
        await asyncio.gather(*(renew(*pair, number) for number, pair in enumerate(pairs)))
        await lab.wait_lines(lambda lines: not left_over(lines))
        assert not [line for line in lab.lines() if line.kind == "tcp" and line.what == "failed"]

    in_lab(main)


def test_a_lie_about_the_certificate_ends_the_call() -> None:
    async def main(lab: Lab) -> None:
        alice, bob = await two(lab)
        outgoing, incoming = await called(alice, bob, CLIENT, replace(SERVER, wrong_fingerprint=True))
        for end in (outgoing, incoming):
            assert "certificate fingerprint mismatch" in await end.wait_end()
        with pytest.raises(FloorError):
            await outgoing.floor.request(1)
        assert incoming.floor.seen == []

    in_lab(main)
