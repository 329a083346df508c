"""What the node holds now, as plain values for ``imsalg show``: read, never changed, and bounded by the asker.

Times are seconds: ages, and what is left of lifetimes.
"""

from collections.abc import Iterable, Mapping
from itertools import islice

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
from imswire.sip.flow import Flow
from imswire.sip.uri import bracketed

type Row = dict[str, object]


def calls(ctx: Context, media: MediaHalf, now: float, limit: int) -> Row:
    """All calls, newest last; ``total`` tells how many there are when ``limit`` left some off."""
    rows = [call_row(call, ctx, media, now) for call in islice(ctx.calls.values(), limit)]
    return {"total": len(ctx.calls), "calls": rows}


def call(ctx: Context, media: MediaHalf, now: float, wanted: str) -> list[Row]:
    """The calls with that key, Call-ID, or beginning of either; a call that passes the edge twice is two."""
    exact = [one for one in ctx.calls.values() if wanted in (one.key, one.call_id)]
    found = exact or [one for one in ctx.calls.values() if one.key.startswith(wanted) or one.call_id.startswith(wanted)]
    return [call_row(one, ctx, media, now) for one in found[:64]]


def call_row(one: Call, ctx: Context, media: MediaHalf, now: float) -> Row:
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
        "lines": _lines(half, one, ctx) if half is not None else [],
    }


def _lines(half: "media_call.Call", one: Call, ctx: Context) -> list[Row]:
    pending, last = half.offers
    rows: dict[int, Row] = {}
    for index, proto in half.passed.items():
        name, _ = _named(index, last or pending)
        rows[index] = {"index": index, "medium": name, "proto": proto, "security": passed_words(name, proto, one, ctx)}
    new = pending.new if pending is not None else []
    for line, agreed in (*((line, False) for line in new), *((line, True) for line in half.lines.values())):
        name, proto = _named(line.index, last if agreed else pending)
        rows[line.index] = {
            "index": line.index,
            "medium": name,
            "proto": proto,
            "security": secured_words(line, agreed=agreed),
            "gateway": half.gateway,
            "context": line.context or None,
            **{side.value: _end(line, side) for side in (Side.ACCESS, Side.CORE)},
        }
    return [rows[index] for index in sorted(rows)]


def secured_words(line: Line, *, agreed: bool) -> str:
    """What is known here of a line that the edge protects. Whether TLS is up, the media gateway knows."""
    if not line.context:
        return "e2ae, ports asked for"
    if any(request.setup == "holdconn" for request in line.requests.values()):
        return "e2ae, on hold"
    if line.linked:
        return "e2ae, in force at the gateway" if agreed else "e2ae, answered early"
    return "e2ae, waits for the answer"


def passed_words(medium: str, proto: str, one: Call, ctx: Context) -> str:
    """What is known here of a line that passes."""
    if medium not in GUARDED:
        return "passed through"
    if "/TLS/" in proto:
        return "passed through, TLS is the endpoints' own"
    word = policy_of(medium, one, ctx)
    return "plain by policy off" if word == "off" else f"passed through, plain under policy {word}"


def policy_of(medium: str, one: Call, ctx: Context) -> str:
    """The operator's word for that medium in that call's realm and direction."""
    settings = ctx.settings
    direction = direction_of(one.caller_side)
    for table in (settings.realm.get(one.profile.access_realm), settings.policy):
        word = getattr(table, medium, None)
        if isinstance(word, Mapping):
            word = word.get(direction)
        elif word is not None and not isinstance(word, str):
            word = getattr(word, direction, None)
        if word:
            return str(word)
    return "off"


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
