"""The life of legs: from the Add to the relay and to the end, by the reports of the executor.

Theory of operation. Every report changes one leg's state and is followed by :meth:`MediaControl.advance` on its
context, which orders whatever has become possible: dial the other side when one side was connected to (TCP proxy mode,
TS 23.334 5.16), start TLS when its role is known, join the legs when both are open. Nothing is joined before a TLS leg
is verified, so no plaintext passes before the peer is known.
"""

from collections.abc import Callable

from agw.core import orders
from agw.core.events import Command, Log, Trace
from agw.core.model import Context, Leg, Store, Tcp, Tls
from agw.core.orders import Report
from agw.core.plan import PortAllocator, check_mode, relay_of, same_address
from imswire.h248.errors import H248Error
from imswire.h248.iq import MediaFailure, StreamChange, StreamRequest

_TRIES = 16
"""Local ports that are tried when others are in use by somebody else."""


class MediaControl:
    """All legs of a worker. Commands go to ``emit``; failures go to ``notify`` (leg, failure)."""

    def __init__(
        self,
        gateway: str,
        store: Store,
        ports: PortAllocator,
        emit: Callable[[Command], None],
        notify: Callable[[Leg, MediaFailure, float], None],
        *,
        tracing: bool = False,
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._ports = ports
        self._emit = emit
        self._notify = notify
        self._tracing = tracing

    # --- what the controller orders ---

    def add(self, context: Context, request: StreamRequest, now: float) -> Leg:
        """Begin a termination; its Listening or ListenFailed report follows. Raises :class:`H248Error`."""
        check_mode(request.tcp_mode)
        for leg in context.legs:
            relay_of(request.tcp_mode, leg.request.tls, request.tls)
        place = self._ports.take(request.realm, request.family, request.local_address, request.local_port, now)
        leg = self._store.new_leg(context, request, place, now)
        self._listen(leg)
        return leg

    def modify(self, leg: Leg, change: StreamChange, now: float) -> None:
        """Apply a Modify and whatever follows from it. Raises :class:`H248Error`, then nothing has changed."""
        request = change.applied(leg.request)
        check_mode(request.tcp_mode)
        before = leg.request
        leg.request = request
        if leg.tcp is Tcp.UP and leg.incoming and not leg.context.relaying:
            self._recheck_source(leg)
        elif leg.tcp is Tcp.WAITING:
            self._adjust_listening(leg)
        new = request.remote.fingerprints if request.remote else ()
        old = before.remote.fingerprints if before.remote else ()
        if new and new != old and leg.tls in (Tls.HANDSHAKE, Tls.VERIFY):
            self._emit(orders.SetFingerprints(leg.id, new))
        self.advance(leg.context, now)

    def release(self, leg: Leg) -> None:
        """End a termination; its Released report follows."""
        if not leg.releasing:
            leg.releasing = True
            self._emit(orders.Release(leg.id))

    def count(self, leg: Leg) -> None:
        """Ask for the counters of a termination; its Counted report follows."""
        self._emit(orders.Count(leg.id))

    # --- listening ---

    def _listen(self, leg: Leg) -> None:
        leg.tried += 1
        self._emit(orders.Listen(leg.id, leg.place.address, leg.place.port, leg.filter))

    def _adjust_listening(self, leg: Leg) -> None:
        if not leg.may_accept and leg.request.setup == "active":
            if leg.listening:
                leg.listening = False
                self._emit(orders.StopListening(leg.id))
        elif leg.listening:
            self._emit(orders.SetFilter(leg.id, leg.filter))
        else:
            self._listen(leg)

    def _recheck_source(self, leg: Leg) -> None:
        """A connection that came before the remote address was known must be from there too (flow steps 11, 13)."""
        allowed = leg.filter
        if allowed.kind != "source" or allowed.admits(*leg.peer):
            return
        self._log("warning", "connection from another address than signalled", leg, peer=_text(leg.peer))
        self._trace(leg, "tcp", what="refused", peer=_text(leg.peer))
        self._emit(orders.Drop(leg.id))
        self._await_another(leg)

    def _await_another(self, leg: Leg) -> None:
        """The connection of a leg is gone and was nobody's: listen again."""
        leg.tcp, leg.incoming = Tcp.WAITING, False
        leg.tls = Tls.NONE if leg.request.tls else Tls.OPEN
        self._adjust_listening(leg)

    def _was_nobody(self, leg: Leg) -> bool:
        """A handshake failed that anybody may have begun, for the signalling has named no peer yet (flow step 12).

        Then only that connection is over: a port scan while UE B rings must not end the call.
        """
        if not leg.incoming or leg.request.remote is not None or leg.context.failed or leg.releasing:
            return False
        self._await_another(leg)
        return True

    # --- progress ---

    def advance(self, context: Context, now: float) -> None:
        """Order whatever has become possible in a context."""
        if context.failed:
            return
        for leg in context.legs:
            if leg.tcp is Tcp.UP and leg.tls is Tls.NONE:
                self._start_tls(leg)
        if len(context.legs) != 2 or context.relaying:
            return
        a, b = context.legs
        if a.releasing or b.releasing:
            return
        self._dial_if_due(a, b)
        self._dial_if_due(b, a)
        if a.ready and b.ready:
            first, second = (b, a) if b.request.tls and not a.request.tls else (a, b)
            context.relaying, context.relayed, context.relay_since = True, (first.id, second.id), now
            watched = [leg.request.inactivity for leg in (a, b) if leg.request.notify and leg.request.inactivity]
            self._emit(orders.StartRelay(first.id, second.id, float(min(watched)) if watched else None))

    def _start_tls(self, leg: Leg) -> None:
        role = leg.tls_role
        if role is None:
            return
        leg.tls = Tls.HANDSHAKE
        fingerprints = leg.request.remote.fingerprints if leg.request.remote else ()
        self._trace(leg, "tls", what=f"start-{role}")
        self._emit(orders.ArmTls(leg.id, "client" if role == "client" else "server", fingerprints or None))

    def _dial_if_due(self, leg: Leg, other: Leg) -> None:
        """An incoming connection on one side triggers the outgoing one on the other (TS 23.334 6.2.10.3.1)."""
        if leg.tcp is not Tcp.WAITING or not leg.may_dial or leg.request.remote is None:
            return
        triggered = other.tcp is Tcp.UP and other.incoming
        both_active = leg.request.setup == "active" and other.request.setup == "active"
        if not (triggered or both_active):
            return
        leg.tcp = Tcp.DIALLING
        leg.listening = False
        leg.peer = (leg.request.remote.address, leg.request.remote.port)
        self._trace(leg, "tcp", what="dialling", peer=_text(leg.peer))
        self._emit(orders.Dial(leg.id, leg.place.address, leg.place.port, *leg.peer))

    # --- what the executor reports ---

    def report(self, report: Report, now: float) -> Leg | None:
        """Take one report; returns its leg, unless the report is only for the record."""
        leg = self._store.legs.get(report.leg)
        if leg is None:
            if isinstance(report, (orders.Listening, orders.Accepted, orders.Connected)):
                self._emit(orders.Release(report.leg))
            return None
        match report:
            case orders.Listening():
                self._on_listening(leg, report, now)
            case orders.ListenFailed():
                self._on_listen_failed(leg, report, now)
            case orders.SynHeld():
                self._trace(leg, "tcp", what="syn-held", count=report.count)
            case orders.Accepted():
                self._on_accepted(leg, report, now)
            case orders.Connected():
                leg.tcp = Tcp.UP
                self._trace(leg, "tcp", what="connected", peer=_text(leg.peer))
                self.advance(leg.context, now)
            case orders.DialFailed():
                leg.tcp = Tcp.DOWN
                self._trace(leg, "tcp", what="failed", peer=_text(leg.peer), text=report.text)
                self._fail(leg, MediaFailure("tcp-failed", f"{_text(leg.peer)}: {report.text}"), now)
            case orders.HandshakeDone():
                leg.tls = Tls.VERIFY
                self._trace(leg, "tls", what="handshake", version=report.version, cipher=report.cipher)
                self._trace(leg, "verify", what="pending", hash="", expected="", seen="", subject="")
            case orders.TlsOpen():
                self._on_open(leg, report, now)
            case orders.VerifyFailed():
                self._on_verify_failed(leg, report, now)
            case orders.TlsFailed():
                self._trace(leg, "tls", what="alert", text=report.text)
                if not self._was_nobody(leg):
                    leg.tcp, leg.tls = Tcp.DOWN, Tls.FAILED
                    self._fail(leg, MediaFailure("tls-failed", report.text), now)
            case orders.HalfClosed():
                self._trace(leg, "tcp", what="half-closed", peer=_text(leg.peer))
            case orders.RelayEnded():
                self._on_relay_ended(leg, report, now)
            case orders.Inactive():
                if leg.request.notify and leg.request.inactivity is not None:
                    self._notify(leg, MediaFailure("inactive", f"no octets for {report.seconds:g} s"), now)
            case orders.Released() | orders.Counted():
                leg.received, leg.sent = report.received, report.sent
                if isinstance(report, orders.Released):
                    self._on_released(leg, now)
        return leg

    def _on_listening(self, leg: Leg, report: orders.Listening, now: float) -> None:
        first = leg.tcp is Tcp.STARTING
        leg.listening = True
        if first:
            leg.tcp = Tcp.WAITING
            if leg.place.port != report.port:
                place = leg.place
                leg.place = type(place)(place.realm, place.address, place.advertised, report.port, place.family)
            self._trace(leg, "tcp", what="listening", filter=leg.filter.kind)
            if leg.request.setup == "active":
                self._adjust_listening(leg)
        self.advance(leg.context, now)

    def _on_listen_failed(self, leg: Leg, report: orders.ListenFailed, now: float) -> None:
        """In the Add: another port, if that may help. Later: a failure of the leg."""
        if leg.tcp is not Tcp.STARTING:
            self._fail(leg, MediaFailure("tcp-failed", f"cannot listen: {report.text}"), now)
            return
        self._ports.give_back(leg.place, now)
        place = leg.place
        leg.tcp = Tcp.DOWN
        if not report.in_use or leg.tried >= _TRIES or leg.request.local_port is not None:
            return
        try:
            leg.place = self._ports.take(place.realm, place.family, place.address, None, now)
        except H248Error:
            return
        leg.tcp = Tcp.STARTING
        self._listen(leg)

    def _on_accepted(self, leg: Leg, report: orders.Accepted, now: float) -> None:
        leg.peer = (same_address(report.address), report.port)
        leg.listening = False
        if leg.context.failed or leg.tcp is not Tcp.WAITING:
            self._emit(orders.Drop(leg.id))
            return
        leg.tcp, leg.incoming = Tcp.UP, True
        self._trace(leg, "tcp", what="accepted", peer=_text(leg.peer))
        self._recheck_source(leg)
        self.advance(leg.context, now)

    def _on_open(self, leg: Leg, report: orders.TlsOpen, now: float) -> None:
        if leg.tls is Tls.HANDSHAKE:
            self._trace(leg, "tls", what="handshake", version=report.version, cipher=report.cipher)
        leg.tls = Tls.OPEN
        seen = report.seen.hex(":").upper()
        self._trace(leg, "verify", what="verified", hash=report.hash, expected=seen, seen=seen, subject="")
        self.advance(leg.context, now)

    def _on_verify_failed(self, leg: Leg, report: orders.VerifyFailed, now: float) -> None:
        name = report.hash.upper()
        expected = ", ".join(f"{name} {octets.hex(':').upper()}" for octets in report.expected)
        seen = f"{name} {report.seen.hex(':').upper()}" if report.seen else ""
        fields: dict[str, object] = {"hash": report.hash, "expected": expected, "seen": seen, "subject": report.subject}
        self._trace(leg, "verify", what=report.what, **fields)
        if report.what == "missing" and self._was_nobody(leg):
            return
        leg.tcp, leg.tls = Tcp.DOWN, Tls.FAILED
        self._log("error", "the peer is not the one that was signalled", leg, what=report.what, **fields)
        self._fail(leg, MediaFailure("fingerprint-mismatch", report.text, expected, seen), now)

    def _on_relay_ended(self, leg: Leg, report: orders.RelayEnded, now: float) -> None:
        context = leg.context
        for each in context.legs:
            each.tcp = Tcp.DOWN
        context.relaying = False
        context.failed = True
        self._trace(leg, "tcp", what="closed" if report.orderly else "failed", peer=_text(leg.peer), text=report.text)
        self._notify(leg, MediaFailure("remote-closed", report.text), now)

    def _on_released(self, leg: Leg, now: float) -> None:
        self._ports.give_back(leg.place, now)
        context = leg.context
        other = leg.other
        if other is not None:
            # The survivor keeps its counters; nothing can be joined to it any more.
            context.relaying = False
            context.failed = context.failed or context.relayed is not None
        if self._tracing and context.relayed is not None and leg.id == context.relayed[0]:
            self._trace(leg, "bytes", a_to_c=leg.received, c_to_a=leg.sent, seconds=round(now - context.relay_since, 3))
        self._store.remove(leg)

    def _fail(self, leg: Leg, failure: MediaFailure, now: float) -> None:
        """One leg failed: the other one is closed too, and the controller is told."""
        other = leg.other
        leg.context.failed = True
        if other is not None and not other.releasing:
            if other.listening:
                other.listening = False
                self._emit(orders.StopListening(other.id))
            elif other.tcp in (Tcp.UP, Tcp.DIALLING):
                other.tcp = Tcp.DOWN
                self._emit(orders.Drop(other.id))
        if failure.kind != "fingerprint-mismatch":
            self._log("warning", "media failed", leg, kind=failure.kind, text=failure.text)
        self._notify(leg, failure, now)

    # --- for the record ---

    def _trace(self, leg: Leg, kind: str, **fields: object) -> None:
        if not self._tracing:
            return
        self._emit(
            Trace(
                kind,
                {
                    "gateway": self._gateway,
                    "context": leg.context.id,
                    "termination": leg.name,
                    "realm": leg.request.realm,
                    "local": _text((leg.place.advertised, leg.place.port)),
                    **fields,
                },
            )
        )

    def _log(self, level: str, event: str, leg: Leg, **fields: object) -> None:
        self._emit(Log(level, event, {"context": leg.context.id, "termination": leg.name, **fields}))


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
