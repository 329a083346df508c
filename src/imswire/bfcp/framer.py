"""Cuts a TCP or TLS stream into BFCP messages by the length in the common header (RFC 8855 5.1, 6.1)."""

from imswire.base import Cutter
from imswire.bfcp.message import HEADER, BadMessage, parse_header
from imswire.bfcp.tables import VERSION, ErrorCode


class BfcpFramer(Cutter[BadMessage]):
    """``feed`` returns whole messages, to be read by :func:`imswire.bfcp.message.parse`; what it returns does not
    depend on how the stream was cut.

    Another version than 1 or a payload above ``limit`` octets cannot be followed: :class:`BadMessage` is raised, then
    and at every later call. Messages that were complete before the fault are returned first and :attr:`error` is set:
    look at it after each call, send its ``answer()`` where you are the server, and close the connection (6.1).
    """

    fault = BadMessage

    def __init__(self, limit: int = 65_536) -> None:
        super().__init__(limit)

    def _cut(self, out: list[bytes]) -> None:
        buffer = self._buffer
        start = 0
        try:
            while len(buffer) - start >= HEADER:
                header = parse_header(bytes(buffer[start : start + HEADER]))
                if header.version != VERSION:
                    raise BadMessage(
                        "bfcp.version",
                        f"version {header.version}, over TCP it is {VERSION}",
                        0,
                        code=ErrorCode.UNSUPPORTED_VERSION,
                        header=header,
                    )
                if header.payload > self._limit:
                    raise BadMessage(
                        "bfcp.oversize",
                        f"a payload of {header.payload} octets, at most {self._limit} are taken",
                        2,
                        code=ErrorCode.INCORRECT_LENGTH,
                        header=header,
                    )
                size = HEADER + header.payload
                if len(buffer) - start < size:
                    return
                out.append(bytes(buffer[start : start + size]))
                start += size
        finally:
            del buffer[:start]
