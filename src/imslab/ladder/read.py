"""Reading the daemons' traces: JSON lines, merged by time (docs/tracing.md describes the kinds and fields)."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct


class TraceError(Exception):
    """A trace file that cannot be read, named with file and line."""


class Command(Struct, frozen=True, kw_only=True):
    """One H.248 command of a transaction, in short: what a reader of the ladder wants to know of it."""

    command: str
    context: int | str | None = None
    termination: str | None = None
    fields: tuple[str, ...] = ()


class TraceLine(Struct, frozen=True, kw_only=True):
    """One line of a trace. Every kind uses a part of the fields; the others keep their empty default.

    ``t`` is unix seconds; ``node`` is the writer (``imsalg``, ``agw``); ``call`` is the IMS-ALG's own key of a call,
    which
    differs between the originating and the terminating passage of one SIP call (one Call-ID) through it.
    """

    t: float
    node: str
    kind: str
    # sip, and what joins lines to calls
    dir: str | None = None
    realm: str | None = None
    peer: str | None = None
    user: str | None = None
    call_id: str | None = None
    call: str | int | None = None
    side: str | None = None
    cseq: str | None = None
    summary: str | None = None
    sdp: tuple[str, ...] = ()
    # h248
    gateway: str | None = None
    tid: int | str | None = None
    type: str | None = None
    commands: tuple[Command, ...] = ()
    # media
    context: int | str | None = None
    line: int | None = None
    termination: str | None = None
    what: str | None = None
    local: str | None = None
    count: int | None = None
    version: str | None = None
    cipher: str | None = None
    role: str | None = None
    hash: str | None = None
    expected: str | tuple[str, ...] | None = None
    seen: str | None = None
    subject: str | None = None
    a_to_c: int = 0
    c_to_a: int = 0
    seconds: float | None = None
    reason: str | None = None
    text: str | None = None


_decoder = msgspec.json.Decoder(TraceLine)


def read_line(data: bytes) -> TraceLine:
    """Decode one line; raises :class:`TraceError` saying what is wrong with it."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise TraceError(str(error)) from None


def read_traces(paths: Iterable[Path]) -> list[TraceLine]:
    """All lines of several trace files in time order (lines of equal time keep the order of the files).

    A last line without its line end is the unfinished write of a running daemon and is left out; any other line that
    does
    not decode raises :class:`TraceError` naming file and line number.
    """
    lines: list[TraceLine] = []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror or error}") from None
        for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
            if not raw.strip():
                continue
            try:
                lines.append(read_line(raw))
            except TraceError as error:
                raise TraceError(f"{path}, line {number}: {error}") from None
    return sorted(lines, key=lambda line: line.t)
