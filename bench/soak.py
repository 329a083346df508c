"""``make soak``: minutes of calls with traffic through real processes, one fault after another, and a table at the end.

    python bench/soak.py [--minutes 10] [--calls 200] [--log DIR]

The faults of a round: noise and silent connections at every door, a slow reader, more calls than ports, the H.248 link
cut, the IMS-ALG stopped, a worker killed; in the last round the IMS-ALG is killed too. Rounds go on until the time is
over. The status is 1 when a call was left half ended, plain text was seen, or something leaked.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from imskit.driver import run
from imskit.tables import console
from imslab.storm.lab import StormLab
from imslab.storm.run import Storm
from imslab.storm.traffic import Fate, Wiretap, wiretap
from imslab.storm.witness import Witness

MEMORY = 0.10
DESCRIPTORS = 4


async def soak(minutes: float, calls: int, directory: Path | None, tap: Wiretap) -> int:
    """Weather it; the number of things that went wrong."""
    out = console()
    wrong: list[str] = []
    end = time.monotonic() + 60 * minutes
    async with (
        StormLab(ports=5 * calls // 2, directory=directory) as lab,
        Witness(lab.access_ports, lab.core_ports) as witness,
    ):
        storm = Storm(lab, calls, stopped=10.0, cut=1.0, half_open=1_000)
        await storm.begin()
        rounds = 0
        while rounds == 0 or time.monotonic() < end:
            rounds += 1
            for fault in (
                storm.garbage,
                storm.half_opened,
                storm.slow_reader,
                storm.slow_writer,
                storm.fill_ports,
                storm.cut_link,
                storm.stop_controller,
            ):
                await _one(storm, out, fault.__name__, wrong)
            await storm.calm()
        await _table_of_processes(storm, out, wrong)
        for name in ("kill_worker", "kill_controller"):
            await _one(storm, out, name, wrong)
        reached = await storm.traffic.fill(calls)
        if reached < calls:
            wrong.append(f"after the faults only {reached} of {calls} calls came up")
        await storm.calm()
        await storm.traffic.close()
        _table_of_rounds(storm, out)
        out.print(f"{storm.traffic.calls} calls, {storm.traffic.messages} messages, {rounds} rounds")
        out.print(f"setups that failed: {dict(storm.traffic.failures) or 'none'}")
        out.print(f"{tap.octets:,} octets seen by the UEs on the access side, plain text in {tap.leaks}")
        await _wire(witness, out, wrong)
    if tap.leaks:
        wrong.append("plain text on the access side")
    for problem in wrong:
        out.print(f"WRONG: {problem}")
    out.print("nothing went wrong" if not wrong else f"{len(wrong)} things went wrong")
    return len(wrong)


async def _one(storm: Storm, out: Console, name: str, wrong: list[str]) -> None:
    began = time.monotonic()
    done = await storm.round(name, getattr(storm, name))
    fates = ", ".join(f"{count} {fate}" for fate, count in done.fates.items() if count)
    out.print(
        f"{name:<16} {time.monotonic() - began:6.1f} s  {done.calls} calls: {fates}. {done.notes}", soft_wrap=True
    )
    if done.fates[Fate.BROKEN]:
        wrong.append(f"{name}: {done.fates[Fate.BROKEN]} calls are neither alive nor ended: {done.reasons}")
    if done.fates[Fate.GONE]:
        wrong.append(f"{name}: {done.fates[Fate.GONE]} calls lost their media without a word: {done.reasons}")


async def _table_of_processes(storm: Storm, out: Console, wrong: list[str]) -> None:
    table = Table(
        "Process",
        "Memory before",
        "after",
        "growth",
        "Descriptors before",
        "after",
        "Threads before",
        "after",
        box=None,
    )
    for one in await storm.growth(MEMORY):
        before, after = one.before, one.after
        table.add_row(
            f"{one.name} {one.pid}",
            f"{before.resident / 1e6:.1f} MB",
            f"{after.resident / 1e6:.1f} MB",
            f"{one.memory:+.1%}",
            str(before.descriptors),
            str(after.descriptors),
            str(before.threads),
            str(after.threads),
        )
        if one.memory > MEMORY:
            wrong.append(f"{one.name} grew by {one.memory:.0%}")
        if after.descriptors > before.descriptors + DESCRIPTORS:
            wrong.append(f"{one.name} has {after.descriptors - before.descriptors} descriptors more")
        if after.threads > before.threads:
            wrong.append(f"{one.name} has {after.threads - before.threads} threads more")
    out.print(table)
    before_tasks, tasks = storm.tasks()
    held = storm.held()
    out.print(
        f"tasks of the IMS-ALG {before_tasks:.0f} -> {tasks:.0f}; contexts {held.contexts}, claimed {held.claimed}, "
        f"calls {held.calls}, free ports {held.free_ports}"
    )
    if tasks > before_tasks + 2:
        wrong.append(f"{tasks - before_tasks:.0f} tasks more")


async def _wire(witness: Witness, out: Console, wrong: list[str]) -> None:
    """What the capture of the media ports saw."""
    if witness.why_not:
        out.print(witness.why_not)
        return
    seen = await witness.tell()
    out.print(
        f"on the wire: {seen.access_marked} of {seen.access:,} segments of the access side with plain text, "
        f"{seen.core_marked:,} of {seen.core:,} of the core side; {seen.missed} packets missed"
    )
    if seen.access_marked:
        wrong.append(f"{seen.access_marked} segments with plain text on the wire of the access side")
    if not seen.core_marked:
        wrong.append("the capture saw no message on the core side, where it is plain by design")


def _table_of_rounds(storm: Storm, out: Console) -> None:
    table = Table("Fault", "Times", "Calls", *(fate.value for fate in Fate), "Reasons", box=None)
    for fault in dict.fromkeys(one.fault for one in storm.rounds):
        rounds = [one for one in storm.rounds if one.fault == fault]
        reasons: Counter[str] = Counter()
        for one in rounds:
            reasons.update(one.reasons)
        table.add_row(
            fault,
            str(len(rounds)),
            str(sum(one.calls for one in rounds)),
            *(str(sum(one.fates[fate] for one in rounds)) for fate in Fate),
            ", ".join(f"{text} ({count})" for text, count in reasons.most_common(4)),
        )
    out.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--log", type=Path, help="keep settings and logs of the daemons in this directory")
    given = parser.parse_args()
    with wiretap() as tap:

        async def soaked() -> int:
            return 1 if await soak(given.minutes, given.calls, given.log, tap) else 0

        return run(soaked())


if __name__ == "__main__":
    raise SystemExit(main())
