"""One e2ae MSRP call through the cores of ALG and AGW in memory: microseconds of CPU by part, and a profile.

    python bench/call_in_memory.py [--plain] [--calls N] [--rounds N] [--profile N] [--count]

Every SIP and H.248 message is parsed from and written to bytes as on the wire; sockets, loops and the kernel are left
out, so that the figures move little on a machine with other work. Time passes at 50 calls a second: the timers of
transactions run out as they would. The figure of a part is the least of all rounds. ``--profile N`` prints the N
dearest functions instead, ``--count`` the function calls that one call costs, which no load of the machine changes.
``--plain`` takes an RTP call, of which nothing is to be secured: plain proxying, no gateway.
"""

import argparse
import cProfile
import gc
import math
import pstats
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from agw.core import events as agw_events
from agw.core import orders
from agw.core.engine import AgwEngine
from agw.settings import RealmSettings
from agw.settings import Settings as AgwSettings
from imsalg.core.engine import Engine
from imsalg.core.events import Received
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import FromGateway, GatewayUp, ToGateway
from imsalg.core.routing import Listener
from imsalg.media_settings import MediaPolicy
from imsalg.settings import GatewaySettings, ListenSettings, NodeSettings, Settings
from imsalg.settings import RealmSettings as AlgRealm
from imskit.clock import SystemIds
from imswire.h248.parser import parse as parse_h248
from imswire.h248.writer import write as write_h248
from imswire.sip.flow import Flow
from imswire.sip.parser import parse as parse_sip
from imswire.sip.transaction import Send

UE, ALG_ACCESS, ALG_CORE, PEER = ("127.0.0.1", 5070), ("127.0.0.1", 5060), ("127.0.0.1", 5061), ("127.0.0.1", 5080)
STEP = 0.02  # seconds between calls
FINGERPRINT = "SHA-256 " + ":".join(["A1:B2:C3:D4:E5:F6:07:18"] * 4)

INVITE = """INVITE sip:bob@127.0.0.1:5060 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-9-{n}-0
From: <sip:alice@127.0.0.1:5070>;tag=9a{n}
To: <sip:bob@127.0.0.1:5060>
Call-ID: {n}-9@127.0.0.1
CSeq: 1 INVITE
Contact: <sip:alice@127.0.0.1:5070>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: {length}

"""
OFFER = f"""v=0
o=alice 53655765 2353687637 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=message 20000 TCP/TLS/MSRP *
a=3ge2ae:requested
a=accept-types:text/plain
a=path:msrps://127.0.0.1:20000/s{{n}};tcp
a=msrp-cema
a=setup:actpass
a=fingerprint:{FINGERPRINT}
"""
RTP = """v=0
o=user1 53655765 2353687637 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 6000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
"""
RESPONSE = """SIP/2.0 {status}
{copied}{routes}Contact: <sip:bob@127.0.0.1:5080>
"""
ANSWER = """v=0
o=bob 53655765 2353687637 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=message 20002 TCP/MSRP *
a=accept-types:text/plain
a=path:msrp://127.0.0.1:20002/t{n};tcp
a=msrp-cema
a=setup:passive
"""
IN_DIALOG = """{method} sip:bob@127.0.0.1:5080 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-9-{n}-{cseq}{method}
{routes}From: <sip:alice@127.0.0.1:5070>;tag=9a{n}
To: <sip:bob@127.0.0.1:5060>;tag=9b{n}
Call-ID: {n}-9@127.0.0.1
CSeq: {cseq} {method}
Max-Forwards: 70
Content-Length: 0

"""


def wire(text: str) -> bytes:
    """Lines to octets with CRLF."""
    return text.replace("\n", "\r\n").encode()


def lines(message: bytes, *names: str) -> list[str]:
    """Header lines of those names, in order, with their names."""
    head = message.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return [line for line in head if line.startswith(names)]


class Clock:
    """Sums CPU nanoseconds by part; the parts may nest, the inner one does not count for the outer one."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._inner = [0]

    def call[**P, R](self, part: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        self._inner.append(0)
        start = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            whole = time.thread_time_ns() - start
            self.spent[part] = self.spent.get(part, 0) + whole - self._inner.pop()
            self._inner[-1] += whole


class Plain(Clock):
    """Measures nothing: for the sum and for profiles."""

    def call[**P, R](self, part: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)


class World:
    """UE and peer as templates, both engines, and the two queues that their drivers would have."""

    def __init__(self, plain: bool = False) -> None:
        self.offer, self.answer = (RTP, RTP) if plain else (OFFER, ANSWER)
        self.now = 1000.0
        self.clock: Clock = Plain()
        ids = SystemIds()
        settings = Settings(
            imsalg=NodeSettings(name="pcscf.bench.example"),
            listen=(ListenSettings("access", "udp", *ALG_ACCESS), ListenSettings("core", "udp", *ALG_CORE)),
            realm={
                "access": AlgRealm(kind="access", allow_unregistered=True),
                "core": AlgRealm(kind="core", next_hop=f"sip:127.0.0.1:{PEER[1]}"),
            },
            policy=MediaPolicy(msrp="always"),
            gateways=GatewaySettings(listen="tcp:127.0.0.1:0"),
        )
        media = MediaHalf(settings.media(), tracing=False)
        listeners = [Listener("access", "udp", *ALG_ACCESS), Listener("core", "udp", *ALG_CORE)]
        self.alg = Engine(settings, listeners, media, ids, bytes(32), tracing=False)
        realms = {
            "access": RealmSettings(("127.0.0.1",), "20000-39999"),
            "core": RealmSettings(("127.0.0.1",), "40000-59999"),
        }
        self.agw = AgwEngine(AgwSettings(realm=realms), "agw-1", {"sha-256": bytes(range(32))}, tracing=False)
        self.access = Flow("udp", "access", ALG_ACCESS, UE)
        self.core = Flow("udp", "core", ALG_CORE, PEER)
        self.to_alg: deque[Any] = deque([GatewayUp(1, "127.0.0.1:40000")])
        self.to_agw: deque[Any] = deque([agw_events.Start(), agw_events.ControlUp("127.0.0.1:2944")])
        self.out: list[tuple[Flow, bytes]] = []
        self.messages: dict[str, int] = {}
        self.run()

    def run(self) -> None:
        """Until nobody has anything left to say."""
        call = self.clock.call
        while self.to_alg or self.to_agw:
            while self.to_alg:
                self._alg(call("alg engine", self.alg.handle, self.to_alg.popleft(), self.now))
            call("alg engine", self.alg.next_timer)
            while self.to_agw:
                self._agw(call("agw engine", self.agw.handle, self.to_agw.popleft(), self.now))
            call("agw engine", self.agw.next_timer)

    def pass_time(self) -> None:
        """One step, with the timers that fall due in it."""
        self.now += STEP
        call = self.clock.call
        if (due := self.alg.next_timer()) is not None and due <= self.now:
            self._alg(call("alg timers", self.alg.expire, self.now))
        if (due := self.agw.next_timer()) is not None and due <= self.now:
            self._agw(call("agw timers", self.agw.expire, self.now))
        self.run()

    def _alg(self, commands: Any) -> None:
        call = self.clock.call
        for command in commands:
            if type(command) is Send:
                self.out.append((command.flow, call("sip write", command.message.to_bytes)))
                self._count("sip out")
            elif type(command) is ToGateway:
                data = call("alg h248 write", write_h248, command.message)
                self.to_agw.append(agw_events.FromController(call("agw h248 parse", parse_h248, data)))
                self._count("h248")

    def _agw(self, commands: Any) -> None:
        call = self.clock.call
        for command in commands:
            match command:
                case agw_events.SendH248():
                    data = call("agw h248 write", write_h248, command.message)
                    self.to_alg.append(FromGateway(1, call("alg h248 parse", parse_h248, data)))
                    self._count("h248")
                case orders.Listen():
                    self.to_agw.append(orders.Listening(command.leg, command.port))
                case orders.Release():
                    self.to_agw.append(orders.Released(command.leg, 0, 0))

    def _count(self, what: str) -> None:
        self.messages[what] = self.messages.get(what, 0) + 1

    def sip(self, flow: Flow, data: bytes) -> list[bytes]:
        """One SIP message in; what goes out."""
        self.out.clear()
        self._count("sip in")
        self.to_alg.append(Received(self.clock.call("sip parse", parse_sip, data), flow))
        self.run()
        return [message for _, message in self.out]

    def one(self, number: int) -> None:
        """One whole call."""
        offer = wire(self.offer.format(n=number))
        _, invite = self.sip(self.access, wire(INVITE.format(n=number, length=len(offer))) + offer)
        copied = lines(invite, "Via", "From", "To", "Call-ID", "CSeq")
        copied = [f"{line};tag=9b{number}" if line.startswith("To") else line for line in copied]
        routes = lines(invite, "Record-Route")
        head = {"copied": "\n".join(copied) + "\n", "routes": "\n".join(routes) + "\n"}
        self.sip(self.core, wire(RESPONSE.format(status="180 Ringing", **head) + "Content-Length: 0\n\n"))
        answer = wire(self.answer.format(n=number))
        kind = f"Content-Type: application/sdp\nContent-Length: {len(answer)}\n\n"
        (ok,) = self.sip(self.core, wire(RESPONSE.format(status="200 OK", **head) + kind) + answer)
        route_set = [line.partition(": ")[2] for line in reversed(lines(ok, "Record-Route"))]
        route = f"Route: {', '.join(route_set)}\n"
        self.sip(self.access, wire(IN_DIALOG.format(method="ACK", n=number, cseq=1, routes=route)))
        (bye,) = self.sip(self.access, wire(IN_DIALOG.format(method="BYE", n=number, cseq=2, routes=route)))
        copied = lines(bye, "Via", "From", "To", "Call-ID", "CSeq")
        done = "SIP/2.0 200 OK\n" + "\n".join(copied) + "\nContent-Length: 0\n\n"
        (_,) = self.sip(self.core, wire(done))

    def calls(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.one(number)
            self.pass_time()


def overhead(count: int = 20_000) -> float:
    """What the measuring itself costs per measured part, in microseconds."""
    clock = Clock()
    for _ in range(count):
        clock.call("nothing", int)
    return clock.spent["nothing"] / count / 1000


def measure(world: World, calls: int, rounds: int) -> None:
    """Print the parts of a call."""
    number = 1_000_000
    best: dict[str, float] = {}
    total = math.inf
    extra = overhead()
    for _ in range(rounds):
        world.clock = Plain()
        start = time.thread_time_ns()
        world.calls(number, calls)
        total = min(total, (time.thread_time_ns() - start) / calls / 1000)
        number += calls
        world.clock = Clock()
        world.calls(number, calls)
        number += calls
        for part, spent in world.clock.spent.items():
            best[part] = min(best.get(part, 1e9), spent / calls / 1000)
    world.clock = Plain()
    world.messages.clear()
    world.one(number)
    print("messages of a call:", ", ".join(f"{count} {name}" for name, count in world.messages.items()))
    for part, least in sorted(best.items()):
        print(f"{part:16} {least:7.1f}")
    for daemon, parts in (("alg", ("sip", "alg")), ("agw", ("agw",))):
        print(f"{daemon + ' together':16} {sum(s for p, s in best.items() if p.startswith(parts)):7.1f}")
    print(f"{'together':16} {sum(best.values()):7.1f}   ({extra:.2f} in each part is the measuring)")
    print(f"{'whole loop':16} {total:7.1f}   (with the templates of UE and peer)")


def count(world: World, calls: int) -> None:
    """Print the function calls of one call, by the package that is called."""
    profile = cProfile.Profile()
    profile.runcall(world.calls, 100_000, calls)
    by_package: dict[str, float] = {}
    for entry in profile.getstats():
        code = entry.code
        name = "C functions" if isinstance(code, str) else _package(code.co_filename)
        by_package[name] = by_package.get(name, 0) + entry.callcount / calls
    for name, number in sorted(by_package.items()):
        print(f"{name:22} {number:8.1f}")
    print(f"{'together':22} {sum(by_package.values()):8.1f}")


def _package(path: str) -> str:
    parts = Path(path).parts
    return ".".join(parts[parts.index("src") + 1 :][:2]).removesuffix(".py") if "src" in parts else Path(path).name


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="an RTP call that is only proxied")
    parser.add_argument("--count", action="store_true", help="count function calls")
    parser.add_argument("--calls", type=int, default=300, help="calls in a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print the N dearest functions")
    parser.add_argument("--sort", default="tottime", help="order of the profile (tottime, cumtime)")
    arguments = parser.parse_args()
    world = World(arguments.plain)
    world.calls(1, 2000)  # until as many transactions end as begin
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    if arguments.count:
        count(world, arguments.calls)
        return
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(world.calls, 100_000, arguments.calls)
        pstats.Stats(profile).sort_stats(arguments.sort).print_stats(arguments.profile)
        return
    measure(world, arguments.calls, arguments.rounds)


if __name__ == "__main__":
    main()
