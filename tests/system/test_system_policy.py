"""Which calls are secured at the edge, which pass, which are refused: the operator's word and the UEs' agreement."""

from dataclasses import replace
from typing import Literal

import pytest
from tests.system.labs import PLAIN, SECURE, Labs, call_contexts, connect, need, register

from imslab.lab import Lab
from imslab.ue.call import SipFailure

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-policy")]

UES = {
    "agreed": SECURE,
    "not-agreed": replace(SECURE, agrees=False),  # a=3ge2ae:requested all the same
    "not-requested": SECURE.having(e2ae=False),
    "plain": PLAIN,
    "plain-agreed": replace(PLAIN, agrees=True),
}

# (policy, alice, bob) -> how many passages are secured at the edge, and whether each end has TLS
CARRIED = [
    ("off", "agreed", "agreed", 0, (True, True)),
    ("off", "plain", "agreed", 0, (False, False)),
    ("optional", "agreed", "agreed", 2, (True, True)),
    ("optional", "agreed", "plain", 1, (True, False)),
    ("optional", "not-agreed", "agreed", 0, (True, True)),
    ("optional", "not-requested", "agreed", 0, (True, True)),
    ("optional", "plain", "agreed", 1, (False, True)),
    ("optional", "plain-agreed", "agreed", 1, (False, True)),
    ("optional", "plain", "plain", 0, (False, False)),
    ("required", "agreed", "agreed", 2, (True, True)),
    ("always", "agreed", "agreed", 2, (True, True)),
    ("always", "not-agreed", "not-agreed", 2, (True, True)),
    ("always", "not-requested", "not-agreed", 2, (True, True)),
    ("always", "plain", "not-agreed", 1, (False, True)),
]
REFUSED = [
    ("required", "not-agreed", "agreed", "was not agreed at registration"),
    ("required", "not-requested", "agreed", "requires 3ge2ae:requested"),
    ("required", "plain", "agreed", "offered without TLS"),
    ("required", "plain-agreed", "agreed", "offered without TLS"),
    ("required", "agreed", "not-agreed", "was not agreed at registration"),
]
type Policy = Literal["off", "optional", "required", "always"]


@pytest.mark.parametrize(("policy", "caller", "called", "secured", "tls"), CARRIED)
def test_carried(labs: Labs, policy: Policy, caller: str, called: str, secured: int, tls: tuple[bool, bool]) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, UES[caller], UES[called])
        await talk.texts()
        assert tuple(bool(version) for version in talk.tls()) == tls
        shown = [(call.media.local, call.media.remote) for call in talk.ends]
        own, seen = ([sdp and sdp.media[0].get("fingerprint") for sdp in side] for side in zip(*shown, strict=True))
        # End to end each sees the other's certificate; with the edge in between nobody does.
        if all(tls):
            assert (seen == own[::-1]) is (secured == 0)
        await talk.hang_up()
        lines = await lab.wait_lines(lambda lines: len(call_contexts(lines, talk.outgoing)) >= secured)
        assert len(call_contexts(lines, talk.outgoing)) == secured

    labs(msrp=policy).run(scenario)


@pytest.mark.parametrize(("policy", "caller", "called", "why"), REFUSED)
def test_refused(labs: Labs, policy: Policy, caller: str, called: str, why: str) -> None:
    """488, and the Warning names the line and the reason; nothing was forwarded in plain text instead."""

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, UES[caller], UES[called])
        outgoing = alice.dial(bob.account.aor)
        with pytest.raises(SipFailure) as failure:
            await outgoing.answered()
        response = need(failure.value.response)
        assert response.status == 488
        warning = response.headers.get("warning") or ""
        assert "399" in warning
        assert "media line 1" in warning
        assert why in warning
        assert not bob.calls

    labs(msrp=policy).run(scenario)


OTHER_LINES = """m=audio 40000 RTP/SAVP 0
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz
m=message 40002 TCP/TLS/MSRP *
a=path:msrps://127.0.0.1:40002/keyed;tcp
a=key-mgmt:mikey AQAFgM0XflABAAAAAAAAAAAAAAsAyO
m=application 40004 UDP/XYZ whatever
"""


@pytest.mark.parametrize("policy", ["off", "optional", "required", "always"])
def test_other_lines_pass_to_the_octet(labs: Labs, policy: Policy) -> None:
    """Audio with SDES, an MSRP line with key management and an unknown line, beside one that is secured."""

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, SECURE.having(extra_media=OTHER_LINES), SECURE)
        await talk.texts()
        request = talk.incoming.request_in
        assert request is not None
        assert request.body.endswith(OTHER_LINES.replace("\n", "\r\n").encode())
        await talk.hang_up()

    labs(msrp=policy).run(scenario)
