"""Overload: what becomes of the calls per second when twice as many come as can be served, and of memory.

    python bench/overload.py [--quick]

sipp calls through one imsalg process pinned to one CPU (plain calls of one second, UDP, loopback), in an open loop: it
does not wait for the node. Rates are raised until no more calls per second come through; that is the peak. Then twice
that rate is offered, for so long that as many transactions end as begin (each stays for 64*T1 = 32 s) and twice as long
again, and at last a moderate rate from one address while another one floods. ``served`` counts calls that went through
to the answer of their BYE, ``refused`` those that got 503; a call that got neither is ``lost``.

The last lines say whether each aim is met: at twice the peak at least 80 % of the peak are served, and memory, once as
much ends as begins, grows by no more than a tenth. The exit status is 1 where one is missed. ``--quick`` has short
rounds and a T1 of 0.1 s in the node, so that transactions stay for 6.4 s: less memory, and no figure to be quoted.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOST, FLOODER = "127.0.0.1", "127.0.0.2"
SIP, CORE, CALLER, OTHER = 25060, 25070, 25080, 25090
TICKS = os.sysconf("SC_CLK_TCK")
CALL = 1.0
"""Seconds that a call lasts."""
KEPT, GROWN = 0.8, 0.1
"""The aims: the share of the peak that is still served at twice its rate, and by how much memory may grow there."""

CONFIG = f"""
[imsalg]
name = "pcscf.bench.example"
[[listen]]
realm = "access"
transport = "udp"
host = "{HOST}"
port = {SIP}
[[listen]]
realm = "core"
transport = "udp"
host = "{HOST}"
port = 0
[realm.access]
kind = "access"
allow_unregistered = true
[realm.core]
kind = "core"
next_hop = "sip:{HOST}:{CORE}"
[gateways]
listen = "tcp:{HOST}:0"
[overload]
source_rate = %s
[timers]
t1 = %s
[log]
level = "error"
"""


@dataclass(frozen=True)
class Round:
    """What one offered rate gave. Rates are calls per second, times seconds, memory MiB."""

    offered: int
    served: float
    refused: float
    lost: int
    cpu: float
    memory: float
    slow: float  # share of answers later than half a second
    moments: list[tuple[float, float]] = field(default_factory=list)  # memory at so many seconds


class Node:
    """One imsalg process with its own sipp as the core."""

    def __init__(self, stack: contextlib.ExitStack, work: Path, source_rate: int, t1: float = 0.5) -> None:
        config = work / "imsalg.toml"
        config.write_text(CONFIG % (source_rate, t1))
        read, write = os.pipe()
        command = [sys.executable, "-m", "imsalg", "run", "--config", str(config), "--ready-fd", str(write)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(command, pass_fds=(write,), env=environment)
        pin(self.process, 1)
        stack.callback(end, self.process)
        os.close(write)
        with os.fdopen(read) as ready:
            json.loads(ready.readline())
        called = sipp(work, "uas", HOST, CORE)
        stack.callback(end, called)

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Resident MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def pin(process: subprocess.Popen[bytes], cpu: int) -> None:
    """Keep a process on one CPU, where there are several."""
    if cpu in os.sched_getaffinity(0) and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(process.pid, {cpu})


def sipp(work: Path, role: str, host: str, port: int, *more: str) -> subprocess.Popen[bytes]:
    """Start a sipp that plays one of the two scenarios."""
    options = ["-sf", str(HERE / "overload" / f"{role}.xml"), "-i", host, "-p", str(port), "-t", "u1", "-nostdin"]
    limits = ["-nd", "-recv_timeout", "20000", "-buff_size", "4194304"]
    process = subprocess.Popen(
        ["sipp", *options, *limits, *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=work,
    )
    pin(process, 0)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, in order or by force."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def callers(work: Path, name: str, rate: int, seconds: float, host: str = HOST, port: int = CALLER) -> Any:
    """A sipp that makes ``rate`` calls per second for so long, and its statistics file."""
    stats = work / f"{name}.csv"
    calls = ["-r", str(rate), "-m", str(int(rate * seconds)), "-l", str(int(rate * seconds))]
    trace = ["-trace_stat", "-stf", str(stats), "-fd", "1"]
    return sipp(work, "uac", host, port, f"{HOST}:{SIP}", *calls, *trace), stats


def measure(node: Node, work: Path, rate: int, seconds: float) -> Round:
    """Offer a rate for so long, wait for the last calls."""
    cpu = node.cpu()
    process, stats = callers(work, f"at-{rate}-{time.monotonic_ns()}", rate, seconds)
    moments = list(remembered(node, seconds))
    spent = node.cpu() - cpu
    try:
        process.wait(40)
    finally:
        end(process)
    with stats.open() as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    served, refused = int(last["GenericCounter1(C)"]), int(last["GenericCounter2(C)"])
    created = int(last["OutgoingCall(C)"])
    slow = sum(int(value) for key, value in last.items() if late(key))
    return Round(
        offered=rate,
        served=served / seconds,
        refused=refused / seconds,
        lost=created - served - refused,
        cpu=spent / seconds,
        memory=moments[-1][1],
        slow=slow / max(1, served),
        moments=moments,
    )


def remembered(node: Node, seconds: float) -> Iterator[tuple[float, float]]:
    """The node's memory once a second for so long."""
    start, steps = time.monotonic(), max(1, round(seconds))
    for step in range(1, steps + 1):
        time.sleep(max(0.0, start + step * seconds / steps - time.monotonic()))
        yield time.monotonic() - start, node.memory()


def growth(one: Round, settled: float) -> float:
    """By what share memory grew from the first to the last quarter of the time when as much ended as began."""
    steady = [memory for at, memory in one.moments if at >= settled]
    quarter = max(1, len(steady) // 4)
    return statistics.fmean(steady[-quarter:]) / statistics.fmean(steady[:quarter]) - 1


def show_memory(one: Round, settled: float) -> None:
    """Memory at some moments of a long round."""
    shown = one.moments[:: max(1, len(one.moments) // 12)]
    print(f"memory at twice the peak, where as much ends as begins from {settled:.0f} s on:")
    print(", ".join(f"{at:.0f} s {memory:.0f} MiB" for at, memory in shown), flush=True)


def late(column: str | None) -> bool:
    """True for the columns of answers that came after half a second or more."""
    return bool(column) and column is not None and column in _LATE


_LATE = {f"ResponseTimeRepartition1_{limit}" for limit in ("<1000", "<2000", ">=2000")}


def show(name: str, one: Round) -> None:
    """One row of the table."""
    print(
        f"| {name} | {one.offered} | {one.served:.0f} | {one.refused:.0f} | {one.lost} | {one.slow:.1%} "
        f"| {one.cpu:.0%} | {one.memory:.0f} |",
        flush=True,
    )


def climb(node: Node, work: Path, seconds: float) -> Round:
    """Raise the rate until no more comes through; the best round."""
    first = measure(node, work, 100, seconds)
    show("a tenth", first)
    guess = max(60, int(100 / max(0.05, first.cpu)))  # calls per second of one whole CPU, had it nothing else to do
    best = first
    for share in (0.7, 0.85, 1.0, 1.15, 1.3, 1.45, 1.6, 1.8, 2.0):
        one = measure(node, work, int(guess * share), seconds)
        show("climbing", one)
        if one.served > best.served:
            best = one
        if one.served < 0.95 * one.offered:
            break
    return best


def flood(work: Path, seconds: float, rate: int) -> None:
    """A moderate rate from one address while another one sends ten times as much."""
    with contextlib.ExitStack() as stack:
        node = Node(stack, work, 500)
        flooder, _ = callers(work, "flood", 10 * rate, seconds * 2, FLOODER, OTHER)
        stack.callback(end, flooder)
        time.sleep(2)
        show(f"beside a flood of {10 * rate} per second from {FLOODER}", measure(node, work, rate, seconds))


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds, for a first look")
    quick = parser.parse_args().quick
    if shutil.which("sipp") is None:
        print("overload: not measured, missing: sipp")
        return 0
    seconds, t1 = (5.0, 0.1) if quick else (15.0, 0.5)
    settled = 64 * t1 + CALL + 1  # the last second for what is late
    print("| round | offered /s | served /s | refused /s | lost | later than 0.5 s | CPU | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with contextlib.ExitStack() as one:
            node = Node(one, work, 0, t1)
            peak = climb(node, work, seconds)
            show("peak", peak)
        with contextlib.ExitStack() as one:
            node = Node(one, work, 0, t1)  # a fresh one: what the climb has left free would hide what grows
            double = measure(node, work, int(2 * peak.served), settled + 128 * t1)
            show("twice the peak", double)
        flood(work, seconds, max(20, int(peak.served / 10)))
    show_memory(double, settled)
    kept, grown = double.served / max(1.0, peak.served), growth(double, settled)
    aims = {
        f"throughput at twice the peak within 20 % of the peak ({kept:.0%} of it)": kept >= KEPT,
        f"memory flat there within 10 % ({grown:+.1%} over {128 * t1:.0f} s)": grown <= GROWN,
    }
    if min(peak.cpu, double.cpu) < 0.8:
        print(
            f"the node had {peak.cpu:.0%} of its CPU at the peak, {double.cpu:.0%} at twice that: not a quiet machine"
        )
    for aim, met in aims.items():
        print(f"{aim}: {'yes' if met else 'NO'}")
    return 0 if all(aims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
