"""H.248 transactions (RFC 3525 8, Annexes D.1 and D.2): at most once, whoever repeats; both roles; pure.

Theory of operation. One :class:`TransactionLayer` serves one control association. A request that we send and one that
we receive walk a table each (:mod:`imswire.h248.transaction_table`). A row gives the next state (None: forgotten) and
what to do; the interpreter is blind to who is MGC and who is MG. Over UDP (``reliable`` False) requests are repeated
with exponential backoff on a measured delay (D.1.3), replies that ask for confirmation are repeated until confirmed,
and other replies are confirmed in the next request (D.1.2.2). Over TCP nothing is repeated; a deadline ends the wait
(D.2).

A repeated request is never executed again: while it executes it is answered with TransactionPending, afterwards with
the stored reply, and after confirmation with silence, each for LONG-TIMER (D.1.1, D.1.4). Whoever would send more
pendings than the limit answers error 506 instead and tells its user that the transaction is over.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Final

from imswire.base import LimitExceeded
from imswire.h248.errors import error
from imswire.h248.model import (
    Action,
    ErrorDescriptor,
    Message,
    Transaction,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.transaction_backoff import Backoff
from imswire.h248.transaction_table import INCOMING, OUTGOING, Do, In, On, Out
from imswire.h248.transaction_values import (
    ErrorIn,
    Limits,
    Output,
    ReplyIn,
    RequestAborted,
    RequestFailed,
    RequestIn,
    RequestTimeout,
    Send,
    Timers,
)

__all__ = [
    "ErrorIn",
    "Limits",
    "Output",
    "ReplyIn",
    "RequestAborted",
    "RequestFailed",
    "RequestIn",
    "RequestTimeout",
    "Send",
    "Timers",
    "TransactionLayer",
]

MAX_ID: Final = 0xFFFFFFFF


class _Record:
    """One transaction in memory. ``repeat_at`` and ``deadline_at`` are the times of its live entries in the heap."""

    __slots__ = ("attempts", "deadline_at", "outgoing", "pendings", "repeat_at", "sent", "sent_at", "state", "tid")

    def __init__(self, tid: int, *, outgoing: bool, state: Out | In, now: float) -> None:
        self.tid = tid
        self.outgoing = outgoing
        self.state: Out | In | None = state
        self.sent: Message | None = None
        self.sent_at = now
        self.attempts = 0
        self.pendings = 0
        self.repeat_at: float | None = None
        self.deadline_at: float | None = None


class TransactionLayer:
    """The transactions of one control association, as MGC and MG alike.

    ``mid`` is our own mId; ``first_id`` the first transaction id we use; ``jitter`` gives numbers in [0, 1) that spread
    repetitions (D.1.3). Every method that takes ``now`` (monotonic seconds) returns outputs in the order to carry out.
    """

    def __init__(
        self,
        mid: str,
        *,
        reliable: bool = True,
        first_id: int = 1,
        timers: Timers | None = None,
        limits: Limits | None = None,
        jitter: Callable[[], float] = lambda: 1.0,
        version: int = 1,
    ) -> None:
        self.mid = mid
        self.reliable = reliable
        self.version = version
        self._timers = timers or Timers()
        self._limits = limits or Limits()
        self.next_id = first_id
        """The transaction id that comes next, if it is not in use."""
        self._outgoing: dict[int, _Record] = {}
        self._incoming: dict[int, _Record] = {}
        self._waiting = 0
        self._executing = 0
        self._heap: list[tuple[float, int, On, _Record]] = []
        self._sequence = 0
        self._to_confirm: list[int] = []
        self._backoff = Backoff(self._timers, jitter)

    @property
    def outstanding(self) -> int:
        """Requests of ours without a reply."""
        return self._waiting

    @property
    def executing(self) -> int:
        """Requests of the peer without an answer."""
        return self._executing

    # --- what the user calls ---

    def request(self, actions: Sequence[Action], now: float) -> tuple[int, list[Output]]:
        """Send a transaction request; its id and outputs. Raises :class:`LimitExceeded` if too many wait."""
        if self._waiting >= self._limits.outgoing:
            raise LimitExceeded("h248.outstanding", f"{self._waiting} requests wait for a reply")
        tid = self._allocate()
        record = _Record(tid, outgoing=True, state=Out.WAITING, now=now)
        transactions: tuple[Transaction, ...] = (*self._confirmations(), TransactionRequest(tid, tuple(actions)))
        record.sent = Message(self.mid, transactions, None, self.version)
        self._outgoing[tid] = record
        self._waiting += 1
        if self.reliable:
            self._arm(record, On.DEADLINE, now + self._timers.deadline)
        else:
            self._arm(record, On.DEADLINE, now + self._timers.give_up)
            self._arm(record, On.REPEAT, now + self._backoff.interval(0))
        return tid, [Send(record.sent)]

    def reply(
        self, tid: int, actions: Sequence[Action], now: float, error: ErrorDescriptor | None = None
    ) -> list[Output]:
        """Answer the executing request ``tid``; does nothing if it was aborted or already answered."""
        record = self._incoming.get(tid)
        if record is None or record.state is not In.EXECUTING:
            return []
        answer = TransactionReply(tid, tuple(actions), error, record.pendings > 0 and not self.reliable)
        record.sent = Message(self.mid, (answer,), None, self.version)
        if not self.reliable:
            return self._incoming_step(record, On.ANSWER, now)
        record.state = In.REPLIED  # the same row, where no answer asks for confirmation
        self._keep(record, now)
        return [Send(record.sent)]

    def receive(self, message: Message, now: float) -> list[Output]:
        """Take one message from the peer."""
        outputs: list[Output] = []
        if message.error is not None:
            outputs.append(ErrorIn(message.error))
        for transaction in message.transactions:
            if type(transaction) is TransactionRequest:
                outputs += self._request_in(transaction, now)
            elif type(transaction) is TransactionReply:
                outputs += self._reply_in(transaction, now)
            elif type(transaction) is TransactionPending:
                if (record := self._outgoing.get(transaction.id)) is not None:
                    outputs += self._outgoing_step(record, On.PENDING, now)
            elif type(transaction) is TransactionAck:
                outputs += self._acknowledged(transaction, now)
        return outputs

    def expire(self, now: float) -> list[Output]:
        """Run every timer that is due."""
        outputs: list[Output] = []
        while (due := self.next_timer()) is not None and due <= now:
            when, _, on, record = heapq.heappop(self._heap)
            if on is On.REPEAT:
                record.repeat_at = None
            else:
                record.deadline_at = None
            # Late expiry must not shift the schedule, so rows run at the time they were due.
            step = self._outgoing_step if record.outgoing else self._incoming_step
            outputs += step(record, on, when)
        return outputs

    def next_timer(self) -> float | None:
        """The time of the earliest live timer, or None."""
        heap = self._heap
        while heap:
            when, _, on, record = heap[0]
            live = record.repeat_at if on is On.REPEAT else record.deadline_at
            if record.state is not None and live == when:
                return when
            heapq.heappop(heap)
        return None

    def reset(self) -> list[Output]:
        """Forget everything: the peer restarted or the association ended. Requests without a reply fail with 503."""
        waiting = sorted(tid for tid, record in self._outgoing.items() if record.state is not Out.DONE)
        for record in (*self._outgoing.values(), *self._incoming.values()):
            record.state = None
        self._outgoing.clear()
        self._incoming.clear()
        self._heap.clear()
        self._to_confirm.clear()
        self._waiting = self._executing = 0
        return [RequestFailed(tid, error(503, "association ended")) for tid in waiting]

    # --- what arrives ---

    def _request_in(self, request: TransactionRequest, now: float) -> list[Output]:
        known = self._incoming.get(request.id)
        if known is not None:
            return self._incoming_step(known, On.REQUEST, now)
        if self._executing >= self._limits.executing:
            # Not stored: a repetition may find room.
            refusal = TransactionReply(request.id, error=error(510, "too many transactions in execution"))
            return [Send(Message(self.mid, (refusal,), version=self.version))]
        record = _Record(request.id, outgoing=False, state=In.EXECUTING, now=now)
        self._incoming[request.id] = record
        self._executing += 1
        self._arm(record, On.REPEAT, now + self._timers.provisional)
        return [RequestIn(request.id, request)]

    def _reply_in(self, reply: TransactionReply, now: float) -> list[Output]:
        record = self._outgoing.get(reply.id)
        if record is not None:
            if self.reliable and not reply.immediate_ack:
                return self._delivered(record, reply)
            return self._outgoing_step(record, On.REPLY, now, reply)
        if reply.id == 0 and reply.error is not None:
            return [ErrorIn(reply.error)]
        # A reply to nothing we know: confirm it if asked, so that its repetition ends.
        return [self._confirmation(reply.id)] if reply.immediate_ack else []

    def _delivered(self, record: _Record, reply: TransactionReply) -> list[Output]:
        """The row of REPLY over a reliable link: nobody repeats the reply, so that the transaction is over."""
        record.state = record.sent = None
        del self._outgoing[record.tid]
        self._waiting -= 1
        return [ReplyIn(record.tid, reply)]

    def _acknowledged(self, ack: TransactionAck, now: float) -> list[Output]:
        outputs: list[Output] = []
        for first, last in ack.ranges:
            if last - first < len(self._incoming):
                hit = [self._incoming[tid] for tid in range(first, last + 1) if tid in self._incoming]
            else:
                hit = [record for tid, record in self._incoming.items() if first <= tid <= last]
            for record in hit:
                outputs += self._incoming_step(record, On.ACK, now)
        return outputs

    # --- the interpreter ---

    def _outgoing_step(
        self, record: _Record, on: On, now: float, reply: TransactionReply | None = None
    ) -> list[Output]:
        before = record.state
        if not isinstance(before, Out) or (row := OUTGOING.get((before, on))) is None:
            return []
        record.state, orders = row
        outputs: list[Output] = []
        for order in orders:
            match order:
                case Do.CONFIRM if reply is not None:
                    if not (self.reliable or record.attempts or record.pendings or record.sent is None):
                        self._backoff.measured(now - record.sent_at)  # of a repeated one nobody knows which
                    if reply.immediate_ack:
                        outputs.append(self._confirmation(record.tid))
                    elif not self.reliable and before is not Out.DONE:
                        self._to_confirm.append(record.tid)
                        del self._to_confirm[: -self._limits.confirmations]
                case Do.DELIVER if reply is not None:
                    outputs.append(ReplyIn(record.tid, reply))
                case Do.WAIT_LONGER:
                    outputs += self._wait_longer(record, now)
                case Do.RESEND:
                    self._resend(record, now, outputs)
                case Do.TIME_OUT:
                    outputs.append(RequestTimeout(record.tid))
                case Do.KEEP:
                    self._keep(record, now)
        if before is not Out.DONE and record.state in (Out.DONE, None):
            self._waiting -= 1
        if record.state is None:
            self._outgoing.pop(record.tid, None)
        return outputs

    def _incoming_step(self, record: _Record, on: On, now: float) -> list[Output]:
        before = record.state
        if not isinstance(before, In) or (row := INCOMING.get((before, on))) is None:
            return []
        record.state, orders = row
        outputs: list[Output] = []
        for order in orders:
            match order:
                case Do.SEND_PENDING:
                    outputs += self._send_pending(record, now)
                case Do.SEND_REPLY if record.sent is not None:
                    outputs.append(Send(record.sent))
                case Do.RESEND:
                    self._resend(record, now, outputs)
                case Do.KEEP:
                    self._keep(record, now)
        if record.state is In.CONFIRMED:
            record.sent = record.repeat_at = None
        if record.state is None:
            self._incoming.pop(record.tid, None)
        return outputs

    def _wait_longer(self, record: _Record, now: float) -> list[Output]:
        record.pendings += 1
        if record.pendings > self._limits.pendings:
            record.state = None
            return [RequestFailed(record.tid, error(506))]
        self._arm(record, On.DEADLINE, now + (self._timers.deadline if self.reliable else self._timers.give_up))
        if not self.reliable:
            self._arm(record, On.REPEAT, now + self._timers.cap)
        return []

    def _send_pending(self, record: _Record, now: float) -> list[Output]:
        record.pendings += 1
        if record.pendings > self._limits.pendings:
            record.pendings -= 1
            return [*self.reply(record.tid, (), now, error(506)), RequestAborted(record.tid)]
        self._arm(record, On.REPEAT, now + max(self._timers.provisional, self._timers.cap))
        return [Send(Message(self.mid, (TransactionPending(record.tid),), version=self.version))]

    def _resend(self, record: _Record, now: float, outputs: list[Output]) -> None:
        if record.sent is None:
            return
        outputs.append(Send(record.sent))
        if not self.reliable and record.state is not In.REPLIED:
            record.attempts += 1
            interval = self._timers.cap if record.state is Out.PROCEEDING else self._backoff.interval(record.attempts)
            self._arm(record, On.REPEAT, now + interval)

    def _keep(self, record: _Record, now: float) -> None:
        """What happens to a transaction that has its reply."""
        record.repeat_at = None
        if record.outgoing:
            record.sent = None
            if self.reliable:
                self._outgoing.pop(record.tid, None)
                return
        else:
            self._executing -= 1
        self._arm(record, On.DEADLINE, now + self._timers.long)
        if record.outgoing or record.sent is None:
            return
        answer = record.sent.transactions[0]
        if isinstance(answer, TransactionReply) and answer.immediate_ack:
            record.state = In.UNCONFIRMED
            record.attempts = 0
            self._arm(record, On.REPEAT, now + self._backoff.interval(0))
        if len(self._incoming) > self._limits.kept:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        for tid, record in self._incoming.items():
            if record.state is not In.EXECUTING:
                record.state = None
                del self._incoming[tid]
                return

    # --- parts ---

    def _allocate(self) -> int:
        while self.next_id in self._outgoing or not 1 <= self.next_id <= MAX_ID:
            self.next_id = 1 if self.next_id >= MAX_ID else self.next_id + 1
        tid = self.next_id
        self.next_id += 1
        return tid

    def _arm(self, record: _Record, on: On, when: float) -> None:
        if on is On.REPEAT:
            record.repeat_at = when
        else:
            record.deadline_at = when
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, on, record))

    def _confirmation(self, tid: int) -> Send:
        return Send(Message(self.mid, (TransactionAck(((tid, tid),)),), version=self.version))

    def _confirmations(self) -> tuple[TransactionAck, ...]:
        if not self._to_confirm:
            return ()
        ranges: list[tuple[int, int]] = []
        for tid in sorted(self._to_confirm):
            if ranges and tid <= ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], tid)
            else:
                ranges.append((tid, tid))
        self._to_confirm.clear()
        return (TransactionAck(tuple(ranges)),)
