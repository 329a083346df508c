"""Overload: what becomes of the calls per second when twice as many come as can be served, and of memory.

    python bench/overload.py [--quick]

sipp calls through one imsalg process pinned to one CPU (plain calls of one second, UDP, loopback), in an open loop: it
does not wait for the node. Rates are raised until no more calls per second come through; that is the peak. Then twice
that rate is offered, and at last a moderate rate from one address while another one floods. ``served`` counts calls
that went through to the answer of their BYE, ``refused`` those that got 503; a call that got neither is ``lost``.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOST, FLOODER = "127.0.0.1", "127.0.0.2"
SIP, CORE, CALLER, OTHER = 25060, 25070, 25080, 25090
TICKS = os.sysconf("SC_CLK_TCK")

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
    slow: float  # share of answers later than half a second, T1


class Node:
    """One imsalg process with its own sipp as the core."""

    def __init__(self, stack: contextlib.ExitStack, work: Path, source_rate: int) -> None:
        config = work / "imsalg.toml"
        config.write_text(CONFIG % source_rate)
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
    time.sleep(seconds)
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
        memory=node.memory(),
        slow=slow / max(1, served),
    )


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
    seconds = 5.0 if quick else 15.0
    print("| round | offered /s | served /s | refused /s | lost | later than 0.5 s | CPU | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with contextlib.ExitStack() as one:
            node = Node(one, work, 0)
            peak = climb(node, work, seconds)
            show("peak", peak)
            double = [measure(node, work, int(2 * peak.served), seconds) for _ in range(1 if quick else 3)]
            for number, each in enumerate(double, 1):
                show(f"twice the peak, round {number}", each)
        flood(work, seconds, max(20, int(peak.served / 10)))
    kept = sum(each.served for each in double) / len(double) / max(1.0, peak.served)
    print(f"served at twice the peak: {kept:.0%} of the peak")
    return 0 if kept >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
