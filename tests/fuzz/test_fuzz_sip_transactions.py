"""Random walks through the transaction layer: nothing is lost, nothing stays for ever, the timers stay in order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples
from tests.unit.imswire_sip.sip_samples import CORE, TCP, UDP, Ids, request

from imswire.sip.message import Request
from imswire.sip.transaction import (
    ClientFailed,
    ClientKey,
    ClientTimeout,
    Output,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerKey,
    TransactionLayer,
)

FLOWS = (UDP, TCP, CORE)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["receive", "respond", "send", "answer", "cancel", "fail", "lose", "wait"]),
        st.integers(0, 5),
        st.sampled_from([100, 180, 200, 302, 486, 603]),
    ),
    max_size=40,
)


class Walk:
    """A layer, what it was asked and what came out of it."""

    def __init__(self) -> None:
        self.layer = TransactionLayer(Ids())
        self.now = 0.0
        self.servers: list[tuple[ServerKey, Request]] = []
        self.clients: list[tuple[ClientKey, Request]] = []
        self.ends: dict[ClientKey, int] = {}

    def note(self, outputs: list[Output]) -> None:
        for one in outputs:
            if isinstance(one, RequestArrived):
                self.servers.append((one.key, one.request))
                continue
            if isinstance(one, ResponseArrived) and one.response.status < 300:
                continue
            if isinstance(one, ResponseArrived | ClientTimeout | ClientFailed):
                self.ends[one.key] = self.ends.get(one.key, 0) + 1

    def step(self, what: str, which: int, status: int) -> None:
        layer, now = self.layer, self.now
        flow = FLOWS[which % 3]
        method = ("INVITE", "OPTIONS", "ACK", "CANCEL")[which % 4]
        if what == "receive":
            self.note(layer.receive(request(method, f"z9hG4bK{which // 2}"), flow, now))
        elif what == "respond" and self.servers:
            key, message = self.servers[which % len(self.servers)]
            self.note(layer.respond(key, message.reply(status), now))
        elif what == "send":
            sip = request("INVITE" if which % 2 else "OPTIONS")
            client, out = layer.request(sip, flow, now, via_host="h", via_port=None, timer_c=which > 2)
            first = next(one.message for one in out if isinstance(one, Send))
            if isinstance(first, Request):
                self.clients.append((client, first))
        elif what == "wait":
            self.now += status / 40
            self.note(layer.expire(self.now))
        elif self.clients:
            client, message = self.clients[which % len(self.clients)]
            if what == "answer":
                self.note(layer.receive(message.reply(status), flow, now))
            elif what == "cancel":
                self.note(layer.cancel(client, now))
            elif what == "fail":
                self.note(layer.send_failed(message, flow, now))
            elif what == "lose":
                self.note(layer.transport_failed(flow, now))

    def finish(self) -> None:
        """Answer what is open, then let all time pass."""
        for key, message in self.servers:
            self.layer.respond(key, message.reply(486), self.now)
        for client, _ in self.clients:
            self.layer.cancel(client, self.now)
        while (due := self.layer.next_timer()) is not None:
            assert due > self.now
            self.now = due
            self.note(self.layer.expire(self.now))


@settings(max_examples=examples(150), deadline=None)
@given(STEPS)
def test_everything_ends_and_each_client_at_most_once(steps: list[tuple[str, int, int]]) -> None:
    walk = Walk()
    for what, which, status in steps:
        walk.step(what, which, status)
        due = walk.layer.next_timer()
        assert due is None or due > walk.now
    walk.finish()
    stats = walk.layer.stats
    assert (stats.clients, stats.servers, stats.timers) == (0, 0, 0)
    assert all(count == 1 for count in walk.ends.values())
