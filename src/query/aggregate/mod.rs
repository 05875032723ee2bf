//! Aggregates over tracks without a row: labels are constant over a track and its times are sorted, so what `GROUP BY` labels
//! and buckets of time asks for are stretches of columns, summed up in a tight loop; no row is made and none is hashed.
//!
//! A rule puts this in the place of the first half of an aggregate ([`AggregateMode::Partial`]) right above a scan, where it
//! can say the same: groups by labels, `date_bin` and `date_trunc`; `count`, `sum`, `min`, `max`, `avg` of a field; the last
//! row of each group. The second half puts together what the partitions say, as for any other plan.

mod groups;
mod latest;
mod shape;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use self::groups::Groups;
use self::latest::Latest;
use self::shape::Shape;
use super::stream::{BlockingPartition, Reader, plan};
use super::tracks::{Tracks, TracksExec};

/// The rule.
#[derive(Debug)]
pub(super) struct AggregateTracks {
    /// Whether what files know of whole stretches of time is used where it says the same.
    pub summaries: bool,
}

impl PhysicalOptimizerRule for AggregateTracks {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(match over_tracks(&node, self.summaries)? {
                Some(instead) => Transformed::yes(instead),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "AggregateTracks"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What takes the place of a node, if it is half of an aggregate that can be said of tracks.
fn over_tracks(node: &Arc<dyn ExecutionPlan>, summaries: bool) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    match aggregate.mode() {
        AggregateMode::Partial => first_half(aggregate, node.schema(), summaries),
        AggregateMode::FinalPartitioned => second_half(aggregate),
        _ => Ok(None),
    }
}

/// Of what comes from one partition, the second half is done in one, too: there is nothing to share out.
fn second_half(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let input = aggregate.input();
    if !input.is::<TracksExec>() || input.output_partitioning().partition_count() > 1 {
        return Ok(None);
    }
    let (group_by, aggregates) = (aggregate.group_expr().clone(), aggregate.aggr_expr().to_vec());
    let (filters, schema) = (aggregate.filter_expr().to_vec(), aggregate.input_schema());
    let alone = AggregateExec::try_new(AggregateMode::Final, group_by, aggregates, filters, input.clone(), schema)?;
    Ok(Some(Arc::new(alone)))
}

fn first_half(aggregate: &AggregateExec, schema: SchemaRef, summaries: bool) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let projection = aggregate.input().downcast_ref::<ProjectionExec>();
    let below = projection.map_or(aggregate.input(), |projection| projection.input());
    let scan = below.downcast_ref::<TracksExec>().filter(|scan| scan.fetch().is_none() && !scan.chooses);
    let Some(scan) = scan else { return Ok(None) };
    let tracks = &scan.tracks;
    if let Some(latest) = Latest::of(aggregate, projection, tracks) {
        return replaced(&format!("LastRows of {}", scan.told), tracks, schema, Arc::new(latest)).map(Some);
    }
    let Some(shape) = Shape::of(aggregate, projection, tracks)? else { return Ok(None) };
    let Some(groups) = Groups::of(shape, tracks, summaries) else { return Ok(None) };
    let whole = if groups.has_summaries() { ", whole stretches from the summaries of files" } else { "" };
    replaced(&format!("AggregateByTrack of {}{whole}", scan.told), tracks, schema, Arc::new(groups)).map(Some)
}

/// Makes the rows of one partition.
trait Partial: Send + Sync + 'static {
    fn rows(&self, tracks: &Tracks, part: usize, schema: &SchemaRef, out: &mut dyn Reader) -> Result<()>;
}

/// Columns as the second half expects them.
fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let columns = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        let fits = column.data_type() == field.data_type();
        Ok(if fits { column } else { cast(&column, field.data_type())? })
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_>>()?, &options)?)
}

fn replaced(
    told: &str,
    tracks: &Arc<Tracks>,
    schema: SchemaRef,
    partial: Arc<dyn Partial>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = (0..tracks.parts.len()).map(|part| {
        let (tracks, schema, partial) = (tracks.clone(), schema.clone(), partial.clone());
        BlockingPartition::boxed(schema.clone(), move |out| partial.rows(&tracks, part, &schema, out))
    });
    let inner = plan(schema.clone(), partitions.collect(), None)?;
    Ok(Arc::new(TracksExec { told: told.to_owned(), tracks: tracks.clone(), chooses: false, inner, make: None }))
}

#[cfg(test)]
mod tests;
