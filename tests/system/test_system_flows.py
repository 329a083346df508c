"""Both e2ae flows for MSRP over real processes: who connects, which TLS, which IP, which SIP transport
(TR 29.828 5.2.1.2.2 and 5.2.1.2.3)."""

from dataclasses import replace
from typing import Any, Literal

import pytest
from tests.system.labs import FLOWS, SECURE, Labs, Transport, connect, media_lines

from imskit.common_settings import MediaTlsSettings
from imslab.lab import Lab
from imswire.sdp.attributes import E2ae, Setup

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-flows")]

ROLES = [
    (Setup.ACTPASS, Setup.ACTIVE),
    (Setup.ACTPASS, Setup.PASSIVE),
    (Setup.ACTIVE, Setup.PASSIVE),
    (Setup.PASSIVE, Setup.ACTIVE),
    (None, None),
]
"""a=setup of offer and answer (RFC 4145 4); None stands for its absence: the offerer connects (RFC 4975 5.4)."""
ON_HOLD = [
    (Setup.ACTPASS, Setup.HOLDCONN),
    (Setup.ACTIVE, Setup.HOLDCONN),
    (Setup.PASSIVE, Setup.HOLDCONN),
    (Setup.HOLDCONN, Setup.HOLDCONN),
]
EARLY: list[Literal["ignore", "accept"]] = ["ignore", "accept"]


def settings(early: str, ipv6: bool = False) -> dict[str, Any]:
    return {"early_syn": early, "ipv6": ipv6, "sip_tls": True}


@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("offered", "answered"), ROLES)
def test_setup_roles(labs: Labs, flow: str, early: str, offered: Setup | None, answered: Setup | None) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a.having(offer_setup=offered), b.having(answer_setup=answered))
        await talk.texts()
        secured = [a.media.secure, b.media.secure]
        assert [bool(version) for version in talk.tls()] == secured
        assert talk.incoming.media.offered_e2ae is (E2ae.APPLIED if b.media.secure else None)
        await talk.hang_up()
        lines = await lab.wait_lines(lambda lines: len(media_lines(lines, talk.outgoing, "bytes")) == sum(secured))
        assert [one.what for one in media_lines(lines, talk.outgoing, "verify") if one.what != "pending"] == [
            "verified"
        ] * sum(secured)
        # The TCP-active party is the TLS client (RFC 6135 6): the AGW is where the UE did not connect.
        offerer_connects = (answered or Setup.PASSIVE) is not Setup.ACTIVE
        roles = {
            "originating": ["start-server" if offerer_connects else "start-client"],
            "terminating": ["start-client" if offerer_connects else "start-server"],
            "both": ["start-client", "start-server"],
        }
        seen = [str(one.what) for one in media_lines(lines, talk.outgoing, "tls") if str(one.what).startswith("start")]
        assert sorted(seen) == roles[flow]

    labs(**settings(early)).run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("offered", "answered"), ON_HOLD)
def test_a_held_connection_is_not_made(labs: Labs, flow: str, offered: Setup, answered: Setup) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a.having(offer_setup=offered), b.having(answer_setup=answered))
        for call in talk.ends:
            assert call.media.remote is not None
            assert [call.session.link, call.ended.done()] == [None, False]
        await talk.hang_up()
        assert not [one for one in media_lines(lab.lines(), talk.outgoing, "tcp") if one.what == "dialling"]

    labs(**settings("accept")).run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("answered", [Setup.ACTIVE, Setup.PASSIVE])
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_tls_versions_and_families(
    labs: Labs, flow: str, version: Literal["1.2", "1.3"], answered: Setup, ipv6: bool
) -> None:
    tls = MediaTlsSettings(min_version=version, max_version=version)
    a, b = (one.having(tls=tls, answer_setup=answered) for one in FLOWS[flow])

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, a, b)
        await talk.texts()
        assert talk.tls() == [f"TLSv{version}" if one.media.secure else "" for one in (a, b)]
        for call in talk.ends:
            assert call.session.link is not None
            assert call.session.link.peer[0] == ("::1" if ipv6 else "127.0.0.1")
        await talk.hang_up()

    labs(**settings("accept", ipv6)).run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
def test_early_syns_are_ignored_over_ipv6_too(labs: Labs, flow: str) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, *FLOWS[flow])
        await talk.texts()
        await talk.hang_up()

    labs(**settings("ignore", ipv6=True)).run(scenario)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("a_over", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("b_over", ["udp", "tcp", "tls"])
def test_sip_transports(labs: Labs, flow: str, a_over: Transport, b_over: Transport) -> None:
    a, b = FLOWS[flow]

    async def scenario(lab: Lab) -> None:
        talk = await connect(lab, replace(a, transport=a_over), replace(b, transport=b_over))
        await talk.texts()
        await talk.hang_up()

    labs(**settings("accept")).run(scenario)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_sip_over_ipv6(labs: Labs, transport: Transport) -> None:
    async def scenario(lab: Lab) -> None:
        end = replace(SECURE, transport=transport)
        talk = await connect(lab, end, end)
        await talk.texts()
        assert await talk.incoming.hangup() == 200
        await talk.outgoing.wait_end()

    labs(**settings("accept", ipv6=True)).run(scenario)


@pytest.mark.parametrize(("low", "high", "shown"), [("1.2", "1.2", "TLSv1.2"), ("1.3", "1.3", "TLSv1.3")])
def test_the_range_of_tls_versions_is_a_setting_of_the_agw(labs: Labs, low: str, high: str, shown: str) -> None:
    async def scenario(lab: Lab) -> None:
        talk = await connect(lab)
        await talk.texts()
        assert talk.tls() == [shown, shown]
        await talk.hang_up()

    labs(tls=(low, high)).run(scenario)
