"""Offers wherever SIP has them, through the real edge: delayed, in and after reliable responses, holds, glare, forks
(RFC 3261 13.2.1 and 14, RFC 3262 5, RFC 3311 5, RFC 6337)."""

import asyncio
from dataclasses import replace
from typing import Literal

import pytest
from tests.system.labs import (
    BOB,
    FLOWS,
    PLAIN,
    SECURE,
    Labs,
    Talk,
    Ue,
    connect,
    media_lines,
    of_replies,
    register,
)

from imslab.lab import Lab
from imslab.ladder.read import TraceLine
from imslab.ue.call import Call, SipFailure
from imslab.ue.options import Reoffer
from imswire.sdp.attributes import Setup
from imswire.sdp.model import SessionDescription

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-offers")]

type Method = Literal["INVITE", "UPDATE"]


def secured(talk: Talk, flow: str) -> None:
    """TLS is spoken where the flow has it, and nowhere else."""
    assert [bool(version) for version in talk.tls()] == [end.media.secure for end in FLOWS[flow]]


def directions(body: bytes) -> list[str]:
    """The direction of each line of a description."""
    found = ("sendrecv", "sendonly", "recvonly", "inactive")
    sdp = SessionDescription.parse(body)
    return [next((one for one in found if media.has(one)), "sendrecv") for media in sdp.media]


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("early", [False, True], ids=["answer-in-ack", "answer-in-prack"])
def test_a_delayed_offer(labs: Labs, flow: str, early: bool) -> None:
    """The called side offers, in its 200 or in a reliable 183."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, *(replace(end, reliable="supported") for end in FLOWS[flow]))
        outgoing = alice.dial(BOB, delayed=True)
        incoming = await bob.wait_call()
        assert need_request(incoming.request_in) == b""
        if early:
            incoming.ring(183, reliable=True, sdp=True)
            await incoming.pracked()
            await incoming.session.opened()
        incoming.accept()
        assert ((await outgoing.answered()).body == b"") is early
        await incoming.confirmed
        talk = Talk(outgoing, incoming)
        await talk.texts()
        secured(talk, flow)
        await talk.hang_up()

    labs().run(scenario)


def need_request(request: object) -> bytes:
    """The body of a request that must be there."""
    body = getattr(request, "body", None)
    assert isinstance(body, bytes)
    return body


@pytest.mark.parametrize("flow", FLOWS)
def test_the_answer_in_a_reliable_183_and_an_update_before_the_200(labs: Labs, flow: str) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, *(replace(end, reliable="required") for end in FLOWS[flow]))
        outgoing = alice.dial(BOB)
        incoming = await bob.wait_call()
        incoming.ring(183, sdp=True)
        await incoming.pracked()
        talk = Talk(outgoing, incoming)
        await talk.texts()  # early media
        link = outgoing.session.link
        assert directions((await outgoing.update(Reoffer(direction="sendonly"))).body) == ["recvonly"]
        assert directions((await incoming.update(Reoffer(direction="sendrecv"))).body) == ["sendrecv"]
        incoming.accept()
        assert (await outgoing.answered()).body == b""
        assert outgoing.session.link is link
        await talk.texts()
        secured(talk, flow)
        await talk.hang_up()

    labs().run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_hold_and_resume_from_either_side(labs: Labs, flow: str, method: Method) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        links = [call.session.link for call in talk.ends]
        for holder in talk.ends:
            held = await holder.reoffer(Reoffer(direction="sendonly"), method=method)
            assert directions(held.body) == ["recvonly"]
            back = await holder.reoffer(Reoffer(direction="sendrecv"), method=method)
            assert directions(back.body) == ["sendrecv"]
        assert [call.session.link for call in talk.ends] == links  # the connections are the same
        await talk.texts()
        secured(talk, flow)
        await talk.hang_up()
        passages = sum(end.media.secure for end in FLOWS[flow])
        lines = await lab.wait_lines(lambda lines: len(media_lines(lines, talk.outgoing, "bytes")) == passages)
        tcp = media_lines(lines, talk.outgoing, "tcp")
        assert sum(one.what in ("accepted", "connected") for one in tcp) == 2 * passages

    labs().run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
def test_an_offer_asked_for_by_a_reinvite_without_one(labs: Labs, flow: str) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        for asker, other in (talk.ends, talk.ends[::-1]):
            response = await asker.reoffer(delayed=True)
            assert response.body
            await other.settled()  # its offer has been answered in the ACK
        await talk.texts()
        await talk.hang_up()

    labs().run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("methods", [("INVITE", "INVITE"), ("UPDATE", "UPDATE"), ("INVITE", "UPDATE")])
def test_offers_that_cross_are_refused_and_the_session_goes_on(
    labs: Labs, flow: str, methods: tuple[Method, Method]
) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        results = await asyncio.gather(
            *(
                call.reoffer(Reoffer(direction="inactive"), method=method)
                for call, method in zip(talk.ends, methods, strict=True)
            ),
            return_exceptions=True,
        )
        refused = [one.status for one in results if isinstance(one, SipFailure)]
        assert refused
        assert set(refused) == {491}
        assert not [one for one in results if isinstance(one, BaseException) and not isinstance(one, SipFailure)]
        await talk.outgoing.resume()
        await talk.texts()
        secured(talk, flow)
        await talk.hang_up()

    labs().run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("from_called", [False, True])
def test_a_new_connection_by_a_later_offer(labs: Labs, flow: str, from_called: bool) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        who = talk.incoming if from_called else talk.outgoing
        before = who.session.link
        await who.reoffer(Reoffer(renew=True))
        await talk.texts()
        assert who.session.link is not before
        secured(talk, flow)
        await talk.hang_up()

    labs().run(scenario)


# --- forks ------------------------------------------------------------------------------------------------------------

FORKING = {"imsalg": {"realm": {"core": {"source_filter": "address-and-port"}}}}
"""The ends of a fork are all on one machine here: their ports tell them apart."""


def both(answer: Setup) -> tuple[Ue, Ue]:
    """A caller who can live with either role, and called UEs that take this one, from the port that they signal."""
    return (
        replace(SECURE.having(offer_setup=Setup.ACTPASS), reliable="required"),
        PLAIN.having(answer_setup=answer, keep_port=True),
    )


async def forked(lab: Lab, answer: Setup) -> tuple[Call, list[Call]]:
    """alice calls, and two UEs of bob have answered early."""
    a, b = both(answer)
    alice = await a.register(lab, "alice")
    called = [await b.register(lab, "bob"), await b.register(lab, "bob")]
    outgoing = alice.dial(BOB)
    legs = [await one.wait_call() for one in called]
    for leg in legs:
        leg.ring(183, sdp=True)
        await leg.pracked()
    return outgoing, legs


def chosen(lines: list[TraceLine]) -> list[str]:
    """Commands of the transaction that ends the other answers' terminations."""
    return [
        command.command
        for line in lines
        if line.type == "request" and any(one.command == "Subtract" and one.termination != "*" for one in line.commands)
        for command in line.commands
    ]


@pytest.mark.parametrize("answer", [Setup.ACTIVE, Setup.PASSIVE])
def test_the_first_early_answer_is_confirmed(labs: Labs, answer: Setup) -> None:
    async def scenario(lab: Lab) -> None:
        before = len(lab.lines())
        outgoing, legs = await forked(lab, answer)
        legs[0].accept()
        await outgoing.answered()
        talk = Talk(outgoing, legs[0])
        await talk.texts()
        assert talk.tls()[0].startswith("TLS")
        await legs[1].wait_end()
        lines = (await lab.wait_lines(lambda lines: bool(chosen(lines[before:]))))[before:]
        adds = [one for line in lines if line.type == "request" for one in line.commands if one.command == "Add"]
        assert len(adds) == 3  # access, core, and core for the second answer
        assert len(of_replies(lines, "Add")) == 1  # in one context
        assert chosen(lines) == ["Subtract"]
        await talk.hang_up()

    labs(**FORKING).run(scenario)


@pytest.mark.parametrize("answer", [Setup.ACTIVE, Setup.PASSIVE])
def test_the_second_early_answer_is_confirmed(labs: Labs, answer: Setup) -> None:
    """What was said to the first stays with the first, and the UE is led to the other."""

    async def scenario(lab: Lab) -> None:
        before = len(lab.lines())
        outgoing, legs = await forked(lab, answer)
        await outgoing.session.send_text("for the first")
        assert (await legs[0].session.receive()).text == "for the first"
        legs[1].accept()
        await outgoing.answered()
        async with asyncio.timeout(10):
            await outgoing.session.moved.wait()  # octets have passed: the second has a connection of its own
        talk = Talk(outgoing, legs[1])
        await talk.texts()
        assert talk.tls()[0].startswith("TLS")
        assert legs[0].session.received.empty()
        await lab.wait_lines(lambda lines: "Modify" in chosen(lines[before:]))
        await legs[0].wait_end()
        await talk.hang_up()

    labs(**FORKING).run(scenario)
