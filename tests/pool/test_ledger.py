"""The table of counts that worker processes share: exact whoever dies when, told by doorbells, and never leaking."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import traceback
from array import array
from collections.abc import Callable, Iterator
from typing import NoReturn

import gevent
import pytest
from core_fakes import until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pgdoorman_lib.errors import ConfigError, LocalResourcesExhausted
from pgdoorman_lib.pool import ledger as ledger_module
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.row import LATELY, MARGIN, OBJECTS, RATIO, STUCK, TEXTS, Row


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create(3)
    yield made
    made.close()


def worker(ledger: Ledger, number: int) -> Ledger:
    """As another process's: by descriptors of its own."""
    return Ledger.join([os.dup(fd) for fd in ledger.descriptors()], number)


@pytest.fixture
def workers(ledger: Ledger) -> Iterator[list[Ledger]]:
    made = [worker(ledger, number) for number in (1, 2, 3)]
    yield made
    for each in made:
        each.close()


def in_child(run: Callable[[], object]) -> int:
    """The pid of a forked process that does this and ends; it uses nothing of gevent's."""
    pid = os.fork()
    if pid:
        return pid
    try:
        run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def end_of(pid: int) -> int:
    """How a child has ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def vanish(ledger: Ledger) -> None:
    """Be gone from one moment to the next, and leave no row."""
    for rows in ledger._joined.values():
        for row in rows:
            row.cells = array("q", bytes(1000))
    ledger._joined.clear()
    ledger.close()


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


# Counts.


def test_places_are_counted_over_all_workers(ledger: Ledger, workers: list[Ledger]) -> None:
    one, two, _ = (each.row("pool", "shop", "alice") for each in workers)
    assert one.take(2) and two.take(2) and not one.take(2) and not two.take(2)
    assert (one.total(), two.total(), one.held, two.held) == (2, 2, 1, 1)
    two.give_back()
    assert one.take(2) and (one.held, one.held_by(1), two.held_by(2)) == (2, 2, 0)
    assert one.take(3), "another limit"
    with pytest.raises(RuntimeError, match="nobody has taken"):
        two.give_back()


def test_rows_are_told_apart_by_all_their_words(workers: list[Ledger]) -> None:
    first, _, _ = workers
    rows = [
        first.row("pool", "a", "bc"),
        first.row("pool", "ab", "c"),
        first.row("user", "ab"),
        first.row("pool\0", "é"),
    ]
    rows[0].add()
    assert [row.total() for row in rows] == [1, 0, 0, 0]
    assert len({row.number for row in rows}) == 4
    assert first.row("pool", "ab", "c").number == rows[1].number


def test_places_beyond_the_limit_and_elsewhere_count(workers: list[Ledger]) -> None:
    one, two, _ = (each.row("pool") for each in workers)
    one.add(3)
    two.set_elsewhere(2)
    assert two.total() == 5 and not two.take(5)
    two.set_elsewhere(1)
    assert two.take(5)
    two.leave()
    assert one.total() == 3, "what it has taken, and what it had counted elsewhere, has gone with it"


def test_what_no_place_is_taken_for(workers: list[Ledger]) -> None:
    one, two, three = (worker.row("memory") for worker in workers)
    one.count(700)
    two.count(50)
    one.count(-300)
    assert three.total() == 450
    one.leave()
    assert three.total() == 50


def test_who_is_served_and_who_waits_in_all(workers: list[Ledger]) -> None:
    one, two, _ = (worker.row("pool") for worker in workers)
    one.add(3)
    two.add(2)
    one.rest_is(1)
    two.line_is(2, 1.0)
    one.line_is(1, 2.0)
    assert (one.used(), one.all_waiting()) == (two.used(), two.all_waiting()) == (4, 3)


def test_places_beyond_the_limit_are_seen(workers: list[Ledger]) -> None:
    """Those of a process that is no worker apart: what it has goes over, and is no more than there was."""
    one, other = (worker.row("pool", "db", "user") for worker in workers[:2])
    one.add(2)
    other.add()
    other.set_elsewhere(5)
    assert not one.is_overfull(3)
    assert one.is_overfull(2)
    assert other.is_overfull(2)


def test_what_was_announced_outlives_who_has_said_so(ledger: Ledger, workers: list[Ledger]) -> None:
    first, second = (each.row("objects") for each in workers[:2])
    first.announce(TEXTS)
    first.announce(TEXTS)
    second.announce(OBJECTS)
    ledger.reclaim(1)
    assert (second.announced(TEXTS), second.announced(OBJECTS)) == (2, 1)
    third = workers[2].row("objects")
    assert third.announced(TEXTS) == 2, "whoever joins goes on from there"
    second.leave()
    third.leave()
    assert workers[1].row("objects").announced(TEXTS) == 0, "nobody had heard of it"


def test_two_that_join_a_row_in_one_process_count_for_themselves(workers: list[Ledger]) -> None:
    """As a pool that a reload has brought back while its predecessor still has servers."""
    first, second, _ = workers
    before, after, other = first.row("pool"), first.row("pool"), second.row("pool")
    before.add(2)
    after.add(1)
    before.leave()
    assert (other.total(), after.held) == (1, 1)
    after.leave()
    assert other.total() == 0


def test_rows_nobody_has_joined_are_used_again(ledger: Ledger, workers: list[Ledger]) -> None:
    first, second, _ = workers
    row, same = first.row("one"), second.row("one")
    row.add()
    row.line_is(3, 5.0)
    row.rest_is(4)
    number = row.number
    row.leave()
    assert first.row("another").number != number, "somebody has joined it still"
    same.leave()
    again = second.row("a third")
    assert again.number == number
    assert (again.total(), again.waiting(1), again.rests_elsewhere(), again.oldest_elsewhere()) == (0, 0, 0, 0.0)
    assert ledger.rows_in_use() == 2


def test_a_full_table_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "ROWS", 4)
    small = Ledger.create(2)
    rows = [small.row("pool", str(number)) for number in range(4)]
    with pytest.raises(LocalResourcesExhausted, match="the table of what worker processes share is full: 4 pools"):
        small.row("pool", "one more")
    rows[2].leave()
    assert small.row("pool", "one more").number == 2
    small.close()


def test_descriptors_of_something_else_are_refused(ledger: Ledger) -> None:
    table, *bells = ledger.descriptors()
    other = os.memfd_create("something else")
    os.ftruncate(other, 4096)
    for descriptors in ([other, *bells], [table, *bells[1:]]):
        with pytest.raises(ConfigError, match="no ledger"):
            Ledger.join(descriptors, 1)
    with pytest.raises(ConfigError, match="no ledger"):
        Ledger.join([table, *bells], 4)
    os.close(other)


# Several processes.


def hammer(ledger: Ledger, number: int, rounds: int, limit: int, used: mmap.mmap) -> None:
    """Take and give back; ``used`` has a byte for each place, which who has it marks."""
    look = Row.total

    def look_slowly(self: Row) -> int:
        found = look(self)
        os.sched_yield()  # what was looked at is old by now, unless others are kept from writing
        return found

    with contextlib.suppress(TypeError):  # what is compiled can't be replaced
        Row.total = look_slowly  # type: ignore[method-assign]
    row = ledger.joined(number).row("pool")
    dice = random.Random(number)
    mine = 0
    for _ in range(rounds):
        if mine and dice.random() < 0.5:
            used[number] -= 1
            mine -= 1
            row.give_back()
        elif row.take(limit):
            mine += 1
            used[number] += 1
            assert sum(used[:8]) <= limit, list(used[:8])
    while mine:
        used[number] -= 1
        mine -= 1
        row.give_back()


def test_the_limit_is_never_exceeded_by_processes_at_once(ledger: Ledger) -> None:
    used = mmap.mmap(-1, 4096)
    row = ledger.row("pool")
    children = [in_child(lambda number=number: hammer(ledger, number, 5000, 4, used)) for number in (1, 2, 3)]  # type: ignore[misc]
    assert [end_of(pid) for pid in children] == [0, 0, 0]
    assert row.total() == 0


def killed_at(point: str) -> Callable[[], None]:
    """Dies around the writing of a count: ``before`` it, having the lock, or ``behind`` it, having it still."""
    real = ledger_module.lockf
    calls = iter(range(1000))

    def lockf(fd: int, operation: int) -> None:
        if point == "behind" and operation == ledger_module.LOCK_UN and next(calls) == 1:
            die()
        real(fd, operation)
        if point == "before" and operation == ledger_module.LOCK_EX and next(calls) == 1:
            die()

    def patched() -> None:
        ledger_module.lockf = lockf

    return patched


@pytest.mark.parametrize("point", ["before", "behind"])
@pytest.mark.parametrize("act", ["row", "take", "give_back", "leave", "claim", "elsewhere"])
def test_who_is_killed_inside_the_lock_harms_nobody(ledger: Ledger, point: str, act: str) -> None:
    watching = worker(ledger, 2)
    others = watching.row("pool")
    others.add()
    others.line_is(1, 7.0)

    def run() -> None:
        mine = ledger.joined(1)
        row = mine.row("another")
        if act != "row":
            row = mine.row("pool")
            row.add(2)
        killed_at(point)()
        ledger_module.lockf(ledger.descriptors()[0], ledger_module.LOCK_UN if point == "behind" else 2)
        acts = {
            "row": lambda: mine.row("a third"),
            "take": lambda: row.take(9),
            "give_back": row.give_back,
            "leave": row.leave,
            "claim": lambda: row.claim(2),
            "elsewhere": lambda: row.set_elsewhere(3),
        }
        acts[act]()
        raise AssertionError("not killed")

    assert end_of(in_child(run)) == -signal.SIGKILL
    ledger.reclaim(1)
    assert (others.total(), others.held_by(1)) == (1, 0)
    assert others.claim(2) or act != "claim", "who was claimed by the dead is to be served"
    assert ledger.rows_in_use() == 1
    watching.close()


def test_what_a_dead_one_counted_elsewhere_is_kept_until_it_is_let_go(ledger: Ledger) -> None:
    """The process that is none of the workers has not died, and what it has may be nobody else's."""
    watching = worker(ledger, 2)
    mine = watching.row("pool")
    mine.add()

    def run() -> None:
        other = ledger.joined(1)
        for words, number in ((("pool",), 3), (("its own",), 2)):
            row = other.row(*words)
            row.add()
            row.set_elsewhere(number)
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        assert end_of(in_child(run)) == -signal.SIGKILL
        ledger.reclaim(1, keep_elsewhere=True)
    assert (mine.total(), mine.held_by(1)) == (7, 0)
    assert watching.row("its own").total() == 4, "though nobody was left who had joined it"
    mine.line_is(1, 7.0)
    heard = []
    mine.heard = lambda: heard.append(mine.total())
    ledger.let_go()
    watching.answer()
    assert heard == [1], "who waits is told"
    watching.close()
    assert ledger.rows_in_use() == 0
    ledger.let_go()


def test_a_hundred_kills_leave_counts_exact_and_no_descriptor(ledger: Ledger) -> None:
    watching = worker(ledger, 3)
    mine = watching.row("pool")
    assert mine.take(6)
    dice = random.Random(13)
    used = mmap.mmap(-1, 4096)
    bystander = in_child(lambda: hammer(ledger, 2, 10_000_000, 5, used))
    before = sorted(os.listdir("/proc/self/fd"))
    try:
        for _ in range(100):
            pid = in_child(lambda: hammer(ledger, 1, 10_000_000, 5, used))
            until(lambda: used[1])
            gevent.sleep(dice.random() * 0.003)
            os.kill(pid, signal.SIGKILL)
            assert end_of(pid) == -signal.SIGKILL
            used[1] = 0
            ledger.reclaim(1)
            assert mine.held_by(1) == 0 and 1 <= mine.total() <= 5
    finally:
        os.kill(bystander, signal.SIGKILL)
        assert end_of(bystander) == -signal.SIGKILL, "it has seen the limit kept"
    ledger.reclaim(2)
    assert mine.total() == 1
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert ledger.rows_in_use() == 1
    watching.close()


# Lines.


def test_whose_turn_it_is(workers: list[Ledger]) -> None:
    one, two, three = (each.row("pool") for each in workers)
    now = 1000.0
    assert one.turn_of(0.0, now) == 0, "nobody waits"
    two.line_is(1, now - 0.010)
    assert one.turn_of(0.0, now) == 2 and two.turn_of(0.0, now) == 0
    three.line_is(4, now - 0.011)
    assert one.turn_of(0.0, now) == 3, "the one that has waited for longest"
    assert two.turn_of(now - 0.010, now) == 0, "it is not worth the way"
    assert two.turn_of(now - 0.011 / (RATIO + 0.1), now) == 3
    two.line_is(1, now - 0.0001)
    three.line_is(1, now - MARGIN)
    assert two.turn_of(now - 0.0001, now) == 0, "ten times as long is next to nothing still"
    two.margin = MARGIN / 2
    assert two.turn_of(now - 0.0001, now) == 3, "where it is a short way"
    assert (one.waiting(3), one.waiting_since(3)) == (1, pytest.approx(now - MARGIN))
    assert two.oldest_elsewhere() == one.waiting_since(3)


def test_who_has_a_share_of_servers_waits_for_those(workers: list[Ledger]) -> None:
    """Between workers that have as many servers for as many clients none goes, however their lines happen to be."""
    one, two, _ = (each.row("pool") for each in workers)
    now = 1000.0
    for row in (one, two):
        row.add(2)
        row.line_is(18, now - 0.002)
    for _ in range(3 * LATELY):
        assert one.turn_of(now - 0.002, now) == 0
    two.line_is(18, now - 0.012)
    assert one.turn_of(now - 0.002, now) == 0, "three times as long a wait is chance"
    one.line_is(0, 0.0)
    assert one.turn_of(0.0, now) == 0, "those it has answered ask again in a moment"
    two.line_is(18, now - MARGIN * STUCK - 0.001 - 2 * 0.002)
    assert one.turn_of(now - 0.002, now) == 2, "something keeps those it has"


def test_who_has_less_than_a_share_gets_one(workers: list[Ledger]) -> None:
    one, two, three = (each.row("pool") for each in workers)
    now = 1000.0
    one.add(3)
    two.add(1)
    one.line_is(17, now - 0.002)
    two.line_is(19, now - 0.0049)
    assert one.turn_of(now - 0.002, now) == 2
    assert (one.surplus(2), two.surplus(1)) == (pytest.approx(1.0), pytest.approx(-1.5))
    two.line_is(19, now - 0.0029)
    assert one.turn_of(now - 0.002, now) == 0, "it is not its turn yet"
    one.add(-2)
    two.line_is(39, now - 0.0049)
    three.line_is(1, now - 0.0001)
    one.line_is(0, 0.0)
    assert one.is_clearly_worse_off(2) and one.turn_of(0.0, now) == 2, "one client does not keep the only server"
    two.line_is(3, now - 0.0049)
    assert not one.is_clearly_worse_off(2)
    assert one.turn_of(0.0, now) == 3, "who has none at all"


def test_how_many_there_were_lately_counts(workers: list[Ledger]) -> None:
    one, two, _ = (each.row("pool") for each in workers)
    now = 1000.0
    for row in (one, two):
        row.add(3)
    two.line_is(20, now - 0.010)
    for waiting in (20, 0) * 10 * LATELY:
        one.line_is(waiting, now - 0.010 if waiting else 0.0)
        one.turn_of(now - 0.010 if waiting else 0.0, now)
    assert one.surplus(2) == pytest.approx(6 * 23 / (23 + 13) - 3.5, abs=0.1)


def test_one_alone_sends_a_worker_something(workers: list[Ledger]) -> None:
    one, two, three = (each.row("pool") for each in workers)
    three.line_is(2, 5.0)
    claimed = one.claim(3)
    assert claimed and not two.claim(3)
    assert one.turn_of(0.0, 6.0) == two.turn_of(0.0, 6.0) == 0
    one.unclaim(3, claimed)
    assert two.turn_of(0.0, 6.0) == 3 and two.claim(3)
    three.line_is(1, 5.5)
    assert one.turn_of(0.0, 6.0) == 0, "it is on its way still"
    assert one.claim(2) == 0, "nobody waits there"
    two.unclaim(3, claimed)
    assert one.turn_of(0.0, 6.0) == 3


def test_servers_at_rest_are_seen_and_asked_for(workers: list[Ledger]) -> None:
    rows = [each.row("pool") for each in workers]
    heard: list[int] = []
    for number, row in enumerate(rows):
        row.heard = lambda number=number: heard.append(number + 1)  # type: ignore[misc]
    rows[1].rest_is(1)
    rows[2].rest_is(3)
    assert rows[0].rests_elsewhere() == 4 and rows[2].rests_elsewhere() == 1
    rows[0].ring_resting(2)
    answer_all(workers)
    assert heard == [3]
    rows[0].ring_resting(4)
    answer_all(workers)
    assert heard == [3, 2, 3]
    rows[2].looks(True)
    assert rows[0].rest_unaware()
    rows[0].ring_resting(4)
    assert not rows[0].rest_unaware(), "one has been rung, the other one looks by itself"
    rows[0].ring_resting(4)
    answer_all(workers)
    assert heard == [3, 2, 3, 2]
    rows[1].shy = True
    rows[1].rest_is(1)
    assert rows[0].rests_elsewhere() == 3


def answer_all(workers: list[Ledger]) -> None:
    for each in workers:
        each.answer()


# Doorbells.


def test_who_waits_hears_of_a_place(workers: list[Ledger]) -> None:
    one, two, three = (each.row("pool") for each in workers)
    unrelated = workers[1].row("another")
    heard: list[str] = []
    two.heard = lambda: heard.append("two")
    three.heard = lambda: heard.append("three")
    unrelated.heard = lambda: heard.append("unrelated")
    two.line_is(1, 5.0)
    one.add(2)
    one.give_back()
    answer_all(workers)
    assert heard == ["two"]
    answer_all(workers)
    assert heard == ["two"], "that was all"
    two.line_is(0, 0.0)
    one.give_back()
    answer_all(workers)
    assert heard == ["two"], "nobody waits"


def test_the_hub_answers_a_bell(workers: list[Ledger]) -> None:
    one, two, _ = (each.row("pool") for each in workers)
    heard: list[bool] = []
    two.heard = lambda: heard.append(True)
    workers[1].listen()
    one.ring(2)
    until(lambda: heard, "the bell")


def test_a_death_is_told_to_who_waits(ledger: Ledger, workers: list[Ledger]) -> None:
    one, two, three = (each.row("pool") for each in workers)
    heard: list[bool] = []
    three.heard = lambda: heard.append(True)
    one.add(2)
    assert not three.take(2)
    three.line_is(1, 5.0)
    ledger.reclaim(1)
    answer_all(workers[1:])
    assert heard and three.take(2) and two.total() == 1


# A model.


class Model(RuleBasedStateMachine):
    """Three workers and four rows, against plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger.create(3)
        self.workers = {number: worker(self.ledger, number) for number in (1, 2, 3)}
        self.rows: list[tuple[int, str, Row]] = []
        self.count: dict[int, int] = {}
        self.away: dict[int, int] = {}

    def total(self, word: str) -> int:
        return sum(self.count[id(row)] + self.away[id(row)] for _, name, row in self.rows if name == word)

    @rule(number=st.sampled_from([1, 2, 3]), word=st.sampled_from("abcd"))
    def join(self, number: int, word: str) -> None:
        row = self.workers[number].row(word)
        self.rows.append((number, word, row))
        self.count[id(row)] = self.away[id(row)] = 0

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), limit=st.integers(0, 5))
    def take(self, data: st.DataObject, limit: int) -> None:
        _, word, row = data.draw(st.sampled_from(self.rows))
        may = self.total(word) < limit
        assert row.take(limit) == may
        self.count[id(row)] += may

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), number=st.integers(0, 3))
    def elsewhere(self, data: st.DataObject, number: int) -> None:
        _, _, row = data.draw(st.sampled_from(self.rows))
        row.set_elsewhere(number)
        self.away[id(row)] = number

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        _, _, row = data.draw(st.sampled_from(self.rows))
        with contextlib.nullcontext() if self.count[id(row)] else pytest.raises(RuntimeError):
            row.give_back()
            self.count[id(row)] -= 1

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.rows))
        entry[2].leave()
        self.rows.remove(entry)

    @rule(number=st.sampled_from([1, 2, 3]))
    def die(self, number: int) -> None:
        self.rows = [entry for entry in self.rows if entry[0] != number]
        vanish(self.workers[number])
        self.ledger.reclaim(number)
        self.workers[number] = worker(self.ledger, number)

    @invariant()
    def holds(self) -> None:
        for _, word, row in self.rows:
            assert row.total() == self.total(word)
            assert row.held == self.count[id(row)]
        assert self.ledger.rows_in_use() == len({word for _, word, _ in self.rows})
        assert len({row.number for _, _, row in self.rows}) == len({word for _, word, _ in self.rows})

    def teardown(self) -> None:
        self.rows.clear()
        for each in (*self.workers.values(), self.ledger):
            each.close()


Model.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase
