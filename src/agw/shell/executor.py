"""Carries out the engine's orders on real sockets and reports what happens (:mod:`agw.core.orders`).

Theory of operation. Everything runs in callbacks of one event loop; no order blocks. A leg walks through the phases of
:class:`agw.shell.legs.Phase`. Until its relay starts a connection is not read (except by the handshake): what the peer
sends early waits in the kernel's receive buffer, which is bounded.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from agw.core import orders
from agw.core.orders import Order, Report
from agw.settings import LimitSettings, TimerSettings, TlsSettings
from agw.shell import sockets
from agw.shell.aware import AwareEnd
from agw.shell.doors import Doors
from agw.shell.gate import TlsGate
from agw.shell.identities import Identities
from agw.shell.legs import Counters, LegState, Phase
from agw.shell.relay import Closer, End, Pump, drain, start, untouched
from agw.shell.watch import Watcher
from imskit.clock import Clock, SystemClock
from imskit.logs import get_logger

log = get_logger("agw.executor")


class Executor:
    """The sockets of one worker.

    ``identities`` are the certificates of media legs; ``report`` takes the reports, in order; ``clock`` is that of
    every time limit here.
    """

    def __init__(
        self,
        identities: Identities,
        report: Callable[[Report], None],
        *,
        loop: asyncio.AbstractEventLoop,
        tls: TlsSettings,
        limits: LimitSettings,
        timers: TimerSettings,
        clock: Clock | None = None,
    ) -> None:
        self._report = report
        self._loop = loop
        self._timers = timers
        self._pump = Pump(loop, self, limits.pending)
        self._legs: dict[int, LegState] = {}
        self.counters = Counters()
        self._identities = identities
        self._clock = clock or SystemClock(loop)
        self._watcher = Watcher(loop, timers, report, self._too_late, self, self._clock)
        self._gate = TlsGate(
            identities, tls, limits.half_open, self._watcher, self.counters, report, self._close_orderly
        )
        self._doors = Doors(loop, self._legs, self.counters, self._adopt, report)
        self._carry: dict[type, Callable[..., None]] = {
            orders.Listen: self._doors.listen,
            orders.SetFilter: self._doors.set_filter,
            orders.Dial: self._dial,
            orders.MakeIdentity: self._make_identity,
            orders.ForgetIdentity: self._forget_identity,
            orders.ArmTls: self._arm_tls,
            orders.SetFingerprints: self._set_fingerprints,
            orders.StartRelay: self._start_relay,
            orders.Drop: self._drop,
            orders.DropSilent: self._drop_silent,
            orders.Release: self._release,
            orders.Count: self._count,
        }

    @property
    def sessions(self) -> int:
        """Relays that run."""
        return len(self._watcher.relays)

    @property
    def half_open(self) -> int:
        """TLS handshakes that run or wait for a fingerprint."""
        return self._gate.running

    def end_of(self, leg: int) -> End | None:
        """The relay end of a leg, for those who look at it closely."""
        state = self._legs.get(leg)
        return state.end if state is not None else None

    def idle_of(self, leg: int) -> float | None:
        """Seconds since the relay of a leg last moved octets; None where none runs."""
        end = self.end_of(leg)
        return self._watcher.idle_of(end) if end is not None else None

    @property
    def held(self) -> dict[str, int]:
        """What is held at the moment, by kind: nothing of it may remain when all legs are released."""
        return {
            "legs": len(self._legs),
            "doors": self._doors.watched,
            "relays": len(self._watcher.relays),
            "closing": len(self._watcher.closers),
            "timed": self._watcher.timed,
            "handshakes": self._gate.running,
            "queued": self._gate.queued,
        }

    def listener_of(self, leg: int) -> socket.socket | None:
        """The listening socket of a leg."""
        state = self._legs.get(leg)
        return state.listener if state is not None else None

    def socket_of(self, leg: int) -> socket.socket | None:
        """The connection of a leg."""
        state = self._legs.get(leg)
        return state.sock if state is not None else None

    def execute(self, order: Order) -> None:
        """Carry out one order; reports follow at once or later, never from a leg that was released.

        An order that the engine waits for is answered even where carrying it out raised.
        """
        try:
            self._carry[type(order)](order)
        except Exception:
            if isinstance(order, orders.Listen):
                self._report(orders.ListenFailed(order.leg, False, "internal error"))
            elif isinstance(order, orders.Release):
                self._report(orders.Released(order.leg, 0, 0))
            raise

    def close(self) -> None:
        """Close every socket at once."""
        self._gate.stop()
        for leg in list(self._legs.values()):
            self._doors.close(leg)
            self._abandon(leg)
        self._legs.clear()
        self._doors.stop()
        self._watcher.close()

    # --- connections ---

    def _adopt(self, leg: LegState, sock: socket.socket) -> None:
        sockets.prepare(sock, self._timers.keepalive)
        leg.sock = sock
        leg.phase = Phase.CONNECTED

    def _dial(self, order: orders.Dial) -> None:
        leg = self._legs.setdefault(order.leg, LegState(order.leg))
        self._doors.silence(leg)
        family = sockets.family_of(order.remote_address)
        code = 0
        for port in (order.port, 0):  # a remainder of an older connection may hold our port: then any other will do
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                self._report(orders.DialFailed(leg.id, error.strerror or str(error)))
                return
            self._adopt(leg, sock)
            leg.phase = Phase.DIALLING
            code = sockets.connect(sock, leg.listener, (order.address, port), (order.remote_address, order.remote_port))
            if code not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                break
            if port:  # a socket that is bound cannot be bound anew
                sock.close()
        if code == 0:
            self._dialled(leg)
        elif code == errno.EINPROGRESS:
            self._watcher.watch(leg, 2, self._dialled)
            self._watcher.limit(leg, self._timers.dial)
        else:
            self._dial_failed(leg, os.strerror(code))

    def _dialled(self, leg: LegState) -> None:
        if leg.sock is None or leg.phase is not Phase.DIALLING:
            return
        code = leg.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._dial_failed(leg, os.strerror(code))
            return
        self._watcher.watch(leg, 0)
        self._watcher.limit(leg, None)
        leg.phase = Phase.CONNECTED
        self.counters.dialled += 1
        self._report(orders.Connected(leg.id, leg.sock.getsockname()[1]))

    def _dial_failed(self, leg: LegState, text: str) -> None:
        self._abandon(leg)
        self._report(orders.DialFailed(leg.id, text))

    # --- TLS ---

    def _make_identity(self, order: orders.MakeIdentity) -> None:
        made = self._identities.fresh(order.realm)
        self._report(orders.IdentityMade(order.leg, made.number, tuple(made.fingerprints.items())))

    def _forget_identity(self, order: orders.ForgetIdentity) -> None:
        self._identities.forget(order.identity)

    def _arm_tls(self, order: orders.ArmTls) -> None:
        leg = self._legs.get(order.leg)
        if leg is not None:
            self._gate.arm(leg, order)

    def _set_fingerprints(self, order: orders.SetFingerprints) -> None:
        leg = self._legs.get(order.leg)
        if leg is not None:
            self._gate.set_fingerprints(leg, order.fingerprints)

    # --- relaying ---

    def _start_relay(self, order: orders.StartRelay) -> None:
        one, two = self._legs.get(order.a), self._legs.get(order.b)
        if one is None or two is None or one.sock is None or two.sock is None:
            return  # a leg went away after the order was given; its report is on the way
        swaps = order.rewrite or (None, None)
        a, b = self._end(one, swaps[0]), self._end(two, swaps[1])
        self.counters.relays += 1
        self._watcher.add_relay(a, b, order.inactivity)
        start(a, b)

    def _end(self, leg: LegState, swap: orders.PathSwap | None) -> End:
        if leg.sock is None:
            raise RuntimeError("a leg without connection cannot be relayed")
        leg.phase = Phase.RELAYING
        if swap is None:
            leg.end = End(leg.id, leg.sock, leg.tls, self._pump)
        else:
            leg.end = AwareEnd(leg.id, leg.sock, leg.tls, self._pump, swap)
        return leg.end

    def half_closed(self, end: End) -> None:
        """The pump: the peer of ``end`` has closed its direction, and that was passed on."""
        self._report(orders.HalfClosed(end.leg))

    def relay_ended(self, end: End, orderly: bool, text: str) -> None:
        """The pump: a relay is over; its sockets are closed in order, counters stay until the release."""
        self._watcher.remove_relay(end)
        end.stop()
        end.other.stop()
        for each in (end, end.other):
            leg = self._legs.get(each.leg)
            if leg is None:
                continue
            if each.broken:
                self._abandon(leg)
            else:
                self._close_orderly(leg)
        self._report(orders.RelayEnded(end.leg, orderly, text))

    # --- ends ---

    def _too_late(self, leg: LegState) -> None:
        phase = leg.phase
        if phase is Phase.DIALLING:
            self._dial_failed(leg, "timed out")
        elif phase is Phase.VERIFY:
            self._close_orderly(leg)
            self._report(orders.TlsFailed(leg.id, "no fingerprint to verify the peer came in time"))
        else:
            self.counters.tls_failures += 1
            self._abandon(leg)
            self._report(orders.TlsFailed(leg.id, "the TLS handshake took too long"))

    def _drop(self, order: orders.Drop) -> None:
        leg = self._legs.get(order.leg)
        if leg is not None:
            self._abandon(leg)

    def _drop_silent(self, order: orders.DropSilent) -> None:
        leg = self._legs.get(order.leg)
        if leg is None or leg.sock is None or leg.phase is not Phase.CONNECTED or sockets.has_sent(leg.sock):
            return
        self._abandon(leg)
        self._report(orders.Silent(leg.id))

    def _release(self, order: orders.Release) -> None:
        leg = self._legs.pop(order.leg, None)
        if leg is None:
            self._report(orders.Released(order.leg, 0, 0))
            return
        self._doors.tell_held(leg)
        if order.heir is not None:
            self._doors.hand_over(leg, order.heir)
        self._doors.close(leg)
        end = leg.end
        if leg.sock is None and end is None:  # nobody was connected
            self._report(orders.Released(order.leg, 0, 0))
            return
        kept = False
        if end is not None and end.live:
            drain(end)
            drain(end.other)
        if end is not None and end.live:  # still: what was drained may have been the end of the stream
            other = end.other
            self._watcher.remove_relay(end)
            end.stop()
            other.stop()
            mate = self._legs.get(other.leg)
            kept = order.keep and mate is not None and untouched(end)
            if mate is not None and kept:
                mate.phase, mate.end = Phase.OPEN, None
                other.forget()
            elif mate is not None:
                self._close_orderly(mate)
        received, sent = (end.received, end.sent) if end is not None else (0, 0)
        messages = end.messages if end is not None else (0, 0)
        self.counters.octets += received
        self._close_orderly(leg)
        if end is not None:
            end.forget()
        self._report(orders.Released(leg.id, received, sent, kept, *messages))

    def _count(self, order: orders.Count) -> None:
        leg = self._legs.get(order.leg)
        end = leg.end if leg is not None else None
        self._report(orders.Counted(order.leg, end.received if end else 0, end.sent if end else 0))

    def _close_orderly(self, leg: LegState) -> None:
        """Hand the connection to a :class:`Closer`; the leg has none after that."""
        sock, tls, end = leg.sock, leg.tls, leg.end
        opened = leg.phase in (Phase.OPEN, Phase.RELAYING, Phase.VERIFY)
        self._detach(leg)
        if sock is None:
            return
        pending = end.pending if end is not None else None
        # After a failed handshake OpenSSL has written its alert already; closing in order lets the peer read it.
        closer = Closer(self._pump, sock, tls if opened else None, pending, self._clock.now() + self._timers.linger)
        self._watcher.add_closer(closer)

    def _abandon(self, leg: LegState) -> None:
        """Close the connection at once."""
        sock, end = leg.sock, leg.end
        if end is not None and end.live:
            end.stop()
            end.other.stop()
            self._watcher.remove_relay(end)
        self._detach(leg)
        if sock is not None:
            sock.close()

    def _detach(self, leg: LegState) -> None:
        """Take the connection away from its leg: off the loop, off the ticker, out of the handshake count."""
        if leg.sock is not None:
            self._watcher.watch(leg, 0)
        self._watcher.limit(leg, None)
        self._gate.leave(leg)
        if leg.tls is not None:
            leg.tls.set_app_data(None)
        leg.sock = leg.tls = leg.mismatch = leg.verified = None
        leg.phase = Phase.IDLE
