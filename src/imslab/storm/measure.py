"""What processes and daemons hold: memory, descriptors, tasks, contexts, ports."""

import urllib.request
from pathlib import Path
from typing import Any

from msgspec import Struct

from imskit.admin import Query, all_numbered, ask


class Use(Struct, frozen=True):
    """What a process uses: resident octets, descriptors and threads."""

    resident: int
    descriptors: int
    threads: int = 0


def use_of(pid: int) -> Use:
    """Of a living process; zeros for a dead one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return Use(0, 0)
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmRSS" not in fields:  # it has ended and nobody has asked for its status
        return Use(0, 0)
    return Use(int(fields["VmRSS"].split()[0]) * 1024, descriptors, int(fields["Threads"]))


def metrics_of(address: tuple[str, int]) -> dict[str, float]:
    """Metric (with its labels, as Prometheus writes it) -> value. Raises OSError."""
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics", timeout=5) as response:
        text: str = response.read().decode()
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


class Held(Struct, frozen=True):
    """What the daemons hold together."""

    calls: int
    claimed: int
    """Contexts that the IMS-ALG knows of."""
    contexts: int
    """Contexts that the workers hold."""
    free_ports: dict[str, int]
    in_service: int
    """Media gateways that the IMS-ALG gives calls to."""
    registrations: int

    @property
    def idle(self) -> bool:
        """Nothing of any call is left."""
        return not self.calls and not self.claimed and not self.contexts


def held(directory: Path) -> Held:
    """Ask the daemons of the lab whose admin sockets are in ``directory``; raises AdminError."""
    alg = directory / "imsalg.sock"
    gateways: list[dict[str, Any]] = ask(alg, Query("gateways"), program="imsalg")
    workers = [ask(path, Query("worker"), program="agw") for path in all_numbered(directory / "agw.sock")]
    free: dict[str, int] = {}
    for worker in workers:
        for realm, count in worker["free_ports"].items():
            free[realm] = free.get(realm, 0) + count
    return Held(
        ask(alg, Query("calls", limit=1), program="imsalg")["total"],
        sum(one["contexts"] + one["reserving"] for one in gateways),
        sum(worker["contexts"] for worker in workers),
        free,
        sum(one["state"] == "in service" for one in gateways),
        ask(alg, Query("registrations", limit=1), program="imsalg")["total"],
    )
