"""TLS contexts of the standard library for signalling: SIP over TLS and H.248 over TCP."""

import ssl
from pathlib import Path
from typing import Literal

from imskit.tls import TlsConfigError

type File = str | Path

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(
    certificate: File, key: File, *, client_ca: File | None = None, min_version: Literal["1.2", "1.3"] = "1.2"
) -> ssl.SSLContext:
    """For a listener; with ``client_ca`` every client must show a certificate that this file's authorities issued.

    Raises :class:`TlsConfigError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context, certificate, key, min_version)
    context.num_tickets = 0  # a ticket that a peer leaves unread turns its close into a reset
    if client_ca is not None:
        _trust(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    *,
    ca: File | None = None,
    certificate: File | None = None,
    key: File | None = None,
    check_hostname: bool = True,
    verify: bool = True,
    min_version: Literal["1.2", "1.3"] = "1.2",
) -> ssl.SSLContext:
    """For outgoing connections, verified against ``ca`` (the system's authorities when absent).

    ``verify=False`` accepts any server and is for laboratories. Raises :class:`TlsConfigError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _common(context, certificate, key, min_version)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.check_hostname = check_hostname
    if ca is None:
        context.load_default_certs()
    else:
        _trust(context, ca)
    return context


def is_mutual(context: ssl.SSLContext) -> bool:
    """True if the peer has to prove who it is."""
    return context.verify_mode == ssl.CERT_REQUIRED


def _common(context: ssl.SSLContext, certificate: File | None, key: File | None, min_version: str) -> None:
    context.minimum_version = _VERSIONS[min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if certificate is None:
        return
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TlsConfigError(f"certificate {certificate} with key {key}: {error}") from None


def _trust(context: ssl.SSLContext, ca: File) -> None:
    try:
        context.load_verify_locations(ca)
        # The file may name the peer itself, or an authority below the root, not only roots.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    except (OSError, ssl.SSLError) as error:
        raise TlsConfigError(f"authorities {ca}: {error}") from None
