//! All series in memory, as numbers of texts: a million take some 50 to 150 bytes each, by how many labels are theirs
//! alone. From each metric and label a list leads to the series that have it.
//!
//! One lock: looking up takes it shared, a new series takes it alone, both for about a microsecond. What walks over many
//! series takes it anew every few thousand ([`STRETCH`]), so nobody who brings a new series waits for a query.

mod described;
mod labels;
mod metrics;
mod postings;
mod series;
mod set;
#[cfg(test)]
mod tests;
mod texts;

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashMap;

use crate::model::{Description, Kind, SeriesDef, SeriesId};
use series::AllSeries;

pub use labels::LabelStats;
pub use metrics::MetricStats;
pub use set::SeriesSet;

/// Series, metrics or values that are walked over before others get the lock.
const STRETCH: usize = 4096;

/// Every series of the store. Numbers are dense and never given twice.
#[derive(Default)]
pub struct Registry {
    all: RwLock<AllSeries>,
    committed: AtomicUsize,
}

/// What every series has one text of, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key<'n> {
    Metric,
    Label(&'n str),
}

/// The texts of some series under a key, each different one kept once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyTexts {
    pub values: Vec<String>,
    /// Place in `values`, a series each; `None` where it has no such label.
    pub keys: Vec<Option<i32>>,
}

/// What came as fields of one measurement.
#[derive(Debug, PartialEq, Eq)]
pub struct Measurement {
    /// By name.
    pub fields: Vec<String>,
    /// Names of the labels of their metrics, by name.
    pub labels: Vec<String>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, AllSeries> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a series, if it has one.
    pub fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.read().find(def)
    }

    /// The number of a series, given now if it has none.
    pub fn intern(&self, def: impl Borrow<SeriesDef>) -> SeriesId {
        self.intern_new(def.borrow()).0
    }

    /// The same, and whether it was given now.
    pub fn intern_new(&self, def: &SeriesDef) -> (SeriesId, bool) {
        if let Some(id) = self.find(def) {
            return (id, false);
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        match all.find(def) {
            Some(id) => (id, false),
            None => (all.insert(def), true),
        }
    }

    pub fn def(&self, id: SeriesId) -> SeriesDef {
        self.read().def(id)
    }

    /// Definitions by number. Each is made anew: ask for some thousands at a time.
    pub fn defs(&self, ids: Range<usize>) -> Vec<SeriesDef> {
        let mut defs = Vec::with_capacity(ids.len());
        for first in ids.clone().step_by(STRETCH) {
            let all = self.read();
            let last = ids.end.min(first + STRETCH);
            defs.extend((first as u32..last as u32).map(|id| all.def(SeriesId(id))));
        }
        defs
    }

    /// Takes what is said of a metric: it counts for all its series, those to come among them.
    pub fn describe(&self, metric: &str, about: &Description) {
        if self.read().is_described(metric, about) {
            return;
        }
        self.all.write().unwrap_or_else(PoisonError::into_inner).describe(metric, about);
    }

    /// How many metrics are described.
    pub fn described(&self) -> usize {
        self.read().described.len()
    }

    /// Metrics that were described since this was asked last, or all that are.
    pub(super) fn take_described(&self, all_of_them: bool) -> Vec<(String, Description)> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let places = all.described.take_new(all_of_them);
        places.into_iter().map(|(metric, about)| (all.texts.get(metric).to_owned(), all.description(about))).collect()
    }

    /// A registry of the series below `len` alone.
    pub fn first(&self, len: usize) -> Registry {
        let first = Registry::default();
        for (metric, about) in self.take_described(true) {
            first.describe(&metric, &about);
        }
        for from in (0..len).step_by(STRETCH) {
            self.defs(from..len.min(from + STRETCH)).iter().for_each(|def| {
                first.intern(def);
            });
        }
        first
    }

    pub fn kind(&self, id: SeriesId) -> Kind {
        self.read().kind(id)
    }

    pub fn metric(&self, id: SeriesId) -> String {
        self.read().metric_text(id).to_owned()
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many, from the first, the catalog has on disk.
    pub fn committed(&self) -> usize {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn set_committed(&self, len: usize) {
        self.committed.store(len, Ordering::Release);
    }

    /// Bytes of memory it takes, spare room included.
    pub fn bytes(&self) -> usize {
        self.read().bytes()
    }

    /// The series in the order of files: by metric, then number.
    pub fn file_order(&self, series: impl IntoIterator<Item = SeriesId>) -> Vec<(Arc<str>, SeriesId)> {
        let mut numbered: Vec<(u32, SeriesId)> = series.into_iter().map(|id| (0, id)).collect();
        for stretch in numbered.chunks_mut(STRETCH) {
            let all = self.read();
            stretch.iter_mut().for_each(|(metric, id)| *metric = all.metric(*id));
        }
        numbered.sort_unstable();
        let runs = numbered.chunk_by(|a, b| a.0 == b.0);
        let mut runs: Vec<_> = runs.map(|run| (Arc::<str>::from(self.metric(run[0].1)), run)).collect();
        runs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        runs.iter().flat_map(|(metric, run)| run.iter().map(|&(_, id)| (metric.clone(), id))).collect()
    }
}

/// What queries ask.
impl Registry {
    /// Names of labels, by name; of one metric's series where one is given.
    pub fn label_names(&self, metric: Option<&str>) -> Vec<String> {
        let all = self.read();
        let text = |name| all.texts.get(name).to_owned();
        let mut names: Vec<String> = match metric {
            None => all.labels.names().map(text).collect(),
            Some(metric) => all.metric_number(metric).map_or_else(Vec::new, |metric| {
                all.metrics.labels_of(metric).iter().map(|&name| text(all.labels.name(name))).collect()
            }),
        };
        names.sort_unstable();
        names
    }

    pub fn has_metric(&self, metric: &str) -> bool {
        self.read().metric_number(metric).is_some()
    }

    /// Names of what series came as fields of.
    pub fn measurements(&self) -> Vec<String> {
        let all = self.read();
        all.metrics.measurements().map(|name| all.texts.get(name).to_owned()).collect()
    }

    /// The fields and labels of a measurement; `None` where no series came as a field of it.
    pub fn measurement(&self, name: &str) -> Option<Measurement> {
        let all = self.read();
        let metrics = all.metrics.of_measurement(all.texts.find(name)?);
        let field = |&metric: &u32| all.texts.get(all.metrics.name(metric)).get(name.len() + 1..).map(str::to_owned);
        let mut fields: Vec<String> = metrics.iter().filter_map(field).collect();
        let mut labels: Vec<u32> = metrics.iter().flat_map(|&metric| all.metrics.labels_of(metric)).copied().collect();
        labels.sort_unstable();
        labels.dedup();
        let mut labels: Vec<String> =
            labels.into_iter().map(|name| all.texts.get(all.labels.name(name)).to_owned()).collect();
        fields.sort_unstable();
        labels.sort_unstable();
        (!fields.is_empty()).then_some(Measurement { fields, labels })
    }

    /// A number for each series that those with the same labels share, whatever their metric; in the order of first sight.
    pub fn alike(&self, series: &[SeriesId]) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(series.len());
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        for stretch in series.chunks(STRETCH) {
            let all = self.read();
            for &id in stretch {
                let (pairs, next) = (all.pairs(id), known.len() as u32);
                let number = match known.get(pairs) {
                    Some(&number) => number,
                    None => *known.entry(pairs.to_vec()).or_insert(next),
                };
                numbers.push(number);
            }
        }
        numbers
    }

    /// How many different texts there are under a key.
    pub fn distinct(&self, key: Key<'_>) -> usize {
        let all = self.read();
        match key {
            Key::Metric => all.metrics.len(),
            Key::Label(name) => all.name_number(name).map_or(0, |name| all.labels.pairs_of(name).len()),
        }
    }

    /// Some of the texts under a key with their numbers, in order of first sight, from place `from` on; none at the end.
    pub fn values(&self, key: Key<'_>, from: usize) -> Vec<(u32, String)> {
        let all = self.read();
        match key {
            Key::Metric => {
                let metrics = (from..all.metrics.len().min(from + STRETCH)).map(|metric| metric as u32);
                metrics.map(|metric| (metric, all.texts.get(all.metrics.name(metric)).to_owned())).collect()
            }
            Key::Label(name) => {
                let pairs = all.name_number(name).map_or(&[][..], |name| all.labels.pairs_of(name));
                let pairs = pairs.get(from..).unwrap_or(&[]).iter().take(STRETCH);
                pairs.map(|&pair| (pair, all.texts.get(all.labels.pair(pair).value).to_owned())).collect()
            }
        }
    }

    /// All of them.
    pub fn all_values<'r>(&'r self, key: Key<'r>) -> impl Iterator<Item = (u32, String)> + 'r {
        let mut from = 0;
        let stretches = std::iter::from_fn(move || {
            let values = self.values(key, from);
            from += values.len();
            (!values.is_empty()).then_some(values)
        });
        stretches.flatten()
    }

    /// The number of a text under a key.
    pub fn value(&self, key: Key<'_>, text: &str) -> Option<u32> {
        let all = self.read();
        match key {
            Key::Metric => all.metric_number(text),
            Key::Label(name) => all.labels.find(all.texts.find(name)?, all.texts.find(text)?),
        }
    }

    /// Adds the series that have one of the texts with these numbers under a key.
    pub fn select(&self, key: Key<'_>, numbers: &[u32], into: &mut SeriesSet) {
        for stretch in numbers.chunks(STRETCH) {
            let all = self.read();
            for &number in stretch {
                let postings = match key {
                    Key::Metric => all.metrics.series_of(number),
                    Key::Label(_) => all.labels.series_of(number),
                };
                postings.iter().for_each(|series| into.insert(series));
            }
        }
    }

    /// The texts of some series under a key.
    pub fn texts(&self, key: Key<'_>, series: &[SeriesId]) -> KeyTexts {
        let mut found = KeyTexts { values: Vec::new(), keys: Vec::with_capacity(series.len()) };
        let mut places: HashMap<u32, i32> = HashMap::new();
        for stretch in series.chunks(STRETCH) {
            let all = self.read();
            let name = if let Key::Label(name) = key { all.name_number(name) } else { None };
            for &id in stretch {
                let number = match key {
                    Key::Metric => Some(all.metric(id)),
                    Key::Label(_) => name.and_then(|name| all.pair_of(id, name)),
                };
                found.keys.push(number.map(|number| {
                    *places.entry(number).or_insert_with(|| {
                        let text = match key {
                            Key::Metric => all.metrics.name(number),
                            Key::Label(_) => all.labels.pair(number).value,
                        };
                        found.values.push(all.texts.get(text).to_owned());
                        found.values.len() as i32 - 1
                    })
                }));
            }
        }
        found
    }

    /// What there is of every label name, from counts kept as series came.
    pub fn label_stats(&self) -> Vec<LabelStats> {
        self.read().label_stats()
    }

    /// What there is of every metric.
    pub fn metric_stats(&self) -> Vec<MetricStats> {
        let len = self.distinct(Key::Metric);
        let mut stats = Vec::with_capacity(len);
        for first in (0..len).step_by(STRETCH) {
            let all = self.read();
            stats.extend((first..len.min(first + STRETCH)).map(|metric| all.metric_stats(metric as u32)));
        }
        stats
    }
}

impl AllSeries {
    fn metric_number(&self, metric: &str) -> Option<u32> {
        self.metrics.find(self.texts.find(metric)?)
    }

    fn name_number(&self, name: &str) -> Option<u32> {
        self.labels.find_name(self.texts.find(name)?)
    }
}
