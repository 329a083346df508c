"""Where a request really goes: names looked up (RFC 3263), targets tried in order, large requests over TCP.

A forward whose next hop is a name waits here until the shell has located it; CANCEL and the end of the call find it
like any request that has not gone out. Each try is a transaction with a branch of its own (RFC 3263 4.3, RFC 3261
16.6 step 8). What failed is avoided for a while, so that the next request does not wait for it again.

Names that the settings give (the way into the core) have room of their own, beside that of names that peers may make
up; an answer for one is used beyond its time while a new search runs or fails (RFC 8767), so that no request waits.
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2s

from msgspec import Struct

from imsalg.core.deadlines import Deadlines
from imsalg.core.events import Resolve, Resolved
from imsalg.core.routing import Network
from imsalg.core.sip_call import Answer, Forward
from imsalg.settings import Settings
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.location import Hop, Target, in_order

OVERHEAD = 140
"""Octets that our Via and a Content-Length add to a request."""
MOST_AVOIDED = 4096
STALE_FOR = 86_400.0
"""Seconds that an answer for a configured name may be used beyond its time (RFC 8767 4: one to three days)."""


class _Known(Struct, frozen=True):
    """What a search found. It holds until ``until`` and may be used, when nothing newer is there, until ``usable``;
    both are on the engine's clock."""

    targets: tuple[Target, ...]
    until: float
    answer: Answer | None
    usable: float


class Hops:
    """The names known, those being looked up with what waits for them, and the targets that failed."""

    def __init__(self, settings: Settings, network: Network, token: Callable[[int], str]) -> None:
        self._settings = settings.dns
        self._network = network
        self._token = token
        self._known: OrderedDict[Hop, _Known] = OrderedDict()
        self._own: dict[Hop, _Known | None] = dict.fromkeys(_configured(settings, network))
        self._waiting: dict[Hop, dict[Forward, None]] = {}
        self._avoided: OrderedDict[tuple[str, tuple[str, int]], float] = OrderedDict()
        self.limits = {
            name: realm.datagram_limit
            for name, realm in settings.realm.items()
            if realm.kind == "core" and realm.datagram_limit and any(t == "tcp" for t, _ in network.offers(name))
        }
        """Octets above which a request goes over TCP, by realm."""
        self.tries: Deadlines[Forward] = Deadlines()
        """When a target that is silent is left for the next one."""
        self.located = 0
        self.not_located = 0
        self.failovers = 0

    def __len__(self) -> int:
        return len(self._known) + sum(known is not None for known in self._own.values())

    @property
    def waiting(self) -> int:
        """Names that are being looked up."""
        return len(self._waiting)

    # --- names ---

    def settle(self, forward: Forward, now: float) -> Resolve | bool:
        """Give ``forward`` its flow. True when it may go now; else it waits, with the question to be asked, if any.

        With an answer beyond its time it may go (its ``hop`` is None then), and there is a question all the same.
        Raises :class:`Answer` when its name leads nowhere, LimitExceeded when too much is being looked up.
        """
        hop = forward.hop
        if hop is None:
            return True
        own = hop in self._own
        known = self._own[hop] if own else self._known.get(hop)
        if known is not None and known.until > now:
            if known.answer is not None:
                raise known.answer
            self._aim(forward, hop, known.targets, now)
            return True
        may_go = known is not None and known.usable > now and self._aimed(forward, hop, known.targets, now)
        if (waiting := self._waiting.get(hop)) is None:
            if not own and len(self._waiting) - len(self._own.keys() & self._waiting.keys()) >= self._settings.searches:
                raise LimitExceeded("dns.searches", "too many names are being looked up")
            self._waiting[hop] = {} if may_go else {forward: None}
            return Resolve(hop, self._network.offers(hop.realm), own)
        if not may_go:
            waiting[forward] = None
        return may_go

    def resolved(self, event: Resolved, now: float) -> list[Forward]:
        """Note what was found; returns what waited for it, in order."""
        settings = self._settings
        answer = None
        if event.targets:
            self.located += 1
            seconds = min(max(event.ttl, settings.least_ttl), settings.most_ttl)
        else:
            self.not_located += 1
            seconds = settings.least_ttl if event.unsure else settings.negative_ttl
            # RFC 3261 21.5.5: a server that was needed to process the request (it names DNS) did not answer in time.
            answer = Answer(504 if event.unsure else 502, f"{event.hop.host}: {event.error}")
        waiting = list(self._waiting.pop(event.hop, ()))
        if event.hop in self._own:
            before = self._own[event.hop]
            if event.unsure and before is not None and before.usable > now:
                self._own[event.hop] = _Known(before.targets, min(now + seconds, before.usable), None, before.usable)
            else:
                usable = now + seconds + STALE_FOR if event.targets else 0.0
                self._own[event.hop] = _Known(event.targets, now + seconds, answer, usable)
            return waiting
        self._known[event.hop] = _Known(event.targets, now + seconds, answer, 0.0)
        self._known.move_to_end(event.hop)
        if len(self._known) > settings.names:
            self._known.popitem(last=False)
        return waiting

    def leave(self, forward: Forward) -> None:
        """``forward`` waits no longer."""
        if forward.hop is not None and (waiting := self._waiting.get(forward.hop)) is not None:
            waiting.pop(forward, None)

    def _aimed(self, forward: Forward, hop: Hop, targets: tuple[Target, ...], now: float) -> bool:
        try:
            self._aim(forward, hop, targets, now)
        except Answer:
            return False
        return True

    def _aim(self, forward: Forward, hop: Hop, targets: tuple[Target, ...], now: float) -> None:
        places = in_order(targets, self._pick)
        flows = [flow for place in places if (flow := self._network.place(hop, *place)) is not None]
        if not flows:
            raise Answer(502, f"{hop.host}: no address that can be reached from here")
        if len(flows) > 1 and self._avoided:
            flows.sort(key=lambda flow: self._is_avoided(flow, now))  # stable: the order stays within each half
        forward.flow, forward.hop, forward.others = flows[0], None, tuple(flows[1:])
        self._restamp(forward, hop.flow)

    def _pick(self, most: int) -> int:
        if most <= 0:
            return 0
        return int.from_bytes(blake2s(self._token(8).encode(), digest_size=8).digest()) % (most + 1)

    def _restamp(self, forward: Forward, before: Flow) -> None:
        """Name the listener that the request now leaves from in what it was announced with."""
        face = self._network.face(forward.flow)
        if forward.stamp is not None and face is not self._network.face(before):
            name, token = forward.stamp
            headers = forward.outgoing.headers
            params = ";ob" if ";ob>" in (headers.first_value(name) or "") else ""
            headers.replace_first_value(name, face.record_route(token, params))

    # --- targets ---

    def next(self, forward: Forward, now: float, *, silent: bool) -> bool:
        """Aim at the next target, if there is one. ``silent``: this one gave no answer at all, else it answered 503."""
        failed = forward.flow
        others = forward.others
        if silent:
            self.avoid(failed, now + self._settings.avoid)
        else:
            others = tuple(flow for flow in others if flow.remote != failed.remote)
        if not others or forward.answered or forward.aborted:
            return False
        self.failovers += 1
        forward.flow, forward.others = others[0], others[1:]
        self._restamp(forward, failed)
        return True

    def avoid(self, flow: Flow, until: float) -> None:
        """Remember that this target failed."""
        key = (flow.transport, flow.remote)
        self._avoided[key] = until
        self._avoided.move_to_end(key)
        if len(self._avoided) > MOST_AVOIDED:
            self._avoided.popitem(last=False)

    def refused(self, flow: Flow, now: float) -> None:
        """A connection that was to be opened was not: large requests go over UDP there for a while."""
        if flow.transport == "tcp":
            self.avoid(flow, now + self._settings.avoid)

    def _is_avoided(self, flow: Flow, now: float) -> bool:
        until = self._avoided.get((flow.transport, flow.remote))
        return until is not None and until > now

    def watch(self, forward: Forward, now: float) -> None:
        """``forward`` has been sent and there are other targets: the silence of this one counts from now.

        An INVITE is answered by 100 at once (RFC 3261 17.2.1); a server that is slow with another request says nothing
        meanwhile (RFC 4320), so for those only their transaction's timeout counts.
        """
        if forward.is_invite:
            self.tries.set(forward, now + self._settings.next_after)

    # --- size ---

    def switched(self, flow: Flow, octets: int, now: float) -> Flow:
        """The flow for a request of ``octets`` over UDP (RFC 3261 18.1.1): TCP to the same peer, unless it failed."""
        if octets + OVERHEAD <= self.limits[flow.realm]:
            return flow
        tcp = self._network.sibling(flow, "tcp")
        return flow if tcp is None or self._is_avoided(tcp, now) else tcp


def _configured(settings: Settings, network: Network) -> list[Hop]:
    """The names that the settings give for next hops."""
    hops: list[Hop] = []
    for name, realm in settings.realm.items():
        if realm.kind != "core":
            continue
        for uri in (realm.next_hop, realm.emergency_next_hop, realm.emergency_register_next_hop):
            try:
                way = network.resolve(uri, name) if uri else None
            except ProtocolError:
                continue  # it is refused when a request is to go there
            if isinstance(way, Hop):
                hops.append(way)
    return hops
