"""Concurrent calls, each with messages going both ways, and a verdict on each after something was done to the edge."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from imskit.driver import spawn
from imslab.process import LabError
from imslab.storm.mark import MARK
from imslab.ue.agent import UeAgent
from imslab.ue.call import Call, SipFailure
from imslab.ue.chat import ChatError
from imslab.ue.link import MsrpLink
from imslab.ue.media import NotAcceptable

_SETUP = 20.0  # seconds for a call to come up
_ANSWER = 15.0  # seconds for a message to be confirmed
_BEAT = 0.5  # seconds between two messages of one call
_PATIENCE = 10.0  # seconds that a UE waits for the network to end a call whose media are gone


class Fate(StrEnum):
    """What became of a call."""

    UNTOUCHED = "untouched"
    """Both ends are in the call and messages go both ways."""
    ENDED = "ended by the network, with a reason"
    GONE = "media closed, ended by the UEs"
    BROKEN = "broken: neither of these"


class Talk:
    """One call between two UEs. ``problem`` says why messages stopped, "" while they go on."""

    def __init__(self, near: Call, far: Call) -> None:
        self.near = near
        self.far = far
        self.messages = 0
        self.problem = ""
        self.stopped = asyncio.Event()
        self._task = spawn(self._talk(), name=f"talk {near.call_id}")

    async def _talk(self) -> None:
        turns = itertools.cycle(((self.near, self.far), (self.far, self.near)))
        try:
            while not self.stopped.is_set():
                await self.one(*next(turns))
                await pause(_BEAT, self.stopped)
        except (ChatError, TimeoutError) as error:
            self.problem = str(error) or "no confirmation"
        if not self.stopped.is_set():
            await self._over()

    async def one(self, source: Call, sink: Call) -> None:
        """One message, confirmed and received as it was sent; raises ChatError or TimeoutError."""
        text = f"{MARK} {source.ue.account.user} {self.messages}"
        await source.session.send_text(text, deadline=_ANSWER)
        received = await sink.session.receive(_ANSWER)
        if received.text != text:
            raise ChatError(f"received {received.text!r} instead of {text!r}")
        self.messages += 1

    async def _over(self) -> None:
        """The media are gone: the network may say why; if it does not, the UEs hang up themselves."""
        for call in (self.near, self.far):
            with contextlib.suppress(TimeoutError):
                await call.wait_end(_PATIENCE)
        for call in (self.near, self.far):
            with contextlib.suppress(TimeoutError, SipFailure):
                await call.hangup(1.0)

    async def quiet(self) -> None:
        """No messages any more; the call goes on."""
        self.stopped.set()
        await self._task

    async def hang_up(self) -> None:
        """End the call in order."""
        await self.quiet()
        with contextlib.suppress(TimeoutError, SipFailure):
            await self.near.hangup()
        with contextlib.suppress(TimeoutError):
            await self.far.wait_end(5.0)
        if not self.far.ended.done():
            with contextlib.suppress(TimeoutError, SipFailure):
                await self.far.hangup()

    async def fate(self) -> Fate:
        """Wait until it is clear what became of the call."""
        before = self.messages
        for _ in range(4):
            if self._task.done():
                break
            await pause(2 * _BEAT)
            if self.messages > before + 1:
                return Fate.UNTOUCHED
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * _ANSWER):
                    while not self._task.done() and self.messages <= before + 1:
                        await pause(_BEAT)
        if not self._task.done():
            return Fate.UNTOUCHED if self.messages > before + 1 else Fate.BROKEN
        if not (self.near.ended.done() and self.far.ended.done()):
            return Fate.BROKEN
        return Fate.ENDED if self.near.end_reason and self.far.end_reason else Fate.GONE

    @property
    def reasons(self) -> tuple[str, str]:
        """Why each end thinks that the call is over."""
        return tuple(call.ended.result() if call.ended.done() else "" for call in (self.near, self.far))  # type: ignore[return-value]


class Traffic:
    """Calls from the first UE of each pair to the second. ``failures`` counts setups that failed, by cause."""

    def __init__(self, pairs: Sequence[tuple[UeAgent, UeAgent]]) -> None:
        self._pairs = itertools.cycle(pairs)
        self.talks: list[Talk] = []
        self.calls = 0
        self.messages = 0
        self.failures: Counter[str] = Counter()
        self._waiting: dict[str, asyncio.Future[Call]] = {}
        self._answering = [spawn(self._answer(called), name="answering") for _, called in pairs]

    async def fill(self, count: int, *, at_once: int = 20) -> int:
        """Bring the number of calls up to ``count``; returns how many there are. Setups that fail are not repeated."""
        wanted = max(0, count - len(self.talks))
        gate = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with gate:
                with contextlib.suppress(SipFailure, ChatError, TimeoutError, NotAcceptable):
                    self.talks.append(await self.call())

        tasks = [spawn(one(), name="call") for _ in range(wanted)]
        if tasks:
            await asyncio.wait(tasks)
        return len(self.talks)

    async def call(self) -> Talk:
        """One call; raises what made it fail, after counting it."""
        caller, called = next(self._pairs)
        self.calls += 1
        outgoing = caller.dial(called.account.aor)
        future = self._waiting[outgoing.call_id] = asyncio.get_running_loop().create_future()
        try:
            await outgoing.answered(_SETUP)
            async with asyncio.timeout(_SETUP):
                incoming = await future
            await outgoing.session.opened(_SETUP)
            await incoming.session.opened(_SETUP)
        except SipFailure as failure:
            self.failures[f"refused with {failure.status}"] += 1
            raise
        except (ChatError, TimeoutError) as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1
            for call in (outgoing, future.result() if future.done() else None):
                if call is not None:
                    with contextlib.suppress(TimeoutError, SipFailure):
                        await call.hangup(2.0)
            raise
        finally:
            self._waiting.pop(outgoing.call_id, None)
        return Talk(outgoing, incoming)

    async def _answer(self, called: UeAgent) -> None:
        """Accept whatever comes; who called waits for it by its Call-ID."""
        while True:
            incoming = await called.next_call()
            future = self._waiting.get(incoming.call_id)
            if future is None or future.done():
                incoming.reject(480)
                continue
            try:
                incoming.accept()
            except NotAcceptable:
                continue
            future.set_result(incoming)

    async def judge(self) -> dict[Fate, list[Talk]]:
        """The fate of every call; those that are over are forgotten."""
        fates = await asyncio.gather(*(talk.fate() for talk in self.talks))
        verdict: dict[Fate, list[Talk]] = {fate: [] for fate in Fate}
        for talk, fate in zip(self.talks, fates, strict=True):
            verdict[fate].append(talk)
        for fate in (Fate.ENDED, Fate.GONE):
            self.messages += sum(talk.messages for talk in verdict[fate])
        self.talks = [*verdict[Fate.UNTOUCHED], *verdict[Fate.BROKEN]]
        return verdict

    async def hang_up(self) -> None:
        """End every call in order."""
        await asyncio.gather(*(talk.hang_up() for talk in self.talks))
        self.messages += sum(talk.messages for talk in self.talks)
        self.talks.clear()

    async def close(self) -> None:
        """End every call and stop answering."""
        await self.hang_up()
        for task in self._answering:
            task.cancel()
        await asyncio.wait(self._answering)


class Wiretap:
    """Sees every octet that UEs receive on the wire of their secured sessions; ``leaks`` counts plain text."""

    def __init__(self) -> None:
        self.octets = 0
        self.leaks = 0

    def saw(self, data: bytes) -> None:
        """Octets as they came from the wire."""
        self.octets += len(data)
        self.leaks += data.count(MARK.encode())


@contextlib.contextmanager
def wiretap() -> Iterator[Wiretap]:
    """Tap the access side of every UE of this process."""
    tap = Wiretap()
    original = MsrpLink.data_received

    def tapped(link: MsrpLink, data: bytes) -> None:
        tap.saw(data)
        original(link, data)

    setattr(MsrpLink, "data_received", tapped)  # noqa: B010  a plain assignment to a method is none for the type checker
    try:
        yield tap
    finally:
        setattr(MsrpLink, "data_received", original)  # noqa: B010


async def pause(seconds: float, until: asyncio.Event | None = None) -> None:
    """Wait so long, or until ``until`` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (until or asyncio.Event()).wait()


async def eventually(what: str, good: Callable[[], object], deadline: float = 20.0) -> None:
    """Poll ``good`` until it holds; raises :class:`LabError` with ``what`` was waited for."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while True:
        found = good()
        if found is True:
            return
        if loop.time() >= end:
            raise LabError(f"{what} did not come about within {deadline:.0f} s: {found}")
        await pause(0.1)
