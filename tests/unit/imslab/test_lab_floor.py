"""BFCP between two UEs of the lab on real sockets: floors, TLS roles, session descriptions of both RFCs."""

import asyncio
import sys
from dataclasses import replace

import pytest
from tests.unit.imslab.ue_pair import BOB, call, on_loop, talks, ues

from imskit.tls import Identity
from imslab.process import environment
from imslab.ue.floor import FloorError, FloorHost
from imslab.ue.floorline import BfcpLine
from imslab.ue.media import CallMedia, FloorOptions, MediaOptions, NotAcceptable, Reoffer
from imswire.bfcp.floor_values import Floor
from imswire.bfcp.tables import ErrorCode, Primitive, Status
from imswire.sdp.attributes import Setup
from imswire.sdp.model import Media, SessionDescription

CLIENT = MediaOptions(lines=0, floor=FloorOptions("client"))
SERVER = MediaOptions(lines=0, floor=FloorOptions("server"))
IDENTITY = Identity.generate("test")


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("answer", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("offerer", ["client", "server"])
def test_a_floor_is_requested_granted_and_released(secure: bool, answer: Setup, offerer: str) -> None:
    async def main() -> None:
        ours, theirs = (CLIENT, SERVER) if offerer == "client" else (SERVER, CLIENT)
        ours, theirs = replace(ours, secure=secure), replace(theirs, answer_setup=answer)
        async with ues("alice", "bob") as (alice, bob):
            ends = await call(alice, bob, ours, theirs)
            client, server = ends if offerer == "client" else reversed(ends)
            assert (await client.floor.hello()).primitive == Primitive.HELLO_ACK
            granted = await client.floor.request(1, info="slides")
            assert granted.status is Status.GRANTED
            assert server.floor.host is not None
            assert server.floor.host.server.holders(1) == (server.floor.user,) == (1,)
            released = await client.floor.release(granted.id)
            assert released.status is Status.RELEASED
            assert server.floor.host.server.holders(1) == ()
            links = [end.floor.link for end in ends]
            # The offerer is the TLS client, whoever opened the connection.
            assert [link.server for link in links if link is not None] == [False, True]
            assert [link.tls_version for link in links if link is not None] == ["TLSv1.3" if secure else ""] * 2
            await ends[0].hangup()
            await server.floor.closed

    on_loop(main)


def test_two_participants_share_a_conference() -> None:
    async def main() -> None:
        host = FloorHost(777, [Floor(1), Floor(2)])
        serving = MediaOptions(lines=0, floor=FloorOptions("server", host=host, streams=("10", "11")))
        async with ues("alice", "bob", "carol") as (alice, bob, carol):
            one, _ = await call(alice, bob, CLIENT, serving)
            two, _ = await call(carol, bob, CLIENT, serving)
            (line,) = one.media.lines
            assert isinstance(line, BfcpLine)
            assert (line.conference, line.user, line.floors) == (777, 1, {1: ("10",), 2: ("11",)})
            first = await one.floor.request(1)
            second = await two.floor.request(1)
            assert (second.status, second.position) == (Status.ACCEPTED, 1)
            await one.floor.release(first.id)
            await two.floor.status(second.id, Status.GRANTED)
            with pytest.raises(FloorError) as refused:
                await two.floor.request(3)
            assert refused.value.code == ErrorCode.INVALID_FLOOR_ID
            waiting = await one.floor.request(1)
            await two.hangup()
            await one.floor.status(waiting.id, Status.GRANTED)

    on_loop(main)


def test_msrp_and_bfcp_in_one_call_and_a_new_connection_for_the_floor() -> None:
    async def main() -> None:
        ours = MediaOptions(lines=2, floor=FloorOptions("client"))
        theirs = MediaOptions(lines=2, floor=FloorOptions("server"), answer_setup=Setup.PASSIVE)
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, ours, theirs)
            await talks(one, other, 0)
            await talks(one, other, 1)
            floor = await one.floor.request(1)
            before = one.floor.link
            answer = await one.reoffer(Reoffer(renew=(2,)))
            assert b"a=connection:new" in answer.body
            await one.floor.opened()
            assert one.floor.link is not before
            # The request outlived its connection.
            status = await one.floor.ask(one.floor.client.query_user())  # type: ignore[union-attr]
            assert [group.id for group in status.groups(15)] == [floor.id]
            await talks(one, other, 0)
            await other.reoffer(Reoffer(renew=(2,)))
            await one.floor.opened()
            # Now the other side offered: it is the TLS client.
            assert one.floor.link is not None
            assert one.floor.link.server
            await one.floor.release(floor.id)

    on_loop(main)


def test_a_wrong_fingerprint_ends_the_floor_connection() -> None:
    async def main() -> None:
        async with ues("alice", "bob") as (alice, bob):
            one, _ = await call(alice, bob, CLIENT, replace(SERVER, wrong_fingerprint=True))
            with pytest.raises(FloorError, match="fingerprint mismatch"):
                await one.floor.opened()

    on_loop(main)


def described(media: CallMedia, offer: bytes) -> Media:
    """The BFCP line of an answer."""
    (line,) = SessionDescription.parse(media.answer(offer)).media
    return line


def media(options: MediaOptions) -> CallMedia:
    return CallMedia("127.0.0.1", IDENTITY, options)


def test_session_descriptions_of_both_rfcs() -> None:
    async def main() -> None:
        new = media(MediaOptions(lines=0, floor=FloorOptions("either", floors=(1, 2), streams=("10", "11"))))
        (line,) = SessionDescription.parse(new.offer()).media
        assert (line.media, line.proto, line.formats) == ("application", "TCP/TLS/BFCP", ("*",))
        attributes = {name: line.get_all(name) for name in ("floorctrl", "confid", "floorid", "bfcpver", "connection")}
        assert attributes == {
            "floorctrl": ["c-only s-only"],
            "confid": ["4321"],
            "floorid": ["1 mstrm:10", "2 mstrm:11"],
            "bfcpver": ["1"],
            "connection": ["new"],
        }
        old = media(MediaOptions(lines=0, floor=FloorOptions("either", form="rfc4583")))
        offer = old.offer()
        (line,) = SessionDescription.parse(offer).media
        assert (line.get("floorctrl"), line.get("floorid"), line.get("bfcpver")) == ("c-s", "1 m-stream:10", None)
        client = media(CLIENT)
        answer = described(client, offer)
        assert (answer.get("floorctrl"), answer.get("bfcpver"), answer.get("confid")) == ("c-only", None, None)
        bare = SessionDescription.parse(offer)
        bare.media[0].remove_attribute("floorctrl")
        server = media(SERVER)
        answer = described(server, bare.to_bytes())
        assert (answer.get("floorctrl"), answer.get("confid"), answer.get("userid")) == (None, "4321", "1")
        for one in (new, old, client, server):
            one.close()

    on_loop(main)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (("a=floorctrl:c-only s-only", "a=floorctrl:c-only"), "floorctrl"),
        (("a=bfcpver:1", "a=bfcpver:2"), "versions"),
        (("a=confid:4321", "a=confid:x"), "confid"),
        (("a=userid:1\r\n", ""), "userid"),
        (("a=floorid:1 mstrm", "a=floorid:1 other"), "floorid"),
        (("a=floorctrl:c-only s-only", "a=floorctrl:some"), "floorctrl"),
    ],
)
def test_offers_that_cannot_be_accepted(edit: tuple[str, str], why: str) -> None:
    async def main() -> None:
        offerer, answerer = media(MediaOptions(lines=0, floor=FloorOptions("either"))), media(CLIENT)
        offer = offerer.offer().decode()
        assert edit[0] in offer
        with pytest.raises(NotAcceptable, match=why):
            answerer.answer(offer.replace(*edit).encode())
        offerer.close()
        answerer.close()

    on_loop(main)


def test_without_floor_options_a_bfcp_line_is_refused() -> None:
    async def main() -> None:
        offerer, answerer = media(MediaOptions(lines=1, floor=FloorOptions())), media(MediaOptions())
        lines = SessionDescription.parse(answerer.answer(offerer.offer())).media
        assert [line.rejected for line in lines] == [False, True]
        offerer.close()
        answerer.close()

    on_loop(main)


def test_the_command_requests_and_releases_a_floor() -> None:
    async def main() -> None:
        async with ues("bob") as (bob,):
            registrar = bob.account.registrar
            command = f"-m imslab ue --user alice --password alice-secret --registrar {registrar} --no-mediasec"
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command.split(),
                *("--call", BOB, "--floor", "2", "--text", "slides, please"),
                stdout=asyncio.subprocess.PIPE,
                env=environment(),
            )
            incoming = await bob.wait_call()
            host = FloorHost(floors=[Floor(1), Floor(2)])
            incoming.accept(MediaOptions(floor=FloorOptions("server", host=host, streams=("10", "11"))))
            assert (await incoming.session.receive()).text == "slides, please"
            assert host.server.holders(2) == (1,)
            said, _ = await process.communicate()
            assert process.returncode == 0, said
            for part in ("BFCP over TLS 1.3", "floor 2 requested: granted", "floor 2 granted", "floor 2 released"):
                assert part in said.decode()
            assert host.server.holders(2) == ()

    on_loop(main)
