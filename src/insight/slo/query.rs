//! Good and total by buckets of time, as SQL: `time`, the labels of `group_by` as text, `good`, `total`; by time.
//!
//! Counters are counted from sample to sample of each series, where a lower value began again from zero. Growth belongs to the
//! bucket of the later sample, so that nothing is lost or told twice between buckets, and nothing is extrapolated. A series'
//! first sample counts nothing.

use std::fmt::Write;

use super::check::Slo;
use super::indicator::{Indicator, Part};
use super::known::{Known, Missing, Shape, Statement};
use super::rules::MINUTE;
use crate::model::{Span, Timestamp};

/// How far before the span a series' sample before its first is looked for.
const LOOKBACK: i64 = 5 * MINUTE;
/// What a bound of a histogram may differ from the one asked for, as a share of it.
const SAME_BOUND: f64 = 1e-9;

impl Slo {
    /// The metrics whose [`Shape`]s are needed to ask.
    pub fn metrics(&self) -> Vec<&str> {
        match &self.indicator {
            Indicator::Samples { metric, .. }
            | Indicator::Histogram { metric, .. }
            | Indicator::Throughput { metric, .. }
            | Indicator::Mean { metric, .. } => vec![metric],
            Indicator::Counters { total, part } if *total == part.metric => vec![total],
            Indicator::Counters { total, part } => vec![total, &part.metric],
            Indicator::Sql(_) => Vec::new(),
        }
    }

    /// Asks for the bounds of a histogram's buckets, a column `le` of numbers; `None` where there is no histogram.
    pub fn bounds_sql(&self) -> Option<String> {
        let Indicator::Histogram { metric, .. } = &self.indicator else { return None };
        let filter = self.filter.as_ref().map(|filter| format!(" WHERE (\n{filter}\n)")).unwrap_or_default();
        let metric = quoted(metric);
        Some(format!("SELECT DISTINCT try_cast(le AS DOUBLE) AS le FROM {metric}{filter} ORDER BY 1"))
    }

    /// Asks for what was counted in `span`, whose start should be on a bound of [`Slo::every`].
    ///
    /// # Errors
    /// Where a metric, or what is to be known of it, is not there.
    pub fn sql(&self, span: Span, known: &Known) -> Result<Statement, Missing> {
        let asked = Asked { slo: self, known, span };
        let mut notes = Vec::new();
        let counts = match &self.indicator {
            Indicator::Samples { metric, good, quantile } => asked.sliced(*quantile, asked.samples(metric, good)?),
            Indicator::Histogram { metric, bound, quantile } => {
                asked.sliced(*quantile, asked.histogram(metric, *bound, &mut notes)?)
            }
            Indicator::Counters { total, part } => asked.counters(total, part, &mut notes)?,
            Indicator::Throughput { metric, least, most } => asked.throughput(metric, [*least, *most])?,
            Indicator::Mean { metric, below, above } => asked.mean(metric, *below, *above)?,
            Indicator::Sql(text) => asked.written(text),
        };
        let texts: String =
            self.group_by.iter().map(|label| format!(", CAST({0} AS VARCHAR) AS {0}", quoted(label))).collect();
        let order: String = (1..=self.group_by.len()).map(|place| format!(", {}", place + 1)).collect();
        let text = format!("SELECT time{texts}, good, total\nFROM ({counts})\nORDER BY 1{order}");
        Ok(Statement { text, notes })
    }
}

/// An SLO that is asked about a span.
struct Asked<'a> {
    slo: &'a Slo,
    known: &'a Known,
    span: Span,
}

impl Asked<'_> {
    fn shape(&self, metric: &str) -> Result<&Shape, Missing> {
        let shape = self.known.get(metric).ok_or_else(|| Missing::Metric { metric: metric.to_owned() })?;
        let absent = self.slo.group_by.iter().find(|label| !shape.labels.contains(label));
        absent.map_or(Ok(shape), |label| {
            let labels = if shape.labels.is_empty() { "none".to_owned() } else { shape.labels.join(", ") };
            Err(Missing::Label { metric: metric.to_owned(), label: label.clone(), labels })
        })
    }

    /// The labels that are grouped by, each with a comma before.
    fn groups(&self) -> String {
        listed(&self.slo.group_by)
    }

    /// The bucket and the groups, by their places.
    fn grouping(&self) -> String {
        (2..=self.slo.group_by.len() + 1).fold("1".to_owned(), |list, place| list + &format!(", {place}"))
    }

    fn bucket(&self) -> String {
        format!("date_bin(INTERVAL '{} seconds', time) AS time", self.slo.every / 1_000_000_000)
    }

    /// Of the span, or from so many nanoseconds before it on.
    fn within(&self, before: i64) -> String {
        let [from, to] = [self.span.start.plus(-before), self.span.end].map(literal);
        let filter = self.slo.filter.as_ref().map(|filter| format!(" AND (\n{filter}\n)")).unwrap_or_default();
        format!("time >= {from} AND time < {to}{filter}")
    }

    fn samples(&self, metric: &str, good: &str) -> Result<String, Missing> {
        self.shape(metric)?;
        let (bucket, groups, within) = (self.bucket(), self.groups(), self.within(0));
        Ok(format!(
            "SELECT {bucket}{groups}, CAST(count(*) FILTER (WHERE (\n{good}\n)) AS DOUBLE) AS good, \
             CAST(count(*) AS DOUBLE) AS total FROM {} WHERE {within} GROUP BY {}",
            quoted(metric),
            self.grouping()
        ))
    }

    /// Each bucket counts once, and is good where so large a share of it is.
    fn sliced(&self, quantile: Option<f64>, counts: String) -> String {
        let Some(share) = quantile else { return counts };
        // What the product may be too large by is less than any count.
        let good = format!("CASE WHEN good >= {share:?} * total - 1e-6 THEN 1.0 ELSE 0.0 END AS good");
        format!("SELECT time{}, {good}, 1.0 AS total FROM ({counts}) WHERE total > 0", self.groups())
    }

    fn histogram(&self, metric: &str, bound: f64, notes: &mut Vec<String>) -> Result<String, Missing> {
        let bounds = &self.shape(metric)?.bounds;
        let fitting = bounds.iter().copied().filter(|le| le.is_finite() && *le <= bound + bound.abs() * SAME_BOUND);
        let Some(le) = fitting.reduce(f64::max) else {
            let finite: Vec<String> = bounds.iter().filter(|le| le.is_finite()).map(|le| format!("{le:?}")).collect();
            let (metric, bound, bounds) = (metric.to_owned(), format!("{bound:?}"), finite.join(", "));
            return Err(Missing::Bound { metric, bound, bounds });
        };
        if le < bound - bound.abs() * SAME_BOUND {
            notes.push(format!(
                "`{metric}` has no bound {bound:?}: counted is up to {le:?}, so what is between them counts as bad"
            ));
        }
        let growth = self.growth(
            metric,
            Some("le <> '+Inf'"),
            Some(&format!("le = '+Inf' OR try_cast(le AS DOUBLE) = {le:?}")),
        )?;
        let (bucket, groups) = (self.bucket(), self.groups());
        Ok(format!(
            "SELECT {bucket}{groups}, coalesce(sum(__grown) FILTER (WHERE __part), 0.0) AS good, \
             sum(__grown) FILTER (WHERE NOT __part) AS total FROM ({growth}) GROUP BY {} \
             HAVING sum(__grown) FILTER (WHERE NOT __part) IS NOT NULL",
            self.grouping()
        ))
    }

    fn counters(&self, total: &str, part: &Part, notes: &mut Vec<String>) -> Result<String, Missing> {
        self.shape(total)?;
        let is_known = self.known.contains_key(&part.metric);
        if !is_known && part.is_errors {
            notes.push(format!("there is no metric `{}` yet: taken for no errors", part.metric));
        }
        let good = if part.is_errors { "total - part" } else { "part" };
        let sums = match (total == part.metric, is_known || !part.is_errors) {
            (true, _) => self.of_one_counter(total, part)?,
            (false, true) => self.of_two_counters(total, part)?,
            (false, false) => {
                self.of_one_counter(total, &Part { condition: Some("false".to_owned()), ..part.clone() })?
            }
        };
        Ok(format!("SELECT time{}, {good} AS good, total FROM ({sums})", self.groups()))
    }

    fn of_one_counter(&self, total: &str, part: &Part) -> Result<String, Missing> {
        let growth = self.growth(total, part.condition.as_deref(), None)?;
        let (bucket, groups) = (self.bucket(), self.groups());
        Ok(format!(
            "SELECT {bucket}{groups}, coalesce(sum(__grown) FILTER (WHERE __part), 0.0) AS part, sum(__grown) AS total \
             FROM ({growth}) GROUP BY {}",
            self.grouping()
        ))
    }

    fn of_two_counters(&self, total: &str, part: &Part) -> Result<String, Missing> {
        let of_part = self.growth(&part.metric, None, part.condition.as_deref())?;
        let of_total = self.growth(total, None, None)?;
        let (bucket, groups) = (self.bucket(), self.groups());
        Ok(format!(
            "SELECT {bucket}{groups}, coalesce(sum(__part), 0.0) AS part, coalesce(sum(__total), 0.0) AS total FROM (\
             SELECT time{groups}, __grown AS __part, CAST(NULL AS DOUBLE) AS __total FROM ({of_part})\nUNION ALL \
             SELECT time{groups}, CAST(NULL AS DOUBLE) AS __part, __grown AS __total FROM ({of_total})) GROUP BY {}",
            self.grouping()
        ))
    }

    fn throughput(&self, metric: &str, [least, most]: [Option<f64>; 2]) -> Result<String, Missing> {
        let growth = self.growth(metric, None, None)?;
        let labels = listed(&self.shape(metric)?.labels);
        let (bucket, groups, grouping) = (self.bucket(), self.groups(), self.grouping());
        let all =
            (2..=self.shape(metric)?.labels.len() + 1).fold("1".to_owned(), |list, place| list + &format!(", {place}"));
        let is_good = bounds("sum(__rate)", [least.map(|least| (">=", least)), most.map(|most| ("<=", most))]);
        Ok(format!(
            "SELECT time{groups}, CASE WHEN {is_good} THEN 1.0 ELSE 0.0 END AS good, 1.0 AS total FROM (\
             SELECT {bucket}{labels}, sum(__grown) / sum(__elapsed) * 1e9 AS __rate FROM ({growth}) GROUP BY {all}) \
             GROUP BY {grouping}"
        ))
    }

    fn mean(&self, metric: &str, below: Option<f64>, above: Option<f64>) -> Result<String, Missing> {
        self.shape(metric)?;
        let is_good = bounds("avg(value)", [above.map(|above| (">", above)), below.map(|below| ("<", below))]);
        let (bucket, groups, within) = (self.bucket(), self.groups(), self.within(0));
        Ok(format!(
            "SELECT {bucket}{groups}, CASE WHEN {is_good} THEN 1.0 ELSE 0.0 END AS good, 1.0 AS total FROM {} \
             WHERE {within} GROUP BY {}",
            quoted(metric),
            self.grouping()
        ))
    }

    fn written(&self, text: &str) -> String {
        let [from, to] = [self.span.start, self.span.end].map(literal);
        let text = text.replace("$from", &from).replace("$to", &to);
        let (bucket, groups) = (self.bucket(), self.groups());
        format!(
            "SELECT {bucket}{groups}, sum(CAST(good AS DOUBLE)) AS good, sum(CAST(total AS DOUBLE)) AS total FROM (\n{text}\n) \
             WHERE time >= {from} AND time < {to} GROUP BY {}",
            self.grouping()
        )
    }

    /// How much each series grew from its sample before, in how many nanoseconds, and whether it fulfils `part`.
    fn growth(&self, metric: &str, part: Option<&str>, only: Option<&str>) -> Result<String, Missing> {
        let labels = listed(&self.shape(metric)?.labels);
        let series = labels.strip_prefix(", ").map(|labels| format!("PARTITION BY {labels} ")).unwrap_or_default();
        let over = format!("OVER ({series}ORDER BY time)");
        let mut within = self.within(LOOKBACK.max(self.slo.every));
        if let Some(only) = only {
            // Writing to a String cannot fail.
            let _ = write!(within, " AND (\n{only}\n)");
        }
        let part = part.map_or_else(|| "true".to_owned(), |part| format!("(\n{part}\n)"));
        Ok(format!(
            "SELECT time{labels}, __part, CASE WHEN value >= __before THEN value - __before ELSE value END AS __grown, \
             CAST(time AS BIGINT) - CAST(__since AS BIGINT) AS __elapsed FROM (\
             SELECT time{labels}, value, {part} AS __part, lag(value) {over} AS __before, lag(time) {over} AS __since \
             FROM {} WHERE {within}) WHERE __before IS NOT NULL AND time >= {}",
            quoted(metric),
            literal(self.span.start)
        ))
    }
}

/// Each quoted, with a comma before.
fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!(", {}", quoted(name))).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(at: Timestamp) -> String {
    format!("TIMESTAMP '{at}'")
}

fn bounds(what: &str, bounds: [Option<(&str, f64)>; 2]) -> String {
    let each: Vec<String> = bounds.into_iter().flatten().map(|(is, bound)| format!("{what} {is} {bound:?}")).collect();
    each.join(" AND ")
}
