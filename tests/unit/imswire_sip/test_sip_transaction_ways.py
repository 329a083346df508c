"""The short ways of the transaction layer beside the general one: the same comes out, and the same timers run."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.imswire_sip.sip_samples import TCP, UDP, Ids, request

from imswire.sip.flow import Flow
from imswire.sip.message import Request
from imswire.sip.transaction import Output, RequestArrived, Send, TransactionLayer
from imswire.sip.transaction_moves import Entries, Place, entries
from imswire.sip.transaction_types import Timers


class General(TransactionLayer):
    """Every move goes the general way."""

    def __init__(self) -> None:
        super().__init__(Ids())
        self._entries, self._entries_reliable = general(reliable=False), general(reliable=True)


def general(*, reliable: bool) -> Entries:
    """Machines of its own, in which no move is marked as a usual one."""
    own = entries.__wrapped__(Timers(), reliable)
    work = [own.invite_client, own.invite_proxy, own.other_client, own.invite_server, own.other_server]
    seen: set[Place] = set()
    while work:
        place = work.pop()
        if place not in seen:
            seen.add(place)
            for one, move in place.moves.items():
                place.moves[one] = replace(move, usual=False, last=None, over=False)
                work.append(move.place)
    return own


def walk(layer: TransactionLayer, method: str, flow: Flow, client: bool, script: Sequence[str]) -> list[object]:
    """What comes out of each input, and when the next timer runs out then."""
    told: list[object] = []
    now, first = 0.0, request(method, "z9hG4bKm")
    if client:
        key, out = layer.request(first, flow, now, via_host="h", via_port=None, timer_c=method == "INVITE")
        sent = out[0]
        assert isinstance(sent, Send)
        assert isinstance(sent.message, Request)
        first, own = sent.message, key
    else:
        out, own = layer.receive(first, flow, now), None
        arrived = out[0]
        assert isinstance(arrived, RequestArrived)
        server = arrived.key
    for what in ["", *script]:
        if what == "time" and (due := layer.next_timer()) is not None:
            now = due
            out = layer.expire(now)
        elif what == "wait":
            now += 0.75
            out = layer.expire(now)
        elif what == "cancel" and own is not None:
            out = layer.cancel(own, now)
        elif what == "lost":
            out = layer.transport_failed(flow, now)
        elif what == "again" and own is None:
            out = layer.receive(first.copy(), flow, now)
        elif what.isdigit():
            answer = first.reply(int(what), to_tag="x")
            out = layer.receive(answer, flow, now) if own is not None else layer.respond(server, answer, now)
        told += [what, [spelled(one) for one in out], layer.next_timer(), layer.stats, layer.state(own or server)]
    return told


def spelled(output: Output) -> object:
    return output.message.to_bytes() if isinstance(output, Send) else output


INPUTS = ["100", "180", "200", "486", "time", "wait", "cancel", "lost", "again"]


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
@given(script=st.lists(st.sampled_from(INPUTS), max_size=12))
def test_short_ways_do_what_the_general_one_does(flow: Flow, method: str, client: bool, script: list[str]) -> None:
    assert walk(TransactionLayer(Ids()), method, flow, client, script) == walk(General(), method, flow, client, script)
