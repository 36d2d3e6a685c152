"""The process ids of cancel keys: room for all, positive, nobody's twice, and a mark for what was passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.cancel_keys import (
    MAX_PEER_ID,
    MAX_WORKERS,
    PEER_SPACE,
    WHOLE_SPACE,
    as_given,
    first_of,
    passed_on,
    peer_of,
    space_of,
)
from pgdoorman_lib.wire.consts import PROCESS_BASE

INT32_MAX = 0x7FFFFFFF


def test_there_is_room_for_all() -> None:
    assert space_of(1) == PEER_SPACE >= 10 * 100_000
    assert space_of(1) // MAX_WORKERS >= 16_384
    assert PROCESS_BASE + first_of(MAX_PEER_ID) + PEER_SPACE - 1 <= INT32_MAX
    assert PROCESS_BASE + space_of(0) - 1 == PROCESS_BASE + WHOLE_SPACE - 1 == INT32_MAX
    # Above every process of Linux.
    assert PROCESS_BASE >= 1 << 22


@pytest.mark.parametrize("peer", [1, 2, 3, 1000, MAX_PEER_ID - 1, MAX_PEER_ID])
@pytest.mark.parametrize("within", [0, 1, PEER_SPACE - 1])
def test_the_id_stands_in_it(peer: int, within: int) -> None:
    assert peer_of(PROCESS_BASE + first_of(peer) + within) == peer


@given(st.integers(-(1 << 31), INT32_MAX))
def test_any_number_may_be_invented(process: int) -> None:
    given_out, hopped = as_given(process)
    assert 0 <= given_out <= INT32_MAX
    assert hopped == (process < 0)
    assert 0 <= peer_of(process) <= 2043


@given(st.integers(0, INT32_MAX))
def test_the_mark_comes_off_again(process: int) -> None:
    marked = passed_on(process)
    assert -(1 << 31) <= marked < 0
    assert as_given(marked) == (process, True)
    assert as_given(process) == (process, False)
