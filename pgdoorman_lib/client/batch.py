"""What a client has under way on the server it has borrowed: its batch, its transaction, what is asked beside them."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.wire.effects import AwaitedParse, Verification
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.rewritten import Rewriting
from pgdoorman_lib.wire.settings import Settings
from pgdoorman_lib.wire.sqltext import Parts
from pgdoorman_lib.wire.statements import Statement

_bytes = bytes

# Bits of ``altered``.
#: code was run that may change tables
MAY_HAVE_ALTERED = 1
#: tables were changed
HAS_ALTERED = 2
#: what was made may leave something behind where it is used
HAS_ENABLED = 4


class Batch:
    """All that ends with a borrow; what outlasts it is in ``Link``."""

    __slots__ = (
        "altered",
        "announcing",
        "awaited",
        "bound",
        "cut",
        "deallocating",
        "errand",
        "examining",
        "failed",
        "findings",
        "flushed",
        "group_ran",
        "group_suspect",
        "group_unnamed",
        "hidden",
        "in_batch",
        "lost",
        "named",
        "no_room",
        "nothing_sent",
        "owned",
        "parse_error",
        "planning_changed",
        "preparing",
        "replaced",
        "resetting",
        "rewritings",
        "rows_told",
        "settling",
        "suspect_portals",
        "taken",
        "told_sets",
        "used",
        "used_before",
        "verifying",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The server is somebody else's from now on: nothing is under way."""
        # The extended protocol.
        #: messages of it were sent since the last Sync: an implicit transaction may be open
        self.in_batch = 0
        #: nothing of the client's has been sent to this server yet
        self.nothing_sent = 1
        #: a message is held for answers of its own batch: a Flush of ours is due (1) or under way (2)
        self.flushed = 0
        #: the unnamed statement was parsed within this batch
        self.group_unnamed = 0
        #: something in this batch may change parameters or drop statements: those it prepares are not shared
        self.group_suspect = 0
        #: and it was executed
        self.group_ran = 0
        #: a portal that may do so when it is executed was bound and has not been
        self.suspect_portals = 0
        #: what has just been sent uses a statement under a name of ours
        self.named = 0
        #: the statement the unnamed portal is bound to, if it has a name
        self.bound: Statement | None = None
        #: the statement that was bound last, and others whose answers may still be owed
        self.used: Statement | None = None
        self.used_before: list[Statement] | None = None
        #: names we have taken on this server, so that PostgreSQL refuses them to the client
        self.taken: set[bytes] | None = None
        #: the question whether a statement made again is what it was, which its Bind waits for
        self.verifying: Verification | None = None
        #: a Parse of ours in the client's batch, which the Query at the front waits for
        self.awaited: AwaitedParse | None = None
        #: there is no memory to have the message at the front whole
        self.no_room = 0

        # Its texts.
        #: answers to PREPARE in front of the client's own that it must not see
        self.hidden = 0
        #: (name, Statement) of the SQL PREPAREs under way; the name is None where we prepare on our own account
        self.preparing: list[Any] | None = None
        #: (name, Statement) of the SQL DEALLOCATEs under way
        self.deallocating: list[Any] | None = None
        #: the texts in another form whose answers are under way
        self.rewritings: list[tuple[int, Rewriting | None]] | None = None
        #: looks at a text that comes in parts, else None
        self.cut: Parts | None = None
        #: SETs sent whose text was looked at: their tags tell nothing new
        self.told_sets = 0
        #: parameters on which the meaning of statements depends may be other than ``settings`` says
        self.planning_changed = 0
        #: what this transaction has done to tables, which nobody else can see yet: MAY_HAVE_ALTERED, HAS_ALTERED
        self.altered = 0
        #: (name, Statement, the one it has taken the place of, what clients knew of that) of the client's statements
        #: that were made anew since, on a server that did not have them
        self.owned: list[tuple[bytes, Statement, Statement, tuple[bytes | None, bytes | None]]] | None = None
        #: whether what comes next must wait until what a text has reset is back at the client's own beginning: 1 from
        #: the next Sync on, 2 at once
        self.resetting = 0

        # Its answers.
        #: the statement under way has answered with rows, or what they would be
        self.rows_told = 0
        #: the rewritten text an ErrorResponse under way is about
        self.failed: Rewriting | None = None
        #: the ErrorResponse to a Parse of ours that the Query under way needs
        self.parse_error: bytes | None = None
        #: an ErrorResponse that the client may yet be spared, since nothing it has asked for has run
        self.lost: bytes | None = None

        # What we have sent on our own account.
        #: the client's parameters are being set on the server, or asked from it
        self.settling = 0
        #: the parameters being set on the server are news to the client, too
        self.announcing = 0
        #: bits the server is being asked about, and the rows of its answer; None when it can't be read
        self.examining = 0
        self.findings: list[bytes] | None = None
        #: the statement under way, if it may be sent once more, and the settings in effect before it
        self.errand: str | None = None
        self.replaced: Settings | None = None

    def own(self, name: _bytes, own: Statement, before: Statement) -> None:
        """``name`` means ``own`` until the transaction ends that has altered what it is about."""
        if self.owned is None:
            self.owned = []
        self.owned.append((name, own, before, (own.description, own.shape)))

    def disown(self, mine: ClientStatements) -> None:
        """That transaction has ended: the client's names mean again what they meant, since others see it, or nobody.

        But one whose rows it was told meanwhile stays: those are what PostgreSQL has to hold its answers against.
        """
        owned, self.owned = self.owned or [], None
        for name, own, before, told in owned:
            if mine.names.get(name) is own and own.description is told[0] and own.shape is told[1]:
                mine.enter(name, before)
