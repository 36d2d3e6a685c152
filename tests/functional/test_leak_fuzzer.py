"""Random mixes of all that leaves something on a server, in all its forms: the next clients find nothing, the first loses nothing.

One client says a mix, to PostgreSQL directly and through a pool of one server, and ends somehow. Then a new client, and
one that was there before and has settings of its own, look at everything their sessions show.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from said_that_leaves import SETUP, Said, plans
from twins import CODECS, LOOK, Seen, Twins, differences, extended, own_of, rows, run, same, visible, without_excepted
from wire_client import Message, WireClient, query

#: More for a search through the night: PGDOORMAN_TEST_EXAMPLES=20000.
EXAMPLES = int(os.environ.get("PGDOORMAN_TEST_EXAMPLES", "0"))

ENCODINGS = ("UTF8", "UTF8", "UTF8", "LATIN1", "SJIS", "GBK", "BIG5", "GB18030", "JOHAB", "UHC", "EUC_JP", "WIN1251")

BEGINNINGS: tuple[Mapping[str, str], ...] = (
    {},
    {},
    {"options": "-c standard_conforming_strings=off -c escape_string_warning=off"},
    {"options": "-c work_mem=3MB -c app.tenant=begin -c search_path=elsewhere", "timezone": "Europe/Paris"},
)

ENDINGS = ("terminates", "terminates", "vanishes", "commits and vanishes", "rolls back and terminates", "discards")


#: An option that sessions may begin with. Whether hidden code has reset it or made it empty can't be told, as the
#: documentation says.
EMPTIED = ("app.tenant=begin", b"app.tenant", b"begin")


#: An option that a function sets before the catalogue was read again may be lost, as the documentation says.
_MAKES = re.compile(r"\bCREATE\b.*\bFUNCTION\b", re.IGNORECASE | re.DOTALL)


class Leak(AssertionError):
    """Somebody saw what was another's, or lost what was its own."""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    if not postgres.rows("SELECT 1 FROM pg_roles WHERE rolname = 'twin_other'"):
        postgres.sql("CREATE ROLE twin_other; GRANT pg_read_all_settings TO twin_other")
    postgres.sql(f"GRANT twin_other TO {twins.USER}")
    twins.populate(postgres, SETUP)
    return {
        "general": {"query_wait_timeout": "30s"},
        "pools": {"one": twins.pool(postgres, 1), "reset": twins.pool(postgres, 1, session_state="reset")},
    }


class World:
    """A pool's server and who stays: a client with settings of its own. Each mix has a new first client."""

    def __init__(self, both: Twins) -> None:
        self.both = both
        self.keeps = both.database != "reset"
        self.alone, self.own = both.expected(()), both.expected(own_of(self.keeps))
        self.before = self.arrive()

    def arrive(self) -> WireClient:
        client = self.both.pooled()
        for text in own_of(self.keeps):
            client.ask_query(text)
        return client

    def renew(self) -> None:
        """With new servers, after a leak."""
        self.before.close()
        self.both.renew()
        for database in (twins.POOLED, twins.DIRECT):
            self.both.postgres.sql("DROP FUNCTION IF EXISTS public.passing()", database=database)
        self.before = self.arrive()

    def mix(self, plan: list[Said], encoding: str, beginning: Mapping[str, str], ending: str) -> None:
        startup = {**beginning, "client_encoding": encoding}
        first, direct = self.both.pooled(**startup), self.both.direct(**startup)
        story = [f"{self.both.database}, {startup}, {ending}"]
        try:
            self.said(plan, first, direct, story, ending, EMPTIED[0] in beginning.get("options", ""))
        except (OSError, AssertionError) as exc:
            if isinstance(exc, Leak):
                raise
            raise Leak("\n".join(["", *story, f"{exc!r}"])) from exc
        finally:
            first.close()
            direct.close()

    def said(
        self, plan: list[Said], first: WireClient, direct: WireClient, story: list[str], ending: str, begun: bool
    ) -> None:
        codec = CODECS.get(direct.parameters["client_encoding"], direct.parameters["client_encoding"])
        state, keeps = b"I", self.keeps
        for one in (*plan, *last_words(ending)):
            data = spoken(one, codec)
            if data is None:
                continue
            story.append(str(one)[:300] if len(str(one)) < 3000 else f"{len(str(one))} characters, …{str(one)[-80:]}")
            expected = direct.ask(data)
            state = expected[-1].body
            got = first.ask(data)
            if keeps and told(got) != told(expected):
                if about_statements(got, expected):
                    keeps = False
                    continue
                if begun and returns_a_reset(one):
                    continue
                raise Leak("\n".join(["", *story, f"expected {brief(expected)}", f"got      {brief(got)}"]))
        if state == b"I":
            self.before.send(query(LOOK))
            if self.both.answered_or_pinned(self.before):
                self.compare(story, "one that was there before", rows(self.before.read_ready()), self.own)
                state = b"looked"
            if keeps:
                kept, own = (without_excepted(visible(one)) for one in (first, direct))
                if begun and not any(line[1] == EMPTIED[1] for line in own):
                    kept -= {(b"option", *EMPTIED[1:])}
                if any(_MAKES.search(one.text) for one in plan):
                    own -= {line for line in own - kept if line[0] == b"option"}
                self.compare(story, "the client itself", kept, own)
        if "vanishes" in ending:
            first.close()
        else:
            first.terminate()
        if state == b"I":
            self.compare(story, "one that has waited", rows(self.before.read_ready()), self.own)
        with self.both.pooled() as other:
            self.compare(story, "the next", visible(other), self.alone)
            other.terminate()
        self.compare(story, "one that was there before", visible(self.before), self.own)

    @staticmethod
    def compare(story: list[str], whose: str, got: Any, expected: Seen) -> None:
        if found := differences(frozenset(got), expected):
            raise Leak("\n".join(["", *story, f"what {whose} sees: {found}"]))


def about_statements(*answers: list[Message]) -> bool:
    """Whether an answer is about the name of a prepared statement.

    Where a function or a DO block uses names of statements, a client's are not exchanged for the server's: what it
    prepares there it does not find again, as the documentation says. Nobody else may, either.
    """
    return any(m.kind == "E" and m.sqlstate in ("42P05", "26000") for answer in answers for m in answer)


def returns_a_reset(one: Said) -> bool:
    """Whether it may return what a setting is after a RESET: the server's default, as the documentation says."""
    return re.search(r"\bnull\b", one.text, re.IGNORECASE) is not None


def last_words(ending: str) -> list[Said]:
    return {
        "commits": [Said("COMMIT")],
        "rolls": [Said("ROLLBACK")],
        "discards": [Said("ROLLBACK"), Said("DISCARD ALL")],
    }.get(ending.split()[0], [])


def spoken(one: Said, codec: str) -> bytes | None:
    """The message's bytes; None where the encoding has no such characters."""
    try:
        text = one.text.encode(codec)
        values = None if one.values is None else [value.encode(codec) for value in one.values]
    except UnicodeEncodeError:
        return None
    return query(text) if values is None else extended(run(text, *values))


def told(messages: list[Message]) -> list[tuple[str, object]]:
    """Responses without notices: one of what is not there to be dropped depends on what the backend had before."""
    return same(m for m in messages if m.kind != "N" or m.fields["C"] != "00000")


def brief(messages: list[Message]) -> str:
    return " ".join(
        f"{m.kind}{m.fields['C'] + ' ' + m.fields['M'] if m.kind in 'EN' else m.body[:60]!r}" for m in messages
    )


PROFILE: dict[str, Any] = {
    "max_examples": EXAMPLES or 40,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
}


@pytest.mark.timeout(36000 if EXAMPLES else 120)
@pytest.mark.parametrize("database", ["one", "reset"])
def test_nothing_reaches_the_next_client(doorman: Doorman, postgres: Postgres, database: str) -> None:
    with Twins(doorman, postgres, database) as both:
        search(World(both))


def search(world: World) -> None:
    """Mix after mix; one in which somebody saw too much or too little fails the test, shortened."""

    @settings(**PROFILE)
    @given(
        plan=plans,
        encoding=st.sampled_from(ENCODINGS),
        beginning=st.sampled_from(BEGINNINGS),
        ending=st.sampled_from(ENDINGS),
    )
    def compare(plan: list[Said], encoding: str, beginning: Mapping[str, str], ending: str) -> None:
        try:
            world.mix(plan, encoding, beginning, ending)
        except Leak:
            world.renew()
            raise

    compare()
    world.before.terminate()


class NoPool(Twins):
    """The pool's clients are PostgreSQL's own, each with a connection of its own."""

    def pooled(self, **parameters: str) -> WireClient:
        return self.login(twins.POOLED, **parameters)

    def pinned(self) -> bool:
        return False


@pytest.mark.timeout(36000 if EXAMPLES else 120)
def test_without_a_pool_there_is_no_difference(doorman: Doorman, postgres: Postgres) -> None:
    """What the test above finds is the pool's, not a matter of chance or of names that differ."""
    with NoPool(doorman, postgres, "none") as both:
        search(World(both))


@pytest.mark.parametrize(
    "left", ["SET app.x = 'left'", "LISTEN ch", "CREATE TEMP TABLE mine (a int)", "SET ROLE twin_other"]
)
def test_the_fuzzer_sees_a_leak(doorman: Doorman, postgres: Postgres, left: str) -> None:
    """What is on a server behind the pooler's back makes the test above fail."""
    with Twins(doorman, postgres, "one") as both:
        world = World(both)
        world.mix([Said("SELECT 1")], "UTF8", {}, "terminates")
        with both.direct() as direct:
            direct.ask_query(left)
            world.alone = visible(direct)
        with pytest.raises(Leak, match="what the next sees"):
            world.mix([Said("SELECT 1")], "UTF8", {}, "terminates")
        world.before.terminate()
