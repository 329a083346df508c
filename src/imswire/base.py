"""What every codec shares: the one error for bad input and a bounded TPKT framer.

The codecs raise :class:`ProtocolError` and nothing else for bad input. The receive door of a daemon turns its
``reason`` into the protocol's own answer (SIP 400 or 488, H.248 error descriptor, MSRP 400) by a table.
"""

from abc import ABC, abstractmethod

from msgspec import Struct


class ProtocolError(Exception):
    """Bad input, named precisely.

    ``reason`` is a stable dotted slug that tables may key on (``sip.start-line``, ``sdp.media-line``);
    ``hint`` says in words what was seen and what was expected; ``offset`` is the byte (or character) offset in the
    input at which it was noticed, or -1 where no offset makes sense.
    """

    def __init__(self, reason: str, hint: str = "", offset: int = -1) -> None:
        super().__init__(reason, hint, offset)
        self.reason = reason
        self.hint = hint
        self.offset = offset

    def __str__(self) -> str:
        where = f" at offset {self.offset}" if self.offset >= 0 else ""
        return f"{self.reason}{where}: {self.hint}" if self.hint else f"{self.reason}{where}"


class LimitExceeded(ProtocolError):
    """Input that is larger, or asks for more, than a configured limit allows."""


class Backoff(Struct, frozen=True):
    """A capped exponential wait: ``first`` seconds, multiplied by ``factor`` per attempt, never above ``cap``."""

    first: float = 0.5
    cap: float = 10.0
    factor: float = 2.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait before attempt number ``attempt`` (the first is 0)."""
        return float(min(self.cap, self.first * self.factor ** min(attempt, 64)))


class Cutter[E: ProtocolError](ABC):
    """Cuts a byte stream into whole pieces; what comes out does not depend on how the stream was cut.

    A stream that cannot be followed raises ``E``, then and at every later call. Pieces that were complete before the
    fault are returned first and :attr:`error` is set: look at it after each call and close the connection.
    """

    fault: type[E]

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self.error: E | None = None

    @property
    def pending(self) -> int:
        """Octets held that do not make a whole piece yet; at most one piece and one read."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take octets from the stream and return whole pieces, in order."""
        out: list[bytes] = []
        if self.error is None:
            self._buffer += data
            try:
                self._cut(out)
            except self.fault as error:
                self.error = error
                self._buffer.clear()
        if self.error is not None and not out:
            raise self.error
        return out

    @abstractmethod
    def _cut(self, out: list[bytes]) -> None:
        """Move the whole pieces from the buffer to ``out``; raises ``E`` where the stream cannot be followed."""


class TpktFramer(Cutter[ProtocolError]):
    """Cuts a TCP byte stream into TPKT packets (RFC 1006 6: version 3, reserved, 16-bit length, payload).

    ``feed`` returns the payloads that became complete. The result does not depend on how the stream was cut. A wrong
    version or an oversized or undersized length raises :class:`ProtocolError`, then and at every later call, for the
    stream cannot be resynchronised; payloads that were complete before the fault are returned first and
    :attr:`error` is set: look at it after each call and close the connection.
    """

    HEADER = 4

    fault = ProtocolError

    def __init__(self, limit: int = 65_531) -> None:
        super().__init__(limit)

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """As :class:`Cutter` has it. Octets that are one packet, no more and no less, are not gathered first."""
        size = len(data)
        whole = self.HEADER <= size <= self._limit + self.HEADER and data[0] == 3 and (data[2] << 8) | data[3] == size
        if whole and not self._buffer and self.error is None:
            return [bytes(data[self.HEADER :])]
        return super().feed(data)

    def _cut(self, out: list[bytes]) -> None:
        buffer = self._buffer
        start = 0
        try:
            while len(buffer) - start >= self.HEADER:
                if buffer[start] != 3:
                    raise ProtocolError("tpkt.version", f"TPKT version {buffer[start]} seen, 3 expected", start)
                length = int.from_bytes(buffer[start + 2 : start + 4])
                if length < self.HEADER:
                    raise ProtocolError("tpkt.length", f"TPKT length {length} is below its own header", start + 2)
                if length - self.HEADER > self._limit:
                    raise LimitExceeded(
                        "tpkt.oversize", f"TPKT payload of {length - self.HEADER} bytes, limit {self._limit}", start + 2
                    )
                if len(buffer) - start < length:
                    return
                out.append(bytes(buffer[start + self.HEADER : start + length]))
                start += length
        finally:
            del buffer[:start]


def tpkt(payload: bytes) -> bytes:
    """Wrap one payload in a TPKT header; raises :class:`LimitExceeded` above 65,531 bytes rather than truncating."""
    length = len(payload) + TpktFramer.HEADER
    if length > 0xFFFF:
        raise LimitExceeded("tpkt.oversize", f"payload of {len(payload)} bytes does not fit one TPKT packet")
    return b"\x03\x00" + length.to_bytes(2) + payload
