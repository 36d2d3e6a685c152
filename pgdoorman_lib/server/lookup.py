"""Looking a user up on a server that is there for nothing else."""

from __future__ import annotations

from pgdoorman_lib.errors import ServerProtocolViolation, ServerRefused
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import read_header, skip
from pgdoorman_lib.server.login import time_limit
from pgdoorman_lib.wire import consts, lookup, messages
from pgdoorman_lib.wire.lookup import Answer
from pgdoorman_lib.wire.owed import DESYNC
from pgdoorman_lib.wire.session_state import DIRTY_SESSION


def look_up(server: Server, query: str, user: str) -> Answer:
    """What ``query`` says of ``user``; may switch. The server is left dirty, whatever the query has done there.

    ServerRefused with PostgreSQL's own words when it fails, ServerUnavailable when it takes longer than
    ``connect_timeout``, ServerProtocolViolation, ServerGone or PeerGone; unless it is the first, the server owes an
    answer and is not to be used again.
    """
    server.dirty |= DIRTY_SESSION
    with time_limit(server.settings, server.settings.connect_timeout, "look a user up in"):
        return _ask(server, lookup.request(query, user))


def _ask(server: Server, request: bytes) -> Answer:
    stream, replies = server.stream, server.replies
    for code in lookup.OWED:
        replies.add(code)
    server.statements.unnamed = None
    stream.write(request)
    stream.flush()
    answer = Answer()
    refused: ServerRefused | None = None
    while replies.count:
        kind, size = read_header(server)
        is_too_long = size > lookup.MAX_BODY
        body = b"" if is_too_long else stream.read_exact(size)  # before it counts as answered
        if replies.account(kind) == DESYNC or (kind == consts.READY_FOR_QUERY and size != 1):
            raise ServerProtocolViolation(f"unexpected message type {kind} from server")
        if is_too_long:
            skip(server, size)
            answer.is_too_long = True
        if kind == consts.ERROR_RESPONSE:
            refused = messages.exception_from(body, ServerRefused)
            if messages.is_fatal(body):
                server.fatal_received = 1
                raise refused
            continue
        if not answer.is_too_long:
            try:
                answer.take(kind, body)
            except ValueError as exc:
                raise ServerProtocolViolation(f"the query to look users up: {exc}") from exc
        if kind == consts.READY_FOR_QUERY:
            replies.status = body[0]
    replies.swallowed_error = 0
    if refused is not None:
        raise refused
    return answer
