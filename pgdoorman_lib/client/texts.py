"""What a client's SQL texts may do to a server and leave there, as far as it is seen in them.

What stands in a text is for ``wire.scan`` and ``wire.sqltext`` to say; here it is noted. Texts that ask for values of
sequences wait until nobody else's are there.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.batch import HAS_ENABLED, MAY_HAVE_ALTERED
from pgdoorman_lib.client.deployment import Deployment
from pgdoorman_lib.client.errands import Errands
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.tracking import bound_values, option_names
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.messages import query
from pgdoorman_lib.wire.question import SEQUENCES_QUESTION
from pgdoorman_lib.wire.scan import DOUBTFUL_READING, UNCERTAIN
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, DIRTY_TEMPORARY, DIRTY_UNKNOWN
from pgdoorman_lib.wire.settings import BASE
from pgdoorman_lib.wire.sqltext import LONGEST, Parts, analyse
from pgdoorman_lib.wire.statements import Acts
from pgdoorman_lib.wire.text import DOUBTFUL, NOTHING, Text, joined
from pgdoorman_lib.wire.traces import EVERYTHING, UNREADABLE

_int = int

#: The OIDs of lo_open, loread and their kin (pg_proc.dat), which drivers call: they leave nothing behind.
LARGE_OBJECT_FUNCTIONS = frozenset((715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172))
#: The OID of set_config, and those of currval and lastval.
SET_CONFIG_FUNCTION = 2078
SEQUENCE_FUNCTIONS = frozenset((1575, 2559))


_forget_sequences = bytearray(query(b"DISCARD SEQUENCES"))


class Texts:
    """Looks at texts before they are sent."""

    __slots__ = ("asking_sequences", "deployment", "errands", "turn")

    def __init__(self, turn: Turn, errands: Errands, deployment: Deployment) -> None:
        self.turn = turn
        self.errands = errands
        self.deployment = deployment
        self.forget()

    def forget(self) -> None:
        """As before anybody has anything to do with it."""
        #: the question under way is whether the open transaction has used a sequence
        self.asking_sequences = 0

    def reading(self) -> _int:
        """How a text that is sent now will be read, as flags for ``scan``."""
        link = self.turn.link
        flags: _int = link.server.reading_flags
        if not link.noted and not self.turn.batch.altered:
            return flags
        if link.noted:
            flags |= UNCERTAIN
        return flags | DOUBTFUL_READING if self.turn.batch.altered & HAS_ENABLED else flags

    def look(self, text: bytes) -> Text:
        """What a whole text is known to do in which ``scan`` found something."""
        link = self.turn.link
        found = analyse(text, link.scanner.lexicon, link.server.reading, bool(link.noted))
        return joined(found, DOUBTFUL) if link.scanner.doubts or self.turn.batch.altered & HAS_ENABLED else found

    def look_again(self, statement: Any, text: bytes) -> None:
        """A statement (or the unnamed one) with this text was looked at with other words than matter now."""
        data = bytearray(text)
        found = self.look(text) if self.turn.link.scanner.scan(data, 0, len(data), self.reading()) else NOTHING
        acts = statement.acts
        if acts is not None:
            acts.text = joined(acts.text, found) if acts.text.names != found.names or self.in_doubt() else found
        elif found != NOTHING:
            statement.acts = Acts(found)
            statement.suspect = 1
        if not self.in_doubt():
            statement.seen = self.turn.link.scanner.lexicon

    def in_doubt(self) -> bool:
        """Whether the words that matter may be others by now."""
        return bool(self.turn.link.scanner.doubts or self.turn.batch.altered & HAS_ENABLED)

    def runs(self, text: Text, simple: _int) -> None:
        """A statement with this text is about to run; ``simple``: as a Query, which surely runs all of it."""
        link = self.turn.link
        batch = self.turn.batch
        replies = link.replies
        alone = simple and replies.count == 0 and replies.status == consts.TX_IDLE and not batch.in_batch
        link.server.dirty |= link.notes().ran(text, bool(alone))
        link.noted = 1
        if text.sequences:
            self.hide_sequences()
        batch.told_sets += text.sets
        if text.disturbs:
            batch.planning_changed = 1
        if text.defines:
            batch.altered |= MAY_HAVE_ALTERED | (HAS_ENABLED if text.enables else 0)
        if text.resets or (text.hides and link.startup is not BASE):
            batch.resetting = 1

    def names_options(self, values: Any) -> None:
        """Settings are set whose names are these values of parameters, None if they are not there."""
        link = self.turn.link
        names = None if values is None else option_names(values, link.server.reading)
        if names is None:
            link.server.dirty |= link.notes().may(EVERYTHING)
        else:
            link.notes().named(names)

    def cut(self, data: bytearray, pos: _int, start: _int, stop: _int, size: _int) -> _int:
        """Of the text in the message at ``pos`` only data[start:stop] is there: the rest is looked at as it comes.

        MORE when there is something in it already, and it is not too long to be looked at whole; HELD; else AS_IT_CAME.
        """
        link = self.turn.link
        parts = Parts(link.scanner.lexicon, link.server.reading, bool(link.noted))
        found = parts.feed(data, start, stop, False)
        if found is not NOTHING and size <= LONGEST:
            return events.MORE
        if not self.sequences_settled():
            return events.HELD  # it may ask for values further on
        self.turn.batch.cut = parts
        self._note_part(found)
        return events.AS_IT_CAME

    def streamed(self, data: bytearray, start: _int, stop: _int, left: _int) -> None:
        """The next part of such a text; ``left`` bytes are still to come."""
        parts: Any = self.turn.batch.cut
        self._note_part(parts.feed(data, start, stop, left == 0))
        if left == 0:
            self.turn.batch.cut = None

    def _note_part(self, text: Text) -> None:
        if text is NOTHING:
            return
        self.runs(text, 0)
        unnamed = self.turn.link.statements.unnamed
        if self.turn.batch.in_batch and unnamed is not None and unnamed.body is None:
            # It may be bound once more, in another transaction.
            unnamed.acts = Acts(joined(unnamed.acts.text if unnamed.acts is not None else NOTHING, text))

    def function_call(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Any function may be called; if it sets an option, the name is among its arguments. AS_IT_CAME, or HELD."""
        link = self.turn.link
        function = int.from_bytes(data[pos + 5 : pos + 9], "big")
        if function in LARGE_OBJECT_FUNCTIONS:
            return events.AS_IT_CAME
        if function in SEQUENCE_FUNCTIONS and not self.sequences_settled():
            return events.HELD
        self.turn.batch.planning_changed = 1
        link.notes().ran(NOTHING, False)
        link.noted = 1
        if function == SET_CONFIG_FUNCTION:
            link.server.dirty |= DIRTY_PARAMETERS | DIRTY_TEMPORARY
            self.names_options(bound_values(bytes(data[pos + 9 : pos + avail]), (1,)))
        else:
            link.server.dirty |= link.notes().may(UNREADABLE)
        return events.AS_IT_CAME

    def hide_sequences(self) -> None:
        """What nextval gave others who had the server before must not be told: then there is nothing to tell."""
        link = self.turn.link
        server = link.server
        if not link.owner.asked_sequences:
            link.owner.asked_sequences = 1
            server.pool.learn_sequences(link.owner.settings.values.get("application_name", ""))
        if server.drawn_by != link.owner.number and self.turn.batch.nothing_sent and link.replies.count == 0:
            self.forget_sequences()

    def forget_sequences(self) -> None:
        """Have the server forget what sequences have given others; nothing is under way, or only what is ours."""
        link = self.turn.link
        link.srv.send_copy(_forget_sequences, 0, len(_forget_sequences))
        link.replies.add(owed.QUERY | owed.SWALLOW)
        link.server.statements.unnamed = None
        link.server.drawn_by = link.owner.number

    def sequences_settled(self) -> bool:
        """Whether a text that asks for values of sequences may go on: what others have left can't be told it.

        In the midst of a transaction that may have taken values itself, the server is asked; not until it answers.
        """
        link = self.turn.link
        batch = self.turn.batch
        replies = link.replies
        if link.server.drawn_by == link.owner.number or replies.skipping or link.has_failed():
            return True
        if replies.count:
            if batch.in_batch and not batch.flushed:
                batch.flushed = 1  # once everything before the message that is held has been sent
            return False
        if batch.nothing_sent or (replies.status == consts.TX_IDLE and not batch.in_batch):
            self.forget_sequences()
            return True
        if not batch.in_batch:
            self.ask_sequences()
            return False
        # No query of ours may come into a batch, and it can't be told what those before it have done: in doubt, nothing
        # is told.
        batch.flushed = 0
        self.deployment.run_errand(b"DISCARD SEQUENCES", Effect())
        link.server.drawn_by = link.owner.number
        return True

    def ask_sequences(self) -> None:
        """Ask whether the open transaction has used a sequence, and if not have the server forget them.

        The answer ends up in ``findings``.
        """
        self.asking_sequences = 1
        self.turn.batch.examining = DIRTY_UNKNOWN
        self.turn.batch.findings = []
        self.errands.ask_server(SEQUENCES_QUESTION)

    def sequences_told(self) -> None:
        """The server has answered ``ask_sequences``."""
        link = self.turn.link
        batch = self.turn.batch
        found = batch.findings
        batch.findings = None
        batch.examining = 0
        self.asking_sequences = 0
        if link.replies.status != consts.TX_BLOCK:
            return  # a cancel request has hit the question: the transaction has failed, and tells nothing any more
        link.server.drawn_by = link.owner.number
        if not found:
            self.errands.ask_server("DISCARD SEQUENCES")
