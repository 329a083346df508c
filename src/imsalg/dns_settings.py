"""Settings of how names in SIP are looked up."""

from dataclasses import dataclass
from typing import Annotated

from imskit.settings import Positive, Range, Seconds
from imskit.sockets import parse_endpoint


@dataclass(frozen=True)
class DnsSettings:
    """``[dns]``: locating next hops that are given by name (RFC 3263).

    ``nameservers`` are "ADDRESS" or "ADDRESS:PORT"; without any those of the system are asked. Names in ``hosts_file``
    are taken from there ("" for none). ``timeout`` is for one question to one server, ``lifetime`` for a whole search.
    What is found is kept for its time to live, between ``least_ttl`` and ``most_ttl``; that nothing was found, for
    ``negative_ttl``. ``next_after``: a target that is silent for so long is left for the next one, where there is one;
    ``avoid``: a target that failed comes last for so long. ``searches`` bounds what is being looked up at one time.
    """

    nameservers: tuple[str, ...] = ()
    hosts_file: str = "/etc/hosts"
    timeout: Seconds = 2.0
    lifetime: Seconds = 6.0
    least_ttl: Seconds = 5.0
    most_ttl: Seconds = 3600.0
    negative_ttl: Seconds = 30.0
    next_after: Seconds = 4.0
    avoid: Seconds = 60.0
    searches: Positive = 256
    names: Positive = 4096
    udp_size: Annotated[int, Range(512, 4096)] = 1232

    def __post_init__(self) -> None:
        for server in self.nameservers:
            nameserver(server)
        if self.least_ttl > self.most_ttl:
            raise ValueError("'least_ttl' is above 'most_ttl'")


def nameserver(text: str) -> tuple[str, int]:
    """Address and port of one entry of ``nameservers``; raises ValueError."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    where = parse_endpoint(text if text.rpartition("]")[2].count(":") else f"{text}:53", "udp")
    return where.host, where.port
