"""Ending calls from the middle: BYE both ways from what the messages showed, ACK and BYE for an unwanted 2xx, CANCEL.

The P-CSCF releases calls whose media failed or cannot be secured (TS 24.229 5.2.8.1). It speaks to each end in the name
of the other one: From, To, Call-ID and route set are those of the dialog, CSeq goes beyond the highest that the other
end used.
"""

from collections.abc import Sequence

from imsalg.core.context import Context
from imsalg.core.media_events import EndCall, Side
from imsalg.core.routing import Way, next_uri
from imsalg.core.sdp_body import drop_sdp
from imsalg.core.sip_call import ACCESS, ACK, CORE, ENDING, ESTABLISHED, OWN, Answer, Call, Forward, Party, other
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import Headers, split_values
from imswire.sip.message import Request, Response
from imswire.sip.values import NameAddr, quote


def reason_of(answer: Answer) -> str:
    """The Reason value (RFC 3326) that says why something is cancelled or ended."""
    text = f";text={quote(answer.warning)}" if answer.warning else ""
    return f"SIP;cause={answer.status}{text}"


class Release:
    """Builds and sends what ends calls; the call's end is told to the media half here too."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def end_call(self, command: EndCall) -> None:
        """The media half gives a call up."""
        ctx = self._ctx
        call = ctx.calls.get(command.call)
        if call is not None:
            self.give_up(call, Answer(command.status, command.text))

    def give_up(self, call: Call, answer: Answer) -> None:
        """End a call ourselves: BYE both ways, or CANCEL and a final answer while it is early."""
        ctx = self._ctx
        if call.stage is ENDING:
            return
        ctx.call, ctx.who = call, call.profile.user
        ctx.stats.released += 1
        call.outcome = "released"
        ctx.trace(
            "call", what="ended", call_id=call.call_id, call=call.key, reason=answer.warning, status=answer.status
        )
        if call.stage is ESTABLISHED:
            self.established(call, answer)
            return
        self._abort_all(call, answer)
        self.end(call)

    def end(self, call: Call) -> None:
        """The call is over, whatever ended it: nothing waits for the media half, nothing is routed any more."""
        if call.exchanges or call.has_media or self._ctx.holds:
            self.media_over(call)
        self._ctx.end_call(call)

    def media_over(self, call: Call) -> None:
        """The media half will give no verdicts any more: what waits for one is answered (RFC 3261 15.1.2)."""
        if self._ctx.holds:
            for forward in call.forwards.copy():
                if forward.hold:
                    self.abort(forward, Answer(487))
        call.exchanges.clear()
        call.confirm_due = None
        self._ctx.media_over(call)

    def _abort_all(self, call: Call, answer: Answer) -> None:
        for forward in list(call.forwards):
            if forward.hold or forward.received.method in ("INVITE", "UPDATE", "PRACK"):
                self.abort(forward, answer)

    def abort(self, forward: Forward, answer: Answer) -> None:
        """Answer a pending request ourselves; if it went on already, cancel it there and swallow what comes."""
        ctx = self._ctx
        if forward.purpose is ACK:
            self._ack_without_answer(forward)
            return
        if forward.answered or forward.server is None:
            if forward.hold:  # a later 2xx of another leg waits: its caller has had one
                self._drop_held(forward, answer)
            return
        forward.answered = forward.aborted = True
        forward.queue = ()
        ctx.answer(forward.server, forward.received, answer)
        ctx.by_server.pop(forward.server, None)
        if forward.client is None:
            ctx.drop_forward(forward)
            return
        held = self._drop_held(forward, answer)
        if forward.is_invite:
            ctx.keep_on(forward)
            if not held:
                ctx.transactions(ctx.layer.cancel(forward.client, ctx.now, (("Reason", reason_of(answer)),)))
        elif held:
            ctx.drop_forward(forward)

    def _drop_held(self, forward: Forward, answer: Answer) -> bool:
        """Forget the held response; a 2xx of an INVITE is acknowledged. True when it was final."""
        ctx = self._ctx
        ctx.holds.pop(forward.hold, None)
        forward.hold = 0
        held, forward.held_response = forward.held_response, None
        forward.queue = ()
        if held is None or held.status < 200:
            return False
        if forward.is_invite:
            self.ack_and_bye(forward, held, answer, bye=forward.initial)
        return True

    def _ack_without_answer(self, forward: Forward) -> None:
        """An ACK whose answer will not be secured goes on without it: the far side may stop repeating its 2xx."""
        ctx, call = self._ctx, forward.call
        ctx.drop_forward(forward)
        drop_sdp(forward.outgoing)
        try:
            ctx.send_ack(forward)
        except (Answer, ProtocolError):
            ctx.stats.dropped += 1
        if call is not None and (leg := call.legs.get(forward.leg)) is not None and forward.side is call.caller_side:
            leg.acked = True

    def established(self, call: Call, answer: Answer, *, but: Side | None = None) -> None:
        """BYE to both ends of an established call, or to all but side ``but``, which has had its own already."""
        ctx = self._ctx
        if call.stage is ENDING:
            return
        self._abort_all(call, answer)
        legs = call.confirmed_legs
        call.stage = ENDING
        ctx.mark(call)
        self.media_over(call)
        ctx.ending.set(call, ctx.now + ctx.t64)
        called = other(call.caller_side)
        for leg in legs:
            if called is not but:
                self._send_bye(call, called, leg.party, call.caller.address, answer)
            if call.caller_side is but:
                continue
            if leg.acked:
                self._send_bye(call, call.caller_side, call.caller, leg.party.address, answer)
            else:
                # RFC 3261 15: the called side must not send BYE before the ACK; it goes when the ACK has passed.
                call.bye_waits.append((leg, answer))

    def acked(self, call: Call) -> None:
        """An ACK went through; a BYE to the caller may have waited for it."""
        if not call.bye_waits:
            return
        due = [waiting for waiting in call.bye_waits if waiting[0].acked]
        call.bye_waits = [waiting for waiting in call.bye_waits if not waiting[0].acked]
        for leg, answer in due:
            self._send_bye(call, call.caller_side, call.caller, leg.party.address, answer)

    def ending_due(self, call: Call) -> None:
        """64*T1 have passed since the release began: an ACK that has not come will not come."""
        waiting, call.bye_waits = call.bye_waits, []
        for leg, answer in waiting:
            self._send_bye(call, call.caller_side, call.caller, leg.party.address, answer)
        self.end(call)

    def bye_sent(self, call: Call, forward: Forward) -> None:
        """A BYE of one end was sent on. When it ends the last confirmed leg, the media are over (RFC 3261 15.1)."""
        ctx = self._ctx
        leg = call.legs.pop(forward.leg, None)
        call.gone = leg or call.gone
        if call.stage is ESTABLISHED and leg is not None and not (call.legs and call.confirmed_legs):
            call.stage = ENDING
            ctx.mark(call)
            self.media_over(call)
            ctx.ending.set(call, ctx.now + 2 * ctx.t64)

    def bye_answered(self, call: Call | None) -> None:
        """A BYE, forwarded or our own, has its answer: forget the call when no other is under way."""
        if call is None or call.stage is not ENDING or call.bye_waits:
            return
        for forward in call.forwards:
            if forward.received.method == "BYE":
                return
        self.end(call)

    # --- building ---

    def ack_and_bye(self, forward: Forward, response: Response, answer: Answer, *, bye: bool = True) -> None:
        """End the dialog that an unwanted 2xx has made at the far side (RFC 3261 13.2.2.4, 15); without ``bye`` the
        2xx is acknowledged only, because its dialog is ended otherwise."""
        ctx = self._ctx
        invite = forward.outgoing
        side = other(forward.side)
        party = Party(
            response.need("to"), response.headers.get("contact") or "", response.headers.get_all("record-route")
        )
        routes: Sequence[str] = self._routes(party, forward) if forward.initial else invite.headers.get_all("route")
        number = invite.cseq.number
        try:
            target = _contact_uri(party.contact) or invite.uri
            ack = _request("ACK", target, invite.need("from"), party.address, invite.call_id, number, routes)
            way = self._flow(side, ack, forward.flow)
            ctx.send_ack(Forward(None, ack, ack, way, forward.side, purpose=ACK))
            if not bye:
                return
            number = max(number, forward.call.cseq[forward.side] if forward.call is not None else 0) + 1
            end = _request("BYE", target, invite.need("from"), party.address, invite.call_id, number, routes)
            end.headers.add("Reason", reason_of(answer))
            self._own(end, self._flow(side, end, forward.flow), forward.side, None)
        except (Answer, ProtocolError) as error:
            ctx.log("warning", "an unwanted dialog cannot be ended", call_id=invite.call_id, error=str(error))

    def _send_bye(self, call: Call, side: Side, party: Party, from_address: str, answer: Answer) -> None:
        ctx = self._ctx
        call.cseq[other(side)] += 1
        try:
            target = _contact_uri(party.contact)
            if target is None:
                raise ProtocolError("release.contact", "the dialog has no Contact")
            routes = self.dialog_routes(call, side, party)
            bye = _request("BYE", target, from_address, party.address, call.call_id, call.cseq[other(side)], routes)
            bye.headers.add("Reason", reason_of(answer))
            if side is CORE:
                ctx.asserting.request(bye, call.realms[ACCESS], vector=call.charging)
            flow = self._flow(side, bye, call.flows[side])
            self._own(bye, flow, other(side), call)
        except ProtocolError as error:
            ctx.log("warning", "a BYE cannot be made", call_id=call.call_id, error=str(error))

    def _own(self, bye: Request, way: Way, side: Side, call: Call | None) -> None:
        forward = Forward(None, bye, bye, way, side, call, purpose=OWN)
        self._ctx.register_forward(forward)
        try:
            self._ctx.send(forward)
        except Answer as answer:  # a name that leads nowhere
            self._ctx.drop_forward(forward)
            self._ctx.log("warning", "a BYE cannot be sent", call_id=bye.call_id, error=answer.warning)

    def _flow(self, side: Side, request: Request, known: Flow) -> Way:
        """A UE is reached over its flow; towards the core the route set (or Contact) says where to."""
        if side is ACCESS:
            return known
        return self._ctx.network.resolve(next_uri(request), known.realm)

    def dialog_routes(self, call: Call, side: Side, party: Party) -> tuple[str, ...]:
        """The route set from here to ``party`` on ``side``, nearest hop first (RFC 3261 12.1): made once."""
        routes = party.routes
        if routes is None:
            if side is call.caller_side:  # as it stood in the INVITE when it reached us: nearest hop first
                routes = tuple([value for line in party.record_route for value in split_values(line)])
            elif party.record_route and party.record_route[0] == call.record_routes.get(side):
                routes = ()  # nobody above our own value
            else:
                routes = _beyond(party.record_route, call.tokens[side], self._ctx)
            party.routes = routes
        return routes

    def _routes(self, party: Party, forward: Forward) -> tuple[str, ...]:
        if forward.call is None:
            return ()
        return self.dialog_routes(forward.call, other(forward.side), party)


def _beyond(lines: list[str], token: str, ctx: Context) -> tuple[str, ...]:
    """Of the Record-Route values in a response, those between us and the answerer, nearest to us first.

    They stand above our own value on that side (RFC 3261 12.1.2 reverses the list for the caller's end).
    """
    above: list[str] = []
    for line in lines:
        for value in split_values(line):
            own = ctx.network.own_route(value) if token in value else None
            if own is not None and own.user == token:
                return tuple(above[::-1])
            above.append(value)
    return ()


def _contact_uri(contact: str) -> str | None:
    values = split_values(contact)
    return NameAddr.parse(values[0]).uri if values else None


def _request(
    method: str, target: str, from_: str, to: str, call_id: str, number: int, routes: Sequence[str]
) -> Request:
    headers = Headers((("Max-Forwards", "70"), ("From", from_), ("To", to), ("Call-ID", call_id)))
    headers.add("CSeq", f"{number} {method}")
    for value in routes:
        headers.add("Route", value)
    return Request(method, target, headers)
