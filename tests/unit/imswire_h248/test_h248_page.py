"""docs/iq-profile.md says what the code does."""

import pytest
from tests.unit.imswire_h248.h248_corpus import PROFILE
from tests.unit.imswire_h248.h248_page import PAGE, blocks, fill

from imswire.h248 import packages
from imswire.h248.parser import parse


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert fill(page) == page, "run: PYTHONPATH=src:. python -m tests.unit.imswire_h248.h248_page"


def test_every_message_has_an_example() -> None:
    assert list(dict.fromkeys(title for title, _ in blocks(PAGE.read_text()))) == list(PROFILE)


@pytest.mark.parametrize("title,text", blocks(PAGE.read_text()))
def test_examples_parse_to_what_the_builders_make(title: str, text: str) -> None:
    # Only SDP is written with CRLF; elsewhere any line end is white space.
    assert parse(text.replace("\n", "\r\n").encode()) == PROFILE[title]


def test_unverified_names_are_marked_with_their_reason() -> None:
    for package in packages.PACKAGES:
        assert package.verified or "not public" in package.source
        assert all(item.verified == package.verified for item in package.items)
        assert package.verified == package.source.startswith("RFC 3525")
