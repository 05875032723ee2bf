//! Rows that a blocking function makes, as a partition of a plan.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

/// Batches that may wait for their reader.
const AHEAD: usize = 2;

type Make = dyn Fn(&mut dyn FnMut(RecordBatch) -> bool) -> Result<()> + Send + Sync;

/// One partition. Its function hands on batches until it is told that nobody wants more.
pub(super) struct BlockingPartition {
    schema: SchemaRef,
    make: Arc<Make>,
}

impl BlockingPartition {
    pub fn boxed(
        schema: SchemaRef,
        make: impl Fn(&mut dyn FnMut(RecordBatch) -> bool) -> Result<()> + Send + Sync + 'static,
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
        let (out, make) = (builder.tx(), self.make.clone());
        builder.spawn_blocking(move || make(&mut |batch| out.blocking_send(Ok(batch)).is_ok()));
        builder.build()
    }
}

/// The plan over such partitions.
pub(super) fn plan(
    schema: SchemaRef,
    partitions: Vec<Arc<dyn PartitionStream>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?))
}
