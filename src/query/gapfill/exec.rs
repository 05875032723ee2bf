//! Groups in their order, in; the same with all buckets, out.
//!
//! Groups are gathered until the next one begins, since what comes after a gap is needed to fill it; the rows that are put in
//! are made a batch at a time, however many those are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{concat_batches, partition, take};
use arrow::datatypes::{Float64Type, IntervalMonthDayNano, SchemaRef, TimestampNanosecondType};
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, LexRequirement, OrderingRequirements, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Fill, SharedShape};
use crate::query::samples::BATCH_ROWS;

/// The buckets that there are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub width: IntervalMonthDayNano,
    /// Where the first begins; without it, where that of a group does.
    pub first: Option<i64>,
    pub last: Option<i64>,
}

impl Grid {
    /// Where the bucket after one begins; `None` where time ends.
    fn next(&self, bucket: i64) -> Option<i64> {
        let utc = "+00:00".parse().ok()?;
        TimestampNanosecondType::add_month_day_nano(bucket, self.width, utc).filter(|&next| next > bucket)
    }
}

/// The plan.
pub(super) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    shape: SharedShape,
    grid: Grid,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl GapFillExec {
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        shape: SharedShape,
        grid: Grid,
        schema: SchemaRef,
    ) -> Result<GapFillExec> {
        let IntervalMonthDayNano { months, days, nanoseconds } = grid.width;
        if months < 0 || days < 0 || nanoseconds < 0 || (months, days, nanoseconds) == (0, 0, 0) {
            return exec_err!("the width of gapfill has to be over 0, as in INTERVAL '1 minute'");
        }
        let order = LexOrdering::new(sorting(&input, &shape));
        let equivalence = EquivalenceProperties::new_with_orderings(schema.clone(), order);
        let partitioning = input.output_partitioning().clone();
        let properties =
            PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded)
                .with_scheduling_type(SchedulingType::Cooperative);
        Ok(GapFillExec { input, shape, grid, schema, properties: Arc::new(properties) })
    }
}

/// Columns of the groups by which the rows are in order, the bucket last.
fn order(shape: &SharedShape) -> impl Iterator<Item = usize> {
    let bucket = shape.bucket;
    (0..shape.groups).filter(move |&at| at != bucket).chain([bucket])
}

fn column(input: &Arc<dyn ExecutionPlan>, at: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(input.schema().field(at).name(), at))
}

fn sorting(input: &Arc<dyn ExecutionPlan>, shape: &SharedShape) -> Vec<PhysicalSortExpr> {
    order(shape).map(|at| PhysicalSortExpr::new_default(column(input, at))).collect()
}

impl fmt::Debug for GapFillExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GapFillExec")
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GapFillExec")?;
        self.shape.filled.iter().try_for_each(|filled| write!(f, ", {}", filled.name))
    }
}

#[async_trait]
impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let keys: Vec<_> = order(&self.shape).filter(|&at| at != self.shape.bucket).collect();
        InputDistributionRequirements::new(vec![match keys.is_empty() {
            true => Distribution::SinglePartition,
            false => Distribution::KeyPartitioned(keys.into_iter().map(|at| column(&self.input, at)).collect()),
        }])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let order = sorting(&self.input, &self.shape).into_iter().map(Into::into);
        vec![LexRequirement::new(order).map(OrderingRequirements::new)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("GapFillExec has an input") };
        Ok(Arc::new(GapFillExec::new(input, self.shape.clone(), self.grid, self.schema.clone())?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let anew = datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(anew))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let filling = Filling {
            input: Some(self.input.execute(partition, context.clone())?),
            shape: self.shape.clone(),
            grid: self.grid,
            schema: self.schema.clone(),
            waiting: Vec::new(),
            reservation: MemoryConsumer::new("gapfill").register(context.memory_pool()),
            groups: None,
        };
        let batches = stream::try_unfold(filling, |mut filling| async {
            Ok(filling.next().await?.map(|batch| (batch, filling)))
        });
        // Rows are put in without end and without waiting: so that it can be ended, it gives way now and then.
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.boxed()))))
    }
}

/// One partition under way.
struct Filling {
    input: Option<SendableRecordBatchStream>,
    shape: SharedShape,
    grid: Grid,
    schema: SchemaRef,
    /// Rows of the group that is not over yet.
    waiting: Vec<RecordBatch>,
    reservation: MemoryReservation,
    groups: Option<Groups>,
}

impl Filling {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(groups) = &mut self.groups {
                if let Some(batch) = groups.batch(&self.shape, &self.grid, &self.schema)? {
                    return Ok(Some(batch));
                }
                self.groups = None;
            }
            let Some(input) = &mut self.input else { return Ok(None) };
            let whole = match input.try_next().await? {
                Some(batch) => self.add(batch)?,
                None => {
                    self.input = None;
                    std::mem::take(&mut self.waiting)
                }
            };
            if let Some(first) = whole.first() {
                self.groups = Some(Groups::new(concat_batches(&first.schema(), &whole)?, &self.shape)?);
                self.reservation.resize(self.waiting.iter().map(RecordBatch::get_array_memory_size).sum());
            }
        }
    }

    /// Takes rows, and gives those of the groups that are over.
    fn add(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.reservation.try_grow(batch.get_array_memory_size())?;
        let ranges = ranges(&batch, &self.shape)?;
        let begins = ranges.last().map_or(0, |range| range.start);
        let goes_on = match self.waiting.last() {
            None => true,
            Some(before) => {
                let beside = [before.slice(before.num_rows() - 1, 1), batch.slice(0, 1)];
                self::ranges(&concat_batches(&batch.schema(), &beside)?, &self.shape)?.len() == 1
            }
        };
        if begins == 0 && goes_on {
            self.waiting.push(batch);
            return Ok(Vec::new());
        }
        let mut whole = std::mem::take(&mut self.waiting);
        if begins > 0 {
            whole.push(batch.slice(0, begins));
        }
        self.waiting.push(batch.slice(begins, batch.num_rows() - begins));
        Ok(whole)
    }
}

/// Rows of the same group.
fn ranges(batch: &RecordBatch, shape: &SharedShape) -> Result<Vec<Range<usize>>> {
    let keys: Vec<ArrayRef> =
        order(shape).filter(|&at| at != shape.bucket).map(|at| batch.column(at).clone()).collect();
    if keys.is_empty() {
        return Ok(std::iter::once(0..batch.num_rows()).collect());
    }
    Ok(partition(&keys)?.ranges())
}

/// Whole groups, and how far they are told.
struct Groups {
    rows: RecordBatch,
    buckets: TimestampNanosecondArray,
    ranges: Vec<Range<usize>>,
    /// By filled column and row: the last row with a value up to it, the next from it on, in its group.
    values: Vec<Values>,
    group: usize,
    /// The row of the group that comes next.
    row: usize,
    /// The bucket that comes next.
    bucket: Option<i64>,
}

struct Values {
    before: Vec<Option<u32>>,
    after: Vec<Option<u32>>,
}

impl Values {
    fn of(column: &ArrayRef, ranges: &[Range<usize>]) -> Values {
        let is_there = |row: usize| column.is_valid(row).then_some(row as u32);
        let (mut before, mut after) = (vec![None; column.len()], vec![None; column.len()]);
        for range in ranges {
            let mut found = None;
            for row in range.clone() {
                found = is_there(row).or(found);
                before[row] = found;
            }
            found = None;
            for row in range.clone().rev() {
                found = is_there(row).or(found);
                after[row] = found;
            }
        }
        Values { before, after }
    }
}

/// The rows of a batch to come.
#[derive(Default)]
struct Made {
    /// A row of the group.
    group: Vec<u32>,
    /// The row that it is, if it is not put in.
    same: Vec<Option<u32>>,
    /// The last row of the group that is not later, and the first that is not earlier.
    before: Vec<Option<u32>>,
    after: Vec<Option<u32>>,
    buckets: Vec<Option<i64>>,
}

impl Groups {
    fn new(rows: RecordBatch, shape: &SharedShape) -> Result<Groups> {
        let Some(buckets) = rows.column(shape.bucket).as_primitive_opt::<TimestampNanosecondType>().cloned() else {
            return internal_err!("buckets are times in nanoseconds");
        };
        let ranges = ranges(&rows, shape)?;
        let values = shape.filled.iter().map(|filled| Values::of(rows.column(filled.of), &ranges)).collect();
        let row = ranges.first().map_or(0, |range| range.start);
        Ok(Groups { rows, buckets, ranges, values, group: 0, row, bucket: None })
    }

    /// The next batch.
    fn batch(&mut self, shape: &SharedShape, grid: &Grid, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let mut made = Made::default();
        while made.group.len() < BATCH_ROWS && self.group < self.ranges.len() {
            let range = self.ranges[self.group].clone();
            if self.row == range.start && self.bucket.is_none() {
                self.bucket = grid.first.or_else(|| range.clone().find_map(|row| self.at(row)));
            }
            if !self.step(&range, grid, &mut made) {
                self.group += 1;
                self.row = self.ranges.get(self.group).map_or(self.rows.num_rows(), |range| range.start);
                self.bucket = None;
            }
        }
        if made.group.is_empty() { Ok(None) } else { self.made(made, shape, schema).map(Some) }
    }

    fn at(&self, row: usize) -> Option<i64> {
        self.buckets.is_valid(row).then(|| self.buckets.value(row))
    }

    /// One more row of a group; `false` where it has no more.
    fn step(&mut self, range: &Range<usize>, grid: &Grid, made: &mut Made) -> bool {
        let before = (self.row > range.start).then(|| self.row as u32 - 1);
        if self.row < range.end {
            let at = self.at(self.row);
            match self.bucket.filter(|&bucket| at.is_some_and(|at| bucket < at)) {
                Some(missing) => {
                    made.add(range.start, None, (before, Some(self.row as u32)), Some(missing));
                    self.bucket = grid.next(missing);
                }
                None => {
                    let row = Some(self.row as u32);
                    made.add(range.start, row, (row, row), at);
                    if at.is_some() && at == self.bucket {
                        self.bucket = at.and_then(|at| grid.next(at));
                    }
                    self.row += 1;
                }
            }
            return true;
        }
        match self.bucket.filter(|&bucket| grid.last.is_some_and(|last| bucket <= last)) {
            Some(missing) => {
                made.add(range.start, None, (before, None), Some(missing));
                self.bucket = grid.next(missing);
                true
            }
            None => false,
        }
    }

    fn made(&self, made: Made, shape: &SharedShape, schema: &SchemaRef) -> Result<RecordBatch> {
        let (group, same) = (UInt32Array::from(made.group), UInt32Array::from(made.same));
        let kept = (0..shape.kept).map(|at| match at {
            at if at == shape.bucket => {
                let buckets = TimestampNanosecondArray::from(made.buckets.clone());
                Ok(Arc::new(buckets.with_data_type(self.buckets.data_type().clone())) as ArrayRef)
            }
            at if at < shape.groups => Ok(take(self.rows.column(at), &group, None)?),
            at => Ok(take(self.rows.column(at), &same, None)?),
        });
        let filled = shape.filled.iter().zip(&self.values).map(|(filled, values)| {
            let column = self.rows.column(filled.of);
            let last = |row: Option<u32>| values.before[row? as usize];
            match filled.fill {
                Fill::Locf => {
                    let rows: UInt32Array = made.before.iter().map(|&row| last(row)).collect();
                    Ok(take(column, &rows, None)?)
                }
                Fill::Interpolate => {
                    let next = |row: Option<u32>| values.after[row? as usize];
                    let column = column.as_primitive::<Float64Type>();
                    let between = made.buckets.iter().zip(made.before.iter().zip(&made.after));
                    let line =
                        between.map(|(at, (&before, &after))| self.line(column, *at, last(before)?, next(after)?));
                    Ok(Arc::new(line.collect::<Float64Array>()) as ArrayRef)
                }
            }
        });
        Ok(RecordBatch::try_new(schema.clone(), kept.chain(filled).collect::<Result<_>>()?)?)
    }

    /// The value at a time on the straight line between those of two rows.
    fn line(&self, values: &Float64Array, at: Option<i64>, before: u32, after: u32) -> Option<f64> {
        let (before, after) = (before as usize, after as usize);
        let (from, to) = (values.value(before), values.value(after));
        let (Some(at), Some(start), Some(end)) = (at, self.at(before), self.at(after)) else {
            return (before == after).then_some(from);
        };
        if start == end {
            return Some(from);
        }
        let share = at.abs_diff(start) as f64 / end.abs_diff(start) as f64;
        Some(from + (to - from) * share)
    }
}

impl Made {
    fn add(
        &mut self,
        group: usize,
        same: Option<u32>,
        (before, after): (Option<u32>, Option<u32>),
        bucket: Option<i64>,
    ) {
        self.group.push(group as u32);
        self.same.push(same);
        self.before.push(before);
        self.after.push(after);
        self.buckets.push(bucket);
    }
}
