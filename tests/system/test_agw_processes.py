"""The command ``agw`` as real processes, with a controller that the test plays over TCP and UDP."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from tests.unit.agw.agw_controller import DEADLINE, Controller
from tests.unit.agw.agw_support import UE, TlsPeer, accept, connect, fingerprints, listener, on_loop

from imskit.tls import Identity
from imswire.h248 import iq
from imswire.h248.model import Action, Audit, Command

pytestmark = pytest.mark.system
SOURCES = str(Path(__file__).parents[2] / "src")


def settings_file(folder: Path, controller: str, workers: int = 1, more: str = "") -> Path:
    path = folder / "agw.toml"
    path.write_text(
        f"""[agw]
controller = "{controller}"
workers = {workers}
drain_time = 0.5
[realm.access]
ports = "0"
[realm.core]
ports = "0"
[timers]
backoff_first = 0.05
[trace]
file = "{folder}/trace.jsonl"
{more}"""
    )
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SOURCES}


@asynccontextmanager
async def running(config: Path, ready: bool = True) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """``agw run`` and its ready line; the process is ended if the test did not do so."""
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agw", "run", "--config", str(config), "--ready-fd", str(writer)),
        pass_fds=(writer,),
        env=environment(),
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        facts: dict[str, Any] = {}
        if ready:
            async with asyncio.timeout(DEADLINE):
                facts = json.loads(await asyncio.to_thread(os.read, reader, 4096))
        yield process, facts
    finally:
        os.close(reader)
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_workers_announce_themselves_and_leave_in_order(tmp_path: Path, scheme: str) -> None:
    async def main() -> None:
        controller = Controller(scheme)
        config = settings_file(tmp_path, f"{scheme}:127.0.0.1:{controller.port}", workers=2)
        async with running(config) as (process, facts):
            assert facts["pid"] == process.pid
            assert len(facts["workers"]) == 2
            assert sorted(controller.changes) == [("agw_1", "Restart"), ("agw_2", "Restart")]
            process.terminate()
            async with asyncio.timeout(DEADLINE):
                assert await process.wait() == 0
            assert sorted(controller.changes[2:]) == [("agw_1", "Forced"), ("agw_2", "Forced")]
        controller.close()

    on_loop(main)


def test_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        controller = Controller()
        async with running(settings_file(tmp_path, f"tcp:127.0.0.1:{controller.port}")) as (process, facts):
            os.kill(facts["workers"][0], signal.SIGKILL)
            await controller.until(lambda: len(controller.changes) == 2)
            assert controller.changes[1] == ("agw_1", "Restart")
            process.terminate()
            await process.wait()
        controller.close()

    on_loop(main)


def test_workers_do_not_survive_their_supervisor(tmp_path: Path) -> None:
    async def main() -> None:
        controller = Controller()
        async with running(settings_file(tmp_path, f"tcp:127.0.0.1:{controller.port}")) as (process, _):
            process.kill()
            await controller.until(lambda: ("agw_1", "Forced") in controller.changes)
        controller.close()

    on_loop(main)


def test_lost_controller_is_found_again_and_media_flow_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        controller = Controller()
        port = controller.port
        async with running(settings_file(tmp_path, f"tcp:127.0.0.1:{port}")) as (process, _):
            core_server = listener()
            remote = iq.RemoteSpec("127.0.0.1", core_server.getsockname()[1])
            access = iq.StreamRequest(
                "access",
                "TCP/TLS/MSRP",
                fingerprint_hash="sha-256",
                remote=iq.RemoteSpec("127.0.0.1", 9, fingerprints(UE)),
                source_filter="address",
            )
            reply = await controller.request(
                "agw_1", iq.add_pair(access, iq.StreamRequest("core", "TCP/MSRP", remote=remote))
            )
            added = iq.read_add_reply(reply.actions[0].commands[0])
            ue = TlsPeer(await asyncio.to_thread(connect, added.port))
            await asyncio.to_thread(ue.handshake)
            certificate = ue.tls.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            assert added.fingerprint == ("sha-256", certificate.fingerprint(SHA256()))
            core = await accept(core_server)
            controller.close()
            await asyncio.to_thread(ue.send, b"without controller")
            assert await asyncio.to_thread(core.recv, 100) == b"without controller"
            again = Controller(port=port)
            await again.until(lambda: again.changes == [("agw_1", "Disconnected")])
            await asyncio.to_thread(core.sendall, b"still here")
            assert await asyncio.to_thread(ue.recv) == b"still here"
            reply = await again.request("agw_1", iq.add_pair(access, iq.StreamRequest("core", "TCP")))
            assert reply.actions[0].context > 1
            ue.close()
            core.close()
            await again.until(lambda: again.notified)
            assert iq.read_notify(again.notified[0])[0].kind == "remote-closed"
            process.terminate()
            await process.wait()
            again.close()
        lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
        assert [line["what"] for line in lines if line["kind"] == "verify"] == ["verified"]
        assert {line["node"] for line in lines} == {"agw"}
        (octets,) = [line for line in lines if line["kind"] == "bytes"]
        assert (octets["a_to_c"], octets["c_to_a"]) == (18, 10)

    on_loop(main)


def media_files(folder: Path, identity: Identity) -> str:
    identity.save(folder / "media.pem", folder / "media.key")
    return f'[tls]\ncertificate = "{folder}/media.pem"\nkey = "{folder}/media.key"\n'


def pair_of(core_port: int, **more: Any) -> Action:
    remote = iq.RemoteSpec("127.0.0.1", 9, fingerprints(UE))
    access = iq.StreamRequest("access", "TCP/TLS", fingerprint_hash="sha-256", remote=remote, **more)
    return iq.add_pair(access, iq.StreamRequest("core", "TCP", remote=iq.RemoteSpec("127.0.0.1", core_port)))


async def joined(port: int, core_server: socket.socket) -> tuple[TlsPeer, socket.socket]:
    ue = TlsPeer(await asyncio.to_thread(connect, port))
    await asyncio.to_thread(ue.handshake)
    core = await accept(core_server)
    await asyncio.to_thread(ue.send, b"hello")
    assert await asyncio.to_thread(core.recv, 100) == b"hello"
    return ue, core


async def agw(*arguments: str) -> str:
    """Run the command; what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agw", *arguments), env=environment(), stdout=asyncio.subprocess.PIPE
    )
    text, _ = await process.communicate()
    assert process.returncode == 0
    return text.decode()


@pytest.mark.parametrize("how", ["SIGHUP", "command"])
def test_a_new_certificate_leaves_open_sessions_alone(tmp_path: Path, how: str) -> None:
    keys = tmp_path / "keys.txt"

    async def main() -> None:
        controller = Controller()
        old, new = Identity.generate("old"), Identity.generate("new")
        admin = f'[admin]\nsocket = "{tmp_path}/agw.sock"\n'
        config = settings_file(tmp_path, f"tcp:127.0.0.1:{controller.port}", more=media_files(tmp_path, old) + admin)
        async with running(config) as (process, facts):
            core_server = listener()
            port = core_server.getsockname()[1]
            replies = [await controller.request("agw_1", pair_of(port)) for _ in range(2)]
            open_one, waiting = (iq.read_add_reply(reply.actions[0].commands[0]) for reply in replies)
            assert open_one.fingerprint == ("sha-256", old.fingerprint("sha-256"))
            ue, core = await joined(open_one.port, core_server)
            media_files(tmp_path, new)
            if how == "SIGHUP":
                os.kill(facts["workers"][0], signal.SIGHUP)
            else:
                assert "agw_1: new sessions" in await agw("rotate", "-c", str(config))
            # A signal is handled in its own time: ask until new sessions announce the new certificate.
            async with asyncio.timeout(DEADLINE):
                while True:
                    reply = await controller.request("agw_1", pair_of(port))
                    added = iq.read_add_reply(reply.actions[0].commands[0])
                    if added.fingerprint == ("sha-256", new.fingerprint("sha-256")):
                        break
            await asyncio.to_thread(core.sendall, b"still here")
            assert await asyncio.to_thread(ue.recv) == b"still here"
            if how == "command":
                context = f"agw_1/{reply.actions[0].context}"
                said = await agw("keylog", "--context", context, "--file", str(keys), "-c", str(config))
                assert "whoever reads them reads the media" in said
                assert keys.read_text() == ""
                begun = f"agw_1/{replies[0].actions[0].context}"
                assert "anew" in await agw("keylog", "--context", begun, "--file", str(keys), "-c", str(config))
            for result, identity in ((waiting, old), (added, new)):
                late, far = await joined(result.port, core_server)
                assert late.tls.get_peer_certificate(as_cryptography=True) == identity.certificate
                late.close()
                far.close()
            ue.close()
            core.close()
            process.terminate()
            await process.wait()
        controller.close()

    on_loop(main)
    if how == "command":
        clients = {line.split()[1] for line in keys.read_text().splitlines()}
        assert len(clients) == 1, "the secrets of one session, and of no other"


def test_drained_it_takes_nothing_new_until_undrained_and_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        controller = Controller()
        more = f'[admin]\nsocket = "{tmp_path}/agw.sock"\n'
        config = settings_file(tmp_path, f"tcp:127.0.0.1:{controller.port}", more=more)
        config.write_text(config.read_text().replace("drain_time = 0.5", "drain_time = 3600"))
        async with running(config) as (process, _):
            core_server = listener()
            pair = pair_of(core_server.getsockname()[1])
            first = await controller.request("agw_1", pair)
            assert "agw_1: takes nothing new; contexts that go on: 1" in await agw("drain", "-c", str(config))
            await controller.until(lambda: controller.changes[-1] == ("agw_1", "Graceful"))
            fault = (await controller.request("agw_1", pair)).actions[0].error
            assert fault is not None
            assert fault.code == 503
            assert "drained" in await agw("show", "workers", "-c", str(config))
            assert "agw_1: takes new sessions" in await agw("undrain", "-c", str(config))
            await controller.until(lambda: controller.changes[-1] == ("agw_1", "Restart"))
            second = await controller.request("agw_1", pair)
            assert second.actions[0].context != first.actions[0].context
            process.terminate()
            await controller.until(lambda: controller.changes[-1] == ("agw_1", "Graceful"))
            process.terminate()
            await controller.until(lambda: controller.changes[-1] == ("agw_1", "Forced"))
            async with asyncio.timeout(DEADLINE):
                assert await process.wait() == 0
            core_server.close()
        controller.close()

    on_loop(main)


def test_a_new_connection_is_ordered_and_made_on_the_same_ports(tmp_path: Path) -> None:
    async def main() -> None:
        controller = Controller()
        async with running(settings_file(tmp_path, f"tcp:127.0.0.1:{controller.port}")) as (process, _):
            core_server = listener()
            reply = await controller.request("agw_1", pair_of(core_server.getsockname()[1]))
            action = reply.actions[0]
            added = iq.read_add_reply(action.commands[0])
            ue, core = await joined(added.port, core_server)
            for _ in range(3):
                remote = iq.RemoteSpec("127.0.0.1", 9, fingerprints(UE))
                change = iq.StreamChange("TCP/TLS", remote=remote, reconnect=True)
                modify = Action(action.context, (iq.to_modify(added.termination, change),))
                modified = await controller.request("agw_1", modify)
                assert modified.actions[0].commands[0].error is None
                assert await asyncio.to_thread(ue.recv) == b""  # ended in order
                assert await asyncio.to_thread(core.recv, 1) == b""
                ue.close()
                core.close()
                ue, core = await joined(added.port, core_server)
            assert controller.notified == []
            modified = await controller.request("agw_1", Action(action.context, (iq.to_subtract(),)))
            figures = [iq.read_statistics(command.statistics) for command in modified.actions[0].commands]
            assert [one.octets_received for one in figures] == [20, 0]
            ue.close()
            core.close()
            process.terminate()
            await process.wait()
        controller.close()

    on_loop(main)


def test_messages_that_cannot_be_read_are_answered_and_the_association_stays(tmp_path: Path) -> None:
    async def main() -> None:
        controller = Controller()
        async with running(settings_file(tmp_path, f"tcp:127.0.0.1:{controller.port}")) as (process, _):
            link = controller.gateways["agw_1"]
            for text, code in (
                (b"MEGACO/1 mgc Transaction = 900 { Context = rubbish", 0),
                (b"rubbish", 400),
                (b"MEGACO/9 mgc Transaction = 901 { Context = - { AuditValue = ROOT { Audit { } } } }", 406),
            ):
                controller.errors.clear()
                controller.server.send(link, text)
                await controller.until(lambda: controller.errors)
                assert code in (0, controller.errors[0])
            audit = Action(0, (Command("AuditValue", "ROOT", audit=Audit(("Packages",))),))
            reply = await controller.request("agw_1", audit)
            assert reply.actions[0].commands[0].packages
            process.terminate()
            await process.wait()
        controller.close()

    on_loop(main)


def test_settings_that_cannot_be_used_end_the_command(tmp_path: Path) -> None:
    config = settings_file(tmp_path, "tcp:127.0.0.1:1", more="[limits]\nsesions = 5\n")
    for command in ("run", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "agw", command, "--config", str(config)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 2
        assert "agw.toml: [limits] unknown key 'sesions'; did you mean 'sessions'?" in done.stderr


@pytest.mark.parametrize("controller", ["tcp:192.0.2.1:2944", "tcp:agw.example:2944"])
def test_a_controller_that_is_neither_local_nor_authenticated_is_refused(tmp_path: Path, controller: str) -> None:
    async def main() -> None:
        async with running(settings_file(tmp_path, controller), ready=False) as (process, _), asyncio.timeout(DEADLINE):
            assert await process.wait() == 2

    on_loop(main)


def test_help_and_check() -> None:
    for arguments, hint in ((["--help"], "Examples"), (["run", "--help"], "--worker")):
        done = subprocess.run(
            [sys.executable, "-m", "agw", *arguments],
            env={**environment(), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        assert hint in done.stdout
