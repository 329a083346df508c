"""Where the P-CSCF sends things, with real sockets: names, dead targets, TCP for large requests; and STUN."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.edge import DEADLINE, HOST, Edge, Peer, fresh, sip
from tests.unit.imskit.dns_server import DnsServer

from imswire.sip.message import Response

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("targets")]


@contextlib.contextmanager
def name_server(zone: str) -> Iterator[tuple[DnsServer, int]]:
    """The DNS server of the unit tests on a thread of its own."""
    server = DnsServer(zone)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while data := sock.recvfrom(4096):
                if len(data[0]) < 12:
                    return
                answer = server.answer(data[0])
                if answer is not None:
                    sock.sendto(answer, data[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server, sock.getsockname()[1]
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", sock.getsockname())
        thread.join(DEADLINE)
        sock.close()


def dead_port() -> int:
    """A port of UDP and TCP that nobody listens at."""
    with socket.create_server((HOST, 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, tcp.getsockname()[1]))
        return int(tcp.getsockname()[1])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge whose core is given by address."""
    with Edge(tmp_path_factory.mktemp("targets"), with_agw=False) as edge:
        yield edge


def test_a_dead_server_of_a_name_is_left_for_the_next_at_once(tmp_path: Path) -> None:
    """Without the network's word on the dead one this would take the 32 s of timer F; a socket here waits 15."""
    core = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    core.bind((HOST, 0))
    zone = f"""
        _sip._udp.core.test.example. 60 IN SRV 0 0 {dead_port()} one.test.example.
        _sip._udp.core.test.example. 60 IN SRV 1 0 {core.getsockname()[1]} two.test.example.
        one.test.example. 60 IN A {HOST}
        two.test.example. 60 IN A {HOST}
    """
    with name_server(zone) as (server, port):
        changes = {
            "realm": {"core": {"next_hop": "sip:core.test.example"}},
            "dns": {"nameservers": [f"{HOST}:{port}"], "hosts_file": ""},
        }
        with Edge(tmp_path, alg=changes, with_agw=False) as edge, edge.ue() as ue:
            edge.core.close()
            edge.core = Peer(core)
            for method in ("MESSAGE", "OPTIONS"):
                call_id = fresh("named")
                ue.send(sip(method, ue, call_id))
                edge.answer(edge.core.request(method, call_id), 200)
                assert ue.final(call_id).status == 200
            assert server.asked.count("_sip._udp.core.test.example. SRV") == 1  # the second request knew the name
            edge.core.close()  # now nobody is left
            call_id = fresh("nobody")
            ue.send(sip("MESSAGE", ue, call_id))
            assert ue.final(call_id).status == 503


def test_a_name_that_nobody_knows_is_502(tmp_path: Path) -> None:
    with name_server("x.test.example. 60 IN A 127.0.0.1") as (_, port):
        changes = {
            "realm": {"core": {"next_hop": "sip:core.test.example"}},
            "dns": {"nameservers": [f"{HOST}:{port}"], "hosts_file": ""},
        }
        with Edge(tmp_path, alg=changes, with_agw=False) as edge, edge.ue() as ue:
            call_id = fresh("unknown")
            ue.send(sip("MESSAGE", ue, call_id))
            refused = ue.final(call_id)
            assert refused.status == 502
            assert "core.test.example" in (refused.headers.get("warning") or "")


def test_large_requests_go_over_tcp_and_over_udp_when_there_is_no_tcp(plain: Edge) -> None:
    large = f"Subject: {'large ' * 250}"
    with plain.ue() as ue:
        call_id = fresh("refused")  # the core has no TCP here: refused, then UDP
        ue.send(sip("MESSAGE", ue, call_id, b"", large))
        sent = plain.core.request("MESSAGE", call_id)
        assert sent.via.transport == "UDP"
        plain.answer(sent, 200)
        assert ue.final(call_id).status == 200
        call_id = fresh("small")
        ue.send(sip("MESSAGE", ue, call_id))
        plain.answer(plain.core.request("MESSAGE", call_id), 200)
        assert ue.final(call_id).status == 200


def test_large_requests_go_over_tcp(tmp_path: Path) -> None:
    with Edge(tmp_path, with_agw=False) as edge, socket.create_server((HOST, edge.core.port)) as listener:
        listener.settimeout(DEADLINE)
        with edge.ue() as ue:
            call_id = fresh("large")
            ue.send(sip("MESSAGE", ue, call_id, b"", f"Subject: {'large ' * 250}"))
            accepted, _ = listener.accept()
            over_tcp = Peer(accepted)
            sent = over_tcp.request("MESSAGE", call_id)
            assert sent.via.transport == "TCP"
            over_tcp.send(sent.reply(200, to_tag="core").to_bytes())
            assert ue.final(call_id).status == 200
            over_tcp.close()


def test_stun_on_the_sip_port_shows_the_ue_its_address(plain: Edge) -> None:
    with plain.ue() as ue:
        transaction = bytes(range(12))
        ue.send(bytes.fromhex("000100002112a442") + transaction)
        data = ue.sock.recv(2048)
        assert data[:2] == b"\x01\x01"
        assert data[8:20] == transaction
        assert data[20:26] == b"\x00\x20\x00\x08\x00\x01"
        assert int.from_bytes(data[26:28]) ^ 0x2112 == ue.port
        assert bytes(a ^ b for a, b in zip(data[28:32], b"\x21\x12\xa4\x42", strict=True)) == socket.inet_aton(HOST)
        ue.send(b"\0\1\0\4" + bytes.fromhex("2112a442") + transaction)  # broken: silence, and SIP goes on
        call_id = fresh("after-stun")
        ue.send(sip("OPTIONS", ue, call_id))
        plain.answer(plain.core.request("OPTIONS", call_id), 200)
        first = ue.receive()
        assert isinstance(first, Response)
        assert first.call_id == call_id


def test_a_ue_that_is_gone_is_told_to_the_core_at_once(plain: Edge) -> None:
    """Without an ICMP report the core would wait for timer F: 32 s, where its socket here waits 15."""
    with plain.ue() as ue:
        call_id = fresh("call")
        ue.send(sip("SUBSCRIBE", ue, call_id, b"", "Event: presence", "Expires: 60"))
        sent = plain.core.request("SUBSCRIBE", call_id)
        routes = sent.headers.values("record-route")
        contact, from_ = sent.contacts[0].uri, sent.need("from")
        plain.answer(sent, 200, Contact=f"<sip:bob@{HOST}:{plain.core.port}>", Record_Route=", ".join(routes))
        assert ue.final(call_id).status == 200
    lines = [
        f"NOTIFY {contact} SIP/2.0",
        f"Via: SIP/2.0/UDP {HOST}:{plain.core.port};branch=z9hG4bKnotify",
        f"Route: {', '.join(routes)}",
        "Max-Forwards: 70",
        "From: <sip:bob@test.example>;tag=core",
        f"To: {from_}",
        f"Call-ID: {call_id}",
        "CSeq: 1 NOTIFY",
        "Event: presence",
        "Subscription-State: active",
        f"Contact: <sip:bob@{HOST}:{plain.core.port}>",
        "Content-Length: 0",
    ]
    plain.core.send("\r\n".join([*lines, "", ""]).encode(), plain.address("core"))
    assert plain.core.final(call_id).status == 430
