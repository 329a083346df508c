"""Requests that arrive: checked, and given to the stage that they are for (RFC 3261 16.3 to 16.6)."""

from imsalg.core.context import Context
from imsalg.core.dialog_requests import DialogRequests, known_call
from imsalg.core.initial_requests import InitialRequests
from imsalg.core.offers import OFFERING
from imsalg.core.request_checks import check_uri, forwardable
from imsalg.core.routing import unwrap_strict
from imsalg.core.sdp_body import readable
from imsalg.core.sip_call import ACCESS, Answer, tag_of
from imsalg.core.tokens import TOKEN_LEAST
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.transaction import ServerKey

NOT_ALLOWED_OUT_OF_DIALOG = frozenset({"BYE", "PRACK", "UPDATE", "INFO"})
CAPABILITIES = (
    (
        "Allow",
        "ACK, BYE, CANCEL, INFO, INVITE, MESSAGE, NOTIFY, OPTIONS, PRACK, PUBLISH, REFER, REGISTER, SUBSCRIBE, UPDATE",
    ),
    ("Accept", "application/sdp"),
    ("Supported", "path, outbound"),
)
"""What an OPTIONS to this node is told (RFC 3261 11.2)."""


def _may_hold_token(uri: str) -> bool:
    """False for a user part that is too short for a token of this node, as users' names and numbers are."""
    return uri.rfind("@") >= len("sip:") + TOKEN_LEAST


class Requests:
    """Everything but REGISTER, CANCEL and ACK."""

    def __init__(self, ctx: Context, inside: DialogRequests, initial: InitialRequests) -> None:
        self._ctx = ctx
        self._inside = inside
        self._initial = initial

    def arrived(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """Route one request; raises :class:`Answer` or ProtocolError where it is to be refused."""
        ctx = self._ctx
        side = ctx.sides[flow.realm]
        if request.method == "OPTIONS" and self._to_this_node(request):
            ctx.respond(key, request.reply(200, to_tag=ctx.ids.tag(), headers=CAPABILITIES))
            return
        if request.method in OFFERING:
            readable(request)
        outgoing = forwardable(request, side)
        in_dialog = bool(tag_of(request.headers.get("to")))
        routed = "route" in outgoing.headers
        own = ctx.network.own(outgoing.uri) if (in_dialog or routed) and _may_hold_token(outgoing.uri) else None
        if own is not None and self._made_here(own.user):  # 16.4: a strict router put our Route into the Request-URI
            unwrap_strict(outgoing)
            check_uri(outgoing.uri)
            user: str | None = own.user
        elif in_dialog and (call := known_call(ctx, outgoing.headers, side)) is not None:
            self._inside.in_call(call, key, request, outgoing, flow, side, paired=True)
            return
        else:
            user = ctx.network.pop_own(outgoing.headers) if routed else None
        if in_dialog:
            self._inside.arrived(key, request, outgoing, flow, side, user)
        elif request.method in NOT_ALLOWED_OUT_OF_DIALOG:
            raise Answer(481)
        elif side is ACCESS:
            self._initial.from_ue(key, request, outgoing, flow, routed=routed)
        else:
            self._initial.to_ue(key, request, outgoing, flow, user)

    def _made_here(self, user: str) -> bool:
        """True for a token of this node; a user of that host may have a name that begins like one."""
        try:
            self._ctx.mint.open(user)
        except ProtocolError:
            return False
        return True

    def _to_this_node(self, request: Request) -> bool:
        """An OPTIONS for this node itself (RFC 3261 11), or one that ends here for want of hops (16.3)."""
        if request.max_forwards == 0:
            return True
        own = self._ctx.network.own(request.uri)
        if own is None or own.user:
            return False
        routes = request.headers.values("route")
        return all((found := self._ctx.network.own_route(value)) is not None and not found.user for value in routes)
