"""Locating SIP servers in the DNS (RFC 3263 4) with dnspython: NAPTR, SRV, A and AAAA, and the hosts file first.

Every search is bounded in time, in questions and in what it returns. Answers are not kept here: who asks keeps them for
the time to live that comes with them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
from msgspec import Struct

from imskit.sockets import Address
from imswire.sip.flow import Transport
from imswire.sip.location import DEFAULT_PORTS, SERVICES, SRV_PREFIX, Target, wanted_transport

MOST_RECORDS = 16
"""NAPTR and SRV records, and addresses of one name, that are looked at."""
MOST_TARGETS = 32
MOST_QUESTIONS = 40
"""Questions of one search: 16 NAPTR records of 16 SRV records each would make hundreds."""
FOREVER = 3600.0
"""Seconds that an entry of the hosts file is taken to hold."""
_HOSTS_SIZE = 1_048_576


class Where(Struct, frozen=True):
    """What is to be located: parts of a SIP URI, and what can be reached: transport and whether it is IPv6."""

    host: str
    port: int
    transport: str
    secure: bool
    offers: frozenset[tuple[str, bool]]


class Located(Struct, frozen=True):
    """Servers found, good for ``ttl`` seconds; without any ``error`` says why.

    ``unsure``: the search itself failed, and nothing is known of the name.
    """

    targets: tuple[Target, ...]
    ttl: float
    error: str = ""
    unsure: bool = False


class _SearchFailed(Exception):
    """No name server gave a usable answer."""


class Resolver:
    """Asks ``nameservers`` (address and port), or those of the system when there are none."""

    def __init__(
        self,
        nameservers: Collection[Address] = (),
        *,
        hosts_file: str = "/etc/hosts",
        timeout: float = 2.0,
        lifetime: float = 6.0,
        udp_size: int = 1232,
        at_once: int = 64,
    ) -> None:
        self._nameservers = tuple(nameservers)
        self._hosts = _Hosts(Path(hosts_file)) if hosts_file else None
        self._timeout = timeout
        self._lifetime = lifetime
        self._udp_size = udp_size
        self._room = asyncio.Semaphore(at_once)
        self._reserved = asyncio.Semaphore(at_once)
        self._resolver: dns.asyncresolver.Resolver | None = None
        self.questions = 0

    async def locate(self, where: Where, *, reserved: bool = False) -> Located:
        """Find the servers of ``where``; never raises, and ends within the lifetime.

        ``reserved``: it does not wait behind searches without this mark.
        """
        try:
            async with asyncio.timeout(self._lifetime), self._reserved if reserved else self._room:
                search = _Search(self._ask, self._hosts)
                targets = await search.run(where)
        except TimeoutError:
            return Located((), 0.0, f"no answer of the DNS within {self._lifetime:g} s", unsure=True)
        except _SearchFailed as error:
            return Located((), 0.0, str(error), unsure=True)
        except (OSError, ValueError) as error:
            return Located((), 0.0, f"the search failed: {error}", unsure=True)
        if not targets:
            return Located((), search.ttl, search.why or "the DNS has no address that can be reached from here")
        return Located(tuple(targets[:MOST_TARGETS]), search.ttl)

    async def _ask(self, name: str, kind: str) -> tuple[list[Any], float]:
        """The records of one name and type, with their time to live; none when there are none."""
        self.questions += 1
        resolver = self._made()
        try:
            answer = await resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return [], 0.0
        except dns.exception.DNSException as error:
            raise _SearchFailed(f"{kind} of {name}: {error or type(error).__name__}") from None
        if answer.rrset is None:
            return [], 0.0
        return list(answer.rrset)[: MOST_RECORDS * 2], float(answer.rrset.ttl)

    def _made(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            try:
                made = dns.asyncresolver.Resolver(configure=not self._nameservers)
            except dns.exception.DNSException as error:
                raise _SearchFailed(f"no name servers: {error}") from None
            if self._nameservers:
                made.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self._nameservers]
            made.timeout, made.lifetime = self._timeout, self._lifetime
            made.use_edns(0, 0, self._udp_size)
            self._resolver = made
        return self._resolver


type _Ask = Callable[[str, str], Awaitable[tuple[list[Any], float]]]


class _Search:
    """One search with the shortest time to live of what it used."""

    def __init__(self, ask: _Ask, hosts: "_Hosts | None") -> None:
        self._asking = ask
        self._hosts = hosts
        self._addresses: dict[tuple[str, frozenset[bool]], tuple[str, ...]] = {}
        self._questions = 0
        self.ttl = FOREVER
        self.why = ""

    async def run(self, where: Where) -> list[Target]:
        transport = wanted_transport(where.transport, where.port, secure=where.secure)
        offered = {name for name, _ in where.offers}
        if transport is not None and transport not in offered:
            self.why = f"there is no {transport} listener to reach it from"
            return []
        if transport is not None and where.port:
            return await self._at(where, where.host, transport, where.port)
        if self._in_hosts(where.host):  # a name of the hosts file has no other records
            usual = transport or _usual(offered)
            return await self._at(where, where.host, usual, DEFAULT_PORTS[usual])
        if transport is not None:
            found = await self._services(where, f"{SRV_PREFIX[transport]}.{where.host}", transport, 0)
            return await self._at(where, where.host, transport, DEFAULT_PORTS[transport]) if found is None else found
        return await self._by_naptr(where, offered)

    async def _by_naptr(self, where: Where, offered: set[str]) -> list[Target]:
        """RFC 3263 4.1: NAPTR says which transports there are; without it SRV does; without that it is UDP."""
        records = [one for one in await self._ask(where.host, "NAPTR") if one.flags.lower() == b"s" and not one.regexp]
        records.sort(key=lambda one: (one.order, one.preference))
        targets: list[Target] = []
        for rank, one in enumerate(records[:MOST_RECORDS]):
            transport = SERVICES.get(one.service.decode("ascii", "replace").upper())
            if transport in offered and transport is not None:
                targets += await self._services(where, _text(one.replacement), transport, rank) or []
        if targets:
            return targets
        known = False
        for rank, transport in enumerate(_TRANSPORTS):
            if transport in offered:
                found = await self._services(where, f"{SRV_PREFIX[transport]}.{where.host}", transport, rank)
                known = known or found is not None
                targets += found or []
        if known:
            return targets
        usual = _usual(offered)
        return await self._at(where, where.host, usual, DEFAULT_PORTS[usual])

    async def _services(self, where: Where, name: str, transport: Transport, rank: int) -> list[Target] | None:
        """The servers of one SRV name; None when it has no records (RFC 2782: "." says that there is no service)."""
        records = await self._ask(name, "SRV")
        if not records:
            return None
        targets: list[Target] = []
        for one in sorted(records, key=lambda one: one.priority)[:MOST_RECORDS]:
            host = _text(one.target)
            addresses = await self._addresses_of(where, host, transport) if host else ()
            if addresses:
                targets.append(Target(transport, addresses, one.port, rank, one.priority, one.weight))
        return targets

    async def _at(self, where: Where, host: str, transport: Transport, port: int) -> list[Target]:
        addresses = await self._addresses_of(where, host, transport)
        return [Target(transport, addresses, port)] if addresses else []

    async def _addresses_of(self, where: Where, host: str, transport: Transport) -> tuple[str, ...]:
        families = frozenset(v6 for name, v6 in where.offers if name == transport)
        known = self._addresses.get((host, families))
        if known is not None:
            return known
        found: list[str] = []
        listed = self._hosts.get(host) if self._hosts is not None else ()
        if listed:
            found = [one for one in listed if (":" in one) in families]
        else:
            for v6, kind in ((True, "AAAA"), (False, "A")):
                if v6 in families:
                    found += [one.address for one in (await self._ask(host, kind))[:MOST_RECORDS]]
        self._addresses[host, families] = tuple(found)
        return tuple(found)

    def _in_hosts(self, host: str) -> bool:
        return self._hosts is not None and bool(self._hosts.get(host))

    async def _ask(self, name: str, kind: str) -> list[Any]:
        if self._questions >= MOST_QUESTIONS:  # what was found by then is what there is
            self.why = f"its records lead to more than {MOST_QUESTIONS} questions"
            return []
        self._questions += 1
        records, ttl = await self._asking(name, kind)
        if records:
            self.ttl = min(self.ttl, ttl)
        return records


_TRANSPORTS: tuple[Transport, ...] = ("udp", "tcp", "tls")
"""The order in which SRV names are asked without NAPTR, and the usual transport: the first that is offered."""


def _usual(offered: Collection[str]) -> Transport:
    return next(one for one in _TRANSPORTS if one in offered)


def _text(name: Any) -> str:
    """A DNS name without its final dot; "" for the root."""
    return str(name).rstrip(".").lower()


class _Hosts:
    """The hosts file, read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._names: dict[str, tuple[str, ...]] = {}

    def get(self, host: str) -> tuple[str, ...]:
        """The addresses of ``host``; none when it is not in the file."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp and status.st_size <= _HOSTS_SIZE:
                self._stamp, self._names = stamp, _read(self._path.read_text("utf-8", "replace"))
        except OSError:
            return self._names.get(host, ())
        return self._names.get(host, ())


def _read(text: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *hosts = line.partition("#")[0].split() or [""]
        try:
            numeric = str(ip_address(address))
        except ValueError:
            continue
        for host in hosts:
            names[host.lower()] = (*names.get(host.lower(), ()), numeric)
    return names
