"""Who is let in: rates of sources, refusal under overload, and what is never refused."""

import asyncio

import pytest
from tests.playbook import alg_harness as lab

from imsalg.core.admission import Admission
from imsalg.overload_settings import OverloadSettings
from imsalg.shell.pressure import CALM, Pressure
from imswire.sip.flow import Flow
from imswire.sip.parser import parse

STRANGER = Flow("udp", "access", lab.ACCESS, ("203.0.113.5", 5060))


def message(method: str = "INVITE", **changes: str) -> bytes:
    return lab.sip(lab.request(method, **changes))  # type: ignore[arg-type]


def gate(known: frozenset[str] = frozenset(), **settings: object) -> Admission:
    made = OverloadSettings(**{"source_rate": 10.0, "source_burst": 5, **settings})  # type: ignore[arg-type]
    return Admission(made, ["access"], lambda branch, sent_by, method: branch in known, 10)


def status(verdict: tuple[bytes, Flow] | bytes | None) -> str:
    if verdict is None:
        return "in"
    return str(verdict[0][8:11].decode()) if isinstance(verdict, tuple) else "silence"


def verdicts(admission: Admission, count: int, now: float, data: bytes = b"", flow: Flow = lab.UE) -> list[str]:
    return [status(admission.check(data or message(), flow, now)) for _ in range(count)]


def test_a_source_gets_its_burst_and_then_its_rate() -> None:
    admission = gate()
    first = verdicts(admission, 10, 100.0)
    assert first == ["in"] * 5 + ["503"] * 5
    assert verdicts(admission, 10, 100.5).count("in") == 5, "half a second at ten a second"
    assert verdicts(admission, 10, 100.5, flow=STRANGER).count("in") == 5, "others are not touched"
    assert admission.counts.source_rate == 5 + 5 + 5


def test_a_prefix_of_ipv6_is_one_source() -> None:
    admission = gate()

    def from_(host: str) -> list[str]:
        return verdicts(admission, 1, 100.0, flow=Flow("udp", "access", lab.ACCESS, (host, 5060)))

    hosts = [f"2001:db8:0:1::{n:x}" for n in range(1, 100)]
    assert [one for host in hosts for one in from_(host)].count("in") == 5
    assert admission.sources == 1
    assert from_("2001:db8:0:2::1") == ["in"]
    assert from_("fe80::1%eth0") == from_("fe80::2%eth0") == ["in"]
    assert admission.sources == 4


def test_the_core_side_is_not_metered() -> None:
    assert set(verdicts(gate(), 100, 1.0, flow=lab.SCSCF)) == {"in"}


def test_responses_are_not_shed_and_have_a_bucket_of_their_own() -> None:
    admission = gate()
    admission.shedding = True
    response = b"SIP/2.0 200 OK\r\n\r\n"
    flood = verdicts(admission, 100, 1.0, response)
    assert set(flood) == {"in", "silence"}
    assert flood.index("silence") in range(18, 21), "four for each request of the burst"
    assert verdicts(admission, 100, 1.5, response).count("in") in range(19, 22), "and of the rate"
    assert set(verdicts(admission, 3, 1.0, response, STRANGER)) == {"in"}, "a flood takes nothing from others"
    assert set(verdicts(admission, 100, 1.0, response, lab.SCSCF)) == {"in"}
    admission.shedding = False
    assert verdicts(admission, 5, 1.0) == ["in"] * 5, "nor from the requests of its source"


def test_a_call_back_is_believed_from_the_core_alone() -> None:
    admission = Admission(OverloadSettings(), ["access"], lambda *_: False, 10, None, ["core"])
    admission.shedding = True
    call = lab.sip(lab.request("INVITE", "Priority: psap-callback"))
    assert verdicts(admission, 1, 1.0, call, lab.SCSCF) == ["in"]
    assert verdicts(admission, 1, 1.0, call) == ["503"]
    other = lab.sip(lab.request("INVITE", "X-Note: psap-callback"))
    assert verdicts(admission, 1, 1.0, other, lab.SCSCF) == ["503"]
    assert status(gate_of_strangers().check(call, lab.SCSCF, 1.0)) == "503"


def gate_of_strangers() -> Admission:
    """One that takes nobody's word, and has too much to do."""
    admission = gate()
    admission.shedding = True
    return admission


@pytest.mark.parametrize("to", ["<sip:bob@example.net;tag=1>", '"a;tag=1" <sip:bob@example.net>'])
def test_a_tag_inside_the_uri_is_no_way_around(to: str) -> None:
    assert verdicts(gate_of_strangers(), 1, 1.0, message(to=to)) == ["503"]
    assert verdicts(gate(), 10, 1.0, message(to=to)) == ["in"] * 5 + ["503"] * 5, "nor to twice the rate"


def test_beyond_its_rate_what_has_begun_has_twice_the_room() -> None:
    admission = gate()
    bye = message("BYE", to="<sip:bob@example.net>;tag=one")
    verdicts(admission, 20, 1.0)
    assert verdicts(admission, 20, 1.0, bye).count("in") == 5
    assert verdicts(admission, 1, 1.0, bye) == ["503"]


def test_emergency_calls_have_an_allowance_of_their_own() -> None:
    admission = gate()
    verdicts(admission, 20, 1.0)
    sos = message(uri="urn:service:sos")
    assert verdicts(admission, 20, 1.0, sos).count("in") == 5, "not lost among the others, and not without limit"


def test_silence_by_setting() -> None:
    admission = gate(answer="silence")
    assert verdicts(admission, 7, 1.0)[5:] == ["silence", "silence"]
    assert admission.counts.silent == 2


def test_zero_is_without_limit() -> None:
    assert set(verdicts(gate(source_rate=0.0), 3000, 1.0)) == {"in"}


def test_repetitions_beyond_the_rate_are_not_answered_twice() -> None:
    admission = gate(known=frozenset({"z9hG4bKa1"}))
    assert verdicts(admission, 7, 1.0)[5:] == ["silence", "silence"]


def test_forged_sources_do_not_grow_the_table() -> None:
    admission = gate(sources=100)
    for number in range(1000):
        flow = Flow("udp", "access", lab.ACCESS, (f"198.51.{number // 250}.{number % 250}", 5060))
        assert status(admission.check(message(), flow, 1.0)) == "in"
        assert admission.sources <= 101


def test_room_is_made_of_the_sources_that_owe_nothing() -> None:
    admission = gate(sources=20)
    verdicts(admission, 20, 1.0)
    for number in range(25):
        admission.check(message(), Flow("udp", "access", lab.ACCESS, (f"198.51.100.{number}", 5060)), 1.05 + number)
    assert "in" in verdicts(admission, 20, 1.1)
    assert admission.sources <= 21


def test_under_overload_new_work_is_refused_and_the_rest_is_served() -> None:
    admission = gate(known=frozenset({"z9hG4bKserved"}), source_rate=0.0)
    admission.shedding = True
    for new in ("INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE", "OPTIONS"):
        assert verdicts(admission, 1, 1.0, message(new)) == ["503"], new
        assert verdicts(admission, 1, 1.0, message(new), lab.SCSCF) == ["503"], "from both sides"
    inside = "<sip:bob@example.net>;tag=one"
    for method in ("BYE", "ACK", "PRACK", "UPDATE", "INFO", "CANCEL", "INVITE"):
        assert verdicts(admission, 1, 1.0, message(method, to=inside)) == ["in"], method
    assert verdicts(admission, 1, 1.0, message(uri="urn:service:sos.police")) == ["in"]
    assert verdicts(admission, 1, 1.0, message(branch="served")) == ["in"], "a repetition of what is being served"
    assert admission.counts.overload == 10


def test_emergency_numbers_of_the_settings_are_not_refused() -> None:
    numbers = {"access": ("112", "911")}
    admission = Admission(OverloadSettings(), ["access"], lambda *_: False, 10, numbers)
    admission.shedding = True
    for uri in ("tel:112", "sip:112@example.net;user=phone", "sip:911@example.net"):
        assert verdicts(admission, 1, 1.0, message(uri=uri)) == ["in"], uri
        assert verdicts(admission, 1, 1.0, message(uri=uri), lab.SCSCF) == ["503"], "they are numbers of that realm"
    assert verdicts(admission, 1, 1.0, message(uri="sip:1123@example.net")) == ["503"]


def test_retry_after_is_spread_and_the_ack_goes_no_further() -> None:
    admission = gate(source_rate=0.0)
    admission.shedding = True
    waits: set[str | None] = set()
    for _ in range(11):
        verdict = admission.check(message(), lab.UE, 1.0)
        assert isinstance(verdict, tuple)
        answer = parse(verdict[0])
        waits.add(answer.headers.get("retry-after"))
    assert waits == {str(seconds) for seconds in range(10, 21)}
    ack = message("ACK", to=answer.headers.get("to") or "")
    assert admission.check(ack, lab.UE, 1.0) == b""


@pytest.mark.parametrize("data", [b"\x00" * 50, b"INVITE", b"", b"A" * 70_000, b"INVITE sip:x SIP/2.0\r\n\r\n"])
def test_rubbish_is_never_answered_here(data: bytes) -> None:
    admission = gate()
    admission.shedding = True
    assert {status(admission.check(data, lab.UE, 1.0)) for _ in range(20)} == {"silence"}


class Watch:
    """A Pressure that is looked at by hand."""

    def __init__(self, **settings: object) -> None:
        self.admission = gate()
        self.octets = 0
        self.crowded = False
        made = OverloadSettings(**settings)  # type: ignore[arg-type]
        self.pressure = Pressure(made, self.admission, lambda: [(0, 1 << 23), (self.octets, 1 << 23)], self.is_crowded)
        self.pressure.close()
        self.now = 0.0

    def is_crowded(self) -> bool:
        return self.crowded

    def look(self, lateness: float = 0.0, octets: int = 0) -> bool:
        self.octets = octets
        self.now += 0.02 + lateness
        self.pressure.look(lateness, self.now)
        return self.admission.shedding


async def watch() -> None:
    one = Watch()
    assert not one.look()
    assert not one.look(5.0), "one long step is no overload"
    assert not one.look(5.0), "nor are two"
    assert not one.look(0.0)
    assert not any(one.look(0.31) for _ in range(3)), "three late looks in less than a second"
    assert one.look(0.31)
    assert one.look(0.08), "down to a quarter"
    assert not one.look(0.07)
    assert not any(one.look(0.31) for _ in range(3)), "it begins anew"
    one.look()
    assert not one.look(octets=1_048_576)
    assert one.look(octets=1_048_577)
    assert one.look(octets=262_145), "down to a quarter"
    assert not one.look(octets=262_144)
    assert one.admission.overloaded
    one.now += CALM
    one.look()
    assert not one.admission.overloaded
    one.crowded = True
    assert one.look()
    off = Watch(lag=0.0, queue=0)
    assert not any(off.look(9.0, 1 << 30) for _ in range(5))


def test_the_watch_on_the_load() -> None:
    asyncio.run(watch())
