//! `sql`: a statement over the samples of each window of time, whose rows become samples.
//!
//! The table `input` has the columns `metric`, `series` (as `cpu{host="a"}`), `time`, `value`, and one for each label that
//! came so far, null where a series has none; a label of one of those four names is `label_time` and so on. Of the answer
//! `value` must be there; `time` is the start of the window where it is not, `metric` the stage's name; every other column
//! is a label. A row whose time no sample may have is counted. A window is asked about when all sources are past it; what
//! comes later is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, Schema};
use serde::Deserialize;

use super::held::{BEFORE_ALL, Sources};
use super::said::{NO_VALUE, SaidSample, nanos, said_samples};
use super::series::{Names, count};
use super::spec::Around;
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Ask, Cut, Dropped, Out, Shard, Stage, Told, Watermark};
use crate::model::{Batch, SeriesDef, SeriesId, Timestamp};

/// Samples that windows hold which are not over.
const HELD_MAX: usize = 1 << 20;
/// Labels that are columns; further ones are left out.
const LABELS_MAX: usize = 200;
/// Columns that every window has.
const COLUMNS: [&str; 4] = ["metric", "series", "time", "value"];

/// `apply.sql`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlSpec {
    pub query: String,
    /// Length of a window, counted from 1970.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
}

impl SqlSpec {
    pub(super) fn fault(&self) -> Option<String> {
        if self.query.trim().is_empty() {
            return Some("query is empty: write one, as in query = \"SELECT avg(value) AS value FROM input\"".into());
        }
        let possible = self.every >= Duration::from_millis(1) && self.every <= Duration::from_secs(366 * 86_400);
        (!possible).then(|| format!("every = {:?} cannot be: write 1ms to 366d, as in \"1m\"", self.every))
    }

    /// The table that is asked, without a row, where series have such labels.
    pub fn empty_input(labels: &[String]) -> RecordBatch {
        let fixed = COLUMNS.into_iter().zip([DataType::Utf8, DataType::Utf8, nanos(), DataType::Float64]);
        let labels = labels.iter().map(|label| (label.as_str(), DataType::Utf8));
        let fields: Vec<Field> = fixed.chain(labels).map(|(name, kind)| Field::new(name, kind, true)).collect();
        RecordBatch::new_empty(Arc::new(Schema::new(fields)))
    }

    /// Why no samples can be made of an answer with such columns, and what to write.
    pub fn answer_fault(answer: &Schema) -> Option<String> {
        let of = |name: &str| answer.field_with_name(name).map(Field::data_type).ok();
        let Some(value) = of("value") else { return Some(NO_VALUE.to_owned()) };
        if value.is_string() {
            // As of a label, or a column whose name is misspelt.
            return Some(
                "`value` is a text: take it of the column `value`, or write CAST(… AS DOUBLE) AS value".into(),
            );
        }
        let cannot = |name: &str, kind: &DataType| of(name).is_some_and(|column| !can_cast_types(column, kind));
        if cannot("value", &DataType::Float64) {
            return Some(format!("`value` is a {value}: make it a number, as in avg(value) AS value"));
        }
        cannot("time", &nanos()).then(|| "`time` is no time: make it one, as in max(time) AS time".into())
    }
}

/// Samples of a window.
type Samples = Vec<(SeriesId, i64, f64)>;

/// The stage.
pub(super) struct Sql {
    spec: SqlSpec,
    every: i64,
    names: Names,
    ask: Option<Arc<dyn Ask>>,
    /// How far ahead of the clock a sample may be.
    future_max: i64,
    sources: Sources,
    /// Windows that are not over, by their start.
    open: BTreeMap<i64, Samples>,
    held: usize,
    /// Windows that begin before it were asked about.
    done: i64,
    labels: BTreeSet<Box<str>>,
    told: Told,
    dropped: Dropped,
    has_failed: bool,
}

impl Sql {
    pub fn new(spec: &SqlSpec, around: &Around) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Sql {
            spec: spec.clone(),
            every: nanos(spec.every),
            names: around.names.clone(),
            ask: around.tools.ask.clone(),
            future_max: nanos(around.tools.future_max),
            sources: Sources::new(around.name.clone()),
            open: BTreeMap::new(),
            held: 0,
            done: BEFORE_ALL,
            labels: BTreeSet::new(),
            told: Told::default(),
            dropped: Dropped::new(),
            has_failed: false,
        }
    }

    fn start_of(&self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.every))
    }

    fn sample(&mut self, series: SeriesId, time: i64, value: f64) {
        let start = self.start_of(time);
        if start < self.done {
            count(&mut self.dropped, "late: its window was asked about", 1);
        } else if self.held >= HELD_MAX {
            count(&mut self.dropped, "windows hold too many samples", 1);
        } else {
            self.open.entry(start).or_default().push((series, time, value));
            self.held += 1;
        }
    }

    /// Asks about the windows that are over.
    fn ask_to(&mut self, reached: i64, out: &mut Out<'_>) {
        let every = self.every;
        let is_over = |start: i64| start.saturating_add(every) <= reached;
        let over: Vec<i64> = self.open.keys().copied().take_while(|&start| is_over(start)).collect();
        let mut made = self.sources.batch();
        for &start in &over {
            let mut samples = self.open.remove(&start).unwrap_or_default();
            self.held -= samples.len();
            keep_last(&mut samples);
            if let Err(reason) = self.ask(start, &samples, &mut made) {
                count(&mut self.dropped, reason, samples.len());
            }
        }
        // Where all are idle nobody says how far they are: they may go on from where they were.
        let last = over.last().map_or(i64::MIN, |start| start.saturating_add(every));
        self.done = self.done.max(if reached == i64::MAX { last } else { self.start_of(reached) });
        let (new, late) = self.told.divide(&made);
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
        self.sources.tell(if reached == i64::MAX { reached } else { self.done }, out);
    }

    fn ask(&mut self, start: i64, samples: &Samples, made: &mut Batch) -> Result<(), &'static str> {
        let ask = self.ask.clone().ok_or("no SQL in this build")?;
        let input = self.input(samples)?;
        let answer = ask.ask(&self.spec.query, input).and_then(|answer| self.said(start, &answer));
        match answer {
            Ok((rows, refused)) => {
                count(&mut self.dropped, "its time is before 1971, or too far ahead", refused);
                for (series, time, value) in rows {
                    made.push(series, Timestamp::from_nanos(time), value);
                }
                Ok(())
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    let stage = &*self.sources.name;
                    tracing::error!(
                        stage,
                        error,
                        "a stage's query fails: what it is asked about is dropped and counted"
                    );
                }
                Err("the query failed")
            }
        }
    }

    /// The table that is asked.
    fn input(&mut self, samples: &Samples) -> Result<RecordBatch, &'static str> {
        let mut defs: BTreeMap<SeriesId, (SeriesDef, String)> = BTreeMap::new();
        for &(series, _, _) in samples {
            if let std::collections::btree_map::Entry::Vacant(place) = defs.entry(series) {
                let def = self.names.def(series).ok_or("the store is closed")?;
                let room = LABELS_MAX.saturating_sub(self.labels.len());
                let new: Vec<Box<str>> =
                    def.labels.iter().map(|(name, _)| name.into()).filter(|name| !self.labels.contains(name)).collect();
                self.labels.extend(new.into_iter().take(room));
                let text = def.to_string();
                place.insert((def, text));
            }
        }
        let column = |of: &dyn Fn(&(SeriesDef, String)) -> Option<String>| -> ArrayRef {
            let texts: BTreeMap<SeriesId, Option<String>> = defs.iter().map(|(id, def)| (*id, of(def))).collect();
            Arc::new(samples.iter().map(|(series, _, _)| texts[series].as_deref()).collect::<StringArray>())
        };
        let times = TimestampNanosecondArray::from_iter_values(samples.iter().map(|sample| sample.1));
        let mut columns: Vec<(String, ArrayRef)> = vec![
            (COLUMNS[0].into(), column(&|(def, _)| Some(def.metric.to_string()))),
            (COLUMNS[1].into(), column(&|(_, text)| Some(text.clone()))),
            (COLUMNS[2].into(), Arc::new(times.with_timezone("UTC"))),
            (COLUMNS[3].into(), Arc::new(Float64Array::from_iter_values(samples.iter().map(|sample| sample.2)))),
        ];
        for label in &self.labels {
            let name = if COLUMNS.contains(&&**label) { format!("label_{label}") } else { label.to_string() };
            if columns.iter().all(|(known, _)| *known != name) {
                columns.push((name, column(&|(def, _)| def.labels.get(label).map(str::to_owned))));
            }
        }
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|_| "the query failed")
    }

    /// Times that an answer may name: those that are taken of what comes in, where the clock stands at the last arrival or,
    /// for what was stored before, at the window's end.
    fn times(&self, start: i64) -> RangeInclusive<i64> {
        let now = self.sources.arrived.nanos().max(start.saturating_add(self.every));
        Timestamp::EARLIEST.nanos()..=now.saturating_add(self.future_max)
    }

    /// The samples that an answer says, by time, and how many of them have a time that cannot be.
    fn said(&self, start: i64, answer: &RecordBatch) -> Result<(Samples, usize), String> {
        let (mut samples, mut refused, possible) = (Samples::new(), 0, self.times(start));
        for SaidSample { def, time, value } in said_samples(answer, &self.sources.name)? {
            if time.is_some_and(|time| !possible.contains(&time)) {
                refused += 1;
                continue;
            }
            samples.push((self.names.make(&def, None)?, time.unwrap_or(start), value));
        }
        samples.sort_by_key(|(series, time, _)| (*time, *series));
        Ok((samples, refused))
    }

    fn state(&self) -> Vec<u8> {
        let mut state = Writer::default();
        self.sources.write(&mut state);
        state.i64(self.done);
        state.bytes(&self.told.state());
        state.u32(self.labels.len() as u32);
        self.labels.iter().for_each(|label| state.bytes(label.as_bytes()));
        for &(series, time, value) in self.open.values().flatten() {
            state.u32(series.0);
            state.i64(time);
            state.f64(value);
        }
        state.0
    }

    fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
        self.sources.read(from)?;
        let done = from.i64()?;
        self.told.restore(from.bytes()?, |_| true)?;
        for _ in 0..from.u32()? {
            self.labels.insert(std::str::from_utf8(from.bytes()?).ok()?.into());
        }
        while !from.0.is_empty() {
            self.sample(SeriesId(from.u32()?), from.i64()?, from.f64()?);
        }
        self.done = done;
        Some(())
    }
}

/// Of several samples of a series for one time the last that came.
fn keep_last(samples: &mut Samples) {
    samples.sort_by_key(|(series, time, _)| (*series, *time));
    samples.reverse();
    samples.dedup_by_key(|(series, time, _)| (*series, *time));
    samples.reverse();
}

impl Stage for Sql {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.sources.brought(batch, out);
        for (series, sample) in batch.iter() {
            self.sample(series, sample.time.nanos(), sample.value);
        }
    }

    /// A window that is not over takes what comes late.
    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.sources.brought(batch, out);
        for (series, sample) in batch.iter() {
            self.sample(series, sample.time.nanos(), sample.value);
        }
    }

    /// A window is not told before it is over.
    fn ahead(&mut self, _batch: &Arc<Batch>, _out: &mut Out<'_>) {}

    fn watermark(&mut self, watermark: &Watermark, out: &mut Out<'_>) {
        let reached = self.sources.reached(watermark, out);
        if reached == i64::MAX || self.start_of(reached) > self.done {
            self.ask_to(reached, out);
        }
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        self.state()
    }

    fn restore(&mut self, state: &[u8], _shard: Shard) -> bool {
        self.read(&mut Reader(state)).is_some()
    }

    fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;

    use super::*;
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, SECOND, spec};

    /// Answers with the sums by metric; "fail" with an error; "show" with a panic that shows the table.
    struct Sums;

    impl Ask for Sums {
        fn ask(&self, sql: &str, input: RecordBatch) -> Result<RecordBatch, String> {
            if sql == "fail" {
                return Err("it does not work".into());
            }
            if sql == "show" {
                return Err(pretty_format_batches(&[input]).unwrap().to_string());
            }
            let (metrics, values) = (input["metric"].as_string::<i32>(), input["value"].as_primitive::<Float64Type>());
            let mut sums: BTreeMap<String, f64> = BTreeMap::new();
            for row in 0..input.num_rows() {
                *sums.entry(metrics.value(row).to_owned()).or_default() += values.value(row);
            }
            let columns: [(&str, ArrayRef); 3] = [
                ("metric", Arc::new(StringArray::from_iter_values(sums.keys().map(|name| format!("{name}_sum"))))),
                ("value", Arc::new(Float64Array::from_iter_values(sums.values().copied()))),
                ("of", Arc::new(StringArray::from(vec![Some("all"); sums.len()]))),
            ];
            Ok(RecordBatch::try_from_iter(columns).unwrap())
        }
    }

    /// Answers with rows of such times.
    struct Times(Vec<Option<i64>>);

    impl Ask for Times {
        fn ask(&self, _: &str, _: RecordBatch) -> Result<RecordBatch, String> {
            let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0; self.0.len()]));
            let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(self.0.clone()));
            Ok(RecordBatch::try_from_iter([("value", values), ("time", times)]).unwrap())
        }
    }

    fn bench() -> Bench {
        Bench::asking(Some(Arc::new(Sums)))
    }

    #[test]
    fn a_window_is_asked_about_when_all_are_past_it() {
        let bench = bench();
        let mut run = bench.run(&Apply::Sql(spec("query = 'x'\nevery = '10s'")), None);
        run.batch(&[("m{a=1}", 1, 1.0), ("m{a=2}", 9, 2.0), ("n{}", 3, 7.0), ("m{a=1}", 11, 4.0)]);
        run.late(&[("n{}", 2, 1.0), ("n{}", 3, 8.0)]);
        run.watermark("a", 9);
        assert_eq!(run.told(), ["mark sql -", "mark sql 0"]);
        run.resume();
        run.watermark("a", 15);
        assert_eq!(run.told(), ["batch m_sum{of=all}@0=3 n_sum{of=all}@0=9", "mark sql 10"]);
        run.late(&[("n{}", 9, 1.0)]);
        run.watermark("a", 20);
        assert_eq!(run.told(), ["batch m_sum{of=all}@10=4", "mark sql 20"]);
        assert_eq!(run.dropped(), Dropped::from([("late: its window was asked about", 1)]));
    }

    #[test]
    fn times_that_no_sample_may_have_are_counted() {
        let day = 86_400;
        let (first, end) = (365 * day, 400 * day + 10);
        let seconds = [first - 1, first, end, end + day, end + day + 1];
        let times = [None, Some(i64::MIN), Some(i64::MAX), Some(0)];
        let times = times.into_iter().chain(seconds.map(|second| Some(second * SECOND)));
        let bench = Bench::asking(Some(Arc::new(Times(times.collect()))));
        let mut run = bench.run(&Apply::Sql(spec("query = 'x'\nevery = '10s'")), None);
        run.batch(&[("m{}", 400 * day, 1.0)]);
        run.watermark("a", 400 * day + 15);
        let told = [first, 400 * day, end, end + day].map(|second| format!("sql{{}}@{second}=1")).join(" ");
        assert_eq!(run.told(), ["mark sql -".to_owned(), format!("batch {told}"), format!("mark sql {end}")]);
        assert_eq!(run.dropped(), Dropped::from([("its time is before 1971, or too far ahead", 5)]));
    }

    #[test]
    fn labels_are_columns_from_when_they_come_first() {
        let bench = bench();
        let spec: SqlSpec = spec("query = 'x'\nevery = '10s'");
        let mut stage = Sql::new(&spec, &bench.around("sql", None));
        stage.input(&vec![(bench.id("m{time=noon,host=x}"), 1, 1.0)]).unwrap();
        let input = stage.input(&vec![(bench.id("m{zone=y}"), 1, 1.0)]).unwrap();
        let shown = pretty_format_batches(&[input]).unwrap().to_string();
        let lines: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "| metric | series | time | value | host | label_time | zone |");
        assert_eq!(lines[3], "| m | m{zone=\"y\"} | 1970-01-01T00:00:00.000000001Z | 1.0 | | | y |");
    }

    #[test]
    fn what_cannot_be_asked_is_counted() {
        for (ask, query, reason) in [(true, "fail", "the query failed"), (false, "x", "no SQL in this build")] {
            let bench = Bench::asking(ask.then(|| Arc::new(Sums) as Arc<dyn Ask>));
            let apply = Apply::Sql(SqlSpec { query: query.into(), every: Duration::from_secs(1) });
            let mut run = bench.run(&apply, None);
            run.batch(&[("m{}", 1, 1.0), ("m{}", 2, 2.0)]);
            run.watermark("a", 30);
            assert_eq!(run.told(), ["mark sql -", "mark sql 30"]);
            assert_eq!(run.dropped(), Dropped::from([(reason, 2)]));
        }
    }

    #[test]
    fn an_answer_must_have_a_number_and_may_have_a_time() {
        let value = |kind: DataType| Field::new("value", kind, true);
        let time = |kind: DataType| Field::new("time", kind, true);
        for (fields, told) in [
            (vec![value(DataType::Int64), time(nanos()), Field::new("host", DataType::Utf8, true)], None),
            (vec![value(DataType::Null)], None),
            (vec![time(nanos())], Some("no column `value`")),
            (vec![value(DataType::Utf8View)], Some("`value` is a text")),
            (vec![value(DataType::Binary)], Some("`value` is a Binary")),
            (vec![value(DataType::Float64), time(DataType::Boolean)], Some("`time` is no time")),
        ] {
            let fault = SqlSpec::answer_fault(&Schema::new(fields));
            assert_eq!(fault.is_some(), told.is_some(), "{fault:?}");
            assert!(fault.unwrap_or_default().contains(told.unwrap_or_default()));
        }
        let input = SqlSpec::empty_input(&["host".to_owned()]);
        let names: Vec<&str> = input.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["metric", "series", "time", "value", "host"]);
    }

    #[test]
    fn faults_say_what_to_write() {
        assert!(spec::<SqlSpec>("query = ' '\nevery = '1m'").fault().unwrap().contains("query is empty"));
        assert!(spec::<SqlSpec>("query = 'x'\nevery = '0s'").fault().unwrap().contains("every = 0ns cannot be"));
        assert!(toml::from_str::<SqlSpec>("query = 'x'").unwrap_err().to_string().contains("missing field `every`"));
    }
}
