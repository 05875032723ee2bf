//! `relabel`: series under other names, by Prometheus' rules; the metric is the label `__name__`. Labels that begin with
//! `__` are there for the rules alone.
//!
//! Several series may become one. What is then not later than the last of the new series is handed on as late.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;

use super::series::{Names, count};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Told};
use crate::model::relabel::{LabelSet, NAME, Relabel, RelabelSpec, relabel, rules};
use crate::model::{Batch, Labels, Sample, SeriesDef, SeriesId, Span};

/// What begins with it is no label of a series.
const RESERVED: &str = "__";
const BY_RULE: &str = "dropped by a rule";

/// `apply.relabel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesSpec {
    /// Followed in turn.
    pub rules: Vec<RelabelSpec>,
}

impl RulesSpec {
    pub(super) fn fault(&self) -> Option<String> {
        if self.rules.is_empty() {
            return Some(
                "rules has none: write one, as in rules = [{ action = \"labeldrop\", regex = \"pod\" }]".into(),
            );
        }
        rules(&self.rules).err().map(|told| format!("rules: {told}"))
    }
}

/// What became of which series: shared by the shards, and by who asks what was there before.
pub(super) struct Mapping {
    rules: Vec<Relabel>,
    names: Names,
    /// By new series those that became it.
    from: RwLock<BTreeMap<u32, Vec<u32>>>,
}

impl Mapping {
    pub fn new(spec: &RulesSpec, names: Names) -> Self {
        // Rules at fault were told before.
        Mapping { rules: rules(&spec.rules).unwrap_or_default(), names, from: RwLock::default() }
    }

    /// The series that one becomes.
    ///
    /// # Errors
    /// Why there is none.
    fn find(&self, series: SeriesId) -> Result<SeriesId, &'static str> {
        let def = self.names.def(series).ok_or("the store is closed")?;
        let def = relabelled(&self.rules, def).ok_or(BY_RULE)?;
        let new = self.names.make(&def, Some(series))?;
        self.note(series.0, new.0);
        Ok(new)
    }

    fn note(&self, series: u32, new: u32) {
        let mut from = self.from.write().unwrap_or_else(PoisonError::into_inner);
        let known = from.entry(new).or_default();
        if let Err(at) = known.binary_search(&series) {
            known.insert(at, series);
        }
    }

    /// Those that became a series.
    fn from(&self, new: SeriesId) -> Vec<u32> {
        let from = self.from.read().unwrap_or_else(PoisonError::into_inner);
        from.get(&new.0).cloned().unwrap_or_default()
    }
}

fn relabelled(rules: &[Relabel], def: SeriesDef) -> Option<SeriesDef> {
    let mut set = LabelSet::default();
    set.push(NAME, &*def.metric);
    def.labels.iter().for_each(|(name, value)| set.push(name, value));
    if !relabel(rules, &mut set) {
        return None;
    }
    let metric: Box<str> = set.get(NAME).into();
    set.retain(|name| !name.starts_with(RESERVED));
    let labels = Labels::new(set.to_owned_pairs());
    let measurement_len = if metric == def.metric { def.measurement_len } else { 0 };
    Some(SeriesDef { metric, labels, measurement_len, kind: def.kind, unit: def.unit, help: def.help })
}

/// The stage.
pub(super) struct Relabelling {
    mapping: Arc<Mapping>,
    ways: Vec<Option<Result<SeriesId, &'static str>>>,
    told: Told,
    dropped: Dropped,
}

impl Relabelling {
    pub fn new(mapping: Arc<Mapping>) -> Self {
        Relabelling { mapping, ways: Vec::new(), told: Told::default(), dropped: Dropped::new() }
    }

    #[inline]
    fn way(&mut self, series: SeriesId) -> Result<SeriesId, &'static str> {
        if let Some(Some(way)) = self.ways.get(series.index()) {
            return *way;
        }
        let way = self.mapping.find(series);
        // For a new series there may be room later.
        if way.is_ok() || way == Err(BY_RULE) {
            self.keep(series, way);
        }
        way
    }

    fn keep(&mut self, series: SeriesId, way: Result<SeriesId, &'static str>) {
        if series.index() >= self.ways.len() {
            self.ways.resize(series.index() + 1, None);
        }
        self.ways[series.index()] = Some(way);
    }

    fn renamed(&mut self, batch: &Batch) -> Batch {
        let mut renamed = batch.part(batch.len());
        for (series, sample) in batch.iter() {
            match self.way(series) {
                Ok(new) => renamed.push(new, sample.time, sample.value),
                Err(reason) => count(&mut self.dropped, reason, 1),
            }
        }
        renamed
    }
}

impl Stage for Relabelling {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let renamed = self.renamed(batch);
        let (new, late) = self.told.divide(&renamed);
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.late(Arc::new(self.renamed(batch)));
    }

    /// By series and time; what would come late is told in its turn.
    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut all: Vec<(SeriesId, Sample)> = Vec::with_capacity(batch.len());
        for (series, sample) in batch.iter() {
            let new = self.way(series).ok().filter(|new| sample.time.nanos() > self.told.last(*new));
            all.extend(new.map(|new| (new, sample)));
        }
        all.sort_by_key(|(series, sample)| (*series, sample.time));
        all.dedup_by_key(|(series, sample)| (*series, sample.time));
        let mut ahead = batch.part(all.len());
        all.into_iter().for_each(|(series, sample)| ahead.push(series, sample.time, sample.value));
        out.ahead(Arc::new(ahead));
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        let mut state = Writer::default();
        state.bytes(&self.told.state());
        for (series, way) in self.ways.iter().enumerate() {
            if let Some(Ok(new)) = way {
                state.u32(series as u32);
                state.u32(new.0);
            }
        }
        state.0
    }

    /// New series are of no shard: each takes up what all told.
    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        let mut read = || {
            let mut from = Reader(state);
            self.told.restore(from.bytes()?, |_| true)?;
            while !from.0.is_empty() {
                let (series, new) = (from.u32()?, from.u32()?);
                if shard.has(series) {
                    self.mapping.names.remember(SeriesId(new), Some(SeriesId(series)));
                    self.mapping.note(series, new);
                    self.keep(SeriesId(series), Ok(SeriesId(new)));
                }
            }
            Some(())
        };
        read().is_some()
    }

    fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

/// What was there, under its new names.
pub(super) struct Renamed {
    pub inner: Arc<dyn History>,
    pub mapping: Arc<Mapping>,
}

struct RenamedPast {
    inner: Box<dyn Past>,
    mapping: Arc<Mapping>,
}

impl History for Renamed {
    fn open(&self) -> Box<dyn Past> {
        Box::new(RenamedPast { inner: self.inner.open(), mapping: self.mapping.clone() })
    }
}

impl Past for RenamedPast {
    fn series(&self, span: Span) -> Vec<SeriesId> {
        let mut all: Vec<_> = self.inner.series(span).into_iter().filter_map(|id| self.mapping.find(id).ok()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let from = self.mapping.from(series);
        if let [one] = from[..] {
            return self.inner.read(SeriesId(one), span, take);
        }
        let mut all: Vec<Sample> = Vec::new();
        let read = |&one: &u32| self.inner.read(SeriesId(one), span, &mut |piece| all.extend_from_slice(piece));
        let is_read = from.iter().all(read);
        all.sort_by_key(|sample| sample.time);
        all.dedup_by_key(|sample| sample.time);
        take(&all);
        is_read
    }

    fn oldest(&self, series: SeriesId) -> i64 {
        let from = self.mapping.from(series);
        from.iter().map(|&one| self.inner.oldest(SeriesId(one))).max().unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, spec};

    const RULES: &str = "rules = [
        { action = 'drop', source_labels = ['env'], regex = 'test' },
        { source_labels = ['__name__'], regex = 'old_(.*)', target_label = '__name__', replacement = 'new_$1' },
        { action = 'labeldrop', regex = 'pod' },
    ]";

    #[test]
    fn several_series_become_one_in_the_order_of_time() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Relabel(spec(RULES)), None);
        run.batch(&[("old_m{pod=a}", 1, 1.0), ("old_m{pod=b}", 1, 2.0), ("m{}", 5, 5.0), ("m{env=test}", 5, 5.0)]);
        run.resume();
        run.batch(&[("old_m{pod=b}", 3, 3.0), ("old_m{pod=a}", 2, 4.0)]);
        run.ahead(&[("old_m{pod=b}", 9, 1.0), ("old_m{pod=a}", 8, 2.0), ("old_m{pod=a}", 3, 2.0)]);
        run.late(&[("old_m{pod=a}", 1, 7.0)]);
        assert_eq!(
            run.told(),
            [
                "batch new_m{}@1=1 m{}@5=5",
                "late new_m{}@1=2",
                "batch new_m{}@3=3",
                "late new_m{}@2=4",
                "ahead new_m{}@8=2 new_m{}@9=1",
                "late new_m{}@1=7",
            ]
        );
        assert_eq!(run.dropped_before, Dropped::from([(BY_RULE, 1)]));
    }

    #[test]
    fn what_was_there_is_found_under_its_new_name_by_those_that_go_on_too() {
        let bench = Bench::new();
        let memory = bench.memory(&[("old_m{pod=a}", 1, 1.0), ("old_m{pod=b}", 2, 2.0), ("m{}", 1, 5.0)]);
        let mut run = bench.run(&Apply::Relabel(spec(RULES)), Some(memory));
        run.batch(&[("old_m{pod=a}", 1, 1.0), ("old_m{pod=b}", 2, 2.0), ("m{}", 1, 5.0)]);
        run.resume();
        run.resume();
        assert_eq!(run.was("new_m{}"), [(1, 1.0), (2, 2.0)]);
        assert_eq!(run.was("m{}"), [(1, 5.0)]);
        assert_eq!(run.was("old_m{pod=a}"), []);
    }

    #[test]
    fn rules_that_cannot_be_followed_are_faults() {
        for (text, told) in [
            ("rules = []", "rules has none"),
            ("rules = [{ regex = '(', target_label = 'a' }]", "rules: rule 1: regex `(` cannot be read"),
        ] {
            let fault = spec::<RulesSpec>(text).fault();
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(told)), "{fault:?}");
        }
    }
}
