"""Whose dialog it is: a token shows that a dialog runs through this node, not that the sender is one of its ends.

Both ends of a dialog see every Record-Route value of it, this node's token for the other end's UE included. So a
request on a UE's behalf must also come from where that UE is (RFC 3261 26.1.4 names the BYE of a stranger as a threat).
"""

from collections.abc import Collection

from imsalg.core.bindings import Binding, Registrar
from imsalg.core.context import Context
from imsalg.core.media_events import Side
from imsalg.core.sip_call import ACCESS, Call
from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.values import NameAddr


def same_ue(registrar: Registrar, aors: Collection[str], known: Flow, flow: Flow) -> bool:
    """True when ``flow`` is of the UE that the dialog knows at ``known``.

    That is the same flow, one over which one of ``aors`` has registered since (RFC 5626 4.3, a UE that has moved), or
    one from the same host over which nobody has (a new connection, a port that a NAT has changed): users behind one NAT
    have one host. An address of record is compared as a whole: users of other domains have the same names.
    """
    if flow == known:
        return True
    users = registrar.on_flow(flow)
    if users and aors:
        return any(binding.aor in aors for binding in users)
    return flow.realm == known.realm and flow.remote[0] == known.remote[0]


def same_ue_as(call: Call, registrar: Registrar, flow: Flow) -> bool:
    """The same of a call; that of a UE without registration (an emergency) stays where it was begun."""
    known = call.flows[ACCESS]
    if flow == known:
        return True
    aors = () if call.binding is None else (call.binding[0],)
    return same_ue(registrar, aors, known, flow)


def sender_of(ctx: Context, request: Request, flow: Flow) -> Binding | None:
    """The binding on whose behalf a UE's request came over ``flow``, by the setting ``sender``; None for nobody's."""
    on_flow = ctx.registrar.on_flow(flow)
    if len(on_flow) == 1:
        return on_flow[0]
    contact = request.headers.first_value("contact")
    preferred = request.headers.first_value("p-preferred-identity")
    wanted = [NameAddr.parse(preferred).uri] if preferred is not None else []
    if on_flow:  # only then the identities tell whose request it is
        wanted.append(request.from_.uri)
    rule = ctx.settings.realm[flow.realm].sender
    return ctx.registrar.sender(flow, NameAddr.parse(contact).uri if contact else None, wanted, rule)


def in_the_open(binding: Binding, flow: Flow) -> bool:
    """True for a request without TLS of a UE that registered over it: the address it came from can be forged."""
    return flow.transport != "tls" and (binding.secured or (binding.flow or flow).transport == "tls")


def reached_again(ctx: Context, binding: Binding, former: Collection[Flow | None] = ()) -> None:
    """The registration of ``binding`` was accepted: its calls are reached over its flow when theirs is gone.

    A connection over which nobody is registered any more is taken for gone: it was closed, went with an earlier process
    or the UE has left it (RFC 5626 5.3.1). Over UDP it is the flow that this UE was registered over before, one of
    ``former``: a NAT has given it another port or, where an instance says that it is the same UE, it has moved. The
    calls are those of this address of record and contact, which the registrar has just authenticated; one over TLS
    stays over TLS, and none changes its realm.
    """
    flow = binding.flow
    if flow is None:
        return
    for call in ctx.calls_of(binding):
        known = call.flows[Side.ACCESS]
        if known == flow or known.realm != flow.realm or ctx.registrar.on_flow(known):
            continue
        if not known.reliable:
            same = binding.flow_name or known.remote[0] == flow.remote[0]  # behind two NATs a Contact may be two UEs'
            if known not in former or not same:
                continue
        if known.transport == "tls" and flow.transport != "tls":
            continue
        call.flows[Side.ACCESS] = flow
        ctx.mark(call)
