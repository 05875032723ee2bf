//! A pipeline file: checked, and made into a graph.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use serde::Deserialize;

use super::history::{Stored, Union};
use super::series::Made;
use super::sink::{Outside, SinkSpec, made_samples, stored};
use super::source::{ReadSpec, SourceSpec};
use super::spec::{Apply, Around, StageSpec, Tools};
use super::testing::TestSpec;
use crate::flow::{
    Ask, Couriers, Does, GraphSpec, Haste, History, NoCouriers, NoReaders, Node, OrderSpec, ReadFileSpec, Readers,
};
use crate::store::Store;

/// A pipeline as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    pub name: String,
    /// How far behind the latest of its series, or of its source, a sample may come and still be in time. So much later
    /// stages are told of a sample.
    #[serde(with = "humantime_serde", default = "PipelineSpec::default_lateness")]
    pub lateness: Duration,
    /// How long a source may bring nothing before nobody waits for it: a minute, or `lateness` where that is longer.
    #[serde(with = "humantime_serde::option", default)]
    pub idle: Option<Duration>,
    /// Threads a stage has, each with its share of the series; one that compares series has one thread.
    #[serde(default = "PipelineSpec::default_shards")]
    pub shards: usize,
    /// Without any there is one, `live`, of all that comes in.
    #[serde(default)]
    pub sources: Vec<SourceSpec>,
    #[serde(default)]
    pub stages: Vec<StageSpec>,
    /// Without any all rows go to the store; with some, only what one that is the store names.
    #[serde(default)]
    pub sinks: Vec<SinkSpec>,
    /// What it must find of samples written here.
    #[serde(default)]
    pub tests: Vec<TestSpec>,
}

/// What is outside of a store and its pipelines.
#[derive(Clone)]
pub struct Edges {
    pub couriers: Arc<dyn Couriers>,
    pub readers: Arc<dyn Readers>,
    /// Who answers SQL; nobody in a build without it.
    pub ask: Option<Arc<dyn Ask>>,
    /// How far ahead of the clock a sample may be.
    pub future_max: Duration,
    pub(super) made: Arc<Made>,
}

impl Default for Edges {
    /// Where nothing is sent and no file is read.
    fn default() -> Self {
        Edges {
            couriers: Arc::new(NoCouriers),
            readers: Arc::new(NoReaders),
            ask: None,
            future_max: Duration::from_secs(86_400),
            made: Arc::default(),
        }
    }
}

/// One kind of things that a pipeline file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Sources,
    Stages,
    Sinks,
    Tests,
    /// What all tests expect.
    Expects,
}

impl List {
    /// What opens one of them, in two brackets.
    pub fn name(self) -> &'static str {
        match self {
            List::Sources => "sources",
            List::Stages => "stages",
            List::Sinks => "sinks",
            List::Tests => "tests",
            List::Expects => "tests.expect",
        }
    }
}

/// Something a pipeline file says that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineFault {
    /// The list, and the place in it, of what it is about.
    pub of: Option<(List, usize)>,
    /// The text in the file to point at.
    pub at: String,
    /// What is wrong and what to write.
    pub error: String,
    /// Whether it is that something is missing.
    pub of_absence: bool,
}

/// Name of the source where none is written.
const LIVE: &str = "live";

impl PipelineSpec {
    fn default_lateness() -> Duration {
        Duration::from_secs(10)
    }

    fn idle(&self) -> Duration {
        self.idle.unwrap_or(self.lateness.max(Duration::from_secs(60)))
    }

    fn default_shards() -> usize {
        1
    }

    /// Its sources, and the one that need not be written.
    pub(super) fn all_sources(&self) -> Vec<SourceSpec> {
        if self.sources.is_empty() {
            return vec![SourceSpec {
                name: LIVE.to_owned(),
                read: ReadSpec::Live(super::source::LiveSpec::default()),
            }];
        }
        self.sources.clone()
    }

    /// Whether another says the same.
    pub(super) fn is_same(&self, other: &PipelineSpec) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }

    /// Every fault at once.
    pub fn faults(&self) -> Vec<PipelineFault> {
        let mut faults = Vec::new();
        let mut fault = |at: &str, error: String, of_absence: bool| {
            faults.push(PipelineFault { of: None, at: at.to_owned(), error, of_absence });
        };
        if let Some(error) = name_fault(&self.name) {
            fault(&self.name, error, false);
        }
        if self.shards == 0 || self.shards > 64 {
            fault("shards", format!("shards = {} cannot be: write 1 to 64", self.shards), false);
        }
        if self.lateness > Duration::from_secs(86_400) {
            fault(
                "lateness",
                "lateness is over a day: samples would wait in memory so long; write up to 1d".into(),
                false,
            );
        }
        if self.idle() < self.lateness {
            let [idle, lateness] = [self.idle(), self.lateness].map(humantime::format_duration);
            let told = format!(
                "idle = \"{idle}\" is shorter than lateness = \"{lateness}\": a source would be given up before what it \
                 may still bring is late; write idle = \"{lateness}\" or longer"
            );
            fault("idle", told, false);
        }
        if self.stages.is_empty() && self.sinks.is_empty() {
            fault("stages", "there is no stage: add `[[stages]]`".to_owned(), true);
        }
        (0..self.sources.len()).for_each(|place| self.source_faults(place, &mut faults));
        (0..self.stages.len()).for_each(|place| self.stage_faults(place, &mut faults));
        (0..self.sinks.len()).for_each(|place| self.sink_faults(place, &mut faults));
        self.test_faults(&mut faults);
        faults
    }

    fn test_faults(&self, faults: &mut Vec<PipelineFault>) {
        let mut expects = 0;
        for (place, test) in self.tests.iter().enumerate() {
            if self.tests[..place].iter().any(|other| other.name == test.name) {
                let (of, at) = (Some((List::Tests, place)), test.name.clone());
                let error = format!("two tests are named `{at}`: rename one");
                faults.push(PipelineFault { of, at, error, of_absence: false });
            }
            test.faults(place, expects, faults);
            expects += test.expect.len();
        }
    }

    fn source_faults(&self, place: usize, faults: &mut Vec<PipelineFault>) {
        let source = &self.sources[place];
        let mut fault = |at: &str, error: String| {
            let (of, at) = (Some((List::Sources, place)), at.to_owned());
            faults.push(PipelineFault { of, at, error, of_absence: false });
        };
        if let Some(error) = name_fault(&source.name) {
            fault(&source.name, error);
        }
        if self.sources[..place].iter().any(|other| other.name == source.name) {
            fault(&source.name, format!("two sources are named `{}`: rename one", source.name));
        }
        if let Some((at, error)) = source.read.fault() {
            fault(at, format!("source `{}`: {error}", source.name));
        }
    }

    fn stage_faults(&self, place: usize, faults: &mut Vec<PipelineFault>) {
        let (stage, before) = (&self.stages[place], &self.stages[..place]);
        let name = &stage.name;
        let sources: Vec<String> = self.all_sources().into_iter().map(|source| source.name).collect();
        let ways = before.iter().flat_map(|other| other.apply.names(&other.name));
        let known: Vec<String> = sources.iter().cloned().chain(ways).collect();
        let taken = sources.iter().chain(before.iter().map(|other| &other.name)).any(|other| other == name);
        let route =
            |input: &String| before.iter().find(|other| other.name == *input && matches!(other.apply, Apply::Route(_)));
        let mut fault = |at: &str, error: String, of_absence: bool| {
            let of = Some((List::Stages, place));
            faults.push(PipelineFault { of, at: at.to_owned(), error, of_absence });
        };
        if let Some(error) = name_fault(name) {
            fault(name, error, false);
        }
        if taken {
            fault(name, format!("two sources or stages are named `{name}`: rename one"), false);
        }
        for (at, input) in stage.inputs.iter().enumerate() {
            if stage.inputs[..at].contains(input) {
                fault(input, format!("stage `{name}` takes `{input}` twice: write it once"), false);
            } else if let Some(route) = route(input) {
                let ways = route.apply.names(input).join(", ");
                let told =
                    format!("stage `{name}` takes `{input}`, which parts its samples: write one or more of {ways}");
                fault(input, told, false);
            } else if !known.contains(input) {
                let told = format!(
                    "stage `{name}` takes `{input}`, which is no source or stage before it: write one of {}",
                    known.join(", ")
                );
                fault(input, told, true);
            }
        }
        if let Some(error) = stage.apply.fault() {
            fault("apply", format!("stage `{name}`: {error}"), false);
        }
    }

    fn sink_faults(&self, place: usize, faults: &mut Vec<PipelineFault>) {
        let (sink, before) = (&self.sinks[place], &self.sinks[..place]);
        let name = &sink.name;
        let sources: Vec<String> = self.all_sources().into_iter().map(|source| source.name).collect();
        let stages = self.stages.iter().map(|stage| &*stage.name);
        let known: Vec<&str> = sources.iter().map(String::as_str).chain(stages).collect();
        let mut fault = |at: &str, error: String, of_absence: bool| {
            let of = Some((List::Sinks, place));
            faults.push(PipelineFault { of, at: at.to_owned(), error, of_absence });
        };
        if let Some(error) = name_fault(name) {
            fault(name, error, false);
        }
        if known.contains(&name.as_str()) || before.iter().any(|other| other.name == *name) {
            fault(name, format!("two sources, stages or sinks are named `{name}`: rename one"), false);
        }
        if sink.inputs.is_empty() {
            let told = format!("sink `{name}` takes nothing: write inputs = […] with some of {}", known.join(", "));
            fault(name, told, true);
        }
        for (at, input) in sink.inputs.iter().enumerate() {
            if sink.inputs[..at].contains(input) {
                fault(input, format!("sink `{name}` takes `{input}` twice: write it once"), false);
            } else if !known.contains(&input.as_str()) {
                let told = format!(
                    "sink `{name}` takes `{input}`, which is no source or stage: write one of {}",
                    known.join(", ")
                );
                fault(input, told, true);
            }
        }
        if sink.needs_rows() && !sink.inputs.is_empty() && sink.inputs.iter().all(|input| sources.contains(input)) {
            let told = format!("sink `{name}` takes rows, which sources do not give: write a stage among its inputs");
            fault("inputs", told, false);
        }
        for (at, error) in sink.faults() {
            fault(at, format!("sink `{name}`: {error}"), false);
        }
    }

    /// Places among the sources of those that are files, and what is written of these.
    pub fn files(&self) -> Vec<(usize, &ReadFileSpec)> {
        let places = self.sources.iter().enumerate();
        let files = places.filter_map(|(place, source)| match &source.read {
            ReadSpec::File(spec) => Some((place, spec)),
            ReadSpec::Live(_) | ReadSpec::Table(_) => None,
        });
        files.collect()
    }

    /// The graph, over a store that holds what passed by before.
    pub fn graph(&self, store: &Arc<Store>, edges: &Edges) -> GraphSpec {
        let haste = Arc::new(Haste::default());
        haste.set_free(true);
        let (ask, made) = (edges.ask.clone(), edges.made.clone());
        let tools = Tools { ask, future_max: edges.future_max, made, haste: haste.clone() };
        let mut nodes: Vec<Node> = Vec::new();
        let mut histories: Vec<Option<Arc<dyn History>>> = Vec::new();
        let mut prints: Vec<u64> = Vec::new();
        for source in self.all_sources() {
            let wanted = source.read.wanted(store);
            let stored = Stored { store: Arc::downgrade(store), wanted: wanted.clone() };
            histories.push(source.read.is_live().then(|| Arc::new(stored) as Arc<dyn History>));
            prints.push(print(&(&source.name, format!("{:?}", source.read))));
            let does = Does::Source(source.read.spec(&source.name, store, wanted, &edges.readers));
            nodes.push(Node { name: source.name, kind: "source", inputs: Vec::new(), stores: false, does });
        }
        let sources: Vec<usize> = (0..nodes.len()).collect();
        let stored = stored(&self.sinks);
        for stage in &self.stages {
            let place = |name: &String| nodes.iter().position(|node| node.name == *name);
            let inputs: Vec<usize> = stage.inputs.iter().filter_map(place).collect();
            let inputs = if inputs.is_empty() { sources.clone() } else { inputs };
            let above: Vec<u64> = inputs.iter().map(|&at| prints[at]).collect();
            let print_as = |name: &str| print(&(name, format!("{:?}", stage.apply), &above));
            let versioned = (stage.name.as_str(), print_as(&stage.name));
            let around = Around::new(store, versioned, joined(&inputs, &histories), &tools);
            let stores = self.sinks.is_empty() || stored.contains(stage.name.as_str());
            for (way, name) in stage.apply.names(&stage.name).into_iter().enumerate() {
                let fingerprint = print_as(&name);
                let does = Does::Stage {
                    make: stage.apply.maker(&around, way),
                    crosses_series: stage.apply.crosses_series(),
                    renames: stage.apply.renames(),
                    fingerprint,
                };
                histories.push(stage.apply.history(&around, way));
                prints.push(fingerprint);
                nodes.push(Node { name, kind: stage.apply.kind(), inputs: inputs.clone(), stores, does });
            }
        }
        self.add_sinks(store, edges, &haste, &mut nodes);
        let order = OrderSpec { lateness: self.lateness, idle: self.idle() };
        GraphSpec { name: self.name.clone(), shards: self.shards, nodes, order, haste }
    }

    /// A node for each sink; for one that is the store only where stages make samples, since those write rows themselves.
    fn add_sinks(&self, store: &Arc<Store>, edges: &Edges, haste: &Arc<Haste>, nodes: &mut Vec<Node>) {
        let registry = store.registry().clone();
        let names = Arc::new(move |series| registry.def(series));
        let outside = Outside { couriers: edges.couriers.clone(), names, haste: haste.clone() };
        let made = made_samples(nodes);
        for sink in &self.sinks {
            let place = |name: &String| nodes.iter().position(|node| node.name == *name);
            let mut inputs: Vec<usize> = sink.inputs.iter().filter_map(place).collect();
            if sink.is_store() {
                inputs.retain(|&input| made[input]);
            } else if !edges.couriers.delivers() {
                continue;
            }
            if inputs.is_empty() {
                continue;
            }
            // What waits before it is kept through a change of how it is sent.
            let fingerprint = print(&(&sink.name, sink.kind()));
            let does = Does::Stage { make: sink.maker(&outside), crosses_series: true, renames: false, fingerprint };
            let (name, kind) = (sink.name.clone(), sink.kind());
            nodes.push(Node { name, kind, inputs, stores: sink.is_store(), does });
        }
    }
}

/// What several inputs held, where all of them can tell.
fn joined(inputs: &[usize], histories: &[Option<Arc<dyn History>>]) -> Option<Arc<dyn History>> {
    let all = inputs.iter().map(|&at| histories[at].clone()).collect::<Option<Vec<_>>>()?;
    match &all[..] {
        [one] => Some(one.clone()),
        _ => Some(Arc::new(Union(all))),
    }
}

/// Counts the layouts that states had: with another number no state fits.
const STATES: u32 = 1;

fn print(of: &impl std::hash::Hash) -> u64 {
    FixedState::default().hash_one((STATES, of))
}

/// Names stand in keys, labels and tables.
pub(super) fn name_fault(name: &str) -> Option<String> {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
    let is_name = !name.is_empty() && name.len() <= 100 && name.chars().all(is_plain);
    (!is_name).then(|| format!("`{name}` is no name: write up to 100 letters, digits, - and _"))
}
