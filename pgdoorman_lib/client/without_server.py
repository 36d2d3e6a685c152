"""Messages of a client that has no server: answered here, refused, or what a server is borrowed for."""

from __future__ import annotations

from pgdoorman_lib.client import events
from pgdoorman_lib.client.fixed import CLOSE_COMPLETE, PARSE_COMPLETE, READY_IDLE
from pgdoorman_lib.client.leftovers import Leftovers
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.meaning import MAX_NAME
from pgdoorman_lib.wire.statements import PREFIX, Statement

_int = int
_bytes = bytes


class WithoutServer:
    """The client's messages outside of a borrow."""

    __slots__ = ("discarding", "leftovers", "refusal_message", "skip_to", "turn")

    def __init__(self, turn: Turn, leftovers: Leftovers) -> None:
        self.turn = turn
        self.leftovers = leftovers
        self.forget()

    def forget(self) -> None:
        """As before anybody has anything to do with it."""
        #: 1: the statement at the front was cancelled while waiting, or refused; 2: its batch is dropped up to Sync
        self.discarding = 0
        self.refusal_message = b""
        #: where the batch ends that was answered without a server, 0 if none was
        self.skip_to = 0

    def answer(self, data: bytearray, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """What to do with a message while no server is borrowed: HELD means it is dealt with."""
        link = self.turn.link
        if self.discarding and kind != consts.TERMINATE:
            return self._discard(kind)
        if kind == consts.TERMINATE:
            link.terminated = 1
            return events.TERMINATE
        if kind == consts.SYNC:  # an empty batch
            link.client.send_copy(READY_IDLE, 0, 6)
            return events.HELD
        if kind == consts.FLUSH or kind == consts.COPY_DATA or kind == consts.COPY_DONE or kind == consts.COPY_FAIL:
            # Flush with nothing to flush; copy messages outside a copy are ignored by PostgreSQL, too.
            return events.HELD
        if kind == consts.QUERY:
            check = link.check_query
            if check is not None and size == avail and size == len(check) and data[pos : pos + size] == check:
                answer = link.health.answer
                if answer is not None:
                    link.client.send_copy(answer, 0, len(answer))
                    return events.HELD
            if self.leftovers.refuses(data, pos + 5, pos + avail):
                self.refuse(self.leftovers.refusal())
                return self._discard(kind)
            return events.NEED_SERVER
        alone = link.shared and (
            (kind == consts.PARSE and data[pos + 5] != 0) or kind == consts.DESCRIBE or kind == consts.CLOSE
        )
        if alone and self._answer_alone(data, pos, link.client.end):
            return events.HELD
        if kind == consts.PARSE:
            start = find_nul(data, pos + 5, pos + avail) + 1
            if self.leftovers.refuses(data, start, pos + avail) and self._executes(data, pos, link.client.end):
                self.refuse(self.leftovers.refusal())
                return self._discard(kind)
            return events.NEED_SERVER
        if (
            kind == consts.BIND
            or kind == consts.DESCRIBE
            or kind == consts.CLOSE
            or kind == consts.EXECUTE
            or kind == consts.FUNCTION_CALL
        ):
            return events.NEED_SERVER
        link.fault = f"invalid frontend message type {kind}"
        return events.CLIENT_FAULT

    def _executes(self, data: bytearray, pos: _int, end: _int) -> bool:
        """Whether the batch that begins at ``pos`` has an Execute, as far as it is there."""
        while True:
            size = frame_size(data, pos, end)
            if size < 0 or data[pos] == consts.SYNC:
                return False
            if data[pos] == consts.EXECUTE:
                return True
            pos += size

    def refuse(self, message: _bytes) -> None:
        """Answer the statement at the front with ``message``, an ErrorResponse, and drop the rest of its batch."""
        self.discarding = 1
        self.refusal_message = message

    def _discard(self, kind: _int) -> _int:
        """Answer a statement that was cancelled before it got a server, or refused; drop the rest of its batch."""
        if self.discarding == 1:
            self.turn.link.client.write(self.refusal_message)
            self.discarding = 2
            if kind == consts.QUERY or kind == consts.FUNCTION_CALL:
                self.discarding = 0
        elif kind == consts.SYNC:
            self.discarding = 0
        if self.discarding == 0:
            self.turn.link.client.send_copy(READY_IDLE, 0, 6)
        return events.HELD

    def _answer_alone(self, data: bytearray, pos: _int, end: _int) -> bool:
        """Answer the batch at ``pos`` if no server is needed for that (it ends at ``skip_to``); whether it was.

        That is so when it only parses statements the pool knows, under names that are free, describes such as have been
        described, and closes; and when it is there whole, up to its Sync or Flush. What is known is believed for a
        moment only (BELIEVED): then a server is asked again.
        """
        link = self.turn.link
        mine = link.statements
        names = mine.names
        now = link.client.engine.now
        entered: dict[bytes, Statement | None] = {}
        answers: list[bytes | bytearray] = []
        at = pos
        while True:
            size = frame_size(data, at, end)
            if size < 0 or size > end - at:
                return False
            kind = data[at]
            if kind == consts.SYNC or kind == consts.FLUSH:
                break
            begin = at + 5
            if kind != consts.PARSE:
                if (kind != consts.DESCRIBE and kind != consts.CLOSE) or size < 8 or data[begin] != consts.STATEMENT:
                    return False
                begin += 1
            name_end = find_nul(data, begin, at + size)
            if name_end <= begin:
                return False
            name = bytes(data[begin : name_end if name_end - begin < MAX_NAME else begin + MAX_NAME])
            statement = entered[name] if name in entered else names.get(name)
            if kind == consts.CLOSE:
                entered[name] = None
                answers.append(CLOSE_COMPLETE)
            elif kind == consts.DESCRIBE:
                if statement is None or statement.description is None or statement.stale:
                    return False
                if link.registry.find(statement.body, link.owner.settings.environment, now) is not statement:
                    return False
                answers.append(statement.description)
            else:
                if statement is not None or name.startswith(PREFIX):
                    return False
                statement = link.registry.find(
                    bytes(data[name_end + 1 : at + size]), link.owner.settings.environment, now
                )
                if statement is None or not statement.confirmed or statement.stale:
                    return False
                entered[name] = statement
                answers.append(PARSE_COMPLETE)
            at += size
        for name, statement in entered.items():
            if statement is None:
                mine.leave(name)
            else:
                mine.enter(name, statement)
        if kind == consts.SYNC:
            answers.append(READY_IDLE)
        link.client.write(b"".join(answers))
        self.skip_to = at + size
        return True
