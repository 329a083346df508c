"""The documents name real code and real tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "docs" / "conformance.md"
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::([\w\[\]-]+))?`")
CODE_NAME = re.compile(r"`((?:imswire|imskit|imsalg|agw|imslab)(?:/[\w]+)+\.py)(?::([\w.]+))?`")
STEPS = {"5.2.1.2.2": 21, "5.2.1.2.3": 18, "5.2.1.3.2": 18, "5.2.1.3.3": 18}


def defined(path: Path) -> set[str]:
    """Names of functions, classes and methods (``Class.method`` and ``method``) that a source file defines."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
            names.update(f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_the_tests_named_in_the_conformance_page_exist() -> None:
    named = TEST_NAME.findall(CONFORMANCE.read_text())
    assert named
    gone = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or (name and name.split("[")[0] not in defined(ROOT / path))
    ]
    assert gone == []


def test_the_code_named_in_the_conformance_page_exists() -> None:
    named = CODE_NAME.findall(CONFORMANCE.read_text())
    assert named
    gone = [
        f"{path}:{name}"
        for path, name in named
        if not (ROOT / "src" / path).is_file() or (name and name not in defined(ROOT / "src" / path))
    ]
    assert gone == []


@pytest.mark.parametrize("clause", STEPS)
def test_every_step_of_the_flows_has_a_row(clause: str) -> None:
    section = CONFORMANCE.read_text().split(f"## {clause} ")[1].split("\n## ")[0]
    seen: set[int] = set()
    for row in re.findall(r"^\| ([\d-]+) \|", section, re.MULTILINE):
        first, _, last = row.partition("-")
        seen.update(range(int(first), int(last or first) + 1))
    assert seen == set(range(1, STEPS[clause] + 1))


def test_no_page_names_a_missing_file() -> None:
    gone = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                gone.append(f"{page.name}: {target}")
    assert gone == []
