"""The other processes that a pooler's process has to do with, as ``app`` sees them."""

from __future__ import annotations

from typing import Any, Protocol

from pgdoorman_lib.listener import Inherited


class Kin(Protocol):
    """Alone, with one before and one behind it (``succession``), or one worker among several (``membership``)."""

    @property
    def worker(self) -> int:
        """The number of this worker, from 1; 0: there is just this process."""

    def come(self) -> list[Inherited]:
        """Have the listeners of another process, if any; may switch. ConfigError when that has gone.

        Returns sockets that stand in for all addresses of the configuration, as whoever started the service had it.
        """

    def inherit(self, name: str) -> Any:
        """The socket that another process listens with at ``name``, None: there is none."""

    def begin(self) -> None:
        """Wait until this process may serve; may switch. ConfigError: it may not."""

    def wait_until_main(self) -> None:
        """Wait until who watches the service knows of this process; may switch."""

    def upgrade(self) -> None:
        """Have a new process of this program serve everybody; may switch. Returns once it serves those who come.

        DoormanError when it can't, and nothing has changed.
        """

    def upgrade_logged(self) -> None:
        """As ``upgrade``, where there is nobody to tell but the log."""

    def pass_cancel_on(self, number: int, secret: bytes) -> None:
        """Somebody wants a client's statement cancelled that is not here; may switch."""
