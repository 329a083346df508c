"""Every input that once broke a target, kept in ``tests/fuzz/found`` as ``TARGET-...``: it breaks it no more."""

from pathlib import Path

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).with_name("found")


def test_what_was_found_breaks_nothing_any_more() -> None:
    for path in sorted(FOUND.glob("*-*")):
        name = max((name for name in TARGETS if path.name.startswith(f"{name}-")), key=len)
        try:
            TARGETS[name][0](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path.name} breaks {name} again") from error
