//! The series themselves: each is numbers of texts, side by side with the others.
//!
//! ```text
//! metric_of  number of the metric               4 bytes a series
//! about_of   number of kind, unit, help, …      4 bytes a series
//! ends       where its labels end in `pairs`    4 bytes a series
//! pairs      numbers of its labels, by name     4 bytes a label
//! ids        hash of metric and labels → id     about 8 bytes a series
//! ```

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::described::{About, DescribedMetrics};
use super::labels::{LabelStats, Labels};
use super::metrics::{MetricStats, Metrics};
use super::texts::{Numbered, Texts, table_bytes};
use crate::model::{self, Description, Kind, SeriesDef, SeriesId};

/// All series, with all that they are made of.
#[derive(Default)]
pub(super) struct AllSeries {
    pub texts: Texts,
    pub labels: Labels,
    pub metrics: Metrics,
    pub described: DescribedMetrics,
    abouts: Numbered<About>,
    metric_of: Vec<u32>,
    about_of: Vec<u32>,
    ends: Vec<u32>,
    pairs: Vec<u32>,
    ids: HashTable<u32>,
    hasher: FixedState,
}

impl AllSeries {
    pub fn len(&self) -> usize {
        self.metric_of.len()
    }

    pub fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        let metric = self.metrics.find(self.texts.find(&def.metric)?)?;
        let pair = |(name, value): (&str, &str)| self.labels.find(self.texts.find(name)?, self.texts.find(value)?);
        let pairs = def.labels.iter().map(pair).collect::<Option<Vec<u32>>>()?;
        self.find_numbers(metric, &pairs)
    }

    fn find_numbers(&self, metric: u32, pairs: &[u32]) -> Option<SeriesId> {
        let hash = self.hasher.hash_one((metric, pairs));
        let same = |&id: &u32| self.metric_of[id as usize] == metric && pairs_of(&self.ends, &self.pairs, id) == pairs;
        self.ids.find(hash, same).map(|&id| SeriesId(id))
    }

    /// Adds a series that [`AllSeries::find`] does not find.
    pub fn insert(&mut self, def: &SeriesDef) -> SeriesId {
        let id = u32::try_from(self.len()).expect("fewer than 2^32 series");
        let about = self.about(def);
        let metric_text = self.texts.intern(&def.metric);
        let start = self.pairs.len();
        for (name, value) in def.labels.iter() {
            let (name, value) = (self.texts.intern(name), self.texts.intern(value));
            let pair = self.labels.intern(name, value);
            self.pairs.push(pair);
        }
        let metric = self.metrics.intern(metric_text);
        self.metric_of.push(metric);
        self.about_of.push(self.abouts.intern(about).0);
        self.ends.push(u32::try_from(self.pairs.len()).expect("fewer than 2^32 labels of series"));
        let own = &self.pairs[start..];
        own.iter().for_each(|&pair| self.labels.add(pair, id, metric));
        self.metrics.add(metric, id, own.iter().map(|&pair| self.labels.pair(pair).name));
        self.add_measurement(metric, def);
        let hash = self.hasher.hash_one((metric, &self.pairs[start..]));
        let (hasher, metric_of, ends, pairs) = (&self.hasher, &self.metric_of, &self.ends, &self.pairs);
        let rehash = |&id: &u32| hasher.hash_one((metric_of[id as usize], pairs_of(ends, pairs, id)));
        self.ids.insert_unique(hash, id, rehash);
        SeriesId(id)
    }

    fn about(&mut self, def: &SeriesDef) -> About {
        let measurement_len = def.measurement_len;
        let described = self.texts.find(&def.metric).and_then(|metric| self.described.get(metric));
        if let Some(about) = described {
            return About { measurement_len, ..about };
        }
        let (unit, help) = (self.texts.intern(&def.unit), self.texts.intern(&def.help));
        About { kind: def.kind as u8, measurement_len, unit, help }
    }

    pub fn is_described(&self, metric: &str, about: &Description) -> bool {
        let known = self.texts.find(metric).and_then(|metric| self.described.get(metric));
        known.is_some_and(|known| self.description(known) == *about)
    }

    /// Notes what is said of a metric, and says so of all its series.
    pub fn describe(&mut self, metric: &str, about: &Description) {
        let text = self.texts.intern(metric);
        let (unit, help) = (self.texts.intern(&about.unit), self.texts.intern(&about.help));
        let said = About { kind: about.kind as u8, measurement_len: 0, unit, help };
        if !self.described.set(text, said) {
            return;
        }
        let Some(metric) = self.metrics.find(text) else { return };
        let series: Vec<u32> = self.metrics.series_of(metric).iter().collect();
        for id in series {
            let measurement_len = self.about_of(SeriesId(id)).measurement_len;
            self.about_of[id as usize] = self.abouts.intern(About { measurement_len, ..said }).0;
        }
    }

    pub fn description(&self, about: About) -> Description {
        let text = |text| Box::from(self.texts.get(text));
        Description { kind: kind(about), unit: text(about.unit), help: text(about.help) }
    }

    fn add_measurement(&mut self, metric: u32, def: &SeriesDef) {
        let length = def.measurement_len;
        if length == 0 || self.metrics.is_measured(metric, length) {
            return;
        }
        if let Some(measurement) = def.metric.get(..usize::from(length)) {
            let measurement = self.texts.intern(measurement);
            self.metrics.measured(metric, length, measurement);
        }
    }

    /// Numbers of its labels, by name.
    pub fn pairs(&self, id: SeriesId) -> &[u32] {
        pairs_of(&self.ends, &self.pairs, id.0)
    }

    /// Number of its metric.
    pub fn metric(&self, id: SeriesId) -> u32 {
        self.metric_of[id.index()]
    }

    pub fn metric_text(&self, id: SeriesId) -> &str {
        self.texts.get(self.metrics.name(self.metric(id)))
    }

    fn about_of(&self, id: SeriesId) -> About {
        self.abouts.get(self.about_of[id.index()])
    }

    pub fn kind(&self, id: SeriesId) -> Kind {
        kind(self.about_of(id))
    }

    /// The number of the label of name number `name`.
    pub fn pair_of(&self, id: SeriesId, name: u32) -> Option<u32> {
        self.pairs(id).iter().copied().find(|&pair| self.labels.pair(pair).name == name)
    }

    pub fn def(&self, id: SeriesId) -> SeriesDef {
        let about = self.about_of(id);
        let pair = |&pair: &u32| {
            let pair = self.labels.pair(pair);
            (self.texts.get(self.labels.name(pair.name)), self.texts.get(pair.value))
        };
        SeriesDef {
            metric: self.metric_text(id).into(),
            labels: model::Labels::new(self.pairs(id).iter().map(pair)),
            kind: self.kind(id),
            unit: self.texts.get(about.unit).into(),
            help: self.texts.get(about.help).into(),
            measurement_len: about.measurement_len,
        }
    }

    pub fn label_stats(&self) -> Vec<LabelStats> {
        self.labels.stats(&self.texts, |metric| self.metrics.name(metric))
    }

    /// What there is of a metric, by its number.
    pub fn metric_stats(&self, metric: u32) -> MetricStats {
        let series = self.metrics.series_of(metric);
        let newest = self.def(SeriesId(series.last()));
        let names = self.metrics.labels_of(metric).iter();
        let mut labels: Vec<String> = names.map(|&name| self.texts.get(self.labels.name(name)).to_owned()).collect();
        labels.sort_unstable();
        MetricStats {
            example: newest.to_string(),
            metric: newest.metric.into(),
            kind: newest.kind,
            unit: newest.unit.into(),
            help: newest.help.into(),
            series: u64::from(series.len()),
            labels,
        }
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        let columns = [&self.metric_of, &self.about_of, &self.ends, &self.pairs];
        self.texts.bytes()
            + self.labels.bytes()
            + self.metrics.bytes()
            + self.abouts.bytes()
            + self.described.bytes()
            + columns.iter().map(|column| column.capacity() * 4).sum::<usize>()
            + table_bytes(self.ids.capacity())
    }
}

fn kind(about: About) -> Kind {
    Kind::ALL.into_iter().find(|known| *known as u8 == about.kind).unwrap_or_default()
}

fn pairs_of<'p>(ends: &[u32], pairs: &'p [u32], id: u32) -> &'p [u32] {
    let at = id as usize;
    let start = at.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &pairs[start..ends[at] as usize]
}
