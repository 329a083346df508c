"""The parts that several commands of the Iq profile share: properties, events, signals and SDP of a stream."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from imswire.h248 import packages
from imswire.h248.body import Body, Fingerprint, read_body, write_body
from imswire.h248.errors import H248Error
from imswire.h248.model import Command, Event, Events, LocalControl, Parameter, Signal, Signals, Stream

PROTOS: Final[dict[str, tuple[str, str]]] = {
    "TCP": ("-", "-"),
    "TCP/TLS": ("-", "-"),
    "TCP/MSRP": ("message", "*"),
    "TCP/TLS/MSRP": ("message", "*"),
}
"""Transport protocols over Iq, each with media type and format of its m-line; ``-`` where application-agnostic."""

SOURCE_FILTERS: Final = {"off": ("off", "off"), "address": ("on", "off"), "address-and-port": ("on", "on")}
"""Source filter, with the values of the address and the port filter property."""


class RemoteSpec(Struct, frozen=True):
    """The remote end of a termination: transport address and, on a TLS leg, fingerprints its certificate may have."""

    address: str
    port: int
    fingerprints: tuple[Fingerprint, ...] = ()


def media_line(proto: str) -> tuple[str, str]:
    """Media type and format for a transport protocol; raises :class:`H248Error` 449 for one outside the profile."""
    known = PROTOS.get(proto)
    if known is None:
        raise H248Error(449, f"transport protocol cannot be {proto[:40]}")
    return known


def remote_text(proto: str, family: str, remote: RemoteSpec) -> str:
    """The SDP of a Remote descriptor."""
    media, formats = media_line(proto)
    return write_body(Body(media, proto, formats, family, remote.address, remote.port, None, remote.fingerprints))


def read_remote(text: str | None, proto: str) -> RemoteSpec | None:
    """Read a Remote descriptor beside a Local one of ``proto``; raises :class:`H248Error` 449 where they disagree."""
    if text is None:
        return None
    body = read_body(text)
    if body.proto != proto:
        raise H248Error(449, f"Remote has {body.proto[:40]}, Local {proto}")
    if body.address is None or body.port is None:
        raise H248Error(449, "the remote address cannot be chosen by the MG")
    return RemoteSpec(body.address, body.port, body.fingerprints)


def property_list(mode: str | None, ignore_syn: bool | None, source_filter: str | None) -> tuple[Parameter, ...]:
    made = []
    if mode is not None:
        if mode not in packages.TCP_MODES:
            raise H248Error(449, f"TCP mode cannot be {mode[:40]}")
        made.append(Parameter(packages.TCP_MODE, mode))
    if ignore_syn is not None:
        made.append(Parameter(packages.IGNORE_SYN, "on" if ignore_syn else "off"))
    if source_filter is not None:
        if source_filter not in SOURCE_FILTERS:
            raise H248Error(449, f"source filter cannot be {source_filter[:40]}")
        address, port = SOURCE_FILTERS[source_filter]
        made.append(Parameter(packages.SOURCE_ADDRESS_FILTER, address))
        made.append(Parameter(packages.SOURCE_PORT_FILTER, port))
    return tuple(made)


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
        values[name] = value if item.type is packages.Type.STRING else value.lower()
    return MappingProxyType(values)


def read_filter(values: Mapping[str, str]) -> str | None:
    address, port = values.get(packages.SOURCE_ADDRESS_FILTER), values.get(packages.SOURCE_PORT_FILTER)
    if address is None and port is None:
        return None
    for name, pair in SOURCE_FILTERS.items():
        if pair == (address or "off", port or "off"):
            return name
    raise H248Error(449, "a port filter needs an address filter")


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
    inactivity = None
    for event in events.events:
        packages.check_event(event)
        if packages.canonical(event.name) == packages.INACTIVITY:
            for parameter in event.parameters:
                if parameter.name.lower() == packages.INACTIVITY_TIME.lower():
                    inactivity = int(str(parameter.value))
    return bool(events.events), inactivity, events.request_id if events.request_id is not None else 1


def signals_of(start_tls: bool | None) -> Signals | None:
    if start_tls is None:
        return None
    return Signals((Signal(packages.TLS_START),) if start_tls else ())


def read_signals(signals: Signals | None) -> bool | None:
    if signals is None:
        return None
    if signals.unknown:
        raise H248Error(513, f"{signals.unknown[0].name} is not supported")
    for signal in signals.signals:
        packages.check_event(Event(signal.name, signal.parameters), packages.Kind.SIGNAL)
    return bool(signals.signals)


def stream_of(command: Command) -> Stream | None:
    """The one stream of a command's media; raises :class:`H248Error` for what the profile does not use."""
    if command.unknown:
        raise H248Error(444, f"{command.unknown[0].name} is not in the profile")
    if command.media is None or not command.media.streams:
        return None
    if len(command.media.streams) > 1 or command.media.streams[0].id != 1:
        raise H248Error(449, "the profile uses stream 1 only")
    return command.media.streams[0]
