"""What is let in when more comes than can be served: decided from the octets, before anything is parsed.

Two rules (RFC 5390, RFC 6357): a source address on the access side may ask only so much, whatever the load; and while
the node is behind, new work (INVITE, REGISTER and whatever else begins something) is refused so that what has begun
gets through. Emergency calls are not refused for overload. Responses are never refused for it either; those of one
source have a bucket of their own, four times as large, since nothing else would bound what is parsed of them.

The rate is kept as one number for each source, the time until which its allowance is spent (the generic cell rate
algorithm): a request that is let in costs one look into a dictionary.
"""

from collections.abc import Callable, Collection, Mapping

from imsalg.core.emergency import dialled
from imsalg.overload_settings import OverloadSettings
from imswire.sip.flow import Flow
from imswire.sip.glance import Glance, glance, is_ack_of_refusal, refusal
from imswire.sources import source_of

type Answering = tuple[bytes, Flow]

ADMIT = None
"""Go on with the message."""
RESPONSES = 4
"""Responses that a source may send for each request that it may."""


class Counts:
    """Requests that were not let in, since the start."""

    __slots__ = ("acks", "answered", "overload", "silent", "source_rate")

    def __init__(self) -> None:
        self.source_rate = 0
        self.overload = 0
        self.answered = 0
        self.silent = 0
        self.acks = 0


class Admission:
    """See the module's text. Where nothing is shed and the realm is not metered, everything is let in unseen.

    ``metered`` names the realms whose sources are limited. ``known`` says whether a request of that branch, sent-by
    and method repeats one that is being served: such a one is no new work. ``retry_after`` (seconds) is what is asked
    of those that are refused; they are told between that and twice as much, so that they do not come back together.
    ``numbers`` are the emergency numbers of each realm. ``callbacks`` names the realms whose word is taken that a call
    comes from an emergency centre.
    """

    def __init__(
        self,
        settings: OverloadSettings,
        metered: Collection[str],
        known: Callable[[str, str, str], bool],
        retry_after: int,
        numbers: Mapping[str, Collection[str]] | None = None,
        callbacks: Collection[str] = (),
    ) -> None:
        self._settings = settings
        self.metered = frozenset(metered) if settings.source_rate else frozenset()
        self._known = known
        self._retry_after = retry_after
        self._numbers = {realm: frozenset(some) for realm, some in (numbers or {}).items() if some}
        self._callbacks = frozenset(callbacks)
        self._step = 1.0 / settings.source_rate if settings.source_rate else 0.0
        # Half a step less than the burst: as many messages as it says, whatever the last digits do.
        self._allowance = (settings.source_burst - 0.5) * self._step
        self._twice = (2 * settings.source_burst - 0.5) * self._step
        self._spent: dict[str, float] = {}
        self._refused = 0
        self.shedding = False
        self.overloaded = False  # shedding now, or did so shortly before: for the metrics
        self.counts = Counts()

    @property
    def sources(self) -> int:
        """Source addresses in the table."""
        return len(self._spent)

    def check(self, data: bytes, flow: Flow, now: float) -> Answering | bytes | None:
        """What becomes of one message: :data:`ADMIT`, the octets of an answer with their flow, or b"" (silence)."""
        if data[:4] == b"SIP/":
            return self._response(flow, now) if flow.realm in self.metered else ADMIT
        if flow.realm in self.metered:
            source = source_of(flow.remote[0])
            spent = self._spent.get(source, 0.0)
            if spent > now + self._allowance:
                return self._beyond_rate(data, flow, source, spent, now)
            self._spend(source, spent, now)
        return self._triage(data, flow) if self.shedding else ADMIT

    def _response(self, flow: Flow, now: float) -> bytes | None:
        source = "re " + source_of(flow.remote[0])
        spent = self._spent.get(source, 0.0)
        if spent > now + self._allowance:
            self.counts.source_rate += 1
            self.counts.silent += 1
            return b""
        self._spend(source, spent, now, self._step / RESPONSES)
        return ADMIT

    def _spend(self, source: str, spent: float, now: float, step: float = 0.0) -> None:
        table = self._spent
        table[source] = (spent if spent > now else now) + (step or self._step)
        if len(table) > self._settings.sources:
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        """Forget the sources that owe nothing; when most do, as under forged addresses, forget them all."""
        kept = {source: spent for source, spent in self._spent.items() if spent > now}
        self._spent = kept if len(kept) * 2 <= self._settings.sources else {}

    def _beyond_rate(self, data: bytes, flow: Flow, source: str, spent: float, now: float) -> Answering | bytes | None:
        seen = glance(data)
        if self._urgent(seen, flow):
            # An allowance of its own: neither can a flood shut out emergency calls of its neighbours behind one NAT,
            # nor does the word "sos" lift the limit.
            source = "sos " + source
            spent = self._spent.get(source, 0.0)
            if spent <= now + self._allowance:
                self._spend(source, spent, now)
                return ADMIT
        elif not seen.new and spent <= now + self._twice:
            self._spend(source, spent, now)
            return ADMIT
        self.counts.source_rate += 1
        if is_ack_of_refusal(data):
            self.counts.acks += 1
            return b""
        if self._known(*seen.key, seen.method.decode("latin-1")):
            self.counts.silent += 1
            return b""  # a repetition: its answer is under way
        return self._refuse(seen, flow)

    def _triage(self, data: bytes, flow: Flow) -> Answering | bytes | None:
        if is_ack_of_refusal(data):
            self.counts.acks += 1
            return b""
        seen = glance(data)
        if not seen.new or self._urgent(seen, flow) or self._known(*seen.key, seen.method.decode("latin-1")):
            return ADMIT
        self.counts.overload += 1
        return self._refuse(seen, flow)

    def _urgent(self, seen: Glance, flow: Flow) -> bool:
        if seen.emergency or (seen.callback and flow.realm in self._callbacks):
            return True
        if not self._numbers:
            return False
        numbers = self._numbers.get(flow.realm)
        return numbers is not None and dialled(seen.uri.decode("latin-1")) in numbers

    def _refuse(self, seen: Glance, flow: Flow) -> Answering | bytes:
        made = None
        if self._settings.answer == "503":
            self._refused += 1
            wait = self._retry_after + self._refused % (self._retry_after + 1)
            made = refusal(seen, flow, b"503 Service Unavailable", b"Retry-After: %d\r\n" % wait)
        if made is None:
            self.counts.silent += 1
            return b""
        self.counts.answered += 1
        return made
