"""Broken SIP, SDP and TLS at the sockets of the real daemons: each has its answer, and service goes on."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from tests.system.edge import DEADLINE, FINGERPRINT, HOST, Edge, Peer, ack, fresh, sdp, sip

from imswire.sdp.model import SessionDescription
from imswire.sip.message import Request, Response

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("bad-input-sip")]

CERTAIN = 100_000
"""Octets of a header line that no message may have."""


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
    assert daemons.alg.alive()
    assert daemons.agw is not None
    assert daemons.agw.alive()
    assert "unexpected exception" not in daemons.alg.log.read_text()


@pytest.fixture
def ue(edge: Edge) -> Iterator[Peer]:
    with edge.ue() as peer:
        yield peer


# --- SIP ---


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"OPTIONS sip:bob@test.example", 400),
        (b"OPTIONS  sip:bob@test.example SIP/2.0", 400),
        (b"OPTIONS not a uri SIP/2.0", 400),
        (b"OPTIONS sip:bob@test.example HTTP/1.1", 400),
        (b"OPTIONS sip:bob@test.example SIP/7.0", 505),
    ],
)
def test_broken_start_line(edge: Edge, ue: Peer, start: bytes, status: int) -> None:
    call_id = fresh("start")
    ue.send(sip("OPTIONS", ue, call_id).replace(b"OPTIONS sip:bob@test.example SIP/2.0", start))
    assert ue.final(call_id).status == status


def test_bytes_that_are_no_sip_have_no_answer(edge: Edge, ue: Peer) -> None:
    for rubbish in (
        b"\x16\x03\x01" * 200,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"\0" * 60_000,
        b"SIP/2.0 200 OK\r\n\r\n",
    ):
        ue.send(rubbish)
    call_id = fresh("after")
    ue.send(sip("OPTIONS", ue, call_id))
    edge.answer(edge.core.request("OPTIONS", call_id), 200)
    # Nothing came before the answer to the one good request.
    assert ue.receive().call_id == call_id


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
def test_missing_mandatory_header(edge: Edge, name: str, transport: str) -> None:
    with edge.ue(transport) as ue:
        call_id = fresh("missing")
        ue.send(sip("OPTIONS", ue, call_id, drop=name))
        answer = ue.sock.recv(65_536).decode()
        assert answer.startswith("SIP/2.0 400 ")
        assert f"branch=z9hG4bK{call_id}-OPTIONS" in answer, "the answer is for that request"
        assert f"\r\n{name}:" not in answer


def test_missing_via_has_no_answer(edge: Edge, ue: Peer) -> None:
    ue.send(sip("OPTIONS", ue, fresh("missing"), drop="Via"))
    whole = fresh("whole")
    ue.send(sip("OPTIONS", ue, whole))
    request = edge.core.receive()
    assert request.call_id == whole, "the broken one went nowhere"
    assert isinstance(request, Request)
    edge.answer(request, 200)
    assert ue.receive().call_id == whole


def test_missing_max_forwards_is_added(edge: Edge, ue: Peer) -> None:
    call_id = fresh("hops")
    ue.send(sip("OPTIONS", ue, call_id, drop="Max-Forwards"))
    request = edge.core.request("OPTIONS", call_id)
    assert request.max_forwards == 70
    edge.answer(request, 200)
    assert ue.final(call_id).status == 200


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_two_content_lengths(edge: Edge, transport: str) -> None:
    call_id = fresh("lengths")
    with edge.ue(transport) as ue:
        ue.send(sip("OPTIONS", ue, call_id, b"", "Content-Length: 5"))
        assert ue.final(call_id).status == 400
        if transport == "tcp":  # where the next message begins is not known
            assert ue.ended()


def test_body_shorter_than_its_length(edge: Edge, ue: Peer) -> None:
    call_id = fresh("short")
    ue.send(sip("INVITE", ue, call_id, sdp())[:-1])
    refused = ue.final(call_id)
    assert refused.status == 400
    ue.send(ack(ue, refused, call_id))


def test_header_of_100_kilobytes_on_a_stream(edge: Edge) -> None:
    call_id = fresh("large")
    with edge.ue("tcp") as ue:
        with contextlib.suppress(ConnectionError):
            ue.send(sip("OPTIONS", ue, call_id, b"", "Subject: " + "x" * CERTAIN))
        assert ue.final(call_id).status == 513
        assert ue.ended()


def test_header_as_large_as_a_datagram_can_be(edge: Edge, ue: Peer) -> None:
    call_id = fresh("large")
    ue.send(sip("OPTIONS", ue, call_id, b"", "Subject: " + "x" * 65_000))
    assert ue.final(call_id).status == 513


# --- SDP in an offer ---


def refused_offer(ue: Peer, body: bytes) -> Response:
    call_id = fresh("offer")
    ue.send(sip("INVITE", ue, call_id, body))
    refused = ue.final(call_id)
    ue.send(ack(ue, refused, call_id))
    return refused


@pytest.mark.parametrize(
    "body",
    [
        b"this is no session description",
        b"v=0\r\nm=message\r\n",
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=message 70000 TCP/TLS/MSRP *\r\n",
        sdp().replace(b"t=0 0", b"t"),
        sdp().replace(b"c=IN IP4 127.0.0.1", b"c=IN IP4"),
        b"\xff\xfe" * 50,
    ],
    ids=["text", "m-line", "port", "line", "connection", "binary"],
)
def test_broken_offer(edge: Edge, ue: Peer, body: bytes) -> None:
    assert refused_offer(ue, body).status == 488


@pytest.mark.parametrize(
    ("fingerprint", "reason"),
    [
        ("SHA-256 not:hex", "the certificate fingerprint cannot be read"),
        ("SHA-256 AB:CD", "the certificate fingerprint cannot be read"),
        ("SHA-256", "the certificate fingerprint cannot be read"),
        ("WHIRLPOOL " + ":".join(["AB"] * 64), "no fingerprint with a supported hash"),
        ("SHA-1 " + ":".join(["AB"] * 20), "no fingerprint with a supported hash"),
    ],
)
def test_fingerprint_that_cannot_be_used(edge: Edge, ue: Peer, fingerprint: str, reason: str) -> None:
    refused = refused_offer(ue, sdp(fingerprint=fingerprint))
    assert refused.status == 488
    warning = refused.headers.get("warning") or ""
    assert warning.startswith("399 ")
    assert "media line 1 (message 9 TCP/TLS/MSRP)" in warning
    assert reason in warning


def test_requested_protection_without_a_fingerprint(edge: Edge, ue: Peer) -> None:
    refused = refused_offer(ue, sdp(fingerprint=None, more="a=3ge2ae:requested"))
    assert refused.status == 488
    assert "no certificate fingerprint" in (refused.headers.get("warning") or "")


def test_unknown_hash_beside_a_known_one(edge: Edge, ue: Peer) -> None:
    call_id = fresh("hashes")
    ue.send(sip("INVITE", ue, call_id, sdp(more="a=fingerprint:WHIRLPOOL AB:CD")))
    edge.answer(edge.core.request("INVITE", call_id), 486)
    ue.send(ack(ue, ue.final(call_id), call_id))


def test_line_with_port_0(edge: Edge, ue: Peer) -> None:
    """A line that is not wanted is passed as it is and takes nothing from the gateway, whatever else stands in it."""
    call_id = fresh("port0")
    body = sdp(port=0, fingerprint="SHA-256 not:hex")
    ue.send(sip("INVITE", ue, call_id, body))
    invite = edge.core.request("INVITE", call_id)
    assert SessionDescription.parse(invite.body).media[0].rejected
    edge.answer(invite, 200, sdp(proto="TCP/MSRP", port=0))
    answered = ue.final(call_id)
    assert answered.status == 200
    ue.send(ack(ue, answered, call_id))
    assert edge.core.request("ACK", call_id)


# --- SDP in an answer ---


@pytest.mark.parametrize(
    "body",
    [
        b"this is no session description",
        sdp(proto="TCP/MSRP", setup="passive", port=7000).replace(b"m=message", b"m=message 1\r\nm=message"),
        sdp(proto="TCP/TLS/MSRP", setup="passive", port=7000),
        sdp(proto="TCP/MSRP", setup="active", port=7000),
        sdp(proto="TCP/MSRP", setup="passive", port=7000) + b"m=audio 9000 RTP/AVP 0\r\n",
    ],
    ids=["text", "m-line", "transport", "setup", "one-more-line"],
)
def test_broken_answer_ends_the_call_on_both_sides(edge: Edge, ue: Peer, body: bytes) -> None:
    call_id = fresh("answer")
    ue.send(sip("INVITE", ue, call_id, sdp()))
    edge.answer(edge.core.request("INVITE", call_id), 200, body)
    refused = ue.final(call_id)
    assert 488 <= refused.status <= 502
    assert refused.headers.get("warning")
    ue.send(ack(ue, refused, call_id))
    # The called side had accepted: its dialog is acknowledged and ended.
    assert edge.core.request("ACK", call_id)
    bye = edge.core.request("BYE", call_id)
    assert f"cause={refused.status}" in (bye.headers.get("reason") or "")
    edge.answer(bye, 200)


# --- TLS ---


def test_garbage_on_the_sip_tls_port(edge: Edge) -> None:
    address = edge.address("access", "tls")
    for garbage in (
        b"OPTIONS sip:bob@test.example SIP/2.0\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\0" * 2000,
        b"\0" * 100,
    ):
        with socket.create_connection(address, DEADLINE) as tcp:
            with contextlib.suppress(ConnectionError):
                tcp.sendall(garbage)
            assert tls_end(tcp) in (b"", b"\x15"), "an alert or nothing"
    context = ssl.create_default_context(cafile=str(edge.folder / "pcscf.pem"))
    context.check_hostname = False
    with (
        socket.create_connection(address, DEADLINE) as tcp,
        context.wrap_socket(tcp) as tls,
    ):
        call_id = fresh("tls")
        tls.sendall(sip("OPTIONS", Peer(tls), call_id).replace(b"2.0/TCP", b"2.0/TLS"))
        edge.answer(edge.core.request("OPTIONS", call_id), 200)
        assert tls.recv(65_536).startswith(b"SIP/2.0 200 OK")


def tls_end(tcp: socket.socket) -> bytes:
    """The first octet of what the server said before it closed."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while data := tcp.recv(65_536):
            said += data
    return said[:1]


@pytest.mark.parametrize(
    "garbage",
    [b"MSRP abcd SEND\r\nTo-Path: msrp://x\r\n-------abcd$\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 2000, b"\0" * 64],
    ids=["plain-msrp", "record-too-long", "zeros"],
)
def test_garbage_on_the_media_port_ends_the_call(edge: Edge, ue: Peer, garbage: bytes) -> None:
    def talk(agw: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            agw.sendall(garbage)
        assert tls_end(agw) in (b"", b"\x15")

    call_that_breaks(edge, ue, talk)


def test_client_without_a_certificate_ends_the_call(edge: Edge, ue: Peer) -> None:
    def talk(agw: socket.socket) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with contextlib.suppress(ssl.SSLError, ConnectionError), context.wrap_socket(agw) as tls:
            tls.sendall(b"MSRP abcd SEND\r\n")
            assert tls.recv(1) == b""

    call_that_breaks(edge, ue, talk)


def call_that_breaks(edge: Edge, ue: Peer, talk: Callable[[socket.socket], None]) -> None:
    """A call whose UE misbehaves on the media connection: BYE to both ends, not one octet to the core."""
    with socket.create_server((HOST, 0)) as media:
        media.settimeout(DEADLINE)
        call_id = fresh("media")
        ue.send(sip("INVITE", ue, call_id, sdp()))
        edge.answer(
            edge.core.request("INVITE", call_id),
            200,
            sdp(proto="TCP/MSRP", setup="passive", port=media.getsockname()[1], fingerprint=None),
        )
        answered = ue.final(call_id)
        assert answered.status == 200
        ue.send(ack(ue, answered, call_id))
        edge.core.request("ACK", call_id)
        line = SessionDescription.parse(answered.body).media[0]
        assert line.get("fingerprint") != FINGERPRINT
        with socket.create_connection((HOST, line.port), DEADLINE) as agw:
            talk(agw)
        for end in (ue, edge.core):
            bye = end.request("BYE", call_id)
            assert bye.headers.get("reason")
            if end is edge.core:
                edge.answer(bye, 200)
            else:
                ue.send(bye.reply(200).to_bytes())
        # The context is gone and with it its connection to the core, if there was one: nothing was said on it.
        media.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                core, _ = media.accept()
                core.settimeout(DEADLINE)
                with core:
                    assert core.recv(65_536) == b""
