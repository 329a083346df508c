"""Application-aware MSRP beside application-agnostic relaying: CPU of the same worker for the same messages.

    python bench/aware.py [--quick]

Starts ``relay_under_test.py`` pinned to CPU 1, once for each mode and body size, and sends MSRP requests over TLS, one
TLS record each up to its largest size; the sink counts what comes out. Modes alternate within a round, the medians of
the rounds are printed: microseconds per message, of the CPU time that the kernel's scheduler gave to the relay process.
"""

import argparse
import json
import multiprocessing
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imskit.tls import Identity

HERE = Path(__file__).resolve().parent
PATHS = b"To-Path: msrps://127.0.0.1:20000/sink;tcp\r\nFrom-Path: msrps://127.0.0.1:9/ue;tcp\r\n"


def message(number: int, body: int) -> bytes:
    """A SEND with a body of so many octets, as a chat client or a file sender makes it."""
    tid = b"t%07d" % number
    head = (
        b"MSRP " + tid + b" SEND\r\n" + PATHS + b"Message-ID: m%07d\r\nByte-Range: 1-%d/%d\r\n" % (number, body, body)
    )
    return head + b"Content-Type: text/plain\r\n\r\n" + os.urandom(body) + b"\r\n-------" + tid + b"$\r\n"


def sink(server: socket.socket, done: "multiprocessing.connection.Connection") -> None:
    """Read one connection to its end; tell how many octets there were and how many end-lines."""
    sock, _ = server.accept()
    view = memoryview(bytearray(1 << 20))
    count = 0
    while got := sock.recv_into(view):
        count += got
    done.send(count)


def cpu_of(pid: int) -> float:
    """Seconds on a CPU so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


class Client:
    """The UE's certificate and its TLS context."""

    def __init__(self) -> None:
        identity = Identity.generate("bench-ue")
        self.fingerprint = identity.fingerprint("sha-256").hex(":")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "c.pem", Path(folder) / "k.pem"
            identity.save(certificate, key)
            self.context.load_cert_chain(certificate, key)


def measure(client: Client, aware: bool, body: int, total: int) -> tuple[float, float]:
    """(CPU seconds of the relay, seconds) for messages of ``body`` octets, ``total`` octets of bodies in all."""
    server = socket.create_server(("127.0.0.1", 0))
    here, there = multiprocessing.Pipe()
    drain = multiprocessing.Process(target=sink, args=(server, there))
    drain.start()
    command = [sys.executable, str(HERE / "relay_under_test.py"), "--fingerprint", client.fingerprint]
    command += ["--aware"] if aware else []
    command += [str(server.getsockname()[1]), "1"]
    relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        facts = json.loads(relay.stdout.readline() if relay.stdout else "")
        batch = [message(number, body) for number in range(max(1, min(2_000, 4_000_000 // body)))]
        rounds = max(1, total // (body * len(batch)))
        raw = socket.create_connection(("127.0.0.1", facts["ports"][0]))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client.context.wrap_socket(raw) as tls:
            tls.sendall(batch[0])
            before, began = cpu_of(facts["pid"]), time.perf_counter()
            for _ in range(rounds):
                for one in batch:
                    tls.sendall(one)
            tls.unwrap().close()
            count = here.recv()
            used, took = cpu_of(facts["pid"]) - before, time.perf_counter() - began
        sent = rounds * sum(map(len, batch)) + len(batch[0])
        if not aware and count != sent:
            raise SystemExit(f"{count} octets came out, {sent} went in")
        if aware and count < sent - 64 * (rounds * len(batch) + 1):
            raise SystemExit(f"only {count} octets came out of {sent}")
        return used / (rounds * len(batch)), rounds * body * len(batch) / took
    finally:
        if relay.stdin:
            relay.stdin.close()
        relay.wait()
        drain.join()
        server.close()


def main() -> int:
    """Print the table; the exit status is 1 where aware mode costs more than twice as much for files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    quick = parser.parse_args().quick
    client = Client()
    bad = False
    print(f"{'body octets':>11} {'agnostic us':>12} {'aware us':>10} {'ratio':>6} {'agnostic MB/s':>14} {'aware':>6}")
    for body, total in ((400, 40_000_000), (2_048, 100_000_000), (65_536, 400_000_000)):
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(1 if quick else 3):
            for aware in (False, True):
                found[aware].append(measure(client, aware, body, total // (8 if quick else 1)))
        plain, clever = (statistics.median(cpu for cpu, _ in found[aware]) * 1e6 for aware in (False, True))
        speeds = [statistics.median(speed for _, speed in found[aware]) / 1e6 for aware in (False, True)]
        print(f"{body:11,} {plain:12.2f} {clever:10.2f} {clever / plain:6.2f} {speeds[0]:14.0f} {speeds[1]:6.0f}")
        bad = bad or (body == 65_536 and clever > 2 * plain)
    return int(bad)


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})
    sys.exit(main())
