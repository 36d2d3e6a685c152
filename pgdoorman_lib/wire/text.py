"""What is known of a client's text: what it may leave behind on a server, and which prepared statements it names."""

from __future__ import annotations

from dataclasses import replace

from pgdoorman_lib.record import record
from pgdoorman_lib.wire.traces import EVERYTHING, UNREADABLE, Traces, union
from pgdoorman_lib.wire.traces import NOTHING as NO_TRACES


@record(frozen=True)
class Name:
    """A statement's name in ``PREPARE``, ``EXECUTE`` or ``DEALLOCATE``.

    ``verb`` is that word in lower case; the name stands at ``start:end`` of the text, its statement ends at ``stop``.
    ``plain``: what is behind it are constants, whose values stand in the text.
    """

    verb: str
    start: int
    end: int
    stop: int
    name: bytes
    plain: bool = True


@record(frozen=True)
class Text:
    """What is known of a text.

    ``traces``: what it may leave behind. ``parameters``: the numbers of its parameters that name settings it sets.
    ``keeps``: bits of what it surely leaves, if it succeeds outside a transaction. ``sets``: how many SETs are in it.
    ``names``: statements it prepares, executes or drops. ``sequences``: it asks what nextval gave this session.
    ``resets``: settings that are back at their beginning behind it, and whether only until the transaction's end;
    LISTED for all of them. ``defines``: it changes what others mean (DDL), and nobody can see it yet. ``assigns``: it
    is nothing but a SET of this setting to this value. ``only_resets``: it does nothing but reset; RESETS_* bits.
    ``hides``: code runs that may do more than its text says. ``enables``: it makes what may do something by itself.
    """

    traces: Traces = NO_TRACES
    parameters: tuple[int, ...] = ()
    keeps: int = 0
    sets: int = 0
    names: tuple[Name, ...] = ()
    sequences: bool = False
    resets: tuple[tuple[str, bool], ...] = ()
    defines: bool = False
    assigns: tuple[str, str] | None = None
    only_resets: int = 0
    hides: bool = False
    enables: bool = False

    @property
    def disturbs(self) -> bool:
        """Whether it may change, if only for the transaction, what other statements mean."""
        return self.traces.disturbs

    @property
    def plain(self) -> bool:
        """Whether every statement it names is given constants."""
        return all(name.plain for name in self.names)


NOTHING = Text()
#: Of a text nobody has read.
UNREAD = Text(EVERYTHING, defines=True)
#: What any may leave while the lexicon may be old.
DOUBTFUL = Text(UNREADABLE)

# Bits of ``Text.only_resets``.
RESETS = 1
#: all settings are reset, but who one is
RESETS_SETTINGS = 2
#: everything is
RESETS_ALL = 4


def joined(one: Text, other: Text) -> Text:
    """``one`` with what the ``other`` may leave, too."""
    if other in (one, NOTHING):
        return one
    return replace(
        one,
        traces=union(one.traces, other.traces),
        parameters=tuple(sorted({*one.parameters, *other.parameters})),
        sequences=one.sequences or other.sequences,
        defines=one.defines or other.defines,
        assigns=None,
        only_resets=0,
    )
