"""The seam between the pure engine and the executor that owns sockets: orders one way, reports the other.

A *leg* is the transport end of one termination; its number is unique within the worker and never used twice. Every
:class:`Listen` is answered by exactly one :class:`Listening` or :class:`ListenFailed`, every :class:`Release` by
exactly one :class:`Released`, and nothing about a leg is reported after that.
"""

import ipaddress
from typing import Literal

from msgspec import Struct

type Fingerprints = tuple[tuple[str, bytes], ...]
"""(hash name in lower case, octets), as SDP gave them (RFC 8122)."""


class SynFilter(Struct, frozen=True, cache_hash=True):
    """Which SYNs a listening leg answers: every one, none, or those of some sources.

    Sources: ``address``, or the network that its first ``prefix`` bits name; "" is any address. ``port``, or the ports
    from ``port`` to ``last_port``; None is any port.
    """

    kind: Literal["open", "closed", "source"] = "open"
    address: str = ""
    port: int | None = None
    last_port: int | None = None
    prefix: int | None = None

    def admits(self, address: str, port: int) -> bool:
        """Whether a connection from there may be used."""
        if self.kind != "source":
            return self.kind == "open"
        if self.port is not None and not self.port <= port <= (self.last_port or self.port):
            return False
        if not self.address or address == self.address:
            return True
        if self.prefix is None:
            return False
        try:
            return ipaddress.ip_address(address) in ipaddress.ip_network((self.address, self.prefix), strict=False)
        except ValueError:
            return False


OPEN = SynFilter("open")
CLOSED = SynFilter("closed")


# --- orders ---------------------------------------------------------------------------------------------------------


class Listen(Struct, frozen=True):
    """Take that local address and listen; port 0 lets the system choose. The listening socket stays until the leg is
    released. While the leg has or makes a connection, it answers nobody: SYNs meet silence and are repeated, so that
    the peer of a later connection may be too early.

    ``beside``: a leg of the same context that listens there already; the two then share the port, and a connection is
    for the leg whose filter admits its source."""

    leg: int
    address: str
    port: int
    filter: SynFilter
    beside: int | None = None


class SetFilter(Struct, frozen=True):
    """Replace the SYN filter of a leg without connection; SYNs dropped so far are reported (:class:`SynHeld`). One
    connection is accepted; after that the filter is :data:`CLOSED`, and is to be set again for another one."""

    leg: int
    filter: SynFilter


class Dial(Struct, frozen=True):
    """Connect from the leg's own local address and port."""

    leg: int
    address: str
    port: int
    remote_address: str
    remote_port: int


class MakeIdentity(Struct, frozen=True):
    """Make a certificate for this leg alone; answered by :class:`IdentityMade`."""

    leg: int
    realm: str = ""


class ForgetIdentity(Struct, frozen=True):
    """No leg will use this certificate any more; ``leg`` was the last one that could."""

    leg: int
    identity: int


class ArmTls(Struct, frozen=True):
    """Start TLS on the connected leg. Without ``fingerprints`` the end of the handshake waits for
    :class:`SetFingerprints`. ``identity`` is the certificate to show. ``key_log``: the file that the secrets of this
    TLS session are appended to; "" for none."""

    leg: int
    role: Literal["client", "server"]
    fingerprints: Fingerprints | None
    identity: int = 0
    key_log: str = ""


class SetFingerprints(Struct, frozen=True):
    """The fingerprints of the peer became known (or changed before they were used)."""

    leg: int
    fingerprints: Fingerprints


class PathSwap(Struct, frozen=True):
    """One direction of an application-aware MSRP relay: what comes in is addressed to ``own``, the URI of the gateway
    on that side, by its ``session`` id; what goes out has these paths instead."""

    session: str
    own: str
    to_path: str
    from_path: str


class StartRelay(Struct, frozen=True):
    """Join two open legs; from now on their bytes flow without the engine.

    ``inactivity``: seconds without a byte after which both legs are reported (:class:`Inactive`); None: never.
    ``rewrite``: the paths of MSRP messages from ``a`` and from ``b`` are replaced; None: no octet is looked at.
    """

    a: int
    b: int
    inactivity: float | None = None
    rewrite: tuple[PathSwap, PathSwap] | None = None


class Drop(Struct, frozen=True):
    """Close the connection of a leg at once (it came from the wrong place); the leg may listen again."""

    leg: int


class DropSilent(Struct, frozen=True):
    """Close the connection of a leg if nothing has come on it, or its peer has closed; :class:`Silent` tells."""

    leg: int


class Release(Struct, frozen=True):
    """End the leg: what is pending is delivered, the close is orderly, the final counters come back at once.

    ``heir``: a new leg that takes the listening socket over, closed to everybody; None closes it. ``keep``: the leg
    that it was joined with keeps its connection, to be joined with another one, if nothing has passed between the two.
    """

    leg: int
    heir: int | None = None
    keep: bool = False


class Count(Struct, frozen=True):
    """Ask for the counters of a leg; answered by one :class:`Counted`."""

    leg: int


Order = (
    Listen
    | SetFilter
    | Dial
    | MakeIdentity
    | ForgetIdentity
    | ArmTls
    | SetFingerprints
    | StartRelay
    | Drop
    | DropSilent
    | Release
    | Count
)


# --- reports --------------------------------------------------------------------------------------------------------


class Listening(Struct, frozen=True):
    """The leg listens; ``port`` is the real one."""

    leg: int
    port: int


class ListenFailed(Struct, frozen=True):
    """The local address cannot be used; ``in_use`` means that another port may be tried."""

    leg: int
    in_use: bool
    text: str


class IdentityMade(Struct, frozen=True):
    """The certificate that was asked for, with its fingerprints by every supported hash."""

    leg: int
    identity: int
    fingerprints: Fingerprints


class SynHeld(Struct, frozen=True):
    """So many SYNs were left unanswered since the leg began to listen."""

    leg: int
    count: int


class Accepted(Struct, frozen=True):
    """A connection came in and is held; the listening socket answers nobody else."""

    leg: int
    address: str
    port: int


class Silent(Struct, frozen=True):
    """The leg has no connection any more: nothing had come on it."""

    leg: int


class Connected(Struct, frozen=True):
    """The connection that was dialled is up; ``local_port`` is the one it really uses."""

    leg: int
    local_port: int


class DialFailed(Struct, frozen=True):
    """No connection: refused, unreachable or timed out."""

    leg: int
    text: str


class HandshakeDone(Struct, frozen=True):
    """The handshake is complete and waits for the peer's fingerprint; nothing is relayed."""

    leg: int
    version: str
    cipher: str


class TlsOpen(Struct, frozen=True):
    """Handshake complete and fingerprint verified: the leg may be relayed. ``hash`` and ``seen`` are what matched."""

    leg: int
    version: str
    cipher: str
    hash: str
    seen: bytes


class VerifyFailed(Struct, frozen=True):
    """The peer is not the one that was signalled; its connection is closed.

    ``what`` is "mismatch" or "missing" (no certificate, or no usable fingerprint); without certificate ``seen`` is
    empty.
    """

    leg: int
    what: Literal["mismatch", "missing"]
    hash: str
    expected: tuple[bytes, ...]
    seen: bytes
    subject: str
    text: str


class TlsFailed(Struct, frozen=True):
    """The handshake failed or took too long; the connection is closed."""

    leg: int
    text: str


class HalfClosed(Struct, frozen=True):
    """The peer of this leg will send no more; its last bytes and its close were passed on."""

    leg: int


class RelayEnded(Struct, frozen=True):
    """A relay is over. ``leg`` is the one that caused it; ``orderly`` False: reset, time limit or other failure."""

    leg: int
    orderly: bool
    text: str


class Inactive(Struct, frozen=True):
    """The relay of this leg moved nothing for ``seconds``; said once until bytes move again."""

    leg: int
    seconds: float


class Released(Struct, frozen=True):
    """The leg is gone; application octets received from and sent to its peer. ``kept``: the leg that it was joined with
    still has its connection. ``rewritten`` and ``refused``: MSRP messages of its peer that were passed on with other
    paths, and that were not passed on."""

    leg: int
    received: int
    sent: int
    kept: bool = False
    rewritten: int = 0
    refused: int = 0


class Counted(Struct, frozen=True):
    """The counters of a leg so far."""

    leg: int
    received: int
    sent: int


Report = (
    Listening
    | ListenFailed
    | IdentityMade
    | SynHeld
    | Accepted
    | Silent
    | Connected
    | DialFailed
    | HandshakeDone
    | TlsOpen
    | VerifyFailed
    | TlsFailed
    | HalfClosed
    | RelayEnded
    | Inactive
    | Released
    | Counted
)
