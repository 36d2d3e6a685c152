"""A primary and its streaming standby, of which each may be killed, promoted and made anew."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from eventually import eventually
from fix_postgres import HBA, Postgres
from pace import patience
from throwaway_postgres import PostgresFailed, _clean_environment, unprivileged

_SETTINGS = {"wal_level": "replica", "max_wal_senders": 10, "hot_standby": "on", "wal_receiver_timeout": "5s"}
_RULES = ("host replication postgres 127.0.0.1/32 trust", *HBA)


class Member(Postgres):
    """One of them; ``follow`` makes it a standby."""

    def __init__(self, directory: Path, **more: Any) -> None:
        super().__init__(directory, _SETTINGS, **more)
        self.hba = _RULES

    def follow(self, primary: Member) -> None:
        """Begin anew as a copy of ``primary``, and stream from it."""
        if self.running:
            self.stop("immediate")
        subprocess.run(["rm", "-rf", str(self.data)], check=True)
        command: list[str | Path] = [self.bindir / "pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast"]
        command += ["--no-sync", "-h", primary.host, "-p", str(primary.port), "-U", "postgres"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", env=_clean_environment(), timeout=patience(60),
            **unprivileged(),
        )  # fmt: skip
        if done.returncode:
            raise PostgresFailed(f"pg_basebackup failed: {done.stderr}")
        self._write_settings()
        self._write_hba()
        self.start()
        eventually(lambda: self.rows("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"), timeout=20)

    def is_standby(self) -> bool:
        [row] = self.rows("SELECT pg_is_in_recovery() AS standby")
        return bool(row["standby"])

    def promote(self) -> None:
        """Have it be a primary; returns when it is."""
        done = subprocess.run(
            [self.bindir / "pg_ctl", "promote", "-w", "-D", self.data], capture_output=True, text=True, cwd="/",
            env=_clean_environment(), timeout=patience(60), **unprivileged(),
        )  # fmt: skip
        if done.returncode:
            raise PostgresFailed(f"promotion failed: {done.stdout}{done.stderr}")

    def has_caught_up(self, primary: Member) -> bool:
        """Whether all that ``primary`` has written is here."""
        [row] = primary.rows("SELECT pg_current_wal_lsn()::text AS lsn")
        [mine] = self.rows("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn AS done", (row["lsn"],))
        return bool(mine["done"])
