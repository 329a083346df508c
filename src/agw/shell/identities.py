"""The certificates of a worker: one by default, one for each realm that has its own, one for each session if so set.

A certificate that is replaced stays usable for the terminations that announced it: the engine counts them and says when
a number may be forgotten. Open TLS sessions hold what they need themselves.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Self

from OpenSSL import SSL

from agw.core import events
from agw.core.identities import Known
from agw.settings import Settings, TlsSettings
from imskit.logs import get_logger
from imskit.tls import Identity, TlsConfigError, media_context, media_identity

log = get_logger("agw.identities")

_HASHES = ("sha-256", "sha-384", "sha-512")
_DAYS = 86_400.0


class Identities:
    """Certificates by number, with the TLS context of each. Raises :class:`TlsConfigError` for files it cannot use."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._hashes = (*_HASHES, "sha-1") if settings.tls.allow_sha1 else _HASHES
        self._contexts: dict[int, SSL.Context] = {}
        self._next = 0
        self._prepare: Callable[[SSL.Context], None] = _as_it_is
        self._expiry: dict[str, float] = {}
        self.current = self._load()

    @classmethod
    def single(cls, identity: Identity, tls: TlsSettings | None = None) -> Self:
        """One certificate that exists already, for a worker without files."""
        made = cls.__new__(cls)
        made._settings = Settings(tls=tls or TlsSettings())
        made._name, made._hashes = "media", _HASHES
        made._contexts, made._next, made._prepare, made._expiry = {}, 0, _as_it_is, {}
        made.current = events.Identities(made._add(identity))
        return made

    def prepare_with(self, prepare: Callable[[SSL.Context], None]) -> None:
        """Let every context, also of certificates to come, be prepared before its first use."""
        self._prepare = prepare
        for context in self._contexts.values():
            prepare(context)

    def rotate(self) -> events.Identities | None:
        """Read the files again (or make new certificates); None, and all as before, where that fails."""
        try:
            self.current = self._load()
        except TlsConfigError as error:
            log.error("certificates are not replaced", error=str(error))
            return None
        log.info("certificates replaced", realms=sorted(self.current.realms))
        return self.current

    def fresh(self) -> Known:
        """A certificate for one termination."""
        return self._add(Identity.generate(self._name))

    def context(self, number: int) -> SSL.Context | None:
        """The TLS context of a certificate; None when it was forgotten."""
        return self._contexts.get(number)

    def forget(self, number: int) -> None:
        """Nobody will ask for it again."""
        self._contexts.pop(number, None)

    def expiry(self) -> Mapping[str, float]:
        """When the certificates in use end, as Unix time: by realm, ``media`` for the default one."""
        return self._expiry

    @property
    def held(self) -> int:
        """Certificates that somebody may still ask for."""
        return len(self._contexts)

    def _load(self) -> events.Identities:
        """Everything is read before anything is replaced."""
        found = {"media": media_identity(self._settings.tls, self._name)}
        for name, realm in self._settings.realm.items():
            if realm.certificate is not None and realm.key is not None:
                found[name] = Identity.load(realm.certificate, realm.key)
        contexts = {name: self._context(identity) for name, identity in found.items()}
        known = {name: self._file(identity, contexts[name]) for name, identity in found.items()}
        self._expiry = {name: identity.certificate.not_valid_after_utc.timestamp() for name, identity in found.items()}
        self._warn()
        return events.Identities(known.pop("media"), known)

    def _warn(self) -> None:
        within = self._settings.tls.expiry_warning
        now = time.time()
        for name, end in self._expiry.items():
            if within and end - now < within:
                # Peers that go by fingerprints do not mind (RFC 8122 6.1); others and people may.
                log.warning("certificate expires soon", certificate=name, days=round((end - now) / _DAYS, 1))

    def _add(self, identity: Identity) -> Known:
        return self._file(identity, self._context(identity))

    def _context(self, identity: Identity) -> SSL.Context:
        context = media_context(identity, self._settings.tls)
        self._prepare(context)
        return context

    def _file(self, identity: Identity, context: SSL.Context) -> Known:
        number, self._next = self._next, self._next + 1
        self._contexts[number] = context
        return Known(number, {name: identity.fingerprint(name) for name in self._hashes})


class KeyLog:
    """The file of TLS secrets (SSLKEYLOGFILE format), readable by its owner only. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        log.warning("TLS secrets of some sessions are being logged: whoever reads them reads the media", file=path)

    def write(self, line: bytes) -> None:
        """One line, without its end; whole lines are appended, so that several workers may share the file."""
        try:
            os.write(self._descriptor, line + b"\n")
        except OSError as error:
            log.error("the key log cannot be written", error=error.strerror)

    def close(self) -> None:
        os.close(self._descriptor)


def _as_it_is(_context: SSL.Context) -> None:
    pass
