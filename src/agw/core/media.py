"""The life of legs: from the Add to the relay and to the end, by the reports of the executor.

Theory of operation. Every report changes one leg's state and is followed by :meth:`MediaControl.advance` on its
context, which orders whatever has become possible: dial the other side when one side was connected to (TCP proxy mode,
TS 23.334 5.16), start TLS when its role is known, join the legs when both are open. Nothing is joined before a TLS leg
is verified, so no plaintext passes before the peer is known.
"""

import ipaddress
from collections.abc import Callable

from msgspec.structs import replace as changed

from agw.core import orders
from agw.core.events import Command
from agw.core.forks import sibling
from agw.core.identities import IdentityBook
from agw.core.model import Context, Leg, Store, Tcp, Tls
from agw.core.orders import Report
from agw.core.plan import PortAllocator, check_pair, check_request, same_address
from agw.core.record import Record, address_text
from agw.core.waits import Waits
from agw.settings import Settings
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
        identities: IdentityBook,
        settings: Settings,
        emit: Callable[[Command], None],
        notify: Callable[[Leg, MediaFailure, float], None],
        *,
        tracing: bool = False,
    ) -> None:
        self._store = store
        self._ports = ports
        self._identities = identities
        self._realms = settings.realm
        self._key_log = tuple(ipaddress.ip_network(text) for text in settings.tls.key_log_peers)
        self._emit = emit
        self._notify = notify
        self._record = Record(gateway, emit, tracing=tracing)
        self._held = Waits(settings.timers.syn_held)
        """Legs whose SYNs meet silence."""
        self._joining = Waits(settings.timers.join)
        """Contexts of which one side is up."""

    # --- what the controller orders ---

    def add(self, context: Context, request: StreamRequest, now: float) -> Leg:
        """Begin a termination; its Listening or ListenFailed report follows. Raises :class:`H248Error`."""
        realm = self._realms.get(request.realm)
        check_request(request, realm)
        for leg in context.legs:
            check_pair(leg.request, request)
        beside = sibling(context, request)
        identity = self._identities.current(request.realm)
        wanted = request.fingerprint_hash
        if wanted is not None and wanted.lower() not in identity.fingerprints:
            raise H248Error(449, f"fingerprint hash cannot be {wanted[:40]}")
        place = (
            beside.place
            if beside is not None
            else self._ports.take(request.realm, request.family, request.local_address, request.local_port, now)
        )
        leg = self._store.new_leg(context, request, place, now)
        leg.identity, leg.fingerprints = identity.number, identity.fingerprints
        self._identities.take(leg.identity)
        if request.tls and realm is not None and realm.certificate_per_session:
            self._emit(orders.MakeIdentity(leg.id))
        if leg.held:
            self._held.begin(leg.id, now)
        self._listen(leg, beside)
        return leg

    def modify(self, leg: Leg, change: StreamChange, now: float) -> None:
        """Apply a Modify; :meth:`advance` orders what follows. Raises :class:`H248Error`, then nothing has changed."""
        request = change.applied(leg.request)
        check_request(request, self._realms.get(request.realm))
        if leg.other is not None:
            check_pair(leg.other.request, request)
        before, spare = leg.request, leg.spare
        leg.request = request
        if spare and not leg.spare:
            leg.context.rechosen = True
        if not leg.held:
            self._held.end(leg.id)
        if change.reconnect:
            self._reconnect(leg.context)
            return
        if leg.tcp is Tcp.UP and leg.incoming and not leg.context.relaying:
            self._recheck_source(leg)
        elif leg.tcp is Tcp.WAITING and (leg.spare or not leg.context.failed):
            self._set_filter(leg)
        new = request.remote.fingerprints if request.remote else ()
        old = before.remote.fingerprints if before.remote else ()
        if new and new != old and leg.tls in (Tls.HANDSHAKE, Tls.VERIFY):
            self._emit(orders.SetFingerprints(leg.id, new))

    def _reconnect(self, context: Context) -> None:
        """End the connections of a context in order; it is then as after its Adds, with what was signalled since."""
        legs = [leg for leg in context.legs if not leg.releasing and not leg.spare]
        for leg in legs:
            self._emit(orders.Release(self._store.renew(leg), leg.id))
        context.relaying, context.relayed, context.failed = False, None, ""
        self._joining.end(context.id)
        for leg in legs:
            self._begin_anew(leg, "a new connection was ordered")

    def _begin_anew(self, leg: Leg, text: str) -> None:
        self._record.trace(leg, "tcp", what="closed", peer=address_text(leg.peer), text=text)
        leg.tcp = Tcp.WAITING
        leg.forget_connection()
        self._set_filter(leg)

    def _rechoose(self, context: Context, now: float) -> None:
        """Another termination is to be joined. Connections that can be used for it stay, others begin anew: one that
        has carried octets of the former peer, one that is over, and one that the wrong end has made."""
        pair = [leg for leg in context.legs if not leg.spare]
        if len(pair) != 2 or any(leg.releasing for leg in context.legs):
            return
        context.rechosen = False
        over = [leg for leg in pair if leg.tcp is Tcp.DOWN or (leg.tcp in (Tcp.UP, Tcp.DIALLING) and not leg.fits)]
        for leg in over:
            self._emit(orders.Release(self._store.renew(leg), leg.id))
        context.relaying, context.relayed, context.failed = False, None, ""
        self._joining.end(context.id)
        for leg in pair:
            if leg in over:
                self._begin_anew(leg, "another answer was chosen")
            elif leg.tcp is Tcp.WAITING:
                self._set_filter(leg)
        if any(leg.tcp is Tcp.UP for leg in pair):
            self._joining.begin(context.id, now)

    def release(self, leg: Leg) -> None:
        """End a termination; its Released report follows."""
        if not leg.releasing:
            leg.releasing = True
            self._emit(orders.Release(leg.id, keep=len(leg.context.legs) > 2))

    def count(self, leg: Leg) -> None:
        """Ask for the counters of a termination; its Counted report follows."""
        self._emit(orders.Count(leg.id))

    # --- time ---

    def next_timer(self) -> float | None:
        return min((t for t in (self._held.next_timer(), self._joining.next_timer()) if t is not None), default=None)

    def expire(self, now: float) -> None:
        """Give up what has waited too long."""
        for number in self._held.due(now):
            leg = self._store.legs.get(number)
            if leg is not None and leg.held and leg.tcp is Tcp.WAITING and not leg.context.failed:
                wait = f"no remote address within {self._held.seconds:g} s"
                self._fail(leg, MediaFailure("tcp-failed", wait), now)
        for number in self._joining.due(now):
            context = self._store.contexts.get(number)
            if context is None or context.failed or context.relaying:
                continue
            pair = [leg for leg in context.legs if not leg.spare]
            late = next((leg for leg in pair if not leg.ready), None) or next(iter(pair), None)
            if late is not None:
                tls = late.tcp is Tcp.UP and late.tls is not Tls.OPEN
                text = f"{'TLS' if tls else 'connection'} not up {self._joining.seconds:g} s after the first connection"
                self._fail(late, MediaFailure("tls-failed" if tls else "tcp-failed", text), now)

    # --- listening ---

    def _listen(self, leg: Leg, beside: Leg | None = None) -> None:
        leg.tried += 1
        shared = beside.id if beside is not None else None
        self._emit(orders.Listen(leg.id, leg.place.address, leg.place.port, leg.filter, shared))

    def _set_filter(self, leg: Leg) -> None:
        self._emit(orders.SetFilter(leg.id, leg.filter))

    def _recheck_source(self, leg: Leg) -> None:
        """A connection that came before the remote address was known must be from there too (flow steps 11, 13)."""
        allowed = leg.filter
        if allowed.kind != "source" or allowed.admits(*leg.peer):
            return
        self._record.log("warning", "connection from another address than signalled", leg, peer=address_text(leg.peer))
        self._record.trace(leg, "tcp", what="refused", peer=address_text(leg.peer))
        self._emit(orders.Drop(leg.id))
        self._await_another(leg)

    def _await_another(self, leg: Leg) -> None:
        """The connection of a leg is gone and was nobody's: another one may come."""
        leg.tcp = Tcp.WAITING
        leg.forget_connection()
        if not any(each.tcp is Tcp.UP for each in leg.context.legs):
            self._joining.end(leg.context.id)
        self._set_filter(leg)

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
        if context.rechosen:
            self._rechoose(context, now)
        if context.failed:
            return
        legs = context.legs
        for leg in legs:
            if leg.tcp is Tcp.UP and leg.tls is Tls.NONE:
                self._start_tls(leg)
        if len(legs) > 2:
            legs = self._chosen(context)
        if len(legs) != 2 or context.relaying:
            return
        a, b = legs
        if a.releasing or b.releasing:
            return
        self._dial_if_due(a, b)
        self._dial_if_due(b, a)
        if a.ready and b.ready:
            self._join(*((b, a) if b.request.tls and not a.request.tls else (a, b)), now)

    def _chosen(self, context: Context) -> list[Leg]:
        """The terminations that are to be joined; the others are connected, so that each may become one of them."""
        for leg in context.legs:
            if leg.spare and not leg.releasing and (other := leg.other) is not None:
                self._dial_if_due(leg, other)
        return [leg for leg in context.legs if not leg.spare]

    def _join(self, first: Leg, second: Leg, now: float) -> None:
        rewrite = None
        # The session id that the answerer's path brings comes with the answer, so one side may still lack its own.
        if first.request.local_session is not None or second.request.local_session is not None:
            there, back = first.swap_to(second), second.swap_to(first)
            if there is None or back is None:
                return  # the paths of the answer are still to come; what was sent early waits
            rewrite = (there, back)
        context = first.context
        self._joining.end(context.id)
        context.relaying, context.relayed, context.relay_since = True, (first.id, second.id), now
        watched = [leg.request.inactivity for leg in (first, second) if leg.request.notify and leg.request.inactivity]
        inactivity = float(min(watched)) if watched else None
        self._emit(orders.StartRelay(first.id, second.id, inactivity, rewrite))

    def _start_tls(self, leg: Leg) -> None:
        role = leg.tls_role
        if role is None:
            return
        leg.tls = Tls.HANDSHAKE
        fingerprints = leg.request.remote.fingerprints if leg.request.remote else ()
        self._record.trace(leg, "tls", what=f"start-{role}")
        log_keys = bool(self._key_log) and any(_within(leg.peer[0], network) for network in self._key_log)
        if log_keys:
            self._record.log(
                "warning", "the secrets of this TLS session are being logged", leg, peer=address_text(leg.peer)
            )
        self._emit(
            orders.ArmTls(
                leg.id, "client" if role == "client" else "server", fingerprints or None, leg.identity, log_keys
            )
        )

    def _dial_if_due(self, leg: Leg, other: Leg) -> None:
        """An incoming connection on one side triggers the outgoing one on the other (TS 23.334 6.2.10.3.1).

        Where both sides are to be active, and in merge mode (5.16.2.3), nothing has to be waited for.
        """
        if leg.tcp is not Tcp.WAITING or not leg.may_dial or leg.request.remote is None:
            return
        triggered = other.tcp is Tcp.UP and other.incoming
        both_active = leg.request.setup == "active" and other.request.setup == "active" and not leg.spare
        if not (triggered or both_active or leg.request.tcp_mode == "merge"):
            return
        leg.tcp = Tcp.DIALLING
        leg.peer = (leg.request.remote.address, leg.request.remote.port)
        self._record.trace(leg, "tcp", what="dialling", peer=address_text(leg.peer))
        self._emit(orders.Dial(leg.id, leg.place.address, leg.place.port, *leg.peer))

    # --- what the executor reports ---

    def report(self, report: Report, now: float) -> Leg | None:
        """Take one report; returns its leg, unless the report is only for the record."""
        leg = self._store.legs.get(report.leg)
        if leg is None:
            if isinstance(report, orders.Released) and report.leg in self._store.former:
                self._on_replaced(report, now)
            elif isinstance(report, orders.IdentityMade):
                self._emit(orders.ForgetIdentity(report.leg, report.identity))
            elif isinstance(report, (orders.Listening, orders.Accepted, orders.Connected)):
                self._emit(orders.Release(report.leg))
            return None
        match report:
            case orders.Listening():
                self._on_listening(leg, report, now)
            case orders.ListenFailed():
                self._on_listen_failed(leg, report, now)
            case orders.IdentityMade():
                self._give_identity_back(leg)
                leg.identity, leg.fingerprints = report.identity, dict(report.fingerprints)
                self._identities.take(leg.identity)
            case orders.SynHeld():
                leg.syns = report.count
                self._record.trace(leg, "tcp", what="syn-held", count=report.count)
            case orders.Accepted():
                self._on_accepted(leg, report, now)
            case orders.Connected():
                self._on_connected(leg, now)
            case orders.DialFailed():
                leg.tcp = Tcp.DOWN
                self._record.trace(leg, "tcp", what="failed", peer=address_text(leg.peer), text=report.text)
                self._fail(leg, MediaFailure("tcp-failed", f"{address_text(leg.peer)}: {report.text}"), now)
            case orders.HandshakeDone():
                leg.tls = Tls.VERIFY
                leg.tls_version, leg.cipher = report.version, report.cipher
                self._record.trace(leg, "tls", what="handshake", version=report.version, cipher=report.cipher)
                self._record.trace(leg, "verify", what="pending", hash="", expected="", seen="", subject="")
            case orders.TlsOpen():
                self._on_open(leg, report, now)
            case orders.VerifyFailed():
                self._on_verify_failed(leg, report, now)
            case orders.TlsFailed():
                self._record.trace(leg, "tls", what="alert", text=report.text)
                if not self._was_nobody(leg):
                    leg.tcp, leg.tls = Tcp.DOWN, Tls.FAILED
                    self._fail(leg, MediaFailure("tls-failed", report.text), now)
            case orders.HalfClosed():
                self._record.trace(leg, "tcp", what="half-closed", peer=address_text(leg.peer))
            case orders.RelayEnded():
                self._on_relay_ended(leg, report, now)
            case orders.Inactive():
                if leg.request.notify and leg.request.inactivity is not None:
                    self._notify(leg, MediaFailure("inactive", f"no octets for {report.seconds:g} s"), now)
            case orders.Released() | orders.Counted():
                leg.received, leg.sent = leg.before[0] + report.received, leg.before[1] + report.sent
                if isinstance(report, orders.Released):
                    self._on_released(leg, now, kept=report.kept)
        return leg

    def _on_connected(self, leg: Leg, now: float) -> None:
        if leg.tcp is not Tcp.DIALLING:  # it was given up meanwhile
            self._emit(orders.Drop(leg.id))
            return
        leg.tcp = Tcp.UP
        self._record.trace(leg, "tcp", what="connected", peer=address_text(leg.peer))
        if not leg.spare:
            self._joining.begin(leg.context.id, now)
        self.advance(leg.context, now)

    def _on_listening(self, leg: Leg, report: orders.Listening, now: float) -> None:
        if leg.tcp is Tcp.STARTING:
            leg.tcp = Tcp.WAITING
            if leg.place.port != report.port:
                leg.place = changed(leg.place, port=report.port)
            self._record.trace(leg, "tcp", what="listening", filter=leg.filter.kind)
            if leg.context.failed:
                self._set_filter(leg)
        self.advance(leg.context, now)

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
            leg.place = self._ports.take(place.realm, place.family, place.address, None, now)
        except H248Error:
            return
        leg.tcp = Tcp.STARTING
        self._listen(leg)

    def _on_accepted(self, leg: Leg, report: orders.Accepted, now: float) -> None:
        leg.peer = (same_address(report.address), report.port)
        if (leg.context.failed and not leg.spare) or leg.tcp is not Tcp.WAITING:
            self._emit(orders.Drop(leg.id))
            return
        leg.tcp, leg.incoming = Tcp.UP, True
        self._record.trace(leg, "tcp", what="accepted", peer=address_text(leg.peer))
        if not leg.spare:
            self._joining.begin(leg.context.id, now)
        self._recheck_source(leg)
        self.advance(leg.context, now)

    def _on_open(self, leg: Leg, report: orders.TlsOpen, now: float) -> None:
        if leg.tls is Tls.HANDSHAKE:
            self._record.trace(leg, "tls", what="handshake", version=report.version, cipher=report.cipher)
        leg.tls = Tls.OPEN
        leg.tls_version, leg.cipher, leg.verified = report.version, report.cipher, report.hash
        seen = report.seen.hex(":").upper()
        self._record.trace(leg, "verify", what="verified", hash=report.hash, expected=seen, seen=seen, subject="")
        self.advance(leg.context, now)

    def _on_verify_failed(self, leg: Leg, report: orders.VerifyFailed, now: float) -> None:
        name = report.hash.upper()
        expected = ", ".join(f"{name} {octets.hex(':').upper()}" for octets in report.expected)
        seen = f"{name} {report.seen.hex(':').upper()}" if report.seen else ""
        fields: dict[str, object] = {"hash": report.hash, "expected": expected, "seen": seen, "subject": report.subject}
        self._record.trace(leg, "verify", what=report.what, **fields)
        if report.what == "missing" and self._was_nobody(leg):
            return
        leg.tcp, leg.tls = Tcp.DOWN, Tls.FAILED
        self._record.log("error", "the peer is not the one that was signalled", leg, what=report.what, **fields)
        self._fail(leg, MediaFailure("fingerprint-mismatch", report.text, expected, seen), now)

    def _on_relay_ended(self, leg: Leg, report: orders.RelayEnded, now: float) -> None:
        context = leg.context
        for each in context.legs:
            if not each.spare:
                each.tcp = Tcp.DOWN
        context.relaying = False
        context.failed = "remote-closed"
        self._record.trace(
            leg, "tcp", what="closed" if report.orderly else "failed", peer=address_text(leg.peer), text=report.text
        )
        self._notify(leg, MediaFailure("remote-closed", report.text), now)

    def _on_released(self, leg: Leg, now: float, *, kept: bool) -> None:
        self._give_place_back(leg, now)
        context = leg.context
        if len(context.legs) > 2:
            if context.relayed is not None and leg.id in context.relayed:
                context.relaying = False
                for each in context.legs:
                    if each is not leg and each.id in context.relayed and not kept:
                        each.tcp = Tcp.DOWN
        elif len(context.legs) == 2:
            # The survivor keeps its counters; nothing can be joined to it any more.
            context.relaying = False
            context.failed = context.failed or ("released" if context.relayed is not None else "")
        if self._record.tracing and context.relayed is not None and leg.id == context.relayed[0]:
            received, sent = leg.received - leg.before[0], leg.sent - leg.before[1]
            self._record.trace(leg, "bytes", a_to_c=received, c_to_a=sent, seconds=round(now - context.relay_since, 3))
        self._held.end(leg.id)
        if not leg.spare:
            self._joining.end(context.id)
        self._give_identity_back(leg)
        self._store.remove(leg)

    def _give_place_back(self, leg: Leg, now: float) -> None:
        """The port is free again when its last termination is gone."""
        if not any(each is not leg and each.place == leg.place for each in leg.context.legs):
            self._ports.give_back(leg.place, now)

    def _on_replaced(self, report: orders.Released, now: float) -> None:
        """The last word about a connection that was replaced: its octets count for the termination."""
        former = self._store.former.pop(report.leg)
        leg = former.leg
        leg.before = (leg.before[0] + report.received, leg.before[1] + report.sent)
        leg.received, leg.sent = leg.before
        if former.since is not None:
            seconds = round(now - former.since, 3)
            self._record.trace(leg, "bytes", a_to_c=report.received, c_to_a=report.sent, seconds=seconds)

    def _give_identity_back(self, leg: Leg) -> None:
        if self._identities.give_back(leg.identity):
            self._emit(orders.ForgetIdentity(leg.id, leg.identity))

    def _fail(self, leg: Leg, failure: MediaFailure, now: float) -> None:
        """One leg failed: both are closed, and the controller is told. One that is not to be joined is tried again when
        it is."""
        context = leg.context
        if leg.spare:
            leg.tcp = Tcp.DOWN
            self._record.log("info", "no connection for another answer yet", leg, kind=failure.kind, text=failure.text)
            return
        context.failed = failure.kind
        self._joining.end(context.id)
        for each in context.legs:
            if each.releasing or each.spare:
                continue
            if each.tcp is Tcp.WAITING:
                self._set_filter(each)
            elif each.tcp in (Tcp.UP, Tcp.DIALLING):
                self._emit(orders.Drop(each.id))
                each.tcp = Tcp.DOWN
        if failure.kind != "fingerprint-mismatch":
            self._record.log("warning", "media failed", leg, kind=failure.kind, text=failure.text)
        self._notify(leg, failure, now)


def _within(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(address) in network
