"""What the Iq profile's commands mean, as typed values that both daemons share; all of it is to be had here.

The IMS-ALG builds requests (``to_add``, ``to_modify``, ``to_subtract`` ...) and reads replies; the IMS-AGW reads
requests and builds replies and Notify. One e2ae m-line is one context of two terminations, stream 1 each
(TR 29.828 5.2.1.2);
one transaction carries an SDP offer (one ``Context = $`` action per m-line) and one its answer.
"""

from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from imswire.h248 import packages
from imswire.h248.body import (
    SETUPS,
    Body,
    Fingerprint,
    fingerprint_text,
    place_text,
    read_body,
    read_path,
    write_body,
)
from imswire.h248.errors import H248Error
from imswire.h248.iq_control import (
    REASONS,
    ServiceChangeRequest,
    audit_alive,
    audit_all,
    audit_contexts,
    audit_contexts_reply,
    audit_named,
    audit_packages,
    audit_reply,
    audit_these,
    read_audit_reply,
    read_contexts_reply,
    read_service_change,
    registration,
    service_change_reply,
    subtract_context,
    termination_name,
    to_service_change,
)
from imswire.h248.iq_parts import (
    PROTOS,
    SOURCE_FILTERS,
    RemoteSpec,
    events_of,
    media_line,
    property_list,
    read_events,
    read_filter,
    read_flag,
    read_mask,
    read_ports,
    read_properties,
    read_remote,
    read_session,
    read_signals,
    remote_text,
    session_path,
    signals_of,
    stream_of,
)
from imswire.h248.iq_report import (
    FAILURE_KINDS,
    MediaFailure,
    Statistics,
    notify_reply,
    read_notify,
    read_statistics,
    to_notify,
    to_statistics,
)
from imswire.h248.iq_values import AddResult, StreamChange, StreamRequest
from imswire.h248.model import (
    ALL,
    CHOOSE,
    CHOOSE_CONTEXT,
    Action,
    Audit,
    Command,
    Events,
    LocalControl,
    Media,
    Parameter,
    Signals,
    Stream,
)

_REMEMBERED: Final = 512
"""Characters of a Local descriptor that is worth being remembered, at most."""

type Parts = tuple[LocalControl | None, str | None, Events | None, Signals | None]
"""What a command says beside its Remote: local control, the octets of Local, events, signals."""

# --- Add ------------------------------------------------------------------------------------------------------------


def to_add(request: StreamRequest, termination: str = CHOOSE) -> Command:
    """The Add request of a stream; raises :class:`H248Error` 449 if the request holds a value outside the profile."""
    remote = request.remote
    if remote is None:
        bare, octets = request, None
    else:
        bare, octets = replace(request, remote=None), remote_text(request.proto, request.family, remote)
    control, local, events, signals = (_add_parts if request.local_session is None else _make_add_parts)(bare)
    return Command("Add", termination, Media((Stream(1, control, local, octets),)), events, signals)


def _make_add_parts(request: StreamRequest) -> Parts:
    """What an Add says whatever its remote end is."""
    media, formats = media_line(request.proto)
    path = None if request.local_session is None else session_path(request.proto, request.local_session)
    local = Body(
        media,
        request.proto,
        formats,
        request.family,
        request.local_address,
        request.local_port,
        request.setup,
        (),
        request.fingerprint_hash,
        path,
    )
    return (
        _control(request.mode, request.realm, property_list(request)),
        write_body(local),
        events_of(True, request.inactivity, request.request_id, request.proto) if request.notify else None,
        signals_of(request.start_tls),
    )


_add_parts = lru_cache(maxsize=256)(_make_add_parts)  # a realm and a medium say it, not a call


@lru_cache(maxsize=256)
def _control(mode: str, realm: str, properties: tuple[Parameter, ...]) -> LocalControl:
    """The LocalControl of an Add: what a realm is like, not what a call is like."""
    return LocalControl(mode=mode, properties=(Parameter(packages.REALM, realm), *properties))


def read_add(command: Command) -> StreamRequest:
    """What an Add asks for; raises :class:`H248Error` with the code to answer."""
    stream = stream_of(command)
    if stream is None or stream.local is None:
        raise H248Error(441, "Add without a Local descriptor")
    local = stream.local
    read = _asked if CHOOSE in local and len(local) <= _REMEMBERED else _read_asked
    request = read(stream.control, local, command.events, command.signals)
    if stream.remote is None:
        return request
    return replace(request, remote=read_remote(stream.remote, request.proto))


def _read_asked(
    control: LocalControl | None, local_text: str, events: Events | None, signals: Signals | None
) -> StreamRequest:
    """What an Add asks for whatever its remote end is."""
    local = read_body(local_text)
    media_line(local.proto)
    values = read_properties(control)
    if packages.RECONNECT in values:
        raise H248Error(449, f"{packages.RECONNECT} has no meaning in an Add")
    if packages.REALM not in values:
        raise H248Error(449, f"{packages.REALM} is missing")
    notify, inactivity, request_id = read_events(events)
    return StreamRequest(
        realm=values[packages.REALM],
        proto=local.proto,
        family=local.family,
        local_address=local.address,
        local_port=local.port,
        tcp_mode=values.get(packages.TCP_MODE, "proxy"),
        setup=local.setup,
        ignore_syn=bool(read_flag(values, packages.IGNORE_SYN)),
        source_filter=read_filter(values) or "off",
        fingerprint_hash=local.fingerprint_wanted,
        start_tls=read_signals(signals),
        inactivity=inactivity,
        notify=bool(notify),
        mode=control.mode if control and control.mode else "Inactive",
        request_id=request_id,
        tls_role=values.get(packages.TLS_ROLE),
        local_session=read_session(local.path, local.proto),
        source_mask=read_mask(values),
        source_ports=read_ports(values),
        latch=read_flag(values, packages.LATCH),
    )


_asked = lru_cache(maxsize=256)(_read_asked)


def add_reply(result: AddResult, request: StreamRequest) -> Command:
    """The reply to an Add: the Local descriptor with what was chosen."""
    media, formats = media_line(request.proto)
    local = place_text(request.family, result.address, media, result.port, request.proto, formats)
    if request.setup is not None:
        local += f"\r\na=setup:{request.setup}"
    if result.fingerprint is not None:
        local += f"\r\na=fingerprint:{fingerprint_text(result.fingerprint)}"
    path = result.path
    if path is None and request.local_session is not None:
        path = session_path(request.proto, request.local_session, result.address, result.port)
    if path is not None:
        local += f"\r\na=path:{read_path(path)}"
    return Command("Add", result.termination, Media((Stream(1, None, local),)))


def read_add_reply(command: Command) -> AddResult:
    """What the AGW chose; raises :class:`H248Error`: the code of its error descriptor, or 441/442/449 if unusable."""
    if command.error is not None:
        raise H248Error(command.error.code, command.error.text)
    stream = stream_of(command)
    if stream is None or stream.local is None:
        raise H248Error(441, "Add reply without a Local descriptor")
    local = read_body(stream.local)
    if local.address is None or local.port is None:
        raise H248Error(449, "Add reply without a chosen address")
    fingerprint = local.fingerprints[0] if local.fingerprints else None
    return AddResult(command.termination, local.address, local.port, fingerprint, local.path)


# --- Modify ---------------------------------------------------------------------------------------------------------


def to_modify(termination: str, change: StreamChange) -> Command:
    """The Modify request of a change. ``$`` in its Local descriptor keeps the address that the AGW chose before."""
    remote = change.remote
    if remote is None:
        bare, octets = change, None
    else:
        bare, octets = replace(change, remote=None), remote_text(change.proto, change.family, remote)
    control, local, events, signals = (_modify_parts if change.local_session is None else _make_modify_parts)(bare)
    described = control is not None or local is not None or octets is not None
    media = Media((Stream(1, control, local, octets),)) if described else None
    return Command("Modify", termination, media, events, signals)


def _make_modify_parts(change: StreamChange) -> Parts:
    """What a Modify says whatever its remote end is."""
    media, formats = media_line(change.proto)
    properties = property_list(change)
    if change.reconnect:
        properties += (Parameter(packages.RECONNECT, "on"),)
    local = None
    if change.setup is not None or change.local_session is not None:
        path = None if change.local_session is None else session_path(change.proto, change.local_session)
        local = write_body(Body(media, change.proto, formats, change.family, None, None, change.setup, path=path))
    control = LocalControl(mode=change.mode, properties=properties) if properties or change.mode else None
    events = events_of(change.notify, change.inactivity, change.request_id, change.proto)
    return control, local, events, signals_of(change.start_tls)


_modify_parts = lru_cache(maxsize=256)(_make_modify_parts)


def read_modify(command: Command, request: StreamRequest) -> StreamChange:
    """What a Modify changes on a termination that was added as ``request``; raises :class:`H248Error` 44x."""
    stream = stream_of(command)
    control = local = remote = None
    if stream is not None:
        control, local, remote = stream.control, stream.local, stream.remote
    read = _changed if local is None or (CHOOSE in local and len(local) <= _REMEMBERED) else _read_changed
    change = read(control, local, command.events, command.signals, request.proto, request.family)
    return change if remote is None else replace(change, remote=read_remote(remote, request.proto))


def _read_changed(
    control: LocalControl | None,
    local_text: str | None,
    events: Events | None,
    signals: Signals | None,
    proto: str,
    family: str,
) -> StreamChange:
    """What a Modify changes whatever its remote end is."""
    values = read_properties(control)
    setup = session = None
    if local_text is not None:
        local = read_body(local_text)
        if local.proto != proto or local.family != family:
            raise H248Error(449, f"a Modify cannot turn {proto} into {local.proto[:40]}")
        setup = local.setup
        session = read_session(local.path, local.proto)
    notify, inactivity, request_id = read_events(events)
    return StreamChange(
        proto=proto,
        family=family,
        setup=setup,
        tcp_mode=values.get(packages.TCP_MODE),
        ignore_syn=read_flag(values, packages.IGNORE_SYN),
        source_filter=read_filter(values),
        start_tls=read_signals(signals),
        inactivity=inactivity,
        notify=notify,
        mode=control.mode if control else None,
        request_id=request_id,
        tls_role=values.get(packages.TLS_ROLE),
        local_session=session,
        source_mask=read_mask(values),
        source_ports=read_ports(values),
        latch=read_flag(values, packages.LATCH),
        reconnect=bool(read_flag(values, packages.RECONNECT)),
    )


_changed = lru_cache(maxsize=256)(_read_changed)


def modify_reply(termination: str) -> Command:
    """The reply to a Modify that was carried out."""
    return Command("Modify", termination)


# --- Subtract, statistics -------------------------------------------------------------------------------------------


def to_subtract(termination: str = ALL, *, statistics: bool = True, wildcard_reply: bool = False) -> Command:
    """A Subtract of one termination or of all (``*``) of its context; ``wildcard_reply`` asks for one reply for all."""
    audit = Audit(("Statistics",) if statistics else ())
    return Command("Subtract", termination, audit=audit, wildcard=wildcard_reply)


def subtract_reply(termination: str, statistics: Statistics | None = None) -> Command:
    """The reply to a Subtract."""
    return Command("Subtract", termination, statistics=None if statistics is None else to_statistics(statistics))


# --- actions --------------------------------------------------------------------------------------------------------


def add_pair(first: StreamRequest, second: StreamRequest) -> Action:
    """One new context with two terminations, in the order of the flow (core first when originating)."""
    return Action(CHOOSE_CONTEXT, (to_add(first), to_add(second)))


__all__ = [
    "FAILURE_KINDS",
    "PROTOS",
    "REASONS",
    "SETUPS",
    "SOURCE_FILTERS",
    "AddResult",
    "Fingerprint",
    "MediaFailure",
    "RemoteSpec",
    "ServiceChangeRequest",
    "Statistics",
    "StreamChange",
    "StreamRequest",
    "add_pair",
    "add_reply",
    "audit_alive",
    "audit_all",
    "audit_contexts",
    "audit_contexts_reply",
    "audit_named",
    "audit_packages",
    "audit_reply",
    "audit_these",
    "fingerprint_text",
    "modify_reply",
    "notify_reply",
    "read_add",
    "read_add_reply",
    "read_audit_reply",
    "read_contexts_reply",
    "read_modify",
    "read_notify",
    "read_service_change",
    "read_statistics",
    "registration",
    "service_change_reply",
    "session_path",
    "subtract_context",
    "subtract_reply",
    "termination_name",
    "to_add",
    "to_modify",
    "to_notify",
    "to_service_change",
    "to_statistics",
    "to_subtract",
]
