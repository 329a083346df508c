"""What the doors count, as the metrics show it."""

import pytest
from tests.playbook.alg_harness import SCSCF, UE, request

from imsalg.core.admission import Admission
from imsalg.overload_settings import OverloadSettings
from imsalg.shell.tally import _CSEQS, METHODS, H248Tally, SipTally
from imswire.h248.model import (
    Action,
    Command,
    ErrorDescriptor,
    Message,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
)
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response


def answer(status: int, cseq: str | None) -> Response:
    return Response(status, None, Headers([("CSeq", cseq)] if cseq is not None else []))


def test_requests_by_realm_and_method() -> None:
    tally = SipTally("in")
    for method in ("INVITE", "BYE", "INVITE", "EXPLODE", "invite"):
        tally.count(Request(method, "sip:a@b"), UE)
    tally.count(Request("BYE", "sip:a@b"), SCSCF)
    assert tally.requests() == {
        ("in", "access", "INVITE"): 2,
        ("in", "access", "BYE"): 1,
        ("in", "access", "other"): 2,
        ("in", "core", "BYE"): 1,
    }
    assert tally.responses() == {}


def test_responses_by_realm_method_and_class() -> None:
    tally = SipTally("out")
    for status, cseq in ((200, "1 INVITE"), (202, "7 INVITE"), (486, "1 INVITE"), (200, "2 EXPLODE"), (400, None)):
        tally.count(answer(status, cseq), UE)
    tally.count(answer(100, "1  BYE"), SCSCF)
    assert tally.responses() == {
        ("out", "access", "INVITE", "2xx"): 2,
        ("out", "access", "INVITE", "4xx"): 1,
        ("out", "access", "other", "2xx"): 1,
        ("out", "access", "other", "4xx"): 1,
        ("out", "core", "BYE", "1xx"): 1,
    }
    assert tally.requests() == {}


def test_what_a_peer_makes_up_does_not_stay() -> None:
    tally = SipTally("in")
    for number in range(3 * _CSEQS):
        tally.count(answer(200, f"{number} M{number}"), UE)
        tally.count(answer(200, f"{number} M{'x' * 1000}"), UE)
        tally.count(Request(f"M{number}", "sip:a@b"), UE)
    assert tally.responses() == {("in", "access", "other", "2xx"): 6 * _CSEQS}
    assert tally.requests() == {("in", "access", "other"): 3 * _CSEQS}
    assert len(tally._methods) <= _CSEQS
    assert max(map(len, tally._methods), default=0) < 100
    assert set(tally._requests["access"]) == {*METHODS, "other"}


def test_h248_by_direction_and_kind_with_errors_that_came() -> None:
    tally = H248Tally()
    fault = ErrorDescriptor(510)
    failed = TransactionReply(2, (Action(1, (Command("Add", "a", error=ErrorDescriptor(431)),), error=fault),))
    mixed = Message("gw", (TransactionRequest(1, ()), failed, TransactionReply(3, error=fault), TransactionPending(4)))
    tally.came(mixed)
    tally.went(mixed)
    tally.went(Message("gw", (TransactionAck(((1, 1),)),)))
    rows = {("request",): 1, ("reply",): 2, ("pending",): 1}
    assert tally.transactions() == {
        **{("in", *kind): number for kind, number in rows.items()},
        **{("out", *kind): number for kind, number in rows.items()},
        ("out", "ack"): 1,
    }
    assert tally.errors == {("5xx",): 2, ("4xx",): 1}


@pytest.mark.parametrize("rate", [0.0, 5.0])
def test_where_the_door_does_not_ask_everything_is_let_in(rate: float) -> None:
    admission = Admission(OverloadSettings(source_rate=rate, source_burst=1), ["access"], lambda *_: False, 1)
    data = request("INVITE").replace("\n", "\r\n").encode()
    for flow in (UE, SCSCF):
        verdicts = {admission.check(data, flow, 1.0) is None for _ in range(50)}
        assert (verdicts == {True}) is (flow.realm not in admission.metered)
