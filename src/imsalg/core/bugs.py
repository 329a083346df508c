"""What is done about a bug: an exception that is no ProtocolError ends the call that it happened in, and no more."""

from imsalg.core.context import Context
from imsalg.core.media_events import Log
from imsalg.core.release import Release


def report(ctx: Context, release: Release, error: Exception, item: object) -> None:
    """Report a bug and end what it happened in: 500 to the request, the call's media subtracted."""
    ctx.stats.bugs += 1
    where = _place(error)
    call_id = ctx.request.headers.get("call-id") if ctx.request is not None else None
    ctx.out.append(
        Log("error", "bug", {"error": repr(error), "at": where, "event": type(item).__name__, "call_id": call_id})
    )
    ctx.trace("call", what="bug", call_id=call_id or "", reason=repr(error), at=where)
    server, request, call = ctx.server, ctx.request, ctx.call
    try:
        if server is not None and request is not None and request.method != "ACK":
            forward = ctx.by_server.get(server)
            if forward is not None:
                ctx.drop_forward(forward)
            ctx.respond(server, request.reply(500, to_tag=ctx.ids.tag()))
        if call is not None:
            release.end(call)
    except Exception as second:  # noqa: BLE001  the reporter is the last door of all
        ctx.out.append(Log("error", "bug while ending a call", {"error": repr(second)}))


def _place(error: Exception) -> str:
    """File and line where an exception was raised, innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
