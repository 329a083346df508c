"""Every output of the two halves has somebody who does what it asks for."""

from typing import TypeAliasType, get_args

from tests.playbook.alg_harness import Book, settings

from imsalg.core.context import Internal


def members(kind: object) -> set[object]:
    """The classes of a union, through its aliases."""
    if isinstance(kind, TypeAliasType):
        return members(kind.__value__)
    parts = get_args(kind)
    return set().union(*map(members, parts)) if parts else {kind}


def test_turns_are_total() -> None:
    assert set(Book(settings()).engine.turns.by_type) == members(Internal)
