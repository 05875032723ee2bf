//! What is held of a timer, histogram or distribution: sums since the start, and the values of this interval.

use crate::flow::Refusal;
use crate::ingest::{About, Gather};
use crate::model::{Kind, Timestamp};
use crate::stats::Sketch;

/// The quantiles that are told.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.9, "0.9"), (0.95, "0.95"), (0.99, "0.99")];

/// Values that are told by how they are spread.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Since the series was first seen.
    count: f64,
    sum: f64,
    interval: Interval,
}

#[derive(Debug, Default)]
struct Interval {
    count: f64,
    sum: f64,
    least: f64,
    most: f64,
    sketch: Sketch,
}

/// A series on its way out.
pub(super) struct Told<'t> {
    pub metric: &'t str,
    pub labels: &'t [(&'t str, &'t str)],
    /// Unit of the values.
    pub unit: &'static str,
    /// Of the samples of single values.
    pub kind: Kind,
}

impl Spread {
    /// Takes a value that stands for `weight` of its kind.
    pub fn add(&mut self, value: f64, weight: f64) {
        let now = &mut self.interval;
        let is_first = now.count == 0.0;
        now.least = if is_first { value } else { now.least.min(value) };
        now.most = if is_first { value } else { now.most.max(value) };
        now.count += weight;
        now.sum += value * weight;
        now.sketch.add_many(value, weight.round() as u64);
    }

    /// The sum since the series was first seen, were these added.
    pub fn sum_with(&self, added: impl Iterator<Item = f64>) -> f64 {
        self.sum + added.fold(self.interval.sum, |sum, value| sum + value)
    }

    /// Hands on what there is and begins a new interval. Where the series is new, its sums stood at zero at `before`.
    pub fn tell(
        &mut self,
        told: &Told<'_>,
        now: Timestamp,
        before: Option<Timestamp>,
        gather: &mut Gather<'_>,
    ) -> Result<(), Refusal> {
        let interval = std::mem::take(&mut self.interval);
        self.count += interval.count;
        self.sum += interval.sum;
        let sums = [("_count", "", self.count), ("_sum", told.unit, self.sum)];
        for (suffix, unit, value) in sums {
            let about = About { kind: Some(Kind::Counter), unit, help: "" };
            let name = format!("{}{suffix}", told.metric);
            if let Some(before) = before {
                gather.sample_about(0, &name, told.labels, about, before, 0.0)?;
            }
            gather.sample_about(0, &name, told.labels, about, now, value)?;
        }
        if interval.count > 0.0 { interval.tell(told, now, gather) } else { Ok(()) }
    }

    /// Names and labels of all its series, for their end.
    pub fn series(told: &Told<'_>, mut each: impl FnMut(&str, &[(&str, &str)])) {
        for suffix in ["_count", "_sum", "_min", "_max", ""] {
            each(&format!("{}{suffix}", told.metric), told.labels);
        }
        for (_, quantile) in QUANTILES {
            each(told.metric, &with_quantile(told.labels, quantile));
        }
    }
}

impl Interval {
    fn tell(self, told: &Told<'_>, now: Timestamp, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let about = About { kind: Some(told.kind), unit: told.unit, help: "" };
        for (share, quantile) in QUANTILES {
            // The middle of a bin may lie beyond what came.
            let value = self.sketch.quantile(share).unwrap_or(self.most).clamp(self.least, self.most);
            gather.sample_about(0, told.metric, &with_quantile(told.labels, quantile), about, now, value)?;
        }
        let about = About { kind: Some(Kind::Gauge), ..about };
        for (suffix, value) in [("_min", self.least), ("_max", self.most)] {
            gather.sample_about(0, &format!("{}{suffix}", told.metric), told.labels, about, now, value)?;
        }
        let mut sketch = Vec::new();
        self.sketch.encode(&mut sketch);
        let about = About { kind: None, unit: told.unit, help: "" };
        gather.histogram(0, told.metric, told.labels, about, now, self.count, self.sum, sketch)
    }
}

fn with_quantile<'t>(labels: &[(&'t str, &'t str)], quantile: &'static str) -> Vec<(&'t str, &'t str)> {
    labels.iter().copied().chain([("quantile", quantile)]).collect()
}
