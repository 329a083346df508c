"""Client transactions that end without a response, and those that the caller cancels (RFC 3261 16.8 to 16.10)."""

from imsalg.core.context import Context
from imsalg.core.offers import Offers
from imsalg.core.release import Release
from imsalg.core.sip_call import ACCESS, OWN, Answer, Forward, Purpose, other
from imsalg.core.targets import Targets
from imswire.sip.message import Request
from imswire.sip.transaction import ServerKey


class Unanswered:
    """Tries the next target, or tells the near side."""

    def __init__(self, ctx: Context, release: Release, offers: Offers) -> None:
        self._ctx = ctx
        self._release = release
        self._offers = offers
        self.targets = Targets(ctx, self._without_answer)

    def timeout(self, forward: Forward) -> None:
        """Timer B or F fired (16.8): the next target, or the near side is told.

        INVITE gets 408 and REGISTER 504 (TS 24.229 5.2.2). Others get nothing: their sender has given up already
        (RFC 4320 4.2).
        """
        if forward.others and self.targets.next(forward, silent=True):
            return
        if forward.is_invite:
            self._without_answer(forward, Answer(408))
        else:
            self._without_answer(forward, Answer(504) if forward.purpose is Purpose.REGISTER else None)

    def failed(self, forward: Forward) -> None:
        """The request could not be sent (16.9): the next target, or 430 for a UE whose flow is gone, else 503."""
        if forward.others and self.targets.next(forward, silent=True):
            return
        if other(forward.side) is ACCESS:
            self._without_answer(forward, Answer(430))
        else:
            self._without_answer(forward, Answer(503, retry_after=self._ctx.settings.limits.retry_after))

    def _without_answer(self, forward: Forward, answer: Answer | None) -> None:
        ctx, call = self._ctx, forward.call
        ctx.call, ctx.who = call, forward.who
        done, forward.answered = forward.answered, True
        ctx.drop_forward(forward)
        if forward.purpose is OWN:
            self._release.bye_answered(call)
            return
        if done:
            return
        if forward.server is not None and answer is not None:
            ctx.answer(forward.server, forward.received, answer)
        elif forward.server is not None:
            ctx.layer.forget(forward.server)
        if forward.received.method == "BYE":
            self._release.bye_answered(call)
            return
        if forward.initial and call is not None:
            call.outcome = "no-answer"
        self._offers.failed(forward)

    def cancelled(self, server: ServerKey, request: Request) -> None:
        """The caller's CANCEL (16.10); the transaction layer has answered it 200."""
        ctx = self._ctx
        forward = ctx.by_server.get(server)
        if forward is None or forward.answered or not forward.is_invite:
            return
        ctx.call, ctx.who = forward.call, forward.who
        if forward.client is None:  # still held with its offer: the far side knows nothing yet
            forward.answered = True
            if forward.initial and forward.call is not None:
                forward.call.outcome = "cancelled"
            ctx.drop_forward(forward)
            ctx.answer(server, forward.received, Answer(487))
            self._offers.failed(forward)
        elif forward.held_response is None or forward.held_response.status < 200:
            forward.others = ()
            reasons = [("Reason", value) for value in request.headers.get_all("reason")]
            ctx.transactions(ctx.layer.cancel(forward.client, ctx.now, reasons))
