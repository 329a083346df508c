"""Driver: order, re-entrancy, one timer, and bugs that do not spread."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence

import pytest

from imskit.driver import Driver, ManualClock, SeededIds, SystemIds, run, spawn


class Script:
    """A machine that logs what it sees; an event ("raise", ...) raises, ("timer", seconds) arms a timer."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []
        self.timers: list[float] = []
        self.fail_expire = 0

    def handle(self, event: str, now: float) -> Sequence[str]:
        self.seen.append((event, now))
        if event == "raise":
            raise RuntimeError("a bug in the machine")
        if event.startswith("timer "):
            self.timers.append(now + float(event[6:]))
        return [f"{event}/1", f"{event}/2"]

    def expire(self, now: float) -> Sequence[str]:
        if self.fail_expire:
            self.fail_expire -= 1
            raise RuntimeError("a bug in a timer")
        due = [timer for timer in self.timers if timer <= now]
        self.timers = [timer for timer in self.timers if timer > now]
        return [f"expired {timer:g}" for timer in due]

    def next_timer(self) -> float | None:
        return min(self.timers, default=None)


class Rig:
    def __init__(self, on_command: Callable[["Rig", str], None] | None = None) -> None:
        self.clock = ManualClock(now=100.0)
        self.machine = Script()
        self.done: list[str] = []
        self.bugs: list[tuple[str, str | None]] = []
        self._on_command = on_command
        self.driver: Driver[str, str] = Driver(self.machine, self._execute, clock=self.clock, on_bug=self._on_bug)

    def _execute(self, command: str) -> None:
        self.done.append(command)
        if self._on_command is not None:
            self._on_command(self, command)

    def _on_bug(self, error: BaseException, event: str | None) -> None:
        self.bugs.append((str(error), event))


def test_an_event_is_handled_before_post_returns_and_its_commands_in_order() -> None:
    rig = Rig()
    rig.driver.post("a")
    assert rig.done == ["a/1", "a/2"]
    assert rig.machine.seen == [("a", 100.0)]


def test_a_post_from_a_command_waits_until_the_event_is_complete() -> None:
    def echo(rig: Rig, command: str) -> None:
        if command == "a/1":
            rig.driver.post("b")
            rig.driver.post("c")
            assert rig.driver.pending == 2
            assert rig.done == ["a/1"], "nothing ran inside post"

    rig = Rig(echo)
    rig.driver.post("a")
    assert rig.done == ["a/1", "a/2", "b/1", "b/2", "c/1", "c/2"]
    assert rig.driver.pending == 0


def test_a_bug_in_the_machine_is_reported_and_the_queue_goes_on() -> None:
    def feed(rig: Rig, command: str) -> None:
        if command == "a/1":
            rig.driver.post("raise")
            rig.driver.post("b")

    rig = Rig(feed)
    rig.driver.post("a")
    assert rig.bugs == [("a bug in the machine", "raise")]
    assert rig.done[-1] == "b/2"


def test_a_bug_in_a_command_does_not_cost_the_other_commands() -> None:
    def fail(_: Rig, command: str) -> None:
        if command == "a/1":
            raise ValueError("a bug in execute")

    rig = Rig(fail)
    rig.driver.post("a")
    assert rig.done == ["a/1", "a/2"]
    assert rig.bugs == [("a bug in execute", "a")]


def test_orders_go_to_those_who_carry_them_out() -> None:
    class Two:
        def handle(self, event: str, now: float) -> Sequence[object]:
            return [1, event, 2.0]

        def expire(self, now: float) -> Sequence[object]:
            return [2, "expired"]

        def next_timer(self) -> float | None:
            return 101.0 if clock.now() < 102.0 else None

    clock, numbers, others, bugs = ManualClock(now=100.0), list[object](), list[object](), list[tuple[str, object]]()

    def number(order: int) -> None:
        numbers.append(order)
        raise ValueError(f"a bug in {order}")

    driver: Driver[str, object] = Driver(
        Two(), others.append, orders={int: number}, clock=clock, on_bug=lambda e, event: bugs.append((str(e), event))
    )
    driver.post("a")
    clock.advance(2.0)
    assert numbers[:2] == [1, 2]
    assert others[:3] == ["a", 2.0, "expired"]
    assert bugs[:2] == [("a bug in 1", "a"), ("a bug in 2", None)]


def test_on_bug_may_fail_and_the_driver_goes_on() -> None:
    machine = Script()
    done: list[str] = []

    def on_bug(error: BaseException, event: str | None) -> None:
        raise RuntimeError("a bug in the reporter")

    driver: Driver[str, str] = Driver(machine, done.append, clock=ManualClock(), on_bug=on_bug)
    driver.post("raise")
    driver.post("a")
    assert done == ["a/1", "a/2"]


def test_one_timer_is_armed_and_fires_at_its_time() -> None:
    rig = Rig()
    rig.driver.post("timer 5")
    rig.driver.post("timer 2")
    assert rig.clock.scheduled == [102.0]
    rig.clock.advance(1.9)
    assert rig.done[4:] == []
    rig.clock.advance(0.1)
    assert rig.done[4:] == ["expired 102"]
    assert rig.clock.scheduled == [105.0]
    rig.clock.advance(10)
    assert rig.done[4:] == ["expired 102", "expired 105"]
    assert rig.clock.scheduled == []


def test_timers_that_run_out_close_together_are_taken_together_and_little_late() -> None:
    rig = Rig()
    asked: list[float] = []
    next_timer = rig.machine.next_timer

    def counted() -> float | None:
        asked.append(rig.clock.now())
        return next_timer()

    rig.machine.next_timer = counted  # type: ignore[method-assign]
    for step in range(20):
        rig.driver.post(f"timer {1 + step / 1000}")
    rig.done.clear()
    rig.clock.advance(1.0)
    assert rig.done == ["expired 101"]
    rig.driver.post("timer 0.001")  # one is armed that runs out as soon: the machine is not asked again
    before = len(asked)
    rig.driver.post("timer 0.002")
    assert len(asked) == before
    rig.clock.advance(0.1)
    assert len([line for line in rig.done if line.startswith("expired")]) == 22
    assert rig.machine.timers == []
    assert len(asked) - before < 10


def test_a_timer_that_moved_later_is_not_expired_early() -> None:
    rig = Rig()
    rig.driver.post("timer 2")
    rig.machine.timers = [107.0]
    rig.clock.advance(2)
    assert rig.done == ["timer 2/1", "timer 2/2"]
    assert rig.clock.scheduled == [107.0]


def test_a_bug_in_a_timer_is_retried_after_a_wait_not_in_a_busy_loop() -> None:
    rig = Rig()
    rig.machine.fail_expire = 1
    rig.driver.post("timer 1")
    rig.clock.advance(1)
    assert rig.bugs == [("a bug in a timer", None)]
    assert rig.clock.scheduled == [pytest.approx(101.1)]
    rig.clock.advance(1)
    assert rig.done[-1] == "expired 101"


def test_close_drops_events_and_disarms() -> None:
    rig = Rig()
    rig.driver.post("timer 1")
    rig.driver.close()
    rig.driver.post("late")
    rig.clock.advance(5)
    assert rig.done == ["timer 1/1", "timer 1/2"]
    assert rig.clock.scheduled == []


def test_on_the_real_loop_a_timer_fires_at_or_after_its_time() -> None:
    async def main() -> int:
        fired = asyncio.Event()
        machine = Script()

        def execute(command: str) -> None:
            if command.startswith("expired"):
                fired.set()

        driver: Driver[str, str] = Driver(machine, execute)
        start = driver.clock.now()
        driver.post("timer 0.03")
        async with asyncio.timeout(5):
            await fired.wait()
        assert driver.clock.now() >= start + 0.03
        driver.close()
        return 7

    assert run(main()) == 7


class StalledClock(ManualClock):
    """A clock that can be late: time passes without anything being run."""

    def stall(self, seconds: float) -> None:
        self._now += seconds


def late_rig() -> tuple[Rig, StalledClock]:
    rig = Rig()
    clock = StalledClock(now=100.0)
    rig.clock = clock
    rig.driver = Driver(rig.machine, rig._execute, clock=clock)
    return rig, clock


def test_after_a_stall_the_sockets_come_before_the_timers() -> None:
    rig, clock = late_rig()
    rig.driver.post("timer 1")
    clock.stall(1.1)
    clock.advance_to(101.1 - 1e-9)  # the callback comes a tenth late, and waits for the poller
    assert rig.done == ["timer 1/1", "timer 1/2"]
    assert clock.scheduled == [pytest.approx(101.1)]
    rig.machine.timers.clear()  # what was read stops the timer
    rig.driver.post("answer")
    clock.advance(1)
    assert rig.done[2:] == ["answer/1", "answer/2"]


def test_a_late_timer_is_put_off_once_however_late_it_becomes() -> None:
    rig, clock = late_rig()
    for lateness in (0.1, 3.0):
        rig.done.clear()
        rig.driver.post("timer 1")
        due = rig.machine.timers[0]
        clock.stall(1.0 + lateness)
        clock.advance_to(clock.now() - 1e-9)
        assert not [line for line in rig.done if line.startswith("expired")]
        clock.stall(5.0)
        rig.driver.post("a flood")
        clock.advance_to(clock.now() - 1e-9)
        assert rig.done[-1] == f"expired {due:g}"
        clock.advance(0.1)
    rig.driver.post("timer 1")
    clock.stall(1.04)
    clock.advance(0.0)
    assert rig.done[-1].startswith("expired"), "a little late is not put off"


def test_on_the_real_loop_an_answer_that_came_during_a_stall_stops_the_timer() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        machine = Script()
        done: list[str] = []
        driver: Driver[str, str] = Driver(machine, done.append)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]

        def stall() -> None:
            pairs[0][0].recv(9)
            pairs[1][1].send(b"200")
            time.sleep(0.15)  # what is tested: the loop stands still while the timer runs out

        def answer() -> None:
            pairs[1][0].recv(9)
            machine.timers.clear()
            driver.post("answer")
            answered.set()

        loop.add_reader(pairs[0][0], stall)
        loop.add_reader(pairs[1][0], answer)
        driver.post("timer 0.05")
        pairs[0][1].send(b"x")
        async with asyncio.timeout(5):
            await answered.wait()
        assert not [line for line in done if line.startswith("expired")]
        driver.close()
        for pair in pairs:
            for one in pair:
                loop.remove_reader(one)
                one.close()
        return 7

    assert run(main()) == 7


def test_run_uses_uvloop_and_none_is_success() -> None:
    seen: list[str] = []

    async def main() -> None:
        seen.append(type(asyncio.get_running_loop()).__module__)

    assert run(main()) == 0
    assert seen == ["uvloop"]


def test_spawn_names_the_task_and_survives_its_failure() -> None:
    async def fail() -> None:
        raise RuntimeError("a bug in a task")

    async def main() -> int:
        task = spawn(fail(), name="a failing task")
        assert task.get_name() == "a failing task"
        with pytest.raises(RuntimeError, match="a bug in a task"):
            await task
        return 0

    assert run(main()) == 0


def test_manual_clock_runs_timers_in_order_and_honours_cancel() -> None:
    clock = ManualClock(now=0.0, wall=1_000.0)
    seen: list[tuple[str, float]] = []
    clock.call_at(2.0, lambda: seen.append(("b", clock.now())))
    clock.call_at(1.0, lambda: seen.append(("a", clock.now())))
    clock.call_at(1.5, lambda: seen.append(("never", clock.now()))).cancel()
    clock.advance(3)
    assert seen == [("a", 1.0), ("b", 2.0)]
    assert clock.now() == 3.0
    assert clock.wall() == 1_003.0


def test_system_ids_differ_and_have_the_cookie() -> None:
    ids = SystemIds()
    branches = {ids.branch() for _ in range(100)}
    assert len(branches) == 100
    assert all(branch.startswith("z9hG4bK") for branch in branches)
    assert len({ids.tag() for _ in range(100)}) == 100
    assert 0 <= ids.number(8) < 256


def test_system_ids_have_the_length_asked_for_and_never_overlap() -> None:
    ids = SystemIds()
    tokens = [ids.token(octets) for octets in (9, 16, 32, 5000, 4) * 60]
    assert [len(token) for token in tokens] == [18, 32, 64, 10_000, 8] * 60
    text = ids.token(4000)
    assert len({token[:8] for token in tokens} | {text[:8]}) == len(tokens) + 1


def test_seeded_ids_repeat_exactly() -> None:
    first, second = SeededIds("x"), SeededIds("x")
    made = [first.branch(), first.tag(), first.token(4), first.number()]
    assert made == [second.branch(), second.tag(), second.token(4), second.number()]
    assert made[0] == "z9hG4bK-x-1"
    assert len(set(map(str, made))) == 4
