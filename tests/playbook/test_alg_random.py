"""Random orders of offers, answers, endings and gateway replies through both halves: no bug, no token that hangs,
nothing that leaks."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.playbook import alg_harness as lab
from tests.playbook.alg_gateway import MID, Gateway
from tests.playbook.test_alg_media import PLAIN_ANSWER, PLAIN_OFFER, SECURE_ANSWER, SECURE_OFFER
from tests.playbook.test_alg_proxy import BOB, from_called, from_caller

from imsalg.core.events import Drain
from imswire.h248 import iq
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response

TWO_LINES = SECURE_OFFER + "\n".join(SECURE_OFFER.splitlines()[6:]).replace("7000", "7002").replace("s1", "s2")
FROM_UE = (SECURE_OFFER, SECURE_ANSWER, TWO_LINES, lab.AUDIO, "v=0\nm=x", "")
FROM_CORE = (PLAIN_OFFER, PLAIN_ANSWER, PLAIN_ANSWER.replace("8000", "8100"), lab.AUDIO, "v=0\nm=x", "")
RELIABLE = ("Require: 100rel", "RSeq: 1")

bodies = st.sampled_from((0, 0, 1, 1, 2, 3, 4, 5, 5))
steps = st.one_of(
    st.tuples(st.just("ue"), st.sampled_from(("INVITE", "UPDATE", "PRACK", "ACK", "ACK", "BYE", "INFO")), bodies),
    st.tuples(st.just("core"), st.sampled_from(("INVITE", "UPDATE", "PRACK", "ACK", "BYE", "INFO")), bodies),
    st.tuples(
        st.just("response"),
        st.integers(0, 3),
        st.sampled_from((180, 183, 183, 200, 200, 200, 486, 491)),
        st.booleans(),
        st.sampled_from(("one", "one", "two")),
        bodies,
    ),
    st.tuples(st.just("gateway"), st.sampled_from((None, None, None, 510))),
    st.tuples(st.just("gateway"), st.just(None)),
    st.tuples(st.just("notify"), st.integers(1, 2)),
    st.tuples(st.sampled_from(("ue", "core")), st.just("BYE"), st.just(5)),
    st.just(("cancel",)),
    st.just(("drain",)),
    st.tuples(st.just("time"), st.sampled_from((0.6, 5.0, 40.0, 200.0))),
)


ESTABLISHED: list[tuple[object, ...]] = [("response", 0, 200, False, "one", 1), ("gateway", None), ("ue", "ACK", 5)]
STARTS: dict[str, list[tuple[object, ...]]] = {
    "fresh": [],
    "early": [("response", 0, 183, True, "one", 1), ("gateway", None)],
    "fork": [
        ("response", 0, 183, True, "one", 1),
        ("gateway", None),
        ("response", 0, 183, True, "two", 2),
    ],
    "answered": [("response", 0, 200, False, "one", 1), ("gateway", None)],
    "established": ESTABLISHED,
    "held": [*ESTABLISHED, ("ue", "UPDATE", 2)],
    "re-offered": [*ESTABLISHED, ("ue", "INVITE", 0)],
    "re-answered": [*ESTABLISHED, ("ue", "INVITE", 0), ("response", 0, 200, False, "one", 2)],
    "delayed": [("response", 0, 200, False, "one", 0), ("gateway", None)],
    "delayed early": [("response", 0, 183, True, "one", 0), ("gateway", None)],
}
starts = st.one_of(
    st.tuples(st.sampled_from((0, 0, 2, 3)), st.sampled_from(list(STARTS)[:8])),
    st.tuples(st.just(5), st.sampled_from(("fresh", *list(STARTS)[8:]))),
)


class Run:
    """One call of alice, and what its two ends know of it. ``eager``: the gateway answers at once, after each step."""

    def __init__(self, offer: int, start: str = "fresh", *, eager: bool = False) -> None:
        self.eager = False
        timers = {"heartbeat": 1e6, "heartbeat_timeout": 1e6}
        self.book = lab.Book(lab.settings(timers={"silent_call": 500.0}, gateway_timers=timers))
        self.gateway = Gateway(self.book)
        lab.register(self.book)
        self.number = 1
        self.asked: list[tuple[Request, Flow]] = []
        self.invite: Request | None = None
        self.ok: Response | None = None
        self.book.receive(lab.UE, lab.request(), FROM_UE[offer])
        self.look()
        self.settle()
        for step in STARTS[start]:
            self.perform(step)
        self.eager = eager

    def look(self) -> None:
        """Take what went out (and fail on a logged bug)."""
        for message, flow in self.book.out():
            if isinstance(message, Request):
                if message.method == "INVITE" and self.invite is None:
                    self.invite = message
                if message.method != "ACK":
                    self.asked.append((message, flow))
            elif message.cseq.method == "INVITE" and message.to_tag and "record-route" in message.headers:
                self.ok = message

    def perform(self, step: tuple[object, ...]) -> None:
        book = self.book
        self.number += 1
        match step:
            case ("ue", str(method), int(body)) if self.ok is not None:
                number = 1 if method == "ACK" else self.number
                text = from_caller(method, number, self.ok, branch=f"u{self.number}")
                book.receive(lab.UE, text, FROM_UE[body] if method not in ("BYE", "INFO") else "")
            case ("core", str(method), int(body)) if self.invite is not None and self.ok is not None:
                text = from_called(method, self.number, self.invite, branch=f"k{self.number}")
                text = text.replace("tag=callee", f"tag={self.ok.to_tag}")
                book.receive(lab.SCSCF, text, FROM_CORE[body] if method not in ("BYE", "INFO") else "")
            case ("response", int(back), int(status), bool(sure), str(tag), int(body)) if self.asked:
                message, flow = self.asked[-1 - back % len(self.asked)]
                far = FROM_UE if flow.realm == "access" else FROM_CORE
                extra = RELIABLE if sure and status < 200 else ()
                sdp = far[body] if status < 300 and message.method in ("INVITE", "UPDATE", "PRACK") else ""
                book.feed(lab.wire(lab.answer(message, status, BOB, *extra, tag=tag, body=sdp), flow))
            case ("gateway", None | int() as error):
                self.gateway.take()
                if self.gateway.requests:
                    self.gateway.answer(error)
            case ("notify", int(context)):
                self.gateway.notify(context, f"T{context}-1", iq.MediaFailure("fingerprint-mismatch", "x"))
            case ("cancel",):
                book.receive(lab.UE, lab.request("CANCEL"))
            case ("drain",):
                book.feed(Drain(100.0))
            case ("time", float(seconds)):
                book.advance(seconds)
        self.look()
        if self.eager:
            self.settle()

    def settle(self) -> None:
        self.gateway.take()
        while self.gateway.requests:
            self.gateway.answer()
        self.look()


# The only 2xx comes while an UPDATE of its dialog waits for the gateway, and is never repeated.
UNHEARD: list[tuple[object, ...]] = [
    ("gateway", None),
    ("response", 0, 180, False, "one", 0),
    ("gateway", None),
    ("ue", "UPDATE", 0),
    ("response", 0, 200, False, "one", 0),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(starts, st.booleans(), st.lists(steps, min_size=8, max_size=20))
@example((5, "fresh"), False, UNHEARD)
def test_nothing_hangs_and_nothing_leaks(start: tuple[int, str], eager: bool, script: list[tuple[object, ...]]) -> None:
    run = Run(*start, eager=eager)
    for step in script:
        run.perform(step)
    run.settle()
    assert run.book.engine.gauges["held"] == 0, "a token without a verdict"
    for _ in range(4):  # nobody answers any more: every wait ends by itself
        run.book.advance(600.0)
        run.settle()
    engine = run.book.engine
    assert engine.stats.bugs == 0
    gauges = engine.gauges
    assert (gauges["calls"], gauges["held"], gauges["forwards"]) == (0, 0, 0)
    context = engine.context
    for kept in (context.by_server, context.by_token, context.ending, context.linger, context.deadlines):
        assert len(kept) == 0
    assert run.book.media.calls == {}
    gateway = run.book.media.gateways.gateways[MID]
    assert (gateway.load, dict(gateway.contexts)) == (0, {})


# A re-INVITE without an offer is answered with one after a BYE has ended the call.
ENDED: list[tuple[object, ...]] = [("core", "INVITE", 5), ("ue", "BYE", 0), ("response", 1, 200, False, "one", 1)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(STARTS)[:8]), st.lists(steps, min_size=8, max_size=20))
@example("answered", ENDED)
def test_no_plain_line_ever_leaves_for_the_ue_that_offered_tls(start: str, script: list[tuple[object, ...]]) -> None:
    """Whatever happens, no message towards alice holds a plain MSRP line, and none towards the core a secured one."""
    run = Run(0, start, eager=True)
    for step in script:
        if step[0] in ("ue", "core", "response") and step[-1] == 3:
            continue  # audio on the index of the line: the media half's own tests
        run.perform(step)
    for trace in run.book.traces:
        if trace.kind != "sip" or trace.fields["dir"] != "out":
            continue
        shown = " ".join(str(part) for part in trace.fields["sdp"])  # type: ignore[attr-defined]
        if trace.fields["realm"] == "access":
            assert " TCP/MSRP" not in shown
        else:
            assert "TCP/TLS/MSRP" not in shown
