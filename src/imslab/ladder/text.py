"""The ladder as text: box drawing on four lifelines, styled for a terminal by rich, plain when written to a file."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.text import Text

from imslab.ladder.describe import human_bytes
from imslab.ladder.model import Arrow, Column, Ladder, Note, Tone

MINIMUM_WIDTH = 72
MAXIMUM_WIDTH = 160

STYLES: dict[Tone, str] = {
    Tone.REQUEST: "bold cyan",
    Tone.PROVISIONAL: "cyan",
    Tone.SUCCESS: "bold green",
    Tone.FAILURE: "bold red",
    Tone.H248: "magenta",
    Tone.TCP: "blue",
    Tone.HELD: "yellow",
    Tone.TLS: "bright_green",
    Tone.VERIFIED: "bold bright_green",
    Tone.BYTES: "bold",
    Tone.PLAIN: "default",
}
_STROKES: dict[Tone, str] = {Tone.H248: "╌", Tone.TCP: "┄", Tone.HELD: "┄", Tone.TLS: "═"}
_LIFELINE = "grey50"
_DETAIL = "dim"
_TIME_WIDTH = 8


class _Canvas:
    """One row of characters with a style each; later writes overlay earlier ones."""

    def __init__(self, width: int) -> None:
        self._cells = [" "] * width
        self._styles = [""] * width

    def put(self, x: int, text: str, style: str = "") -> None:
        for offset, character in enumerate(text):
            if 0 <= x + offset < len(self._cells):
                self._cells[x + offset] = character
                self._styles[x + offset] = style

    def text(self) -> Text:
        last = max((i for i, cell in enumerate(self._cells) if cell != " "), default=-1)
        row = Text(no_wrap=True, end="")
        run_start = 0
        for index in range(last + 2):
            ended = index > last
            if ended or self._styles[index] != self._styles[run_start]:
                row.append("".join(self._cells[run_start:index]), self._styles[run_start] or None)
                run_start = index
            if ended:
                break
        return row


class TextLadder:
    """Lays one ladder out for ``width`` character cells (held between 72 and 160)."""

    def __init__(self, ladder: Ladder, width: int = 120) -> None:
        self.ladder = ladder
        self.width = max(MINIMUM_WIDTH, min(width, MAXIMUM_WIDTH))
        # A narrow terminal has no room for the addresses below the names.
        self.addresses = ladder.addresses if self.width >= 100 else ("", "", "", "")
        heads = [max(len(name), len(address)) + 4 for name, address in zip(ladder.names, self.addresses, strict=True)]
        left = _TIME_WIDTH + 2 + min(max(heads[0], 10), 24) // 2
        right = self.width - 1 - min(max(heads[3], 8), 24) // 2
        room = right - left
        # The gap between IMS-ALG and IMS-AGW holds the longest labels (H.248), the last one only TCP and TLS.
        first, second = round(room * 0.35), round(room * 0.36)
        self.xs = (left, left + first, left + first + second, right)

    def rows(self) -> list[Text]:
        """All rows, top to bottom, without line ends."""
        rows = [*self._heading(), *self._heads(top=True)]
        previous: float | None = None
        for item in self.ladder.items:
            stamp = "" if previous is not None and f"{item.at:.3f}" == f"{previous:.3f}" else f"{item.at:.3f}"
            rows += self._arrow(item, stamp) if isinstance(item, Arrow) else self._note(item, stamp)
            previous = item.at
        return [*rows, *self._heads(top=False), *self._summary()]

    def _row(self) -> _Canvas:
        row = _Canvas(self.width)
        for x in self.xs:
            row.put(x, "│", _LIFELINE)
        return row

    def _heading(self) -> list[Text]:
        ladder = self.ladder
        when = datetime.fromtimestamp(ladder.started).strftime("%H:%M:%S.%f")[:-3]
        rest = " · ".join(part for part in (f"Call-ID {ladder.call_id}" if ladder.call_id else "", when) if part)
        title = Text(ladder.title[: self.width], style="bold")
        tail = rest if len(ladder.title) + 3 + len(rest) <= self.width else when
        if len(ladder.title) + 3 + len(tail) <= self.width:
            title.append(f" · {tail}", style="not bold dim")
        return [title, Text("")]

    def _heads(self, *, top: bool) -> list[Text]:
        names, addresses = self.ladder.names, self.addresses
        rows = [_Canvas(self.width) for _ in range(4 if any(addresses) else 3)] if top else [_Canvas(self.width)]
        limits = self._head_limits()
        for x, name, address, limit in zip(self.xs, names, addresses, limits, strict=True):
            if not top:
                rows[0].put(x, "┴", _LIFELINE)
                rows[0].put(x - 2, "──", _LIFELINE)
                rows[0].put(x + 1, "──", _LIFELINE)
                continue
            texts = [_fit(name, limit), _fit(address, limit)][: len(rows) - 2]
            inner = max(len(text) for text in texts) + 2
            start = x - (inner + 2) // 2
            start = min(start, self.width - inner - 2)
            rows[0].put(start, "╭" + "─" * inner + "╮", _LIFELINE)
            for row, text, style in zip(rows[1:], texts, ("bold", _DETAIL), strict=False):
                row.put(start, "│", _LIFELINE)
                row.put(start + 1, text.center(inner), style)
                row.put(start + inner + 1, "│", _LIFELINE)
            rows[-1].put(start, "╰" + "─" * inner + "╯", _LIFELINE)
            rows[-1].put(x, "┬", _LIFELINE)
        return [row.text() for row in rows]

    def _head_limits(self) -> list[int]:
        outer = [2 * (self.xs[0] - 1) - 2, 2 * (self.width - 1 - self.xs[3]) - 2]
        gaps = [b - a for a, b in zip(self.xs, self.xs[1:], strict=False)]
        middle = [min(gaps[0], gaps[1]) - 6, min(gaps[1], gaps[2]) - 6]
        return [max(8, outer[0]), max(7, middle[0]), max(7, middle[1]), max(4, outer[1])]

    def _arrow(self, arrow: Arrow, stamp: str) -> list[Text]:
        low, high = sorted((self.xs[arrow.source], self.xs[arrow.target]))
        inner = high - low - 1
        style = STYLES[arrow.tone]
        above: list[str] = []
        title = arrow.title
        if len(title) > inner - 4:
            above = _wrap(title, inner - 2)
            title = ""
        rows = []
        for text in above:
            row = self._row()
            row.put(low + 1, f" {text} ".ljust(inner) if arrow_crosses(arrow) else f" {text}", style)
            rows.append(row)
        line = self._row()
        line.put(low + 1, self._shaft(arrow, title, inner), style)
        rows.append(line)
        for detail in _packed(arrow.details, inner - 2):
            for text in _wrap(detail, inner - 2, indent=2):
                row = self._row()
                row.put(low + 1, f" {text} ", _DETAIL)
                rows.append(row)
        rows[0].put(_TIME_WIDTH - len(stamp), stamp, _DETAIL)
        return [row.text() for row in rows]

    @staticmethod
    def _shaft(arrow: Arrow, title: str, inner: int) -> str:
        stroke = _STROKES.get(arrow.tone, "─")
        label = f" {title} " if title else ""
        rightwards = arrow.target > arrow.source
        lead, trail = "", ""
        if arrow.lost:
            (lead, trail) = ("", "✕ ") if rightwards else (" ✕", "")
        elif rightwards:
            lead, trail = "◀" if arrow.both else "", "▶"
        else:
            lead, trail = "◀", "▶" if arrow.both else ""
        room = inner - len(lead) - len(trail) - len(label)
        before = min(2, room)
        return lead + stroke * before + label + stroke * (room - before) + trail

    def _note(self, note: Note, stamp: str) -> list[Text]:
        x = self.xs[note.column]
        rows = []
        reach = (
            2 * min(x - _TIME_WIDTH - 2, self.width - x)
            if note.column in (Column.UE, Column.CORE)
            else self._reach(note.column)
        )
        texts = _balanced(note.text, max(16, reach - 4))
        for text in texts:
            row = self._row()
            label = f"┤ {text} ├" if len(texts) == 1 else f" {text} "
            row.put(self._note_start(note.column, len(label)), label, STYLES[note.tone])
            rows.append(row)
        rows[0].put(_TIME_WIDTH - len(stamp), stamp, _DETAIL)
        return [row.text() for row in rows]

    def _note_start(self, column: Column, length: int) -> int:
        """Centred on the lifeline, but clear of the neighbouring ones where that is possible."""
        start = self.xs[column] - length // 2
        last = (self.xs[column + 1] if column < Column.CORE else self.width) - 1
        first = (self.xs[column - 1] if column > Column.UE else _TIME_WIDTH) + 2
        return max(first, min(start, last - length))

    def _reach(self, column: Column) -> int:
        return self.xs[column + 1] - self.xs[column - 1] - 3

    def _summary(self) -> list[Text]:
        facts = self.ladder.facts
        parts = [*dict.fromkeys(facts.tls)]
        if facts.held:
            parts.append(f"early SYN held ×{facts.held}")
        if facts.verified:
            parts.append("fingerprint verified" + (f" ×{len(facts.verified)}" if len(facts.verified) > 1 else ""))
        if facts.mismatched:
            parts.append("fingerprint refused")
        if facts.to_core or facts.to_access:
            parts.append(f"{human_bytes(facts.to_core)} to core, {human_bytes(facts.to_access)} to UE")
        if not parts:
            return []
        style = STYLES[Tone.FAILURE if facts.mismatched else Tone.VERIFIED]
        return [Text(line, style=style) for line in textwrap.wrap(" · ".join(parts), self.width)]


def arrow_crosses(arrow: Arrow) -> bool:
    """True for an arrow that passes a lifeline that it does not touch."""
    return abs(arrow.source - arrow.target) > 1


def _fit(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_PIECE = re.compile(r"[^ =:@/,;]*[=:@/,;]?| ")


def _wrap(text: str, width: int, indent: int = 0) -> list[str]:
    """Lines of at most ``width`` characters; further lines are indented. A word longer than a line is cut after a
    separator.
    """
    width = max(8, width)
    lines: list[str] = []
    line = ""
    for word in text.split():
        if len(line) + 1 + len(word) <= width and line.strip():
            line += f" {word}"
            continue
        if line.strip():
            lines.append(line)
            line = " " * indent
        for piece in (part for part in _PIECE.findall(word) if part):
            if len(line) + len(piece) > width and line.strip():
                lines.append(line)
                line = " " * indent
            while len(line) + len(piece) > width:
                room = width - len(line)
                lines.append(line + piece[:room])
                line, piece = " " * indent, piece[room:]
            line += piece
    return [*lines, line] if line.strip() or not lines else lines


def _balanced(text: str, width: int) -> list[str]:
    """Wrapped into as few lines as ``width`` allows, and those of about equal length."""
    lines = _wrap(text, width)
    for narrower in range(-(-len(text) // len(lines)), width):
        tried = _wrap(text, narrower)
        if len(tried) == len(lines):
            return tried
    return lines


def _packed(details: Sequence[str], width: int) -> list[str]:
    """Short details joined on one line while they fit."""
    lines: list[str] = []
    for detail in details:
        if lines and len(lines[-1]) + 3 + len(detail) <= width:
            lines[-1] = f"{lines[-1]} · {detail}"
        else:
            lines.append(detail)
    return lines


def text_rows(ladder: Ladder, width: int = 120) -> list[Text]:
    """The rows of one ladder for a terminal ``width`` cells wide."""
    return TextLadder(ladder, width).rows()


def text_plain(ladders: Iterable[Ladder], width: int = 120) -> str:
    """Several ladders as plain text, one empty line between, with a final line end."""
    drawn: Sequence[str] = ["\n".join(row.plain.rstrip() for row in text_rows(ladder, width)) for ladder in ladders]
    return "\n\n".join(drawn) + "\n" if drawn else ""
