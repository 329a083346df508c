"""Traces: one JSON object per line about what crossed an interface (docs/tracing.md describes the lines)."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from imskit.logs import get_logger
from imskit.plain_json import to_json

log = get_logger("imskit.trace")

_FLUSH_AFTER = 0.2  # seconds that a line may wait in memory
_FLUSH_ABOVE = 65_536  # octets that may wait in memory


class Tracer:
    """Appends trace lines to a file; with no path it is disabled and every ``write`` returns at once.

    Callers on a fast path test ``tracer.enabled`` before they build fields. Lines are gathered and written by one
    ``write`` each time with O_APPEND, so that several processes may share a file without torn lines. A file that
    cannot be written loses lines (counted in ``lost``); it never stops a call.
    """

    def __init__(self, path: str | Path | None, node: str) -> None:
        self._path = Path(path) if path else None
        self.node = node
        self.enabled = self._path is not None
        self.lost = 0
        self._lines: list[bytes] = []
        self._octets = 0
        self._descriptor = -1
        self._timer: asyncio.TimerHandle | None = None
        if self.enabled:
            self._open()

    def write(self, kind: str, **fields: Any) -> None:
        """Add one line: ``t`` (Unix seconds), ``node``, ``kind`` and then ``fields`` (JSON values; others as text)."""
        if not self.enabled:
            return
        line = to_json({"t": round(time.time(), 6), "node": self.node, "kind": kind, **fields})
        self._lines.append(line)
        self._octets += len(line) + 1
        if self._octets >= _FLUSH_ABOVE:
            self.flush()
        elif self._timer is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # no loop (a command line tool, a plain test): nothing would flush later
                self.flush()
            else:
                self._timer = loop.call_later(_FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Write what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        lines, self._lines, self._octets = self._lines, [], 0
        data = b"\n".join(lines) + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            if self.lost == 0:
                log.warning("trace lines are lost", file=str(self._path), error=str(error))
            self.lost += len(lines)

    def reopen(self) -> None:
        """Flush, close and open the file again by its name (after a log rotation)."""
        if self.enabled:
            self.flush()
            os.close(self._descriptor)
            self._open()

    def close(self) -> None:
        """Flush and disable."""
        if self.enabled:
            self.flush()
            self.enabled = False
            os.close(self._descriptor)

    def _open(self) -> None:
        if self._path is not None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


DISABLED = Tracer(None, "")
