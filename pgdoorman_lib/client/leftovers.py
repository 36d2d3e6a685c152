"""What a transaction leaves behind: asked of the server at its end, then taken along, or kept with its server."""

from __future__ import annotations

import logging
from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.errands import Errands
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.client.tracking import found_settings, known_settings
from pgdoorman_lib.errors import TooManyPins
from pgdoorman_lib.pool import names
from pgdoorman_lib.pool.backends import backend_moved
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.baseline import NO_ROLE
from pgdoorman_lib.wire.question import Findings, question
from pgdoorman_lib.wire.reading import reading_of
from pgdoorman_lib.wire.session_state import (
    ASKED,
    DIRTY_CUSTOM,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_TAKEN_BACK,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
    GRANTED,
    reasons,
)
from pgdoorman_lib.wire.settings import BASE, DEFERRABLE, IDENTITY
from pgdoorman_lib.wire.sqltext import LONGEST, analyse
from pgdoorman_lib.wire.text import RESETS_ALL, Text
from pgdoorman_lib.wire.traces import POSSIBLE

_int = int

log = logging.getLogger(__name__)

#: Of so many transactions with a known end on a server, at one it is asked whether the backend is still the same.
ASK_AGAIN = 16
#: A question that is refused is asked so often in all.
ATTEMPTS = 5
#: Asked for instead of DIRTY_* bits when it is only about that.
ONLY_BACKEND = 1 << 30


class Leftovers:
    """Finds out what is left, and keeps the server where that can't be taken along."""

    __slots__ = ("attempts", "errands", "listed", "placed", "texts", "turn", "unhindered")

    def __init__(self, turn: Turn, errands: Errands, texts: Texts) -> None:
        self.turn = turn
        self.errands = errands
        self.texts = texts
        self.forget()

    def forget(self) -> None:
        """As before anybody has anything to do with it."""
        #: the server it keeps is counted; not while it is asked whether it is still to be kept
        self.placed = 0
        #: the question under way is the one that nothing the client has set can hinder
        self.unhindered = 0
        #: it asks for all settings that are listed
        self.listed = False
        #: how often it has been asked
        self.attempts = 0

    def examine(self) -> _int:
        """Find out what is there of what may have been left; 0 when nothing has to be waited for."""
        link = self.turn.link
        server = link.server
        tracker = link.notes()
        self.attempts = 0
        known = tracker.known
        if known is not None and not tracker.failed and not link.pins and self._take_known(known):
            server.unasked += 1
            if server.unasked % ASK_AGAIN != 1:
                return 0
            self._question(ONLY_BACKEND, 0)  # it has to be seen now and then that the backend is the session's own
            return 1
        if tracker.unnamed == POSSIBLE:
            server.dirty |= DIRTY_CUSTOM
        elif tracker.unnamed:
            server.dirty |= DIRTY_TAKEN_BACK
        asked = server.dirty & ASKED
        taken = self.turn.batch.taken
        if link.pins & DIRTY_PREPARED or (tracker.unnamed and not taken and not server.dirty & DIRTY_PREPARED):
            asked |= DIRTY_PREPARED
        if link.owner.settings.temporary:
            asked |= DIRTY_TEMPORARY
        if not link.sync_parameters:
            asked &= ~DIRTY_PARAMETERS  # they are taken back at check-in
        if not asked & ~GRANTED and self._keep(link.pins | asked & GRANTED):
            server.dirty &= ~asked
            self.forget_notes()
            return 0
        self._give_place_back()
        self._question(asked, tracker.hindered or DEFERRABLE in link.owner.settings.values)
        return 1

    def _take_known(self, text: Text) -> bool:
        """Note what the only statement has done, which has succeeded; False if that has to be asked."""
        link = self.turn.link
        server = link.server
        if server.applied is not link.owner.settings or server.dirty & ASKED & ~(text.traces.bits | DIRTY_PARAMETERS):
            return False
        if not link.sync_parameters:
            return False  # nothing is the client's that it sets
        if text.only_resets and link.pool.forget_names:
            return False  # a customized option is there behind it, and empty
        if text.only_resets & RESETS_ALL and link.base.role != NO_ROLE:
            return False  # there is none behind it
        after = known_settings(text, link.owner.settings, link.startup)
        if after is None:
            return False
        link.owner.settings, server.applied = after
        server.dirty &= ~(text.traces.bits | DIRTY_PARAMETERS)
        self.forget_notes()
        return True

    def note_names(self) -> None:
        """Note which customized options the client has, or may have, set on its server in any way."""
        link = self.turn.link
        owner = link.owner
        tracker = link.notes()
        names.note(link.server, owner, (*owner.settings.values, *link.server.applied.values, *tracker.options))
        if tracker.unnamed:
            names.note_unknown(link.server, owner)

    def forget_notes(self) -> None:
        """The transaction's end has been looked into."""
        link = self.turn.link
        self.turn.batch.told_sets = 0
        self.turn.batch.planning_changed = 0
        if link.noted:
            link.noted = 0
            link.tracker.clear()

    def _question(self, asked: _int, unhindered: _int) -> None:
        """Send the question about ``asked``; the answer ends up in ``findings``.

        ``unhindered``: also by what was set in ways nobody saw; a second time it is asked so in any case.
        """
        link = self.turn.link
        self.turn.batch.examining = asked
        self.unhindered = unhindered
        self.attempts += 1
        if asked != ONLY_BACKEND:
            link.pool_stats.asked += 1
            if link.notes().unnamed:
                link.pool_stats.asked_unknown += 1
        self.turn.batch.findings = []
        options: Any = ()
        self.listed = False
        if asked & DIRTY_PARAMETERS:
            options, self.listed = link.notes().to_ask(link.owner.settings)
        server = link.server
        defaults = self._defaults()
        usual = server.base.values if server.base is link.base else {}
        if link.startup is not BASE:  # of what the session began with it must be known whether it was reset
            began = link.startup.values
            defaults = {name: value for name, value in defaults.items() if name not in began}
            usual = {name: usual[name] for name in options if name in usual and name not in began}
        another = bool(unhindered) and link.notes().as_another
        self.errands.ask_server(
            question(
                asked,
                options,
                listed=self.listed,
                unhindered=bool(unhindered),
                defaults=defaults,
                usual=usual,
                applied=server.applied.values,
                loaded=server.loaded,
                as_another=another,
            )
        )

    def _defaults(self) -> Any:
        """The values settings have where the session has set nothing, as far as they are known.

        Those that a reload of the server's configuration may change are not.
        """
        return self.turn.link.base.fixed

    def restore(self) -> bool:
        """Put what was reset within a transaction back to the session's beginning; whether to wait for that.

        On the server RESET goes back to what the pool's own login had.
        """
        link = self.turn.link
        status = link.server.replies.status
        if link.startup is BASE or (status != consts.TX_BLOCK and (status != consts.TX_IDLE or link.by_transaction)):
            return False  # behind a transaction that is asked about anyway, and in a failed one it is undone
        sql = link.notes().restoring(link.startup, self._defaults())
        if not link.by_transaction and status == consts.TX_IDLE:
            self.forget_notes()
        if not sql:
            return False
        self.turn.batch.announcing = 1
        self.errands.ask_server(sql)
        return True

    def examined(self) -> _int:
        """Take the server's answer in: the client's settings, and what pins it. A status as of ``Relay.step``."""
        link = self.turn.link
        batch = self.turn.batch
        if self.texts.asking_sequences:
            self.texts.sequences_told()
            return events.PENDING
        server = link.server
        asked = batch.examining
        batch.examining = 0
        if batch.findings is None and self.attempts < ATTEMPTS:
            # A cancel request for the statement before has hit it, or something the client has set hinders it: a
            # statement_timeout of a millisecond may be over before what takes it back was read.
            self._question(asked, 1)
            return events.PENDING
        try:
            found = Findings.of(batch.findings if batch.findings is not None else [b""])
        except ValueError:
            # It can't be told what is there: the client keeps the server, and nobody else will get it.
            server.dirty &= ~asked
            self.forget_notes()
            return events.PENDING if self._keep(link.pins | DIRTY_UNKNOWN) else events.TOO_MANY_PINS
        batch.findings = None
        if found.backend > 0 and server.backend and found.backend != server.backend:
            backend_moved(server, found.backend)
        server.dirty &= ~asked
        if found.ours >= 0 and found.ours != len(server.statements.prepared):
            server.dirty |= DIRTY_PREPARED  # something has dropped or made some behind our back
        if asked & DIRTY_PARAMETERS or self.unhindered:
            self._take_settings(found)
        self.forget_notes()
        pins = (link.pins & ~asked & ~link.forgotten) | found.pins | (asked & GRANTED)
        link.forgotten = 0
        if not self._keep(pins):
            return events.TOO_MANY_PINS
        return events.RELEASE if not batch.settling else events.PENDING

    def _take_settings(self, found: Findings) -> None:
        """The client's settings are those that were found."""
        link = self.turn.link
        server = link.server
        login = link.pool.settings.server_username
        defaults = {**self._defaults(), "role": link.base.role, "session_authorization": login}
        present = found_settings(found.values, defaults, None if self.listed else server.applied)
        link.owner.settings = link.notes().own_settings(
            present, found.values, link.startup, link.owner.settings, defaults
        )
        # Who one is was taken off for a question that nothing may hinder.
        server.applied = present.without(IDENTITY) if self.unhindered else present
        if link.owner.settings is not server.applied:
            self.turn.batch.announcing = 1
            self.errands.apply()

    def pin(self, pins: _int) -> None:
        """Change what keeps the client on its server, however many are kept."""
        if pins and not self.placed:
            self.placed = 1
            self.turn.link.server.pool.pins.add()
        self._take_pins(pins)

    def _keep(self, pins: _int) -> bool:
        """Change what keeps the client on its server; whether it may keep it, as one of max_pinned_servers."""
        if pins and not self.placed:
            self.placed = self.turn.link.server.pool.pins.take()
        self._take_pins(pins)
        return bool(self.placed or not pins)

    def _give_place_back(self) -> None:
        """The server it keeps is not counted any more."""
        if self.placed:
            self.placed = 0
            self.turn.link.server.pool.pins.give_back()

    def _take_pins(self, pins: _int) -> None:
        link = self.turn.link
        if not pins:
            self._give_place_back()
        link.pins = pins
        link.server.pins = pins
        if pins and not self.turn.link.warned:
            self.turn.link.warned = 1
            log.warning("%s keeps its server connection between transactions: %s", link.owner.label(), reasons(pins))

    def too_many_pins(self) -> TooManyPins:
        """What the client is told."""
        pool = self.turn.link.pool
        return TooManyPins(
            f"cannot keep a server connection for this session: {pool.pins.limit} of {pool.most} may be kept",
            detail="In transaction mode LISTEN, temporary tables, cursors WITH HOLD, session-level advisory locks and"
            " LOAD keep their server connection.",
            hint="Raise max_pinned_servers or pool_size, or use a pool in session mode.",
        )

    def refuses(self, data: bytearray, start: _int, stop: _int) -> bool:
        """Whether a statement begun outside a transaction would keep a server, and no more may be kept.

        One that has just been let go, as far as its client knows, is not counted.
        """
        link = self.turn.link
        pool = link.pool
        if not link.transparent or pool.pins.has_room():
            return False
        values = link.owner.settings.values
        reading = reading_of(values.get("standard_conforming_strings", "on"), values.get("client_encoding", "UTF8"))
        if not link.scanner.scan(data, start, stop, reading.flags):
            return False
        text = bytes(data[start:stop]).partition(b"\0")[0]
        return len(text) <= LONGEST and bool(analyse(text, link.scanner.lexicon, reading).keeps)

    def refusal(self) -> bytes:
        """The ErrorResponse to such a statement."""
        error = self.too_many_pins()
        return messages.error_response("ERROR", error.sqlstate, error.message, detail=error.detail, hint=error.hint)
