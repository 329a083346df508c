"""Events that the engine of the P-CSCF takes and commands that it gives.

Events come from the shell: parsed SIP messages with the flow they came over, flows that closed, messages that did not
parse, and what the gateway links report (:mod:`imsalg.core.media_events`). Commands go back to the shell. Wire objects
carry no routing; the flow beside them does.
"""

from msgspec import Struct

from imsalg.core.media_events import (
    BadFromGateway,
    CloseGateway,
    FromGateway,
    GatewayDown,
    GatewayUp,
    Inspect,
    Inspected,
    Log,
    ToGateway,
    Trace,
)
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage
from imswire.sip.transaction import Send


class Received(Struct, frozen=True):
    """One SIP message that came over ``flow``."""

    message: Request | Response
    flow: Flow


class BadMessageIn(Struct, frozen=True):
    """Bytes that are no acceptable SIP message; ``error`` says why, and holds the request if it can be answered."""

    error: BadMessage
    flow: Flow


class FlowClosed(Struct, frozen=True):
    """The connection of ``flow`` is closed: its bindings lose their way to the UE (RFC 5626 5.3.1)."""

    flow: Flow
    reason: str = ""


class SendFailed(Struct, frozen=True):
    """``message`` could not be sent over ``flow`` (as in its Send command)."""

    message: Request | Response
    flow: Flow
    reason: str = ""


class CloseFlow(Struct, frozen=True):
    """Close the connection of ``flow``."""

    flow: Flow
    reason: str = ""


class Drain(Struct, frozen=True):
    """The process is to end: new calls are refused, and what is left after ``seconds`` is released on both sides.

    The shell may close the sockets when :class:`Drained` came, or when it has waited long enough.
    """

    seconds: float = 0.0


class Drained(Struct, frozen=True):
    """After a :class:`Drain`: no call is left, and no request waits for its response."""


SipEvent = Received | BadMessageIn | FlowClosed | SendFailed
Event = SipEvent | Drain | GatewayUp | GatewayDown | FromGateway | BadFromGateway | Inspect
Command = Send | CloseFlow | Drained | ToGateway | CloseGateway | Trace | Log | Inspected
