//! A stage by itself over a store of its own, for tests of what it hands on. Series are written as `m{a=1,b=2}`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Apply;
use super::spec::{Around, Tools};
use crate::flow::{Ask, Cut, Dropped, Event, History, Out, Past, Shard, Sink, Stage, Step, Watermark};
use crate::model::{Batch, Labels, Rows, Sample, SeriesDef, SeriesId, Span, Timestamp};
use crate::store::{Store, StoreSpec};
use crate::world::World;

pub(super) const SECOND: i64 = 1_000_000_000;

pub(super) struct Nobody;

impl Sink for Nobody {
    fn rows(&self, _: Rows) {}
}

/// A stage as it is written.
pub(super) fn spec<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What passed by, in memory: by series and second.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<BTreeMap<(u32, i64), f64>>>);

impl Memory {
    pub fn put(&self, series: SeriesId, second: i64, value: f64) {
        self.0.lock().unwrap().insert((series.0, second * SECOND), value);
    }
}

impl History for Memory {
    fn open(&self) -> Box<dyn Past> {
        Box::new(self.clone())
    }
}

impl Past for Memory {
    fn series(&self, _span: Span) -> Vec<SeriesId> {
        let all: std::collections::BTreeSet<u32> = self.0.lock().unwrap().keys().map(|key| key.0).collect();
        all.into_iter().map(SeriesId).collect()
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let samples: Vec<Sample> = {
            let all = self.0.lock().unwrap();
            let within = all.range((series.0, span.start.nanos())..(series.0, span.end.nanos()));
            within.map(|(key, &value)| Sample { time: Timestamp::from_nanos(key.1), value }).collect()
        };
        samples.chunks(3).for_each(take);
        true
    }

    fn oldest(&self, _series: SeriesId) -> i64 {
        i64::MIN
    }
}

/// A store for the names of series.
pub(super) struct Bench {
    pub store: Arc<Store>,
    pub ask: Option<Arc<dyn Ask>>,
    _folder: Arc<tempfile::TempDir>,
}

impl Bench {
    pub fn new() -> Self {
        Self::asking(None)
    }

    pub fn asking(ask: Option<Arc<dyn Ask>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(World::real(), folder.path(), StoreSpec::default()).unwrap();
        Bench { store: Arc::new(store), ask, _folder: Arc::new(folder) }
    }

    pub fn def(text: &str) -> SeriesDef {
        let (metric, labels) = text.trim_end_matches('}').split_once('{').unwrap();
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        SeriesDef::new(metric, Labels::new(labels))
    }

    pub fn id(&self, text: &str) -> SeriesId {
        self.store.registry().intern(Self::def(text))
    }

    pub fn text(&self, series: SeriesId) -> String {
        let def = self.store.registry().def(series);
        let labels: Vec<String> = def.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}{{{}}}", def.metric, labels.join(","))
    }

    pub fn memory(&self, samples: &[(&str, i64, f64)]) -> Memory {
        let memory = Memory::default();
        samples.iter().for_each(|&(series, second, value)| memory.put(self.id(series), second, value));
        memory
    }

    pub fn around(&self, name: &str, history: Option<Arc<dyn History>>) -> Around {
        let tools = Tools { ask: self.ask.clone(), future_max: Duration::from_secs(86_400), ..Tools::default() };
        Around::new(&self.store, (name, 0), history, &tools)
    }

    pub fn run<'b>(&'b self, apply: &Apply, memory: Option<Memory>) -> Run<'b> {
        let around = self.around(apply.kind(), memory.map(|memory| Arc::new(memory) as Arc<dyn History>));
        let stage = apply.maker(&around, 0)(Shard::WHOLE);
        let (source, step) = ("a".into(), Step::new());
        Run { bench: self, apply: apply.clone(), around, stage, source, step, dropped_before: Dropped::new() }
    }
}

/// A stage that runs.
pub(super) struct Run<'b> {
    bench: &'b Bench,
    apply: Apply,
    around: Around,
    stage: Box<dyn Stage>,
    source: Arc<str>,
    step: Step,
    /// What was dropped before it was resumed last.
    pub dropped_before: Dropped,
}

impl Run<'_> {
    /// The source of what comes next.
    pub fn from(&mut self, source: &str) -> &mut Self {
        self.source = source.into();
        self
    }

    fn made(&self, samples: &[(&str, i64, f64)]) -> Arc<Batch> {
        let mut batch = Batch { source: self.source.clone(), ..Batch::default() };
        for &(series, second, value) in samples {
            batch.push(self.bench.id(series), Timestamp::from_nanos(second * SECOND), value);
        }
        Arc::new(batch)
    }

    pub fn batch(&mut self, samples: &[(&str, i64, f64)]) {
        let batch = self.made(samples);
        self.stage.batch(&batch, &mut Out::new(&Nobody, &mut self.step));
    }

    pub fn late(&mut self, samples: &[(&str, i64, f64)]) {
        let batch = self.made(samples);
        self.stage.late(&batch, &mut Out::new(&Nobody, &mut self.step));
    }

    pub fn ahead(&mut self, samples: &[(&str, i64, f64)]) {
        let batch = self.made(samples);
        self.stage.ahead(&batch, &mut Out::new(&Nobody, &mut self.step));
    }

    pub fn watermark(&mut self, source: &str, second: i64) {
        let mark = Watermark { source: source.into(), time: Timestamp::from_nanos(second * SECOND) };
        self.stage.watermark(&mark, &mut Out::new(&Nobody, &mut self.step));
    }

    /// A last checkpoint.
    pub fn end(&mut self) {
        let mut out = Out::new(&Nobody, &mut self.step);
        self.stage.checkpoint(Cut { number: 1, last: true }, &mut out);
    }

    /// Goes on with a new stage from the state of this one.
    pub fn resume(&mut self) {
        let state = self.stage.checkpoint(Cut { number: 1, last: false }, &mut Out::new(&Nobody, &mut self.step));
        self.dropped_before = self.stage.dropped();
        self.around = self.bench.around(self.apply.kind(), self.around.history.clone());
        self.stage = self.apply.maker(&self.around, 0)(Shard::WHOLE);
        assert!(self.stage.restore(&state, Shard::WHOLE));
    }

    pub fn dropped(&self) -> Dropped {
        self.stage.dropped()
    }

    /// What those behind would have been handed of a series.
    pub fn was(&self, series: &str) -> Vec<(i64, f64)> {
        let mut samples = Vec::new();
        let mut past = self.apply.history(&self.around, 0).unwrap().open();
        assert!(past.read(self.bench.id(series), Span::ALL, &mut |piece| {
            samples.extend(piece.iter().map(|sample| (sample.time.nanos() / SECOND, sample.value)));
        }));
        samples
    }

    /// What was handed on since it was asked last.
    pub fn told(&mut self) -> Vec<String> {
        let samples = |kind: &str, batch: &Batch| {
            let text = |(id, of): (SeriesId, Sample)| {
                format!("{}@{}={}", self.bench.text(id), of.time.nanos() / SECOND, of.value)
            };
            format!("{kind} {}", batch.iter().map(text).collect::<Vec<_>>().join(" "))
        };
        let mark = |time: i64| if time < -1 << 60 { "-".to_owned() } else { (time / SECOND).to_string() };
        std::mem::take(&mut self.step)
            .iter()
            .filter_map(|event| match event {
                Event::Batch(batch) => Some(samples("batch", batch)),
                Event::Late(batch) => Some(samples("late", batch)),
                Event::Ahead(batch) => Some(samples("ahead", batch)),
                Event::Watermark(of) => Some(format!("mark {} {}", of.source, mark(of.time.nanos()))),
                _ => None,
            })
            .collect()
    }
}
