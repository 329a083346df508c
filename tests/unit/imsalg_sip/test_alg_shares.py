"""What one peer may use up: room for names, questions of a search, STUN keep-alives, memos of header names."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.playbook.alg_harness import ACCESS, AUDIO, UE, Book, request, settings

from imsalg.core.events import Resolve, Resolved
from imsalg.core.hops import STALE_FOR, Hops
from imsalg.core.media_events import Side
from imsalg.core.routing import Network
from imsalg.core.sip_call import Answer, Forward
from imsalg.dns_settings import DnsSettings
from imsalg.shell.names import NameDoor
from imsalg.shell.sip_transport import SipDoor
from imskit.admin import AdminServer, Query, ask
from imskit.resolver import MOST_QUESTIONS, Located, Where, _Search
from imskit.trace import Tracer
from imswire.base import LimitExceeded
from imswire.sip import lines, names
from imswire.sip.flow import Flow
from imswire.sip.location import Target
from imswire.sip.message import Request
from imswire.sip.parser import Ping, parse

CORE_NAME = "sip:icscf.example.net"


def hops(**dns: object) -> tuple[Hops, Network]:
    book = Book(settings(core={"next_hop": CORE_NAME, "emergency_next_hop": "sip:ecscf.example.net"}, dns=dns))
    return book.engine.context.hops, book.engine.context.network


def to(network: Network, uri: str) -> Forward:
    message = parse(request_bytes())
    assert isinstance(message, Request)
    return Forward(None, message, message, network.resolve(uri, "core"), Side.ACCESS)


def request_bytes() -> bytes:
    return request("INFO").replace("\n", "\r\n").encode() + b"\r\n\r\n"


def found(question: Resolve | bool, now: float, table: Hops, *targets: Target, unsure: bool = False) -> None:
    assert isinstance(question, Resolve)
    table.resolved(Resolved(question.hop, targets, 60.0, "nothing", unsure=unsure), now)


SERVER = Target("udp", ("10.9.0.9",), 5060)


def test_names_of_peers_leave_room_for_those_of_the_settings() -> None:
    table, network = hops(searches=4)
    for number in range(4):
        question = table.settle(to(network, f"sip:x@h{number}.attacker.example"), 1.0)
        assert isinstance(question, Resolve)
        assert not question.own
    with pytest.raises(LimitExceeded):
        table.settle(to(network, "sip:x@h5.attacker.example"), 1.0)
    for name in (CORE_NAME, "sip:ecscf.example.net"):
        question = table.settle(to(network, name), 1.0)
        assert isinstance(question, Resolve)
        assert question.own
    assert table.waiting == 6


def test_kept_names_of_peers_do_not_push_out_those_of_the_settings() -> None:
    table, network = hops(names=2)
    found(table.settle(to(network, CORE_NAME), 1.0), 1.0, table, SERVER)
    for number in range(5):
        found(table.settle(to(network, f"sip:x@h{number}.attacker.example"), 1.0), 1.0, table, SERVER)
    assert table.settle(to(network, CORE_NAME), 2.0) is True
    assert len(table) == 3


def test_an_answer_of_the_settings_name_serves_while_a_search_runs_or_fails() -> None:
    table, network = hops()
    found(table.settle(to(network, CORE_NAME), 0.0), 0.0, table, SERVER)
    first = to(network, CORE_NAME)
    question = table.settle(first, 100.0)  # beyond its 60 s
    assert isinstance(question, Resolve)
    assert first.hop is None
    assert first.flow.remote == ("10.9.0.9", 5060)
    second = to(network, CORE_NAME)
    assert table.settle(second, 100.5) is True  # no second question
    found(question, 101.0, table, unsure=True)
    assert table.settle(to(network, CORE_NAME), 101.5) is True
    later = 60.0 + STALE_FOR + 1
    last = to(network, CORE_NAME)
    assert isinstance(table.settle(last, later), Resolve)  # not for ever
    assert last.hop is not None


def test_that_the_settings_name_is_gone_is_believed() -> None:
    table, network = hops()
    found(table.settle(to(network, CORE_NAME), 0.0), 0.0, table, SERVER)
    found(table.settle(to(network, CORE_NAME), 100.0), 100.0, table)
    with pytest.raises(Answer):
        table.settle(to(network, CORE_NAME), 101.0)


def test_a_call_goes_to_the_core_while_its_name_is_looked_up_again() -> None:
    book = Book(settings(core={"next_hop": CORE_NAME}, dns={"searches": 1}))
    book.receive(UE, request("REGISTER", call_id="r", branch="r"))
    (question,) = [one for one in book.other if isinstance(one, Resolve)]
    book.feed(Resolved(question.hop, (SERVER,), 60.0, ""))
    book.out()
    book.advance(61.0)
    book.out()
    book.receive(UE, request("REGISTER", call_id="r2", branch="r2"), AUDIO)
    assert any("REGISTER" in line for line in book.lines())


def test_names_of_the_settings_are_searched_for_in_room_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bool] = {}

    async def locate(where: Where, *, reserved: bool = False) -> Located:
        seen[where.host] = reserved
        return Located((), 0.0)

    table, network = hops()
    door = NameDoor(DnsSettings(), lambda event: None)
    monkeypatch.setattr(door.resolver, "locate", locate)
    for name in (CORE_NAME, "sip:x@peer.example"):
        question = table.settle(to(network, name), 1.0)
        assert isinstance(question, Resolve)
        asyncio.run(door._look_up(question))
    assert seen == {"icscf.example.net": True, "peer.example": False}


def test_one_search_asks_a_bounded_number_of_questions() -> None:
    asked = 0

    async def answer(name: str, kind: str) -> tuple[list[Any], float]:
        nonlocal asked
        asked += 1
        if kind == "NAPTR":
            pointers = [f"_sip{number}._udp.{name}" for number in range(16)]
            made = {"flags": b"s", "regexp": b"", "order": 0, "preference": 0, "service": b"SIP+D2U"}
            return [SimpleNamespace(**made, replacement=pointer) for pointer in pointers], 60.0
        if kind == "SRV":
            hosts = [f"t{number}.{name}" for number in range(16)]
            return [SimpleNamespace(priority=0, weight=0, port=5060, target=host) for host in hosts], 60.0
        return [], 0.0

    search = _Search(answer, None)
    where = Where("a.attacker.example", 0, "", False, frozenset({("udp", False), ("udp", True)}))
    assert asyncio.run(search.run(where)) == []
    assert asked == MOST_QUESTIONS
    assert str(MOST_QUESTIONS) in search.why


def test_one_source_has_a_share_of_stun() -> None:
    async def play() -> None:
        door = SipDoor(settings(), lambda _: None)
        sent: list[Flow] = []
        door.transports = SimpleNamespace(send=lambda _, flow: sent.append(flow))  # type: ignore[assignment]
        door._clock = lambda: 7.0
        binding = b"\0\1\0\0\x21\x12\xa4\x42" + b"x" * 12
        greedy = [Flow("udp", "access", ACCESS, ("203.0.113.9", port)) for port in range(1, 11)]
        for number in range(2_001):
            door._datagram(greedy[number % 10], binding)
        assert len(sent) == 200
        door._datagram(UE, binding)
        assert sent[-1] is UE
        for number in range(20_000):
            door._datagram(Flow("udp", "access", ACCESS, (f"198.51.{number // 250}.{number % 250}", 1)), binding)
        assert len(sent) == len(door._stun_sources) + 199 == 2_000  # all together, and no more is remembered
        door._clock = lambda: 8.0
        door._datagram(greedy[0], binding)
        assert len(sent) == 2_001

    asyncio.run(play())


def test_line_ends_on_a_stream_are_within_the_share_of_their_source() -> None:
    async def play() -> None:
        door = SipDoor(settings(), lambda _: None)
        ponged: list[Flow] = []
        closed: list[Flow] = []
        door.transports = SimpleNamespace(  # type: ignore[assignment]
            send=lambda _, flow: ponged.append(flow),
            close_flow=lambda flow, _: closed.append(flow),
            is_open=lambda flow: flow not in closed,
        )
        door._clock = lambda: 7.0

        async def pings(flow: Flow, count: int) -> None:
            for ping in [Ping.SINGLE, Ping.DOUBLE] * count:
                door._frame(flow, ping)
            await asyncio.sleep(0)

        ue, greedy, trunk = (
            Flow("tcp", realm, ACCESS, (host, 5060), number)
            for realm, host, number in (
                ("access", "203.0.113.7", 1),
                ("access", "203.0.113.9", 2),
                ("core", "198.51.100.9", 3),
            )
        )
        await pings(ue, 1)
        assert ponged == [ue]
        await pings(greedy, 50)
        assert ponged == [ue, greedy]  # one for what came together
        await pings(greedy, 1_000)
        assert closed[0] is greedy
        assert greedy not in ponged[2:]
        neighbour = Flow("tcp", "access", ACCESS, greedy.remote, 4)  # behind the same NAT
        await pings(neighbour, 1)
        assert neighbour not in closed
        await pings(trunk, 1_000)  # a core peer may end each of many messages with them
        assert trunk not in closed
        await pings(ue, 1)
        assert ponged[2:] == [neighbour, trunk, ue]
        door._clock = lambda: 8.0
        for _ in range(300):
            door._pong(ue)
        assert len(ponged) == 5 + 200

    asyncio.run(play())


def test_made_up_header_names_do_not_stay() -> None:
    start = b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
    start += b"Call-ID: c\r\nCSeq: 1 OPTIONS\r\n"
    for number in range(3_000):
        message = parse(start + b"X-%d: a\r\nX-%d-%s: b\r\n\r\n" % (number, number, b"y" * 4_000))
        assert isinstance(message, Request)
        message.headers.add(f"Z-{number}-{'z' * 100}", "c")
        message.headers.add(f"Z-{number}", "c")
    for memo in (names.called, names.written, lines._known):
        assert len(memo) <= 2_048
        assert max(map(len, memo)) <= names.NAME_LENGTH
    assert names.canonical("V") == "via"
    assert "V" in names.called  # those that come again have room again


NAME = "\udcff\udcfe é"


def test_traces_show_octets_that_are_not_utf8(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / "t.jsonl", "node")
    tracer.write("sip", user=NAME, more={"list": [NAME, b"x", 1, Path("p")]})
    tracer.close()
    line = json.loads((tmp_path / "t.jsonl").read_text("utf-8"))
    assert line["user"] == r"\xff\xfe é"
    assert line["more"]["list"] == [r"\xff\xfe é", "eA==", 1, "p"]


def test_the_admin_socket_answers_and_asks_with_any_octets(tmp_path: Path) -> None:
    def calls(query: Query) -> object:
        return [{"id": query.id, "user": NAME, "lone": "\ud800"}]

    async def play() -> Any:
        server = AdminServer({"calls": calls})
        await server.start(tmp_path / "a.sock")
        try:
            return await asyncio.to_thread(ask, tmp_path / "a.sock", Query("calls", NAME))
        finally:
            await server.close()

    shown = r"\xff\xfe é"
    assert asyncio.run(play()) == [{"id": shown, "user": shown, "lone": r"\ud800"}]
