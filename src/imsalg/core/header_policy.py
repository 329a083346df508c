"""Which header fields cross the trust boundary towards the UE: ONE table, a column per direction.

TS 24.229 4.4 draws the trust domain's border between the P-CSCF and the UE. What a UE may not assert is removed on its
way in; what is the operators' own business is removed on its way out. Header fields that are not in the table pass
unchanged, unknown ones included (RFC 3261 16.6 step 8).

``Security-*``, ``Route``, ``Record-Route``, ``Path``, ``Via`` and ``Max-Forwards`` are handled by the procedures that
own them, not here; ``Security-*`` nevertheless appears so that none can slip through in a request other than REGISTER.
"""

from enum import IntEnum

from imswire.sip.headers import Headers, canonical
from imswire.sip.message import Request, Response


class Rule(IntEnum):
    """What happens to a header field in one direction."""

    PASS = 0
    REMOVE = 1
    PRIVATE = 2  # removed when the message asks for Privacy: id (RFC 3325 9.3), else passed


P, R, V = Rule.PASS, Rule.REMOVE, Rule.PRIVATE

# name: (request from UE, response from UE, request to UE, response to UE)
TABLE: dict[str, tuple[Rule, Rule, Rule, Rule]] = {
    # RFC 3325 5 and 6: asserted only inside the trust domain. The P-CSCF adds its own after the table has been applied.
    "p-asserted-identity": (R, R, V, V),
    "p-preferred-identity": (R, R, R, R),
    # RFC 7315; TS 24.229 4.4: made and used by the operators' nodes.
    "p-charging-vector": (R, R, R, R),
    "p-charging-function-addresses": (R, R, R, R),
    "p-access-network-info": (P, P, R, R),
    "p-visited-network-id": (R, R, R, R),
    "p-user-database": (R, R, R, R),
    "p-profile-key": (R, R, R, R),
    "p-served-user": (R, R, R, R),
    "p-private-network-indication": (R, R, R, R),
    "p-asserted-service": (R, R, R, R),
    "p-early-media": (R, R, P, P),
    "p-associated-uri": (R, R, R, P),
    "p-called-party-id": (R, R, P, R),
    "history-info": (R, R, V, V),
    "resource-priority": (R, R, R, R),
    "feature-caps": (R, R, P, P),
    "reason": (P, R, P, R),
    "restoration-info": (R, R, R, R),
    "relayed-charge": (R, R, R, R),
    "service-interact-info": (R, R, R, R),
    "cellular-network-info": (R, R, R, R),
    "response-source": (R, R, R, R),
    "attestation-info": (R, R, R, R),
    "origination-id": (R, R, R, R),
    "additional-identity": (R, R, P, P),
    "service-route": (R, R, R, P),
    # RFC 3329 2.6: between the UE and its first hop alone.
    "security-client": (R, R, R, R),
    "security-verify": (R, R, R, R),
    "security-server": (R, R, R, R),
}


class Direction(IntEnum):
    """The columns of :data:`TABLE`."""

    REQUEST_FROM_UE = 0
    RESPONSE_FROM_UE = 1
    REQUEST_TO_UE = 2
    RESPONSE_TO_UE = 3


_COLUMNS: tuple[dict[str, Rule], ...] = tuple(
    {name: rules[column] for name, rules in TABLE.items() if rules[column] is not Rule.PASS} for column in Direction
)


def apply(direction: Direction, message: Request | Response) -> None:
    """Remove from ``message``, in place, what may not go in that direction."""
    headers = message.headers
    column = _COLUMNS[direction]
    names = headers.keys
    if not column.keys().isdisjoint(names):
        private = _wants_privacy(headers)
        for name in column.keys() & names:
            if column[name] is Rule.REMOVE or private:
                headers.remove(name)


def _wants_privacy(headers: Headers) -> bool:
    wanted = headers.get("Privacy")
    return wanted is not None and "id" in {part.strip().lower() for part in wanted.replace(";", ",").split(",")}


def rule(name: str, direction: Direction) -> Rule:
    """The rule for header field ``name`` (any case, compact form too) in ``direction``."""
    return _COLUMNS[direction].get(canonical(name), Rule.PASS)
