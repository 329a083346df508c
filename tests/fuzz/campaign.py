"""``make fuzz``: property tests with as many examples as time allows, then every target with coverage as its guide.

    python tests/fuzz/campaign.py [SECONDS]          (or the environment's IMSALG_FUZZ_SECONDS; default 300)

Half of the time goes to the property tests: a first round takes the usual number of examples and measures, the second
multiplies it. The other half goes to the targets (:mod:`tests.fuzz.targets`) under atheris, or, where that cannot be
had (which is said), to mutations without a guide. Seeds are random, and are printed with the command that repeats a
failure; inputs that break a target are kept in ``tests/fuzz/found``. The status is 1 when anything failed.
"""

import importlib.util
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("tests/fuzz", "tests/playbook/test_agw_total.py", "tests/playbook/test_media_random.py")
TARGETS = ("sip-datagram", "sip-glance", "sip-stream", "sip-values", "sdp", "edge", "h248", "msrp", "bfcp")
_SLACK = 1.5  # a module that takes this much longer than its share is stopped
_START = 60.0  # seconds beyond its time that a target may take to start and to end


def modules() -> list[Path]:
    """What is run, as paths below the root."""
    found: list[Path] = []
    for name in MODULES:
        path = ROOT / name
        found += sorted(path.glob("test_*.py")) if path.is_dir() else [path]
    return [path.relative_to(ROOT) for path in found]


def run(module: Path, factor: int, seconds: float) -> tuple[str, float]:
    """One module; ("passed" | "stopped" | what pytest said, seconds)."""
    seed = secrets.randbelow(1 << 31)
    command = [sys.executable, "-m", "pytest", str(module), "-q", "-x", f"--hypothesis-seed={seed}"]
    environment = {**os.environ, "IMSALG_FUZZ_FACTOR": str(factor)}
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, timeout=seconds, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return "stopped", time.monotonic() - began
    taken = time.monotonic() - began
    if done.returncode == 0:
        return "passed", taken
    repeat = f"IMSALG_FUZZ_FACTOR={factor} python -m pytest {module} --hypothesis-seed={seed}"
    return f"FAILED; repeat with:\n    {repeat}\n{done.stdout[-6000:]}", taken


def properties(seconds: float) -> int:
    """The two rounds of property tests; how many failed."""
    end = time.monotonic() + seconds
    taken: dict[Path, float] = {}
    failed = 0
    for module in modules():
        verdict, taken[module] = run(module, 1, max(60.0, seconds))
        failed += verdict.startswith("FAILED")
        print(f"{module!s:<48} x1     {taken[module]:7.1f} s  {verdict}", flush=True)
    for number, module in enumerate(taken):
        share = (end - time.monotonic()) / (len(taken) - number)
        factor = int(share / taken[module])
        if factor < 1:
            continue
        verdict, spent = run(module, factor, share * _SLACK)
        failed += verdict.startswith("FAILED")
        print(f"{module!s:<48} x{factor:<5} {spent:7.1f} s  {verdict}", flush=True)
    return failed


def guided(seconds: float) -> int:
    """Every target for its share of the time; how many broke."""
    program = "guided.py"
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed (pip install '.[fuzz]'): targets are mutated without coverage as a guide")
        program = "mutate.py"
    failed = 0
    share = max(1, int(seconds / len(TARGETS)))
    for name in TARGETS:
        command = [sys.executable, f"tests/fuzz/{program}", name, str(share)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, timeout=share + _START, capture_output=True, text=True, check=False, errors="replace"
            )
        except subprocess.TimeoutExpired:
            print(f"{name:<24} stopped", flush=True)
            continue
        said = done.stdout + done.stderr
        runs = next((line for line in said.splitlines() if " runs" in line), "")
        verdict = runs if done.returncode == 0 else f"FAILED, see tests/fuzz/found\n{said[-6000:]}"
        failed += done.returncode != 0
        print(f"{name:<24} {verdict}", flush=True)
    return failed


def main(seconds: float) -> int:
    """Both halves; the exit status."""
    failed = properties(seconds / 2) + guided(seconds / 2)
    print(f"{failed} failed" if failed else "nothing was found")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("IMSALG_FUZZ_SECONDS", "300"))))
