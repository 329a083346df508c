"""The lab for storms: several AGW workers, few ports, and an H.248 link that can be cut."""

import os
from pathlib import Path
from typing import Any

from imslab.lab import Lab
from imslab.storm.faults import Forwarder, children

PORTS = range(22_000, 30_000)
"""Media ports for storms: below those that the kernel gives to others."""


class StormLab(Lab):
    """``ports``: media ports of each realm, over all workers. Quarantine is short, to see ports come back."""

    def __init__(self, *, workers: int = 2, ports: int = 400, directory: Path | None = None) -> None:
        size = 2 * ports
        first = PORTS.start + os.getpid() % (len(PORTS) // size) * size
        self.ports = ports
        self.access_ports = range(first, first + ports)
        self.core_ports = range(first + ports, first + size)
        self.forwarder: Forwarder | None = None
        super().__init__(
            directory=directory,
            workers=workers,
            imsalg={"metrics": {"listen": "127.0.0.1:0"}, "log": {"level": "warning"}},
            agw={
                "realm": {
                    "access": {"ports": f"{first}-{first + ports - 1}", "quarantine": 0.5},
                    "core": {"ports": f"{first + ports}-{first + size - 1}", "quarantine": 0.5},
                },
                "tls": {"handshake_timeout": 2.0},
                "timers": {"backoff_first": 0.1, "backoff_cap": 0.5},
                "log": {"level": "warning"},
            },
        )

    async def start_one(self, name: str) -> None:
        """Start one; the AGW finds the IMS-ALG behind the forwarder."""
        if name == "agw" and self.forwarder is None:
            gateways = self.processes["imsalg"].ready["gateways"]
            self.forwarder = Forwarder((gateways["host"], gateways["port"]))
            await self.forwarder.start()
        await super().start_one(name)

    async def stop(self) -> None:
        """End everything."""
        await super().stop()
        if self.forwarder is not None:
            await self.forwarder.close()

    @property
    def workers(self) -> list[int]:
        """Process ids of the AGW workers that live."""
        return children(self.processes["agw"].pid)

    def _imsalg_settings(self) -> dict[str, Any]:
        settings = super()._imsalg_settings()
        settings["trace"] = {}
        return settings

    def _agw_settings(self) -> dict[str, Any]:
        settings = super()._agw_settings()
        settings["trace"] = {}
        if self.forwarder is not None:
            settings["agw"]["controller"] = f"tcp:{self.forwarder.address[0]}:{self.forwarder.address[1]}"
        return settings
