"""Whose token it is, by the method ``oauth``, says a command of the operator's, which is given it by standard input.

Rules:
1. The command is run without a shell, with nothing of the client's among its arguments. It says by status 0 that the
   token is good, and in its one line of output whose it is; anything else refuses the client.
2. When its time is over it is killed, with what it has started. It runs while a thread waits for it, so many at once
   as ``auth.judges`` has it. It is not gevent's to start: that waits for every child of this process from then on, and
   takes those away that modules of PAM wait for.

PostgreSQL docs, "OAuth Authorization/Authentication" and "OAuth Validator Modules".
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from typing import Any

from gevent.monkey import get_original

from pgdoorman_lib.abc import JudgeSettings
from pgdoorman_lib.auth.identity import IdentMap, check_name
from pgdoorman_lib.errors import ConfigError, NoVerdict, Refusal
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.record import record

#: The method of pg_hba.
OAUTH = "oauth"

_poll: Callable[[], Any] = get_original("select", "poll")
_posix_spawn: Callable[..., int] = get_original("os", "posix_spawn")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")

#: Bytes of the longest answer.
LONGEST_ANSWER = 1024
#: Milliseconds between two looks at a command that has said all it says, and has not ended.
_LOOK = 5

#: What the command finds in its environment beside PATH.
USER_VARIABLE = b"PGDOORMAN_USER"
DATABASE_VARIABLE = b"PGDOORMAN_DATABASE"


@record(frozen=True)
class OAuthValidator:
    """``command`` with its arguments; ``issuer`` and ``scope`` are for clients that ask where to get a token.

    ``idents`` is the map from whose it is to the user; None: the names have to be the same.
    """

    command: tuple[str, ...]
    issuer: str
    scope: str
    idents: IdentMap | None
    blocks = True
    passes_on = False
    method = None

    @property
    def line(self) -> str:
        return f"validator {self.command[0]}"

    def judge(self, claim: Any, until: float) -> None:
        """As in abc.Judge; blocks until the command ends."""
        environment = {
            USER_VARIABLE: claim.user.encode(errors="replace"),
            DATABASE_VARIABLE: claim.database.encode(errors="replace"),
            b"PATH": os.environb.get(b"PATH", os.defpath.encode()),
        }
        try:
            status, said = _run(self.command, environment, claim.password, until)
        except TimeoutError:
            raise NoVerdict(f"{self.line} has not ended in time") from None
        except OSError as exc:
            raise NoVerdict(f"{self.line} can't be run: {exc.strerror}") from None
        if status != 0:
            raise Refusal(f"{self.line} refuses the token: status {status}")
        try:
            owner = said.decode().removesuffix("\n")
        except UnicodeDecodeError:
            owner = ""
        if not owner or not owner.isprintable():
            raise NoVerdict(f"{self.line} does not say in one line whose token it is")
        check_name(owner, self.idents, claim.user)


def oauth_validator(
    chosen: Mapping[str, str], idents: IdentMap | None, settings: JudgeSettings | None
) -> OAuthValidator:
    """The one for a rule with these options; ValueError, in the words of PostgreSQL's hba.c, and ConfigError."""
    for option in ("issuer", "scope"):
        if not chosen.get(option):
            raise ValueError(f'authentication method "oauth" requires argument "{option}" to be set')
    command = settings.oauth_validator_command if settings is not None else ()
    if not command:
        raise ConfigError('authentication method "oauth" needs general.oauth_validator_command')
    if not (os.path.isabs(command[0]) and os.path.isfile(command[0]) and os.access(command[0], os.X_OK)):
        raise ConfigError(
            f"general.oauth_validator_command: found '{command[0]}', expected the absolute path of a file that may be "
            "run, and its arguments"
        )
    return OAuthValidator(command, chosen["issuer"], chosen["scope"], idents)


class _Child:
    """A process that has been started as the first of its group; at the end of its use nothing of that runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        if self._status is None:
            _waitpid(self._pid, 0)

    def status(self, until: float) -> int:
        """How it has ended, negative: by which signal; TimeoutError."""
        while self._status is None:
            pid, status = _waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            else:
                _poll().poll(min(_LOOK, _left(until)))
        return self._status


def _run(command: Sequence[str], environment: Mapping[bytes, bytes], text: bytes, until: float) -> tuple[int, bytes]:
    """Have the command read ``text``: its exit status (negative: by which signal) and what it says.

    OSError when it can't be started, TimeoutError.
    """
    with ExitStack() as stack:
        its_input, give = _pipe(stack)
        take, its_output = _pipe(stack)
        actions = [
            (os.POSIX_SPAWN_DUP2, its_input.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, its_output.fileno(), 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        pid = _posix_spawn(
            command[0], command, environment, file_actions=actions, setpgroup=0, setsigdef=(signal.SIGPIPE,)
        )
        child = stack.enter_context(_Child(pid))
        its_input.close()
        its_output.close()
        said = _converse(give, take, text, until)
        return child.status(until), said


def _pipe(stack: ExitStack) -> tuple[FileIO, FileIO]:
    """Where is read from and where is written to, closed with ``stack`` at the latest."""
    reader, writer = os.pipe()
    return stack.enter_context(FileIO(reader, "r")), stack.enter_context(FileIO(writer, "w"))


def _converse(give: FileIO, take: FileIO, text: bytes, until: float) -> bytes:
    """Write ``text`` to ``give``, and read from ``take`` until its end; what that was. TimeoutError, NoVerdict."""
    os.set_blocking(give.fileno(), False)
    poller = _poll()
    poller.register(give, select.POLLOUT)
    poller.register(take, select.POLLIN)
    said = b""
    while True:
        for fd, _ in poller.poll(_left(until)):
            if fd == take.fileno():
                part = take.read(LONGEST_ANSWER)
                if not part:
                    return said
                said += part
                if len(said) > LONGEST_ANSWER:
                    raise NoVerdict("the validator says more than a name")
                continue
            try:
                text = text[os.write(fd, text) :]
            except BrokenPipeError:
                text = b""  # it need not read it to refuse it
            if not text:
                poller.unregister(fd)
                give.close()


def _left(until: float) -> int:
    """Milliseconds until then, one at least; TimeoutError."""
    left = until - clock()
    if left <= 0:
        raise TimeoutError
    return int(left * 1000) + 1
