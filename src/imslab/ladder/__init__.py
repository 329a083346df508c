"""The ladder of a call, drawn from the structured traces of the daemons: read, group, draw."""

from imslab.ladder.group import build_ladders
from imslab.ladder.model import Arrow, Column, Item, Ladder, Note, Tone
from imslab.ladder.read import TraceError, TraceLine, read_traces

__all__ = [
    "Arrow",
    "Column",
    "Item",
    "Ladder",
    "Note",
    "Tone",
    "TraceError",
    "TraceLine",
    "build_ladders",
    "read_traces",
]
