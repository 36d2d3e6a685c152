"""Looking a user up by the operator's query: the messages for it, and the answer as it comes.

The query is prepared, with the user's name as its parameter: whatever the name is, it is no part of the text. Behind
it, in the same batch, is asked what PostgreSQL itself knows of a role of that name.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.owed import BIND, DESCRIBE, EXECUTE, PARSE, SWALLOW, SYNC

#: Rows asked for: none or one is an answer, a second one shows that it is none, however many there are.
MAX_ROWS = 2
#: Bytes of the longest message that is looked into: no secret is near that.
MAX_BODY = 1 << 16

#: Until when the role's password is valid, what time it is, both in seconds since 1970, and how passwords are stored.
_ROLE = (
    b"SELECT (SELECT pg_catalog.date_part('epoch', rolvaliduntil) FROM pg_catalog.pg_roles"
    b" WHERE rolname OPERATOR(pg_catalog.=) $1), pg_catalog.date_part('epoch', pg_catalog.now()),"
    b" pg_catalog.current_setting('password_encryption'), pg_catalog.current_setting('scram_iterations', true)"
)
_NAME = 19

#: What is owed for ``request``.
OWED = tuple(code | SWALLOW for code in (PARSE, DESCRIBE, BIND, EXECUTE, PARSE, BIND, EXECUTE, SYNC))


def request(query: str, user: str) -> bytes:
    """All messages by which ``user`` is looked up; ValueError for a null byte in either."""
    name = [user.encode()]
    asked = messages.parse(b"", query.encode()) + messages.describe_statement(b"")
    asked += messages.bind(b"", b"", name) + messages.execute(max_rows=MAX_ROWS)
    role = messages.parse(b"", _ROLE, [_NAME]) + messages.bind(b"", b"", name) + messages.execute()
    return asked + role + messages.sync()


class Answer:
    """What has come of a lookup: the query's ``columns`` by name, its first ``rows``, the row about the ``role``."""

    def __init__(
        self,
        columns: Sequence[bytes] = (),
        rows: Sequence[Sequence[bytes | None]] = (),
        role: Sequence[bytes | None] = (),
    ) -> None:
        self.columns = list(columns)
        self.rows = list(rows)
        self.role = role
        #: some of it was longer than MAX_BODY, and what came from there on is not known
        self.is_too_long = False
        self._is_about_role = False

    def take(self, kind: int, body: bytes) -> None:
        """One message of the server's answer, an ErrorResponse apart; ValueError for one that does not belong there."""
        if kind == consts.ROW_DESCRIPTION:
            self.columns = _columns(body)
        elif kind == consts.DATA_ROW:
            row = messages.parse_data_row(body)
            if self._is_about_role:
                self.role = row
            else:
                self.rows.append(row)
        elif kind in (consts.COMMAND_COMPLETE, consts.EMPTY_QUERY_RESPONSE, consts.PORTAL_SUSPENDED):
            self._is_about_role = True
        elif kind not in _NOTHING_TOLD:
            raise ValueError(f"a message of type {kind} where a query's rows belong")


_NOTHING_TOLD = frozenset(
    (
        *(consts.PARSE_COMPLETE, consts.BIND_COMPLETE, consts.PARAMETER_DESCRIPTION, consts.NO_DATA),
        *(consts.READY_FOR_QUERY, consts.NOTICE_RESPONSE, consts.PARAMETER_STATUS, consts.NOTIFICATION_RESPONSE),
    )
)
#: Bytes of a column in RowDescription behind its name.
_COLUMN = 18


def _columns(body: bytes) -> list[bytes]:
    """The names in a RowDescription; ValueError if it is none."""
    names = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at)
        names.append(body[at:end])
        at = end + 1 + _COLUMN
    if at != len(body):
        raise ValueError("a description of rows that does not end where it should")
    return names
