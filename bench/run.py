"""Measure the relay and the SIP path against their peers with the yardsticks, in one run each.

``make bench`` runs all; ``make bench ARGS="relay"``, ``"sip"``, ``"aware"`` or ``"overload"`` one of them, ``--quick``
shortens the rounds. ``--interpreter`` names another Python (or a command that ends in one) for the daemons of ``sip``,
so that a build of it can be held against another. ``aware`` compares the two modes of the AGW with each other and
needs nothing else; ``overload`` offers the P-CSCF twice what it can serve and needs sipp.
The yardsticks and the peers (nginx, stunnel4, haproxy, kamailio, rtpengine, sipp) are not part of the project; what is
missing is named and the part that needs it is left out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
YARDSTICKS = Path(os.environ.get("IMSALG_YARDSTICKS", HERE.parent.parent / "shared" / "yardstick"))


def missing(script: Path, programs: list[str]) -> list[str]:
    """What stands in the way of one yardstick: the script itself or a program it drives."""
    gaps = [] if script.is_file() else [f"{script.name} (looked in {script.parent}; set IMSALG_YARDSTICKS)"]
    return gaps + [name for name in programs if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None]


def relay(quick: bool) -> int:
    """TLS -> TCP relaying: CPU per GiB and per handshake, memory per idle session, beside nginx, stunnel, HAProxy."""
    script = YARDSTICKS / "relay" / "relay_yardstick.py"
    gaps = missing(script, ["openssl", "taskset"])
    if gaps:
        print("relay: not measured, missing: " + ", ".join(gaps))
        return 0
    fingerprint = subprocess.run(
        [sys.executable, str(script), "--print-fingerprint"], check=True, capture_output=True, text=True
    ).stdout.strip()
    command = f"{sys.executable} {HERE / 'relay_under_test.py'} --fingerprint {fingerprint}"
    size = (
        ["--rounds", "1", "--mib", "256", "--handshakes", "100", "--idle", "100"]
        if quick
        else ["--rounds", "3", "--mib", "512", "--handshakes", "300", "--idle", "300"]
    )
    return subprocess.run([sys.executable, str(script), "--under-test", command, *size], check=False).returncode


def sip(quick: bool, interpreter: str) -> int:
    """CPU per call: an e2ae MSRP call beside Kamailio with rtpengine, a plain call beside Kamailio alone."""
    script = YARDSTICKS / "sip" / "sip_yardstick.py"
    gaps = missing(script, ["sipp", "kamailio", "rtpengine", "taskset"])
    if gaps:
        print("sip: not measured, missing: " + ", ".join(gaps))
        return 0
    under_test = f"{interpreter} {HERE / 'sip_under_test.py'}"
    size = ["--calls", "600", "--rounds", "1"] if quick else ["--calls", "2000", "--rounds", "2"]
    worst = 0
    for media, peer, what in (
        ("msrp", "kamailio+rtpengine", "e2ae MSRP call"),
        ("rtp", "kamailio", "plain call"),
    ):
        argv = [sys.executable, str(script), "--json", "--media", media, "--under-test", under_test, *size]
        done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True)
        worst = max(worst, done.returncode)
        if done.returncode == 0:
            show(what, peer, json.loads(done.stdout))
    return worst


def show(what: str, peer: str, figures: dict[str, dict[str, float]]) -> None:
    """A line for each system of one run of the SIP yardstick, and the ratio to the peer that is aimed at."""
    print(f"{what}:")
    for name, figure in figures.items():
        print(f"  {name:20} {figure['cpu_us_per_call']:7.0f} us per call, {figure['failed']:.0f} failed")
    ratio = figures["under test"]["cpu_us_per_call"] / figures[peer]["cpu_us_per_call"]
    print(f"  under test / {peer}: {ratio:.2f}", flush=True)


def aware(quick: bool) -> int:
    """Application-aware MSRP beside application-agnostic relaying: CPU per message of three sizes."""
    command = [sys.executable, str(HERE / "aware.py"), *(["--quick"] if quick else [])]
    return subprocess.run(command, check=False).returncode


def overload(quick: bool) -> int:
    """What becomes of throughput and memory at twice the load that can be served."""
    command = [sys.executable, str(HERE / "overload.py"), *(["--quick"] if quick else [])]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Run what was asked for; the exit status is the worst of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="*", choices=["relay", "sip", "aware", "overload"], help="what to measure (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument(
        "--interpreter", default=sys.executable, help="what runs the daemons of sip (default: this one)"
    )
    arguments = parser.parse_args()
    quick = arguments.quick
    parts = {
        "relay": lambda: relay(quick),
        "sip": lambda: sip(quick, arguments.interpreter),
        "aware": lambda: aware(quick),
        "overload": lambda: overload(quick),
    }
    return max(parts[name]() for name in arguments.what or parts)


if __name__ == "__main__":
    sys.exit(main())
