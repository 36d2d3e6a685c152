"""PostgreSQL's own regression scripts in transaction mode: psql must print what it prints on PostgreSQL directly.

The scripts are not ours: ``PGDOORMAN_REGRESSION=…/src/test/regress/sql pytest --slow`` names a copy of them, best of the
version that is installed. Data files and the C library some of them want are missing on both sides alike. Of two direct
runs, on clusters of their own, those lines count that are equal.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
from fix_doorman import Doorman, MakeDoorman, app_pool, app_user
from fix_postgres import Postgres
from pace import patience
from throwaway_postgres import find_program

PASSWORD = "of a superuser"
SCRIPTS = os.environ.get("PGDOORMAN_REGRESSION", "")

#: What others need of them, in this order; the rest goes by name.
FIRST = """
test_setup boolean char name varchar text int2 int4 int8 oid float4 float8 bit numeric txid uuid enum money rangetypes
pg_lsn regproc strings md5 numerology point lseg line box path polygon circle date time timetz timestamp timestamptz
interval inet macaddr macaddr8 multirangetypes geometry horology tstypes regex type_sanity opr_sanity misc_sanity
comments expressions unicode xid mvcc copy copyselect copydml insert insert_conflict create_function_c create_misc
create_operator create_procedure create_table create_type create_schema create_index create_index_spgist create_view
index_including index_including_gist create_aggregate create_function_sql create_cast constraints triggers select
inherit typed_table vacuum drop_if_exists updatable_views roleattributes create_am hash_func errors
"""
#: They crash on purpose, are for another system, or want directories.
LEFT_OUT = {"infinite_recurse", "collate.windows.win1252", "tablespace"}

#: What differs, and is to (docs/transparency.md).
KNOWN = {
    "constraints": "currval outside its transaction",
    "sequence": "currval outside its transaction",
    "guc": "pg_prepared_statements; a library another client has loaded",
    "plancache": "pg_prepared_statements",
    "sysviews": "pg_prepared_statements",
    "partition_prune": "EXECUTE in a string that a function runs",
    "stats": "sessions and statistics of a server; temp_buffers behind another client's temporary table",
    "temp": "whether the server has had temporary objects before",
}


def run_all(server: Postgres | Doorman, output: Path) -> None:
    output.mkdir()
    here = {path.stem: path for path in sorted(Path(SCRIPTS).glob("*.sql")) if path.stem not in LEFT_OUT}
    environment = {
        **Doorman.environment(),
        "PGPASSWORD": PASSWORD,
        "PGTZ": "PST8PDT",
        "PGDATESTYLE": "Postgres, MDY",
        **dict.fromkeys(("PG_ABS_SRCDIR", "PG_ABS_BUILDDIR", "PG_LIBDIR"), "/nonexistent"),
        "PG_DLSUFFIX": ".so",
    }
    where = ["-h", server.host, "-p", str(server.port), "-U", "postgres", "-d", "regression"]
    first = [name for name in FIRST.split() if name in here]
    for name in [*first, *(name for name in here if name not in first)]:
        with here[name].open() as script, (output / name).open("w") as printed:
            subprocess.run(
                [str(find_program("psql")), "-X", "-a", "-q", *where, "-v", "HIDE_TABLEAM=on"],
                stdin=script,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env={**environment, "PGAPPNAME": f"pg_regress/{name}"},
                timeout=patience(300),
            )


def lines(path: Path) -> list[str]:
    # Process ids, ports, and the OIDs of large objects.
    text = re.sub(r"server process with PID \d+|port \d+|(?m:^ +\d{5}$)", "", path.read_text(errors="replace"))
    return text.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not SCRIPTS, reason="PGDOORMAN_REGRESSION does not say where PostgreSQL's regression scripts are")
def test_regression_scripts(make_doorman: MakeDoorman, tmp_path: Path) -> None:
    homes = [tmp_path / f"cluster{number}" for number in range(3)]
    for home in homes:
        home.mkdir()
    with Postgres(homes[0]) as first, Postgres(homes[1]) as second, Postgres(homes[2]) as pooled:
        for cluster in (first, second, pooled):
            cluster.populate()
            cluster.sql("CREATE DATABASE regression TEMPLATE template0")
            for setting in ("lc_messages", "lc_monetary", "lc_numeric", "lc_time"):
                cluster.sql(f"ALTER DATABASE regression SET {setting} = 'C'")
        user = app_user(
            pooled, 4, username="postgres", password=PASSWORD, server_username="postgres", server_password="none"
        )
        doorman = make_doorman({"pools": {"regression": app_pool(pooled, server_database="regression", users=[user])}})
        threads = [
            threading.Thread(target=run_all, args=(server, tmp_path / name))
            for server, name in ((first, "first"), (second, "second"), (doorman, "pooled"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        doorman.stop()
    differing = {}
    for path in sorted((tmp_path / "first").iterdir()):
        direct = lines(path)
        noise = {line for line in difflib.ndiff(direct, lines(tmp_path / "second" / path.name)) if line[:1] in "+-"}
        found = lines(tmp_path / "pooled" / path.name)
        changes = [line for line in difflib.ndiff(direct, found) if line[:1] in "+-" and line not in noise]
        if changes:
            differing[path.name] = changes
    assert len(list((tmp_path / "first").iterdir())) > 100
    assert not {name: changes[:10] for name, changes in differing.items() if name not in KNOWN}
