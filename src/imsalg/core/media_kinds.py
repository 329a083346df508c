"""The media that the edge can protect, one row each: what tells them apart is data, what is done with them is not."""

from typing import Literal

from msgspec import Struct

TlsRule = Literal["tcp-active", "offerer"]
"""Who is TLS client: the end that opens the TCP connection (RFC 6135 6), or the SDP offerer (RFC 8856 8)."""


class Medium(Struct, frozen=True):
    """One row.

    ``plain`` and ``secure`` are the transports in SDP. ``mechanism`` is the name under which protection is agreed at
    registration. ``connection``: ``a=connection`` counts (RFC 4145 5; MSRP ignores it, RFC 6135 4.4). ``paths``: the
    ends name themselves in ``a=path`` and CEMA exists (RFC 6714).
    """

    name: str
    plain: str
    secure: str
    mechanism: str
    tls: TlsRule
    connection: bool = False
    paths: bool = False


MEDIA: dict[str, Medium] = {
    row.name: row
    for row in (
        Medium("msrp", "TCP/MSRP", "TCP/TLS/MSRP", "msrp-tls", "tcp-active", paths=True),
        Medium("bfcp", "TCP/BFCP", "TCP/TLS/BFCP", "bfcp-tls", "offerer", connection=True),
    )
}
"""By name; the name is also that of the policy setting."""
GUARDED: tuple[str, ...] = tuple(MEDIA)
"""Media that the edge may protect."""

_BY_TRANSPORT: dict[str, Medium] = {proto: row for row in MEDIA.values() for proto in (row.plain, row.secure)}


def medium_by_transport(proto: str) -> Medium | None:
    """The row of an m-line's transport, letter case ignored; None for media that are none of the edge's business."""
    return _BY_TRANSPORT.get(proto.upper())


def medium_of(media: str, proto: str) -> str:
    """``msrp``, ``bfcp``, ``audio``, ``video`` or ``other``: a bounded name for an m-line."""
    row = medium_by_transport(proto)
    if row is not None:
        return row.name
    return media if media in ("audio", "video") else "other"
