"""A SIP node of the lab: sockets and a driver around a pure machine. UE and core differ only in the machine."""

from collections.abc import Callable

from msgspec import Struct

from imskit.common_settings import StreamSettings
from imskit.driver import Driver
from imskit.logs import get_logger
from imskit.machine import Machine
from imskit.transports import SipTransports
from imswire.sip import transaction as tx
from imswire.sip.dialog import AnswerRepeater
from imswire.sip.flow import Flow, Transport
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, Ping, StreamFramer, parse

log = get_logger("imslab.sip")


# --- events ---


class Received(Struct, frozen=True):
    """A parsed message and the way it came."""

    message: Request | Response
    flow: Flow


class Closed(Struct, frozen=True):
    """That connection is gone, or nothing could be sent on that flow."""

    flow: Flow


class SendRequest(Struct, frozen=True):
    """Start a client transaction; ``started`` is told its key before anything else happens."""

    request: Request
    flow: Flow
    started: Callable[[tx.ClientKey], None]


class SendAck(Struct, frozen=True):
    """Send the ACK to a 2xx, outside any transaction."""

    request: Request
    flow: Flow


class Answer(Struct, frozen=True):
    """Answer a request through its server transaction."""

    key: tx.ServerKey
    response: Response


class Cancel(Struct, frozen=True):
    """CANCEL a pending INVITE."""

    key: tx.ClientKey


class Deregister(Struct, frozen=True):
    """The network ends the registration of a user (the core alone)."""

    user: str


Event = Received | Closed | SendRequest | SendAck | Answer | Cancel | Deregister


# --- commands ---


class SendMessage(Struct, frozen=True):
    """Put a message on the wire."""

    message: Request | Response
    flow: Flow


class Tell(Struct, frozen=True):
    """Hand an output of the transaction layer to the transaction user."""

    output: "tx.Output | NoAck"


Command = SendMessage | Tell


class NoAck(Struct, frozen=True):
    """A 2xx to INVITE was repeated for 64*T1 and never acknowledged: the session is to be ended."""

    key: tx.ServerKey


class UserMachine:
    """The machine of a user agent: transactions and repeated answers; dialogs and authentication belong to the agent
    above.
    """

    def __init__(self, ids: tx.IdSource, via_host: Callable[[Flow], tuple[str, int]]) -> None:
        self._layer = tx.TransactionLayer(ids)
        self._repeater = AnswerRepeater()
        self._via = via_host

    def handle(self, event: Event, now: float) -> list[Command]:
        """One message from the wire or one order of the agent."""
        layer = self._layer
        match event:
            case Received(message, flow):
                if isinstance(message, Request) and message.method == "ACK":
                    self._repeater.acknowledged(message)
                return _commands(layer.receive(message, flow, now))
            case Closed(flow):
                return _commands(layer.transport_failed(flow, now))
            case SendRequest(request, flow, started):
                host, port = self._via(flow)
                key, outputs = layer.request(request, flow, now, via_host=host, via_port=port, via_params=_RPORT)
                started(key)
                return _commands(outputs)
            case SendAck(request, flow):
                host, port = self._via(flow)
                return _commands(layer.send_ack(request, flow, now, via_host=host, via_port=port, via_params=_RPORT))
            case Answer(key, response):
                outputs = layer.respond(key, response, now)
                if key.method == "INVITE" and 200 <= response.status < 300:
                    self._repeater.add(key, response, now)
                return _commands(outputs)
            case Cancel(key):
                return _commands(layer.cancel(key, now))
        return []

    def expire(self, now: float) -> list[Command]:
        """Run the timers that are due."""
        commands = _commands(self._layer.expire(now))
        for handle, response in self._repeater.expire(now):
            if not isinstance(handle, tx.ServerKey):
                continue
            if response is None:
                commands.append(Tell(NoAck(handle)))
            else:
                commands += _commands(self._layer.respond(handle, response, now))
        return commands

    def next_timer(self) -> float | None:
        """When the next timer is due."""
        timers = [t for t in (self._layer.next_timer(), self._repeater.next_timer()) if t is not None]
        return min(timers, default=None)


_RPORT = (("rport", None),)


def _commands(outputs: list[tx.Output]) -> list[Command]:
    return [SendMessage(o.message, o.flow) if isinstance(o, tx.Send) else Tell(o) for o in outputs]


class SipNode:
    """Sockets, parser and driver. ``tell`` receives every output that is not a message to send."""

    def __init__(
        self, machine: Machine[Event, Command], tell: Callable[[tx.Output | NoAck], None] = lambda _: None
    ) -> None:
        self._tell = tell
        self.driver: Driver[Event, Command] = Driver(machine, self._execute)
        self.transports = SipTransports(
            StreamFramer,
            on_datagram=self._received,
            on_frame=self._frame,
            on_flow_closed=lambda flow, _: self.driver.post(Closed(flow)),
            on_stream_error=self._bad,
            on_send_failed=lambda flow, _: self.driver.post(Closed(flow)),
            settings=StreamSettings(),
        )

    def listen(self, realm: str, transport: Transport, host: str, port: int) -> tuple[str, int]:
        """Listen and return the real address; raises OSError."""
        address = self.transports.add_listener(realm, transport, host, port)
        return address[0], address[1]

    async def close(self) -> None:
        """Stop the driver and close every socket."""
        self.driver.close()
        await self.transports.close(1.0)

    def _execute(self, command: Command) -> None:
        match command:
            case SendMessage(message, flow):
                self.transports.send(message.to_bytes(), flow)
            case Tell(output):
                self._tell(output)

    def _frame(self, flow: Flow, frame: bytes | Ping) -> None:
        if isinstance(frame, bytes):
            self._received(flow, frame)
        elif frame is Ping.DOUBLE:
            self.transports.send(b"\r\n", flow)

    def _received(self, flow: Flow, data: bytes) -> None:
        try:
            message = parse(data)
        except BadMessage as error:
            self._bad(flow, error)
            return
        self.driver.post(Received(message, flow))

    def _bad(self, flow: Flow, error: Exception) -> None:
        if isinstance(error, BadMessage):
            if error.reason == "sip.keepalive":
                return
            if error.message is not None:
                self.transports.send(error.message.reply(error.status).to_bytes(), flow)
        log.warning("unreadable SIP message", peer=flow.remote, error=str(error))
