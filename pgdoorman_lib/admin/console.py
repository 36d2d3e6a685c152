"""The admin console: a session that answers the admin databases in the simple and in the extended protocol.

Rules:
1. Nothing a client sends ends the process. A bad statement gets ErrorResponse with severity ERROR and the session goes
   on (the reference sends FATAL and goes on, which makes drivers close); bytes that are not the protocol get FATAL
   08P01 and the end of the session.
2. After an error in the extended protocol everything up to Sync is skipped, as PostgreSQL does.
3. A result is complete in memory before its first row is sent; it is handed to the kernel in pieces, and others run in
   between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgdoorman_lib.admin.dialects import DIALECTS
from pgdoorman_lib.admin.extended import BindRequest, parse_bind, parse_execute, parse_named, parse_parse
from pgdoorman_lib.admin.parameters import REPORTED_PARAMETERS
from pgdoorman_lib.admin.planning import plan
from pgdoorman_lib.admin.plans import Plan, Session, UnknownStatement
from pgdoorman_lib.admin.rows import BINARY_FORMAT, TEXT, TEXT_FORMAT, Column, encode, row_description
from pgdoorman_lib.admin.statements import StatementError, split_statements
from pgdoorman_lib.admin.tables import Row, paced
from pgdoorman_lib.client.info import ClientInfo, info_of
from pgdoorman_lib.errors import DoormanError, OutOfMemory, PeerGone, ProtocolViolation, UnsupportedFeature
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.views import ConsoleStream, RunningPooler
from pgdoorman_lib.wire import consts, messages

#: The longest message the console reads: its statements are a line, and splitting them blocks everybody else.
MAX_MESSAGE = 1 << 16
#: A session's prepared statements and portals, each: drivers keep at most some hundreds.
MAX_PREPARED = 1000
#: Rows are handed to the kernel when so much of a result has been queued.
_FLUSH_BYTES = 1 << 16


class UnknownPortal(DoormanError):
    """A portal's name that this session has not (34000)."""

    sqlstate = "34000"
    fault = "client"


class DuplicateName(DoormanError):
    """A prepared statement of that name exists (42P05)."""

    sqlstate = "42P05"
    fault = "client"


@dataclass(slots=True)
class _Portal:
    """A bound statement: once executed, ``rows`` are its result and ``sent`` how many of them have gone."""

    plan: Plan | None
    formats: tuple[int, ...]
    rows: Sequence[Row] | None = None
    sent: int = 0


def serve(
    stream: ConsoleStream,
    pooler: RunningPooler,
    user: str,
    parameters: Mapping[str, str] | None = None,
    dialect: str = "pgdoorman",
    number: int = 0,
) -> None:
    """Answer an authenticated admin client until it leaves; sends the welcome, AuthenticationOk to ReadyForQuery.

    ``parameters`` are those of its startup message, ``dialect`` is the database it wants, ``number`` its own among all
    clients. Returns when the client is gone, said goodbye or broke the protocol; a DoormanError thrown into the session
    (shutting down) is told to the client first. The caller closes the stream.
    """
    console = _Console(stream, pooler, user, parameters or {}, dialect, number)
    pooler.consoles.add(number, console)
    try:
        console.welcome()
        console.run()
    except PeerGone:
        return
    except DoormanError as exc:
        stream.write(messages.error_from(exc))
        try:
            stream.flush()
        except PeerGone:
            return
    finally:
        pooler.consoles.remove(number)


def welcome_parameters(version: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the ParameterStatus of the welcome.

    server_version has the pooler's version behind a PostgreSQL one, as distributions write theirs: psql warns of
    servers older than 9.2 and drivers choose features by the first number, so a plain "0.1.0" would serve neither.
    """
    return {
        "application_name": parameters.get("application_name", ""),
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "integer_datetimes": "on",
        "IntervalStyle": "postgres",
        "server_encoding": "UTF8",
        "server_version": f"14.0 (pgdoorman {version})",
        "standard_conforming_strings": "on",
        "TimeZone": "Etc/UTC",
    }


class _Console:
    """A session; ``info`` is what the tables tell of its client, as of any other."""

    def __init__(
        self,
        stream: ConsoleStream,
        pooler: RunningPooler,
        user: str,
        parameters: Mapping[str, str],
        dialect: str,
        number: int,
    ) -> None:
        self.stream = stream
        self.id = number
        self.user = user
        self.database = dialect
        self.connected_at = pooler.now()
        self.stats = LinkStats()
        #: a statement of it is running
        self.busy = False
        told = welcome_parameters(pooler.build["version"], parameters)
        self.session = Session(pooler, user, DIALECTS[dialect], parameters=told, defaults=dict(told))
        self.session.has_left = self.has_left
        self.told = dict(told)
        self.portals: dict[str, _Portal] = {}
        self.skipping = False
        self.handlers = {
            consts.PARSE: self.parse,
            consts.BIND: self.bind,
            consts.DESCRIBE: self.describe,
            consts.EXECUTE: self.execute,
            consts.CLOSE: self.close,
        }

    def info(self) -> ClientInfo:
        """What SHOW CLIENTS tells."""
        name = self.session.parameters["application_name"]
        return info_of(self, self.stream, self.stats, name, "active" if self.busy else "idle")

    def welcome(self) -> None:
        """Send everything from AuthenticationOk to the first ReadyForQuery."""
        self.stream.write(messages.authentication_ok())
        for name, value in self.told.items():
            self.stream.write(messages.parameter_status(name, value))
        self.session.cancel_key = key = (consts.PROCESS_BASE + self.id, os.urandom(4))
        self.stream.write(messages.backend_key_data(*key))
        self.ready()

    def run(self) -> None:
        """Answer messages until Terminate; raises ProtocolViolation for one that does not belong here."""
        while True:
            kind, body = self.stream.read_message(MAX_MESSAGE)
            if kind == consts.TERMINATE:
                return
            if kind == consts.SYNC:
                self.skipping = False
                if not self.session.in_transaction:
                    self.portals.clear()
                self.ready()
            elif self.skipping:
                continue
            elif kind == consts.QUERY:
                self.query(body)
            elif kind == consts.FUNCTION_CALL:
                self.error(UnsupportedFeature("the admin database has no functions"))
                self.ready()
            elif kind == consts.FLUSH:
                self.stream.flush()
            elif (handler := self.handlers.get(kind)) is not None:
                try:
                    handler(body)
                except ProtocolViolation:
                    raise
                except DoormanError as exc:
                    self.error(exc)
                    # At once, as PostgreSQL does: asyncpg sends its Sync only when it has seen the error.
                    self.stream.flush()
                    self.skipping = True
            elif kind not in (consts.COPY_DATA, consts.COPY_DONE, consts.COPY_FAIL):
                # What is left of a COPY after an error is ignored, as PostgreSQL does; nothing else is.
                raise ProtocolViolation(f"invalid frontend message type {kind}")

    def ready(self) -> None:
        status = consts.TX_BLOCK if self.session.in_transaction else consts.TX_IDLE
        self.stream.write(messages.ready_for_query(bytes((status,))))
        self.stream.flush()

    def has_left(self) -> bool:
        """Whether the client has closed its connection, as far as is known; takes what else it has sent."""
        stream = self.stream
        while stream.readable and stream.fill() > 0:
            pass
        return bool(stream.eof or stream.hangup)

    def notify(self) -> None:
        """Send the notices there are."""
        for notice in self.session.notices:
            self.stream.write(notice)
        self.session.notices.clear()

    def run_plan(self, planned: Plan) -> Sequence[Row]:
        """Run a statement, and count it; its rows."""
        self.busy = True
        for stats in (self.stats, self.session.pooler.consoles.stats):
            stats.query_count += 1
            stats.xact_count += 1
        try:
            return planned.run()
        finally:
            self.busy = False

    def error(self, exc: DoormanError) -> None:
        self.notify()
        self.stats.errors += 1
        self.stream.write(messages.error_response("ERROR", exc.sqlstate, exc.message, detail=exc.detail, hint=exc.hint))

    # Simple protocol.

    def query(self, body: bytes) -> None:
        """Run the statements of a Query one by one up to the first that fails."""
        # As in PostgreSQL, a simple query drops the unnamed statement and portal.
        self.session.statements.pop("", None)
        self.portals.pop("", None)
        try:
            statements = split_statements(_text(body))
            if not statements:
                self.stream.write(messages.EMPTY_QUERY_MESSAGE)
            for statement in statements:
                planned = plan(statement, self.session)
                portal = _Portal(planned, (TEXT_FORMAT,) * len(planned.columns or ()))
                portal.rows = self.run_plan(planned)
                if planned.columns is not None:
                    self.stream.write(row_description(planned.columns, portal.formats))
                self.send_rows(portal, planned, 0)
        except ProtocolViolation:
            raise
        except DoormanError as exc:
            self.error(exc)
        self.ready()

    # Extended protocol.

    def parse(self, body: bytes) -> None:
        name, sql = parse_parse(body)
        statements = split_statements(sql)
        if len(statements) > 1:
            raise StatementError("cannot insert multiple commands into a prepared statement")
        if name and name in self.session.statements:
            raise DuplicateName(f'prepared statement "{name}" already exists')
        _limit(self.session.statements, name, "prepared statements")
        self.session.statements.pop(name, None)
        self.session.statements[name] = plan(statements[0], self.session) if statements else None
        self.stream.write(messages.PARSE_COMPLETE_MESSAGE)

    def bind(self, body: bytes) -> None:
        request = parse_bind(body)
        planned = self.statement(request.statement)
        request.check(planned.parameters if planned else 0)
        _limit(self.portals, request.portal, "portals")
        self.portals[request.portal] = _Portal(planned, _formats(request, planned))
        self.stream.write(messages.BIND_COMPLETE_MESSAGE)

    def describe(self, body: bytes) -> None:
        kind, name = parse_named(body)
        described: tuple[Column, ...] | None
        if kind == "S":
            planned = self.statement(name)
            self.stream.write(messages.parameter_description((TEXT,) * (planned.parameters if planned else 0)))
            formats: tuple[int, ...] = (TEXT_FORMAT,) * len(planned.columns or () if planned else ())
        else:
            portal = self.portal(name)
            planned, formats = portal.plan, portal.formats
        described = planned.columns if planned else None
        if described is None:
            self.stream.write(messages.NO_DATA_MESSAGE)
        else:
            self.stream.write(row_description(described, formats))

    def execute(self, body: bytes) -> None:
        name, max_rows = parse_execute(body)
        portal = self.portal(name)
        if portal.plan is None:
            self.stream.write(messages.EMPTY_QUERY_MESSAGE)
            return
        if portal.rows is None:
            portal.rows = self.run_plan(portal.plan)
        self.send_rows(portal, portal.plan, max_rows)

    def close(self, body: bytes) -> None:
        kind, name = parse_named(body)
        owner: dict[str, Plan | None] | dict[str, _Portal] = self.session.statements if kind == "S" else self.portals
        owner.pop(name, None)
        self.stream.write(messages.CLOSE_COMPLETE_MESSAGE)

    def statement(self, name: str) -> Plan | None:
        """Return the plan of a prepared statement, None for an empty one; raises UnknownStatement (26000)."""
        try:
            return self.session.statements[name]
        except KeyError:
            what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise UnknownStatement(f"{what} does not exist") from None

    def portal(self, name: str) -> _Portal:
        """Return a portal; raises UnknownPortal (34000)."""
        try:
            return self.portals[name]
        except KeyError:
            raise UnknownPortal(f'portal "{name}" does not exist') from None

    # Results.

    def send_rows(self, portal: _Portal, planned: Plan, max_rows: int) -> None:
        """Send the next ``max_rows`` rows (0: all) of a portal that was run, and CommandComplete or PortalSuspended."""
        assert portal.rows is not None, "the portal was run"
        rows = portal.rows[portal.sent : portal.sent + max_rows] if max_rows > 0 else portal.rows[portal.sent :]
        queued = 0
        for row in paced(rows):
            data = messages.data_row(
                [
                    encode(value, column.type, code)
                    for value, column, code in zip(row, planned.columns or (), portal.formats, strict=True)
                ]
            )
            self.stream.write(data)
            queued += len(data)
            if queued >= _FLUSH_BYTES:
                self.stream.flush()
                queued = 0
        portal.sent += len(rows)
        if max_rows > 0 and len(rows) == max_rows:
            self.stream.write(messages.PORTAL_SUSPENDED_MESSAGE)
            return
        for name in REPORTED_PARAMETERS:
            value = self.session.parameters[name]
            if self.told[name] != value:
                self.told[name] = value
                self.stream.write(messages.parameter_status(name, value))
        self.notify()
        tag = f"{planned.tag} {len(rows)}" if planned.count_rows else planned.tag
        self.stream.write(messages.command_complete(tag))


def _text(body: bytes) -> str:
    if body[-1:] != b"\0" or b"\0" in body[:-1]:
        raise ProtocolViolation("invalid string in message")
    return body[:-1].decode("utf-8", "replace")


def _limit(kept: Mapping[str, object], name: str, what: str) -> None:
    if name not in kept and len(kept) >= MAX_PREPARED:
        raise OutOfMemory(f"a session of the admin database may keep {MAX_PREPARED} {what}")


def _formats(request: BindRequest, planned: Plan | None) -> tuple[int, ...]:
    """Return one format code for each result column of a Bind; raises ProtocolViolation when their number is wrong."""
    width = len(planned.columns or ()) if planned else 0
    codes = request.result_formats or (TEXT_FORMAT,)
    if any(code not in (TEXT_FORMAT, BINARY_FORMAT) for code in codes):
        raise StatementError("unsupported format code", sqlstate="22023")
    if len(codes) == 1:
        return codes * width
    if len(codes) != width:
        raise StatementError(
            f"bind message has {len(codes)} result formats but query has {width} columns", sqlstate="08P01"
        )
    return codes
