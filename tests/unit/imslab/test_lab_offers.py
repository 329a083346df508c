"""Offers wherever they may stand: reliable provisional responses, delayed ones, UPDATE, re-INVITE; holds, new
connections, added and removed lines, glare.
"""

import asyncio
from dataclasses import replace

import pytest
from tests.unit.imslab.ue_pair import BOB, call, on_loop, talks, ues

from imskit.tls import Identity
from imslab.ue.call import SipFailure
from imslab.ue.chat import ChatError
from imslab.ue.media import DISCARD, CallMedia, FloorOptions, MediaOptions, NotAcceptable, Reoffer
from imswire.sdp.attributes import Setup, direction_of, path_of, setup_of
from imswire.sdp.model import SessionDescription

MEDIA = MediaOptions()
PASSIVE = replace(MEDIA, answer_setup=Setup.PASSIVE)


def parsed(body: bytes) -> SessionDescription:
    return SessionDescription.parse(body)


@pytest.mark.parametrize("media", [MEDIA, PASSIVE], ids=["active", "passive"])
def test_the_answer_in_a_reliable_183(media: MediaOptions) -> None:
    async def main() -> None:
        async with ues("alice", "bob", reliable="required") as (alice, bob):
            outgoing = alice.dial(BOB)
            incoming = await bob.wait_call()
            incoming.media.options = media
            incoming.ring(183, sdp=True)
            assert await outgoing.ringing() == 183
            await incoming.pracked()
            await outgoing.session.opened()
            await talks(outgoing, incoming)
            incoming.accept()
            response = await outgoing.answered()
            assert response.body == b""
            assert list(outgoing.answers) == [response.to_tag]
            await talks(incoming, outgoing)
            assert await outgoing.hangup() == 200

    on_loop(main)


def test_several_reliable_responses_and_a_cancel() -> None:
    async def main() -> None:
        async with ues("alice", "bob", reliable="supported") as (alice, bob):
            outgoing = alice.dial(BOB)
            incoming = await bob.wait_call()
            for status in (180, 183):
                incoming.ring(status, reliable=True)
                await incoming.pracked()
            assert 183 in outgoing.responses
            outgoing.cancel()
            with pytest.raises(SipFailure) as failure:
                await outgoing.answered()
            assert failure.value.status == 487

    on_loop(main)


@pytest.mark.parametrize("reliable", [False, True])
def test_an_offer_from_the_called_side(reliable: bool) -> None:
    async def main() -> None:
        async with ues("alice", "bob", reliable="supported") as (alice, bob):
            outgoing = alice.dial(BOB, delayed=True)
            incoming = await bob.wait_call()
            assert incoming.request_in is not None
            assert incoming.request_in.body == b""
            if reliable:
                incoming.ring(183, reliable=True, sdp=True)
                await incoming.pracked()
                await incoming.session.opened()
            incoming.accept()
            assert ((await outgoing.answered()).body == b"") == reliable
            await incoming.confirmed
            await talks(outgoing, incoming)
            assert await incoming.hangup() == 200

    on_loop(main)


def test_update_before_and_after_the_answer() -> None:
    async def main() -> None:
        async with ues("alice", "bob", reliable="required") as (alice, bob):
            outgoing = alice.dial(BOB)
            incoming = await bob.wait_call()
            incoming.ring(183)
            await incoming.pracked()
            with pytest.raises(SipFailure) as early:
                await incoming.update()
            # The INVITE's own offer has no answer yet (RFC 3311 5.2).
            assert early.value.status == 491
            incoming.ring(183, sdp=True)
            await incoming.pracked()
            answer = await outgoing.update(Reoffer(direction="inactive"))
            assert direction_of(parsed(answer.body).media[0]) == "inactive"
            incoming.accept()
            await outgoing.answered()
            await incoming.update(Reoffer(direction="sendrecv"))
            await talks(outgoing, incoming)

    on_loop(main)


def test_hold_and_resume_keep_the_connection() -> None:
    async def main() -> None:
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, MEDIA)
            await talks(one, other)
            link = one.session.link
            held = await one.hold("sendonly")
            assert direction_of(parsed(held.body).media[0]) == "recvonly"
            assert direction_of(parsed((await one.resume()).body).media[0]) == "sendrecv"
            assert one.session.link is link
            await talks(one, other)

    on_loop(main)


@pytest.mark.parametrize("media", [MEDIA, PASSIVE], ids=["active", "passive"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("identity", [False, True])
def test_a_new_connection(media: MediaOptions, method: str, identity: bool) -> None:
    async def main() -> None:
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, media)
            await talks(one, other)
            before = one.session
            change = Reoffer(identity=Identity.generate("another")) if identity else Reoffer(renew=True)
            await one.reoffer(change, method=method)  # type: ignore[arg-type]
            assert one.session is not before
            await before.closed
            await talks(one, other)
            await other.reoffer(Reoffer(renew=True), method=method)  # type: ignore[arg-type]
            await talks(one, other)

    on_loop(main)


def test_a_delayed_reinvite() -> None:
    async def main() -> None:
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, MEDIA)
            await talks(one, other)
            answer = await one.reoffer(delayed=True)
            assert setup_of(parsed(answer.body).media[0]) is not None
            await talks(one, other)

    on_loop(main)


def test_lines_are_added_removed_and_replaced() -> None:
    async def main() -> None:
        media = replace(MEDIA, lines=2, floor=FloorOptions("either"), extra_media="m=audio 4000 RTP/AVP 0\n")
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, replace(media, lines=1, floor=None), media)
            answer = await one.reoffer(Reoffer(add=1, add_floor=FloorOptions("client")))
            assert [(m.media, m.rejected) for m in parsed(answer.body).media] == [
                ("message", False),
                ("audio", True),
                ("message", False),
                ("application", False),
            ]
            await talks(one, other, 1)
            await one.floor.hello()
            answer = await other.reoffer(Reoffer(remove=(0,)))
            assert [m.rejected for m in parsed(answer.body).media] == [True, True, False, False]
            with pytest.raises(ChatError):
                await one.media.chats[0].send_text("gone")
            await talks(one, other, 1)

    on_loop(main)


def test_glare_is_answered_with_491_and_nothing_changes() -> None:
    async def main() -> None:
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, MEDIA)
            await talks(one, other)
            results = await asyncio.gather(
                one.reoffer(Reoffer(renew=True)), other.reoffer(Reoffer(renew=True)), return_exceptions=True
            )
            statuses = [result.status for result in results if isinstance(result, SipFailure)]
            assert statuses == [491, 491]
            await talks(one, other)
            await one.reoffer(Reoffer(renew=True))
            await talks(one, other)

    on_loop(main)


def test_a_refused_offer_changes_nothing() -> None:
    async def main() -> None:
        def spoil(body: bytes) -> bytes:
            return body.replace(b"a=path:", b"a=nopath:")

        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, MEDIA)
            await talks(one, other)
            with pytest.raises(SipFailure) as refused:
                await one.reoffer(Reoffer(renew=True, edit=spoil))
            assert refused.value.status == 488
            await talks(one, other)

    on_loop(main)


def test_without_cema_the_path_is_the_address() -> None:
    async def main() -> None:
        media = replace(MEDIA, cema=False)
        async with ues("alice", "bob") as (alice, bob):
            one, other = await call(alice, bob, media, replace(media, answer_setup=Setup.PASSIVE))
            for end in (one, other):
                assert end.media.local is not None
                (line,) = end.media.local.media
                path = path_of(line)
                assert path is not None
                assert (path.hop.host, path.hop.port) == ("127.0.0.1", line.port)
                assert not line.has("msrp-cema")
            await talks(one, other)

    on_loop(main)


def test_an_answer_behind_an_anchor_needs_cema_on_both_sides() -> None:
    async def main() -> None:
        identity = Identity.generate("test")
        for cema in (True, False):
            offerer = CallMedia("127.0.0.1", identity, replace(MEDIA, cema=cema))
            answerer = CallMedia("127.0.0.1", identity, PASSIVE)
            answer = parsed(answerer.answer(offerer.offer()))
            answer.media[0].set_port(5000)
            if cema:
                offerer.answered(answer.to_bytes())
            else:
                with pytest.raises(NotAcceptable, match="CEMA"):
                    offerer.answered(answer.to_bytes())
            offerer.close()
            answerer.close()

    on_loop(main)


def test_an_answer_without_cema_from_behind_an_anchor_makes_a_second_offer() -> None:
    async def main() -> None:
        async with ues("alice", "bob") as (alice, bob):
            outgoing = alice.dial(BOB)
            incoming = await bob.wait_call()
            answer = parsed(incoming.prepare(replace(PASSIVE, cema=False)))
            answer.media[0].set_port(DISCARD + 1)
            incoming.confirm(answer.to_bytes())
            await outgoing.answered()
            await incoming.confirmed
            assert outgoing.fallback is not None
            await outgoing.fallback
            assert b"msrp-cema" not in incoming.updates[-1]
            await talks(outgoing, incoming)

    on_loop(main)


def test_a_fork_with_two_early_answers_follows_who_answers() -> None:
    async def main() -> None:
        async with ues("alice", "bob", "bob", reliable="required") as (alice, first, second):
            outgoing = alice.dial(BOB, replace(MEDIA, offer_setup=Setup.PASSIVE, ignore_peer=True))
            legs = [await first.wait_call(), await second.wait_call()]
            for leg in legs:
                leg.ring(183, sdp=True)
                await leg.pracked()
            legs[1].accept()
            response = await outgoing.answered()
            assert len(outgoing.answers) == 2
            assert response.to_tag in outgoing.answers
            await legs[0].wait_end()

    on_loop(main)
