"""Traces, and the list of PostgreSQL's own functions that may leave something: complete for the PostgreSQL at hand."""

from __future__ import annotations

import pytest
from fix_postgres import Postgres
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, DIRTY_TEMPORARY
from pgdoorman_lib.wire.traces import (
    BUILTIN,
    BUILTIN_WRITTEN,
    DISTURBS,
    EVERYTHING,
    LISTED,
    MAKES_TEMPORARY,
    NOTHING,
    POSSIBLE,
    RELEASES,
    RUNS_STRINGS,
    SET_CONFIG,
    UNREADABLE,
    Traces,
    locally,
    set_config_traces,
    setting,
    union,
)

#: VOLATILE functions of PostgreSQL 12 to 18 that leave nothing behind for the next transaction of their session, or
#: what is documented as not kept (sequences, the seed). ``binary_upgrade_`` ones only run in that mode.
REVIEWED = frozenset(
    """
    amvalidate array_sample array_shuffle bernoulli brin_desummarize_range brin_summarize_new_values
    brin_summarize_range brinhandler bthandler clock_timestamp current_query currtid currtid2 currval dsnowball_init
    dsnowball_lexize gen_random_uuid gin_clean_pending_list ginhandler gisthandler hashhandler heap_tableam_handler
    lastval lo_close lo_creat lo_create lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64 lo_open lo_put
    lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite nextval
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_available_wal_summaries pg_backup_start_time pg_backup_stop
    pg_blocking_pids pg_cancel_backend pg_clear_attribute_stats pg_clear_relation_stats pg_collation_actual_version
    pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_create_restore_point
    pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
    pg_database_collation_actual_version pg_database_size pg_drop_replication_slot pg_export_snapshot
    pg_extension_config_dump pg_get_aios pg_get_backend_memory_contexts pg_get_loaded_modules
    pg_get_multixact_members pg_get_sequence_data pg_get_shmem_allocations pg_get_shmem_allocations_numa
    pg_get_wait_events pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_get_wal_summarizer_state
    pg_hba_file_rules pg_ident_file_mappings pg_import_system_collations pg_indexes_size pg_is_in_backup
    pg_is_in_recovery pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available
    pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
    pg_lock_status pg_log_backend_memory_contexts pg_log_standby_snapshot pg_logical_emit_message
    pg_logical_slot_get_binary_changes pg_logical_slot_get_changes pg_logical_slot_peek_binary_changes
    pg_logical_slot_peek_changes pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir
    pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir pg_ls_tmpdir pg_ls_waldir pg_nextoid
    pg_notification_queue_usage pg_notify pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_promote
    pg_read_binary_file pg_read_file pg_read_file_old pg_relation_size pg_reload_conf pg_replication_origin_advance
    pg_replication_origin_create pg_replication_origin_drop pg_replication_origin_progress
    pg_replication_origin_session_is_setup pg_replication_origin_session_progress pg_replication_slot_advance
    pg_restore_attribute_stats pg_restore_relation_stats pg_rotate_logfile pg_rotate_logfile_old
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_all_file_settings pg_show_replication_origin_status
    pg_sleep pg_sleep_for pg_sleep_until pg_stat_clear_snapshot pg_stat_file pg_stat_force_next_flush
    pg_stat_get_backend_io pg_stat_get_backend_wal pg_stat_get_io pg_stat_get_recovery_prefetch
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
    pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_returned
    pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_stat_reset pg_stat_reset_backend_stats
    pg_stat_reset_replication_slot pg_stat_reset_shared pg_stat_reset_single_function_counters
    pg_stat_reset_single_table_counters pg_stat_reset_slru pg_stat_reset_subscription_stats pg_stop_backup
    pg_stop_making_pinned_objects pg_switch_wal pg_table_size pg_tablespace_size pg_terminate_backend
    pg_total_relation_size pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_wal_replay_pause
    pg_wal_replay_resume pg_wal_summary_contents pg_xact_commit_timestamp pg_xact_commit_timestamp_origin
    pg_xact_status plpgsql_call_handler plpgsql_inline_handler plpgsql_validator random random_normal setseed setval
    spghandler system timeofday txid_status uuidv4 uuidv7
    """.split()  # noqa: SIM905
)

_TRACES = st.builds(
    Traces,
    st.integers(0, 7),
    st.lists(st.sampled_from(["a", "b.c", "work_mem"]), unique=True).map(tuple),
    st.integers(0, 2),
    st.booleans(),
)


@pytest.mark.postgres
def test_every_volatile_function_has_been_thought_of(postgres: Postgres) -> None:
    """Those of triggers aside, which nobody can call: what a foreign key does is read from the catalogue."""
    names = postgres.sql(
        "SELECT DISTINCT proname FROM pg_proc"
        " WHERE oid < 16384 AND provolatile = 'v' AND prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype"
    ).split()
    unknown = {name for name in names if name.encode() not in BUILTIN and name not in REVIEWED}
    assert {name for name in unknown if not name.startswith("binary_upgrade_")} == set()


@pytest.mark.postgres
def test_what_runs_strings_is_there(postgres: Postgres) -> None:
    """All of xml.c that reads what a string says."""
    names = postgres.sql(
        "SELECT DISTINCT proname FROM pg_proc WHERE oid < 16384 AND proname ~ '_to_xml|^ts_stat|^ts_rewrite'"
    )
    assert {name.encode() for name in names.split()} == RUNS_STRINGS


def test_nothing_is_in_both_lists() -> None:
    assert {name for name in BUILTIN if name.decode() in REVIEWED} == set()
    assert RELEASES | RUNS_STRINGS | BUILTIN_WRITTEN | {SET_CONFIG} <= BUILTIN.keys()
    assert NOTHING not in BUILTIN.values()


@given(_TRACES, _TRACES, _TRACES)
def test_a_union_takes_nothing_away(a: Traces, b: Traces, c: Traces) -> None:
    both = union(a, b)
    assert both.bits == a.bits | b.bits
    assert set(both.options) == {*a.options, *b.options}
    assert both.unnamed == max(a.unnamed, b.unnamed)
    assert both.disturbs == (a.disturbs or b.disturbs)
    assert union(both, a) == union(both, b) == both
    assert set(union(both, c).options) == set(union(a, union(b, c)).options)
    assert union(a, NOTHING) == union(NOTHING, a) == a


def test_settings() -> None:
    assert setting("work_mem") == Traces(DIRTY_PARAMETERS, ("work_mem",))
    assert setting("app.x", "role").disturbs
    assert not set_config_traces(b"App.Y", True, b"a").bits
    assert set_config_traces(b"App.Y", False, None) == Traces(DIRTY_PARAMETERS, ("app.y",))
    assert set_config_traces("app.Ä".encode(), False, None).options == ("app.Ä",)
    assert set_config_traces(b"timezone", True, b"UTC") == DISTURBS
    assert set_config_traces(b"search_path", True, b"a, public") == DISTURBS
    assert set_config_traces(b"search_path", True, b'a, "PG_TEMP"') == MAKES_TEMPORARY
    assert set_config_traces(b"search_path", False, None).bits == DIRTY_PARAMETERS | DIRTY_TEMPORARY
    assert set_config_traces(None, True, b"x") == union(MAKES_TEMPORARY, locally(LISTED))


def test_options_set_locally_leave_their_names() -> None:
    local = set_config_traces(b"App.Y", True, b"a")
    assert local == locally("app.y") and local.with_names(False) == NOTHING
    assert local.with_names(True) == setting("app.y")
    assert setting("work_mem").with_names(True) == setting("work_mem")
    both = union(union(local, setting("work_mem")), locally("app.y", "app.z"))
    assert both.with_names(False) == setting("work_mem")
    assert both.with_names(True) == setting("work_mem", "app.y", "app.z")
    bound = locally("$2", "app.y")
    assert bound.parameters == {2} and bound.with_names(True) == setting("app.y")
    assert locally(LISTED).with_names(True).unnamed == POSSIBLE
    assert locally(LISTED).with_names(False) == NOTHING


def test_any_value() -> None:
    assert set_config_traces(None, False, b"x").unnamed == POSSIBLE


def test_what_is_unreadable_is_most_of_everything() -> None:
    assert union(UNREADABLE, EVERYTHING) == EVERYTHING
