"""Looking at running media: what the gateways say of TLS on secured lines, asked only when somebody wants to know."""

from collections.abc import Callable, Iterable, Mapping

from imsalg.core.call_state import CallState
from imsalg.core.gateway_model import Done, Ticket
from imsalg.core.gateways import Gateways
from imsalg.core.media_events import Inspect, Inspected, MediaCommand
from imswire.h248.iq_inspect import TlsState, audit_media, read_tls

BATCH = 32
"""Contexts in one transaction: two terminations of some 500 octets each in the reply, whose message has 64 kB."""


class Looks:
    """Questions that gateways have not answered yet. ``number`` gives fresh tickets, ``emit`` takes the answers."""

    def __init__(self, gateways: Gateways, number: Callable[[], int], emit: Callable[[MediaCommand], None]) -> None:
        self._gateways = gateways
        self._number = number
        self._emit = emit
        self._asked: dict[int, tuple[int, str]] = {}
        self._left: dict[int, int] = {}
        self._found: dict[int, dict[tuple[str, int], TlsState]] = {}

    def begin(self, event: Inspect, calls: Mapping[str, CallState], now: float) -> None:
        """Ask every gateway that has lines of these calls."""
        contexts: dict[str, list[int]] = {}
        for key in event.calls:
            call = calls.get(key)
            if call is not None and call.gateway is not None:
                contexts.setdefault(call.gateway, []).extend(call.contexts)
        asked = [(mid, batch) for mid, held in contexts.items() for batch in _batches(held)]
        self._left[event.token], self._found[event.token] = len(asked), {}
        for mid, batch in asked:
            ticket = self._number()
            self._asked[ticket] = event.token, mid
            self._gateways.transact(mid, audit_media(batch), Ticket(ticket), now)
        if not asked:
            self._end(event.token)

    def done(self, report: Done) -> bool:
        """The outcome of a transaction; False when it was none of these."""
        token, mid = self._asked.pop(report.ticket, (0, ""))
        if not mid:
            return False
        if report.reply is not None:
            found = self._found[token]
            found.update({(mid, context): state for context, state in read_tls(report.reply.actions).items()})
        self._left[token] -= 1
        if not self._left[token]:
            self._end(token)
        return True

    def _end(self, token: int) -> None:
        del self._left[token]
        self._emit(Inspected(token, self._found.pop(token)))


def _batches(contexts: list[int]) -> Iterable[list[int]]:
    return (contexts[start : start + BATCH] for start in range(0, len(contexts), BATCH))
