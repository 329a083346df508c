"""The one table of header fields that may cross the trust boundary, and its rendering in the documentation."""

from pathlib import Path

import pytest

from imsalg.core.header_policy import COLUMN_TITLES, TABLE, Direction, Rule, Trust, apply, rule
from imswire.sip.headers import Headers
from imswire.sip.message import Request

PAGE = Path(__file__).resolve().parents[3] / "docs" / "signalling.md"
EVERYTHING = tuple((name, "x") for name in TABLE)
KEPT = (("Subject", "hello"), ("X-Unknown", "1"), ("User-Agent", "ua"), ("Allow", "INVITE"))
EACH = [(direction, trust) for direction in Direction for trust in Trust]


def through(direction: Direction, trust: Trust, *extra: tuple[str, str]) -> set[str]:
    request = Request("MESSAGE", "sip:a@b", Headers((*KEPT, *EVERYTHING, *extra)))
    apply(direction, request, trust)
    return {name for name, _ in request.headers if name in TABLE}


def rendered() -> str:
    """The table as docs/signalling.md has it."""
    rows = [f"| header field | {' | '.join(COLUMN_TITLES)} |", "|---" * (len(COLUMN_TITLES) + 1) + "|"]
    numbers = {word: number for number, word in enumerate(Rule)}
    for name, rules in TABLE.items():
        cells = [one.value if numbers[one] < 2 else f"({numbers[one] - 1})" for one in rules]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    notes = [f"({number - 1}) {word}" for word, number in numbers.items() if number >= 2]
    return "\n".join(rows) + "\n\n" + ";\n".join(notes) + ".\n"


def test_the_page_shows_the_table() -> None:
    shown = PAGE.read_text().partition("<!-- header policy -->\n")[2].partition("<!-- end of header policy -->")[0]
    assert shown == rendered(), "put what the test expects between the marks in docs/signalling.md"


@pytest.mark.parametrize(("direction", "trust"), EACH)
def test_what_the_table_says_happens(direction: Direction, trust: Trust) -> None:
    from_ue = direction < Direction.REQUEST_TO_UE
    ue, core = bool(trust & Trust.UE), bool(trust & Trust.CORE)
    sender, receiver = (ue, core) if from_ue else (core, ue)
    kept_when = {
        Rule.PASS: True,
        Rule.REMOVE: False,
        Rule.ASSERTED: sender,
        Rule.PRIVATE: sender,
        Rule.HISTORY: sender,
        Rule.INSIDE: receiver,
        Rule.ACCESS: receiver,
        Rule.SUPPORTED: sender,  # the value is "x"
        Rule.ORDINARY: True,
    }
    assert through(direction, trust) == {name for name, rules in TABLE.items() if kept_when[rules[direction]]}


@pytest.mark.parametrize(("direction", "trust"), EACH)
def test_privacy_id_hides_identities_from_who_is_not_trusted(direction: Direction, trust: Trust) -> None:
    receiver = Trust.CORE if direction < Direction.REQUEST_TO_UE else Trust.UE
    seen = through(direction, trust, ("Privacy", "header; id"))
    if not trust & receiver:
        assert not seen & {"P-Asserted-Identity", "History-Info"}
    else:
        assert seen == through(direction, trust)


def test_privacy_history_hides_the_history_alone() -> None:
    seen = through(Direction.REQUEST_TO_UE, Trust.CORE, ("Privacy", "history"))
    assert "P-Asserted-Identity" in seen
    assert "History-Info" not in seen


@pytest.mark.parametrize(("direction", "trust"), EACH)
def test_what_is_between_neighbours_never_crosses(direction: Direction, trust: Trust) -> None:
    for name in ("Security-Client", "Security-Verify", "Security-Server", "P-Charging-Vector", "P-User-Database"):
        assert rule(name, direction, trust) is Rule.REMOVE


def test_a_message_without_such_headers_keeps_its_bytes() -> None:
    request = Request("MESSAGE", "sip:a@b", Headers(KEPT))
    before = request.to_bytes()
    apply(Direction.REQUEST_FROM_UE, request)
    assert request.to_bytes() == before


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("IEEE-802.11", "IEEE-802.11"),
        ("IEEE-802.3;dsl-location=x;network-provided", None),
        ("3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1, IEEE-802.3;Network-Provided", "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1"),
        ('"', '"'),  # opens a quote and never closes it; only a list has to be cut
        ('a, "b;network-provided', None),
    ],
)
def test_a_ue_does_not_speak_for_the_network(given: str, kept: str | None) -> None:
    request = Request("MESSAGE", "sip:a@b", Headers([("P-Access-Network-Info", given)]))
    apply(Direction.REQUEST_FROM_UE, request)
    assert request.headers.get("p-access-network-info") == kept


def test_of_early_media_a_ue_may_say_what_it_understands() -> None:
    for given, kept in (("supported", "supported"), ("sendrecv", None), ("supported, sendonly", "supported")):
        request = Request("INVITE", "sip:a@b", Headers([("P-Early-Media", given)]))
        apply(Direction.REQUEST_FROM_UE, request)
        assert request.headers.get("p-early-media") == kept
