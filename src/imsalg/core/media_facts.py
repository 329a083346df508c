"""What an SDP says of its media lines, read once: facts for the policy matrix and addresses for the reservations."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from imsalg.core.media_events import Side
from imsalg.core.media_kinds import medium_by_transport
from imsalg.core.media_policy import History, LineFacts, Prints, Proto
from imsalg.core.msrp_mode import Paths, paths_of
from imswire.base import ProtocolError
from imswire.sdp.attributes import (
    E2ae,
    Fingerprint,
    MsrpPath,
    Setup,
    connection_of,
    e2ae_of,
    fingerprint_values,
    setup_of,
)
from imswire.sdp.model import Media, SessionDescription

STRONG_HASHES: tuple[str, ...] = ("sha-256", "sha-384", "sha-512")
"""Hashes a fingerprint may use, most preferred first (RFC 8122 5); MD2 and MD5 never (ibid.), SHA-1 by setting."""
DISCARD = 9
"""The port an active endpoint shows (RFC 4145 4): not to be dialled, not to be filtered on."""


class Endpoint(Struct, frozen=True, omit_defaults=True):
    """One end of a secured line, as its own SDP describes it.

    ``fingerprints`` are (hash, octets) with a usable hash. ``setup`` is None when absent at media and session level.
    ``path`` is the raw ``a=path``: a changed one asks for a new connection (RFC 4975 5.4), as does another ``tls_id``
    (RFC 8842 5). ``renewed`` is ``a=connection:new`` (RFC 4145 5), for media to which it applies; without the
    attribute a connection is kept, whatever its default, since refreshes often leave it out.
    """

    family: str
    address: str
    port: int
    setup: Setup | None = None
    fingerprints: tuple[tuple[str, bytes], ...] = ()
    path: str = ""
    cema: bool = False
    tls_id: str = ""
    renewed: bool = False

    @property
    def session(self) -> str:
        """The session id of the MSRP URI; raises :class:`ProtocolError` where there is none."""
        session = MsrpPath.parse(self.path).endpoint.session_id
        if not session:
            raise ProtocolError("sdp.path", "a=path has no session id")
        return session

    def differs(self, new: "Endpoint") -> bool:
        """Does ``new`` describe another end than this one, so that a connection between them does not go on?

        The port of an end that connects itself tells nothing (RFC 4145 4).
        """
        ports = {self.port, new.port}
        other_port = len(ports) > 1 and DISCARD not in ports and Setup.ACTIVE not in (self.setup, new.setup)
        mine = (self.family, self.address, self.path, self.tls_id, frozenset(self.fingerprints))
        return other_port or mine != (new.family, new.address, new.path, new.tls_id, frozenset(new.fingerprints))


def proto_of(media: Media) -> Proto:
    """The transport of a line in the matrix' terms."""
    medium = medium_by_transport(media.proto)
    if medium is None:
        return Proto.OTHER
    return Proto.TLS if media.proto.upper() == medium.secure else Proto.PLAIN


def usable_fingerprints(
    sdp: SessionDescription, media: Media, *, allow_sha1: bool = False
) -> tuple[Prints, tuple[tuple[str, bytes], ...]]:
    """The fingerprints that apply to a line, media level before session level (RFC 8122 5), without unusable hashes."""
    values = fingerprint_values(sdp, media)
    return _judged(tuple(values), allow_sha1) if values else (Prints.NONE, ())


@lru_cache(maxsize=1024)  # facts of a line, its end, and the next offer ask for the same
def _judged(values: tuple[str, ...], allow_sha1: bool) -> tuple[Prints, tuple[tuple[str, bytes], ...]]:
    try:
        found = [Fingerprint.parse(value) for value in values]
    except ProtocolError:
        return Prints.BROKEN, ()
    allowed = (*STRONG_HASHES, "sha-1") if allow_sha1 else STRONG_HASHES
    kept = tuple([(item.hash, item.octets) for item in found if item.hash in allowed])
    return (Prints.USABLE, kept) if kept else (Prints.UNKNOWN, ())


@lru_cache(maxsize=4096)
def _usable(addrtype: str, address: str) -> bool:
    """Can a gateway connect there, or filter on it?"""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not parsed.is_multicast and not parsed.is_unspecified and addrtype == f"IP{parsed.version}"


def _address(sdp: SessionDescription, media: Media) -> tuple[str, str] | None:
    connection = media.connection or sdp.connection
    if connection is None or not _usable(connection.addrtype, connection.address):
        return None
    return connection.addrtype, connection.address


def endpoint(sdp: SessionDescription, media: Media, *, allow_sha1: bool = False) -> Endpoint:
    """Read the end of a secured line; raises :class:`ProtocolError` when it has no IP address or a bad ``a=setup``.

    An MSRP end without CEMA is where its ``a=path`` says (RFC 4975 8.1); a domain name there is not resolved, and c=
    and m= are taken, which are to say the same.
    """
    address = _address(sdp, media)
    if address is None:
        raise ProtocolError("sdp.connection", "the connection address is not an IP address")
    medium = medium_by_transport(media.proto)
    family, host, port = *address, media.port
    values = media.values
    path = values.get("path", "") if medium is not None and medium.paths else ""
    cema = "msrp-cema" in values
    if path and not cema:
        family, host, port = _path_address(path) or (family, host, port)
    _, prints = usable_fingerprints(sdp, media, allow_sha1=allow_sha1)
    return Endpoint(
        family=family,
        address=host,
        port=DISCARD if media.port == DISCARD else port,
        setup=setup_of(media, sdp),
        fingerprints=prints,
        path=path,
        cema=cema,
        tls_id=values.get("tls-id", ""),
        renewed=medium is not None and medium.connection and connection_of(media) == "new",
    )


def _path_address(path: str) -> tuple[str, str, int] | None:
    """Family, address and port of the topmost URI, None for a domain name or what cannot be read."""
    try:
        hop = MsrpPath.parse(path).hop
        version = ipaddress.ip_address(hop.host).version
    except (ProtocolError, ValueError):
        return None
    family = f"IP{version}"
    return (family, hop.host, hop.port) if hop.port and _usable(family, hop.host) else None


def line_facts(
    sdp: SessionDescription,
    side: Side,
    agreed: frozenset[str],
    history: Mapping[int, History],
    secured: Mapping[int, tuple[str, bool]] | None = None,
    *,
    allow_sha1: bool = False,
) -> tuple[LineFacts, ...]:
    """The facts of every m-line of an offer from ``side``, in order. ``history`` tells what a line was until now, and
    ``secured`` of which medium a secured line is and whether its messages are rewritten."""
    facts = []
    keyed = "key-mgmt" in sdp.values
    for index, media in enumerate(sdp.media):
        proto = media.proto
        values = media.values
        medium = medium_by_transport(proto)
        before, aware = (secured or {}).get(index, ("", False))
        # A secured line that comes back with another medium has changed its transport, whatever that is.
        other = medium is None or (before and before != medium.name)
        facts.append(
            LineFacts(
                index=index,
                side=side,
                proto=Proto.OTHER if other else proto_of(media),
                history=history.get(index, History.NEW),
                requested="3ge2ae" in values and e2ae_of(media) is E2ae.REQUESTED,
                agreed=medium is not None and medium.mechanism in agreed,
                prints=usable_fingerprints(sdp, media, allow_sha1=allow_sha1)[0],
                keyed=keyed or "key-mgmt" in values or "crypto" in values,
                cema="msrp-cema" in values,
                removed=media.port == 0,
                address_ok=_address(sdp, media) is not None,
                label=f"{media.media} {media.port} {proto}",
                medium=medium.name if medium is not None else "",
                paths=paths_of(media) if medium is not None and medium.paths else Paths.ONE,
                aware=aware,
            )
        )
    return tuple(facts)
