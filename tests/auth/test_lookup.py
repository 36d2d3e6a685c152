"""What is known of users who are looked up: asked once, kept for as long as it holds, and doubted now and then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgdoorman_lib.auth import lookup as module
from pgdoorman_lib.auth.lookup import MOST_MISSING, Lookup, LookupStats
from pgdoorman_lib.auth.md5 import hash_password
from pgdoorman_lib.auth.verify import Candidate
from pgdoorman_lib.client.login_cache import LoginCache
from pgdoorman_lib.errors import AuthenticationUnavailable, DoormanError, ServerRefused, ServerUnavailable
from pgdoorman_lib.wire.lookup import Answer

NOW = 1_700_000_000.0


@dataclass
class HowLong:
    cache_ttl: float = 100.0
    cache_failure_ttl: float = 10.0
    min_interval: float = 1.0
    server_user: str | None = None


class Server:
    """Answers questions, of users with ``secrets``, once it may; ``failure`` is raised instead."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {"alice": hash_password("a", "alice")}
        self.until: dict[str, float] = {}
        self.asked: list[str] = []
        self.failure: DoormanError | None = None
        self.may = Event()
        self.may.set()

    def ask(self, user: str) -> Answer:
        self.asked.append(user)
        self.may.wait()
        if self.failure is not None:
            raise self.failure
        until = str(self.until[user]).encode() if user in self.until else None
        rows = [[self.secrets[user].encode()]] if user in self.secrets else []
        return Answer([b"passwd"], rows, (until, str(NOW).encode(), b"md5", b"4096"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(module, "clock", lambda: now[0])
    yield now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def lookup(server: Server, clock: list[float]) -> Lookup:
    return Lookup("shop", HowLong(), server.ask, LookupStats())


def counted(lookup: Lookup) -> dict[str, int]:
    return {name: number for name in LookupStats.NAMES if (number := getattr(lookup.stats, name))}


def test_what_was_found_is_known_for_as_long_as_it_is_to_be(lookup: Lookup, server: Server, clock: list[float]) -> None:
    found = lookup.look_up("alice")
    assert (found.secret, found.why) == (server.secrets["alice"], "")
    clock[0] += 99
    assert lookup.look_up("alice") is found
    assert server.asked == ["alice"]
    clock[0] += 1
    assert lookup.look_up("alice") is found, "it is the same as before"
    assert server.asked == ["alice", "alice"]
    assert counted(lookup) == {"cache_hits": 1, "cache_misses": 2, "executor_queries": 2}
    assert len(lookup) == 1


def test_who_is_not_there_is_known_too(lookup: Lookup, server: Server, clock: list[float]) -> None:
    for _ in range(3):
        found = lookup.look_up("nobody")
        assert (found.secret, found.why) == ("", "auth_query finds no such user")
        assert found.look is None, "PostgreSQL would ask him by MD5"
        found.failed()
    assert server.asked == ["nobody"]
    server.secrets["nobody"] = hash_password("n", "nobody")
    clock[0] += 10
    assert lookup.look_up("nobody").secret == server.secrets["nobody"]
    assert counted(lookup)["auth_failure"] == 3


@pytest.mark.parametrize("user", ["x" * 64, "ж" * 32, "a�", "a\0b"])
def test_what_is_no_name_is_not_asked_about(lookup: Lookup, server: Server, user: str) -> None:
    server.secrets[user] = server.secrets[user[:63]] = hash_password("x", "x")
    assert not lookup.look_up(user).secret
    assert server.asked == []


def test_all_who_wait_for_one_name_wait_for_one_question(lookup: Lookup, server: Server) -> None:
    server.may.clear()
    logins = [gevent.spawn(lookup.look_up, "alice") for _ in range(20)]
    other = gevent.spawn(lookup.look_up, "nobody")
    gevent.sleep(0)
    logins[0].kill()  # who has asked first goes away: the others get their answer
    server.may.set()
    assert {login.get().secret for login in logins[1:]} == {server.secrets["alice"]}
    assert not other.get().secret
    assert sorted(server.asked) == ["alice", "nobody"]


def test_a_wrong_password_has_it_asked_for_anew_and_nobody_waits(
    lookup: Lookup, server: Server, clock: list[float]
) -> None:
    found = lookup.look_up("alice")
    found.failed()
    gevent.sleep(0)
    assert server.asked == ["alice"], "it was asked a moment ago"
    assert counted(lookup)["cache_rate_limited"] == 1
    server.secrets["alice"] = hash_password("new", "alice")
    clock[0] += 1
    server.may.clear()
    found.failed()
    found.failed()
    assert lookup.look_up("alice") is found, "nobody waits for it"
    gevent.sleep(0)
    server.may.set()
    gevent.sleep(0)
    assert lookup.look_up("alice").secret == server.secrets["alice"]
    assert not found.is_current(), "logins that go by what was known begin anew"
    found.failed()  # a login that went by it yet
    assert server.asked == ["alice", "alice"]
    assert counted(lookup)["cache_refetches"] == 1


class Changes:
    """What processes tell each other."""

    def __init__(self) -> None:
        self.number = 0

    def announce(self) -> None:
        self.number += 1

    def announced(self) -> int:
        return self.number


def test_what_one_process_finds_changed_all_ask_about(server: Server, clock: list[float]) -> None:
    changes = Changes()
    one, two = (Lookup("shop", HowLong(), server.ask, LookupStats(), changes) for _ in range(2))
    known = [lookup.look_up("alice") for lookup in (one, two)]
    assert [finding.is_current() for finding in known] == [True, True]
    server.secrets["alice"] = hash_password("new", "alice")
    clock[0] += 1
    known[0].failed()
    gevent.sleep(0)
    assert not known[1].is_current()
    assert [lookup.look_up("alice").secret for lookup in (one, two)] == [server.secrets["alice"]] * 2
    assert server.asked == ["alice"] * 4
    del server.secrets["alice"]
    clock[0] += 1
    two.look_up("alice").failed()
    gevent.sleep(0)
    assert one.look_up("alice").secret == ""


def test_who_is_there_no_more_after_a_wrong_password(lookup: Lookup, server: Server, clock: list[float]) -> None:
    found = lookup.look_up("alice")
    del server.secrets["alice"]
    clock[0] += 1
    found.failed()
    gevent.sleep(0)
    gevent.sleep(0)
    assert not lookup.look_up("alice").secret
    assert not found.is_current()
    assert len(lookup) == 1


@pytest.mark.parametrize(
    "failure",
    [
        ServerUnavailable("nobody there"),
        ServerRefused("no", sqlstate="28P01"),
        ServerRefused("no such function", sqlstate="42883"),
        ServerRefused("too slow", sqlstate="57014"),
    ],
)
def test_what_was_not_answered_is_nobody_s_fault_who_logs_in(
    lookup: Lookup, server: Server, clock: list[float], failure: DoormanError, caplog: pytest.LogCaptureFixture
) -> None:
    found = lookup.look_up("alice")
    clock[0] += 50
    server.failure = failure
    found.failed()
    gevent.sleep(0)
    gevent.sleep(0)
    assert len(server.asked) == 2
    assert lookup.look_up("alice") is found, "he is not shut out by that"
    for user in ("alice", "bob"):
        clock[0] += 50
        with pytest.raises(AuthenticationUnavailable) as told:
            lookup.look_up(user)
        assert (told.value.message, told.value.sqlstate) == (module.UNAVAILABLE, "58000")
    assert failure.message in caplog.text
    server.failure = None
    assert lookup.look_up("alice") is found, "nothing was remembered of it"
    assert counted(lookup)["executor_errors"] == 3


@pytest.mark.parametrize("sqlstate", ["P0001", "P0002", "21000", "22P02", "23514"])
def test_a_query_that_fails_for_a_name_has_not_found_it(
    lookup: Lookup, server: Server, sqlstate: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.failure = ServerRefused("there is nobody called that", sqlstate=sqlstate)
    for _ in range(2):
        assert not lookup.look_up("alice").secret
    assert server.asked == ["alice"]
    assert "there is nobody called that" in caplog.text


def test_a_password_is_known_no_longer_than_it_is_valid(lookup: Lookup, server: Server, clock: list[float]) -> None:
    server.until["alice"] = NOW + 5
    found = lookup.look_up("alice")
    clock[0] += 4.9
    assert found.is_current()
    clock[0] += 0.2
    assert not found.is_current()
    server.until["alice"] = NOW - 0.1
    assert "VALID UNTIL" in lookup.look_up("alice").why


def test_names_that_anybody_invents_take_only_so_much_room(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MISSING", 20)
    lookup.look_up("alice")
    for number in range(50):
        lookup.look_up(f"nobody {number}")
    assert len(lookup) == 21
    assert lookup.known("nobody 49") is not None and lookup.known("nobody 29") is None
    assert lookup.known("alice") is not None
    assert MOST_MISSING > 1000


@pytest.mark.parametrize(
    ("text", "found", "told"),
    [
        (None, (), ""),
        (b"", (), ""),
        (b"{}", (), ""),
        (b'{"work_mem": "8MB", "a.b": ""}', (("work_mem", "8MB"), ("a.b", "")), ""),
        (b"work_mem=8MB", (), "is no JSON"),
        (b"[" * 100_000, (), "is no JSON"),
        (b'[["work_mem", "8MB"]]', (), "is no JSON object"),
        (b'{"work_mem": 8}', (), "has a value that is no string"),
        (b'{"role": "postgres"}', (), "'role' is reserved"),
        (b'{"a": "1", "A": "2"}', (), "keep one"),
        (b'{"a": "1", "a": "2"}', (), "twice"),
        (b'{"a b": "1"}', (), "not a valid GUC name"),
        (b'{"a": "\\u0000"}', (), "null byte"),
        (b'{"a": "' + b"x" * 10_000 + b'"}', (), "exceeds 9488 bytes"),
        (b'{"a": "\xff"}', (), "is no JSON"),
    ],
)
def test_startup_parameters_of_a_user(
    clock: list[float], caplog: pytest.LogCaptureFixture, server: Server, text: bytes | None, found: Any, told: str
) -> None:
    """He gets in whatever is there, and has what everybody has unless it is as it should be."""

    def ask(user: str) -> Answer:
        answer = server.ask(user)
        return Answer([*answer.columns, b"startup_parameters"], [[*row, text] for row in answer.rows], answer.role)

    lookup = Lookup("shop", HowLong(), ask, LookupStats())
    finding = lookup.look_up("alice")
    assert finding.secret and finding.parameters == found
    assert told in caplog.text and bool(told) == ("passed over" in caplog.text)
    assert not lookup.look_up("nobody").parameters


def test_other_startup_parameters_are_told_to_all_workers(clock: list[float], server: Server) -> None:
    given = [b'{"a": "b"}']

    class Told:
        count = 0

        def announce(self) -> None:
            self.count += 1

        def announced(self) -> int:
            return self.count

    def ask(user: str) -> Answer:
        answer = server.ask(user)
        return Answer([*answer.columns, b"startup_parameters"], [[*row, *given] for row in answer.rows], answer.role)

    changes = Told()
    lookup = Lookup("shop", HowLong(), ask, LookupStats(), changes)
    lookup.look_up("alice")
    clock[0] += 1000
    lookup.look_up("alice")
    assert changes.count == 0
    given[0] = b'{"a": "c"}'
    clock[0] += 1000
    assert lookup.look_up("alice").parameters == (("a", "c"),) and changes.count == 1


def test_startup_parameters_are_nobodys_where_all_share_servers(
    clock: list[float], caplog: pytest.LogCaptureFixture, server: Server
) -> None:
    def ask(user: str) -> Answer:
        answer = server.ask(user)
        return Answer(
            [*answer.columns, b"startup_parameters"], [[*row, b'{"a": "b"}'] for row in answer.rows], answer.role
        )

    how_long = HowLong()
    how_long.server_user = "app"
    assert not Lookup("shop", how_long, ask, LookupStats()).look_up("alice").parameters
    assert "with server_user all users have the same servers" in caplog.text


def test_who_waits_at_the_end_is_told_so(lookup: Lookup, server: Server) -> None:
    server.may.clear()
    login = gevent.spawn(_error_of, lookup)
    gevent.sleep(0)
    lookup.close()
    assert login.get() == module.UNAVAILABLE


def _error_of(lookup: Lookup) -> str:
    try:
        lookup.look_up("alice")
    except AuthenticationUnavailable as exc:
        return exc.message
    return "found"


def test_a_login_that_is_remembered_goes_by_what_holds(lookup: Lookup, clock: list[float]) -> None:
    cache = LoginCache()
    found = lookup.look_up("alice")
    known: Any = (Candidate("alice", found.secret, None, found), "md5", None)
    cache.remember("::1", False, b"packet", known)
    assert cache.find("::1", False, b"packet") is known
    clock[0] += 101
    assert cache.find("::1", False, b"packet") is None
    assert counted(lookup)["cache_hits"] == 1


_steps = st.lists(
    st.sampled_from(
        [
            *(("wait", seconds) for seconds in (1.0, 11.0, 60.0)),
            *(("password", password) for password in ("", "one", "two")),
            *(("login", password) for password in ("one", "two")),
            *(("valid for", seconds) for seconds in (None, -1.0)),
            *(("failure", away) for away in (True, False)),
        ]
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=200)
@example([("password", ""), ("login", "one"), ("password", "one"), ("wait", 11.0), ("login", "one")])
@example([("password", "one"), ("login", "one"), ("password", "two"), ("wait", 60.0), ("wait", 60.0), ("login", "one")])
@given(_steps)
def test_nobody_gets_in_by_what_has_not_been_true_lately(steps: list[tuple[str, Any]]) -> None:
    """Whatever happens: a secret opens the door only if PostgreSQL has had it, and said it valid, within ``cache_ttl``."""
    now = [1000.0]
    server = Server()
    lookup = Lookup("shop", HowLong(), server.ask, LookupStats())
    last_had: dict[str, float] = {}
    last_missing = float("-inf")
    valid: float | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "clock", lambda: now[0])

        def observe() -> None:
            nonlocal last_missing
            secret = server.secrets.get("alice", "")
            if secret and (valid is None or valid > 0):
                last_had[secret] = now[0]
            else:
                last_missing = now[0]

        for step, value in steps:
            observe()
            if step == "wait":
                now[0] += value
            elif step == "password":
                server.secrets = {"alice": hash_password(value, "alice")} if value else {}
            elif step == "valid for":
                valid = value
                server.until = {} if value is None else {"alice": NOW + value}
            elif step == "failure":
                server.failure = ServerUnavailable("away") if value else None
            else:
                try:
                    found = lookup.look_up("alice")
                except AuthenticationUnavailable:
                    assert server.failure is not None
                    continue
                if found.secret:
                    assert now[0] - last_had.get(found.secret, float("-inf")) <= HowLong.cache_ttl
                else:
                    assert now[0] - last_missing <= HowLong.cache_failure_ttl
                if found.secret == hash_password(value, "alice"):
                    found.succeeded()
                else:
                    found.failed()
            observe()
            gevent.sleep(0)
            gevent.sleep(0)
        assert len(lookup) <= 1
        assert lookup.stats.executor_queries == len(server.asked)
