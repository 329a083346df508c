"""What does a gateway still hold? Looked at after a broken association or an unanswered reservation, and now and then.

The gateway is asked for the list of its contexts (RFC 3525 7.2.5). Contexts that nobody claims are subtracted; calls
whose contexts have vanished are reported. A gateway that does not know that list is asked for every termination
instead. One that holds more than fits into a message says so (error 533) and is asked in pieces: first for the
contexts that are claimed, :data:`BATCH` in one transaction; then for terminations by their names, ``ip/<realm>/*``, and
where these are still too many by one digit more of the number, ``ip/<realm>/1*``. What is found that way only adds to
what nobody claims: a gateway with other names loses nothing.
"""

from collections.abc import Callable
from typing import Protocol

from imsalg.core.gateway_model import Done, Gateway, Lost, Report, State, Ticket, Walk, audited_contexts
from imswire.h248 import iq
from imswire.h248.model import Action, TransactionReply

PROBE = Ticket(-1)
CONTEXTS = Ticket(-2)
TERMINATIONS = Ticket(-3)
CLAIMS = Ticket(-4)
NAMES = Ticket(-5)
ORDER = Ticket(0)
"""Tickets that are not a call's: the heartbeat, the four kinds of audit, and transactions nobody waits for."""
AUDITS = (CONTEXTS, TERMINATIONS, CLAIMS, NAMES)
BATCH = 500
"""Contexts in one transaction: some 20 octets each, there and back."""
PAGES = 10_000
"""Transactions of one audit by names, at most."""
DIGITS = 10
"""Of the number of a termination."""
TOO_LARGE = 533
"""Response exceeds the maximum transport PDU size (H.248.8)."""
GONE = (411, 430, 431)


class Controller(Protocol):
    """What an audit needs of the controller; :class:`imsalg.core.gateways.Gateways` is it."""

    reports: list[Report]

    def transact(self, mid: str, actions: tuple[Action, ...], ticket: Ticket, now: float) -> None:
        """Send one transaction."""


class Audits:
    """See the module's text. ``realms`` are the names that gateways know the realms by."""

    def __init__(self, controller: Controller, log: Callable[..., None], realms: tuple[str, ...]) -> None:
        self._controller = controller
        self._log = log
        self._realms = realms

    def start(self, gateway: Gateway, now: float) -> None:
        """Look what the gateway holds, after the look that runs already."""
        if gateway.walk is not None:
            gateway.audit_again = True
            return
        gateway.walk = Walk(gateway.contexts)
        self._controller.transact(gateway.mid, (iq.audit_contexts(),), CONTEXTS, now)

    def answered(self, gateway: Gateway, ticket: Ticket, reply: TransactionReply | None, now: float) -> None:
        """The outcome of an audit; None for no reply, after which nothing is known and nothing done."""
        walk = gateway.walk
        if walk is None:
            return
        if reply is None:
            self._finish(gateway, now)
        elif ticket is CLAIMS:
            self._claims(gateway, walk, reply, now)
        elif ticket is NAMES:
            self._named(gateway, walk, reply, now)
        else:
            self._listed(gateway, walk, ticket, reply, now)

    def stop(self, gateway: Gateway) -> None:
        """The association is gone, and with it the answers."""
        gateway.walk = None
        gateway.audit_again = False

    def _finish(self, gateway: Gateway, now: float) -> None:
        gateway.walk = None
        if gateway.audit_again:
            gateway.audit_again = False
            self.start(gateway, now)

    def _suspect(self, gateway: Gateway, walk: Walk, now: float) -> None:
        """What was claimed when the audit began and is not now was released meanwhile, and is being subtracted."""
        gateway.suspects = walk.found - gateway.contexts.keys() - walk.claimed
        self.subtract_suspects(gateway, now)
        self._finish(gateway, now)

    def _listed(self, gateway: Gateway, walk: Walk, ticket: Ticket, reply: TransactionReply, now: float) -> None:
        found, fault = audited_contexts(reply)
        if fault is None:
            self._lost(gateway, sorted(walk.claimed & gateway.contexts.keys() - found))
            walk.found = found
            self._suspect(gateway, walk, now)
        elif fault.code == TOO_LARGE:
            self._log("info", "too many contexts for a list", gateway, claimed=len(gateway.contexts))
            walk.unchecked = sorted(walk.claimed)
            walk.names = [iq.termination_name(realm, "*") for realm in self._realms]
            self._next(gateway, walk, now)
        elif ticket is CONTEXTS:
            self._controller.transact(gateway.mid, (iq.audit_all(),), TERMINATIONS, now)
        else:
            self._log("warning", "audit refused", gateway, code=fault.code, text=fault.text)
            self._finish(gateway, now)

    def _next(self, gateway: Gateway, walk: Walk, now: float) -> None:
        walk.unchecked = [context for context in walk.unchecked if context in gateway.contexts]
        batch = walk.unchecked[:BATCH]
        if batch:
            self._controller.transact(gateway.mid, iq.audit_these(batch), CLAIMS, now)
        elif walk.names and walk.pages < PAGES:
            walk.pages += 1
            self._controller.transact(gateway.mid, (iq.audit_named(walk.names[-1]),), NAMES, now)
        else:
            self._suspect(gateway, walk, now)

    def _claims(self, gateway: Gateway, walk: Walk, reply: TransactionReply, now: float) -> None:
        """Each action is the answer for one context; a transaction stops at the first that is gone."""
        answered = set()
        for action in reply.actions:
            fault = action.error or next((c.error for c in action.commands if c.error is not None), None)
            if fault is not None and fault.code not in GONE:
                break
            answered.add(action.context)
            if fault is not None and action.context in gateway.contexts:
                self._lost(gateway, [action.context])
        if not answered.intersection(walk.unchecked):
            self._log("warning", "audit refused", gateway, code=reply.error.code if reply.error else 0)
            walk.unchecked.clear()
            self._finish(gateway, now)
            return
        walk.unchecked = [context for context in walk.unchecked if context not in answered]
        self._next(gateway, walk, now)

    def _named(self, gateway: Gateway, walk: Walk, reply: TransactionReply, now: float) -> None:
        """The contexts of some terminations; where these are too many, those with each next digit are asked for."""
        name = walk.names.pop()
        found, fault = audited_contexts(reply)
        if fault is None:
            walk.found |= found
        elif fault.code == TOO_LARGE and name.endswith("*"):
            stem = name[:-1]
            number = stem.rpartition("/")[2]
            if len(number) < DIGITS:
                walk.names += [f"{stem}{digit}*" for digit in reversed(range(10))]
                if number:
                    walk.names.append(stem)
        elif fault.code not in GONE:
            self._log("warning", "audit refused", gateway, code=fault.code, text=fault.text)
            walk.names.clear()
        self._next(gateway, walk, now)

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
        subtract_all(self._controller, gateway, orphans, now)


def subtract_all(controller: Controller, gateway: Gateway, contexts: list[int], now: float) -> None:
    """Subtract whole contexts, :data:`BATCH` in one transaction."""
    for start in range(0, len(contexts), BATCH):
        actions = tuple(iq.subtract_context(context) for context in contexts[start : start + BATCH])
        controller.transact(gateway.mid, actions, ORDER, now)
