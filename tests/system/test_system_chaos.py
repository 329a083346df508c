"""Calls with traffic through real processes while the edge is abused, cut and killed: none is left between two stools.

The same storm with more calls and longer faults is ``make soak`` (bench/soak.py).
"""

import asyncio
from collections.abc import Coroutine

import pytest

from imskit.driver import run
from imslab.storm.lab import StormLab
from imslab.storm.run import Round, Storm
from imslab.storm.traffic import Fate, Traffic, eventually, wiretap
from imslab.storm.witness import Witness
from imslab.ue.agent import UeOptions
from imslab.ue.media import MediaOptions

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("storm")]

CALLS = 200
GROWTH = 0.10
"""By so much may the memory of a process grow over the faults that it survives."""
DESCRIPTORS = 2
"""Descriptors that may come and go by themselves: a log, a timer, a connection that is just being closed."""


def witness_of(lab: StormLab) -> Witness:
    """The capture of the media ports of both realms."""
    return Witness(lab.access_ports, lab.core_ports)


def weather(storm: Coroutine[None, None, None], seconds: float) -> None:
    """Run ``storm`` to its end, with a deadline for the case that something hangs."""

    async def main() -> int:
        async with asyncio.timeout(seconds):
            await storm
        return 0

    assert run(main()) == 0


def untouched(round_: Round) -> bool:
    """Every call that was up before goes on."""
    return round_.fates[Fate.UNTOUCHED] >= round_.calls and sum(round_.fates.values()) == round_.fates[Fate.UNTOUCHED]


async def nothing_plain(witness: Witness) -> None:
    """No mark on the access side of the wire, and many on the core side, where the same capture looked."""
    if witness.why_not:
        pytest.skip(witness.why_not)
    seen = await witness.tell()
    assert seen.access > 1_000, seen
    assert seen.access_marked == 0, seen
    assert seen.core_marked > 100, seen
    assert seen.missed == 0, seen


async def nothing_leaked(storm: Storm) -> None:
    """Processes that lived since the beginning hold what they held then."""
    for growth in await storm.growth(GROWTH):
        assert growth.memory <= GROWTH, growth
        assert growth.after.descriptors <= growth.before.descriptors + DESCRIPTORS, growth


def test_the_tap_sees_plain_text_where_there_is_some() -> None:
    async def plain() -> None:
        with wiretap() as tap:
            async with StormLab(workers=1, ports=50) as lab:
                for user in ("alice", "bob"):
                    await lab.ue(user, media=MediaOptions(secure=False), options=UeOptions(mediasec=()))
                traffic = Traffic([(lab.ues[0], lab.ues[1])])
                talk = await traffic.call()
                await eventually("a message each way", lambda: talk.messages > 1)
                await talk.hang_up()
                await traffic.close()
        assert tap.leaks > 0

    weather(plain(), 30.0)


def test_abuse_and_interruptions_touch_no_call_and_leave_nothing() -> None:
    async def abuse() -> None:
        with wiretap() as tap:
            async with StormLab(ports=500) as lab, witness_of(lab) as witness:
                storm = Storm(lab, CALLS, stopped=10.0, half_open=1_000)
                await storm.begin()
                for fault in (
                    storm.garbage,
                    storm.half_opened,
                    storm.slow_reader,
                    storm.slow_writer,
                    storm.fill_ports,
                    storm.cut_link,
                    storm.stop_controller,
                ):
                    seen = await storm.round(fault.__name__, fault)
                    assert untouched(seen), seen
                full = next(one for one in storm.rounds if one.fault == "fill_ports")
                assert "refused with 503" in full.notes, full
                await storm.calm()
                await nothing_leaked(storm)
                before, now = storm.tasks()
                assert now <= before + 1
                await storm.traffic.close()
                await nothing_plain(witness)
        assert tap.octets > 1_000_000
        assert tap.leaks == 0

    weather(abuse(), 240.0)


def test_killed_processes_come_back_and_no_call_is_left_half_ended() -> None:
    async def kill() -> None:
        with wiretap() as tap:
            async with StormLab(ports=500) as lab, witness_of(lab) as witness:
                storm = Storm(lab, CALLS)
                await storm.begin()

                worker = await storm.round("kill_worker", storm.kill_worker)
                assert worker.fates[Fate.BROKEN] == worker.fates[Fate.GONE] == 0, worker
                assert worker.fates[Fate.UNTOUCHED] > 0, worker
                assert worker.fates[Fate.ENDED] > 0, worker

                controller = await storm.round("kill_controller", storm.kill_controller)
                assert untouched(controller), controller

                assert await storm.traffic.fill(CALLS) == CALLS, storm.traffic.failures
                await storm.calm()
                await nothing_leaked(storm)
                await storm.traffic.close()
                await nothing_plain(witness)
        assert tap.leaks == 0

    weather(kill(), 180.0)
