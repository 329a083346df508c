"""UE and core of the lab against each other on real sockets, without P-CSCF and AGW: TLS is end to end here."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imskit.common_settings import MediaTlsSettings
from imskit.driver import run
from imslab.core.server import CoreServer
from imslab.core.settings import CoreListen, CoreSettings
from imslab.ue.agent import Account, UeAgent, UeOptions
from imslab.ue.call import SipFailure
from imslab.ue.chat import ChatError
from imslab.ue.media import MediaOptions, NotAcceptable
from imswire.sdp.attributes import Setup

PASSWORDS = {"alice": "alice-secret", "bob": "bob-secret"}
PORTS = (CoreListen("udp", port=0), CoreListen("tcp", port=0))
CORE = CoreSettings(users=PASSWORDS, listen=PORTS)
MEDIA = MediaOptions()


@asynccontextmanager
async def lab(
    *users: str,
    media: MediaOptions = MEDIA,
    transport: str = "udp",
    core: CoreSettings = CORE,
    register: bool = True,
) -> AsyncIterator[tuple[CoreServer, list[UeAgent]]]:
    async with CoreServer(core) as server:
        host, port = server.addresses[transport]
        agents = []
        try:
            for user in users:
                account = Account(user, PASSWORDS[user], registrar=f"sip:{host}:{port};transport={transport}")
                agents.append(UeAgent(account, UeOptions(media=media)))
                await agents[-1].start()
                if register:
                    await agents[-1].register()
            yield server, agents
        finally:
            for agent in agents:
                await agent.close()


def on_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on the loop the product runs on."""

    async def limited() -> int:
        async with asyncio.timeout(20):
            await main()
        return 0

    assert run(limited()) == 0


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_registers_with_digest(algorithm: str, transport: str) -> None:
    async def main() -> None:
        core = CoreSettings(users=PASSWORDS, listen=PORTS, algorithms=(algorithm,))  # type: ignore[arg-type]
        async with lab("alice", transport=transport, core=core, register=False) as (server, (alice,)):
            registration = await alice.register()
            assert registration.algorithm == algorithm
            assert registration.expires == 600
            assert registration.service_route == (server.machine.registrar.service_route,)
            assert registration.associated == ("<sip:alice@lab.example>",)
            await alice.unregister()
            assert server.machine.registrar.bindings("alice", 0.0) == []

    on_loop(main)


def test_wrong_password_is_refused_with_403() -> None:
    async def main() -> None:
        core = CoreSettings(users={"alice": "another"}, listen=PORTS)
        async with lab("alice", core=core, register=False) as (_, (alice,)):
            with pytest.raises(SipFailure) as failure:
                await alice.register()
            assert failure.value.status == 403

    on_loop(main)


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("answer", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_chat_both_ways(secure: bool, answer: Setup, version: str) -> None:
    tls = MediaTlsSettings(min_version=version, max_version=version)  # type: ignore[arg-type]

    async def main() -> None:
        media = MediaOptions(secure=secure, answer_setup=answer, tls=tls)
        async with lab("alice", "bob", media=media) as (_, (alice, bob)):
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            incoming.ring()
            assert await outgoing.ringing() == 180
            incoming.accept()
            await outgoing.answered()
            await incoming.confirmed
            await outgoing.session.send_text("hello Bob")
            assert (await incoming.session.receive()).text == "hello Bob"
            await incoming.session.send_text("hello Alice")
            assert (await outgoing.session.receive()).text == "hello Alice"
            assert outgoing.session.link is not None
            assert outgoing.session.link.tls_version == (f"TLSv{version}" if secure else "")
            assert await incoming.hangup() == 200
            assert "hung up" in await outgoing.wait_end()

    on_loop(main)


def test_file_arrives_equal_and_is_reported(tmp_path: Path) -> None:
    source = tmp_path / "picture.bin"
    source.write_bytes(bytes(range(256)) * 4096 * 3)

    async def main() -> None:
        async with lab("alice", "bob") as (_, (alice, bob)):
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            incoming.accept()
            await outgoing.answered()
            seen: list[int] = []
            sent = await outgoing.session.send_file(source, progress=lambda done, _: seen.append(done))
            received = await incoming.session.receive()
            assert received.path is not None
            assert received.sha256 == sent.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
            assert hashlib.sha256(received.path.read_bytes()).hexdigest() == sent.sha256
            assert received.name == "picture.bin"
            assert seen[-1] == received.size == source.stat().st_size
            received.path.unlink()

    on_loop(main)


def test_wrong_fingerprint_ends_the_session_before_a_byte_passes() -> None:
    async def main() -> None:
        async with lab("alice", "bob") as (_, (alice, bob)):
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            incoming.accept(replace(MEDIA, wrong_fingerprint=True))
            await outgoing.answered()
            with pytest.raises(ChatError, match="fingerprint mismatch"):
                await outgoing.session.opened()
            assert incoming.session.received.empty()

    on_loop(main)


def test_client_without_certificate_is_refused() -> None:
    async def main() -> None:
        async with lab("alice", "bob") as (_, (alice, bob)):
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            incoming.accept(replace(MEDIA, no_certificate=True))
            await outgoing.answered()
            with pytest.raises(ChatError, match="peer did not return a certificate"):
                await outgoing.session.opened()

    on_loop(main)


def test_cancel_and_reject() -> None:
    async def main() -> None:
        async with lab("alice", "bob") as (_, (alice, bob)):
            cancelled = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            incoming.ring()
            await cancelled.ringing()
            cancelled.cancel()
            with pytest.raises(SipFailure) as failure:
                await cancelled.answered()
            assert failure.value.status == 487
            assert "487" in await incoming.wait_end()
            rejected = alice.dial("sip:bob@lab.example")
            (await bob.wait_call()).reject(486)
            with pytest.raises(SipFailure) as failure:
                await rejected.answered()
            assert failure.value.status == 486

    on_loop(main)


def test_nobody_registered_and_nobody_known() -> None:
    async def main() -> None:
        async with lab("alice") as (_, (alice,)):
            for user, status in (("bob", 480), ("carol", 404)):
                with pytest.raises(SipFailure) as failure:
                    await alice.call(f"sip:{user}@lab.example")
                assert failure.value.status == status

    on_loop(main)


def test_forking_rings_both_contacts_and_cancels_the_slower() -> None:
    async def main() -> None:
        async with lab("alice", "bob", "bob") as (_, (alice, first, second)):
            outgoing = alice.dial("sip:bob@lab.example")
            one = await first.wait_call()
            two = await second.wait_call()
            one.ring()
            two.ring()
            two.accept()
            await outgoing.answered()
            assert "487" in await one.wait_end()
            await outgoing.session.send_text("to the second")
            assert (await two.session.receive()).text == "to the second"

    on_loop(main)


def test_reinvite_repeats_and_removes_the_line() -> None:
    async def main() -> None:
        async with lab("alice", "bob") as (_, (alice, bob)):
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            incoming.accept()
            await outgoing.answered()
            await outgoing.session.opened()
            assert (await outgoing.reinvite()).status == 200
            await outgoing.session.send_text("still here")
            assert (await incoming.session.receive()).text == "still here"
            answer = await outgoing.reinvite(remove=True)
            assert b"m=message 0 " in answer.body
            async with asyncio.timeout(5):
                await incoming.session.closed

    on_loop(main)


def test_an_offer_whose_address_and_path_disagree_without_cema_is_refused() -> None:
    async def main() -> None:
        media = MediaOptions(cema=False, offer_setup=Setup.ACTPASS)
        async with lab("alice", "bob", media=media) as (_, (alice, bob)):
            outgoing = alice.dial("sip:bob@lab.example")
            incoming = await bob.wait_call()
            request = incoming.request_in
            assert request is not None
            request.body = request.body.replace(b"c=IN IP4 127.0.0.1", b"c=IN IP4 127.0.0.2")
            with pytest.raises(NotAcceptable):
                incoming.accept()
            with pytest.raises(SipFailure) as failure:
                await outgoing.answered()
            assert failure.value.status == 488

    on_loop(main)
