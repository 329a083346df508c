"""The commands that keep an association: ServiceChange, and the audits that look for life and for leftovers."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from imswire.h248 import packages
from imswire.h248.errors import H248Error
from imswire.h248.model import (
    ALL,
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    ROOT,
    Action,
    Audit,
    Command,
    ServiceChange,
)

REASONS: Final[dict[int, str]] = {
    900: "Service Restored",
    901: "Cold Boot",
    902: "Warm Boot",
    903: "MGC Directed Change",
    904: "Termination Malfunctioning",
    905: "Termination Taken Out Of Service",
    906: "Loss Of Lower Layer Connectivity",
    907: "Transmission Failure",
    908: "MG Impending Failure",
    909: "MGC Impending Failure",
    915: "State Loss",
    918: "Cancel Graceful",
}
"""ServiceChange reasons (RFC 3525 7.2.8, H.248.8)."""


class ServiceChangeRequest(Struct, frozen=True):
    """A ServiceChange on ROOT. ``method``: Restart, Graceful, Forced, Disconnected, Failover or Handoff; ``reason`` one
    of :data:`REASONS` (or any number of a peer); ``delay`` seconds; ``version`` and ``profile`` what the MG speaks."""

    method: str
    reason: int
    delay: int | None = None
    version: int | None = None
    profile: str | None = None
    termination: str = ROOT


def to_service_change(request: ServiceChangeRequest) -> Action:
    """The action, in the null context, of a ServiceChange."""
    text = f"{request.reason} {REASONS.get(request.reason, '')}".rstrip()
    change = ServiceChange(request.method, text, delay=request.delay, version=request.version, profile=request.profile)
    return Action(NULL_CONTEXT, (Command("ServiceChange", request.termination, service_change=change),))


def registration(reason: int = 901, method: str = "Restart") -> Action:
    """The ServiceChange with which an AGW announces itself: Restart 901 after a start, or Disconnected 900."""
    return to_service_change(ServiceChangeRequest(method, reason, None, packages.VERSION, packages.PROFILE))


def read_service_change(command: Command) -> ServiceChangeRequest:
    """Read a ServiceChange; raises :class:`H248Error` 442 where method or reason is missing, 449 for a bad reason."""
    change = command.service_change
    if change is None or change.method is None or change.reason is None:
        raise H248Error(442, "ServiceChange needs a method and a reason")
    number = change.reason.partition(" ")[0]
    if not (number.isascii() and number.isdigit() and len(number) <= 4):
        raise H248Error(449, f"reason cannot be {change.reason[:40]}")
    return ServiceChangeRequest(
        change.method, int(number), change.delay, change.version, change.profile, command.termination
    )


def service_change_reply(request: ServiceChangeRequest, *, first: bool = True) -> Action:
    """The reply that accepts a ServiceChange; the version is given in the ``first`` one of an association."""
    change = ServiceChange(version=packages.VERSION, profile=request.profile) if first else None
    return Action(NULL_CONTEXT, (Command("ServiceChange", request.termination, service_change=change),))


def audit_alive() -> Action:
    """An audit of ROOT that asks for nothing: any reply shows that the peer lives."""
    return Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit()),))


def audit_all() -> Action:
    """An audit of every termination of every context, for finding contexts that nobody claims."""
    return Action(ALL_CONTEXTS, (Command("AuditValue", ALL, audit=Audit()),))


def audit_contexts() -> Action:
    """An audit that asks for the list of all contexts (RFC 3525 7.2.5: context ALL, termination Root).

    The reply takes some 16 octets for each context, so that one message of 64 kB names about 4,000.
    """
    return Action(ALL_CONTEXTS, (Command("AuditValue", ROOT, audit=Audit()),))


def audit_contexts_reply(contexts: Iterable[int]) -> tuple[Action, ...]:
    """The reply to :func:`audit_contexts`: one action for each context, or one for ALL when there is none."""
    found = Command("AuditValue", ROOT)
    return tuple(Action(context, (found,)) for context in contexts) or (Action(ALL_CONTEXTS, (found,)),)


def read_contexts_reply(actions: Iterable[Action]) -> set[int]:
    """The contexts that a reply to :func:`audit_contexts` or :func:`audit_all` names; 411 and 431 name none.

    Raises :class:`H248Error` for any other error: what there is then is not known.
    """
    found = set()
    for action in actions:
        for error in (action.error, *(command.error for command in action.commands)):
            if error is not None and error.code not in (411, 431):
                raise H248Error(error.code, error.text)
        if 0 < action.context < CHOOSE_CONTEXT and any(command.error is None for command in action.commands):
            found.add(action.context)
    return found


def audit_these(contexts: Iterable[int]) -> tuple[Action, ...]:
    """Is there still something in each of these contexts? One short reply for each; one that is gone gives error 411
    and ends the transaction there (RFC 3525 8.2.2), so the rest are to be asked again."""
    return tuple(Action(context, (Command("AuditValue", ALL, audit=Audit(), wildcard=True),)) for context in contexts)


def audit_named(names: str) -> Action:
    """An audit of the terminations that a name or wildcard (``ip/core/1*``) means, whatever their context: error 431 or
    430 where there is none, 533 where they are too many for one message."""
    return Action(ALL_CONTEXTS, (Command("AuditValue", names, audit=Audit()),))


def termination_name(realm: str, number: int | str) -> str:
    """The name of a termination, ``ip/<realm>/<number>``; with ``*`` for a number those of a realm."""
    return f"ip/{realm}/{number}"


def audit_packages() -> Action:
    """An audit of the packages that a gateway supports."""
    return Action(NULL_CONTEXT, (Command("AuditValue", ROOT, audit=Audit(("Packages",))),))


def audit_reply(contexts: Iterable[tuple[int, Iterable[str]]]) -> tuple[Action, ...]:
    """The reply to :func:`audit_all`: contexts with their terminations; with none at all, error 431 in one action."""
    actions = tuple(
        Action(context, tuple(Command("AuditValue", termination) for termination in terminations))
        for context, terminations in contexts
    )
    return actions or (Action(ALL_CONTEXTS, (), error=H248Error(431).descriptor()),)


def read_audit_reply(actions: Iterable[Action]) -> dict[int, tuple[str, ...]]:
    """Context to terminations. Error 411 or 431 (nothing matched) gives nothing; another error is raised."""
    found: dict[int, tuple[str, ...]] = {}
    for action in actions:
        errors = [action.error, *(command.error for command in action.commands)]
        for error in errors:
            if error is not None and error.code not in (411, 430, 431):
                raise H248Error(error.code, error.text)
        named = [c.termination for c in action.commands if c.error is None and c.terminations is None]
        named += [t for c in action.commands for t in c.terminations or ()]
        if named:
            found[action.context] = found.get(action.context, ()) + tuple(named)
    return found


def subtract_context(context: int) -> Action:
    """Everything of one context (or, for ``ALL_CONTEXTS``, of all) is subtracted; one wildcarded reply."""
    return Action(context, (Command("Subtract", ALL, audit=Audit(), wildcard=True),))
