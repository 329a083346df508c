"""More than two terminations in a context: one for each dialog in which an offer was answered (RFC 3261 13.2.2.4).

All dialogs of a forked offer were given the same port. So each further termination has to name the local address and
port of one that is there, is added inactive, and has a remote address by which its connections are told apart. When
the controller turns one of them to SendReceive and subtracts the others, it takes their place.
"""

from agw.core.model import Context, Leg
from agw.core.plan import same_address
from imswire.h248.errors import H248Error
from imswire.h248.iq import StreamRequest

TERMINATIONS = 17
"""Terminations of one context at most: the one side, and 16 answers at the other."""


def sibling(context: Context, request: StreamRequest) -> Leg | None:
    """The termination whose port a new one shares; None for the first two of a context.

    Raises :class:`H248Error` 434 for one that is neither.
    """
    if len(context.legs) < 2:
        return None
    if len(context.legs) >= TERMINATIONS:
        raise H248Error(434, str(TERMINATIONS))
    if request.mode == "Inactive" and request.remote is not None and not request.tls and request.local_address:
        wanted = request.realm, same_address(request.local_address), request.local_port
        for leg in context.legs:
            place = leg.place
            if not leg.releasing and wanted == (place.realm, same_address(place.advertised), place.port):
                return leg
    raise H248Error(434, "2, but for inactive ones that share the port of another and have a remote address")
