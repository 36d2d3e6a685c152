"""What a statement of the console is made into: its plan, the session it is for, and why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pgdoorman_lib.abc import RunningPooler
from pgdoorman_lib.admin.rows import Column, Value
from pgdoorman_lib.errors import DoormanError, PeerGone
from pgdoorman_lib.wire import messages

Row = Sequence[Value]


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


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement ready to run: its result's columns (None: no result), its command tag, and ``run() -> rows``.

    ``count_rows`` puts the number of rows behind the tag, as SELECT does.
    """

    tag: str
    run: Callable[[], Sequence[Row]] = tuple
    columns: tuple[Column, ...] | None = None
    count_rows: bool = False


@dataclass(slots=True)
class Session:
    """One console connection: the pooler it looks at, its parameters, and whether its client opened a transaction.

    ``defaults`` is what RESET brings back; ``statements`` are the prepared ones by name, None for an empty one.
    ``dialect`` is ``pgdoorman`` or ``pgbouncer``, whose words are used; ``notices`` are the NoticeResponses to be sent
    with the answer; ``has_left`` tells whether the client is gone. ``cancel_key`` is what a cancel request shows, upon
    which ``cancelled`` is set.
    """

    pooler: RunningPooler
    user: str
    parameters: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    statements: dict[str, Plan | None] = field(default_factory=dict)
    in_transaction: bool = False
    dialect: str = "pgdoorman"
    notices: list[bytes] = field(default_factory=list)
    has_left: Callable[[], bool] = bool
    cancel_key: tuple[int, bytes] = (0, b"")
    cancelled: bool = False

    def notice(self, text: str) -> None:
        """Tell the client ``text`` with the answer."""
        self.notices.append(messages.notice_response("NOTICE", "00000", text))

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
