"""Sessions leave nothing to the garbage collector: under load that never falls it seldom comes, and then for long."""

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agw.agw_support import MALLORY, UE, Rig, fingerprints, on_loop, rig, until

from agw.core import orders
from agw.core.orders import PathSwap
from agw.settings import TlsSettings
from imskit.clock import ManualClock

SESSIONS = 5
UE_PATH, OWN, OURS, PEER = "msrps://u:1/a;tcp", "msrps://g:2/b;tcp", "msrp://g:3/a;tcp", "msrp://p:4/b;tcp"
SWAPS = (PathSwap("b", OWN, PEER, OURS), PathSwap("a", OURS, UE_PATH, OWN))

# The UE and its peer live in another process, so that what is left behind here is the gateway's. One line in for each
# session (how it ends, port of the gateway), one line out when the UE has done its part.
PEERS = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(sys.argv[1], sys.argv[2])
core = socket.create_server(("127.0.0.1", 0))
core.settimeout(10)
print(core.getsockname()[1], flush=True)
for line in sys.stdin:
    how, port = line.split()
    raw = socket.create_connection(("127.0.0.1", int(port)), 10)
    try:
        if how == "nonsense":
            raw.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            while raw.recv(100):
                pass
        elif how == "gone":
            raw.close()
        else:
            with context.wrap_socket(raw) as tls:
                if how == "impostor":
                    tls.recv(100)
                peer, _ = core.accept()
                with peer:
                    tls.sendall(sys.argv[3].encode())
                    peer.sendall(sys.argv[4].encode())
                    peer.recv(1000), tls.recv(1000)
                    if how == "reset":
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
                    elif how == "close-notify":
                        peer.shutdown(socket.SHUT_WR)
                        tls.unwrap()
                    elif how == "no-msrp":
                        tls.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                        tls.recv(100)
                    elif how == "release":
                        print("up", flush=True)
                        while tls.recv(100):
                            pass
                    if how == "ue":
                        tls.close()
    except OSError:
        pass
    finally:
        raw.close()
        print("done", flush=True)
"""

MESSAGE = f"MSRP t1 SEND\r\nTo-Path: {OWN}\r\nFrom-Path: {UE_PATH}\r\nByte-Range: 1-0/0\r\n-------t1$\r\n"
BACK = f"MSRP t2 SEND\r\nTo-Path: {OURS}\r\nFrom-Path: {PEER}\r\nByte-Range: 1-0/0\r\n-------t2$\r\n"


class Peers:
    """The process of the peers."""

    def __init__(self, folder: Path) -> None:
        UE.save(folder / "ue.pem", folder / "ue.key")
        command = [sys.executable, "-c", PEERS, str(folder / "ue.pem"), str(folder / "ue.key"), MESSAGE, BACK]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.port = int(self.process.stdout.readline())  # type: ignore[union-attr]

    def begin(self, how: str, port: int) -> None:
        self.process.stdin.write(f"{how} {port}\n")  # type: ignore[union-attr]

    async def until(self, word: str) -> None:
        read = self.process.stdout.readline  # type: ignore[union-attr]
        while await asyncio.to_thread(read) not in (f"{word}\n", ""):
            pass

    def end(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]
        self.process.wait(10)


async def session(r: Rig, peers: Peers, leg: int, how: str, swaps: Any) -> None:
    """One session from the listening port to the release of both legs."""
    core = leg + 1
    peers.begin(how, r.listen(leg))
    await r.wait(orders.Accepted, leg)
    r(orders.ArmTls(leg, "server", fingerprints(MALLORY if how == "impostor" else UE)))
    if how in ("nonsense", "gone", "impostor"):
        await r.wait((orders.TlsFailed, orders.VerifyFailed), leg)
    else:
        await r.wait(orders.TlsOpen, leg)
        r.listen(core)
        await r.dial(core, peers.port)
        r(orders.StartRelay(leg, core, None, swaps))
        if how == "release":
            await peers.until("up")
        else:
            await until(lambda: r.seen(orders.RelayEnded, leg) or r.seen(orders.RelayEnded, core))
    r(orders.Release(leg))
    r(orders.Release(core))
    await peers.until("done")

    def over() -> bool:
        r.clock.advance(0.25)  # one look of the ticker: the peers have closed
        return not any(r.executor.held.values())

    await until(over)
    r.reports.clear()


async def left_behind(r: Rig, peers: Peers, how: str, swaps: Any) -> Counter[str]:
    """What sessions of a kind left to the collector, by type; what the first one of a kind makes once may stay."""
    await session(r, peers, 1, how, swaps)
    gc.collect()
    gc.disable()
    try:
        for number in range(1, SESSIONS + 1):
            await session(r, peers, 10 * number, how, swaps)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(type(found).__name__ for found in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


KINDS = ("ue", "core", "reset", "close-notify", "release", "nonsense", "gone", "impostor")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_no_session_leaves_anything_to_the_collector(tmp_path: Path, version: Any) -> None:
    async def main() -> None:
        peers, clock = Peers(tmp_path), ManualClock()
        try:
            async with rig(TlsSettings(min_version=version, max_version=version), clock=clock) as r:
                r.clock = clock
                for how in KINDS:
                    found = await left_behind(r, peers, how, None)
                    assert not found, f"{how}: {found}"
        finally:
            peers.end()

    on_loop(main)


def test_no_aware_session_leaves_anything_to_the_collector(tmp_path: Path) -> None:
    async def main() -> None:
        peers, clock = Peers(tmp_path), ManualClock()
        try:
            async with rig(clock=clock) as r:
                r.clock = clock
                for how in ("ue", "core", "release", "no-msrp"):
                    found = await left_behind(r, peers, how, SWAPS)
                    assert not found, f"{how}: {found}"
        finally:
            peers.end()

    on_loop(main)
