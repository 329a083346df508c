"""Tokens in Path and Record-Route: opaque, authenticated, of one kind only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsalg.core.tokens import CALL_ACCESS, CALL_CORE, KINDS, PATH, TokenMint, unpack_flow
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.uri import SipUri

MINT = TokenMint(bytes(range(32)))
FLOWS = [
    Flow("udp", "access", ("127.0.0.1", 5060), ("127.0.0.1", 5070)),
    Flow("tls", "wifi-access", ("2001:db8::1", 5061), ("2001:db8::2", 40000), 77),
]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_comes_back(flow: Flow) -> None:
    token = MINT.seal_flow(PATH, flow)
    assert str(SipUri.parse(f"sip:{token}@host")) == f"sip:{token}@host", "it fits a user part without escapes"
    kind, payload = MINT.open(token)
    assert kind == PATH
    assert unpack_flow(payload) == flow


@given(st.binary(max_size=60))
def test_any_payload_comes_back(payload: bytes) -> None:
    assert MINT.open(MINT.seal(CALL_ACCESS, payload)) == (CALL_ACCESS, payload)


def test_every_changed_character_is_noticed() -> None:
    token = MINT.seal(CALL_CORE, b"key-of-a-call")
    for index in range(len(token)):
        for other in "aA0-":
            if token[index] == other:
                continue
            changed = token[:index] + other + token[index + 1 :]
            try:
                kind, payload = MINT.open(changed)
            except ProtocolError:
                continue
            # The last character of base64 may hold bits that no octet uses: the same token in another spelling.
            assert (kind, payload) == (CALL_CORE, b"key-of-a-call")
            assert index == len(token) - 1


def test_kinds_and_keys_do_not_mix() -> None:
    token = MINT.seal(CALL_CORE, b"x")
    for kind in KINDS - {CALL_CORE}:
        with pytest.raises(ProtocolError, match=r"token\.forged"):
            MINT.open(kind + token[1:])
    with pytest.raises(ProtocolError, match=r"token\.forged"):
        TokenMint(bytes(32)).open(token)
    with pytest.raises(ProtocolError, match=r"token\.key"):
        TokenMint(b"short")


@given(st.text(max_size=600))
def test_rubbish_is_refused_and_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(ProtocolError):
        MINT.open(text)


@pytest.mark.parametrize("payload", [b"", b"udp|access", b"udp|access|h|x|h|1|0", b"\xff"])
def test_a_payload_that_is_no_flow(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"token\.payload"):
        unpack_flow(payload)
