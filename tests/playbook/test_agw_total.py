"""The engine takes any report in any state: it never raises, joins no unverified leg, and leaves nothing behind."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples
from tests.playbook.agw_harness import UE, Call, Play, everywhere

from agw.core import events, orders
from agw.core.model import Tls
from imswire.h248 import iq
from imswire.h248.model import Action

REPORTS: list[Callable[[int], orders.Report]] = [
    lambda leg: orders.Listening(leg, 20000),
    lambda leg: orders.ListenFailed(leg, True, "in use"),
    lambda leg: orders.SynHeld(leg, 1),
    lambda leg: orders.Accepted(leg, "192.0.2.77", 50000),
    lambda leg: orders.Accepted(leg, "192.0.2.66", 50000),
    lambda leg: orders.Connected(leg, 20000),
    lambda leg: orders.DialFailed(leg, "refused"),
    lambda leg: orders.HandshakeDone(leg, "TLSv1.3", "x"),
    lambda leg: orders.TlsOpen(leg, "TLSv1.3", "x", "sha-256", bytes(32)),
    lambda leg: orders.VerifyFailed(leg, "mismatch", "sha-256", (bytes(32),), b"", "CN=x", "no"),
    lambda leg: orders.TlsFailed(leg, "alert"),
    orders.HalfClosed,
    lambda leg: orders.RelayEnded(leg, True, "closed"),
    lambda leg: orders.Inactive(leg, 5.0),
    lambda leg: orders.Counted(leg, 1, 1),
    lambda leg: orders.Released(leg + 90, 1, 1),
    lambda leg: orders.IdentityMade(leg, leg + 50, (("sha-256", bytes(32)),)),
]
CHANGES: list[dict[str, object]] = [
    {"remote": iq.RemoteSpec("192.0.2.77", 7000, UE)},
    {"setup": "active"},
    {"setup": "passive"},
    {"setup": "holdconn"},
    {"start_tls": True},
    {"source_filter": "address"},
    {"ignore_syn": False},
    {"reconnect": True},
    {"reconnect": True, "remote": iq.RemoteSpec("192.0.2.78", 7001, UE)},
    {"tls_role": "server"},
    {"tls_role": "client"},
    {"tcp_mode": "merge"},
    {"source_filter": "address", "source_mask": "192.0.2.0/28"},
]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, len(REPORTS) - 1), st.integers(1, 9)),
        st.tuples(st.just("modify"), st.integers(0, len(CHANGES) - 1), st.integers(0, 1)),
        st.tuples(st.just("link"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("time"), st.integers(0, 70), st.just(0)),
    ),
    max_size=25,
)


def perform(play: Play, call: Call, step: tuple[str, int, int]) -> None:
    kind, number, which = step
    if kind == "report":
        play.post(REPORTS[number](which))
    elif kind == "modify":
        result = call.core if which else call.access
        change = iq.StreamChange("TCP/MSRP" if which else "TCP/TLS/MSRP", **CHANGES[number])  # type: ignore[arg-type]
        play.request(Action(call.context, (iq.to_modify(result.termination, change),)))
    elif kind == "time":
        play.pass_time(float(number))
    elif number == 0:
        play.post(events.ControlDown("reset"))
    elif number == 1:
        play.post(events.ControlUp("mgc"))
        play.answer_service_change()
    else:
        play.post(events.Drain())


@settings(max_examples=examples(150), deadline=None)
@given(STEPS)
def test_any_report_in_any_state(steps: list[tuple[str, int, int]]) -> None:
    play = Play(tracing=True)
    call = play.terminating()
    for step in steps:
        perform(play, call, step)
        for order in play.take(orders.StartRelay):
            for leg in (order.a, order.b):
                assert play.engine.store.legs[leg].tls is Tls.OPEN
    play.serve()
    play.request(everywhere(iq.to_subtract()))
    assert not play.engine.store.legs
    assert not play.engine.store.contexts
    assert not play.engine.store.names
    assert not play.engine.store.former
