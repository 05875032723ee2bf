//! What is to be known of metrics before they are asked about, and what comes of it.

use std::collections::BTreeMap;

/// What the store has of a metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shape {
    /// The columns of its table but `time` and `value`.
    pub labels: Vec<String>,
    /// What [`Slo::bounds_sql`](super::Slo::bounds_sql) gives, where it asks.
    pub bounds: Vec<f64>,
}

/// Metrics that are stored, of those in [`Slo::metrics`](super::Slo::metrics).
pub type Known = BTreeMap<String, Shape>;

/// A statement, and what is to be told beside its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub text: String,
    pub notes: Vec<String>,
}

/// Why there is nothing to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("there is no metric `{metric}`: without samples of it there is nothing to tell")]
    Metric { metric: String },
    #[error("`{metric}` has no label `{label}` to group by: it has {labels}")]
    Label { metric: String, label: String, labels: String },
    #[error("`{metric}` has no bound `le` up to {bound}: write below as one of its bounds, {bounds}")]
    Bound { metric: String, bound: String, bounds: String },
}

/// Asks which columns the tables of metrics have: `table_name`, `column_name`.
pub fn columns_sql<'m>(metrics: impl IntoIterator<Item = &'m str>) -> String {
    let names: Vec<String> = metrics.into_iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    let list = if names.is_empty() { "''".to_owned() } else { names.join(", ") };
    format!("SELECT table_name, column_name FROM information_schema.columns WHERE table_name IN ({list})")
}

/// Of what [`columns_sql`] gave. Bounds of histograms are to be added.
pub fn known(columns: impl IntoIterator<Item = (String, String)>) -> Known {
    let mut known = Known::new();
    for (table, column) in columns {
        let shape = known.entry(table).or_default();
        if column != "time" && column != "value" {
            shape.labels.push(column);
        }
    }
    known
}
