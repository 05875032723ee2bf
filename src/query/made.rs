//! A table whose rows a function makes when somebody asks for them: what table functions give.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::stream::{BlockingPartition, Reader, plan};

type Make = dyn Fn(&mut dyn Reader) -> Result<()> + Send + Sync;

/// The table.
pub(super) struct MadeTable {
    schema: SchemaRef,
    make: Arc<Make>,
}

impl MadeTable {
    /// `make` hands on whole rows of `schema`, until it is told that nobody wants more.
    pub fn shared(
        schema: SchemaRef,
        make: impl Fn(&mut dyn Reader) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<dyn TableProvider> {
        Arc::new(MadeTable { schema, make: Arc::new(make) })
    }
}

impl fmt::Debug for MadeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MadeTable")
    }
}

/// Hands on the columns that are asked for.
struct Projecting<'r> {
    out: &'r mut dyn Reader,
    columns: &'r [usize],
}

impl Reader for Projecting<'_> {
    fn take(&mut self, batch: RecordBatch) -> bool {
        // Columns that are there can be chosen.
        batch.project(self.columns).is_ok_and(|batch| self.out.take(batch))
    }

    fn is_gone(&self) -> bool {
        self.out.is_gone()
    }
}

#[async_trait]
impl TableProvider for MadeTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let make = self.make.clone();
        let partition =
            BlockingPartition::boxed(schema.clone(), move |out| make(&mut Projecting { out, columns: &columns }));
        plan(schema, vec![partition], limit)
    }
}
