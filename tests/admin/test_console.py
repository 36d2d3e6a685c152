"""A console session on bytes: what is answered to which messages, in which order."""

from __future__ import annotations

import re

import pytest
from admin.fakes import (
    FLUSH,
    SYNC,
    TERMINATE,
    Answer,
    FakeClient,
    FakePooler,
    FakeStream,
    answers,
    bind,
    close,
    describe,
    execute,
    message,
    parse,
    query,
)
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.admin import console
from pgdoorman_lib.errors import PeerGone, ShuttingDown


def talk(*sent: bytes, pooler: FakePooler | None = None, stream: FakeStream | None = None) -> list[Answer]:
    """Send everything at once and return the answers behind the welcome."""
    stream = stream or FakeStream()
    stream.incoming = b"".join(sent)
    console.serve(stream, pooler or FakePooler(), "admin", {"application_name": "psql"})
    assert stream.flushed == len(stream.outgoing), "an answer was left unsent"
    found = answers(stream.outgoing)
    return found[[answer.kind for answer in found].index("Z") + 1 :]


def kinds(*sent: bytes, pooler: FakePooler | None = None) -> str:
    return "".join(answer.kind for answer in talk(*sent, pooler=pooler))


def error(*sent: bytes, pooler: FakePooler | None = None) -> dict[str, str]:
    (found,) = [answer.value for answer in talk(*sent, pooler=pooler) if answer.kind == "E"]
    return found


def test_welcome() -> None:
    stream = FakeStream(TERMINATE)
    console.serve(stream, FakePooler(), "admin", {"application_name": "psql"})
    found = answers(stream.outgoing)
    assert "".join(answer.kind for answer in found) == "R" + "S" * 9 + "KZ"
    told = dict(answer.value for answer in found if answer.kind == "S")
    assert told["client_encoding"] == told["server_encoding"] == "UTF8"
    assert told["application_name"] == "psql"
    assert told["TimeZone"] == "Etc/UTC"
    # libpq reads "%d.%d", and psql warns below 9.2.
    version = re.match(r"(\d+)\.(\d+) ", told["server_version"])
    assert version and int(version[1]) >= 10
    assert "pgdoorman 0.1.0" in told["server_version"]


@pytest.mark.parametrize("sql", ["SHOW VERSION", "show version;", " Show  Version ; ", "/* c */ SHOW VERSION -- x"])
def test_simple_query(sql: str) -> None:
    described, row, complete, ready = talk(query(sql))
    assert described.value == [("version", 25, -1, 0)]
    assert row.value == [b"PgDoorman 0.1.0 (interpreted, gevent engine)"]
    assert (complete.value, ready.value) == ("SHOW", "I")


@pytest.mark.parametrize("sql", ["", ";", " ;; ", "-- nothing"])
def test_empty_query(sql: str) -> None:
    assert kinds(query(sql)) == "IZ"
    assert kinds(parse(sql), bind(), describe("P"), execute(), SYNC) == "12nIZ"


def test_several_statements_stop_at_the_first_error() -> None:
    assert kinds(query("SHOW VERSION; SHOW USERS")) == "TDCTDCZ"
    assert kinds(query("SHOW VERSION; SHOW NOTHING; SHOW USERS")) == "TDCEZ"


def test_session_goes_on_after_errors() -> None:
    assert kinds(query("FOO"), query("SHOW NOTHING"), query("SHOW 'x"), query("SHOW USERS")) == "EZEZEZTDCZ"


@pytest.mark.parametrize(
    ("sql", "sqlstate", "hint"),
    [
        ("SELECT * FROM accounts", "58000", "SHOW HELP"),
        ("SELECT nonsense()", "58000", "SHOW HELP"),
        ("SELECT", "58000", "SHOW HELP"),
        ("WITH x AS (SELECT 1) SELECT 1", "58000", "SHOW HELP"),
        ("SHOW FDS", "0A000", ""),
        ("RELAOD", "58000", "RELOAD"),
        ("POOLS", "58000", "SHOW POOLS"),
        ("SHOW POOL", "58000", "SHOW POOLS"),
        ("SHOW", "58000", "SHOW HELP"),
        ("SHOW 'x", "42601", ""),
        ("SUSPEND", "0A000", "PAUSE"),
        ("UPGRADE NOW", "42601", ""),
        ("SHUTDOWN AT_ONCE", "42601", "WAIT_FOR_CLIENTS"),
        ("SET work_mem = 1", "42704", ""),
        ("SET log_level", "42601", ""),
        ("SET client_encoding = latin1", "22023", ""),
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_errors(sql: str, sqlstate: str, hint: str, extended: bool) -> None:
    found = error(*((parse(sql), SYNC) if extended else (query(sql),)))
    assert (found["S"], found["V"], found["C"]) == ("ERROR", "ERROR", sqlstate)
    assert hint in found.get("H", "")


def test_extended_query_in_text_and_binary() -> None:
    found = talk(parse("SHOW LISTS", "s"), describe("S", "s"), bind("s", "p"), describe("P", "p"), execute("p"), SYNC)
    assert "".join(answer.kind for answer in found) == "1tT2T" + "D" * 12 + "CZ"
    assert found[2].value == [("list", 25, -1, 0), ("items", 23, 4, 0)]
    assert found[5].value == [b"databases", b"2"]
    found = talk(parse("SHOW LISTS"), bind(formats=(1,)), describe("P"), execute(), SYNC)
    assert found[2].value == [("list", 25, -1, 1), ("items", 23, 4, 1)]
    assert found[3].value == [b"databases", b"\0\0\0\2"]
    found = talk(parse("SHOW LISTS"), bind(formats=(0, 1)), describe("P"), execute(), SYNC)
    assert [column[3] for column in found[2].value] == [0, 1]


@pytest.mark.parametrize(("formats", "sqlstate"), [((0, 0, 0), "08P01"), ((2,), "22023"), ((0, 7), "22023")])
def test_bad_result_formats(formats: tuple[int, ...], sqlstate: str) -> None:
    assert error(parse("SHOW LISTS"), bind(formats=formats), execute(), SYNC)["C"] == sqlstate


def test_rows_in_portions() -> None:
    first = (parse("SHOW LISTS"), bind(portal="p"), execute("p", 5), execute("p", 5), execute("p", 5), SYNC)
    assert kinds(*first) == "12" + "DDDDDs" * 2 + "DDCZ"
    # Exactly as many as there are: suspended first, complete and empty then, as PostgreSQL does.
    assert kinds(parse("SHOW USERS"), bind(), execute(max_rows=1), execute(max_rows=1), SYNC) == "12DsCZ"


def test_error_skips_to_sync() -> None:
    found = talk(
        parse("SHOW NOTHING"), bind(), describe("P"), execute(), query("SHOW USERS"), SYNC, query("SHOW USERS")
    )
    assert "".join(answer.kind for answer in found) == "EZTDCZ"


def test_error_is_sent_before_sync_comes() -> None:
    assert kinds(parse("SHOW NOTHING"), FLUSH) == "E"


def test_flush_sends_what_was_answered() -> None:
    assert kinds(parse("SHOW USERS"), describe("S"), FLUSH) == "1tT"


@pytest.mark.parametrize(
    ("sent", "sqlstate"),
    [
        ((bind("nope"), SYNC), "26000"),
        ((describe("S", "nope"), SYNC), "26000"),
        ((describe("S"), SYNC), "26000"),
        ((describe("P", "nope"), SYNC), "34000"),
        ((execute("nope"), SYNC), "34000"),
        ((parse("SHOW USERS; SHOW LISTS"), SYNC), "42601"),
        ((parse("SHOW USERS", "s"), parse("SHOW USERS", "s"), SYNC), "42P05"),
        ((parse("SHOW USERS"), bind(parameters=(b"1",)), SYNC), "08P01"),
        ((parse("SHOW USERS", "s"), close("S", "s"), bind("s"), SYNC), "26000"),
        ((parse("SHOW USERS"), bind(portal="p"), close("P", "p"), execute("p"), SYNC), "34000"),
        ((parse("SHOW USERS"), bind(portal="p"), SYNC, execute("p"), SYNC), "34000"),
        ((parse("SHOW USERS"), query("SHOW LISTS"), bind(), SYNC), "26000"),
        ((parse("SHOW USERS", "s"), query("DEALLOCATE s"), bind("s"), SYNC), "26000"),
        ((parse("SHOW USERS", "s"), query("DEALLOCATE ALL"), bind("s"), SYNC), "26000"),
        ((parse("SHOW USERS", "s"), query("DISCARD ALL"), bind("s"), SYNC), "26000"),
        ((query("DEALLOCATE s"),), "26000"),
        ((message("F", b"\0\0\0\1\0\0\0\0\0\0"),), "0A000"),
    ],
)
def test_extended_errors_keep_the_session(sent: tuple[bytes, ...], sqlstate: str) -> None:
    found = error(*sent)
    assert (found["S"], found["C"]) == ("ERROR", sqlstate)
    assert kinds(*sent, query("SHOW USERS")).endswith("ZTDCZ")


def test_portal_outlives_sync_inside_a_transaction() -> None:
    assert kinds(query("BEGIN"), parse("SHOW USERS"), bind(portal="p"), SYNC, execute("p"), SYNC) == "CZ12ZDCZ"


def test_prepared_statement_runs_again_with_new_rows() -> None:
    pooler = FakePooler()
    stream = FakeStream()
    talk(parse("SHOW CLIENTS", "s"), *(bind("s"), execute()) * 2, SYNC, pooler=pooler, stream=stream)
    pooler.clients.append(FakeClient())
    assert kinds(parse("SHOW CLIENTS", "s"), bind("s"), execute(), SYNC, pooler=pooler) == "12DDDDDCZ"


def test_prepare_and_describe_have_no_effect() -> None:
    pooler = FakePooler()
    assert kinds(parse("SHUTDOWN"), describe("S"), bind(), describe("P"), SYNC, pooler=pooler) == "1tT2TZ"
    assert pooler.done == []
    assert kinds(parse("SHUTDOWN"), bind(), execute(), SYNC, pooler=pooler) == "12DCZ"
    assert pooler.done == ["shutdown drain"]


@pytest.mark.parametrize(
    "sent",
    [
        message("y"),
        message("p", b"secret\0"),
        message("Q", b"SHOW USERS"),
        message("Q", b"SHOW\0USERS\0"),
        message("Q"),
        message("Q", b"x" * (console.MAX_MESSAGE + 1) + b"\0"),
        message("P", b"s"),
        message("P", b"\0SHOW USERS\0\0\5"),
        message("P", b"\0SHOW USERS\0\0\0more"),
        message("B", b"\0\0"),
        message("B", b"\0\0\0\0\0\1\0\0\0\5ab\0\0"),
        message("D", b"Zs\0"),
        message("D"),
        message("E", b"\0\0\0"),
        message("C", b"Ss"),
        b"Q\0\0\0\0",
        b"Q\xff\xff\xff\xff",
    ],
)
def test_what_is_not_the_protocol_ends_the_session(sent: bytes) -> None:
    (found,) = talk(sent, query("SHOW USERS"))
    assert found.kind == "E"
    assert (found.value["S"], found.value["C"]) == ("FATAL", "08P01")


def test_leftovers_of_copy_are_ignored() -> None:
    assert kinds(message("d", b"1\n"), message("c"), message("f", b"x\0"), query("SHOW USERS")) == "TDCZ"


def test_terminate_ends_at_once() -> None:
    assert kinds(TERMINATE, query("SHOW USERS")) == ""


def test_prepared_statements_are_limited() -> None:
    sent = [parse("SHOW USERS", f"s{number}") for number in range(console.MAX_PREPARED + 1)]
    assert error(*sent, SYNC)["C"] == "53200"


@given(st.lists(st.tuples(st.sampled_from("QPBDECSHXFdy"), st.binary(max_size=24)), max_size=8))
def test_any_messages_are_answered_or_end_the_session(sent: list[tuple[str, bytes]]) -> None:
    stream = FakeStream(b"".join(message(kind, body) for kind, body in sent))
    console.serve(stream, FakePooler(), "admin")
    assert {answer.kind for answer in answers(stream.outgoing)} <= set("RSKZTDCEI123tns")


def test_goodbye_is_told_when_the_pooler_shuts_down() -> None:
    class Interrupted(FakeStream):
        def read_message(self, max_length: int = 1 << 20) -> tuple[int, bytes]:
            raise ShuttingDown("the pooler is shutting down")

    (found,) = talk(stream=Interrupted())
    assert (found.value["S"], found.value["C"]) == ("FATAL", "57P01")


def test_client_gone_while_told_of_its_error() -> None:
    class Broken(FakeStream):
        def flush(self) -> None:
            if b"08P01" in self.outgoing:
                raise PeerGone("broken pipe")

    console.serve(Broken(message("y")), FakePooler(), "admin")


def test_long_results_are_handed_over_in_pieces() -> None:
    class Counting(FakeStream):
        longest = 0

        def flush(self) -> None:
            self.longest = max(self.longest, len(self.outgoing) - self.flushed)
            super().flush()

    pooler = FakePooler()
    pooler.clients = [FakeClient(id=number) for number in range(5000)]
    stream = Counting()
    talk(query("SHOW CLIENTS"), pooler=pooler, stream=stream)
    assert len(stream.outgoing) > 300_000
    assert stream.longest < 70_000
