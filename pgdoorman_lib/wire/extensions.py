"""Which C functions of well-known extensions leave something behind on a server, found in their sources.

Of the others only those that are VOLATILE count: as able to leave all that a server can be asked about.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, DIRTY_UNKNOWN
from pgdoorman_lib.wire.traces import NAMED, NOTHING, UNREADABLE, Traces

#: Extensions none of whose functions leave anything.
_HARMLESS = """
    address_standardizer address_standardizer_data_us adminpack amcheck autoinc bloom btree_gin btree_gist citext
    cube dict_int dict_xsyn earthdistance file_fdw fuzzystrmatch hll hstore insert_username intagg intarray ip4r
    lo ltree moddatetime old_snapshot pageinspect pg_bigm pg_buffercache pg_cron pg_freespacemap pg_hint_plan
    pg_prewarm pg_stat_kcache pg_stat_statements pg_surgery pg_visibility pg_wait_sampling pg_walinspect pgaudit
    pgcrypto pgrowlocks pgstattuple plpgsql plpgsql_check postgis postgis_raster postgis_sfcgal
    postgis_tiger_geocoder postgis_topology postgres_fdw prefix refint rum seg semver sslinfo tcn tsm_system_rows
    tsm_system_time unaccent uuid-ossp vector
"""
HARMLESS = frozenset(_HARMLESS.split())

_UNKNOWN = Traces(DIRTY_UNKNOWN)

# Names of functions in packages of orafce; DBMS_SQL's others need a cursor, and so its open_cursor.
_ORAFCE = """
    serveroutput enable disable put put_line new_line get_line get_lines
    set_nonbizday unset_nonbizday use_easter unuse_easter use_great_friday unuse_great_friday include_start
    noinclude_start default_holidays
    setsubst
    create_pipe pack_message unpack_message_bytea unpack_message_date unpack_message_number unpack_message_record
    unpack_message_text unpack_message_timestamp purge receive_message remove_pipe reset_buffer send_message
    register remove removeall set_defaults waitany waitone
    fopen fclose fclose_all
    open_cursor
    set_nls_sort
"""

_HYPOPG = """
    hypopg_create_index hypopg_drop_index hypopg_reset hypopg_reset_index hypopg_hide_index hypopg_unhide_index
    hypopg_unhide_all_indexes
"""

#: Extensions whose functions leave nothing but for these.
SPECIAL: Mapping[str, Mapping[str, Traces]] = {
    "dblink": dict.fromkeys(("dblink_connect", "dblink_connect_u"), _UNKNOWN),
    "hypopg": dict.fromkeys(_HYPOPG.split(), _UNKNOWN),
    "isn": {"isn_weak": Traces(DIRTY_PARAMETERS | DIRTY_UNKNOWN, ("isn.weak",))},
    "orafce": dict.fromkeys(_ORAFCE.split(), _UNKNOWN),
    "pg_trgm": {"set_limit": Traces(DIRTY_PARAMETERS, ("pg_trgm.similarity_threshold",), NAMED)},
    "set_user": dict.fromkeys(("set_user", "set_user_u", "reset_user", "set_session_auth"), _UNKNOWN),
    "tablefunc": dict.fromkeys(
        ("crosstab", "crosstab2", "crosstab3", "crosstab4", "connectby", "crosstab_hash"), UNREADABLE
    ),
    "temporal_tables": {"set_system_time": _UNKNOWN},
    "timescaledb": {"run_job": UNREADABLE},
    "xml2": {"xpath_table": UNREADABLE},
}


def known(extension: str, name: str, volatile: bool) -> Traces | None:
    """What a function of an extension leaves; None if the extension is not known."""
    if extension in HARMLESS:
        return NOTHING
    if extension == "pg_variables":  # all of it is made to be left behind
        return _UNKNOWN if volatile else NOTHING
    special = SPECIAL.get(extension)
    return None if special is None else special.get(name, NOTHING)
