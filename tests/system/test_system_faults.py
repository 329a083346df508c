"""What dies or falls silent in the middle of a call, and what becomes of the call, of the media and of the next one."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from typing import Any

import pytest
from tests.system.labs import (
    BRISK,
    FLOWS,
    PLAIN,
    SECURE,
    Talk,
    call_contexts,
    connect,
    establish,
    fresh_lab,
    left_over,
    log_of,
    media_lines,
    need,
    register,
)

from imskit.admin import Query, ask
from imskit.driver import spawn
from imslab.lab import Lab
from imslab.ladder.read import TraceLine
from imslab.storm.traffic import eventually
from imslab.ue.agent import UeAgent
from imslab.ue.call import Call, SipFailure

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-faults")]

SOON = 6.0
"""Seconds within which a loss must have been noticed and said; the settings in use notice it within two."""


async def told(calls: Iterable[Call], why: str = "media gateway") -> None:
    """Each end got its BYE with a Reason, soon."""
    for call in calls:
        await call.wait_end(SOON)
        assert call.end_reason.startswith("SIP;cause="), call.end_reason
        assert why in call.end_reason


async def in_service(lab: Lab, since: float, method: str = "Restart") -> None:
    """Wait until a gateway announced itself after that moment and was accepted."""

    def announced(line: TraceLine) -> bool:
        return line.t > since and any(one.command == "ServiceChange" and method in one.fields for one in line.commands)

    def accepted(lines: list[TraceLine]) -> bool:
        tids = {line.tid for line in lines if announced(line)}
        return any(line.type == "reply" and line.dir == "out" and line.tid in tids for line in lines)

    await lab.wait_lines(accepted, 10.0)


async def works(alice: UeAgent, bob: UeAgent) -> None:
    """A new call is served."""
    talk = await establish(alice, bob)
    await talk.texts()
    await talk.hang_up()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_worker_dies(flow: str) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, *FLOWS[flow])
        talk = await establish(alice, bob)
        await talk.texts()
        before = time.time()
        os.kill(lab.processes["agw"].ready["workers"][0], signal.SIGKILL)
        await told(talk.ends)
        await in_service(lab, before)
        await works(alice, bob)

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario, tidy=False)


def test_the_calls_of_other_workers_go_on() -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, SECURE, PLAIN)
        talks = [await establish(alice, bob) for _ in range(2)]
        for talk in talks:
            await talk.texts()
        lines = await lab.wait_lines(lambda lines: all(call_contexts(lines, talk.outgoing) for talk in talks))
        gateways = [str(call_contexts(lines, talk.outgoing)[0][0]) for talk in talks]
        assert sorted(gateways) == sorted(set(gateways))
        number = int(gateways[0][-1]) - 1
        before = time.time()
        os.kill(lab.processes["agw"].ready["workers"][number], signal.SIGKILL)
        await told(talks[0].ends)
        await talks[1].texts()
        await in_service(lab, before)
        await talks[1].texts()
        await talks[1].hang_up()

    with fresh_lab(imsalg=BRISK, workers=2) as run:
        run.run(scenario, tidy=False)


def test_the_whole_gateway_dies() -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        lab.processes["agw"].kill()
        await told(talk.ends)
        with pytest.raises(SipFailure) as failure:
            await alice.dial(bob.account.aor).answered()
        assert failure.value.status == 503
        assert need(failure.value.response).headers.get("retry-after")
        await lab.start_one("agw")
        await works(alice, bob)

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario, tidy=False)


def test_a_worker_falls_silent_and_comes_back() -> None:
    """SIGSTOP: the connection stays, the heartbeat is not answered. After SIGCONT its contexts are found and
    subtracted, and it serves again."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        worker = lab.processes["agw"].ready["workers"][0]
        os.kill(worker, signal.SIGSTOP)
        try:
            await told(talk.ends)
            with pytest.raises(SipFailure) as failure:
                await alice.dial(bob.account.aor).answered()
            assert failure.value.status == 503
            before = time.time()
        finally:
            os.kill(worker, signal.SIGCONT)
        await in_service(lab, before, "Disconnected")
        await lab.wait_lines(lambda lines: not left_over(lines))
        await works(alice, bob)

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario)


def test_the_controller_dies_and_calls_go_on() -> None:
    """kill -9 of the IMS-ALG in the middle of a call: the bytes never stop, and the next one serves the call: re-INVITE
    and BYE go through, registrations hold, and no context is lost or left over."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        await both_bound(lab, talk)
        await written(lab)
        talking = spawn(keep_talking(talk), name="talk")
        lab.processes["imsalg"].kill()
        before = time.time()
        await lab.start_one("imsalg")
        assert "state restored" in log_of(lab, "imsalg")
        await in_service(lab, before, "Disconnected")
        talking.cancel()
        sent = await asyncio.gather(talking, return_exceptions=True)
        assert isinstance(sent[0], asyncio.CancelledError), "the bytes stopped"
        await talk.texts()
        assert (await talk.outgoing.reinvite()).status == 200
        assert (await talk.incoming.reinvite()).status == 200
        await talk.texts()
        await works(alice, bob)  # nobody has registered again
        await talk.hang_up()
        assert "contexts that nobody claims" not in log_of(lab, "imsalg")

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario)


def test_a_call_in_the_making_leaves_no_context_behind() -> None:
    """Killed while bob's phone rings: what was reserved is found by the audit and subtracted."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, SECURE, PLAIN)
        outgoing = alice.dial(bob.account.aor)
        incoming = await bob.wait_call()
        incoming.ring()
        await outgoing.ringing()
        await lab.wait_lines(lambda lines: len(call_contexts(lines, outgoing)) == 1)
        await written(lab)
        lab.processes["imsalg"].kill()
        await lab.start_one("imsalg")
        await lab.wait_lines(lambda lines: not left_over(lines))
        assert "contexts that nobody claims" in log_of(lab, "imsalg")
        outgoing.drop()
        incoming.drop()
        await works(alice, bob)

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario)


def test_a_gateway_that_restarts_while_the_controller_is_away() -> None:
    """Both die: the calls are known, their contexts are gone, and both ends are told."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        await written(lab)
        lab.processes["imsalg"].kill()
        lab.processes["agw"].kill()
        await lab.start_one("imsalg")
        await lab.start_one("agw")
        await told(talk.ends)
        await works(alice, bob)

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario, tidy=False)


async def written(lab: Lab) -> None:
    """Wait until the IMS-ALG has nothing in hand that a kill would take away."""

    def pending() -> int:
        return int(ask(lab.directory / "imsalg.sock", Query("state"))["pending"])

    await eventually("everything is written", lambda: not pending(), SOON)


async def keep_talking(talk: Talk) -> None:
    """Texts each way without a pause, until it is called off."""
    while True:
        await talk.texts()
        await asyncio.sleep(0.005)


async def both_bound(lab: Lab, talk: Talk) -> list[TraceLine]:
    return await lab.wait_lines(lambda lines: len(call_contexts(lines, talk.outgoing)) == 2)


def test_media_without_a_controller_end_after_the_orphan_time() -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab)
        await talk.texts()
        await both_bound(lab, talk)
        lab.processes["imsalg"].kill()
        await talk.texts()
        async with asyncio.timeout(SOON):
            await asyncio.gather(*(call.session.closed for call in talk.ends))
        await lab.wait_lines(lambda lines: len(media_lines(lines, talk.outgoing, "bytes")) == 2)

    with fresh_lab(imsalg=BRISK, agw={"timers": {"orphan_time": 1.0}}) as run:
        run.run(scenario, tidy=False)


def test_the_core_dies() -> None:
    """Media of established calls flow on, what is asked meanwhile is answered, and after the restart all is well."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        lab.processes["core"].kill()
        await talk.texts()
        with pytest.raises(SipFailure) as failure:
            await alice.dial(bob.account.aor).answered()
        assert failure.value.status == 503
        assert await talk.outgoing.hangup() == 503
        async with asyncio.timeout(SOON):
            await talk.incoming.session.closed
        assert await talk.incoming.hangup() == 503
        await lab.wait_lines(lambda lines: not left_over(lines))
        await lab.start_one("core")
        for ue in (alice, bob):
            await ue.register()
        await works(alice, bob)

    # ICMP tells at once that nobody is there; nobody waits for 64*T1 (RFC 3261 17.1.1.2).
    with fresh_lab(imsalg={**BRISK, "timers": {"t1": 0.02, "t2": 0.2}}) as run:
        run.run(scenario)


@pytest.mark.parametrize("process", ["agw", "imsalg", "core"])
def test_sigterm_in_the_middle_of_a_call_ends_a_daemon_in_order(process: str) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        talk = await establish(alice, bob)
        await talk.texts()
        before = time.time()
        assert await lab.processes[process].stop() == 0
        if process == "core":
            await talk.texts()
        else:
            await told(talk.ends, "media gateway" if process == "agw" else "goes out of service")
        assert "Traceback" not in log_of(lab, process)
        await lab.start_one(process)
        for ue in (alice, bob):
            await ue.register()
        if process != "core":
            await in_service(lab, before, "Restart" if process == "agw" else "Disconnected")
        await works(alice, bob)

    settings: dict[str, Any] = {"agw": {"agw": {"drain_time": 0.5}}, "imsalg": BRISK}
    with fresh_lab(**settings) as run:
        run.run(scenario, tidy=False)


def test_the_ue_vanishes() -> None:
    """A UE whose media connection breaks without a BYE: the far end's connection ends too, the call can be ended."""

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab)
        await talk.texts()
        link = talk.outgoing.session.link
        assert link is not None
        link.abort("gone")
        async with asyncio.timeout(SOON):
            await talk.incoming.session.closed
        if not talk.incoming.ended.done():
            assert await talk.incoming.hangup() == 200
        await talk.outgoing.wait_end()

    with fresh_lab(imsalg=BRISK) as run:
        run.run(scenario)
