"""A connection that comes before the answer: met with silence, or taken at once (TR 29.828 5.2.1.2.2 step 11)."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Literal

import pytest
from tests.system.labs import FLOWS, Labs, Talk, connect, media_lines, register

from imslab.lab import Lab
from imslab.ladder.read import TraceLine
from imslab.ue.call import Call

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-early-syn")]

ESTABLISHED, SYN_SENT = "01", "02"


def states_towards(port: int) -> set[str]:
    """The states of those TCP sockets of this process (the UEs live in it) whose remote port is this one."""
    own = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            own.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == port and f"socket:[{fields[9]}]" in own:
                found.add(fields[3])
    return found


def target(call: Call) -> int:
    """The AGW's port in the offer that a call answers."""
    assert call.media.remote is not None
    return call.media.remote.media[0].port


def of_realm(lines: list[TraceLine], call: Call, realm: str) -> list[TraceLine]:
    return [one for one in media_lines(lines, call, "tcp") if one.realm == realm]


@pytest.mark.parametrize(
    ("source_filter", "ipv6"),
    [("off", False), ("address", False), ("address-and-port", False), ("address-and-port", True)],
)
@pytest.mark.parametrize(("flow", "realm"), [("originating", "core"), ("terminating", "access")])
def test_ignored(
    labs: Labs, flow: str, realm: str, ipv6: bool, source_filter: Literal["off", "address", "address-and-port"]
) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, a, b.having(early_syn=True, keep_port=True))
        outgoing = alice.dial(bob.account.aor)
        incoming = await bob.wait_call()
        answer = incoming.prepare()
        async with asyncio.timeout(5):
            await incoming.media.syn_sent.wait()
        assert states_towards(target(incoming)) == {SYN_SENT}
        assert incoming.session.link is None
        incoming.confirm(answer)
        await outgoing.answered()
        talk = Talk(outgoing, incoming)
        await talk.texts()
        lines = await lab.wait_lines(
            lambda lines: {"syn-held", "accepted"} <= {str(one.what) for one in of_realm(lines, outgoing, realm)}
        )
        held = next(one for one in of_realm(lines, outgoing, realm) if one.what == "syn-held")
        accepted = next(one for one in of_realm(lines, outgoing, realm) if one.what == "accepted")
        assert held.count
        assert accepted.t > held.t
        # The other side is dialled only now: no half-built path while SYNs are ignored.
        other = "access" if realm == "core" else "core"
        dialled = [one.t for one in of_realm(lines, outgoing, other) if one.what == "dialling"]
        assert len(dialled) == 1
        assert dialled[0] >= accepted.t
        await talk.hang_up()

    labs(early_syn="ignore", source_filter=source_filter, ipv6=ipv6).run(scenario)


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("flow", "realm"), [("originating", "core"), ("terminating", "access")])
def test_accepted(labs: Labs, flow: str, realm: str, ipv6: bool) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        alice, bob = await register(lab, a, b.having(early_syn=True, keep_port=True))
        outgoing = alice.dial(bob.account.aor)
        incoming = await bob.wait_call()
        answer = incoming.prepare()
        await lab.wait_lines(lambda lines: "accepted" in {str(one.what) for one in of_realm(lines, outgoing, realm)})
        assert states_towards(target(incoming)) == {ESTABLISHED}
        other = "access" if realm == "core" else "core"
        await lab.wait_lines(lambda lines: "connected" in {str(one.what) for one in of_realm(lines, outgoing, other)})
        if realm == "access":
            # The handshake ran before the answer; the verdict waits for the fingerprint in it.
            await lab.wait_lines(
                lambda lines: [one.what for one in media_lines(lines, outgoing, "verify")] == ["pending"]
            )
        else:
            # TLS towards the caller is started when the answer has told who is active.
            assert not [one for one in media_lines(lab.lines(), outgoing, "tls") if one.what == "handshake"]
        incoming.confirm(answer)
        await outgoing.answered()
        talk = Talk(outgoing, incoming)
        await talk.texts()
        lines = await lab.wait_lines(
            lambda lines: "verified" in {str(one.what) for one in media_lines(lines, outgoing, "verify")}
        )
        assert "syn-held" not in {str(one.what) for one in of_realm(lines, outgoing, realm)}
        await talk.hang_up()

    labs(early_syn="accept", source_filter="address", ipv6=ipv6).run(scenario)


@pytest.mark.parametrize("early", ["ignore", "accept"])
@pytest.mark.parametrize("flow", ["originating", "terminating"])
def test_a_stranger_is_not_let_in(labs: Labs, flow: str, early: Literal["ignore", "accept"]) -> None:
    """Once the remote address is known, connections from elsewhere are not accepted (source_filter)."""
    a, b = FLOWS[flow]
    realm = "core" if flow == "originating" else "access"

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a, b)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stranger:
            stranger.bind(("127.0.0.2", 0))
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", target(talk.incoming)))
            await talk.texts()
            assert stranger.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != int(ESTABLISHED)
        await talk.hang_up()
        lines = await lab.wait_lines(lambda lines: bool(media_lines(lines, talk.outgoing, "bytes")))
        accepted = [one.peer for one in of_realm(lines, talk.outgoing, realm) if one.what == "accepted"]
        assert len(accepted) == 1
        assert not str(accepted[0]).startswith("127.0.0.2")

    labs(early_syn=early, source_filter="address", ipv6=False).run(scenario)
