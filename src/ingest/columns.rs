//! Rows that come in columns, as those of a Parquet file.
//!
//! ```text
//! metric | time                 | value | labels          | host
//! cpu    | 2026-01-31T12:00:00Z | 0.5   | {"region":"eu"} | a      cpu{host="a",region="eu"} = 0.5
//! ```
//! A column of times and one of values, the metric in a column or said for all, labels as JSON or a map, and a column a
//! label. A row without a value is a gap.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema, TimeUnit, TimestampNanosecondType};
use hashbrown::HashMap;

use super::format::{ReadError, Shown};
use super::{CsvMapping, Gather};
use crate::model::Timestamp;

/// Columns of times, where nobody names one.
const TIME_NAMES: [&str; 3] = ["time", "timestamp", "ts"];

/// Reads batches of rows whose columns have the same names.
pub struct Columns {
    time: String,
    value: String,
    /// Where there is no column `metric`.
    metric: String,
    /// Labels of every row.
    labels: Vec<(String, String)>,
    /// Names of labels and the columns that hold them.
    label_columns: Vec<(String, String)>,
    /// Rows read.
    rows: u64,
}

type Pairs = Vec<(String, String)>;

impl Columns {
    /// By `mapping`, where it says something; else by the columns' names. `fallback_metric` is for rows that name none.
    ///
    /// # Errors
    /// A column that is not there.
    pub fn new(schema: &Schema, mapping: &CsvMapping, fallback_metric: &str) -> Result<Self, ReadError> {
        let has = |name: &str| schema.column_with_name(name).is_some();
        let found = TIME_NAMES.into_iter().find(|name| has(name)).unwrap_or("time");
        let column_of = |text: &str| Some(text.strip_prefix('{')?.strip_suffix('}')?.to_owned());
        let (from_columns, labels): (Pairs, Pairs) =
            mapping.labels.iter().cloned().partition(|(_, text)| column_of(text).is_some());
        let columns = Columns {
            time: mapping.time.as_deref().unwrap_or(found).to_owned(),
            value: mapping.value.as_deref().unwrap_or("value").to_owned(),
            metric: mapping.metric.as_deref().unwrap_or(fallback_metric).to_owned(),
            labels,
            label_columns: from_columns
                .into_iter()
                .filter_map(|(name, text)| Some((name, column_of(&text)?)))
                .collect(),
            rows: 0,
        };
        columns.check(schema)?;
        Ok(columns)
    }

    fn check(&self, schema: &Schema) -> Result<(), ReadError> {
        let needed = [("time", &self.time), ("value", &self.value)];
        let of_labels = self.label_columns.iter().map(|(_, column)| ("label", column));
        let mut all = needed.into_iter().chain(of_labels);
        let Some((option, name)) = all.find(|(_, name)| schema.column_with_name(name).is_none()) else {
            return Ok(());
        };
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let names = names.join(", ");
        Err(ReadError::Header(format!("no column `{name}` for --{option}: the columns are {names}")))
    }

    /// Takes the rows of a batch. The line of a fault is its row, from 1.
    ///
    /// # Errors
    /// Columns that hold something else than they must, and refusals.
    pub fn read(&mut self, batch: &RecordBatch, gather: &mut Gather<'_>) -> Result<(), ReadError> {
        let stamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let times = Cast::new(batch, &self.time, &stamp)?;
        let values = Cast::new(batch, &self.value, &DataType::Float64)?;
        let metrics = batch.column_by_name("metric").map(|column| text("metric", column)).transpose()?;
        let texts = self.texts(batch)?;
        let nested = batch.column_by_name("labels").map(label_sets).transpose()?;
        let (time_of, value_of) = (times.to.as_primitive::<TimestampNanosecondType>(), values.to.as_primitive());
        let value_of: &arrow::array::PrimitiveArray<Float64Type> = value_of;
        for (row, line) in (0..batch.num_rows()).zip(self.rows + 1..) {
            if values.from.is_null(row) {
                continue;
            }
            let bad = values.fault(row, "number").or_else(|| times.fault(row, "time"));
            let bad = bad.or_else(|| metrics.as_ref()?.is_null(row).then(|| "column `metric` names none".to_owned()));
            if let Some(reason) = bad {
                gather.faults.add(line, reason);
                continue;
            }
            let metric = metrics.as_ref().map_or(&*self.metric, |metrics| metrics.value(row));
            let pairs = nested.as_ref().map_or(&[][..], |(sets, keys)| sets[keys[row]].as_slice());
            let labels = self.labels_of(row, &texts, pairs);
            let (time, value) = (Timestamp::from_nanos(time_of.value(row)), value_of.value(row));
            gather.sample(line, metric, &labels, None, time, value)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The columns that are labels, those that were asked for last.
    fn texts<'c>(&'c self, batch: &'c RecordBatch) -> Result<Texts<'c>, ReadError> {
        let schema = batch.schema_ref();
        let is_label = |name: &str| {
            !matches!(name, "metric" | "labels")
                && name != self.time
                && name != self.value
                && self.label_columns.iter().all(|(_, column)| column != name)
        };
        let plain = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| is_label(field.name()));
        let plain = plain.filter_map(|(field, column)| Some((field.name().as_str(), text(field.name(), column).ok()?)));
        let asked = self.label_columns.iter().map(|(name, column)| {
            let array = batch.column_by_name(column).ok_or_else(|| missing(column))?;
            Ok((name.as_str(), text(column, array)?))
        });
        Ok(Texts { plain: plain.collect(), asked: asked.collect::<Result<_, ReadError>>()? })
    }

    fn labels_of<'r>(
        &'r self,
        row: usize,
        texts: &'r Texts<'_>,
        nested: &'r [(String, String)],
    ) -> Vec<(&'r str, &'r str)> {
        let of_row = |(name, text): &'r (&'r str, StringArray)| text.is_valid(row).then(|| (*name, text.value(row)));
        let borrowed = |(name, value): &'r (String, String)| (name.as_str(), value.as_str());
        let mut labels: Vec<(&str, &str)> = texts.plain.iter().filter_map(of_row).collect();
        labels.extend(nested.iter().map(borrowed));
        labels.extend(texts.asked.iter().filter_map(of_row));
        labels.extend(self.labels.iter().map(borrowed));
        labels
    }
}

struct Texts<'c> {
    plain: Vec<(&'c str, StringArray)>,
    asked: Vec<(&'c str, StringArray)>,
}

/// A column as it came, and as it is wanted.
struct Cast<'c> {
    name: &'c str,
    from: &'c ArrayRef,
    to: ArrayRef,
}

impl<'c> Cast<'c> {
    fn new(batch: &'c RecordBatch, name: &'c str, wanted: &DataType) -> Result<Self, ReadError> {
        let from = batch.column_by_name(name).ok_or_else(|| missing(name))?;
        let to = cast(from, wanted)
            .map_err(|error| ReadError::Header(format!("column `{name}` cannot be read as {wanted}: {error}")))?;
        Ok(Cast { name, from, to })
    }

    /// What is wrong with a cell that is no `what`.
    fn fault(&self, row: usize, what: &str) -> Option<String> {
        if self.to.is_valid(row) {
            return None;
        }
        let cell = text(self.name, &self.from.slice(row, 1)).ok().filter(|cell| cell.is_valid(0));
        let cell = cell.as_ref().map_or("", |cell| cell.value(0));
        Some(format!("column `{}`: {} is no {what}", self.name, Shown(cell.as_bytes())))
    }
}

fn missing(name: &str) -> ReadError {
    ReadError::Header(format!("there is no column `{name}`"))
}

fn text(name: &str, column: &ArrayRef) -> Result<StringArray, ReadError> {
    let texts = cast(column, &DataType::Utf8)
        .map_err(|error| ReadError::Header(format!("column `{name}` holds no texts: {error}")))?;
    Ok(texts.as_string::<i32>().clone())
}

/// The different sets of labels of a column of maps or of JSON objects, and which one each row has.
fn label_sets(column: &ArrayRef) -> Result<(Vec<Pairs>, Vec<usize>), ReadError> {
    if let Some(maps) = column.as_map_opt() {
        let pairs = |row: usize| -> Result<Pairs, ReadError> {
            let entries = maps.value(row);
            let (keys, values) = (text("labels", entries.column(0))?, text("labels", entries.column(1))?);
            let both = keys.iter().zip(&values).filter_map(|(key, value)| Some((key?.to_owned(), value?.to_owned())));
            Ok(both.collect())
        };
        let sets = (0..maps.len()).map(pairs).collect::<Result<Vec<_>, _>>()?;
        return Ok((sets, (0..maps.len()).collect()));
    }
    let texts = text("labels", column)?;
    let (mut sets, mut keys, mut known) = (Vec::new(), Vec::new(), HashMap::new());
    for row in 0..texts.len() {
        let json = if texts.is_null(row) { "{}" } else { texts.value(row) };
        let key = match known.get(json) {
            Some(&key) => key,
            None => {
                let all: std::collections::BTreeMap<String, String> = serde_json::from_str(json).map_err(|_| {
                    ReadError::Header(format!("labels {} are no JSON object of texts", Shown(json.as_bytes())))
                })?;
                sets.push(all.into_iter().collect());
                known.insert(json, sets.len() - 1);
                sets.len() - 1
            }
        };
        keys.push(key);
    }
    Ok((sets, keys))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};

    use super::*;
    use crate::ingest::gather::testing::{Recorder, all_times};

    fn texts(cells: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(cells.to_vec()))
    }

    fn read(columns: Vec<(&str, ArrayRef)>, labels: &[(&str, &str)]) -> Result<(Vec<String>, Vec<String>), String> {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, of)| (name, of, true))).unwrap();
        let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let mapping = CsvMapping { labels, ..CsvMapping::default() };
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let mut columns = Columns::new(batch.schema_ref(), &mapping, "file").map_err(|error| error.to_string())?;
        // In two batches, so that rows count on.
        for rows in [batch.slice(0, 1), batch.slice(1, batch.num_rows() - 1)] {
            columns.read(&rows, &mut gather).map_err(|error| error.to_string())?;
        }
        gather.flush().unwrap();
        let faults = gather.faults.first.iter().map(|fault| format!("{}: {}", fault.line, fault.error)).collect();
        Ok((recorder.samples().iter().map(|(series, _, value)| format!("{series} {value}")).collect(), faults))
    }

    fn times(count: i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(1..=count))
    }

    #[test]
    fn rows_are_samples() {
        let columns = vec![
            ("time", times(2)),
            ("value", Arc::new(Float64Array::from(vec![0.5, 7.0])) as ArrayRef),
            ("metric", texts(&[Some("cpu"), Some("mem")])),
            ("labels", texts(&[Some(r#"{"region":"eu"}"#), None])),
            ("host", texts(&[Some("a"), None])),
        ];
        let told = read(columns, &[("dc", "x")]).unwrap();
        assert_eq!(told.0, [r#"cpu{dc="x",host="a",region="eu"} 0.5"#, r#"mem{dc="x"} 7"#]);
        assert_eq!(told.1, [""; 0]);
    }

    #[test]
    fn a_label_takes_the_texts_of_a_column() {
        let columns = || {
            let value = Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef;
            let labels = texts(&[Some(r#"{"host":"nested"}"#), None]);
            vec![("ts", times(2)), ("value", value), ("hostname", texts(&[Some("a"), Some("b")])), ("labels", labels)]
        };
        let told = read(columns(), &[("host", "{hostname}")]).unwrap();
        assert_eq!(told.0, [r#"file{host="a"} 1"#, r#"file{host="b"} 2"#]);
        let error = read(columns(), &[("host", "{node}")]).unwrap_err();
        assert_eq!(error, "no column `node` for --label: the columns are ts, value, hostname, labels");
    }

    #[test]
    fn cells_that_are_no_number_or_time_are_faults_of_their_row() {
        let day = Some("2026-01-31T12:00:00Z");
        let columns = vec![
            ("time", texts(&[day, day, Some("noon"), None, day, day])),
            ("value", texts(&[Some("1.5"), Some("1,5"), Some("2"), Some("3"), None, Some("4")])),
            ("metric", texts(&[Some("m"), Some("m"), Some("m"), Some("m"), Some("m"), None])),
        ];
        let (samples, faults) = read(columns, &[]).unwrap();
        assert_eq!(samples, ["m 1.5"]);
        let wanted = [
            "2: column `value`: `1,5` is no number",
            "3: column `time`: `noon` is no time",
            "4: column `time`: `` is no time",
            "6: column `metric` names none",
        ];
        assert_eq!(faults, wanted);
    }
}
