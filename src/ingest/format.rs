//! File formats: which one a file has, the lines of a text, and the error that every reader shares.
//!
//! A reader takes its input once, from front to back, and holds one line of it. What is wrong with a line is counted in
//! [`Faults`] and the next line is read; only an input that cannot go on is a [`ReadError`]. A reader
//! does not flush the [`Gather`](super::Gather): its caller does, after the last file.

use std::fmt;
use std::io::{self, BufRead};

use memchr::memchr;

use super::Faults;
use crate::flow::Refusal;

/// Bytes of the longest line that is read; a longer one is a fault.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;
/// What some editors begin a UTF-8 text with.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Bytes of bad input that a fault quotes.
const SHOWN_BYTES_MAX: usize = 60;
/// Bytes of a longer text, as the name of a series.
const BRIEF_BYTES_MAX: usize = 200;

/// How a file writes its samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    LineProtocol,
    Csv,
    Ndjson,
    /// Prometheus text 0.0.4 or OpenMetrics 1.0.
    Prometheus,
    Parquet,
}

/// What is to be undone before a file is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The name is of no format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{name}` is no format: write line-protocol, csv, ndjson, prometheus or parquet")]
pub struct UnknownFormat {
    pub name: String,
}

/// Why reading stopped. What was gathered before it stays gathered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the input cannot be read")]
    Io(#[from] io::Error),
    #[error("the samples were not taken")]
    Refused(#[from] Refusal),
    /// The first lines do not say what the columns are.
    #[error("{0}")]
    Header(String),
    /// The whole body is one JSON text, and is none.
    #[error("the body is no JSON")]
    Json(#[from] serde_json::Error),
}

impl Format {
    pub const ALL: [Format; 5] =
        [Format::LineProtocol, Format::Csv, Format::Ndjson, Format::Prometheus, Format::Parquet];

    pub const fn name(self) -> &'static str {
        match self {
            Format::LineProtocol => "line-protocol",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Prometheus => "prometheus",
            Format::Parquet => "parquet",
        }
    }

    /// By [`Format::name`], or by an extension that [`Format::of_path`] knows.
    pub fn of_name(name: &str) -> Result<Format, UnknownFormat> {
        let lower = name.trim().to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|format| format.name() == lower)
            .or_else(|| Self::of_extension(&lower))
            .ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }

    /// By the extension, as in `cpu.csv` or `cpu.csv.gz`; `None` where it says nothing, as in `-`.
    pub fn of_path(path: &str) -> Option<(Format, Compression)> {
        let compression = Compression::of_path(path);
        let plain = &path[..path.len() - compression.extension().len()];
        let (_, extension) = plain.rsplit_once('.')?;
        Some((Self::of_extension(&extension.to_ascii_lowercase())?, compression))
    }

    fn of_extension(extension: &str) -> Option<Format> {
        Some(match extension {
            "lp" | "line" | "influx" => Format::LineProtocol,
            "csv" | "tsv" => Format::Csv,
            "ndjson" | "jsonl" => Format::Ndjson,
            "prom" | "om" | "metrics" | "txt" | "openmetrics" => Format::Prometheus,
            "parquet" => Format::Parquet,
            _ => return None,
        })
    }
}

impl Compression {
    /// By the extension, whatever the format.
    pub fn of_path(path: &str) -> Compression {
        let ends = |extension: &str| {
            let start = path.len().checked_sub(extension.len());
            start.and_then(|start| path.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(extension))
        };
        let known = [Compression::Gzip, Compression::Zstd];
        known.into_iter().find(|known| ends(known.extension())).unwrap_or(Compression::None)
    }

    /// By the first bytes of the content, which no text begins with.
    pub fn of_content(content: &[u8]) -> Compression {
        match content {
            [0x1F, 0x8B, ..] => Compression::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What [`Lines::read`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    Whole,
    /// Longer than is read: skipped, and the buffer is empty.
    TooLong,
    End,
}

impl Line {
    pub(super) fn too_long() -> String {
        format!("the line is longer than {} MiB", LINE_BYTES_MAX >> 20)
    }
}

/// Why a line gave no samples.
pub(super) enum Bad {
    Input(String),
    Refused(Refusal),
}

impl Bad {
    /// Counts bad input as a fault of `line`; a refusal goes on to the caller.
    pub(super) fn set_aside(taken: Result<(), Bad>, line: u64, faults: &mut Faults) -> Result<(), Refusal> {
        match taken {
            Ok(()) => Ok(()),
            Err(Bad::Input(reason)) => {
                faults.add(line, reason);
                Ok(())
            }
            Err(Bad::Refused(refusal)) => Err(refusal),
        }
    }
}

impl From<Refusal> for Bad {
    fn from(refusal: Refusal) -> Self {
        Bad::Refused(refusal)
    }
}

impl From<String> for Bad {
    fn from(reason: String) -> Self {
        Bad::Input(reason)
    }
}

/// The lines of an input, without their ends (LF or CRLF) and without a byte order mark before the first.
pub(super) struct Lines<'r> {
    input: &'r mut dyn BufRead,
    number: u64,
}

impl<'r> Lines<'r> {
    pub(super) fn new(input: &'r mut dyn BufRead) -> Self {
        Lines { input, number: 0 }
    }

    /// Number of the line read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Replaces `line` by the next line.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let mut found = Line::End;
        loop {
            let buffer = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if buffer.is_empty() {
                break;
            }
            let end = memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            if found == Line::End {
                found = Line::Whole;
            }
            if line.len() + part.len() > LINE_BYTES_MAX {
                found = Line::TooLong;
                line.clear();
            }
            if found == Line::Whole {
                line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += u64::from(found != Line::End);
        self.trim(line);
        Ok(found)
    }

    fn trim(&self, line: &mut Vec<u8>) {
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
    }
}

/// Bad input as a fault quotes it: its beginning, on one line.
pub(super) struct Shown<'t>(pub(super) &'t [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", beginning(self.0, SHOWN_BYTES_MAX))
    }
}

/// Anything that repeats what came: its beginning, on one line. A series, or what another parser says.
pub(crate) struct Brief<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Brief<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&beginning(self.0.to_string().as_bytes(), BRIEF_BYTES_MAX))
    }
}

/// The first `most` bytes as text, on one line.
fn beginning(text: &[u8], most: usize) -> String {
    let cut = &text[..text.len().min(most)];
    let plain = String::from_utf8_lossy(cut);
    let more = if cut.len() < text.len() { "…" } else { "" };
    plain.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).chain(more.chars()).collect()
}

/// `text` with `[a-zA-Z0-9_:.]` only; a run of other characters becomes one `_`.
pub(super) fn metric_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut replaced = false;
    for c in text.trim().chars() {
        let keep = c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
        if keep {
            name.push(c);
        } else if !replaced {
            name.push('_');
        }
        replaced = !keep;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Intake;
    use crate::ingest::Gather;
    use crate::ingest::csv::{CsvMapping, read_csv};
    use crate::ingest::gather::testing::{Recorder, all_times};
    use crate::ingest::ndjson::read_ndjson;
    use crate::ingest::prometheus_text::read_prometheus;
    use crate::model::{Batch, SeriesDef, SeriesId, Timestamp};

    #[test]
    fn formats_are_told_by_extension() {
        use Compression::{Gzip, None as Plain, Zstd};
        let table = [
            ("a.lp", Some((Format::LineProtocol, Plain))),
            ("/x/y.line.gz", Some((Format::LineProtocol, Gzip))),
            ("a.influx", Some((Format::LineProtocol, Plain))),
            ("A.CSV", Some((Format::Csv, Plain))),
            ("metrics.csv.gz", Some((Format::Csv, Gzip))),
            ("a.b.ndjson.zst", Some((Format::Ndjson, Zstd))),
            ("a.jsonl", Some((Format::Ndjson, Plain))),
            ("node.prom", Some((Format::Prometheus, Plain))),
            ("node.om", Some((Format::Prometheus, Plain))),
            ("scrape.txt", Some((Format::Prometheus, Plain))),
            ("x.metrics", Some((Format::Prometheus, Plain))),
            ("node.parquet", Some((Format::Parquet, Plain))),
            ("-", None),
            ("", None),
            (".gz", None),
            ("csv", None),
            ("a.xlsx", None),
        ];
        for (path, expected) in table {
            assert_eq!(Format::of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn compression_is_told_whatever_the_format() {
        use Compression::{Gzip, None as Plain, Zstd};
        let paths = [("x.dump.gz", Gzip), ("X.GZ", Gzip), ("x.zst", Zstd), ("gz", Plain), ("é", Plain), ("-", Plain)];
        for (path, wanted) in paths {
            assert_eq!(Compression::of_path(path), wanted, "{path}");
        }
        let contents: [(&[u8], Compression); 5] = [
            (b"\x1F\x8B\x08", Gzip),
            (b"\x28\xB5\x2F\xFD\x04", Zstd),
            (b"(\xB5", Plain),
            (b"time,value", Plain),
            (b"", Plain),
        ];
        for (content, wanted) in contents {
            assert_eq!(Compression::of_content(content), wanted, "{content:?}");
        }
    }

    #[test]
    fn what_repeats_input_is_short_and_on_one_line() {
        let long = "\n".repeat(1 << 20);
        let (shown, brief) = (Shown(long.as_bytes()).to_string(), Brief(&long).to_string());
        assert_eq!((shown.chars().count(), brief.chars().count()), (SHOWN_BYTES_MAX + 3, BRIEF_BYTES_MAX + 1));
        assert!(!brief.contains('\n') && brief.ends_with('…'));
        assert_eq!(Brief(7).to_string(), "7");
    }

    #[test]
    fn formats_are_told_by_name() {
        for format in Format::ALL {
            assert_eq!(Format::of_name(format.name()), Ok(format));
        }
        assert_eq!(Format::of_name("LP"), Ok(Format::LineProtocol));
        let error = Format::of_name("xml").unwrap_err().to_string();
        for format in Format::ALL {
            assert!(error.contains(format.name()), "{error}");
        }
    }

    #[test]
    fn lines_lose_their_ends_and_the_byte_order_mark() {
        let table: [(&[u8], &[&str]); 6] = [
            (b"", &[]),
            (b"a", &["a"]),
            (b"a\nb\n", &["a", "b"]),
            (b"a\r\n\r\nb", &["a", "", "b"]),
            (b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb", &["a", "\u{FEFF}b"]),
            (b"\n\n", &["", ""]),
        ];
        for (input, expected) in table {
            for capacity in [1, 2, 64] {
                let mut input = io::BufReader::with_capacity(capacity, input);
                let (mut lines, mut line, mut found) = (Lines::new(&mut input), Vec::new(), Vec::new());
                while lines.read(&mut line).unwrap() == Line::Whole {
                    found.push(String::from_utf8(line.clone()).unwrap());
                }
                assert_eq!(found, expected);
                assert_eq!(lines.number(), expected.len() as u64);
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\nnext\n");
        let (mut input, mut line) = (&text[..], Vec::new());
        let mut lines = Lines::new(&mut input);
        assert_eq!(lines.read(&mut line).unwrap(), Line::TooLong);
        assert!(line.is_empty());
        assert_eq!(lines.read(&mut line).unwrap(), Line::Whole);
        assert_eq!((&line[..], lines.number()), (&b"next"[..], 2));
    }

    #[test]
    fn names_keep_what_metrics_may_have() {
        let table =
            [("cpu", "cpu"), ("a.b:c_D9", "a.b:c_D9"), ("CPU usage (%)", "CPU_usage_"), ("", ""), ("é/x", "_x")];
        for (text, expected) in table {
            assert_eq!(metric_name(text), expected);
        }
    }

    /// Takes no samples.
    struct Closed;

    impl Intake for Closed {
        fn describe(&self, _: &str, _: &crate::model::Description) {}

        fn intern(&self, _: &SeriesDef) -> Result<SeriesId, Refusal> {
            Err(Refusal::Closed { reason: "test".to_owned() })
        }

        fn accept(&self, _: Batch) -> Result<(), Refusal> {
            Err(Refusal::Closed { reason: "test".to_owned() })
        }
    }

    type Reader = fn(&mut dyn BufRead, &mut Gather<'_>) -> Result<u64, ReadError>;

    fn readers() -> [(&'static str, Reader); 3] {
        [
            ("time,value\n1,1\n", |input, gather| read_csv(input, &CsvMapping::default(), "m", gather)),
            ("{\"metric\":\"m\",\"time\":1,\"value\":1}\n", read_ndjson),
            ("m 1\n", |input, gather| read_prometheus(input, Timestamp::from_nanos(1), gather)),
        ]
    }

    #[test]
    fn a_refusal_stops_the_reader() {
        for (text, read) in readers() {
            let (mut gather, mut input) = (Gather::new(&Closed, all_times()), text.as_bytes());
            let result = read(&mut input, &mut gather);
            assert!(matches!(result, Err(ReadError::Refused(_))), "{text}: {result:?}");
            assert_eq!(gather.faults.count, 0);
        }
    }

    #[test]
    fn an_input_that_breaks_off_is_an_error_and_keeps_what_came_before() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        for (text, read) in readers() {
            let recorder = Recorder::default();
            let mut gather = Gather::new(&recorder, all_times());
            let mut input = io::BufReader::new(io::Read::chain(text.as_bytes(), Broken));
            let result = read(&mut input, &mut gather);
            assert!(matches!(result, Err(ReadError::Io(_))), "{text}: {result:?}");
            gather.flush().unwrap();
            assert_eq!(
                recorder.samples(),
                [("m".to_owned(), if text.starts_with('m') { 1 } else { 1_000_000_000 }, 1.0)]
            );
        }
    }
}
