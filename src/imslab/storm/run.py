"""A storm: faults one after another while calls go on, with a verdict on every call and on what is left at the end."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable

from msgspec import Struct

from imskit.admin import AdminError, Query, ask
from imslab.process import LabError
from imslab.storm import faults, measure
from imslab.storm.lab import StormLab
from imslab.storm.mark import MARK
from imslab.storm.measure import Held, Use
from imslab.storm.traffic import Fate, Traffic, eventually, pause
from imslab.ue.agent import UeAgent
from imslab.ue.call import SipFailure
from imslab.ue.chat import ChatError
from imswire.sdp.model import SessionDescription

_TRIM = 5.0  # seconds after which a daemon that has nothing to do has given memory back
USERS = ("alice", "bob", "carol", "dave")
_TEXT = re.compile(r'text="([^"]*)"')


class Round(Struct, frozen=True):
    """One fault: how many calls there were, what became of them, the reasons given, and what was seen of the fault."""

    fault: str
    calls: int
    fates: dict[Fate, int]
    reasons: dict[str, int]
    notes: str = ""


class Growth(Struct, frozen=True):
    """A process before the faults and after them, both times with no call left."""

    name: str
    pid: int
    before: Use
    after: Use

    @property
    def memory(self) -> float:
        """Growth of resident memory as a fraction."""
        return self.after.resident / self.before.resident - 1 if self.before.resident else 0.0


class Storm:
    """``calls`` run at a time. The times (seconds) are those of a short storm; a soak gives longer ones."""

    def __init__(
        self, lab: StormLab, calls: int, *, stopped: float = 3.0, cut: float = 0.5, half_open: int = 100
    ) -> None:
        self.lab = lab
        self.calls = calls
        self.stopped = stopped
        self.cut = cut
        self.half_open = half_open
        self.rounds: list[Round] = []
        self.ues: list[UeAgent] = []
        self._traffic: Traffic | None = None
        self._before: dict[int, Use] = {}
        self._tasks = 0.0
        self._free: dict[str, int] = {}

    @property
    def traffic(self) -> Traffic:
        """The calls."""
        if self._traffic is None:
            raise LabError("the storm has not begun")
        return self._traffic

    async def begin(self) -> None:
        """Register the UEs, and bring every process to the size that so many calls need."""
        self._free = self.held().free_ports
        for user in USERS:
            self.ues.append(await self.lab.ue(user))
        alice, bob, carol, dave = self.ues
        self._traffic = Traffic([(alice, bob), (carol, dave)])
        # The most calls that there are ports for come first: memory that was needed once is not given back.
        for count in (self.lab.ports // 2, self.calls, self.calls):
            await self.traffic.fill(count)
            await pause(1.0)
            await self.calm()
        await self.slow_reader()  # a file that waits fills every buffer on its way
        await self.calm()
        await pause(_TRIM)
        self._before = {pid: measure.use_of(pid) for pid in self._processes()}
        self._tasks = self._alg_tasks()

    async def calm(self) -> Held:
        """Hang up every call and wait until the daemons hold nothing; what they hold then."""
        await self.traffic.hang_up()
        await eventually("calls and contexts are released", self._nothing_held, 30.0)
        return self.held()

    def held(self) -> Held:
        """What the daemons hold."""
        return measure.held(self.lab.directory)

    def _nothing_held(self) -> object:
        try:
            now = self.held()
        except AdminError as error:
            return str(error)
        free = now.free_ports == self._free or not self._free
        return True if now.idle and free and now.in_service == len(self.lab.workers) else now

    async def growth(self, within: float = 0.0, patience: int = 5) -> list[Growth]:
        """The processes that lived through it all; to be asked when nothing is going on.

        Daemons give memory back some time after the load went; those that have grown by more than ``within`` (a
        fraction) are asked again, ``patience`` times at most.
        """
        for _ in range(patience):
            await pause(_TRIM)
            grown = [
                Growth(name, pid, self._before[pid], measure.use_of(pid))
                for pid, name in self._processes().items()
                if pid in self._before
            ]
            if all(one.memory <= within for one in grown):
                break
        return grown

    def tasks(self) -> tuple[float, float]:
        """Tasks of the IMS-ALG's loop before and now."""
        return self._tasks, self._alg_tasks()

    def _alg_tasks(self) -> float:
        where = self.lab.processes["imsalg"].ready["metrics"]
        return measure.metrics_of((where["host"], where["port"]))["imsalg_loop_tasks"]

    def _processes(self) -> dict[int, str]:
        known = {self.lab.processes["imsalg"].pid: "imsalg", self.lab.processes["agw"].pid: "agw supervisor"}
        return known | dict.fromkeys(self.lab.workers, "agw worker")

    # --- rounds ---

    async def round(self, fault: str, do: Callable[[], Awaitable[str]]) -> Round:
        """Bring the calls up, do it, and judge every call."""
        calls = await self.traffic.fill(self.calls)
        notes = await do()
        verdict = await self.traffic.judge()
        over = [talk for fate in (Fate.ENDED, Fate.GONE, Fate.BROKEN) for talk in verdict[fate]]
        reasons: Counter[str] = Counter()
        for talk in over:
            reasons.update(_reason(text) for text in talk.reasons)
        done = Round(fault, calls, {fate: len(talks) for fate, talks in verdict.items()}, dict(reasons), notes)
        self.rounds.append(done)
        return done

    async def kill_worker(self) -> str:
        """kill -9 one AGW worker; wait until its successor serves."""
        before = self.lab.workers
        faults.kill(before[0])
        await eventually("a new worker", lambda: len(set(self.lab.workers) - set(before)) == 1)
        await self._serving()
        return "the supervisor started another"

    async def stop_controller(self) -> str:
        """SIGSTOP the IMS-ALG for a while."""
        self.lab.processes["imsalg"].pause()
        await pause(self.stopped)
        self.lab.processes["imsalg"].resume()
        await self._serving()
        return f"for {self.stopped:g} s"

    async def cut_link(self) -> str:
        """Cut the H.248 links of all workers for a while."""
        forwarder = self.lab.forwarder
        if forwarder is None:
            raise LabError("there is no forwarder")
        forwarder.cut()
        await pause(self.cut)
        forwarder.mend()
        await self._serving()
        return f"for {self.cut:g} s"

    async def fill_ports(self) -> str:
        """More calls than there are ports: what is too much is refused, and the rest goes on."""
        before = len(self.traffic.talks)
        refused = Counter(self.traffic.failures)
        # Each call between two UEs of this edge passes it twice: two contexts, a port in each realm for both.
        reached = await self.traffic.fill(self.lab.ports // 2 + 10, at_once=10)
        refused = self.traffic.failures - refused
        free = self.held().free_ports
        return f"{before} calls became {reached}; refused: {dict(refused)}; free ports {free}"

    async def garbage(self) -> str:
        """Noise at every door: SIP over UDP and TCP, H.248, and the media ports of calls that are being set up."""
        faults.garbage_datagrams(self.lab.address("access"), 200)
        noise = faults.HalfOpen()
        gateways = self.lab.processes["imsalg"].ready["gateways"]
        doors = [self.lab.address("access", "tcp"), (gateways["host"], gateways["port"])]
        for door in doors:
            await noise.open(door, 10, b"\x16\x03\x01 GET / HTTP/1.1\r\n\r\n" + bytes(range(256)))
        outcomes = Counter([await self._meddle(b"\x00garbage\xff" * 30, noise) for _ in range(5)])
        leaked = b"plain" in noise.received()
        noise.close()
        if leaked:
            raise LabError("a stranger was sent plain text")
        return f"calls whose media port was hit first: {dict(outcomes)}"

    async def half_opened(self) -> str:
        """Connections that say nothing, at every door, and one at the media port of each of some new calls."""
        silent = faults.HalfOpen()
        gateways = self.lab.processes["imsalg"].ready["gateways"]
        made = await silent.open(self.lab.address("access", "tcp"), self.half_open)
        made += await silent.open((gateways["host"], gateways["port"]), self.half_open, b"\x03\x00")
        begun = (b"", b"\x16\x03\x01\x02\x00\x01", b"M")  # nothing, the head of a ClientHello, of an MSRP message
        outcomes = Counter([await self._meddle(say, silent) for say in begun])
        answer = silent.received()
        silent.close()
        return f"{made} connections, {len(answer)} octets came back; calls behind a silent stranger: {dict(outcomes)}"

    async def _meddle(self, say: bytes, strangers: faults.HalfOpen) -> str:
        """A call whose access port a stranger reaches first: it comes up or ends with a reason; tells which."""
        caller, called = self.ues[1], self.ues[0]  # from bob to alice: nobody answers alice's calls on his own
        outgoing = caller.dial(called.account.aor)
        incoming = await called.wait_call()
        offer = SessionDescription.parse(incoming.request_in.body if incoming.request_in is not None else b"")
        line = offer.media[0]
        await strangers.open((offer.address_of(line).address, line.port), 1, say)
        incoming.accept()
        try:
            await outgoing.answered(10.0)
            await outgoing.session.opened(3.0)
            await incoming.session.opened(3.0)
            outcome = "came up"
        except SipFailure as failure:
            outcome = f"refused with {failure.status}"
        except (ChatError, TimeoutError):
            outcome = "no media"
        for call in (outgoing, incoming):
            with contextlib.suppress(TimeoutError):
                await call.wait_end(0.5)
        reason = _TEXT.search(outgoing.end_reason or incoming.end_reason)
        for call in (outgoing, incoming):
            with contextlib.suppress(TimeoutError, SipFailure):
                await call.hangup(2.0)
        return f"{outcome}, ended: {reason.group(1)}" if reason else outcome

    async def slow_reader(self) -> str:
        """A file for a UE that does not read for a while; it arrives whole afterwards."""
        talk = await self.traffic.call()
        await talk.quiet()
        path = self.lab.directory / "slow.bin"
        path.write_bytes(bytes(range(256)) * 196_608)  # 48 MiB: more than the kernels' buffers on the way take
        link = talk.far.session.link
        if link is None:
            raise LabError("the session has no connection")
        link.hold_reading(True)
        sending = asyncio.ensure_future(talk.near.session.send_file(path))
        await pause(2.0)
        stuck = not sending.done()
        peak = max(measure.use_of(pid).resident for pid in self.lab.workers)
        link.hold_reading(False)
        sent = await sending
        received = await talk.far.session.receive(30.0)
        if received.path is not None:
            received.path.unlink()
        await talk.hang_up()
        equal = sent.sha256 == received.sha256
        if not (stuck and equal):
            raise LabError(f"a slow reader: held back {stuck}, arrived whole {equal}")
        return f"{sent.size:,} octets waited for the reader and arrived whole; a worker had {peak >> 20} MiB"

    async def slow_writer(self) -> str:
        """A UE whose octets come one by one: its message arrives whole, and nobody waits for it."""
        talk = await self.traffic.call()
        await talk.quiet()
        link = talk.near.session.link
        if link is None:
            raise LabError("the session has no connection")
        link.trickle(0.001)
        text = f"{MARK} drop by drop " * 40
        await talk.near.session.send_text(text, deadline=30.0)
        link.trickle(0.0)
        received = await talk.far.session.receive(30.0)
        await talk.hang_up()
        if received.text != text:
            raise LabError(f"a slow writer: {len(received.text or '')} of {len(text)} octets arrived")
        return f"{len(text)} octets arrived, sent one by one"

    async def kill_controller(self) -> str:
        """kill -9 the IMS-ALG and start it again; what it keeps is written first."""
        process = self.lab.processes["imsalg"]
        await eventually("the state is written", self._written)
        process.kill()
        await process.stop()
        await self.lab.start_one("imsalg")
        await self._serving()
        return "started again"

    def _written(self) -> object:
        answer = ask(self.lab.directory / "imsalg.sock", Query("state"))
        return True if not answer["pending"] else answer

    async def _serving(self) -> None:
        """Every worker is in service again."""

        def good() -> object:
            try:
                now = self.held()
            except AdminError as error:
                return str(error)
            return True if now.in_service >= len(self.lab.workers) else now

        await eventually("all workers are in service", good, 30.0)


def _reason(text: str) -> str:
    found = _TEXT.search(text)
    return found.group(1) if found else text
