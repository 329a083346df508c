"""What a stream is asked to be, how that changes, and what the IMS-AGW chose: the values that commands carry."""

from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from imswire.h248.body import Fingerprint
from imswire.h248.iq_parts import TLS_PROTOS, RemoteSpec

_CHANGEABLE: Final = (
    "remote",
    "setup",
    "tcp_mode",
    "ignore_syn",
    "source_filter",
    "start_tls",
    "mode",
    "tls_role",
    "local_session",
    "source_mask",
    "source_ports",
    "latch",
)
_VALUES: Final = attrgetter(*_CHANGEABLE)


class StreamRequest(Struct, frozen=True, omit_defaults=True):
    """What the stream of a termination is asked to be (Reserve, or Reserve and Configure AGW Connection Point).

    ``realm``: IP realm of the AGW. ``proto``: a key of :data:`PROTOS`. ``family``: IP4 or IP6. ``local_address`` and
    ``local_port``: None lets the AGW choose (``$``). ``tcp_mode``: proxy, relay or merge. ``setup``: the a=setup that
    this AGW side takes, or None. ``ignore_syn``: drop incoming SYNs until a Modify says otherwise. ``source_filter``: a
    key of :data:`SOURCE_FILTERS`, by what the Remote says unless ``source_mask`` (a network, ``203.0.113.0/24``) or
    ``source_ports`` (first and last) say otherwise. ``latch``: the first incoming connection tells the remote address.
    ``fingerprint_hash``: asks for the AGW's fingerprint with this hash (``sha-256``). ``start_tls``: True orders the
    AGW to start TLS as client; the order stands until the stream is given another TCP or TLS role or a new connection.
    ``tls_role``: client or server whoever connects (RFC 8856 8); None follows the TCP direction (RFC 6135 6).
    ``local_session``: the session id of the MSRP URI that the AGW answers to on this side, for rewriting messages.
    ``inactivity``: seconds without media after which to notify. ``notify``: report failures, under ``request_id``.
    """

    realm: str
    proto: str
    family: str = "IP4"
    local_address: str | None = None
    local_port: int | None = None
    tcp_mode: str = "proxy"
    setup: str | None = None
    ignore_syn: bool = False
    source_filter: str = "off"
    fingerprint_hash: str | None = None
    remote: RemoteSpec | None = None
    start_tls: bool | None = None
    inactivity: int | None = None
    notify: bool = True
    mode: str = "SendReceive"
    request_id: int = 1
    tls_role: str | None = None
    local_session: str | None = None
    source_mask: str | None = None
    source_ports: tuple[int, int] | None = None
    latch: bool | None = None

    @property
    def tls(self) -> bool:
        """True if this leg is TLS."""
        return self.proto in TLS_PROTOS


class StreamChange(Struct, frozen=True):
    """What a Modify changes (Configure AGW Connection Point); None leaves a thing as it is.

    ``proto`` and ``family`` are those of the termination: they stand in the SDP of whatever descriptor is sent.
    ``notify`` None leaves events alone; True sets them (with ``inactivity``), False clears them. ``reconnect`` ends the
    connections of the context in order; it is then as after its Adds: same local ports, the new remote ends. Without it
    another remote end is for the next connection only.
    """

    proto: str
    family: str = "IP4"
    remote: RemoteSpec | None = None
    setup: str | None = None
    tcp_mode: str | None = None
    ignore_syn: bool | None = None
    source_filter: str | None = None
    start_tls: bool | None = None
    inactivity: int | None = None
    notify: bool | None = None
    mode: str | None = None
    request_id: int = 1
    tls_role: str | None = None
    local_session: str | None = None
    source_mask: str | None = None
    source_ports: tuple[int, int] | None = None
    latch: bool | None = None
    reconnect: bool = False

    def applied(self, request: StreamRequest) -> StreamRequest:
        """``request`` as it stands after this change: the state the AGW keeps per stream."""
        kept: dict[str, Any] = {}
        turned = request.setup is not None and self.setup not in (None, request.setup)
        changed = request.tls_role is not None and self.tls_role not in (None, request.tls_role)
        if turned or changed or self.reconnect:
            kept["start_tls"] = None
        for name, value in zip(_CHANGEABLE, _VALUES(self), strict=True):
            if value is not None:
                kept[name] = value
        if self.notify is not None:
            kept["notify"] = self.notify
            kept["inactivity"] = self.inactivity
            kept["request_id"] = self.request_id
        return replace(request, **kept) if kept else request


class AddResult(Struct, frozen=True, omit_defaults=True):
    """What the AGW chose for an Add: its termination, transport address and, if asked for, certificate fingerprint.

    ``path`` is the MSRP URI of this end, where a session id was given; None lets the reply be made from the others.
    """

    termination: str
    address: str
    port: int
    fingerprint: Fingerprint | None = None
    path: str | None = None
