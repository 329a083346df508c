"""What can be joined with what, and which local addresses and ports it gets."""

import ipaddress
from collections import deque
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from agw.settings import RealmSettings, port_slice
from imswire.h248.errors import H248Error
from imswire.h248.iq import StreamRequest

RELAYS: dict[tuple[str, str, str], str] = {
    ("proxy", "tls", "tcp"): "terminate TLS on the first leg",
    ("proxy", "tcp", "tls"): "terminate TLS on the second leg",
    ("proxy", "tcp", "tcp"): "splice",
    ("proxy", "tls", "tls"): "terminate TLS on both legs",
    ("merge", "tls", "tcp"): "terminate TLS on the first leg; no connection triggers another",
    ("merge", "tcp", "tls"): "terminate TLS on the second leg; no connection triggers another",
    ("merge", "tcp", "tcp"): "splice; no connection triggers another",
    ("merge", "tls", "tls"): "terminate TLS on both legs; no connection triggers another",
}
"""(TCP mode, kind of one leg, kind of the other) -> relay. What is not in the table is refused with 501."""

_REASONS = {
    "relay": "segments cannot be forwarded unterminated from sockets; order proxy or merge",
}
_MODES = {mode for mode, _, _ in RELAYS}
_LEGS = ("tls", "tcp")
_ANY_LEGS = {mode for mode in _MODES if all((mode, one, other) in RELAYS for one in _LEGS for other in _LEGS)}
"""The modes in which whatever legs there are can be joined."""


def check_mode(mode: str) -> None:
    """Refuse a TCP mode that no relay exists for: raises :class:`H248Error` 501."""
    if mode not in _MODES:
        raise H248Error(501, f"TCP mode {mode}: {_REASONS.get(mode, 'unknown')}")


def relay_of(mode: str, one: bool, other: bool) -> str:
    """The relay of two legs, given whether each is TLS; raises :class:`H248Error` 501 where there is none."""
    relay = RELAYS.get((mode, "tls" if one else "tcp", "tls" if other else "tcp"))
    if relay is None:
        raise H248Error(501, f"TCP mode {mode} between these legs")
    return relay


def check_request(request: StreamRequest, realm: RealmSettings | None) -> None:
    """Refuse what cannot be done for one termination; raises :class:`H248Error` 449 or 501."""
    if request.tcp_mode not in _MODES:
        check_mode(request.tcp_mode)
    if request.latch and (realm is None or not realm.latch):
        raise H248Error(449, f"realm {request.realm[:40]} does not learn remote addresses")
    remote, mask = request.remote, request.source_mask
    if remote is None and mask is None:
        return
    version = 6 if request.family == "IP6" else 4
    if remote is not None and _version(remote.address) != version:
        raise H248Error(449, f"remote address {remote.address[:60]} is not {request.family}")
    if mask is not None and _version(network_of(mask)[0]) != version:
        raise H248Error(449, f"source mask {mask[:60]} is not {request.family}")


def check_pair(one: StreamRequest, other: StreamRequest) -> None:
    """Refuse what cannot be joined; raises :class:`H248Error` 501."""
    if other.tcp_mode not in _ANY_LEGS:
        relay_of(other.tcp_mode, one.tls, other.tls)


@lru_cache(maxsize=4096)
def _version(address: str) -> int:
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0


def network_of(text: str) -> tuple[str, int]:
    """``203.0.113.0/24`` -> its address and the length of its prefix; raises :class:`H248Error` 449."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise H248Error(449, f"{text[:60]} is no network") from None
    return str(network.network_address), network.prefixlen


@lru_cache(maxsize=4096)
def same_address(text: str) -> str:
    """The one spelling of an address, for comparison; text that is no address is returned as it is."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


class Place(Struct, frozen=True):
    """A local transport address that was taken: ``address`` to bind, ``advertised`` for descriptors."""

    realm: str
    address: str
    advertised: str
    port: int
    family: str


class _Ports:
    """Free ports of one address: first fresh ones in order, then those whose quarantine is over, oldest first."""

    def __init__(self, first: int, last: int, quarantine: float) -> None:
        self.system = first == 0
        self._fresh = deque(range(first, last + 1)) if first else deque[int]()
        self._resting: deque[tuple[float, int]] = deque()
        """All rest equally long, so that whoever came first goes first."""
        self._quarantine = quarantine

    def _wake(self, now: float) -> None:
        resting = self._resting
        while resting and resting[0][0] <= now:
            self._fresh.append(resting.popleft()[1])

    def take(self, now: float) -> int | None:
        if self.system:
            return 0
        if self._resting:
            self._wake(now)
        return self._fresh.popleft() if self._fresh else None

    def take_this(self, port: int, now: float) -> bool:
        if self.system:
            return True
        self._wake(now)
        if port not in self._fresh:
            return False
        self._fresh.remove(port)
        return True

    def give_back(self, port: int, now: float) -> None:
        if not self.system:
            self._resting.append((now + self._quarantine, port))

    def free(self, now: float) -> int:
        self._wake(now)
        return len(self._fresh)


class PortAllocator:
    """Hands out local transport addresses of the worker's slice of each realm.

    A port that was given back rests for the realm's quarantine, so that segments of the old session meet nobody.
    """

    def __init__(self, realms: Mapping[str, RealmSettings], worker: int = 0, workers: int = 1) -> None:
        self._realms = realms
        self._ports: dict[tuple[str, str], _Ports] = {}
        self._usual: dict[tuple[str, str], tuple[str, str, _Ports]] = {}
        """Realm and family to the first address of that family, how it is advertised, and its ports."""
        for name, realm in realms.items():
            first, last = port_slice(realm.ports, worker, workers)
            for address in realm.addresses:
                ports = self._ports[name, address] = _Ports(first, last, realm.quarantine)
                family = "IP6" if ":" in address else "IP4"
                self._usual.setdefault((name, family), (address, realm.advertise.get(address, address), ports))

    def take(self, realm: str, family: str, address: str | None, port: int | None, now: float) -> Place:
        """Take an address of ``family`` ("IP4" or "IP6") in ``realm``; None chooses.

        Raises :class:`H248Error` 449 for a realm, family or address that this gateway does not have, 510 when out of
        ports.
        """
        if address is None and port is None and (usual := self._usual.get((realm, family))) is not None:
            local, advertised, ports = usual
            chosen = ports.take(now)
            if chosen is None:
                raise H248Error(510, f"no free port in realm {realm}")
            return Place(realm, local, advertised, chosen, family)
        return self._take_named(realm, family, address, port, now)

    def _take_named(self, realm: str, family: str, address: str | None, port: int | None, now: float) -> Place:
        settings = self._realms.get(realm)
        if settings is None:
            raise H248Error(449, f"IP realm cannot be {realm[:40]}")
        for local in settings.addresses:
            advertised = settings.advertise.get(local, local)
            if (":" in local) != (family == "IP6"):
                continue
            if address is not None and same_address(address) not in (same_address(local), same_address(advertised)):
                continue
            ports = self._ports[realm, local]
            chosen = ports.take(now) if port is None else port if ports.take_this(port, now) else None
            if chosen is None:
                raise H248Error(510, f"no free port in realm {realm}")
            return Place(realm, local, advertised, chosen, family)
        raise H248Error(449, f"realm {realm} has no address {address or family}")

    def give_back(self, place: Place, now: float) -> None:
        """The port rests, and may then be used again."""
        self._ports[place.realm, place.address].give_back(place.port, now)

    def free(self, realm: str, now: float) -> int:
        """Ports that could be handed out now, over all addresses of the realm; those that rest are not free."""
        return sum(ports.free(now) for (name, _), ports in self._ports.items() if name == realm)
