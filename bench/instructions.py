"""Machine instructions that one call costs in memory, counted by valgrind: the same on an idle and on a busy machine.

    python bench/instructions.py [--plain] [--calls N]

Runs :mod:`call_in_memory`'s call through both cores under valgrind's cachegrind, twice with different numbers of calls;
the difference leaves out the start of the interpreter, the imports and the first calls, which fill what is remembered.
Hashing is fixed, the garbage collector is off. Two runs of the same sources differ by less than one in a thousand, so
that a step of one percent shows, which no clock can tell on a machine with other work. Instructions are not time: what
misses the caches costs more than what does not.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FEW = 20
_CALLS = """
import gc, sys
sys.path.insert(0, sys.argv[1])
from call_in_memory import World
world = World(sys.argv[2] == "plain")
world.calls(1, 150)
gc.collect()
gc.freeze()
gc.disable()
world.calls(1000, int(sys.argv[3]))
"""


def counted(kind: str, calls: int) -> int:
    """Instructions of a whole process that makes 150 calls to warm up and then ``calls``."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    command += ["-c", _CALLS, str(HERE), kind, str(calls)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"valgrind did not count:\n{done.stderr[-2000:]}")
    return int(found[1].replace(",", ""))


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="an RTP call that is only proxied")
    parser.add_argument("--calls", type=int, default=100, help="calls to count (default 100)")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("instructions: not counted, missing: valgrind")
        return 0
    kind = "plain" if arguments.plain else "msrp"
    more = counted(kind, FEW + arguments.calls) - counted(kind, FEW)
    print(f"{kind} call: {more / arguments.calls / 1000:.1f} thousand instructions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
