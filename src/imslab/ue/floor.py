"""The asynchronous face of BFCP: floors asked for and released, or a floor server for everybody who connects."""

import asyncio
from collections.abc import Hashable, Iterable

from imslab.ue.link import MsrpLink
from imswire.bfcp.client import Answered, FloorClient, RequestChanged, RequestInfo
from imswire.bfcp.floor import FloorServer
from imswire.bfcp.floor_values import CloseClient, Floor, FloorLimits, Output, SendTo, User
from imswire.bfcp.framer import BfcpFramer
from imswire.bfcp.message import BadMessage, Message, parse
from imswire.bfcp.tables import AttributeType, Primitive, Status


class FloorError(Exception):
    """The server answered with an Error, or the connection ended."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class BfcpWire:
    """Octets to messages and back, in the form in which a link carries sessions. Pure."""

    def __init__(self) -> None:
        self._framer = BfcpFramer()
        self._out: list[bytes] = []

    def put(self, message: Message) -> None:
        """Queue a message."""
        self._out.append(message.to_bytes())

    def feed(self, data: bytes | bytearray, _now: float) -> list[Message | BadMessage]:
        """Octets from the connection; a :class:`BadMessage` is the last thing that comes."""
        if self._framer.error is not None:
            return []
        out: list[Message | BadMessage] = []
        try:
            for whole in self._framer.feed(data):
                out.append(parse(whole))
        except BadMessage as fault:
            out.append(fault)
        else:
            if self._framer.error is not None:
                out.append(self._framer.error)
        return out

    def next_output(self, _size: int, _now: float) -> bytes | None:
        """The next octets to send."""
        return self._out.pop(0) if self._out else None

    def next_timer(self) -> float | None:
        """BFCP over TCP has no timers."""
        return None

    def expire(self, _now: float) -> list[Message | BadMessage]:
        """Nothing is ever due."""
        return []

    def connection_lost(self, _now: float) -> list[Message | BadMessage]:
        """The link says so itself."""
        return []


class FloorHost:
    """A floor control server that several calls may share; each participant gets a user id of its own."""

    def __init__(
        self,
        conference: int = 4321,
        floors: Iterable[Floor] = (Floor(1),),
        users: Iterable[User] | None = None,
        limits: FloorLimits | None = None,
    ) -> None:
        self.floors = tuple(floors)
        self.server = FloorServer(conference, self.floors, users, limits)
        self._sessions: dict[Hashable, FloorSession] = {}
        self._users = 0

    @property
    def conference(self) -> int:
        """The conference id."""
        return self.server.conference

    def new_user(self) -> int:
        """A user id for the next participant."""
        self._users += 1
        return self._users

    def join(self, session: "FloorSession") -> None:
        """A session whose messages this server takes."""
        self._sessions[id(session)] = session

    def take(self, session: "FloorSession", message: Message | BadMessage) -> None:
        """A message from a participant, or what could not be read."""
        if isinstance(message, BadMessage):
            self._carry_out(self.server.unreadable(id(session), message))
        else:
            self._carry_out(self.server.receive(id(session), message))

    def leave(self, session: "FloorSession", *, for_good: bool, user: int) -> None:
        """The connection ended; ``for_good`` ends the user's requests too."""
        if self._sessions.pop(id(session), None) is not None:
            self._carry_out(self.server.lost(id(session)))
            if for_good:
                self._carry_out(self.server.dismiss(user, "left the conference"))

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            session = self._sessions.get(output.client)
            if session is None:
                continue
            match output:
                case SendTo(_, message):
                    session.send(message)
                case CloseClient(_, reason):
                    session.end(reason)


class FloorSession:
    """One BFCP connection of a call, as ``client``, or as server with a ``host``. ``seen`` is all that came."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.client: FloorClient | None = None
        self.host: FloorHost | None = None
        self.user = 0
        self.link: MsrpLink | None = None
        self.seen: list[Message] = []
        self.closed: asyncio.Future[str] = loop.create_future()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._ready.add_done_callback(lambda future: None if future.cancelled() else future.exception() and None)
        self._wire = BfcpWire()
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._changed = asyncio.Event()

    # --- what a participant does ---

    async def opened(self, deadline: float = 10.0) -> None:
        """Wait until messages may flow; raises :class:`FloorError` or TimeoutError."""
        async with asyncio.timeout(deadline):
            await asyncio.shield(self._ready)

    async def ask(self, message: Message, deadline: float = 10.0) -> Message:
        """Send a message made by :attr:`client` and wait for its answer; an Error raises :class:`FloorError`."""
        await self.opened(deadline)
        if self.closed.done():
            raise FloorError(self.closed.result())
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[message.transaction] = future
        self.send(message)
        try:
            async with asyncio.timeout(deadline):
                answer = await future
        finally:
            self._answers.pop(message.transaction, None)
        if answer.primitive == Primitive.ERROR:
            code = answer.error.code if answer.error is not None else 0
            raise FloorError(f"error {code} from the floor server", code)
        return answer

    async def hello(self) -> Message:
        """Hello; returns the HelloAck."""
        return await self.ask(self._need_client().hello())

    async def request(self, *floors: int, priority: int | None = None, info: str = "") -> RequestInfo:
        """Request floors; returns what the server says at first."""
        client = self._need_client()
        answer = await self.ask(client.request_floor(*floors, priority=priority, info=info))
        return client.requests[answer.groups(AttributeType.FLOOR_REQUEST_INFORMATION)[0].id]

    async def release(self, request: int) -> RequestInfo:
        """Release a floor or cancel a request."""
        await self.ask(self._need_client().release(request))
        return self._need_client().requests[request]

    async def status(self, request: int, wanted: Status, deadline: float = 10.0) -> RequestInfo:
        """Wait until a floor request has that status; raises TimeoutError."""
        client = self._need_client()
        async with asyncio.timeout(deadline):
            while (info := client.requests.get(request)) is None or info.status is not wanted:
                self._changed.clear()
                await self._changed.wait()
        return info

    def send(self, message: Message) -> None:
        """Queue a message and send what can be sent."""
        self._wire.put(message)
        if self.link is not None:
            self.link.pump()

    # --- what the call and the link tell ---

    def become(self, *, client: FloorClient | None = None, host: FloorHost | None = None, user: int = 0) -> None:
        """The role of this side, known when offer and answer are; ``user`` is the participant that a host serves."""
        self.client, self.host, self.user = client, host, user
        if host is not None:
            host.join(self)

    def start(self, link: MsrpLink) -> None:
        """The connection of this session."""
        self.link = link
        link.opened.add_done_callback(self._opened)
        link.closed.add_done_callback(lambda future: None if future.cancelled() else self._fail(future.result()))
        link.attach(self._wire)

    def events(self, events: list[Message | BadMessage]) -> None:
        """Messages that came."""
        for event in events:
            if isinstance(event, Message):
                self.seen.append(event)
            if self.host is not None:
                self.host.take(self, event)
            elif isinstance(event, BadMessage):
                self.end(str(event))
            elif self.client is not None:
                self._told(self.client, event)

    def close(self, *, for_good: bool = True) -> None:
        """Close in order."""
        if self.host is not None:
            self.host.leave(self, for_good=for_good, user=self.user)
        if self.link is not None:
            self.link.close()
        else:
            self._fail("closed before a connection was made")

    def end(self, reason: str) -> None:
        """Close for a cause, after what is to be sent."""
        if self.link is not None:
            self.link.pump()
            self.link.close()
        self._fail(reason)

    def fail(self, reason: str) -> None:
        """No connection came about."""
        self._fail(reason)

    def _told(self, client: FloorClient, message: Message) -> None:
        for event in client.receive(message):
            match event:
                case Answered(_, answer):
                    waiting = self._answers.get(answer.transaction)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)
                case RequestChanged():
                    self._changed.set()
                case _:
                    pass

    def _need_client(self) -> FloorClient:
        if self.client is None:
            raise FloorError("this side is the floor control server")
        return self.client

    def _opened(self, future: asyncio.Future[None]) -> None:
        if self._ready.done() or future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._ready.set_result(None)
        else:
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(FloorError(reason))
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(FloorError(reason))
        if not self.closed.done():
            self.closed.set_result(reason)
