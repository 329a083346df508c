"""What can be done to the edge: its links cut, its processes killed, its ports filled, its sockets abused."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from pathlib import Path

from imskit.driver import spawn

_PIECE = 65_536


class Forwarder:
    """A TCP forwarder that can be cut: all its connections end, and new ones are refused, until it is mended."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.address: tuple[str, int] = ("", 0)
        self.is_cut = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()[:2]

    def cut(self) -> None:
        """Cut the cable."""
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self.is_cut = False

    async def close(self) -> None:
        """Stop."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            other = spawn(self._pump(there, writer), name="forward back")
            await self._pump(reader, back)
            await other
        finally:
            self._writers -= {writer, back}

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_PIECE):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


def children(pid: int) -> list[int]:
    """The processes that ``pid`` started and that live, oldest first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def kill(pid: int) -> None:
    """SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class HalfOpen:
    """TCP connections that say nothing, or half of something."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    async def open(self, address: tuple[str, int], count: int, say: bytes = b"") -> int:
        """So many more to ``address``; returns how many were made."""
        made = 0
        for _ in range(count):
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                async with asyncio.timeout(2.0):
                    await asyncio.get_running_loop().sock_connect(sock, address)
                if say:
                    sock.send(say)
            except (OSError, TimeoutError):
                sock.close()
                continue
            self._sockets.append(sock)
            made += 1
        return made

    def received(self) -> bytes:
        """What they were sent meanwhile."""
        out = bytearray()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                while piece := sock.recv(_PIECE):
                    out += piece
        return bytes(out)

    def close(self) -> None:
        """Reset all of them."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()


def garbage_datagrams(address: tuple[str, int], count: int) -> None:
    """UDP datagrams of random octets, and of SIP that is cut off."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(count):
            data = (
                secrets.token_bytes(200) if number % 2 else b"INVITE sip:x SIP/2.0\r\nVia: " + secrets.token_bytes(40)
            )
            sock.sendto(data, address)
