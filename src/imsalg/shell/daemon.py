"""The P-CSCF/IMS-ALG process: sockets, driver, engine, and an orderly end."""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

import msgspec

from imsalg.core.engine import Engine
from imsalg.core.events import CloseFlow, Command, Drain, Drained, Event, Reconfigure, Resolve, Restore
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import CloseGateway, Inspected, Log, ToGateway, Trace
from imsalg.core.records import H248_ID, NODE, TOKEN_KEY
from imsalg.core.routing import Listener
from imsalg.settings import Settings
from imsalg.shell.agw_link import GatewayDoor
from imsalg.shell.control import controls
from imsalg.shell.keeper import Keeper
from imsalg.shell.measures import measures, state_measures
from imsalg.shell.names import NameDoor
from imsalg.shell.pressure import Pressure, stand_guard
from imsalg.shell.reload import Contexts, label, read, tls_contexts
from imsalg.shell.show import Inspector, handlers
from imsalg.shell.sip_transport import SipDoor
from imsalg.shell.store import MemoryStore, Store
from imskit.admin import AdminServer
from imskit.clock import SystemIds
from imskit.driver import Driver
from imskit.logs import get_logger
from imskit.memory import Trimmer
from imskit.metrics import MetricsServer
from imskit.sdnotify import Notifier
from imskit.settings import SettingsError
from imskit.shutdown import Shutdown
from imskit.sockets import Address, parse_endpoint
from imskit.tls import TlsConfigError
from imskit.trace import Tracer
from imswire.h248.transaction import MAX_ID
from imswire.sip.transaction import Send

log = get_logger("imsalg")

UNNOTED_IDS = 1_000_000
"""Above what one process can use of H.248 transaction ids between two commits of its state."""
LAST_WORDS = 2.0
"""Seconds that the peers of released calls have to answer before the sockets are closed."""


class Daemon:
    """Everything of one process. ``start`` opens the sockets (OSError, SettingsError), ``stop`` closes them."""

    def __init__(self, settings: Settings, store: Store | None = None, config: Path | None = None) -> None:
        self._settings = settings
        self._config = config
        self._store = store if store is not None else MemoryStore()
        self._ids = SystemIds()
        self._tracer = Tracer(settings.trace.file, "imsalg")
        self._early: list[Event] = []
        self._post: Callable[[Event], None] = self._early.append
        self._sip = SipDoor(settings, self._posted, 1 + self._ids.number(30))
        self._names = NameDoor(settings.dns, self._posted)
        self._keeper: Keeper | None = None
        self._gateways: GatewayDoor | None = None
        self._driver: Driver[Event, Command] | None = None
        self._inspector = Inspector(self._posted)
        self._media: MediaHalf | None = None
        self._metrics: MetricsServer | None = None
        self._admin: AdminServer | None = None
        self._trimmer: Trimmer | None = None
        self._pressure: Pressure | None = None
        self._certificates: dict[str, float] = {}
        self.engine: Engine | None = None
        self.listeners: list[Listener] = []
        self.metrics_address: Address | None = None
        self._drained = asyncio.Event()
        self._ended = False

    def _posted(self, event: Event) -> None:
        self._post(event)

    async def start(self) -> None:
        """Open every socket, then let events in."""
        contexts = tls_contexts(self._settings)
        for number, listen in enumerate(self._settings.listen):
            host, port = self._sip.transports.add_listener(
                listen.realm, listen.transport, listen.host, listen.port, contexts.servers.get(number)
            )
            self.listeners.append(Listener(listen.realm, listen.transport, host, port, listen.advertise))
        self._take_certificates(contexts)
        self._gateways = GatewayDoor(self._settings.gateways, self._posted)
        media = self._media = MediaHalf(
            self._settings.media(),
            first_transaction=self._first_transaction(),
            jitter=lambda: self._ids.number(20) / (1 << 20),
            tracing=self._tracer.enabled,
        )
        self.engine = Engine(
            self._settings, self.listeners, media, self._ids, self._token_key(), tracing=self._tracer.enabled
        )
        context = self.engine.context
        usual: dict[type, Callable[[Any], None]] = {Send: self._sip.send, ToGateway: self._gateways.send}
        driver = self._driver = Driver(self.engine, self._execute, orders=usual)
        self._post = self._driver.post
        if self._store.lasting:
            journal = self.engine.keep(media)
            self._post(Restore(tuple(self._store.items()), time.time()))
            self._keeper = Keeper(journal, self._store, driver.clock.now, self._settings.state.interval)
        self._trimmer = Trimmer(lambda: len(media.calls))
        self._pressure = stand_guard(self._settings, self.engine, self._sip)
        for event in self._early:
            self._post(event)
        self._sip.post = self._gateways.post = driver.post
        if self._settings.metrics.listen:
            registry = measures(self.engine, media, self._sip, self._gateways, self._certificates)
            if self._keeper is not None:
                state_measures(registry, self._keeper)
            self._metrics = MetricsServer(registry, self.why_not_ready)
            where = parse_endpoint(self._settings.metrics.listen)
            self.metrics_address = await self._metrics.start(where.host, where.port)
        if self._settings.admin.socket:
            looks = handlers(self.engine, media, driver.clock.now, self._inspector)
            orders = controls(self._post, lambda: len(context.calls), self._keeper, self.reload)
            self._admin = AdminServer({**looks, **orders})
            await self._admin.start(self._settings.admin.socket)

    def why_not_ready(self) -> str:
        """For /readyz: "" while the sockets are open and a media gateway is in service."""
        if self._media is None or not self.listeners:
            return "starting"
        if self.engine is not None and self.engine.draining:
            return "draining: new calls are refused"
        return "" if self._media.stats()["gateways"] else "no media gateway is in service"

    async def drain(self) -> None:
        """Refuse new calls; what is left after ``drain_time`` is released. Bounded, however silent the peers are."""
        timers = self._settings.timers
        if not self._ended:
            self._drained.clear()  # an earlier drain, by command, may have come to its end
        self._post(Drain(timers.drain_time))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timers.drain_time + LAST_WORDS):
                await self._drained.wait()

    def end_now(self) -> None:
        """Wait for nothing more: calls that are left stay in the kept state, and their media go on."""
        self._ended = True
        self._drained.set()

    async def stop(self) -> None:
        """Close in order: nothing new comes in, what was sent goes out."""
        await self._sip.transports.close()
        if self._gateways is not None:
            self._gateways.close()
        if self._driver is not None:
            self._driver.close()
        if self._metrics is not None:
            await self._metrics.close()
        if self._admin is not None:
            await self._admin.close()
        if self._pressure is not None:
            self._pressure.close()
        if self._trimmer is not None:
            self._trimmer.close()
        self._tracer.close()
        if self._keeper is not None:
            self._keeper.close()
        self._store.close()

    def _token_key(self) -> bytes:
        if self._settings.imsalg.token_key:
            return bytes.fromhex(self._settings.imsalg.token_key)
        key = self._store.get(NODE, TOKEN_KEY)
        if key is None:
            key = bytes.fromhex(self._ids.token(32))
            self._store.put(NODE, TOKEN_KEY, key)
        return key

    def _first_transaction(self) -> int:
        """Beyond every H.248 transaction id of an earlier process, those that it could not note down included."""
        last = self._store.get(NODE, H248_ID)
        if last is None or not last.isdigit():
            return 1 + self._ids.number(24)
        return (int(last) + UNNOTED_IDS) % MAX_ID + 1

    def ready_line(self) -> dict[str, Any]:
        """What ``--ready-fd`` tells: the process and its real addresses."""
        gateways = self._gateways.address if self._gateways is not None else ("", 0)
        return {
            "pid": os.getpid(),
            "sip": [
                {"realm": one.realm, "transport": one.transport, "host": one.host, "port": one.port}
                for one in self.listeners
            ],
            "gateways": {"host": gateways[0], "port": gateways[1]},
            **_metrics_facts(self.metrics_address),
        }

    def _take_certificates(self, contexts: Contexts) -> None:
        """Connections that come from now on see these; those that are open stay."""
        for number, listen in enumerate(self._settings.listen):
            if number in contexts.servers:
                self._sip.transports.set_server_context(number, contexts.servers[number])
                self._sip.transports.set_client_context(listen.realm, contexts.clients[number])
                self._certificates[label(listen)] = contexts.expiries[number]
        if self._gateways is not None and contexts.gateways is not None:
            self._gateways.set_tls(contexts.gateways)

    def reload(self) -> list[str]:
        """Read the settings and certificates again; returns what changed.

        Raises SettingsError or TlsConfigError, with everything as it was, when one of them cannot be used or changed.
        """
        if self._config is None:
            raise SettingsError(["this node was started without a settings file"])
        settings, changed, contexts = read(self._config, self._settings)
        self._settings = settings
        self._take_certificates(contexts)
        self._post(Reconfigure(settings))
        told = [str(one) for one in changed]
        log.info("settings reloaded", changed=told, certificates=len(contexts.servers))
        return told

    def hangup(self) -> None:
        """SIGHUP: the trace file is opened anew, after a rotation, and the settings are read again."""
        self._tracer.reopen()
        try:
            self.reload()
        except (SettingsError, TlsConfigError) as error:
            for problem in str(error).splitlines():
                log.error("settings are not reloaded, nothing changed", reason=problem)

    def _execute(self, command: Command) -> None:
        match command:
            case Trace():
                self._tracer.write(command.kind, **command.fields)
            case Log():
                getattr(log, command.level)(command.event, **command.fields)
            case Inspected():
                self._inspector.told(command)
            case Drained():
                self._drained.set()
            case Resolve():
                self._names.look_up(command)
            case CloseFlow():
                self._sip.transports.close_flow(command.flow, command.reason)
            case CloseGateway():
                if self._gateways is not None:
                    self._gateways.close_link(command.link, command.reason)
            case Send() | ToGateway():
                raise TypeError("the driver has its own orders for these")
            case _:
                assert_never(command)


def _metrics_facts(address: Address | None) -> dict[str, Any]:
    return {} if address is None else {"metrics": {"host": address[0], "port": address[1]}}


async def serve(settings: Settings, store: Store, config: Path, ready_fd: int | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. ``config`` is read again at SIGHUP."""
    daemon = Daemon(settings, store, config)
    shutdown = Shutdown(daemon.hangup, daemon.end_now)
    notifier = Notifier()
    await daemon.start()
    # What was made at start lives for ever: the collector need not look at it again. What is made per message holds no
    # cycles once its call is over, so that rare collections are enough.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    ready = daemon.ready_line()
    log.info("ready", sip=ready["sip"], gateways=ready["gateways"])
    if ready_fd is not None:
        with os.fdopen(ready_fd, "wb") as out:
            out.write(msgspec.json.encode(ready) + b"\n")
    notifier.ready("serving")
    notifier.start_watchdog()
    reason = await shutdown.wait()
    log.info("ending", reason=reason)
    notifier.stopping()
    await daemon.drain()
    await daemon.stop()
    notifier.close()  # the watchdog is fed as long as calls go on
    shutdown.done()
    return 0
