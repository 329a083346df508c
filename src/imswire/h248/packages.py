"""The Iq profile between IMS-ALG and IMS-AGW in ONE table: packages, their items, types, and how sure the names are.

The basic packages are those of RFC 3525 Annex E. The packages for TCP and TLS connection control, source filtering,
realms and inactivity are defined by ITU-T documents (H.248.89, .90, .43, .41, .40) whose text is not public; their item
names here are marked unverified and are used through the constants below only, so that correcting one is one edit.
``docs/iq-profile.md`` shows this table and an example of every message.
"""

from typing import Final

from imswire.h248.errors import H248Error
from imswire.h248.model import Event, Parameter, Signal
from imswire.h248.package_model import Argument, Item, Kind, Package, Type

VERSION: Final = 1
"""Protocol version that the profile speaks."""
PROFILE: Final = "imsalg_iq/1"
"""Profile name and version in ServiceChange: the project's own, since the text of TS 29.334 is not public."""

REALM: Final = "ipdc/realm"
TCP_MODE: Final = "tcpbcc/mode"
IGNORE_SYN: Final = "tcpbcc/isyn"
LATCH: Final = "tcpbcc/latch"
RECONNECT: Final = "tcpbcc/newc"
TCP_CHANGE: Final = "tcpbcc/BNCChange"
TLS_START: Final = "tlsbsc/EstBNC"
TLS_ROLE: Final = "tlsbsc/role"
TLS_CHANGE: Final = "tlsbsc/BNCChange"
TLS_STATE: Final = "tlsbsc/state"
TLS_VERSION: Final = "tlsbsc/ver"
TLS_SUITE: Final = "tlsbsc/suite"
TLS_VERIFIED: Final = "tlsbsc/fph"
SOURCE_ADDRESS_FILTER: Final = "gm/saf"
SOURCE_ADDRESS_MASK: Final = "gm/sam"
SOURCE_PORT_FILTER: Final = "gm/spf"
SOURCE_PORT_RANGE: Final = "gm/sprr"
INACTIVITY: Final = "adid/ipstop"
INACTIVITY_TIME: Final = "dt"
CHANGE_TYPE: Final = "Type"
CHANGE_TEXT: Final = "Cause"
CHANGE_EXPECTED: Final = "FpExp"
CHANGE_SEEN: Final = "FpSeen"
FAILED: Final = "Fail"
RELEASED: Final = "Rel"
MISMATCH: Final = "FpMismatch"
OCTETS_SENT: Final = "nt/os"
OCTETS_RECEIVED: Final = "nt/or"
DURATION: Final = "nt/dur"

TCP_MODES: Final = ("proxy", "relay", "merge")
TLS_ROLES: Final = ("client", "server")
TLS_STATES: Final = ("waiting", "handshake", "unverified", "verified", "failed")


_UNREAD: Final = "its text is not public, so identifiers are from memory or chosen here"

PACKAGES: Final[tuple[Package, ...]] = (
    Package("g", 1, "Generic", "RFC 3525 E.1", ()),
    Package(
        "root",
        1,
        "Base root",
        "RFC 3525 E.2",
        (
            Item(Kind.PROPERTY, "maxNumberOfContexts", Type.DOUBLE, meaning="contexts the AGW worker can hold"),
            Item(Kind.PROPERTY, "maxTerminationsPerContext", Type.INTEGER, meaning="terminations one context can hold"),
            Item(Kind.PROPERTY, "normalMGExecutionTime", Type.INTEGER, meaning="milliseconds until the AGW replies"),
            Item(Kind.PROPERTY, "normalMGCExecutionTime", Type.INTEGER, meaning="milliseconds until the ALG replies"),
            Item(Kind.PROPERTY, "MGProvisionalResponseTimerValue", Type.INTEGER, meaning="milliseconds until Pending"),
            Item(Kind.PROPERTY, "MGCProvisionalResponseTimerValue", Type.INTEGER, meaning="milliseconds until Pending"),
        ),
    ),
    Package(
        "nt",
        1,
        "Network",
        "RFC 3525 E.11",
        (
            Item(Kind.PROPERTY, "jit", Type.INTEGER, meaning="jitter buffer in milliseconds; not used for TCP"),
            Item(
                Kind.EVENT,
                "netfail",
                arguments=(Argument("cs", Type.STRING),),
                meaning="failure of the network; cs says why",
            ),
            Item(Kind.EVENT, "qualert", arguments=(Argument("th", Type.INTEGER),), meaning="not used for TCP"),
            Item(Kind.STATISTIC, "dur", Type.DOUBLE, meaning="milliseconds in the context"),
            Item(Kind.STATISTIC, "os", Type.DOUBLE, meaning="octets sent to the remote end of this termination"),
            Item(Kind.STATISTIC, "or", Type.DOUBLE, meaning="octets received from the remote end of this termination"),
        ),
    ),
    Package(
        "ipdc",
        1,
        "IP realm connection",
        f"H.248.41; {_UNREAD}",
        (
            Item(
                Kind.PROPERTY,
                "realm",
                Type.STRING,
                meaning="IP realm (a realm of the AGW settings) of the termination",
                verified=False,
            ),
        ),
        verified=False,
    ),
    Package(
        "tcpbcc",
        1,
        "TCP basic connection control",
        f"H.248.89 7; {_UNREAD}",
        (
            Item(
                Kind.PROPERTY,
                "mode",
                Type.ENUMERATION,
                values=TCP_MODES,
                meaning="how TCP is joined: TS 23.334 5.16; stage 3 may code it by a=setup alone",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "isyn",
                Type.BOOLEAN,
                meaning="ignore incoming SYNs until a remote address is configured (TR 29.828 5.2.1.2.2 step 11)",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "latch",
                Type.BOOLEAN,
                meaning="the remote address is learned from the first incoming connection, for peers behind NAT",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "newc",
                Type.BOOLEAN,
                meaning="on, in a Modify: end the connections of the context and begin anew on the same local ports",
                verified=False,
            ),
            Item(
                Kind.EVENT,
                "BNCChange",
                arguments=(
                    Argument("Type", Type.ENUMERATION, (FAILED, RELEASED)),
                    Argument("Cause", Type.STRING),
                ),
                meaning="TCP connection could not be established (Fail) or was closed by the remote end (Rel)",
                verified=False,
            ),
        ),
        verified=False,
    ),
    Package(
        "tlsbsc",
        1,
        "TLS basic session control",
        f"H.248.90 8; {_UNREAD}",
        (
            Item(
                Kind.PROPERTY,
                "role",
                Type.ENUMERATION,
                values=TLS_ROLES,
                meaning="TLS role of the AGW whoever connects (RFC 8856 8); without it the side that dials is client",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "state",
                Type.ENUMERATION,
                values=TLS_STATES,
                meaning="read only: how far the TLS session is; nothing passes before it is verified",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "ver",
                Type.STRING,
                meaning="read only: version of the TLS session",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "suite",
                Type.STRING,
                meaning="read only: cipher suite of the TLS session",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "fph",
                Type.STRING,
                meaning="read only: hash of the fingerprint that the peer's certificate was verified with",
                verified=False,
            ),
            Item(
                Kind.SIGNAL,
                "EstBNC",
                meaning="establish the TLS session as TLS client, as soon as the TCP connection is up",
                verified=False,
            ),
            Item(
                Kind.EVENT,
                "BNCChange",
                arguments=(
                    Argument("Type", Type.ENUMERATION, (FAILED, MISMATCH)),
                    Argument("Cause", Type.STRING),
                    Argument("FpExp", Type.STRING),
                    Argument("FpSeen", Type.STRING),
                ),
                meaning="TLS session could not be established (Fail) or the certificate is not the announced one",
                verified=False,
            ),
        ),
        verified=False,
    ),
    Package(
        "gm",
        1,
        "Gate management (source filtering)",
        f"H.248.43; {_UNREAD}",
        (
            Item(
                Kind.PROPERTY,
                "saf",
                Type.BOOLEAN,
                meaning="accept from the configured remote address only",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "sam",
                Type.STRING,
                meaning="with saf: accept from this network (address/prefix length) instead",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "sprr",
                Type.STRING,
                meaning="with spf: accept from these ports (first-last) instead",
                verified=False,
            ),
            Item(
                Kind.PROPERTY,
                "spf",
                Type.BOOLEAN,
                meaning="accept from the configured remote port only",
                verified=False,
            ),
        ),
        verified=False,
    ),
    Package(
        "adid",
        1,
        "Application data inactivity detection",
        f"H.248.40; {_UNREAD}",
        (
            Item(
                Kind.EVENT,
                "ipstop",
                arguments=(Argument("dt", Type.INTEGER), Argument("Cause", Type.STRING)),
                meaning="no media for dt seconds",
                verified=False,
            ),
        ),
        verified=False,
    ),
)

PACKAGE_IDS: Final = tuple(f"{package.id}-{package.version}" for package in PACKAGES)
"""Content of a Packages descriptor."""

_BY_ID: Final = {package.id: package for package in PACKAGES}
_ITEMS: Final = {
    (item.kind, f"{package.id}/{item.name}".lower()): item for package in PACKAGES for item in package.items
}
_CANONICAL: Final = {
    name.lower(): name for name in (f"{package.id}/{item.name}" for package in PACKAGES for item in package.items)
}
_NO_SUCH: Final = {Kind.PROPERTY: 450, Kind.EVENT: 451, Kind.SIGNAL: 452, Kind.STATISTIC: 453}

STRINGS: Final[frozenset[str]] = frozenset(
    [f"{package.id}/{item.name}".lower() for package in PACKAGES for item in package.items if item.type is Type.STRING]
    + [
        f"{package.id}/{item.name}/{argument.name}".lower()
        for package in PACKAGES
        for item in package.items
        for argument in item.arguments
        if argument.type is Type.STRING
    ]
)
"""Lower-case names (``pkg/item`` or ``pkg/item/parameter``) whose values are strings and therefore always quoted."""


def canonical(name: str) -> str:
    """A name as the table and the constants spell it; names are case insensitive on the wire (RFC 3525 B.2)."""
    return _CANONICAL.get(name.lower(), name)


def find(kind: Kind, name: str) -> Item:
    """The item ``pkg/item`` of the profile; raises :class:`H248Error` 440 (package) or 450 to 453 (item)."""
    item = _ITEMS.get((kind, name.lower()))
    if item is not None:
        return item
    package = name.partition("/")[0]
    if package.lower() not in _BY_ID:
        raise H248Error(440, f"package {package} is not in the profile")
    raise H248Error(_NO_SUCH[kind], f"{name} is no {kind.value} of the profile")


def _check(name: str, type_: Type, values: tuple[str, ...], parameter: Parameter) -> None:
    value = parameter.value
    if not isinstance(value, str) or parameter.relation != "=":
        raise H248Error(449, f"{name} takes one value")
    match type_:
        case Type.BOOLEAN:
            good = value.lower() in ("on", "off")
        case Type.INTEGER:
            good = value.isascii() and value.isdigit() and len(value) <= 10
        case Type.DOUBLE:
            good = value.isascii() and value.isdigit() and len(value) <= 20
        case Type.ENUMERATION:
            good = value.lower() in (legal.lower() for legal in values)
        case _:
            good = True
    if not good:
        raise H248Error(449, f"{name} cannot be {value[:40]}")


def check_property(parameter: Parameter) -> Item:
    """Check one property against the profile; raises :class:`H248Error` 440, 450 or 449."""
    item = find(Kind.PROPERTY, parameter.name)
    _check(parameter.name, item.type, item.values, parameter)
    return item


def check_event(event: Event | Signal, kind: Kind = Kind.EVENT) -> Item:
    """Check an event (or, by ``kind``, a signal) and its parameters; raises 440, 446, 449, 451 or 452."""
    item = find(kind, event.name)
    for parameter in event.parameters:
        for argument in item.arguments:
            if argument.name.lower() == parameter.name.lower():
                _check(f"{event.name}/{argument.name}", argument.type, argument.values, parameter)
                break
        else:
            raise H248Error(446, f"{event.name} has no parameter {parameter.name}")
    return item
