"""The three formats of ``imslab ladder`` behind one door, and the choice of calls."""

from collections.abc import Sequence
from enum import StrEnum

from imslab.ladder.mermaid import mermaid
from imslab.ladder.model import Ladder
from imslab.ladder.svg import svg
from imslab.ladder.text import text_plain


class Format(StrEnum):
    """What ``--format`` takes."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"


class Passage(StrEnum):
    """What ``--passage`` takes: a call from one UE to another crosses the P-CSCF twice."""

    ORIGINATING = "originating"
    TERMINATING = "terminating"


def choose(
    ladders: Sequence[Ladder],
    *,
    call: str | None = None,
    passage: Passage | None = None,
    registrations: bool = False,
) -> list[Ladder]:
    """The ladders asked for: one Call-ID (or its beginning), one passage, else all calls; registrations on demand."""
    if call:
        ladders = [ladder for ladder in ladders if ladder.call_id.startswith(call)]
    elif not registrations:
        ladders = [ladder for ladder in ladders if ladder.kind not in ("registration", "other")]
    return [ladder for ladder in ladders if passage is None or ladder.kind == passage]


def export(ladders: Sequence[Ladder], form: Format, width: int = 120) -> str:
    """The ladders as one document of that format, ending with a line end."""
    match form:
        case Format.TEXT:
            return text_plain(ladders, width)
        case Format.MERMAID:
            return "\n".join(mermaid(ladder) for ladder in ladders)
        case Format.SVG:
            return svg(ladders)
