"""sipp as UE and as core: calls and registrations through the P-CSCF, over UDP, TCP and IPv6.

The scenarios check what they receive by regular expressions; a message that is not as expected fails its call. All of
them run first, a few at a time, through one pair of daemons; each test then judges one. sipp of Debian has no TLS: that
is the business of Kamailio, OpenSSL and the softphones.
"""

from collections.abc import Iterator
from itertools import product

import pytest
from tests.interop.capture import NoCapture, decode, faults, values
from tests.interop.sipp_edge import Run, SippEdge, needs_sipp

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
)
STORM = 150
RUNS = (
    *(Run(name, transport) for name, transport in product(CALLS, ("udp", "tcp"))),
    *(Run("register", transport, calls=1) for transport in ("udp", "tcp")),
    Run("late_ack"),
    *(Run("storm", transport, calls=STORM, rate=100) for transport in ("udp", "tcp")),
    *(Run(name, transport, ipv6=True) for name, transport in product(("plain", "msrp"), ("udp", "tcp"))),
)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SippEdge]:
    """Every run done."""
    with SippEdge(tmp_path_factory.mktemp("sipp"), RUNS) as edge:
        edge.play()
        yield edge


@pytest.mark.parametrize("name", [str(run) for run in RUNS])
def test_scenario(played: SippEdge, name: str) -> None:
    assert not played.outcomes[name], played.outcomes[name]


def test_a_2xx_was_repeated_and_its_ack_repeated_none(played: SippEdge) -> None:
    assert int(played.statistics["late_ack-udp"]["Retransmissions(C)"]) >= 5 * 2


def test_tshark_found_no_fault(played: SippEdge) -> None:
    if isinstance(played.capture, NoCapture):
        pytest.skip(str(played.capture))
    played.capture.sync()
    packets = decode(played.capture.file, sip=played.sip_ports())
    assert faults(packets) == []
    assert set(values(packets, "sip.Method")) >= {"REGISTER", "INVITE", "ACK", "CANCEL", "BYE", "PRACK", "UPDATE"}
    assert set(values(packets, "sip.Status-Code")) >= {"180", "183", "200", "302", "404", "486", "487", "603"}


# --- silence at the core ---

LOST = (
    Run("lost_invite", called=False),
    Run("lost_message", called=False),
    Run("lost_after_180"),
    Run("lost_bye"),
)
BRISK = {"timers": {"t1": 0.02, "t2": 0.16, "t4": 0.2, "timer_c": 0.7}}
"""64*T1 is 1.28 s."""


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SippEdge]:
    """Runs through an IMS-ALG with short timers, whose core falls silent."""
    with SippEdge(tmp_path_factory.mktemp("lost"), LOST, last=12, alg=BRISK) as edge:
        edge.play()
        yield edge


@pytest.mark.parametrize("name", [str(run) for run in LOST])
def test_a_core_that_falls_silent(lost: SippEdge, name: str) -> None:
    assert not lost.outcomes[name], lost.outcomes[name]


def test_a_request_without_answer_is_repeated_as_the_timers_say(lost: SippEdge) -> None:
    """RFC 3261 17.1.1.2: timer A doubles up to 64*T1, seven INVITEs; 17.1.2.2: timer E doubles up to T2. Fewer on a
    busy machine, which notices its timers late."""
    if isinstance(lost.capture, NoCapture):
        pytest.skip(str(lost.capture))
    lost.capture.sync()
    packets = decode(lost.capture.file, sip=lost.sip_ports())
    assert faults(packets) == []
    for name, method, most in (("lost_invite-udp", "INVITE", 7), ("lost_message-udp", "MESSAGE", 11)):
        mine = [one for one in packets if one["udp.dstport"] == str(lost.core[name]) and one["sip.Method"] == method]
        counts = values(mine, "sip.Call-ID")
        assert all(3 <= sent <= most for sent in counts.values()), counts
        assert len(counts) == lost.runs[name].calls
