"""An executor on real sockets, and peers that block in threads."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import uvloop
from OpenSSL import SSL

from agw.core import orders
from agw.core.orders import OPEN, Fingerprints, Report, SynFilter
from agw.settings import LimitSettings, TimerSettings, TlsSettings
from agw.shell.executor import Executor
from agw.shell.identities import Identities
from imskit.clock import Clock, ManualClock
from imskit.tls import Identity

DEADLINE = 10.0
AGW = Identity.generate("agw")
UE = Identity.generate("ue")
MALLORY = Identity.generate("mallory")
Version = Literal["1.2", "1.3"]


def fingerprints(identity: Identity) -> Fingerprints:
    return (("sha-256", identity.fingerprint("sha-256")),)


def on_loop[T](main: Callable[[], Awaitable[T]]) -> T:
    """Run on uvloop, as the worker does; nothing takes longer than a minute."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    """Until something holds that wakes nobody: a kernel counter, a buffer of the relay."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  as the docstring says
            await asyncio.sleep(0)


class Rig:
    """Orders in, reports out; ``wait`` returns the first report of a kind about a leg, even an earlier one."""

    def __init__(
        self,
        tls: TlsSettings,
        limits: LimitSettings,
        timers: TimerSettings,
        clock: Clock | None = None,
        identities: Identities | None = None,
    ) -> None:
        self.reports: list[Report] = []
        self.clock = ManualClock()
        """The one it was given; a test that gave none has no use for it."""
        self._changed = asyncio.Event()
        self.executor = Executor(
            identities or Identities.single(AGW, tls),
            self._report,
            loop=asyncio.get_running_loop(),
            tls=tls,
            limits=limits,
            timers=timers,
            clock=clock,
        )

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self._changed.set()

    def seen(self, kind: type[Any] | tuple[type[Any], ...], leg: int) -> list[Any]:
        return [report for report in self.reports if isinstance(report, kind) and report.leg == leg]

    async def wait(self, kind: type[Any] | tuple[type[Any], ...], leg: int) -> Any:
        async with asyncio.timeout(DEADLINE):
            while not (found := self.seen(kind, leg)):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    def __call__(self, order: orders.Order) -> None:
        self.executor.execute(order)

    def listen(self, leg: int, host: str = "127.0.0.1", filter: SynFilter = OPEN) -> int:
        self(orders.Listen(leg, host, 0, filter))
        report = self.reports[-1]
        assert isinstance(report, orders.Listening)
        return report.port

    async def dial(self, leg: int, port: int, host: str = "127.0.0.1") -> None:
        self(orders.Dial(leg, host, 0, host, port))
        await self.wait(orders.Connected, leg)


@contextlib.asynccontextmanager
async def rig(
    tls: TlsSettings | None = None,
    limits: LimitSettings | None = None,
    timers: TimerSettings | None = None,
    clock: Clock | None = None,
    identities: Identities | None = None,
) -> AsyncIterator[Rig]:
    made = Rig(tls or TlsSettings(), limits or LimitSettings(), timers or TimerSettings(), clock, identities)
    try:
        yield made
    finally:
        made.executor.close()


def connect(port: int, host: str = "127.0.0.1", source: str | None = None, source_port: int = 0) -> socket.socket:
    """A blocking TCP connection, made in the calling thread."""
    sock = socket.create_connection((host, port), DEADLINE, (source or host, source_port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def listener(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(DEADLINE)
    return sock


class TlsPeer:
    """A blocking TLS peer that can close one direction at a time (the standard library's cannot)."""

    def __init__(
        self, sock: socket.socket, role: str = "client", version: Version = "1.3", identity: Identity | None = UE
    ) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE)
        context = SSL.Context(SSL.TLS_METHOD)
        number = SSL.TLS1_3_VERSION if version == "1.3" else SSL.TLS1_2_VERSION
        context.set_min_proto_version(number)
        context.set_max_proto_version(number)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if identity is not None:
            context.use_certificate(identity.certificate)
            context.use_privatekey(identity.key)
            for issuer in identity.chain:
                context.add_extra_chain_cert(issuer)
        if role == "server":
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            context.set_verify(mode, lambda *_: True)
        self.tls = SSL.Connection(context, sock)
        if role == "server":
            self.tls.set_accept_state()
        else:
            self.tls.set_connect_state()

    def _wait(self, write: bool) -> None:
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT if write else select.POLLIN)
        if not poll.poll(DEADLINE * 1_000):
            raise TimeoutError("the peer was not served in time")

    def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                return call(*arguments)
            except SSL.WantReadError:
                self._wait(False)
            except SSL.WantWriteError:
                self._wait(True)

    def handshake(self) -> "TlsPeer":
        self._do(self.tls.do_handshake)
        return self

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._do(self.tls.send, view[:65_536]) :]

    def recv(self, size: int = 65_536) -> bytes:
        """b"" at close_notify; an abrupt end raises."""
        try:
            return bytes(self._do(self.tls.recv, size))
        except SSL.ZeroReturnError:
            return b""

    def read_all(self) -> bytes:
        return b"".join(iter(self.recv, b""))

    def close_notify(self) -> None:
        self._do(self.tls.shutdown)

    def close(self) -> None:
        self.sock.close()


def read_all(sock: socket.socket) -> bytes:
    sock.settimeout(DEADLINE)
    return b"".join(iter(lambda: sock.recv(262_144), b""))


async def accept(server: socket.socket) -> socket.socket:
    sock, _ = await asyncio.to_thread(server.accept)
    sock.settimeout(DEADLINE)
    return sock


class Pair:
    """A relay between a TLS peer (leg 1) and a plain one (leg 2), verified and running."""

    def __init__(self, rig: Rig, ue: TlsPeer, core: socket.socket) -> None:
        self.rig = rig
        self.ue = ue
        self.core = core


@contextlib.asynccontextmanager
async def pair(
    rig: Rig,
    role: Literal["client", "server"] = "server",
    version: Version = "1.3",
    host: str = "127.0.0.1",
    inactivity: float | None = None,
) -> AsyncIterator[Pair]:
    """``role`` is that of the gateway on the access leg: a server is connected to, a client dials."""
    core_server = listener(host)
    if role == "server":
        port = rig.listen(1, host)
        ue_sock = await asyncio.to_thread(connect, port, host)
        await rig.wait(orders.Accepted, 1)
    else:
        ue_server = listener(host)
        rig(orders.Dial(1, host, 0, host, ue_server.getsockname()[1]))
        ue_sock = await accept(ue_server)
        ue_server.close()
        await rig.wait(orders.Connected, 1)
    ue = TlsPeer(ue_sock, "client" if role == "server" else "server", version)
    rig(orders.ArmTls(1, role, fingerprints(UE)))
    await asyncio.to_thread(ue.handshake)
    await rig.wait(orders.TlsOpen, 1)
    await rig.dial(2, core_server.getsockname()[1], host)
    core = await accept(core_server)
    core_server.close()
    rig(orders.StartRelay(1, 2, inactivity))
    try:
        yield Pair(rig, ue, core)
    finally:
        ue.close()
        core.close()
