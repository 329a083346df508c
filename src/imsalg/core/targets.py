"""A request that has several targets goes to the next one when one fails (RFC 3263 4.3), and names are followed up."""

from collections.abc import Callable

from imsalg.core.context import Context
from imsalg.core.sip_call import ACK, Answer, Forward, other
from imswire.base import ProtocolError
from imswire.sip.message import REASONS, Response


class Targets:
    """The procedure; what is known of targets lives in ``ctx.hops``. ``nowhere`` gives a request up with an answer."""

    def __init__(self, ctx: Context, nowhere: Callable[[Forward, Answer], None]) -> None:
        self._ctx = ctx
        self._nowhere = nowhere

    def located(self, forward: Forward) -> None:
        """The name that ``forward`` waited for has been looked up."""
        ctx = self._ctx
        ctx.call, ctx.who = forward.call, forward.who
        ctx.server, ctx.request = forward.server, forward.received
        try:
            if forward.purpose is ACK:
                ctx.send_ack(forward)
            else:
                ctx.send(forward)
        except (Answer, ProtocolError) as error:
            self._nowhere(forward, ctx.answer_to(error))

    def unavailable(self, forward: Forward, response: Response) -> bool:
        """A 503: True when the request went to the next target; else it becomes a 500, for the caller could take a 503
        for all that this node serves (RFC 3261 16.7 step 6)."""
        ctx = self._ctx
        seconds = response.headers.get("retry-after") or ""
        if seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
            ctx.hops.avoid(forward.flow, ctx.now + min(int(seconds), ctx.settings.dns.most_ttl))
        if forward.others and self.next(forward, silent=False):
            return True
        response.status, response.reason = 500, REASONS[500]
        return False

    def silent(self, forward: Forward) -> None:
        """A target has not said anything for ``next_after``, and there is another one."""
        ctx, client = self._ctx, forward.client
        if client is None or not forward.others:
            return
        ctx.call, ctx.who = forward.call, forward.who
        ghost = Forward(
            None,
            forward.received,
            forward.outgoing,
            forward.flow,
            forward.side,
            forward.call if forward.initial else None,
            initial=forward.initial,
        )
        ghost.client, ghost.answered, ghost.aborted, ghost.who = client, True, True, forward.who
        if not self.next(forward, silent=True):
            return
        ctx.by_client[client] = ghost  # a 2xx that comes from there all the same is ended
        ctx.keep_on(ghost)
        if ghost.is_invite:
            ctx.transactions(ctx.layer.cancel(client, ctx.now))

    def next(self, forward: Forward, *, silent: bool) -> bool:
        """Send ``forward`` to its next target; False when there is none, or when it is too late for another one."""
        ctx, client = self._ctx, forward.client
        if (forward.initial and forward.call is not None and forward.call.legs) or forward.answered or forward.aborted:
            return False
        ctx.hops.tries.discard(forward)
        if not ctx.hops.next(forward, ctx.now, silent=silent):
            return False
        if client is not None:
            ctx.by_client.pop(client, None)
            forward.client = None
        if forward.call is not None:
            forward.call.flows[other(forward.side)] = forward.flow
        self.located(forward)
        return True
