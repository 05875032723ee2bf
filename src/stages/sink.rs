//! Where rows and samples of a pipeline go, as it is written, and the stage at the end of the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytesize::ByteSize;
use serde::Deserialize;

use crate::flow::codec::{Reader, Writer};
use crate::flow::{
    Courier, Couriers, Cut, Delivery, Does, Dropped, FileSpec, ForwardSpec, Haste, LineFormat, Names, Node, Out,
    Outbox, Overflow, Parcel, Shard, Stage, StageMaker, WebhookSpec,
};
use crate::model::{Batch, Rows, SeriesId, Table, Timestamp};

/// How long a courier may take for the rest when the pipeline ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// One `[[sinks]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    /// Unique in the file.
    pub name: String,
    /// Sources and stages whose samples and rows it takes.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Where to: `write.file = { path = "out.ndjson" }`.
    pub write: WriteSpec,
    /// What it takes of its inputs, where it may choose; both without it.
    #[serde(default)]
    pub takes: Option<Vec<Takes>>,
    /// What becomes of what has no room before it.
    #[serde(default)]
    pub overflow: Option<Overflow>,
    /// How much waits before it.
    #[serde(default)]
    pub queue: Option<ByteSize>,
}

/// What a sink takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Takes {
    Rows,
    Samples,
}

/// The kinds of sinks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum WriteSpec {
    /// The store of this node.
    Store(EmptySpec),
    File(FileSpec),
    Stdout(EmptySpec),
    Webhook(WebhookSpec),
    Forward(ForwardSpec),
}

/// `{}`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptySpec {}

impl SinkSpec {
    pub(super) fn is_store(&self) -> bool {
        matches!(self.write, WriteSpec::Store(_))
    }

    /// As it is written.
    pub fn kind(&self) -> &'static str {
        match self.write {
            WriteSpec::Store(_) => "store",
            WriteSpec::File(_) => "file",
            WriteSpec::Stdout(_) => "stdout",
            WriteSpec::Webhook(_) => "webhook",
            WriteSpec::Forward(_) => "forward",
        }
    }

    /// What is wrong with the values, and what to write: the text to point at, and what to say.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let of_write = match &self.write {
            WriteSpec::Store(_) | WriteSpec::Stdout(_) => None,
            WriteSpec::File(spec) => spec.fault(),
            WriteSpec::Webhook(spec) => spec.fault(),
            WriteSpec::Forward(spec) => spec.fault(),
        };
        faults.extend(of_write.map(|told| ("write", told)));
        let is_outside = !self.is_store();
        if !is_outside && (self.overflow.is_some() || self.queue.is_some()) {
            faults.push(("write", "overflow and queue are for what leaves this node: leave them out".to_owned()));
        }
        if self.takes.is_some() && !matches!(self.write, WriteSpec::File(_) | WriteSpec::Stdout(_)) {
            let told = match self.write {
                WriteSpec::Webhook(_) => "a webhook takes rows, and only them",
                WriteSpec::Forward(_) => "upstreams take samples, and only them",
                _ => "the store takes all",
            };
            faults.push(("takes", format!("{told}: leave takes out")));
        }
        if self.takes.as_ref().is_some_and(Vec::is_empty) {
            faults.push(("takes", "takes is empty: write \"rows\", \"samples\" or both".to_owned()));
        }
        let is_csv = matches!(&self.write, WriteSpec::File(FileSpec { format: LineFormat::Csv, .. }));
        if is_csv && self.takes.as_deref() != Some(&[Takes::Samples]) {
            let told = "csv has one set of columns: write takes = [\"samples\"] beside it, or format = \"ndjson\"";
            faults.push(("write", told.to_owned()));
        }
        if self.queue.is_some_and(|queue| queue.as_u64() < 1000 || queue.as_u64() > 1 << 30) {
            faults.push(("queue", "queue cannot be: write 1 kB to 1 GB".to_owned()));
        }
        faults
    }

    /// Whether it takes nothing but rows.
    pub(super) fn needs_rows(&self) -> bool {
        !self.takes(Takes::Samples)
    }

    fn takes(&self, what: Takes) -> bool {
        match &self.write {
            WriteSpec::Webhook(_) => what == Takes::Rows,
            WriteSpec::Forward(_) => what == Takes::Samples,
            _ => self.takes.as_ref().is_none_or(|takes| takes.contains(&what)),
        }
    }

    fn room(&self) -> usize {
        let bytes = self.queue.map_or(16_000_000, |queue| queue.as_u64());
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn delivery(&self) -> Option<Delivery> {
        Some(match &self.write {
            WriteSpec::Store(_) => return None,
            WriteSpec::File(spec) => Delivery::File(spec.clone()),
            WriteSpec::Stdout(_) => Delivery::Stdout,
            WriteSpec::Webhook(spec) => Delivery::Webhook(spec.clone()),
            WriteSpec::Forward(spec) => Delivery::Forward(spec.clone()),
        })
    }

    /// The stage at the end: it keeps what samples stages made for the store, or sends all away.
    pub(super) fn maker(&self, around: &Outside) -> StageMaker {
        let (spec, around) = (self.clone(), around.clone());
        Box::new(move |_| -> Box<dyn Stage> {
            match spec.delivery() {
                None => Box::new(Storing),
                Some(delivery) => Box::new(Sending::open(&spec, &delivery, &around)),
            }
        })
    }
}

/// What sinks are made with.
#[derive(Clone)]
pub(super) struct Outside {
    pub couriers: Arc<dyn Couriers>,
    pub names: Names,
    pub haste: Arc<Haste>,
}

/// Gives samples that stages made to the store.
struct Storing;

impl Stage for Storing {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.samples(batch);
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.samples(batch);
    }

    fn checkpoint(&mut self, _: Cut, _: &mut Out<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _: &[u8], _: Shard) -> bool {
        true
    }
}

/// Sends what comes to a courier.
struct Sending {
    takes_rows: bool,
    takes_samples: bool,
    outbox: Arc<Outbox>,
    /// Or why there is none.
    courier: Result<Box<dyn Courier>, String>,
}

impl Sending {
    fn open(spec: &SinkSpec, delivery: &Delivery, around: &Outside) -> Self {
        let outbox = Arc::new(Outbox::new(spec.room(), spec.overflow.unwrap_or_default(), around.haste.clone()));
        let courier = around.couriers.open(&spec.name, delivery, around.names.clone(), outbox.clone());
        Sending {
            takes_rows: spec.takes(Takes::Rows),
            takes_samples: spec.takes(Takes::Samples),
            outbox,
            courier: courier.map_err(|error| format!("sink `{}` does not start: {error}", spec.name)),
        }
    }

    fn put(&self, parcel: Parcel) {
        // Its pipeline ends and says so, as with any stage that fails.
        if let Err(told) = &self.courier {
            std::panic::panic_any(told.clone());
        }
        self.outbox.put(parcel);
    }

    fn put_samples(&self, batch: &Arc<Batch>) {
        if self.takes_samples {
            self.put(Parcel::Samples(batch.clone()));
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl Stage for Sending {
    fn batch(&mut self, batch: &Arc<Batch>, _: &mut Out<'_>) {
        self.put_samples(batch);
    }

    fn late(&mut self, batch: &Arc<Batch>, _: &mut Out<'_>) {
        self.put_samples(batch);
    }

    fn rows(&mut self, rows: &Rows, _: &mut Out<'_>) {
        if self.takes_rows
            && let Some(rows) = shown(rows)
        {
            self.put(Parcel::Rows(rows));
        }
    }

    fn checkpoint(&mut self, cut: Cut, _: &mut Out<'_>) -> Vec<u8> {
        self.outbox.pass_cut();
        self.outbox.settle(if cut.last { PATIENCE } else { Duration::ZERO });
        let undelivered = self.outbox.undelivered();
        if let Ok(courier) = &mut self.courier {
            courier.settle();
        }
        encode(&undelivered)
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        let Some(parcels) = decode(state) else { return false };
        if shard.number == 0 {
            parcels.into_iter().for_each(|parcel| self.outbox.put_back(parcel));
        }
        true
    }

    fn dropped(&self) -> Dropped {
        self.outbox.dropped()
    }

    fn put_off(&self) -> u64 {
        self.outbox.waiting()
    }
}

/// The rows that say something; those made of nothing only take others back.
fn shown(rows: &Rows) -> Option<Rows> {
    let Some(column) = rows.table.count_column() else { return Some(rows.clone()) };
    let counts = rows.batch.column_by_name(column)?;
    let counts = arrow::array::AsArray::as_primitive_opt::<arrow::datatypes::UInt64Type>(counts)?;
    let keeps = arrow::array::BooleanArray::from_iter(counts.iter().map(|count| Some(count != Some(0))));
    let batch = arrow::compute::filter_record_batch(&rows.batch, &keeps).ok()?;
    (batch.num_rows() > 0).then_some(Rows { table: rows.table, batch })
}

const SAMPLES: u32 = 0;
const ROWS: u32 = 1;

/// Parcels one after another: kind, then source, number, and series, time and value of each sample; or table and rows.
fn encode(parcels: &[Arc<Parcel>]) -> Vec<u8> {
    let mut state = Writer::default();
    for parcel in parcels {
        match &**parcel {
            Parcel::Samples(batch) => {
                state.u32(SAMPLES);
                state.bytes(batch.source.as_bytes());
                state.i64(batch.arrived.nanos());
                state.u32(u32::try_from(batch.len()).unwrap_or(u32::MAX));
                for (series, sample) in batch.iter() {
                    state.u32(series.0);
                    state.i64(sample.time.nanos());
                    state.f64(sample.value);
                }
            }
            Parcel::Rows(rows) => {
                let Some(bytes) = rows_bytes(rows) else { continue };
                state.u32(ROWS);
                state.bytes(rows.table.name().as_bytes());
                state.bytes(&bytes);
            }
        }
    }
    state.0
}

fn rows_bytes(rows: &Rows) -> Option<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.batch.schema()).ok()?;
    writer.write(&rows.batch).ok()?;
    writer.into_inner().ok()
}

fn decode(state: &[u8]) -> Option<Vec<Parcel>> {
    let (mut from, mut parcels) = (Reader(state), Vec::new());
    while !from.0.is_empty() {
        match from.u32()? {
            SAMPLES => {
                let source = std::str::from_utf8(from.bytes()?).ok()?.into();
                let mut batch = Batch { source, arrived: Timestamp::from_nanos(from.i64()?), ..Batch::default() };
                for _ in 0..from.u32()? {
                    batch.push(SeriesId(from.u32()?), Timestamp::from_nanos(from.i64()?), from.f64()?);
                }
                parcels.push(Parcel::Samples(Arc::new(batch)));
            }
            ROWS => {
                let table = Table::of_name(std::str::from_utf8(from.bytes()?).ok()?)?;
                for batch in StreamReader::try_new(from.bytes()?, None).ok()? {
                    parcels.push(Parcel::Rows(Rows { table, batch: batch.ok()? }));
                }
            }
            _ => return None,
        }
    }
    Some(parcels)
}

/// Which nodes hand on samples that stages made.
pub(super) fn made_samples(nodes: &[Node]) -> Vec<bool> {
    let mut made: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let renames = matches!(node.does, Does::Stage { renames: true, .. });
        let of_inputs = node.inputs.iter().any(|&input| made[input]);
        made.push(renames || of_inputs);
    }
    made
}

/// Names of all inputs of sinks that are the store.
pub(super) fn stored(sinks: &[SinkSpec]) -> BTreeSet<&str> {
    let of_store = sinks.iter().filter(|sink| sink.is_store());
    of_store.flat_map(|sink| &sink.inputs).map(String::as_str).collect()
}

#[cfg(test)]
mod tests;
