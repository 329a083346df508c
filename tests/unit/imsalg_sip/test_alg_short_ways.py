"""Short ways for the usual spelling, each held against the general way beside it."""

import base64
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.playbook.alg_harness import AUDIO, SCSCF, UE, Book, answer, register, request, wire

from imsalg.core.dialog_requests import known_call
from imsalg.core.media_events import Side
from imsalg.core.request_checks import forwardable
from imsalg.core.sip_call import Answer, Call, tag_of
from imsalg.core.tokens import CALL_ACCESS, MAC_OCTETS, TOKEN_LEAST, TokenMint
from imswire.base import ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.message import Request
from imswire.sip.values import NameAddr

BEYOND = "<sip:10.9.0.40:5080;lr>"


def established() -> tuple[Book, Call, list[str]]:
    """A call of a registered UE, and the route set that the UE has for it."""
    book = Book()
    register(book)
    book.receive(UE, request("INVITE"), AUDIO)
    sent = book.request("INVITE")
    ok = answer(sent, 200, "Contact: <sip:bob@10.9.0.30:5070>", body=AUDIO)
    ok = ok.replace(b"Record-Route: ", f"Record-Route: {BEYOND}\r\nRecord-Route: ".encode(), 1)
    book.feed(wire(ok, SCSCF))
    routes = book.response(200).headers.values("record-route")[::-1]
    (call,) = book.engine.context.calls.values()
    return book, call, routes


KNOWN = [
    ("{own}, {pair}",),
    ("{own}, {pair}, {beyond}",),
    ("{own}, {pair}", "{beyond}"),
    ("{own}", "{pair}"),
    ("{own}", "{pair}", "{beyond}"),
    ("{own}, {pair}, {pair}",),
]
READ = [
    ("{own}", "{pair}, {beyond}"),
    ("{own},{pair}",),
    ("{own} , {pair}",),
    ("{own}",),
    ("{own}", "{beyond}"),
    ("{pair}, {own}",),
    ("{own}, {own}",),
    ("{own};x=y, {pair}",),
    ("{own}, {pair};x=y",),
    ("x {own}, {pair}",),
    ("{beyond}, {own}, {pair}",),
    ("{beyond}",),
    (),
]


@pytest.mark.parametrize("lines", KNOWN + READ)
@pytest.mark.parametrize("side", list(Side))
def test_a_route_pair_of_ours_is_known_to_the_letter_or_read(lines: tuple[str, ...], side: Side) -> None:
    book, call, routes = established()
    ctx = book.engine.context
    own, pair = routes[:2] if side is Side.ACCESS else routes[1::-1]
    texts = [line.format(own=own, pair=pair, beyond=BEYOND) for line in lines]
    given_ = Headers([("Via", "SIP/2.0/UDP h"), *[("route", text) for text in texts], ("To", "<sip:b@c>")])
    quick, general = given_.copy(), given_.copy()
    found = known_call(ctx, quick, side)
    if found is None:
        assert quick == given_
        assert lines in READ
        return
    assert lines in KNOWN
    token = ctx.network.pop_own(general)
    assert ctx.by_token[token or ""] == (found, side)
    other = Side.CORE if side is Side.ACCESS else Side.ACCESS
    assert ctx.network.pop_exact(general, call.tokens[other])
    assert quick == general


@pytest.mark.parametrize("lines", KNOWN + READ)
def test_a_bye_goes_the_same_way_whether_its_route_is_known_or_read(lines: tuple[str, ...]) -> None:
    sent = []
    for known in (True, False):
        book, call, (own, pair, _) = established()
        if not known:
            call.record_routes = {}
        texts = [line.format(own=own, pair=pair, beyond=BEYOND) for line in lines]
        bye = request(
            "BYE",
            *[f"Route: {text}" for text in texts],
            uri="sip:bob@10.9.0.30:5070",
            to="<sip:bob@example.net>;tag=callee",
            branch="b2",
            number=2,
        )
        book.receive(UE, bye)
        out = [(m.start_line, m.headers.get_all("route"), flow) for m, flow in book.out()]
        sent.append(out)
    assert sent[0] == sent[1]


@given(
    st.one_of(
        st.text('<>;="tag a', max_size=20),
        st.builds("{}<sip:a@b{}>{}".format, *[st.text(';=">taghx, ', max_size=12)] * 3),
        st.builds("<sip:a@b>;tag={}".format, st.text("ab;=>", max_size=9)),
    )
)
def test_the_tag_is_that_of_the_value(value: str) -> None:
    value = value.strip()
    try:
        expected = NameAddr.parse(value).tag or ""
    except ProtocolError:
        return
    assert tag_of(value) == expected


@pytest.mark.parametrize(
    ("hops", "left"),
    [("70", "69"), ("1", "0"), ("255", "254"), ("007", "6"), (None, "70"), ("0", 483), ("00", 483), ("256", None)],
)
def test_max_forwards_loses_one(hops: str | None, left: str | int | None) -> None:
    headers = Headers([("Via", "SIP/2.0/UDP h"), *([("Max-Forwards", hops)] if hops is not None else [])])
    message = Request("INFO", "sip:bob@example.net", headers)
    if isinstance(left, str):
        assert forwardable(message, Side.ACCESS).headers.get("max-forwards") == left
    elif left is not None:
        with pytest.raises(Answer) as refused:
            forwardable(message, Side.ACCESS)
        assert refused.value.status == left
    else:
        with pytest.raises(ProtocolError):
            forwardable(message, Side.ACCESS)


@given(st.binary(max_size=60), st.binary(min_size=16, max_size=64))
def test_a_token_is_letter_code_and_payload(payload: bytes, key: bytes) -> None:
    mint = TokenMint(key)
    code = blake2b(CALL_ACCESS.encode() + payload, digest_size=MAC_OCTETS, key=key).digest()
    token = mint.seal(CALL_ACCESS, payload)
    assert token == CALL_ACCESS + base64.urlsafe_b64encode(code + payload).decode().rstrip("=")
    assert mint.open(token) == (CALL_ACCESS, payload)


def test_no_token_is_shorter_than_the_shortest() -> None:
    assert len(TokenMint(bytes(16)).seal(CALL_ACCESS, b"")) == TOKEN_LEAST
