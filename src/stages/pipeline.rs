//! A pipeline file: checked, and made into a graph.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use serde::Deserialize;

use super::history::{Stored, Union};
use super::source::{ReadSpec, SourceSpec};
use super::spec::{Around, StageSpec};
use super::testing::TestSpec;
use crate::flow::{Does, GraphSpec, History, Node, OrderSpec};
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
    /// How long a source may bring nothing before nobody waits for it.
    #[serde(with = "humantime_serde", default = "PipelineSpec::default_idle")]
    pub idle: Duration,
    /// Threads a stage has, each with its share of the series; one that compares series has one thread.
    #[serde(default = "PipelineSpec::default_shards")]
    pub shards: usize,
    /// Without any there is one, `live`, of all that comes in.
    #[serde(default)]
    pub sources: Vec<SourceSpec>,
    pub stages: Vec<StageSpec>,
    /// What it must find of samples written here.
    #[serde(default)]
    pub tests: Vec<TestSpec>,
}

/// One kind of things that a pipeline file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Sources,
    Stages,
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

    fn default_idle() -> Duration {
        Duration::from_secs(60)
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
        if self.stages.is_empty() {
            fault("stages", "there is no stage: add `[[stages]]`".to_owned(), true);
        }
        (0..self.sources.len()).for_each(|place| self.source_faults(place, &mut faults));
        (0..self.stages.len()).for_each(|place| self.stage_faults(place, &mut faults));
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
        if let Some(error) = source.read.fault() {
            fault("read", format!("source `{}`: {error}", source.name));
        }
    }

    fn stage_faults(&self, place: usize, faults: &mut Vec<PipelineFault>) {
        let (stage, before) = (&self.stages[place], &self.stages[..place]);
        let name = &stage.name;
        let sources: Vec<String> = self.all_sources().into_iter().map(|source| source.name).collect();
        let known: Vec<&str> =
            sources.iter().map(String::as_str).chain(before.iter().map(|other| &*other.name)).collect();
        let mut fault = |at: &str, error: String, of_absence: bool| {
            let of = Some((List::Stages, place));
            faults.push(PipelineFault { of, at: at.to_owned(), error, of_absence });
        };
        if let Some(error) = name_fault(name) {
            fault(name, error, false);
        }
        if known.contains(&name.as_str()) {
            fault(name, format!("two sources or stages are named `{name}`: rename one"), false);
        }
        for (at, input) in stage.inputs.iter().enumerate() {
            if stage.inputs[..at].contains(input) {
                fault(input, format!("stage `{name}` takes `{input}` twice: write it once"), false);
            } else if !known.contains(&input.as_str()) {
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

    /// The graph, over a store that holds what passed by before.
    pub(super) fn graph(&self, store: &Arc<Store>) -> GraphSpec {
        let mut nodes: Vec<Node> = Vec::new();
        let mut histories: Vec<Option<Arc<dyn History>>> = Vec::new();
        let mut prints: Vec<u64> = Vec::new();
        for source in self.all_sources() {
            let wanted = source.read.wanted(store);
            let stored = Stored { store: Arc::downgrade(store), wanted: wanted.clone() };
            histories.push(source.read.is_live().then(|| Arc::new(stored) as Arc<dyn History>));
            prints.push(print(&(&source.name, format!("{:?}", source.read))));
            let does = Does::Source(source.read.spec(store, wanted));
            nodes.push(Node { name: source.name, kind: "source", inputs: Vec::new(), stores: false, does });
        }
        let sources: Vec<usize> = (0..nodes.len()).collect();
        for stage in &self.stages {
            let place = |name: &String| nodes.iter().position(|node| node.name == *name);
            let inputs: Vec<usize> = stage.inputs.iter().filter_map(place).collect();
            let inputs = if inputs.is_empty() { sources.clone() } else { inputs };
            let around = Around { store: Arc::downgrade(store), history: joined(&inputs, &histories) };
            let above: Vec<u64> = inputs.iter().map(|&at| prints[at]).collect();
            let fingerprint = print(&(&stage.name, format!("{:?}", stage.apply), above));
            let does = Does::Stage {
                make: stage.apply.maker(&around),
                crosses_series: stage.apply.crosses_series(),
                renames: stage.apply.renames(),
                fingerprint,
            };
            histories.push(stage.apply.history(&around));
            prints.push(fingerprint);
            nodes.push(Node { name: stage.name.clone(), kind: stage.apply.kind(), inputs, stores: true, does });
        }
        let order = OrderSpec { lateness: self.lateness, idle: self.idle };
        GraphSpec { name: self.name.clone(), shards: self.shards, nodes, order }
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

fn print(of: &impl std::hash::Hash) -> u64 {
    FixedState::default().hash_one(of)
}

/// Names stand in keys, labels and tables.
fn name_fault(name: &str) -> Option<String> {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
    let is_name = !name.is_empty() && name.len() <= 100 && name.chars().all(is_plain);
    (!is_name).then(|| format!("`{name}` is no name: write up to 100 letters, digits, - and _"))
}
