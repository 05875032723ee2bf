//! Where a pipeline's samples come from, as it is written: what comes in, what is stored, files.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::told::{self, Column};
use crate::flow::{self, ReadFileSpec, Readers};
use crate::model::{Pattern, SeriesId, Span, Table, Timestamp};
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
    /// What is in the store when the pipeline starts for the first time.
    Table(TableSpec),
    /// A file, read when the pipeline starts for the first time.
    File(ReadFileSpec),
}

/// `read.live`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveSpec {
    /// Metrics whose series it takes, as in `cpu_*`; all where there are none.
    pub metrics: Vec<Pattern>,
}

/// `read.table`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// `samples`, or a derived table.
    pub table: String,
    #[serde(default)]
    pub metrics: Vec<Pattern>,
    /// The column of a derived table whose numbers are the values.
    #[serde(default)]
    pub column: Option<String>,
    /// Of windows that begin so often; of all where it is not written.
    #[serde(default, with = "humantime_serde")]
    pub every: Option<Duration>,
    /// From this time on, and up to this time.
    #[serde(default)]
    pub from: Option<String>,
    #[serde(default)]
    pub to: Option<String>,
}

/// Which series a source takes.
pub(super) type Wanted = Arc<dyn Fn(SeriesId) -> bool + Send + Sync>;

/// Name of the table that no stage makes.
const SAMPLES: &str = "samples";

impl TableSpec {
    /// The derived table; `None` for samples.
    fn derived(&self) -> Option<Table> {
        Table::of_name(&self.table)
    }

    /// What is wrong: the text to point at, and what to write.
    fn fault(&self) -> Option<(&'static str, String)> {
        let times = [("from", &self.from), ("to", &self.to)];
        for (key, text) in times.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
            if let Err(error) = Timestamp::parse(text) {
                return Some((
                    key,
                    format!("{key} = \"{text}\" is no time ({error}): write one as 2026-01-31T12:00:00Z"),
                ));
            }
        }
        if self.span().is_empty() {
            return Some(("from", "nothing lies between from and to: write from before to".to_owned()));
        }
        if self.table == SAMPLES {
            let written = [("column", self.column.is_some()), ("every", self.every.is_some())];
            let key = written.into_iter().find(|(_, is_written)| *is_written)?.0;
            return Some((key, format!("{key} is for derived tables: leave it out, samples have one value")));
        }
        let Some(table) = self.derived().filter(|table| !told::columns(*table).is_empty()) else {
            let known = Table::ALL.into_iter().filter(|table| !told::columns(*table).is_empty()).map(Table::name);
            let known: Vec<&str> = std::iter::once(SAMPLES).chain(known).collect();
            let told =
                format!("`{}` is no table with numbers of series: write one of {}", self.table, known.join(", "));
            return Some(("table", told));
        };
        let known = told::columns(table).join(", ");
        match &self.column {
            None => return Some(("table", format!("there is no column: write column = \"…\", one of {known}"))),
            Some(column) if Column::of(table, column).is_none() => {
                return Some(("column", format!("`{column}` is no column of {}: write one of {known}", table.name())));
            }
            Some(_) => {}
        }
        let has_every = table.schema().field_with_name("every").is_ok();
        let told = || ("every", format!("{} has no windows of a length: leave every out", table.name()));
        (self.every.is_some() && !has_every).then(told)
    }

    fn span(&self) -> Span {
        let time = |text: &Option<String>| text.as_ref().and_then(|text| Timestamp::parse(text).ok());
        Span::new(time(&self.from).unwrap_or(Timestamp::MIN), time(&self.to).unwrap_or(Timestamp::MAX))
    }
}

impl ReadSpec {
    /// What is wrong: the text to point at, and what to write.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        match self {
            ReadSpec::Live(_) => None,
            ReadSpec::Table(spec) => spec.fault(),
            ReadSpec::File(spec) => {
                spec.path.as_os_str().is_empty().then(|| ("path", "path is empty: write where the file is".to_owned()))
            }
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, ReadSpec::Live(_))
    }

    fn metrics(&self) -> &[Pattern] {
        match self {
            ReadSpec::Live(LiveSpec { metrics }) | ReadSpec::Table(TableSpec { metrics, .. }) => metrics,
            ReadSpec::File(_) => &[],
        }
    }

    pub(super) fn wanted(&self, store: &Arc<Store>) -> Option<Wanted> {
        if self.metrics().is_empty() {
            return None;
        }
        let (metrics, registry) = (self.metrics().to_vec(), store.registry().clone());
        Some(Arc::new(move |series| {
            let metric = registry.metric(series);
            metrics.iter().any(|pattern| pattern.fits(&metric))
        }))
    }

    pub(super) fn spec(
        &self,
        name: &str,
        store: &Arc<Store>,
        wanted: Option<Wanted>,
        readers: &Arc<dyn Readers>,
    ) -> flow::SourceSpec {
        let (name, store): (Arc<str>, _) = (name.into(), Arc::downgrade(store));
        match self {
            ReadSpec::Live(_) => flow::SourceSpec::Live(wanted.map(|wanted| {
                let boxed: flow::Wanted = Box::new(move |series| wanted(series));
                boxed
            })),
            ReadSpec::Table(spec) => {
                let (span, table, every) = (spec.span(), spec.derived(), spec.every);
                let column = table.zip(spec.column.as_deref()).and_then(|(table, column)| Column::of(table, column));
                flow::SourceSpec::Stored(Box::new(move || match (table, column) {
                    (Some(table), Some(column)) => {
                        told::derived(&store, &name, wanted.as_ref(), (table, column), every, span)
                    }
                    _ => told::samples(&store, &name, wanted.clone(), span),
                }))
            }
            ReadSpec::File(spec) => {
                let (spec, readers) = (spec.clone(), readers.clone());
                flow::SourceSpec::Stored(Box::new(move || told::file(&store, &name, &spec, &*readers)))
            }
        }
    }
}
