//! A question to PostgreSQL, and how its rows become samples.
//!
//! A column whose name starts with `postgres_` is a sample of that metric; every other column is a label of all samples
//! of the row. NULL is no sample, or no label. So the SQL says it all.

use std::ops::Range;

use tokio_postgres::SimpleQueryRow;

use super::help::help;
use super::text::shorten;
use crate::ingest::About;
use crate::ingest::source::Readings;
use crate::model::Kind;

/// Where a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Once: the answer is the same in every database.
    Server,
    /// In each database; its name is the label `database`.
    Database,
    /// The same, where the extension `pg_stat_statements` is installed in it.
    Statements,
}

pub(super) struct Query {
    /// The label `query` of `postgres_collector_errors_total`.
    pub name: &'static str,
    pub of: Of,
    /// Major versions that have its views and columns.
    pub versions: Range<u32>,
    /// `{tables}`, `{statements}`, `{slow}` (seconds) and `{view}` (of `pg_stat_statements`) are filled in.
    pub sql: &'static str,
}

/// Stands before our own statements, so that whoever looks at the server's knows them, as we do.
const OWN: &str = "/* plimsoll */";

/// What is filled into a question.
pub(super) struct Bounds<'b> {
    pub tables: u32,
    pub statements: u32,
    pub slow_seconds: f64,
    /// The view `pg_stat_statements` with its schema.
    pub view: &'b str,
}

impl Query {
    pub(super) fn text(&self, bounds: &Bounds<'_>) -> String {
        let sql = self
            .sql
            .replace("{tables}", &bounds.tables.to_string())
            .replace("{statements}", &bounds.statements.to_string())
            .replace("{slow}", &bounds.slow_seconds.to_string())
            .replace("{view}", bounds.view);
        format!("{OWN} {sql}")
    }
}

/// Puts a row's samples.
pub(super) fn put_row(readings: &mut Readings, row: &SimpleQueryRow, database: Option<&str>) {
    let cells = row.columns().iter().enumerate().filter_map(|(at, column)| Some((column.name(), row.get(at)?)));
    put_cells(readings, cells, database);
}

fn put_cells<'c>(
    readings: &mut Readings,
    cells: impl Iterator<Item = (&'c str, &'c str)> + Clone,
    database: Option<&str>,
) {
    let is_metric = |name: &str| name.starts_with("postgres_");
    // Texts of statements are long and hold what users typed.
    let shortened: Vec<(&str, String)> = cells
        .clone()
        .filter(|(name, _)| !is_metric(name))
        .map(|(name, text)| (name, if name.ends_with("query") { shorten(text) } else { text.to_owned() }))
        .collect();
    let mut labels: Vec<(&str, &str)> = database.map(|database| ("database", database)).into_iter().collect();
    labels.extend(shortened.iter().map(|(name, text)| (*name, text.as_str())));
    for (metric, text) in cells.filter(|(name, _)| is_metric(name)) {
        // NaN and infinity are no samples.
        if let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) {
            readings.put(metric, &labels, about(metric), value);
        }
    }
}

pub(super) fn about(metric: &str) -> About<'static> {
    let is_counter = metric.ends_with("_total");
    let name = metric.strip_suffix("_total").unwrap_or(metric);
    let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default();
    let kind = if is_counter { Kind::Counter } else { Kind::Gauge };
    About { kind: Some(kind), unit, help: help(metric) }
}

#[cfg(test)]
mod tests {
    use super::super::help::HELP;
    use super::super::server::SERVER;
    use super::super::statements::STATEMENTS;
    use super::super::tables::TABLES;
    use super::*;

    fn all() -> impl Iterator<Item = &'static Query> {
        SERVER.iter().chain(TABLES).chain(STATEMENTS)
    }

    /// Names in SQL that are metrics.
    fn metrics(sql: &str) -> impl Iterator<Item = &str> {
        let words = sql.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| word.starts_with("postgres_"))
    }

    #[test]
    fn every_metric_has_a_help_and_every_help_a_metric() {
        let own = ["postgres_collector_errors_total"];
        let mut asked: Vec<&str> = all().flat_map(|query| metrics(query.sql)).chain(own).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut helped: Vec<&str> = HELP.iter().map(|(metric, _)| *metric).collect();
        helped.sort_unstable();
        assert_eq!(asked, helped);
    }

    #[test]
    fn questions_of_one_name_are_for_different_versions() {
        let queries: Vec<&Query> = all().collect();
        for (at, one) in queries.iter().enumerate() {
            for other in &queries[at + 1..] {
                let apart = one.versions.end <= other.versions.start || other.versions.end <= one.versions.start;
                assert!(one.name != other.name || apart, "{}", one.name);
            }
        }
    }

    #[test]
    fn bounds_are_filled_in() {
        let bounds = Bounds { tables: 7, statements: 9, slow_seconds: 0.5, view: "\"x\".pg_stat_statements" };
        for query in all() {
            let text = query.text(&bounds);
            assert!(!text.contains(['{', '}']), "{text}");
        }
    }

    #[test]
    fn a_row_is_its_labels_and_its_samples() {
        let mut readings = Readings::default();
        let cells = [
            ("schema", "public"),
            ("query", "SELECT *  FROM a WHERE b = 'secret'"),
            ("postgres_table_live_rows", "12"),
            ("postgres_table_dead_rows", "NaN"),
            ("postgres_table_size_bytes", "8192"),
        ];
        put_cells(&mut readings, cells.into_iter(), Some("shop"));
        let labels = r#"{database="shop",schema="public",query="SELECT * FROM a WHERE b = ?"}"#;
        let wanted = [("postgres_table_live_rows", 12), ("postgres_table_size_bytes", 8192)];
        assert_eq!(readings.lines(), wanted.map(|(metric, value)| format!("{metric}{labels} {value}")));
    }

    #[test]
    fn names_tell_kind_and_unit() {
        let told = |metric| (about(metric).kind.unwrap(), about(metric).unit);
        assert_eq!(told("postgres_deadlocks_total"), (Kind::Counter, ""));
        assert_eq!(told("postgres_temp_bytes_total"), (Kind::Counter, "bytes"));
        assert_eq!(told("postgres_longest_query_seconds"), (Kind::Gauge, "seconds"));
    }
}
