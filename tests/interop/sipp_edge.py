"""sipp on both sides of the daemons: one as UE, one as core, for many scenarios at the same time.

sipp of Debian has no TLS: over TLS the UE is sipp over TCP, and stunnel makes TLS of it.
"""

import contextlib
import csv
import shutil
import socket
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import Struct
from tests.interop.capture import Capture, NoCapture
from tests.interop.programs import Program, needs, own_address, ports_of
from tests.system.edge import DEADLINE, HOST, Daemon, agw_settings, alg_settings

from imskit.tls import Identity
from imslab.toml import merge

SCENARIOS = Path(__file__).with_name("sipp")
AT_ONCE = 5
"""Pairs of sipp that run at the same time."""

needs_sipp = needs("sipp", "sip-tester")
needs_stunnel = needs("stunnel", "stunnel4")


class Run(Struct, frozen=True):
    """One scenario pair over one transport of the UE; the core has TCP where the UE has TLS.

    ``called`` is False for a core that takes all and says nothing.
    """

    name: str
    transport: str = "udp"
    ipv6: bool = False
    calls: int = 5
    rate: int = 50
    called: bool = True

    def __str__(self) -> str:
        return f"{self.name}-{self.transport}{6 if self.ipv6 else ''}"

    @property
    def spoken(self) -> str:
        """The transport that sipp itself has."""
        return "tcp" if self.transport == "tls" else self.transport


def playable(runs: Sequence[Run]) -> list[Run]:
    """Those that can be had here."""
    return [run for run in runs if run.transport != "tls" or shutil.which("stunnel") is not None]


class Sipp:
    """One sipp process with a scenario of ours."""

    def __init__(self, scenario: str, run: Run, host: str, port: int, folder: Path, *more: str) -> None:
        self._calls = run.calls
        self._stats = folder / f"{scenario}.csv"
        self._errors = folder / f"{scenario}.errors"
        file = SCENARIOS / f"{scenario}.xml"
        if run.transport == "tls" and scenario.startswith("uac_"):  # what the UE writes is of the TLS around it
            file = folder / file.name
            file.write_text((SCENARIOS / file.name).read_text().replace("[transport]", "TLS"))
        options: dict[str, Any] = {"-sf": file, "-t": f"{run.spoken[0]}1", "-m": run.calls}
        options |= {"-i": host, "-p": port, "-timeout": "30s", "-recv_timeout": 12_000, "-fd": "1s"}
        options |= {"-stf": self._stats, "-error_file": self._errors}
        flags = ["-nostdin", "-trace_stat", "-trace_err", "-timeout_error"]
        command = ["sipp", *flags, *(str(part) for pair in options.items() for part in pair), *more]
        self._program = Program(command, folder, name=scenario)
        self._port = port

    def outcome(self) -> str:
        """To the end: empty where every call was successful, else what went wrong."""
        if not self._program.ended(35.0):
            self._program.stop(0.5)
            return f"did not end. {self._said()}"
        status = self._program.status()
        if status != 0:
            return f"ended with status {status}. {self._said()}"
        last = self.last()
        counted = {key: int(last[f"{key}(C)"]) for key in ("SuccessfulCall", "FailedCall", "OutOfCallMsgs")}
        if counted != {"SuccessfulCall": self._calls, "FailedCall": 0, "OutOfCallMsgs": 0}:
            return f"counted {counted}. {self._said()}"
        return ""

    def last(self) -> dict[str, str]:
        """Its last line of statistics."""
        with self._stats.open() as file:
            return list(csv.DictReader(file, delimiter=";"))[-1]

    def listening(self, transport: str) -> str:
        """Wait until it has its port: empty, or what went wrong."""
        for _ in range(500):
            if bound(self._port, transport):
                return ""
            if self._program.ended(0.01):
                break
        return f"does not listen. {self._said()}"

    def kill(self) -> None:
        """End it, if it runs."""
        self._program.stop(0.5)

    def _said(self) -> str:
        errors = self._errors.read_text(errors="replace")[-4000:] if self._errors.exists() else ""
        return errors or self._program.tail()


def bound(port: int, transport: str) -> bool:
    """Whether somebody listens at that port, without disturbing them (Linux)."""
    wanted, state = f":{port:04X}", "0A" if transport == "tcp" else "07"
    rows = [row for kind in (transport, f"{transport}6") for row in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return any((parts := row.split())[1].endswith(wanted) and parts[3] == state for row in rows)


class Tunnels:
    """One stunnel: for each name a port of ``host`` whose connections go on over TLS to a port of the P-CSCF."""

    def __init__(self, host: str, targets: Mapping[str, int], authority: Path, folder: Path) -> None:
        self.ports = dict(zip(targets, ports_of(host, len(targets)), strict=True))
        lines = ["foreground = yes", "pid =", "debug = info"]
        for name, port in targets.items():
            lines += [f"[{name}]", "client = yes", f"accept = {host}:{self.ports[name]}"]
            lines += [f"connect = {host}:{port}", f"local = {host}", "delay = yes"]
            lines += [f"CAfile = {authority}", "verifyChain = yes", f"checkIP = {host}", "sni =", "TIMEOUTclose = 0"]
        settings = folder / "stunnel.conf"
        settings.write_text("\n".join(lines) + "\n")
        self._program = Program(["stunnel", settings], folder, name="stunnel")
        self._program.wait_for("Configuration successful")
        for port in self.ports.values():
            while not bound(port, "tcp") and not self._program.ended(0.01):
                pass

    def close(self) -> None:
        """End it."""
        self._program.stop(0.5)


class SippEdge:
    """One IMS-ALG (and IMS-AGW) with a pair of realms for each run, so that runs do not meet.

    Each run's core is a port of its own, which the next hop of its realm names. ``outcomes`` has, after :meth:`play`,
    an empty text for each run that went well.
    """

    def __init__(self, folder: Path, runs: Sequence[Run], *, last: int = 11, alg: Mapping[str, Any] | None = None):
        self.folder = folder
        self.runs = {str(run): run for run in runs}
        self.host = own_address(last)
        self.outcomes: dict[str, str] = {}
        self.statistics: dict[str, dict[str, str]] = {}
        count = len(self.runs)
        plain, six = ports_of(self.host, 2 * count), ports_of("::1", 2 * count)
        self.core = {name: (six if run.ipv6 else plain)[at] for at, (name, run) in enumerate(self.runs.items())}
        self.ue = {name: (six if run.ipv6 else plain)[count + at] for at, (name, run) in enumerate(self.runs.items())}
        self._stack = contextlib.ExitStack()
        self.capture: Capture | NoCapture
        try:
            self.capture = Capture(f"host {self.host}", folder / "sipp.pcapng", self.host)
            self.capture.start()
            self._stack.callback(self.capture.kill)
        except NoCapture as reason:
            self.capture = reason
        Identity.generate("pcscf", hosts=[self.host]).save(folder / "pcscf.pem", folder / "pcscf.key")
        # All UEs have one address here, and a busy machine is neither overload nor a reason to send twice.
        calm: dict[str, Any] = {
            "overload": {"source_rate": 0.0, "lag": 0.0, "queue": 0},
            "timers": {"t1": 2.0},
            "metrics": {"listen": f"{HOST}:0"},
        }
        self.alg = Daemon("imsalg", merge(merge(self._settings(folder), calm), alg or {}), folder)
        self._stack.callback(self.alg.stop)
        gateways = self.alg.ready["gateways"]["port"]
        realm = {"addresses": [self.host, "::1"]}
        agw = Daemon("agw", agw_settings(folder, gateways, {"realm": {"access": realm, "core": realm}}), folder)
        self._stack.callback(agw.stop)
        self._tunnels: Tunnels | None = None
        inner = {name: self._access(name) for name, run in self.runs.items() if run.transport == "tls"}
        if inner:
            self._tunnels = Tunnels(self.host, inner, folder / "pcscf.pem", folder)
            self._stack.callback(self._tunnels.close)

    def __enter__(self) -> "SippEdge":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self) -> None:
        """All runs, a few at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for name, said in zip(self.runs, pool.map(self._play, self.runs), strict=True):
                self.outcomes[name] = said

    def sip_ports(self) -> set[int]:
        """The ports on which SIP is spoken in the open."""
        return {entry["port"] for entry in self.alg.ready["sip"] if entry["transport"] != "tls"}

    def tls_ports(self) -> set[int]:
        """The ports on which SIP is spoken over TLS."""
        return {entry["port"] for entry in self.alg.ready["sip"]} - self.sip_ports()

    def measured(self, name: str) -> float:
        """A metric of the IMS-ALG."""
        where = self.alg.ready["metrics"]
        with urllib.request.urlopen(f"http://{where['host']}:{where['port']}/metrics", timeout=DEADLINE) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def _access(self, name: str) -> int:
        """The port of the P-CSCF for that run's UE."""
        return next(int(entry["port"]) for entry in self.alg.ready["sip"] if entry["realm"] == f"access-{name}")

    def _host(self, run: Run) -> str:
        return "::1" if run.ipv6 else self.host

    def _settings(self, folder: Path) -> dict[str, Any]:
        listen, realms = [], {}
        for name, run in self.runs.items():
            host = self._host(run)
            for side, transport in (("access", run.transport), ("core", run.spoken)):
                listen.append({"realm": f"{side}-{name}", "transport": transport, "host": host, "port": 0})
            if run.transport == "tls":
                listen[-2] |= {"certificate": str(folder / "pcscf.pem"), "key": str(folder / "pcscf.key")}
            shown = f"[{host}]" if run.ipv6 else host
            hop = f"sip:{shown}:{self.core[name]};transport={run.spoken}"
            realms[f"access-{name}"] = {
                "kind": "access",
                "allow_unregistered": True,
                "core_realm": f"core-{name}",
                "agw_realm": "access",
            }
            realms[f"core-{name}"] = {"kind": "core", "next_hop": hop, "agw_realm": "core"}
        return {**alg_settings(folder, 0), "listen": listen, "realm": realms}

    def _play(self, name: str) -> str:
        run, folder = self.runs[name], self.folder / name
        folder.mkdir()
        host = self._host(run)
        tunnels = self._tunnels.ports if self._tunnels is not None else {}
        port = tunnels.get(name) or self._access(name)
        with contextlib.ExitStack() as stack:
            called: Sipp | None = None
            if run.called:
                called = Sipp(f"uas_{run.name}", run, host, self.core[name], folder)
                stack.callback(called.kill)
                if said := called.listening(run.spoken):
                    return f"called: {said}"
            else:
                mute = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                mute.bind((host, self.core[name]))
            remote = f"[{host}]:{port}" if run.ipv6 else f"{host}:{port}"
            caller = Sipp(f"uac_{run.name}", run, host, self.ue[name], folder, remote, "-r", str(run.rate))
            stack.callback(caller.kill)
            wrong = {"caller": caller.outcome()}
            if called is not None:
                wrong["called"] = called.outcome()
                if not wrong["called"]:
                    self.statistics[name] = called.last()
            return "\n".join(f"{who}: {said}" for who, said in wrong.items() if said)
