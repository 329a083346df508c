"""Kamailio as the home network in the place of the lab's core, and a lab around it on a loopback address of its own."""

import asyncio
import itertools
import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.interop.capture import Capture, NoCapture, Packet, decode
from tests.interop.programs import needs, own_address, ports_of
from tests.system.labs import LabRun

from imskit.tls import Identity
from imslab.lab import Lab
from imslab.process import DaemonProcess, LabError
from imslab.toml import merge

CONFIGURATION = Path(__file__).with_name("kamailio") / "core.cfg"
needs_kamailio = needs("kamailio", "kamailio")
DOMAIN = "lab.example"
_READY = "home network: serving"
_BEAT = 0.02


class Kamailio(DaemonProcess):
    """One Kamailio with our configuration; ``ready`` as that of the lab's core, after :meth:`start`."""

    def __init__(self, folder: Path, host: str) -> None:
        super().__init__("kamailio", (), folder / "kamailio.log")
        self.host = host
        self.port, self.tls_port = ports_of(host, 2)
        self.has_tls = any(Path("/usr/lib").glob("*/kamailio/modules/tls.so"))
        self._folder = folder
        self._control = folder / "kamailio.control"
        self._answers = folder / "kamailio.answers"
        self._ids = itertools.count(1)

    def _command(self) -> list[str]:
        names = {"CORE_HOST": self.host, "CORE_PORT": self.port, "CORE_CONTROL": self._control}
        if self.has_tls:
            certificate, key = self._folder / "core.pem", self._folder / "core.key"
            Identity.generate("core.lab.example", hosts=("core.lab.example", self.host)).save(certificate, key)
            names |= {"CORE_TLS": self.tls_port, "CORE_CERTIFICATE": certificate, "CORE_KEY": key}
        found = shutil.which("kamailio")
        if found is None:
            raise LabError("kamailio is not installed (Debian package kamailio)")
        command = [found, "-f", str(CONFIGURATION), "-DD", "-E", "-m", "64", "-M", "8"]
        command += ["-Y", str(self._folder), "-w", str(self._folder)]
        for name, value in names.items():
            command += ["--substdef", f"!{name}!{value}!g"]
        return [*command, *(("-A", "WITH_TLS") if self.has_tls else ())]

    async def start(self, deadline: float = 15.0) -> dict[str, Any]:
        """Until it serves; raises LabError with the end of its log."""
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        while _READY not in self.log.read_text(errors="replace"):
            if await self.wait(_BEAT) is not None or loop.time() > end:
                await self.stop(0.0)
                raise LabError(f"Kamailio did not become ready; {self.log_tail()}")
        entries = [{"transport": transport, "host": self.host, "port": self.port} for transport in ("udp", "tcp")]
        if self.has_tls:
            entries.append({"transport": "tls", "host": self.host, "port": self.tls_port})
        self.ready = {"sip": entries}
        return self.ready

    def rpc(self, method: str, *parameters: object) -> Any:
        """One JSON-RPC request to it: the result, or None where it answers with an error."""
        self._answers.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(self._answers))
            sock.settimeout(5.0)
            request = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": next(self._ids)}
            sock.sendto(json.dumps(request).encode(), str(self._control))
            answer = json.loads(sock.recv(65_536))
        return answer.get("result")

    def contacts(self, user: str) -> dict[str, str]:
        """Contact -> Path of everything that user has registered."""
        found = self.rpc("ul.lookup", "location", f"{user}@{DOMAIN}") or self.rpc("ul.lookup", "location", user) or {}
        return {one["Contact"]["Address"]: one["Contact"]["Path"] for one in found.get("Contacts", [])}

    def forget(self, *users: str) -> None:
        """Remove everything that these users have registered."""
        for user in users:
            self.rpc("ul.rm", "location", f"{user}@{DOMAIN}")
            self.rpc("ul.rm", "location", user)

    def complaints(self) -> list[str]:
        """Lines of its log in which it finds fault."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if re.search(_FAULTS, line)]


_PORTS = ("udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport")
_FAULTS = r"\b(ERROR|CRITICAL|BUG|ALERT)\b|insane|came here"


class KamailioLab(Lab):
    """The lab with Kamailio as its core; ``core_transport`` is how the P-CSCF reaches it.

    Everything is on ``host``, an address of this process alone, but for the access side with ``ipv6``.
    """

    def __init__(self, *, host: str = "", ipv6: bool = False, core_transport: str = "udp", **settings: Any) -> None:
        own = host or own_address(9)
        realm = {"addresses": [own, "::1"], "quarantine": 2.0}
        mine: dict[str, Any] = {
            "listen": [
                {"realm": side, "transport": transport, "host": own, "port": 0}
                for side in ("access", "core")
                for transport in ("udp", "tcp")
            ],
            "realm": {"core": {"early_syn": "accept"}},
        }
        super().__init__(
            ipv6=ipv6,
            **{
                **settings,
                "imsalg": merge(mine, settings.get("imsalg", {})),
                "agw": merge({"realm": {"access": realm, "core": realm}}, settings.get("agw", {})),
            },
        )
        self.own = own
        if not ipv6:
            self.host = own
        self._core_transport = core_transport
        self.kamailio = Kamailio(self.directory, own)

    async def start_one(self, name: str) -> None:
        """The core is Kamailio; the others are as always."""
        if name != "core":
            await super().start_one(name)
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes["core"] = self.kamailio
        await self.kamailio.start()

    def _imsalg_settings(self) -> dict[str, Any]:
        settings = super()._imsalg_settings()
        host, port = self.core_address(self._core_transport)
        settings["realm"]["core"]["next_hop"] = f"sip:{host}:{port};transport={self._core_transport}"
        gateways = self.processes["imsalg"].ready["gateways"]["port"] if "imsalg" in self.processes else 0
        settings["gateways"]["listen"] = f"tcp:{self.own}:{gateways}"
        if self._core_transport == "tls":
            files = {"certificate": str(self.directory / "pcscf.pem"), "key": str(self.directory / "pcscf.key")}
            self._tls_listener()
            authority = {"ca": str(self.directory / "core.pem")}
            known = self.processes["imsalg"].ready.get("sip", []) if "imsalg" in self.processes else []
            port = next((one["port"] for one in known if (one["realm"], one["transport"]) == ("core", "tls")), 0)
            entry = {"realm": "core", "transport": "tls", "host": self.own, "port": port}
            settings["listen"].append({**entry, **files, **authority})
        return settings


class Recording:
    """A lab run, and the capture of everything in it."""

    def __init__(self, run: LabRun, lab: KamailioLab, capture: Capture | NoCapture) -> None:
        self.run = run
        self.lab = lab
        self.capture = capture

    def packets(self) -> list[Packet]:
        """What was captured up to now, decoded with the ports of this lab; skips where nothing can be captured."""
        if isinstance(self.capture, NoCapture):
            pytest.skip(str(self.capture))
        self.capture.sync()
        ready = {name: self.lab.processes[name].ready for name in ("core", "imsalg")}
        entries = [entry for one in ready.values() for entry in one["sip"]]
        sip = {entry["port"] for entry in entries if entry["transport"] != "tls"}
        sips = {entry["port"] for entry in entries if entry["transport"] == "tls"}
        h248 = {ready["imsalg"]["gateways"]["port"]}
        media: dict[str, set[int]] = {"access": set(), "core": set()}
        for line in self.lab.lines():
            if line.kind == "tcp" and line.realm in media and line.local:
                media[line.realm].add(int(line.local.rpartition(":")[2]))
        found = decode(self.capture.file, sip=sip, sips=sips, h248=h248, tls=media["access"], msrp=media["core"])
        known = {str(port) for port in (*sip, *sips, *h248, *media["access"], *media["core"])}
        return [one for one in found if known & {one[field] for field in _PORTS}]


@contextmanager
def recorded_lab(**settings: Any) -> Iterator[Recording]:
    """A running lab around Kamailio, captured from before its first message."""
    lab = KamailioLab(**settings)
    taken: Capture | NoCapture
    try:
        taken = Capture(
            f"host {lab.own}{' or host ::1' if settings.get('ipv6') else ''}", lab.directory / "lab.pcapng", lab.own
        )
        taken.start()
    except NoCapture as reason:
        taken = reason
    try:
        run = LabRun(lab)
        try:
            yield Recording(run, lab, taken)
        finally:
            run.close()
    finally:
        if isinstance(taken, Capture):
            taken.kill()
