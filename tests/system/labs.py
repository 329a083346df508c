"""What the tests on the whole lab share: labs that serve many scenarios, and the words the scenarios are told in."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import uvloop

from imslab.lab import ORDER, Lab
from imslab.ladder.read import TraceLine
from imslab.process import environment
from imslab.ue.agent import UeAgent, UeOptions
from imslab.ue.call import Call, SipFailure
from imslab.ue.link import MsrpLink
from imslab.ue.media import MediaOptions
from imswire.sip.message import Response

DEADLINE = 40.0
BOB = "sip:bob@lab.example"
BRISK: dict[str, Any] = {
    "gateway_timers": {"heartbeat": 0.4, "heartbeat_timeout": 0.6, "reconnect_grace": 0.8, "request": 2.0}
}
"""Settings of an IMS-ALG that soon notices what happens to a gateway."""

type Transport = Literal["udp", "tcp", "tls"]
type Scenario = Callable[[Lab], Coroutine[Any, Any, None]]


class LabRun:
    """A running lab and the loop that its UEs live on. ``run(scenario)`` is one test on it.

    After each scenario every UE is de-registered and closed, and (unless ``tidy`` is False, for scenarios in which
    processes die) every context that was added on the way must have been subtracted. ``start`` names the processes,
    ``lab`` is one that is not started yet, in place of one with these settings.
    """

    def __init__(self, lab: Lab | None = None, *, start: tuple[str, ...] = ORDER, **settings: Any) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.lab = lab or Lab(**settings)
        try:
            for name in start:
                self._runner.run(self.lab.start_one(name))
        except BaseException:
            self.close()
            raise

    def run(self, scenario: Scenario, *, tidy: bool = True, deadline: float = DEADLINE) -> None:
        """Run one scenario to its end; a failure shows the ends of the daemons' logs."""
        try:
            self._runner.run(self._limited(scenario, tidy, deadline))
        except Exception as error:
            for process in self.lab.processes.values():
                error.add_note(f"{process.name}: {process.log_tail(8)}")
            raise

    def close(self) -> None:
        """End everything."""
        try:
            self._runner.run(self.lab.stop())
        finally:
            self._runner.close()

    async def _limited(self, scenario: Scenario, tidy: bool, deadline: float) -> None:
        lab, before = self.lab, len(self.lab.lines())
        try:
            async with asyncio.timeout(deadline):
                await scenario(lab)
                if tidy:
                    await lab.wait_lines(lambda lines: not left_over(lines[before:]))
        finally:
            await self._clear(lab)

    async def _clear(self, lab: Lab) -> None:
        """A contact left behind would get the calls of the next scenario too."""
        for ue in lab.ues:
            if ue.registration is not None:
                with contextlib.suppress(SipFailure, TimeoutError):
                    await ue.unregister(deadline=1.0)
            await ue.close()
        lab.ues.clear()


@contextmanager
def fresh_lab(**settings: Any) -> Iterator[LabRun]:
    """A lab for one test, to be broken."""
    run = LabRun(**settings)
    try:
        yield run
    finally:
        run.close()


class Labs:
    """Labs of one test file, one for each set of settings, started when first asked for."""

    def __init__(self) -> None:
        self._running: dict[str, LabRun] = {}

    def __call__(self, **settings: Any) -> LabRun:
        key = repr(sorted(settings.items()))
        if key not in self._running:
            self._running[key] = LabRun(**settings)
        return self._running[key]

    def close(self) -> None:
        """End all of them."""
        for run in self._running.values():
            run.close()


# --- UEs and calls ---


@dataclass(frozen=True)
class Ue:
    """What one end of a call is like. ``agrees``: it announces msrp-tls at registration; ``reliable``: what its INVITE
    says about 100rel."""

    media: MediaOptions = field(default_factory=MediaOptions)
    agrees: bool = True
    transport: Transport = "udp"
    reliable: Literal["no", "supported", "required"] = "no"

    def having(self, **changes: Any) -> "Ue":
        """The same with other media options."""
        return replace(self, media=replace(self.media, **changes))

    async def register(self, lab: Lab, user: str) -> UeAgent:
        """A registered UE of that kind."""
        options = UeOptions(mediasec=("msrp-tls",) if self.agrees else (), reliable=self.reliable)
        return await lab.ue(user, transport=self.transport, media=self.media, options=options)


SECURE = Ue()
PLAIN = Ue(MediaOptions(secure=False), agrees=False)
"""A UE without any media plane security: its side of a call is what a peer beyond the core would be."""

FLOWS: dict[str, tuple[Ue, Ue]] = {
    "originating": (SECURE, PLAIN),
    "terminating": (PLAIN, SECURE),
    "both": (SECURE, SECURE),
}
"""Which passages of a call from alice to bob are secured at the edge."""


@dataclass
class Talk:
    """An established call seen from both ends."""

    outgoing: Call
    incoming: Call

    @property
    def ends(self) -> tuple[Call, Call]:
        return self.outgoing, self.incoming

    async def texts(self) -> None:
        """One text each way."""
        await self.outgoing.session.send_text("from alice")
        assert (await self.incoming.session.receive()).text == "from alice"
        await self.incoming.session.send_text("from bob")
        assert (await self.outgoing.session.receive()).text == "from bob"

    async def hang_up(self) -> None:
        """BYE from alice, seen by bob."""
        assert await self.outgoing.hangup() == 200
        await self.incoming.wait_end()

    def tls(self) -> list[str]:
        """The TLS version of each end's connection, empty without TLS."""
        return [call.session.link.tls_version if call.session.link is not None else "none" for call in self.ends]


async def register(lab: Lab, a: Ue = SECURE, b: Ue = SECURE) -> tuple[UeAgent, UeAgent]:
    """alice and bob, registered."""
    return await a.register(lab, "alice"), await b.register(lab, "bob")


async def establish(alice: UeAgent, bob: UeAgent) -> Talk:
    """A call from alice that bob accepts."""
    outgoing = alice.dial(bob.account.aor)
    incoming = await bob.wait_call()
    incoming.accept()
    await outgoing.answered()
    return Talk(outgoing, incoming)


async def connect(lab: Lab, a: Ue = SECURE, b: Ue = SECURE) -> Talk:
    """alice and bob registered, and talking."""
    return await establish(*await register(lab, a, b))


def need(response: Response | None) -> Response:
    """A response that must be there."""
    assert response is not None
    return response


# --- what the traces say ---


def call_contexts(lines: list[TraceLine], call: Call) -> list[tuple[str | None, int | str | None]]:
    """(gateway, context) of each passage of a call that the AGW serves."""
    return [(one.gateway, one.context) for one in lines if one.kind == "bind" and one.call_id == call.call_id]


def left_over(lines: list[TraceLine]) -> Counter[tuple[str | None, int | str | None]]:
    """Contexts that were added and not subtracted."""
    return of_replies(lines, "Add") - of_replies(lines, "Subtract")


def of_replies(lines: list[TraceLine], name: str) -> Counter[tuple[str | None, int | str | None]]:
    """Contexts in replies that have a command of that name."""
    return Counter(
        (line.gateway, context)
        for line in lines
        if line.kind == "h248" and line.type == "reply"
        for context in {one.context for one in line.commands if one.command == name and isinstance(one.context, int)}
    )


def media_lines(lines: list[TraceLine], call: Call, kind: str) -> list[TraceLine]:
    """The AGW's lines of one kind about a call."""
    known = call_contexts(lines, call)
    return [one for one in lines if one.kind == kind and (one.gateway, one.context) in known]


def added(fields: str, lines: list[TraceLine]) -> list[TraceLine]:
    """H.248 requests with an Add that has this field."""
    return [one for one in lines if one.type == "request" and any(fields in command.fields for command in one.commands)]


# --- watching ---


class Watched(MsrpLink):
    """A connection that remembers every octet that came in from the network."""

    octets: dict[tuple[str, int], bytearray] = {}  # noqa: RUF012  one for the process: tests run one after the other

    def data_received(self, data: bytes) -> None:
        self.octets.setdefault(self.local, bytearray()).extend(data)
        super().data_received(data)


def watch(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], bytearray]:
    """From now on: what reached each local address of a UE's MSRP connections, raw."""
    Watched.octets.clear()
    monkeypatch.setattr("imslab.ue.media.MsrpLink", Watched)
    return Watched.octets


def command(*arguments: str) -> list[str]:
    """A command line of this project, run from where the tests run."""
    return [sys.executable, "-m", *arguments]


def plain_environment() -> dict[str, str]:
    """An environment in which help texts come without colours and of one width."""
    return {**environment(), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}


def log_of(lab: Lab, name: str) -> str:
    """What a daemon logged so far."""
    return Path(lab.directory / f"{name}.log").read_text("utf-8")
