"""What a client may say that leaves something on its server, in every form: the words of the leak fuzzer.

A *deed* is one statement. It is spelt in many ways, then wrapped: said as it is, in a DO block, by a function, a trigger,
a view, with its name in a parameter; then framed by a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from twins import LONG

#: Done by functions that are there; by number: ``fixed_0()``, and all that calls it without being asked to.
FIXED = (
    "PERFORM set_config('app.x', 'of a function', false)",
    "SET work_mem = '11MB'",
    "PERFORM set_config('search_path', 'elsewhere', false)",
    "LISTEN ch",
    "PERFORM pg_advisory_lock(40)",
    "CREATE TEMP TABLE mine (a int)",
    "EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'",
    "PERFORM set_config('app.schlüssel', 'of a function', false)",
    "EXECUTE 'SET ROLE twin_other'",
    "EXECUTE 'PREPARE p AS SELECT 1'",
    "EXECUTE format('SET %I.%I = %L', 'app', 'z', 'of a function')",
    "PERFORM 1 FROM pg_create_physical_replication_slot('f_' || current_database(), false, true)",
    "PERFORM set_config('app.tenant', 'local', true)",
    "SET LOCAL work_mem = '12MB'",
    "PERFORM 1",
)

_MAKE_FIXED = """
    CREATE FUNCTION fixed_{n}() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN {deed}; RETURN {n}; END $f$;
    CREATE FUNCTION calls_{n}() RETURNS int LANGUAGE sql AS $f$ SELECT public.fixed_{n}() $f$;
    CREATE PROCEDURE proceeds_{n}() LANGUAGE plpgsql AS $f$ BEGIN {deed}; END $f$;
    CREATE FUNCTION watches_{n}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {deed}; RETURN NULL; END $f$;
    CREATE TABLE watched_{n} (a int);
    CREATE TRIGGER t BEFORE INSERT ON watched_{n} FOR EACH ROW EXECUTE FUNCTION watches_{n}();
    CREATE TABLE ruled_{n} (a int); CREATE RULE r AS ON INSERT TO ruled_{n} DO INSTEAD SELECT public.calls_{n}();
    CREATE VIEW viewed_{n} AS SELECT public.fixed_{n}() AS a;
    CREATE TABLE defaulted_{n} (a int, b int DEFAULT public.fixed_{n}());
    CREATE TABLE guarded_{n} (a int); INSERT INTO guarded_{n} VALUES (1);
    ALTER TABLE guarded_{n} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON guarded_{n} USING (public.calls_{n}() >= a);
"""

#: How one gets a fixed deed done. Not here: what types and operators do, since a database with such has all asked.
CALLS = (
    "SELECT public.fixed_{n}()",
    "SELECT fixed_{n}()",
    'SELECT "calls_{n}"()',
    "SELECT public . calls_{n} ( )",
    "SELECT a FROM generate_series(1, 2) AS a WHERE public.calls_{n}() IS NOT NULL LIMIT 1",
    "CALL public.proceeds_{n}()",
    "INSERT INTO public.watched_{n} VALUES (1)",
    "COPY (SELECT public.fixed_{n}()) TO STDOUT",
    "INSERT INTO public.ruled_{n} VALUES (1)",
    "TABLE public.viewed_{n}",
    "SELECT a FROM public.viewed_{n} AS v",
    "WITH w AS (INSERT INTO public.defaulted_{n} (a) VALUES (1) RETURNING a) SELECT a FROM w",
    "SELECT count(*) FROM public.guarded_{n}",
    "DO $$ BEGIN PERFORM public.fixed_{n}(); END $$",
    'SELECT U&"fixed\\005F{n}"()',
)

SETUP = (
    "CREATE FUNCTION dynamic(text) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN EXECUTE $1; RETURN 1; END $f$;"
    "CREATE FUNCTION twice(text) RETURNS int LANGUAGE sql AS $f$ SELECT public.dynamic($1) $f$;"
    "CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS $f$ SELECT 1 $f$;"
    "CREATE TABLE orders (said text);"
    "CREATE FUNCTION obeys() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN EXECUTE NEW.said; RETURN NULL; END $f$;"
    "CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION obeys();"
    "CREATE TABLE requests (said text);"
    "CREATE RULE r AS ON INSERT TO requests DO INSTEAD SELECT public.dynamic(NEW.said);"
    + "".join(_MAKE_FIXED.format(n=n, deed=deed) for n, deed in enumerate(FIXED))
    + "GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;"
)

#: Names of options that a session shows nowhere; which of them a client can say depends on its encoding.
NAMES = (
    "app.x",
    "app.x",
    "app.z",
    "app.tenant",
    "APP.X",
    "app.x$1",
    "app._9",
    "a.b.c",
    "app.schlüssel",
    "äpp.x",
    "app.中文",
    "ключ.значение",
    "app.ソ",
    "app.功",
    "app.誠",
    f"app.{LONG}",
    f"{LONG}.x",
    f"app.{'y' * 150}",
    "work_mem",
    "search_path",
    "lock_timeout",
    "statement_timeout",
    "idle_session_timeout",
    "timezone",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "application_name",
    "role",
    "app.no-name",
)
VALUES = {
    "work_mem": ("9MB", "10240"),
    "search_path": ("elsewhere", "public", "elsewhere, public", ""),
    "lock_timeout": ("90s", "0"),
    "statement_timeout": ("90s",),
    "idle_session_timeout": ("90s",),
    "timezone": ("Asia/Tokyo", "UTC"),
    "datestyle": ("German", "SQL, DMY"),
    "default_transaction_isolation": ("serializable", "repeatable read"),
    "default_transaction_read_only": ("on", "off"),
    "extra_float_digits": ("0", "3"),
    "application_name": ("mine",),
    "role": ("twin_other", "none"),
}
ANY_VALUE = ("v", "", "it''s", "a b", "1", "ü")

#: What stands between words.
GAPS = (" ", " ", " ", "\n", "\t", "\f", "/**/", " /* of */ ", " -- of\n", "/* /* in */ ' */")


@dataclass(frozen=True)
class Said:
    """One message: a text as a simple query, or by Parse, Bind, Execute and Sync with values."""

    text: str
    values: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.text if self.values is None else f"{self.text} <- {self.values}"


Draw = Callable[[st.SearchStrategy[Any]], Any]


def chars(text: str) -> str:
    return text.replace("'", "''")


def spelt(draw: Draw, text: str) -> str:
    """A string constant of that value; ``text`` has no backslash."""
    how = draw(st.integers(0, 11))
    plain = "'" + chars(text) + "'"
    if how <= 3 or not text:
        return plain
    at = draw(st.integers(0, len(text) - 1))
    code = ord(text[at])
    before, behind = chars(text[:at]), chars(text[at + 1 :])
    if how == 4:
        return f"$q${text}$q$"
    if how == 5 and "$" not in text:
        return f"$${text}$$"
    if how == 6 and code < 128:
        return f"E'{before}\\x{code:02x}{behind}'"
    if how == 7 and code < 128:
        return f"e'{before}\\{code:03o}{behind}'"
    if how == 8 and code < 0x10000:
        return f"U&'{before}\\{code:04X}{behind}'"
    if how == 9:
        return f"'{before}'\n'{chars(text[at:])}'"
    if how == 10:
        return f"('{before}' || '{chars(text[at:])}')"
    if how == 11:
        return f"reverse('{chars(text[::-1])}')"
    return plain


def named(draw: Draw, name: str) -> str:
    """An option's name as SET takes it."""
    gap = draw(st.sampled_from(("", "", "", *GAPS)))
    parts = [f'"{part}"' if draw(st.integers(0, 4)) == 0 else part for part in name.split(".")]
    if draw(st.integers(0, 9)) == 0 and parts[-1].isascii():
        parts[-1] = 'U&"' + f"\\{ord(parts[-1].strip(chr(34))[0]):04x}" + parts[-1].strip('"')[1:] + '"'
    return f"{gap}.{gap}".join(parts)


@st.composite
def settings_made(draw: Draw) -> str:
    name = draw(st.sampled_from(NAMES))
    value = draw(st.sampled_from(VALUES.get(name, ANY_VALUE)))
    gap = draw(st.sampled_from(GAPS))
    how = draw(st.integers(0, 11))
    if how <= 3:
        kind = draw(st.sampled_from(("", "", "", "SESSION", "LOCAL")))
        sign = draw(st.sampled_from(("=", " TO ", " = ")))
        spelling = "'" + chars(value.replace("''", "'")) + "'"
        if name == "search_path":
            spelling = value or "''"
        return f"SET{gap}{kind}{gap if kind else ''}{named(draw, name)}{sign}{spelling}"
    if how == 4:
        return f"SET {named(draw, name)} TO DEFAULT"
    if how == 5:
        return f"RESET{gap}{named(draw, name)}"
    if how == 6:
        return f"UPDATE pg_settings SET setting = {spelt(draw, value)} WHERE name = {spelt(draw, name)}"
    function = draw(
        st.sampled_from(("set_config", "pg_catalog.set_config", '"set_config"', "SET_CONFIG", 'U&"set\\005fconfig"'))
    )
    local = draw(st.sampled_from(("false", "false", "'f'", "1 = 0", "true", "NULL")))
    value_said = spelt(draw, value) if draw(st.integers(0, 9)) else "NULL"
    return f"SELECT {function}{gap}({spelt(draw, name)}, {value_said}, {local})"


OTHER_DEEDS = (
    "LISTEN ch",
    "LISTEN ch",
    'listen "Other"',
    "LISTEN/**/größe",
    "UNLISTEN *",
    "CREATE TEMP TABLE mine (a int)",
    "CREATE/**/TEMPORARY TABLE IF NOT EXISTS mine AS SELECT 1 AS a",
    "SELECT 1 AS a INTO TEMP mine",
    "CREATE TABLE pg_temp.mine (a int)",
    'CREATE VIEW "pg_temp".mine AS SELECT 1 AS a',
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TEMP SEQUENCE mine",
    "CREATE TEMP TABLE mine (a int) ON COMMIT DROP",
    "DROP TABLE IF EXISTS pg_temp.mine",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    'DECLARE "Größe" SCROLL CURSOR WITH HOLD FOR SELECT 1',
    "CLOSE ALL",
    "SELECT pg_advisory_lock(41)",
    "SELECT pg_try_advisory_lock_shared(1, 2)",
    'SELECT "pg_advisory_lock" (42), 1',
    "SELECT pg_advisory_xact_lock(43)",
    "SELECT pg_advisory_unlock_all()",
    'SELECT U&"pg\\005Fadvisory_lock"(44)',
    "SET ROLE twin_other",
    "SET SESSION ROLE 'twin_other'",
    "SET LOCAL ROLE twin_other",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET TIME ZONE LOCAL",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "SELECT 1 FROM pg_create_physical_replication_slot('s_' || current_database(), false, true)",
    "PREPARE p AS SELECT 1",
    "PREPARE p AS SELECT set_config('app.z', 'prepared', false)",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "RESET ALL",
    "DISCARD ALL",
    "DISCARD TEMP",
    "SELECT 1",
    "SELECT public.harmless()",
    "SELECT 1/0",
)

deeds = st.one_of(settings_made(), settings_made(), st.sampled_from(OTHER_DEEDS))
fixed = st.builds(lambda n, call: call.replace("{n}", str(n)), st.integers(0, len(FIXED) - 1), st.sampled_from(CALLS))

_FUNCTION = re.compile(r"SELECT (?=[\w\"&])")


@st.composite
def messages(draw: Draw) -> list[Said]:
    """One deed, somehow said."""
    if draw(st.integers(0, 2)) == 0:
        text = draw(fixed)
        return [Said(text, () if draw(st.booleans()) else None)]
    deed = draw(deeds)
    values: tuple[str, ...] | None = () if draw(st.booleans()) else None
    how = draw(st.integers(0, 15))
    public = draw(st.sampled_from(("public.", "")))
    if how == 0:
        return [Said(f"DO $do$ BEGIN {_FUNCTION.sub('PERFORM ', deed, count=1)}; END $do$", values)]
    if how == 1:
        return [Said(f"DO $do$ BEGIN EXECUTE {spelt(draw, deed)}; END $do$", values)] if "\\" not in deed else []
    if how == 2 and "\\" not in deed:
        return [Said(f"DO $do$ BEGIN EXECUTE format('%s', {spelt(draw, deed)}); END $do$", values)]
    if how == 3 and "\\" not in deed:
        return [Said(f"SELECT {public}dynamic({spelt(draw, deed)})", values)]
    if how == 4 and "\\" not in deed:
        return [Said(f"SELECT {public}twice({spelt(draw, deed)})", values)]
    if how == 5 and "\\" not in deed:
        return [Said(f"INSERT INTO {public}orders VALUES ({spelt(draw, deed)})", values)]
    if how == 6 and "\\" not in deed:
        return [Said(f"INSERT INTO {public}requests VALUES ({spelt(draw, deed)})", values)]
    if how == 7:
        return [Said(f"SELECT {public}dynamic($1)", (deed,))]
    if how == 8:
        return [Said(f"INSERT INTO {public}orders VALUES ($1)", (deed,))]
    if how == 9:
        name, size = draw(st.sampled_from(NAMES)), draw(st.sampled_from((1, 8_000, 20_000, 70_000)))
        value = draw(st.sampled_from(VALUES.get(name, ANY_VALUE))).replace("''", "'")
        return [Said("SELECT set_config($2, $3, false), length($1)", ("z" * size, name, value))]
    if how == 10:
        body = f"$body$ BEGIN {_FUNCTION.sub('PERFORM ', deed, count=1)}; RETURN 1; END $body$"
        made = f"CREATE FUNCTION public.passing() RETURNS int LANGUAGE plpgsql AS {body}"
        return [Said(made), Said("SELECT public.passing()", values), Said("DROP FUNCTION public.passing()")]
    if how == 11:
        return [Said(f"SELECT 1; {deed}; SELECT 2")]
    if how == 12:
        return [Said(f"{draw(st.sampled_from(GAPS))}{deed}{draw(st.sampled_from(('', ';', ';;', ' -- ;')))}", values)]
    return [Said(deed, values)]


@st.composite
def frames(draw: Draw) -> list[Said]:
    """Some deeds, outside of a transaction or in one, with savepoints, committed or not."""
    inner = draw(st.lists(messages(), min_size=1, max_size=3))
    flat = [said for group in inner for said in group]
    how = draw(st.integers(0, 8))
    if how <= 3:
        return flat
    end = Said(draw(st.sampled_from(("COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN; ROLLBACK"))))
    if how <= 5:
        return [Said("BEGIN"), *flat, end]
    if how == 6:
        more = draw(messages())
        back = draw(st.sampled_from(("ROLLBACK TO s", "ROLLBACK TO s; RELEASE s", "RELEASE s")))
        return [Said("BEGIN"), *more, Said("SAVEPOINT s"), *flat, Said(back), *draw(messages()), end]
    if how == 7:
        return [Said("BEGIN"), *flat, Said("SELECT 1/0"), *draw(messages()), Said("COMMIT")]
    return [Said("BEGIN"), *flat]  # left open


plans = st.lists(frames(), min_size=1, max_size=3).map(lambda groups: [said for group in groups for said in group])
