"""A UE that is not who the signalling says it is: nothing passes, both ends are released, and it can be read why."""

import asyncio
import re
from collections.abc import Sequence
from typing import Literal

import pytest
from tests.system.labs import FLOWS, SECURE, Labs, Ue, establish, log_of, media_lines, need, register, watch

from imskit.common_settings import MediaTlsSettings
from imslab.lab import Lab
from imslab.ladder.read import TraceLine
from imslab.ue.call import Call, SipFailure
from imswire.sdp.attributes import Setup

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-identity")]

LIAR = {"originating": 0, "terminating": 1}
"""Which end lies in each flow: the UE whose access side is secured."""


def hexadecimal(octets: bytes) -> str:
    return octets.hex(":").upper()


async def attempt(lab: Lab, ends: Sequence[Ue]) -> tuple[Call, Call]:
    """A call that bob accepts, whatever becomes of it."""
    alice, bob = await register(lab, *ends)
    outgoing = alice.dial(bob.account.aor)
    incoming = await bob.wait_call()
    incoming.accept()
    return outgoing, incoming


async def why_ended(call: Call) -> str:
    """What a call's end was told: Reason of the BYE, or Warning of the refusal where the verdict came before the
    answer had passed."""
    await call.wait_end()
    try:
        await call.answered() if call.request_in is None else None
    except SipFailure as failure:
        return need(failure.response).headers.get("warning") or ""
    return call.end_reason


async def released(ends: tuple[Call, Call], octets: dict[tuple[str, int], bytearray], honest: int) -> None:
    """Both ends were told why it ended, and the honest one has not received a single octet."""
    async with asyncio.timeout(10):
        for call in ends:
            assert re.match("SIP;cause=[45][0-9]{2};text=|399 ", await why_ended(call))
            assert call.session.received.empty()
    other = ends[honest].session.link
    if other is not None:
        assert not octets.get(other.local)


async def verdict(lab: Lab, call: Call, what: str) -> TraceLine:
    lines = await lab.wait_lines(lambda lines: what in {str(one.what) for one in media_lines(lines, call, "verify")})
    assert "verified" not in {str(one.what) for one in media_lines(lines, call, "verify")}
    return next(one for one in media_lines(lines, call, "verify") if one.what == what)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("answered", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("flow", LIAR)
def test_wrong_fingerprint(
    labs: Labs,
    monkeypatch: pytest.MonkeyPatch,
    flow: str,
    answered: Literal[Setup.ACTIVE, Setup.PASSIVE],
    version: Literal["1.2", "1.3"],
) -> None:
    octets = watch(monkeypatch)
    tls = MediaTlsSettings(min_version=version, max_version=version)
    ends: list[Ue] = [end.having(answer_setup=answered, tls=tls) for end in FLOWS[flow]]
    ends[LIAR[flow]] = ends[LIAR[flow]].having(wrong_fingerprint=True)

    async def scenario(lab: Lab) -> None:
        calls = await attempt(lab, ends)
        await released(calls, octets, honest=1 - LIAR[flow])
        liar = calls[LIAR[flow]]
        real = liar.ue.identity.fingerprint("sha-256")
        line = await verdict(lab, calls[0], "mismatch")
        assert str(line.seen).endswith(hexadecimal(real))
        assert str(line.expected).endswith(hexadecimal(bytes([real[0] ^ 0xFF]) + real[1:]))
        assert line.hash == "sha-256"
        assert liar.ue.account.user in str(line.subject)
        told = [
            text
            for name in ("imsalg", "agw")
            for text in log_of(lab, name).splitlines()
            if hexadecimal(real) in text and calls[0].call_id in text
        ]
        assert told
        for word in (str(line.expected), str(line.termination), liar.ue.account.user):
            assert word in told[0]
        bytes_lines = media_lines(lab.lines(), calls[0], "bytes")
        assert not any(one.a_to_c + one.c_to_a for one in bytes_lines)

    labs(early_syn="accept").run(scenario)


@pytest.mark.parametrize("flow", LIAR)
def test_no_certificate(labs: Labs, monkeypatch: pytest.MonkeyPatch, flow: str) -> None:
    octets = watch(monkeypatch)
    ends: list[Ue] = list(FLOWS[flow])
    ends[LIAR[flow]] = ends[LIAR[flow]].having(no_certificate=True)
    # Only a TLS client can leave its certificate out: the UE is the one that connects.
    answered = Setup.PASSIVE if flow == "originating" else Setup.ACTIVE

    async def scenario(lab: Lab) -> None:
        calls = await attempt(lab, [end.having(answer_setup=answered) for end in ends])
        await released(calls, octets, honest=1 - LIAR[flow])
        lines = await lab.wait_lines(lambda lines: bool(media_lines(lines, calls[0], "verify")))
        assert {one.what for one in media_lines(lines, calls[0], "verify")} == {"missing"}

    labs(early_syn="accept").run(scenario)


@pytest.mark.parametrize("flow", LIAR)
def test_wrong_fingerprint_with_early_syns_ignored(labs: Labs, monkeypatch: pytest.MonkeyPatch, flow: str) -> None:
    octets = watch(monkeypatch)
    ends: list[Ue] = list(FLOWS[flow])
    ends[LIAR[flow]] = ends[LIAR[flow]].having(wrong_fingerprint=True)

    async def scenario(lab: Lab) -> None:
        calls = await attempt(lab, ends)
        await released(calls, octets, honest=1 - LIAR[flow])
        await verdict(lab, calls[0], "mismatch")

    labs(early_syn="ignore").run(scenario)


def test_the_next_call_of_the_same_ue_is_not_harmed(labs: Labs) -> None:
    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab)
        outgoing = alice.dial(bob.account.aor, SECURE.having(wrong_fingerprint=True).media)
        incoming = await bob.wait_call()
        incoming.accept()
        await outgoing.wait_end()
        await incoming.wait_end()
        talk = await establish(alice, bob)
        await talk.texts()
        await talk.hang_up()

    labs(early_syn="accept").run(scenario)
