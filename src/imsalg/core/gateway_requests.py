"""Transactions that a media gateway begins: Notify of what happens in its contexts, ServiceChange of itself."""

from typing import Protocol

from imsalg.core.gateway_model import Failed, Gateway, Link, Report
from imsalg.core.gateway_service import Announcements
from imswire.h248 import iq
from imswire.h248.errors import H248Error
from imswire.h248.model import Action, Command, ServiceChange, TransactionRequest


class Hearer(Protocol):
    """Who is told what gateways notify; :class:`imsalg.core.gateways.Gateways` is it."""

    reports: list[Report]

    def log(self, level: str, event: str, gateway: Gateway, **fields: object) -> None:
        """A log line about a gateway."""


class GatewayRequests:
    """See the module's text."""

    def __init__(self, hearer: Hearer, announcements: Announcements) -> None:
        self._hearer = hearer
        self._announcements = announcements

    def carry_out(self, link: Link, request: TransactionRequest, mid: str, now: float) -> list[Action]:
        """Do what ``request`` asks; the actions of the reply. After a command that fails the rest is left, unless that
        command was optional (RFC 3525 8.1)."""
        actions = []
        for action in request.actions:
            replies = []
            for command in action.commands:
                try:
                    replies.append(self._command(link, action, command, mid, now))
                except H248Error as fault:
                    replies.append(Command(command.name, command.termination, error=fault.descriptor()))
                    if not command.optional:
                        break
            actions.append(Action(action.context, tuple(replies)))
            if replies and replies[-1].error is not None and not action.commands[len(replies) - 1].optional:
                break
        return actions

    def _command(self, link: Link, action: Action, command: Command, mid: str, now: float) -> Command:
        if command.name == "ServiceChange":
            self._announcements.take(link, command, mid, now)
            # The version is echoed (RFC 3525 11.3); nothing else is negotiated.
            version = command.service_change.version if command.service_change is not None else None
            change = ServiceChange(version=1) if version is not None else None
            return Command("ServiceChange", command.termination, service_change=change)
        gateway = link.gateway
        if gateway is None:
            raise H248Error(505, "announce yourself with ServiceChange first")
        if command.name != "Notify":
            raise H248Error(443, command.name)
        for failure in iq.read_notify(command):
            if action.context in gateway.contexts:
                self._hearer.reports.append(Failed(gateway.mid, action.context, command.termination, failure))
            else:
                self._hearer.log("info", "notification for a released context", gateway, context=action.context)
        return iq.notify_reply(command.termination)
