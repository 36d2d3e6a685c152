"""Long texts, whatever stands in them, cost what their length costs: nobody else waits for one to be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from pace import patience
from twins import Twins, extended, run
from wire_client import WireClient, kinds, parse, query

KIB = 1024
#: What some texts of 16 KB, or one of 4 MB, may cost others at most; a look that is not linear takes seconds for one.
TEXTS, PINGS, SECONDS, LONG_SECONDS = 5, 12, 2.5, 10


def filled(piece: str, size: int = 16 * KIB, head: str = "", tail: str = "") -> str:
    return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


#: Texts on which a look that goes back and forth goes back and forth. Most are wrong SQL: PostgreSQL finds that at once.
TEXTS_OF_16_KB: Mapping[str, str] = {
    "names without an end": "select " + "set_config(a," * 600 + "'x.y'," * 1300,
    "calls nested": filled("set_config(", head="select "),
    "calls nested in brackets": filled("set_config((((", head="select "),
    "names of options": filled("'x.y',", head="select set_config("),
    "SET after SET": filled("set a.b=", head="set "),
    "SET with commas": filled("a.b,", head="set a.b = "),
    "comments nested": filled("/*", 8 * KIB, "select ") + filled("*/", 8 * KIB),
    "slashes": filled("/", head="select "),
    "dashes": filled("-", head="select "),
    "quotes": filled("'", head="select "),
    "quotes and escapes": filled("E'\\''", head="select "),
    "adjacent strings": filled("'a'\n", head="select "),
    "adjacent escape strings": filled("E'a'\n", head="select "),
    "double quotes": filled('"', head="select "),
    "dollars": filled("$", head="select "),
    "dollar tags": filled("$a", head="select "),
    "dollar quotes opened": "select " + " ".join(f"$a{n}$" for n in range(2500)),
    "semicolons": filled(";", head="select 1;"),
    "EXECUTE": filled("execute ", head="select "),
    "EXECUTE; EXECUTE": filled("execute a;"),
    "PREPARE AS": filled("prepare a as "),
    "EXPLAIN": filled("explain "),
    "brackets": filled("(", head="select "),
    "blanks": filled(" ", head="set"),
    "blanks and words": filled("set     \n", head="select "),
    "one word": filled("set_config", head="select "),
    "unicode escapes": filled('U&"\\005F"', head="select "),
    "UESCAPE": filled("U&'a' UESCAPE ", head="select "),
    "BEGIN ATOMIC": filled("begin atomic ", head="create function f() returns int "),
    "DO": filled("do $$ ", head="do $a$ "),
    "not ASCII": filled("ü", 8 * KIB, "select "),
    "digits": filled("1", head="select "),
    "names with dots": filled("a.", head="select "),
    "function names": filled("f(", head="select "),
    "WITH": filled("with a as (", head=""),
    "temp": filled("temp ", head="create "),
    "INTO": filled("into temp ", head="select 1 "),
    "parameters": filled("$1,", head="select "),
}


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(postgres)
    return {"pools": {"four": twins.pool(postgres, 4)}}


def beside(client: Callable[[], WireClient], work: Callable[[WireClient], None]) -> float:
    """How long some small queries of another client take while ``work`` is done by one."""
    failures: list[BaseException] = []

    def do() -> None:
        try:
            with client() as one:
                work(one)
        except BaseException as exc:
            failures.append(exc)

    with client() as other:
        other.value("SELECT 1")
        worker = threading.Thread(target=do)
        worker.start()
        started = time.monotonic()
        try:
            for _ in range(PINGS):
                assert other.value("SELECT 1") == "1"
            taken = time.monotonic() - started
        finally:
            worker.join(patience(60))
        assert not worker.is_alive()
    assert not failures, failures
    return taken


@pytest.mark.parametrize("name", TEXTS_OF_16_KB)
@pytest.mark.parametrize("protocol", ["simple", "extended", "parse"])
def test_no_text_of_16_kb_stops_others(doorman: Doorman, postgres: Postgres, name: str, protocol: str) -> None:
    text = TEXTS_OF_16_KB[name]
    data = {"simple": query(text), "extended": extended(run(text)), "parse": extended(parse("s", text))}[protocol]

    def send(client: WireClient) -> None:
        client.timeout = patience(60)
        for _ in range(TEXTS):
            assert client.ask(data)[-1].kind == "Z"

    with Twins(doorman, postgres, "four") as both:
        started = time.monotonic()
        beside(both.pooled, send)
        assert time.monotonic() - started < patience(SECONDS)


@pytest.mark.parametrize(
    "text",
    [
        filled("'x.y',", 4 << 20, "SELECT length(concat_ws('', ", "'')) > 0"),
        filled("-- a comment that says set_config('a.b', 'c', false)\n", 4 << 20, "SELECT ", "1 > 0"),
        filled("x", 4 << 20, "SELECT length('", "') > 0"),
        filled("'; EXECUTE foo; ''", 4 << 20, "SELECT length('", "') > 0").replace("'; ", "''; "),
        filled("/* set */ ", 4 << 20, "SELECT ", "1 > 0"),
    ],
    ids=["strings", "comments", "one string", "quotes", "many comments"],
)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_statement_of_4_mb_passes(doorman: Doorman, postgres: Postgres, text: str, protocol: str) -> None:
    if text.startswith("SELECT length(concat_ws"):
        text = (
            "SELECT length(array_to_string(ARRAY["
            + text[len("SELECT length(concat_ws('', ") : -len(")) > 0")]
            + "], '')) > 0"
        )
    data = query(text) if protocol == "simple" else extended(run(text))

    def send(client: WireClient) -> None:
        client.timeout = patience(60)
        answer = client.ask(data)
        assert kinds(answer) == ("TDCZ" if protocol == "simple" else "12DCZ"), answer[0].fields
        assert [m.columns for m in answer if m.kind == "D"] == [[b"t"]]

    with Twins(doorman, postgres, "four") as both:
        assert beside(both.pooled, send) < patience(LONG_SECONDS)
        with both.pooled() as client:
            client.ask(query("SET app.x = 'mine'; " + text))
            assert client.value("SHOW app.x") == "mine"
