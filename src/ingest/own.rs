//! What the program says of itself: one list, which `/metrics` writes as text and the source `own` hands on as samples,
//! so that its history is in SQL.

use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;

use super::{About, Readings, Source, SourceError};
use crate::model::{Kind, Timestamp};

/// Begins the name of each.
const PREFIX: &str = "plimsoll_";

/// One metric with all its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnMetric {
    /// Without the prefix.
    pub name: &'static str,
    pub kind: Kind,
    /// As in `bytes`, `seconds`; empty where it counts.
    pub unit: &'static str,
    pub help: &'static str,
    pub rows: Vec<OwnRow>,
}

/// Labels and a number.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnRow {
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl OwnMetric {
    /// Kind by the name, unit by its ending.
    pub fn new(name: &'static str, help: &'static str, rows: Vec<OwnRow>) -> Self {
        let stem = name.trim_end_matches("_total");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| stem.ends_with(unit)).unwrap_or("");
        OwnMetric { name, kind: Kind::of_metric(name), unit, help, rows }
    }

    /// One number without labels.
    pub fn one(name: &'static str, help: &'static str, value: f64) -> Self {
        OwnMetric::new(name, help, vec![OwnRow { labels: Vec::new(), value }])
    }

    /// A row for each of `all`.
    pub fn each<T>(
        name: &'static str,
        help: &'static str,
        all: impl IntoIterator<Item = T>,
        row: impl Fn(T) -> (Vec<(&'static str, String)>, f64),
    ) -> Self {
        let rows = all.into_iter().map(row).map(|(labels, value)| OwnRow { labels, value });
        OwnMetric::new(name, help, rows.collect())
    }
}

/// Prometheus text exposition.
pub fn own_text(metrics: &[OwnMetric]) -> String {
    let mut text = String::new();
    for OwnMetric { name, kind, help, rows, .. } in metrics {
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {}", kind.name());
        for OwnRow { labels, value } in rows {
            let _ = write!(text, "{PREFIX}{name}");
            for (at, (label, value)) in labels.iter().enumerate() {
                let _ = write!(text, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(value));
            }
            let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Tells all of them; `None` once there is nobody to tell of.
pub type TellOwn = Arc<dyn Fn() -> Option<Vec<OwnMetric>> + Send + Sync>;

/// The program itself as a source.
pub struct OwnSource(TellOwn);

impl OwnSource {
    pub fn new(tell: TellOwn) -> Self {
        OwnSource(tell)
    }
}

#[async_trait]
impl Source for OwnSource {
    async fn read(&mut self, _now: Timestamp) -> Result<Readings, SourceError> {
        let tell = self.0.clone();
        // The store's locks may make it wait.
        let told = tokio::task::spawn_blocking(move || tell()).await;
        let told = told.map_err(|error| SourceError::new(format!("the program's own metrics: {error}")))?;
        let told = told.ok_or_else(|| SourceError::new("the program's own metrics: the server is ending"))?;
        let mut readings = Readings::default();
        let mut name = String::from(PREFIX);
        for metric in &told {
            name.truncate(PREFIX.len());
            name.push_str(metric.name);
            let about = About { kind: Some(metric.kind), unit: metric.unit, help: metric.help };
            for row in &metric.rows {
                let labels: Vec<(&str, &str)> =
                    row.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                readings.put(&name, &labels, about, row.value);
            }
        }
        Ok(readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Vec<OwnMetric> {
        let all = ["a", "b\"\\\n"];
        vec![
            OwnMetric::one("series", "Series known.", 7.0),
            OwnMetric::each("busy_seconds_total", "Time worked.", all, |name| (vec![("stage", name.to_owned())], 0.5)),
        ]
    }

    #[test]
    fn text_and_samples_say_the_same() {
        let wanted = "# HELP plimsoll_series Series known.\n# TYPE plimsoll_series gauge\nplimsoll_series 7\n\
            # HELP plimsoll_busy_seconds_total Time worked.\n# TYPE plimsoll_busy_seconds_total counter\n\
            plimsoll_busy_seconds_total{stage=\"a\"} 0.5\nplimsoll_busy_seconds_total{stage=\"b\\\"\\\\\\n\"} 0.5\n";
        assert_eq!(own_text(&told()), wanted);
        assert_eq!(told()[1].unit, "seconds");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |told: TellOwn| runtime.block_on(OwnSource::new(told).read(Timestamp::from_nanos(1)));
        let lines = read(Arc::new(|| Some(told()))).unwrap().lines();
        assert_eq!(lines[..2], ["plimsoll_series 7", "plimsoll_busy_seconds_total{stage=\"a\"} 0.5"]);
        assert!(read(Arc::new(|| None)).is_err());
    }
}
