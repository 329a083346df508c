"""Calls do not live for ever: the ACK that never comes, the session that is not refreshed, the call that went silent.

RFC 4028 session timers are the ends' business; a proxy that sees Session-Expires in a 2xx knows when the session is
over (8.3) and releases what is left of it then. A call whose ends use no session timer is released when nothing at all
was signalled for ``silent_call``.
"""

from imsalg.core.context import Context
from imsalg.core.release import Release
from imsalg.core.sip_call import Answer, Call, Forward, Stage
from imswire.sip.message import Response

LONGEST = 2**31
"""Seconds of Session-Expires that are taken at their word."""


class Guard:
    """Sets and meets the deadlines of established calls."""

    def __init__(self, ctx: Context, release: Release) -> None:
        self._ctx = ctx
        self._release = release

    def refreshed(self, forward: Forward, call: Call, response: Response) -> None:
        """A 2xx to INVITE or UPDATE went through: with Session-Expires the session has that long to live."""
        ctx = self._ctx
        if forward.received.method in ("INVITE", "UPDATE"):
            seconds = _seconds(response.headers.get("session-expires"))
            call.refresh_by = ctx.now + seconds if seconds is not None else None
        if forward.initial:
            # The called side gives up after 64*T1 itself (RFC 3261 13.3.1.4) and is given as long again to say so.
            call.ack_by = ctx.now + 2 * ctx.settings.timers.t64
        self.touched(call)

    def acked(self, call: Call) -> None:
        """An ACK went through."""
        for leg in call.legs.values():
            if leg.confirmed and not leg.acked:
                break
        else:
            call.ack_by = None
        self.touched(call)

    def touched(self, call: Call) -> None:
        """Something was signalled in the call."""
        if call.stage is not Stage.ESTABLISHED:
            return
        ctx = self._ctx
        if ctx.changed is not None:
            ctx.mark(call)
        due = call.refresh_by
        if due is None and (silent := ctx.settings.timers.silent_call) > 0:
            due = ctx.now + silent
        if call.ack_by is not None and (due is None or call.ack_by < due):
            due = call.ack_by
        if due is not None:
            ctx.deadlines.set(call, due)
        else:
            ctx.deadlines.discard(call)

    def due(self, call: Call) -> None:
        """The deadline of a call has come."""
        ctx = self._ctx
        if call.stage is not Stage.ESTABLISHED:
            return
        if call.ack_by is not None and call.ack_by <= ctx.now:
            call.ack_by = None
            unacked = [leg for leg in call.confirmed_legs if not leg.acked]
            if len(unacked) < len(call.confirmed_legs):
                for leg in unacked:
                    del call.legs[leg.tag]
                self.touched(call)
            else:
                self._release.give_up(call, Answer(408, "no ACK came"))
        elif call.refresh_by is not None:
            self._release.give_up(call, Answer(408, "the session expired"))
        else:
            self._release.give_up(call, Answer(408, "nothing was signalled for too long"))


def _seconds(value: str | None) -> int | None:
    """Session-Expires (RFC 4028 4) in seconds; None when absent or unreadable."""
    text = (value or "").partition(";")[0].strip()
    if not text or not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    return min(int(text), LONGEST)
