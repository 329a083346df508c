"""Settings tables that every daemon has in the same shape."""

from dataclasses import dataclass
from typing import Literal

from imskit.settings import Positive, Seconds


@dataclass(frozen=True)
class LogSettings:
    """``[log]``: what is logged to standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True)
class TraceSettings:
    """``[trace]``: the file that trace lines are appended to; none when absent."""

    file: str | None = None


@dataclass(frozen=True)
class MetricsSettings:
    """``[metrics]``: ``listen`` is a loopback "host:port" for /metrics, /healthz and /readyz; none when absent."""

    listen: str | None = None


@dataclass(frozen=True)
class AdminSettings:
    """``[admin]``: ``socket`` is the path of the UNIX socket that ``show`` asks; none when absent."""

    socket: str | None = None


@dataclass(frozen=True)
class StreamSettings:
    """Bounds of SIP over TCP and TLS; durations in seconds, sizes in octets."""

    connect_timeout: Seconds = 5.0
    idle_timeout: Seconds = 900.0  # above the 840 s that RFC 5626 4.4.1 lets a client wait between two pings
    message_timeout: Seconds = 30.0  # from the first octet of a message to its last
    handshake_timeout: Seconds = 10.0
    write_limit: Positive = 1_048_576  # octets that a peer may leave unread
    pending_limit: Positive = 262_144  # octets that may wait for a connection to open
    connections: Positive = 20_000  # per listener
    connections_per_source: Positive = 256  # of one address, or one /64 of IPv6
    outgoing: Positive = 4_000  # connections that were opened from here
    keepalive_idle: Seconds = 30.0  # silence before TCP asks whether the peer is there
    peer_timeout: Seconds = 15.0  # unacknowledged for so long, the peer is dead


@dataclass(frozen=True)
class MediaTlsSettings:
    """TLS of media legs; defaults offer forward secrecy and authenticated encryption only."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    max_version: Literal["1.2", "1.3"] = "1.3"
    ciphers: str = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20"  # TLS 1.2
    ciphersuites: str = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"  # TLS 1.3
    certificate: str | None = None  # PEM file; a self-signed certificate is made at start when absent
    key: str | None = None
    allow_sha1: bool = False

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("'certificate' and 'key' go together")
        if self.min_version > self.max_version:
            raise ValueError("'min_version' is above 'max_version'")
