"""The one table of header fields that may cross the trust boundary."""

import pytest

from imsalg.core.header_policy import TABLE, Direction, Rule, apply, rule
from imswire.sip.headers import Headers
from imswire.sip.message import Request

EVERYTHING = tuple((name.title(), "x") for name in TABLE)
KEPT = (("Subject", "hello"), ("X-Unknown", "1"), ("User-Agent", "ua"), ("Allow", "INVITE"))


def through(direction: Direction, *extra: tuple[str, str]) -> set[str]:
    request = Request("MESSAGE", "sip:a@b", Headers((*KEPT, *EVERYTHING, *extra)))
    apply(direction, request)
    return {key for key in request.headers.keys if key in TABLE}


@pytest.mark.parametrize("direction", list(Direction))
def test_what_the_table_says_happens(direction: Direction) -> None:
    expected = {name for name, rules in TABLE.items() if rules[direction] is not Rule.REMOVE}
    assert through(direction) == expected


@pytest.mark.parametrize("direction", list(Direction))
def test_privacy_id_hides_identities_towards_the_ue(direction: Direction) -> None:
    expected = {name for name, rules in TABLE.items() if rules[direction] is Rule.PASS}
    assert through(direction, ("Privacy", "header; id")) == expected


@pytest.mark.parametrize("direction", list(Direction))
def test_security_agreement_never_crosses(direction: Direction) -> None:
    for name in ("Security-Client", "Security-Verify", "Security-Server"):
        assert rule(name, direction) is Rule.REMOVE


def test_a_message_without_such_headers_keeps_its_bytes() -> None:
    request = Request("MESSAGE", "sip:a@b", Headers(KEPT))
    before = request.to_bytes()
    apply(Direction.REQUEST_FROM_UE, request)
    assert request.to_bytes() == before


def test_access_information_goes_in_and_never_out() -> None:
    assert rule("P-Access-Network-Info", Direction.REQUEST_FROM_UE) is Rule.PASS
    assert rule("P-Access-Network-Info", Direction.REQUEST_TO_UE) is Rule.REMOVE
    assert rule("P-Access-Network-Info", Direction.RESPONSE_TO_UE) is Rule.REMOVE
