"""What an audit tells of a termination (RFC 3525 7.2.5)."""

from msgspec.structs import replace

from agw.core.model import TLS_STATES, Leg
from imswire.h248.body import Body, write_body
from imswire.h248.iq import PROTOS, Statistics, to_add, to_statistics
from imswire.h248.iq_inspect import TlsState, tls_properties
from imswire.h248.model import Command, Media, Stream


def described(leg: Leg, items: set[str], now: float) -> Command:
    """The reply to an audit of one termination."""
    media = events = statistics = None
    request = leg.request
    asked = to_add(request)
    if "media" in items and asked.media is not None:
        kind, formats = PROTOS[request.proto]
        place = leg.place
        local = Body(
            kind, request.proto, formats, request.family, place.advertised, place.port, request.setup, path=leg.path
        )
        stream = asked.media.streams[0]
        control = stream.control
        if request.tls and control is not None:
            seen = TlsState(TLS_STATES[leg.tls], leg.tls_version, leg.cipher, leg.verified)
            control = replace(control, properties=(*control.properties, *tls_properties(seen)))
        media = Media((Stream(1, control, write_body(local), stream.remote),))
    if "events" in items:
        events = asked.events
    if "statistics" in items:
        statistics = to_statistics(Statistics(leg.sent, leg.received, int((now - leg.since) * 1000)))
    return Command("AuditValue", leg.name, media=media, events=events, statistics=statistics)
