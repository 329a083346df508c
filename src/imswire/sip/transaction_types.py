"""What goes into and comes out of the transaction layer: ids, settings, keys and outputs."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response


class IdSource(Protocol):
    """Where branches and tags come from; injected so that tests compare exact bytes."""

    def branch(self) -> str:
        """A new branch that starts with the magic cookie (RFC 3261 8.1.1.7)."""
        ...

    def tag(self) -> str:
        """A new From or To tag with at least 32 bits of randomness (19.3)."""
        ...


@dataclass(frozen=True)
class Timers:
    """T1, T2, T4 and timer C in seconds (RFC 3261 17.1.1.1, 16.6 step 11: C is above three minutes)."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    c: float = 181.0


@dataclass(frozen=True)
class TransactionLimits:
    """``transactions``: live client and server transactions together; above it new ones raise LimitExceeded."""

    transactions: int = 200_000


class ClientKey(Struct, frozen=True, cache_hash=True):
    """Client transactions match responses by the top Via's branch and the CSeq method (RFC 3261 17.1.3)."""

    branch: str
    method: str


class ServerKey(Struct, frozen=True, cache_hash=True):
    """Server transactions match requests by branch, sent-by and method, ACK counting as INVITE (RFC 3261 17.2.3).

    For a branch without the magic cookie ``branch`` is made of Request-URI, Call-ID, From tag and CSeq number.
    """

    branch: str
    sent_by: str
    method: str


class Send(Struct, frozen=True):
    """Send this message that way."""

    message: Request | Response
    flow: Flow


class RequestArrived(Struct, frozen=True):
    """A new request, not a retransmission, not ACK or CANCEL; answer it with ``respond(key, ...)``."""

    key: ServerKey
    request: Request
    flow: Flow


class AckArrived(Struct, frozen=True):
    """An ACK to a 2xx, which belongs to no transaction; it may come more than once."""

    request: Request
    flow: Flow


class CancelArrived(Struct, frozen=True):
    """A CANCEL, already answered: 200 when ``invite_key`` names an INVITE not yet answered, 481 when it is None."""

    key: ServerKey
    invite_key: ServerKey | None
    request: Request


class ResponseArrived(Struct, frozen=True):
    """A response for the TU: every 1xx, the first final one, and each retransmission of a 2xx to INVITE."""

    key: ClientKey
    response: Response
    flow: Flow


class ClientTimeout(Struct, frozen=True):
    """No final response came (timer B or F, or 64*T1 after a CANCEL); to be taken as 408."""

    key: ClientKey


class ClientFailed(Struct, frozen=True):
    """The transport failed before a final response came; to be taken as 503."""

    key: ClientKey


class ServerTimeout(Struct, frozen=True):
    """No ACK came for a non-2xx final response (timer H), or, with ``transport``, the way back to the client failed."""

    key: ServerKey
    transport: bool = False


class StrayResponse(Struct, frozen=True):
    """A response that matches no client transaction."""

    response: Response
    flow: Flow


type Output = (
    Send
    | RequestArrived
    | AckArrived
    | CancelArrived
    | ResponseArrived
    | ClientTimeout
    | ClientFailed
    | ServerTimeout
    | StrayResponse
)


class Stats(Struct, frozen=True):
    """Live transactions and entries of the timer queues (those of stopped timers not yet swept included)."""

    clients: int
    servers: int
    timers: int
