//! Rows that a blocking function makes, as a partition of a plan.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use tokio::sync::mpsc::Sender;

use crate::store::StoreError;

/// Batches that may wait for their reader.
const AHEAD: usize = 2;

/// Who reads the rows that a partition makes.
pub(super) trait Reader {
    /// Hands rows over; `false` when nobody wants more.
    fn take(&mut self, batch: RecordBatch) -> bool;

    /// Whether nobody wants more: to be asked now and then by who works long before there are rows.
    fn is_gone(&self) -> bool;
}

impl Reader for Sender<Result<RecordBatch>> {
    fn take(&mut self, batch: RecordBatch) -> bool {
        self.blocking_send(Ok(batch)).is_ok()
    }

    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

type Make = dyn Fn(&mut dyn Reader) -> Result<()> + Send + Sync;

/// One partition. Its function hands on batches until it is told that nobody wants more.
pub(super) struct BlockingPartition {
    schema: SchemaRef,
    make: Arc<Make>,
}

impl BlockingPartition {
    pub fn boxed(
        schema: SchemaRef,
        make: impl Fn(&mut dyn Reader) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<dyn PartitionStream> {
        Arc::new(BlockingPartition { schema, make: Arc::new(make) })
    }
}

impl fmt::Debug for BlockingPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockingPartition")
    }
}

impl PartitionStream for BlockingPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), AHEAD);
        let (mut out, make) = (builder.tx(), self.make.clone());
        builder.spawn_blocking(move || make(&mut out));
        builder.build()
    }
}

/// The columns of a table that are asked for.
pub(super) fn projected(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> Result<SchemaRef> {
    Ok(match projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => schema.clone(),
    })
}

/// What the store says it cannot read.
pub(super) fn of_store(error: StoreError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The plan over such partitions.
pub(super) fn plan(
    schema: SchemaRef,
    partitions: Vec<Arc<dyn PartitionStream>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?))
}
