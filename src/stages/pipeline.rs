//! A pipeline file: checked, and made into a graph.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::spec::StageSpec;
use crate::flow::{GraphSpec, Node};
use crate::store::Store;

/// A pipeline as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    pub name: String,
    /// How far behind the latest sample another may come and still be in time.
    #[serde(with = "humantime_serde", default = "PipelineSpec::default_lateness")]
    pub lateness: Duration,
    /// Threads a stage has, each with its share of the series.
    #[serde(default = "PipelineSpec::default_shards")]
    pub shards: usize,
    pub stages: Vec<StageSpec>,
}

/// Something a pipeline file says that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineFault {
    /// Place of the stage it is about.
    pub stage: Option<usize>,
    /// The text in the file to point at.
    pub at: String,
    /// What is wrong and what to write.
    pub error: String,
    /// Whether it is that something is missing.
    pub of_absence: bool,
}

impl PipelineSpec {
    fn default_lateness() -> Duration {
        Duration::from_secs(60)
    }

    fn default_shards() -> usize {
        1
    }

    /// Every fault at once.
    pub fn faults(&self) -> Vec<PipelineFault> {
        let mut faults = Vec::new();
        if self.shards == 0 || self.shards > 64 {
            let error = format!("shards = {} cannot be: write 1 to 64", self.shards);
            faults.push(PipelineFault { stage: None, at: "shards".to_owned(), error, of_absence: false });
        }
        if self.stages.is_empty() {
            let error = "there is no stage: add `[[stages]]`".to_owned();
            faults.push(PipelineFault { stage: None, at: "stages".to_owned(), error, of_absence: true });
        }
        (0..self.stages.len()).for_each(|place| self.stage_faults(place, &mut faults));
        faults
    }

    fn stage_faults(&self, place: usize, faults: &mut Vec<PipelineFault>) {
        let (stage, before) = (&self.stages[place], &self.stages[..place]);
        let name = &stage.name;
        let mut fault = |at: &str, error: String, of_absence: bool| {
            faults.push(PipelineFault { stage: Some(place), at: at.to_owned(), error, of_absence });
        };
        if before.iter().any(|other| other.name == *name) {
            fault(name, format!("two stages are named `{name}`: rename one"), false);
        }
        if let Some(from) = &stage.from
            && !before.iter().any(|other| other.name == *from)
        {
            let known: Vec<&str> = before.iter().map(|other| &*other.name).collect();
            let remedy = if known.is_empty() {
                "leave `from` out to follow the source".to_owned()
            } else {
                format!("write one of {}, or leave `from` out to follow the source", known.join(", "))
            };
            fault(from, format!("stage `{name}` follows `{from}`, which is no stage before it: {remedy}"), true);
        }
        if let Some(error) = stage.apply.fault() {
            fault("apply", format!("stage `{name}`: {error}"), false);
        }
        if stage.apply.crosses_series() && self.shards > 1 {
            let error = format!(
                "stage `{name}` compares series, so it must see all of them: put it in a pipeline with shards = 1"
            );
            fault("apply", error, false);
        }
    }

    pub(super) fn graph(&self, store: &Arc<Store>) -> GraphSpec {
        let place = |name: &String| self.stages.iter().position(|stage| stage.name == *name);
        let node = |stage: &StageSpec| Node {
            name: stage.name.clone(),
            from: stage.from.as_ref().and_then(place),
            make: stage.apply.maker(store),
        };
        GraphSpec {
            name: self.name.clone(),
            shards: self.shards,
            nodes: self.stages.iter().map(node).collect(),
            lateness: self.lateness,
        }
    }
}
