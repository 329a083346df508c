"""What a session machine tells its user, and the values that both directions of a session share."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from imswire.msrp.message import ByteRange, Headers


class IdSource(Protocol):
    """Where unguessable tokens come from: ``octets`` random octets as an MSRP ident (RFC 4975 7.1 wants 64 bits)."""

    def token(self, octets: int = ..., /) -> str: ...


@dataclass(frozen=True)
class SessionLimits:
    """Bounds of one session. Sizes in octets, time in seconds.

    ``message`` is the largest message taken (413 above it); ``chunk`` the largest body of a chunk sent; ``messages``
    the messages that may be incomplete at a time, ``gaps`` the separate ranges one of them may consist of;
    ``window`` the chunks that may wait for their responses; ``queue`` the messages that may wait to be sent;
    ``backlog`` the octets of responses and reports that may wait for the transport.
    """

    message: int = 1 << 32
    chunk: int = 65_536
    head: int = 8_192
    messages: int = 64
    gaps: int = 64
    window: int = 256
    queue: int = 1_024
    backlog: int = 262_144
    response_timeout: float = 30.0


class SessionBound(Struct, frozen=True):
    """The first request for this session has come: a passive endpoint may send from now on (RFC 4975 5.4)."""


class MessageStarted(Struct, frozen=True):
    """The first chunk of a message. ``total`` is its size in octets, None where the sender did not say."""

    message_id: str
    content_type: str
    total: int | None
    headers: Headers


class Chunk(Struct, frozen=True):
    """Octets of a message; ``offset`` counts from 0. Later octets replace earlier ones at the same place."""

    message_id: str
    offset: int
    data: memoryview


class MessageComplete(Struct, frozen=True):
    """Every octet of a message has come."""

    message_id: str
    size: int


class MessageAborted(Struct, frozen=True):
    """An incoming message will not be completed: abandoned by its sender (``#``) or refused here."""

    message_id: str
    reason: str


class ReportIn(Struct, frozen=True):
    """A REPORT on a message sent; ``status`` 200 is a success report."""

    message_id: str
    status: int
    comment: str
    byte_range: ByteRange | None


class ResponseIn(Struct, frozen=True):
    """The response to one chunk sent; ``byte_range`` is what that chunk carried."""

    message_id: str
    status: int
    comment: str
    byte_range: ByteRange


class MessageAccepted(Struct, frozen=True):
    """A message was sent whole and every chunk that wanted a 200 has got it."""

    message_id: str


class MessageFailed(Struct, frozen=True):
    """A message was refused (``status``, which may be that of the session), or got no response (408), or its reader
    or the connection ended early (0)."""

    message_id: str
    status: int
    reason: str


class SessionFailed(Struct, frozen=True):
    """The session is over: the stream cannot be followed, the peer does not know the session, or the link is gone."""

    reason: str
    status: int = 0


SessionEvent = (
    SessionBound
    | MessageStarted
    | Chunk
    | MessageComplete
    | MessageAborted
    | ReportIn
    | ResponseIn
    | MessageAccepted
    | MessageFailed
    | SessionFailed
)
