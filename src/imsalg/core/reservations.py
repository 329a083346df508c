"""Media plans and answers as H.248: what the AGW is asked for, in which order, and what is kept of it.

One context per secured line, two terminations in it, named here by the side they face. An offer is one transaction
with one ``Context = $`` action per new line: first the termination towards whoever will answer (its remote end is not
known yet), then the one towards the offerer with the offerer's address and, if that is the UE, its fingerprints (TR
29.828 5.2.1.2.2 steps 2 to 7, 5.2.1.2.3 steps 2 to 7). An answer is one transaction with one action per line whose
state changes: first the answerer's side, then the other (steps 13 to 18, 14 to 16).

The state of a termination is the :class:`StreamRequest` that describes it; a Modify is the difference between two of
them. When an end of a connection that may exist has become another, the Modify orders a new connection (RFC 4975 5.4,
RFC 4145 5).
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.media_facts import DISCARD, STRONG_HASHES, Endpoint
from imsalg.core.media_kinds import MEDIA
from imsalg.core.msrp_mode import Mode
from imsalg.core.records import LineRecord
from imsalg.core.stream_changes import difference
from imsalg.media_settings import MediaRealm, MediaSettings
from imswire.base import ProtocolError
from imswire.h248.iq import (
    AddResult,
    RemoteSpec,
    StreamRequest,
    add_pair,
    read_add_reply,
    to_modify,
    to_subtract,
)
from imswire.h248.model import CHOOSE_CONTEXT, Action, Command, TransactionReply
from imswire.sdp.attributes import Setup
from imswire.sdp.offer_answer import Connector, connector


def opposite(side: Side) -> Side:
    """The other side."""
    return Side.CORE if side is Side.ACCESS else Side.ACCESS


class Spare(Struct, frozen=True):
    """The termination of one further answer, and what it was added as."""

    place: AddResult
    request: StreamRequest


class Line:
    """One secured m-line: its context and, per side, the termination and what it is configured to be.

    ``ends`` are the remote ends that were configured last. ``linked``: both were, so that a connection may exist.
    ``down``: the gateway reported that it was closed. ``dead``: the media was given up and the context is gone; the
    next offer of the line begins anew. ``spares`` are core-side terminations of further answers, by their leg
    (:mod:`imsalg.core.fork_lines`); ``crowded``: such were asked for.
    """

    __slots__ = (
        "context",
        "crowded",
        "dead",
        "down",
        "ends",
        "index",
        "linked",
        "medium",
        "mode",
        "requests",
        "spares",
        "terminations",
    )

    def __init__(self, index: int, medium: str, mode: Mode, requests: dict[Side, StreamRequest]) -> None:
        self.index = index
        self.medium = medium
        self.mode = mode
        self.requests = requests
        self.context = 0
        self.terminations: dict[Side, AddResult] = {}
        self.ends: dict[Side, Endpoint] = {}
        self.linked = False
        self.down = False
        self.dead = False
        self.spares: dict[str, Spare] = {}
        self.crowded = False

    def record(self) -> LineRecord:
        """The line as it may be kept."""
        return LineRecord(
            index=self.index,
            medium=self.medium,
            mode=self.mode,
            context=self.context,
            requests=self.requests,
            terminations=self.terminations,
            ends=self.ends,
            linked=self.linked,
            down=self.down,
            dead=self.dead,
        )

    @classmethod
    def restored(cls, record: LineRecord) -> Self:
        """The line that :meth:`record` was made of."""
        line = cls(record.index, record.medium, record.mode, record.requests)
        line.context, line.terminations, line.ends = record.context, record.terminations, record.ends
        line.linked, line.down, line.dead = record.linked, record.down, record.dead
        return line

    @property
    def aware(self) -> bool:
        """True when the AGW rewrites the messages of this line."""
        return self.mode is Mode.AWARE


def fingerprint_hash(end: Endpoint | None) -> str:
    """The hash for the AGW's own fingerprint: one that the UE uses itself, SHA-256 when it can be (RFC 8122 5.1)."""
    offered = [name for name, _ in end.fingerprints] if end is not None else []
    for name in STRONG_HASHES:
        if name in offered:
            return name
    return STRONG_HASHES[0]


def new_line(
    index: int,
    offerer: Side,
    end: Endpoint,
    profile: AccessProfile,
    settings: MediaSettings,
    medium: str = "msrp",
    mode: Mode = Mode.AGNOSTIC,
) -> Line:
    """What to reserve for a line that ``offerer`` described as ``end``; raises :class:`ProtocolError`."""
    requests = {}
    aware = mode is Mode.AWARE
    for side in (opposite(offerer), offerer):
        name = _realm(side, profile)
        realm = settings.realm(name)
        known = side is offerer
        family = end.family if known or realm.family == "auto" else realm.family
        request = StreamRequest(
            realm=realm.agw_realm or name,
            proto=_PROTOS[side, aware],
            family=family,
            tcp_mode="proxy",
            setup=_offered_role(end.setup, known=known),
            ignore_syn=not known and realm.early_syn == "ignore",
            fingerprint_hash=fingerprint_hash(end if known else None) if side is Side.ACCESS else None,
            inactivity=realm.inactivity or None,
            # On the other side the AGW stands for the offerer, whose session id its path there bears.
            local_session=end.session if aware and not known else None,
            **(_towards(side, end, realm, aware=aware) if known else _NOBODY),
        )
        requests[side] = _tls_roles(request, medium, offerer, realm) if side is Side.ACCESS else request
    return Line(index, medium, mode, requests)


_NOBODY: dict[str, Any] = {}
"""What is said of a remote end that is not known yet."""
_PROTOS: dict[tuple[Side, bool], str] = {
    (Side.ACCESS, False): "TCP/TLS",
    (Side.CORE, False): "TCP",
    (Side.ACCESS, True): "TCP/TLS/MSRP",
    (Side.CORE, True): "TCP/MSRP",
}
"""Side, and whether messages are rewritten -> the transport over Iq: no application is named where none matters."""


def _realm(side: Side, profile: AccessProfile) -> str:
    return profile.access_realm if side is Side.ACCESS else profile.core_realm


def _offered_role(setup: Setup | None, *, known: bool) -> str | None:
    """The role of our side before the answer: never dial an end that will be active, hold what is held."""
    if setup is Setup.HOLDCONN:
        return "holdconn"
    return "passive" if known and setup is Setup.ACTIVE else None


def _tls_roles(request: StreamRequest, medium: str, offerer: Side, realm: MediaRealm) -> StreamRequest:
    """The TLS role of an access termination that does not follow the TCP direction (RFC 8856 8; TR 29.828 5.2.1.3.3
    step 2: the AGW, which stands for the offerer in the core, is told at once to start TLS)."""
    if MEDIA[medium].tls == "tcp-active" or realm.bfcp_tls_role == "tcp-active":
        return request
    if offerer is Side.ACCESS:
        return replace(request, tls_role="server", start_tls=None)
    return replace(request, tls_role="client", start_tls=True)


def _towards(side: Side, end: Endpoint, realm: MediaRealm, *, aware: bool) -> dict[str, Any]:
    """What a request says of its remote end, and of whom to let in."""
    remote = RemoteSpec(
        end.address,
        end.port,
        end.fingerprints if side is Side.ACCESS else (),
        end.path.strip() if aware else None,
    )
    if realm.latch:
        return {"remote": remote, "latch": True}
    filter_ = realm.source_filter
    prefix = realm.source_prefix4 if end.family == "IP4" else realm.source_prefix6
    mask = f"{ipaddress.ip_network(f'{end.address}/{prefix}', strict=False)}" if prefix and filter_ != "off" else None
    ports = realm.ports if filter_ == "address-and-port" else None
    return {"remote": remote, "source_filter": filter_, "source_mask": mask, "source_ports": ports}


def reserve(lines: Iterable[Line], offerer: Side) -> tuple[Action, ...]:
    """The actions of the transaction for an offer: the side of whoever will answer first."""
    answerer = opposite(offerer)
    return tuple([add_pair(line.requests[answerer], line.requests[offerer]) for line in lines])


def take_reply(lines: list[Line], offerer: Side, reply: TransactionReply) -> None:
    """Read what the AGW chose into ``lines``; raises :class:`ProtocolError` (H248Error with its code) for any
    failure."""
    if len(reply.actions) != len(lines):
        raise ProtocolError("h248.reply", f"{len(lines)} contexts asked for, {len(reply.actions)} in the reply")
    for line, action in zip(lines, reply.actions, strict=True):
        adds = []
        for command in action.commands:
            if command.error is not None:
                read_add_reply(command)
            if command.name == "Add":
                adds.append(command)
        if len(adds) != 2:
            raise ProtocolError("h248.reply", f"two terminations asked for, {len(adds)} in the reply")
        line.context = action.context
        for side, command in zip((opposite(offerer), offerer), adds, strict=True):
            line.terminations[side] = read_add_reply(command)
        if line.terminations[Side.ACCESS].fingerprint is None:
            raise ProtocolError("h248.reply", "the gateway gave no fingerprint")


def contexts_of(reply: TransactionReply) -> tuple[int, ...]:
    """The contexts that a reply to a reservation made: to be subtracted when it is not wanted or failed half-way."""
    return tuple(
        action.context
        for action in reply.actions
        if 0 < action.context < CHOOSE_CONTEXT
        and any(command.name == "Add" and command.error is None for command in action.commands)
    )


def setup_to_offer(offered: Setup | None, tcp_mode: str) -> Setup | None:
    """``a=setup`` of the offer that goes on: in merge mode whoever answers may take either role, whatever the offerer
    takes (TS 23.334 5.16.2.3)."""
    return offered if tcp_mode != "merge" or offered is Setup.HOLDCONN else Setup.ACTPASS


def connecting(offerer: Side, offered: Endpoint, answered: Endpoint, tcp_mode: str) -> frozenset[Side] | None:
    """The sides whose ends open TCP connections, None while it is held (RFC 4145 4; without ``a=setup`` the offerer).

    In proxy mode exactly one side; in merge mode both, one or none. Raises :class:`ProtocolError` for an answer that is
    not legal, and when an end that is to be dialled shows the discard port.
    """
    active = _active(offerer, offered.setup, answered.setup, tcp_mode)
    if active is None or DISCARD not in (offered.port, answered.port):
        return active
    for side, end in ((offerer, offered), (opposite(offerer), answered)):
        if side not in active and end.port == DISCARD:
            raise ProtocolError("sdp.port", "the passive end shows port 9, where nothing can be dialled")
    return active


@lru_cache(maxsize=128)  # two sides, five roles on each, two modes
def _active(offerer: Side, offered: Setup | None, answered: Setup | None, tcp_mode: str) -> frozenset[Side] | None:
    """The same by the roles alone."""
    outcome = connector(setup_to_offer(offered, tcp_mode), answered)
    if outcome is Connector.NOBODY:
        return None
    active = {opposite(offerer)} if outcome is Connector.ANSWERER else set()
    own = offered or Setup.ACTIVE
    if own is Setup.ACTPASS or tcp_mode != "merge":
        active |= set() if active else {offerer}
    elif own is Setup.ACTIVE:
        active.add(offerer)
    return frozenset(active)


class Target(Struct, frozen=True):
    """What both terminations of a line are to be, and whether that needs a new connection; ``ends`` are what it is
    for."""

    requests: dict[Side, StreamRequest]
    ends: dict[Side, Endpoint]
    linked: bool
    reconnect: bool = False


def configured(
    line: Line,
    offerer: Side,
    ends: dict[Side, Endpoint],
    active: frozenset[Side] | None,
    profile: AccessProfile,
    settings: MediaSettings,
) -> Target:
    """What a line is to be once offer and answer are known.

    Our role on a side is the counterpart of the remote end's role there. For MSRP, TLS on the access side starts from
    us (``TLS=active``, step 16) when we dial the UE. A later exchange that changes no end keeps the roles of the
    connection that may exist (RFC 4975 8.1 asks for no second one); one that does begins anew.
    """
    aware = line.aware
    reconnect = False
    if line.linked and active is not None:
        held = any(request.setup == "holdconn" for request in line.requests.values())
        other = any(line.ends[side].differs(end) or end.renewed for side, end in ends.items() if line.ends)
        reconnect = line.down or other
        if not reconnect and not held:
            return Target(line.requests, line.ends, linked=True)
    wanted: dict[Side, StreamRequest] = {}
    for side, request in line.requests.items():
        realm = settings.realm(_realm(side, profile))
        after = replace(
            request,
            **_towards(side, ends[side], realm, aware=aware),
            setup="holdconn" if active is None else "passive" if side in active else "active",
            tcp_mode="merge" if active is not None and len(active) != 1 else "proxy",
            ignore_syn=False,
            local_session=ends[opposite(side)].session if aware else None,
        )
        wanted[side] = after if side is Side.CORE else _tls_start(line, after, offerer, active, realm, reconnect)
    return Target(wanted, dict(ends), linked=line.linked or active is not None, reconnect=reconnect)


def _tls_start(
    line: Line, request: StreamRequest, offerer: Side, active: frozenset[Side] | None, realm: MediaRealm, anew: bool
) -> StreamRequest:
    """The access side's request with who begins TLS; ``anew``: on a new connection."""
    if anew or not line.linked:
        if request.start_tls is not None:
            request = replace(request, start_tls=None)
        request = _tls_roles(request, line.medium, offerer, realm)
    start = True if active is not None and Side.ACCESS not in active else None
    return request if request.tls_role is not None or request.start_tls is start else replace(request, start_tls=start)


def modify(line: Line, target: Target, first: Side) -> Action | None:
    """The action that configures a line, ``first`` side first; None when it is as wanted already.

    A new connection is ordered once, for it concerns the whole context; an order to start TLS goes with it anew.
    """
    commands: list[Command] = []
    for side in (first, opposite(first)):
        before, after = line.requests[side], target.requests[side]
        if target.reconnect:
            before = replace(before, start_tls=None)
        change = difference(before, after, reconnect=target.reconnect and side is first)
        if change is not None:
            commands.append(to_modify(line.terminations[side].termination, change))
    return Action(line.context, tuple(commands)) if commands else None


def adopt(line: Line, target: Target) -> None:
    """The gateway is as wanted now."""
    line.requests, line.ends, line.linked = target.requests, target.ends, target.linked
    if target.reconnect:
        line.down = False


def first_error(reply: TransactionReply) -> tuple[int, str] | None:
    """The first error of a reply, at any level, as (code, text)."""
    if reply.error is not None:
        return reply.error.code, reply.error.text
    for action in reply.actions:
        if action.error is not None:
            return action.error.code, action.error.text
        for command in action.commands:
            if command.error is not None:
                return command.error.code, command.error.text
    return None


def subtract(line: Line) -> Action:
    """Both terminations of a line, by name, with their statistics; all of a context that may have more."""
    if line.crowded:
        return Action(line.context, (to_subtract(),))
    return Action(line.context, tuple([to_subtract(t.termination) for t in line.terminations.values()]))


def subtract_contexts(contexts: Iterable[int]) -> tuple[Action, ...]:
    """Whole contexts, whatever is in them."""
    return tuple(Action(context, (to_subtract(),)) for context in contexts)
