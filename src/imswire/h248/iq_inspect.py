"""How far is TLS on a termination? What an audit of its media tells of the session, for whoever looks at a call.

The properties are read only: the IMS-AGW puts them into the LocalControl of the reply to an AuditValue that asks for
Media. Nobody is notified of them, so that a session costs nothing more for being watched.
"""

from collections.abc import Iterable

from msgspec import Struct

from imswire.h248 import packages
from imswire.h248.errors import H248Error
from imswire.h248.iq_parts import read_properties
from imswire.h248.model import ALL, Action, Audit, Command, Parameter


class TlsState(Struct, frozen=True):
    """``state`` is one of :data:`imswire.h248.packages.TLS_STATES`; ``version`` (``TLSv1.3``), ``cipher`` (the suite)
    and ``hash`` (``sha-256``, what the peer's certificate was verified with) are "" while they are not known."""

    state: str
    version: str = ""
    cipher: str = ""
    hash: str = ""


def tls_properties(state: TlsState) -> tuple[Parameter, ...]:
    """What the IMS-AGW says of a TLS leg."""
    found = (
        (packages.TLS_STATE, state.state),
        (packages.TLS_VERSION, state.version),
        (packages.TLS_SUITE, state.cipher),
        (packages.TLS_VERIFIED, state.hash),
    )
    return tuple(Parameter(name, value) for name, value in found if value)


def audit_media(contexts: Iterable[int]) -> tuple[Action, ...]:
    """What are the terminations of these contexts like? One that is gone gives error 411 and ends the transaction
    there."""
    return tuple(Action(context, (Command("AuditValue", ALL, audit=Audit(("Media",))),)) for context in contexts)


def read_tls(actions: Iterable[Action]) -> dict[int, TlsState]:
    """Context -> the state of its TLS leg, from the reply to :func:`audit_media`; contexts that say nothing of one, or
    nothing that can be understood, are left out."""
    found: dict[int, TlsState] = {}
    for action in actions:
        for command in action.commands:
            for stream in command.media.streams if command.media is not None else ():
                try:
                    values = read_properties(stream.control)
                except H248Error:
                    continue
                if (state := values.get(packages.TLS_STATE)) is not None:
                    found[action.context] = TlsState(
                        state,
                        values.get(packages.TLS_VERSION, ""),
                        values.get(packages.TLS_SUITE, ""),
                        values.get(packages.TLS_VERIFIED, ""),
                    )
    return found
