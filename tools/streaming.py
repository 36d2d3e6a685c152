"""A throw-away PostgreSQL that may stream from another, and be promoted: for tests and measurements of failover."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from throwaway_postgres import START_SECONDS, PostgresFailed, ThrowawayPostgres, _clean_environment, unprivileged

#: What a primary has to have, and its standbys; the superuser replicates.
SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": 10,
    "hot_standby": "on",
    "wal_receiver_timeout": "5s",
    "wal_retrieve_retry_interval": "100ms",  # a standby may sleep so long before it sees that it is to be promoted
}
HBA = ("host replication postgres 127.0.0.1/32 trust",)


class StreamingPostgres(ThrowawayPostgres):
    """One of them; made with SETTINGS and HBA among its own."""

    def follow(self, primary: ThrowawayPostgres) -> None:
        """Begin anew as a copy of ``primary``; returns when it streams from it."""
        if self.running:
            self.stop("immediate")
        shutil.rmtree(self.data, ignore_errors=True)
        command: list[str | Path] = [self.bindir / "pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast"]
        self._run([*command, "--no-sync", "-h", primary.host, "-p", str(primary.port), "-U", "postgres"])
        self._write_settings()
        self._write_hba()
        self.start()
        deadline = time.monotonic() + START_SECONDS
        while self.sql("SELECT status FROM pg_stat_wal_receiver") != "streaming":
            if time.monotonic() > deadline:
                raise PostgresFailed(f"the standby does not stream:\n{self.log_tail()}")
            time.sleep(0.05)

    def promote(self) -> None:
        """Have it be a primary; returns when it is."""
        self._run([self.bindir / "pg_ctl", "promote", "-w", "-D", self.data])

    def is_standby(self) -> bool:
        """Whether it is one, and not a primary."""
        return self.sql("SELECT pg_is_in_recovery()") == "t"

    def has_caught_up(self, primary: ThrowawayPostgres) -> bool:
        """Whether all that ``primary`` has written is here."""
        written = primary.sql("SELECT pg_current_wal_lsn()")
        return self.sql(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == "t"

    def _run(self, command: list[str | Path]) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", env=_clean_environment(), timeout=START_SECONDS,
            **unprivileged(),
        )  # fmt: skip
        if done.returncode:
            raise PostgresFailed(f"{command[0]} failed: {done.stdout}{done.stderr}")
