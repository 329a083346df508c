"""The asynchronous face of one MSRP session: send and receive texts and files."""

import asyncio
import hashlib
import mimetypes
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from imslab.ue.link import LinkError, MsrpLink
from imswire.msrp.events import (
    Chunk,
    MessageAborted,
    MessageAccepted,
    MessageComplete,
    MessageFailed,
    MessageStarted,
    ReportIn,
    ResponseIn,
    SessionEvent,
    SessionFailed,
)
from imswire.msrp.session import MsrpSession

_TEXT_LIMIT = 1 << 20


class ChatError(Exception):
    """A message was not taken, or the session ended before it was."""


class Incoming(Struct, frozen=True):
    """A received message. ``text`` is set for texts; files are at ``path`` (the caller's to delete). ``sha256`` is
    of the whole body.
    """

    message_id: str
    content_type: str
    size: int
    sha256: str
    text: str | None = None
    path: Path | None = None
    name: str = ""

    def keep(self) -> Path | None:
        """Give the file the name its sender gave it, beside its present place and never over another file."""
        if self.path is None or not self.name:
            return self.path
        stem, dot, suffix = self.name.rpartition(".")
        for number in range(1000):
            numbered = (
                f"{stem or suffix}-{number}{dot if stem else ''}{suffix if stem else ''}" if number else self.name
            )
            target = self.path.with_name(numbered)
            try:
                os.link(self.path, target)
            except FileExistsError:
                continue
            self.path.unlink()
            return target
        return self.path


class Sent(Struct, frozen=True):
    """A file that the peer reported as received."""

    message_id: str
    size: int
    sha256: str
    seconds: float


class _Arriving:
    """A message on its way in, kept in a file; the digest is taken on the way while chunks come in order."""

    def __init__(self, started: MessageStarted, folder: Path | None) -> None:
        self.started = started
        self.file = tempfile.NamedTemporaryFile(dir=folder, prefix="msrp-", delete=False)  # noqa: SIM115  kept open across events
        self._digest = hashlib.sha256()
        self._next = 0
        self._ordered = True

    def write(self, chunk: Chunk) -> None:
        if chunk.offset == self._next and self._ordered:
            self._digest.update(chunk.data)
            self._next += len(chunk.data)
        else:
            self._ordered = False
            self.file.seek(chunk.offset)
        self.file.write(chunk.data)

    def finish(self, size: int) -> Incoming:
        self.file.close()
        path = Path(self.file.name)
        if not self._ordered:
            with path.open("rb") as file:
                self._digest = hashlib.file_digest(file, "sha256")
        text = None
        kind = self.started.content_type.partition(";")[0].strip().lower()
        name = file_name(self.started)
        if kind.startswith(("text/", "message/cpim")) and size <= _TEXT_LIMIT and not name:
            text = path.read_bytes().decode("utf-8", "replace")
            path.unlink()
        kept = path if text is None else None
        return Incoming(self.started.message_id, kind, size, self._digest.hexdigest(), text, kept, name)

    def discard(self) -> None:
        self.file.close()
        Path(self.file.name).unlink(missing_ok=True)


class _Outgoing:
    """A message whose fate somebody waits for; ``reported`` says that a success report is wanted too."""

    def __init__(self, reported: bool) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reported = reported


class ChatSession:
    """One MSRP session of a call. ``received`` yields :class:`Incoming` values in the order of their completion."""

    def __init__(self, folder: Path | None = None) -> None:
        self.received: asyncio.Queue[Incoming] = asyncio.Queue()
        self.link: MsrpLink | None = None
        self._session: MsrpSession | None = None
        self._folder = folder
        self._arriving: dict[str, _Arriving] = {}
        self._waiting: dict[str, _Outgoing] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda future: None if future.cancelled() else future.exception() and None)
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_progress: Callable[[str, int, int | None], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        """Told in place of the end when the connection ends, once: there will be another one."""
        self.moved = asyncio.Event()
        """Set when the session has gone over to another connection."""

    def start(self, session: MsrpSession, link: MsrpLink) -> None:
        """Bind session and connection together; called by the media of a call."""
        if self.link is not None and self.link is not link:
            self.moved.set()
        self._session = session
        self.link = link
        link.opened.add_done_callback(self._opened)
        link.closed.add_done_callback(self._closed)
        link.attach(session)

    def restart(self, session: MsrpSession) -> None:
        """Another peer behind the same connection: the session of another answer to a forked offer."""
        self._session = session
        if self.link is not None:
            self.link.attach(session)

    def fail(self, reason: str) -> None:
        """No connection came about."""
        self._fail(reason)

    async def opened(self, deadline: float = 10.0) -> None:
        """Wait until the session may carry messages; raises :class:`ChatError` or TimeoutError."""
        try:
            async with asyncio.timeout(deadline):
                await asyncio.shield(self._ready)
        except LinkError as error:
            raise ChatError(str(error)) from None

    async def send_text(self, text: str, *, content_type: str = "text/plain", deadline: float = 10.0) -> str:
        """Send a text and wait for its 200; returns the Message-ID. Raises :class:`ChatError` or TimeoutError."""
        await self.opened(deadline)
        message_id = self._machine().send_text(text, content_type=content_type)
        await self._outcome(message_id, reported=False, deadline=deadline)
        return message_id

    async def send_file(
        self,
        source: Path,
        *,
        content_type: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        deadline: float = 120.0,
    ) -> Sent:
        """Send a file in chunks and wait for the success report of its receiver; ``progress`` gets (sent, total)
        octets.
        """
        await self.opened(min(deadline, 10.0))
        begun = time.monotonic()
        kind = content_type or mimetypes.guess_type(source.name)[0] or "application/octet-stream"
        digest = hashlib.sha256()
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            disposition = f'attachment; filename="{_safe_name(source.name)}"'
            message_id = self._machine().send_message(
                size,
                _reader(file, size, digest.update, progress),
                content_type=kind,
                success_report=True,
                headers=(("Content-Disposition", disposition),),
            )
            await self._outcome(message_id, reported=True, deadline=deadline)
        return Sent(message_id, size, digest.hexdigest(), time.monotonic() - begun)

    async def receive(self, deadline: float = 10.0) -> Incoming:
        """The next received message; raises TimeoutError."""
        async with asyncio.timeout(deadline):
            return await self.received.get()

    def close(self) -> None:
        """Close the connection in order."""
        self.on_lost = None
        if self.link is not None:
            self.link.close()
        else:
            self._fail("closed before a connection was made")

    # --- what the link tells ---

    def events(self, events: list[SessionEvent]) -> None:
        """Take what the session machine reports."""
        for event in events:
            match event:
                case MessageStarted():
                    self._arriving[event.message_id] = _Arriving(event, self._folder)
                case Chunk():
                    arriving = self._arriving.get(event.message_id)
                    if arriving is not None:
                        arriving.write(event)
                        if self.on_progress is not None:
                            self.on_progress(event.message_id, event.offset + len(event.data), arriving.started.total)
                case MessageComplete():
                    complete = self._arriving.pop(event.message_id, None)
                    if complete is not None:
                        self.received.put_nowait(complete.finish(event.size))
                case MessageAborted():
                    aborted = self._arriving.pop(event.message_id, None)
                    if aborted is not None:
                        aborted.discard()
                case MessageAccepted():
                    self._settle(event.message_id, "", reported=False)
                case ReportIn():
                    problem = "" if event.status == 200 else f"reported {event.status} {event.comment}"
                    self._settle(event.message_id, problem, reported=True)
                case ResponseIn() if event.status != 200:
                    self._settle(event.message_id, f"refused with {event.status} {event.comment}", reported=True)
                case MessageFailed():
                    self._settle(event.message_id, f"failed with {event.status} {event.reason}", reported=True)
                case SessionFailed() if self.on_lost is not None:
                    pass
                case SessionFailed():
                    # The connection knows better why it ended than the session that lost it.
                    known = self.link is not None and self.link.closed.done()
                    self._fail(self.link.closed.result() if self.link is not None and known else _told(event))
                case _:
                    pass
        if events and self.link is not None:
            self.link.pump()

    def _machine(self) -> MsrpSession:
        if self._session is None or self.closed.done():
            why = f": {self.closed.result()}" if self.closed.done() else ""
            raise ChatError(f"the session is over{why}")
        return self._session

    async def _outcome(self, message_id: str, *, reported: bool, deadline: float) -> None:
        waiting = self._waiting[message_id] = _Outgoing(reported)
        if self.link is not None:
            self.link.pump()
        try:
            async with asyncio.timeout(deadline):
                await waiting.done
        finally:
            self._waiting.pop(message_id, None)

    def _settle(self, message_id: str, problem: str, *, reported: bool) -> None:
        waiting = self._waiting.get(message_id)
        if waiting is None or waiting.done.done():
            return
        if problem:
            waiting.done.set_exception(ChatError(f"message {message_id} {problem}"))
        elif reported or not waiting.reported:
            waiting.done.set_result(None)

    def _opened(self, future: asyncio.Future[None]) -> None:
        if self._ready.done() or future.cancelled():
            return
        error = future.exception()
        if error is not None and self.on_lost is not None:
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._fail(str(error))

    def _closed(self, future: asyncio.Future[str]) -> None:
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()
        elif not future.cancelled():
            self._fail(future.result())

    def _fail(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ChatError(reason))
        for waiting in self._waiting.values():
            if not waiting.done.done():
                waiting.done.set_exception(ChatError(reason))
        for arriving in self._arriving.values():
            arriving.discard()
        self._arriving.clear()
        if not self.closed.done():
            self.closed.set_result(reason)


def _told(failure: SessionFailed) -> str:
    return f"{failure.status} {failure.reason}" if failure.status else failure.reason


def _reader(
    file: BinaryIO, total: int, digest: Callable[[bytes], None], progress: Callable[[int, int], None] | None
) -> Callable[[int], bytes]:
    sent = 0

    def read(size: int) -> bytes:
        nonlocal sent
        data = file.read(size)
        digest(data)
        sent += len(data)
        if progress is not None:
            progress(sent, total)
        return data

    return read


def file_name(started: MessageStarted) -> str:
    """The name in Content-Disposition reduced to its last part; empty where there is none."""
    for name, value in started.headers:
        if name.lower() == "content-disposition":
            for parameter in value.split(";")[1:]:
                key, _, text = parameter.strip().partition("=")
                if key.strip().lower() == "filename":
                    return _safe_name(text.strip().strip('"'))
    return ""


def _safe_name(name: str) -> str:
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable() and c not in '";')
    return kept.strip(". ")[:120] or "file"
