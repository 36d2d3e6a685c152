"""The memory of greenlets' frames is kept, within bounds, and changes nothing else."""

from __future__ import annotations

import sys

import pytest
from greenlet import getcurrent, greenlet

from pgdoorman_lib.net import arenas


@pytest.mark.skipif(arenas.__file__.endswith(".py"), reason="only where it is compiled")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="frames are no chunks before Python 3.11")
def test_chunks_are_kept_and_used_again() -> None:
    arenas.keep_chunks()
    arenas.keep_chunks()
    home = getcurrent()

    def wait() -> None:
        home.switch()

    crowd = [greenlet(wait) for _ in range(300)]
    for one in crowd:
        one.switch()
    while arenas.kept_chunks():  # by earlier tests
        crowd.append(greenlet(wait))
        crowd[-1].switch()
    for one in crowd:
        one.switch()
        assert one.dead
    kept = arenas.kept_chunks()
    assert kept == 64
    one = greenlet(wait)
    one.switch()
    assert arenas.kept_chunks() == kept - 1
    one.switch()
    assert arenas.kept_chunks() == kept
