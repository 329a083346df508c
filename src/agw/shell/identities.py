"""The certificates of a worker: one by default, one for each realm that has its own, one for each session if so set.

A certificate that is replaced stays usable for the terminations that announced it: the engine counts them and says when
a number may be forgotten. Open TLS sessions hold what they need themselves.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
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
        self._known: dict[int, tuple[Identity, str]] = {}
        self._logged: dict[int, SSL.Context] = {}
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
        made._known, made._logged = {}, {}
        made._contexts, made._next, made._prepare, made._expiry = {}, 0, _as_it_is, {}
        made.current = events.Identities(made._add(identity))
        return made

    def prepare_with(self, prepare: Callable[[SSL.Context], None]) -> None:
        """Let every context, also of certificates to come, be prepared before its first use."""
        self._prepare = prepare
        for context in self._contexts.values():
            prepare(context)

    def rotate(self) -> events.Identities:
        """Read the files again (or make new certificates). Raises :class:`TlsConfigError`, and all is as before, where
        that fails."""
        try:
            self.current = self._load()
        except TlsConfigError as error:
            log.error("certificates are not replaced", error=str(error))
            raise
        log.info("certificates replaced", realms=sorted(self.current.realms))
        return self.current

    def fresh(self, realm: str = "") -> Known:
        """A certificate for one termination of a realm."""
        return self._add(Identity.generate(self._name), realm)

    def context(self, number: int) -> SSL.Context | None:
        """The TLS context of a certificate; None when it was forgotten."""
        return self._contexts.get(number)

    def logged_context(self, number: int, secret: Callable[[SSL.Connection, bytes], None]) -> SSL.Context | None:
        """The same for sessions whose secrets are given to ``secret``: others are not to be called for every line."""
        known = self._known.get(number)
        if known is not None and number not in self._logged:
            context = self._logged[number] = self._context(*known)
            context.set_keylog_callback(secret)
        return self._logged.get(number)

    def forget(self, number: int) -> None:
        """Nobody will ask for it again."""
        self._contexts.pop(number, None)
        self._known.pop(number, None)
        self._logged.pop(number, None)

    def expiry(self) -> Mapping[str, float]:
        """When the certificates in use end, as Unix time: by realm, ``media`` for the default one."""
        return self._expiry

    @property
    def held(self) -> int:
        """Certificates that somebody may still ask for."""
        return len(self._contexts)

    def _load(self) -> events.Identities:
        """Everything is read before anything is replaced."""
        default = media_identity(self._settings.tls, self._name)
        found: dict[str, Identity] = {}
        for name, realm in self._settings.realm.items():
            if realm.certificate is not None and realm.key is not None:
                found[name] = Identity.load(realm.certificate, realm.key)
            elif realm.tls:
                found[name] = default
        context = self._context(default, "")
        contexts = {name: self._context(identity, name) for name, identity in found.items()}
        usual = self._file(default, "", context)
        known = {name: self._file(identity, name, contexts[name]) for name, identity in found.items()}
        ends = [(name, identity.certificate.not_valid_after_utc.timestamp()) for name, identity in found.items()]
        self._expiry = {"media": default.certificate.not_valid_after_utc.timestamp()}
        for name, end in ends:  # a realm may be called media too: then the first end counts
            self._expiry[name] = min(end, self._expiry.get(name, end))
        self._warn()
        return events.Identities(usual, known)

    def _warn(self) -> None:
        within = self._settings.tls.expiry_warning
        now = time.time()
        for name, end in self._expiry.items():
            if within and end - now < within:
                # Peers that go by fingerprints do not mind (RFC 8122 6.1); others and people may.
                log.warning("certificate expires soon", certificate=name, days=round((end - now) / _DAYS, 1))

    def _add(self, identity: Identity, realm: str = "") -> Known:
        return self._file(identity, realm, self._context(identity, realm))

    def _context(self, identity: Identity, name: str) -> SSL.Context:
        realm = self._settings.realm.get(name)
        settings = self._settings.tls
        context = media_context(identity, replace(settings, **realm.tls) if realm is not None else settings)
        self._prepare(context)
        return context

    def _file(self, identity: Identity, name: str, context: SSL.Context) -> Known:
        number, self._next = self._next, self._next + 1
        self._contexts[number] = context
        self._known[number] = identity, name
        return Known(number, {name: identity.fingerprint(name) for name in self._hashes})


def _as_it_is(_context: SSL.Context) -> None:
    pass
