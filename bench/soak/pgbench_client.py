"""pgbench in short runs, each script comparing what it gets with what it has sent."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from throwaway_postgres import find_program

from bench.soak.journal import Wrong
from bench.soak.workers import Threaded

TRANSACTIONS = 200
SCRIPT = """\
\\set token random(1, 1000000000)
BEGIN;
SELECT :token AS first, pg_backend_pid() AS pid \\gset
SELECT :token + 1 AS second, pg_backend_pid() AS same \\gset
COMMIT;
\\if :first != :token or :second != :token + 1 or :pid != :same
SELECT 'wrong answer'::int;
\\endif
"""
#: What pgbench says when a connection is gone, and the SQLSTATEs it shows with some of it.
GONE = re.compile(
    r"connection to server|server closed the connection|terminat|perhaps the backend died|SSL|could not (send|receive)"
)


class PgbenchFailed(Exception):
    """It ended with an error."""


class PgbenchClient(Threaded):
    """Three clients for a run of TRANSACTIONS each; connected only while one lasts."""

    OPERATIONS = {"pgbench": 1}  # noqa: RUF012
    ERRORS = (PgbenchFailed,)

    def connect(self) -> None:
        """Nothing: each run connects by itself."""

    close = forget = connect

    @staticmethod
    def code(error: BaseException) -> str | None:
        return None if GONE.search(str(error)) else "pgbench"

    def pgbench(self) -> None:
        me = self.me
        with TemporaryDirectory(prefix="soak-") as folder:
            Path(folder, "script.sql").write_text(SCRIPT)
            protocol = me.random.choice(("simple", "extended", "prepared"))
            # A thread for each client: while pgbench prepares a statement for one, its thread does nothing for others,
            # which may hold all servers of a small pool meanwhile.
            command = [str(find_program("pgbench")), "-n", "-f", "script.sql", "-M", protocol, "-c", "3", "-j", "3"]
            command += ["-t", str(TRANSACTIONS), "-h", "127.0.0.1", "-p", str(me.port), "-U", me.user, me.database]
            environment = {"PGPASSWORD": me.password, "PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGSSLMODE": "disable"}
            answer = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
        if "wrong answer" in answer.stderr:
            raise Wrong(f"pgbench: {answer.stderr[-300:]}")
        if answer.returncode:
            raise PgbenchFailed(answer.stderr[-600:])
