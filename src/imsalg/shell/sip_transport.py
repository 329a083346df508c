"""The door for SIP: bytes from sockets become events, Send commands become bytes.

Everything that cannot be parsed stops here and goes in as :class:`BadMessageIn`; the engine decides whether it is
answered. Keep-alives never reach the engine (RFC 5626 3.5.1, 4.4.1).
"""

import asyncio
import re
from collections.abc import Callable

from imsalg.core.admission import Admission
from imsalg.core.events import BadMessageIn, Event, FlowClosed, Received, SendFailed, Unreachable
from imsalg.settings import Settings
from imsalg.shell.tally import SipTally
from imskit.logs import get_logger
from imskit.transports import SipTransports
from imswire.base import ProtocolError
from imswire.sip.flow import RELIABLE, Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, Limits, Ping, StreamFramer, parse
from imswire.sip.transaction import Send
from imswire.sources import source_of
from imswire.stun import answer, is_stun, parse_request

# Our own Via, the top one, with what ends its branch: ICMP may have cut the request short.
_OWN_VIA = re.compile(rb"\r\nVia: SIP/2\.0/UDP [^\r\n;,]*;branch=(z9hG4bK[\w.-]{1,100})[\r;]", re.ASCII)
_METHOD = re.compile(rb"([A-Z]{1,32}) ")
_LINE_ENDS_ONLY = frozenset(b"\r\n\0")
_LINE_ENDS = 10  # in one second on one connection: nobody who keeps a flow open says half as many
log = get_logger("imsalg.sip")


class SipDoor:
    """Sockets on one side, ``post`` (the driver's queue) on the other; the owner may set another ``post``."""

    def __init__(self, settings: Settings, post: Callable[[Event], None], first_connection: int = 1) -> None:
        self.post = post
        self.came = SipTally("in")
        self.went = SipTally("out")
        self.bad_messages = 0
        """What could not be read."""
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        limits = settings.limits
        self._limits = Limits(message=limits.message, header_bytes=limits.header_bytes, headers=limits.headers)
        self.keepalives = 0
        self.admission: Admission | None = None
        self._clock = self._loop.time
        self._stun_rate = self._stun_left = limits.stun_rate
        self._stun_second = 0
        self._stun_share = limits.stun_source_rate
        self._stun_sources: dict[str, int] = {}
        """Answered in this second, by source address: no more entries than the rate of all."""
        self._line_ends: dict[str | int, int] = {}
        """Line ends on streams in this second, by source address and by connection: bounded by the connections."""
        self._pongs: set[int] = set()
        """Connections whose pong goes out when what was read is done with."""
        self._access = frozenset(name for name, realm in settings.realm.items() if realm.kind == "access")
        self.floods = 0
        """Connections closed for a flood of line ends."""
        self.transports = SipTransports(
            lambda: StreamFramer(self._limits),
            on_datagram=self._datagram,
            on_frame=self._frame,
            on_flow_closed=self._closed,
            on_stream_error=self._stream_error,
            on_send_failed=self._send_failed,
            on_unreachable=self._unreachable,
            settings=settings.streams,
            first_connection=first_connection,
        )

    # --- in ---

    def _datagram(self, flow: Flow, data: bytes) -> None:
        if len(data) <= 4 and _LINE_ENDS_ONLY.issuperset(data):
            self.keepalives += 1  # CRLF (or a lone NUL, which some peers send) keeps a NAT open; UDP has no pong for it
            return
        if data[0] < 4 and is_stun(data):
            self._stun(flow, data)
            return
        self._message(flow, data)

    def _stun(self, flow: Flow, data: bytes) -> None:
        """A keep-alive (RFC 5626 5.4, 8): answered at once, up to so many in a second, whatever else there is to do.

        One address has a share of them only, so that it does not take those of all UEs.
        """
        if not self._may_answer(flow):
            return
        try:
            reply = answer(parse_request(data), flow.remote)
        except ProtocolError:
            return  # RFC 5389 7.3: silently
        self.keepalives += 1
        self.transports.send(reply, flow)

    def _may_answer(self, flow: Flow) -> bool:
        """Whether one more keep-alive is answered in this second, of all and of its source; if so it is counted."""
        self._turn_second()
        source = source_of(flow.remote[0])
        used = self._stun_sources.get(source, 0)
        if self._stun_left <= 0 or used >= self._stun_share:
            return False
        self._stun_left -= 1
        self._stun_sources[source] = used + 1
        return True

    def _turn_second(self) -> None:
        second = int(self._clock())
        if second != self._stun_second:
            self._stun_second, self._stun_left = second, self._stun_rate
            self._stun_sources.clear()
            self._line_ends.clear()

    def _frame(self, flow: Flow, frame: bytes | Ping) -> None:
        if isinstance(frame, Ping):
            self._line_end(flow, frame)
            return
        self._message(flow, frame)

    def _line_end(self, flow: Flow, ping: Ping) -> None:
        """A keep-alive on a stream (RFC 5626 4.4.1). What comes in one read gets one pong, when the read is done with.

        An access-side source that says more line ends than its share, most of them on a few connections, keeps no flow
        open but floods: those connections end. Core peers may end each message of a busy trunk with some.
        """
        self.keepalives += 1
        self._turn_second()
        connection, source = flow.connection, source_of(flow.remote[0])
        mine = self._line_ends[connection] = self._line_ends.get(connection, 0) + 1
        all_of_source = self._line_ends[source] = self._line_ends.get(source, 0) + 1
        if mine > _LINE_ENDS and all_of_source > self._stun_share and flow.realm in self._access:
            self._flooded(flow)
        elif ping is Ping.DOUBLE and connection not in self._pongs:
            self._pongs.add(connection)
            self._loop.call_soon(self._pong, flow)

    def _pong(self, flow: Flow) -> None:
        self._pongs.discard(flow.connection)
        if self.transports.is_open(flow) and self._may_answer(flow):
            self.transports.send(b"\r\n", flow)

    def _flooded(self, flow: Flow) -> None:
        self.floods += 1
        if self.floods & (self.floods - 1) == 0:  # the 1st, 2nd, 4th, 8th...: an attack must not fill the log
            log.warning("connection closed: a flood of line ends", remote=flow.remote, closed=self.floods)
        self.transports.close_flow(flow, "a flood of line ends")

    def _message(self, flow: Flow, data: bytes) -> None:
        admission = self.admission
        if admission is not None and (admission.shedding or flow.realm in admission.metered):
            verdict = admission.check(data, flow, self._time())
            if verdict is not None:
                if verdict:
                    self.transports.send(*verdict)
                return
        try:
            message = parse(data, self._limits)
        except BadMessage as error:
            self._bad(error, flow)
            return
        self.came.count(message, flow)
        self.post(Received(message, flow))

    def _bad(self, error: BadMessage, flow: Flow) -> None:
        self.bad_messages += 1
        self.post(BadMessageIn(error, flow))

    def _stream_error(self, flow: Flow, error: ProtocolError) -> None:
        bad = error if isinstance(error, BadMessage) else BadMessage(error.reason, error.hint, error.offset)
        self._bad(bad, flow)

    def _closed(self, flow: Flow, reason: str) -> None:
        self.post(FlowClosed(flow, reason))

    def _send_failed(self, flow: Flow, reason: str) -> None:
        if flow.transport in RELIABLE:  # a datagram that could not go was reported with its message
            self.post(FlowClosed(flow, reason))

    def _unreachable(self, flow: Flow, quoted: bytes, reason: str) -> None:
        """ICMP says that a datagram of ours did not arrive. Whoever makes that up cannot know our branch."""
        method, via = _METHOD.match(quoted), _OWN_VIA.search(quoted)
        if method is not None and via is not None:
            self.post(Unreachable(flow, via[1].decode("ascii"), method[1].decode("ascii"), reason))

    # --- out ---

    def send(self, command: Send) -> None:
        """Carry out one Send; what a codec refuses to write counts as not sent."""
        message, flow = command.message, command.flow
        self.went.count(message, flow)
        try:
            data = message.to_bytes()
        except ProtocolError as error:
            self._not_sent(message, flow, str(error))
            return
        if flow.transport != "udp":
            self.transports.send(data, flow, server_name=flow.server_name or None)
        elif self.transports.send_datagram(data, flow) is None:
            self._not_sent(message, flow, "the datagram could not be sent")

    def _not_sent(self, message: Request | Response, flow: Flow, reason: str) -> None:
        self.post(SendFailed(message, flow, reason))
