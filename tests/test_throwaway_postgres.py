"""The PostgreSQL that demo, tests and benchmarks make."""

from __future__ import annotations

import socket
from pathlib import Path

from throwaway_postgres import ThrowawayPostgres


def test_a_port_that_somebody_took_meanwhile(tmp_path: Path) -> None:
    postgres = ThrowawayPostgres(tmp_path)
    found = postgres.port
    with socket.create_server((postgres.host, found)):
        try:
            postgres.start()
            assert postgres.port != found
            assert postgres.sql("SELECT 1") == "1"
        finally:
            postgres.remove()
