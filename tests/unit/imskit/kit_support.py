"""What the tests of sockets share: a loop with a deadline, a recorder of events, TLS files."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from imskit.driver import run
from imskit.tls import Identity

DEADLINE = 10.0
HOSTS = {"IPv4": "127.0.0.1", "IPv6": "::1"}


def on_loop[**P](test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test on uvloop, with a deadline for the whole."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> int:
            async with asyncio.timeout(DEADLINE):
                await test(*args, **kwargs)
            return 0

        assert run(main()) == 0

    return wrapper


class Side:
    """A recorder of callbacks as a queue of (kind, peer, value)."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, Any, Any]] = asyncio.Queue()

    def tell(self, kind: str) -> Callable[..., None]:
        """A callback that records itself as ``kind``."""
        return lambda peer, value=None: self.events.put_nowait((kind, peer, value))

    async def expect(self, kind: str) -> tuple[Any, Any]:
        """The next event of this kind; events of other kinds before it are passed over."""
        while True:
            seen, peer, value = await self.events.get()
            if seen == kind:
                return peer, value

    async def next(self) -> tuple[str, Any, Any]:
        """The next event, whatever it is."""
        return await self.events.get()

    async def messages(self, count: int) -> list[bytes]:
        return [bytes((await self.expect("message"))[1]) for _ in range(count)]


class Files(NamedTuple):
    """A certificate for both loopback addresses, and its key."""

    certificate: Path
    key: Path


def make_files(where: Path, name: str = "node") -> Files:
    made = Files(where / f"{name}.cert.pem", where / f"{name}.key.pem")
    Identity.generate(name, hosts=HOSTS.values()).save(*made)
    return made
