//! Series as stages know them: which they are about, by name and labels, and those they make.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use serde::Deserialize;

use crate::flow::{Dropped, Sink};
use crate::model::{Batch, Pattern, Rows, SeriesDef, SeriesId};
use crate::store::Store;

/// Series by their metric and labels.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesSpec {
    /// As in `cpu_*`; any metric where there are none.
    pub metrics: Vec<Pattern>,
    /// Each must be there and fit: as in `host = "web-*"`.
    pub labels: BTreeMap<String, Pattern>,
}

impl SeriesSpec {
    pub(super) fn fits(&self, def: &SeriesDef) -> bool {
        let of_metric = self.metrics.is_empty() || self.metrics.iter().any(|pattern| pattern.fits(&def.metric));
        let of_label =
            |(name, pattern): (&String, &Pattern)| def.labels.get(name).is_some_and(|text| pattern.fits(text));
        of_metric && self.labels.iter().all(of_label)
    }

    /// Whether it says nothing, and so fits all.
    pub(super) fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.labels.is_empty()
    }
}

/// Series that stages made, of all pipelines: the others come in, and the store has their samples already.
#[derive(Default)]
pub(super) struct Made(RwLock<Vec<bool>>);

impl Made {
    fn add(&self, series: SeriesId) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if series.index() >= all.len() {
            all.resize(series.index() + 1, false);
        }
        all[series.index()] = true;
    }

    /// The samples of series that were made.
    pub fn of(&self, batch: &Batch) -> Batch {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut made = batch.part(batch.len());
        for (series, sample) in batch.iter().filter(|(series, _)| all.get(series.index()) == Some(&true)) {
            made.push(series, sample.time, sample.value);
        }
        made
    }
}

/// Puts what stages find and make into the store.
pub(super) struct StoreSink {
    pub store: Weak<Store>,
    pub made: Arc<Made>,
}

impl Sink for StoreSink {
    fn rows(&self, rows: Rows) {
        if let Some(store) = self.store.upgrade() {
            store.add_rows(rows);
        }
    }

    fn samples(&self, batch: &Batch) {
        let made = self.made.of(batch);
        if let Some(store) = self.store.upgrade().filter(|_| !made.is_empty()) {
            store.add_samples(&made);
        }
    }
}

/// The names of the store's series, and new ones.
#[derive(Clone)]
pub(super) struct Names {
    pub store: Weak<Store>,
    pub made: Arc<Made>,
}

impl Names {
    /// `None` where the store has gone.
    pub fn def(&self, series: SeriesId) -> Option<SeriesDef> {
        self.store.upgrade().map(|store| store.registry().def(series))
    }

    /// The number of a series, if it has one.
    pub fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.store.upgrade()?.registry().find(def)
    }

    /// The number of a series that a stage makes of `from`, which it may be itself.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn make(&self, def: &SeriesDef, from: Option<SeriesId>) -> Result<SeriesId, &'static str> {
        let store = self.store.upgrade().ok_or("the store is closed")?;
        let series = match store.registry().find(def) {
            Some(series) => series,
            None if def.metric.is_empty() => return Err("its new series would have no name"),
            None if def.check_size().is_err() => return Err("its new series would be too large"),
            None if store.is_crowded() => return Err("there is no memory for new series"),
            None => store.registry().intern(def),
        };
        self.remember(series, from);
        Ok(series)
    }

    /// Notes a series as one that was made of `from`.
    pub fn remember(&self, series: SeriesId, from: Option<SeriesId>) {
        if from != Some(series) {
            self.made.add(series);
        }
    }
}

/// Counts a sample that is not handed on.
pub(super) fn count(dropped: &mut Dropped, reason: &'static str, samples: usize) {
    if samples > 0 {
        *dropped.entry(reason).or_default() += samples as u64;
    }
}
