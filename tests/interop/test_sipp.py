"""sipp as UE and as core: calls and registrations through the P-CSCF, over UDP and over TCP.

The scenarios check what they receive by regular expressions; a message that is not as expected fails its call.
"""

import csv
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.edge import DEADLINE, HOST, Edge, free_port

CALLS = 5
SCENARIOS = Path(__file__).with_name("sipp")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.system,
    pytest.mark.xdist_group("sipp"),
    pytest.mark.skipif(shutil.which("sipp") is None, reason="needs the program sipp (Debian package sip-tester)"),
]


class Route:
    """The daemons between a sipp on the access side and one that plays the core at ``core``."""

    def __init__(self, edge: Edge, transport: str, core: int) -> None:
        self.edge = edge
        self.transport = transport
        self.core = core

    def run(self, scenario: str, folder: Path, calls: int = CALLS) -> None:
        """``calls`` of the scenario pair; both programs must end with status 0 and count no failed call."""
        called = Sipp(f"uas_{scenario}", self.transport, folder, calls, "-p", str(self.core))
        try:
            called.listening(self.core)
            host, port = self.edge.address("access", self.transport)
            own = str(free_port(self.core))
            caller = Sipp(f"uac_{scenario}", self.transport, folder, calls, f"{host}:{port}", "-p", own, "-r", "50")
            try:
                caller.succeed()
            finally:
                caller.kill()
            called.succeed()
        finally:
            called.kill()


class Sipp:
    """One sipp process."""

    def __init__(self, scenario: str, transport: str, folder: Path, calls: int, *more: str) -> None:
        self._name = scenario
        self._transport = transport
        self._calls = calls
        self._stats = folder / f"{scenario}.csv"
        self._errors = folder / f"{scenario}.errors"
        options: dict[str, Any] = {"-sf": SCENARIOS / f"{scenario}.xml", "-t": f"{transport[0]}1", "-m": calls}
        options |= {"-i": HOST, "-timeout": "20s", "-recv_timeout": 10_000, "-fd": "1s"}
        options |= {"-stf": self._stats, "-error_file": self._errors}
        flags = ["-nostdin", "-trace_stat", "-trace_err", "-timeout_error"]
        command = ["sipp", *flags, *(str(part) for pair in options.items() for part in pair), *more]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )

    def listening(self, port: int) -> None:
        """Wait until the program has its port; fails when it ends before."""
        for _ in range(int(DEADLINE * 100)):
            if bound(port, self._transport):
                return
            try:
                self._process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            break
        pytest.fail(f"{self._name} does not listen: {self._said()}")

    def succeed(self) -> None:
        """To the end: status 0, every call successful, none failed."""
        assert self._process.wait(DEADLINE * 2) == 0, self._said()
        with self._stats.open() as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
        assert int(last["SuccessfulCall(C)"]) == self._calls, self._said()
        assert int(last["FailedCall(C)"]) == 0, self._said()
        assert int(last["OutOfCallMsgs(C)"]) == 0, self._said()

    def kill(self) -> None:
        """End it, if it runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        return self._errors.read_text(errors="replace")[-3000:] if self._errors.exists() else "nothing"


def bound(port: int, transport: str) -> bool:
    """Whether somebody listens at that IPv4 port, without disturbing them (Linux)."""
    wanted = f":{port:04X}"
    state = "0A" if transport == "tcp" else "07"
    rows = Path(f"/proc/net/{transport}").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(wanted) and row.split()[3] == state for row in rows)


@pytest.fixture(scope="module", params=["udp", "tcp"])
def route(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route]:
    transport = str(request.param)
    port = free_port()
    hop = {"realm": {"core": {"next_hop": f"sip:{HOST}:{port};transport={transport}"}}}
    with Edge(tmp_path_factory.mktemp(f"sipp-{transport}"), alg=hop) as edge:
        yield Route(edge, transport, port)


def test_a_call_without_media_of_ours(route: Route, tmp_path: Path) -> None:
    route.run("plain", tmp_path)


def test_an_msrp_call_is_protected_at_the_edge(route: Route, tmp_path: Path) -> None:
    route.run("msrp", tmp_path)


def test_registration_with_security_agreement_and_digest(route: Route, tmp_path: Path) -> None:
    route.run("register", tmp_path, calls=1)
