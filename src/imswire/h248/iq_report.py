"""What the IMS-AGW reports: failures of media (Notify) and octet counts (Subtract and AuditValue replies)."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from imswire.h248 import packages
from imswire.h248.errors import H248Error, quotable
from imswire.h248.model import Command, Event, ObservedEvents, Parameter

_FAILURES: Final = {
    "tcp-failed": (packages.TCP_CHANGE, packages.FAILED),
    "remote-closed": (packages.TCP_CHANGE, packages.RELEASED),
    "tls-failed": (packages.TLS_CHANGE, packages.FAILED),
    "fingerprint-mismatch": (packages.TLS_CHANGE, packages.MISMATCH),
    "inactive": (packages.INACTIVITY, None),
}
FAILURE_KINDS: Final = tuple(_FAILURES)
_KIND_OF: Final = {(name.lower(), t and t.lower()): kind for kind, (name, t) in _FAILURES.items()}


class MediaFailure(Struct, frozen=True):
    """Why media of a termination failed: ``kind`` is one of :data:`FAILURE_KINDS`, ``text`` says it in words.

    ``expected`` and ``seen`` are fingerprints as text (``SHA-256 AB:...``), for a mismatch; several are separated by
    commas. Double quotes and non-ASCII characters of the texts do not survive the wire.
    """

    kind: str
    text: str = ""
    expected: str = ""
    seen: str = ""


class Statistics(Struct, frozen=True):
    """Octets of one termination, sent to and received from its remote end, and milliseconds in the context."""

    octets_sent: int = 0
    octets_received: int = 0
    duration_ms: int = 0


def to_statistics(statistics: Statistics) -> tuple[Parameter, ...]:
    """The statistics of the network package (RFC 3525 E.11.4)."""
    return (
        Parameter(packages.OCTETS_SENT, str(statistics.octets_sent)),
        Parameter(packages.OCTETS_RECEIVED, str(statistics.octets_received)),
        Parameter(packages.DURATION, str(statistics.duration_ms)),
    )


def read_statistics(parameters: Iterable[Parameter] | None) -> Statistics:
    """Read statistics; those not given are 0, other packages are passed over. Raises :class:`H248Error` 449."""
    found = {}
    for parameter in parameters or ():
        value = parameter.value
        name = packages.canonical(parameter.name)
        if name in (packages.OCTETS_SENT, packages.OCTETS_RECEIVED, packages.DURATION) and value is not None:
            if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20):
                raise H248Error(449, f"{name} cannot be {str(value)[:40]}")
            found[name] = int(value)
    return Statistics(
        found.get(packages.OCTETS_SENT, 0), found.get(packages.OCTETS_RECEIVED, 0), found.get(packages.DURATION, 0)
    )


def to_notify(termination: str, failure: MediaFailure, request_id: int, timestamp: str | None = None) -> Command:
    """The Notify of a failure, under the request id of the Events descriptor it answers (0 is never used)."""
    name, type_ = _FAILURES[failure.kind]
    texts = (
        (packages.CHANGE_TEXT, failure.text),
        (packages.CHANGE_EXPECTED, failure.expected),
        (packages.CHANGE_SEEN, failure.seen),
    )
    parameters = [] if type_ is None else [Parameter(packages.CHANGE_TYPE, type_)]
    parameters += [Parameter(item, quotable(text)) for item, text in texts if text]
    event = Event(name, tuple(parameters), timestamp=timestamp)
    return Command("Notify", termination, observed=ObservedEvents(request_id, (event,)))


def read_notify(command: Command) -> tuple[MediaFailure, ...]:
    """The failures of a Notify, in order; raises :class:`H248Error` for events that are not of the profile."""
    if command.observed is None:
        raise H248Error(442, "Notify without ObservedEvents")
    return tuple(_read_failure(event) for event in command.observed.events)


def _read_failure(event: Event) -> MediaFailure:
    packages.check_event(event)
    values = {p.name.lower(): p.value for p in event.parameters if isinstance(p.value, str)}
    type_ = values.get(packages.CHANGE_TYPE.lower())
    kind = _KIND_OF.get((event.name.lower(), type_ and type_.lower()))
    if kind is None:
        raise H248Error(457, f"{event.name} of type {type_}")
    return MediaFailure(
        kind,
        values.get(packages.CHANGE_TEXT.lower(), ""),
        values.get(packages.CHANGE_EXPECTED.lower(), ""),
        values.get(packages.CHANGE_SEEN.lower(), ""),
    )


def notify_reply(termination: str) -> Command:
    """The reply to a Notify."""
    return Command("Notify", termination)
