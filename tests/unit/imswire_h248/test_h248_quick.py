"""The short way of reading H.248 never says anything else than the grammar: what it cannot read it leaves alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.imswire_h248.h248_corpus import MESSAGES, PROFILE

from imswire.base import LimitExceeded, ProtocolError
from imswire.h248 import grammar, quick
from imswire.h248.model import Message, TransactionReply, TransactionRequest
from imswire.h248.parser import parse
from imswire.h248.writer import write

COMPACT = [write(message) for message in MESSAGES.values()]
CALLS = ("Add", "Modify", "Subtract")


def agree(data: bytes) -> bool:
    """Whether the short way reads it; then the grammar reads the same, or this fails."""
    found = quick.read(data)
    if found is None:
        return False
    assert found == grammar.parse(data)
    return True


def of_a_call(message: Message) -> bool:
    """Adds, Modifies and Subtracts that succeed, in one transaction."""
    transaction = message.transactions[0] if len(message.transactions) == 1 else None
    if not isinstance(transaction, (TransactionRequest, TransactionReply)):
        return False
    commands = [command for action in transaction.actions for command in action.commands]
    good = all(one.name in CALLS and one.error is None and not one.wildcard for one in commands)
    return good and bool(commands) and not getattr(transaction, "immediate_ack", False)


def test_messages_of_calls_go_the_short_way() -> None:
    """Otherwise the rest of this page proves nothing, and the speed is gone."""
    calls = {title: write(message) for title, message in PROFILE.items() if of_a_call(message)}
    assert len(calls) >= 15
    assert [title for title, data in calls.items() if not agree(data)] == []


@pytest.mark.parametrize("pretty", [False, True])
def test_every_message_of_the_corpus_reads_the_same(pretty: bool) -> None:
    for title, message in MESSAGES.items():
        data = write(message, pretty=pretty)
        assert parse(data) == grammar.parse(data), title
        agree(data)


PIECES = (
    "!/1 a\n", "!/2 a\n", "T=7{", "P=7{", "T=0{", "C=$", "C=3", "C=0", "C=*", "C=-", "{", "}", ",", "A=$",
    "A=ip/core/5", "MF=ip/access/6", "MF=L", "S=*", "S=ip/core/5", "A=ROOT", "S=root", "{M{ST=1{", "M{", "ST=1{",
    "ST=2{", "}}", "}}}", "O{MO=SR}", "O{MO=SR,ipdc/realm=\"core\"}", "O{MO=XX}", "O{a/b=\"}\"}", "O{a/b=1;c}",
    "O{a/b=\"x}", "O{}", "L{}", "L{\r\nv=0\r\n}", "L{v=0;{}", "R{\r\nc=IN IP4 $\r\n}", "R{\\}}", "L{\xe9}",
    "E=1{tcpbcc/BNCChange}", "E=1{a/b{c=1},d/e}", "E=*{a/b}", "E", "SG{tlsbsc/EstBNC}", "SG{}", "SG", "{AT{SA}}",
    "AT{SA}", "AT{}", "{SA{nt/os=0,nt/or=1,nt/dur=2}}", "{SA{nt/os=0}}", "ER=500{}", ";", "\n", " ", "\"", "IA,",
    "K{1}", "PN=1{}", "O-", "W-",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24))
def test_whatever_is_put_together_reads_the_same(pieces: list[str]) -> None:
    agree(("!/1 a\n" + "".join(pieces)).encode())


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(COMPACT), st.randoms(use_true_random=False), st.integers(1, 3))
def test_whatever_is_bent_reads_the_same(data: bytes, chance: random.Random, times: int) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(times):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:at] + text[at + 1 :]
            case 1:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 2:
                text = text[:at] + chance.choice('{},=;"\\ \nALROSTMCE019$*\x00') + text[at + 1 :]
            case _:
                end = at + chance.randrange(12)
                text = text[:end] + text[at:end] + text[end:]
    agree(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("command", ["A=ip/core/5", "MF=ip/core/5"])
@pytest.mark.parametrize("parts", ["O", "L", "R", "OL", "OR", "LR", "OLR", "RL", "LO", "OO", ""])
@pytest.mark.parametrize("rest", ["", ",E=1{a/b}", ",SG{c/d}", ",E=1{a/b},SG{c/d}", ",SG{c/d},E=1{a/b}", ","])
def test_every_order_of_parts(command: str, parts: str, rest: str) -> None:
    texts = {"O": "O{MO=SR}", "L": "L{\r\nv=0\r\n}", "R": "R{\r\nv=1\r\n}"}
    media = f"M{{ST=1{{{','.join(texts[part] for part in parts)}}}}}"
    data = f"!/1 a\nT=7{{C=3{{{command}{{{media}{rest}}}}}}}".encode()
    taken = agree(data)
    in_order = parts in ("O", "L", "R", "OL", "OR", "LR", "OLR")
    assert taken == (in_order and rest != "," and not rest.startswith(",SG{c/d},"))


def test_bounds_and_errors_are_those_of_the_grammar() -> None:
    data = b"!/1 a\nT=7{C=3{S=x}}"
    with pytest.raises(LimitExceeded):
        parse(data, 10)
    with pytest.raises(ProtocolError, match="expected"):
        parse(data[:-1])
    assert isinstance(parse(data), Message)


def test_what_is_remembered_is_bounded() -> None:
    for number in range(2_000):
        assert agree(f'!/1 a\nT=7{{C=3{{A=x{{M{{ST=1{{O{{a/b="{number}"}}}}}}}}}}}}'.encode())
    assert len(quick._parts) <= 256
    agree(f'!/1 a\nT=7{{C=3{{A=x{{M{{ST=1{{O{{a/b="{"y" * 5000}"}}}}}}}}}}}}'.encode())
    assert all(len(text) <= 512 for text in quick._parts)
