"""What passes on loopback, captured with dumpcap and judged by tshark: no malformed packet, no expert error."""

import itertools
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from imswire.sip.message import Request, Response
from imswire.sip.parser import parse

DEADLINE = 20.0
PROBE_EVERY = 0.05
ERROR = 0x00800000
"""PI_ERROR; chats, notes and warnings (a repeated segment, a reset connection) are below."""

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None or shutil.which("dumpcap") is None,
    reason="needs the programs tshark and dumpcap (Debian package tshark)",
)

FIELDS = (
    "frame.number",
    "frame.protocols",
    "tcp.stream",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sip.Method",
    "sip.Status-Code",
    "sip.Call-ID",
    "sip.CSeq",
    "sdp.media.proto",
    "megaco.command",
    "megaco.termid",
    "megaco.error",
    "msrp.method",
    "msrp.status.code",
    "tls.handshake.type",
    "tls.app_data",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
    "tcp.seq",
    "tcp.payload",
    "udp.payload",
)

type Packet = dict[str, str]


class NoCapture(Exception):
    """Nothing can be captured here; the text says why."""


class Capture:
    """dumpcap on the loopback interface into ``file``; ``host`` is an address that ``filter`` takes in.

    A probe that came through says that it runs, a second one that all before it was taken. Raises NoCapture.
    """

    def __init__(self, filter: str, file: Path, host: str) -> None:
        if shutil.which("dumpcap") is None or shutil.which("tshark") is None:
            raise NoCapture("needs the programs tshark and dumpcap (Debian package tshark)")
        self.file = file
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sink = socket.socket(family, socket.SOCK_DGRAM)
        self._sink.bind((host, 0))
        self.probe_port = self._sink.getsockname()[1]
        self._errors = file.with_suffix(".log")
        self._tokens = itertools.count(1)
        everything = f"({filter}) or udp port {self.probe_port}"
        with file.open("wb") as out, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                ("dumpcap", "-i", "lo", "-q", "-w", "-", "-f", everything),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )

    def start(self) -> None:
        """Until a probe has come through; raises NoCapture where capturing is not allowed."""
        try:
            self._probe()
        except EOFError:
            said = self._errors.read_text(errors="replace").strip().splitlines()
            self.kill()
            raise NoCapture(
                f"capturing on lo is not permitted here: {said[-1] if said else 'no reason given'}"
            ) from None

    def start_or_skip(self) -> None:
        """As :meth:`start`, for tests that are nothing without the capture."""
        try:
            self.start()
        except NoCapture as reason:
            pytest.skip(str(reason))

    def sync(self) -> None:
        """Until everything up to now is in the file."""
        self._probe()

    def stop(self) -> None:
        """Take everything up to now, and end it."""
        self._probe()
        self.kill()

    def kill(self) -> None:
        """End the program, if it runs; it finishes the packet it is writing."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._sink.close()

    def _probe(self) -> None:
        token = f"probe {next(self._tokens)} of the capture".encode()
        end = time.monotonic() + DEADLINE
        while token not in self.file.read_bytes():
            if self._process.poll() is not None:
                raise EOFError("dumpcap ended")
            assert time.monotonic() < end, "the capture does not take what it should"
            self._sink.sendto(token, self._sink.getsockname())
            try:
                self._process.wait(PROBE_EVERY)
            except subprocess.TimeoutExpired:
                continue


def decode(
    file: Path,
    *,
    sip: Iterable[int] = (),
    sips: Iterable[int] = (),
    h248: Iterable[int] = (),
    tls: Iterable[int] = (),
    msrp: Iterable[int] = (),
) -> list[Packet]:
    """One tshark run: every packet as a dictionary of its fields, the ports read as what they are.

    ICMP, which quotes a part of a packet that nobody took any more, is left out.
    """
    kinds = [(f"{layer}.port=={port}", "sip") for port in sorted(sip) for layer in ("udp", "tcp")]
    kinds += [(f"tcp.port=={port}", "megaco") for port in sorted(h248)]
    kinds += [(f"tcp.port=={port}", "tls") for port in sorted({*tls, *sips})]
    kinds += [(f"tcp.port=={port}", "msrp") for port in sorted(msrp)]
    command = [
        "tshark",
        "-n",
        "-r",
        str(file),
        "-Y",
        "not icmp and not icmpv6",
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "aggregator=|",
    ]
    command += [part for port, name in kinds for part in ("-d", f"{port},{name}")]
    command += [part for field in FIELDS for part in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def faults(packets: Iterable[Packet]) -> list[str]:
    """What tshark finds wrong: malformed packets and expert errors, a line for each."""
    found = []
    for packet in packets:
        severities = [int(one, 0) for one in packet["_ws.expert.severity"].split("|") if one]
        if packet["_ws.malformed"] or any(one >= ERROR for one in severities):
            what = packet["_ws.malformed"] or packet["_ws.expert.message"]
            found.append(f"frame {packet['frame.number']} ({packet['frame.protocols']}): {what}")
    return found


def values(packets: Iterable[Packet], field: str) -> Counter[str]:
    """How often each value of a field occurs."""
    return Counter(value for packet in packets for value in packet[field].split("|") if value)


def sip_messages(packets: Iterable[Packet]) -> Iterator[Request | Response]:
    """Every SIP message that passed any wire, octet for octet, streams put together again."""
    streams: dict[tuple[str, str], tuple[int, bytes]] = {}
    for packet in packets:
        if payload := bytes.fromhex(packet["udp.payload"]):
            if payload.strip(b"\r\n\0") and ":sip" in packet["frame.protocols"]:
                yield parse(payload)
        elif payload := bytes.fromhex(packet["tcp.payload"]):
            key = packet["tcp.stream"], packet["tcp.srcport"]
            start = int(packet["tcp.seq"])
            due, data = streams.get(key, (start, b""))
            if start != due:  # a repeated segment
                continue
            data += payload
            while (end := data.lstrip(b"\r\n").find(b"\r\n\r\n")) >= 0:
                data = data.lstrip(b"\r\n")
                length = re.search(rb"^(?:content-length|l)\s*:\s*(\d+)", data[:end], re.IGNORECASE | re.MULTILINE)
                whole = end + 4 + (int(length[1]) if length is not None else 0)
                if len(data) < whole:
                    break
                yield parse(data[:whole])
                data = data[whole:]
            streams[key] = due + len(payload), data


def bodies(packets: Iterable[Packet]) -> dict[tuple[str, str, str], Counter[bytes]]:
    """Call-ID, CSeq, and method or status of every message with a body -> how often each body was seen for it."""
    found: dict[tuple[str, str, str], Counter[bytes]] = {}
    for message in sip_messages(packets):
        if message.body:
            what = message.method if isinstance(message, Request) else str(message.status)
            key = message.call_id, str(message.headers.get("cseq")), what
            found.setdefault(key, Counter())[message.body] += 1
    return found
