"""docs/tracing.md shows lines that its readers take."""

import json
from pathlib import Path

from imslab.ladder.read import read_line

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "tracing.md").read_text()
KINDS = {"sip", "h248", "bind", "call", "tcp", "tls", "verify", "bytes"}


def test_the_example_lines_are_read_by_the_ladder_and_use_documented_fields() -> None:
    examples = PAGE.split("```json\n")[1].split("```")[0].splitlines()
    assert len(examples) == 6
    for text in examples:
        line = read_line(text.encode())
        assert line.kind in KINDS
        undocumented = [field for field in json.loads(text) if f"| `{field}` |" not in PAGE]
        assert undocumented == []


def test_every_kind_has_a_section() -> None:
    headings = [line for line in PAGE.splitlines() if line.startswith("##")]
    assert {kind for kind in KINDS if any(f"`{kind}`" in heading for heading in headings)} == KINDS
