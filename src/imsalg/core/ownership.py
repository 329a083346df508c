"""Whose dialog it is: a token shows that a dialog runs through this node, not that the sender is one of its ends.

Both ends of a dialog see every Record-Route value of it, this node's token for the other end's UE included. So a
request on a UE's behalf must also come from where that UE is (RFC 3261 26.1.4 names the BYE of a stranger as a threat).
"""

from imsalg.core.bindings import Binding, Registrar
from imsalg.core.context import Context
from imsalg.core.media_events import Side
from imswire.sip.flow import Flow


def same_ue(registrar: Registrar, user: str, known: Flow, flow: Flow) -> bool:
    """True when ``flow`` is of the UE that the dialog knows at ``known``.

    That is the same flow, another one from the same host (a new connection, a port that a NAT has changed), or one over
    which ``user`` has registered since (RFC 5626 4.3, a UE that has moved).
    """
    if flow == known or (flow.realm == known.realm and flow.remote[0] == known.remote[0]):
        return True
    return bool(user) and any(binding.user == user for binding in registrar.on_flow(flow))


def reached_again(ctx: Context, binding: Binding) -> None:
    """The registration of ``binding`` was accepted: its calls are reached over its flow when theirs is gone.

    A connection over which nobody is registered any more is taken for gone: it was closed, went with an earlier process
    or the UE has left it (RFC 5626 5.3.1). The calls are those of this address of record and contact, which the
    registrar has just authenticated; one over TLS stays over TLS, and none changes its realm.
    """
    flow = binding.flow
    if flow is None:
        return
    for call in ctx.calls_of(binding):
        known = call.flows[Side.ACCESS]
        if known == flow or not known.reliable or known.realm != flow.realm or ctx.registrar.on_flow(known):
            continue
        if known.transport == "tls" and flow.transport != "tls":
            continue
        call.flows[Side.ACCESS] = flow
        ctx.mark(call)
