"""The states of H.248 transactions and what happens in each: a table for each direction, blind to MGC and MG."""

from enum import Enum, auto
from typing import Final


class Out(Enum):
    """States of a request that we sent."""

    # Rows are looked up by these for every message; members are single, and Enum's own hash is not C code.
    __hash__ = object.__hash__

    WAITING = auto()
    PROCEEDING = auto()
    DONE = auto()


class In(Enum):
    """States of a request that we received."""

    __hash__ = object.__hash__  # as above

    EXECUTING = auto()
    REPLIED = auto()
    UNCONFIRMED = auto()
    CONFIRMED = auto()


class On(Enum):
    """What can happen to a transaction."""

    __hash__ = object.__hash__  # as above

    REPLY = auto()
    PENDING = auto()
    REQUEST = auto()
    ANSWER = auto()
    ACK = auto()
    REPEAT = auto()
    DEADLINE = auto()


class Do(Enum):
    """What a row orders."""

    CONFIRM = auto()
    DELIVER = auto()
    WAIT_LONGER = auto()
    RESEND = auto()
    TIME_OUT = auto()
    SEND_PENDING = auto()
    SEND_REPLY = auto()
    KEEP = auto()


type OutRow = tuple[Out | None, tuple[Do, ...]]
type InRow = tuple[In | None, tuple[Do, ...]]

OUTGOING: Final[dict[tuple[Out, On], OutRow]] = {
    (Out.WAITING, On.REPLY): (Out.DONE, (Do.CONFIRM, Do.DELIVER, Do.KEEP)),
    (Out.WAITING, On.PENDING): (Out.PROCEEDING, (Do.WAIT_LONGER,)),
    (Out.WAITING, On.REPEAT): (Out.WAITING, (Do.RESEND,)),
    (Out.WAITING, On.DEADLINE): (None, (Do.TIME_OUT,)),
    (Out.PROCEEDING, On.REPLY): (Out.DONE, (Do.CONFIRM, Do.DELIVER, Do.KEEP)),
    (Out.PROCEEDING, On.PENDING): (Out.PROCEEDING, (Do.WAIT_LONGER,)),
    (Out.PROCEEDING, On.REPEAT): (Out.PROCEEDING, (Do.RESEND,)),
    (Out.PROCEEDING, On.DEADLINE): (None, (Do.TIME_OUT,)),
    (Out.DONE, On.REPLY): (Out.DONE, (Do.CONFIRM,)),
    (Out.DONE, On.PENDING): (Out.DONE, ()),
    (Out.DONE, On.REPEAT): (Out.DONE, ()),
    (Out.DONE, On.DEADLINE): (None, ()),
}
"""A request of ours. A pending after the reply is ignored (D.1.4); DONE remembers it, to confirm a repeated reply."""

INCOMING: Final[dict[tuple[In, On], InRow]] = {
    (In.EXECUTING, On.REQUEST): (In.EXECUTING, (Do.SEND_PENDING,)),
    (In.EXECUTING, On.ANSWER): (In.REPLIED, (Do.SEND_REPLY, Do.KEEP)),
    (In.EXECUTING, On.ACK): (In.EXECUTING, ()),
    (In.EXECUTING, On.REPEAT): (In.EXECUTING, (Do.SEND_PENDING,)),
    (In.EXECUTING, On.DEADLINE): (In.EXECUTING, ()),
    (In.REPLIED, On.REQUEST): (In.REPLIED, (Do.RESEND,)),
    (In.REPLIED, On.ANSWER): (In.REPLIED, ()),
    (In.REPLIED, On.ACK): (In.CONFIRMED, ()),
    (In.REPLIED, On.REPEAT): (In.REPLIED, ()),
    (In.REPLIED, On.DEADLINE): (None, ()),
    (In.UNCONFIRMED, On.REQUEST): (In.UNCONFIRMED, (Do.RESEND,)),
    (In.UNCONFIRMED, On.ANSWER): (In.UNCONFIRMED, ()),
    (In.UNCONFIRMED, On.ACK): (In.CONFIRMED, ()),
    (In.UNCONFIRMED, On.REPEAT): (In.UNCONFIRMED, (Do.RESEND,)),
    (In.UNCONFIRMED, On.DEADLINE): (None, ()),
    (In.CONFIRMED, On.REQUEST): (In.CONFIRMED, ()),
    (In.CONFIRMED, On.ANSWER): (In.CONFIRMED, ()),
    (In.CONFIRMED, On.ACK): (In.CONFIRMED, ()),
    (In.CONFIRMED, On.REPEAT): (In.CONFIRMED, ()),
    (In.CONFIRMED, On.DEADLINE): (None, ()),
}
"""A request of the peer. A reply that asks for confirmation moves on from REPLIED to UNCONFIRMED (over UDP)."""
