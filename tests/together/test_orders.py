"""The console's commands on a pooler of several processes: all do it, or the one that does not is named."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from admin.fakes import Answer, FakeStream, answers, query
from together.company import Company, Worker, soon

from pgdoorman_lib.admin import console
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.pool.holding import Target
from pgdoorman_lib.together import kinds, orders
from pgdoorman_lib.together.failures import NotEverywhere, pack_error, unpack_error


@pytest.fixture
def those(monkeypatch: pytest.MonkeyPatch) -> Company:
    monkeypatch.setattr(orders.JoinedOperations, "look_interval", 0.001)
    return Company(Worker(), Worker(), Worker())


def talk(those: Company, sql: str, number: int = 1, dialect: str = "pgdoorman") -> list[Answer]:
    stream = FakeStream(query(sql))
    console.serve(stream, those.wholes[number], "admin", {}, dialect)
    found = answers(stream.outgoing)
    return found[[answer.kind for answer in found].index("Z") + 1 :]


def failure(those: Company, sql: str) -> dict[str, str]:
    found: dict[str, str] = talk(those, sql)[0].value
    return found


def done(those: Company) -> list[list[str]]:
    return [worker.done for worker in those.workers.values()]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("PAUSE exampledb", "pause exampledb None"),
        ("RESUME", "resume None None"),
        ("DISABLE exampledb", "disable exampledb None"),
        ("ENABLE exampledb", "enable exampledb None"),
        ("RECONNECT", "reconnect None None"),
        ("KILL exampledb, doorman", "kill exampledb doorman"),
        ("KILL_CLIENT #c12", "kill_client 12"),
        ("RELOAD", "reload"),
        ("SET query_wait_timeout = 5000", "set general.query_wait_timeout 5000"),
        ("RESET query_wait_timeout", "reset general.query_wait_timeout"),
        ("SET log_level = 'warn'", "log_level warn"),
    ],
)
def test_all_do_it(those: Company, sql: str, expected: str) -> None:
    those.workers[3].operations.numbers = {12}
    assert [answer.kind for answer in talk(those, sql) if answer.kind == "E"] == []
    assert done(those) == [[expected]] * 3


def test_who_did_not_is_named(those: Company) -> None:
    those.silent.add(2)
    told = failure(those, "RECONNECT")
    assert told["C"] == NotEverywhere.sqlstate
    assert "worker 2: no answer" in told["M"] and "worker 1, worker 3" in told["M"]
    assert done(those) == [["reconnect None None"], [], ["reconnect None None"]]


def test_who_refuses_is_named(those: Company) -> None:
    those.workers[3].failure = ConfigError("no such file")
    told = failure(those, "RELOAD")
    assert "worker 3: no such file" in told["M"] and told["C"] == NotEverywhere.sqlstate


def test_what_all_refuse_is_refused_as_by_one(those: Company) -> None:
    for worker in those.workers.values():
        worker.failure = ConfigError("query_wait_timeout is too long")
    assert failure(those, "SET query_wait_timeout = 5000") == failure_of_one("SET query_wait_timeout = 5000")


def failure_of_one(sql: str) -> dict[str, str]:
    worker = Worker()
    worker.failure = ConfigError("query_wait_timeout is too long")
    stream = FakeStream(query(sql))
    console.serve(stream, worker, "admin", {}, "pgdoorman")
    return next(answer.value for answer in answers(stream.outgoing) if answer.kind == "E")


def test_one_that_is_gone_has_nothing_to_do(those: Company) -> None:
    those.gone.add(2)
    assert talk(those, "PAUSE")[0].kind == "C"
    those.gone |= {1, 3}
    assert "there is no worker: it has ended" in failure(those, "PAUSE")["M"]


def test_what_was_ordered_is_known_to_who_starts_workers(those: Company) -> None:
    assert those.chair.ordered is None
    talk(those, "PAUSE exampledb")
    with those.chair.still() as ordered:
        assert ordered is not None and ordered["paused"] == [["exampledb", None]]
        waiting = gevent.spawn(talk, those, "RESUME")
        gevent.sleep(0.01)
        assert ordered["paused"] and not waiting.dead
    waiting.join()
    assert those.chair.ordered is not None and those.chair.ordered["paused"] == []


def test_orders_come_in_one_order(those: Company) -> None:
    handlers = [those.handlers[number][kinds.ORDER] for number in those.handlers]

    def slowly(handler: Any) -> Any:
        def run(order: Any) -> Any:
            gevent.sleep(0.001)
            return handler(order)

        return run

    for number, handler in zip(those.handlers, handlers, strict=True):
        those.handlers[number][kinds.ORDER] = slowly(handler)
    sent = ["PAUSE exampledb", "RESUME exampledb", "RECONNECT", "DISABLE exampledb"]
    gevent.joinall([gevent.spawn(talk, those, sql, 1 + index % 3) for index, sql in enumerate(sent)])
    assert done(those)[0] == done(those)[1] == done(those)[2]
    assert len(done(those)[0]) == len(sent)


def test_an_order_does_not_wait_for_ever_behind_others(those: Company) -> None:
    those.chair._ordering.acquire()
    found: list[Any] = []

    def order() -> None:
        with pytest.raises(NotEverywhere, match="another order is under way"):
            orders.Orders(those.ask_through).order("reload", seconds=0.01)
        found.append(True)

    gevent.spawn(order).join()
    those.chair._ordering.release()
    assert found == [True]


def test_what_the_supervisor_refuses_reaches_nobody(those: Company) -> None:
    def reload() -> list[str]:
        raise ConfigError("the file can't be read")

    those.own["reload"] = reload
    assert failure(those, "RELOAD")["M"] == "the file can't be read"
    assert done(those) == [[], [], []]


def test_what_a_reload_tells(those: Company) -> None:
    those.own["reload"] = lambda: ["port was changed", "for all"]
    for worker in those.workers.values():
        worker.told = ["for all", "same"]
    those.workers[2].told = ["for all", "same", "only here"]
    notices = [answer.value["M"] for answer in talk(those, "RELOAD") if answer.kind == "N"]
    assert notices == ["port was changed", "for all", "same", "worker 2: only here"]


def test_pause_waits_for_the_servers_of_all(those: Company) -> None:
    those.workers[2].operations.open = 3
    those.workers[3].operations.open = 1
    greenlet = gevent.spawn(talk, those, "PAUSE")
    soon(lambda: len(those.asked) > 5)
    those.workers[2].operations.open = 0
    those.silent.add(3)  # it may have some: who says nothing is waited for
    those.workers[3].operations.open = 0
    count = len(those.asked)
    soon(lambda: len(those.asked) > count + 5)
    assert not greenlet.dead
    those.gone.add(3)
    greenlet.join()
    assert greenlet.value[0].value == "PAUSE"


@pytest.mark.parametrize("by", [1, 3])
def test_what_waits_can_be_cancelled_from_anywhere(those: Company, by: int) -> None:
    those.workers[2].operations.open = 1
    greenlet = gevent.spawn(talk, those, "PAUSE exampledb", 1)
    soon(lambda: bool(those.workers[1].cancellable))
    ((process, _),) = those.workers[1].cancellable
    assert [
        answer.value for answer in talk(those, f"SELECT pg_cancel_backend({process})", by) if answer.kind == "D"
    ] == [[b"t"]]
    greenlet.join()
    assert greenlet.value[0].value["C"] == "57014"
    assert [worker.operations.paused for worker in those.workers.values()] == [set()] * 3


def test_kill_client_finds_it_anywhere(those: Company) -> None:
    those.workers[3].operations.numbers = {77}
    assert talk(those, "KILL_CLIENT 77")[0].kind == "C"
    assert failure(those, "KILL_CLIENT 78")["C"] == "42704"


def test_the_end_and_an_upgrade_are_the_supervisors(those: Company) -> None:
    led: list[str] = []
    those.lead["shutdown"] = lambda mode: led.append(f"shutdown {mode}")

    def upgrade() -> None:
        raise DoormanError("the new one has failed", sqlstate="58000", hint="look there")

    those.lead["upgrade"] = upgrade
    talk(those, "SHUTDOWN WAIT_FOR_CLIENTS")
    assert led == ["shutdown clients"]
    assert failure(those, "UPGRADE") == {
        **{"S": "ERROR", "V": "ERROR", "C": "58000", "M": "the new one has failed", "H": "look there"}
    }
    assert done(those) == [[], [], []]


def test_a_table_names_who_is_missing(those: Company) -> None:
    those.silent.add(2)
    found = talk(those, "SHOW POOLS")
    notices = [answer.value for answer in found if answer.kind == "N"]
    assert len(notices) == 1
    assert notices[0]["M"].startswith("worker 2 is not in this table") and "no answer" in notices[0]["D"]
    assert [answer.kind for answer in found if answer.kind in "TC"] == ["T", "C"]
    those.silent.clear()
    assert [answer.kind for answer in talk(those, "SHOW POOLS") if answer.kind == "N"] == []


def test_a_verb_that_a_worker_does_not_know(those: Company) -> None:
    with pytest.raises(DoormanError, match="a worker of another version does not know dance"):
        orders.Orders(those.ask_through).order("dance")


def test_waiters_are_failed_everywhere(those: Company) -> None:
    those.wholes[1].operations.fail_waiters(ConfigError("x"))
    assert done(those) == [["fail F0000"]] * 3


def test_errors_as_plain_values() -> None:
    for exc in (ConfigError("a", detail="b"), DoormanError("c", hint="d", sqlstate="12345")):
        again = unpack_error(pack_error(exc))
        assert type(again) is type(exc)
        assert (again.message, again.detail, again.hint, again.sqlstate) == (
            *(exc.message, exc.detail, exc.hint),
            exc.sqlstate,
        )


def test_paused_is_what_this_process_has_paused(those: Company) -> None:
    operations = those.wholes[2].operations
    operations.pause(Target("exampledb"))
    assert operations.is_paused(Target("exampledb", "doorman"))
    assert operations.resume(Target())
    assert not operations.is_paused(Target("exampledb"))
