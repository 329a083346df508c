"""The ladder as SVG: one self-contained picture, readable on a light and on a dark page."""

import textwrap
from collections.abc import Sequence
from xml.sax.saxutils import escape

from imslab.ladder.model import Arrow, Column, Ladder, Note

_WIDTH = 1180
_XS = (150, 490, 850, 1110)
_LINE = 15
_CHARACTER = 6.7
_STYLE = """
svg { background: #ffffff }
text { font: 11.5px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #24292f }
.title { font-size: 15px; font-weight: bold } .name { font-weight: bold; text-anchor: middle } .address { fill:
#57606a; text-anchor: middle }
.time { fill: #8c959f; text-anchor: end } .detail { fill: #57606a } .life { stroke: #afb8c1; stroke-width: 1.2 }
.box { fill: #f6f8fa; stroke: #afb8c1 } .note { text-anchor: middle } .plate { fill: #ffffff; stroke: currentColor;
rx: 8 }
.request { color: #0969da } .provisional { color: #54aeff } .success { color: #1a7f37 } .failure { color: #cf222e }
.h248 { color: #8250df }
.tcp { color: #0550ae } .held { color: #9a6700 } .tls { color: #2da44e } .verified { color: #116329 } .bytes { color:
#24292f } .plain { color: #57606a }
.label { fill: currentColor; font-weight: 600 } .shaft { stroke: currentColor; stroke-width: 1.6; fill: none } .head
{ fill: currentColor; stroke: none }
.h248 .shaft { stroke-dasharray: 6 3 } .tcp .shaft, .held .shaft { stroke-dasharray: 2 3 } .tls .shaft {
stroke-width: 3 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .detail, .address { fill:
#8d96a0 } .life { stroke: #484f58 }
.box { fill: #161b22; stroke: #484f58 } .plate { fill: #0d1117 } .request { color: #58a6ff } .provisional { color:
#79c0ff } .success, .tls, .verified { color: #3fb950 }
.failure { color: #f85149 } .h248 { color: #d2a8ff } .tcp { color: #79c0ff } .held { color: #d29922 } .bytes { color:
#e6edf3 } .plain { color: #8d96a0 } }
"""


def _text(x: float, y: float, text: str, classes: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{classes}">{escape(text)}</text>'


def _wrap(text: str, pixels: float) -> list[str]:
    return textwrap.wrap(text, max(10, int(pixels / _CHARACTER)), break_on_hyphens=False) or [""]


def _arrow(arrow: Arrow, y: float) -> tuple[list[str], float]:
    """The arrow with its label above and its details below the shaft; returns what was drawn and the height used."""
    low, high = sorted((_XS[arrow.source], _XS[arrow.target]))
    out = [f'<g class="{arrow.tone.value}">']
    titles = _wrap(arrow.title, high - low - 20)
    for title in titles:
        y += _LINE
        out.append(_text(low + 10, y, title, "label"))
    y += 6
    rightwards = arrow.target > arrow.source
    start, end = (low, high) if rightwards else (high, low)
    step = 1 if rightwards else -1
    tip = end - step * (24 if arrow.lost else 0)
    first, last = start + (step * 9 if arrow.both else 0), tip - step * (0 if arrow.lost else 8)
    out.append(f'<path class="shaft" d="M{first} {y} H{last}"/>')
    if arrow.lost:
        out.append(f'<path class="shaft" style="stroke-dasharray:none" d="M{tip - 5} {y - 5} l10 10 m0 -10 l-10 10"/>')
    else:
        out.append(_head(end, y, step))
    if arrow.both:
        out.append(_head(start, y, -step))
    for detail in arrow.details:
        for text in _wrap(detail, high - low - 20):
            y += _LINE
            out.append(_text(low + 10, y, text, "detail"))
    out.append("</g>")
    return out, y + 7


def _head(x: float, y: float, step: int) -> str:
    return f'<path class="head" d="M{x} {y} l{-10 * step} -4.5 v9 z"/>'


def _note(note: Note, y: float) -> tuple[list[str], float]:
    x = float(_XS[note.column])
    texts = _wrap(note.text, 430 if note.column in (Column.ALG, Column.AGW) else 220)
    width = max(len(text) for text in texts) * _CHARACTER + 22
    left = min(x - width / 2, _WIDTH - width - 4)
    height = len(texts) * _LINE + 6
    place = f'x="{left:.0f}" y="{y + 5:.0f}" width="{width:.0f}" height="{height}"'
    out = [f'<g class="{note.tone.value}"><rect class="plate" {place}/>']
    for index, text in enumerate(texts):
        out.append(_text(left + width / 2, y + 18 + index * _LINE, text, "note label"))
    out.append("</g>")
    return out, y + height + 10


def _ladder(ladder: Ladder, top: float) -> tuple[list[str], float]:
    body: list[str] = []
    y = top + 86.0
    for item in ladder.items:
        body.append(_text(52, y + _LINE, f"{item.at:.3f}", "time"))
        drawn, y = _arrow(item, y) if isinstance(item, Arrow) else _note(item, y)
        body += drawn
    bottom = y + 12
    out = [_text(16, top + 22, ladder.title, "title")]
    for x, name, address in zip(_XS, ladder.names, ladder.addresses, strict=True):
        width = max(len(name), len(address)) * _CHARACTER + 24
        left = min(x - width / 2, _WIDTH - width - 4)
        out.append(f'<path class="life" d="M{x} {top + 78:.0f} V{bottom:.0f}"/>')
        out.append(f'<rect class="box" x="{left:.0f}" y="{top + 38:.0f}" width="{width:.0f}" height="40" rx="6"/>')
        out.append(_text(left + width / 2, top + (54 if address else 62), name, "name"))
        if address:
            out.append(_text(left + width / 2, top + 71, address, "address"))
    return out + body, bottom + 14


def svg(ladders: Sequence[Ladder]) -> str:
    """All ladders, one below the other, as one SVG document."""
    out: list[str] = []
    y = 0.0
    for ladder in ladders:
        drawn, y = _ladder(ladder, y)
        out += drawn
    size = f'width="{_WIDTH}" height="{y:.0f}" viewBox="0 0 {_WIDTH} {y:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *out, "</svg>"]) + "\n"
