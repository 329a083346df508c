"""Labs of real processes for the tests in this directory."""

from collections.abc import Iterator

import pytest
from tests.system.labs import Labs


@pytest.fixture(scope="module")
def labs() -> Iterator[Labs]:
    """``labs(early_syn="ignore")`` is a running lab with these settings, shared by the tests of one file."""
    running = Labs()
    yield running
    running.close()
