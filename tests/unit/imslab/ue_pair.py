"""Two UEs and the lab core on loopback, without P-CSCF and AGW; and one established call between them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

from imskit.driver import run
from imslab.core.server import CoreServer
from imslab.core.settings import CoreListen, CoreSettings
from imslab.ue.agent import Account, UeAgent, UeOptions
from imslab.ue.call import Call
from imslab.ue.media import MediaOptions

PASSWORDS = {"alice": "alice-secret", "bob": "bob-secret", "carol": "carol-secret"}
PORTS = (CoreListen("udp", port=0), CoreListen("tcp", port=0))
BOB = "sip:bob@lab.example"


@asynccontextmanager
async def ues(
    *users: str, media: MediaOptions | None = None, reliable: Literal["no", "supported", "required"] = "no"
) -> AsyncIterator[list[UeAgent]]:
    """Registered UEs."""
    async with CoreServer(CoreSettings(users=PASSWORDS, listen=PORTS)) as server:
        host, port = server.addresses["udp"]
        agents = []
        try:
            for user in users:
                account = Account(user, PASSWORDS[user], registrar=f"sip:{host}:{port}")
                agents.append(UeAgent(account, UeOptions(media=media or MediaOptions(), reliable=reliable)))
                await agents[-1].start()
                await agents[-1].register()
            yield agents
        finally:
            for agent in agents:
                await agent.close()


async def call(caller: UeAgent, called: UeAgent, media: MediaOptions, answer: MediaOptions | None = None) -> list[Call]:
    """An answered call, both ends of it."""
    outgoing = caller.dial(called.account.aor, media)
    incoming = await called.wait_call()
    incoming.accept(answer or media)
    await outgoing.answered()
    await incoming.confirmed
    return [outgoing, incoming]


async def talks(one: Call, other: Call, line: int = 0) -> None:
    """A text each way over an MSRP line."""
    for sender, receiver in ((one, other), (other, one)):
        await sender.media.chats[line].send_text(f"line {line}")
        assert (await receiver.media.chats[line].receive()).text == f"line {line}"


def on_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on the loop the product runs on."""

    async def limited() -> int:
        async with asyncio.timeout(20):
            await main()
        return 0

    assert run(limited()) == 0


__all__ = ["BOB", "call", "on_loop", "replace", "talks", "ues"]
