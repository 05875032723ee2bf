//! Questions where `pg_stat_statements` (1.8 or later, so PostgreSQL 13 or later) is installed in the database.

use super::query::{Of, Query};

/// Oldest major version whose extension is new enough.
pub(super) const STATEMENTS_SINCE: u32 = 13;

/// Tells schema and version of the extension in this database.
pub(super) const EXTENSION: &str = "/* plimsoll */ SELECT quote_ident(n.nspname) || '.pg_stat_statements' AS view,
    string_to_array(e.extversion, '.')::int[] >= ARRAY[1, 8] AS is_new_enough
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'";

pub(super) const STATEMENTS: &[Query] = &[
    Query {
        // Those that took most in all, and those that are slow on average.
        name: "statements",
        of: Of::Statements,
        versions: 13..u32::MAX,
        sql: "WITH told AS (
                SELECT queryid, min(left(query, 1000)) AS query, sum(calls) AS calls, sum(total_exec_time) AS total,
                    sum(total_exec_time) / nullif(sum(calls), 0) AS mean, max(max_exec_time) AS longest, sum(rows) AS rows,
                    sum(shared_blks_hit) AS hit, sum(shared_blks_read) AS read
                FROM {view} WHERE queryid IS NOT NULL AND query NOT LIKE '/* plimsoll */%'
                    AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY queryid
            ), ranked AS (
                SELECT *, row_number() OVER (ORDER BY total DESC) AS by_total,
                    row_number() OVER (ORDER BY mean DESC NULLS LAST) AS by_mean FROM told
            )
            SELECT queryid AS query_id, query, calls AS postgres_statement_calls_total,
            total / 1000 AS postgres_statement_seconds_total, mean / 1000 AS postgres_statement_mean_seconds,
            longest / 1000 AS postgres_statement_max_seconds, rows AS postgres_statement_rows_total,
            hit AS postgres_statement_blocks_hit_total, read AS postgres_statement_blocks_read_total,
            (mean > 1000 * {slow})::int AS postgres_statement_slow
            FROM ranked WHERE by_total <= {statements} OR (by_mean <= {statements} AND mean > 1000 * {slow})",
    },
    Query {
        // The first column in a statement's WHERE that no index of the table starts with. Read from the text, so a
        // column of the same name in another table of the statement is taken for it.
        name: "index_advice_statements",
        of: Of::Statements,
        versions: 13..u32::MAX,
        sql: "WITH advised AS (
                SELECT relid, schemaname, relname FROM pg_stat_user_tables
                WHERE seq_scan >= 10 AND seq_tup_read >= 1000 * seq_scan AND n_live_tup >= 1000
                ORDER BY seq_tup_read DESC LIMIT {tables}
            ), told AS (
                SELECT queryid, min(left(query, 1000)) AS query, sum(total_exec_time) AS total
                FROM {view} WHERE queryid IS NOT NULL AND query NOT LIKE '/* plimsoll */%'
                    AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                GROUP BY queryid ORDER BY 3 DESC LIMIT 200
            )
            SELECT a.schemaname AS schema, a.relname AS \"table\", c.attname AS \"column\", t.queryid AS query_id, t.query,
            t.total / 1000 AS postgres_index_advice_statement_seconds_total
            FROM advised a
            JOIN told t ON t.query ~* ('\\m' || regexp_replace(a.relname, '(\\W)', '\\\\\\1', 'g') || '\\M.*\\mwhere\\M')
            CROSS JOIN LATERAL (
                SELECT attname FROM pg_attribute WHERE attrelid = a.relid AND attnum > 0 AND NOT attisdropped
                    AND t.query ~* ('\\mwhere\\M.*\\m' || regexp_replace(attname, '(\\W)', '\\\\\\1', 'g')
                        || '\\M\"?\\s*(=|<|>|between\\M|in\\M|like\\M|ilike\\M)')
                    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.relid AND i.indkey[0] = attnum)
                ORDER BY attnum LIMIT 1
            ) c ORDER BY t.total DESC LIMIT {statements}",
    },
];
