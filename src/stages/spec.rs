//! A stage as it is written in a pipeline file.

use std::sync::{Arc, Weak};

use serde::Deserialize;

use super::{AnomalySpec, CompressSpec, CorrelateSpec, WindowSpec};
use super::{anomaly::Anomaly, correlate::Correlate};
use crate::flow::{History, Stage, StageMaker};
use crate::store::Store;

/// One `[[stages]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Unique in the file.
    pub name: String,
    /// Sources and stages before it whose output it takes; all sources where there are none.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// What it does: `apply.window = { every = "1h" }`.
    pub apply: Apply,
}

/// The kinds of stages.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Apply {
    Compress(CompressSpec),
    Window(WindowSpec),
    Anomaly(AnomalySpec),
    Correlate(CorrelateSpec),
}

/// What stages are made with.
#[derive(Clone)]
pub(super) struct Around {
    pub store: Weak<Store>,
    /// What its inputs held before; `None` where that cannot be told again.
    pub history: Option<Arc<dyn History>>,
}

impl Apply {
    /// What is wrong with the values, and what to write.
    pub fn fault(&self) -> Option<String> {
        match self {
            Apply::Compress(spec) => spec.fault(),
            Apply::Window(spec) => spec.fault(),
            Apply::Anomaly(spec) => spec.fault(),
            Apply::Correlate(spec) => spec.fault(),
        }
    }

    /// As it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Apply::Compress(_) => "compress",
            Apply::Window(_) => "window",
            Apply::Anomaly(_) => "anomaly",
            Apply::Correlate(_) => "correlate",
        }
    }

    /// Whether one thread must see all series.
    pub(super) fn crosses_series(&self) -> bool {
        matches!(self, Apply::Correlate(_))
    }

    /// Whether it hands on other series than it is given.
    pub(super) fn renames(&self) -> bool {
        false
    }

    /// What those behind it would have been handed, given what it was handed itself.
    pub(super) fn history(&self, around: &Around) -> Option<Arc<dyn History>> {
        around.history.clone()
    }

    pub(super) fn maker(&self, around: &Around) -> StageMaker {
        let (apply, around) = (self.clone(), around.clone());
        Box::new(move |_| -> Box<dyn Stage> {
            match &apply {
                Apply::Compress(spec) => spec.stage(around.store.clone()),
                Apply::Window(spec) => spec.stage(around.history.clone()),
                Apply::Anomaly(spec) => Box::new(Anomaly::new(spec, around.store.clone())),
                Apply::Correlate(spec) => Box::new(Correlate::new(spec, around.history.clone())),
            }
        })
    }
}
