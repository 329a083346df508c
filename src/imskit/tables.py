"""What ``show`` commands print: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 240  # columns where nobody looks at the width: a pipe or a file


def console() -> Console:
    """Standard output, as wide as the terminal; wide where it is none."""
    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=_WIDE)


def print_json(value: Any) -> None:
    """Indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, more: str = "") -> None:
    """Rows under ``columns``, or the sentence ``empty``; ``more`` is a line below. Cells are text, never markup."""
    out = console()
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    if table.row_count:
        out.print(table)
    else:
        out.print(Text(empty))
    if more:
        out.print(Text(more))


def print_facts(title: str, facts: Iterable[tuple[str, object]]) -> None:
    """A heading and what belongs to it, one line each; what is empty is left out."""
    out = console()
    out.print(Text(title, style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    for name, value in facts:
        if value not in (None, "", [], ()):
            table.add_row(Text(name), Text(cell(value)))
    out.print(table)


def cell(value: object) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return duration(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value) or "-"
    return str(value)


def duration(seconds: float) -> str:
    """``4.2 s``, ``3 min 07 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, name, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below:02d} {small}"
    return f"{whole} s"


def octets(count: int) -> str:
    """``812 B``, ``1.4 kB``, ``3.1 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
