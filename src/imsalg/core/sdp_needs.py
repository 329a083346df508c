"""Would the edge have to act on this SDP? For offers that come where none can be held (in a response to INVITE)."""

from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.media_facts import line_facts
from imsalg.core.media_policy import Kind, decide
from imsalg.settings import Settings
from imswire.base import ProtocolError
from imswire.sdp.model import SessionDescription


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
