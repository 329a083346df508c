"""imsalg and one agw worker as the system under test of a SIP yardstick: real processes, pinned to one CPU.

    python bench/sip_under_test.py SIP_PORT CALLEE_PORT

Takes SIP over UDP on 127.0.0.1:SIP_PORT from callers that are not registered, secures every MSRP line (policy
"always"), refuses nothing for overload, sends on to 127.0.0.1:CALLEE_PORT, prints one line of JSON {"pids": [...]} when
calls can be made, and runs until its standard input is closed. ``IMSALG_BENCH_CPU`` names another CPU than 1; ``none``
pins nothing.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

ALG = """
[imsalg]
name = "pcscf.bench.example"
[[listen]]
realm = "access"
transport = "udp"
host = "127.0.0.1"
port = {sip}
[[listen]]
realm = "core"
transport = "udp"
host = "127.0.0.1"
port = 0
[realm.access]
kind = "access"
allow_unregistered = true
[realm.core]
kind = "core"
next_hop = "sip:127.0.0.1:{callee}"
[policy]
msrp = "always"
[gateways]
listen = "tcp:127.0.0.1:0"
[overload]
source_rate = 0
lag = 0
queue = 0
[log]
level = "warning"
"""

AGW = """
[agw]
mid = "agw"
controller = "tcp:127.0.0.1:{control}"
workers = 1
[realm.access]
addresses = ["127.0.0.1"]
ports = "20000-39999"
[realm.core]
addresses = ["127.0.0.1"]
ports = "40000-59999"
[log]
level = "warning"
"""


def start(
    stack: contextlib.ExitStack, work: Path, package: str, config: str, *extra: str
) -> tuple[int, dict[str, Any]]:
    """Start one daemon; returns its process id and its ready line."""
    path = work / f"{package}.toml"
    path.write_text(config)
    read, write = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", package, "run", "--config", str(path), "--ready-fd", str(write), *extra]
    process = subprocess.Popen(command, pass_fds=(write,), env=environment, stdout=sys.stderr)
    stack.callback(stop, process)
    os.close(write)
    with os.fdopen(read) as ready:
        line = ready.readline()
    if not line:
        raise SystemExit(f"{package} did not start")
    return process.pid, json.loads(line)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a daemon in order, or by force when it does not listen."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """See the module's text."""
    sip, callee = int(sys.argv[1]), int(sys.argv[2])
    cpu = os.environ.get("IMSALG_BENCH_CPU", "1")
    if cpu != "none":
        os.sched_setaffinity(0, {int(cpu)})  # inherited by both daemons
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        alg, ready = start(stack, work, "imsalg", ALG.format(sip=sip, callee=callee))
        control = ready["gateways"]["port"]
        agw, _ = start(stack, work, "agw", AGW.format(control=control), "--worker", "0")
        sys.stdout.write(json.dumps({"pids": [alg, agw]}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
