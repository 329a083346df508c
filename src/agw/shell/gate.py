"""TLS of legs: HANDSHAKE -> VERIFY -> OPEN. Nothing passes before a leg is OPEN (RFC 4975 14.4, RFC 8122 5.1)."""

import logging
import time
from collections import deque
from collections.abc import Callable

from OpenSSL import SSL

from agw.core import orders
from agw.core.orders import Fingerprints, Report
from agw.settings import TlsSettings
from agw.shell.identities import Identities
from agw.shell.keylog import check_key_log, write_secret
from agw.shell.legs import Counters, LegState, Phase
from agw.shell.watch import Watcher
from imskit.logs import get_logger
from imskit.tls import FingerprintMismatch, der_of, peer_leaf, tls_error_text, validity_text, verify_leaf

log = get_logger("agw.gate")

_NO_CERTIFICATE = "peer did not return a certificate"
_HANDSHAKES = (Phase.HANDSHAKE, Phase.VERIFY)
_PARTIAL_WRITE = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and does not name


class TlsGate:
    """All handshakes of a worker. At most ``half_open`` run or wait for a fingerprint; more wait for their turn.

    ``close`` ends a leg's connection in order.
    """

    def __init__(
        self,
        identities: Identities,
        settings: TlsSettings,
        half_open: int,
        watcher: Watcher,
        counters: Counters,
        report: Callable[[Report], None],
        close: Callable[[LegState], None],
    ) -> None:
        self._identities = identities
        self._settings = settings
        self._half_open = half_open
        self._watcher = watcher
        self._counters = counters
        self._report = report
        self._close = close
        self._queued: deque[LegState] = deque()
        self._turn_due = False
        self.running = 0
        """Handshakes that run or wait for a fingerprint."""
        if settings.key_log is not None:
            check_key_log(settings.key_log)
        identities.prepare_with(self._prepare)

    def _prepare(self, context: SSL.Context) -> None:
        # A check that fails inside the handshake sends the peer a proper alert; without fingerprints it is made later.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._check_in_handshake)
        # One call encrypts a whole buffer, instead of one record per call.
        context.clear_mode(_PARTIAL_WRITE)

    def _log_keys(self, tls: SSL.Connection, line: bytes) -> None:
        leg = tls.get_app_data()
        if isinstance(leg, LegState) and leg.key_log:
            write_secret(leg.key_log, line)

    def stop(self) -> None:
        """No handshake of the queue begins any more."""
        self._queued.clear()

    @property
    def queued(self) -> int:
        """Handshakes that wait for their turn."""
        return sum(leg.phase is Phase.QUEUED for leg in self._queued)

    def arm(self, leg: LegState, order: orders.ArmTls) -> None:
        """Begin TLS on a connected leg, at once or when its turn comes."""
        if leg.sock is None or leg.phase is not Phase.CONNECTED:
            return
        leg.role = order.role
        leg.fingerprints = order.fingerprints
        leg.identity, leg.key_log = order.identity, order.key_log
        leg.phase = Phase.QUEUED
        self._watcher.limit(leg, self._settings.handshake_timeout)
        if self.running >= self._half_open or self._queued:  # nobody overtakes those that wait
            self._queued.append(leg)
            self._call_next()
        else:
            self._begin_handshake(leg)

    def _begin_handshake(self, leg: LegState) -> None:
        identities = self._identities
        if leg.key_log:
            context = identities.logged_context(leg.identity, self._log_keys)
        else:
            context = identities.context(leg.identity)
        if context is None:
            raise RuntimeError("a leg outlived its certificate")
        self.running += 1
        leg.phase = Phase.HANDSHAKE
        tls = leg.tls = SSL.Connection(context, leg.sock)
        tls.set_app_data(leg)
        if leg.role == "client":
            tls.set_connect_state()
        else:
            tls.set_accept_state()
        self._handshake(leg)

    def _handshake(self, leg: LegState) -> None:
        if leg.tls is None or leg.phase is not Phase.HANDSHAKE:
            return
        try:
            leg.tls.do_handshake()
        except SSL.WantReadError:
            self._watcher.watch(leg, 1, self._handshake)
        except SSL.WantWriteError:
            self._watcher.watch(leg, 2, self._handshake)
        except SSL.Error as error:
            self._handshake_failed(leg, error)
        else:
            self._watcher.watch(leg, 0)
            self._counters.handshakes += 1
            self._handshake_done(leg)

    def _handshake_failed(self, leg: LegState, error: SSL.Error) -> None:
        mismatch = leg.mismatch
        text = str(error.args[1]) if isinstance(error, SSL.SysCallError) else tls_error_text(error)
        expected = leg.fingerprints or ()
        self._close(leg)
        if isinstance(mismatch, FingerprintMismatch):
            self._report_mismatch(leg, mismatch)
        elif _NO_CERTIFICATE in text:
            self._counters.verify_failures += 1
            name = expected[0][0] if expected else ""
            octets = tuple(o for n, o in expected if n == name)
            self._report(orders.VerifyFailed(leg.id, "missing", name, octets, b"", "", "the peer sent no certificate"))
        else:
            self._counters.tls_failures += 1
            self._report(orders.TlsFailed(leg.id, text))

    def _handshake_done(self, leg: LegState) -> None:
        if leg.tls is None:
            return
        if leg.fingerprints is None:
            leg.phase = Phase.VERIFY
            self._watcher.limit(leg, self._settings.verify_timeout)
            self._report(orders.HandshakeDone(leg.id, *_session(leg.tls)))
            return
        try:
            name, seen = leg.verified or self._verify(peer_leaf(leg.tls), leg.fingerprints)
        except FingerprintMismatch as mismatch:
            self._close(leg)
            self._report_mismatch(leg, mismatch)
            return
        self._watcher.limit(leg, None)
        self.leave(leg)
        leg.phase = Phase.OPEN
        leg.tls.set_app_data(None)
        leg.fingerprints = leg.verified = None
        self._report(orders.TlsOpen(leg.id, *_session(leg.tls), name, seen))

    def set_fingerprints(self, leg: LegState, fingerprints: Fingerprints) -> None:
        """The peer's fingerprints are known: a finished handshake is verified now."""
        if leg.phase not in (Phase.QUEUED, *_HANDSHAKES):
            return
        leg.fingerprints = fingerprints
        leg.verified = None
        if leg.phase is Phase.VERIFY:
            self._handshake_done(leg)

    def _check_in_handshake(self, tls: SSL.Connection, certificate: object, _error: int, depth: int, _ok: int) -> bool:
        """Called by OpenSSL for each certificate of the peer: stop a known impostor with a fatal alert."""
        leg = tls.get_app_data()
        if depth or not isinstance(leg, LegState) or leg.fingerprints is None or leg.verified is not None:
            return True
        try:
            # The leaf proves later in this handshake that it owns its key; the handshake fails if it cannot.
            leg.verified = self._verify(der_of(certificate), leg.fingerprints)
        except FingerprintMismatch as mismatch:
            leg.mismatch = mismatch
            return False
        return True

    def _verify(self, leaf: bytes | None, fingerprints: Fingerprints) -> tuple[str, bytes]:
        found = verify_leaf(leaf, fingerprints, allow_sha1=self._settings.allow_sha1)
        if leaf is not None and log.is_enabled_for(logging.DEBUG) and (text := validity_text(leaf, time.time())):
            # Irrelevant where the fingerprint decides (RFC 8122 6.1), but worth knowing.
            log.debug("the peer's certificate is outside its validity", validity=text)
        return found

    def _report_mismatch(self, leg: LegState, mismatch: FingerprintMismatch) -> None:
        self._counters.verify_failures += 1
        expected = tuple(octets for _, octets in mismatch.expected)
        self._report(
            orders.VerifyFailed(
                leg.id, mismatch.what, mismatch.hash, expected, mismatch.seen, mismatch.subject, mismatch.hint
            )
        )

    def leave(self, leg: LegState) -> None:
        """Give the slot of a handshake to the next one in the queue."""
        if leg.phase not in _HANDSHAKES:
            return
        self.running -= 1
        leg.phase = Phase.CONNECTED
        self._call_next()

    def _call_next(self) -> None:
        # From the loop, not from here: a handshake that fails at once gives its slot back at once, and a queue of such
        # would be worked off one inside the other, in the middle of an order about quite another leg.
        if self._queued and self.running < self._half_open and not self._turn_due:
            self._turn_due = True
            self._watcher.soon(self._next)

    def _next(self) -> None:
        self._turn_due = False
        try:
            while self._queued and self.running < self._half_open:
                waiting = self._queued.popleft()
                if waiting.phase is Phase.QUEUED:
                    self._begin_handshake(waiting)
        finally:
            self._call_next()


def _session(tls: SSL.Connection) -> tuple[str, str]:
    return tls.get_protocol_version_name(), tls.get_cipher_name() or ""
