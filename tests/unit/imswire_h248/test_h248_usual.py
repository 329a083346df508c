"""What every call says over Iq is read and written without the descriptors in between: the same as the general way."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.imswire_h248.h248_corpus import MESSAGES, PROFILE

from imswire.base import ProtocolError
from imswire.h248 import body, brief, grammar, quick, usual
from imswire.h248.model import Action, Command, Message, Parameter, TransactionReply, TransactionRequest
from imswire.h248.writer import _command_text, _writer, write

FLOWS = [title for title in PROFILE if title.lower().startswith(("originating", "terminating"))]
OFFER = "!/1 a\nT=1{C=${A=${M{ST=1{O{MO=SR},L{\r\nv=0\r\n},R{\r\n%s\r\n}}},E=1{a/b}}}}"


def general(message: Message) -> str:
    """The text by the writer that knows every message."""
    return _writer(False, True).message(message)


def bent(message: Message) -> list[Message]:
    """One thing after another that a call's message does not have."""
    transaction = message.transactions[0] if len(message.transactions) == 1 else None
    if not isinstance(transaction, (TransactionRequest, TransactionReply)) or not transaction.actions:
        return []
    action = transaction.actions[0]
    command = action.commands[0] if action.commands else Command("Add", "a/b")
    commands = [
        replace(command, optional=True),
        replace(command, wildcard=True),
        replace(command, packages=("nt-1",)),
        replace(command, statistics=(Parameter("nt/os", "1"),)),
        replace(command, statistics=tuple(Parameter(name, "7") for name in ("nt/os", "nt/or", "nt/dur"))),
        replace(command, media=None),
        replace(command, name="Move"),
    ]
    if command.media is not None:
        stream = command.media.streams[0]
        streams = [
            replace(stream, id=2),
            replace(stream, local="a}b"),
            replace(stream, remote="a}b"),
            replace(stream, remote="x\x01y"),
            replace(stream, local="", remote=""),
            replace(stream, local="v=0\r\nc=IN IP4 $", remote="\x01"),
        ]
        commands += [replace(command, media=replace(command.media, streams=(one,))) for one in streams]
        commands += [replace(command, media=replace(command.media, implicit_stream=True))]
    actions = [replace(action, commands=(one, *action.commands[1:])) for one in commands]
    actions += [replace(action, context=0), replace(action, priority=3), replace(action, emergency=True)]
    made = [replace(transaction, actions=(one,)) for one in actions]
    made += [replace(transaction, actions=(action, action)), replace(transaction, id=0)]
    return [replace(message, transactions=(one,)) for one in made] + [replace(message, version=2)]


@pytest.mark.parametrize("title", MESSAGES)
def test_writing_agrees_with_the_writer_that_knows_every_message(title: str) -> None:
    for message in (MESSAGES[title], MESSAGES[title], *bent(MESSAGES[title])):
        try:
            whole = general(message)
        except ProtocolError:
            with pytest.raises(ProtocolError):
                write(message)
            continue
        assert brief.text(message, _command_text) in (None, whole)
        assert write(message) == whole.encode("utf-8", "surrogateescape")


def test_flows_are_read_and_written_without_the_general_way() -> None:
    assert len(FLOWS) >= 6
    for title in FLOWS:
        data = write(PROFILE[title])
        quick.read(data)  # what comes for the first time is remembered
        assert usual.read(data.decode()) == grammar.parse(data), title
        assert brief.text(PROFILE[title], _command_text) == data.decode(), title


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('v=0 {}\\\r\n\x00;",R$\udce9'), max_size=12))
def test_what_is_remembered_is_read_as_the_grammar_reads_it(octets: str) -> None:
    quick.read((OFFER % "v=0").encode())
    assert usual.read(OFFER % "v=1") == grammar.parse((OFFER % "v=1").encode())
    data = (OFFER % octets).encode("utf-8", "surrogateescape")
    found = usual.read(OFFER % octets)
    assert found is None or found == grammar.parse(data)


def test_an_action_more_and_a_command_more() -> None:
    for title in FLOWS:
        (transaction,) = PROFILE[title].transactions
        assert isinstance(transaction, (TransactionRequest, TransactionReply))
        (action,) = transaction.actions
        twice = replace(transaction, actions=(action, replace(action, context=7)))
        three = replace(transaction, actions=(Action(action.context, (*action.commands, action.commands[0])),))
        for one in (twice, three):
            data = write(Message("[192.0.2.1]:2944", (one,)))
            quick.read(data)
            assert quick.read(data) == grammar.parse(data)


def test_what_is_remembered_is_bounded() -> None:
    for number in range(600):
        data = OFFER.replace("a/b", f"a/b{number}") % "v=0"
        assert quick.read(data.encode()) == usual.read(data)
        write(grammar.parse(data.encode()))
    assert len(usual._known) <= 256
    assert len(brief._texts) <= 256
    long = OFFER.replace("a/b", "a/" + "b" * 600) % "v=0"
    assert quick.read(long.encode()) is usual.read(long) is None


LINES = (
    "v=0", "v=1", "c=IN IP4 192.0.2.1", "c=IN IP6 2001:db8::1", "c=IN IP4 $", "c=IN  IP4 a", "c=IN IP5 a",
    "m=- 9 TCP -",
    "m=message 65535 TCP/MSRP *", "m=- 65536 TCP -", "m=- $ TCP -", "m=a 9 TCP * 0", "m=a 9 TCP", "a=setup:active",
    "a=setup:ACTIVE", "a=setup:x", f"a=fingerprint:SHA-256 {bytes(32).hex(':')}", "a=fingerprint:sha-1 00",
    "a=fingerprint:SHA-256 $", "a=fingerprint:x 01:0A ", "a=path:msrp://a:1/b;tcp", "", "a=\xa0",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(LINES[2:6]),
    st.sampled_from(LINES[7:13]),
    st.lists(st.sampled_from(LINES), max_size=3),
    st.sampled_from(["\r\n", "\r\n", "\n"]),
)
def test_a_body_that_names_an_end_is_read_the_same(place: str, media: str, more: list[str], end: str) -> None:
    text = end.join(["v=0", place, media, *more])
    try:
        found = body.read_usual(text)
    except ProtocolError as fault:
        with pytest.raises(ProtocolError, match=re.escape(str(fault))):
            body._read(text)
    else:
        assert found is None or found == body._read(text)
    if text == "v=0\r\nc=IN IP4 192.0.2.1\r\nm=- 9 TCP -":
        assert found is not None
