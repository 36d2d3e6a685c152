"""A worker's roll: what is read of it after the death of its writer is what stood there, whole."""

from __future__ import annotations

import os
import signal
from typing import Any

from gevent.monkey import get_original
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.pool.roll import PLACES, Orphan, Roll

fork: Any = get_original("os", "fork")
waitpid: Any = get_original("os", "waitpid")

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
orphans = st.builds(
    Orphan,
    names,
    names,
    st.integers(1, 2**31 - 1),
    st.binary(min_size=4, max_size=32),
    names,
    st.integers(1, 65535),
    st.sampled_from(["", "127.0.0.1", "fe80::1%eth0"]),
)
SOMEWHERE = "db", 5432, "10.0.0.1"


@given(st.lists(orphans, unique_by=lambda one: (one.pid, one.secret), max_size=20), st.data())
def test_what_was_added_and_not_removed(all_of_them: list[Orphan], data: st.DataObject) -> None:
    roll = Roll()
    removed = set()
    for one in all_of_them:
        roll.add(one)
        if data.draw(st.booleans()):
            roll.remove(one.pid, one.secret)
            removed.add(one)
    expected = {
        one for one in all_of_them if one not in removed and len("".join([*one[:2], one.host]).encode()) + 44 < 240
    }
    assert expected <= set(roll.read()) <= set(all_of_them) - removed
    roll.clear()
    assert not list(roll.read())


def test_one_that_is_full_takes_no_more() -> None:
    roll = Roll()
    for number in range(1, PLACES + 2):
        roll.add(Orphan("d", "u", number, b"secr", *SOMEWHERE))
    assert {one.pid for one in roll.read()} == set(range(1, PLACES + 1))
    roll.remove(7, b"secr")
    roll.add(Orphan("d", "u", PLACES + 1, b"secr", *SOMEWHERE))
    assert PLACES + 1 in {one.pid for one in roll.read()}


def test_names_too_long_are_left_out() -> None:
    roll = Roll()
    roll.add(Orphan("d" * 300, "u", 1, b"secr", *SOMEWHERE))
    roll.remove(1, b"secr")
    assert not list(roll.read())


def test_it_is_read_behind_the_writers_death() -> None:
    roll = Roll()
    pid = fork()
    if not pid:
        roll.add(Orphan("shop", "anna", 77, b"secret", *SOMEWHERE))
        os.kill(os.getpid(), signal.SIGKILL)
    waitpid(pid, 0)
    assert list(roll.read()) == [Orphan("shop", "anna", 77, b"secret", *SOMEWHERE)]
