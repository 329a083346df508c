"""What the node holds now, as plain values for ``imsalg show``: read, never changed, and bounded by the asker.

Times are seconds: ages, and what is left of lifetimes.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType

from imsalg.core import call as media_call
from imsalg.core.bindings import Binding
from imsalg.core.call_model import Pending
from imsalg.core.context import Context
from imsalg.core.gateway_model import Gateway, State
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import Side, direction_of
from imsalg.core.media_kinds import GUARDED, medium_of
from imsalg.core.reservations import Line
from imsalg.core.sip_call import Call
from imsalg.media_settings import MediaSettings
from imswire.h248.iq_inspect import TlsState
from imswire.sip.flow import Flow
from imswire.sip.uri import bracketed

type Row = dict[str, object]
_NOTHING: Mapping[tuple[str, int], TlsState] = MappingProxyType({})


type Seen = Mapping[tuple[str, int], TlsState]
"""Gateway and context -> what the gateway says of TLS there; nothing where nobody asked or it did not answer."""


def keys(ctx: Context, limit: int) -> tuple[str, ...]:
    """The calls that :func:`calls` shows."""
    return tuple(islice(ctx.calls, limit))


def calls(ctx: Context, media: MediaHalf, now: float, limit: int, seen: Seen = _NOTHING) -> Row:
    """All calls, newest last; ``total`` tells how many there are when ``limit`` left some off."""
    rows = [call_row(call, media, now, seen) for call in islice(ctx.calls.values(), limit)]
    return {"total": len(ctx.calls), "calls": rows}


def call(ctx: Context, media: MediaHalf, now: float, wanted: str, seen: Seen = _NOTHING) -> list[Row]:
    """The calls with that key, Call-ID, or beginning of either; a call that passes the edge twice is two."""
    return [call_row(one, media, now, seen) for one in matching(ctx, wanted)]


def matching(ctx: Context, wanted: str) -> list[Call]:
    """The calls that :func:`call` shows."""
    exact = [one for one in ctx.calls.values() if wanted in (one.key, one.call_id)]
    found = exact or [one for one in ctx.calls.values() if one.key.startswith(wanted) or one.call_id.startswith(wanted)]
    return found[:64]


def call_row(one: Call, media: MediaHalf, now: float, seen: Seen = _NOTHING) -> Row:
    """One call with its media lines."""
    half = media.calls.get(one.key)
    return {
        "key": one.key,
        "call_id": one.call_id,
        "direction": direction_of(one.caller_side),
        "user": one.profile.user,
        "state": one.stage.name.lower(),
        "age": max(0.0, now - one.since),
        "caller": one.caller.address,
        "called": [leg.party.address for leg in one.legs.values()],
        "realms": {side.value: realm for side, realm in one.realms.items()},
        "flows": {side.value: _flow(flow) for side, flow in one.flows.items()},
        "requests_under_way": len(one.forwards),
        "agreed": sorted(one.profile.agreed),
        "gateway": half.gateway if half is not None else None,
        "media": half.stage.name.lower() if half is not None else "none",
        "lines": _lines(half, media.settings, seen) if half is not None else [],
    }


def _lines(half: "media_call.Call", settings: MediaSettings, seen: Seen) -> list[Row]:
    pending, last = half.offers
    rows: dict[int, Row] = {}
    for index, proto in half.passed.items():
        name, _ = _named(index, last or pending)
        offer = last or pending
        side = offer.offer.side if offer is not None else Side.ACCESS
        words = passed_words(name, proto, side, half.profile.access_realm, settings)
        rows[index] = {"index": index, "medium": name, "proto": proto, "security": words}
    new = pending.new if pending is not None else []
    for line, agreed in (*((line, False) for line in new), *((line, True) for line in half.lines.values())):
        name, proto = _named(line.index, last if agreed else pending)
        tls = seen.get((half.gateway or "", line.context))
        rows[line.index] = {
            "index": line.index,
            "medium": name,
            "proto": proto,
            "security": secured_words(line, tls, agreed=agreed),
            "tls": {"version": tls.version, "cipher": tls.cipher, "verified": tls.hash} if tls is not None else None,
            "gateway": half.gateway,
            "context": line.context or None,
            "further_answers": [spare.place.termination for spare in line.spares.values()],
            **{side.value: _end(line, side) for side in (Side.ACCESS, Side.CORE)},
        }
    return [rows[index] for index in sorted(rows)]


_TLS_WORDS = {
    "handshake": "e2ae {}, handshake under way",
    "unverified": "e2ae {}, waits for the fingerprint",
    "verified": "e2ae {} verified {}",
    "failed": "e2ae {}, failed",
}
"""State of the session at the gateway -> words for it, with its version and the hash that was verified."""


def secured_words(line: Line, tls: TlsState | None, *, agreed: bool) -> str:
    """What is known of a line that the edge protects; ``tls`` is what the gateway said of it, if it was asked."""
    if not line.context:
        return "e2ae, media given up" if line.dead else "e2ae, ports asked for"
    if tls is not None and tls.state in _TLS_WORDS:
        version = tls.version.replace("TLSv", "TLS ") or "TLS"
        return _TLS_WORDS[tls.state].format(version, tls.hash).rstrip()
    if any(request.setup == "holdconn" for request in line.requests.values()):
        return "e2ae, on hold"
    if line.linked:
        if tls is not None:
            return "e2ae, waits for the connection"
        return "e2ae, in force at the gateway" if agreed else "e2ae, answered early"
    return "e2ae, waits for the answer"


def passed_words(medium: str, proto: str, offered_by: Side, realm: str, settings: MediaSettings) -> str:
    """What is known here of a line that passes. The operator's word is that for the direction of its offer."""
    if medium not in GUARDED:
        return "passed through"
    if "/TLS/" in proto:
        return "passed through, TLS is the endpoints' own"
    word = settings.policy_of(realm, medium, originating=offered_by is Side.ACCESS)
    return "plain by policy off" if word == "off" else f"passed through, plain under policy {word}"


def _named(index: int, pending: Pending | None) -> tuple[str, str]:
    if pending is None or index >= len(pending.sdp.media):
        return "other", ""
    media = pending.sdp.media[index]
    return medium_of(media.media, media.proto), media.proto


def _end(line: Line, side: Side) -> Row:
    place, request = line.terminations.get(side), line.requests[side]
    remote = request.remote
    return {
        "realm": request.realm,
        "proto": request.proto,
        "termination": place.termination if place is not None else None,
        "local": f"{bracketed(place.address)}:{place.port}" if place is not None else None,
        "remote": f"{bracketed(remote.address)}:{remote.port}" if remote is not None else None,
        "setup": request.setup,
        "source_filter": request.source_filter,
        "fingerprints": sorted({name for name, _ in remote.fingerprints}) if remote is not None else [],
    }


def registrations(ctx: Context, now: float, limit: int, wanted: str = "") -> Row:
    """All bindings, or those of one address of record (or of its user part)."""
    held = ctx.registrar.bindings()
    found = [one for one in held if not wanted or wanted in (one.aor, one.user)] if wanted else held
    rows = [_binding(one, now) for one in islice(found, limit)]
    return {"total": len(rows) if wanted else len(ctx.registrar), "registrations": rows}


def _binding(one: Binding, now: float) -> Row:
    return {
        "aor": one.aor,
        "contact": one.contact,
        "realm": one.profile.access_realm,
        "flow": _flow(one.flow) if one.flow is not None else None,
        "agreed": sorted(one.agreed),
        "secured": one.secured,
        "emergency": one.emergency,
        "expires": max(0.0, one.expires_at - now),
        "associated": list(one.associated),
        "service_route": list(one.service_route),
    }


def gateways(media: MediaHalf, now: float, wanted: str = "") -> list[Row]:
    """All media gateways that announced themselves, or the one with that mId."""
    known: Iterable[Gateway] = media.gateways.gateways.values()
    return [_gateway(one, media, now) for one in known if not wanted or one.mid == wanted]


def _gateway(one: Gateway, media: MediaHalf, now: float) -> Row:
    link = media.gateways.links.get(one.link)
    away = one.state is State.AWAY
    return {
        "mid": one.mid,
        "state": one.state.name.lower().replace("_", " "),
        "peer": link.peer if link is not None and not away else None,
        "contexts": len(one.contexts),
        "reserving": one.reserving,
        "transactions": len(link.tickets) if link is not None else 0,
        "heard": max(0.0, now - one.heard),
        "given_up_in": max(0.0, one.away_until - now) if away else None,
    }


def _flow(flow: Flow) -> str:
    return f"{flow.transport} {bracketed(flow.remote[0])}:{flow.remote[1]}"
