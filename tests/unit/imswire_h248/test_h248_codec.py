"""Writing and reading are inverse, in every style; the grammar's freedoms are read."""

import re

import pytest
from tests.unit.imswire_h248.h248_corpus import MESSAGES

from imswire.base import LimitExceeded, ProtocolError
from imswire.h248.errors import H248Error
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    Action,
    Command,
    ErrorDescriptor,
    Events,
    LocalControl,
    Media,
    Message,
    Parameter,
    ServiceChange,
    Signals,
    Stream,
    TransactionAck,
    TransactionReply,
    TransactionRequest,
)
from imswire.h248.parser import parse
from imswire.h248.tokens import TOKENS
from imswire.h248.writer import write

STYLES = [(False, True), (False, False), (True, True), (True, False)]


@pytest.mark.parametrize("pretty,short", STYLES)
@pytest.mark.parametrize("title", MESSAGES)
def test_written_messages_read_back_equal(title: str, pretty: bool, short: bool) -> None:
    message = MESSAGES[title]
    assert parse(write(message, pretty=pretty, compact_tokens=short)) == message


def test_tokens_are_unique_and_complete() -> None:
    assert len(set(TOKENS.values())) == len(TOKENS) == 80


def one(body: str) -> Command:
    message = parse(f"MEGACO/1 mg Transaction=1{{Context=1{{{body}}}}}".encode())
    transaction = message.transactions[0]
    assert isinstance(transaction, TransactionRequest)
    return transaction.actions[0].commands[0]


ADD = """; a comment { } " before all
MEGACO/1 ;c
 [127.0.0.1]:2944 ; the sender
 tRaNsAcTiOn = 9 ; {
 { coNtext =$ { O-a = ip/1/$@gw { M { sT = 1 { L ; octets
 {
 v=0
m=x \\} y ; no comment {
 } , o { mode = sendRECEIVE , a/b=[ 1 , "two three" ] } } } } } }
"""


def test_case_comments_and_octets() -> None:
    message = parse(ADD.encode())
    assert message.mid == "[127.0.0.1]:2944"
    assert message.transactions == (
        TransactionRequest(
            9,
            (
                Action(
                    CHOOSE_CONTEXT,
                    (
                        Command(
                            "Add",
                            "ip/1/$@gw",
                            media=Media(
                                (
                                    Stream(
                                        1,
                                        LocalControl("SendReceive", properties=(Parameter("a/b", ("1", "two three")),)),
                                        "v=0\nm=x } y ; no comment {",
                                    ),
                                )
                            ),
                            optional=True,
                        ),
                    ),
                ),
            ),
        ),
    )


@pytest.mark.parametrize(
    "mid",
    ["[127.0.0.1]:2944", "[2001:db8::1]", "<mgc.example.net>:2944", "<a>", "gw1", "ip/4/*@gw", "agw-1", "MTP{0a1b2c}"],
)
def test_mids(mid: str) -> None:
    message = Message(mid, error=ErrorDescriptor(400))
    assert parse(write(message)).mid == mid


def test_mtp_mid_with_spaces_is_one_mid() -> None:
    assert parse(b"!/1 MTP { 0A1B } ER=400{}").mid == "MTP{0A1B}"


def test_authentication_header_is_kept() -> None:
    header = "0x01234567:0x00000001:0x" + "ab" * 12
    message = parse(f"AU={header}\n!/1 gw PN=5{{}}".encode())
    assert message.authentication == header
    assert parse(write(message)) == message


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions(version: int) -> None:
    assert parse(f"!/{version} gw PN=5{{}}".encode()).version == version


@pytest.mark.parametrize(
    "text,context", [("-", NULL_CONTEXT), ("$", CHOOSE_CONTEXT), ("*", ALL_CONTEXTS), ("4294967293", 4294967293)]
)
def test_contexts(text: str, context: int) -> None:
    transaction = parse(f"!/1 gw T=1{{C={text}{{S=*}}}}".encode()).transactions[0]
    assert isinstance(transaction, TransactionRequest)
    assert transaction.actions[0].context == context


def test_prefixes() -> None:
    command = one("o-w-s=*")
    assert command.optional
    assert command.wildcard
    assert one("W-AV=*{AT{}}").wildcard


def control(text: str) -> LocalControl | None:
    media = one(f"A=$ {{M{{O{{{text}}},L{{}}}}}}").media
    assert media is not None
    return media.streams[0].control


def test_local_control_with_braces_inside_is_read_to_its_own_end() -> None:
    listed = Parameter("a/b", ("x", "y"), listing="or")
    for mode, name in (("SO", "SendOnly"), ("RC", "ReceiveOnly"), ("SO", "SendOnly")):
        assert control(f"a/b={{x,y}},MO={mode}") == LocalControl(name, properties=(listed,))
        assert control(f"MO={mode},a/b=x") == LocalControl(name, properties=(Parameter("a/b", "x"),))


def test_local_control_read_before_does_not_hide_an_error_behind_it() -> None:
    assert control("MO=SR") == LocalControl("SendReceive")
    with pytest.raises(H248Error) as caught:
        one("A=$ {M{O{MO=SR},O{MO=SR}}}")
    assert caught.value.code == 448
    with pytest.raises(H248Error):
        one("A=$ {M{O{MO=SR}")


def test_root_in_any_case() -> None:
    assert one("AV=root{AT{}}").termination == "ROOT"


def test_terminations_named_like_descriptors() -> None:
    for name in ("L", "R", "Local", "REMOTE", "l"):
        command = one(f"MF = ;c {{\n {name} {{ M {{ R {{ v=0 }} }}, E }}")
        assert command.termination == name
        assert command.media is not None
        assert command.media.streams[0].remote == "v=0"


def test_empty_events_and_signals_mean_clear() -> None:
    for body in ("MF=T{E,SG{}}", "MF=T{SG,E}"):
        command = one(body)
        assert command.events == Events()
        assert command.signals == Signals()


def test_octets_with_backslashes_and_braces() -> None:
    for text in ("a=x\\", "a={}}{", "a=\\}", "\\}\\\\}", "", "a=1\r\n\r\nb=2", "\udcff\u00e9"):
        message = Message(
            "gw", (TransactionRequest(1, (Action(1, (Command("Add", "$", media=Media((Stream(1, local=text),))),)),)),)
        )
        for pretty in (True, False):
            assert parse(write(message, pretty=pretty)) == message


def test_ack_ranges() -> None:
    assert parse(b"!/1 gw K{1,5-7 , 9}").transactions == (TransactionAck(((1, 1), (5, 7), (9, 9))),)


def test_inequalities() -> None:
    command = one("MF=T{M{O{a/b>5,a/c<6,a/d#x}}}")
    assert command.media is not None
    control = command.media.streams[0].control
    assert control is not None
    assert [(p.relation, p.value) for p in control.properties] == [(">", "5"), ("<", "6"), ("#", "x")]


def test_service_change_address_may_be_a_port() -> None:
    command = one('SC=ROOT{SV{MT=RS,RE="901 Cold Boot",AD=5000,20261121T10304550,V=1,PF=x/1,X-ab=7}}')
    assert command.service_change == ServiceChange(
        "Restart",
        "901 Cold Boot",
        None,
        "5000",
        "x/1",
        1,
        timestamp="20261121T10304550",
        extensions=(Parameter("X-ab", "7"),),
    )
    message = Message("gw", (TransactionRequest(1, (Action(1, (command,)),)),))
    assert parse(write(message)) == message


def test_reply_with_commands_then_error() -> None:
    message = parse(b'!/1 gw P=5{IA,C=1{MF=T1,MF=T2{ER=430{"no"}},ER=422{}}}')
    reply = message.transactions[0]
    assert isinstance(reply, TransactionReply)
    assert reply.immediate_ack
    assert reply.actions[0].error == ErrorDescriptor(422)
    assert reply.actions[0].commands[1].error == ErrorDescriptor(430, "no")
    assert parse(write(message)) == message


def test_string_values_are_quoted_even_if_safe() -> None:
    text = write(MESSAGES["Originating: Add request (steps 2 and 5)"]).decode()
    assert 'ipdc/realm="core"' in text
    assert "tcpbcc/mode=proxy" in text
    assert re.search(r'Cause="no certificate"', write(MESSAGES["Notify: TLS session failed"]).decode())


def test_nothing_above_the_limit_is_read() -> None:
    data = write(MESSAGES["Pending"])
    assert parse(data, len(data)) == MESSAGES["Pending"]
    with pytest.raises(LimitExceeded):
        parse(data, len(data) - 1)


def _request(command: Command) -> Message:
    return Message("gw", (TransactionRequest(1, (Action(1, (command,)),)),))


@pytest.mark.parametrize(
    "message",
    [
        Message("gw"),
        Message("g w", error=ErrorDescriptor(400)),
        Message("gw", error=ErrorDescriptor(400, 'a "quote"')),
        Message("gw", error=ErrorDescriptor(400, "line\nend")),
        Message("gw", error=ErrorDescriptor(-1)),
        Message("gw", (TransactionRequest(1, ()),)),
        Message("gw", (TransactionRequest(2**32, (Action(1, (Command("Subtract", "*"),)),)),)),
        Message("gw", (TransactionRequest(1, (Action(1),)),)),
        Message("gw", (TransactionReply(1),)),
        Message("gw", (TransactionReply(1, (Action(1, error=ErrorDescriptor(1)),), ErrorDescriptor(2)),)),
        Message("gw", (TransactionAck(),)),
        Message("gw", (TransactionAck(((1, 1),)),), ErrorDescriptor(400)),
        _request(Command("Add", "T 1")),
        _request(Command("Add", "")),
        _request(Command("Add", "$", media=Media())),
        _request(Command("Add", "$", media=Media((Stream(1),)))),
        _request(Command("Add", "$", media=Media((Stream(70000, local="v=0"),)))),
        _request(Command("Add", "$", media=Media((Stream(1, local="v=0\0"),)))),
        _request(Command("Add", "$", media=Media((Stream(1, LocalControl()),)))),
        _request(Command("Add", "$", media=Media((Stream(1, LocalControl(properties=(Parameter("a/b", None),))),)))),
        _request(Command("Add", "$", media=Media((Stream(1, LocalControl(properties=(Parameter("a/b", ()),))),)))),
        _request(Command("Add", "$", media=Media((Stream(1, LocalControl(properties=(Parameter("a/b", "\n"),))),)))),
        _request(Command("Add", "$", events=Events(1))),
        _request(Command("Subtract", "*", statistics=())),
        _request(Command("ServiceChange", "ROOT", service_change=ServiceChange())),
        _request(Command("ServiceChange", "ROOT", service_change=ServiceChange("Restart", '"'))),
        _request(Command("ServiceChange", "ROOT", service_change=ServiceChange("Restart", "1", address="{}"))),
        Message("gw", (TransactionRequest(1, (Action(1, error=ErrorDescriptor(400)),)),)),
        Message("gw", (TransactionRequest(1, (Action(1, audit_context=True),)),)),
    ],
)
def test_unwritable_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError) as caught:
        write(message)
    assert caught.value.reason == "h248.unwritable"
    assert not isinstance(caught.value, H248Error)
