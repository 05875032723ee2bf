//! Which tables there are: `metrics`, the derived ones, one a metric, one a measurement.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;

use super::anomalies::events;
use super::derived::DerivedTable;
use super::dimension::Dimension;
use super::forecast::accuracy;
use super::samples::SamplesTable;
use super::system::LiveTable;
use super::wide::WideTable;
use crate::model::Table;
use crate::store::Snapshot;

/// The one catalog that there is.
pub const CATALOG: &str = "plimsoll";
pub(super) const SCHEMA: &str = "public";

/// `base` with these schemas.
pub(super) fn session<'s>(
    base: &SessionState,
    schemas: impl IntoIterator<Item = (&'s str, Arc<dyn SchemaProvider>)>,
) -> Result<SessionState> {
    let catalog = MemoryCatalogProvider::new();
    for (name, schema) in schemas {
        catalog.register_schema(name, schema)?;
    }
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    // A clone shares what is in it; a builder would register every function anew.
    let mut state = base.clone();
    state.register_catalog_list(Arc::new(catalogs));
    Ok(state)
}

/// The table of all samples, that of alarms that came together, and that of what became of forecasts.
const METRICS: &str = "metrics";
const EVENTS: &str = "anomaly_events";
const ACCURACY: &str = "forecast_accuracy";
/// Tables that are made when somebody asks, rather than stored.
const MADE: [&str; 3] = [METRICS, EVENTS, ACCURACY];

/// The tables over one snapshot.
pub(super) struct Tables {
    snapshot: Snapshot,
    dimension: Arc<Dimension>,
    live: Vec<LiveTable>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tables")
    }
}

impl Tables {
    pub fn new(snapshot: Snapshot, live: Vec<LiveTable>) -> Self {
        let dimension = Arc::new(Dimension::new(snapshot.registry().clone(), snapshot.series_count()));
        Tables { snapshot, dimension, live }
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.dimension.metrics();
        names.extend(self.dimension.measurements());
        names.extend(Table::ALL.iter().map(|table| table.name().to_owned()));
        names.extend(MADE.into_iter().chain(self.live.iter().map(|live| live.name)).map(str::to_owned));
        names.into_iter().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let samples = |metric: Option<&str>| -> Arc<dyn TableProvider> {
            Arc::new(SamplesTable::new(self.snapshot.clone(), self.dimension.clone(), metric))
        };
        if name == METRICS {
            return Ok(Some(samples(None)));
        }
        if name == EVENTS {
            return Ok(Some(events(self.snapshot.clone())));
        }
        if name == ACCURACY {
            return Ok(Some(accuracy(self.snapshot.clone())));
        }
        if let Some(live) = self.live.iter().find(|live| live.name == name) {
            return Ok(Some(live.provider()));
        }
        if let Some(table) = Table::of_name(name) {
            return Ok(Some(Arc::new(DerivedTable::new(self.snapshot.clone(), self.dimension.clone(), table))));
        }
        if self.dimension.has_metric(name) {
            return Ok(Some(samples(Some(name))));
        }
        let wide = |found| Arc::new(WideTable::new(self.snapshot.clone(), self.dimension.clone(), name, found));
        Ok(self.dimension.measurement(name).map(|found| wide(found) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        MADE.contains(&name)
            || self.live.iter().any(|live| live.name == name)
            || Table::of_name(name).is_some()
            || self.dimension.has_metric(name)
            || self.dimension.measurement(name).is_some()
    }
}
