"""The metrics of an IMS-AGW worker: names, help texts, labels, and where each value is read."""

from collections.abc import Callable, Mapping

from agw.core.engine import AgwEngine
from agw.settings import Settings
from agw.shell.executor import Executor
from agw.shell.tally import Tally
from imskit.metrics import Metrics

VERSIONS = ("TLSv1.2", "TLSv1.3")
VERDICTS = ("verified", "mismatch", "missing", "timeout")


def measures(
    settings: Settings,
    engine: AgwEngine,
    executor: Executor,
    tally: Tally,
    now: Callable[[], float],
    expiry: Callable[[], Mapping[str, float]],
) -> Metrics:
    """The registry.

    ``now`` is the clock that the engine runs on; ``expiry`` tells the ends of the certificates in use (Unix time), by
    their names.
    """
    metrics = Metrics("agw")
    metrics.process()
    metrics.gauge_of("in_service_state", "1 while the controller serves this gateway.", lambda: int(engine.serving))
    metrics.gauge_of("active_contexts", "H.248 contexts.", lambda: len(engine.store.contexts))
    metrics.gauge_of("active_sessions", "Relays that run.", lambda: executor.sessions)
    metrics.gauge_of(
        "half_open_handshakes", "TLS handshakes that run or wait for a fingerprint.", lambda: executor.half_open
    )
    ranges = [name for name, realm in settings.realm.items() if realm.ports != "0"]
    metrics.gauges_of(
        "free_ports",
        "Ports that could be handed out now; those in quarantine are not free.",
        ("realm",),
        lambda: {(name,): engine.ports.free(name, now()) for name in ranges},
    )
    metrics.gauges_of(
        "certificate_expiry_timestamp_seconds",
        "When the certificate of media legs ends, as Unix time.",
        ("certificate",),
        lambda: {(name,): end for name, end in expiry().items()},
    )
    _media(metrics, settings, tally)
    _control(metrics, tally)
    return metrics


def _media(metrics: Metrics, settings: Settings, tally: Tally) -> None:
    realms = tuple(settings.realm)
    metrics.counters_of(
        "tcp_connections",
        "TCP connections of media: accepted, dialled, dial-failed, refused (a source that was not signalled).",
        ("realm", "outcome"),
        lambda: tally.connections,
    )
    metrics.counters_of(
        "tls_handshakes",
        "TLS handshakes: complete, failed, refused (a certificate that does not match stops the handshake).",
        ("version", "outcome"),
        lambda: {**{(version, "complete"): 0.0 for version in VERSIONS}, **tally.handshakes},
    )
    metrics.counters_of(
        "verifications",
        "Checks of a peer's certificate against its SDP: verified, mismatch, missing, timeout (no SDP came in time).",
        ("outcome",),
        lambda: {(outcome,): tally.verifications[outcome] for outcome in VERDICTS},
    )
    metrics.counters_of(
        "media_bytes",
        "Application octets (after decryption, before encryption) received from and sent to peers.",
        ("realm", "direction"),
        lambda: {**{(realm, way): 0.0 for realm in realms for way in ("received", "sent")}, **tally.octets()},
    )
    metrics.counters_of(
        "msrp_messages",
        "MSRP messages from peers where their paths are rewritten: rewritten and passed on, or refused.",
        ("realm", "outcome"),
        lambda: {**{(realm, what): 0.0 for realm in realms for what in ("rewritten", "refused")}, **tally.messages()},
    )
    metrics.counters_of(
        "relays_ended",
        "Relays that are over: orderly, or failed (reset, time limit).",
        ("outcome",),
        lambda: {(outcome,): tally.relays[outcome] for outcome in ("orderly", "failed")},
    )
    metrics.counters_of(
        "syn_held",
        "TCP connection attempts that were left unanswered, because the remote address was not known yet.",
        ("realm",),
        lambda: {(realm,): tally.syn_held[realm] for realm in realms},
    )


def _control(metrics: Metrics, tally: Tally) -> None:
    metrics.counters_of(
        "h248_transactions",
        "H.248 transactions, repetitions included.",
        ("direction", "kind"),
        lambda: tally.transactions,
    )
    metrics.counter_of(
        "control_losses",
        "The link to the controller ended, or could not be made.",
        lambda: tally.control["down"],
    )
    metrics.counter_of("parse_errors", "H.248 messages that could not be read.", lambda: tally.control["unreadable"])
