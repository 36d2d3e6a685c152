"""Our own statements on a server: one simple query at a time, in blocking style, while nothing else is owed."""

from __future__ import annotations

from pgdoorman_lib.errors import ServerGone, ServerProtocolViolation, ServerRefused
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.owed import DESYNC, QUERY, SWALLOW
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, trace_of

#: Bytes of the longest CommandComplete that is looked into.
LONGEST_TAG = 64
#: Bytes of the longest ParameterStatus that is taken in whole.
LONGEST_REPORT = 1 << 20


def run(server: Server, sql: str, whole: bytearray | None = None) -> list[bytes]:
    """Run ``sql`` and wait for its end; may switch. Returns the bodies of its DataRows.

    ``whole`` takes the answer as it came, up to ReadyForQuery, but for what the server reports on its own account.

    ServerRefused with PostgreSQL's own words when it fails, ServerGone or PeerGone when the connection is lost. The
    caller owns the server and puts a deadline around.
    """
    stream = server.stream
    replies = server.replies
    replies.add(QUERY | SWALLOW)  # if this is cut short, the server is seen to owe an answer, and is not lent
    server.statements.unnamed = None  # every simple query drops it
    stream.write(messages.query(sql))
    stream.flush()
    rows: list[bytes] = []
    refused: ServerRefused | None = None
    while True:
        kind, body = stream.read_message(1 << 24)
        if replies.account(kind) == DESYNC or (kind == consts.READY_FOR_QUERY and len(body) != 1):
            raise ServerProtocolViolation(f"unexpected message type {kind} from server")
        if whole is not None and kind not in (consts.PARAMETER_STATUS, consts.NOTICE_RESPONSE):
            whole += bytes((kind,)) + (len(body) + 4).to_bytes(4, "big") + body
        if kind == consts.READY_FOR_QUERY:
            replies.status = body[0]
            if not replies.count:
                break
        elif kind == consts.ERROR_RESPONSE:
            refused = messages.exception_from(body, ServerRefused)
            if messages.is_fatal(body):
                server.fatal_received = 1
                raise refused
        elif kind == consts.PARAMETER_STATUS:
            server.report(*messages.parse_parameter_status(body))
        elif kind == consts.DATA_ROW:
            rows.append(body)
    replies.swallowed_error = 0
    if refused is not None:
        raise refused
    return rows


def drain(server: Server) -> None:
    """Read on until nothing is owed any more, noting what it leaves behind; may switch.

    ServerProtocolViolation, ServerGone or PeerGone.
    """
    replies = server.replies
    while replies.count:
        while replies.made_next():
            pass
        if not replies.count:
            return
        kind, size = read_header(server)
        if replies.account(kind) == DESYNC:
            raise ServerProtocolViolation(f"unexpected message type {kind} from server")
        if kind == consts.READY_FOR_QUERY and size == 1:
            replies.status = server.stream.read_exact(size)[0]
        elif kind == consts.READY_FOR_QUERY:
            raise ServerProtocolViolation("invalid ReadyForQuery from server")
        elif kind == consts.COMMAND_COMPLETE and size <= LONGEST_TAG:
            _note_tag(server, server.stream.read_exact(size)[:-1])
        else:
            if replies.unparsed:
                replies.unparsed = 0
                server.statements.unnamed = None
            if kind == consts.PARAMETER_STATUS and size <= LONGEST_REPORT:
                server.dirty |= DIRTY_PARAMETERS
                server.report(*messages.parse_parameter_status(server.stream.read_exact(size)))
            else:
                skip(server, size)
        if kind == consts.COPY_IN_RESPONSE:
            raise ServerGone("the server waits for copy data nobody will send")


def _note_tag(server: Server, tag: bytes) -> None:
    """What a command leaves behind whose client is not there any more."""
    if tag in (b"DEALLOCATE ALL", b"DISCARD ALL"):
        server.statements.clear(server.replies.effects)
    server.dirty |= DIRTY_PARAMETERS if tag == b"DISCARD ALL" else trace_of(tag)


def read_header(server: Server) -> tuple[int, int]:
    """The next message's type byte and the size of its body; may switch."""
    head = server.stream.read_exact(5)
    length = int32(head, 1)
    if length < 4:
        raise ServerProtocolViolation("invalid message length from server")
    return head[0], length - 4


def skip(server: Server, size: int) -> None:
    """Pass over ``size`` bytes in bounded memory; may switch."""
    while size > 0:
        part = min(size, 16384)
        server.stream.read_exact(part)
        size -= part
