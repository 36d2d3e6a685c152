"""Why a server was not asked: the reason is found behind what hides it."""

from __future__ import annotations

import subprocess
import sys

from pace import patience

from pgdoorman_lib.generate import survey


def explained(exc: BaseException, *, password: str = "x", tls: bool = False) -> str:
    return survey.explained(exc, 'there as "me"', "me", password, "db", tls).message


def test_a_failed_goodbye_does_not_hide_the_refusal() -> None:
    """pg8000 sends Terminate to a server that has refused it and closed."""
    refusal = ValueError({"S": "FATAL", "C": "3D000", "M": 'database "db" does not exist'})
    goodbye = RuntimeError("network error")
    goodbye.__context__ = refusal
    assert explained(goodbye) == 'there as "me" was refused: database "db" does not exist'


def test_the_systems_word_is_told() -> None:
    outer = RuntimeError("communication error")
    outer.__cause__ = OSError(2, "No such file or directory")
    assert explained(outer) == 'could not ask there as "me": No such file or directory'
    assert explained(RuntimeError("Server refuses SSL")).endswith(": Server refuses SSL")
    assert explained(TimeoutError()).endswith(": TimeoutError")


def test_what_may_help_is_told() -> None:
    def refusal(code: str, text: str) -> ValueError:
        return ValueError({"C": code, "M": text})

    assert "PGPASSWORD" in explained(refusal("28P01", "password authentication failed"), password="")
    assert "PGPASSWORD" not in explained(refusal("28P01", "password authentication failed"))
    no_entry = refusal("28000", 'no pg_hba.conf entry for host "::1", user "me", database "db", no encryption')
    assert explained(no_entry).endswith("the server may want TLS: --ssl")
    assert "--ssl" not in explained(no_entry, tls=True)
    assert 'GRANT SELECT ON pg_catalog.pg_shadow TO "me"' in explained(refusal("42501", "permission denied"))


def test_serving_does_without_pg8000() -> None:
    code = "import pgdoorman, pgdoorman_lib.app, sys; print([name for name in sys.modules if 'pg8000' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60), cwd="/")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
