"""What a view of the whole pooler has from the process that asks for it: its configuration, its console, its orders."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pgdoorman_lib.config.model import Config
from pgdoorman_lib.views import Cancellable, Operations, RunningPooler


class OfAsker:
    """The half of views.RunningPooler that is ``asker``'s."""

    def __init__(self, asker: RunningPooler) -> None:
        self._asker = asker

    @property
    def config(self) -> Config:
        """As there."""
        return self._asker.config

    @property
    def build(self) -> Mapping[str, str]:
        """As there."""
        return self._asker.build

    @property
    def draining(self) -> int:
        """As there."""
        return self._asker.draining

    @property
    def log_level(self) -> str:
        """As there."""
        return self._asker.log_level

    @property
    def cancellable(self) -> dict[tuple[int, bytes], Cancellable]:
        """As there."""
        return self._asker.cancellable

    @property
    def operations(self) -> Operations:
        """As there."""
        return self._asker.operations

    def now(self) -> float:
        """As there."""
        return self._asker.now()

    def everyone(self, parts: Collection[str] = ()) -> RunningPooler:
        """As there."""
        return self._asker.everyone(parts)

    def cancel_commands(self, number: int, user: str | None) -> Sequence[str]:
        """As there."""
        return self._asker.cancel_commands(number, user)

    def reload(self) -> Sequence[str]:
        """As there."""
        return self._asker.reload()

    def set_key(self, section: str, name: str, raw: object) -> str:
        """As there."""
        return self._asker.set_key(section, name, raw)

    def reset_key(self, section: str, name: str) -> str:
        """As there."""
        return self._asker.reset_key(section, name)

    def shutdown(self, mode: str = "drain") -> None:
        """As there."""
        self._asker.shutdown(mode)

    def upgrade(self) -> None:
        """As there."""
        self._asker.upgrade()

    def set_log_level(self, text: str) -> None:
        """As there."""
        self._asker.set_log_level(text)
