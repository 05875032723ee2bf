//! Changes of the governor's zone, as rows of the table `zones`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};

use super::{Rows, Table, Timestamp};

/// Changes of the zone, as they are gathered.
#[derive(Debug, Default)]
pub struct Zones {
    times: Vec<i64>,
    /// What it is, and what it was.
    zones: [Vec<&'static str>; 2],
    /// CPU, memory and queue, shares from 0 to 1; memory over 1 where it is beyond its budget.
    shares: [Vec<f64>; 3],
    causes: Vec<&'static str>,
}

impl Zones {
    /// `zone_and_before` by name; `shares` of CPU, memory and queue; `cause` is the one of them that was most.
    pub fn push(&mut self, time: Timestamp, zone_and_before: [&'static str; 2], shares: [f64; 3], cause: &'static str) {
        self.times.push(time.nanos());
        self.zones.iter_mut().zip(zone_and_before).for_each(|(names, name)| names.push(name));
        self.shares.iter_mut().zip(shares).for_each(|(shares, share)| shares.push(share));
        self.causes.push(cause);
    }

    /// Takes what was gathered; `None` where nothing was.
    pub fn take(&mut self) -> Option<Rows> {
        let Zones { times, zones, shares, causes } = std::mem::take(self);
        if times.is_empty() {
            return None;
        }
        let text = |names: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(names)) };
        let time: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let mut columns = vec![time];
        columns.extend(zones.map(text));
        columns.extend(shares.map(|shares| Arc::new(Float64Array::from(shares)) as ArrayRef));
        columns.push(text(causes));
        let batch = RecordBatch::try_new(Table::Zones.schema(), columns).expect("columns are of the table's schema");
        Some(Rows { table: Table::Zones, batch })
    }
}
