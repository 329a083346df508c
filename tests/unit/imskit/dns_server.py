"""A small DNS server of the tests: UDP and TCP on loopback, answering from a table, as slow or broken as asked."""

import asyncio
from collections.abc import Iterable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """``zone`` has lines like ``example.net. 60 IN A 10.0.0.1``; ``silent`` names get no answer, ``broken`` SERVFAIL.

    ``asked`` counts the questions by "name type". A name in ``large`` is truncated over UDP.
    """

    def __init__(
        self,
        zone: str,
        *,
        silent: Iterable[str] = (),
        broken: Iterable[str] = (),
        large: Iterable[str] = (),
    ) -> None:
        self._sets: dict[tuple[str, str], dns.rrset.RRset] = {}
        for line in filter(None, map(str.strip, zone.splitlines())):
            name, ttl, _, kind, text = line.split(None, 4)
            known = self._sets.get((name.lower(), kind))
            texts = [*(str(one) for one in known), text] if known is not None else [text]
            self._sets[name.lower(), kind] = dns.rrset.from_text(name, int(ttl), "IN", kind, *texts)
        self.silent, self.broken, self.large = set(silent), set(broken), set(large)
        self.asked: list[str] = []
        self.over_tcp = 0
        self.address = ("127.0.0.1", 0)
        self._transport: Any = None
        self._server: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        """Listen on a port that is free for both."""
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", port))
        self.address = ("127.0.0.1", port)
        return self.address

    async def stop(self) -> None:
        """Close both sockets."""
        self._transport.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def answer(self, data: bytes, *, tcp: bool = False) -> bytes | None:
        """The answer to one question."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if name in self.silent:
            return None
        reply = dns.message.make_response(query)
        if name in self.broken:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.large and not tcp:
            reply.flags |= dns.flags.TC
        elif (found := self._sets.get((name, kind))) is not None:
            reply.answer.append(found)
        elif (alias := self._sets.get((name, "CNAME"))) is not None:
            reply.answer.append(alias)
            follow = self._sets.get((alias[0].target.to_text().lower(), kind))
            if follow is not None:
                reply.answer.append(follow)
        elif not any(known == name for known, _ in self._sets):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        answer = self.answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2))
            answer = self.answer(await reader.readexactly(size), tcp=True)
            self.over_tcp += 1
            if answer is not None:
                writer.write(len(answer).to_bytes(2) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
