//! A stage as it is written in a pipeline file.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use serde::Deserialize;

use super::choose::{Choose, Choosing, Chosen};
use super::rate::{Rate, Rates};
use super::relabel::{Mapping, Relabelling, Renamed};
use super::series::{Made, Names};
use super::{
    AnomalySpec, CompressSpec, CorrelateSpec, FilterSpec, JoinSpec, RateSpec, RouteSpec, RulesSpec, SampleSpec,
};
use super::{SqlSpec, ThrottleSpec, WindowSpec};
use super::{anomaly::Anomaly, correlate::Correlate, join::Join, sql::Sql, throttle::Throttle};
use crate::flow::{Ask, Haste, History, Stage, StageMaker};
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
    Filter(FilterSpec),
    Relabel(RulesSpec),
    Rate(RateSpec),
    Sample(SampleSpec),
    Route(RouteSpec),
    Join(JoinSpec),
    Sql(SqlSpec),
    Throttle(ThrottleSpec),
}

/// What stages of all pipelines share.
#[derive(Clone, Default)]
pub(super) struct Tools {
    /// Who answers SQL; nobody in a build without it.
    pub ask: Option<Arc<dyn Ask>>,
    /// How far ahead of the clock a sample may be.
    pub future_max: Duration,
    /// Series that stages made.
    pub made: Arc<Made>,
    /// Says when nobody should wait any more for the sake of waiting.
    pub haste: Arc<Haste>,
}

/// What stages are made with.
#[derive(Clone)]
pub(super) struct Around {
    /// Of the stage.
    pub name: Arc<str>,
    /// Of the stage and how it and all before it are written, as rows tell it: `watch@9f3c2a01`.
    pub version: Arc<str>,
    pub store: Weak<Store>,
    pub names: Names,
    pub tools: Tools,
    /// What its inputs held before; `None` where that cannot be told again.
    pub history: Option<Arc<dyn History>>,
    /// What a relabelling made of which series: its threads and its history share it.
    mapping: Arc<OnceLock<Arc<Mapping>>>,
}

impl Around {
    pub fn new(
        store: &Arc<Store>,
        (name, print): (&str, u64),
        history: Option<Arc<dyn History>>,
        tools: &Tools,
    ) -> Self {
        let store = Arc::downgrade(store);
        let names = Names { store: store.clone(), made: tools.made.clone() };
        // Half of the print is enough to tell versions apart.
        let version = format!("{name}@{:08x}", print >> 32).into();
        Around { name: name.into(), version, store, names, tools: tools.clone(), history, mapping: Arc::default() }
    }

    fn mapping(&self, spec: &RulesSpec) -> Arc<Mapping> {
        self.mapping.get_or_init(|| Arc::new(Mapping::new(spec, self.names.clone()))).clone()
    }

    /// A stage that hands on a part of what comes.
    pub fn choosing(&self, choose: Arc<dyn Choose>) -> StageMaker {
        let names = self.names.clone();
        Box::new(move |_| Box::new(Choosing::new(choose.clone(), names.clone())))
    }

    /// And what it would have handed on before.
    pub fn chosen(&self, choose: Arc<dyn Choose>) -> Option<Arc<dyn History>> {
        let inner = self.history.clone()?;
        Some(Arc::new(Chosen { inner, choose, names: self.names.clone() }))
    }
}

impl Apply {
    /// What is wrong with the values, and what to write.
    pub fn fault(&self) -> Option<String> {
        match self {
            Apply::Compress(spec) => spec.fault(),
            Apply::Window(spec) => spec.fault(),
            Apply::Anomaly(spec) => spec.fault(),
            Apply::Correlate(spec) => spec.fault(),
            Apply::Filter(spec) => spec.fault(),
            Apply::Relabel(spec) => spec.fault(),
            Apply::Rate(spec) => spec.fault(),
            Apply::Sample(spec) => spec.fault(),
            Apply::Route(spec) => spec.fault(),
            Apply::Join(spec) => spec.fault(),
            Apply::Sql(spec) => spec.fault(),
            Apply::Throttle(spec) => spec.fault(),
        }
    }

    /// As it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Apply::Compress(_) => "compress",
            Apply::Window(_) => "window",
            Apply::Anomaly(_) => "anomaly",
            Apply::Correlate(_) => "correlate",
            Apply::Filter(_) => "filter",
            Apply::Relabel(_) => "relabel",
            Apply::Rate(_) => "rate",
            Apply::Sample(_) => "sample",
            Apply::Route(_) => "route",
            Apply::Join(_) => "join",
            Apply::Sql(_) => "sql",
            Apply::Throttle(_) => "throttle",
        }
    }

    /// Whether one thread must see all series.
    pub(super) fn crosses_series(&self) -> bool {
        matches!(self, Apply::Correlate(_) | Apply::Relabel(_) | Apply::Join(_) | Apply::Sql(_))
    }

    /// Whether it hands on other series than it is given.
    pub(super) fn renames(&self) -> bool {
        matches!(self, Apply::Relabel(_) | Apply::Rate(_) | Apply::Join(_) | Apply::Sql(_))
    }

    /// What says which samples go on, where it does nothing else; of a route that is the way at a place.
    fn choose(&self, way: usize) -> Option<Arc<dyn Choose>> {
        match self {
            Apply::Filter(spec) => Some(Arc::new(spec.condition())),
            Apply::Sample(spec) => Some(Arc::new(spec.clone())),
            Apply::Route(spec) => Some(spec.way(way)),
            _ => None,
        }
    }

    /// What those behind it write: its name, or those of its ways.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        match self {
            Apply::Route(spec) => spec.ways(name),
            _ => vec![name.to_owned()],
        }
    }

    /// What those behind it, or behind one of its ways, would have been handed, given what it was handed itself.
    pub(super) fn history(&self, around: &Around, way: usize) -> Option<Arc<dyn History>> {
        if let Some(choose) = self.choose(way) {
            return around.chosen(choose);
        }
        let inner = around.history.clone()?;
        match self {
            Apply::Relabel(spec) => Some(Arc::new(Renamed { inner, mapping: around.mapping(spec) })),
            Apply::Rate(spec) => Some(Arc::new(Rates { spec: spec.clone(), inner, names: around.names.clone() })),
            Apply::Join(_) | Apply::Sql(_) => None,
            _ => Some(inner),
        }
    }

    pub(super) fn maker(&self, around: &Around, way: usize) -> StageMaker {
        if let Some(choose) = self.choose(way) {
            return around.choosing(choose);
        }
        let (apply, around) = (self.clone(), around.clone());
        Box::new(move |shard| -> Box<dyn Stage> {
            let (names, history) = (around.names.clone(), around.history.clone());
            match &apply {
                Apply::Compress(spec) => spec.stage(around.store.clone()),
                Apply::Window(spec) => spec.stage(history),
                Apply::Anomaly(spec) => Box::new(Anomaly::new(spec, around.version.clone(), around.store.clone())),
                Apply::Correlate(spec) => Box::new(Correlate::new(spec, history, around.store.clone())),
                Apply::Relabel(spec) => Box::new(Relabelling::new(around.mapping(spec))),
                Apply::Rate(spec) => Box::new(Rate::new(spec, names, history)),
                Apply::Join(spec) => Box::new(Join::new(spec, names, around.name.clone())),
                Apply::Sql(spec) => Box::new(Sql::new(spec, &around)),
                Apply::Throttle(spec) => {
                    Box::new(Throttle::new(spec, around.store.clone(), around.tools.haste.clone(), shard))
                }
                Apply::Filter(_) | Apply::Sample(_) | Apply::Route(_) => unreachable!("they choose"),
            }
        })
    }
}
