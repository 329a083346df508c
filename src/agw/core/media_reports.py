"""What the executor reports about legs, and what follows from it; a row for each report."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace as changed

from agw.core import orders
from agw.core.media import MediaControl
from agw.core.model import Leg, Tcp, Tls
from agw.core.orders import Report
from agw.core.plan import same_address
from agw.core.record import address_text
from imswire.h248.errors import H248Error
from imswire.h248.iq import MediaFailure

_TRIES = 16
"""Local ports that are tried when others are in use by somebody else."""


class MediaReports:
    """Takes the reports about the legs of ``control``."""

    def __init__(self, control: MediaControl) -> None:
        self._control = control
        self._legs = control.store.legs
        self._rows: dict[type, Callable[[Leg, Any, float], None]] = {
            orders.Listening: self._on_listening,
            orders.ListenFailed: self._on_listen_failed,
            orders.IdentityMade: self._on_identity_made,
            orders.SynHeld: self._on_syn_held,
            orders.Accepted: self._on_accepted,
            orders.Silent: self._on_silent,
            orders.Connected: self._on_connected,
            orders.DialFailed: self._on_dial_failed,
            orders.HandshakeDone: self._on_handshake_done,
            orders.TlsOpen: self._on_open,
            orders.VerifyFailed: self._on_verify_failed,
            orders.TlsFailed: self._on_tls_failed,
            orders.HalfClosed: self._on_half_closed,
            orders.RelayEnded: self._on_relay_ended,
            orders.Inactive: self._on_inactive,
            orders.Released: self._on_released,
            orders.Counted: self._on_counted,
        }

    def take(self, report: Report, now: float) -> Leg | None:
        """Take one report; returns its leg, unless the report is only for the record."""
        leg = self._legs.get(report.leg)
        if leg is None:
            self._of_nobody(report, now)
            return None
        self._rows[type(report)](leg, report, now)
        return leg

    def _of_nobody(self, report: Report, now: float) -> None:
        """A leg that is not there any more, or a connection that was replaced."""
        control = self._control
        if isinstance(report, orders.Released) and report.leg in control.store.former:
            self._on_replaced(report, now)
        elif isinstance(report, orders.IdentityMade):
            control.emit(orders.ForgetIdentity(report.leg, report.identity))
        elif isinstance(report, (orders.Listening, orders.Accepted, orders.Connected)):
            control.emit(orders.Release(report.leg))

    # --- TCP ---

    def _on_syn_held(self, leg: Leg, report: orders.SynHeld, _now: float) -> None:
        leg.syns = report.count
        self._control.record.trace(leg, "tcp", what="syn-held", count=report.count)

    def _on_silent(self, leg: Leg, _report: orders.Silent, _now: float) -> None:
        """Whoever came before the peer was known has said nothing: he holds the port no longer."""
        self._control.record.trace(leg, "tcp", what="refused", peer=address_text(leg.peer))
        self._control.await_another(leg)

    def _on_dial_failed(self, leg: Leg, report: orders.DialFailed, now: float) -> None:
        leg.tcp = Tcp.DOWN
        self._control.record.trace(leg, "tcp", what="failed", peer=address_text(leg.peer), text=report.text)
        self._control.fail(leg, MediaFailure("tcp-failed", f"{address_text(leg.peer)}: {report.text}"), now)

    def _on_listening(self, leg: Leg, report: orders.Listening, now: float) -> None:
        if leg.tcp is Tcp.STARTING:
            leg.tcp = Tcp.WAITING
            if leg.place.port != report.port:
                leg.place = changed(leg.place, port=report.port)
            if self._control.record.tracing:
                self._control.record.trace(leg, "tcp", what="listening", filter=leg.filter.kind)
            if leg.context.failed:
                self._control.set_filter(leg)
        if len(leg.context.legs) > 1:
            self._control.advance(leg.context, now)

    def _on_listen_failed(self, leg: Leg, report: orders.ListenFailed, now: float) -> None:
        """Another port, if that may help."""
        if leg.tcp is not Tcp.STARTING:
            return
        self._give_place_back(leg, now)
        place = leg.place
        leg.tcp = Tcp.DOWN
        if not report.in_use or leg.tried >= _TRIES or leg.request.local_port is not None:
            return
        try:
            leg.place = self._control.ports.take(place.realm, place.family, place.address, None, now)
        except H248Error:
            return
        leg.tcp = Tcp.STARTING
        self._control.listen(leg)

    def _on_accepted(self, leg: Leg, report: orders.Accepted, now: float) -> None:
        leg.peer = (same_address(report.address), report.port)
        if (leg.context.failed and not leg.spare) or leg.tcp is not Tcp.WAITING:
            self._control.emit(orders.Drop(leg.id))
            return
        leg.tcp, leg.incoming = Tcp.UP, True
        self._control.record.trace(leg, "tcp", what="accepted", peer=address_text(leg.peer))
        if not leg.spare:
            self._control.joining.begin(leg.context.id, now)
        if leg.nobodys:
            self._control.early.begin(leg.id, now)
        self._control.recheck_source(leg)
        self._control.advance(leg.context, now)

    def _on_connected(self, leg: Leg, _report: orders.Connected, now: float) -> None:
        if leg.tcp is not Tcp.DIALLING:  # it was given up meanwhile
            self._control.emit(orders.Drop(leg.id))
            return
        leg.tcp = Tcp.UP
        self._control.record.trace(leg, "tcp", what="connected", peer=address_text(leg.peer))
        if not leg.spare:
            self._control.joining.begin(leg.context.id, now)
        self._control.advance(leg.context, now)

    # --- TLS ---

    def _on_identity_made(self, leg: Leg, report: orders.IdentityMade, _now: float) -> None:
        self._control.give_identity_back(leg)
        leg.identity, leg.fingerprints = report.identity, dict(report.fingerprints)
        self._control.identities.take(leg.identity)

    def _on_handshake_done(self, leg: Leg, report: orders.HandshakeDone, _now: float) -> None:
        leg.tls = Tls.VERIFY
        leg.tls_version, leg.cipher = report.version, report.cipher
        record = self._control.record
        record.trace(leg, "tls", what="handshake", version=report.version, cipher=report.cipher)
        record.trace(leg, "verify", what="pending", hash="", expected="", seen="", subject="")

    def _on_tls_failed(self, leg: Leg, report: orders.TlsFailed, now: float) -> None:
        self._control.record.trace(leg, "tls", what="alert", text=report.text)
        if not self._was_nobody(leg):
            leg.tcp, leg.tls = Tcp.DOWN, Tls.FAILED
            self._control.fail(leg, MediaFailure("tls-failed", report.text), now)

    def _was_nobody(self, leg: Leg) -> bool:
        """A handshake failed that anybody may have begun, for the signalling has named no peer yet (flow step 12).

        Then only that connection is over: a port scan while UE B rings must not end the call.
        """
        if not leg.incoming or leg.request.remote is not None or leg.context.failed or leg.releasing:
            return False
        self._control.await_another(leg)
        return True

    def _on_open(self, leg: Leg, report: orders.TlsOpen, now: float) -> None:
        if leg.tls is Tls.HANDSHAKE:
            self._control.record.trace(leg, "tls", what="handshake", version=report.version, cipher=report.cipher)
        leg.tls = Tls.OPEN
        leg.tls_version, leg.cipher, leg.verified = report.version, report.cipher, report.hash
        seen = report.seen.hex(":").upper()
        self._control.record.trace(
            leg, "verify", what="verified", hash=report.hash, expected=seen, seen=seen, subject=""
        )
        self._control.advance(leg.context, now)

    def _on_verify_failed(self, leg: Leg, report: orders.VerifyFailed, now: float) -> None:
        name = report.hash.upper()
        expected = ", ".join(f"{name} {octets.hex(':').upper()}" for octets in report.expected)
        seen = f"{name} {report.seen.hex(':').upper()}" if report.seen else ""
        fields: dict[str, object] = {"hash": report.hash, "expected": expected, "seen": seen, "subject": report.subject}
        self._control.record.trace(leg, "verify", what=report.what, **fields)
        if report.what == "missing" and self._was_nobody(leg):
            return
        leg.tcp, leg.tls = Tcp.DOWN, Tls.FAILED
        self._control.record.log("error", "the peer is not the one that was signalled", leg, what=report.what, **fields)
        self._control.fail(leg, MediaFailure("fingerprint-mismatch", report.text, expected, seen), now)

    # --- the relay and the end ---

    def _on_half_closed(self, leg: Leg, _report: orders.HalfClosed, _now: float) -> None:
        self._control.record.trace(leg, "tcp", what="half-closed", peer=address_text(leg.peer))

    def _on_inactive(self, leg: Leg, report: orders.Inactive, now: float) -> None:
        if leg.request.notify and leg.request.inactivity is not None:
            self._control.notify(leg, MediaFailure("inactive", f"no octets for {report.seconds:g} s"), now)

    def _on_counted(self, leg: Leg, report: orders.Counted, _now: float) -> None:
        leg.received, leg.sent = leg.before[0] + report.received, leg.before[1] + report.sent

    def _on_relay_ended(self, leg: Leg, report: orders.RelayEnded, now: float) -> None:
        context = leg.context
        for each in context.legs:
            if not each.spare:
                each.tcp = Tcp.DOWN
        context.relaying = False
        context.failed = "remote-closed"
        self._control.record.trace(
            leg, "tcp", what="closed" if report.orderly else "failed", peer=address_text(leg.peer), text=report.text
        )
        self._control.notify(leg, MediaFailure("remote-closed", report.text), now)

    def _on_released(self, leg: Leg, report: orders.Released, now: float) -> None:
        control, context = self._control, leg.context
        leg.received, leg.sent = leg.before[0] + report.received, leg.before[1] + report.sent
        self._give_place_back(leg, now)
        if len(context.legs) > 2:
            if context.relayed is not None and leg.id in context.relayed:
                context.relaying = False
                for each in context.legs:
                    if each is not leg and each.id in context.relayed and not report.kept:
                        each.tcp = Tcp.DOWN
        elif len(context.legs) == 2:
            # The survivor keeps its counters; nothing can be joined to it any more.
            context.relaying = False
            context.failed = context.failed or ("released" if context.relayed is not None else "")
        if control.record.tracing and context.relayed is not None and leg.id == context.relayed[0]:
            received, sent = leg.received - leg.before[0], leg.sent - leg.before[1]
            control.record.trace(
                leg, "bytes", a_to_c=received, c_to_a=sent, seconds=round(now - context.relay_since, 3)
            )
        if leg.request.remote is None:  # else both have ended with it
            control.held.end(leg.id)
            control.early.end(leg.id)
        if not leg.spare:
            control.joining.end(context.id)
        if control.identities.give_back(leg.identity):
            control.emit(orders.ForgetIdentity(leg.id, leg.identity))
        control.store.remove(leg)

    def _give_place_back(self, leg: Leg, now: float) -> None:
        """The port is free again when its last termination is gone."""
        legs, place = leg.context.legs, leg.place
        if len(legs) > 2:
            for each in legs:
                if each is not leg and each.place == place:
                    return
        self._control.ports.give_back(place, now)

    def _on_replaced(self, report: orders.Released, now: float) -> None:
        """The last word about a connection that was replaced: its octets count for the termination."""
        former = self._control.store.former.pop(report.leg)
        leg = former.leg
        leg.before = (leg.before[0] + report.received, leg.before[1] + report.sent)
        leg.received, leg.sent = leg.before
        if former.since is not None:
            seconds = round(now - former.since, 3)
            self._control.record.trace(leg, "bytes", a_to_c=report.received, c_to_a=report.sent, seconds=seconds)
