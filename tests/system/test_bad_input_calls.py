"""Calls that go wrong after they began: re-offers, answers of a called UE, garbage before the answer."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from tests.system.edge import DEADLINE, FINGERPRINT, HOST, Edge, Peer, ack, fresh, sdp, sip

from imswire.sdp.model import SessionDescription
from imswire.sip.message import Request, Response

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("bad-input-calls")]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture
def edge(daemons: Edge) -> Iterator[Edge]:
    """The daemons; after each test they still take requests and secure media."""
    yield daemons
    daemons.serves()
    daemons.serves_media()
    assert "unexpected exception" not in daemons.alg.log.read_text()


@pytest.fixture
def ue(edge: Edge) -> Iterator[Peer]:
    with edge.ue() as peer:
        yield peer


PEER_ANSWER = sdp(proto="TCP/MSRP", setup="passive", port=7000, fingerprint=None)


def established(edge: Edge, ue: Peer, call_id: str) -> Response:
    """A secured call from the UE; its 200."""
    ue.send(sip("INVITE", ue, call_id, sdp()))
    edge.answer(edge.core.request("INVITE", call_id), 200, PEER_ANSWER)
    answered = ue.final(call_id)
    assert answered.status == 200
    ue.send(ack(ue, answered, call_id))
    edge.core.request("ACK", call_id)
    return answered


def again(ue: Peer, answered: Response, call_id: str, body: bytes) -> bytes:
    """A re-INVITE along the route set."""
    text = sip("INVITE", ue, call_id, body).decode()
    routes = "".join(f"Route: {value}\r\n" for value in reversed(answered.headers.values("record-route")))
    text = text.replace("INVITE sip:bob@test.example", f"INVITE {answered.contacts[0].uri}", 1)
    text = text.replace("To: <sip:bob@test.example>", f"{routes}To: {answered.headers.get('to')}")
    return text.replace("CSeq: 1 ", "CSeq: 2 ").replace("-INVITE;rport", "-again;rport").encode()


@pytest.mark.parametrize(
    "body",
    [
        b"this is no session description",
        sdp(proto="TCP/MSRP"),
        sdp(fingerprint="SHA-256 not:hex"),
        sdp(fingerprint=None),
        sdp(proto="RTP/AVP"),
    ],
    ids=["text", "plain", "fingerprint", "no-fingerprint", "other-transport"],
)
def test_broken_reoffer_is_refused_and_the_call_goes_on(edge: Edge, ue: Peer, body: bytes) -> None:
    call_id = fresh("reoffer")
    answered = established(edge, ue, call_id)
    ue.send(again(ue, answered, call_id, body))
    refused = ue.final(call_id)
    assert refused.cseq.number == 2
    assert refused.status == 488
    assert refused.headers.get("warning")
    # What was agreed before holds: the same offer again is taken, and the gateway's port is still that of the call.
    good = again(ue, answered, call_id, sdp()).replace(b"CSeq: 2 ", b"CSeq: 3 ").replace(b"-again;", b"-good;")
    ue.send(good)
    edge.answer(edge.core.request("INVITE", call_id), 200, PEER_ANSWER)
    second = ue.final(call_id)
    while second.cseq.number < 3:
        second = ue.final(call_id)
    assert second.status == 200
    ports = [SessionDescription.parse(one.body).media[0].port for one in (answered, second)]
    assert ports[0] == ports[1]


@pytest.mark.parametrize(
    "body",
    [b"this is no session description", sdp(), sdp(proto="TCP/MSRP", setup="active", port=7000, fingerprint=None)],
    ids=["text", "tls", "setup"],
)
def test_broken_answer_to_a_reoffer_ends_the_call(edge: Edge, ue: Peer, body: bytes) -> None:
    call_id = fresh("reanswer")
    answered = established(edge, ue, call_id)
    ue.send(again(ue, answered, call_id, sdp()))
    edge.answer(edge.core.request("INVITE", call_id), 200, body)
    refused = ue.final(call_id)
    assert refused.status >= 488
    bye = edge.core.request("BYE", call_id)
    edge.answer(bye, 200)
    assert ue.request("BYE", call_id).headers.get("reason")


def test_garbage_on_the_media_connection_before_the_answer(edge: Edge, ue: Peer) -> None:
    """Early octets of the UE wait for the answer; then they are found to be no TLS, and the call ends on both sides."""
    call_id = fresh("early")
    with socket.create_server((HOST, 0)) as media:
        media.settimeout(DEADLINE)
        ue.send(sip("INVITE", ue, call_id, sdp(setup="actpass", port=media.getsockname()[1])))
        invite = edge.core.request("INVITE", call_id)
        port = SessionDescription.parse(invite.body).media[0].port
        # The core connects first, so the gateway dials the UE (TR 29.828 5.2.1.2.2 steps 10 and 11).
        with socket.create_connection((HOST, port), DEADLINE) as core:
            agw, _ = media.accept()
            with agw:
                agw.sendall(b"\0" * 1_000)
                edge.answer(invite, 200, sdp(proto="TCP/MSRP", setup="active", port=9, fingerprint=None))
                answered = ue.final(call_id)
                assert answered.status == 200
                ue.send(ack(ue, answered, call_id))
                for end in (ue, edge.core):
                    assert end.request("BYE", call_id).headers.get("reason")
            with contextlib.suppress(ConnectionResetError):
                assert core.recv(65_536) == b""


# --- the UE is called ---


@pytest.fixture
def registered(edge: Edge, ue: Peer) -> tuple[Peer, str]:
    """A UE with a binding, and the Path that the core reaches it by."""
    call_id = fresh("register")
    more = ("Expires: 60", "Supported: path")
    ue.send(sip("REGISTER", ue, call_id, b"", *more).replace(b"To: <sip:bob@", b"To: <sip:alice@"))
    request = edge.core.request("REGISTER", call_id)
    path = request.headers.get("path") or ""
    contact = request.headers.get("contact") or ""
    edge.answer(request, 200, Contact=f"{contact};expires=60", Path=path)
    assert ue.final(call_id).status == 200
    return ue, path


def invite_to(edge: Edge, ue: Peer, path: str, call_id: str) -> bytes:
    lines = [
        f"INVITE sip:alice@{HOST}:{ue.port} SIP/2.0",
        f"Via: SIP/2.0/UDP {HOST}:{edge.core.port};branch=z9hG4bK{call_id}",
        "Max-Forwards: 70",
        f"Route: {path}",
        "From: <sip:bob@test.example>;tag=caller",
        "To: <sip:alice@test.example>",
        f"Call-ID: {call_id}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:bob@{HOST}:{edge.core.port}>",
        "Content-Type: application/sdp",
    ]
    body = sdp(proto="TCP/MSRP", setup="actpass", port=7000, fingerprint=None)
    return "\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "body",
    [
        b"this is no session description",
        sdp(setup="active", fingerprint=None),
        sdp(setup="active", fingerprint="SHA-256 not:hex"),
        sdp(setup="active", fingerprint="WHIRLPOOL AB:CD"),
        sdp(proto="TCP/MSRP", setup="active"),
        sdp(setup="actpass"),
    ],
    ids=["text", "no-fingerprint", "fingerprint", "hash", "plain", "setup"],
)
def test_broken_answer_of_a_called_ue_ends_the_call(edge: Edge, registered: tuple[Peer, str], body: bytes) -> None:
    ue, path = registered
    call_id = fresh("called")
    edge.core.send(invite_to(edge, ue, path, call_id), edge.address("core"))
    invite = ue.request("INVITE", call_id)
    assert isinstance(invite, Request)
    assert b"a=3ge2ae:applied" in invite.body
    assert FINGERPRINT.encode() not in invite.body
    answer = invite.reply(200, to_tag="ue")
    answer.headers.set("Contact", f"<sip:alice@{HOST}:{ue.port}>")
    answer.headers.set("Content-Type", "application/sdp")
    answer.body = body
    ue.send(answer.to_bytes())
    refused = edge.core.final(call_id)
    assert refused.status >= 488
    assert refused.headers.get("warning")
    ue.request("ACK", call_id)
    bye = ue.request("BYE", call_id)
    ue.send(bye.reply(200).to_bytes())
