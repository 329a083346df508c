"""Locating SIP servers against a real DNS server on loopback (RFC 3263 4, RFC 2782)."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imskit.dns_server import DnsServer
from tests.unit.imskit.kit_support import on_loop

from imskit.resolver import Located, Resolver, Where
from imswire.sip.location import in_order

ZONE = """
    full.example. 90 IN NAPTR 90 50 "s" "SIP+D2T" "" _sip._tcp.full.example.
    full.example. 80 IN NAPTR 50 50 "s" "SIPS+D2T" "" _sips._tcp.full.example.
    full.example. 80 IN NAPTR 100 50 "s" "SIP+D2U" "" _sip._udp.elsewhere.example.
    full.example. 80 IN NAPTR 10 50 "u" "E2U+sip" "!^.*$!sip:x@y!" .
    _sips._tcp.full.example. 70 IN SRV 0 1 5061 one.example.
    _sip._tcp.full.example. 60 IN SRV 10 1 5080 two.example.
    _sip._tcp.full.example. 60 IN SRV 0 1 5070 one.example.
    _sip._udp.elsewhere.example. 60 IN SRV 0 0 5060 two.example.
    srv.example. 60 IN A 10.0.0.9
    _sip._udp.srv.example. 50 IN SRV 0 0 5066 one.example.
    plain.example. 40 IN A 10.0.0.3
    plain.example. 40 IN A 10.0.0.4
    plain.example. 40 IN AAAA 2001:db8::3
    alias.example. 40 IN CNAME plain.example.
    none.example. 40 IN A 10.0.0.5
    _sip._udp.none.example. 40 IN SRV 0 0 0 .
    one.example. 300 IN A 10.0.0.1
    two.example. 30 IN A 10.0.0.2
"""
ALL = frozenset({("udp", False), ("tcp", False), ("tls", False)})
UDP = frozenset({("udp", False)})


async def locate(server: DnsServer, where: Where, **more: Any) -> Located:
    resolver = Resolver([server.address], **{"timeout": 0.3, "lifetime": 1.0, "hosts_file": "", **more})
    return await resolver.locate(where)


def places(found: Located) -> list[str]:
    return [f"{transport} {address}:{port}" for transport, address, port in in_order(found.targets, lambda _: 0)]


@pytest.mark.parametrize(
    ("where", "expected", "ttl"),
    [
        # NAPTR: transports in its order, SRV priorities within each; what is not SIP is left out
        (
            Where("full.example", 0, "", False, ALL),
            ["tls 10.0.0.1:5061", "tcp 10.0.0.1:5070", "tcp 10.0.0.2:5080", "udp 10.0.0.2:5060"],
            30,
        ),
        (Where("full.example", 0, "", True, ALL), ["tls 10.0.0.1:5061"], 70),
        (Where("full.example", 0, "", False, UDP), ["udp 10.0.0.2:5060"], 30),
        (Where("full.example", 0, "tcp", False, ALL), ["tcp 10.0.0.1:5070", "tcp 10.0.0.2:5080"], 30),
        # no NAPTR: SRV of each transport
        (Where("srv.example", 0, "", False, ALL), ["udp 10.0.0.1:5066"], 50),
        # a port: addresses alone, UDP by default
        (Where("srv.example", 7000, "", False, ALL), ["udp 10.0.0.9:7000"], 60),
        # neither: addresses, the default port
        (Where("plain.example", 0, "", False, ALL), ["udp 10.0.0.3:5060", "udp 10.0.0.4:5060"], 40),
        (Where("alias.example", 0, "tcp", False, ALL), ["tcp 10.0.0.3:5060", "tcp 10.0.0.4:5060"], 40),
        (Where("plain.example", 0, "", True, ALL), ["tls 10.0.0.3:5061", "tls 10.0.0.4:5061"], 40),
        (Where("plain.example", 0, "", False, frozenset({("udp", True)})), ["udp 2001:db8::3:5060"], 40),
        (
            Where("plain.example", 1, "", False, frozenset({("udp", True), ("udp", False)})),
            ["udp 2001:db8::3:1", "udp 10.0.0.3:1", "udp 10.0.0.4:1"],
            40,
        ),
    ],
)
@on_loop
async def test_where_a_name_leads(where: Where, expected: list[str], ttl: int) -> None:
    server = DnsServer(ZONE)
    await server.start()
    found = await locate(server, where)
    await server.stop()
    seen = places(found)
    if where.host in ("plain.example", "alias.example"):  # a name server may turn the addresses of one name around
        seen, expected = sorted(seen), sorted(expected)
    assert seen == expected
    assert found.ttl == ttl


@on_loop
async def test_what_leads_nowhere_says_why() -> None:
    server = DnsServer(ZONE, silent=["silent.example."], broken=["broken.example."])
    await server.start()
    for host, transport, unsure, words in (
        ("missing.example", "", False, "no address"),
        ("none.example", "udp", False, "no address"),  # RFC 2782: "." is a decided no
        ("plain.example", "tls", False, "no tls listener"),
        ("silent.example", "", True, ""),
        ("broken.example", "", True, "broken.example"),
    ):
        found = await locate(server, Where(host, 0, transport, False, UDP))
        assert (found.targets, found.unsure) == ((), unsure), host
        assert found.error
        assert words in found.error
    await server.stop()


@on_loop
async def test_what_does_not_fit_a_datagram_is_asked_over_tcp() -> None:
    server = DnsServer(ZONE, large=["plain.example."])
    await server.start()
    found = await locate(server, Where("plain.example", 5060, "", False, UDP))
    await server.stop()
    assert len(found.targets[0].addresses) == 2
    assert server.over_tcp


@on_loop
async def test_the_next_name_server_is_asked_when_one_is_silent() -> None:
    server, dead = DnsServer(ZONE), DnsServer("", silent=["plain.example."])
    await server.start()
    await dead.start()
    resolver = Resolver([dead.address, server.address], timeout=0.2, lifetime=5.0, hosts_file="")
    found = await resolver.locate(Where("plain.example", 5060, "", False, UDP))
    await server.stop()
    await dead.stop()
    assert sorted(places(found)) == ["udp 10.0.0.3:5060", "udp 10.0.0.4:5060"]
    assert dead.asked


@on_loop
async def test_names_of_the_hosts_file_ask_nobody(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost Core.example # the lab\n::1 localhost\nnonsense\n")
    server = DnsServer(ZONE)
    await server.start()
    resolver = Resolver([server.address], hosts_file=str(hosts), lifetime=1.0)
    assert places(await resolver.locate(Where("core.example", 0, "", False, ALL))) == ["udp 127.0.0.1:5060"]
    both = frozenset({("tcp", True), ("tcp", False)})
    assert places(await resolver.locate(Where("localhost", 0, "tcp", False, both))) == [
        "tcp 127.0.0.1:5060",
        "tcp ::1:5060",
    ]
    hosts.write_text("127.0.0.2 core.example\n")
    os.utime(hosts, ns=(1, 1))
    assert places(await resolver.locate(Where("core.example", 0, "", False, ALL))) == ["udp 127.0.0.2:5060"]
    await server.stop()
    assert server.asked == []


@on_loop
async def test_no_name_server_at_all_is_said() -> None:
    resolver = Resolver([("127.0.0.1", 1)], timeout=0.2, lifetime=0.5, hosts_file="/nonexistent")
    found = await resolver.locate(Where("plain.example", 5060, "", False, UDP))
    assert found.unsure
    assert found.error


class Hearing(DnsServer):
    """Tells of the first question that it does not answer."""

    def __init__(self, zone: str, silent: str) -> None:
        super().__init__(zone, silent=[silent])
        self.left_waiting = asyncio.Event()

    def answer(self, data: bytes, *, tcp: bool = False) -> bytes | None:
        made = super().answer(data, tcp=tcp)
        if made is None:
            self.left_waiting.set()
        return made


@pytest.mark.parametrize("reserved", [True, False])
@on_loop
async def test_searches_of_one_kind_do_not_wait_behind_those_of_the_other(reserved: bool) -> None:
    server = Hearing(ZONE, "silent.example.")
    await server.start()
    resolver = Resolver([server.address], timeout=60.0, lifetime=60.0, hosts_file="", at_once=1)
    plain = Where("plain.example", 5060, "", False, UDP)
    slow = asyncio.create_task(
        resolver.locate(Where("silent.example", 5060, "", False, UDP), reserved=not reserved), name="slow"
    )
    await server.left_waiting.wait()
    behind = asyncio.create_task(resolver.locate(plain, reserved=not reserved), name="behind")
    found = await resolver.locate(plain, reserved=reserved)
    assert sorted(places(found)) == ["udp 10.0.0.3:5060", "udp 10.0.0.4:5060"]
    assert not behind.done(), "there is room for one of its kind"
    assert server.asked.count("plain.example. A") == 1
    for task in (slow, behind):
        task.cancel()
    await asyncio.gather(slow, behind, return_exceptions=True)
    await server.stop()
