"""A primary and its streaming standby, of which each may be killed, promoted and made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streaming
from fix_postgres import HBA, Postgres


class Member(streaming.StreamingPostgres, Postgres):
    """One of them; ``follow`` makes it a standby."""

    def __init__(self, directory: Path, **more: Any) -> None:
        super().__init__(directory, settings=streaming.SETTINGS, **more)
        self.hba = (*streaming.HBA, *HBA)
