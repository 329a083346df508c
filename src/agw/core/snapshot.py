"""What a worker holds, as plain values for ``agw show``: read, never changed, and bounded by the asker.

Times are seconds, octets are those of the application. What only the sockets know comes in as :class:`LegFacts`.
"""

from collections.abc import Callable
from itertools import islice

from msgspec import Struct

from agw.core.model import Context, Leg, Store, Tls
from agw.core.record import address_text

type Row = dict[str, object]


class LegFacts(Struct, frozen=True):
    """What the shell knows of a leg's present connection: TLS version, suite and the hash that its peer was verified
    with ("" where there is none), octets received and sent, SYNs that met silence, seconds since it last moved octets
    (None before its relay), MSRP messages of its peer that were rewritten and refused."""

    version: str = ""
    cipher: str = ""
    hash: str = ""
    received: int = 0
    sent: int = 0
    syn_held: int = 0
    idle: float | None = None
    rewritten: int = 0
    refused: int = 0


type Facts = Callable[[int], LegFacts]
"""Leg number -> what the shell knows of it."""

_TCP = {"STARTING": "starting", "WAITING": "waiting", "DIALLING": "dialling", "UP": "connected", "DOWN": "closed"}


def no_facts(_leg: int) -> LegFacts:
    """Where there are no sockets to ask."""
    return LegFacts()


def contexts(store: Store, now: float, limit: int, facts: Facts = no_facts) -> list[Row]:
    """The first ``limit`` contexts, oldest first."""
    return [context_row(context, now, facts) for context in islice(store.contexts.values(), limit)]


def context_row(context: Context, now: float, facts: Facts = no_facts) -> Row:
    """One context with its terminations."""
    known = {leg.id: facts(leg.id) for leg in context.legs}
    idle = [fact.idle for fact in known.values() if fact.idle is not None]
    return {
        "context": context.id,
        "state": context.state,
        "failure": context.failed,
        "security": "; ".join(_security(leg, known[leg.id]) for leg in context.legs if leg.request.tls) or "plain",
        "age": max(0.0, now - context.since),
        "relaying_for": max(0.0, now - context.relay_since) if context.relaying else None,
        "idle": min(idle) if context.relaying and idle else None,
        "terminations": [_leg_row(leg, known[leg.id], now) for leg in context.legs],
    }


def _leg_row(leg: Leg, known: LegFacts, now: float) -> Row:
    request, remote = leg.request, leg.request.remote
    return {
        "termination": leg.name,
        "realm": request.realm,
        "proto": request.proto,
        "mode": request.tcp_mode,
        "setup": request.setup or "",
        "local": address_text((leg.place.advertised, leg.place.port)),
        "signalled": address_text((remote.address, remote.port)) if remote is not None else "",
        "peer": address_text(leg.peer) if leg.peer[0] else "",
        "direction": ("in" if leg.incoming else "out") if leg.peer[0] else "",
        "tcp": _TCP[leg.tcp.name],
        "source_filter": _filter(leg),
        "syn_held": max(leg.syns, known.syn_held),
        "security": _security(leg, known),
        "version": leg.tls_version or known.version,
        "cipher": leg.cipher or known.cipher,
        "verified": leg.verified or known.hash,
        "path": leg.path or "",
        "rewritten": known.rewritten,
        "refused": known.refused,
        "received": max(leg.received, leg.before[0] + known.received),
        "sent": max(leg.sent, leg.before[1] + known.sent),
        "age": max(0.0, now - leg.since),
    }


def _security(leg: Leg, known: LegFacts) -> str:
    """``plain``, or TLS and how far it is: waiting, handshake, not yet verified, verified (with the hash), failed."""
    if not leg.request.tls:
        return "plain"
    name = leg.tls_version or known.version or "TLS"
    states = {Tls.NONE: "waiting", Tls.HANDSHAKE: "handshake", Tls.VERIFY: "not yet verified"}
    if leg.tls is Tls.OPEN:
        return f"{name} verified {leg.verified or known.hash}".rstrip()
    return f"{name} {states.get(leg.tls, 'failed')}"


def _filter(leg: Leg) -> str:
    """``open``, ``closed``, or the sources that may connect."""
    allowed = leg.filter
    if allowed.kind != "source":
        return allowed.kind
    network = allowed.address or "any address"
    if allowed.prefix is not None:
        network = f"{network}/{allowed.prefix}"
    if allowed.port is None:
        return network
    return f"{network} port {allowed.port}" + (f"-{allowed.last_port}" if allowed.last_port else "")
