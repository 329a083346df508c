"""Looks up next hops that are given by name, and tells the core what was found (RFC 3263)."""

from collections.abc import Callable

from imsalg.core.events import Event, Resolve, Resolved
from imsalg.dns_settings import DnsSettings, nameserver
from imskit.driver import spawn
from imskit.resolver import Resolver, Where


class NameDoor:
    """One search for each :class:`Resolve`; the core asks for a name once at a time and bounds how many."""

    def __init__(self, settings: DnsSettings, post: Callable[[Event], None]) -> None:
        self._post = post
        self.resolver = Resolver(
            [nameserver(one) for one in settings.nameservers],
            hosts_file=settings.hosts_file,
            timeout=settings.timeout,
            lifetime=settings.lifetime,
            udp_size=settings.udp_size,
        )

    def look_up(self, command: Resolve) -> None:
        """Start the search; a :class:`Resolved` follows in any case."""
        spawn(self._look_up(command), name=f"resolve {command.hop.host}")

    async def _look_up(self, command: Resolve) -> None:
        hop = command.hop
        error, done = "the search broke off", False
        try:
            where = Where(hop.host, hop.port, hop.transport, hop.secure, command.offers)
            found = await self.resolver.locate(where, reserved=command.own)
            done = True
        finally:
            if not done:
                self._post(Resolved(hop, (), 0.0, error, unsure=True))
        self._post(Resolved(hop, found.targets, found.ttl, found.error, unsure=found.unsure))
