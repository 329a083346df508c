"""Events and commands of the AGW engine beyond the executor's (:mod:`agw.core.orders`): control link, traces, logs."""

from collections.abc import Mapping

from msgspec import Struct

from agw.core.identities import Known
from agw.core.orders import Order, Report
from imswire.h248.model import Message

# --- events ---------------------------------------------------------------------------------------------------------


class Start(Struct, frozen=True):
    """Begin: dial the controller."""


class ControlUp(Struct, frozen=True):
    """A link to the controller exists; ``reliable`` False over UDP."""

    peer: str
    reliable: bool = True


class ControlDown(Struct, frozen=True):
    """The link is gone, or could not be made."""

    reason: str


class FromController(Struct, frozen=True):
    """One parsed H.248 message."""

    message: Message


class BadFromController(Struct, frozen=True):
    """A message that did not parse: what is wrong, and the answer to send (None where none may be sent)."""

    text: str
    answer: Message | None


class Drain(Struct, frozen=True):
    """Leave service: let sessions end, then announce the end to the controller and exit. A second one ends them now."""


class Rest(Struct, frozen=True):
    """Take nothing new and say so to the controller, but stay: what runs goes on until it ends by itself."""


class Resume(Struct, frozen=True):
    """Take new sessions again after :class:`Rest`."""


class Identities(Struct, frozen=True):
    """New terminations announce these certificates: ``default`` in every realm that ``realms`` does not name."""

    default: Known
    realms: Mapping[str, Known] = {}


class LogKeys(Struct, frozen=True):
    """Append the secrets of TLS sessions that begin in a context from now on to a file."""

    context: int
    file: str


Event = (
    Report
    | Start
    | ControlUp
    | ControlDown
    | FromController
    | BadFromController
    | Drain
    | Rest
    | Resume
    | Identities
    | LogKeys
)


# --- commands -------------------------------------------------------------------------------------------------------


class SendH248(Struct, frozen=True):
    """Send one message to the controller."""

    message: Message


class ConnectControl(Struct, frozen=True):
    """Make a link to the controller; answered by :class:`ControlUp` or :class:`ControlDown`."""


class DisconnectControl(Struct, frozen=True):
    """Close the link; answered by :class:`ControlDown`."""

    reason: str


class Registered(Struct, frozen=True):
    """The controller has accepted this gateway (``up`` True), or no longer serves it."""

    up: bool


class Exit(Struct, frozen=True):
    """Everything is released and announced: the worker may end."""


class Trace(Struct, frozen=True):
    """A trace line; docs/tracing.md lists the kinds and their fields."""

    kind: str
    fields: dict[str, object]


class Log(Struct, frozen=True):
    """A log line; ``level`` is debug, info, warning or error."""

    level: str
    event: str
    fields: dict[str, object]


Command = Order | SendH248 | ConnectControl | DisconnectControl | Registered | Exit | Trace | Log
