"""The sending half of a session: messages in, chunks out on demand, responses correlated (RFC 4975 7.1.1).

A chunk is made when the transport asks for octets, and whole at once, so memory holds one chunk however long the
message is. Chunks over 2,048 octets carry ``*`` as range-end, as RFC 4975 7.1.1 asks of interruptible ones: a
message is cut after any chunk, and waiting responses go first.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from imswire.base import LimitExceeded, ProtocolError
from imswire.msrp.events import (
    IdSource,
    MessageAccepted,
    MessageFailed,
    ReportIn,
    ResponseIn,
    SessionEvent,
    SessionFailed,
    SessionLimits,
)
from imswire.msrp.message import ByteRange, Headers, RequestHead, ResponseHead, is_ident

INTERRUPTIBLE = 2_048
"""Bodies above this many octets need ``*`` as range-end, and no chunk but the last may be smaller (RFC 4975 7.1.1)."""

Reader = Callable[[int], bytes]
"""Gives the next octets of a message, at most as many as asked for and none only at its end: a file's ``read``."""


class Outgoing:
    """A message on its way out; ``total`` None while its size is not known."""

    __slots__ = (
        "_ahead",
        "_read",
        "failure_report",
        "headers",
        "message_id",
        "report_due",
        "sent",
        "sent_all",
        "total",
        "waiting",
    )

    def __init__(self, message_id: str, total: int | None, read: Reader, headers: Headers, failure_report: str) -> None:
        self.message_id = message_id
        self.total = total
        self.headers = headers
        self.failure_report = failure_report
        self.sent = 0
        self.sent_all = False
        self.waiting = 0
        self.report_due = False
        self._read = read
        self._ahead: bytes | None = None

    def take(self, size: int) -> tuple[bytes, bool, bool]:
        """Up to ``size`` octets, whether they are the last, and whether the reader ended too early."""
        if self.total is not None:
            wanted = min(size, self.total - self.sent)
            body = self._pull(wanted)
            return body, self.sent + len(body) == self.total, len(body) < wanted
        # Without a total only the reader's end tells the last chunk, so one piece is read ahead.
        body = self._pull(size) if self._ahead is None else self._ahead
        self._ahead = self._pull(size) if body else b""
        return body, not self._ahead, False

    def _pull(self, size: int) -> bytes:
        """Exactly ``size`` octets, fewer only at the reader's end; a pipe may give less per call."""
        if size == 0:
            return b""
        first = self._read(size)
        if len(first) == size or not first:
            return first
        pieces = [first]
        missing = size - len(first)
        while missing > 0:
            piece = self._read(missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        if missing < 0:
            raise ValueError("a reader gave more octets than asked for")
        return b"".join(pieces)


class _Transaction(Struct, frozen=True):
    message: Outgoing | None
    byte_range: ByteRange
    deadline: float


class Sender:
    """Queue of outgoing messages and table of the chunks that wait for a response."""

    def __init__(self, local_path: str, remote_path: str, ids: IdSource, limits: SessionLimits) -> None:
        self._paths: Headers = (("To-Path", remote_path), ("From-Path", local_path))
        self._ids = ids
        self._limits = limits
        self._queue: deque[Outgoing] = deque()
        self._known: dict[str, Outgoing] = {}
        self._cancelled: deque[Outgoing] = deque()
        self._transactions: dict[str, _Transaction] = {}
        self._partial: dict[str, tuple[Outgoing, ByteRange]] = {}
        self.events: list[SessionEvent] = []

    @property
    def queued(self) -> int:
        """Messages not sent whole yet."""
        return len(self._queue) + len(self._cancelled)

    @property
    def outstanding(self) -> int:
        """Chunks that wait for a response."""
        return len(self._transactions)

    def next_timer(self) -> float | None:
        """The earliest response deadline: all wait equally long, so it is the oldest one's."""
        for transaction in self._transactions.values():
            return transaction.deadline
        return None

    def add(
        self, total: int | None, read: Reader, headers: Headers, *, success_report: bool, failure_report: str
    ) -> str:
        """Queue a message and return its Message-ID; raises :class:`LimitExceeded` ``msrp.queue``."""
        if len(self._queue) >= self._limits.queue:
            raise LimitExceeded("msrp.queue", f"{len(self._queue)} messages are waiting")
        if failure_report not in ("yes", "no", "partial"):
            raise ProtocolError("msrp.failure-report", f"yes, no or partial expected: {failure_report!r}")
        message_id = self._ident()
        own: list[tuple[str, str]] = []
        if success_report:
            own.append(("Success-Report", "yes"))
        if failure_report != "yes":
            own.append(("Failure-Report", failure_report))
        message = Outgoing(message_id, total, read, (*own, *headers), failure_report)
        message.report_due = success_report
        self._queue.append(message)
        self._known[message_id] = message
        return message_id

    def abort(self, message_id: str, status: int, reason: str) -> None:
        """Give a message up: no more chunks of it are sent. Unknown and finished ones are left alone."""
        message = self._known.pop(message_id, None)
        if message is None:
            return
        if not message.sent_all:
            self._queue.remove(message)
        self.events.append(MessageFailed(message_id, status, reason))

    def cancel(self, message_id: str) -> None:
        """Give a message up of one's own accord: where it was begun, a ``#`` tells the peer (RFC 4975 7.1)."""
        message = self._known.get(message_id)
        if message is None or message.sent_all:
            return
        if message.sent:
            self._cancelled.append(message)
        self.abort(message_id, 0, "given up")

    def greeting(self, now: float) -> bytes:
        """The SEND without a body by which the active endpoint binds its connection (RFC 4975 5.4)."""
        byte_range = ByteRange(1, 0, 0)
        head = self._head(self._ident(), self._ident(), byte_range, (), has_body=False)
        self._transactions[head.transaction_id] = _Transaction(None, byte_range, now + self._limits.response_timeout)
        return head.to_bytes() + head.end_line()

    def next_chunk(self, size: int, now: float) -> bytes | None:
        """The next chunk with a body of at most about ``size`` octets, or None where there is nothing to send now."""
        if self._cancelled:
            return self._farewell(self._cancelled.popleft())
        if not self._queue or len(self._transactions) >= self._limits.window:
            return None
        message = self._queue[0]
        start = message.sent + 1
        body, last, short = message.take(min(max(size, INTERRUPTIBLE), self._limits.chunk))
        message.sent += len(body)
        end = None if len(body) > INTERRUPTIBLE else message.sent
        total = message.sent if last and not short else message.total
        # What the chunk carried and what it announces are the same but for the end of an interruptible one.
        carried = ByteRange(start, message.sent, total)
        head = self._head(
            self._transaction_for(body),
            message.message_id,
            ByteRange(start, end, total),
            message.headers,
            has_body=True,
        )
        flag = "#" if short else "$" if last else "+"
        if message.failure_report == "yes":
            deadline = now + self._limits.response_timeout
            self._transactions[head.transaction_id] = _Transaction(message, carried, deadline)
            message.waiting += 1
        elif message.failure_report == "partial":
            self._partial[head.transaction_id] = (message, carried)
            if len(self._partial) > self._limits.window:
                del self._partial[next(iter(self._partial))]
        if short:
            self.abort(message.message_id, 0, "the reader ended before the announced size")
        elif last:
            self._queue.popleft()
            message.sent_all = True
            self._settle(message)
        elif len(self._queue) > 1:
            # Messages take turns, so that a line of text does not wait for the end of a file (RFC 4975 7.1.1).
            self._queue.rotate(-1)
        return b"".join((head.to_bytes(), body, head.end_line(flag)))

    def response(self, head: ResponseHead) -> None:
        """Correlate a response; one that answers nothing outstanding is ignored."""
        transaction = self._transactions.pop(head.transaction_id, None)
        if transaction is None:
            self._partial_response(head)
            return
        message = transaction.message
        status = head.status
        if message is not None:
            message.waiting -= 1
            self.events.append(ResponseIn(message.message_id, status, head.comment, transaction.byte_range))
        if message is not None and status == 200:
            self._settle(message)
        elif message is not None:
            self.abort(message.message_id, status, head.comment)
        if status in (481, 506) or (message is None and status != 200):
            self.events.append(SessionFailed(head.comment or "the peer refuses the session", status))

    def _partial_response(self, head: ResponseHead) -> None:
        """With ``Failure-Report: partial`` only errors are answered, so nothing waits and no timer runs."""
        message, byte_range = self._partial.pop(head.transaction_id, (None, None))
        if message is None or byte_range is None:
            return
        self.events.append(ResponseIn(message.message_id, head.status, head.comment, byte_range))
        if head.status == 200:
            return
        if message.message_id in self._known:
            self.abort(message.message_id, head.status, head.comment)
        elif message.sent_all:
            # It counted as accepted already, since no 200 was to be waited for: the failure is told all the same.
            self.events.append(MessageFailed(message.message_id, head.status, head.comment))
        if head.status in (481, 506):
            self.events.append(SessionFailed(head.comment or "the peer refuses the session", head.status))

    def report(self, request: RequestHead) -> None:
        """Correlate a REPORT; one on an unknown message is ignored (RFC 4975 7.1.1)."""
        message = self._known.get(request.message_id)
        if message is None:
            return
        status = request.status
        if status.namespace != "000":
            return
        byte_range = request.byte_range
        self.events.append(ReportIn(message.message_id, status.code, status.comment, byte_range))
        if status.code != 200:
            self.abort(message.message_id, status.code, status.comment)
        elif message.sent_all and (byte_range is None or (byte_range.start == 1 and byte_range.end == message.sent)):
            message.report_due = False
            self._forget_if_done(message)

    def expire(self, now: float) -> None:
        """Chunks whose response is overdue fail their message; an unanswered first request fails the session."""
        while self._transactions:
            transaction_id, transaction = next(iter(self._transactions.items()))
            if transaction.deadline > now:
                return
            del self._transactions[transaction_id]
            if transaction.message is None:
                self.events.append(SessionFailed("no response to the first request", 408))
            else:
                transaction.message.waiting -= 1
                self.abort(transaction.message.message_id, 408, "no response")

    def drop_all(self, reason: str, status: int = 0) -> None:
        """The session is over: fail what was not accepted, with the status that ended it if there was one."""
        for message in list(self._known.values()):
            if not message.sent_all or message.waiting:
                self.events.append(MessageFailed(message.message_id, status, reason))
        self._known.clear()
        self._queue.clear()
        self._cancelled.clear()
        self._transactions.clear()
        self._partial.clear()

    def _farewell(self, message: Outgoing) -> bytes:
        byte_range = ByteRange(message.sent + 1, message.sent, message.total)
        head = self._head(self._ident(), message.message_id, byte_range, message.headers, has_body=True)
        return head.to_bytes() + head.end_line("#")

    def _settle(self, message: Outgoing) -> None:
        if message.sent_all and not message.waiting and message.message_id in self._known:
            self.events.append(MessageAccepted(message.message_id))
            self._forget_if_done(message)

    def _forget_if_done(self, message: Outgoing) -> None:
        if not message.waiting and not message.report_due:
            self._known.pop(message.message_id, None)
        elif len(self._known) > 2 * self._limits.queue:
            # Reports need not ever come: the oldest message that only waits for one is forgotten.
            for known in self._known.values():
                if known.sent_all and not known.waiting:
                    del self._known[known.message_id]
                    break

    def _head(
        self, transaction_id: str, message_id: str, byte_range: ByteRange, headers: Headers, *, has_body: bool
    ) -> RequestHead:
        common: Headers = (*self._paths, ("Message-ID", message_id), ("Byte-Range", str(byte_range)))
        return RequestHead(transaction_id, "SEND", common + headers, has_body)

    def _transaction_for(self, body: bytes) -> str:
        """A transaction id whose end-line is not in ``body`` (RFC 4975 7.1)."""
        while True:
            transaction_id = self._ident()
            if transaction_id not in self._transactions and body.find(b"-------" + transaction_id.encode()) < 0:
                return transaction_id

    def _ident(self) -> str:
        token = self._ids.token(12)
        if not is_ident(token):
            raise ValueError(f"the source of ids gave {token!r}, which is no MSRP ident")
        return token
