"""Locating SIP servers (RFC 3263): what is asked, what is found, and the order in which it is tried (RFC 2782).

Pure: the questions to the DNS itself are asked elsewhere. ``Hop`` is a next hop given by name, ``Target`` a server that
was found for it.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from imswire.sip.flow import Flow, Transport

DEFAULT_PORTS: dict[str, int] = {"udp": 5060, "tcp": 5060, "tls": 5061}
SERVICES: dict[str, Transport] = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
"""NAPTR services (RFC 3263 4.1) that this project has a transport for."""
SRV_PREFIX: dict[str, str] = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}


class Hop(Struct, frozen=True):
    """A next hop by name.

    ``host`` in lower case without a final dot; ``port`` 0 and ``transport`` "" where the URI names none; ``secure`` for
    a sips URI. ``flow`` stands for it until it is located: the listener that it would leave from, and ``host`` as its
    remote host.
    """

    host: str
    port: int
    transport: str
    secure: bool
    flow: Flow

    @property
    def realm(self) -> str:
        """The realm that it lies in."""
        return self.flow.realm


class Target(Struct, frozen=True):
    """One server: all its addresses are tried before the next server. Lower ``rank`` and ``priority`` come first."""

    transport: Transport
    addresses: tuple[str, ...]
    port: int
    rank: int = 0
    priority: int = 0
    weight: int = 0


type Places = Sequence[tuple[Transport, str, int]]


def wanted_transport(host_transport: str, port: int, *, secure: bool) -> Transport | None:
    """The transport that a URI decides by itself (RFC 3263 4.1); None where NAPTR and SRV decide."""
    if secure:
        return "tls"
    if host_transport in ("udp", "tcp", "tls"):
        return host_transport  # type: ignore[return-value]  # narrowed by the line above
    return "udp" if port else None


def in_order(targets: Iterable[Target], pick: Callable[[int], int]) -> list[tuple[Transport, str, int]]:
    """Transport, address and port of every target in the order to try them.

    Within one priority the choice is random by weight (RFC 2782, "Usage rules"); ``pick(n)`` gives a number in 0..n.
    """
    groups: dict[tuple[int, int], list[Target]] = {}
    for target in targets:
        groups.setdefault((target.rank, target.priority), []).append(target)
    ordered: list[tuple[Transport, str, int]] = []
    for key in sorted(groups):
        for target in _by_weight(groups[key], pick):
            ordered += [(target.transport, address, target.port) for address in target.addresses]
    return ordered


def _by_weight(group: list[Target], pick: Callable[[int], int]) -> list[Target]:
    left = sorted(group, key=lambda one: one.weight)  # those of weight 0 first
    out: list[Target] = []
    while len(left) > 1:
        mark = pick(sum(one.weight for one in left))
        running = 0
        for index, one in enumerate(left):
            running += one.weight
            if running >= mark:
                out.append(left.pop(index))
                break
    return out + left
