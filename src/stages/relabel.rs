//! `relabel`: series under other names, by Prometheus' rules; the metric is the label `__name__`. Labels that begin with
//! `__` are there for the rules alone.
//!
//! Several series may become one: a sample waits until its source is past its time, so that those of the new series go on in
//! the order of time, however they came. Of several for one time that of the first series by name counts. What comes when
//! its source is past it is told at once, and late where the new series is past it, too.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;

use super::held::BEFORE_ALL;
use super::series::{Names, count};
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Told, Watermark};
use crate::model::relabel::{LabelSet, NAME, Relabel, RelabelSpec, relabel, rules};
use crate::model::{Batch, Labels, Sample, SeriesDef, SeriesId, Span, Timestamp};

/// What begins with it is no label of a series.
const RESERVED: &str = "__";
const BY_RULE: &str = "dropped by a rule";
const SAME: &str = "another series became the same one and has the time, too";
/// Samples that wait at most; more are told in the order they come.
const WAITING_MAX: usize = 1 << 22;

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

/// A series and its name.
type Named = (Arc<str>, u32);

/// What became of which series: shared by the shards, and by who asks what was there before.
pub(super) struct Mapping {
    rules: Vec<Relabel>,
    names: Names,
    /// By new series those that became it, by name.
    from: RwLock<BTreeMap<u32, Vec<Named>>>,
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
        let Some(def) = self.names.def(SeriesId(series)) else { return };
        let one = (Arc::from(def.to_string()), series);
        let mut from = self.from.write().unwrap_or_else(PoisonError::into_inner);
        let known = from.entry(new).or_default();
        if let Err(at) = known.binary_search(&one) {
            known.insert(at, one);
        }
    }

    /// Those that became a series, by name.
    fn from(&self, new: SeriesId) -> Vec<u32> {
        let from = self.from.read().unwrap_or_else(PoisonError::into_inner);
        from.get(&new.0).into_iter().flatten().map(|(_, series)| *series).collect()
    }

    /// The place of a series among those.
    fn place(&self, new: SeriesId, series: u32) -> Option<usize> {
        let from = self.from.read().unwrap_or_else(PoisonError::into_inner);
        from.get(&new.0)?.iter().position(|(_, known)| *known == series)
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

/// A sample under its new name.
#[derive(Clone, Copy)]
struct Renaming {
    series: u32,
    new: SeriesId,
    sample: Sample,
}

/// Samples of one source, in the order they came, and how far it is.
struct Waiting {
    samples: Vec<Renaming>,
    reached: i64,
    arrived: Timestamp,
}

const NOBODY: Waiting = Waiting { samples: Vec::new(), reached: BEFORE_ALL, arrived: Timestamp::MIN };

/// The stage.
pub(super) struct Relabelling {
    mapping: Arc<Mapping>,
    ways: Vec<Option<Result<SeriesId, &'static str>>>,
    waiting: BTreeMap<Arc<str>, Waiting>,
    ahead: Vec<Arc<Batch>>,
    told: Told,
    dropped: Dropped,
}

impl Relabelling {
    pub fn new(mapping: Arc<Mapping>) -> Self {
        let (waiting, ahead) = (BTreeMap::new(), Vec::new());
        Relabelling { mapping, ways: Vec::new(), waiting, ahead, told: Told::default(), dropped: Dropped::new() }
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

    fn renamed(&mut self, batch: &Batch) -> Vec<Renaming> {
        let mut renamed = Vec::with_capacity(batch.len());
        for (series, sample) in batch.iter() {
            match self.way(series) {
                Ok(new) => renamed.push(Renaming { series: series.0, new, sample }),
                Err(reason) => count(&mut self.dropped, reason, 1),
            }
        }
        renamed
    }

    /// Puts samples in order, and of several for one time keeps one: of the first series by name the last that came. How many
    /// others there were of other series.
    fn put_in_order(&self, samples: &mut Vec<Renaming>) -> usize {
        let by_name = |a: &Renaming, b: &Renaming| {
            let place = |of: &Renaming| self.mapping.place(of.new, of.series);
            if a.series == b.series { std::cmp::Ordering::Equal } else { place(a).cmp(&place(b)) }
        };
        samples.sort_by(|a, b| (a.new, a.sample.time).cmp(&(b.new, b.sample.time)).then_with(|| by_name(a, b)));
        let mut others = 0;
        samples.dedup_by(|next, kept| {
            let is_same = (next.new, next.sample.time) == (kept.new, kept.sample.time);
            if is_same && next.series == kept.series {
                *kept = *next;
            } else if is_same {
                others += 1;
            }
            is_same
        });
        others
    }

    /// Hands on what waits of a source up to `reached`.
    fn release(&mut self, source: &Arc<str>, reached: i64, out: &mut Out<'_>) {
        let Some(waiting) = self.waiting.get_mut(source) else { return };
        let (mut over, later) = std::mem::take(&mut waiting.samples)
            .into_iter()
            .partition::<Vec<_>, _>(|of| of.sample.time.nanos() <= reached);
        waiting.samples = later;
        let like = Batch { source: source.clone(), arrived: waiting.arrived, ..Batch::default() };
        let same = self.put_in_order(&mut over);
        count(&mut self.dropped, SAME, same);
        let (new, late) = self.told.divide(&batch_of(&like, &over));
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
    }

    /// All that wait here and before this stage, without letting them go.
    fn tell_ahead(&mut self, out: &mut Out<'_>) {
        let ahead = std::mem::take(&mut self.ahead);
        let mut all: Vec<Renaming> = self.waiting.values().flat_map(|waiting| waiting.samples.clone()).collect();
        for batch in ahead {
            let ways: Vec<_> = batch.iter().map(|(series, sample)| (series, self.way(series), sample)).collect();
            let renamed = ways
                .into_iter()
                .filter_map(|(series, way, sample)| way.ok().map(|new| Renaming { series: series.0, new, sample }));
            all.extend(renamed);
        }
        all.retain(|of| of.sample.time.nanos() > self.told.last(of.new));
        self.put_in_order(&mut all);
        out.ahead(Arc::new(batch_of(&Batch::default(), &all)));
    }

    fn write_waiting(&self, state: &mut Writer) {
        state.u32(self.waiting.len() as u32);
        for (source, waiting) in &self.waiting {
            state.bytes(source.as_bytes());
            state.i64(waiting.reached);
            state.i64(waiting.arrived.nanos());
            state.u32(waiting.samples.len() as u32);
            for of in &waiting.samples {
                state.u32(of.series);
                state.u32(of.new.0);
                state.i64(of.sample.time.nanos());
                state.f64(of.sample.value);
            }
        }
    }

    fn read_waiting(&mut self, from: &mut Reader<'_>) -> Option<()> {
        for _ in 0..from.u32()? {
            let source: Arc<str> = std::str::from_utf8(from.bytes()?).ok()?.into();
            let (reached, arrived) = (from.i64()?, Timestamp::from_nanos(from.i64()?));
            let mut samples = Vec::new();
            for _ in 0..from.u32()? {
                let (series, new) = (from.u32()?, SeriesId(from.u32()?));
                let sample = Sample { time: Timestamp::from_nanos(from.i64()?), value: from.f64()? };
                samples.push(Renaming { series, new, sample });
            }
            self.waiting.insert(source, Waiting { samples, reached, arrived });
        }
        Some(())
    }
}

fn batch_of(like: &Batch, samples: &[Renaming]) -> Batch {
    let mut batch = like.part(samples.len());
    samples.iter().for_each(|of| batch.push(of.new, of.sample.time, of.sample.value));
    batch
}

impl Stage for Relabelling {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let mut renamed = self.renamed(batch);
        let held: usize = self.waiting.values().map(|waiting| waiting.samples.len()).sum();
        let waiting = self.waiting.entry(batch.source.clone()).or_insert(NOBODY);
        let is_past = renamed.iter().any(|of| of.sample.time.nanos() <= waiting.reached);
        let is_crowded = held + renamed.len() > WAITING_MAX;
        waiting.samples.append(&mut renamed);
        waiting.arrived = waiting.arrived.max(batch.arrived);
        let reached = if is_crowded { i64::MAX } else { waiting.reached };
        if is_past || is_crowded {
            self.release(&batch.source, reached, out);
        }
    }

    /// What comes late for its series need not be late among those that wait.
    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let renamed = self.renamed(batch);
        let waiting = self.waiting.entry(batch.source.clone()).or_insert(NOBODY);
        let is_late = |of: &Renaming| of.sample.time.nanos() <= waiting.reached;
        let (late, mut new) = renamed.into_iter().partition::<Vec<_>, _>(is_late);
        waiting.samples.append(&mut new);
        out.late(Arc::new(batch_of(batch, &late)));
    }

    fn ahead(&mut self, batch: &Arc<Batch>, _out: &mut Out<'_>) {
        self.ahead.push(batch.clone());
    }

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        let Some(waiting) = self.waiting.get_mut(&watermark.source) else { return };
        waiting.reached = watermark.time.nanos();
        self.release(&watermark.source, watermark.time.nanos(), out);
        // Of a source that is idle what it brings when it goes on waits again.
        if let Some(waiting) = self.waiting.get_mut(&watermark.source).filter(|_| watermark.time == Timestamp::MAX) {
            waiting.reached = BEFORE_ALL;
        }
    }

    fn checkpoint(&mut self, _cut: Cut, out: &mut Out<'_>) -> Vec<u8> {
        self.tell_ahead(out);
        let mut state = Writer::default();
        state.bytes(&self.told.state());
        self.write_waiting(&mut state);
        for (series, way) in self.ways.iter().enumerate() {
            if let Some(Ok(new)) = way {
                state.u32(series as u32);
                state.u32(new.0);
            }
        }
        state.0
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        let mut read = || {
            let mut from = Reader(state);
            self.told.restore(from.bytes()?, |_| true)?;
            self.read_waiting(&mut from)?;
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

    fn begins(&self, series: SeriesId) -> Option<i64> {
        self.mapping.from(series).into_iter().filter_map(|one| self.inner.begins(SeriesId(one))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, SECOND, spec};

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
        run.batch(&[("old_m{pod=b}", 3, 3.0)]);
        run.batch(&[("old_m{pod=a}", 2, 4.0)]);
        run.watermark("b", 9);
        run.watermark("a", 4);
        run.ahead(&[("old_m{pod=b}", 9, 1.0), ("old_m{pod=a}", 8, 2.0), ("old_m{pod=a}", 3, 2.0)]);
        run.end();
        run.late(&[("old_m{pod=a}", 1, 7.0)]);
        run.batch(&[("old_m{pod=a}", 2, 9.0), ("old_m{pod=b}", 4, 9.0)]);
        run.watermark("a", i64::MAX / SECOND);
        assert_eq!(
            run.told(),
            [
                "ahead m{}@5=5 new_m{}@1=1",
                "batch new_m{}@1=1 new_m{}@2=4 new_m{}@3=3",
                "ahead m{}@5=5 new_m{}@8=2 new_m{}@9=1",
                "late new_m{}@1=7",
                "batch new_m{}@4=9",
                "late new_m{}@2=9",
                "batch m{}@5=5",
            ]
        );
        assert_eq!(run.dropped(), Dropped::from([(SAME, 1)]));
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
