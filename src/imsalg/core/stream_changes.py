"""What a Modify says: the difference between what a stream is and what it is to be."""

from operator import attrgetter
from typing import Any, Final

from imswire.h248.iq import StreamChange, StreamRequest

_COMPARED = (
    "remote",
    "setup",
    "tcp_mode",
    "ignore_syn",
    "source_filter",
    "source_mask",
    "source_ports",
    "latch",
    "tls_role",
    "local_session",
)


_VALUES: Final = attrgetter(*_COMPARED)


def difference(before: StreamRequest, after: StreamRequest, *, reconnect: bool = False) -> StreamChange | None:
    """The change that turns one into the other, None when there is none; ``reconnect`` makes one in any case."""
    changed: dict[str, Any] = {}
    for name, was, is_now in zip(_COMPARED, _VALUES(before), _VALUES(after), strict=True):
        if is_now is not was and is_now != was:
            changed[name] = is_now
    if after.start_tls and (reconnect or not before.start_tls or _turned(before, changed)):
        changed["start_tls"] = True
    if changed or reconnect:
        return StreamChange(proto=before.proto, family=before.family, reconnect=reconnect, **changed)
    return None


def _turned(before: StreamRequest, changed: dict[str, Any]) -> bool:
    """Does another role end what was ordered of TLS before (:meth:`StreamChange.applied`)?"""
    return (before.setup is not None and changed.get("setup") is not None) or (
        before.tls_role is not None and changed.get("tls_role") is not None
    )
