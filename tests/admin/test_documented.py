"""docs/console.md against what there is: every table of both dialects, every command."""

from __future__ import annotations

import re
from pathlib import Path

from pgdoorman_lib.admin.commands import VERBS
from pgdoorman_lib.admin.dialects import COMMANDS, PGBOUNCER, PGDOORMAN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "console.md"


def rows(heading: str) -> list[str]:
    """The first cells of the first table below a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line)[1].strip() for line in lines[2:]]


def test_every_table_is_documented() -> None:
    named = {name for cell in rows("What it shows") for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert named == set(PGDOORMAN.shows) | set(PGDOORMAN.refused)
    assert set(PGDOORMAN.shows) == set(PGBOUNCER.shows)


def test_every_command_is_documented() -> None:
    documented = [cell.strip("`").replace("\\|", "|") for cell in rows("Commands")]
    assert documented == list(COMMANDS)
    assert {usage.split()[0] for usage in COMMANDS} <= VERBS
