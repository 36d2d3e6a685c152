"""The unnamed prepared statement in transaction mode: the client's own must be on the server that its Bind comes to."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.deployment import Deployment
from pgdoorman_lib.client.link import Link
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.net.syscalls import holds
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import UnnamedInjected, unnamed_close
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.messages import parse_message
from pgdoorman_lib.wire.replies import owed_for
from pgdoorman_lib.wire.statements import Acts, Unnamed
from pgdoorman_lib.wire.text import UNREAD

_int = int

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


class UnnamedStatement:
    """The messages about the unnamed statement."""

    __slots__ = ("batch", "deployment", "link", "sqlprepare", "texts")

    def __init__(self, link: Link, deployment: Deployment, texts: Texts, sqlprepare: SqlPrepare) -> None:
        self.link = link
        self.batch = link.batch
        self.deployment = deployment
        self.texts = texts
        self.sqlprepare = sqlprepare

    def plain_batch(self, data: bytearray, pos: _int, end: _int) -> _int:
        """Where the batch ends that begins at ``pos`` with Parse, if it is a plain one (see ``replies``), else 0.

        It has been entered in the books then, and goes as it came. For most drivers that is every statement they send,
        and one entry instead of five saves a tenth of what it costs.
        """
        link = self.link
        replies = link.replies
        if data[pos + 5] != 0 or replies.count or replies.skipping:
            return 0
        size = frame_size(data, pos, end)
        if size < 8 or size > end - pos:
            return 0
        at = pos + size
        stop = at
        if end - at < 7 or data[at] != consts.BIND or data[at + 5] != 0 or data[at + 6] != 0:
            return 0
        size = frame_size(data, at, end)
        if size < 7 or size > end - at:
            return 0
        at += size
        if end - at >= 7 and data[at] == consts.DESCRIBE:
            if frame_size(data, at, end) != 7 or data[at + 5] != consts.PORTAL or data[at + 6] != 0:
                return 0
            at += 7
        if end - at < 15 or data[at] != consts.EXECUTE or frame_size(data, at, end) != 10 or data[at + 5] != 0:
            return 0
        at += 10
        if data[at] != consts.SYNC or frame_size(data, at, end) != 5:
            return 0
        start = pos + 6
        if link.scanner.scan(data, start, stop, self.texts.reading()):
            return 0
        mine = link.statements
        unnamed: Any = mine.unnamed
        body = unnamed.body if unnamed is not None and unnamed.acts is None else None
        if body is None or not holds(data, start, stop, body):
            unnamed = Unnamed(bytes(data[start:stop]))
            unnamed.suspect = 2
            mine.unnamed = unnamed
        unnamed.seen = link.scanner.lexicon
        link.server.statements.unnamed = unnamed
        replies.add(owed.PLAIN)
        return at + 5

    def use_unnamed(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """Bind, Describe or Close of the unnamed statement: the client's own must be on this server."""
        link = self.link
        batch = self.batch
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
        link = self.link
        mine = link.statements
        unnamed: Any = mine.unnamed
        if not self.batch.group_unnamed and not link.replies.settled():
            return events.HELD
        acts = unnamed.acts
        if kind == consts.BIND and acts.text.sequences and not self.texts.sequences_settled():
            return events.HELD
        remake = not self.batch.group_unnamed and link.server.statements.unnamed is not unnamed
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
        link = self.link
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
        link = self.link
        size = frame_size(data, pos, link.client.end)
        avail = link.client.end - pos
        if avail > size:
            avail = size
        link.srv.send_copy(data, pos, avail)


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
    at = start
    while at < stop and data[at] <= 0x20 and data[at]:
        at += 1
    if stop - at < 3:
        return False
    word = (data[at] | 32) << 16 | (data[at + 1] | 32) << 8 | data[at + 2] | 32
    if word not in _TAME:
        return bool(data[at])
    if word != _SELECT and word != _WITH:
        return False
    return b"into" in data[at:stop].lower()
