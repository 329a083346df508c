"""One question and one answer for each connection, bounded in number and time: what the admin socket and the metrics
server have in common."""

import asyncio
from collections.abc import Awaitable, Callable

from imskit.logs import get_logger

log = get_logger("imskit.exchange")

SECONDS = 5.0
"""For a whole exchange."""
CONNECTIONS = 16
"""At a time; further ones are dropped."""


class Exchanges:
    """The connections of one server. ``answer(reader)`` reads the question and gives the octets of the answer."""

    def __init__(self, name: str, answer: Callable[[asyncio.StreamReader], Awaitable[bytes]]) -> None:
        self._name = name
        self._answer = answer
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection, for :func:`asyncio.start_server`."""
        if len(self._writers) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError) as error:
            log.debug("exchange failed", server=self._name, error=str(error))
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def abort(self) -> None:
        """End what goes on."""
        for writer in self._writers:
            writer.transport.abort()
