"""The parts that several commands of the Iq profile share: properties, events, signals and SDP of a stream."""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from msgspec import Struct

from imswire.h248 import packages
from imswire.h248.body import Fingerprint, fingerprint_text, place_text, read_body, read_path
from imswire.h248.errors import H248Error
from imswire.h248.model import CHOOSE, Command, Event, Events, LocalControl, Parameter, Signal, Signals, Stream
from imswire.h248.package_model import Kind, Type

PROTOS: Final[dict[str, tuple[str, str]]] = {
    "TCP": ("-", "-"),
    "TCP/TLS": ("-", "-"),
    "TCP/MSRP": ("message", "*"),
    "TCP/TLS/MSRP": ("message", "*"),
}
"""Transport protocols over Iq, each with media type and format of its m-line; ``-`` where application-agnostic."""

TLS_PROTOS: Final = frozenset(proto for proto in PROTOS if "TLS" in proto.split("/"))

SOURCE_FILTERS: Final = {"off": ("off", "off"), "address": ("on", "off"), "address-and-port": ("on", "on")}
"""Source filter, with the values of the address and the port filter property."""


class RemoteSpec(Struct, frozen=True, omit_defaults=True):
    """The remote end of a termination: transport address and, on a TLS leg, fingerprints its certificate may have.

    ``path`` is the MSRP URI of the remote end where the AGW rewrites messages (``TCP/MSRP``, ``TCP/TLS/MSRP``).
    """

    address: str
    port: int
    fingerprints: tuple[Fingerprint, ...] = ()
    path: str | None = None


def media_line(proto: str) -> tuple[str, str]:
    """Media type and format for a transport protocol; raises :class:`H248Error` 449 for one outside the profile."""
    known = PROTOS.get(proto)
    if known is None:
        raise H248Error(449, f"transport protocol cannot be {proto[:40]}")
    return known


def remote_text(proto: str, family: str, remote: RemoteSpec) -> str:
    """The SDP of a Remote descriptor."""
    media, formats = media_line(proto)
    text = place_text(family, remote.address, media, remote.port, proto, formats)
    for fingerprint in remote.fingerprints:
        text += f"\r\na=fingerprint:{fingerprint_text(fingerprint)}"
    return text if remote.path is None else f"{text}\r\na=path:{read_path(remote.path)}"


def read_remote(text: str | None, proto: str) -> RemoteSpec | None:
    """Read a Remote descriptor beside a Local one of ``proto``; raises :class:`H248Error` 449 where they disagree."""
    if text is None:
        return None
    body = read_body(text)
    if body.proto != proto:
        raise H248Error(449, f"Remote has {body.proto[:40]}, Local {proto}")
    if body.address is None or body.port is None:
        raise H248Error(449, "the remote address cannot be chosen by the MG")
    return RemoteSpec(body.address, body.port, body.fingerprints, body.path)


class Asked(Protocol):
    """What a request and a change have in common: None says nothing."""

    @property
    def tcp_mode(self) -> str | None: ...
    @property
    def ignore_syn(self) -> bool | None: ...
    @property
    def source_filter(self) -> str | None: ...
    @property
    def source_mask(self) -> str | None: ...
    @property
    def source_ports(self) -> tuple[int, int] | None: ...
    @property
    def latch(self) -> bool | None: ...
    @property
    def tls_role(self) -> str | None: ...


def property_list(asked: Asked) -> tuple[Parameter, ...]:
    """The LocalControl properties, checked; raises :class:`H248Error` 449."""
    return _property_list(
        asked.tcp_mode,
        asked.ignore_syn,
        asked.latch,
        asked.tls_role,
        asked.source_filter,
        asked.source_mask,
        asked.source_ports,
    )


@lru_cache(maxsize=256)
def _property_list(
    tcp_mode: str | None,
    ignore_syn: bool | None,
    latch: bool | None,
    tls_role: str | None,
    source_filter: str | None,
    source_mask: str | None,
    source_ports: tuple[int, int] | None,
) -> tuple[Parameter, ...]:
    made = []
    if tcp_mode is not None:
        if tcp_mode not in packages.TCP_MODES:
            raise H248Error(449, f"TCP mode cannot be {tcp_mode[:40]}")
        made.append(Parameter(packages.TCP_MODE, tcp_mode))
    if ignore_syn is not None:
        made.append(Parameter(packages.IGNORE_SYN, _on_off(ignore_syn)))
    if latch is not None:
        made.append(Parameter(packages.LATCH, _on_off(latch)))
    if tls_role is not None:
        if tls_role not in packages.TLS_ROLES:
            raise H248Error(449, f"TLS role cannot be {tls_role[:40]}")
        made.append(Parameter(packages.TLS_ROLE, tls_role))
    if source_filter is not None:
        if source_filter not in SOURCE_FILTERS:
            raise H248Error(449, f"source filter cannot be {source_filter[:40]}")
        address, port = SOURCE_FILTERS[source_filter]
        made.append(Parameter(packages.SOURCE_ADDRESS_FILTER, address))
        made.append(Parameter(packages.SOURCE_PORT_FILTER, port))
    if source_mask is not None:
        made.append(Parameter(packages.SOURCE_ADDRESS_MASK, _network(source_mask)))
    if source_ports is not None:
        made.append(Parameter(packages.SOURCE_PORT_RANGE, "-".join(map(str, _ports(*source_ports)))))
    return tuple(made)


def _on_off(value: bool) -> str:
    return "on" if value else "off"


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise H248Error(449, f"source mask cannot be {text[:60]}") from None


def _ports(first: int, last: int) -> tuple[int, int]:
    if not 0 < first <= last <= 65_535:
        raise H248Error(449, f"source ports cannot be {first}-{last}")
    return first, last


def read_mask(values: Mapping[str, str]) -> str | None:
    """The network that may connect, in its usual spelling; raises :class:`H248Error` 449."""
    text = values.get(packages.SOURCE_ADDRESS_MASK)
    return None if text is None else _network(text)


def read_ports(values: Mapping[str, str]) -> tuple[int, int] | None:
    """First and last port that may connect; raises :class:`H248Error` 449."""
    text = values.get(packages.SOURCE_PORT_RANGE)
    if text is None:
        return None
    parts = text.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        raise H248Error(449, f"source ports cannot be {text[:40]}")
    return _ports(int(parts[0]), int(parts[1]))


def read_flag(values: Mapping[str, str], name: str) -> bool | None:
    """A boolean property, None when it is not there."""
    value = values.get(name)
    return None if value is None else value == "on"


_SESSION = re.compile(r"[A-Za-z0-9._~+=/-]{1,512}")
"""session-id of RFC 4975 9."""


def session_path(proto: str, session: str, address: str = CHOOSE, port: int | str = CHOOSE) -> str:
    """The MSRP URI of a local end with this session id (RFC 4975 6); ``$`` where the MG chooses.

    Raises :class:`H248Error` 449 for a leg that is not MSRP, or for what is no session id.
    """
    layers = proto.split("/")
    if layers[-1] != "MSRP" or not _SESSION.fullmatch(session):
        raise H248Error(449, f"a leg of {proto[:40]} has no session {session[:40]}")
    host = f"[{address}]" if ":" in address else address
    return f"{'msrps' if 'TLS' in layers else 'msrp'}://{host}:{port}/{session};tcp"


def read_session(path: str | None, proto: str) -> str | None:
    """The session id of a path whose address the MG is to choose; raises :class:`H248Error` 449 for any other path."""
    if path is None:
        return None
    head = session_path(proto, "x").removesuffix("x;tcp")
    session = path[len(head) :].removesuffix(";tcp")
    if not path.lower().startswith(head) or not path.lower().endswith(";tcp") or not _SESSION.fullmatch(session):
        raise H248Error(449, f"local path cannot be {path[:100]}")
    return session


def read_properties(control: LocalControl | None) -> Mapping[str, str]:
    """Property values of the profile by the constants' names; strings keep their case, other values are lower case."""
    return _NONE if control is None else _properties(control.properties)


_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@lru_cache(maxsize=256)
def _properties(properties: tuple[Parameter, ...]) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for parameter in properties:
        item = packages.check_property(parameter)
        name = packages.canonical(parameter.name)
        if name in values:
            raise H248Error(456, parameter.name)
        value = str(parameter.value)
        values[name] = value if item.type is Type.STRING else value.lower()
    return MappingProxyType(values)


def read_filter(values: Mapping[str, str]) -> str | None:
    address, port = values.get(packages.SOURCE_ADDRESS_FILTER), values.get(packages.SOURCE_PORT_FILTER)
    if address is None and port is None:
        return None
    for name, pair in SOURCE_FILTERS.items():
        if pair == (address or "off", port or "off"):
            return name
    raise H248Error(449, "a port filter needs an address filter")


@lru_cache(maxsize=256)  # they say what a realm and a medium are like, not what a call is like
def events_of(notify: bool | None, inactivity: int | None, request_id: int, proto: str) -> Events | None:
    if notify is None:
        return None
    if not notify:
        return Events()
    events = [Event(packages.TCP_CHANGE)]
    if "TLS" in proto.split("/"):
        events.append(Event(packages.TLS_CHANGE))
    if inactivity is not None:
        events.append(Event(packages.INACTIVITY, (Parameter(packages.INACTIVITY_TIME, str(inactivity)),)))
    return Events(request_id, tuple(events))


def read_events(events: Events | None) -> tuple[bool | None, int | None, int]:
    """notify, inactivity seconds, request id."""
    if events is None:
        return None, None, 1
    return _read_events(events)


@lru_cache(maxsize=256)
def _read_events(events: Events) -> tuple[bool | None, int | None, int]:
    inactivity = None
    for event in events.events:
        packages.check_event(event)
        if packages.canonical(event.name) == packages.INACTIVITY:
            for parameter in event.parameters:
                if parameter.name.lower() == packages.INACTIVITY_TIME.lower():
                    inactivity = int(str(parameter.value))
    return bool(events.events), inactivity, events.request_id if events.request_id is not None else 1


_START: Final = Signals((Signal(packages.TLS_START),))


def signals_of(start_tls: bool | None) -> Signals | None:
    """The order to start TLS; there is no signal that says the opposite (see ``tls_role``)."""
    return _START if start_tls else None


def read_signals(signals: Signals | None) -> bool | None:
    """True where TLS is to be started, else None; raises :class:`H248Error` 452 or 513 for other signals."""
    if signals is None:
        return None
    return _read_signals(signals)


@lru_cache(maxsize=64)
def _read_signals(signals: Signals) -> bool | None:
    if signals.unknown:
        raise H248Error(513, f"{signals.unknown[0].name} is not supported")
    for signal in signals.signals:
        packages.check_event(Event(signal.name, signal.parameters), Kind.SIGNAL)
    return True if signals.signals else None


def stream_of(command: Command) -> Stream | None:
    """The one stream of a command's media; raises :class:`H248Error` for what the profile does not use."""
    if command.unknown:
        raise H248Error(444, f"{command.unknown[0].name} is not in the profile")
    if command.media is None or not command.media.streams:
        return None
    if len(command.media.streams) > 1 or command.media.streams[0].id != 1:
        raise H248Error(449, "the profile uses stream 1 only")
    return command.media.streams[0]
