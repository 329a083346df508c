"""Random scripts against the media half: whatever happens, no token hangs and no context is left behind."""

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples
from tests.playbook.mediaplay import AUDIO, PEER_IP, Play, bfcp_line, peer_line, sdp, ue_line
from tests.playbook.mediaplay import settings as media_settings

from imsalg.core.media_events import CallEnded, EndCall, GatewayDown, Proceed, Refuse, Side
from imsalg.media_settings import FailureSettings
from imswire.h248 import iq

UE_BODIES = (
    sdp(*ue_line()),
    sdp(*ue_line(2999)),
    sdp(*ue_line(), *ue_line(2857)),
    sdp(*AUDIO),
    sdp("m=message 0 TCP/TLS/MSRP *"),
    sdp(*ue_line(setup="passive", e2ae=None)),
    sdp(*peer_line(setup="actpass")),
    b"broken",
    sdp(*ue_line(cema=False)),
    sdp(*ue_line(cema=False, path="msrps://192.0.2.10:2855/other;tcp")),
    sdp(*bfcp_line()),
    sdp(*ue_line(setup="active", e2ae=None, cema=False)),
    sdp(*bfcp_line(setup="active", e2ae=None)),
    sdp(*ue_line(), *bfcp_line()),
)
PEER_BODIES = (
    sdp(*peer_line(), ip=PEER_IP),
    sdp(*peer_line(9100, setup="passive"), ip=PEER_IP),
    sdp(*peer_line(setup="actpass"), ip=PEER_IP),
    sdp(*peer_line(), *peer_line(9002), ip=PEER_IP),
    sdp(*peer_line(setup="holdconn"), ip=PEER_IP),
    sdp("m=message 0 TCP/MSRP *", ip=PEER_IP),
    sdp(*AUDIO, ip=PEER_IP),
    b"broken",
    sdp(*peer_line(cema=False), ip=PEER_IP),
    sdp(*peer_line(9100, setup="passive", cema=False), ip=PEER_IP),
    sdp(*bfcp_line(7100, secure=False, setup="active"), ip=PEER_IP),
    sdp(*peer_line(setup="actpass", cema=False), ip=PEER_IP),
    sdp(*bfcp_line(7100, secure=False), ip=PEER_IP),
    sdp(*peer_line(), *bfcp_line(7100, secure=False, setup="active"), ip=PEER_IP),
)

calls = st.sampled_from(["c1", "c2"])
sides = st.sampled_from(list(Side))
bodies = st.integers(0, 13)
steps = st.one_of(
    st.tuples(st.just("offer"), calls, sides, bodies, st.sampled_from(["", "a", "b"])),
    st.tuples(st.just("answer"), calls, sides, bodies, st.sampled_from("ab"), st.booleans()),
    st.tuples(st.just("gateway"), st.sampled_from(["ok", "ok", "ok", "510", "500", "late"])),
    st.tuples(st.just("fail"), calls, st.booleans()),
    st.tuples(st.just("confirm"), calls, st.sampled_from("ab")),
    st.tuples(st.just("end"), calls),
    st.tuples(st.just("notify"), st.integers(1, 4), st.sampled_from(["tcp-failed", "tls-failed", "remote-closed"])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 3.0, 5.0])),
    st.tuples(st.just("lost")),
)


def body(side: Side, number: int) -> bytes:
    return (UE_BODIES if side is Side.ACCESS else PEER_BODIES)[number]


def perform(play: Play, step: tuple[object, ...]) -> None:
    match step:
        case ("offer", str(call), Side() as side, int(number), str(leg)):
            play.offer(body(side, number), side, call, leg)
        case ("answer", str(call), Side() as side, int(number), str(leg), bool(final)):
            play.answer(body(side, number), side, leg, final=final, call=call)
        case ("gateway", "ok") if play.asked:
            play.answer_gateway()
        case ("gateway", "late") if play.asked and len(play.take().actions[0].commands) > 1:
            play.refuse_gateway(510, after=1)
        case ("gateway", str(code)) if play.asked and code.isdigit():
            play.refuse_gateway(int(code))
        case ("fail", str(call), bool(initial)):
            play.fail_offer(initial=initial, call=call)
        case ("confirm", str(call), str(leg)):
            play.confirm(leg, call)
        case ("end", str(call)):
            play.end(call)
        case ("notify", int(context), str(kind)):
            play.says(1, iq.to_notify(f"ip/access/{context}", iq.MediaFailure(kind, "x"), 1), context)
        case ("wait", float(seconds)):
            play.wait(seconds)
        case ("lost",):
            play.feed(GatewayDown(1, "cut"))
            play.asked.clear()
            play.connect(1)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=30))
def test_nothing_hangs_and_nothing_is_left(script: list[tuple[object, ...]]) -> None:
    play = Play(replace(media_settings(), failures=FailureSettings(tls_failed="drop")))
    gone: set[int] = set()

    def gateway_catches_up() -> None:
        while play.asked:
            look()
            play.answer_gateway()

    def look() -> None:
        for _, request in play.asked:
            gone.update(a.context for a in request.actions if a.commands[0].name == "Subtract")

    for step in script:
        perform(play, step)
        look()
    gateway_catches_up()
    given_up = {c.call for c in play.commands if isinstance(c, EndCall)}
    given_up |= {str(step[1]) for step in script if step[0] in ("end", "fail")}
    verdicts = Counter(c.token for c in play.commands if isinstance(c, (Proceed, Refuse)))
    assert all(count == 1 for count in verdicts.values())
    if not given_up:
        assert set(verdicts) == set(range(1, play.token + 1))
    for call in ("c1", "c2"):
        play.feed(CallEnded(call))
    gateway_catches_up()
    assert not play.half.calls
    assert play.half.gateways.gateways["agw-1"].load == 0
    if not any(step[0] in ("lost", "wait") for step in script):
        assert set(range(1, play.contexts.get("agw-1", 0) + 1)) <= gone
