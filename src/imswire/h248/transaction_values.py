"""Settings and outputs of the transaction layer."""

from dataclasses import dataclass

from msgspec import Struct

from imswire.h248.model import ErrorDescriptor, Message, TransactionReply, TransactionRequest


@dataclass(frozen=True)
class Timers:
    """Seconds.

    ``long``: LONG-TIMER, how long replies are kept. ``give_up``: T-MAX over UDP. ``deadline``: the wait for a reply
    over a reliable link. ``first`` and ``cap``: assumed round trip before one was measured, and the longest repetition
    interval. ``provisional``: execution time after which TransactionPending is sent unasked.
    """

    long: float = 30.0
    give_up: float = 26.0
    deadline: float = 5.0
    first: float = 0.2
    cap: float = 4.0
    provisional: float = 1.0


@dataclass(frozen=True)
class Limits:
    """Bounds of one association: requests that wait for a reply, requests in execution, replies kept, pendings for one
    transaction (sent or received), confirmations carried by one message."""

    outgoing: int = 4096
    executing: int = 4096
    kept: int = 65_536
    pendings: int = 20
    confirmations: int = 64


class Send(Struct, frozen=True):
    """Send this message on the association."""

    message: Message


class RequestIn(Struct, frozen=True):
    """A request arrived for the first time: execute it and call :meth:`TransactionLayer.reply` once."""

    tid: int
    request: TransactionRequest


class RequestAborted(Struct, frozen=True):
    """The executing request was answered with error 506 (too many pendings); a later ``reply`` for it does nothing."""

    tid: int


class ReplyIn(Struct, frozen=True):
    """The reply to a request of ours."""

    tid: int
    reply: TransactionReply


class RequestTimeout(Struct, frozen=True):
    """No reply to a request of ours came in time."""

    tid: int


class RequestFailed(Struct, frozen=True):
    """A request of ours is given up for another reason: too many pendings (506) or the association ended (503)."""

    tid: int
    error: ErrorDescriptor


class ErrorIn(Struct, frozen=True):
    """The peer answered with an error for a whole message, or for a transaction it could not name (RFC 3525 8.2.2)."""

    error: ErrorDescriptor


Output = Send | RequestIn | RequestAborted | ReplyIn | RequestTimeout | RequestFailed | ErrorIn
