"""The AGW's real engine, executor and byte path as a relay under test, for a yardstick that compares relays.

    python bench/relay_under_test.py --fingerprint AB:CD:... [--aware] SINK_PORT N_PORTS

Pins itself to one CPU, makes N_PORTS contexts by H.248 Adds (access: TLS, listening, the peer verified against the
fingerprint; core: TCP, dialled to 127.0.0.1:SINK_PORT in proxy mode), prints one line of JSON {"pid": ..., "ports":
[...]} and runs until its standard input is closed. Each port takes one connection, as a termination does.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import sys

from agw.core import events
from agw.core.engine import AgwEngine
from agw.core.orders import Report
from agw.settings import AgwSection, LimitSettings, RealmSettings, Settings
from agw.shell.executor import Executor
from agw.shell.identities import Identities
from imskit.driver import Driver, run
from imskit.tls import Identity
from imswire.h248 import iq
from imswire.h248.model import Message, TransactionReply, TransactionRequest


class Bench:
    """One worker without a control link: the controller's messages are made here."""

    def __init__(self, fingerprint: bytes, sink: int, *, aware: bool = False) -> None:
        self.aware = aware
        self.fingerprint = fingerprint
        self.sink = sink
        self.ports: list[int] = []
        loop = asyncio.get_running_loop()
        realms = {"access": RealmSettings(ports="0"), "core": RealmSettings(ports="0")}
        settings = Settings(AgwSection(mid="bench"), realms, limits=LimitSettings(sessions=100_000, half_open=100_000))
        identity = Identity.generate("bench")
        self.executor = Executor(
            Identities.single(identity, settings.tls),
            self.report,
            loop=loop,
            tls=settings.tls,
            limits=settings.limits,
            timers=settings.timers,
        )
        engine = AgwEngine(settings, "bench", {"sha-256": identity.fingerprint("sha-256")})
        self.driver: Driver[events.Event, events.Command] = Driver(engine, self.execute, loop=loop)
        self.driver.post(events.ControlUp("bench"))

    def report(self, report: Report) -> None:
        self.driver.post(report)

    def execute(self, command: events.Command) -> None:
        match command:
            case events.SendH248():
                self.sent(command.message)
            case (
                events.ConnectControl()
                | events.DisconnectControl()
                | events.Registered()
                | events.Exit()
                | events.Trace()
                | events.Log()
            ):
                pass
            case _:
                self.executor.execute(command)

    def sent(self, message: Message) -> None:
        """Answer the ServiceChange, read the ports out of the Add replies."""
        for transaction in message.transactions:
            if isinstance(transaction, TransactionRequest):
                answer = Message("mgc", (TransactionReply(transaction.id, transaction.actions),))
                self.driver.post(events.FromController(answer))
            elif isinstance(transaction, TransactionReply):
                for action in transaction.actions:
                    self.ports.append(iq.read_add_reply(action.commands[0]).port)

    def add(self, number: int) -> None:
        prints = (("sha-256", self.fingerprint),)
        if self.aware:
            peer = iq.RemoteSpec("127.0.0.1", 9, prints, "msrps://127.0.0.1:9/ue;tcp")
            sink = iq.RemoteSpec("127.0.0.1", self.sink, path=f"msrp://127.0.0.1:{self.sink}/sink;tcp")
        else:
            peer, sink = iq.RemoteSpec("127.0.0.1", 9, prints), iq.RemoteSpec("127.0.0.1", self.sink)
        kind, ours, theirs = ("/MSRP", "ue", "sink") if self.aware else ("", None, None)
        access = iq.StreamRequest(
            "access", f"TCP/TLS{kind}", remote=peer, fingerprint_hash="sha-256", notify=False, local_session=theirs
        )
        core = iq.StreamRequest("core", f"TCP{kind}", remote=sink, notify=False, local_session=ours)
        request = TransactionRequest(number, (iq.add_pair(access, core),))
        self.driver.post(events.FromController(Message("mgc", (request,))))


async def main(arguments: argparse.Namespace) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    bench = Bench(bytes.fromhex(arguments.fingerprint.replace(":", "")), arguments.sink_port, aware=arguments.aware)
    for number in range(1, arguments.ports + 1):
        bench.add(number)
    print(json.dumps({"pid": os.getpid(), "ports": bench.ports}), flush=True)
    done = asyncio.Event()

    def stdin_readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            done.set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stdin_readable)
    gc.freeze()
    await done.wait()
    bench.executor.close()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fingerprint", required=True, help="SHA-256 of the client's certificate, hexadecimal with colons"
    )
    parser.add_argument("--cpu", type=int, default=1, help="the CPU to run on (default 1; -1: any)")
    parser.add_argument("--aware", action="store_true", help="application-aware MSRP instead of any octets")
    parser.add_argument("sink_port", type=int)
    parser.add_argument("ports", type=int)
    parsed = parser.parse_args()
    if parsed.cpu >= 0:
        os.sched_setaffinity(0, {parsed.cpu})
    sys.exit(run(main(parsed)))
