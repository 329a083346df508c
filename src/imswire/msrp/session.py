"""One endpoint of one MSRP session over one connection (RFC 4975), pure: octets and time in, events and octets out.

The user of the machine

* gives it what the connection brings: ``feed(data, now)`` returns events;
* asks for octets while the connection takes them: ``next_output(size, now)`` returns at most ``size`` of them, or
  None where there is nothing to send now (ask again after ``feed``, ``send_*`` or ``expire``);
* calls ``expire(now)`` at ``next_timer()``, and ``connection_lost(now)`` at the end.

Message bodies are pulled from readers chunk by chunk and incoming octets are handed on as views, so a message of
any size passes in bounded memory. Responses and reports go before message chunks.
"""

from collections import deque
from typing import Literal

from imswire.base import LimitExceeded, ProtocolError
from imswire.msrp.events import (
    Chunk,
    IdSource,
    MessageAborted,
    MessageComplete,
    MessageStarted,
    SessionBound,
    SessionEvent,
    SessionFailed,
    SessionLimits,
)
from imswire.msrp.framer import BodyRead, EndRead, FrameEvent, HeadRead, MsrpFramer
from imswire.msrp.message import ByteRange, Headers, RequestHead, ResponseHead, Status, report_on, response_to
from imswire.msrp.receiver import Incoming, first_octet, type_accepted
from imswire.msrp.sender import Reader, Sender
from imswire.msrp.uri import MsrpUri, parse_path

DEFAULT_LIMITS = SessionLimits()
_CHUNK_OVERHEAD = 768
_REFUSED_KEPT = 256


class MsrpSession:
    """An MSRP endpoint.

    ``local_path`` and ``remote_path`` are the ``a=path`` values of the two session descriptions. ``active`` tells
    that this side opened the connection: it speaks first (RFC 4975 5.4), while a passive one sends nothing before it
    was spoken to. ``match`` is how the To-Path of requests is compared with ``local_path``: ``strict`` as RFC 4975
    6.1 has it, scheme included, or ``session-id`` for paths that cross a middlebox which leaves MSRP alone.
    """

    def __init__(
        self,
        local_path: str,
        remote_path: str,
        *,
        ids: IdSource,
        match: Literal["strict", "session-id"] = "strict",
        active: bool = False,
        accept_types: tuple[str, ...] = ("*",),
        limits: SessionLimits = DEFAULT_LIMITS,
    ) -> None:
        self._local = parse_path(local_path)[-1]
        parse_path(remote_path)
        self._local_uri = str(self._local) if len(local_path.split()) > 1 else local_path.strip()
        self._strict = match == "strict"
        self._accept_types = accept_types
        self._limits = limits
        self._ids = ids
        self._framer = MsrpFramer(limits.head)
        self._sender = Sender(local_path.strip(), remote_path.strip(), ids, limits)
        self._bound = active
        self._heard = False
        self._greeting_due = active
        self._control: deque[bytes] = deque()
        self._control_size = 0
        self._rest = memoryview(b"")
        self._request: RequestHead | None = None
        self._message: Incoming | None = None
        self._offset = 0
        self._status = 0
        self._matched: dict[str, bool] = {}
        self._incoming: dict[str, Incoming] = {}
        self._refused: dict[str, int] = {}
        self._failed = False

    @property
    def failed(self) -> bool:
        """The session is over; the connection is to be closed."""
        return self._failed

    @property
    def bound(self) -> bool:
        """Messages may be sent: this side is active, or the peer has spoken."""
        return self._bound

    @property
    def backlog(self) -> int:
        """Octets of responses and reports that wait; stop reading from the connection while it grows."""
        return self._control_size

    @property
    def idle(self) -> bool:
        """Nothing is queued, unanswered or half received."""
        sender = self._sender
        return not (sender.queued or sender.outstanding or self._incoming or self._control or self._rest)

    def send_text(
        self,
        text: str,
        *,
        content_type: str = "text/plain",
        success_report: bool = False,
        failure_report: str = "yes",
        headers: Headers = (),
    ) -> str:
        """Queue a text and return its Message-ID."""
        body = memoryview(text.encode())
        position = 0

        def read(size: int) -> bytes:
            nonlocal position
            piece = bytes(body[position : position + size])
            position += len(piece)
            return piece

        return self.send_message(
            len(body),
            read,
            content_type=content_type,
            success_report=success_report,
            failure_report=failure_report,
            headers=headers,
        )

    def send_message(
        self,
        total: int | None,
        reader: Reader,
        *,
        content_type: str = "application/octet-stream",
        success_report: bool = False,
        failure_report: str = "yes",
        headers: Headers = (),
    ) -> str:
        """Queue a message of ``total`` octets (None: until ``reader`` ends) and return its Message-ID.

        ``headers`` are further MIME headers (Content-Disposition and so on). Raises :class:`LimitExceeded`
        ``msrp.queue`` where too many messages wait, and :class:`ProtocolError` for a session that is over.
        """
        if self._failed:
            raise ProtocolError("msrp.session-over", "the session is over")
        return self._sender.add(
            total,
            reader,
            (*headers, ("Content-Type", content_type)),
            success_report=success_report,
            failure_report=failure_report,
        )

    def abort(self, message_id: str) -> None:
        """Give up a message that is being sent; the event follows with the next call that returns events."""
        self._sender.cancel(message_id)

    def refuse(self, message_id: str, status: int = 413) -> None:
        """Refuse the rest of an incoming message: its next chunk is answered with ``status`` (RFC 4975 10.5)."""
        self._incoming.pop(message_id, None)
        self._refused[message_id] = status
        while len(self._refused) > _REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]

    def next_output(self, size: int, now: float) -> bytes | None:
        """At most ``size`` octets (1 or more) to send, None where there is nothing to send now."""
        if size < 1:
            return None
        if not self._rest:
            made = self._make_output(size, now)
            if made is None:
                return None
            if len(made) <= size:
                return made
            self._rest = memoryview(made)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[len(piece) :]
        return piece

    def _make_output(self, size: int, now: float) -> bytes | None:
        if self._control:
            joined = b"".join(self._control)
            self._control.clear()
            self._control_size = 0
            return joined
        if self._failed or not self._bound:
            return None
        if self._greeting_due:
            self._greeting_due = False
            if not self._sender.queued:
                return self._sender.greeting(now)
        return self._sender.next_chunk(size - _CHUNK_OVERHEAD, now)

    def feed(self, data: bytes | bytearray | memoryview, now: float) -> list[SessionEvent]:
        """Take octets from the connection. Broken framing ends the session with :class:`SessionFailed`."""
        if self._failed:
            return []
        events = self._sender.events
        try:
            for frame in self._framer.feed(data):
                self._frame(frame, events)
                if self._failed:
                    break
        except ProtocolError as error:
            events.append(SessionFailed(str(error), 400))
        return self._take_events()

    def expire(self, now: float) -> list[SessionEvent]:
        """Run the timers that are due."""
        if not self._failed:
            self._sender.expire(now)
        return self._take_events()

    def next_timer(self) -> float | None:
        """Absolute time of the earliest timer, None where none runs."""
        return None if self._failed else self._sender.next_timer()

    def connection_lost(self, now: float) -> list[SessionEvent]:
        """The connection has ended; what was not complete has failed (RFC 4975 5.4)."""
        if not self._failed:
            self._sender.events.append(SessionFailed("the connection has ended"))
        return self._take_events()

    def _take_events(self) -> list[SessionEvent]:
        sender = self._sender
        if not self._failed and any(isinstance(event, SessionFailed) for event in sender.events):
            self._failed = True
            failure = next(event for event in sender.events if isinstance(event, SessionFailed))
            sender.events.remove(failure)
            sender.drop_all(failure.reason, failure.status)
            sender.events.extend(MessageAborted(message_id, failure.reason) for message_id in self._incoming)
            self._incoming.clear()
            sender.events.append(failure)
        events, sender.events = sender.events, []
        return events

    def _frame(self, frame: FrameEvent, events: list[SessionEvent]) -> None:
        if isinstance(frame, BodyRead):
            if self._message is not None:
                self._body(self._message, frame.data, events)
        elif isinstance(frame, HeadRead):
            if isinstance(frame.head, ResponseHead):
                self._sender.response(frame.head)
            else:
                self._begin(frame.head, events)
        else:
            self._end(frame, events)

    def _begin(self, request: RequestHead, events: list[SessionEvent]) -> None:
        """A request's head: decide its status at once, so that a refusal does not wait for the body's end."""
        self._request = request
        self._message = None
        self._status = 0
        try:
            request.validate()
            status = self._judge(request)
        except ProtocolError:
            status = 400
        if status:
            self._refuse_request(status, events)
            return
        if not self._heard:
            self._heard = True
            if not self._bound:
                self._bound = True
                events.append(SessionBound())
        if request.method == "SEND" and (request.has_body or request.content_type is not None):
            self._open(request, events)

    def _judge(self, request: RequestHead) -> int:
        """0 to go on, else the status that refuses the request (RFC 4975 7.3)."""
        if not self._for_us(request.to_path):
            return 481
        if request.method == "REPORT":
            return 0
        if request.method != "SEND":
            return 501
        content_type = request.content_type
        if content_type is None:
            return 0
        message_id = request.message_id
        if message_id in self._refused:
            return self._refused[message_id]
        if not type_accepted(content_type, self._accept_types):
            return 415
        byte_range = request.byte_range
        if byte_range is not None and (byte_range.total or byte_range.end or byte_range.start) > self._limits.message:
            return 413
        if message_id not in self._incoming and len(self._incoming) >= self._limits.messages:
            return 413
        return 0

    def _for_us(self, to_path: str) -> bool:
        if to_path == self._local_uri:
            return True
        known = self._matched.get(to_path)
        if known is None:
            known = self._compare(to_path)
            if len(self._matched) < 16:
                self._matched[to_path] = known
        return known

    def _compare(self, to_path: str) -> bool:
        uris: tuple[MsrpUri, ...] = parse_path(to_path)
        if len(uris) != 1:
            return False
        return uris[0].same_as(self._local) if self._strict else uris[0].same_session(self._local)

    def _open(self, request: RequestHead, events: list[SessionEvent]) -> None:
        message_id = request.message_id
        message = self._incoming.get(message_id)
        byte_range = request.byte_range
        if message is None:
            message = self._incoming[message_id] = Incoming(message_id, self._limits.gaps)
            total = None if byte_range is None else byte_range.total
            events.append(MessageStarted(message_id, request.content_type or "", total, request.headers))
        self._message = message
        self._offset = first_octet(request)

    def _body(self, message: Incoming, data: memoryview, events: list[SessionEvent]) -> None:
        end = self._offset + len(data)
        if end > self._limits.message:
            self._refuse_request(413, events)
            return
        try:
            message.coverage.add(self._offset, end)
        except LimitExceeded:
            self._refuse_request(413, events)
            return
        events.append(Chunk(message.message_id, self._offset, data))
        self._offset = end

    def _refuse_request(self, status: int, events: list[SessionEvent]) -> None:
        """Answer the current request with an error now and let the rest of it pass."""
        request = self._request
        self._status = status
        if self._message is not None:
            message_id = self._message.message_id
            self._message = None
            self.refuse(message_id, status)
            events.append(MessageAborted(message_id, f"refused with {status}"))
        if request is not None:
            self._respond(request, status, events)

    def _end(self, frame: EndRead, events: list[SessionEvent]) -> None:
        request = self._request
        if request is None:
            return
        self._request = None
        message = self._message
        self._message = None
        if self._status:
            return
        if request.method == "REPORT":
            self._sender.report(request)
            return
        self._respond(request, 200, events)
        if message is None:
            return
        if frame.flag == "#":
            del self._incoming[message.message_id]
            events.append(MessageAborted(message.message_id, "abandoned by its sender"))
            return
        if frame.flag == "$":
            message.size = self._offset
        if message.complete:
            del self._incoming[message.message_id]
            size = message.size or 0
            if request.success_report:
                whole = ByteRange(1, size, size)
                report = report_on(request, self._ids.token(12), self._local_uri, Status(200, "OK"), whole)
                self._queue_control(report.to_bytes() + report.end_line(), events)
            events.append(MessageComplete(message.message_id, size))

    def _respond(self, request: RequestHead, status: int, events: list[SessionEvent]) -> None:
        try:
            response = response_to(request, status, self._local_uri)
        except ProtocolError:
            return  # Without a From-Path there is nobody to answer to.
        if response is not None:
            self._queue_control(response.to_bytes(), events)

    def _queue_control(self, data: bytes, events: list[SessionEvent]) -> None:
        self._control_size += len(data)
        if self._control_size > self._limits.backlog:
            events.append(SessionFailed("responses pile up: the connection is read but not written"))
            self._control.clear()
            self._control_size = 0
            return
        self._control.append(data)
