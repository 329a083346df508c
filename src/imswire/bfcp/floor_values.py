"""What a floor control server is made from and says: floors, users, bounds, outputs, and the life of a request as a
table (RFC 8855 4.1, 5.2.5, 11.1).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from imswire.bfcp.message import Message
from imswire.bfcp.tables import Status


class Floor(Struct, frozen=True):
    """A floor: up to ``holders`` requests hold it at a time. With a ``chair`` (a user id) a request for it is Pending
    until the chair has decided; without one it is accepted at once.
    """

    id: int
    chair: int | None = None
    holders: int = 1


class User(Struct, frozen=True):
    """A participant or chair; name and URI are told to others where they fit."""

    id: int
    name: str = ""
    uri: str = ""


@dataclass(frozen=True)
class FloorLimits:
    """Bounds of one conference: ongoing ``requests`` in all, ``per_user`` those of one user for one floor, ``floors``
    the floors of one request, ``clients`` the connections, ``listed`` the requests in one FloorStatus or UserStatus.
    """

    requests: int = 1_024
    per_user: int = 4
    floors: int = 8
    clients: int = 256
    listed: int = 128


class SendTo(Struct, frozen=True):
    """Send this message on the connection of ``client``."""

    client: Hashable
    message: Message


class CloseClient(Struct, frozen=True):
    """Close the connection of ``client`` after what was sent (6.1)."""

    client: Hashable
    reason: str


Output = SendTo | CloseClient


class Step(StrEnum):
    """What may happen to a floor request."""

    ACCEPT = "accept"  # every chair agreed: it has a place in the queue
    GRANT = "grant"  # its turn has come
    DENY = "deny"
    RELEASE = "release"  # its requester gave it up
    REVOKE = "revoke"


LIFE: dict[tuple[Status, Step], Status] = {
    (Status.PENDING, Step.ACCEPT): Status.ACCEPTED,
    (Status.PENDING, Step.DENY): Status.DENIED,
    (Status.PENDING, Step.RELEASE): Status.CANCELLED,
    (Status.ACCEPTED, Step.ACCEPT): Status.ACCEPTED,  # the chair moves it in the queue
    (Status.ACCEPTED, Step.GRANT): Status.GRANTED,
    (Status.ACCEPTED, Step.DENY): Status.DENIED,
    (Status.ACCEPTED, Step.RELEASE): Status.CANCELLED,
    (Status.GRANTED, Step.RELEASE): Status.RELEASED,
    (Status.GRANTED, Step.REVOKE): Status.REVOKED,
}
"""Every step that is possible. Denied is for requests that wait, Revoked for one that holds (11.1); Released and
Cancelled differ by whether it had been granted (13.4).
"""
