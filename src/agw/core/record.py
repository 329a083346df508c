"""What is written about legs: trace lines for the ladder, log lines for people."""

from collections.abc import Callable

from agw.core.events import Command, Log, Trace
from agw.core.model import Leg


class Record:
    """Gives traces and logs to ``emit``; ``tracing`` False leaves the traces out."""

    def __init__(self, gateway: str, emit: Callable[[Command], None], *, tracing: bool) -> None:
        self._gateway = gateway
        self._emit = emit
        self.tracing = tracing

    def trace(self, leg: Leg, kind: str, **fields: object) -> None:
        """One line of a kind of docs/tracing.md about a leg."""
        if not self.tracing:
            return
        facts: dict[str, object] = {
            "gateway": self._gateway,
            "context": leg.context.id,
            "termination": leg.name,
            "realm": leg.request.realm,
            "local": address_text((leg.place.advertised, leg.place.port)),
        }
        self._emit(Trace(kind, {**facts, **fields}))

    def log(self, level: str, event: str, leg: Leg, **fields: object) -> None:
        """One log line about a leg."""
        self._emit(Log(level, event, {"context": leg.context.id, "termination": leg.name, **fields}))


def address_text(address: tuple[str, int]) -> str:
    """``192.0.2.1:7000``, ``[2001:db8::1]:7000``."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
