"""A playbook for the engine of the P-CSCF: scripted messages in, messages out, in memory, with a clock that stands
still.

The media half is the real one; only the gateway is scripted: it answers each H.248 transaction when the test says so.
"""

from collections.abc import Iterable
from typing import Any

from imsalg.core.engine import Engine
from imsalg.core.events import Command, Event, Received
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import Log, Trace
from imsalg.core.routing import Listener
from imsalg.settings import Settings
from imskit.clock import SeededIds
from imskit.settings import load
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse
from imswire.sip.transaction import Send

ACCESS = ("10.0.0.1", 5060)
CORE = ("10.9.0.1", 5060)
UE = Flow("udp", "access", ACCESS, ("10.0.0.7", 5070))
UE_B = Flow("udp", "access", ACCESS, ("10.0.0.8", 5070))
SCSCF = Flow("udp", "core", CORE, ("10.9.0.9", 5060))
KEY = bytes(range(32))

LISTENERS = (
    Listener("access", "udp", *ACCESS),
    Listener("access", "tcp", *ACCESS),
    Listener("core", "udp", *CORE),
)


def settings(**changes: Any) -> Settings:
    """Settings of one access and one core realm; ``access`` and ``core`` add to the realms, others replace tables."""
    access = {"kind": "access", **changes.pop("access", {})}
    core = {"kind": "core", "next_hop": "sip:10.9.0.9", **changes.pop("core", {})}
    return load(
        {
            "imsalg": {"name": "pcscf.example.net", "visited_network": "example.net"},
            "listen": [
                {"realm": "access", "transport": "udp", "host": ACCESS[0]},
                {"realm": "core", "transport": "udp", "host": CORE[0]},
            ],
            "realm": {"access": access, "core": core},
            **changes,
        },
        Settings,
    )


def sip(text: str, body: str = "") -> bytes:
    """A message from readable text: indentation goes, line ends become CRLF, Content-Length is added."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    payload = "".join(line.strip() + "\r\n" for line in body.strip().splitlines()).encode() if body else b""
    if body:
        lines.append("Content-Type: application/sdp")
    lines.append(f"Content-Length: {len(payload)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


def wire(data: bytes, flow: Flow) -> Received:
    """Octets from the network as an event."""
    return Received(parse(data), flow)


class Book:
    """One engine with its clock; ``sip_out`` takes what it sent since the last look."""

    def __init__(
        self, engine_settings: Settings | None = None, media: Any = None, listeners: Iterable[Listener] = LISTENERS
    ) -> None:
        self.now = 1_000.0
        self.settings = engine_settings or settings()
        self.media = media or MediaHalf(self.settings.media())
        self.engine = Engine(self.settings, listeners, self.media, SeededIds("p"), KEY, tracing=True)
        self.sent: list[tuple[Request | Response, Flow]] = []
        self.every: list[Request | Response] = []
        self.other: list[Command] = []
        self.logs: list[Log] = []
        self.traces: list[Trace] = []

    # --- in ---

    def feed(self, event: Event) -> None:
        self._take(self.engine.handle(event, self.now))

    def receive(self, flow: Flow, text: str, body: str = "") -> None:
        """One message in readable text."""
        self.feed(Received(parse(sip(text, body)), flow))

    def advance(self, seconds: float) -> None:
        """Move time ahead, stopping at each timer of the engine."""
        end = self.now + seconds
        while (due := self.engine.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self._take(self.engine.expire(self.now))
        self.now = end

    # --- out ---

    def _take(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                # What goes on the wire, so that a later change of the object cannot be seen.
                self.sent.append((parse(command.message.to_bytes()), command.flow))
                self.every.append(self.sent[-1][0])
            elif isinstance(command, Log):
                self.logs.append(command)
            elif isinstance(command, Trace):
                self.traces.append(command)
            else:
                self.other.append(command)

    def out(self) -> list[tuple[Request | Response, Flow]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        assert not [log for log in self.logs if log.event.startswith("bug")], self.logs
        return sent

    def lines(self) -> list[str]:
        """Start lines with their destination realm, since the last call."""
        return [f"{flow.realm} {message.start_line}" for message, flow in self.out()]

    def request(self, method: str) -> Request:
        """The only request sent since the last call, retransmissions aside; answers to others may stand beside it."""
        found = [m for m, _ in self.out() if isinstance(m, Request)]
        found = list({(m.method, m.via.branch): m for m in found}.values())
        assert [m.method for m in found] == [method]
        return found[0]

    def response(self, status: int) -> Response:
        """The only response above 100 sent since the last call, retransmissions aside."""
        found = [m for m, _ in self.out() if isinstance(m, Response) and m.status > 100]
        found = list({m.to_bytes(): m for m in found}.values())
        assert [m.status for m in found] == [status]
        return found[0]


def answer(request: Request, status: int, *headers: str, tag: str = "callee", body: str = "") -> bytes:
    """A response to ``request`` as its receiver would make it, with extra header lines."""
    reply = request.reply(status, to_tag=tag)
    for line in headers:
        name, _, value = line.partition(":")
        reply.headers.add(name.strip(), value.strip())
    if body:
        reply.headers.add("Content-Type", "application/sdp")
        reply.body = "".join(line.strip() + "\r\n" for line in body.strip().splitlines()).encode()
    return reply.to_bytes()


AUDIO = """
    v=0
    o=- 1 1 IN IP4 10.0.0.7
    s=-
    c=IN IP4 10.0.0.7
    t=0 0
    m=audio 4000 RTP/AVP 0
"""


def register(book: Book, user: str = "alice", flow: Flow = UE, *headers: str, client: str = "msrp-tls;mediasec") -> str:
    """Register a UE on ``flow`` with the security client list and extra headers of the 200; returns its Path value."""
    host, port = flow.remote
    book.out()
    book.receive(
        flow,
        f"""
        REGISTER sip:example.net SIP/2.0
        Via: SIP/2.0/{flow.transport.upper()} {host}:{port};branch=z9hG4bKreg-{user}-{int(book.now)};rport
        From: <sip:{user}@example.net>;tag=reg
        To: <sip:{user}@example.net>
        Call-ID: reg-{user}
        CSeq: 1 REGISTER
        Contact: <sip:{user}@{host}:{port}>;expires=6000
        Max-Forwards: 70
        {"Security-Client: " + client if client else ""}
        """,
    )
    sent = book.request("REGISTER")
    book.feed(wire(answer(sent, 200, f"Contact: <sip:{user}@{host}:{port}>;expires=6000", *headers), SCSCF))
    book.out()
    return sent.headers.get("path") or ""


def request(
    method: str = "INVITE",
    *headers: str,
    uri: str = "sip:bob@example.net",
    branch: str = "a1",
    number: int = 1,
    from_: str = "<sip:alice@example.net>;tag=al",
    to: str = "<sip:bob@example.net>",
    call_id: str = "call-1",
    flow: Flow = UE,
) -> str:
    """A request in readable text from the far end of ``flow``; its Contact is the address it comes from."""
    host, port = flow.remote
    user = from_.partition(":")[2].partition("@")[0]
    contact = [f"Contact: <sip:{user}@{host}:{port}>"] if method in ("INVITE", "SUBSCRIBE", "UPDATE") else []
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{flow.transport.upper()} {host}:{port};branch=z9hG4bK{branch}",
        "Max-Forwards: 70",
        f"From: {from_}",
        f"To: {to}",
        f"Call-ID: {call_id}",
        f"CSeq: {number} {method}",
        *contact,
        *headers,
    ]
    return "\n".join(lines)
