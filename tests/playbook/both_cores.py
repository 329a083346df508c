"""Both media cores in memory: the IMS-ALG's against the IMS-AGW's, with the bytes of H.248 between them and no socket.

Every message between the two is written and parsed as on the wire. The AGW's executor is a page of plain state here:
what listens, what was dialled, what TLS was armed, what is relayed; the script says what the UE and the peer do.
"""

from collections import deque
from collections.abc import Callable, Iterable

from tests.playbook.mediaplay import PEER_IP, peer_line, sdp, ue_line

from agw.core import events as agw_events
from agw.core import orders
from agw.core.engine import AgwEngine
from agw.settings import RealmSettings, Settings
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import (
    AccessProfile,
    AnswerIn,
    CallEnded,
    EndCall,
    FromGateway,
    GatewayUp,
    Inspected,
    LegConfirmed,
    MediaCommand,
    OfferIn,
    Proceed,
    Refuse,
    Side,
    ToGateway,
)
from imsalg.media_settings import GatewayTimers, MediaRealm, MediaSettings
from imswire.h248.model import Message
from imswire.h248.parser import parse
from imswire.h248.writer import write
from imswire.sdp.model import Media, SessionDescription

AGW_PRINT = bytes(range(100, 132))
UE_PRINT = bytes(range(32))
IGNORE = MediaRealm(early_syn="ignore")


class World:
    """Both cores and what lies between them and below the gateway."""

    def __init__(self, access: MediaRealm | None = None, core: MediaRealm | None = None, ports: int = 10) -> None:
        realms = {"access": access or MediaRealm(), "core": core or MediaRealm()}
        self.half = MediaHalf(MediaSettings(realms=realms, timers=GatewayTimers(heartbeat=0)))
        self.ports = ports
        self.agw = self.new_gateway()
        self.now = 50.0
        self.link = 0
        self.verdicts: list[MediaCommand] = []
        self.others: list[MediaCommand] = []
        self.untouched = False
        """Nothing has passed between legs that were joined."""
        self.messages: list[bytes] = []
        self.listening: dict[int, tuple[str, int, orders.SynFilter]] = {}
        self.places: set[tuple[str, int]] = set()
        self.dialled: dict[int, tuple[str, int]] = {}
        self.armed: dict[int, tuple[str, orders.Fingerprints | None]] = {}
        self.relayed: list[tuple[int, int]] = []
        self.swapped: list[tuple[orders.PathSwap, orders.PathSwap] | None] = []
        self.token = 0
        self._queue: deque[tuple[Callable[[object], None], object]] = deque()
        self._running = False
        self.online()

    def new_gateway(self, first_tid: int = 1) -> AgwEngine:
        realm = {
            "access": RealmSettings(("198.51.100.1", "2001:db8::1"), f"20000-{19999 + self.ports}", quarantine=0),
            "core": RealmSettings(("198.51.100.2", "2001:db8::2"), f"30000-{29999 + self.ports}", quarantine=0),
        }
        return AgwEngine(Settings(realm=realm), "agw-1", {"sha-256": AGW_PRINT}, first_tid=first_tid)

    # --- between the two ---

    def online(self) -> None:
        self.link += 1
        self.to_alg_event(GatewayUp(self.link, "127.0.0.1:40000"))
        self.to_agw(agw_events.ControlUp("127.0.0.1:2944"))

    def to_alg_event(self, event: object) -> None:
        self._pass(self._alg, event)

    def to_agw(self, event: agw_events.Event) -> None:
        self._pass(self._agw, event)

    def _pass(self, side: Callable[[object], None], event: object) -> None:
        """One after another, as the drivers do it, until nobody has anything left to say."""
        self._queue.append((side, event))
        if self._running:
            return
        self._running = True
        try:
            while self._queue:
                take, given = self._queue.popleft()
                take(given)
        finally:
            self._queue.clear()
            self._running = False

    def wait(self, seconds: float) -> None:
        """Let the IMS-ALG's time pass, timer by timer."""
        until = self.now + seconds
        while (due := self.half.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self._pass(lambda now: self._take(self.half.expire(now)), self.now)  # type: ignore[arg-type]
        self.now = until

    def _alg(self, event: object) -> None:
        self._take(self.half.handle(event, self.now))  # type: ignore[arg-type]

    def _take(self, commands: Iterable[MediaCommand]) -> None:
        for command in commands:
            if isinstance(command, ToGateway):
                data = write(command.message)
                self.messages.append(data)
                self.to_agw(agw_events.FromController(parse(data)))
            elif isinstance(command, (Proceed, Refuse, EndCall)):
                self.verdicts.append(command)
            elif isinstance(command, Inspected):
                self.others.append(command)

    def _agw(self, event: object) -> None:
        for command in self.agw.handle(event, self.now):  # type: ignore[arg-type]
            self._carry_out(command)

    def _carry_out(self, command: agw_events.Command) -> None:
        match command:
            case agw_events.SendH248(message):
                data = write(message)
                self.messages.append(data)
                self.to_alg_event(FromGateway(self.link, self.parsed(data)))
            case orders.Listen(leg, address, port, syn, beside):
                shared = beside is not None and self.listening[beside][:2] == (address, port)
                assert shared is ((address, port) in self.places), "already listened on"
                self.places.add((address, port))
                self.listening[leg] = (address, port, syn)
                self.to_agw(orders.Listening(leg, port))
            case orders.SetFilter(leg, syn):
                self.listening[leg] = (*self.listening[leg][:2], syn)
            case orders.Dial(leg, _, _, address, port):
                self.listening[leg] = (*self.listening[leg][:2], orders.CLOSED)
                self.dialled[leg] = (address, port)
            case orders.ArmTls(leg, role, prints):
                self.armed[leg] = (role, prints)
            case orders.SetFingerprints(leg, prints):
                self.armed[leg] = (self.armed[leg][0], prints)
            case orders.StartRelay(a, b):
                self.relayed.append((a, b))
                self.swapped.append(command.rewrite)
            case orders.Release(leg, heir):
                place = self.listening.pop(leg)
                if heir is not None:
                    self.listening[heir] = (*place[:2], orders.CLOSED)
                elif not any(other[:2] == place[:2] for other in self.listening.values()):
                    self.places.discard(place[:2])
                kept = command.keep and self.untouched and any(leg in pair for pair in self.relayed)
                self.to_agw(orders.Released(leg, 10, 20, kept))

    @staticmethod
    def parsed(data: bytes) -> Message:
        return parse(data)

    # --- what the SIP half says ---

    def offer(self, body: bytes, side: Side, call: str = "c") -> MediaCommand:
        self.token += 1
        profile = AccessProfile(agreed=frozenset({"msrp-tls", "bfcp-tls"}))
        self.to_alg_event(OfferIn(call, self.token, side, body, profile, "call-id@lab"))
        return self.verdicts[-1]

    def answer(self, body: bytes, side: Side) -> MediaCommand:
        self.token += 1
        self.to_alg_event(AnswerIn("c", "tag", self.token, side, body, True))
        verdict = self.verdicts[-1]
        self.to_alg_event(LegConfirmed("c", "tag"))
        return verdict

    def hang_up(self) -> None:
        self.to_alg_event(CallEnded("c"))

    # --- what the ends do ---

    def connect(self, address: str, port: int, source: tuple[str, int]) -> int | None:
        """A TCP SYN from ``source``; the leg that accepted it, or None when it stayed unanswered."""
        here = {leg: syn for leg, (host, number, syn) in self.listening.items() if (host, number) == (address, port)}
        assert here, f"nothing listens at {address}:{port}"
        for leg, syn in here.items():
            if syn.admits(*source):
                self.listening[leg] = (address, port, orders.CLOSED)
                self.to_agw(orders.Accepted(leg, *source))
                return leg
        return None

    def only_dialled(self) -> int:
        (leg,) = self.dialled
        return leg

    def tls_opens(self, leg: int) -> None:
        self.to_agw(orders.TlsOpen(leg, "TLSv1.3", "TLS_AES_128_GCM_SHA256", "sha-256", UE_PRINT))


def line_of(verdict: MediaCommand) -> tuple[str, int, Media, SessionDescription]:
    """Address, port and the section of the only line of the body that goes on."""
    assert isinstance(verdict, Proceed), verdict
    body = SessionDescription.parse(verdict.body)
    (media,) = body.media
    return body.address_of(media).address, media.port, media, body


def ue(setup: str, e2ae: str | None = "requested") -> bytes:
    return sdp(*ue_line(setup=setup, e2ae=e2ae))


def peer(setup: str) -> bytes:
    return sdp(*peer_line(setup=setup), ip=PEER_IP)


def released(world: World) -> None:
    """Nothing is left anywhere."""
    assert not world.half.calls
    assert not world.agw.store.contexts
    assert not world.listening
    assert world.half.gateways.gateways["agw-1"].load == 0
