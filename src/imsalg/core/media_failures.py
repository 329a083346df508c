"""What is done when a media gateway reports that media failed: one row for each kind of Notify of the Iq profile."""

from msgspec import Struct

from imsalg.media_settings import FailureSettings, Reaction


class FailureRow(Struct, frozen=True):
    """``status`` and ``words`` are what the call is ended with; ``setting`` is a field of :class:`FailureSettings`."""

    status: int
    words: str
    setting: str


FAILURES: dict[str, FailureRow] = {
    "fingerprint-mismatch": FailureRow(488, "certificate fingerprint mismatch", "fingerprint_mismatch"),
    "tls-failed": FailureRow(488, "TLS handshake failed", "tls_failed"),
    "tcp-failed": FailureRow(503, "TCP connection failed", "tcp_failed"),
    "inactive": FailureRow(408, "media inactive", "inactive"),
    "remote-closed": FailureRow(480, "media connection closed", "remote_closed"),
}
"""Failure kind -> row. A fingerprint that does not match has to end the media at once (RFC 4975 14.4). A connection
that was closed can be set up again by either end with a re-offer, so that by default it is theirs to hang up (RFC 4975
5.4)."""


def reaction(kind: str, settings: FailureSettings) -> Reaction:
    """What the operator wants for a failure of that kind."""
    word: Reaction = getattr(settings, FAILURES[kind].setting)
    return word
