"""Does the AGW rewrite MSRP messages of a line or only carry them? (TS 23.334 5.19, RFC 6714)

``agnostic``  the AGW carries bytes. Both ends must support CEMA (RFC 6714), so that they take the address from c= and
              m= and their ``a=path`` may stay as it is.
``aware``     the AGW stands between two sessions: ``a=path`` names it on either side, and it exchanges To-Path and
              From-Path of each message. ``a=msrp-cema`` is taken out on both sides, since c= and m= match ``a=path``
              there (RFC 6714 4.2, 4.3: nobody falls back).
``auto``      agnostic for an offer with ``a=msrp-cema``, about which the AGW then learns nothing of MSRP (TS 23.334
              5.19); aware for one without.

:data:`TABLE` has the choice for an offer. An answer without ``a=msrp-cema`` to an offer with it is let through: an end
that dials nobody but is where its path says is served as it is (and the offerer is told ``a=msrp-cema``, for the
edge can do it on that side); any other makes the offerer fall back with an offer without ``a=msrp-cema`` (RFC 6714
4.2), for which the line is taken over into aware mode. A line that is aware stays so.

Paths of several URIs lead over MSRP relays (RFC 4976). Their addresses are not the edge's to replace, so such a line is
left alone where policy allows it, and refused with a reason where it does not.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from imsalg.media_settings import MsrpMode
from imswire.base import ProtocolError
from imswire.sdp.attributes import MsrpUri
from imswire.sdp.model import Media


class Mode(StrEnum):
    """What the AGW does with the messages of a line."""

    AGNOSTIC = "agnostic"
    AWARE = "aware"


class Paths(StrEnum):
    """What ``a=path`` of a line is like."""

    ONE = "one"
    RELAYS = "relays"
    MISSING = "path-missing"
    BROKEN = "path-broken"
    NO_SESSION = "path-session"


Refusal = Literal["no-cema", "relays", "path-missing", "path-broken", "path-session"]


class ModeRow(Struct, frozen=True):
    """One row; None matches anything. ``outcome`` None: aware if the path is good for it."""

    setting: MsrpMode | None
    aware: bool | None
    cema: bool | None
    outcome: Mode | Literal["no-cema"] | None


TABLE: tuple[ModeRow, ...] = (
    ModeRow(None, True, None, None),
    ModeRow("agnostic", False, True, Mode.AGNOSTIC),
    ModeRow("agnostic", False, False, "no-cema"),
    ModeRow("aware", False, None, None),
    ModeRow("auto", False, True, Mode.AGNOSTIC),
    ModeRow("auto", False, False, None),
)

_BAD_PATHS: dict[Paths, Refusal] = {
    Paths.RELAYS: "relays",
    Paths.MISSING: "path-missing",
    Paths.BROKEN: "path-broken",
    Paths.NO_SESSION: "path-session",
}


def paths_of(media: Media) -> Paths:
    """What the ``a=path`` of a line is like."""
    value = media.get("path")
    if value is None:
        return Paths.MISSING
    uris = value.split()
    if not uris:
        return Paths.BROKEN
    try:
        sessions = [MsrpUri.session_in(uri) for uri in uris]
    except ProtocolError:
        return Paths.BROKEN
    if len(sessions) > 1:
        return Paths.RELAYS
    return Paths.ONE if sessions[0] else Paths.NO_SESSION


def mode_of(setting: MsrpMode, *, cema: bool, paths: Paths, aware: bool = False) -> Mode | Refusal:
    """How an offered line is handled, or the slug of why it cannot be. ``aware``: it is so already."""
    if paths is Paths.RELAYS:
        return "relays"
    for row in TABLE:
        if row.setting in (None, setting) and row.aware in (None, aware) and row.cema in (None, cema):
            if row.outcome is not None:
                return row.outcome
            return Mode.AWARE if paths is Paths.ONE else _BAD_PATHS[paths]
    return "no-cema"
