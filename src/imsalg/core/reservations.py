"""Media plans and answers as H.248: what the AGW is asked for, in which order, and what is kept of it.

One context per secured line, two terminations in it, named here by the side they face. An offer is one transaction
with one ``Context = $`` action per new line: first the termination towards whoever will answer (its remote end is not
known yet), then the one towards the offerer with the offerer's address and, if that is the UE, its fingerprints (TR
29.828 5.2.1.2.2 steps 2 to 7, 5.2.1.2.3 steps 2 to 7). An answer is one transaction with one action per line whose
state changes: first the answerer's side, then the other (steps 13 to 18, 14 to 16).

The state of a termination is the :class:`StreamRequest` that describes it; a Modify is the difference between two of
them.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from imsalg.core.media_events import AccessProfile, Side
from imsalg.core.media_facts import DISCARD, STRONG_HASHES, Endpoint
from imsalg.media_settings import MediaSettings
from imswire.base import ProtocolError
from imswire.h248.iq import (
    AddResult,
    RemoteSpec,
    StreamChange,
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


class Line:
    """One secured m-line: its context and, per side, the termination and what it is configured to be.

    ``linked`` becomes True when both remote ends are configured and a connection may exist.
    """

    __slots__ = ("context", "index", "linked", "requests", "terminations")

    def __init__(self, index: int, requests: dict[Side, StreamRequest]) -> None:
        self.index = index
        self.requests = requests
        self.context = 0
        self.terminations: dict[Side, AddResult] = {}
        self.linked = False


def fingerprint_hash(end: Endpoint | None) -> str:
    """The hash for the AGW's own fingerprint: one that the UE uses itself, SHA-256 when it can be (RFC 8122 5.1)."""
    offered = {name for name, _ in end.fingerprints} if end is not None else set()
    return next((name for name in STRONG_HASHES if name in offered), STRONG_HASHES[0])


def new_line(index: int, offerer: Side, end: Endpoint, profile: AccessProfile, settings: MediaSettings) -> Line:
    """What to reserve for a line that ``offerer`` described as ``end``."""
    requests = {}
    for side in (opposite(offerer), offerer):
        name = profile.access_realm if side is Side.ACCESS else profile.core_realm
        realm = settings.realm(name)
        known = side is offerer
        family = end.family if known or realm.family == "auto" else realm.family
        requests[side] = StreamRequest(
            realm=realm.agw_realm or name,
            proto="TCP/TLS" if side is Side.ACCESS else "TCP",
            family=family,
            tcp_mode="proxy",
            setup=_offered_role(end.setup, known=known),
            ignore_syn=not known and realm.early_syn == "ignore",
            source_filter=realm.source_filter if known else "off",
            fingerprint_hash=fingerprint_hash(end if known else None) if side is Side.ACCESS else None,
            remote=_remote(side, end) if known else None,
            inactivity=realm.inactivity or None,
        )
    return Line(index, requests)


def _offered_role(setup: Setup | None, *, known: bool) -> str | None:
    """The role of our side before the answer: never dial an end that will be active, hold what is held."""
    if setup is Setup.HOLDCONN:
        return "holdconn"
    return "passive" if known and setup is Setup.ACTIVE else None


def _remote(side: Side, end: Endpoint) -> RemoteSpec:
    return RemoteSpec(end.address, end.port, end.fingerprints if side is Side.ACCESS else ())


def reserve(lines: Iterable[Line], offerer: Side) -> tuple[Action, ...]:
    """The actions of the transaction for an offer: the side of whoever will answer first."""
    return tuple(add_pair(line.requests[opposite(offerer)], line.requests[offerer]) for line in lines)


def take_reply(lines: list[Line], offerer: Side, reply: TransactionReply) -> None:
    """Read what the AGW chose into ``lines``; raises :class:`ProtocolError` (H248Error with its code) for any
    failure."""
    if len(reply.actions) != len(lines):
        raise ProtocolError("h248.reply", f"{len(lines)} contexts asked for, {len(reply.actions)} in the reply")
    for line, action in zip(lines, reply.actions, strict=True):
        for command in action.commands:
            if command.error is not None:
                read_add_reply(command)
        adds = [command for command in action.commands if command.name == "Add"]
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


def active_side(offerer: Side, offered: Endpoint, answered: Endpoint) -> Side | None:
    """Whose end opens the TCP connection, None while it is held (RFC 4145 4; without ``a=setup`` the offerer).

    That end is the TLS client too (RFC 6135 6). Raises :class:`ProtocolError` for an answer that is not legal, and when
    the end that is to be dialled shows the discard port.
    """
    outcome = connector(offered.setup, answered.setup)
    if outcome is Connector.NOBODY:
        return None
    by_offerer = outcome is Connector.OFFERER
    if (answered if by_offerer else offered).port == DISCARD:
        raise ProtocolError("sdp.port", "the passive end shows port 9, where nothing can be dialled")
    return offerer if by_offerer else opposite(offerer)


def configured(
    line: Line, ends: dict[Side, Endpoint], active: Side | None, profile: AccessProfile, settings: MediaSettings
) -> dict[Side, StreamRequest]:
    """What both terminations are to be once offer and answer are known.

    Our role on a side is the counterpart of the remote end's role there, so that exactly one side is dialled. On the
    access side TLS starts from us (``TLS=active``, step 16) when we dial the UE. A re-offer that changes no address
    keeps the roles of the connection that may exist (RFC 4975 8.1 asks for no second one).
    """
    wanted: dict[Side, StreamRequest] = {}
    for side, request in line.requests.items():
        name = profile.access_realm if side is Side.ACCESS else profile.core_realm
        setup = "holdconn" if active is None else "passive" if active is side else "active"
        start = request.start_tls
        if side is Side.ACCESS and active is not None:
            start = True if active is Side.CORE else None
        wanted[side] = replace(
            request,
            remote=_remote(side, ends[side]),
            setup=setup,
            ignore_syn=False,
            source_filter=settings.realm(name).source_filter,
            start_tls=start,
        )
    same_ends = all(wanted[side].remote == request.remote for side, request in line.requests.items())
    if line.linked and active is not None and same_ends:
        return {
            side: replace(wanted[side], setup=request.setup, start_tls=request.start_tls)
            for side, request in line.requests.items()
        }
    return wanted


def difference(before: StreamRequest, after: StreamRequest) -> StreamChange | None:
    """The change that turns one into the other, None when there is none."""
    changed = {
        name: getattr(after, name)
        for name in ("remote", "setup", "ignore_syn", "source_filter", "start_tls")
        if getattr(after, name) != getattr(before, name)
    }
    if before.start_tls and after.start_tls is None:
        changed["start_tls"] = False  # None would leave the order to start TLS in force
    return StreamChange(proto=before.proto, family=before.family, **changed) if changed else None


def modify(line: Line, wanted: dict[Side, StreamRequest], first: Side) -> Action | None:
    """The action that configures a line, ``first`` side first; None when it is as wanted already."""
    commands: list[Command] = []
    for side in (first, opposite(first)):
        change = difference(line.requests[side], wanted[side])
        if change is not None:
            commands.append(to_modify(line.terminations[side].termination, change))
    return Action(line.context, tuple(commands)) if commands else None


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
    """Both terminations of a line, by name, with their statistics."""
    return Action(line.context, tuple(to_subtract(t.termination) for t in line.terminations.values()))


def subtract_contexts(contexts: Iterable[int]) -> tuple[Action, ...]:
    """Whole contexts, whatever is in them."""
    return tuple(Action(context, (to_subtract(),)) for context in contexts)
