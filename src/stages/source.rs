//! Where a pipeline's samples come from, as it is written: what comes in.

use std::sync::Arc;

use serde::Deserialize;

use crate::flow;
use crate::model::{Pattern, SeriesId};
use crate::store::Store;

/// One `[[sources]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Unique in the file.
    pub name: String,
    /// What it reads: `read.live = { metrics = ["cpu_*"] }`.
    pub read: ReadSpec,
}

/// The kinds of sources.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ReadSpec {
    /// What comes in.
    Live(LiveSpec),
}

/// `read.live`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveSpec {
    /// Metrics whose series it takes, as in `cpu_*`; all where there are none.
    pub metrics: Vec<Pattern>,
}

/// Which series a source takes.
pub(super) type Wanted = Arc<dyn Fn(SeriesId) -> bool + Send + Sync>;

impl ReadSpec {
    pub(super) fn fault(&self) -> Option<String> {
        None
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, ReadSpec::Live(_))
    }

    pub(super) fn wanted(&self, store: &Arc<Store>) -> Option<Wanted> {
        let ReadSpec::Live(LiveSpec { metrics }) = self;
        if metrics.is_empty() {
            return None;
        }
        let (metrics, registry) = (metrics.clone(), store.registry().clone());
        Some(Arc::new(move |series| {
            let metric = registry.metric(series);
            metrics.iter().any(|pattern| pattern.fits(&metric))
        }))
    }

    pub(super) fn spec(&self, _store: &Arc<Store>, wanted: Option<Wanted>) -> flow::SourceSpec {
        match self {
            ReadSpec::Live(_) => flow::SourceSpec::Live(wanted.map(|wanted| {
                let boxed: flow::Wanted = Box::new(move |series| wanted(series));
                boxed
            })),
        }
    }
}
