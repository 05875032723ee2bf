//! A stage as it is written in a pipeline file.

use std::sync::Arc;

use serde::Deserialize;

use super::{AnomalySpec, CompressSpec, CorrelateSpec, WindowSpec};
use super::{anomaly::Anomaly, compress::Compress, correlate::Correlate, window::Window};
use crate::flow::{Stage, StageMaker};
use crate::store::Store;

/// One `[[stages]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Unique in the file.
    pub name: String,
    /// The stage it follows; the pipeline's source where there is none.
    #[serde(default)]
    pub from: Option<String>,
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

    /// Whether the stage must see all series in one place.
    pub fn crosses_series(&self) -> bool {
        matches!(self, Apply::Correlate(_))
    }

    pub(super) fn maker(&self, store: &Arc<Store>) -> StageMaker {
        let (apply, store) = (self.clone(), Arc::downgrade(store));
        Box::new(move |_| -> Box<dyn Stage> {
            match &apply {
                Apply::Compress(spec) => Box::new(Compress::new(spec)),
                Apply::Window(spec) => Box::new(Window::new(spec, store.clone())),
                Apply::Anomaly(spec) => Box::new(Anomaly::new(spec, store.clone())),
                Apply::Correlate(spec) => Box::new(Correlate::new(spec, store.clone())),
            }
        })
    }
}
