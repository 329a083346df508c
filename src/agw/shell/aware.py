"""The byte path of application-aware MSRP: a relay end whose input goes through a rewriter.

It differs from :class:`agw.shell.relay.End` in what happens between read and send: the rewriter cuts what was read into
pieces, mostly views of the worker's buffer. A TCP sink takes them in one gathering write; for a TLS sink small pieces
are put together into records, and a long one is encrypted from where it lies.
"""

import socket

from OpenSSL import SSL

from agw.core.msrp_rewrite import HEAD_LIMIT, MsrpRewriter, Piece
from agw.core.orders import PathSwap
from agw.shell.records import RECORD
from agw.shell.relay import HEADROOM, End, Pump

_IOVEC = 1_024  # IOV_MAX, the most pieces of one sendmsg

if HEAD_LIMIT > HEADROOM:
    raise RuntimeError("a held head must fit before what is read")


class AwareEnd(End):
    """One end of an application-aware relay; the rewriter is for what its peer sends."""

    __slots__ = ("rewriter",)

    def __init__(self, leg: int, sock: socket.socket, tls: SSL.Connection | None, pump: Pump, swap: PathSwap) -> None:
        super().__init__(leg, sock, tls, pump)
        self.rewriter = MsrpRewriter(swap)

    @property
    def messages(self) -> tuple[int, int]:
        return self.rewriter.messages, self.rewriter.refused

    # --- source ---

    def _pass_on(self, count: int) -> None:
        self.received += count
        pump, rewriter, sink = self.pump, self.rewriter, self.other
        held = len(rewriter.held)
        start = HEADROOM - held
        if held:
            pump.buffer[start:HEADROOM] = rewriter.held
        pieces = rewriter.rewrite(pump.buffer, pump.whole, start, HEADROOM + count)
        if pieces and isinstance(sink, AwareEnd):
            sink.send_pieces(pieces)
        if rewriter.answers:
            self._answer(rewriter.answers)
        if rewriter.fault is not None and self.live:
            # Not broken: what waits for the peer, an answer perhaps, still goes out before the close.
            pump.owner.relay_ended(self, False, f"not MSRP: {rewriter.fault}")
        elif sink.pending is not None:
            self.watch(False)

    def _answer(self, answers: list[bytes]) -> None:
        """Send responses back to this end's peer, between two chunks of the other direction."""
        back = self.other.rewriter if self.live and isinstance(self.other, AwareEnd) else None
        if back is None:
            answers.clear()
            return
        for answer in answers:
            if back.between and self.pending is None:
                self.send(memoryview(answer))
            elif back.between and self.pending is not None and len(self.pending) < self.pump.fill:
                self.pending = b"".join((self.pending, answer))
            elif not back.insert(answer):
                break  # a peer that sends only what is refused and reads nothing gets no more answers
        answers.clear()
        if self.pending is not None:
            self.other.watch(False)

    # --- sink ---

    def send_pieces(self, pieces: list[Piece]) -> None:
        """Give them to the peer in order; what it does not take now is kept in ``pending``."""
        if self.tls is not None:
            self._send_records(pieces)
            return
        try:
            for first in range(0, len(pieces), _IOVEC):
                batch = pieces[first : first + _IOVEC] if len(pieces) > _IOVEC else pieces
                sent = self.sock.sendmsg(batch)
                self.sent += sent
                if sent < sum(map(len, batch)):
                    self._keep([*_after(batch, sent), *pieces[first + _IOVEC :]])
                    return
        except (BlockingIOError, InterruptedError):
            self._keep(pieces[first:])
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _send_records(self, pieces: list[Piece]) -> None:
        small: list[Piece] = []
        for number, piece in enumerate(pieces):
            if len(piece) < RECORD:
                small.append(piece)
                continue
            if small:
                self.send(memoryview(b"".join(small)))
                small = []
            if self.pending is None and self.live:
                self.send(memoryview(piece))
                number += 1
            if self.pending is not None or not self.live:
                small = pieces[number:]
                break
        if not small or not self.live:
            return
        if self.pending is None:
            self.send(memoryview(b"".join(small)))
        else:
            self._keep(small)

    def _keep(self, pieces: list[Piece]) -> None:
        self.pending = b"".join(pieces if self.pending is None else (self.pending, *pieces))
        self.watch_write(True)

    def pass_end(self) -> None:
        """At the end of the other direction: the last octets that were held, then the close."""
        source = self.other
        if isinstance(source, AwareEnd) and self.live and not self.told_end:
            rest = source.rewriter.remainder()
            if rest:
                self.send(memoryview(rest))
                if self.pending is not None:
                    return  # writable() comes back here
        super().pass_end()


def _after(pieces: list[Piece], sent: int) -> list[Piece]:
    """What is left of them when so many octets have gone."""
    for number, piece in enumerate(pieces):
        if sent < len(piece):
            return [piece[sent:], *pieces[number + 1 :]]
        sent -= len(piece)
    return []
