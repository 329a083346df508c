"""Would the edge have to act on this SDP? For offers that come where none can be held or rewritten: in a response to
INVITE, or as one part of a multipart body."""

import re

from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.media_facts import line_facts
from imsalg.core.media_policy import Kind, decide
from imsalg.settings import Settings
from imswire.base import ProtocolError
from imswire.sdp.model import SessionDescription
from imswire.sip.message import Request

_SDP_PART = re.compile(rb"^content-type\s*:\s*application/sdp\b.*?\r?\n\r?\n(.*?)(?=^--|\Z)", re.I | re.M | re.S)
"""The SDP in a multipart body: from its part's header to the next boundary. No line of SDP begins with a dash."""
_PARTS = 16
"""Parts with SDP that are looked at; a body with more is refused."""


def needs_edge_security(body: bytes, side: Side, profile: AccessProfile, settings: Settings) -> bool:
    """True when a line of the offer from ``side`` would not pass unchanged; True for SDP that cannot be read."""
    realm = settings.realm[profile.access_realm]
    policy = realm.msrp or settings.policy.msrp
    try:
        facts = line_facts(
            SessionDescription.parse(body), side, profile.agreed, {}, allow_sha1=settings.policy.allow_sha1
        )
    except ProtocolError:
        return True
    return any(decide(line, policy).kind not in (Kind.PASS, Kind.REMOVED) for line in facts)


def hides_media(request: Request, side: Side, profile: AccessProfile, settings: Settings, *, secured: bool) -> bool:
    """True when a multipart body holds SDP that the edge has to act on (``secured``: any MSRP of that session)."""
    if not request.content_type.startswith("multipart/"):
        return False
    if request.body.lower().count(b"application/sdp") > _PARTS:
        return True
    return any(
        (secured and b"msrp" in part.lower()) or needs_edge_security(part, side, profile, settings)
        for part in _SDP_PART.findall(request.body)
    )
