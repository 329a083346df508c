"""Core-side terminations of their own for the answers of a forked call (RFC 3261 13.2.2.4, TR 29.828 5.2.1.2.2).

All dialogs of a forked INVITE were offered the same port of the AGW, and the UE has one connection to it. The first
answer configures the context. Each further early answer gets a termination at the same core-side port, inactive until
its dialog is the one that is confirmed: its end connects, or is connected to, without being relayed, and the AGW knows
it by its address. What is confirmed takes the place of what was served; the others are subtracted.

Answers that cannot be told apart so (their ends would connect from the same place, or the realm learns addresses) share
the termination of the first, which is then given to the one that is confirmed on a new connection.
"""

from collections.abc import Collection

from msgspec.structs import replace

from imsalg.core.media_events import Side
from imsalg.core.media_facts import DISCARD
from imsalg.core.reservations import Line, Spare, Target
from imsalg.core.stream_changes import difference
from imswire.h248.errors import H248Error
from imswire.h248.iq import StreamChange, StreamRequest, read_add_reply, to_add, to_modify, to_subtract
from imswire.h248.model import Action, Command, TransactionReply


def wanted(line: Line, target: Target) -> StreamRequest | None:
    """What the core-side termination of a further answer is to be; None where it cannot have its own."""
    here, after = line.terminations.get(Side.CORE), target.requests[Side.CORE]
    remote = after.remote
    if here is None or not line.context or remote is None or after.setup == "holdconn" or after.latch:
        return None
    request = replace(
        after,
        local_address=here.address,
        local_port=here.port,
        mode="Inactive",
        notify=False,
        source_filter="address" if after.source_filter == "off" else after.source_filter,
    )
    others = [line.requests[Side.CORE], *(spare.request for spare in line.spares.values())]
    return None if _mixed_up(request, others) else request


def _mixed_up(request: StreamRequest, others: Collection[StreamRequest]) -> bool:
    """Would a connection of this answer's end be taken for another's, or be the same one?"""
    if any(other.remote == request.remote for other in others):
        return True
    return request.setup != "active" and any(
        other.setup != "active" and _source(other) == _source(request) for other in others
    )


def _source(request: StreamRequest) -> object:
    remote = request.remote
    if remote is None:
        return None
    ports = request.source_ports or (remote.port if remote.port != DISCARD else None)
    where = request.source_mask or remote.address
    return where, ports if request.source_filter == "address-and-port" else None


def add(line: Line, request: StreamRequest) -> Action:
    """The action that makes the termination."""
    return Action(line.context, (to_add(request),))


def added(line: Line, leg: str, request: StreamRequest, reply: TransactionReply) -> str:
    """Take what the gateway chose; "" or why there is no termination for this answer."""
    for action in reply.actions:
        if action.context != line.context:
            continue
        for command in action.commands:
            try:
                line.spares[leg] = Spare(read_add_reply(command), request)
            except H248Error as fault:
                return str(fault)
            return ""
        return action.error.text if action.error is not None else "no reply"
    return reply.error.text if reply.error is not None else "no reply"


def choose(line: Line, leg: str, target: Target) -> Action:
    """The action that puts the termination of ``leg`` in the place of the one that was served, and ends all others."""
    spare = line.spares[leg]
    after = target.requests[Side.CORE]
    change = difference(spare.request, after) or StreamChange(after.proto, after.family)
    change = replace(change, mode=after.mode, notify=after.notify, inactivity=after.inactivity)
    commands: list[Command] = [to_modify(spare.place.termination, change)]
    access = difference(line.requests[Side.ACCESS], target.requests[Side.ACCESS])
    if access is not None:
        commands.append(to_modify(line.terminations[Side.ACCESS].termination, access))
    ended = [line.terminations[Side.CORE], *(other.place for name, other in line.spares.items() if name != leg)]
    commands += [to_subtract(place.termination) for place in ended]
    return Action(line.context, tuple(commands))


def chosen(line: Line, leg: str) -> None:
    """The gateway has done so."""
    line.terminations[Side.CORE] = line.spares[leg].place
    line.spares.clear()
    line.down = False


def drop(line: Line) -> Action | None:
    """The answers that were not chosen are over; None when there were none."""
    if not line.spares or not line.context:
        return None
    gone = tuple(to_subtract(spare.place.termination) for spare in line.spares.values())
    line.spares.clear()
    return Action(line.context, gone)
