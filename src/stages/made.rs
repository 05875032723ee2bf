//! Which rows the stages of a pipeline make, and how they are told from those of other stages.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};

use super::pipeline::PipelineSpec;
use super::source::Wanted;
use super::spec::Apply;
use super::window::{Length, WindowSpec};
use crate::model::{SeriesId, Table};
use crate::store::Store;

/// Rows of one table that a stage makes.
pub(super) struct Made {
    pub table: Table,
    marks: Vec<Mark>,
    /// Length of the windows they are of; 0 where they are of none, or of any length.
    pub length: i64,
    /// Silence of a series after which what came before it no longer tells.
    pub gap: i64,
    /// Whose rows they may be: of any of these; of every series where there are none.
    wanted: Vec<Wanted>,
}

/// What all of a stage's rows say alike.
enum Mark {
    Length(&'static str, i64),
    Text(&'static str, String),
    /// So long after its time a row ends.
    Ends(i64),
}

impl Mark {
    fn is_of(&self, rows: &RecordBatch, row: usize) -> bool {
        let lengths = |name: &str| rows.column_by_name(name)?.as_primitive_opt::<Int64Type>();
        let times = |name: &str| rows.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>();
        match self {
            Mark::Length(name, nanos) => lengths(name).is_some_and(|column| column.value(row) == *nanos),
            Mark::Text(name, text) => {
                let column = rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
                column.is_some_and(|column| column.value(row) == text)
            }
            Mark::Ends(nanos) => times("time")
                .zip(times("end"))
                .is_some_and(|(time, end)| time.value(row).saturating_add(*nanos) == end.value(row)),
        }
    }
}

impl Made {
    fn of(table: Table, length: i64, marks: Vec<Mark>) -> Made {
        Made { table, marks, length, gap: 0, wanted: Vec::new() }
    }

    /// Whether a row of the table may be one of these.
    pub fn has(&self, rows: &RecordBatch, row: usize) -> bool {
        self.marks.iter().all(|mark| mark.is_of(rows, row))
    }

    pub fn is_wanted(&self, series: SeriesId) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted(series))
    }
}

impl PipelineSpec {
    /// Whether a source of it takes the series.
    pub(super) fn takes(&self, store: &Arc<Store>) -> impl Fn(SeriesId) -> bool {
        let ways: Vec<Option<Wanted>> = self.all_sources().iter().map(|source| source.read.wanted(store)).collect();
        move |series| ways.iter().any(|wanted| wanted.as_ref().is_none_or(|wanted| wanted(series)))
    }

    /// What its stages make, in their order.
    pub(super) fn made(&self, store: &Arc<Store>) -> Vec<Made> {
        let sources = self.all_sources();
        // By source and stage: which series come that way, `None` where all do.
        let mut ways: Vec<(String, Option<Vec<Wanted>>)> = Vec::new();
        for source in &sources {
            ways.push((source.name.clone(), source.read.wanted(store).map(|wanted| vec![wanted])));
        }
        let mut all = Vec::new();
        for stage in &self.stages {
            let is_input = |name: &String| match &stage.inputs[..] {
                [] => sources.iter().any(|source| source.name == *name),
                inputs => inputs.contains(name),
            };
            let above = ways.iter().filter(|(name, _)| is_input(name)).map(|(_, wanted)| wanted.clone());
            let wanted = above.collect::<Option<Vec<_>>>().map(|all| all.concat());
            let made = stage.apply.made();
            all.extend(made.into_iter().map(|made| Made { wanted: wanted.clone().unwrap_or_default(), ..made }));
            // Series that a stage makes may be any.
            let wanted = wanted.filter(|_| !stage.apply.renames());
            ways.extend(stage.apply.names(&stage.name).into_iter().map(|name| (name, wanted.clone())));
        }
        all
    }
}

impl Apply {
    fn made(&self) -> Vec<Made> {
        match self {
            Apply::Compress(_) => vec![Made::of(Table::Compressed, 0, Vec::new())],
            Apply::Window(spec) => windows(spec),
            Apply::Anomaly(spec) => {
                let method = spec.method.name().to_owned();
                vec![Made::of(Table::Anomalies, 0, vec![Mark::Text("method", method)])]
            }
            Apply::Correlate(spec) => {
                let window = Length(spec.window).nanos();
                vec![Made::of(Table::Correlations, window, vec![Mark::Ends(window)])]
            }
            Apply::Filter(_)
            | Apply::Relabel(_)
            | Apply::Rate(_)
            | Apply::Sample(_)
            | Apply::Route(_)
            | Apply::Join(_)
            | Apply::Sql(_)
            | Apply::Throttle(_) => Vec::new(),
        }
    }
}

fn windows(spec: &WindowSpec) -> Vec<Made> {
    if let Some(gap) = spec.session.map(Length::nanos) {
        return vec![Made { gap, ..Made::of(Table::Sessions, 0, vec![Mark::Length("gap", gap)]) }];
    }
    let Some(every) = spec.every.map(Length::nanos) else { return Vec::new() };
    if let Some(length) = spec.length.map(Length::nanos) {
        let marks = vec![Mark::Length("length", length), Mark::Length("every", every)];
        return vec![Made::of(Table::Sliding, length, marks)];
    }
    let tiers = std::iter::once(every).chain(spec.tiers.iter().map(|tier| tier.nanos()));
    tiers.map(|every| Made::of(Table::Rollups, every, vec![Mark::Length("every", every)])).collect()
}
