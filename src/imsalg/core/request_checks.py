"""What every request is checked for, inside dialogs and outside, and the copy of it that goes on (RFC 3261 16.3)."""

import re
from collections.abc import Sequence
from functools import lru_cache

from imsalg.core import security
from imsalg.core.context import Context
from imsalg.core.flow_dialogs import bare
from imsalg.core.header_policy import Direction
from imsalg.core.media_events import Side
from imsalg.core.sip_call import ACCESS, CORE, Answer
from imsalg.core.tokens import Kind
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.message import Request

MAX_FORWARDS = 70
MAX_CSEQ = 2**31 - 1
"""In dialogs (RFC 3261 8.1.1.5): a BYE in a UE's name has to find a number above."""
SCHEMES = frozenset({"sip", "sips", "tel", "urn", "im", "pres"})
"""Of Request-URIs that are sent on; what they stand for is the core's business (RFC 3261 16.3 step 2)."""
# No headers part: what hides there must not become part of a message (RFC 3261 19.1.5, RFC 4475 3.1.2.11).
_SIP_URI = re.compile(r"[^:]*:(?:[^@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:;[^?@]*)?", re.ASCII)
_OPTION_TAGS = frozenset(map(str.lower, (*security.OPTION_TAG_HEADERS, "Proxy-Require")))
_ONE_LESS = {str(hops): str(hops - 1) for hops in range(1, 256)}
"""What Max-Forwards becomes, for the values that go on, as they are usually written."""
OUT = {ACCESS: Direction.REQUEST_FROM_UE, CORE: Direction.REQUEST_TO_UE}


def forwardable(request: Request, side: Side) -> Request:
    """A copy of ``request`` that passed RFC 3261 16.3: hops left, no extension demanded of proxies that we lack.

    Raises :class:`Answer` 400, 416, 483 or 420, ProtocolError for unreadable values.
    """
    outgoing = request.copy()
    make_forwardable(outgoing, side)
    return outgoing


def make_forwardable(request: Request, side: Side) -> None:
    """The same in place, for a request that nobody needs as it came."""
    check_uri(request.uri)
    headers = request.headers
    headers.set("Max-Forwards", _ONE_LESS.get(headers.get("max-forwards") or "") or _hops_left(request))
    if headers.has_any(_OPTION_TAGS):
        _check_options(headers, side)


def _hops_left(request: Request) -> str:
    """Max-Forwards of what goes on, however it is written; raises Answer 483 and ProtocolError."""
    hops = request.max_forwards
    if hops == 0:
        raise Answer(483)
    return str(MAX_FORWARDS if hops is None else hops - 1)


def _check_options(headers: Headers, side: Side) -> None:
    """The security agreement of a UE ends here; what else is demanded of proxies is refused with 420."""
    if side is ACCESS:
        for name in security.OPTION_TAG_HEADERS:
            if any("sec" in line.lower() for line in headers.get_all(name)):  # both have it
                for tag in (security.SEC_AGREE, security.MEDIASEC):
                    headers.remove_value(name, tag)
    if "proxy-require" in headers:
        unknown = [tag for tag in headers.values("proxy-require") if tag.lower() != "path"]
        if unknown:
            raise Answer(420, headers=(("Unsupported", ", ".join(unknown)),))


@lru_cache(maxsize=1024)
def check_uri(uri: str) -> None:
    """Raise Answer 416 or 400 for a Request-URI that is not sent on (RFC 3261 16.3 steps 1 and 2)."""
    scheme = uri.partition(":")[0].lower()
    if scheme not in SCHEMES:
        raise Answer(416)
    if scheme in ("sip", "sips") and _SIP_URI.fullmatch(uri) is None:
        raise Answer(400, "the Request-URI cannot be read, or has a headers part")


def check_agreement(ctx: Context, request: Request, flow: Flow) -> None:
    """RFC 3329: where signalling is secured by agreement, judge what the request says of it."""
    agreement = ctx.agreements[flow.realm]
    if agreement.offers:
        agreement.request(request, flow)


def open_token(ctx: Context, user: str) -> tuple[Kind, bytes]:
    """What a token of ours says; raises Answer 403 for one that is not."""
    try:
        return ctx.mint.open(user)
    except ProtocolError as error:
        raise Answer(403, error.hint) from None


def check_route(outgoing: Request, expected: Sequence[str], of: str, *, reject: bool) -> bool:
    """Set Route to what is ``expected``, or raise Answer 400 where it names other hops. Tells whether there is one now.

    The UE's own text goes on only where it is the very same: another reader might take it for something else.
    """
    if not expected and "route" not in outgoing.headers:
        return False
    given = outgoing.headers.values("route")
    if given == list(expected):
        return True
    if reject and [bare(value) for value in given] != [bare(value) for value in expected]:
        raise Answer(400, f"Route differs from the route set of the {of}")
    outgoing.headers.remove("route")
    if expected:
        outgoing.headers.add("Route", ", ".join(expected))
    return bool(expected)


def check_sips(ctx: Context, uri: str, flow: Flow) -> None:
    """A request for a sips URI goes to a UE over TLS or not at all: 480, Warning 380 (RFC 3261 26.2.2, RFC 5630)."""
    if flow.transport != "tls" and uri[:5].lower() == "sips:":
        raise Answer(480, headers=(("Warning", f'380 {ctx.warning_host} "SIPS Not Allowed"'),))
