"""The life of legs: from the Add to the relay and to the end, by the reports of the executor.

Theory of operation. Every report (:mod:`agw.core.media_reports`) changes one leg's state and is followed by
:meth:`MediaControl.advance` on its context, which orders whatever has become possible: dial the other side when one
side was connected to (TCP proxy mode, TS 23.334 5.16), start TLS when its role is known, join the legs when both are
open. Nothing is joined before a TLS leg is verified, so no plaintext passes before the peer is known, and nothing
before the signalling has said who may be at the other end of a connection that came in.
"""

import ipaddress
from collections.abc import Callable

from agw.core import orders
from agw.core.events import Command
from agw.core.forks import sibling
from agw.core.identities import IdentityBook
from agw.core.model import Context, Leg, Store, Tcp, Tls
from agw.core.plan import PortAllocator, check_pair, check_request
from agw.core.record import Record, address_text
from agw.core.waits import Waits
from agw.settings import Settings
from imswire.h248.errors import H248Error
from imswire.h248.iq import MediaFailure, StreamChange, StreamRequest


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
        self.store = store
        self.ports = ports
        self.identities = identities
        self._realms = settings.realm
        self._key_log_file = settings.tls.key_log or ""
        self._key_log = tuple(ipaddress.ip_network(text) for text in settings.tls.key_log_peers)
        self.emit = emit
        self.notify = notify
        self.record = Record(gateway, emit, tracing=tracing)
        self.held = Waits(settings.timers.syn_held)
        """Legs whose SYNs meet silence."""
        self.joining = Waits(settings.timers.join)
        """Contexts of which one side is up."""
        self.early = Waits(settings.timers.early)
        """Legs with a connection of which nobody knows yet whose it is."""
        self._held, self._joining, self._early = self.held.until, self.joining.until, self.early.until

    # --- what the controller orders ---

    def add(self, context: Context, request: StreamRequest, now: float) -> Leg:
        """Begin a termination; its Listening or ListenFailed report follows. Raises :class:`H248Error`."""
        realm = self._realms.get(request.realm)
        check_request(request, realm)
        beside = None
        if context.legs:
            for leg in context.legs:
                check_pair(leg.request, request)
            if len(context.legs) > 1:
                beside = sibling(context, request)
        identity = self.identities.current(request.realm)
        wanted = request.fingerprint_hash
        if wanted is not None and wanted.lower() not in identity.fingerprints:
            raise H248Error(449, f"fingerprint hash cannot be {wanted[:40]}")
        place = (
            beside.place
            if beside is not None
            else self.ports.take(request.realm, request.family, request.local_address, request.local_port, now)
        )
        leg = self.store.new_leg(context, request, place, now)
        leg.identity, leg.fingerprints = identity.number, identity.fingerprints
        self.identities.take(leg.identity)
        if leg.secured and realm is not None and realm.certificate_per_session:
            self.emit(orders.MakeIdentity(leg.id, request.realm))
        if request.ignore_syn and leg.held:
            self.held.begin(leg.id, now)
        self.listen(leg, beside)
        return leg

    def modify(self, leg: Leg, change: StreamChange, now: float) -> None:
        """Apply a Modify; :meth:`advance` orders what follows. Raises :class:`H248Error`, then nothing has changed."""
        before, spare = leg.request, leg.spare
        request = change.applied(before)
        check_request(request, self._realms.get(request.realm))
        if change.tcp_mode is not None and leg.other is not None:
            check_pair(leg.other.request, request)
        leg.request = request
        if spare and not leg.spare:
            leg.context.rechosen = True
        if before.remote is None:  # else nothing has waited for it
            if request.remote is not None or not request.ignore_syn:
                self.held.end(leg.id)
            if request.remote is not None:
                self.early.end(leg.id)
        if change.reconnect:
            self._reconnect(leg.context)
        elif leg.tcp is Tcp.WAITING:
            # Where it is the one that was ordered last there is nothing to be told.
            if leg.ordered != (filter := leg.filter) and (not leg.context.failed or leg.spare):
                leg.ordered = filter
                self.emit(orders.SetFilter(leg.id, filter))
        elif leg.tcp is Tcp.UP:
            self._modify_connected(leg, before)

    def _modify_connected(self, leg: Leg, before: StreamRequest) -> None:
        if leg.incoming and not leg.context.relaying:
            self.recheck_source(leg)
        remote = leg.request.remote
        new = remote.fingerprints if remote else ()
        old = before.remote.fingerprints if before.remote else ()
        if new and new != old and leg.tls in (Tls.HANDSHAKE, Tls.VERIFY):
            self.emit(orders.SetFingerprints(leg.id, new))

    def _reconnect(self, context: Context) -> None:
        """End the connections of a context in order; it is then as after its Adds, with what was signalled since."""
        legs = [leg for leg in context.legs if not leg.releasing and not leg.spare]
        for leg in legs:
            self.emit(orders.Release(self.store.renew(leg), leg.id))
        context.relaying, context.relayed, context.failed = False, None, ""
        self.joining.end(context.id)
        for leg in legs:
            self._begin_anew(leg, "a new connection was ordered")

    def _begin_anew(self, leg: Leg, text: str) -> None:
        self.record.trace(leg, "tcp", what="closed", peer=address_text(leg.peer), text=text)
        leg.tcp = Tcp.WAITING
        leg.forget_connection()
        self.set_filter(leg)

    def _rechoose(self, context: Context, now: float) -> None:
        """Another termination is to be joined. Connections that can be used for it stay, others begin anew: one that
        has carried octets of the former peer, one that is over, and one that the wrong end has made."""
        pair = [leg for leg in context.legs if not leg.spare]
        if len(pair) != 2 or any(leg.releasing for leg in context.legs):
            return
        context.rechosen = False
        over = [leg for leg in pair if leg.tcp is Tcp.DOWN or (leg.tcp in (Tcp.UP, Tcp.DIALLING) and not leg.fits)]
        for leg in over:
            self.emit(orders.Release(self.store.renew(leg), leg.id))
        context.relaying, context.relayed, context.failed = False, None, ""
        self.joining.end(context.id)
        for leg in pair:
            if leg in over:
                self._begin_anew(leg, "another answer was chosen")
            elif leg.tcp is Tcp.WAITING:
                self.set_filter(leg)
        if any(leg.tcp is Tcp.UP for leg in pair):
            self.joining.begin(context.id, now)

    def release(self, leg: Leg) -> None:
        """End a termination; its Released report follows."""
        if not leg.releasing:
            leg.releasing = True
            self.emit(orders.Release(leg.id, None, len(leg.context.legs) > 2))

    def abandon(self, leg: Leg) -> None:
        """A termination that was not made, for want of a port: nothing of it stays. One that is being released, or was,
        is left to that."""
        if leg.releasing or leg.id not in self.store.legs:
            return
        self.held.end(leg.id)
        self.give_identity_back(leg)
        self.store.remove(leg)
        self.emit(orders.Release(leg.id))  # what the executor keeps of it; its report is of nobody

    def give_identity_back(self, leg: Leg) -> None:
        """The termination shows its certificate no more."""
        if self.identities.give_back(leg.identity):
            self.emit(orders.ForgetIdentity(leg.id, leg.identity))

    def count(self, leg: Leg) -> None:
        """Ask for the counters of a termination; its Counted report follows."""
        self.emit(orders.Count(leg.id))

    # --- time ---

    def next_timer(self) -> float | None:
        if not (self._early or self._held or self._joining):  # as it mostly is
            return None
        due = self.held.next_timer()
        for other in (self.joining.next_timer(), self.early.next_timer()):
            if other is not None and (due is None or other < due):
                due = other
        return due

    def expire(self, now: float) -> None:
        """Give up what has waited too long."""
        if not (self._early or self._held or self._joining):
            return
        for number in self.early.due(now):
            leg = self.store.legs.get(number)
            if leg is not None and leg.nobodys and not leg.secured:
                self.emit(orders.DropSilent(number))
        for number in self.held.due(now):
            leg = self.store.legs.get(number)
            if leg is not None and leg.held and leg.tcp is Tcp.WAITING and not leg.context.failed:
                wait = f"no remote address within {self.held.seconds:g} s"
                self.fail(leg, MediaFailure("tcp-failed", wait), now)
        for number in self.joining.due(now):
            context = self.store.contexts.get(number)
            if context is None or context.failed or context.relaying:
                continue
            pair = [leg for leg in context.legs if not leg.spare]
            late = next((leg for leg in pair if not leg.ready), None) or next(iter(pair), None)
            if late is not None:
                tls = late.tcp is Tcp.UP and late.tls is not Tls.OPEN
                text = f"{'TLS' if tls else 'connection'} not up {self.joining.seconds:g} s after the first connection"
                self.fail(late, MediaFailure("tls-failed" if tls else "tcp-failed", text), now)

    # --- listening ---

    def listen(self, leg: Leg, beside: Leg | None = None) -> None:
        leg.tried += 1
        leg.ordered = filter = leg.filter
        shared = beside.id if beside is not None else None
        self.emit(orders.Listen(leg.id, leg.place.address, leg.place.port, filter, shared))

    def set_filter(self, leg: Leg) -> None:
        leg.ordered = filter = leg.filter
        self.emit(orders.SetFilter(leg.id, filter))

    def recheck_source(self, leg: Leg) -> None:
        """A connection that came before the remote address was known must be from there too (flow steps 11, 13)."""
        allowed = leg.filter
        if allowed.kind != "source" or allowed.admits(*leg.peer):
            return
        self.record.log("warning", "connection from another address than signalled", leg, peer=address_text(leg.peer))
        self.record.trace(leg, "tcp", what="refused", peer=address_text(leg.peer))
        self.emit(orders.Drop(leg.id))
        self.await_another(leg)

    def await_another(self, leg: Leg) -> None:
        """The connection of a leg is gone and was nobody's: another one may come."""
        leg.tcp = Tcp.WAITING
        leg.forget_connection()
        self.early.end(leg.id)
        if not any(each.tcp is Tcp.UP for each in leg.context.legs):
            self.joining.end(leg.context.id)
        self.set_filter(leg)

    # --- progress ---

    def advance(self, context: Context, now: float) -> None:
        """Order whatever has become possible in a context."""
        if context.rechosen:
            self._rechoose(context, now)
        if context.failed:
            return
        legs, up = context.legs, False
        for leg in legs:
            if leg.tcp is Tcp.UP:
                up = True
                if leg.tls is Tls.NONE:
                    self._start_tls(leg)
        if len(legs) > 2:
            legs = self._chosen(context)
        if len(legs) != 2 or context.relaying:
            return
        a, b = legs
        if (up or _may_begin(a.request, b.request)) and not (a.releasing or b.releasing):
            self._connect(a, b, now)

    def _connect(self, a: Leg, b: Leg, now: float) -> None:
        """Dial where that is due, and join two legs that are ready."""
        self._dial_if_due(a, b)
        self._dial_if_due(b, a)
        if a.ready and b.ready and not a.nobodys and not b.nobodys:
            self._join(*((b, a) if b.secured and not a.secured else (a, b)), now)

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
        self.joining.end(context.id)
        context.relaying, context.relayed, context.relay_since = True, (first.id, second.id), now
        watched = [leg.request.inactivity for leg in (first, second) if leg.request.notify and leg.request.inactivity]
        inactivity = float(min(watched)) if watched else None
        self.emit(orders.StartRelay(first.id, second.id, inactivity, rewrite))

    def _start_tls(self, leg: Leg) -> None:
        role = leg.tls_role
        if role is None:
            return
        leg.tls = Tls.HANDSHAKE
        fingerprints = leg.request.remote.fingerprints if leg.request.remote else ()
        self.record.trace(leg, "tls", what=f"start-{role}")
        named = bool(self._key_log) and any(_within(leg.peer[0], network) for network in self._key_log)
        key_log = leg.context.key_log or (self._key_log_file if named else "")
        if key_log:
            self.record.log(
                "warning", "the secrets of this TLS session are being logged", leg, peer=address_text(leg.peer)
            )
        self.emit(
            orders.ArmTls(
                leg.id, "client" if role == "client" else "server", fingerprints or None, leg.identity, key_log
            )
        )

    def _dial_if_due(self, leg: Leg, other: Leg) -> None:
        """An incoming connection on one side triggers the outgoing one on the other (TS 23.334 6.2.10.3.1).

        Where both sides are to be active, and in merge mode (5.16.2.3), nothing has to be waited for.
        """
        request = leg.request
        if leg.tcp is not Tcp.WAITING or request.remote is None or not leg.may_dial:
            return
        triggered = other.incoming and other.tcp is Tcp.UP
        both_active = request.setup == "active" and other.request.setup == "active" and not leg.spare
        if not (triggered or both_active or request.tcp_mode == "merge"):
            return
        leg.tcp = Tcp.DIALLING
        leg.peer = (request.remote.address, request.remote.port)
        self.record.trace(leg, "tcp", what="dialling", peer=address_text(leg.peer))
        self.emit(orders.Dial(leg.id, leg.place.address, leg.place.port, *leg.peer))

    def fail(self, leg: Leg, failure: MediaFailure, now: float) -> None:
        """One leg failed: both are closed, and the controller is told. One that is not to be joined is tried again when
        it is."""
        context = leg.context
        if leg.spare:
            leg.tcp = Tcp.DOWN
            self.record.log("info", "no connection for another answer yet", leg, kind=failure.kind, text=failure.text)
            return
        context.failed = failure.kind
        self.joining.end(context.id)
        for each in context.legs:
            if each.releasing or each.spare:
                continue
            if each.tcp is Tcp.WAITING:
                self.set_filter(each)
            elif each.tcp in (Tcp.UP, Tcp.DIALLING):
                self.emit(orders.Drop(each.id))
                each.tcp = Tcp.DOWN
        if failure.kind != "fingerprint-mismatch":
            self.record.log("warning", "media failed", leg, kind=failure.kind, text=failure.text)
        self.notify(leg, failure, now)


def _may_begin(one: StreamRequest, other: StreamRequest) -> bool:
    """Whether something may have to be dialled though nobody has connected."""
    if one.tcp_mode == "proxy" and other.tcp_mode == "proxy":
        return one.setup == "active" and other.setup == "active"
    return True


def _within(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(address) in network
