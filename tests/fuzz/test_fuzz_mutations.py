"""The corpora of all targets, torture messages and golden SDP among them, damaged in a few places."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.bounds import examples
from tests.fuzz.targets import TARGETS, TOKENS, corpus

HEAVY = {"edge": 30}
"""Examples of targets that do more than read."""


def damaged(name: str, data: st.DataObject) -> bytes:
    """One of the corpus with up to six changes: cut, stuffed, doubled, exchanged, or joined with a piece of another."""
    samples = corpus(name)
    out = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(out)))
        length = data.draw(st.integers(0, 40))
        match data.draw(st.integers(0, 5)):
            case 0:
                del out[at : at + length]
            case 1:
                out[at:at] = data.draw(st.sampled_from(TOKENS))
            case 2:
                out[at:at] = out[at : at + length] * data.draw(st.integers(1, 4))
            case 3:
                out[at : at + length] = data.draw(st.binary(max_size=8))
            case 4:
                out[at : at + length] = data.draw(st.sampled_from(TOKENS))
            case _:
                other = data.draw(st.sampled_from(samples))
                start = data.draw(st.integers(0, len(other)))
                out[at:at] = other[start : start + 4 * length]
    return bytes(out[:60_000])


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_corpus(name: str) -> None:
    @settings(max_examples=examples(HEAVY.get(name, 100)), deadline=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        TARGETS[name][0](damaged(name, data))

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_itself(name: str) -> None:
    assert len(corpus(name)) >= 5
    for one in corpus(name):
        TARGETS[name][0](one)
