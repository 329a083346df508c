"""A flow: the way that a SIP message came, or is to go. A value; it never carries a socket."""

from typing import Literal

from msgspec import Struct

Transport = Literal["udp", "tcp", "tls"]

RELIABLE: frozenset[str] = frozenset({"tcp", "tls"})


class Flow(Struct, frozen=True, cache_hash=True):
    """Local and remote transport address with the realm they belong to (RFC 5626 3).

    ``connection`` is the shell's number of an open TCP or TLS connection; 0 means "UDP" or "any connection to
    ``remote``, opened when there is none". ``realm`` is the name of a configured realm ("access", "core").
    Addresses are (host, port) with numeric hosts, IPv6 without brackets. ``server_name`` is the name that the
    certificate of a TLS server must show where the hop was given by name (RFC 3263 4.1, RFC 5922).
    """

    transport: Transport
    realm: str
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int = 0
    server_name: str = ""

    @property
    def reliable(self) -> bool:
        """True for TCP and TLS: no retransmissions by the transactions above (RFC 3261 17)."""
        return self.transport in RELIABLE
