"""What running something may leave behind on a server, and which of PostgreSQL's own functions leave anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pgdoorman_lib.record import record
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_ORIGIN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SLOTS,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
)
from pgdoorman_lib.wire.settings import PLANNING

#: All that any role may ask a server about. A replication origin only who may set one up may ask for, so that is asked
#: where its functions are named.
ASKABLE = DIRTY_PARAMETERS | DIRTY_PREPARED | DIRTY_CURSORS | DIRTY_LISTEN | DIRTY_TEMPORARY | DIRTY_LOCKS | DIRTY_SLOTS

# Values of ``Traces.unnamed``: whether customized options may be set whose names can't be told.
NAMED = 0
#: By dynamic SQL that begins with another verb: not worth a pin, RESET ALL takes them back.
UNLIKELY = 1
POSSIBLE = 2

#: Keys among the names of what may leave something: any DDL (event triggers), and any statement at all (operators,
#: casts and types, which no name in a text betrays).
DDL = b"\0ddl"
ANYTHING = b"\0anything"

#: Among ``Traces.options``: any of the settings that pg_settings lists.
LISTED = "*"

#: Words without which a text that names a relation does not write to it, nor define anything.
WRITES = frozenset(
    b"insert update delete merge truncate copy refresh create alter drop import reindex cluster vacuum analyze analyse"
    b" call do execute comment grant revoke security".split()
)


@record(frozen=True)
class Traces:
    """What something may leave behind on a server.

    ``bits``: what has to be asked, DIRTY_* of ``session_state``. ``options``: lower-cased names of settings it may set
    or reset that stand in it literally. ``unnamed``: NAMED, UNLIKELY or POSSIBLE. ``disturbs``: it may change, if only
    for the transaction, what other statements mean. ``locally``: customized options set until the transaction's end,
    "$1" for one that a parameter names, LISTED for one whose name can't be told: nothing of them stays but their names
    (``with_names``).
    """

    bits: int = 0
    options: tuple[str, ...] = ()
    unnamed: int = NAMED
    disturbs: bool = False
    locally: tuple[str, ...] = ()

    def with_names(self, matter: bool) -> Traces:
        """The same where it does or does not ``matter`` that PostgreSQL keeps a customized option's name.

        If it does, it is all one whether the option was set locally: it is there behind it, and empty.
        """
        if not self.locally:
            return self
        alone = replace(self, locally=())
        if not matter:
            return alone
        if LISTED in self.locally:
            return union(alone, BUILTIN[SET_CONFIG])
        return union(alone, setting(*(name for name in self.locally if name[:1] != "$")))

    @property
    def parameters(self) -> set[int]:
        """The numbers of the parameters that name options set locally."""
        return {int(name[1:]) for name in self.locally if name[:1] == "$"}


NOTHING = Traces()
#: Of dynamic SQL, and of code nobody can read: all of it, though hardly customized options.
UNREADABLE = Traces(ASKABLE, (), UNLIKELY, True)
EVERYTHING = Traces(ASKABLE, (), POSSIBLE, True)
DISTURBS = Traces(0, (), NAMED, True)
MAKES_TEMPORARY = Traces(DIRTY_TEMPORARY, (), NAMED, True)


def union(a: Traces, b: Traces) -> Traces:
    """What ``a`` and ``b`` may leave together."""
    if a == b or b == NOTHING:
        return a
    if a == NOTHING:
        return b
    options = a.options if a.options == b.options else tuple(dict.fromkeys(a.options + b.options))
    locally = a.locally if a.locally == b.locally else tuple(dict.fromkeys(a.locally + b.locally))
    return Traces(a.bits | b.bits, options, max(a.unnamed, b.unnamed), a.disturbs or b.disturbs, locally)


def setting(*names: str) -> Traces:
    """The traces of setting these parameters for the session."""
    return Traces(DIRTY_PARAMETERS, names, NAMED, any(name in PLANNING for name in names))


def locally(*names: str) -> Traces:
    """The traces of setting these customized options until the transaction's end."""
    return Traces(locally=names)


# How the list was made: every function of pg_catalog that is VOLATILE (206 names in PostgreSQL 15, 212 in 16, 232 in
# 18) was looked up in the documentation and the sources; of the STABLE and IMMUTABLE ones, which may not write but may
# call what does, those that run SQL handed to them or over a table named to them (xml.c, the only ones beside ts_stat
# and ts_rewrite that use SPI). Functions named in tests/wire/test_traces.py were found harmless; a name that is in
# neither list fails there. Left out as documented: nextval, setval (currval, lastval), setseed.
_ADVISORY = (
    b"pg_advisory_lock",
    b"pg_advisory_lock_shared",
    b"pg_try_advisory_lock",
    b"pg_try_advisory_lock_shared",
    b"pg_advisory_unlock",
    b"pg_advisory_unlock_shared",
    b"pg_advisory_unlock_all",
)
_ORIGIN = (
    b"pg_replication_origin_session_setup",
    b"pg_replication_origin_session_reset",
    b"pg_replication_origin_xact_setup",
    b"pg_replication_origin_xact_reset",
)
_SLOTS = (
    b"pg_create_physical_replication_slot",
    b"pg_create_logical_replication_slot",
    b"pg_copy_physical_replication_slot",
    b"pg_copy_logical_replication_slot",
    b"pg_sync_replication_slots",
)
#: They run SQL that stands in a string, or read a relation named by one, whose view may run anything.
RUNS_STRINGS = frozenset(
    (
        b"query_to_xml",
        b"query_to_xmlschema",
        b"query_to_xml_and_xmlschema",
        b"cursor_to_xml",
        b"cursor_to_xmlschema",
        b"table_to_xml",
        b"table_to_xmlschema",
        b"table_to_xml_and_xmlschema",
        b"schema_to_xml",
        b"schema_to_xmlschema",
        b"schema_to_xml_and_xmlschema",
        b"database_to_xml",
        b"database_to_xmlschema",
        b"database_to_xml_and_xmlschema",
        b"ts_stat",
        b"ts_rewrite",
    )
)
#: They only take away what was there: on a server with nothing of the kind they leave nothing.
RELEASES = frozenset(
    (
        b"pg_advisory_unlock",
        b"pg_advisory_unlock_shared",
        b"pg_advisory_unlock_all",
        b"pg_replication_origin_session_reset",
        b"pg_replication_origin_xact_reset",
    )
)

SET_CONFIG = b"set_config"

#: PostgreSQL's own functions and relations that may leave something, by name. ``set_config`` stands for one of which
#: nothing is known; its arguments may tell more.
BUILTIN: Mapping[bytes, Traces] = {
    SET_CONFIG: Traces(DIRTY_PARAMETERS | DIRTY_TEMPORARY, (), POSSIBLE, True),
    # A rule has UPDATE call set_config, for settings that are listed there.
    b"pg_settings": Traces(DIRTY_PARAMETERS | DIRTY_TEMPORARY, (LISTED,), NAMED, True),
    **dict.fromkeys(_ADVISORY, Traces(DIRTY_LOCKS)),
    **dict.fromkeys(_ORIGIN, Traces(DIRTY_ORIGIN)),
    **dict.fromkeys(_SLOTS, Traces(DIRTY_SLOTS)),
    **dict.fromkeys(RUNS_STRINGS, UNREADABLE),
    # The backup goes on until the session ends; the older name until 14.
    b"pg_backup_start": Traces(DIRTY_UNKNOWN),
    b"pg_start_backup": Traces(DIRTY_UNKNOWN),
}
#: Of BUILTIN, what leaves something only when it is written to.
BUILTIN_WRITTEN = frozenset((b"pg_settings",))


def option_name(name: bytes) -> str:
    """A setting's name as it is compared: only ASCII letters have a case there."""
    return name.lower().decode(errors="surrogateescape")


def set_config_traces(name: bytes | None, local: bool, value: bytes | None) -> Traces:
    """What it leaves to give the setting ``name`` a ``value``, ``local``ly or not; None for what can't be told."""
    if name is None:
        # With a path that is not known the next table may be a temporary one.
        return union(MAKES_TEMPORARY, locally(LISTED)) if local else BUILTIN[SET_CONFIG]
    option = option_name(name)
    found = DISTURBS if option in PLANNING else NOTHING
    if option == "search_path" and (value is None or b"pg_temp" in value.lower()):
        found = MAKES_TEMPORARY
    if not local:
        return union(found, setting(option))
    return union(found, locally(option)) if "." in option else found
