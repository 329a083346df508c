"""What the transaction layer and the media half answer, item by item: each goes to the procedure that it is for."""

from collections.abc import Callable, Mapping
from typing import Any

from imsalg.core.context import Context
from imsalg.core.dialog_requests import DialogRequests
from imsalg.core.media_events import EndCall, Proceed, Refuse
from imsalg.core.offers import Offers
from imsalg.core.reg_event import RegEvents
from imsalg.core.registration import Registration
from imsalg.core.release import Release
from imsalg.core.requests import Requests
from imsalg.core.responses import Responses
from imsalg.core.sip_call import ACK, PROXY, Answer, Behind, Forward, Purpose
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.transaction import (
    AckArrived,
    CancelArrived,
    ClientFailed,
    ClientTimeout,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerKey,
    ServerTimeout,
    StrayResponse,
)


class Turns:
    """The procedures of the SIP half behind one door: ``by_type`` says who does what an output of a half asks for."""

    def __init__(
        self,
        ctx: Context,
        release: Release,
        offers: Offers,
        *,
        requests: Requests,
        inside: DialogRequests,
        responses: Responses,
        registration: Registration,
        reg_events: RegEvents,
    ) -> None:
        self._ctx = ctx
        self._release = release
        self._offers = offers
        self._requests = requests
        self._inside = inside
        self._responses = responses
        self._registration = registration
        self._reg_events = reg_events

        self.by_type: Mapping[type, Callable[[Any], None]] = {
            RequestArrived: self._request,
            ResponseArrived: self._response,
            AckArrived: self._ack,
            Proceed: self._verdict,
            Refuse: self._verdict,
            CancelArrived: self._cancel,
            EndCall: release.end_call,
            ClientTimeout: self._no_answer,
            ClientFailed: self._no_answer,
            ServerTimeout: self._drop,
            StrayResponse: self._drop,
            Send: self._send,
            Behind: self._waited,
        }

    def _ack(self, item: AckArrived) -> None:
        self._inside.ack(item.request, item.flow)

    def _cancel(self, item: CancelArrived) -> None:
        if item.invite_key is not None and not self._offers.behind_cancelled(item.invite_key):
            self._responses.unanswered.cancelled(item.invite_key, item.request)

    def _drop(self, _: ServerTimeout | StrayResponse) -> None:
        self._ctx.stats.dropped += 1  # RFC 6026 7.2: a stray response is not forwarded

    def _send(self, item: Send) -> None:
        self._ctx.transactions([item])

    def _request(self, item: RequestArrived) -> None:
        """A new request: it is counted, and an INVITE is told 100 at once."""
        ctx, request = self._ctx, item.request
        ctx.stats.requests += 1
        if request.method == "INVITE":
            ctx.server, ctx.request = item.key, request
            ctx.respond(item.key, request.reply(100))
        self._route(item.key, request, item.flow)

    def _waited(self, item: Behind) -> None:
        """A request that waited behind an ACK was counted, and told 100, before."""
        self._route(item.key, item.request, item.flow)

    def _route(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """Route one request."""
        ctx, method = self._ctx, request.method
        ctx.server, ctx.request = key, request
        try:
            if method == "REGISTER":
                self._registration.arrived(key, request, flow)
            elif method == "NOTIFY" and self._reg_events.owns(request, ctx.sides[flow.realm]):
                self._reg_events.notified(key, request)
            else:
                self._requests.arrived(key, request, flow)
        except Answer as answer:
            self._undo(key)
            ctx.answer(key, request, answer)
        except LimitExceeded as error:
            self._undo(key)
            ctx.answer(key, request, Answer(503, error.hint, retry_after=ctx.settings.limits.retry_after))
        except ProtocolError as error:
            self._undo(key)
            ctx.answer(key, request, Answer(400, error.hint or error.reason))

    def _undo(self, key: ServerKey) -> None:
        """A request failed half way: nothing of it may stay."""
        ctx = self._ctx
        forward = ctx.by_server.get(key)
        if forward is not None:
            ctx.drop_forward(forward)
            self._offers.failed(forward)

    def _response(self, item: ResponseArrived) -> None:
        ctx, response = self._ctx, item.response
        forward = ctx.by_client.get(item.key)
        if forward is None:
            ctx.stats.dropped += 1
            return
        ctx.server, ctx.request = forward.server, forward.received
        purpose = forward.purpose
        try:
            if purpose is PROXY:
                self._responses.arrived(forward, response)
            elif purpose is Purpose.REGISTER:
                self._registration.answered(forward, response)
            elif purpose is Purpose.SUBSCRIBE:
                self._reg_events.answered(forward, response)
            else:
                self._responses.arrived(forward, response)
        except ProtocolError as error:
            self._bad_response(forward, response, error)

    def _bad_response(self, forward: Forward, response: Response, error: ProtocolError) -> None:
        """A value in a response cannot be read: a provisional one is dropped, a final one becomes 502 to the caller."""
        ctx = self._ctx
        ctx.stats.bad_messages += 1
        ctx.log("info", "bad response", peer=str(forward.flow.remote), error=str(error), status=response.status)
        if response.status < 200 or forward.answered or forward.server is None:
            return
        forward.answered = True
        server, received = forward.server, forward.received
        ctx.drop_forward(forward)
        ctx.answer(server, received, Answer(502, error.hint or error.reason))
        self._offers.failed(forward)

    def _verdict(self, verdict: Proceed | Refuse) -> None:
        ctx = self._ctx
        forward = ctx.holds.pop(verdict.token, None)
        if forward is None or forward.call is None or forward.call.key != verdict.call:
            return  # what it was for is over (CANCEL, failure)
        forward.hold = 0
        ctx.server, ctx.request, ctx.call = forward.server, forward.received, forward.call
        ctx.who = forward.who
        way = self._responses if forward.held_response is not None else self._offers
        if isinstance(verdict, Proceed):
            way.proceed(forward, verdict)
        else:
            way.refuse(forward, verdict)
        if forward.purpose is ACK:
            self._inside.acked(forward.call)

    def _no_answer(self, item: ClientTimeout | ClientFailed) -> None:
        forward = self._ctx.by_client.get(item.key)
        if forward is None:
            return
        if forward.purpose is Purpose.SUBSCRIBE:
            self._reg_events.failed(forward)
        elif isinstance(item, ClientTimeout):
            self._responses.unanswered.timeout(forward)
        else:
            self._responses.unanswered.failed(forward)
