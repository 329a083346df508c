"""One worker process: one media gateway with its own engine, sockets, certificate and control link."""

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable
from typing import Any, get_args

from agw.core import events, orders
from agw.core.engine import AgwEngine
from agw.core.orders import Report
from agw.settings import Settings
from agw.shell.control import ControlLink
from agw.shell.executor import Executor
from agw.shell.identities import Identities
from agw.shell.keylog import check_key_log
from agw.shell.measures import measures
from agw.shell.operate import orders_of
from agw.shell.show import handlers
from agw.shell.tally import Tally
from imskit.admin import AdminServer, numbered
from imskit.driver import Driver, SystemClock, SystemIds, spawn
from imskit.logs import configure, get_logger
from imskit.memory import Trimmer
from imskit.metrics import MetricsServer
from imskit.shutdown import Shutdown
from imskit.sockets import parse_endpoint
from imskit.tls import TlsConfigError
from imskit.trace import Tracer

END_NOW = signal.SIGUSR2
"""What the supervisor sends when it is told to end a second time. Not SIGTERM again: Ctrl-C and some init systems
signal the worker beside its supervisor, so that two signals may well be one wish."""
_EXIT_GRACE = 2.0  # seconds beyond the drain time until a worker ends regardless


class Worker:
    """Wires one engine to its surroundings. Create it inside the running loop."""

    def __init__(self, settings: Settings, number: int, workers: int) -> None:
        self.mid = settings.agw.worker_mid(number)
        self.served = asyncio.Event()
        """Set when the controller has accepted this gateway for the first time."""
        self.gone = asyncio.Event()
        """Set when the gateway has left service."""
        self._settings = settings
        self._log = get_logger("agw", gateway=self.mid)
        self.tracer = Tracer(settings.trace.file, "agw")
        loop = asyncio.get_running_loop()
        self.identities = Identities(settings, self.mid)
        self.engine = AgwEngine(
            settings,
            self.mid,
            self.identities.current.default.fingerprints,
            worker=number,
            workers=workers,
            first_tid=SystemIds().number(30) + 1,
            tracing=self.tracer.enabled,
        )
        clock = SystemClock(loop)
        self.executor = Executor(
            self.identities,
            self._report,
            loop=loop,
            tls=settings.tls,
            limits=settings.limits,
            timers=settings.timers,
            clock=clock,
        )
        self.tally = Tally(self.engine.store, self.executor)
        self._tallied = self.tally.rows
        self.control = ControlLink(settings, self.mid, self._event)
        usual: dict[type, Callable[[Any], None]] = {
            **dict.fromkeys(get_args(orders.Order), self.executor.execute),
            events.SendH248: self._send,
            orders.Drop: self._drop,
        }
        self.driver: Driver[events.Event, events.Command] = Driver(
            self.engine, self._execute, orders=usual, clock=clock
        )
        expiry = self.identities.expiry
        now = clock.now
        self.metrics = measures(settings, self.engine, self.executor, self.tally, now, expiry)
        looks = handlers(settings, self.engine, self.executor, self.tally, now, expiry)
        self.admin = AdminServer({**looks, **orders_of(self.engine, self.rotate, self.log_keys, expiry, self.rest)})
        self._rows: dict[type, Callable[[Any], None]] = {
            events.Trace: lambda command: self.tracer.write(command.kind, **command.fields),
            events.Log: lambda command: getattr(self._log, command.level)(command.event, **command.fields),
            events.ConnectControl: lambda _: self.control.connect(),
            events.DisconnectControl: lambda command: self.control.disconnect(command.reason),
            events.Registered: lambda command: self.served.set() if command.up else None,
            events.Exit: lambda _: self.gone.set(),
        }
        """Who carries out the commands that the driver does not hand over itself."""
        self._trimmer = Trimmer(lambda: len(self.engine.store.contexts), loop=loop)
        self.driver.post(self.identities.current)

    def start(self) -> None:
        """Begin to serve."""
        self._log.info("started", controller=self._settings.agw.controller)
        self.driver.post(events.Start())

    def hangup(self) -> None:
        """SIGHUP: begin the trace file anew, read the certificates again; open sessions go on as they are."""
        self.tracer.reopen()
        with contextlib.suppress(TlsConfigError):  # it is logged, and the old ones stay
            self.rotate()

    def rotate(self) -> None:
        """New sessions get what the files hold now. Raises :class:`TlsConfigError`, and then all is as before."""
        self.driver.post(self.identities.rotate())

    def log_keys(self, context: int, file: str) -> None:
        """Append the secrets of TLS sessions that begin in a context to a file. Raises OSError for its file."""
        check_key_log(file)
        self.driver.post(events.LogKeys(context, file))

    def drain(self) -> None:
        """Leave service in order; :attr:`gone` tells when that is done."""
        self.driver.post(events.Drain())

    def rest(self, wanted: bool) -> None:
        """Take no new sessions while ``wanted``, and tell the controller."""
        self._log.info("drained" if wanted else "undrained")
        self.driver.post(events.Rest() if wanted else events.Resume())

    def ready(self) -> str:
        """Why nothing new is taken; "" when it is."""
        if not self.engine.serving:
            return "no controller"
        return "drained" if self.engine.resting else ""

    def close(self) -> None:
        """Close everything at once."""
        self._trimmer.close()
        self.driver.close()
        self.control.disconnect("shut down")
        self.executor.close()
        self.tracer.close()

    def _report(self, report: Report) -> None:
        row = self._tallied.get(type(report))
        if row is not None:
            row(report)
        self.driver.post(report)

    def _event(self, event: events.Event) -> None:
        self.tally.event(event)
        self.driver.post(event)

    def _execute(self, command: events.Command) -> None:
        self._rows[type(command)](command)

    def _send(self, command: events.SendH248) -> None:
        self.tally.sent(command.message)
        self.control.send(command.message)

    def _drop(self, order: orders.Drop) -> None:
        self.tally.dropped(order.leg)
        self.executor.execute(order)


async def run_worker(settings: Settings, number: int, workers: int, ready_fd: int | None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises SettingsError, TlsConfigError, OSError at start."""
    configure(settings.log.level, settings.log.format)
    worker = Worker(settings, number, workers)
    shutdown = Shutdown(worker.hangup)
    asyncio.get_running_loop().add_signal_handler(END_NOW, worker.drain)  # counts when leaving has begun
    server: MetricsServer | None = None
    facts: dict[str, object] = {"pid": os.getpid(), "mid": worker.mid, "ports": []}
    if settings.metrics.listen is not None:
        server = MetricsServer(worker.metrics, worker.ready)
        endpoint = parse_endpoint(settings.metrics.listen)
        host, port = await server.start(endpoint.host, endpoint.port + number if endpoint.port else 0)
        facts["metrics"] = {"host": host, "port": port}
    if settings.admin.socket is not None:
        await worker.admin.start(numbered(settings.admin.socket, number + 1))
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    worker.start()
    try:
        await _until(worker, shutdown, settings.agw.drain_time, ready_fd, facts)
    finally:
        worker.close()
        await worker.admin.close()
        if server is not None:
            await server.close()
    return 0


async def _until(
    worker: Worker, shutdown: Shutdown, drain_time: float, ready_fd: int | None, facts: dict[str, object]
) -> None:
    """Tell readiness, wait for the signal, leave service."""
    wait_served = spawn(worker.served.wait(), name="in service")
    wait_end = spawn(shutdown.wait(), name="shutdown")
    try:
        await asyncio.wait((wait_served, wait_end), return_when=asyncio.FIRST_COMPLETED)
        if wait_served.done() and ready_fd is not None:
            write_ready(ready_fd, facts)
        await wait_end
    finally:
        wait_served.cancel()
        wait_end.cancel()
    worker.drain()
    try:
        async with asyncio.timeout(drain_time + _EXIT_GRACE):
            await worker.gone.wait()
    except TimeoutError:
        get_logger("agw", gateway=worker.mid).warning("left service without an answer from the controller")


def write_ready(descriptor: int, facts: dict[str, object]) -> None:
    """One line of JSON to the descriptor that waits for it, which is closed afterwards."""
    try:
        os.write(descriptor, json.dumps(facts).encode() + b"\n")
        os.close(descriptor)
    except OSError as error:
        get_logger("agw").warning("nobody waits for readiness", error=error.strerror)
