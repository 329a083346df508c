"""A daemon as a process of its own: started, awaited until ready, ended in order."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

_READY_LIMIT = 65_536
_PR_SET_PDEATHSIG = 1


class LabError(Exception):
    """Something of the lab did not start or did not behave; the text says what and where to look."""


class DaemonProcess:
    """``python -m <module> <arguments> --ready-fd N`` with its output in a log file.

    The process is its own process group, so that Ctrl-C in the terminal reaches the lab alone and the lab ends its
    processes in its own order.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self.ready: dict[str, Any] = {}
        self._arguments = tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self, deadline: float = 15.0) -> dict[str, Any]:
        """Start and wait for the ready line; returns it decoded. Raises :class:`LabError` with the end of the log."""
        reading, writing = os.pipe()
        try:
            with self.log.open("ab") as out:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    *self._arguments,
                    "--ready-fd",
                    str(writing),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    pass_fds=(writing,),
                    start_new_session=True,
                    env=environment(),
                    preexec_fn=_die_with_parent,
                )
        except OSError as error:
            os.close(reading)
            raise LabError(f"{self.name} cannot be started: {error}") from None
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(deadline):
                line = await _read_line(reading)
        except TimeoutError:
            await self.stop(0.0)
            raise LabError(f"{self.name} was not ready after {deadline:.0f} s; {self.log_tail()}") from None
        finally:
            os.close(reading)
        if not line.strip():
            status = await self.wait(2.0)
            raise LabError(f"{self.name} ended with status {status} before it was ready; {self.log_tail()}")
        self.ready = msgspec.json.decode(line, type=dict[str, Any])
        return self.ready

    async def stop(self, grace: float = 8.0) -> int | None:
        """SIGTERM, and after ``grace`` seconds SIGKILL; returns the exit status."""
        process = self._process
        if process is None or process.returncode is not None:
            return process.returncode if process is not None else None
        if grace > 0:
            process.terminate()
            if await self.wait(grace) is not None:
                return process.returncode
        self.kill()
        return await self.wait(5.0)

    def kill(self) -> None:
        """SIGKILL to the process and what it started."""
        if self._process is not None and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def pause(self) -> None:
        """SIGSTOP: the process lives and does nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the log, with its path."""
        try:
            text = self.log.read_text("utf-8", "replace").strip()
        except OSError:
            text = ""
        tail = "\n".join(text.splitlines()[-lines:])
        return f"its log {self.log} ends with:\n{tail}" if tail else f"its log {self.log} is empty"

    async def wait(self, deadline: float) -> int | None:
        """The exit status, None where the process lives longer than ``deadline`` seconds."""
        if self._process is None:
            return None
        try:
            async with asyncio.timeout(deadline):
                return await self._process.wait()
        except TimeoutError:
            return None


def _die_with_parent() -> None:
    """In the child: SIGTERM when the lab dies without having stopped it (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def environment() -> dict[str, str]:
    """The environment for a process of the same packages as this one, installed or run from the source tree."""
    here = str(Path(__file__).resolve().parents[1])
    known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != here]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, *known]), "PYTHONUNBUFFERED": "1"}


async def _read_line(descriptor: int) -> bytes:
    """Bytes up to a line end or the end of the pipe."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()
    data = bytearray()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            piece = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        data.extend(piece)
        if (not piece or b"\n" in piece or len(data) > _READY_LIMIT) and not done.done():
            done.set_result(bytes(data).partition(b"\n")[0])

    loop.add_reader(descriptor, readable)
    try:
        return await done
    finally:
        loop.remove_reader(descriptor)
