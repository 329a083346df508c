"""The whole lab on loopback: core, P-CSCF/IMS-ALG and IMS-AGW as real processes, and UEs that talk to them.

>>> async with Lab(early_syn="ignore") as lab:
...     alice, bob = await lab.ue("alice"), await lab.ue("bob")

Used by ``imslab up`` with the fixed ports of ``configs/lab`` and by system tests with free ports.
"""

import asyncio
import socket
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from imskit.admin import Query, ask
from imskit.settings import load
from imskit.tls import Identity
from imslab.core.settings import CoreSettings
from imslab.ladder.group import build_ladders
from imslab.ladder.model import Ladder
from imslab.ladder.read import TraceLine, read_traces
from imslab.process import DaemonProcess, LabError
from imslab.toml import dumps, merge
from imslab.ue.agent import Account, UeAgent, UeOptions
from imslab.ue.media import MediaOptions
from imswire.sip.uri import bracketed

_POLL = 0.05
ORDER = ("core", "imsalg", "agw")
"""Started in this order; ended in the opposite one."""


def default_config_dir() -> Path:
    """``configs/lab`` below the working directory, else that of the source tree this package lies in."""
    here = Path("configs/lab")
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / "configs" / "lab"


class Lab:
    """``async with Lab(...) as lab``. Every difference to the files in ``config_dir`` is an argument.

    ``fixed_ports`` keeps the files' ports; otherwise every port is a free one, media ports too unless ``agw`` names
    a range. ``ipv6`` puts the access side on ::1,
    ``sip_tls`` adds a SIP over TLS listener there, with a certificate of its own.
    ``early_syn``, ``source_filter``, ``path_scheme`` and ``msrp`` are settings of both realms (``early_syn``
    is "accept" where neither it nor ``config_dir`` is given); ``tls`` is the range of TLS versions of the AGW.
    ``imsalg``, ``agw`` and ``core`` are laid over the settings last, table by table.
    """

    def __init__(
        self,
        *,
        config_dir: Path | None = None,
        directory: Path | None = None,
        fixed_ports: bool = False,
        ipv6: bool = False,
        sip_tls: bool = False,
        early_syn: Literal["ignore", "accept"] | None = None,
        source_filter: Literal["off", "address", "address-and-port"] | None = None,
        path_scheme: Literal["keep", "rewrite"] | None = None,
        msrp: Literal["off", "optional", "required", "always"] | None = None,
        tls: tuple[Literal["1.2", "1.3"], Literal["1.2", "1.3"]] | None = None,
        workers: int = 1,
        imsalg: Mapping[str, Any] | None = None,
        agw: Mapping[str, Any] | None = None,
        core: Mapping[str, Any] | None = None,
    ) -> None:
        self._config_dir = config_dir or default_config_dir()
        self._temporary = None if directory is not None else tempfile.TemporaryDirectory(prefix="imslab-")
        self.directory = directory or Path(self._temporary.name if self._temporary is not None else ".")
        self._fixed = fixed_ports
        self.host = "::1" if ipv6 else "127.0.0.1"
        if config_dir is None and early_syn is None:
            early_syn = "accept"  # a held SYN is repeated a second later: only where somebody wants to see it
        realm = {"early_syn": early_syn, "source_filter": source_filter, "path_scheme": path_scheme}
        given = {key: value for key, value in realm.items() if value is not None}
        self._imsalg: dict[str, Any] = {
            "realm": {"access": given, "core": {k: v for k, v in given.items() if k != "path_scheme"}}
        }
        if msrp is not None:
            self._imsalg["policy"] = {"msrp": msrp}
        self._imsalg = merge(self._imsalg, imsalg or {})
        self._agw: dict[str, Any] = {"agw": {"workers": workers}}
        if tls is not None:
            self._agw["tls"] = {"min_version": tls[0], "max_version": tls[1]}
        self._agw = merge(self._agw, agw or {})
        self._core = dict(core or {})
        self.processes: dict[str, DaemonProcess] = {}
        self.ues: list[UeAgent] = []
        self.on_step: Callable[[str, str], None] = lambda name, text: None
        self._ipv6 = ipv6
        self._sip_tls = sip_tls

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- processes ---

    @property
    def traces(self) -> list[Path]:
        """The trace files that exist."""
        return [path for name in ("imsalg", "agw") if (path := self.directory / f"{name}.trace.jsonl").exists()]

    async def start(self) -> None:
        """Start the three processes, each when the one before is ready (the AGW is once the IMS-ALG has
        taken its ServiceChange); raises :class:`LabError`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in (*self.traces, *self.directory.glob("imsalg.db*")):  # another lab's registrations and calls
            path.unlink()
        for name in ORDER:
            await self.start_one(name)

    async def start_one(self, name: str) -> None:
        """Start, or start again, one of ``core``, ``imsalg``, ``agw`` on the ports it had before."""
        settings = {"core": self._core_settings, "imsalg": self._imsalg_settings, "agw": self._agw_settings}[name]()
        if name not in self.processes and self._fixed:
            check_ports(name, settings)
        path = self.directory / f"{name}.toml"
        path.write_text(dumps(settings), "utf-8")
        arguments = ["imslab", "core"] if name == "core" else [name, "run"]
        process = DaemonProcess(name, [*arguments, "--config", str(path)], self.directory / f"{name}.log")
        previous = self.processes.get(name)
        self.processes[name] = process
        await process.start()
        if previous is None:
            self.on_step(name, _where(name, process.ready))

    async def stop(self) -> None:
        """End UEs and processes in order."""
        for ue in self.ues:
            await ue.close()
        self.ues.clear()
        for name in reversed(ORDER):
            process = self.processes.get(name)
            if process is not None:
                await process.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    # --- addresses ---

    def address(self, realm: str, transport: str = "udp") -> tuple[str, int]:
        """Where the IMS-ALG really listens."""
        for entry in self.processes["imsalg"].ready.get("sip", []):
            if entry["realm"] == realm and entry["transport"] == transport:
                return entry["host"], entry["port"]
        raise LabError(f"the IMS-ALG has no {transport} listener in realm {realm}")

    def core_address(self, transport: str = "udp") -> tuple[str, int]:
        """Where the core really listens."""
        for entry in self.processes["core"].ready.get("sip", []):
            if entry["transport"] == transport:
                return entry["host"], entry["port"]
        raise LabError(f"the core has no {transport} listener")

    @property
    def core_socket(self) -> Path:
        """The core's admin socket, for ``imslab deregister``."""
        return self.directory / "core.sock"

    async def deregister(self, user: str) -> list[str]:
        """The network ends the registration of a user; the contacts that it had."""
        answer = await asyncio.to_thread(ask, self.core_socket, Query("deregister", user), program="the lab core")
        return list(answer["contacts"])

    @property
    def domain(self) -> str:
        """The home domain."""
        return load(self._core_settings(), CoreSettings).domain

    def users(self) -> dict[str, str]:
        """User parts and passwords."""
        return dict(load(self._core_settings(), CoreSettings).users)

    # --- UEs ---

    async def ue(
        self,
        user: str,
        *,
        transport: Literal["udp", "tcp", "tls"] = "udp",
        register: bool = True,
        media: MediaOptions | None = None,
        options: UeOptions | None = None,
    ) -> UeAgent:
        """A UE of that user, registered; closed with the lab."""
        host, port = self.address("access", transport)
        registrar = f"sip:{bracketed(host)}:{port};transport={transport}"
        settings = load(self._core_settings(), CoreSettings)
        account = Account(user, settings.users.get(user, ""), settings.domain, registrar)
        chosen = options or UeOptions()
        chosen = replace(chosen, host=self.host, folder=chosen.folder or self.directory, media=media or chosen.media)
        if transport == "tls" and chosen.ca is None:
            chosen = replace(chosen, ca=self.directory / "pcscf.pem")
        agent = UeAgent(account, chosen)
        await agent.start()
        self.ues.append(agent)
        if register:
            await agent.register()
        return agent

    # --- traces ---

    def lines(self) -> list[TraceLine]:
        """All trace lines written so far, in time order."""
        return read_traces(self.traces)

    def ladders(self) -> list[Ladder]:
        """The ladders of everything so far."""
        return build_ladders(self.lines())

    async def wait_trace(self, wanted: Callable[[TraceLine], bool], deadline: float = 5.0) -> TraceLine:
        """The first trace line that ``wanted`` accepts, as soon as it is written; raises :class:`LabError`."""
        lines = await self.wait_lines(lambda lines: any(map(wanted, lines)), deadline)
        return next(line for line in lines if wanted(line))

    async def wait_lines(self, enough: Callable[[list[TraceLine]], bool], deadline: float = 5.0) -> list[TraceLine]:
        """All trace lines, as soon as ``enough`` says so; raises :class:`LabError`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        while True:
            lines = self.lines()
            if enough(lines):
                return lines
            if loop.time() >= end:
                raise LabError(f"the expected trace lines did not come within {deadline:.0f} s (see {self.directory})")
            await _tick()

    # --- settings ---

    def _read(self, name: str) -> dict[str, Any]:
        path = self._config_dir / f"{name}.toml"
        try:
            return tomllib.loads(path.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise LabError(f"{path}: {error}") from None

    def _core_settings(self) -> dict[str, Any]:
        settings = merge(self._read("core"), {"admin": str(self.core_socket), **self._core})
        known = self.processes.get("core")
        ports = {entry["transport"]: entry["port"] for entry in known.ready.get("sip", [])} if known is not None else {}
        if not self._fixed:
            for listen in settings["listen"]:
                listen["port"] = ports.get(listen["transport"], 0)
        return settings

    def _imsalg_settings(self) -> dict[str, Any]:
        settings = merge(self._read("imsalg"), self._imsalg)
        ready = self.processes["imsalg"].ready if "imsalg" in self.processes else {}
        ports = {(entry["realm"], entry["transport"]): entry["port"] for entry in ready.get("sip", [])}
        if self._sip_tls:
            settings["listen"].append(self._tls_listener())
        for listen in settings["listen"]:
            if not self._fixed:
                listen["port"] = ports.get((listen["realm"], listen["transport"]), 0)
            if self._ipv6 and listen["realm"] == "access":
                listen["host"] = "::1"
        if not self._fixed:
            host, port = self.core_address()
            settings["realm"]["core"]["next_hop"] = f"sip:{host}:{port}"
            if load(self._core_settings(), CoreSettings).psap:
                settings["realm"]["core"]["emergency_next_hop"] = f"sip:{host}:{port}"
            settings["gateways"]["listen"] = f"tcp:127.0.0.1:{ready.get('gateways', {}).get('port', 0)}"
        settings["trace"] = {"file": str(self.directory / "imsalg.trace.jsonl")}
        settings["admin"] = {"socket": str(self.directory / "imsalg.sock")}
        return settings

    def _tls_listener(self) -> dict[str, Any]:
        certificate, key = self.directory / "pcscf.pem", self.directory / "pcscf.key"
        if not certificate.exists():
            Identity.generate("pcscf.lab.example", hosts=("pcscf.lab.example", self.host)).save(certificate, key)
        files = {"certificate": str(certificate), "key": str(key)}
        return {"realm": "access", "transport": "tls", "host": self.host, "port": 5061, **files}

    def _agw_settings(self) -> dict[str, Any]:
        settings = merge(self._read("agw"), self._agw)
        if not self._fixed:
            gateways = self.processes["imsalg"].ready["gateways"]
            settings["agw"]["controller"] = f"tcp:{bracketed(gateways['host'])}:{gateways['port']}"
            for name, realm in settings["realm"].items():
                realm["ports"] = self._agw.get("realm", {}).get(name, {}).get("ports", "0")
        settings["trace"] = {"file": str(self.directory / "agw.trace.jsonl")}
        settings["admin"] = {"socket": str(self.directory / "agw.sock")}
        return settings


def check_ports(name: str, settings: Mapping[str, Any]) -> None:
    """Say at once, and clearly, when a port of the lab is taken. Raises :class:`LabError`."""
    wanted = [(one["transport"], one["host"], one["port"]) for one in settings.get("listen", ())]
    gateways = settings.get("gateways", {}).get("listen", "") if isinstance(settings.get("gateways"), Mapping) else ""
    if gateways:
        transport, _, rest = gateways.partition(":")
        host, _, port = rest.rpartition(":")
        wanted.append((transport, host.strip("[]"), int(port)))
    for transport, host, port in wanted:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            try:
                probe.bind((host, port))
            except OSError as error:
                reason = error.strerror or str(error)
                raise LabError(
                    f"{name} needs {transport} {host}:{port}, which cannot be had: {reason}.\n"
                    f"End the program that holds it (ss -lnp shows it), or change the port in the settings."
                ) from None


def _where(name: str, ready: Mapping[str, Any]) -> str:
    seen = [f"{one['transport']} {bracketed(one['host'])}:{one['port']}" for one in ready.get("sip", [])]
    gateways = ready.get("gateways")
    if isinstance(gateways, Mapping):
        seen.append(f"H.248 {bracketed(gateways['host'])}:{gateways['port']}")
    return ", ".join(seen) or f"process {ready.get('pid', '?')}"


async def _tick() -> None:
    """One beat of the poll that watches a file grow."""
    beat = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(_POLL, lambda: None if beat.done() else beat.set_result(None))
    await beat
