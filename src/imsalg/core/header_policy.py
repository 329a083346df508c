"""Which header fields cross the trust boundary between UE and core: ONE table, a column per kind of message.

TS 24.229 4.4 draws the trust domain's border between the P-CSCF and the UE. What a UE may not assert is removed on its
way in; what is the operators' own business is removed on its way out. ``trusted`` in a realm's settings moves the
border: a trusted access realm (an operator's own exchange) may assert, an untrusted core realm gets and gives less.
Header fields that are not in the table pass unchanged, unknown ones included (RFC 3261 16.6 step 8). The table is
rendered into docs/signalling.md; a test keeps the two equal.

``Route``, ``Record-Route``, ``Path``, ``Via`` and ``Max-Forwards`` are handled by the procedures that own them, not
here. What this node itself asserts (P-Asserted-Identity, P-Charging-Vector and so on) is put in by
:mod:`imsalg.core.asserting` after the table has been applied.
"""

from collections.abc import Callable
from enum import IntEnum, StrEnum

from imswire.base import ProtocolError
from imswire.sip.headers import Headers, canonical
from imswire.sip.message import Request, Response


class Rule(StrEnum):
    """What happens to a header field in one column; the values are the words of the documentation."""

    PASS = "passed"
    REMOVE = "removed"
    ASSERTED = "passed if its sender is trusted"
    PRIVATE = "passed if its sender is trusted, and its receiver is or `Privacy: id` is absent"
    HISTORY = "passed if its sender is trusted, and its receiver is or neither `Privacy: id` nor `history` is there"
    INSIDE = "passed if its receiver is trusted"
    ACCESS = "passed if its receiver is trusted, without what claims to be `network-provided`"
    SUPPORTED = "passed if its sender is trusted, else `supported` alone"
    ORDINARY = "passed, without `psap-callback` if its sender is not trusted"


P, R, A, V = Rule.PASS, Rule.REMOVE, Rule.ASSERTED, Rule.PRIVATE
H, D, N, S = Rule.HISTORY, Rule.INSIDE, Rule.ACCESS, Rule.SUPPORTED
O = Rule.ORDINARY  # noqa: E741


class Direction(IntEnum):
    """The columns of :data:`TABLE`."""

    REQUEST_FROM_UE = 0
    REGISTER_FROM_UE = 1
    RESPONSE_FROM_UE = 2
    REQUEST_TO_UE = 3
    RESPONSE_TO_UE = 4
    REGISTERED_TO_UE = 5


COLUMN_TITLES = (
    "request from UE",
    "REGISTER",
    "response from UE",
    "request to UE",
    "response to UE",
    "response to REGISTER",
)
FROM_UE = frozenset({Direction.REQUEST_FROM_UE, Direction.REGISTER_FROM_UE, Direction.RESPONSE_FROM_UE})


class Trust(IntEnum):
    """Which sides of a passage belong to the trust domain (RFC 3324)."""

    NEITHER = 0
    CORE = 1
    UE = 2
    BOTH = 3


# name: one rule per Direction
TABLE: dict[str, tuple[Rule, Rule, Rule, Rule, Rule, Rule]] = {
    # RFC 3325 5 and 6: asserted only inside the trust domain.
    "P-Asserted-Identity": (V, R, V, V, V, R),
    "P-Preferred-Identity": (R, R, R, R, R, R),
    # RFC 7315; TS 24.229 4.4: made and used by the operators' nodes.
    "P-Charging-Vector": (R, R, R, R, R, R),
    "P-Charging-Function-Addresses": (R, R, R, R, R, R),
    "P-Access-Network-Info": (N, N, N, D, D, D),
    "P-Visited-Network-ID": (R, R, R, R, R, R),
    "P-Associated-URI": (R, R, R, R, R, P),
    "P-Called-Party-ID": (R, R, R, P, R, R),
    "P-User-Database": (R, R, R, R, R, R),
    "P-Profile-Key": (R, R, R, R, R, R),
    "P-Served-User": (R, R, R, R, R, R),
    "P-Private-Network-Indication": (A, R, A, D, D, R),
    "P-Asserted-Service": (A, R, A, D, D, R),
    # RFC 5009: that a UE understands the header field harms nobody; what it authorizes counts from trusted ends alone.
    "P-Early-Media": (S, R, A, A, A, R),
    "P-Refused-URI-List": (R, R, R, P, P, R),
    "History-Info": (H, R, H, H, H, R),
    "Resource-Priority": (A, R, A, D, D, R),
    # RFC 7090 5: that a call comes from an emergency centre is the network's word.
    "Priority": (O, P, P, O, P, P),
    "Feature-Caps": (R, R, R, P, P, P),
    "Reason": (P, R, R, P, R, R),
    "Restoration-Info": (R, R, R, R, R, R),
    "Relayed-Charge": (R, R, R, R, R, R),
    "Service-Interact-Info": (R, R, R, R, R, R),
    "Cellular-Network-Info": (R, R, R, R, R, R),
    "Response-Source": (R, R, R, R, R, R),
    "Attestation-Info": (R, R, R, R, R, R),
    "Origination-Id": (R, R, R, R, R, R),
    "Additional-Identity": (R, R, R, P, P, R),
    # RFC 3608: told to the UE when it registers, meaningless elsewhere.
    "Service-Route": (R, R, R, R, R, P),
    # RFC 3329 2.6: between the UE and its first hop alone.
    "Security-Client": (R, R, R, R, R, R),
    "Security-Verify": (R, R, R, R, R, R),
    "Security-Server": (R, R, R, R, R, R),
}


def _settled(rule: Rule, direction: Direction, trust: Trust) -> Rule:
    """The rule with trust resolved: one of PASS, REMOVE, PRIVATE, HISTORY, ACCESS, SUPPORTED, ORDINARY."""
    from_ue = direction in FROM_UE
    ue, core = bool(trust & Trust.UE), bool(trust & Trust.CORE)
    sender, receiver = (ue, core) if from_ue else (core, ue)
    match rule:
        case Rule.ASSERTED:
            return P if sender else R
        case Rule.INSIDE:
            return P if receiver else R
        case Rule.PRIVATE | Rule.HISTORY:
            if not sender:
                return R
            return P if receiver else rule
        case Rule.ACCESS:
            if not receiver:
                return R
            return P if sender else rule
        case Rule.SUPPORTED | Rule.ORDINARY:
            return P if sender else rule
    return rule


_COLUMNS: tuple[tuple[dict[str, Rule], ...], ...] = tuple(
    tuple(
        {
            canonical(name): settled
            for name, rules in TABLE.items()
            if (settled := _settled(rules[direction], direction, trust)) is not P
        }
        for direction in Direction
    )
    for trust in Trust
)
_SPOKEN_OF = {trust: {direction: frozenset(_COLUMNS[trust][direction]) for direction in Direction} for trust in Trust}
"""The header fields to look for: most messages have none of them. A member is a cheaper key than an index."""


def apply(direction: Direction, message: Request | Response, trust: Trust = Trust.CORE) -> None:
    """Remove from ``message``, in place, what may not go in that direction."""
    headers = message.headers
    if not headers.has_any(_SPOKEN_OF[trust][direction]):
        return
    column = _COLUMNS[trust][direction]
    for name in column.keys() & headers.keys:
        settled = column[name]
        if settled is R:
            headers.remove(name)
        else:
            _judge(headers, name, settled)


def _judge(headers: Headers, name: str, settled: Rule) -> None:
    """Remove of a header field what its value or the sender's wish for privacy forbids."""
    match settled:
        case Rule.PRIVATE:
            if wants_privacy(headers, "id"):
                headers.remove(name)
        case Rule.HISTORY:
            if wants_privacy(headers, "id") or wants_privacy(headers, "history"):
                headers.remove(name)
        case Rule.ACCESS:
            if not all(_of_the_ue(line) for line in headers.get_all(name)):
                _keep(headers, name, _of_the_ue)
        case Rule.SUPPORTED:
            _keep(headers, name, _is_supported)
        case Rule.ORDINARY:
            _keep(headers, name, _is_ordinary)
        case _:
            headers.remove(name)


def _of_the_ue(value: str) -> bool:
    return "network-provided" not in value.lower()


def _is_supported(value: str) -> bool:
    return value.strip().lower() == "supported"


def _is_ordinary(value: str) -> bool:
    return "psap-callback" not in value.lower()


def _keep(headers: Headers, name: str, wanted: Callable[[str], bool]) -> None:
    """Leave those values that are wanted; a header field that cannot be read goes."""
    try:
        values = headers.values(name)
    except ProtocolError:
        values = []
    kept = [value for value in values if wanted(value)]
    if not kept:
        headers.remove(name)
    elif len(kept) < len(values):
        headers.set(name, ", ".join(kept))


def wants_privacy(headers: Headers, kind: str) -> bool:
    """True when the message asks for that kind of privacy (RFC 3323 4.2, RFC 3325 9.3)."""
    for wanted in headers.get_all("privacy"):
        if kind in {part.strip().lower() for part in wanted.replace(",", ";").split(";")}:
            return True
    return False


def rule(name: str, direction: Direction, trust: Trust = Trust.CORE) -> Rule:
    """The rule for header field ``name`` (any case, compact form too) in ``direction``."""
    return _COLUMNS[trust][direction].get(canonical(name), P)
