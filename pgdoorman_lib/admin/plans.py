"""What a statement of the console is made into: its plan, the session it is for, and why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pgdoorman_lib.admin.rows import Column
from pgdoorman_lib.admin.tables import Dialect, Row
from pgdoorman_lib.errors import DoormanError, PeerGone
from pgdoorman_lib.record import record
from pgdoorman_lib.views import RunningPooler
from pgdoorman_lib.wire import messages


class UnknownCommand(DoormanError):
    """Not a command of the console (58000, as in the reference)."""

    sqlstate = "58000"
    fault = "client"


class UnknownSetting(DoormanError):
    """SET or SHOW of a parameter the console does not have (42704)."""

    sqlstate = "42704"
    fault = "client"


class UnknownStatement(DoormanError):
    """A prepared statement's name that this session has not (26000)."""

    sqlstate = "26000"
    fault = "client"


class Cancelled(DoormanError):
    """The console's client has cancelled the command that it waits for (57014)."""

    sqlstate = "57014"
    fault = "client"


class BadValue(DoormanError):
    """A parameter's value is not one the console can take (22023)."""

    sqlstate = "22023"
    fault = "client"


class AdminAccessNeeded(DoormanError):
    """A command from one of ``stats_users``, who may only look (08P01 and the words, as in PgBouncer)."""

    sqlstate = "08P01"
    fault = "client"

    def __init__(self) -> None:
        super().__init__("admin access needed", hint="Users in stats_users may use SHOW; see admin_users.")


class InvalidCommand(DoormanError):
    """Not a command of PgBouncer's console (08P01 and the words, as there: by them pgcli knows what it talks to)."""

    sqlstate = "08P01"
    fault = "client"


@record(frozen=True, slots=True)
class Plan:
    """A statement ready to run: its result's columns (None: no result), its command tag, and ``run() -> rows``.

    ``count_rows`` puts the number of rows behind the tag, as SELECT does; ``parameters``: how many, all of type text,
    it may be given, which change nothing.
    """

    tag: str
    run: Callable[[], Sequence[Row]] = tuple
    columns: tuple[Column, ...] | None = None
    count_rows: bool = False
    parameters: int = 0


@dataclass(slots=True)
class Session:
    """One console connection: the pooler it looks at, its parameters, and whether its client opened a transaction.

    ``defaults`` is what RESET brings back; ``statements`` are the prepared ones by name, None for an empty one.
    ``dialect`` has the words that are used; ``notices`` are the NoticeResponses to be sent
    with the answer; ``has_left`` tells whether the client is gone. ``cancel_key`` is what a cancel request shows, upon
    which ``cancelled`` is set.
    """

    pooler: RunningPooler
    user: str
    dialect: Dialect
    parameters: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    statements: dict[str, Plan | None] = field(default_factory=dict)
    in_transaction: bool = False
    notices: list[bytes] = field(default_factory=list)
    has_left: Callable[[], bool] = bool
    cancel_key: tuple[int, bytes] = (0, b"")
    cancelled: bool = False

    def notice(self, text: str, detail: str | None = None) -> None:
        """Tell the client ``text`` with the answer."""
        self.notices.append(messages.notice_response("NOTICE", "00000", text, detail=detail))

    def stay(self) -> None:
        """PeerGone when nobody waits for the answer any more, Cancelled when the client does not want to."""
        if self.has_left():
            raise PeerGone("the console's client has left")
        if self.cancelled:
            raise Cancelled("canceling statement due to user request")

    @contextmanager
    def cancellable(self) -> Iterator[None]:
        """A command waits within, and may be cancelled."""
        self.cancelled = False
        self.pooler.cancellable[self.cancel_key] = self
        try:
            yield
        finally:
            del self.pooler.cancellable[self.cancel_key]
            self.cancelled = False

    @property
    def read_only(self) -> bool:
        """Whether its user may only look: by the configuration in force, so that a reload takes rights away at once."""
        general = self.pooler.config.general
        return self.user != general.admin_username and self.user not in general.admin_users
