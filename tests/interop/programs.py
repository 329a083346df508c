"""Foreign programs as the tests use them: started with a log, awaited by what they say, ended by us."""

import functools
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

DEADLINE = 20.0
BEAT = 0.02
"""How often a log file is looked at."""


_given: dict[str, int] = {}
"""The next port to try, by host."""


def own_address(last: int) -> str:
    """A loopback address that no other test process uses, so that its ports are ours alone."""
    return f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}.{last}"


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip, and say so, where ``program`` is not installed."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"needs the program {program} (Debian package {package})"
    )


@functools.cache
def known_ports() -> frozenset[int]:
    """Ports at which tshark expects some protocol: it would read what we send there as that."""
    if shutil.which("tshark") is None:
        return frozenset()
    told = subprocess.run(["tshark", "-G", "decodes"], capture_output=True, text=True, timeout=60, check=True)
    rows = (line.split("\t") for line in told.stdout.splitlines())
    return frozenset(int(row[1]) for row in rows if row[0] in ("tcp.port", "udp.port") and row[1].isdigit())


def ports_of(host: str, count: int) -> list[int]:
    """``count`` ports of ``host`` that are free for UDP and TCP, outside the range that the system hands out.

    None is given twice: a program may take a while until it opens its port.
    """
    found: list[int] = []
    for port in range(_given.get(host, 10_000 + os.getpid() % 2_000), 30_000):
        if port in known_ports():
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((host, port))
                udp.bind((host, port))
            except OSError:
                continue
        found.append(port)
        _given[host] = port + 1
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports on {host}")


class Program:
    """One running program. Everything it writes is in ``log``; ``tell`` writes a line to its input."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, *, name: str = "", env: dict[str, str] | None = None
    ) -> None:
        self.name = name or Path(command[0]).name
        self.log = folder / f"{self.name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._seen = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """The end of its log, for failures."""
        return f"{self.name} (log {self.log}) ends with:\n" + "\n".join(self.said().splitlines()[-lines:])

    def mark(self) -> None:
        """What was written up to now does not count for the next :meth:`wait_for`."""
        self._seen = len(self.said())

    def wait_for(self, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """Until it has written something new that matches; fails with the end of its log."""
        end = time.monotonic() + deadline
        while True:
            ended = self.ended(BEAT)
            found = re.compile(pattern, re.MULTILINE).search(self.said(), self._seen)
            if found is not None:
                self._seen = found.end()
                return found
            if ended or time.monotonic() > end:
                pytest.fail(f"{self.name} {'ended and' if ended else ''} did not say {pattern!r}. {self.tail()}")

    def tell(self, line: str) -> None:
        """One line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def ended(self, deadline: float) -> bool:
        """Whether it ends within so many seconds."""
        try:
            self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            return False
        return True

    def status(self, deadline: float = DEADLINE) -> int:
        """Its exit status; fails where it goes on for longer."""
        if not self.ended(deadline):
            self.stop()
            pytest.fail(f"{self.name} did not end. {self.tail()}")
        return self._process.returncode

    def stop(self, grace: float = 3.0) -> None:
        """SIGTERM, and SIGKILL to one that does not listen."""
        if self._process.poll() is None:
            self._process.terminate()
            if not self.ended(grace):
                self._process.kill()
                self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
