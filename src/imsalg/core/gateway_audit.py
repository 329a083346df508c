"""What does a gateway still hold? After a broken association or an unanswered reservation the controller looks.

The gateway is asked for the list of its contexts (RFC 3525 7.2.5). Contexts that nobody claims are subtracted; calls
whose contexts have vanished are reported. A gateway that has more contexts than fit into one message says so (error
533); then the contexts that are claimed are looked for, :data:`BATCH` in one transaction, and what nobody claims
cannot be told. A gateway that does not know that list is asked for every termination instead.
"""

from collections.abc import Callable
from typing import Protocol

from imsalg.core.gateway_model import Done, Gateway, Lost, Report, State, Ticket, audited_contexts
from imswire.h248 import iq
from imswire.h248.model import Action, TransactionReply

PROBE = Ticket(-1)
CONTEXTS = Ticket(-2)
TERMINATIONS = Ticket(-3)
CLAIMS = Ticket(-4)
ORDER = Ticket(0)
"""Tickets that are not a call's: the heartbeat, the three kinds of audit, and transactions nobody waits for."""
AUDITS = (CONTEXTS, TERMINATIONS, CLAIMS)
BATCH = 500
"""Contexts in one transaction: some 20 octets each, there and back."""
TOO_LARGE = 533
"""Response exceeds the maximum transport PDU size (H.248.8)."""
GONE = (411, 431)


class Controller(Protocol):
    """What an audit needs of the controller; :class:`imsalg.core.gateways.Gateways` is it."""

    reports: list[Report]

    def transact(self, mid: str, actions: tuple[Action, ...], ticket: Ticket, now: float) -> None:
        """Send one transaction."""


class Audits:
    """See the module's text."""

    def __init__(self, controller: Controller, log: Callable[..., None]) -> None:
        self._controller = controller
        self._log = log

    def start(self, gateway: Gateway, now: float) -> None:
        """Look what the gateway holds."""
        self._controller.transact(gateway.mid, (iq.audit_contexts(),), CONTEXTS, now)

    def answered(self, gateway: Gateway, ticket: Ticket, reply: TransactionReply | None, now: float) -> None:
        """The outcome of an audit; None for no reply, after which nothing is known and nothing done."""
        if reply is None:
            gateway.unchecked.clear()
        elif ticket is CLAIMS:
            self._claims(gateway, reply, now)
        else:
            self._listed(gateway, ticket, reply, now)

    def _listed(self, gateway: Gateway, ticket: Ticket, reply: TransactionReply, now: float) -> None:
        found, fault = audited_contexts(reply)
        if fault is None:
            self._lost(gateway, sorted(gateway.contexts.keys() - found))
            gateway.suspects = found - gateway.contexts.keys()
            self.subtract_suspects(gateway, now)
        elif fault.code == TOO_LARGE:
            self._log("info", "too many contexts for a list", gateway, claimed=len(gateway.contexts))
            gateway.unchecked = sorted(gateway.contexts)
            self._next(gateway, now)
        elif ticket is CONTEXTS:
            self._controller.transact(gateway.mid, (iq.audit_all(),), TERMINATIONS, now)
        else:
            self._log("warning", "audit refused", gateway, code=fault.code, text=fault.text)

    def _next(self, gateway: Gateway, now: float) -> None:
        gateway.unchecked = [context for context in gateway.unchecked if context in gateway.contexts]
        batch = gateway.unchecked[:BATCH]
        if batch:
            self._controller.transact(gateway.mid, iq.audit_these(batch), CLAIMS, now)

    def _claims(self, gateway: Gateway, reply: TransactionReply, now: float) -> None:
        """Each action is the answer for one context; a transaction stops at the first that is gone."""
        answered = set()
        for action in reply.actions:
            fault = action.error or next((c.error for c in action.commands if c.error is not None), None)
            if fault is not None and fault.code not in GONE:
                break
            answered.add(action.context)
            if fault is not None:
                self._lost(gateway, [action.context])
        if not answered.intersection(gateway.unchecked):
            self._log("warning", "audit refused", gateway, code=reply.error.code if reply.error else 0)
            gateway.unchecked.clear()
            return
        gateway.unchecked = [context for context in gateway.unchecked if context not in answered]
        self._next(gateway, now)

    def _lost(self, gateway: Gateway, gone: list[int]) -> None:
        for context in gone:
            gateway.contexts.pop(context, None)
        if gone:
            self._controller.reports.append(Lost(gateway.mid, tuple(gone), "media gateway lost the context"))

    def subtract_suspects(self, gateway: Gateway, now: float) -> None:
        """Unclaimed contexts may still be those of a reservation whose reply is on its way: wait until there is
        none."""
        if gateway.reserving or not gateway.suspects or gateway.state is State.AWAY:
            return
        if any(isinstance(report, Done) for report in self._controller.reports):
            return
        orphans = sorted(gateway.suspects - gateway.contexts.keys())
        gateway.suspects.clear()
        if orphans:
            self._log("warning", "contexts that nobody claims", gateway, contexts=orphans[:100], count=len(orphans))
        for start in range(0, len(orphans), BATCH):
            actions = tuple(iq.subtract_context(context) for context in orphans[start : start + BATCH])
            self._controller.transact(gateway.mid, actions, ORDER, now)
