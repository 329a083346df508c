"""What an SDP says of its media lines, read once: facts for the policy matrix and addresses for the reservations."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from imsalg.core.media_events import Side
from imsalg.core.media_policy import History, LineFacts, Prints, Proto
from imswire.base import ProtocolError
from imswire.sdp.attributes import E2ae, Setup, e2ae_of, fingerprints, has_cema, has_key_mgmt, has_sdes, setup_of
from imswire.sdp.model import Media, SessionDescription

STRONG_HASHES: tuple[str, ...] = ("sha-256", "sha-384", "sha-512")
"""Hashes a fingerprint may use, most preferred first (RFC 8122 5); MD2 and MD5 never (ibid.), SHA-1 by setting."""
DISCARD = 9
"""The port an active endpoint shows (RFC 4145 4): not to be dialled, not to be filtered on."""

_PROTOS: dict[str, Proto] = {"TCP/TLS/MSRP": Proto.MSRP_TLS, "TCP/MSRP": Proto.MSRP}


class Endpoint(Struct, frozen=True):
    """One end of a secured line, as its own SDP describes it.

    ``fingerprints`` are (hash, octets) with a usable hash. ``setup`` is None when absent at media and session level.
    ``path`` is the raw ``a=path``: a changed one asks for a new connection (RFC 4975 5.4).
    """

    family: str
    address: str
    port: int
    setup: Setup | None = None
    fingerprints: tuple[tuple[str, bytes], ...] = ()
    path: str = ""
    cema: bool = False


def proto_of(media: Media) -> Proto:
    """The transport of a line in the matrix' terms."""
    return _PROTOS.get(media.proto.upper(), Proto.OTHER)


def usable_fingerprints(
    sdp: SessionDescription, media: Media, *, allow_sha1: bool = False
) -> tuple[Prints, tuple[tuple[str, bytes], ...]]:
    """The fingerprints that apply to a line, media level before session level (RFC 8122 5), without unusable hashes."""
    try:
        found = fingerprints(sdp, media)
    except ProtocolError:
        return Prints.BROKEN, ()
    if not found:
        return Prints.NONE, ()
    allowed = (*STRONG_HASHES, "sha-1") if allow_sha1 else STRONG_HASHES
    kept = tuple((item.hash, item.octets) for item in found if item.hash in allowed)
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
    """Read the end of a secured line; raises :class:`ProtocolError` when it has no IP address or a bad ``a=setup``."""
    address = _address(sdp, media)
    if address is None:
        raise ProtocolError("sdp.connection", "the connection address is not an IP address")
    _, prints = usable_fingerprints(sdp, media, allow_sha1=allow_sha1)
    return Endpoint(
        family=address[0],
        address=address[1],
        port=media.port,
        setup=setup_of(media, sdp),
        fingerprints=prints,
        path=media.get("path") or "",
        cema=has_cema(media),
    )


def path_matches_connection(end: Endpoint) -> bool:
    """RFC 6714 4.4: does the topmost MSRP URI of ``a=path`` carry the address and port of c= and m=?

    A domain name cannot be resolved here and counts as no match.
    """
    uri = end.path.split(" ", 1)[0]
    authority = uri.partition("://")[2].partition("/")[0].partition(";")[0].rpartition("@")[2]
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
        return False
    if host == end.address:  # nearly always; the address was checked with its c= line
        return int(port) == end.port
    try:
        return ipaddress.ip_address(host.strip("[]")) == ipaddress.ip_address(end.address) and int(port) == end.port
    except ValueError:
        return False


def line_facts(
    sdp: SessionDescription,
    side: Side,
    agreed: frozenset[str],
    history: Mapping[int, History],
    *,
    allow_sha1: bool = False,
) -> tuple[LineFacts, ...]:
    """The facts of every m-line of an offer from ``side``, in order. ``history`` tells what a line was until now."""
    return tuple(
        LineFacts(
            index=index,
            side=side,
            proto=proto_of(media),
            history=history.get(index, History.NEW),
            requested=e2ae_of(media) == E2ae.REQUESTED,
            agreed="msrp-tls" in agreed,
            prints=usable_fingerprints(sdp, media, allow_sha1=allow_sha1)[0],
            keyed=has_key_mgmt(sdp, media) or has_sdes(media),
            cema=has_cema(media),
            removed=media.port == 0,
            address_ok=_address(sdp, media) is not None,
            label=f"{media.media} {media.port} {media.proto}",
        )
        for index, media in enumerate(sdp.media)
    )
