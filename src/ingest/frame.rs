//! A CSV as it is analysed: rows of a time and numbers, in the order of the file.
//!
//! ```text
//! time,value            one series
//! time,series,value     long: a series a text
//! time,cpu,memory       wide: every further column one series
//! ```
//! In the place of the time may stand `row`, a number, and in that of `series` `name`, `metric`, `case` or `id`. A cell without a number is NaN. Unlike an import, which sets bad lines aside,
//! a line that cannot be read ends it: a score is of all that came before.

use std::collections::HashMap;
use std::io::BufRead;

use super::csv::{TIME_NAMES, find, named, no_number, number};
use super::csv_records::{Record, Records};
use super::csv_time::time_of;
use super::format::{ReadError, Shown};
use crate::model::Timestamp;

/// What the column of series' names is called beside `value`: the first of these that is there.
const SERIES: [&str; 5] = ["series", "name", "metric", "case", "id"];
/// What `row` is called in the place of a time.
const ROW: &str = "row";

enum Layout {
    /// Which column is which series.
    Wide(Vec<usize>),
    Long {
        value: usize,
        series: Option<usize>,
    },
}

/// Such a file.
pub struct Frame<'r> {
    records: Records<'r>,
    columns: usize,
    time: usize,
    is_row: bool,
    layout: Layout,
    names: Vec<String>,
    known: HashMap<Vec<u8>, usize>,
}

/// When a row was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    Time(Timestamp),
    Row(i64),
}

/// One row.
#[derive(Clone, Debug)]
pub struct FrameRow {
    /// The time as it is written.
    pub text: String,
    pub at: Moment,
    /// Which series, and its number.
    pub values: Vec<(usize, f64)>,
}

impl<'r> Frame<'r> {
    /// # Errors
    /// An input without a header, or one that names no time or no series.
    pub fn read(input: &'r mut dyn BufRead) -> Result<Frame<'r>, ReadError> {
        let mut records = Records::new(input);
        let header = match records.read()? {
            Record::Whole => records.texts(),
            Record::Bad(reason) => return Err(ReadError::Header(format!("line {}: {reason}", records.start))),
            Record::End => {
                return Err(ReadError::Header("it is empty: its first line must name the columns".to_owned()));
            }
        };
        let times = TIME_NAMES.iter().chain([&ROW]);
        let Some(time) = times.filter_map(|name| find(&header, name)).next() else {
            let told = format!("no column `time` or `row` among {}", named(&header));
            return Err(ReadError::Header(told));
        };
        let value = find(&header, "value").filter(|&at| at != time);
        // Beside other columns they may well be numbers.
        let names = if header.len() == 3 { &SERIES[..] } else { &SERIES[..1] };
        let series = names.iter().find_map(|name| find(&header, name)).filter(|&at| at != time);
        let (layout, names) = match (value, series) {
            (Some(value), _) if series.is_some() || header.len() == 2 => {
                let names = if series.is_some() { Vec::new() } else { vec!["value".to_owned()] };
                (Layout::Long { value, series }, names)
            }
            (None, Some(at)) if header[at].eq_ignore_ascii_case(SERIES[0]) => {
                return Err(ReadError::Header("a column `series`, but none `value`".to_owned()));
            }
            _ => {
                let columns: Vec<usize> = (0..header.len()).filter(|&at| at != time).collect();
                let names = columns.iter().map(|&at| header[at].clone()).collect();
                (Layout::Wide(columns), names)
            }
        };
        if matches!(&layout, Layout::Wide(columns) if columns.is_empty()) {
            return Err(ReadError::Header("a column of times, but none of numbers".to_owned()));
        }
        let is_row = header[time].eq_ignore_ascii_case(ROW);
        Ok(Frame { records, columns: header.len(), time, is_row, layout, names, known: HashMap::new() })
    }

    /// Names of the series that have been seen, by their number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// A line that cannot be read, by its number.
    pub fn next_row(&mut self) -> Result<Option<FrameRow>, ReadError> {
        match self.records.read()? {
            Record::End => Ok(None),
            Record::Bad(reason) => Err(self.fault(&reason)),
            Record::Whole => self.row().map(Some).map_err(|reason| self.fault(&reason)),
        }
    }

    fn fault(&self, reason: &str) -> ReadError {
        ReadError::Header(format!("line {}: {reason}", self.records.start))
    }

    fn row(&mut self) -> Result<FrameRow, String> {
        let records = &self.records;
        if records.len() != self.columns {
            return Err(format!("{} cells, but the header names {} columns", records.len(), self.columns));
        }
        let cell = records.cell(self.time);
        let at = if self.is_row {
            let number = std::str::from_utf8(cell).ok().and_then(|text| text.parse().ok());
            Moment::Row(number.ok_or_else(|| format!("{} is no number of a row", Shown(cell)))?)
        } else {
            Moment::Time(time_of(cell).ok_or_else(|| format!("{} is no time", Shown(cell)))?)
        };
        let text = String::from_utf8_lossy(cell).into_owned();
        let values = match &self.layout {
            Layout::Wide(columns) => {
                let value = |(series, &at): (usize, &usize)| Ok((series, number_of(records.cell(at))?));
                columns.iter().enumerate().map(value).collect::<Result<_, String>>()?
            }
            Layout::Long { value, series } => {
                let value = number_of(records.cell(*value))?;
                let series = match series {
                    None => 0,
                    Some(at) => match self.known.get(records.cell(*at)) {
                        Some(&series) => series,
                        None => {
                            let name = records.cell(*at);
                            self.known.insert(name.to_owned(), self.names.len());
                            self.names.push(String::from_utf8_lossy(name).into_owned());
                            self.names.len() - 1
                        }
                    },
                };
                vec![(series, value)]
            }
        };
        Ok(FrameRow { text, at, values })
    }
}

fn number_of(cell: &[u8]) -> Result<f64, String> {
    if no_number(cell) {
        return Ok(f64::NAN);
    }
    number(cell).ok_or_else(|| format!("{} is no number", Shown(cell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<(Vec<String>, Vec<FrameRow>), String> {
        let mut input = text.as_bytes();
        let mut frame = Frame::read(&mut input).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        while let Some(row) = frame.next_row().map_err(|error| error.to_string())? {
            rows.push(row);
        }
        Ok((frame.names().to_vec(), rows))
    }

    #[test]
    fn layouts_are_told_by_their_header() {
        for (text, names, values) in [
            ("timestamp,value\n2026-01-01 00:00:00,1\n", &["value"][..], vec![vec![(0, 1.0)]]),
            ("row,value\n7,2\n", &["value"], vec![vec![(0, 2.0)]]),
            ("case,row,value\nx,0,1\nx,1,2\n", &["x"], vec![vec![(0, 1.0)], vec![(0, 2.0)]]),
            (
                "time,series,value\n1,b,1\n1,a,2\n2,b,3\n",
                &["b", "a"],
                vec![vec![(0, 1.0)], vec![(1, 2.0)], vec![(0, 3.0)]],
            ),
            ("cpu,time,value\n1,1767225600,2\n", &["cpu", "value"], vec![vec![(0, 1.0), (1, 2.0)]]),
        ] {
            let (found, rows) = rows(text).unwrap();
            assert_eq!(found, names, "{text}");
            assert_eq!(rows.into_iter().map(|row| row.values).collect::<Vec<_>>(), values, "{text}");
        }
        let (_, found) = rows("row,a\n7,\n8,nan\n").unwrap();
        assert_eq!(found[0].at, Moment::Row(7));
        assert!(found.iter().all(|row| row.values[0].1.is_nan()));
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_line() {
        for (text, told) in [
            ("", "it is empty"),
            ("a,b\n1,2\n", "no column `time` or `row` among `a`, `b`"),
            ("time\n1\n", "none of numbers"),
            ("time,series\n1,a\n", "none `value`"),
            ("time,value\n1,2\nx,3\n", "line 3: `x` is no time"),
            ("time,value\n1,2\n2,three\n", "line 3: `three` is no number"),
            ("time,value\n1,2,3\n", "line 2: 3 cells, but the header names 2 columns"),
            ("row,value\n1.5,2\n", "line 2: `1.5` is no number of a row"),
        ] {
            let error = rows(text).expect_err(text);
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }
}
