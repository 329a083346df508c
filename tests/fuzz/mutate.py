"""The project's own mutation campaign, for where atheris is not to be had: blind, but of the same corpora and targets.

python tests/fuzz/mutate.py TARGET SECONDS [SEED]
"""

import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.fuzz.guided import FOUND  # noqa: E402  the path has to be set before
from tests.fuzz.targets import TARGETS, TOKENS, corpus  # noqa: E402


def mutated(chance: random.Random, samples: tuple[bytes, ...]) -> bytes:
    """A sample with a few places cut, stuffed, doubled, changed or joined with a piece of another."""
    out = bytearray(chance.choice(samples))
    for _ in range(chance.randint(1, 8)):
        at, length = chance.randint(0, len(out)), chance.randint(0, 40)
        match chance.randrange(6):
            case 0:
                del out[at : at + length]
            case 1:
                out[at:at] = chance.choice(TOKENS)
            case 2:
                out[at:at] = out[at : at + length] * chance.randint(1, 4)
            case 3:
                out[at : at + length] = chance.randbytes(chance.randint(0, 8))
            case 4:
                out[at : at + length] = chance.choice(TOKENS)
            case _:
                other = chance.choice(samples)
                start = chance.randint(0, len(other))
                out[at:at] = other[start : start + 4 * length]
    return bytes(out[:60_000])


def main(name: str, seconds: float, seed: int) -> int:
    """Mutate until the time is over or something breaks; the input is kept then, and the status is 1."""
    chance, samples, function = random.Random(seed), corpus(name), TARGETS[name][0]
    end, runs = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = mutated(chance, samples)
        runs += 1
        try:
            function(data)
        except Exception:
            FOUND.mkdir(exist_ok=True)
            path = FOUND / f"{name}-seed{seed}-run{runs}"
            path.write_bytes(data)
            print(f"{name}: run {runs} of seed {seed} broke it; the input is in {path}")
            raise
    print(f"{name}: {runs} runs, seed {seed}, nothing was found")
    return 0


if __name__ == "__main__":
    given = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 31)
    raise SystemExit(main(sys.argv[1], float(sys.argv[2]), given))
