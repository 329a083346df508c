"""Subtracts that were refused or not answered: repeated a few times, then left to the next audit.

A context that nobody subtracts holds two ports for ever, so that an order to end one is kept until it was carried out.
"""

import math
from collections.abc import Callable

from imsalg.core.gateway_audit import GONE, Controller, subtract_all
from imsalg.core.gateway_model import Gateway
from imswire.h248.model import Action, TransactionReply

TRIES = 4
"""Repetitions, after :data:`FIRST` seconds and then twice as long each time."""
FIRST = 1.0


def ended_by(actions: tuple[Action, ...]) -> tuple[int, ...]:
    """The contexts that a transaction subtracts; () for any other transaction."""
    commands = actions[0].commands if actions else ()
    if not commands or commands[0].name != "Subtract":
        return ()
    return tuple([action.context for action in actions])


class Debts:
    """See the module's text."""

    def __init__(self, controller: Controller, log: Callable[..., None]) -> None:
        self._controller = controller
        self._log = log

    def settled(
        self, gateway: Gateway, contexts: tuple[int, ...], reply: TransactionReply | None, text: str, now: float
    ) -> None:
        """The outcome of a transaction that was to end ``contexts``; None for no reply."""
        refused, done = (contexts, frozenset[int]()) if reply is None else _outcome(contexts, reply)
        for context in done:
            gateway.owed.pop(context, None)
        given_up = []
        for context in contexts:
            if context in done or context in gateway.contexts:
                continue
            tries = gateway.owed.get(context, 0) + (context in refused)
            if tries > TRIES:
                gateway.owed.pop(context, None)
                given_up.append(context)
            else:
                gateway.owed[context] = tries
                gateway.owed_at = min(gateway.owed_at, now + FIRST * 2 ** max(0, tries - 1))
        if given_up:
            fault = text if reply is None else "refused"
            self._log("warning", "contexts that cannot be subtracted", gateway, contexts=given_up[:100], text=fault)

    def repeat(self, gateway: Gateway, now: float) -> None:
        """Subtract what is owed, if that is due."""
        if gateway.owed_at > now:
            return
        gateway.owed_at = math.inf
        subtract_all(self._controller, gateway, sorted(gateway.owed.keys() - gateway.contexts.keys()), now)

    def forget(self, gateway: Gateway) -> None:
        """The gateway is to be audited anyway, or holds nothing any more."""
        gateway.owed.clear()
        gateway.owed_at = math.inf


def _outcome(contexts: tuple[int, ...], reply: TransactionReply) -> tuple[tuple[int, ...], frozenset[int]]:
    """Which contexts were refused, and which are gone. A transaction ends with the first error; what comes after it in
    ``contexts`` is neither."""
    if reply.error is not None:
        return contexts, frozenset()
    gone: set[int] = set()
    for action in reply.actions:
        fault = action.error or next((c.error for c in action.commands if c.error is not None), None)
        if fault is not None and fault.code not in GONE:
            return (action.context,), frozenset(gone)
        gone.add(action.context)
    return () if gone else contexts, frozenset(gone)
