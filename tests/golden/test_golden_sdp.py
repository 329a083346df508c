"""Pairs of session descriptions: what comes in and what must go out, for every rule of the edge.

``<case>.offer.in`` and ``.answer.in`` are what the two ends send; ``.offer.out`` and ``.answer.out`` what the other end
gets, to the byte. The files have LF line ends and are sent with CRLF, but for the cases that say otherwise. The gateway
of these tests is at 198.51.100.1 or 2001:db8::1 and hands out ports from 20001, those of the answerer's side first.
"""

from pathlib import Path

import pytest
from msgspec import Struct
from tests.playbook.mediaplay import Play, settings

from imsalg.core.media_events import MediaCommand, Proceed, Refuse, Side
from imsalg.media_settings import DirectionPolicy, MediaRealm

HERE = Path(__file__).parent


class Case(Struct, frozen=True):
    """The policy of a case. ``refused`` are words of the Warning where the offer is not let through."""

    name: str
    policy: str = "optional"
    agreed: bool = True
    access: MediaRealm = MediaRealm()
    core: MediaRealm = MediaRealm()
    refused: str = ""
    ending: str = "\r\n"

    @property
    def side(self) -> Side:
        return Side.ACCESS if self.name.startswith("originating") else Side.CORE


REWRITE = MediaRealm(path_scheme="rewrite")
AGNOSTIC = MediaRealm(msrp_mode="agnostic")
AWARE = MediaRealm(msrp_mode="aware")
MERGE = MediaRealm(tcp_mode="merge")
BY_DIRECTION = MediaRealm(msrp=DirectionPolicy(originating="off", terminating="required"))
CASES = (
    Case("originating-peer-active"),
    Case("originating-peer-passive"),
    Case("originating-peer-without-setup"),
    Case("originating-peer-holdconn"),
    Case("originating-ue-active-port-9"),
    Case("originating-peer-active-port-9"),
    Case("originating-ipv6"),
    Case("originating-path-rewrite", access=REWRITE),
    Case("originating-mixed"),
    Case("originating-two-lines"),
    Case("originating-session-level-attributes"),
    Case("originating-session-fingerprint-kept"),
    Case("originating-media-level-connection"),
    Case("originating-several-fingerprints"),
    Case("originating-sha384-only"),
    Case("originating-line-rejected"),
    Case("originating-not-agreed", agreed=False),
    Case("originating-not-requested"),
    Case("originating-session-level-3ge2ae-ignored"),
    Case("originating-plain"),
    Case("originating-off", policy="off"),
    Case("originating-always", policy="always", agreed=False),
    Case("originating-line-ends-lf", ending="\n"),
    Case(
        "originating-without-cema",
        access=AGNOSTIC,
        refused="media line 2 (message 2855 TCP/TLS/MSRP): a=msrp-cema is missing",
    ),
    Case("originating-required-without-tls", policy="required", refused="offered without TLS"),
    Case("originating-required-not-agreed", policy="required", agreed=False, refused="was not agreed at registration"),
    Case("originating-fingerprint-missing", refused="no certificate fingerprint"),
    Case("originating-fingerprint-unreadable", refused="fingerprint cannot be read"),
    Case("originating-fingerprint-unknown-hash", refused="supported hash"),
    Case("originating-domain-name-connection", refused="not an IP address"),
    Case("terminating-ue-active"),
    Case("terminating-ue-passive"),
    Case("terminating-path-rewrite", access=REWRITE),
    Case("terminating-mixed"),
    Case("terminating-session-fingerprint"),
    Case("terminating-not-agreed", agreed=False),
    Case("terminating-always", policy="always", agreed=False),
    Case("terminating-end-to-end-tls"),
    Case("terminating-foreign-marks-replaced"),
    Case("terminating-ipv6-core-ipv4-access", access=MediaRealm(family="IP4")),
    Case("originating-bfcp-peer-active"),
    Case("originating-bfcp-peer-passive"),
    Case("originating-bfcp-conference"),
    Case("originating-bfcp-rfc4583"),
    Case("originating-bfcp-without-connection"),
    Case("originating-bfcp-tls-id"),
    Case("originating-bfcp-sha384-only"),
    Case("originating-bfcp-line-rejected"),
    Case("originating-bfcp-not-agreed", agreed=False),
    Case("originating-bfcp-not-requested"),
    Case("originating-bfcp-off", policy="off"),
    Case("originating-bfcp-always", policy="always", agreed=False),
    Case("originating-bfcp-fingerprint-missing", refused="no certificate fingerprint"),
    Case(
        "originating-bfcp-required-not-agreed",
        policy="required",
        agreed=False,
        refused="bfcp-tls was not agreed at registration",
    ),
    Case("originating-bfcp-required-without-tls", policy="required", refused="offered without TLS"),
    Case("terminating-bfcp-ue-active"),
    Case("terminating-bfcp-ue-passive"),
    Case("terminating-bfcp-conference"),
    Case("terminating-bfcp-ipv6-access", access=MediaRealm(family="IP6")),
    Case("terminating-bfcp-not-agreed", agreed=False),
    Case("terminating-bfcp-required-not-agreed", policy="required", agreed=False, refused="bfcp-tls was not agreed"),
    Case("terminating-bfcp-end-to-end-tls"),
    Case("originating-aware"),
    Case("originating-aware-without-setup"),
    Case("originating-aware-host-names"),
    Case("originating-aware-path-elsewhere"),
    Case("originating-aware-peer-has-cema"),
    Case("originating-aware-forced", access=AWARE),
    Case("originating-aware-msrp-scheme-under-tls"),
    Case("originating-aware-ipv6-access-ipv4-core", core=MediaRealm(family="IP4")),
    Case("originating-aware-ue-active-port-9"),
    Case("originating-aware-line-rejected"),
    Case("terminating-aware"),
    Case("terminating-aware-old-peer"),
    Case("terminating-aware-forced", access=AWARE),
    Case("terminating-aware-ipv6-core", access=MediaRealm(family="IP4")),
    Case("originating-cema-peer-passive-without"),
    Case("originating-cema-peer-active-without"),
    Case("terminating-cema-ue-passive-without"),
    Case("terminating-cema-ue-active-without"),
    Case("originating-relays"),
    Case("terminating-relays"),
    Case("originating-relays-required", policy="required", refused="a=path names MSRP relays"),
    Case("originating-path-missing", refused="there is no a=path"),
    Case("originating-path-unreadable", refused="a=path cannot be read"),
    Case("originating-path-without-session", refused="a=path has no session id"),
    Case("originating-merge-both-active", access=MERGE),
    Case("originating-merge-ue-active-peer-passive", access=MERGE),
    Case("originating-merge-both-passive", access=MERGE),
    Case("originating-merge-both-passive-old-peer", access=MERGE),
    Case("terminating-merge-both-active", access=MERGE),
    Case("terminating-merge-old-peer", access=MERGE),
    Case("terminating-merge-both-passive", access=MERGE),
    Case("originating-held"),
    Case("terminating-unknown-attributes"),
    Case("terminating-bfcp-rfc4583"),
    Case("terminating-bfcp-tls-id"),
    Case("originating-mixed-media"),
    Case("terminating-mixed-media"),
    Case("originating-direction-policy-off", access=BY_DIRECTION),
    Case("terminating-direction-policy-required", access=BY_DIRECTION, agreed=False, refused="msrp-tls was not agreed"),
)


def read(case: Case, what: str) -> bytes:
    return (HERE / f"{case.name}.{what}").read_text("utf-8").replace("\n", case.ending).encode()


def verdict(play: Play, first: list[MediaCommand]) -> MediaCommand:
    commands = [*first, *play.drain()]
    found = [command for command in commands if isinstance(command, (Proceed, Refuse))]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden(case: Case) -> None:
    use = settings(case.policy, bfcp=case.policy, access=case.access, core=case.core)
    play = Play(use, agreed=case.agreed)
    offered = verdict(play, play.offer(read(case, "offer.in"), case.side))
    if case.refused:
        assert isinstance(offered, Refuse)
        assert offered.status == 488
        assert case.refused in offered.warning
        return
    assert isinstance(offered, Proceed)
    assert offered.body == read(case, "offer.out")
    other = Side.CORE if case.side is Side.ACCESS else Side.ACCESS
    answered = verdict(play, play.answer(read(case, "answer.in"), other))
    assert isinstance(answered, Proceed)
    assert answered.body == read(case, "answer.out")


def test_every_file_belongs_to_a_case() -> None:
    wanted = set()
    for case in CASES:
        kinds = ("offer.in",) if case.refused else ("offer.in", "offer.out", "answer.in", "answer.out")
        wanted |= {f"{case.name}.{kind}" for kind in kinds}
    assert wanted == {path.name for path in HERE.iterdir() if path.suffix in (".in", ".out")}


def test_cases_that_pass_are_unchanged() -> None:
    same = {case.name for case in CASES if not case.refused and read(case, "offer.in") == read(case, "offer.out")}
    assert same == {
        "originating-not-agreed",
        "originating-not-requested",
        "originating-session-level-3ge2ae-ignored",
        "originating-plain",
        "originating-off",
        "terminating-not-agreed",
        "terminating-end-to-end-tls",
        "originating-bfcp-not-agreed",
        "originating-bfcp-not-requested",
        "originating-bfcp-off",
        "originating-direction-policy-off",
        "originating-relays",
        "terminating-bfcp-end-to-end-tls",
        "terminating-bfcp-not-agreed",
        "terminating-relays",
    }
