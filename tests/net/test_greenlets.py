"""Greenlets that serve one task after the other, in all engines; and the switch to them, compiled and not."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, running, until
from greenlet import getcurrent, greenlet

from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.net.greenlets import switch
from pgdoorman_lib.net.measures import SPARE_GREENLETS
from pgdoorman_lib.net.pollable import Pollable


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as made:
        yield made


class Errand(Pollable):
    """Needs a greenlet, in which it waits to be woken."""

    def __init__(self, engine: Engine, fault: Exception | None = None) -> None:
        self.fault = fault
        self.by: Any = None
        self.said = 1
        self.woken = False
        self.over = False
        self.task = Task(engine, self)
        self.task.wake()

    def poll(self) -> int:
        return self.said

    def run(self) -> None:
        self.by = getcurrent()
        if self.fault is not None:
            raise self.fault
        while not self.woken:
            self.task.park()
        self.over = True

    def wake(self) -> None:
        self.woken = True
        self.task.wake()


def carry_out(errand: Errand) -> None:
    until(lambda: errand.by is not None)
    errand.wake()
    until(lambda: errand.over)


def test_one_serves_the_next_and_keeps_nothing(engine: Engine) -> None:
    first = Errand(engine)
    carry_out(first)
    second = Errand(engine)
    carry_out(second)
    assert first.by is second.by and first.by.parent is engine.hub
    assert first.task.greenlet is None and engine.spare_greenlets == [first.by]
    gone = weakref.ref(second)
    del second
    assert gone() is None


def test_those_at_the_same_time_have_each_their_own(engine: Engine) -> None:
    crowd = [Errand(engine) for _ in range(SPARE_GREENLETS + 4)]
    until(lambda: all(errand.by is not None for errand in crowd))
    assert len({errand.by for errand in crowd}) == len(crowd)
    for errand in crowd:
        errand.wake()
    until(lambda: all(errand.over for errand in crowd))
    assert len(engine.spare_greenlets) == SPARE_GREENLETS
    assert [errand.by.dead for errand in crowd].count(True) == 4


def test_a_fault_ends_the_greenlet_it_was_raised_in(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda context, *fault: told.append(fault[0]))
    faulty = Errand(engine, RuntimeError("a fault of ours"))
    until(lambda: told == [RuntimeError])
    assert faulty.by.dead and faulty.task.greenlet is None and not engine.spare_greenlets
    carry_out(Errand(engine))


def test_who_is_at_rest_hears_nothing_of_who_is_over(engine: Engine) -> None:
    over = Errand(engine)
    carry_out(over)
    over.task.throw(RuntimeError("too late"))
    over.task.wake()
    gevent.sleep(0)
    assert [spare.dead for spare in engine.spare_greenlets] == [False]


def test_none_is_left_when_the_engine_is_closed(engine: Engine) -> None:
    carry_out(Errand(engine))
    (spare,) = engine.spare_greenlets
    engine.close()
    assert spare.dead and not engine.spare_greenlets


def test_switching() -> None:
    seen = []

    def run() -> None:
        seen.append("here")
        switch(home)
        seen.append("again")
        raise KeyError("mine")

    home = getcurrent()
    other = greenlet(run)
    switch(other)
    assert seen == ["here"]
    with pytest.raises(KeyError, match="mine"):
        switch(other)
    assert seen == ["here", "again"] and other.dead
