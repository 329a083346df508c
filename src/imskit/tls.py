"""TLS of media legs: certificate, context for both roles, and the fingerprint gate.

End-to-access-edge security trusts a peer by the fingerprint in its SDP and by nothing else (RFC 8122 5, RFC 4975
14.4). So the handshake accepts any certificate, self-signed ones too, but demands one; then :func:`verify_leaf`
decides, and nothing may be relayed before it has returned.

pyOpenSSL is the engine because a standard library server can either ask for no client certificate or refuse a
self-signed one.
"""

import datetime
import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto

from imskit.common_settings import MediaTlsSettings

type PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
type Fingerprints = tuple[tuple[str, bytes], ...]  # (hash name in lower case, octets)

# Most preferred first (RFC 8122 5), SHA-256 at least. MD5 and MD2 MUST NOT be used; SHA-1 only where a setting says so.
PREFERENCE = ("sha-512", "sha-384", "sha-256")
_HASHLIB = {name: name.replace("-", "") for name in (*PREFERENCE, "sha-1")}
_OPTIONS = SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
_UNREADABLE = (ValueError, x509.InvalidVersion)
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


class TlsConfigError(Exception):
    """A certificate, key or cipher setting that cannot be used."""


class FingerprintMismatch(Exception):
    """The peer is not whom the signalling named; the connection MUST NOT be used (RFC 8122 5.1).

    ``what`` is "mismatch", or "missing" when there was no certificate or no fingerprint with a hash that may be used.
    ``expected`` holds the fingerprints that would have been accepted, ``seen`` that of the leaf with the same hash
    (empty when there was no leaf), ``subject`` the leaf's subject for the log.
    """

    def __init__(
        self, what: Literal["mismatch", "missing"], hint: str, expected: Fingerprints, seen: bytes, subject: str
    ) -> None:
        super().__init__(hint)
        self.what = what
        self.hint = hint
        self.expected = expected
        self.seen = seen
        self.subject = subject

    @property
    def hash(self) -> str:
        """Name of the hash of ``expected`` and ``seen``, or ""."""
        return self.expected[0][0] if self.expected else ""


def fingerprint_of(der: bytes, hash_name: str = "sha-256") -> bytes:
    """Octets of a certificate's fingerprint; raises ValueError for a hash that is not supported."""
    try:
        return hashlib.new(_HASHLIB[hash_name.lower()], der, usedforsecurity=True).digest()
    except KeyError:
        raise ValueError(f"hash {hash_name!r} is not supported for fingerprints") from None


def select_fingerprints(fingerprints: Iterable[tuple[str, bytes]], *, allow_sha1: bool = False) -> Fingerprints:
    """Of the fingerprints given, those with the most preferred hash (RFC 8122 5.1); () if none may be used."""
    given = [(name.lower(), octets) for name, octets in fingerprints]
    for preferred in (*PREFERENCE, "sha-1") if allow_sha1 else PREFERENCE:
        chosen = tuple(pair for pair in given if pair[0] == preferred)
        if chosen:
            return chosen
    return ()


def verify_leaf(
    der: bytes | None, fingerprints: Iterable[tuple[str, bytes]], *, allow_sha1: bool = False
) -> tuple[str, bytes]:
    """Let the leaf certificate pass if it matches one fingerprint of the preferred set (RFC 8122 5.1).

    Returns the fingerprint that matched; raises :class:`FingerprintMismatch` otherwise.
    """
    given = tuple(fingerprints)
    chosen = select_fingerprints(given, allow_sha1=allow_sha1)
    if not chosen:
        names = ", ".join(sorted({name for name, _ in given})) or "none"
        raise FingerprintMismatch("missing", f"no usable fingerprint (given: {names})", (), b"", subject_of(der))
    if not der:
        raise FingerprintMismatch("missing", "the peer sent no certificate", chosen, b"", "")
    seen = fingerprint_of(der, chosen[0][0])
    for name, octets in chosen:
        if octets == seen:
            return name, octets
    raise FingerprintMismatch("mismatch", "the certificate matches no fingerprint", chosen, seen, subject_of(der))


def subject_of(der: bytes | None) -> str:
    """Subject of a certificate as RFC 4514 text, "" if it cannot be read."""
    if not der:
        return ""
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except _UNREADABLE:
        return ""


class Identity:
    """A certificate (with what follows it in its chain) and its private key."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: PrivateKey,
        chain: Iterable[x509.Certificate] = (),
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.chain = tuple(chain)
        self.der = certificate.public_bytes(serialization.Encoding.DER)

    @classmethod
    def generate(cls, common_name: str = "media", *, hosts: Iterable[str] = (), days: int = 1825) -> Self:
        """A new ECDSA P-256 key with a self-signed certificate, for ``hosts`` (names or addresses) if given.

        The certificate starts a day ago, for peers whose clock is behind.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        names = [_general_name(host) for host in hosts]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: str | Path, key: str | Path) -> Self:
        """Read PEM files: the certificate, leaf first, and its unencrypted key. Raises :class:`TlsConfigError`."""
        try:
            chain = x509.load_pem_x509_certificates(Path(certificate).read_bytes())
        except (OSError, ValueError) as error:
            raise TlsConfigError(f"certificate {certificate}: {error}") from None
        try:
            secret = serialization.load_pem_private_key(Path(key).read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise TlsConfigError(f"key {key}: {error}") from None
        if not isinstance(secret, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
            raise TlsConfigError(f"key {key}: expected an EC, RSA or Ed25519 key, seen {type(secret).__name__}")
        if secret.public_key() != chain[0].public_key():
            raise TlsConfigError(f"key {key} does not belong to certificate {certificate}")
        return cls(chain[0], secret, chain[1:])

    def fingerprint(self, hash_name: str = "sha-256") -> bytes:
        """Octets for ``a=fingerprint``; raises ValueError for a hash that is not supported."""
        return fingerprint_of(self.der, hash_name)

    def certificate_pem(self) -> bytes:
        """The certificate and its chain, leaf first."""
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (self.certificate, *self.chain))

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def save(self, certificate: Path, key: Path) -> None:
        """Write both as PEM files; the key is readable by its owner only."""
        certificate.write_bytes(self.certificate_pem())
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def media_identity(settings: MediaTlsSettings, common_name: str = "media") -> Identity:
    """The identity that the settings name, or a fresh self-signed one."""
    if settings.certificate is not None and settings.key is not None:
        return Identity.load(settings.certificate, settings.key)
    return Identity.generate(common_name)


def media_context(identity: Identity, settings: MediaTlsSettings | None = None) -> SSL.Context:
    """One context for media legs in both roles; the caller calls ``set_accept_state`` or ``set_connect_state``.

    Both roles demand a certificate and accept any: :func:`verify_leaf` is the check. No sessions are kept and no
    tickets are offered (a resumed session would carry no certificate), renegotiation and compression are off, and idle
    connections give their buffers back. Raises :class:`TlsConfigError`.

    As a TLS 1.3 server OpenSSL still sends two short tickets that resume nothing; pyOpenSSL has no call against that.
    Close in order (close_notify, shut down writing, read to the end), so that a peer that never read them does not
    turn its close into a reset.
    """
    settings = settings or MediaTlsSettings()
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(_VERSIONS[settings.min_version])
    context.set_max_proto_version(_VERSIONS[settings.max_version])
    try:
        context.set_cipher_list(settings.ciphers.encode())
        context.set_tls13_ciphersuites(settings.ciphersuites.encode())
        context.use_certificate(identity.certificate)
        for issuer in identity.chain:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(identity.key)
        context.check_privatekey()
    except SSL.Error as error:
        raise TlsConfigError(f"TLS settings: {tls_error_text(error)}") from None
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept_any)
    context.set_options(_OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"media")  # OpenSSL fails a handshake that offers a session when this is unset
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _accept_any(_connection: SSL.Connection, _certificate: object, _error: int, _depth: int, _ok: int) -> bool:
    return True  # trust comes from the fingerprint in SDP, not from a chain (RFC 8122 6.1)


def peer_leaf(connection: SSL.Connection) -> bytes | None:
    """DER of the certificate that the peer proved to own, None before the handshake or without one."""
    return der_of(connection.get_peer_certificate())


def der_of(certificate: object) -> bytes | None:
    """DER of a certificate of OpenSSL, None for what is none. It is not parsed: OpenSSL takes certificates that others
    refuse, and a fingerprint is of octets."""
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) if isinstance(certificate, crypto.X509) else None


def validity_text(der: bytes, now: float) -> str:
    """How a certificate is outside its validity at ``now`` (Unix time); "" where it is inside, or cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNREADABLE:
        return ""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    if moment > last:
        return f"expired {last:%Y-%m-%d}"
    return f"not valid before {first:%Y-%m-%d}" if moment < first else ""


def tls_error_text(error: SSL.Error) -> str:
    """What OpenSSL says, in one line for logs and failure events."""
    stack = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [entry[-1] for entry in stack if isinstance(entry, tuple) and entry]
    return "; ".join(str(reason) for reason in reasons) or str(error) or type(error).__name__


def expiry_of(certificate: str | Path) -> float:
    """When the first certificate of a PEM file ends, as Unix time. Raises :class:`TlsConfigError`."""
    try:
        chain = x509.load_pem_x509_certificates(Path(certificate).read_bytes())
    except (OSError, ValueError) as error:
        raise TlsConfigError(f"certificate {certificate}: {error}") from None
    return chain[0].not_valid_after_utc.timestamp()
