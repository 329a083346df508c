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
from imsalg.settings import Settings
from imswire.sip.flow import Flow
from imswire.sip.location import Hop, Target
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


class Resolve(Struct, frozen=True):
    """Locate ``hop`` (RFC 3263) by what ``offers`` can reach (pairs of transport and whether it is IPv6).

    Exactly one :class:`Resolved` follows, within a bounded time. ``own``: the settings name it, so that no name that
    peers made up may stand in its way.
    """

    hop: Hop
    offers: frozenset[tuple[str, bool]]
    own: bool = False


class Resolved(Struct, frozen=True):
    """What was found for ``hop``: ``targets`` hold for ``ttl`` seconds. None: ``error`` says why.

    ``unsure``: the search itself failed (no name server answered), so that nothing is known of the name.
    """

    hop: Hop
    targets: tuple[Target, ...]
    ttl: float
    error: str = ""
    unsure: bool = False


class Unreachable(Struct, frozen=True):
    """The network says (ICMP) that a request of ours with that ``branch`` did not reach the remote end of ``flow``."""

    flow: Flow
    branch: str
    method: str
    reason: str = ""


class CloseFlow(Struct, frozen=True):
    """Close the connection of ``flow``."""

    flow: Flow
    reason: str = ""


class Drain(Struct, frozen=True):
    """New calls are refused from now on, and what is left after ``seconds`` is released on both sides (None: never).

    When the process is to end, the shell may close the sockets when :class:`Drained` came, or when it has waited long
    enough.
    """

    seconds: float | None = 0.0


class Undrain(Struct, frozen=True):
    """New calls are taken again."""


class Reconfigure(Struct, frozen=True):
    """Settings that may change while the node runs did; the others are as they were."""

    settings: Settings


class Restore(Struct, frozen=True):
    """What an earlier process left: (kind, key, value) of each record, and Unix time now. The first event of all."""

    records: tuple[tuple[str, str, bytes], ...]
    wall: float


class Drained(Struct, frozen=True):
    """After a :class:`Drain`: no call is left, and nothing waits for a response, of SIP or of a media gateway."""


SipEvent = Received | BadMessageIn | FlowClosed | SendFailed | Resolved | Unreachable
Event = (
    SipEvent
    | Drain
    | Undrain
    | Reconfigure
    | Restore
    | GatewayUp
    | GatewayDown
    | FromGateway
    | BadFromGateway
    | Inspect
)
Command = Send | Resolve | CloseFlow | Drained | ToGateway | CloseGateway | Trace | Log | Inspected
