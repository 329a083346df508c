"""One target under atheris: coverage of the project's code leads the mutations.

    python tests/fuzz/guided.py TARGET SECONDS [CORPUS-DIRECTORY]

An input that breaks a target is written to ``tests/fuzz/found/TARGET-...`` and the status is not 0; keep the file and
mend the code: ``tests/fuzz/test_found.py`` replays it from then on. What was learnt goes to CORPUS-DIRECTORY, if given.
Without atheris (``pip install '.[fuzz]'``) the status is 3.
"""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOUND = HERE / "found"
ABSENT = 3
DICTIONARY = "tokens.dict"


def main(name: str, seconds: int, corpus: Path) -> int:
    """Run libFuzzer on one target; it ends the process itself."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError as error:
        print(f"atheris cannot be used: {error}")
        return ABSENT
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    with atheris.instrument_imports(include=["imswire", "imsalg"]):
        targets: Any = importlib.import_module("tests.fuzz.targets")
    function, _ = targets.TARGETS[name]
    for number, sample in enumerate(targets.corpus(name)):
        (corpus / f"seed-{number}").write_bytes(sample)
    words = corpus.parent / DICTIONARY
    words.write_text("".join(f'"{"".join(f"\\x{octet:02x}" for octet in word)}"\n' for word in targets.TOKENS))
    FOUND.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=8192", f"-dict={words}"]
    report = ["-verbosity=1", "-print_final_stats=1", "-report_slow_units=5", f"-artifact_prefix={FOUND}/{name}-"]
    atheris.Setup([sys.argv[0], *options, *report, str(corpus)], function)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(sys.argv[3]) if len(sys.argv) == 4 else Path(folder) / "corpus"
        kept.mkdir(parents=True, exist_ok=True)
        raise SystemExit(main(sys.argv[1], int(sys.argv[2]), kept))
