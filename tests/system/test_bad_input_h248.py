"""Broken H.248 on the link between the daemons, each end against a scripted one over TCP with TPKT."""

import itertools
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.edge import DEADLINE, HOST, Daemon, Edge, H248Peer, ack, agw_settings, fresh, sdp, sip

from imswire.base import TpktFramer

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("bad-input-h248")]

REQUEST_TIME = 0.5
LARGEST = 65_531
_numbers = itertools.count(100)

LIMIT = 2_048
BROKEN_TPKT = {
    "tpkt.version": b"\x04\x00\x00\x08abcd",
    "tpkt.length": b"\x03\x00\x00\x03",
}


# --- the IMS-ALG and a scripted gateway ---


@pytest.fixture(scope="module")
def alg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    timers = {"gateway_timers": {"request": REQUEST_TIME, "reconnect_grace": 0.1, "heartbeat": 0.0}}
    with Edge(tmp_path_factory.mktemp("alg"), alg=timers, with_agw=False) as edge:
        yield edge


@pytest.fixture
def mg(alg: Edge) -> Iterator[H248Peer]:
    """A gateway in service."""
    peer = H248Peer(socket.create_connection(alg.gateways, DEADLINE))
    announce(peer)
    yield peer
    peer.close()
    alg.serves()
    assert alg.alg.alive()
    assert "unexpected exception" not in alg.alg.log.read_text()


def announce(peer: H248Peer) -> None:
    tid = next(_numbers)
    change = '{Services{Method=Restart,Reason="901 Cold Boot",Version=1}}'
    peer.send(f"MEGACO/1 mg Transaction={tid}{{Context=-{{ServiceChange=ROOT{change}}}}}")
    assert "ServiceChange" in tokens(peer.until(f"P={tid}{{"))


def tokens(text: str) -> str:
    """The compact commands that these tests look for, by their long names."""
    return re.sub(r"\bSC=", "ServiceChange=", text)


def alive(peer: H248Peer) -> None:
    """The link still carries transactions: a termination that nobody knows may be reported."""
    tid = next(_numbers)
    peer.send(f"MEGACO/1 mg Transaction={tid}{{Context=-{{ServiceChange=ROOT{{Services{{Method=Restart}}}}}}}}")
    assert "ER=" not in peer.until(f"P={tid}{{")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("rubbish", 400),
        ("MEGACO/1 mg Transaction = 9 { Context = - { Notify", 442),
        ("MEGACO/1 mg Transaction = 9 { }", 403),
        ("MEGACO/1 mg \x01\x02", 400),
        ("", 400),
        ("MEGACO/9 mg Transaction = 9 { Context = - { AuditValue = ROOT { Audit { } } } }", 406),
    ],
    ids=["rubbish", "cut", "empty-transaction", "control", "nothing", "version"],
)
def test_controller_answers_an_unreadable_message(mg: H248Peer, text: str, code: int) -> None:
    mg.send(text)
    answer = mg.until("ER=")
    assert f"ER={code}{{" in answer
    # A fault inside a transaction is answered in a reply to that transaction (RFC 3525 8.2.2).
    assert ("P=9{" in answer) is (code in (403, 442))
    alive(mg)


def test_controller_closes_a_link_that_stays_unreadable(alg: Edge, mg: H248Peer) -> None:
    for _ in range(20):
        mg.send("rubbish")
    assert mg.closed()
    with_new_link(alg, announce)


@pytest.mark.parametrize("data", BROKEN_TPKT.values(), ids=BROKEN_TPKT.keys())
def test_controller_closes_a_link_whose_framing_is_lost(alg: Edge, mg: H248Peer, data: bytes) -> None:
    mg.sock.sendall(data)
    assert mg.closed()
    with_new_link(alg, announce)


def test_controller_takes_the_largest_packet_there_is(mg: H248Peer) -> None:
    """65,535 is the most that a TPKT header can say; the next message is found behind it."""
    mg.send("(" * LARGEST)
    assert "ER=400{" in mg.until("ER=")
    alive(mg)


def with_new_link(alg: Edge, do: Callable[[H248Peer], None]) -> None:
    peer = H248Peer(socket.create_connection(alg.gateways, DEADLINE))
    do(peer)
    peer.close()


def test_controller_wants_an_announcement_first(alg: Edge, mg: H248Peer) -> None:
    def unannounced(peer: H248Peer) -> None:
        peer.send("MEGACO/1 other Transaction=1{Context=1{Notify=ip/access/1{ObservedEvents=1{tcpbcc/BNCChange}}}}")
        assert "ER=505{" in peer.until("P=1{")

    with_new_link(alg, unannounced)


def test_controller_executes_no_commands_of_controllers(mg: H248Peer) -> None:
    mg.send("MEGACO/1 mg Transaction=77{Context=1{Subtract=ip/access/1{Audit{}}}}")
    assert "ER=443{" in mg.until("P=77{")
    alive(mg)


def test_notification_about_what_is_not_known_is_acknowledged(mg: H248Peer) -> None:
    """A context may have been released while the notification was on its way: no error, no harm."""
    mg.send("MEGACO/1 mg Transaction=78{Context=4711{Notify=ip/access/1{ObservedEvents=1{g/cause}}}}")
    assert "P=78{" in mg.until("P=78{")
    alive(mg)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ('P={tid}{{C=1{{ER=432{{"none left"}}}}}}', 503),
        ('P={tid}{{ER=510{{"full"}}}}', 503),
        ("P={tid}{{C=1{{A=ip/core/1,A=ip/access/2}}}}", 500),
        ("P={tid}{{C=1{{A=ip/core/1{{", 500),
        ("P=4711{{C=1{{A=ip/core/1,A=ip/access/2}}}}", 500),
    ],
    ids=["no-port", "transaction-error", "no-addresses", "unreadable", "another-transaction"],
)
def test_offer_whose_reservation_fails_is_refused(alg: Edge, mg: H248Peer, reply: str, status: int) -> None:
    with alg.ue() as ue:
        call_id = fresh("reserve")
        ue.send(sip("INVITE", ue, call_id, sdp()))
        request = mg.until("C=${A=")
        (tid,) = re.findall(r"\bT=(\d+)\{", request)
        mg.send("!/1 mg " + reply.format(tid=tid))
        refused = ue.final(call_id)
        assert refused.status == status
        understood = status == 500 and "{tid}" in reply and reply.endswith("}}")
        assert ("retry-after" in refused.headers) is not understood  # no reply that could be read: try again later
        ue.send(ack(ue, refused, call_id))


# --- the AGW and a scripted controller ---


class Controller:
    """Listens for the AGW; ``link`` is the association after its ServiceChange was accepted."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(DEADLINE)
        more = {"limits": limits} if limits else {}
        self._settings = agw_settings(folder, self._listener.getsockname()[1], more)
        self._settings["timers"]["orphan_time"] = 60.0
        # The daemon is ready only when its controller has taken it, and that is this test: no waiting for readiness.
        self.daemon = Daemon("agw", self._settings, folder, wait=False)
        self.link = self.accept("RS")
        self.daemon.wait()

    def accept(self, method: str) -> H248Peer:
        sock, _ = self._listener.accept()
        link = H248Peer(sock)
        text = link.receive()
        assert f"MT={method}" in text, text
        (tid,) = re.findall(r"\bT=(\d+)\{", text)
        link.send(f"!/1 mgc P={tid}{{C=-{{SC=ROOT}}}}")
        self.link = link
        return link

    def close(self) -> None:
        self.link.close()
        self.daemon.stop()
        self._listener.close()


@pytest.fixture(scope="module")
def controllers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    made = Controller(tmp_path_factory.mktemp("agw"), message=LIMIT)
    yield made
    made.close()


@pytest.fixture
def mgc(controllers: Controller) -> Iterator[Controller]:
    yield controllers
    audit(controllers.link)
    reserve_and_release(controllers.link)
    assert controllers.daemon.alive()


def ask(link: H248Peer, actions: str) -> str:
    tid = next(_numbers)
    link.send(f"!/1 mgc T={tid}{{{actions}}}")
    return link.until(f"P={tid}{{")


def audit(link: H248Peer) -> None:
    assert "ER=" not in ask(link, "C=-{AV=ROOT{AT{}}}")


def media(realm: str, body: str = "v=0\r\nc=IN IP4 $\r\nm=message $ TCP *\r\n") -> str:
    """The descriptors of one termination."""
    control = f'MO=SR,ipdc/realm="{realm}",tcpbcc/mode=proxy,tcpbcc/isyn=off,gm/saf=off,gm/spf=off'
    return f"{{M{{ST=1{{O{{{control}}},L{{{body}}}}}}}}}"


PLAIN = media("access")


def reserve(link: H248Peer) -> tuple[str, list[str]]:
    """A context with two plain terminations: its number and their names."""
    reply = ask(link, f"C=${{A=${media('access')},A=${media('core')}}}")
    assert "ER=" not in reply
    (context,) = re.findall(r"C=(\d+)\{", reply)
    return context, re.findall(r"A=([^{,]+)", reply)


def reserve_and_release(link: H248Peer) -> None:
    context, _ = reserve(link)
    assert "ER=" not in ask(link, f"C={context}{{S=*{{AT{{}}}}}}")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("rubbish", 400),
        ("", 400),
        ("MEGACO/1 mgc Transaction = 9 { Context = rubbish", 422),
        ("MEGACO/1 mgc Transaction = 9 { Context = 1 { Add", 442),
        ("MEGACO/9 mgc Transaction = 9 { Context = - { AuditValue = ROOT { Audit { } } } }", 406),
    ],
    ids=["rubbish", "nothing", "context", "cut", "version"],
)
def test_gateway_answers_an_unreadable_message(mgc: Controller, text: str, code: int) -> None:
    mgc.link.send(text)
    assert f"ER={code}{{" in mgc.link.until("ER=")


@pytest.mark.parametrize("command", ["S=ip/access/1{AT{}}", "S=*{AT{}}", f"MF=ip/access/1{PLAIN}"])
def test_gateway_knows_no_such_context(mgc: Controller, command: str) -> None:
    assert "ER=411{" in ask(mgc.link, f"C=471100{{{command}}}")


@pytest.mark.parametrize("command", ["S=ip/access/999{AT{}}", f"MF=ip/access/999{PLAIN}", "AV=ip/access/999{AT{}}"])
def test_gateway_knows_no_such_termination(mgc: Controller, command: str) -> None:
    context, _ = reserve(mgc.link)
    assert "ER=430{" in ask(mgc.link, f"C={context}{{{command}}}")
    assert "ER=" not in ask(mgc.link, f"C={context}{{S=*{{AT{{}}}}}}")


def test_gateway_knows_no_such_realm_package_or_command(mgc: Controller) -> None:
    assert "ER=449{" in ask(mgc.link, f"C=${{A=${media('nowhere')}}}")
    assert "ER=440{" in ask(mgc.link, f"C=${{A=${PLAIN.replace('MO=SR', 'nosuch/thing=1')}}}")
    context, (termination, _) = reserve(mgc.link)
    assert "ER=443{" in ask(mgc.link, f"C={context}{{MV={termination}{PLAIN}}}")
    assert "ER=" not in ask(mgc.link, f"C={context}{{S=*{{AT{{}}}}}}")


@pytest.mark.parametrize(
    "body",
    [
        "v=0\r\nrubbish\r\n",
        "v=0\r\nc=IN IP4 $\r\nm=message 70000 TCP *\r\n",
        "v=0\r\nc=IN IP4 $\r\nm=audio $ RTP/AVP 0\r\n",
    ],
    ids=["rubbish", "port", "transport"],
)
def test_gateway_refuses_a_descriptor_that_it_cannot_use(mgc: Controller, body: str) -> None:
    assert "ER=" in ask(mgc.link, f"C=${{A=${media('access', body)}}}")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(data, reason) for reason, data in BROKEN_TPKT.items()]
    + [(b"\x03\x00" + (LIMIT + 1 + TpktFramer.HEADER).to_bytes(2), "tpkt.oversize")],
)
def test_gateway_closes_a_link_whose_framing_is_lost_and_returns(mgc: Controller, data: bytes, reason: str) -> None:
    """A packet larger than the limit is refused by its header: nothing of it is waited for."""
    old = mgc.link
    context, _ = reserve(old)
    old.sock.sendall(data)
    assert old.closed()
    old.close()
    mgc.accept("DC")
    assert reason in mgc.daemon.log.read_text()
    # Media outlive the link: the context is still there.
    assert "ER=" not in ask(mgc.link, f"C={context}{{S=*{{AT{{}}}}}}")
