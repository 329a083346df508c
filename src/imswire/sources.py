"""Who counts as one source where a peer may take only so much: addresses of IPv6 come by the /64, for nothing."""

from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

_HOST_BITS = 64


def source_of(address: str) -> str:
    """What is counted for a packet or connection from ``address``: an IPv4 address itself, the /64 of an IPv6 one.

    A subscriber has at least a /64 (RFC 6177, RFC 7278), and with it more addresses than any table holds. Link-local
    addresses, which share one prefix, and IPv4 in IPv6 stay as they are.
    """
    return _prefix(address) if ":" in address else address


@lru_cache(maxsize=4096)
def _prefix(address: str) -> str:
    try:
        parsed = IPv6Address(address)
    except AddressValueError:
        return address
    if parsed.is_link_local or parsed.ipv4_mapped is not None:
        return address
    return f"{IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS)}/{_HOST_BITS}"
