//! Questions in each database: its size, tables, indexes, and which tables lack an index.
//!
//! To tell a size, PostgreSQL takes a weak lock, which waits where somebody holds or wants the strongest one. Such
//! tables and indexes have no size in that pass, rather than that nothing has; `lock_timeout` catches the rest.
//!
//! To look at the size of each of thousands takes long, so the largest are sought among those that are by the
//! catalog's estimates: four times as many as are told.

use super::query::{Of, Query};

pub(super) const TABLES: &[Query] = &[
    Query {
        name: "database_size",
        of: Of::Database,
        versions: 12..u32::MAX,
        sql: "SELECT pg_database_size(current_database()) AS postgres_database_size_bytes",
    },
    Query {
        name: "tables",
        of: Of::Database,
        versions: 12..u32::MAX,
        sql: "WITH locked AS MATERIALIZED (
                SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL
            ), likely AS MATERIALIZED (
                SELECT c.oid, c.relpages
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                ORDER BY greatest(c.relpages, pg_stat_get_live_tuples(c.oid) / 100) DESC LIMIT 4 * {tables}
            ), largest AS MATERIALIZED (
                SELECT c.oid, l.relation IS NULL AS is_free, CASE WHEN l.relation IS NULL
                    THEN pg_relation_size(c.oid) ELSE c.relpages::bigint * 8192 END AS size
                FROM likely c LEFT JOIN (SELECT DISTINCT relation FROM locked) l ON l.relation = c.oid
                ORDER BY 3 DESC LIMIT {tables}
            )
            SELECT s.schemaname AS schema, s.relname AS \"table\",
            CASE WHEN is_free THEN pg_table_size(s.relid) END AS postgres_table_size_bytes,
            CASE WHEN is_free THEN pg_total_relation_size(s.relid) END AS postgres_table_total_size_bytes,
            n_live_tup AS postgres_table_live_rows, n_dead_tup AS postgres_table_dead_rows,
            n_dead_tup::float8 / nullif(n_live_tup + n_dead_tup, 0) AS postgres_table_dead_ratio,
            n_mod_since_analyze AS postgres_table_rows_modified_since_analyze,
            seq_scan AS postgres_table_sequential_scans_total,
            seq_tup_read AS postgres_table_sequential_rows_read_total,
            idx_scan AS postgres_table_index_scans_total, idx_tup_fetch AS postgres_table_index_rows_fetched_total,
            n_tup_ins AS postgres_table_rows_inserted_total, n_tup_upd AS postgres_table_rows_updated_total,
            n_tup_hot_upd AS postgres_table_rows_hot_updated_total, n_tup_del AS postgres_table_rows_deleted_total,
            vacuum_count + autovacuum_count AS postgres_table_vacuums_total,
            analyze_count + autoanalyze_count AS postgres_table_analyzes_total,
            extract(epoch FROM clock_timestamp() - greatest(last_vacuum, last_autovacuum))
                AS postgres_table_vacuum_age_seconds,
            extract(epoch FROM clock_timestamp() - greatest(last_analyze, last_autoanalyze))
                AS postgres_table_analyze_age_seconds,
            coalesce(heap_blks_hit, 0) + coalesce(idx_blks_hit, 0) + coalesce(toast_blks_hit, 0)
                + coalesce(tidx_blks_hit, 0) AS postgres_table_blocks_hit_total,
            coalesce(heap_blks_read, 0) + coalesce(idx_blks_read, 0) + coalesce(toast_blks_read, 0)
                + coalesce(tidx_blks_read, 0) AS postgres_table_blocks_read_total,
            heap_blks_hit::float8 / nullif(heap_blks_hit + heap_blks_read, 0) AS postgres_table_buffer_hit_ratio,
            idx_blks_hit::float8 / nullif(idx_blks_hit + idx_blks_read, 0) AS postgres_table_index_buffer_hit_ratio
            FROM largest JOIN pg_stat_user_tables s ON s.relid = largest.oid
            JOIN pg_statio_user_tables io ON io.relid = s.relid",
    },
    Query {
        // Unique indexes and those of constraints do their work without being read.
        name: "indexes",
        of: Of::Database,
        versions: 12..u32::MAX,
        sql: "WITH locked AS MATERIALIZED (
                SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL
            ), likely AS MATERIALIZED (
                SELECT c.oid, c.relpages FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind = 'i' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
                ORDER BY greatest(c.relpages, pg_stat_get_live_tuples(i.indrelid) / 300) DESC LIMIT 8 * {tables}
            ), largest AS MATERIALIZED (
                SELECT c.oid, l.relation IS NULL AS is_free, CASE WHEN l.relation IS NULL
                    THEN pg_relation_size(c.oid) ELSE c.relpages::bigint * 8192 END AS size
                FROM likely c LEFT JOIN (SELECT DISTINCT relation FROM locked) l ON l.relation = c.oid
                ORDER BY 3 DESC LIMIT 2 * {tables}
            )
            SELECT s.schemaname AS schema, s.relname AS \"table\", s.indexrelname AS index,
            CASE WHEN is_free THEN size END AS postgres_index_size_bytes,
            s.idx_scan AS postgres_index_scans_total, s.idx_tup_read AS postgres_index_rows_read_total,
            s.idx_tup_fetch AS postgres_index_rows_fetched_total,
            io.idx_blks_hit AS postgres_index_blocks_hit_total, io.idx_blks_read AS postgres_index_blocks_read_total,
            (s.idx_scan = 0 AND NOT i.indisunique AND NOT EXISTS (SELECT FROM pg_constraint c
                WHERE c.conindid = i.indexrelid))::int AS postgres_index_unused,
            (NOT i.indisvalid)::int AS postgres_index_invalid
            FROM largest JOIN pg_stat_user_indexes s ON s.indexrelid = largest.oid
            JOIN pg_statio_user_indexes io ON io.indexrelid = s.indexrelid
            JOIN pg_index i ON i.indexrelid = s.indexrelid",
    },
    Query {
        // Ten scans that read a thousand rows each: less is cheaper than an index.
        name: "index_advice",
        of: Of::Database,
        versions: 12..u32::MAX,
        sql:
            "SELECT schemaname AS schema, relname AS \"table\", seq_tup_read::float8 / seq_scan AS postgres_index_advice
            FROM pg_stat_user_tables
            WHERE seq_scan >= 10 AND seq_tup_read >= 1000 * seq_scan AND n_live_tup >= 1000
            ORDER BY seq_tup_read DESC LIMIT {tables}",
    },
];
