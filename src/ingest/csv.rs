//! CSV: long, with a column of values, or wide, with a column a series.
//!
//! ```text
//! time,metric,host,value         long: cpu{host="a"} = 0.5
//! 2026-01-31T12:00:00Z,cpu,a,0.5
//!
//! time,host,cpu,memory           wide: cpu{host="a"} = 0.5 and memory{host="a"} = 7
//! 2026-01-31T12:00:00Z,a,0.5,7
//!
//! service,shop,shop              wide with several header lines, as pandas writes them; the last names the time:
//! metric,latency,requests        latency{service="shop"} = 0.5 and requests{service="shop"} = 7
//! time,,
//! 2026-01-31T12:00:00Z,0.5,7
//! ```
//! Whether a further column holds numbers or text is decided by its first cell that says something. Text is a label.
//! Numbers are series of their own in a wide file. In a long one whole numbers are labels, for they are ids, and others
//! are left out with a fault; with `--value` all are left out, for they are other measurements. `--label host={column}`
//! makes a label of any column.
//!
//! Cells are split here and not by the `csv` crate for three things it does not give: the line of every record, a bound
//! on a record's memory, and going on after a quote that nobody closes.

use std::borrow::Cow;
use std::io::BufRead;

use hashbrown::HashMap;
use serde_json::Value;

use super::Gather;
use super::csv_records::{Record, Records};
use super::csv_time::time_of;
use super::format::{Bad, ReadError, Shown, metric_name};
use super::ndjson::{borrowed, push_labels};
use crate::flow::Refusal;

pub(super) const TIME_NAMES: [&str; 7] = ["time", "timestamp", "ts", "date", "datetime", "_time", "unix_timestamp"];
const METRIC_NAMES: [&str; 2] = ["metric", "name"];
/// Cells that stand for nothing: they do not decide what a column holds.
const NOTHING: [&str; 6] = ["nan", "na", "n/a", "null", "none", "-"];
/// Header lines of a file that has several.
const HEADERS_MAX: usize = 8;
/// Columns that an error names.
const NAMED_MAX: usize = 12;

/// Which columns are what, where the names do not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsvMapping {
    /// Column of the time.
    pub time: Option<String>,
    /// Column of the value; the file is then read as a long one.
    pub value: Option<String>,
    /// Name of the metric; of a wide file the prefix.
    pub metric: Option<String>,
    /// Labels of every sample; `{column}` as value takes the column's cells.
    pub labels: Vec<(String, String)>,
}

/// Reads a header and rows. `fallback_metric` names the metric where neither the mapping nor a column does: the file's
/// name, say. The number of rows read, refused ones among them.
pub fn read_csv(
    input: &mut dyn BufRead,
    mapping: &CsvMapping,
    fallback_metric: &str,
    gather: &mut Gather<'_>,
) -> Result<u64, ReadError> {
    let mut records = Records::new(input);
    let mut plan = Plan::read(&mut records, mapping, fallback_metric)?;
    let mut rows = 0;
    loop {
        match records.read()? {
            Record::End => return Ok(rows),
            Record::Bad(reason) => gather.faults.add(records.start, reason),
            Record::Whole => plan.row(&records, gather)?,
        }
        rows += 1;
    }
}

/// What a column's cells are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Time,
    Metric,
    /// A JSON object of labels.
    Labels,
    Label,
    Value,
    /// Neither number nor text was seen yet.
    Undecided,
    LeftOut,
}

struct Column {
    header: String,
    role: Role,
    /// Of the metric or of the label.
    name: String,
    /// From further header lines.
    labels: Vec<(String, String)>,
}

/// What an undecided column becomes when its first cell is a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Series,
    LabelsIfWhole,
    LeftOut,
}

/// What the header and the mapping say.
struct Plan {
    columns: Vec<Column>,
    time: usize,
    metric: Option<usize>,
    labels: Vec<(String, String)>,
    numbers: Numbers,
    undecided: bool,
}

impl Plan {
    fn read(records: &mut Records<'_>, mapping: &CsvMapping, fallback: &str) -> Result<Plan, ReadError> {
        let header = match records.read()? {
            Record::Whole => records.texts(),
            Record::Bad(reason) => return Err(ReadError::Header(format!("line {}: {reason}", records.start))),
            Record::End => {
                return Err(ReadError::Header("the input is empty: its first line must name the columns".to_owned()));
            }
        };
        let time = match &mapping.time {
            Some(name) => find(&header, name),
            None => TIME_NAMES.iter().find_map(|name| find(&header, name)),
        };
        let plan = match time {
            Some(time) => Plan::of_header(&header, time, mapping, fallback)?,
            None => {
                let further = further_headers(records, header.len(), mapping)?;
                let levels = further.ok_or_else(|| no_time(&header, mapping))?;
                Plan::of_levels(&header, &levels, mapping, fallback)
            }
        };
        plan.check_names()?;
        Ok(plan)
    }

    fn of_header(header: &[String], time: usize, mapping: &CsvMapping, fallback: &str) -> Result<Plan, ReadError> {
        let mut columns: Vec<Column> = header.iter().enumerate().map(|(at, text)| Column::new(at, text)).collect();
        columns[time].role = Role::Time;
        let value = match &mapping.value {
            Some(name) => Some(find(header, name).ok_or_else(|| no_column("value", name, header))?),
            None => find(header, "value").filter(|&at| at != time),
        };
        let mut plan =
            Plan { columns, time, metric: None, labels: Vec::new(), numbers: Numbers::Series, undecided: true };
        if let Some(value) = value {
            plan.take(value, Role::Value)?;
            plan.columns[value].name = metric_name(mapping.metric.as_deref().unwrap_or(fallback));
            plan.numbers = if mapping.value.is_some() { Numbers::LeftOut } else { Numbers::LabelsIfWhole };
            if mapping.metric.is_none() {
                let names = if mapping.value.is_some() { &METRIC_NAMES[..1] } else { &METRIC_NAMES[..] };
                plan.metric = names.iter().find_map(|name| find(header, name)).filter(|&at| at != time && at != value);
            }
        }
        if let Some(metric) = plan.metric {
            plan.take(metric, Role::Metric)?;
        }
        for (name, text) in &mapping.labels {
            match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(column) => {
                    let at = find(header, column).ok_or_else(|| no_column("label", column, header))?;
                    plan.take(at, Role::Label)?;
                    plan.columns[at].name.clone_from(name);
                }
                None => plan.labels.push((name.clone(), text.clone())),
            }
        }
        if let Some(at) = find(header, "labels").filter(|&at| plan.columns[at].role == Role::Undecided) {
            plan.columns[at].role = Role::Labels;
        }
        if plan.numbers == Numbers::Series {
            plan.prefix(mapping.metric.as_deref());
        }
        Ok(plan)
    }

    /// A file with several header lines: `levels` are all of them but the one that names the time; the first cell of
    /// each names it.
    fn of_levels(first: &[String], levels: &[Vec<String>], mapping: &CsvMapping, fallback: &str) -> Plan {
        let levels: Vec<&[String]> = std::iter::once(first).chain(levels.iter().map(Vec::as_slice)).collect();
        let named = METRIC_NAMES.iter().find_map(|name| levels.iter().position(|level| same(&level[0], name)));
        let mut columns: Vec<Column> = (0..first.len()).map(|at| Column::new(at, &first[at])).collect();
        columns[0].role = Role::Time;
        for (at, column) in columns.iter_mut().enumerate().skip(1) {
            column.role = Role::Value;
            for (number, level) in levels.iter().enumerate() {
                if Some(number) == named {
                    column.name = metric_name(&level[at]);
                } else {
                    column.labels.push((metric_name(&level[0]), level[at].clone()));
                }
            }
            column.labels.extend(mapping.labels.iter().cloned());
            if named.is_none() {
                column.name = metric_name(mapping.metric.as_deref().unwrap_or(fallback));
            }
        }
        let (labels, numbers) = (Vec::new(), Numbers::Series);
        let mut plan = Plan { columns, time: 0, metric: None, labels, numbers, undecided: false };
        if named.is_some() {
            plan.prefix(mapping.metric.as_deref());
        }
        plan
    }

    /// Gives a column a role, which it may not have two of.
    fn take(&mut self, at: usize, role: Role) -> Result<(), ReadError> {
        let column = &mut self.columns[at];
        if column.role != Role::Undecided {
            let text = format!("column `{}` is named twice: as {:?} and as {role:?}", column.header, column.role);
            return Err(ReadError::Header(text.to_lowercase()));
        }
        column.role = role;
        Ok(())
    }

    fn prefix(&mut self, metric: Option<&str>) {
        let Some(prefix) = metric.map(metric_name) else { return };
        for column in self.columns.iter_mut().filter(|column| matches!(column.role, Role::Undecided | Role::Value)) {
            column.name = format!("{prefix}_{}", column.name);
        }
    }

    /// Two columns that would be one series are an error, for one would overwrite the other.
    fn check_names(&self) -> Result<(), ReadError> {
        let mut seen = HashMap::new();
        for column in self.columns.iter().filter(|column| matches!(column.role, Role::Undecided | Role::Value)) {
            if let Some(other) = seen.insert((&column.name, &column.labels), &column.header) {
                let text = format!(
                    "columns `{other}` and `{}` would both be the series `{}`: rename one",
                    column.header, column.name
                );
                return Err(ReadError::Header(text));
            }
        }
        Ok(())
    }

    fn row(&mut self, records: &Records<'_>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        if self.undecided && records.len() == self.columns.len() {
            self.decide(records, gather);
        }
        let taken = self.samples(records, gather);
        Bad::set_aside(taken, records.start, &mut gather.faults)
    }

    /// Gives undecided columns their role by the cells of this row.
    fn decide(&mut self, records: &Records<'_>, gather: &mut Gather<'_>) {
        let numbers = self.numbers;
        for (at, column) in self.columns.iter_mut().enumerate().filter(|(_, column)| column.role == Role::Undecided) {
            let cell = records.cell(at);
            if no_number(cell) {
                continue;
            }
            let whole = cell.iter().all(u8::is_ascii_digit);
            column.role = match (number(cell).is_some_and(f64::is_finite), numbers) {
                (false, _) => Role::Label,
                (true, Numbers::Series) => Role::Value,
                (true, Numbers::LabelsIfWhole) if whole => Role::Label,
                (true, _) => Role::LeftOut,
            };
            match column.role {
                Role::Label => column.name = metric_name(&column.header),
                Role::LeftOut if numbers == Numbers::LabelsIfWhole => {
                    let header = &column.header;
                    let reason = format_args!(
                        "column `{header}` holds numbers and is left out: read it with --value {header}, \
                         or as a label with --label {header}={{{header}}}"
                    );
                    gather.faults.add(records.start, reason);
                }
                _ => {}
            }
        }
        self.undecided = self.columns.iter().any(|column| column.role == Role::Undecided);
    }

    fn samples(&self, records: &Records<'_>, gather: &mut Gather<'_>) -> Result<(), Bad> {
        if records.len() != self.columns.len() {
            let (cells, columns) = (records.len(), self.columns.len());
            return Err(Bad::Input(format!("{cells} cells, but the header names {columns} columns")));
        }
        let cell = records.cell(self.time);
        let time = time_of(cell).ok_or_else(|| {
            let header = &self.columns[self.time].header;
            format!("column `{header}`: {} is no time", Shown(cell))
        })?;
        let metric = self.metric.map(|at| self.metric_cell(at, records)).transpose()?;
        let expanded = self.expanded(records)?;
        let texts = self.row_labels(records, expanded.as_ref())?;
        let mut labels = borrowed(&texts);
        let of_row = labels.len();
        for (at, column) in self.columns.iter().enumerate().filter(|(_, column)| column.role == Role::Value) {
            let cell = records.cell(at);
            if cell.is_empty() {
                continue;
            }
            let Some(value) = number(cell) else {
                let reason = format_args!("column `{}`: {} is no number", column.header, Shown(cell));
                gather.faults.add(records.start, reason);
                continue;
            };
            labels.truncate(of_row);
            labels.extend(column.labels.iter().map(|(name, value)| (&**name, &**value)));
            let metric = metric.as_deref().unwrap_or(&column.name);
            gather.sample(records.start, metric, &labels, None, time, value)?;
        }
        Ok(())
    }

    fn metric_cell<'t>(&self, at: usize, records: &'t Records<'_>) -> Result<Cow<'t, str>, String> {
        let text = self.text_cell(at, records)?;
        if text.trim().is_empty() {
            return Err(format!("column `{}` names no metric", self.columns[at].header));
        }
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.'));
        Ok(if plain { Cow::Borrowed(text) } else { Cow::Owned(metric_name(text)) })
    }

    /// The JSON in the column of labels.
    fn expanded(&self, records: &Records<'_>) -> Result<Option<(&str, Value)>, String> {
        let Some(at) = self.columns.iter().position(|column| column.role == Role::Labels) else { return Ok(None) };
        let (header, cell) = (&self.columns[at].header, records.cell(at));
        if cell.is_empty() {
            return Ok(None);
        }
        let json = serde_json::from_slice(cell);
        let value = json.map_err(|error| format!("column `{header}`: {} is no JSON object: {error}", Shown(cell)))?;
        Ok(Some((header, value)))
    }

    /// Labels of the row, those of the mapping last: they win.
    fn row_labels<'t>(
        &'t self,
        records: &'t Records<'_>,
        expanded: Option<&'t (&'t str, Value)>,
    ) -> Result<Vec<(&'t str, Cow<'t, str>)>, String> {
        let mut labels = Vec::with_capacity(self.labels.len() + 4);
        for (at, column) in self.columns.iter().enumerate().filter(|(_, column)| column.role == Role::Label) {
            labels.push((column.name.as_str(), Cow::Borrowed(self.text_cell(at, records)?)));
        }
        if let Some((header, value)) = expanded {
            push_labels(header, value, &mut labels)?;
        }
        labels.extend(self.labels.iter().map(|(name, value)| (&**name, Cow::Borrowed(&**value))));
        Ok(labels)
    }

    fn text_cell<'t>(&self, at: usize, records: &'t Records<'_>) -> Result<&'t str, String> {
        let cell = records.cell(at);
        str::from_utf8(cell).map_err(|_| format!("column `{}`: {} is no UTF-8", self.columns[at].header, Shown(cell)))
    }
}

impl Column {
    fn new(at: usize, header: &str) -> Self {
        let name = if header.trim().is_empty() { format!("column_{}", at + 1) } else { metric_name(header) };
        Column { header: header.to_owned(), role: Role::Undecided, name, labels: Vec::new() }
    }
}

fn same(text: &str, name: &str) -> bool {
    text.eq_ignore_ascii_case(name)
}

/// The column of this name, or of this name in other case.
pub(super) fn find(header: &[String], name: &str) -> Option<usize> {
    header.iter().position(|text| text == name).or_else(|| header.iter().position(|text| same(text, name)))
}

/// Reads on to a line that names the time in its first cell and nothing else; the header lines before it.
fn further_headers(
    records: &mut Records<'_>,
    columns: usize,
    mapping: &CsvMapping,
) -> Result<Option<Vec<Vec<String>>>, ReadError> {
    let mut levels = Vec::new();
    while levels.len() < HEADERS_MAX && matches!(records.read()?, Record::Whole) && records.len() == columns {
        let level = records.texts();
        let names_time = match &mapping.time {
            Some(name) => same(&level[0], name),
            None => TIME_NAMES.iter().any(|name| same(&level[0], name)),
        };
        if names_time && level[1..].iter().all(String::is_empty) {
            return Ok(Some(levels));
        }
        levels.push(level);
    }
    Ok(None)
}

fn no_time(header: &[String], mapping: &CsvMapping) -> ReadError {
    match &mapping.time {
        Some(name) => no_column("time", name, header),
        None => ReadError::Header(format!("no column of times among {}: name it with --time COL", named(header))),
    }
}

fn no_column(option: &str, name: &str, header: &[String]) -> ReadError {
    ReadError::Header(format!("no column `{name}` for --{option}: the columns are {}", named(header)))
}

/// Whether a cell says that there is none.
pub(super) fn no_number(cell: &[u8]) -> bool {
    cell.is_empty() || NOTHING.iter().any(|nothing| cell.eq_ignore_ascii_case(nothing.as_bytes()))
}

/// The first columns' names.
pub(super) fn named(header: &[String]) -> String {
    let names: Vec<String> = header.iter().take(NAMED_MAX).map(|name| Shown(name.as_bytes()).to_string()).collect();
    let more = header.len().saturating_sub(NAMED_MAX);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

pub(super) fn number(cell: &[u8]) -> Option<f64> {
    let unsigned = cell.strip_prefix(b"+").unwrap_or(cell);
    fast_float2::parse(unsigned).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Faults;
    use crate::ingest::csv_time::civil_time;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};
    use crate::model::Timestamp;

    type Samples = Vec<(String, i64, f64)>;
    /// What it shows, the options, the file, and the samples.
    type Layout = (&'static str, &'static str, &'static str, &'static [(&'static str, f64)]);

    fn read(input: &[u8], mapping: &CsvMapping) -> (Samples, Result<u64, ReadError>, Faults) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let mut input = input;
        let rows = read_csv(&mut input, mapping, "file", &mut gather);
        gather.flush().unwrap();
        (recorder.samples(), rows, gather.faults)
    }

    /// `time=a,value=b,metric=c,label=d`, each of them or not, where a label is `name:value`.
    fn mapping(text: &str) -> CsvMapping {
        let mut mapping = CsvMapping::default();
        for (key, value) in text.split(',').filter_map(|part| part.split_once('=')) {
            match key {
                "time" => mapping.time = Some(value.to_owned()),
                "value" => mapping.value = Some(value.to_owned()),
                "metric" => mapping.metric = Some(value.to_owned()),
                _ => mapping.labels.extend(value.split_once(':').map(|(n, v)| (n.to_owned(), v.to_owned()))),
            }
        }
        mapping
    }

    #[test]
    fn each_layout_gives_its_samples() {
        let table: [Layout; 23] = [
            // Long.
            ("one value", "", "timestamp,value\n1,35\n2,41\n", &[("file", 35.0), ("file", 41.0)]),
            ("a metric by name", "metric=cpu", "timestamp,value\n1,35\n", &[("cpu", 35.0)]),
            ("a column of metrics", "", "metric,time,value\ncpu,1,1\na b,1,2", &[("cpu", 1.0), ("a_b", 2.0)]),
            ("or of names", "", "Name,TIME,Value\ncpu,1,1\n", &[("cpu", 1.0)]),
            ("`name` beside `metric`", "", "name,metric,ts,value\na,cpu,1,1\n", &[(r#"cpu{name="a"}"#, 1.0)]),
            ("`metric` beside --metric", "metric=m", "metric,ts,value\ncpu,1,1\n", &[(r#"m{metric="cpu"}"#, 1.0)]),
            (
                "text and whole numbers",
                "label=dc:x",
                "time,host,shard,value\n1,a,7,1\n1,,8,2\n",
                &[(r#"file{dc="x",host="a",shard="7"}"#, 1.0), (r#"file{dc="x",shard="8"}"#, 2.0)],
            ),
            ("an empty first cell", "", "time,host,value\n1,,1\n1,a,2\n", &[("file", 1.0), (r#"file{host="a"}"#, 2.0)]),
            (
                "labels in JSON",
                "",
                "metric,labels,time,value\ncpu,\"{\"\"host\"\":\"\"a,b\"\",\"\"n\"\":1}\",1,1\ncpu,,1,2\n",
                &[(r#"cpu{host="a,b",n="1"}"#, 1.0), ("cpu", 2.0)],
            ),
            ("--value", "value=mem", "time,host,cpu,mem\n1,a,5,7\n", &[(r#"file{host="a"}"#, 7.0)]),
            ("--value and metric", "value=v", "time,metric,v\n1,cpu,7\n", &[("cpu", 7.0)]),
            ("--value and --metric", "value=v,metric=m", "time,v\n1,7\n", &[("m", 7.0)]),
            ("--time", "time=row", "case,row,value\nc0,0,15.5\n", &[(r#"file{case="c0"}"#, 15.5)]),
            ("--label of a column", "value=v,label=x:{id}", "time,id,v\n1,3.5,7\n", &[(r#"file{x="3.5"}"#, 7.0)]),
            // Wide.
            (
                "wide",
                "",
                "time,m00,m01\n1,6.5,-1e3\n2,+7,.5\n",
                &[("m00", 6.5), ("m01", -1000.0), ("m00", 7.0), ("m01", 0.5)],
            ),
            ("wide and prefixed", "metric=app", "time,CPU (%)\n1,6.5\n", &[("app_CPU_", 6.5)]),
            ("wide with text", "", "host,time,cpu\na,1,6.5\n", &[(r#"cpu{host="a"}"#, 6.5)]),
            ("gaps", "", "time,a,b\n1,,2\n2,NA,\n3,1,\n", &[("b", 2.0), ("a", 1.0)]),
            ("no name", "", "time,,b,\n1,1,2,\n", &[("column_2", 1.0), ("b", 2.0)]),
            ("semicolons", "", "time;a\n1;2.5\n", &[("a", 2.5)]),
            ("tabs", "", "time\ta\n1\t2.5\n", &[("a", 2.5)]),
            (
                "several header lines",
                "label=dc:x",
                "service,shop,shop x\nmetric,latency,requests\nstatistic,p99,\ntime,,\n1,0.5,\n2,0.6,7\n",
                &[
                    (r#"latency{dc="x",service="shop",statistic="p99"}"#, 0.5),
                    (r#"latency{dc="x",service="shop",statistic="p99"}"#, 0.6),
                    (r#"requests{dc="x",service="shop x"}"#, 7.0),
                ],
            ),
            (
                "several without a metric",
                "metric=m",
                "host,a,b\ntime,,\n1,2,3\n",
                &[(r#"m{host="a"}"#, 2.0), (r#"m{host="b"}"#, 3.0)],
            ),
        ];
        for (name, options, input, expected) in table {
            for input in [input.to_owned(), input.replace('\n', "\r\n"), format!("\u{FEFF}{input}")] {
                let (samples, rows, faults) = read(input.as_bytes(), &mapping(options));
                rows.unwrap();
                let found: Vec<_> = samples.iter().map(|(series, _, value)| (series.as_str(), *value)).collect();
                assert_eq!((found, faults.first), (expected.to_vec(), vec![]), "{name}: {input}");
            }
        }
    }

    #[test]
    fn cells_are_split_as_rfc_4180_says() {
        let table: [(&str, &[&[&str]]); 12] = [
            ("a,b", &[&["a", "b"]]),
            ("a,b\n\n  \n1,2\n", &[&["a", "b"], &["1", "2"]]),
            (",\n,,", &[&["", ""], &["", "", ""]]),
            (" a , b ", &[&["a", "b"]]),
            (r#""a","b""#, &[&["a", "b"]]),
            (r#""a,b","c""d""#, &[&["a,b", "c\"d"]]),
            (r#""","""""#, &[&["", "\""]]),
            ("\"a\nb\n\",c\nd,e", &[&["a\nb", "c"], &["d", "e"]]),
            ("a,\"b\"\r\nc,d\r\n", &[&["a", "b"], &["c", "d"]]),
            (r#"5" disk,x"y"z"#, &[&["5\" disk", "x\"y\"z"]]),
            (r#""a"b,c"#, &[&["ab", "c"]]),
            ("", &[]),
        ];
        for (input, expected) in table {
            for capacity in [1, 3, 64] {
                let mut input = std::io::BufReader::with_capacity(capacity, input.as_bytes());
                let (mut records, mut found) = (Records::new(&mut input), Vec::new());
                while let Record::Whole = records.read().unwrap() {
                    found.push(records.texts());
                }
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn a_bad_row_is_a_fault_of_its_line_and_the_rest_goes_on() {
        let table: [(&[u8], &str); 11] = [
            (b"noon,1,a", "column `time`: `noon` is no time"),
            (b",1,a", "column `time`: `` is no time"),
            (b"1,abc,a", "column `value`: `abc` is no number"),
            (b"1,1 000,a", "is no number"),
            (b"1,1", "2 cells, but the header names 3 columns"),
            (b"1,1,a,b", "4 cells"),
            (b"1", "1 cells"),
            (b"1,1,\xff", "column `host`: `\u{FFFD}` is no UTF-8"),
            (b"1,NaN,a", "not a finite number"),
            (b"1,1e999,a", "not a finite number"),
            (b"99999999999999999999,1,a", "time"),
        ];
        for (bad, reason) in table {
            let input = [b"time,value,host\n1,1,a\n\n", bad, b"\n1,\"1\",a\n2,2,b"].concat();
            let (samples, rows, faults) = read(&input, &CsvMapping::default());
            assert_eq!((samples.len(), rows.unwrap(), faults.count), (3, 4, 1), "{reason}: {:?}", faults.first);
            assert_eq!(faults.first[0].line, 4, "{reason}");
            assert!(faults.first[0].error.contains(reason), "{} / {reason}", faults.first[0].error);
        }
    }

    #[test]
    fn a_cell_of_blanks_names_no_metric() {
        let (samples, _, faults) = read(b"time,value,name\n1,1,\" \n \"\n2,2,a\n", &CsvMapping::default());
        assert_eq!((samples.len(), faults.first[0].error.as_str()), (1, "column `name` names no metric"));
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_one_line() {
        for rows in [3, 50_000] {
            let good = "1,1,a\n".repeat(rows);
            let input = format!("time,value,host\n1,1,\"a\n{good}1,x,a\n");
            let (samples, count, faults) = read(input.as_bytes(), &CsvMapping::default());
            assert_eq!((samples.len(), count.unwrap()), (rows, rows as u64 + 2));
            let lines: Vec<u64> = faults.first.iter().map(|fault| fault.line).collect();
            assert_eq!(lines, [2, rows as u64 + 3], "{:?}", faults.first);
        }
    }

    /// By the square of its length this would take hours.
    #[test]
    fn very_many_quotes_that_are_not_closed_are_read() {
        let count = 200_000;
        let input = format!("time,value\n1,1\n{}2,2\n", "x\",\"\n".repeat(count));
        let (samples, rows, faults) = read(input.as_bytes(), &CsvMapping::default());
        assert_eq!((samples.len(), rows.unwrap(), faults.count), (2, count as u64 + 2, count as u64));
    }

    #[test]
    fn a_bad_cell_leaves_the_rest_of_its_row() {
        let (samples, _, faults) = read(b"time,a,b\n1,1,2\n2,x,4\n", &CsvMapping::default());
        assert_eq!((samples.len(), faults.count), (3, 1));
        assert_eq!(faults.first[0].error, "column `a`: `x` is no number");
    }

    #[test]
    fn a_number_column_beside_the_value_is_left_out_aloud() {
        let (samples, _, faults) = read(b"time,value,upper\n1,1,2.5\n2,3,4.5\n", &CsvMapping::default());
        assert_eq!(samples.len(), 2);
        assert_eq!(faults.count, 1);
        assert!(faults.first[0].error.contains("--value upper"), "{}", faults.first[0].error);
    }

    #[test]
    fn a_header_that_does_not_say_enough_is_an_error_with_the_remedy() {
        let table = [
            ("", "", "the input is empty"),
            ("\n\n", "", "the input is empty"),
            ("a,b\n1,2\n", "", "no column of times among `a`, `b`: name it with --time COL"),
            ("time,b\n", "time=when", "no column `when` for --time: the columns are `time`, `b`"),
            ("time,b\n", "value=v", "no column `v` for --value: the columns are `time`, `b`"),
            ("time,b\n", "label=x:{y}", "no column `y` for --label"),
            ("time,b\n", "value=time", "column `time` is named twice"),
            ("time,b,b\n", "", "both be the series `b`"),
            ("time,b c,b/c\n", "", "columns `b c` and `b/c`"),
            ("a,b\nc,d\ntime,\ne,f", "time=no", "no column `no`"),
            ("\"time,b\n", "", "line 1: a quote"),
        ];
        for (input, options, expected) in table {
            let (_, rows, _) = read(input.as_bytes(), &mapping(options));
            let error = rows.unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
        let many: Vec<String> = (0..100).map(|at| format!("c{at}")).collect();
        let error = read(many.join(",").as_bytes(), &CsvMapping::default()).1.unwrap_err().to_string();
        assert!(error.contains("`c11` and 88 more"), "{error}");
    }

    #[test]
    fn the_fast_way_reads_times_as_the_slow_one_does() {
        let mut noise = Noise(3);
        let (mut agreed, good) = (0, b"2024-02-29T23:59:58.123456789Z");
        for _ in 0..200_000 {
            let mut text = good.to_vec();
            for _ in 0..noise.next() % 4 {
                let at = noise.next() as usize % text.len();
                text[at] = b"0123456789 TZ.:-"[noise.next() as usize % 16];
            }
            text.truncate(19 + noise.next() as usize % 12);
            let Some(time) = civil_time(&text) else { continue };
            let text = String::from_utf8(text).unwrap();
            assert_eq!(Timestamp::parse(&text), Ok(time), "{text}");
            agreed += 1;
        }
        assert!(agreed > 10_000, "{agreed}");
        for day in 0..36_525 {
            let time = Timestamp::from_nanos(day * 86_400_000_000_000);
            assert_eq!(civil_time(time.to_string().as_bytes()), Some(time));
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise(17);
        let good = b"time,host,labels,value\n2024-01-01T00:00:00Z,\"a\"\"b\",\"{\"\"x\"\":1}\",0.5\n1,a,,2\n";
        for options in ["", "time=a", "value=a", "metric=m,label=x:{a}"] {
            for _ in 0..10_000 {
                let _ = read(&noise.bytes(b"time,value,a,,,,\"\"\n\n\r0123456789.e-;\t"), &mapping(options));
                let _ =
                    read(&[b"time,a,value\n", &noise.bytes(b"a,,,\"\n0123456789.")[..]].concat(), &mapping(options));
                let _ = read(&noise.bend(good), &mapping(options));
            }
        }
    }
}
