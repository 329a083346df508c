"""What media gateways announce of themselves: ServiceChange of their ROOT (RFC 3525 7.2.8, 11)."""

from collections.abc import Callable
from typing import Protocol

from imsalg.core.gateway_model import Gateway, Link, State, after
from imsalg.core.media_events import CloseGateway, Log, MediaCommand
from imsalg.media_settings import MediaSettings
from imswire.h248.errors import H248Error
from imswire.h248.model import ROOT, Command


class Registry(Protocol):
    """What announcements change; :class:`imsalg.core.gateways.Gateways` is it."""

    links: dict[int, Link]
    gateways: dict[str, Gateway]

    def reset(self, link: Link, now: float) -> None:
        """Forget the transactions of a link."""

    def forget_orders(self, gateway: Gateway) -> None:
        """Forget what was asked of a gateway."""

    def forget_contexts(self, gateway: Gateway, text: str) -> None:
        """The gateway holds nothing any more."""

    def log(self, level: str, event: str, gateway: Gateway, **fields: object) -> None:
        """A log line about a gateway."""


class Announcements:
    """See the module's text."""

    def __init__(self, registry: Registry, settings: MediaSettings, emit: Callable[[MediaCommand], None]) -> None:
        self._registry = registry
        self.reconfigure(settings)
        self._emit = emit
        self._handlers: dict[str, Callable[[Link, str, str, float], None]] = {
            "restart": self._restart,
            "disconnected": self._returned,
            "graceful": self._graceful,
            "forced": self._forced,
        }

    def reconfigure(self, settings: MediaSettings) -> None:
        """Other settings from now on."""
        self._settings = settings

    def take(self, link: Link, command: Command, mid: str, now: float) -> None:
        """One ServiceChange; raises :class:`H248Error` for what cannot be accepted."""
        change = command.service_change
        method = change.method if change is not None and change.method else ""
        reason = change.reason if change is not None and change.reason else ""
        if command.termination.upper() != ROOT:
            self._emit(Log("info", "service change of a termination", {"termination": command.termination}))
            return
        if change is not None and change.version is not None and change.version < 1:
            raise H248Error(406, str(change.version))
        handler = self._handlers.get(method.lower())
        if handler is None:
            raise H248Error(501, f"ServiceChange {method or 'without a method'}")
        handler(link, mid, reason, now)

    def _bind(self, link: Link, mid: str, now: float) -> Gateway:
        """Make ``link`` the one link of gateway ``mid``, which is made if need be; an older link is closed."""
        registry, timers = self._registry, self._settings.timers
        gateway = registry.gateways.get(mid)
        if gateway is None:
            if len(registry.gateways) >= self._settings.limits.gateways:
                raise H248Error(510, "too many media gateways")
            gateway = registry.gateways[mid] = Gateway(mid, link.number, now)
        if link.gateway is not None and link.gateway is not gateway:
            raise H248Error(402, f"this association belongs to {link.gateway.mid}")
        if gateway.link != link.number:
            old = registry.links.pop(gateway.link, None)
            if old is not None:
                old.gateway = None
                self._emit(CloseGateway(old.number, "replaced by a newer association"))
                gateway.reserving = 0
                registry.reset(old, now)
            registry.forget_orders(gateway)
        gateway.link, gateway.state, gateway.heard, gateway.probed = link.number, State.IN_SERVICE, now, None
        gateway.probe_at = now + timers.heartbeat
        gateway.audit_at = after(now, timers.audit)
        link.gateway = gateway
        return gateway

    def _restart(self, link: Link, mid: str, reason: str, now: float) -> None:
        if reason.startswith("918") and link.gateway is not None and link.gateway.mid == mid:
            # Cancel Graceful: it takes its leave back, and all that it holds is still there.
            link.gateway.state = State.IN_SERVICE
            self._registry.log("info", "media gateway stays", link.gateway, reason=reason)
            return
        gateway = self._bind(link, mid, now)
        self._registry.forget_contexts(gateway, "media gateway restarted")
        self._registry.log("info", "media gateway in service", gateway, reason=reason)

    def _returned(self, link: Link, mid: str, reason: str, now: float) -> None:
        gateway = self._bind(link, mid, now)
        gateway.audit_due = True  # after the reply: a gateway takes no command before it
        self._registry.log("info", "media gateway is back", gateway, reason=reason)

    def _graceful(self, link: Link, mid: str, reason: str, now: float) -> None:
        if link.gateway is not None:
            link.gateway.state = State.LEAVING
            self._registry.log("info", "media gateway is leaving", link.gateway, reason=reason)

    def _forced(self, link: Link, mid: str, reason: str, now: float) -> None:
        if link.gateway is not None:
            link.gateway.state = State.LEAVING
            self._registry.forget_contexts(link.gateway, "media gateway went out of service")
            self._registry.log("warning", "media gateway out of service", link.gateway, reason=reason)
