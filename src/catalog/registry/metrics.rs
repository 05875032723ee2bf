//! Metrics: the series of each, the label names they have, and the measurements that sources made them from.

use hashbrown::HashMap;

use super::postings::Postings;
use super::texts::{Numbered, Text};

/// All metrics.
#[derive(Default)]
pub(super) struct Metrics {
    names: Numbered<Text>,
    of: Vec<Metric>,
    /// The metrics of each measurement.
    measurements: HashMap<Text, Vec<u32>>,
    heap: usize,
}

struct Metric {
    series: Postings,
    /// Numbers of label names that some series of it has.
    labels: Vec<u32>,
    /// What its first series said.
    measurement_len: u16,
}

/// What there is of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricStats {
    pub metric: String,
    pub kind: crate::model::Kind,
    pub unit: String,
    pub help: String,
    pub series: u64,
    /// Names of labels that some series of it has, by name.
    pub labels: Vec<String>,
    /// Its newest series.
    pub example: String,
}

impl Metrics {
    pub fn find(&self, name: Text) -> Option<u32> {
        self.names.find(name)
    }

    /// The number that a metric has, or is given with its first series.
    pub fn intern(&mut self, name: Text) -> u32 {
        self.names.intern(name).0
    }

    pub fn name(&self, metric: u32) -> Text {
        self.names.get(metric)
    }

    pub fn len(&self) -> usize {
        self.of.len()
    }

    pub fn series_of(&self, metric: u32) -> &Postings {
        &self.of[metric as usize].series
    }

    pub fn labels_of(&self, metric: u32) -> &[u32] {
        &self.of[metric as usize].labels
    }

    pub fn measurements(&self) -> impl Iterator<Item = Text> {
        self.measurements.keys().copied()
    }

    pub fn of_measurement(&self, measurement: Text) -> &[u32] {
        self.measurements.get(&measurement).map_or(&[], |metrics| metrics)
    }

    /// Notes that `series`, which is new, is of `metric` and has labels of the names given.
    pub fn add(&mut self, metric: u32, series: u32, names: impl Iterator<Item = u32>) {
        match self.of.get_mut(metric as usize) {
            Some(of) => self.heap += of.series.push(series),
            None => self.of.push(Metric { series: Postings::new(series), labels: Vec::new(), measurement_len: 0 }),
        }
        let of = &mut self.of[metric as usize];
        let before = of.labels.capacity();
        for name in names {
            if let Err(place) = of.labels.binary_search(&name) {
                of.labels.insert(place, name);
            }
        }
        self.heap += (of.labels.capacity() - before) * 4;
    }

    /// Notes that a series of `metric` came as a field of `measurement`, whose name is `length` bytes of the metric's.
    pub fn measured(&mut self, metric: u32, length: u16, measurement: Text) {
        let of = &mut self.of[metric as usize];
        if of.measurement_len == length {
            return;
        }
        if of.measurement_len == 0 {
            of.measurement_len = length;
        }
        let metrics = self.measurements.entry(measurement).or_default();
        if !metrics.contains(&metric) {
            let before = metrics.capacity();
            metrics.push(metric);
            self.heap += (metrics.capacity() - before) * 4;
        }
    }

    /// Whether [`Metrics::measured`] has this from the metric already, told without a look at the measurement.
    pub fn is_measured(&self, metric: u32, length: u16) -> bool {
        self.of[metric as usize].measurement_len == length
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        self.names.bytes()
            + self.of.capacity() * size_of::<Metric>()
            + self.measurements.capacity() / 7 * 8 * (size_of::<(Text, Vec<u32>)>() + 1)
            + self.heap
    }
}
