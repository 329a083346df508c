"""Each order of the call table, and each event of the media half, has somebody who carries it out."""

from typing import get_args

import pytest

from imsalg.core.call import REACTIONS
from imsalg.core.call_model import Do
from imsalg.core.media import EVENTS
from imsalg.core.media_events import MediaEvent, Side
from imsalg.core.media_policy import History, LineFacts, Prints, Proto, decide


def test_each_order_is_carried_out() -> None:
    assert REACTIONS.keys() == set(Do)
    assert [do for do, reaction in REACTIONS.items() if reaction is None] == [Do.IGNORE]


def test_each_event_is_taken() -> None:
    assert EVENTS.keys() == set(get_args(MediaEvent))


@pytest.mark.parametrize("history", list(History))
@pytest.mark.parametrize("proto", list(Proto))
def test_what_is_remembered_of_the_matrix_names_the_line_anew(proto: Proto, history: History) -> None:
    first, second = (
        LineFacts(index, Side.ACCESS, proto, history, prints=Prints.BROKEN, label=f"message {index} x")
        for index in (0, 1)
    )
    before, after = decide(first, "required"), decide(second, "required")
    assert (before.kind, before.reason, before.mode) == (after.kind, after.reason, after.mode)
    assert (before.index, after.index) == (0, 1)
    if after.warning:
        assert "media line 2 (message 1 x)" in after.warning
        assert "media line 1 (message 0 x)" in before.warning
