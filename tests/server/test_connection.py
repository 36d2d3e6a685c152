"""The states of a server: only what makes sense follows, and SHOW has a word for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from core_fakes import Settings, running, server_pair

from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import FOLLOWING, WORDS, Server

#: A way to each state from the beginning.
WAYS = {
    states.LOGIN: (),
    states.IDLE: (states.IDLE,),
    states.ACTIVE: (states.ACTIVE,),
    states.CLEANING: (states.ACTIVE, states.CLEANING),
    states.CLOSED: (states.CLOSED,),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with running("epoll") as engine:
        made, peer = server_pair(engine, Settings())
        yield made
        made.stream.close()
        peer.close()


@pytest.mark.parametrize("after", sorted(WORDS))
@pytest.mark.parametrize("before", sorted(WORDS))
def test_a_state_follows_where_it_may(server: Server, before: int, after: int) -> None:
    for stage in WAYS[before]:
        server.enter(stage)
    assert server.state == WORDS[before]
    if after in FOLLOWING[before]:
        server.enter(after)
        assert server.state == WORDS[after]
    else:
        with pytest.raises(RuntimeError, match=f"is {WORDS[before]} and can't be {WORDS[after]}"):
            server.enter(after)
        assert server.state == WORDS[before]


def test_who_has_left_stays_away() -> None:
    assert not FOLLOWING[states.CLOSED]
    assert states.LOGIN not in {stage for following in FOLLOWING.values() for stage in following}
    assert states.CLEANING not in FOLLOWING[states.IDLE]
