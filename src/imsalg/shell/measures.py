"""The metrics of the IMS-ALG: names, help texts, labels, and where each value is read."""

from collections.abc import Mapping

from imsalg.core.engine import Engine
from imsalg.core.gateway_model import State
from imsalg.core.media import MediaHalf
from imsalg.core.media_failures import FAILURES
from imsalg.core.media_kinds import GUARDED
from imsalg.core.sip_call import Stage
from imsalg.shell.agw_link import GatewayDoor
from imsalg.shell.keeper import Keeper
from imsalg.shell.sip_transport import SipDoor
from imskit.metrics import Metrics

_DIRECTIONS = ("originating", "terminating")


def measures(
    engine: Engine, media: MediaHalf, sip: SipDoor, door: GatewayDoor, certificates: Mapping[str, float]
) -> Metrics:
    """The registry. ``certificates`` are the ends of the certificates of listeners (Unix time), by their names."""
    metrics = Metrics("imsalg")
    metrics.process()
    _calls(metrics, engine, media)
    _sip(metrics, engine, sip)
    metrics.counters_of(
        "parse_errors",
        "Messages that could not be read.",
        ("protocol",),
        lambda: {("sip",): sip.bad_messages, ("h248",): door.bad_messages},
    )
    _gateways(metrics, media, door)
    metrics.gauges_of(
        "certificate_expiry_timestamp_seconds",
        "When the certificate of a SIP over TLS listener ends, as Unix time.",
        ("listener",),
        lambda: {(name,): end for name, end in certificates.items()},
    )
    return metrics


def state_measures(metrics: Metrics, keeper: Keeper) -> None:
    """What is told of the state that outlives the process."""
    metrics.gauge_of("state_records", "Registrations and calls that are kept for the next start.", lambda: keeper.kept)
    metrics.gauge_of("pending_records", "Changes of them that are not written yet.", lambda: keeper.pending)
    metrics.counters_of(
        "state_commits",
        "Transactions of the state file, by outcome; a failed one is tried again.",
        ("outcome",),
        lambda: {("done",): keeper.commits, ("failed",): keeper.failures},
    )
    metrics.counter_of(
        "state_records_left_out", "Records that could not be made or written at all.", lambda: keeper.left_out
    )


def _calls(metrics: Metrics, engine: Engine, media: MediaHalf) -> None:
    stats, ctx = engine.stats, engine.context
    metrics.counter_of("calls_started", "Initial INVITEs taken for a call.", lambda: stats.calls)
    metrics.counters_of(
        "calls_ended",
        "Calls that are over: completed (BYE of an end), released (given up here), refused (by policy or for want of "
        "resources), cancelled, failed (a failure response), no-answer.",
        ("outcome",),
        lambda: {(outcome,): count for outcome, count in stats.outcomes.items()},
    )
    metrics.gauges_of(
        "active_calls",
        "Calls known now, by stage.",
        ("stage",),
        lambda: {(s.name.lower(),): sum(c.stage is s for c in ctx.calls.values()) for s in Stage},
    )
    none: dict[tuple[str, ...], float] = {
        (medium, direction, outcome): 0
        for medium in GUARDED
        for direction in _DIRECTIONS
        for outcome in ("secured", "passed", "refused")
    }
    metrics.counters_of(
        "media_lines",
        "MSRP and BFCP lines by the direction of their offer: secured at the edge (e2ae), passed as they were, "
        "or refused by policy.",
        ("medium", "direction", "outcome"),
        lambda: {**none, **media.lines},
    )
    bodies: dict[tuple[str, ...], float] = {
        (what, outcome): 0 for what in ("offer", "answer") for outcome in ("rewritten", "unchanged")
    }
    metrics.counters_of(
        "session_descriptions",
        "SDP offers and answers that went on, rewritten or as they were.",
        ("kind", "outcome"),
        lambda: {**bodies, **media.bodies},
    )
    metrics.counters_of(
        "media_refusals",
        "Offers and answers that were refused here, by SIP status.",
        ("status",),
        lambda: {(str(status),): count for status, count in media.refused.items()},
    )
    metrics.counters_of(
        "media_failures",
        "Failures of secured lines that media gateways reported.",
        ("kind",),
        lambda: {**dict.fromkeys(((kind,) for kind in FAILURES), 0), **{(k,): n for k, n in media.failures.items()}},
    )
    metrics.counter_of("bugs", "Unexpected exceptions; each ended at most one call.", lambda: stats.bugs)


def _sip(metrics: Metrics, engine: Engine, sip: SipDoor) -> None:
    stats, ctx, sockets = engine.stats, engine.context, sip.transports
    metrics.gauge_of("active_registrations", "Bindings held now.", lambda: len(ctx.registrar))
    metrics.counter_of("registrations", "REGISTER requests that succeeded.", lambda: stats.registrations)
    metrics.counter_of(
        "network_deregistrations",
        "Bindings that the network ended (RFC 3680).",
        lambda: stats.network_deregistrations,
    )
    metrics.counters_of(
        "sip_requests",
        "SIP requests, repetitions included.",
        ("direction", "realm", "method"),
        lambda: {**sip.came.requests(), **sip.went.requests()},
    )
    metrics.counters_of(
        "sip_responses",
        "SIP responses, repetitions included.",
        ("direction", "realm", "method", "class"),
        lambda: {**sip.came.responses(), **sip.went.responses()},
    )
    metrics.counter_of("requests_refused", "SIP requests that were refused here.", lambda: stats.refused)
    _overload(metrics, sip)
    metrics.counter_of("messages_dropped", "SIP messages that belonged to nothing.", lambda: stats.dropped)
    metrics.gauge_of("active_transactions", "Requests sent on that have no end yet.", lambda: len(ctx.by_client))
    metrics.gauge_of("held_messages", "SIP messages that wait for a media gateway.", lambda: len(ctx.holds))
    metrics.gauge_of("sip_connections", "SIP over TCP and TLS: open connections.", lambda: sockets.connections)
    metrics.gauge_of("sip_dialling_connections", "SIP connections being opened.", lambda: sockets.stats()["dialling"])
    metrics.counters_of(
        "sip_connection_attempts",
        "Connections that came in, by outcome.",
        ("outcome",),
        lambda: {(name,): sockets.stats()[key] for name, key in _ATTEMPTS.items()},
    )
    metrics.counters_of(
        "sip_datagrams",
        "SIP over UDP: datagrams in, out, dropped since the kernel would not take them, and reported unreachable.",
        ("outcome",),
        lambda: {(name,): sockets.stats()[f"datagrams_{name}"] for name in ("in", "out", "dropped", "unreachable")},
    )
    metrics.counter_of("sip_keepalives", "Keep-alives of UEs: CRLF and STUN.", lambda: sip.keepalives)
    metrics.counters_of(
        "name_searches",
        "Next hops that were looked up in the DNS.",
        ("outcome",),
        lambda: {("found",): ctx.hops.located, ("not-found",): ctx.hops.not_located},
    )
    metrics.counter_of("failovers", "Requests that went on to another target.", lambda: ctx.hops.failovers)


def _overload(metrics: Metrics, sip: SipDoor) -> None:
    if (admission := sip.admission) is None:
        return
    counts = admission.counts
    metrics.gauge_of(
        "overload_state", "1 while new work is refused because the node is behind.", lambda: int(admission.overloaded)
    )
    metrics.counters_of(
        "requests_shed",
        "SIP requests that were refused or dropped unparsed, by reason.",
        ("reason",),
        lambda: {("overload",): counts.overload, ("source-rate",): counts.source_rate},
    )
    metrics.gauge_of("limited_sources", "Source addresses whose rate is being counted.", lambda: admission.sources)


_ATTEMPTS = {"accepted": "accepted", "refused": "refused", "handshake-failed": "failed_handshakes"}


def _gateways(metrics: Metrics, media: MediaHalf, door: GatewayDoor) -> None:
    known = media.gateways
    metrics.gauges_of(
        "known_gateways",
        "Media gateways by state; only those in service get new calls.",
        ("state",),
        lambda: {(s.name.lower(),): sum(g.state is s for g in known.gateways.values()) for s in State},
    )
    metrics.gauge_of("gateway_links", "H.248 associations that are up.", lambda: len(known.links))
    metrics.gauge_of("active_contexts", "H.248 contexts held at all gateways.", lambda: media.stats()["contexts"])
    metrics.counters_of(
        "h248_transactions",
        "H.248 transactions, repetitions included.",
        ("direction", "kind"),
        door.tally.transactions,
    )
    metrics.counters_of(
        "h248_errors",
        "H.248 error descriptors that gateways answered, by class.",
        ("class",),
        lambda: door.tally.errors,
    )
    metrics.counter_of(
        "h248_timeouts", "Own H.248 requests without a reply, or whose link broke.", lambda: known.timeouts
    )
