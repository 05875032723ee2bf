//! Questions about the whole server: sessions, locks, databases, replication, checkpoints, WAL, vacuum.

use super::query::{Of, Query};

/// Sessions of clients; those of background workers are not theirs.
pub(super) const SERVER: &[Query] = &[
    Query {
        name: "server",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) AS postgres_uptime_seconds,
            current_setting('max_connections')::int AS postgres_connections_limit,
            current_setting('superuser_reserved_connections')::int AS postgres_connections_reserved,
            pg_size_bytes(current_setting('shared_buffers')) AS postgres_shared_buffers_bytes,
            pg_is_in_recovery()::int AS postgres_in_recovery,
            count(*) AS postgres_connections_used,
            count(*)::float8 / current_setting('max_connections')::int AS postgres_connections_used_ratio,
            count(*) FILTER (WHERE wait_event_type = 'Lock') AS postgres_lock_waiting_sessions
            FROM pg_stat_activity WHERE backend_type = 'client backend'",
    },
    Query {
        name: "info",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT current_setting('server_version') AS version, 1 AS postgres_info",
    },
    Query {
        // Every state is told, so that one which nobody is in reads 0.
        name: "connections",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT d.datname AS database, s.state, count(a.pid) AS postgres_connections
            FROM pg_database d
            CROSS JOIN (VALUES ('active'), ('idle'), ('idle in transaction'), ('idle in transaction (aborted)'),
                ('fastpath function call'), ('disabled'), ('hidden')) AS s (state)
            LEFT JOIN pg_stat_activity a ON a.datid = d.oid AND a.backend_type = 'client backend'
                AND coalesce(a.state, 'hidden') = s.state
            WHERE d.datallowconn AND NOT d.datistemplate GROUP BY 1, 2",
    },
    Query {
        name: "longest",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT d.datname AS database,
            coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0)
                AS postgres_longest_transaction_seconds,
            coalesce(max(extract(epoch FROM clock_timestamp() - a.query_start)) FILTER (WHERE a.state = 'active'), 0)
                AS postgres_longest_query_seconds,
            coalesce(max(extract(epoch FROM clock_timestamp() - a.state_change))
                FILTER (WHERE a.state LIKE 'idle in transaction%'), 0) AS postgres_longest_idle_in_transaction_seconds,
            count(*) FILTER (WHERE a.state = 'active'
                AND clock_timestamp() - a.query_start > interval '{slow} seconds') AS postgres_slow_queries
            FROM pg_database d LEFT JOIN pg_stat_activity a ON a.datid = d.oid
                AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
            WHERE d.datallowconn AND NOT d.datistemplate GROUP BY 1",
    },
    Query {
        name: "slow_queries",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT datname AS database, pid, usename AS user, left(query, 1000) AS query,
            extract(epoch FROM clock_timestamp() - query_start) AS postgres_slow_query_seconds
            FROM pg_stat_activity
            WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                AND clock_timestamp() - query_start > interval '{slow} seconds'
            ORDER BY query_start LIMIT {statements}",
    },
    Query {
        name: "blocked_sessions",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT count(*) AS postgres_blocked_sessions FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND cardinality(pg_blocking_pids(pid)) > 0",
    },
    Query {
        // Before 14 nobody notes when the wait began: the statement's age is the most it can be.
        name: "blocked",
        of: Of::Server,
        versions: 12..14,
        sql: "SELECT a.datname AS database, a.pid AS blocked_pid, a.usename AS blocked_user,
            left(a.query, 1000) AS blocked_query, b.pid AS blocking_pid, b.usename AS blocking_user,
            b.state AS blocking_state, left(b.query, 1000) AS blocking_query, l.mode,
            extract(epoch FROM clock_timestamp() - a.query_start) AS postgres_blocked_seconds
            FROM pg_stat_activity a
            CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS p (pid)
            JOIN pg_stat_activity b ON b.pid = p.pid
            LEFT JOIN LATERAL (SELECT mode FROM pg_locks WHERE pid = a.pid AND NOT granted LIMIT 1) l ON true
            WHERE a.wait_event_type = 'Lock' ORDER BY a.query_start LIMIT 20",
    },
    Query {
        name: "blocked",
        of: Of::Server,
        versions: 14..u32::MAX,
        sql: "SELECT a.datname AS database, a.pid AS blocked_pid, a.usename AS blocked_user,
            left(a.query, 1000) AS blocked_query, b.pid AS blocking_pid, b.usename AS blocking_user,
            b.state AS blocking_state, left(b.query, 1000) AS blocking_query, l.mode,
            extract(epoch FROM clock_timestamp() - coalesce(l.waitstart, a.query_start)) AS postgres_blocked_seconds
            FROM pg_stat_activity a
            CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS p (pid)
            JOIN pg_stat_activity b ON b.pid = p.pid
            LEFT JOIN LATERAL (SELECT mode, waitstart FROM pg_locks WHERE pid = a.pid AND NOT granted LIMIT 1) l
                ON true
            WHERE a.wait_event_type = 'Lock' ORDER BY l.waitstart LIMIT 20",
    },
    Query {
        // Who waits for a row waits for a transaction, which is of no database: the waiter is.
        name: "locks",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT d.datname AS database, m.mode, count(l.pid) FILTER (WHERE l.granted) AS postgres_locks,
            count(l.pid) FILTER (WHERE NOT l.granted) AS postgres_locks_waiting
            FROM pg_database d
            CROSS JOIN (VALUES ('AccessShareLock'), ('RowShareLock'), ('RowExclusiveLock'),
                ('ShareUpdateExclusiveLock'), ('ShareLock'), ('ShareRowExclusiveLock'), ('ExclusiveLock'),
                ('AccessExclusiveLock'), ('SIReadLock')) AS m (mode)
            LEFT JOIN (
                SELECT pid, k.mode, k.granted,
                    CASE WHEN k.granted THEN k.database ELSE coalesce(nullif(k.database, 0), a.datid) END AS database
                FROM pg_locks k LEFT JOIN pg_stat_activity a USING (pid) WHERE pid <> pg_backend_pid()
            ) l ON l.database = d.oid AND l.mode = m.mode
            WHERE d.datallowconn AND NOT d.datistemplate GROUP BY 1, 2",
    },
    Query {
        name: "databases",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT s.datname AS database, xact_commit AS postgres_transactions_committed_total,
            xact_rollback AS postgres_transactions_rolled_back_total,
            blks_read AS postgres_blocks_read_total, blks_hit AS postgres_blocks_hit_total,
            blks_hit::float8 / nullif(blks_hit + blks_read, 0) AS postgres_buffer_hit_ratio,
            blk_read_time / 1000 AS postgres_block_read_seconds_total,
            blk_write_time / 1000 AS postgres_block_write_seconds_total,
            tup_returned AS postgres_rows_returned_total, tup_fetched AS postgres_rows_fetched_total,
            tup_inserted AS postgres_rows_inserted_total, tup_updated AS postgres_rows_updated_total,
            tup_deleted AS postgres_rows_deleted_total, conflicts AS postgres_conflicts_total,
            temp_files AS postgres_temp_files_total, temp_bytes AS postgres_temp_bytes_total,
            deadlocks AS postgres_deadlocks_total, checksum_failures AS postgres_checksum_failures_total,
            age(d.datfrozenxid) AS postgres_oldest_transaction_id_age
            FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid
            WHERE d.datallowconn AND NOT d.datistemplate",
    },
    Query {
        name: "sessions",
        of: Of::Server,
        versions: 14..u32::MAX,
        sql: "SELECT s.datname AS database, sessions AS postgres_sessions_total,
            sessions_abandoned AS postgres_sessions_abandoned_total, sessions_fatal AS postgres_sessions_fatal_total,
            sessions_killed AS postgres_sessions_killed_total, session_time / 1000 AS postgres_session_seconds_total,
            active_time / 1000 AS postgres_active_seconds_total,
            idle_in_transaction_time / 1000 AS postgres_idle_in_transaction_seconds_total
            FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid
            WHERE d.datallowconn AND NOT d.datistemplate",
    },
    Query {
        name: "replication",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT application_name AS application, coalesce(client_addr::text, 'local') AS client, state, sync_state,
            pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
                replay_lsn) AS postgres_replication_lag_bytes,
            extract(epoch FROM replay_lag) AS postgres_replication_lag_seconds
            FROM pg_stat_replication ORDER BY pid LIMIT 50",
    },
    Query {
        name: "replication_slots",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT slot_name AS slot, slot_type AS type, active::int AS postgres_replication_slot_active,
            pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
                restart_lsn) AS postgres_replication_slot_retained_bytes
            FROM pg_replication_slots ORDER BY slot_name LIMIT 50",
    },
    Query {
        name: "replay",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS postgres_replay_age_seconds
            WHERE pg_is_in_recovery()",
    },
    Query {
        name: "checkpoints",
        of: Of::Server,
        versions: 12..17,
        sql: "SELECT checkpoints_timed AS postgres_checkpoints_timed_total,
            checkpoints_req AS postgres_checkpoints_requested_total,
            checkpoint_write_time / 1000 AS postgres_checkpoint_write_seconds_total,
            checkpoint_sync_time / 1000 AS postgres_checkpoint_sync_seconds_total,
            buffers_checkpoint AS postgres_checkpoint_buffers_written_total,
            buffers_clean AS postgres_background_buffers_written_total,
            maxwritten_clean AS postgres_background_writer_halts_total,
            buffers_backend AS postgres_backend_buffers_written_total,
            buffers_alloc AS postgres_buffers_allocated_total FROM pg_stat_bgwriter",
    },
    Query {
        name: "checkpoints",
        of: Of::Server,
        versions: 17..u32::MAX,
        sql: "SELECT num_timed AS postgres_checkpoints_timed_total, num_requested AS postgres_checkpoints_requested_total,
            write_time / 1000 AS postgres_checkpoint_write_seconds_total,
            sync_time / 1000 AS postgres_checkpoint_sync_seconds_total,
            buffers_written AS postgres_checkpoint_buffers_written_total,
            buffers_clean AS postgres_background_buffers_written_total,
            maxwritten_clean AS postgres_background_writer_halts_total,
            buffers_alloc AS postgres_buffers_allocated_total FROM pg_stat_checkpointer, pg_stat_bgwriter",
    },
    Query {
        name: "wal",
        of: Of::Server,
        versions: 14..u32::MAX,
        sql: "SELECT wal_records AS postgres_wal_records_total, wal_bytes AS postgres_wal_bytes_total,
            wal_fpi AS postgres_wal_full_pages_total, wal_buffers_full AS postgres_wal_buffers_full_total
            FROM pg_stat_wal",
    },
    Query {
        name: "wal_files",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT count(*) AS postgres_wal_files, coalesce(sum(size), 0) AS postgres_wal_size_bytes FROM pg_ls_waldir()",
    },
    Query {
        name: "archiver",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT archived_count AS postgres_wal_archived_total, failed_count AS postgres_wal_archive_failures_total,
            extract(epoch FROM clock_timestamp() - last_archived_time) AS postgres_wal_archived_age_seconds
            FROM pg_stat_archiver WHERE current_setting('archive_mode') <> 'off'",
    },
    Query {
        name: "autovacuum",
        of: Of::Server,
        versions: 12..u32::MAX,
        sql: "SELECT count(*) AS postgres_autovacuum_workers,
            current_setting('autovacuum_max_workers')::int AS postgres_autovacuum_workers_limit,
            coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) AS postgres_longest_autovacuum_seconds
            FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'",
    },
];
