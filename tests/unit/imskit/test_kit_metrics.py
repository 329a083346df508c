"""Metrics and health over HTTP, with bounds."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from imskit import exchange
from imskit.driver import run
from imskit.metrics import Metrics, MetricsServer
from imskit.settings import SettingsError


def ask(*requests: bytes, ready: str = "") -> list[bytes]:
    """Whole responses of a server that has one counter with value 3, one connection for each request."""

    async def main() -> int:
        metrics = Metrics("test")
        metrics.counter("calls", "Calls", ["result"]).labels("ok").inc(3)
        metrics.gauge("links", "Links").set_function(lambda: 2.0)
        metrics.counter_of("octets", "Octets", lambda: 17.0)
        metrics.histogram("setup_seconds", "Setup").observe(0.1)
        server = MetricsServer(metrics, lambda: ready)
        host, port = await server.start("127.0.0.1", 0)
        async with asyncio.timeout(10):
            for request in requests:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(request)
                if not request.endswith(b"\r\n\r\n"):
                    writer.write_eof()
                answers.append(await reader.read())
                writer.close()
            await server.close()
        return 0

    answers: list[bytes] = []
    assert run(main()) == 0
    return answers


def test_metrics_in_prometheus_text() -> None:
    (answer,) = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"text/plain; version=0.0.4" in head
    assert b'test_calls_total{result="ok"} 3.0\n' in body
    assert b"test_links 2.0\n" in body
    assert b"# TYPE test_octets_total counter\ntest_octets_total 17.0\n" in body
    assert b"test_setup_seconds_count 1.0\n" in body
    assert b"Content-Length: %d\r\n" % len(body) in head


def test_health_and_readiness() -> None:
    alive, ready = ask(b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /readyz?x=1 HTTP/1.0\r\n\r\n")
    assert alive.endswith(b"\r\n\r\nok\n")
    assert ready.endswith(b"\r\n\r\nready\n")
    (answer,) = ask(b"GET /readyz HTTP/1.1\r\n\r\n", ready="no gateway")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"not ready: no gateway\n")


def test_head_has_the_length_and_no_body() -> None:
    (answer,) = ask(b"HEAD /healthz HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"GET /else HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHalf: ", b"400"),
        (b"", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", b"431"),
        (b"x" * 20_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_what_is_not_a_request_for_metrics(request_: bytes, status: bytes) -> None:
    (answer,) = ask(request_)
    assert answer.split(b" ")[1] == status


def test_a_client_that_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SECONDS", 0.05)
    assert _with_server(lambda host, port: _read_all(host, port, b"GET /met")) == b""


def test_too_many_connections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "CONNECTIONS", 0)
    assert _with_server(lambda host, port: _read_all(host, port, b"GET /healthz HTTP/1.1\r\n\r\n")) == b""


def test_only_loopback_is_served() -> None:
    async def main() -> int:
        with pytest.raises(SettingsError, match="not loopback"):
            await MetricsServer(Metrics("test")).start("0.0.0.0", 0)
        return 0

    assert run(main()) == 0


async def _read_all(host: str, port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def _with_server(use: Callable[[str, int], Awaitable[bytes]]) -> bytes:
    result: list[bytes] = []

    async def main() -> int:
        server = MetricsServer(Metrics("test"))
        host, port = await server.start("127.0.0.1", 0)
        async with asyncio.timeout(10):
            result.append(await use(host, port))
            await server.close()
        return 0

    assert run(main()) == 0
    return result[0]
