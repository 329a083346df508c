"""sipp as UE and as core: calls and registrations through the P-CSCF, over UDP, TCP, TLS and IPv6.

The scenarios check what they receive by regular expressions; a message that is not as expected fails its call. All of
them run first, a few at a time, through one pair of daemons; each test then judges one.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import product

import pytest
from tests.interop.capture import NoCapture, decode, faults, values
from tests.interop.sipp_edge import Run, SippEdge, needs_sipp, needs_stunnel, playable
from tests.system.edge import DEADLINE

pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.xdist_group("sipp"), needs_sipp]

CALLS = (
    "plain",
    "msrp",
    "prack",
    "reinvite",
    "delayed",
    "early",
    "refusals",
    "cancel",
    "cancel_at_once",
    "cancel_crosses_200",
    "called",
    "called_ends",
)
STORM = 150
RUNS = (
    *(Run(name, transport) for name, transport in product(CALLS, ("udp", "tcp"))),
    *(Run(name, "tls") for name in ("plain", "msrp", "reinvite", "cancel", "called", "called_ends")),
    *(Run("register", transport, calls=1) for transport in ("udp", "tcp", "tls")),
    Run("late_ack"),
    *(Run("storm", transport, calls=STORM, rate=100) for transport in ("udp", "tcp")),
    *(Run(name, transport, ipv6=True, calls=3) for name, transport in product(CALLS, ("udp", "tcp"))),
)


def judged(runs: Iterable[Run]) -> list[object]:
    """Their names as parameters of a test, which skips those that cannot be had here."""
    return [pytest.param(str(run), marks=[needs_stunnel] if run.transport == "tls" else []) for run in runs]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SippEdge]:
    """Every run done."""
    with SippEdge(tmp_path_factory.mktemp("sipp"), playable(RUNS)) as edge:
        edge.play()
        yield edge


@pytest.mark.parametrize("name", judged(RUNS))
def test_scenario(played: SippEdge, name: str) -> None:
    assert not played.outcomes[name], played.outcomes[name]


def test_a_2xx_was_repeated_and_its_ack_repeated_none(played: SippEdge) -> None:
    assert int(played.statistics["late_ack-udp"]["Retransmissions(C)"]) >= 5 * 2


def test_tshark_found_no_fault(played: SippEdge) -> None:
    if isinstance(played.capture, NoCapture):
        pytest.skip(str(played.capture))
    played.capture.sync()
    tls = played.tls_ports()
    packets = decode(played.capture.file, sip=played.sip_ports(), tls=tls)
    assert faults(packets) == []
    secured = [one for one in packets if {one["tcp.srcport"], one["tcp.dstport"]} & set(map(str, tls))]
    assert not values(secured, "sip.CSeq")
    assert bool(values(secured, "tls.handshake.type")) is bool(tls)
    assert set(values(packets, "sip.Method")) >= {"REGISTER", "INVITE", "ACK", "CANCEL", "BYE", "PRACK", "UPDATE"}
    assert set(values(packets, "sip.Status-Code")) >= {"180", "183", "200", "302", "404", "486", "487", "603"}


def test_nothing_is_left_of_all_these_calls(played: SippEdge) -> None:
    all_gone(played)


def all_gone(edge: SippEdge) -> None:
    """No call, and nothing at the gateway: at once, or when it has replied."""
    end = time.monotonic() + DEADLINE
    while any(
        left := {name: edge.measured(name) for name in ("imsalg_active_calls", "imsalg_active_contexts")}.values()
    ):
        assert time.monotonic() < end, left


# --- silence at the core, and at the UE ---

LOST = (
    Run("lost_invite", called=False),
    Run("lost_message", called=False),
    Run("lost_after_180"),
    Run("lost_bye"),
    *(Run(name, way) for name, way in product(("mute_invite", "mute_after_180", "mute_bye"), ("udp", "tcp"))),
    *(Run(name, transport, calls=1) for name, transport in product(("cut_invite", "cut_call"), ("tcp", "tls"))),
)
BRISK = {"timers": {"t1": 0.02, "t2": 0.16, "t4": 0.2, "timer_c": 0.7}}
"""64*T1 is 1.28 s."""


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SippEdge]:
    """Runs through an IMS-ALG with short timers, whose core or UE falls silent, or loses its connection."""
    with SippEdge(tmp_path_factory.mktemp("lost"), playable(LOST), last=12, alg=BRISK) as edge:
        edge.play()
        yield edge


@pytest.mark.parametrize("name", judged(LOST))
def test_an_end_that_falls_silent(lost: SippEdge, name: str) -> None:
    assert not lost.outcomes[name], lost.outcomes[name]


def test_calls_of_silent_ends_are_gone(lost: SippEdge) -> None:
    all_gone(lost)


def test_a_request_without_answer_is_repeated_as_the_timers_say(lost: SippEdge) -> None:
    """RFC 3261 17.1.1.2: timer A doubles up to 64*T1, seven INVITEs; 17.1.2.2: timer E doubles up to T2. Fewer on a
    busy machine, which notices its timers late."""
    if isinstance(lost.capture, NoCapture):
        pytest.skip(str(lost.capture))
    lost.capture.sync()
    packets = decode(lost.capture.file, sip=lost.sip_ports())
    assert faults(packets) == []
    for name, end, method, most in (
        ("lost_invite-udp", lost.core, "INVITE", 7),
        ("lost_message-udp", lost.core, "MESSAGE", 11),
        ("mute_invite-udp", lost.ue, "INVITE", 7),
        ("mute_bye-udp", lost.ue, "BYE", 11),
    ):
        mine = [one for one in packets if one["udp.dstport"] == str(end[name]) and one["sip.Method"] == method]
        counts = values(mine, "sip.Call-ID")
        assert all(3 <= sent <= most for sent in counts.values()), counts
        assert len(counts) == lost.runs[name].calls
