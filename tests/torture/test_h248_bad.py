"""Bad H.248 and the answer each piece gets: code, the transaction it names, and what could still be used."""

import pytest

from imswire.base import LimitExceeded
from imswire.h248.errors import H248Error, error_answer
from imswire.h248.model import Message, TransactionReply
from imswire.h248.parser import parse
from imswire.h248.writer import write

HEAD = "MEGACO/1 [192.0.2.1]:2944\n"


def command(text: str) -> str:
    return f"{HEAD}Transaction=7{{Context=1{{{text}}}}}"


BAD: list[tuple[str, str, int, int | None]] = [
    # what is wrong, message, code, transaction id of the answer (None: error for the whole message)
    ("empty", "", 400, None),
    ("white space", " \r\n\t ", 400, None),
    ("a SIP request", "REGISTER sip:example.net SIP/2.0\r\n\r\n", 400, None),
    ("no version", "MEGACO [192.0.2.1]:2944 T=1{C=1{S=*}}", 400, None),
    ("version not supported", "MEGACO/9 [192.0.2.1]:2944 T=1{C=1{S=*}}", 406, None),
    ("version of three digits", "MEGACO/100 gw T=1{C=1{S=*}}", 400, None),
    ("no mId", "MEGACO/1 T=1{C=1{S=*}}", 400, None),
    ("mId without end", "MEGACO/1 [192.0.2.1 T=1{C=1{S=*}}", 400, None),
    ("mId too long", f"MEGACO/1 {'a' * 65} T=1{{C=1{{S=*}}}}", 400, None),
    ("nothing after the mId", HEAD, 400, None),
    ("unknown transaction", HEAD + "Transfer=1{}", 400, None),
    ("text after an error", HEAD + 'Error=400{"x"} Transaction=1{}', 400, None),
    ("error code without digits", HEAD + "Error=x{}", 400, None),
    ("transaction id too large", HEAD + "T=4294967296{C=1{S=*}}", 403, None),
    ("transaction id no number", HEAD + "T=x{C=1{S=*}}", 403, None),
    ("empty transaction", HEAD + "T=7{}", 403, 7),
    ("no context", HEAD + "T=7{Add=$}", 403, 7),
    ("transaction without end", HEAD + "T=7{C=1{S=*}", 403, 7),
    ("missing comma between actions", HEAD + "T=7{C=1{S=*} C=2{S=*}}", 403, 7),
    ("reserved context", HEAD + "T=7{C=4294967295{S=*}}", 422, 7),
    ("context 0", HEAD + "T=7{C=0{S=*}}", 422, 7),
    ("context no number", HEAD + "T=7{C=x{S=*}}", 422, 7),
    ("empty action", HEAD + "T=7{C=1{}}", 422, 7),
    ("error in an action request", HEAD + "T=7{C=1{Error=400{}}}", 422, 7),
    ("priority twice", HEAD + "T=7{C=1{Priority=1,Priority=2,S=*}}", 422, 7),
    ("unknown command", command("Grow=*"), 443, 7),
    ("a number as command", command("1=*"), 422, 7),
    ("no termination", command("Add"), 442, 7),
    ("a quoted termination", command('Add="T1"'), 442, 7),
    ("command without end", command("Add=${Media{Stream=1{"), 442, 7),
    ("an audit without descriptor", command("AuditValue=*"), 442, 7),
    ("a Notify without descriptor", command("Notify=T1"), 442, 7),
    ("unknown descriptor", command("Add=${Colour{}}"), 444, 7),
    ("descriptor twice", command("Add=${Events,Events}"), 448, 7),
    ("descriptor not legal in the command", command("Subtract=*{Events}"), 447, 7),
    ("statistics in a request", command("Add=${Statistics{nt/os=1}}"), 447, 7),
    ("empty Media", command("Add=${Media{}}"), 442, 7),
    ("Local twice", command("Add=${Media{Local{v=0},Local{v=0}}}"), 448, 7),
    ("Local without end", command("Add=${Media{Local{v=0"), 442, 7),
    ("a zero octet in SDP", command("Add=${Media{Local{v=\0}}}"), 442, 7),
    ("streams with and without number", command("Add=${Media{Local{v=0},Stream=1{Local{v=0}}}}"), 442, 7),
    ("stream number too large", command("Add=${Media{Stream=65536{Local{v=0}}}}"), 442, 7),
    ("stream mode unknown", command("Add=${Media{LocalControl{Mode=Sideways}}}"), 517, 7),
    ("mode twice", command("Add=${Media{LocalControl{Mode=SendOnly,Mode=SendOnly}}}"), 456, 7),
    ("reserve neither on nor off", command("Add=${Media{LocalControl{ReservedValue=2}}}"), 449, 7),
    ("property without package", command("Add=${Media{LocalControl{realm=x}}}"), 442, 7),
    ("property without value", command("Add=${Media{LocalControl{ipdc/realm}}}"), 442, 7),
    ("value list without end", command("Add=${Media{LocalControl{a/b=[1,2}}}"), 442, 7),
    ("quote without end", command('Add=${Media{LocalControl{a/b="x}}}'), 442, 7),
    ("a line end in quotes", command('Add=${Media{LocalControl{a/b="x\ny"}}}'), 442, 7),
    ("letters beyond ASCII", command("Add=${Media{LocalControl{a/b=é}}}"), 442, 7),
    ("events without request id", command("Add=${Events={al/on}}"), 442, 7),
    ("event without package", command("Add=${Events=1{on}}"), 442, 7),
    ("embed without end", command("Add=${Events=1{al/on{Embed{Signals{"), 442, 7),
    ("packages in a request", command("Add=${Packages{g-1}}"), 447, 7),
    ("ServiceChange parameter unknown", command("ServiceChange=ROOT{Services{Colour=1}}"), 446, 7),
    ("ServiceChange method unknown", command('ServiceChange=ROOT{Services{Method=Rest,Reason="901"}}'), 449, 7),
    ("ServiceChange method twice", command("ServiceChange=ROOT{Services{MT=RS,MT=RS}}"), 456, 7),
    ("ServiceChange address no mId", command("ServiceChange=ROOT{Services{AD=2001:db8::5]}}"), 442, 7),
    ("a descriptor of version 2", command("AuditValue=T1{Audit{Media{Statistics}}}"), 442, 7),
    ("raw descriptor without end", command("Add=${Mux=H221{T1{{{{"), 442, 7),
    ("a lone quote in a raw descriptor", command('Add=${Mux=H221{T1 " }}'), 442, 7),
    ("a comment swallows the end", command("Subtract=* ; and so on"), 422, 7),
]


@pytest.mark.parametrize("text,code,tid", [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_requests_get_their_code(text: str, code: int, tid: int | None) -> None:
    with pytest.raises(H248Error) as caught:
        parse(text.encode())
    fault = caught.value
    assert (fault.code, fault.transaction_id) == (code, tid)
    assert fault.reason == f"h248.{code}"
    assert 0 <= fault.offset <= len(text)
    answer = error_answer(fault, "agw")
    assert answer is not None
    assert parse(write(answer)) == answer
    if tid is None:
        assert answer.error is not None
        assert answer.error.code == code
    else:
        reply = answer.transactions[0]
        assert isinstance(reply, TransactionReply)
        assert (reply.id, reply.error and reply.error.code) == (tid, code)


@pytest.mark.parametrize(
    "text",
    [
        "P=7{}",
        "P=7{C=1{Grow=*}}",
        "P=7{C=1{MF=T1{Audit{Media}}}}",
        "P=7{IA}",
        "P=7{IA,}",
        "P=7{C=1{AV=C{}}}",
        "PN=x{}",
        "PN=7{C=1{S=*}}",
        "K{}",
        "K{x}",
        "K{5-}",
        "K{5-3}",
        "K{1-99999999999}",
        "K{4294967296}",
    ],
)
def test_bad_replies_get_no_answer(text: str) -> None:
    with pytest.raises(H248Error) as caught:
        parse((HEAD + text).encode())
    assert error_answer(caught.value, "agw") is None


def test_the_offset_points_at_the_fault() -> None:
    text = command("Add=$ ; a comment {}\n {Media{Stream=1{Colour}}}")
    with pytest.raises(H248Error) as caught:
        parse(text.encode())
    assert caught.value.offset == text.index("Colour")
    assert "Colour" in caught.value.hint


def test_whole_transactions_before_the_fault_are_kept() -> None:
    with pytest.raises(H248Error) as caught:
        parse((HEAD + "T=1{C=1{S=*}} PN=2{} T=3{C=1{Grow=*}} T=4{C=1{S=*}}").encode())
    fault = caught.value
    assert fault.transaction_id == 3
    assert fault.version == 1
    assert fault.parsed == parse((HEAD + "T=1{C=1{S=*}} PN=2{}").encode())


def test_oversized_messages_are_refused_before_they_are_read() -> None:
    with pytest.raises(LimitExceeded) as caught:
        parse(b"x" * 70_000)
    assert caught.value.reason == "h248.oversize"


@pytest.mark.parametrize(
    "text",
    [
        " " * 60_000,
        HEAD + " " * 60_000,
        HEAD + ";" * 60_000,
        HEAD + "\n;" * 30_000,
        HEAD + "{" * 60_000,
        HEAD + "L{" * 30_000,
        HEAD + "L{\\" * 20_000,
        HEAD + "L " * 30_000,
        HEAD + "=L " * 20_000,
        HEAD + '"' * 60_000,
        HEAD + '"x' * 30_000,
        command("Add=${Media{Local{" + "}" * 60_000),
        command("Add=L{" * 10_000),
        command("Add=${Mux=" + "{" * 60_000),
        command("Add=${Events=1{a/b{Embed" + "{" * 60_000),
        "!/1 " + "[" * 60_000,
        "AU=0x" + "1" * 60_000,
        "MTP " * 15_000,
    ],
)
def test_hostile_shapes_are_refused_in_linear_time(text: str) -> None:
    """Expressions that backtrack would need hours for these; the run of the test is the proof."""
    with pytest.raises(H248Error):
        parse(text.encode())


def test_a_large_good_message_is_read() -> None:
    text = HEAD + "T=1{" + ",".join(f"C={n}{{S=T{n}{{AT{{SA}}}}}}" for n in range(1, 2_500)) + "}"
    message = parse(text.encode())
    assert parse(write(message)) == message
    assert isinstance(message, Message)
