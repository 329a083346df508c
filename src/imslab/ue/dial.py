"""Opening a TCP connection so that one can tell when the SYN has left and when the answer came."""

import asyncio
import errno
import os
import socket


async def connect(
    local: tuple[str, int], remote: tuple[str, int], syn_sent: asyncio.Event, deadline: float
) -> socket.socket:
    """A connected non-blocking socket, bound to ``local`` (port 0: any).

    ``syn_sent`` is set as soon as the kernel has sent the first SYN, answered or not; it goes on repeating it.
    Raises OSError
    or, after ``deadline`` seconds without an answer, TimeoutError.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(local)
        status = sock.connect_ex(remote)
        syn_sent.set()
        if status == errno.EINPROGRESS:
            async with asyncio.timeout(deadline):
                status = await _outcome(sock)
        if status != 0:
            raise OSError(status, os.strerror(status))
    except BaseException:
        sock.close()
        raise
    return sock


async def _outcome(sock: socket.socket) -> int:
    """The error number of a connection attempt, 0 for success."""
    loop = asyncio.get_running_loop()
    decided: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), lambda: None if decided.done() else decided.set_result(None))
    try:
        await decided
    finally:
        loop.remove_writer(sock.fileno())
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
