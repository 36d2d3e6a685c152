"""Whose servers are counted on when a worker dies that counted them for one of the program before."""

from __future__ import annotations

from typing import Any

import pytest

from pgdoorman_lib.supervisor.before import Before


class Noted:
    """Stands for the ledger: notes what is kept, and when it is let go."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def reclaim(self, worker: int, keep_elsewhere: bool) -> None:
        self.notes.append(f"{worker} {'kept' if keep_elsewhere else 'gone'}")

    def let_go(self) -> None:
        self.notes.append("let go")

    def since(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes


@pytest.fixture
def ledger() -> Noted:
    return Noted()


@pytest.fixture
def before(ledger: Any) -> Before:
    """Old workers 1 and 2, for each of which one of the same number counts."""
    found = Before(ledger)
    for number in (1, 2):
        found.given(number, number)
        found.counted(number, number)
    ledger.since()
    return found


def test_until_another_counts(before: Before, ledger: Noted) -> None:
    before.died(1)
    before.bury(1)
    before.given(1, 2)
    assert ledger.since() == ["1 kept"]
    before.counted(1, 2)
    assert ledger.since() == ["let go"]


def test_not_when_another_counts_already(before: Before, ledger: Noted) -> None:
    before.died(1)
    before.given(1, 2)
    before.counted(1, 2)
    before.bury(1)
    assert ledger.since() == ["let go", "1 gone"]
    before.given(2, 3)
    before.counted(2, 3)
    before.died(2)
    before.bury(2)
    assert ledger.since()[-1] == "2 kept", "it counted for 1 as well"


def test_one_that_was_an_heir_once_and_is_none_any_more(before: Before, ledger: Noted) -> None:
    before.given(1, 3)
    before.counted(1, 3)
    before.died(1)
    before.bury(1)
    assert ledger.since()[-1] == "1 gone"


def test_one_whose_last_word_comes_behind_its_death(ledger: Any) -> None:
    before = Before(ledger)
    before.given(1, 1)
    before.died(1)
    before.counted(1, 1)
    before.bury(1)
    assert ledger.since() == ["1 kept"]
    before.given(1, 2)
    before.counted(1, 2)
    assert ledger.since() == ["let go"]


def test_one_that_has_not_yet_said_that_it_counts(ledger: Any) -> None:
    before = Before(ledger)
    before.given(1, 1)
    before.died(1)
    before.bury(1)
    assert ledger.since() == ["1 kept"]


def test_until_all_are_counted(before: Before, ledger: Noted) -> None:
    for number in (1, 2):
        before.died(number)
        before.bury(number)
    assert ledger.since() == ["1 kept", "2 kept"]
    before.given(1, 3)
    before.counted(1, 3)
    assert ledger.since() == []
    before.given(2, 3)
    before.counted(2, 3)
    assert ledger.since() == ["let go"]


def test_until_the_old_program_has_ended(before: Before, ledger: Noted) -> None:
    before.died(1)
    before.bury(1)
    before.ended()
    before.died(2)
    before.bury(2)
    assert ledger.since() == ["1 kept", "let go", "2 gone"]
