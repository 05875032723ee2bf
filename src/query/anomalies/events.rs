//! The table `anomaly_events`: alarms of whatever series that overlap, or begin within five minutes of the end of one
//! before, are one event.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::error::Result;

use super::alarms::{Alarm, QUIET, alarms};
use crate::model::SeriesId;
use crate::query::made::MadeTable;
use crate::query::samples::time_type;
use crate::store::Snapshot;

/// The table.
pub(in crate::query) fn events(snapshot: Snapshot) -> Arc<dyn TableProvider> {
    MadeTable::shared(schema(), move |out| {
        out.take(rows(&snapshot)?);
        Ok(())
    })
}

fn schema() -> SchemaRef {
    let count = |name: &str| Field::new(name, DataType::UInt64, false);
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str| Field::new(name, time_type(), false);
    let score = Field::new("score", DataType::Float64, false);
    let counts = ["alarms", "series", "metrics"].map(count);
    let mut fields = vec![time("time"), time("end")];
    fields.extend(counts);
    fields.extend([score, text("strongest"), text("first")]);
    Arc::new(Schema::new(fields))
}

#[derive(Default)]
struct Event {
    end: i64,
    alarms: Vec<Alarm>,
}

fn rows(snapshot: &Snapshot) -> Result<RecordBatch> {
    let events = together(alarms(snapshot)?);
    let name = |series: u32| snapshot.registry().def(SeriesId(series)).to_string();
    let strongest = |event: &Event| {
        let strength = |alarm: &&Alarm| (alarm.score.abs(), std::cmp::Reverse(alarm.series));
        let order =
            |a: &&Alarm, b: &&Alarm| strength(a).0.total_cmp(&strength(b).0).then(strength(a).1.cmp(&strength(b).1));
        event.alarms.iter().max_by(order).map_or((0, 0.0), |alarm| (alarm.series, alarm.score))
    };
    let times = |of: fn(&Event) -> i64| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter_values(events.iter().map(of)).with_timezone("UTC"))
    };
    let counts = |of: &dyn Fn(&Event) -> usize| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(events.iter().map(|event| of(event) as u64)))
    };
    let different = |event: &Event, of: &dyn Fn(u32) -> String| {
        event.alarms.iter().map(|alarm| of(alarm.series)).collect::<BTreeSet<String>>().len()
    };
    let metric = |series: u32| snapshot.registry().metric(SeriesId(series));
    let texts = |of: &dyn Fn(&Event) -> u32| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(events.iter().map(|event| name(of(event)))))
    };
    let columns: Vec<ArrayRef> = vec![
        times(|event| event.alarms[0].start),
        times(|event| event.end),
        counts(&|event| event.alarms.len()),
        counts(&|event| different(event, &|series| series.to_string())),
        counts(&|event| different(event, &metric)),
        Arc::new(Float64Array::from_iter_values(events.iter().map(|event| strongest(event).1))),
        texts(&|event| strongest(event).0),
        texts(&|event| event.alarms[0].series),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn together(mut alarms: Vec<Alarm>) -> Vec<Event> {
    alarms.sort_by_key(|alarm| (alarm.start, alarm.series));
    let mut events: Vec<Event> = Vec::new();
    for alarm in alarms {
        let end = alarm.end;
        match events.last_mut().filter(|event| alarm.start <= event.end.saturating_add(QUIET)) {
            Some(event) => {
                event.end = event.end.max(end);
                event.alarms.push(alarm);
            }
            None => events.push(Event { end, alarms: vec![alarm] }),
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_that_come_together_are_one_event() {
        let minute = 60_000_000_000;
        let alarm =
            |series, start: i64, end: i64| Alarm { series, start: start * minute, end: end * minute, score: 3.0 };
        let events =
            together(vec![alarm(2, 30, 31), alarm(1, 0, 20), alarm(2, 3, 4), alarm(3, 25, 26), alarm(1, 40, 41)]);
        let told: Vec<(i64, usize)> = events.iter().map(|event| (event.end / minute, event.alarms.len())).collect();
        assert_eq!(told, [(31, 4), (41, 1)]);
    }
}
