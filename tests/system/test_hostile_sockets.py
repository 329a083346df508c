"""Hostile peers at the SIP sockets of a real P-CSCF: each is got rid of as the settings say, the others are served."""

import contextlib
import socket
import ssl
import urllib.request
from collections.abc import Iterator

import pytest
from tests.system.edge import DEADLINE, HOST, Edge, Peer, fresh, sip

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("hostile-sockets")]

PER_SOURCE = 12
BURST = 60
OTHER = "127.0.0.2"  # another source address on the same machine


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {
        "streams": {"message_timeout": 0.5, "handshake_timeout": 0.5, "connections_per_source": PER_SOURCE},
        "overload": {"source_rate": 0.5, "source_burst": BURST},
        "metrics": {"listen": f"{HOST}:0"},
    }
    with Edge(tmp_path_factory.mktemp("hostile"), alg=settings, with_agw=False) as edge:
        yield edge


@pytest.fixture
def edge(daemons: Edge) -> Iterator[Edge]:
    """The daemon; after each test it still serves somebody else, and has met no exception of its own."""
    yield daemons
    served(daemons)
    assert daemons.alg.alive()
    assert "unexpected exception" not in daemons.alg.log.read_text()


def served(edge: Edge, transport: str = "tcp") -> None:
    """A well-behaved UE at another address gets its answer."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((OTHER, 0))
        sock.settimeout(DEADLINE)
        sock.connect(edge.address(transport=transport))
        ue = Peer(sock)
        call_id = fresh("served")
        sock.sendall(sip("OPTIONS", ue, call_id))
        edge.answer(edge.core.request("OPTIONS", call_id), 200)
        assert Peer(sock, edge.address(transport=transport)).final(call_id).status == 200


def counted(edge: Edge, name: str) -> float:
    """A metric of the daemon."""
    where = edge.alg.ready["metrics"]
    with urllib.request.urlopen(f"http://{where['host']}:{where['port']}/metrics", timeout=DEADLINE) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def said(sock: socket.socket) -> bytes:
    """Everything until the other side ends the connection; the deadline of the socket fails a test."""
    out = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65_536):
            out += data
    return out


# --- connections that say too little ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "half",
    [
        b"OPTIONS sip:bob@test.example SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKslow\r\n",
        b"INVITE sip:bob@test.example SIP/2.0\r\nContent-Length: 5000\r\n\r\nv=0\r\n",
        b"O",
    ],
    ids=["half a header section", "half a body", "one octet"],
)
def test_half_a_message_over_tcp_has_a_deadline(edge: Edge, half: bytes) -> None:
    with socket.create_connection(edge.address(transport="tcp"), DEADLINE) as slow:
        slow.sendall(half)
        served(edge)  # while the slow one waits
        assert said(slow) == b""


def test_half_a_message_over_tls_has_a_deadline(edge: Edge) -> None:
    context = ssl.create_default_context(cafile=str(edge.folder / "pcscf.pem"))
    context.check_hostname = False
    with (
        socket.create_connection(edge.address(transport="tls"), DEADLINE) as tcp,
        context.wrap_socket(tcp) as slow,
    ):
        slow.sendall(b"REGISTER sip:test.example SIP/2.0\r\n")
        with contextlib.suppress(ssl.SSLError):
            assert slow.recv(100) == b""


def test_a_handshake_that_does_not_go_on_has_a_deadline(edge: Edge) -> None:
    for begin in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
        with socket.create_connection(edge.address(transport="tls"), DEADLINE) as slow:
            slow.sendall(begin)
            served(edge)
            assert said(slow)[:1] in (b"", b"\x15"), "an alert or nothing"


# --- connections that are too many ------------------------------------------------------------------------------------


def test_a_flood_of_connections_of_one_source_leaves_room_for_others(edge: Edge) -> None:
    refused = counted(edge, 'imsalg_sip_connection_attempts_total{outcome="refused"}')
    with contextlib.ExitStack() as stack:
        kept = [sock for _ in range(PER_SOURCE * 3) if (sock := pinged(edge, stack)) is not None]
        assert len(kept) == PER_SOURCE
        served(edge)  # while all those stand
        assert counted(edge, 'imsalg_sip_connection_attempts_total{outcome="refused"}') == refused + 2 * PER_SOURCE
    for _ in range(1000):  # those that have gone count no more, as soon as the node has seen them go
        with contextlib.ExitStack() as stack:
            if pinged(edge, stack) is not None:
                return
    pytest.fail("the source stays shut out")


def pinged(edge: Edge, stack: contextlib.ExitStack) -> socket.socket | None:
    """A connection whose ping was answered; None where it was reset."""
    try:
        sock = stack.enter_context(socket.create_connection(edge.address(transport="tcp"), DEADLINE))
        sock.sendall(b"\r\n\r\n")
        return sock if sock.recv(2) == b"\r\n" else None
    except ConnectionError:
        return None


# --- the wrong protocol -----------------------------------------------------------------------------------------------


def test_a_tls_client_at_the_plain_port_is_closed(edge: Edge) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(edge.address(transport="tcp"), DEADLINE) as tcp,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(tcp)


def test_plain_sip_at_the_tls_port_is_closed(edge: Edge) -> None:
    with socket.create_connection(edge.address(transport="tls"), DEADLINE) as tcp:
        with contextlib.suppress(ConnectionError):
            tcp.sendall(sip("OPTIONS", Peer(tcp), fresh("plain")))
        assert b"SIP/2.0" not in said(tcp)


@pytest.mark.parametrize(
    "octets",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 4000, b"\x80\x80\x80", b"\r", b"SIP/2.0 200 OK\r\n\r\n"],
    ids=["HTTP", "zeros", "high octets", "CR alone", "a response without length"],
)
def test_what_is_no_sip_closes_its_connection(edge: Edge, octets: bytes) -> None:
    with socket.create_connection(edge.address(transport="tcp"), DEADLINE) as tcp:
        tcp.sendall(octets)
        assert said(tcp)[:12] in (b"", b"SIP/2.0 400 ")


# --- too much of one thing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKx", "Route: <sip:a;lr>", "X: y"])
def test_ten_thousand_header_lines_are_513_and_close_the_connection(edge: Edge, name: str) -> None:
    with edge.ue("tcp") as ue:
        data = sip("OPTIONS", ue, fresh("bomb"), b"", *([name] * 10_000))
        with contextlib.suppress(ConnectionError):
            ue.send(data)
        answer = said(ue.sock)
        assert answer[:12] in (b"SIP/2.0 513 ", b""), "the reset after more octets may overtake the answer"


def test_a_message_that_says_it_is_endless_is_513(edge: Edge) -> None:
    with edge.ue("tcp") as ue:
        ue.send(sip("OPTIONS", ue, fresh("endless")).replace(b"Length: 0", b"Length: 999999999"))
        assert said(ue.sock).startswith(b"SIP/2.0 513 ")


def test_a_flood_of_line_ends_closes_its_connection_and_starves_nobody(edge: Edge) -> None:
    with contextlib.ExitStack() as stack:
        flooder = stack.enter_context(socket.create_connection(edge.address(transport="tcp"), DEADLINE))
        calm = stack.enter_context(socket.create_connection(edge.address(transport="tcp"), DEADLINE))
        with contextlib.suppress(ConnectionError):
            for _ in range(16):
                flooder.sendall(b"\r\n" * 500_000)
        served(edge)
        assert len(said(flooder)) <= 2 * 200, "a pong for a read at most, and not beyond the share of the source"
        calm.sendall(b"\r\n\r\n" + sip("OPTIONS", Peer(calm), call_id := fresh("calm")))
        edge.answer(edge.core.request("OPTIONS", call_id), 200)
        assert Peer(calm).final(call_id).status == 200, "the same address, another connection"
    assert "a flood of line ends" in edge.alg.log.read_text()


# --- a source that asks too much: the last, for its address is in debt afterwards -------------------------------------


def test_a_source_beyond_its_rate_gets_503_and_others_are_served(edge: Edge) -> None:
    with edge.ue() as ue:
        for number in range(BURST * 2):
            ue.send(sip("OPTIONS", ue, fresh(f"flood{number}")))
        shed = counted(edge, 'imsalg_requests_shed_total{reason="source-rate"}')
        answer = ue.sock.recv(65_536).decode()
        assert answer.startswith("SIP/2.0 503 ")
        assert "\r\nRetry-After: 1" in answer
        assert shed >= 1
        served(edge, "udp")
        assert counted(edge, "imsalg_limited_sources") >= 2


def test_nothing_of_all_this_was_a_bug(edge: Edge) -> None:
    assert "Traceback" not in edge.alg.log.read_text()
    assert counted(edge, "imsalg_bugs_total") == 0
