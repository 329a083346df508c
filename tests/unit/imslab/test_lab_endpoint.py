"""A local end of a media connection whose peer takes the connection elsewhere."""

import asyncio
import socket

import pytest

from imskit.tls import Identity
from imslab.ue.endpoint import Endpoint, Surroundings
from imslab.ue.options import MediaOptions
from imswire.sdp.attributes import Setup


def connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 5.0)
    client.setblocking(False)
    return client


@pytest.mark.parametrize("moves", [True, False])
def test_a_connection_seen_before_the_end_of_the_other_is_its_successor_or_a_strangers(moves: bool) -> None:
    async def main() -> None:
        linked: asyncio.Queue[None] = asyncio.Queue()
        around = Surroundings("127.0.0.1", Identity.generate(), MediaOptions())
        end = Endpoint(around, on_link=lambda: linked.put_nowait(None), on_fail=pytest.fail)
        end.role = Setup.PASSIVE
        end.moves = moves
        end.listen()
        loop = asyncio.get_running_loop()
        with connected(end.port) as first, connected(end.port) as second:
            async with asyncio.timeout(10):
                await linked.get()
                link = end.take()
                assert link is not None
                if not moves:
                    assert await loop.sock_recv(second, 1) == b""
                    end.close()
                    link.close()
                    return
                first.close()
                await link.closed
                end.again(("127.0.0.1", 9))
                await linked.get()
            successor = end.take()
            assert successor is not None
            assert successor is not link
            end.close()
            successor.close()

    asyncio.run(main())
