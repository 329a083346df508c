"""The SDP of secured lines on its way across the access edge (TR 29.828 5.2.1.2.2 steps 8 and 19, 5.2.1.2.3 steps 8
and 17).

What changes depends on the direction of travel only, not on who started the session: towards the core a line loses its
security, towards the UE it gains ours. Lines without an :class:`Anchor` keep their bytes.

=================  ==============================================  ==================================================
\\                   towards the core                                towards the UE
=================  ==============================================  ==================================================
transport          TLS taken out (``TCP/TLS/MSRP``: ``TCP/MSRP``)  TLS put in (``TCP/MSRP``: ``TCP/TLS/MSRP``)
``a=3ge2ae``       removed                                         ``applied`` in an offer, none in an answer
``a=fingerprint``  removed                                         that of the AGW
``a=tls-id``       removed: it names the UE's TLS association      removed: the peer's names none of ours
c= and m= port     the AGW's core side                             the AGW's access side
``a=path``         as it is, or by setting msrps becomes msrp      as it is, or by setting msrp becomes msrps
*, aware mode*     the AGW's core side, msrp                       the AGW's access side, msrps
``a=msrp-cema``    as it is; removed in aware mode; added to an answer of an end without it that the AGW can serve
``a=setup``        as it is; in merge mode ``actpass`` in an offer, and in the answer what the offerer can live with
=================  ==================================================================================================

All else stays to the byte: ``a=accept-types``, ``a=connection``, ``a=floorctrl``, ``confid``, ``userid``, ``floorid``,
``label``, ``group``, ``b=`` ...

The port is the AGW's real one even beside ``a=setup:active``. RFC 4145 4 calls the port of an active endpoint
irrelevant and only SHOULD be 9; figure 5.2.1.2.2.1 shows the AGW's port there, and a peer that filters by the signalled
transport address, or one without COMEDIA that connects anyway, needs the real one.
"""

from collections.abc import Mapping

from msgspec import Struct

from imsalg.core.media_events import Side
from imsalg.media_settings import PathScheme
from imswire.sdp.attributes import TRANSPORTS, MsrpPath, Setup, fingerprint_text
from imswire.sdp.model import Media, SessionDescription


class Anchor(Struct, frozen=True):
    """Where the AGW stands on the side the SDP goes to; ``fingerprint`` (hash, octets) towards the UE only.

    ``rejected``: the line is answered with port 0, so that only its transport is translated. ``path`` is the MSRP URI
    of the AGW's end (aware mode). ``setup`` is a role to put in place of the one that came. ``cema``: True adds
    ``a=msrp-cema``, False takes it out, None leaves it. ``paths``: the line's medium has ``a=path`` at all.
    """

    family: str = "IP4"
    address: str = ""
    port: int = 0
    fingerprint: tuple[str, bytes] | None = None
    rejected: bool = False
    path: str | None = None
    setup: Setup | None = None
    cema: bool | None = None
    paths: bool = True


def rewrite(
    sdp: SessionDescription,
    towards: Side,
    anchors: Mapping[int, Anchor],
    *,
    offer: bool,
    path_scheme: PathScheme = "keep",
) -> bytes:
    """The body to forward to ``towards``; ``anchors`` maps the index of each secured line to the AGW's end.

    ``sdp`` itself is left as it is. Raises :class:`ProtocolError` for an ``a=path`` that is to be rewritten and
    cannot be read.
    """
    if not anchors:
        return sdp.to_bytes()
    core = towards is Side.CORE
    scheme = None if path_scheme == "keep" else "msrp" if core else "msrps"
    shared = _shared(sdp, anchors)
    sections = []
    for index, media in enumerate(sdp.media):
        anchor = anchors.get(index)
        if anchor is None:
            sections.append([media.text(), *media.texts])
            continue
        row = TRANSPORTS.get(media.proto.upper())
        proto = media.proto if row is None else row.plain if core else row.secure
        wanted = _BARE.copy() if core else _protected(anchor, offer=offer)
        if anchor.rejected:
            sections.append([media.text_with(proto, None), *media.changed(wanted)])
            continue
        _connection_marks(wanted, media, anchor)
        if scheme is not None and anchor.paths and anchor.path is None:
            _rewrite_path(wanted, media, scheme)
        place = None if shared is not None and not media.connected else f"IN {anchor.family} {anchor.address}"
        sections.append([media.text_with(proto, anchor.port), *media.changed(wanted, place)])
    return sdp.joined(_session(sdp, anchors, shared, core=core), sections)


_BARE: dict[str, str | None] = {"3ge2ae": None, "fingerprint": None, "tls-id": None}
"""What a line loses towards the core."""
_NO_FINGERPRINT: dict[str, str | None] = {"fingerprint": None}
_NOTHING: dict[str, str | None] = {}


def _protected(anchor: Anchor, *, offer: bool) -> dict[str, str | None]:
    """What a line is given, or loses, towards the UE."""
    wanted = _BARE.copy()
    if not anchor.rejected:
        if offer:
            wanted["3ge2ae"] = "applied"
        if anchor.fingerprint is not None:
            wanted["fingerprint"] = fingerprint_text(*anchor.fingerprint)
    return wanted


def _connection_marks(wanted: dict[str, str | None], media: Media, anchor: Anchor) -> None:
    if anchor.path is not None:
        wanted["path"] = anchor.path
    if anchor.setup is not None:
        wanted["setup"] = anchor.setup.value
    if anchor.cema is False:
        wanted["msrp-cema"] = None
    elif anchor.cema and not media.has("msrp-cema"):
        wanted["msrp-cema"] = ""


def _rewrite_path(wanted: dict[str, str | None], media: Media, scheme: str) -> None:
    value = media.get("path")
    if value is not None:
        path = MsrpPath.parse(value)
        wanted["path"] = " ".join([str(uri.with_scheme(scheme)) for uri in path.uris])


def _shared(sdp: SessionDescription, anchors: Mapping[int, Anchor]) -> str | None:
    """c= at session level only when every line in use is anchored at one address; None: at each anchored line."""
    place = None
    for anchor in anchors.values():
        if not anchor.rejected:
            here = f"IN {anchor.family} {anchor.address}"
            if place is not None and here != place:
                return None
            place = here
    return place if place is not None and sdp.connected and _all_anchored(sdp, anchors) else None


def _all_anchored(sdp: SessionDescription, anchors: Mapping[int, Anchor]) -> bool:
    """Is every line in use at the AGW?"""
    for index, media in enumerate(sdp.media):
        anchor = anchors.get(index)
        if media.port and (anchor is None or anchor.rejected):
            return False
    return True


def _session(sdp: SessionDescription, anchors: Mapping[int, Anchor], shared: str | None, *, core: bool) -> list[str]:
    """The lines of the session part."""
    bare = core and sdp.has("fingerprint") and not _needs_session_fingerprint(sdp, anchors)
    return sdp.changed(_NO_FINGERPRINT if bare else _NOTHING, shared) if bare or shared is not None else sdp.texts


def _needs_session_fingerprint(sdp: SessionDescription, anchors: Mapping[int, Anchor]) -> bool:
    """Does a line that passes through live by the fingerprint at session level (RFC 8122 5)?"""
    return any(
        index not in anchors
        and not media.rejected
        and not media.has("fingerprint")
        and any(word in media.proto.upper() for word in ("TLS", "SAVP"))
        for index, media in enumerate(sdp.media)
    )
