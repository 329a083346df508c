"""OpenSSL's own s_client and s_server as the UE's TLS end, in both TLS versions."""

import asyncio
import functools
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Literal

import pytest
from tests.unit.agw.agw_support import (
    DEADLINE,
    UE,
    Rig,
    accept,
    connect,
    fingerprints,
    listener,
    on_loop,
    read_all,
    rig,
    until,
)

from agw.core import orders
from imskit.tls import Identity

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl (Debian package openssl)"),
]


def files(folder: Path, identity: Identity) -> list[str]:
    identity.save(folder / "ue.crt", folder / "ue.key")
    return ["-cert", str(folder / "ue.crt"), "-key", str(folder / "ue.key")]


def openssl(command: str, options: str, version: str, folder: Path) -> subprocess.Popen[bytes]:
    tls = f"-tls{version.replace('.', '_')}"
    return subprocess.Popen(
        ["openssl", command, *options.split(), tls, "-quiet", *files(folder, UE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def dialled(r: Rig, leg: int) -> bool:
    return bool(r.seen(orders.Connected, leg) or r.seen(orders.DialFailed, leg))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_s_client_connects_to_the_gateway(tmp_path: Path, version: Literal["1.2", "1.3"]) -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            process = openssl("s_client", f"-connect 127.0.0.1:{port} -verify_quiet", version, tmp_path)
            try:
                await talk(r, process, "server")
                assert r.seen(orders.TlsOpen, 1)[0].version == f"TLSv{version}"
            finally:
                process.kill()
                process.wait(DEADLINE)

    on_loop(main)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_gateway_connects_to_s_server(tmp_path: Path, version: Literal["1.2", "1.3"]) -> None:
    async def main() -> None:
        async with rig() as r:
            port = free_port()
            process = openssl("s_server", f"-accept 127.0.0.1:{port} -Verify 1 -naccept 1", version, tmp_path)
            try:
                # s_server does not say when it listens: dial until it does. From another address: a dial that happened
                # to leave from the port it goes to, while nobody listens there, would connect to itself.
                leg = 100
                while True:
                    leg += 1
                    r(orders.Dial(leg, "127.0.0.2", 0, "127.0.0.1", port))
                    await until(functools.partial(dialled, r, leg))
                    if r.seen(orders.Connected, leg):
                        break
                await talk(r, process, "client", leg)
            finally:
                process.kill()
                process.wait(DEADLINE)

    on_loop(main)


async def talk(r: Rig, process: subprocess.Popen[bytes], role: Literal["client", "server"], leg: int = 1) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    if role == "server":
        await r.wait(orders.Accepted, leg)
    r(orders.ArmTls(leg, role, fingerprints(UE)))
    await r.wait(orders.TlsOpen, leg)
    server = listener()
    await r.dial(2, server.getsockname()[1])
    core = await accept(server)
    r(orders.StartRelay(leg, 2))
    process.stdin.write(b"typed at the UE\n")
    process.stdin.flush()
    assert await asyncio.to_thread(core.recv, 100) == b"typed at the UE\n"
    await asyncio.to_thread(core.sendall, b"from the core\n")
    assert await asyncio.to_thread(process.stdout.readline) == b"from the core\n"
    process.stdin.close()
    process.terminate()
    assert await asyncio.to_thread(read_all, core) == b""
    core.close()


def run_to_end(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False)


def test_a_wrong_certificate_gets_an_alert(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig() as r:
            port = r.listen(1)
            arguments = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", *files(tmp_path, UE)]
            running = asyncio.ensure_future(
                asyncio.to_thread(
                    subprocess.run,
                    arguments,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=DEADLINE,
                    check=False,
                )
            )
            await r.wait(orders.Accepted, 1)
            r(orders.ArmTls(1, "server", (("sha-256", bytes(32)),)))
            assert (await r.wait(orders.VerifyFailed, 1)).seen == UE.fingerprint("sha-256")
            done = await running
            assert b"alert" in done.stderr

    on_loop(main)


def test_plain_client_is_told_nothing() -> None:
    """A peer that speaks no TLS gets neither a byte of the core nor a wait without end."""

    async def main() -> None:
        async with rig() as r:
            sock = await asyncio.to_thread(connect, r.listen(1))
            await r.wait(orders.Accepted, 1)
            r(orders.ArmTls(1, "server", fingerprints(UE)))
            sock.sendall(b"MSRP 1234 SEND\r\n\r\n")
            assert (await r.wait(orders.TlsFailed, 1)).text
            sock.close()

    on_loop(main)
