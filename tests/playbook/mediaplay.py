"""A stage for the media half: SDP texts, a scripted gateway that answers when the script says so, and short verbs."""

from collections.abc import Callable

from imsalg.core.media import MediaHalf
from imsalg.core.media_events import (
    AccessProfile,
    AnswerIn,
    CallEnded,
    EndCall,
    FromGateway,
    GatewayUp,
    LegConfirmed,
    Log,
    MediaCommand,
    MediaEvent,
    OfferFailed,
    OfferIn,
    Proceed,
    Refuse,
    Side,
    ToGateway,
    Trace,
)
from imsalg.media_settings import GatewayTimers, MediaPolicy, MediaRealm, MediaSettings
from imswire.h248 import iq
from imswire.h248.errors import error
from imswire.h248.model import (
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    ROOT,
    Action,
    Command,
    Message,
    ServiceChange,
    TransactionReply,
    TransactionRequest,
)

UE_FP = ":".join(f"{i:02X}" for i in range(32))
AGW_FP = bytes(range(32, 64))
UE_IP, AGW_IP, PEER_IP = "192.0.2.10", "198.51.100.1", "203.0.113.20"
CRLF = "\r\n"


def sdp(*lines: str, ip: str = UE_IP, session: tuple[str, ...] = ()) -> bytes:
    """A session description with these lines after ``t=``."""
    family = "IP6" if ":" in ip else "IP4"
    head = ("v=0", f"o=- 1 1 IN {family} {ip}", "s=-", f"c=IN {family} {ip}", "t=0 0", *session)
    return CRLF.join((*head, *lines, "")).encode()


def ue_line(
    port: int = 2855,
    *,
    setup: str | None = "actpass",
    e2ae: str | None = "requested",
    fingerprint: str | None = f"SHA-256 {UE_FP}",
    cema: bool = True,
    ip: str = UE_IP,
    path: str | None = None,
) -> tuple[str, ...]:
    """One MSRP line as a UE writes it, with TLS."""
    return tuple(
        line
        for line in (
            f"m=message {port} TCP/TLS/MSRP *",
            "a=accept-types:text/plain",
            f"a=path:{path or f'msrps://{ip}:2855/ue;tcp'}",
            f"a=setup:{setup}" if setup else "",
            f"a=3ge2ae:{e2ae}" if e2ae else "",
            f"a=fingerprint:{fingerprint}" if fingerprint else "",
            "a=msrp-cema" if cema else "",
        )
        if line
    )


def peer_line(
    port: int = 9000, *, setup: str | None = "active", cema: bool = True, ip: str = PEER_IP, path: str | None = None
) -> tuple[str, ...]:
    """One MSRP line as the core side writes it."""
    return tuple(
        line
        for line in (
            f"m=message {port} TCP/MSRP *",
            "a=accept-types:text/plain",
            f"a=path:{path or f'msrp://{ip}:{port}/peer;tcp'}",
            f"a=setup:{setup}" if setup else "",
            "a=msrp-cema" if cema else "",
        )
        if line
    )


def bfcp_line(
    port: int = 7000,
    *,
    secure: bool = True,
    setup: str | None = "actpass",
    connection: str | None = "new",
    e2ae: str | None = "requested",
    fingerprint: str | None = f"SHA-256 {UE_FP}",
) -> tuple[str, ...]:
    """One BFCP line, as a UE (``secure``) or as the core side writes it."""
    ours = (f"a=3ge2ae:{e2ae}" if e2ae else "", f"a=fingerprint:{fingerprint}" if fingerprint else "")
    return tuple(
        line
        for line in (
            f"m=application {port} TCP/TLS/BFCP *" if secure else f"m=application {port} TCP/BFCP *",
            f"a=setup:{setup}" if setup else "",
            f"a=connection:{connection}" if connection else "",
            "a=floorctrl:c-only",
            *(ours if secure else ()),
        )
        if line
    )


AUDIO = ("m=audio 4000 RTP/AVP 0", "a=rtpmap:0 PCMU/8000")


def settings(
    msrp: str = "optional",
    *,
    access: MediaRealm | None = None,
    core: MediaRealm | None = None,
    timers: GatewayTimers | None = None,
    allow_sha1: bool = False,
    bfcp: str = "optional",
) -> MediaSettings:
    """Settings of the media half with one policy word for each medium."""
    realms = {"access": access or MediaRealm(), "core": core or MediaRealm()}
    policy = MediaPolicy(msrp=msrp, bfcp=bfcp, allow_sha1=allow_sha1)  # type: ignore[arg-type]
    return MediaSettings(policy=policy, realms=realms, timers=timers or GatewayTimers(heartbeat=0))


HASH_SIZES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}


class Play:
    """The media half with scripted gateways. ``asked`` are requests of ours that wait for :meth:`answer_gateway`."""

    def __init__(self, use: MediaSettings | None = None, *, gateways: int = 1, agreed: bool = True) -> None:
        self.half = MediaHalf(use or settings())
        self.now = 100.0
        self.profile = AccessProfile(
            agreed=frozenset({"msrp-tls", "bfcp-tls"}) if agreed else frozenset(), user="sip:alice@lab"
        )
        self.asked: list[tuple[int, TransactionRequest]] = []
        self.replies: list[TransactionReply] = []
        self.commands: list[MediaCommand] = []
        self.contexts: dict[str, int] = {}
        self.added: dict[str, iq.StreamRequest] = {}
        """Terminations, by name, as they were added."""
        self.ports = 20_000
        self.token = 0
        self.tid = 5000
        for number in range(1, gateways + 1):
            self.connect(number)

    # --- verbs ---

    def feed(self, event: MediaEvent) -> list[MediaCommand]:
        """Give one event; what came out, but for gateway traffic, which goes to ``asked`` and ``replies``."""
        return self._take(self.half.handle(event, self.now))

    def wait(self, seconds: float) -> list[MediaCommand]:
        """Let time pass, timer by timer."""
        until, out = self.now + seconds, []
        while (due := self.half.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            out += self._take(self.half.expire(self.now))
        self.now = until
        return out

    def connect(self, link: int, mid: str | None = None, method: str = "Restart") -> list[MediaCommand]:
        """A gateway connects and announces itself."""
        self.feed(GatewayUp(link, f"127.0.0.1:{40000 + link}"))
        change = ServiceChange(method=method, reason="901 Cold Boot", version=1)
        return self.says(link, Command("ServiceChange", ROOT, service_change=change), NULL_CONTEXT, mid=mid)

    def says(self, link: int, command: Command, context: int, mid: str | None = None) -> list[MediaCommand]:
        """The gateway sends a request with one command."""
        self.tid += 1
        request = TransactionRequest(self.tid, (Action(context, (command,)),))
        return self.feed(FromGateway(link, Message(mid or f"agw-{link}", (request,))))

    def offer(self, body: bytes, side: Side = Side.ACCESS, call: str = "c1", leg: str = "") -> list[MediaCommand]:
        """An offer arrives."""
        self.token += 1
        return self.feed(OfferIn(call, self.token, side, body, self.profile, f"{call}@lab", leg))

    def answer(
        self, body: bytes, side: Side = Side.CORE, leg: str = "a", *, final: bool = True, call: str = "c1"
    ) -> list[MediaCommand]:
        """An answer arrives."""
        self.token += 1
        return self.feed(AnswerIn(call, leg, self.token, side, body, final))

    def confirm(self, leg: str, call: str = "c1") -> list[MediaCommand]:
        """The 2xx of a leg went through."""
        return self.feed(LegConfirmed(call, leg))

    def end(self, call: str = "c1") -> list[MediaCommand]:
        """The call is over."""
        return self.feed(CallEnded(call))

    def fail_offer(self, *, initial: bool = False, call: str = "c1") -> list[MediaCommand]:
        """The pending offer was refused."""
        return self.feed(OfferFailed(call, initial))

    # --- the gateway's part ---

    def adds(self) -> list[iq.StreamRequest]:
        """What the oldest request that waits asks to add."""
        return [iq.read_add(command) for action in self.take().actions for command in action.commands]

    def changes(self) -> list[tuple[str, iq.StreamChange]]:
        """What the oldest request that waits modifies."""
        out = []
        for command in (command for action in self.take().actions for command in action.commands):
            state = self.added.get(command.termination, iq.StreamRequest("r", "TCP"))
            out.append((command.termination, iq.read_modify(command, state)))
        return out

    def take(self) -> TransactionRequest:
        """The oldest request that waits, which then is the script's to look at."""
        return self.asked[0][1]

    def names(self) -> list[str]:
        """Command and termination of everything that waits, in order."""
        return [
            f"{command.name} {action.context if action.context != CHOOSE_CONTEXT else '$'} {command.termination}"
            for _, request in self.asked
            for action in request.actions
            for command in action.commands
        ]

    def answer_gateway(
        self, change: Callable[[TransactionReply], TransactionReply] | None = None
    ) -> list[MediaCommand]:
        """The gateway carries the oldest request out."""
        link, request = self.asked.pop(0)
        reply = TransactionReply(request.id, tuple(self._carry_out(action, link) for action in request.actions))
        return self.feed(FromGateway(link, Message(f"agw-{link}", (change(reply) if change else reply,))))

    def refuse_gateway(self, code: int, *, after: int = 0) -> list[MediaCommand]:
        """The gateway carries ``after`` commands of the oldest request out and fails at the next one."""
        link, request = self.asked.pop(0)
        action = request.actions[0]
        done = self._carry_out(Action(action.context, action.commands[:after]), link) if after else action
        kept = done.commands if after else ()
        failed = Command(action.commands[after].name, "$", error=error(code))
        reply = TransactionReply(request.id, (Action(done.context, (*kept, failed)),))
        return self.feed(FromGateway(link, Message(f"agw-{link}", (reply,))))

    def drain(self) -> list[MediaCommand]:
        """The gateway carries everything out that waits."""
        out = []
        while self.asked:
            out += self.answer_gateway()
        return out

    def _carry_out(self, action: Action, link: int) -> Action:
        context = action.context
        if context == CHOOSE_CONTEXT:
            self.contexts[f"agw-{link}"] = context = self.contexts.get(f"agw-{link}", 0) + 1
        replies = []
        for command in action.commands:
            if command.name == "Add":
                request = iq.read_add(command)
                self.ports += 1
                hash_ = request.fingerprint_hash
                prints = (hash_, AGW_FP + AGW_FP[: HASH_SIZES[hash_] - 32]) if hash_ else None
                address = AGW_IP if request.family == "IP4" else "2001:db8::1"
                name = f"ip/{request.realm}/{context}"
                further = "" if action.context == CHOOSE_CONTEXT else f"/{self.ports}"
                result = iq.AddResult(name + further, address, request.local_port or self.ports, prints)
                self.added[result.termination] = request
                replies.append(iq.add_reply(result, request))
            else:
                replies.append(Command(command.name, command.termination))
        return Action(context, tuple(replies))

    def _take(self, commands: list[MediaCommand]) -> list[MediaCommand]:
        self.commands += commands
        out: list[MediaCommand] = []
        for command in commands:
            if isinstance(command, ToGateway):
                for transaction in command.message.transactions:
                    if isinstance(transaction, TransactionRequest):
                        self.asked.append((command.link, transaction))
                    elif isinstance(transaction, TransactionReply):
                        self.replies.append(transaction)
            elif not isinstance(command, (Trace, Log)):
                out.append(command)
        return out


def one(commands: list[MediaCommand]) -> MediaCommand:
    """The only command of a list."""
    assert len(commands) == 1, commands
    return commands[0]


def proceed(commands: list[MediaCommand]) -> list[str]:
    """The lines of the body that goes on."""
    command = one(commands)
    assert isinstance(command, Proceed), command
    return command.body.decode().split(CRLF)


def refused(commands: list[MediaCommand]) -> Refuse:
    """The refusal."""
    command = one(commands)
    assert isinstance(command, Refuse), command
    return command


def ended(commands: list[MediaCommand]) -> EndCall:
    """The end that the media half orders."""
    command = one(commands)
    assert isinstance(command, EndCall), command
    return command
