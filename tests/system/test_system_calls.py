"""How calls come, change and go: no context is left behind, and what cannot be served is said with Retry-After."""

import asyncio
import socket
from collections import Counter

import pytest
from tests.system.labs import (
    BRISK,
    FLOWS,
    PLAIN,
    SECURE,
    Labs,
    Talk,
    call_contexts,
    connect,
    establish,
    fresh_lab,
    left_over,
    need,
    of_replies,
    register,
)

from imslab.lab import Lab
from imslab.ue.agent import UeAgent
from imslab.ue.call import Call, SipFailure
from imswire.sdp.attributes import Setup

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-calls")]


async def refused(call: Call) -> SipFailure:
    with pytest.raises(SipFailure) as failure:
        await call.answered()
    return failure.value


async def served(lab: Lab, call: Call, passages: int) -> None:
    """Wait until that many passages of a call have their context."""
    await lab.wait_lines(lambda lines: len(call_contexts(lines, call)) >= passages)


@pytest.mark.parametrize("flow", FLOWS)
def test_cancel_while_it_rings(labs: Labs, flow: str) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, *FLOWS[flow])
        outgoing = alice.dial(bob.account.aor)
        incoming = await bob.wait_call()
        incoming.ring()
        assert await outgoing.ringing() == 180
        outgoing.cancel()
        assert (await refused(outgoing)).status == 487
        assert "487" in await incoming.wait_end()
        await served(lab, outgoing, 2 if flow == "both" else 1)

    labs().run(scenario)


def test_cancel_at_once(labs: Labs) -> None:
    """The CANCEL comes while the H.248 reply is outstanding."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        for _ in range(5):
            outgoing = alice.dial(bob.account.aor)
            outgoing.cancel()
            assert (await refused(outgoing)).status == 487
        talk = await establish_one_that_lives(alice, bob)
        await talk.texts()
        await talk.hang_up()

    labs().run(scenario)


async def establish_one_that_lives(alice: UeAgent, bob: UeAgent) -> Talk:
    """A call, where earlier ones that were cancelled may still lie in bob's queue."""
    outgoing = alice.dial(bob.account.aor)
    while (incoming := await bob.wait_call()).call_id != outgoing.call_id:
        await incoming.wait_end()
    incoming.accept()
    await outgoing.answered()
    return Talk(outgoing, incoming)


@pytest.mark.parametrize("status", [404, 486, 488, 603])
@pytest.mark.parametrize("flow", FLOWS)
def test_reject(labs: Labs, flow: str, status: int) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, *FLOWS[flow])
        outgoing = alice.dial(bob.account.aor)
        (await bob.wait_call()).reject(status)
        assert (await refused(outgoing)).status == status
        await served(lab, outgoing, 2 if flow == "both" else 1)

    labs().run(scenario)


@pytest.mark.parametrize("by", [0, 1], ids=["caller", "called"])
@pytest.mark.parametrize("flow", FLOWS)
def test_bye_from_either_side(labs: Labs, flow: str, by: int) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        assert await talk.ends[by].hangup() == 200
        await talk.ends[1 - by].wait_end()
        await served(lab, talk.outgoing, 2 if flow == "both" else 1)

    labs().run(scenario)


@pytest.mark.parametrize("by", [0, 1], ids=["caller", "called"])
@pytest.mark.parametrize("answered", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("flow", FLOWS)
def test_an_offer_without_change_changes_nothing(labs: Labs, flow: str, by: int, answered: Setup) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *(end.having(answer_setup=answered) for end in FLOWS[flow]))
        await talk.texts()
        before = [need_line(call) for call in talk.ends]
        for _ in range(2):
            response = await talk.ends[by].reinvite()
            assert before[by] in response.body.decode()
        await talk.texts()
        await talk.hang_up()
        lines = await lab.wait_lines(lambda lines: bool(call_contexts(lines, talk.outgoing)) and not left_over(lines))
        mine = [one for one in lines if one.call_id == talk.outgoing.call_id]
        assert of_replies(mine, "Add").total() == (2 if flow == "both" else 1)

    def need_line(call: Call) -> str:
        """The far end's m-line as this end was first shown it: the AGW's port."""
        assert call.media.remote is not None
        media = call.media.remote.media[0]
        return f"m={media.media} {media.port} {media.proto}"

    labs().run(scenario)


@pytest.mark.parametrize("by", [0, 1], ids=["caller", "called"])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_line_that_is_removed_is_subtracted(labs: Labs, flow: str, by: int) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        response = await talk.ends[by].reinvite(remove=True)
        assert "m=message 0 " in response.body.decode()
        await lab.wait_lines(lambda lines: bool(call_contexts(lines, talk.outgoing)) and not left_over(lines))
        assert not any(call.ended.done() for call in talk.ends)
        await talk.hang_up()

    labs().run(scenario)


def test_many_calls_at_once(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        outgoing = {call.call_id: call for call in (alice.dial(bob.account.aor) for _ in range(20))}
        talks = []
        for _ in outgoing:
            incoming = await bob.wait_call()
            incoming.accept()
            talks.append(Talk(outgoing[incoming.call_id], incoming))
        await asyncio.gather(*(talk.outgoing.answered() for talk in talks))
        await asyncio.gather(*(talk.texts() for talk in talks))
        await asyncio.gather(*(talk.hang_up() for talk in talks))

    labs().run(scenario)


def test_calls_are_spread_over_the_workers(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, SECURE, PLAIN)
        talks = [await establish(alice, bob) for _ in range(6)]
        for talk in talks:
            await talk.texts()
        lines = await lab.wait_lines(lambda lines: all(call_contexts(lines, talk.outgoing) for talk in talks))
        spread = Counter(gateway for talk in talks for gateway, _ in call_contexts(lines, talk.outgoing))
        assert sorted(spread.values()) == [2, 2, 2]
        for talk in talks:
            await talk.hang_up()

    labs(workers=3).run(scenario)


async def unserved(alice: UeAgent, bob: UeAgent, status: int) -> SipFailure:
    outgoing = alice.dial(bob.account.aor)
    failure = await refused(outgoing)
    assert failure.status == status
    assert outgoing.call_id not in bob.calls
    return failure


def test_no_gateway(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, SECURE, PLAIN)
        failure = await unserved(alice, bob, 503)
        assert int(need(failure.response).headers.get("retry-after") or "0") > 0
        await lab.start_one("agw")
        talk = await establish(alice, bob)
        await talk.texts()
        await talk.hang_up()

    with fresh_lab(start=("core", "imsalg"), imsalg=BRISK) as run:
        run.run(scenario)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("exhausted", ["access-ports", "core-ports", "sessions"])
def test_a_full_gateway(exhausted: str) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, SECURE, PLAIN)
        talk = await establish(alice, bob)
        await unserved(alice, bob, 503)
        await talk.texts()
        await talk.hang_up()
        await lab.wait_lines(lambda lines: not left_over(lines))
        again = await establish(alice, bob)
        await again.texts()
        await again.hang_up()

    port = free_port()
    one = {"ports": f"{port}-{port}", "quarantine": 0.0}
    agw = {
        "access-ports": {"realm": {"access": one}},
        "core-ports": {"realm": {"core": one}},
        "sessions": {"limits": {"sessions": 1}},
    }
    with fresh_lab(agw=agw[exhausted]) as run:
        run.run(scenario)


def test_a_terminating_call_without_a_gateway_is_refused_too(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, PLAIN, SECURE)
        # What the terminating side answers with 503 is a 500 upstream: the proxy before it is well (RFC 3261 16.7).
        await unserved(alice, bob, 500)

    with fresh_lab(start=("core", "imsalg")) as run:
        run.run(scenario)
