"""Metrics and health over a small HTTP server on loopback: /metrics, /healthz and /readyz."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from imskit.exchange import Exchanges
from imskit.settings import SettingsError
from imskit.sockets import Address, is_loopback

__all__ = ["Counter", "Gauge", "Histogram", "Metrics", "MetricsServer"]

_REQUEST_LIMIT = 8_192  # octets of a request head

type Rows = Mapping[tuple[str, ...], float]
"""Values by their labels' values."""


type _Family = type[CounterMetricFamily] | type[GaugeMetricFamily]


class Metrics:
    """The registry of one process; names get ``prefix`` in front ("imsalg" makes ``imsalg_calls_total``)."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.registry = CollectorRegistry()

    def counter(self, name: str, help: str, labels: Iterable[str] = ()) -> Counter:
        """A value that only grows; Prometheus shows it with ``_total`` at the end."""
        return Counter(f"{self._prefix}_{name}", help, tuple(labels), registry=self.registry)

    def counter_of(self, name: str, help: str, read: Callable[[], float]) -> None:
        """A counter that somebody else keeps: ``read`` is called each time the metrics are asked for."""
        self.counters_of(name, help, (), lambda: {(): read()})

    def counters_of(self, name: str, help: str, labels: Iterable[str], read: Callable[[], Rows]) -> None:
        """Counters with labels that somebody else keeps. ``labels`` must be bounded: no user, address or Call-ID."""
        self._register(CounterMetricFamily, name, help, labels, read)

    def gauge_of(self, name: str, help: str, read: Callable[[], float]) -> None:
        """A value that goes up and down, read each time the metrics are asked for."""
        self.gauges_of(name, help, (), lambda: {(): read()})

    def gauges_of(self, name: str, help: str, labels: Iterable[str], read: Callable[[], Rows]) -> None:
        """Such values with labels, which must be bounded."""
        self._register(GaugeMetricFamily, name, help, labels, read)

    def _register(self, kind: _Family, name: str, help: str, labels: Iterable[str], read: Callable[[], Rows]) -> None:
        self.registry.register(_Read(kind, f"{self._prefix}_{name}", help, tuple(labels), read))

    def process(self) -> None:
        """What every daemon tells of itself: memory, CPU and descriptors (``process_...``), and tasks of its loop."""
        ProcessCollector(registry=self.registry)
        self.gauge_of("loop_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))

    def gauge(self, name: str, help: str, labels: Iterable[str] = ()) -> Gauge:
        """A value that goes up and down; ``set_function`` reads it when it is asked for."""
        return Gauge(f"{self._prefix}_{name}", help, tuple(labels), registry=self.registry)

    def histogram(
        self, name: str, help: str, labels: Iterable[str] = (), buckets: tuple[float, ...] = Histogram.DEFAULT_BUCKETS
    ) -> Histogram:
        """A distribution, in seconds unless ``name`` says otherwise."""
        return Histogram(f"{self._prefix}_{name}", help, tuple(labels), registry=self.registry, buckets=buckets)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


class _Read(Collector):
    """A family whose values are read when they are asked for."""

    def __init__(self, kind: _Family, name: str, help: str, labels: tuple[str, ...], read: Callable[[], Rows]) -> None:
        self._kind = kind
        self._name = name
        self._help = help
        self._labels = labels
        self._read = read

    def collect(self) -> Iterable[Metric]:
        family = self._kind(self._name, self._help, labels=self._labels)
        for labels, value in sorted(self._read().items()):
            family.add_metric(labels, value)
        yield family

    def describe(self) -> Iterable[Metric]:
        """The name alone, so that registering reads nothing."""
        yield self._kind(self._name, self._help, labels=self._labels)


class MetricsServer:
    """Answers GET and HEAD for the three paths; anything else gets 404, 405 or 400, and every exchange is bounded.

    ``ready()`` decides /readyz: "" is ready, any other text says why not. /healthz answers while the loop turns.
    """

    def __init__(self, metrics: Metrics, ready: Callable[[], str] = lambda: "") -> None:
        self._metrics = metrics
        self._ready = ready
        self._server: asyncio.Server | None = None
        self._exchanges = Exchanges("metrics", self._exchange)

    async def start(self, host: str, port: int) -> Address:
        """Listen; returns the real address. Raises SettingsError for an address that is not loopback."""
        if not is_loopback(host):
            raise SettingsError([f"[metrics] {host}:{port} is not loopback; put a proxy in front to publish metrics"])
        self._server = await asyncio.start_server(self._exchanges.serve, host, port, limit=_REQUEST_LIMIT)
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._exchanges.abort()
            await self._server.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, "Request Header Fields Too Large", b"the request is too large\n")
        except asyncio.IncompleteReadError:
            return _response(400, "Bad Request", b"the request is incomplete\n")
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(400, "Bad Request", b"not an HTTP/1 request\n")
        method, target = words[0], words[1].split(b"?", 1)[0]
        if method not in (b"GET", b"HEAD"):
            return _response(405, "Method Not Allowed", b"GET and HEAD only\n", allow=b"GET, HEAD")
        return self._answer(target, head=method == b"HEAD")

    def _answer(self, target: bytes, *, head: bool) -> bytes:
        if target == b"/metrics":
            return _response(200, "OK", self._metrics.render(), kind=CONTENT_TYPE_PLAIN_0_0_4.encode(), head=head)
        if target == b"/healthz":
            return _response(200, "OK", b"ok\n", head=head)
        if target == b"/readyz":
            why = self._ready()
            if not why:
                return _response(200, "OK", b"ready\n", head=head)
            return _response(503, "Service Unavailable", f"not ready: {why}\n".encode(), head=head)
        return _response(404, "Not Found", b"/metrics, /healthz and /readyz are here\n", head=head)


def _response(
    status: int,
    reason: str,
    body: bytes,
    *,
    kind: bytes = b"text/plain; charset=utf-8",
    allow: bytes = b"",
    head: bool = False,
) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (status, reason.encode()), b"Content-Type: " + kind]
    lines += [b"Content-Length: %d" % len(body), b"Cache-Control: no-store", b"Connection: close"]
    if allow:
        lines.append(b"Allow: " + allow)
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head else body)
