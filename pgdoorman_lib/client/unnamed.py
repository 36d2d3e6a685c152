"""The unnamed prepared statement in transaction mode: the client's own must be on the server that its Bind comes to."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.deployment import Deployment
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.measures import MAX_KNOWN, MOST_KNOWN
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.net.syscalls import cut, holds
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import UnnamedInjected, unnamed_close
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.messages import parse_message
from pgdoorman_lib.wire.replies import owed_for
from pgdoorman_lib.wire.runs import UnnamedRun
from pgdoorman_lib.wire.scan import Lexicon
from pgdoorman_lib.wire.statements import Acts, Unnamed
from pgdoorman_lib.wire.text import UNREAD

_int = int
_bytes = bytes

#: Words with which statements begin that change neither what others mean nor which names there are. What the functions
#: in them may do is for ``texts`` to know.
TAME = frozenset(
    (
        b"select insert update delete merge values table with begin start commit end rollback abort savepoint release"
        b" fetch close move show copy lock notify"
    ).split()
)

_close_unnamed = bytearray(b"C\x00\x00\x00\x06S\x00")
_TAME = frozenset(int.from_bytes(word[:3], "big") for word in TAME)
_SELECT = int.from_bytes(b"sel", "big")
_WITH = int.from_bytes(b"wit", "big")
_COPY = int.from_bytes(b"cop", "big")
# Values of ``KnownText.kind``.
_UNASKED, _JOINS, _ALONE = 0, 1, 2
#: Bytes of an Execute without a name.
EXECUTE_SIZE = 10


class KnownText:
    """The body of a Parse in whose text ``scan`` finds nothing."""

    __slots__ = ("body", "kind")

    def __init__(self, body: _bytes) -> None:
        self.body = body
        self.kind = _UNASKED

    def joins(self) -> bool:
        """Whether it can be part of a run: it changes nothing that others mean, and begins no copy."""
        if self.kind == _UNASKED:
            data = bytearray(self.body)
            alone = unsettling(data, 0, len(data)) or first_letters(data, 0, len(data)) == _COPY
            self.kind = _ALONE if alone else _JOINS
        return self.kind == _JOINS

    def parsed(self, lexicon: Lexicon) -> Unnamed:
        """A client's statement of this text, which was looked at with the words of ``lexicon``."""
        unnamed = Unnamed.__new__(Unnamed)
        unnamed.body = self.body
        unnamed.acts = None
        unnamed.seen = lexicon
        unnamed.suspect = 0 if self.kind == _JOINS else 2
        return unnamed


class UnnamedStatement:
    """The messages about the unnamed statement."""

    __slots__ = ("deployment", "sqlprepare", "texts", "turn")

    def __init__(self, turn: Turn, deployment: Deployment, texts: Texts, sqlprepare: SqlPrepare) -> None:
        self.turn = turn
        self.deployment = deployment
        self.texts = texts
        self.sqlprepare = sqlprepare

    def groups(self, data: bytearray, pos: _int, end: _int) -> _int:
        """Where a group that begins with the Parse at ``pos`` ends, or a run of several (see ``runs``), else 0.

        They have been entered in the books then, and go as they came. Most drivers send nothing else, and one entry
        instead of five for every statement saves a tenth of what it costs.
        """
        replies = self.turn.link.replies
        stop = parse_end(data, pos, end)
        at = group_end(data, stop, end)
        if at == 0 or replies.skipping or replies.copy_in:
            return 0
        if replies.count or self.turn.batch.in_batch or end - at < 5 or data[at] != consts.SYNC:
            return self._run(data, pos, stop, at, end)
        return self._plain(data, pos, stop, at, end)

    def _plain(self, data: bytearray, pos: _int, stop: _int, at: _int, end: _int) -> _int:
        """As ``groups``, of a plain batch: its Parse ends at ``stop``, its Sync is at ``at``."""
        link = self.turn.link
        batch = self.turn.batch
        if frame_size(data, at, end) != 5:
            return 0
        text: Any = self._known(data, pos + 6, stop)
        if text is None:
            return 0
        # Another object than before, though the text may be the same: other servers may hold what it meant then.
        unnamed = text.parsed(link.scanner.lexicon)
        link.statements.unnamed = unnamed
        link.server.statements.unnamed = unnamed
        link.replies.add(owed.PLAIN)
        batch.group_unnamed = 0
        batch.group_suspect = batch.suspect_portals
        batch.group_ran = 0
        batch.bound = None
        batch.used = None
        return at + 5

    def _run(self, data: bytearray, pos: _int, stop: _int, at: _int, end: _int) -> _int:
        """As ``groups``, of a run: the Parse of its first group ends at ``stop``, that group at ``at``."""
        link = self.turn.link
        batch = self.turn.batch
        if batch.group_suspect or batch.rewritings is not None:
            return 0
        run: Any = None
        before: Any = None
        unnamed: Any = None
        while at:
            described = at - stop - frame_size(data, stop, end) > EXECUTE_SIZE
            if run is not None and run.described != described:
                break
            text: Any = before
            if before is None or not holds(data, pos + 6, stop, before.body):
                text = self._known(data, pos + 6, stop)
            if text is None or not text.joins():
                break
            if run is None:
                run = UnnamedRun(link.statements, link.server.statements, described)
            if text is not before:
                unnamed = text.parsed(link.scanner.lexicon)
                before = text
            run.enter(unnamed)
            pos = at
            stop = parse_end(data, pos, end)
            at = group_end(data, stop, end)
        if run is None:
            return 0
        link.replies.add_effect(owed.RUN, run)
        batch.in_batch = 1
        batch.group_unnamed = 1
        batch.bound = None
        batch.used = None
        return pos

    def _known(self, data: bytearray, start: _int, stop: _int) -> KnownText | None:
        """What is known of data[start:stop], a Parse behind its name, if its text leaves nothing behind; else None."""
        scanner = self.turn.link.scanner
        reading = self.texts.reading()
        body = cut(data, start, stop)
        if reading or scanner.doubts or stop - start > MAX_KNOWN:
            return None if scanner.scan(data, start, stop, reading) else KnownText(body)
        known = scanner.known
        text: Any = known.get(body)
        if text is None:
            if scanner.scan(data, start, stop, reading):
                return None
            if len(known) >= MOST_KNOWN:
                known.clear()  # those that come again are soon known again
            text = KnownText(body)
            known[body] = text
        return text  # type: ignore[no-any-return]

    def use_unnamed(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """Bind, Describe or Close of the unnamed statement: the client's own must be on this server."""
        link = self.turn.link
        batch = self.turn.batch
        replies = link.replies
        held = link.server.statements
        mine = link.statements
        if kind == consts.BIND:
            batch.bound = None
        if kind == consts.CLOSE:
            replies.add_effect(owed.CLOSE, unnamed_close(mine, held))
            return events.AS_IT_CAME
        if kind == consts.BIND and mine.unnamed is not None:
            batch.used = None  # no error is about a shared one
            if suspicious(mine.unnamed):
                batch.group_suspect = 1
                batch.suspect_portals = 1
            if mine.unnamed.seen is not link.scanner.lexicon or self.texts.in_doubt():
                if mine.unnamed.body is not None:
                    self.texts.look_again(mine.unnamed, bytes(mine.unnamed.body.partition(b"\0")[0]))
                elif mine.unnamed.acts is None:
                    mine.unnamed.acts = Acts(UNREAD)
        if mine.unnamed is not None and mine.unnamed.acts is not None:
            return self._use_acting(data, run, pos, kind)
        if not batch.group_unnamed:
            if not replies.settled():
                return events.HELD
            if held.unnamed is not mine.unnamed:
                link.to_server_part(run, pos)
                self._remake_unnamed()
                replies.add(owed_for(kind))
                self._send_as_it_came(data, pos)
                return events.REPLACED
        replies.add(owed_for(kind))
        return events.AS_IT_CAME

    def _use_acting(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """As _use_unnamed, where the statement's text betrays something."""
        link = self.turn.link
        mine = link.statements
        unnamed: Any = mine.unnamed
        if not self.turn.batch.group_unnamed and not link.replies.settled():
            return events.HELD
        acts = unnamed.acts
        if kind == consts.BIND and acts.text.sequences and not self.texts.sequences_settled():
            return events.HELD
        remake = not self.turn.batch.group_unnamed and link.server.statements.unnamed is not unnamed
        if acts.text.names:
            if not self.sqlprepare.names_settled():
                return events.HELD
            if unnamed.body is not None and not self.deployment.fits(acts):
                tail = unnamed.body[len(acts.sql) :]
                acts = self.sqlprepare.acts(acts.text, acts.original)
                mine.unnamed = Unnamed(acts.sql + tail, acts)
                remake = True
        link.to_server_part(run, pos)
        if remake:
            if acts.needs:
                self.sqlprepare.act(acts, consts.DESCRIBE, data, 0, 0)
            self._remake_unnamed()
        stop = pos + frame_size(data, pos, link.client.end)
        if stop > link.client.end:
            stop = link.client.end
        # Behind the portal's name, and no name.
        self.sqlprepare.act(acts, kind, data, find_nul(data, pos + 5, stop) + 2, stop)
        link.replies.add(owed_for(kind))
        self._send_as_it_came(data, pos)
        return events.REPLACED

    def _remake_unnamed(self) -> None:
        """Make the client's unnamed statement on this server, or see to it that there is none."""
        link = self.turn.link
        replies = link.replies
        held = link.server.statements
        mine = link.statements.unnamed
        if mine is None or mine.body is None:
            # Close is what makes PostgreSQL answer "unnamed prepared statement does not exist" by itself.
            replies.add_effect(owed.CLOSE | owed.SWALLOW, UnnamedInjected(held, None))
            link.srv.send_copy(_close_unnamed, 0, len(_close_unnamed))
            return
        replies.add_effect(owed.PARSE | owed.SWALLOW, UnnamedInjected(held, mine))
        message = bytearray(parse_message(b"", mine.body))
        link.srv.send_copy(message, 0, len(message))

    def _send_as_it_came(self, data: bytearray, pos: _int) -> None:
        """Send the message at ``pos``, or the part of it that is there."""
        link = self.turn.link
        size = frame_size(data, pos, link.client.end)
        avail = link.client.end - pos
        if avail > size:
            avail = size
        link.srv.send_copy(data, pos, avail)


def parse_end(data: bytearray, pos: _int, end: _int) -> _int:
    """Where the Parse of the unnamed statement ends that begins at ``pos``, if it is there whole, else 0."""
    if end - pos < 8 or data[pos] != consts.PARSE or data[pos + 5] != 0:
        return 0
    size = frame_size(data, pos, end)
    return 0 if size < 8 or size > end - pos else pos + size


def group_end(data: bytearray, at: _int, end: _int) -> _int:
    """Where Bind, perhaps Describe, and Execute end that begin at ``at``, if all is there and without names, else 0."""
    if at == 0 or end - at < 7 or data[at] != consts.BIND or data[at + 5] != 0 or data[at + 6] != 0:
        return 0
    size = frame_size(data, at, end)
    if size < 7 or size > end - at:
        return 0
    at += size
    if end - at >= 7 and data[at] == consts.DESCRIBE:
        if frame_size(data, at, end) != 7 or data[at + 5] != consts.PORTAL or data[at + 6] != 0:
            return 0
        at += 7
    if end - at < EXECUTE_SIZE or data[at] != consts.EXECUTE or data[at + 5] != 0:
        return 0
    return at + EXECUTE_SIZE if frame_size(data, at, end) == EXECUTE_SIZE else 0


def suspicious(unnamed: Unnamed) -> _int:
    """Whether running a client's unnamed statement may change what other texts mean."""
    if unnamed.suspect == 2:  # nobody has asked yet
        body = bytearray(unnamed.body or b"")
        unnamed.suspect = unsettling(body, 0, len(body))
    return unnamed.suspect


def unsettling(data: bytearray, start: _int, stop: _int) -> bool:
    """Whether running the text data[start:stop] may change what other texts mean, or which names there are.

    All may but those that begin with a word of TAME and have no INTO in them, as SELECT INTO has.
    """
    word = first_letters(data, start, stop)
    if word not in _TAME:
        return word != 0
    if word != _SELECT and word != _WITH:
        return False
    return data[start:stop].lower().find(b"into") >= 0  # ``in`` would take it for a number first


def first_letters(data: bytearray, start: _int, stop: _int) -> _int:
    """The first three letters of the text data[start:stop], in lower case, as a number; 0 if it is empty or shorter."""
    at = start
    while at < stop and data[at] <= 0x20 and data[at]:
        at += 1
    if stop - at < 3 or not data[at]:
        return 0
    return (data[at] | 32) << 16 | (data[at + 1] | 32) << 8 | data[at + 2] | 32
