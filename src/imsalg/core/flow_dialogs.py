"""Dialogs that are no calls: SUBSCRIBE, REFER and their NOTIFYs (RFC 6665, RFC 3515).

Nothing is kept of them. Our Record-Route values carry the UE's flow, sealed; that of the access side also a digest of
the route set beyond us, as soon as it is known: in requests to the UE (and every NOTIFY has a Record-Route, RFC 6665
4.3), and in responses to the UE, where RFC 3261 16.7 step 8 lets a proxy rewrite its own value. So a UE cannot send to
anybody along such a dialog (TS 24.229 5.2.6.3), even after a restart of this node.
"""

from collections.abc import Sequence
from functools import lru_cache

from imsalg.core.context import Context
from imsalg.core.media_events import Side
from imsalg.core.offers import OFFERING
from imsalg.core.ownership import same_ue, sender_of
from imsalg.core.routing import Way, next_uri
from imsalg.core.sdp_body import has_hidden_sdp, sdp_of
from imsalg.core.sip_call import Answer, other
from imsalg.core.tokens import FLOW_ACCESS, FLOW_CORE, PATH, Kind, pack_flow, unpack_flow
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import split_values
from imswire.sip.message import Request, Response
from imswire.sip.uri import SipUri
from imswire.sip.values import NameAddr

_FLOW_PARTS = 7


class FlowDialogs:
    """Makes, learns and checks the tokens of such dialogs."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    # --- what a dialog begins with ---

    def tokens(self, ue_flow: Flow, side: Side, outgoing: Request) -> dict[Side, str]:
        """The tokens for the Record-Route values of a request from ``side``, which has those of others already."""
        payload = pack_flow(ue_flow)
        core = self._ctx.mint.seal(FLOW_CORE, payload)
        if side is Side.CORE:  # the UE's route set is what stands here already
            beyond = self._digest(outgoing.headers.values("record-route"), target_of(outgoing.headers.get("contact")))
            payload = payload + b"|" + beyond
        return {Side.CORE: core, Side.ACCESS: self._ctx.mint.seal(FLOW_ACCESS, payload)}

    def learned(self, token: str, response: Response) -> None:
        """A response to a UE's dialog-forming request: from now on its token holds the route set beyond us."""
        ctx, headers = self._ctx, response.headers
        lines = headers.get_all("record-route")
        if not any(token in line for line in lines):
            return
        _, payload = ctx.mint.open(token)
        core = ctx.mint.seal(FLOW_CORE, payload)
        values = [value for line in lines for value in split_values(line)]
        beyond = next((values[:index][::-1] for index, value in enumerate(values) if core in value), [])
        sealed = ctx.mint.seal(FLOW_ACCESS, payload + b"|" + self._digest(beyond, target_of(headers.get("contact"))))
        headers.remove("record-route")
        for line in lines:
            headers.add("Record-Route", line.replace(token, sealed))

    # --- inside the dialog ---

    def route(self, kind: Kind, payload: bytes, side: Side, outgoing: Request, flow: Flow) -> tuple[Way, Flow]:
        """Where an in-dialog request goes, and the UE's flow; our other Route value is taken off.

        Raises :class:`Answer` for a token of the other side, and 400 for a Route that is not the dialog's.
        """
        ctx = self._ctx
        if kind != (FLOW_ACCESS if side is Side.ACCESS else FLOW_CORE) and not (kind == PATH and side is Side.CORE):
            raise Answer(403, "this Route belongs to the other side")
        parts = payload.split(b"|")
        digest = parts.pop() if len(parts) > _FLOW_PARTS else b""
        plain = b"|".join(parts)
        ue_flow = unpack_flow(plain)
        if kind != PATH:
            self._pop_pair(outgoing, FLOW_CORE if side is Side.ACCESS else FLOW_ACCESS, plain)
        if ue_flow.realm not in ctx.cores:
            raise Answer(403, "the token's realm is not served any more")
        if side is Side.CORE:
            ue_flow = self._moved(outgoing, ue_flow)
        way: Way = ue_flow
        if side is Side.ACCESS:
            way = self._beyond(outgoing, digest, flow.realm)
        if outgoing.method == "NOTIFY":
            self._record(outgoing, ue_flow, flow, way, side)
        return way, ue_flow

    def _moved(self, request: Request, known: Flow) -> Flow:
        """Where the UE is that the dialog knows at ``known``: it may have registered over another flow since.

        Nobody is registered over the old one, and the request is for the contact and an identity of one binding alone:
        the same contact may be another UE's behind another NAT. A dialog over TLS stays there.
        """
        registrar = self._ctx.registrar
        if registrar.on_flow(known):
            return known
        binding = registrar.with_contact(request.uri)
        flow = binding.flow if binding is not None else None
        if binding is None or flow is None or flow.realm != known.realm or known.transport == "tls" != flow.transport:
            return known
        return flow if binding.identity(request.to.uri) is not None else known

    def _beyond(self, outgoing: Request, digest: bytes, realm: str) -> Way:
        """The next hop towards the core, if Route (or, without one, the Request-URI) is that of the dialog."""
        ctx = self._ctx
        core = ctx.cores[realm]
        routes = outgoing.headers.values("route")
        if digest and self._digest(routes, outgoing.uri) == digest:
            if any(value[:1] != "<" for value in routes):  # no display name of the UE's making goes on
                outgoing.headers.set("Route", ", ".join(f"<{NameAddr.parse(value).uri}>" for value in routes))
            return ctx.network.resolve(next_uri(outgoing), core)
        if routes:
            raise Answer(400, "Route differs from the route set of the dialog")
        if digest or outgoing.method != "NOTIFY":  # the token is no permit to send to whom the UE likes
            raise Answer(481, "the Request-URI is not the remote target of the dialog")
        return ctx.network.next_hop(core)

    def sent_by(self, request: Request, flow: Flow, ue_flow: Flow) -> None:
        """Raise :class:`Answer` unless a UE's request over ``flow`` is of the UE at ``ue_flow``, and may be served.

        Inside as outside a dialog: it is registered, for more than emergencies, and what began over TLS stays there
        (TS 24.229 5.2.6.3, RFC 3329 2.3.1).
        """
        ctx = self._ctx
        known = ctx.registrar.on_flow(ue_flow)
        if not same_ue(ctx.registrar, {one.aor for one in known}, ue_flow, flow):
            raise Answer(481, "this dialog is another UE's")
        if ue_flow.transport == "tls" != flow.transport:
            raise Answer(403, "this dialog runs over TLS")
        binding = next((one for one in known if not one.emergency), None) or sender_of(ctx, request, flow)
        if binding is None:
            if not ctx.settings.realm[flow.realm].allow_unregistered:
                raise Answer(403, "not registered here", once=True)
        elif binding.emergency:
            raise Answer(403, "this registration is for emergency calls alone")
        elif binding.secured:
            ctx.agreements[flow.realm].hold_to(request, flow)

    def _record(self, outgoing: Request, ue_flow: Flow, flow: Flow, way: Way, side: Side) -> None:
        tokens = self.tokens(ue_flow, side, outgoing)
        network, headers = self._ctx.network, outgoing.headers
        target = way if isinstance(way, Flow) else way.flow
        headers.prepend("Record-Route", network.face(flow).record_route(tokens[side]))
        headers.prepend("Record-Route", network.face(target).record_route(tokens[other(side)]))

    def _pop_pair(self, outgoing: Request, kind: Kind, plain: bytes) -> None:
        """Take off our value of the other side, if it is the next and of the same flow."""
        ctx = self._ctx
        top = outgoing.headers.first_value("route")
        own = ctx.network.own_route(top) if top is not None else None
        if own is None or own.user[:1] != kind:
            return
        try:
            _, payload = ctx.mint.open(own.user)
        except ProtocolError:
            return
        if b"|".join(payload.split(b"|")[:_FLOW_PARTS]) == plain:
            outgoing.headers.remove_first_value("route")

    def _digest(self, routes: Sequence[str], target: str) -> bytes:
        """A keyed digest of a route set or, when it is empty, of the host that the remote target names."""
        text = "\n".join(bare(value) for value in routes) if routes else host_of(target)
        return self._ctx.mint.digest(text)


def bare(value: str) -> str:
    """A Route value for comparison: its URI, without case; raises ProtocolError for one that cannot be read."""
    return NameAddr.parse(value).uri.lower()


@lru_cache(maxsize=512)
def target_of(contact: str | None) -> str:
    """The URI in a Contact value; the text itself where it cannot be read, "" without one."""
    if not contact:
        return ""
    try:
        return NameAddr.parse(split_values(contact)[0]).uri
    except (ProtocolError, IndexError):
        return contact


@lru_cache(maxsize=512)
def host_of(uri: str) -> str:
    """``host:port`` where a request to ``uri`` goes, for comparison; the text itself where it is no SIP URI."""
    try:
        parsed = SipUri.parse(uri)
    except ProtocolError:
        return uri.lower()
    return f"{parsed.param('maddr') or parsed.hostport}".lower()


def refuse_media(request: Request) -> None:
    """Raise Answer 481 or 403 where a request in a dialog that is no call would agree upon media.

    Only calls pass the media half; a session along a subscription would go by it (RFC 5057 4.1: what the dialog has
    no usage of gets 481).
    """
    if request.method in OFFERING:
        raise Answer(481, "this dialog is no call")
    if request.body and (sdp_of(request) is not None or has_hidden_sdp(request)):
        raise Answer(403, "media is agreed upon in calls alone")
