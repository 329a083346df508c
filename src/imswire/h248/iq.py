"""What the Iq profile's commands mean, as typed values that both daemons share; all of it is to be had here.

The IMS-ALG builds requests (``to_add``, ``to_modify``, ``to_subtract`` ...) and reads replies; the IMS-AGW reads
requests and builds replies and Notify. One e2ae m-line is one context of two terminations, stream 1 each
(TR 29.828 5.2.1.2);
one transaction carries an SDP offer (one ``Context = $`` action per m-line) and one its answer.
"""

from collections.abc import Mapping
from functools import lru_cache

from imswire.h248 import packages
from imswire.h248.body import SETUPS, Body, Fingerprint, fingerprint_text, read_body, write_body
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
    LocalControl,
    Media,
    Parameter,
    Stream,
)

# --- Add ------------------------------------------------------------------------------------------------------------


def to_add(request: StreamRequest, termination: str = CHOOSE) -> Command:
    """The Add request of a stream; raises :class:`H248Error` 449 if the request holds a value outside the profile."""
    media, formats = media_line(request.proto)
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
        None if request.local_session is None else session_path(request.proto, request.local_session),
    )
    stream = Stream(
        1,
        _control(request.mode, request.realm, property_list(request)),
        write_body(local),
        None if request.remote is None else remote_text(request.proto, request.family, request.remote),
    )
    return Command(
        "Add",
        termination,
        media=Media((stream,)),
        events=events_of(request.notify, request.inactivity, request.request_id, request.proto)
        if request.notify
        else None,
        signals=signals_of(request.start_tls),
    )


@lru_cache(maxsize=256)
def _control(mode: str, realm: str, properties: tuple[Parameter, ...]) -> LocalControl:
    """The LocalControl of an Add: what a realm is like, not what a call is like."""
    return LocalControl(mode=mode, properties=(Parameter(packages.REALM, realm), *properties))


def read_add(command: Command) -> StreamRequest:
    """What an Add asks for; raises :class:`H248Error` with the code to answer."""
    stream = stream_of(command)
    if stream is None or stream.local is None:
        raise H248Error(441, "Add without a Local descriptor")
    local = read_body(stream.local)
    media_line(local.proto)
    values = read_properties(stream.control)
    if packages.RECONNECT in values:
        raise H248Error(449, f"{packages.RECONNECT} has no meaning in an Add")
    if packages.REALM not in values:
        raise H248Error(449, f"{packages.REALM} is missing")
    filter_ = read_filter(values)
    notify, inactivity, request_id = read_events(command.events)
    return StreamRequest(
        realm=values[packages.REALM],
        proto=local.proto,
        family=local.family,
        local_address=local.address,
        local_port=local.port,
        tcp_mode=values.get(packages.TCP_MODE, "proxy"),
        setup=local.setup,
        ignore_syn=bool(read_flag(values, packages.IGNORE_SYN)),
        source_filter=filter_ or "off",
        fingerprint_hash=local.fingerprint_wanted,
        remote=read_remote(stream.remote, local.proto),
        start_tls=read_signals(command.signals),
        inactivity=inactivity,
        notify=bool(notify),
        mode=(stream.control.mode if stream.control and stream.control.mode else "Inactive"),
        request_id=request_id,
        tls_role=values.get(packages.TLS_ROLE),
        local_session=read_session(local.path, local.proto),
        source_mask=read_mask(values),
        source_ports=read_ports(values),
        latch=read_flag(values, packages.LATCH),
    )


def add_reply(result: AddResult, request: StreamRequest) -> Command:
    """The reply to an Add: the Local descriptor with what was chosen."""
    media, formats = media_line(request.proto)
    fingerprints = () if result.fingerprint is None else (result.fingerprint,)
    path = result.path
    if path is None and request.local_session is not None:
        path = session_path(request.proto, request.local_session, result.address, result.port)
    local = Body(
        media,
        request.proto,
        formats,
        request.family,
        result.address,
        result.port,
        request.setup,
        fingerprints,
        path=path,
    )
    return Command("Add", result.termination, media=Media((Stream(1, local=write_body(local)),)))


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
    media, formats = media_line(change.proto)
    properties = property_list(change)
    if change.reconnect:
        properties += (Parameter(packages.RECONNECT, "on"),)
    local = None
    if change.setup is not None or change.local_session is not None:
        path = None if change.local_session is None else session_path(change.proto, change.local_session)
        local = write_body(Body(media, change.proto, formats, change.family, None, None, change.setup, path=path))
    control = LocalControl(mode=change.mode, properties=properties) if properties or change.mode else None
    remote = None if change.remote is None else remote_text(change.proto, change.family, change.remote)
    described = control is not None or local is not None or remote is not None
    return Command(
        "Modify",
        termination,
        media=Media((Stream(1, control, local, remote),)) if described else None,
        events=events_of(change.notify, change.inactivity, change.request_id, change.proto),
        signals=signals_of(change.start_tls),
    )


def read_modify(command: Command, request: StreamRequest) -> StreamChange:
    """What a Modify changes on a termination that was added as ``request``; raises :class:`H248Error` 44x."""
    stream = stream_of(command)
    values: Mapping[str, str] = {}
    setup = remote = mode = session = None
    if stream is not None:
        values = read_properties(stream.control)
        if stream.local is not None:
            local = read_body(stream.local)
            if local.proto != request.proto or local.family != request.family:
                raise H248Error(449, f"a Modify cannot turn {request.proto} into {local.proto[:40]}")
            setup = local.setup
            session = read_session(local.path, local.proto)
        remote = read_remote(stream.remote, request.proto)
        mode = stream.control.mode if stream.control else None
    notify, inactivity, request_id = read_events(command.events)
    return StreamChange(
        proto=request.proto,
        family=request.family,
        remote=remote,
        setup=setup,
        tcp_mode=values.get(packages.TCP_MODE),
        ignore_syn=read_flag(values, packages.IGNORE_SYN),
        source_filter=read_filter(values),
        start_tls=read_signals(command.signals),
        inactivity=inactivity,
        notify=notify,
        mode=mode,
        request_id=request_id,
        tls_role=values.get(packages.TLS_ROLE),
        local_session=session,
        source_mask=read_mask(values),
        source_ports=read_ports(values),
        latch=read_flag(values, packages.LATCH),
        reconnect=bool(read_flag(values, packages.RECONNECT)),
    )


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
