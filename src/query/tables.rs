//! Which tables there are: `metrics`, the derived ones, one a metric, one a measurement.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::datasource::ViewTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};

use super::derived::DerivedTable;
use super::dimension::Dimension;
use super::samples::SamplesTable;
use crate::model::Table;
use crate::store::Snapshot;

pub(super) const CATALOG: &str = "plimsoll";
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
    Ok(SessionStateBuilder::new_from_existing(base.clone()).with_catalog_list(Arc::new(catalogs)).build())
}

/// The tables over one snapshot.
pub(super) struct Tables {
    snapshot: Snapshot,
    dimension: Arc<Dimension>,
    /// What views are planned with; `None` for the tables that a view is over.
    planner: Option<SessionState>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tables")
    }
}

impl Tables {
    /// `planner` plans views; it has no tables of its own.
    pub fn new(snapshot: Snapshot, planner: SessionState) -> Self {
        let dimension = Arc::new(Dimension::new(snapshot.registry().clone(), snapshot.series_count()));
        Tables { snapshot, dimension, planner: Some(planner) }
    }

    /// A session over the same tables without views. It must not be kept: a session that its own tables hold is never
    /// dropped, nor are the snapshot, its memory and its files.
    fn below(&self, planner: &SessionState) -> Result<SessionState> {
        let tables = Tables { snapshot: self.snapshot.clone(), dimension: self.dimension.clone(), planner: None };
        session(planner, [(SCHEMA, Arc::new(tables) as Arc<dyn SchemaProvider>)])
    }

    /// The fields of a measurement as columns, aligned on labels and time.
    async fn measurement(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let (Some(planner), Some((fields, labels))) = (&self.planner, self.dimension.measurement(name)) else {
            return Ok(None);
        };
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let text = |name: &str| format!("'{}'", name.replace('\'', "''"));
        let labels: Vec<String> = labels.iter().map(|label| quoted(label)).collect();
        let metric = |field: &String| text(&format!("{name}_{field}"));
        let columns: Vec<String> = fields
            .iter()
            .map(|field| format!("max(CASE WHEN metric = {} THEN value END) AS {}", metric(field), quoted(field)))
            .collect();
        let keys = std::iter::once("time".to_owned()).chain(labels).collect::<Vec<_>>().join(", ");
        let metrics = fields.iter().map(metric).collect::<Vec<_>>().join(", ");
        let sql =
            format!("SELECT {keys}, {} FROM metrics WHERE metric IN ({metrics}) GROUP BY {keys}", columns.join(", "));
        let plan = self.below(planner)?.create_logical_plan(&sql).await?;
        Ok(Some(Arc::new(ViewTable::new(plan, Some(sql)))))
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = vec!["metrics".into()];
        names.extend(Table::ALL.iter().map(|table| table.name().to_owned()));
        names.extend(self.dimension.metrics());
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let samples = |metric: Option<&str>| -> Arc<dyn TableProvider> {
            Arc::new(SamplesTable::new(self.snapshot.clone(), self.dimension.clone(), metric))
        };
        if name == "metrics" {
            return Ok(Some(samples(None)));
        }
        if let Some(table) = Table::of_name(name) {
            return Ok(Some(Arc::new(DerivedTable::new(self.snapshot.clone(), self.dimension.clone(), table))));
        }
        if self.dimension.has_metric(name) {
            return Ok(Some(samples(Some(name))));
        }
        self.measurement(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        name == "metrics"
            || Table::of_name(name).is_some()
            || self.dimension.has_metric(name)
            || self.dimension.measurement(name).is_some()
    }
}
