"""What a Modify says: the difference between what a stream is and what it is to be."""

from operator import attrgetter
from typing import Any, Final

from msgspec.structs import replace

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
    change = StreamChange(proto=before.proto, family=before.family, reconnect=reconnect, **changed)
    if after.start_tls and not change.applied(before).start_tls:
        change = replace(change, start_tls=True)
    return change if changed or reconnect or change.start_tls else None
