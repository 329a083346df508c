"""What a SIP message may not exceed, and how one that cannot be taken is refused."""

from dataclasses import dataclass

from imswire.base import ProtocolError
from imswire.sip.message import Request


@dataclass(frozen=True)
class Limits:
    """Bounds on one message, in bytes or counts. ``message`` includes the body; ``header_bytes`` the start line."""

    message: int = 65_536
    header_bytes: int = 32_768
    headers: int = 256
    header_line: int = 8_192
    uri: int = 4_096
    vias: int = 70


DEFAULT_LIMITS = Limits()


class BadMessage(ProtocolError):
    """A message that cannot be taken.

    ``status`` is the SIP response that fits (400, 414, 501, 505, 513). ``message`` is what could be saved of a request,
    enough for ``message.reply(status)``: method, Via, and of From, To, Call-ID and CSeq those that are there; None
    where no answer can or may be sent (responses, ACK, no usable Via).
    """

    def __init__(
        self, reason: str, hint: str = "", offset: int = -1, *, status: int = 400, message: Request | None = None
    ) -> None:
        super().__init__(reason, hint, offset)
        self.status = status
        self.message = message
