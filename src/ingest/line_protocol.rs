//! InfluxDB line protocol: `measurement,tag=value field=1,field2=2i 1700000000000000000`.
//!
//! Each numeric or boolean field is one series, named `measurement_field`, with the tags as labels. Text fields are
//! counted and left out. A known series costs one lookup of the line's head (measurement and tags, as raw bytes) for
//! all its fields, up to [`FIELDS_MAX`] of them, and no allocation.

mod cut;

use std::io::{BufRead, Read};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use memchr::memchr;

use self::cut::{Lines, closing_quote, fields_end, unescaped_space};
use super::format::{self, BYTE_ORDER_MARK, Brief, LINE_BYTES_MAX, ReadError, Shown};
use super::gather::Gather;
use super::known::{Found, Generations, Known, KnownRoom, NewField};
use crate::flow::Refusal;
use crate::model::{Kind, Labels, SeriesDef, SeriesId, Timestamp};

/// Unit of the times in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    #[default]
    Nanos,
    Micros,
    Millis,
    Seconds,
    Minutes,
    Hours,
    /// Of each time as its size suggests, by the rule of InfluxDB 3.
    Auto,
}

impl Precision {
    /// The names that InfluxDB's versions use.
    pub fn of_name(name: &str) -> Option<Precision> {
        match name {
            "ns" | "n" | "nanosecond" => Some(Precision::Nanos),
            "us" | "u" | "µ" | "microsecond" => Some(Precision::Micros),
            "ms" | "millisecond" => Some(Precision::Millis),
            "s" | "second" => Some(Precision::Seconds),
            "m" => Some(Precision::Minutes),
            "h" => Some(Precision::Hours),
            "auto" => Some(Precision::Auto),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Precision::Nanos => "nanoseconds",
            Precision::Micros => "microseconds",
            Precision::Millis => "milliseconds",
            Precision::Seconds => "seconds",
            Precision::Minutes => "minutes",
            Precision::Hours => "hours",
            Precision::Auto => "the unit that their size suggests",
        }
    }

    /// Nanoseconds in the unit of `number`.
    const fn nanos(self, number: u64) -> i64 {
        match self {
            Precision::Auto => match number {
                0..5_000_000_000 => 1_000_000_000,
                5_000_000_000..5_000_000_000_000 => 1_000_000,
                5_000_000_000_000..5_000_000_000_000_000 => 1_000,
                _ => 1,
            },
            Precision::Nanos => 1,
            Precision::Micros => 1_000,
            Precision::Millis => 1_000_000,
            Precision::Seconds => 1_000_000_000,
            Precision::Minutes => 60_000_000_000,
            Precision::Hours => 3_600_000_000_000,
        }
    }
}

/// Lines read before others may add heads: some ten microseconds.
const STRETCH: u64 = 256;
/// Fields of a head that are found by their place; each of those beyond has a key of its own.
const FIELDS_MAX: usize = 128;
/// Bytes of heads that wait to be shared. Further series are looked up each time.
const NEW_BYTES_MAX: usize = 32 << 20;
/// Bytes of the longest measurement with its tags, as InfluxDB has it.
const HEAD_MAX: usize = 65_535;
/// Bytes of an input that are read at once.
const CHUNK: usize = 4 << 20;

/// Heads of a stretch that are not shared yet.
type NewHeads = HashMap<Box<[u8]>, Vec<NewField>, FixedState>;

/// Heads of lines seen before and the series of their fields; shared between connections.
#[derive(Default)]
pub struct LineCache {
    heads: Known,
    /// Labels that every series gets on top of its tags.
    extra: Vec<(String, String)>,
}

impl LineCache {
    /// With labels for every series that comes through it, and the memory that it may take.
    pub fn with_labels(extra: Vec<(String, String)>, bytes: usize) -> Self {
        LineCache::sharing(extra, KnownRoom::of(bytes))
    }

    /// The same of memory that others take from, too.
    pub fn sharing(extra: Vec<(String, String)>, room: Arc<KnownRoom>) -> Self {
        LineCache { heads: Known::sharing(room), extra }
    }

    /// The heads, to tell them the time and to ask for their size.
    pub fn heads(&self) -> &Known {
        &self.heads
    }
}

/// The fields that a head had before.
enum Fields<'h> {
    None,
    Shared(Found<'h>),
    New(Vec<NewField>),
}

impl Fields<'_> {
    fn len(&self) -> usize {
        match self {
            Fields::None => 0,
            Fields::Shared(found) => found.len(),
            Fields::New(fields) => fields.len(),
        }
    }

    fn at(&self, place: usize) -> Option<(&[u8], SeriesId)> {
        match self {
            Fields::None => None,
            Fields::Shared(found) => found.field(place),
            Fields::New(fields) => fields.get(place).map(|field| (&*field.name, field.series)),
        }
    }

    /// Place and series of a field that is likely to be behind `from`.
    fn find(&self, name: &[u8], from: usize) -> Option<(usize, SeriesId)> {
        let of = |place: usize| self.at(place).filter(|(of, _)| *of == name).map(|(_, series)| (place, series));
        (from..self.len()).find_map(of).or_else(|| (0..from).find_map(of))
    }

    fn push(&mut self, field: NewField) {
        match self {
            Fields::None => *self = Fields::New(vec![field]),
            Fields::Shared(found) => *self = Fields::New(found.to_new().into_iter().chain([field]).collect()),
            Fields::New(fields) => fields.push(field),
        }
    }
}

/// How a body's times are to be read.
#[derive(Clone, Copy, Debug)]
pub struct LineOptions {
    pub precision: Precision,
    /// For lines without a time.
    pub now: Timestamp,
}

/// What was in a body besides samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineReport {
    pub lines: u64,
    /// Text fields, which are not stored.
    pub text_fields: u64,
}

/// Reads all lines of a body that starts at line `first_line` of its input. Bad lines are faults of `gather`; what is
/// good of a body is taken.
pub fn read_lines(
    body: &[u8],
    first_line: u64,
    options: LineOptions,
    cache: &LineCache,
    gather: &mut Gather<'_>,
) -> Result<LineReport, Refusal> {
    let mark = if first_line == 1 { BYTE_ORDER_MARK } else { &[] };
    let body = body.strip_prefix(mark).unwrap_or(body);
    let mut reader = LineReader::new(first_line, options, cache);
    reader.read(&mut Lines::of(body), gather)?;
    Ok(reader.report)
}

/// The same of an input of any length. A line over 16 MiB is a fault.
///
/// # Errors
/// An input that breaks off, and refusals.
pub fn read_line_protocol(
    input: &mut dyn BufRead,
    options: LineOptions,
    cache: &LineCache,
    gather: &mut Gather<'_>,
) -> Result<LineReport, ReadError> {
    let mut reader = LineReader::new(1, options, cache);
    let mut held = Vec::with_capacity(CHUNK);
    (&mut *input).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut held)?;
    if held == BYTE_ORDER_MARK {
        held.clear();
    }
    loop {
        let has_more = (&mut *input).take(CHUNK as u64).read_to_end(&mut held)? > 0;
        let mut lines = Lines { has_more, ..Lines::of(&held) };
        reader.read(&mut lines, gather)?;
        if lines.rest.len() > LINE_BYTES_MAX {
            // A text that is this long is one that nobody closed.
            lines.is_unclosed = true;
            reader.read(&mut lines, gather)?;
        }
        let left = lines.rest.len();
        held.drain(..held.len() - left);
        if left > LINE_BYTES_MAX {
            held.clear();
            skip_line(input)?;
            gather.faults.add(reader.number, format::Line::too_long());
            reader.number += 1;
            reader.report.lines += 1;
        }
        if !has_more {
            return Ok(reader.report);
        }
    }
}

/// Reads over what is left of a line.
fn skip_line(input: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (end, length) = (memchr(b'\n', buffer), buffer.len());
        input.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

enum Stop {
    Fault(String),
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

fn fault<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fault(reason.into()))
}

struct LineReader<'c> {
    options: LineOptions,
    cache: &'c LineCache,
    new: NewHeads,
    /// Bytes of `new`.
    new_bytes: usize,
    /// Of the line that is read.
    number: u64,
    report: LineReport,
}

enum Value {
    Number(f64),
    Text,
}

impl<'c> LineReader<'c> {
    fn new(first_line: u64, options: LineOptions, cache: &'c LineCache) -> Self {
        cache.heads.age(options.now);
        let (new, report) = (NewHeads::default(), LineReport::default());
        LineReader { options, cache, new, new_bytes: 0, number: first_line, report }
    }

    fn read(&mut self, lines: &mut Lines<'_>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let cache = self.cache;
        let mut shared = cache.heads.read();
        let (first, mut count) = (self.number, 0_u64);
        for line in &mut *lines {
            let held = gather.held();
            match self.line(line.text, &shared, gather) {
                Ok(()) => {}
                Err(Stop::Fault(reason)) => {
                    gather.take_back(held);
                    gather.faults.add(self.number, reason);
                }
                Err(Stop::Refused(refusal)) => return Err(refusal),
            }
            self.number += 1 + line.feeds;
            count += 1;
            if count.is_multiple_of(STRETCH) || gather.is_full() {
                // Handing on may take long.
                drop(shared);
                self.share();
                gather.flush_if_full()?;
                shared = cache.heads.read();
            }
        }
        drop(shared);
        self.share();
        self.report.lines += self.number - first;
        Ok(())
    }

    fn line(&mut self, line: &[u8], shared: &Generations, gather: &mut Gather<'_>) -> Result<(), Stop> {
        let line = line.trim_ascii_start();
        if line.is_empty() || line[0] == b'#' {
            return Ok(());
        }
        let Some(head_end) = unescaped_space(line) else {
            return fault("there are no fields: write `measurement,tag=value field=1 time`");
        };
        let (head, rest) = (&line[..head_end], line[head_end..].trim_ascii_start());
        let fields_end = fields_end(rest);
        let (fields, time) = (&rest[..fields_end], rest[fields_end..].trim_ascii());
        let time = self.time(time)?;
        if let Some(reason) = gather.bounds().refuse(time, 0.0) {
            return fault(reason);
        }
        let mut known = self.known(head, shared);
        let read = self.fields(head, fields, &mut known, time, shared, gather);
        if let Fields::New(fields) = known {
            self.keep(head, fields);
        }
        read
    }

    fn known<'h>(&mut self, head: &[u8], shared: &'h Generations) -> Fields<'h> {
        if !self.new.is_empty()
            && let Some(fields) = self.new.get_mut(head)
        {
            return Fields::New(std::mem::take(fields));
        }
        match shared.get(head) {
            None => Fields::None,
            Some(found) if found.is_old => Fields::New(found.to_new()),
            Some(found) => Fields::Shared(found),
        }
    }

    /// Keeps the fields of a key until they are shared.
    fn keep(&mut self, key: &[u8], fields: Vec<NewField>) {
        if let Some(known) = self.new.get_mut(key) {
            *known = fields;
            return;
        }
        let bytes = key.len() + size_of::<(Box<[u8]>, Vec<NewField>, NewField)>();
        if self.new_bytes + bytes <= NEW_BYTES_MAX {
            self.new_bytes += bytes;
            self.new.insert(key.into(), fields);
        }
    }

    fn fields(
        &mut self,
        head: &[u8],
        mut rest: &[u8],
        known: &mut Fields<'_>,
        time: Timestamp,
        shared: &Generations,
        gather: &mut Gather<'_>,
    ) -> Result<(), Stop> {
        if rest.is_empty() {
            return fault("there are no fields: write `measurement,tag=value field=1 time`");
        }
        let mut place = 0;
        loop {
            // Nearly always the fields come in the order they came in before.
            let expected = known
                .at(place)
                .filter(|(name, _)| rest.len() > name.len() && rest[name.len()] == b'=' && rest.starts_with(name))
                .map(|(name, series)| (name.len(), series));
            let name_end = match expected {
                Some((length, _)) => length,
                None => name_end(rest)?,
            };
            let (name, after) = (&rest[..name_end], &rest[name_end + 1..]);
            let (value, length) = value(after, name)?;
            match value {
                Value::Text => self.report.text_fields += 1,
                Value::Number(value) if !value.is_finite() => {
                    let reason = gather.bounds().refuse(time, value).unwrap_or_default();
                    gather.faults.add(self.number, format_args!("field {}: {reason}", Shown(name)));
                }
                Value::Number(value) => {
                    let metric =
                        || self.define(head, name).map_or_else(|_| "".into(), |def| def.metric.to_string().into());
                    if let Some(reason) = gather.outlived(time, metric) {
                        gather.faults.add(self.number, format_args!("field {}: {}", Shown(name), Brief(reason)));
                    } else {
                        let series = match expected {
                            Some((_, series)) => Some(series),
                            None => self.series(head, name, &mut place, known, shared, gather)?,
                        };
                        if let Some(series) = series {
                            gather.hold(series, time, value);
                        }
                    }
                }
            }
            place += usize::from(expected.is_some());
            match after.get(length) {
                None => return Ok(()),
                Some(b',') => rest = &after[length + 1..],
                Some(_) => return fault(format!("field {} is followed by no comma", Shown(name))),
            }
        }
    }

    /// The series of a field that was not where it was expected, and sets `place` behind it; `None` where it is new and
    /// over a budget.
    fn series(
        &mut self,
        head: &[u8],
        name: &[u8],
        place: &mut usize,
        known: &mut Fields<'_>,
        shared: &Generations,
        gather: &mut Gather<'_>,
    ) -> Result<Option<SeriesId>, Stop> {
        if let Some((found, series)) = known.find(name, *place) {
            *place = found + 1;
            return Ok(Some(series));
        }
        let key = (known.len() >= FIELDS_MAX).then(|| key_beyond(head, name));
        if let Some(series) = key.as_deref().and_then(|key| self.beyond(key, shared)) {
            return Ok(Some(series));
        }
        let def = self.define(head, name)?;
        let series = match gather.intake().intern(&def) {
            Ok(series) => series,
            Err(Refusal::Budget(budget)) => {
                gather.faults.add(self.number, format_args!("the series {} is new: {budget}", Brief(def)));
                return Ok(None);
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let field = NewField { name: name.into(), series };
        match key {
            Some(key) => self.keep(&key, vec![field]),
            None => {
                known.push(field);
                *place = known.len();
            }
        }
        Ok(Some(series))
    }

    /// The series of a field that has a key of its own.
    fn beyond(&mut self, key: &[u8], shared: &Generations) -> Option<SeriesId> {
        if let Some(fields) = self.new.get(key) {
            return Some(fields[0].series);
        }
        let found = shared.get(key)?;
        if found.is_old {
            self.keep(key, found.to_new());
        }
        Some(found.field(0)?.1)
    }

    fn define(&self, head: &[u8], field: &[u8]) -> Result<SeriesDef, Stop> {
        if head.len() > HEAD_MAX {
            return fault(format!("measurement and tags are over {HEAD_MAX} bytes: make them shorter"));
        }
        let Ok(text) = std::str::from_utf8(head) else { return fault("measurement and tags are not UTF-8 text") };
        let Ok(field) = std::str::from_utf8(field) else { return fault("a field's name is not UTF-8 text") };
        let mut parts = split_unescaped(text, ',').into_iter();
        let measurement = unescape(parts.next().unwrap_or_default());
        if measurement.is_empty() {
            return fault("there is no measurement: write `measurement,tag=value field=1 time`");
        }
        let mut labels: Vec<(String, String)> = Vec::new();
        for tag in parts {
            let pair = split_unescaped(tag, '=');
            let [name, value] = pair[..] else {
                return fault(format!(
                    "tag {} is not name=value: escape a comma, blank or = in it with \\",
                    Shown(tag.as_bytes())
                ));
            };
            if name.is_empty() {
                return fault(format!("tag {} has no name", Shown(tag.as_bytes())));
            }
            labels.push((unescape(name), unescape(value)));
        }
        // The last of two values counts.
        labels.extend(self.cache.extra.iter().cloned());
        let measurement_len = u16::try_from(measurement.len());
        let Ok(measurement_len) = measurement_len else { return fault("the measurement's name is over 65,535 bytes") };
        let metric = format!("{measurement}_{}", unescape(field));
        let mut def = SeriesDef::new(metric, Labels::new(labels));
        def.kind = Kind::of_metric(&def.metric);
        def.measurement_len = measurement_len;
        Ok(def)
    }

    fn time(&self, text: &[u8]) -> Result<Timestamp, Stop> {
        if text.is_empty() {
            return Ok(self.options.now);
        }
        let (negative, digits) = match text.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let whole = whole_number(digits).filter(|(_, length)| *length == digits.len());
        let nanos = whole.and_then(|(n, _)| i64::try_from(n).ok()?.checked_mul(self.options.precision.nanos(n)));
        match nanos {
            Some(nanos) => Ok(Timestamp::from_nanos(if negative { -nanos } else { nanos })),
            None => fault(format!(
                "time {} is no whole number that fits: times are in {} here, `precision` changes that",
                Shown(text),
                self.options.precision.name()
            )),
        }
    }

    /// Lets other connections know the new heads.
    fn share(&mut self) {
        if !self.new.is_empty() {
            self.cache.heads.insert(self.new.iter().map(|(head, fields)| (&**head, fields.as_slice())));
            self.new.clear();
            self.new_bytes = 0;
        }
    }
}

/// Digits at the front as a number, and how many; `None` where there are none or over 19.
fn whole_number(text: &[u8]) -> Option<(u64, usize)> {
    let mut n = 0_u64;
    let mut length = 0;
    while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        n = n.wrapping_mul(10).wrapping_add(u64::from(digit));
        length += 1;
    }
    (1..=19).contains(&length).then_some((n, length))
}

/// Length of a field's name, which ends at an unescaped `=`.
fn name_end(text: &[u8]) -> Result<usize, Stop> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'=' if at > 0 => return Ok(at),
            b'=' => return fault("a field has no name: write `field=1`"),
            b',' => break,
            _ => {}
        }
        at += 1;
    }
    fault(format!("field {} has no value: write `field=1`", Shown(&text[..at.min(text.len())])))
}

/// A field's value at the front of `text`, and its length.
fn value(text: &[u8], name: &[u8]) -> Result<(Value, usize), Stop> {
    // Whole numbers of up to 15 digits, the most frequent, need no float parser.
    let sign = usize::from(text.first() == Some(&b'-'));
    if let Some((n, digits)) = whole_number(&text[sign..])
        && digits <= 15
    {
        let suffix = match text.get(sign + digits) {
            Some(b'i') => 1,
            Some(b'u') if sign == 0 => 1,
            _ => 0,
        };
        let length = sign + digits + suffix;
        if matches!(text.get(length), None | Some(b',')) {
            let number = n as f64;
            return Ok((Value::Number(if sign == 1 { -number } else { number }), length));
        }
    }
    if text.first() == Some(&b'"') {
        return match closing_quote(text) {
            Some(end) => Ok((Value::Text, end + 1)),
            None => fault(format!("field {} has a text without a closing quote", Shown(name))),
        };
    }
    let length = memchr(b',', text).unwrap_or(text.len());
    match number(&text[..length]) {
        Ok(number) => Ok((Value::Number(number), length)),
        Err(why) => fault(format!("field {} has the value {}, which is {why}", Shown(name), Shown(&text[..length]))),
    }
}

/// A number, true or false; else why it is none.
fn number(word: &[u8]) -> Result<f64, &'static str> {
    let digits = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let parsed = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i128>().ok();
    match word {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok(1.0),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok(0.0),
        [whole @ .., b'i'] if digits(whole.strip_prefix(b"-").unwrap_or(whole)) => parsed(whole)
            .and_then(|whole| i64::try_from(whole).ok())
            .map(|whole| whole as f64)
            .ok_or("too large for an integer of 64 bits: leave the `i` away"),
        [whole @ .., b'u'] if digits(whole) => parsed(whole)
            .and_then(|whole| u64::try_from(whole).ok())
            .map(|whole| whole as f64)
            .ok_or("too large for an unsigned integer of 64 bits: leave the `u` away"),
        [.., b'i'] if is_float(&word[..word.len() - 1]) => Err("no whole number: leave the `i` away"),
        [.., b'u'] if is_float(&word[..word.len() - 1]) => Err("no whole number from 0 on: leave the `u` away"),
        _ => fast_float2::parse::<f64, _>(word).map_err(|_| "no number, true or false: put a text in double quotes"),
    }
}

fn is_float(word: &[u8]) -> bool {
    fast_float2::parse::<f64, _>(word).is_ok()
}

/// The key of a field beyond those that are found by their place. No head has a line feed.
fn key_beyond(head: &[u8], name: &[u8]) -> Vec<u8> {
    [head, b"\n", name].concat()
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        if letter == separator && !escaped {
            parts.push(&text[start..at]);
            start = at + letter.len_utf8();
        }
        escaped = letter == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

/// Takes the backslash from before a comma, blank, `=` or quote; others stay.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.peek() {
            Some(&next) if letter == '\\' && matches!(next, ',' | ' ' | '=' | '"') => {
                plain.push(next);
                letters.next();
            }
            _ => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ingest::Nowhere;
    use crate::ingest::gather::TimeBounds;
    use crate::ingest::gather::testing::{Recorder, all_times};
    use crate::model::{Keep, MetricRule, Retention};

    fn read(text: &str, cache: &LineCache) -> (Vec<String>, Vec<String>, LineReport) {
        read_into(&Recorder::default(), text, cache)
    }

    fn read_into(recorder: &Recorder, text: &str, cache: &LineCache) -> (Vec<String>, Vec<String>, LineReport) {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let bounds = TimeBounds { earliest: Timestamp::from_nanos(0), latest: now.plus(3_600_000_000_000) };
        let mut gather = Gather::new(recorder, bounds);
        let options = LineOptions { precision: Precision::Nanos, now };
        let report = read_lines(text.as_bytes(), 1, options, cache, &mut gather).unwrap();
        gather.flush().unwrap();
        let faults = gather.faults.first.iter().map(|fault| format!("{}: {}", fault.line, fault.error)).collect();
        let samples = recorder.samples().into_iter();
        (samples.map(|(series, time, value)| format!("{series} {time} {value}")).collect(), faults, report)
    }

    #[test]
    fn lines_become_a_sample_a_field() {
        let cases = [
            ("cpu,host=a usage=1.5,idle=3i 5", vec![r#"cpu_usage{host="a"} 5 1.5"#, r#"cpu_idle{host="a"} 5 3"#]),
            ("m v=1", vec!["m_v 1700000000000000000 1"]),
            ("m v=-12,w=t,x=F,y=1e3,z=0.1 7\r\n", vec!["m_v 7 -12", "m_w 7 1", "m_x 7 0", "m_y 7 1000", "m_z 7 0.1"]),
            (r"a\,b,t\ x=y\=z f\,g=2u 9", vec![r#"a,b_f,g{t x="y=z"} 9 2"#]),
            ("# a comment\n\n  m v=1 1", vec!["m_v 1 1"]),
            ("m s=\"a b, c=1\nd\",v=2 3", vec!["m_v 3 2"]),
            ("m,empty= v=1 1", vec!["m_v 1 1"]),
            (
                "m v=9007199254740993i,w=123456789012345678 1",
                vec!["m_v 1 9007199254740992", "m_w 1 123456789012345680"],
            ),
        ];
        for (text, samples) in cases {
            assert_eq!(read(text, &LineCache::default()).0, samples, "{text}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_is_kept() {
        let bad = [
            ("m", "no fields"),
            ("m ", "no fields"),
            (",t=1 v=1", "no measurement"),
            ("m v", "has no value"),
            ("m =1", "has no name"),
            ("m v=", "no number"),
            ("m v=1,w=x", "no number"),
            ("m v=1x", "no number"),
            ("m v=1 soon", "whole number"),
            ("m v=1 99999999999999999999", "whole number"),
            ("m v=NaN 1", "not a finite number"),
            ("m v=1e999 1", "not a finite number"),
            ("m v=1 -1", "oldest"),
            ("m v=1 4000000000000000000", "latest"),
            ("m,t v=1", "not name=value"),
            ("m,=x v=1", "has no name"),
            ("m v=\"open 1", "closing quote"),
            ("m v=1.5i", "no whole number: leave the `i` away"),
            ("m v=1e3u", "no whole number from 0 on: leave the `u` away"),
            ("m v=-1u", "no whole number from 0 on"),
            ("m v=9223372036854775808i", "too large for an integer of 64 bits"),
            ("m v=18446744073709551616u", "too large for an unsigned integer"),
            ("m v=99999999999999999999999999999999999999999999i", "too large"),
            ("m v=i", "no number"),
        ];
        for (line, reason) in bad {
            let (samples, faults, report) = read(&format!("ok v=1 1\n{line}\nok v=2 2"), &LineCache::default());
            assert_eq!(samples, ["ok_v 1 1", "ok_v 2 2"], "{line}");
            assert!(
                faults.len() == 1 && faults[0].starts_with("2: ") && faults[0].contains(reason),
                "{line}: {faults:?}"
            );
            assert_eq!(report.lines, 3);
        }
    }

    #[test]
    fn samples_that_would_not_be_kept_are_refused_by_metric() {
        let day = |days: u64| Keep::For(std::time::Duration::from_secs(days * 86_400));
        let rule = |metric: &str, keep| MetricRule { metric: metric.parse().unwrap(), keep };
        let metrics = vec![rule("m_debug*", day(7)), rule("m_audit", Keep::Forever)];
        let retention = Arc::new(Retention { metrics, ..Retention::of_all(day(90)) });
        let now = Timestamp::parse("2026-03-01").unwrap();
        let (recorder, cache) = (Recorder::default(), LineCache::default());
        let mut gather = Gather::new(&recorder, all_times()).keeping(retention, now);
        for days in [6, 8, 91] {
            let time = now.plus(-days * 86_400_000_000_000);
            let text = format!("m debug={days},cpu={days},audit={days} {}", time.nanos());
            let options = LineOptions { precision: Precision::Nanos, now };
            read_lines(text.as_bytes(), 1, options, &cache, &mut gather).unwrap();
            for metric in ["m_debug", "m_cpu", "m_audit"] {
                gather.sample(2, metric, &[], None, time, days as f64).unwrap();
            }
        }
        gather.flush().unwrap();
        let taken: Vec<String> = recorder.samples().iter().map(|(name, _, days)| format!("{name} {days}")).collect();
        let once = ["m_debug 6", "m_cpu 6", "m_audit 6", "m_cpu 8", "m_audit 8", "m_audit 91"];
        let twice = [&once[..3], &once[..3], &once[3..5], &once[3..5], &once[5..], &once[5..]].concat();
        assert_eq!(taken, twice);
        let told: Vec<&str> = gather.faults.first.iter().map(|fault| &*fault.error).collect();
        assert_eq!(told.len(), 6);
        let wanted = "field `debug`: time 2026-02-21T00:00:00Z is before 2026-02-22T00:00:00Z, the oldest that is kept of `m_debug`: raise";
        assert!(told[0].starts_with(wanted), "{told:?}");
    }

    #[test]
    fn fields_are_found_in_whatever_order_they_come() {
        let (recorder, cache) = (Recorder::default(), LineCache::default());
        read_into(&recorder, "m,h=a a=1,b=2,c=3 1", &cache);
        let (samples, _, _) = read_into(&recorder, "m,h=a c=1,a=2 2\nm,h=a bb=4,b=3 3", &cache);
        let found = [r#"m_c{h="a"} 2 1"#, r#"m_a{h="a"} 2 2"#, r#"m_bb{h="a"} 3 4"#, r#"m_b{h="a"} 3 3"#];
        assert_eq!(samples[3..], found);
    }

    #[test]
    fn random_bytes_never_panic() {
        let chance = crate::world::Chance::seeded(3);
        let letters = br#"m,t=v f1i"\ 	#-.eE
"#;
        for _ in 0..20_000 {
            let length = chance.below(40);
            let text: Vec<u8> = (0..length).map(|_| letters[chance.below(letters.len() as u64) as usize]).collect();
            let text = String::from_utf8_lossy(&text);
            let (samples, faults, report) = read(&text, &LineCache::default());
            assert_eq!(read_input(text.as_bytes()), (samples, faults, report.lines), "{text}");
        }
    }
    #[test]
    fn quotes_outside_of_values_are_letters() {
        let text = "# 3.5\" bay\nlost,h=a v=1 1\nlost,h=b v=2 2\n# 2.5\" bay\nkept,h=a v=3 3\n\
                    disk,size=5\" v=4 4\ndisk,size=5\",h=b v=5 5\nm f\"=6,s=\"x\ny\" 6\nm v=bad\nm v=7 7";
        let (samples, faults, report) = read(text, &LineCache::default());
        let wanted = [
            r#"lost_v{h="a"} 1 1"#,
            r#"lost_v{h="b"} 2 2"#,
            r#"kept_v{h="a"} 3 3"#,
            r#"disk_v{size="5\""} 4 4"#,
            r#"disk_v{h="b",size="5\""} 5 5"#,
            r#"m_f" 6 6"#,
            "m_v 7 7",
        ];
        assert_eq!(samples, wanted);
        assert_eq!((faults.len(), &faults[0][..3], report.lines), (1, "10:", 11));
    }

    #[test]
    fn integers_of_all_sixty_four_bits_are_taken() {
        let text = "m a=-9223372036854775808i,b=18446744073709551615u,c=-0i,d=007i 1";
        let (samples, faults, _) = read(text, &LineCache::default());
        assert_eq!(faults, [""; 0]);
        assert_eq!(samples, ["m_a 1 -9223372036854776000", "m_b 1 18446744073709552000", "m_c 1 -0", "m_d 1 7"]);
    }

    #[test]
    fn labels_of_the_body_win_over_tags() {
        let cache = LineCache::with_labels(vec![("db".into(), "one".into())], 1 << 20);
        assert_eq!(read("m,db=two,h=a v=1 1", &cache).0, [r#"m_v{db="one",h="a"} 1 1"#]);
    }

    #[test]
    fn what_a_fault_quotes_is_short() {
        let long = "\u{1}".repeat(1 << 20);
        let lines = ["m v={}", "m v=1 {}", "m {}=x", "m {}", "m,{} v=1", "m,{}= v=1", "m,{}={}", "{} v=1", "m {}=NaN"];
        for line in lines {
            let (samples, faults, _) = read(&line.replace("{}", &long), &LineCache::default());
            assert!(samples.is_empty() && faults[0].len() < 400, "{line}: {} bytes", faults[0].len());
        }
    }

    #[test]
    fn wide_lines_find_their_series_in_any_order() {
        let (recorder, cache) = (Recorder::default(), LineCache::default());
        let line = |fields: &[usize], time: i64| -> String {
            let fields: Vec<String> = fields.iter().map(|at| format!("f{at}={at}")).collect();
            format!("m,h=a {} {time}\n", fields.join(","))
        };
        let forth: Vec<usize> = (0..3 * FIELDS_MAX).collect();
        let back: Vec<usize> = forth.iter().rev().copied().collect();
        let odd: Vec<usize> = forth.iter().copied().filter(|at| at % 2 == 1).collect();
        let orders = [&forth, &forth, &back, &odd, &forth];
        let bodies: Vec<String> = orders.iter().zip(1..).map(|(fields, time)| line(fields, time)).collect();
        // Known from the line before, then from the body before.
        for text in [bodies.concat(), bodies.concat()] {
            let before = recorder.samples().len();
            let (samples, faults, _) = read_into(&recorder, &text, &cache);
            assert_eq!(faults, [""; 0]);
            let wanted: Vec<String> = orders
                .iter()
                .zip(1..)
                .flat_map(|(fields, time)| fields.iter().map(move |at| format!("m_f{at}{{h=\"a\"}} {time} {at}")))
                .collect();
            assert_eq!(samples[before..], wanted);
        }
        assert_eq!(recorder.defs.lock().unwrap().len(), forth.len());
        // A head is no key of a field.
        let (_, faults, _) = read_into(&recorder, "m,h=a\nf200=1", &cache);
        assert_eq!(faults.len(), 2);
    }

    /// By the square of its length this would take hours.
    #[test]
    fn very_many_new_fields_are_read() {
        let count = 200_000;
        let line: String = (0..count).map(|at| format!(",f{at}=1")).collect();
        let lines: String = (0..count).map(|at| format!("m f{at}=1 1\n")).collect();
        for text in [format!("m {} 1", &line[1..]), lines] {
            let cache = LineCache::default();
            let mut gather = Gather::new(&Nowhere, all_times());
            let options = LineOptions { precision: Precision::Nanos, now: Timestamp::from_nanos(1) };
            for _ in 0..2 {
                read_lines(text.as_bytes(), 1, options, &cache, &mut gather).unwrap();
            }
            gather.flush().unwrap();
            assert_eq!((gather.accepted(), gather.faults.count), (2 * count, 0));
        }
    }

    fn read_input(text: &[u8]) -> (Vec<String>, Vec<String>, u64) {
        let (recorder, cache) = (Recorder::default(), LineCache::default());
        let now = Timestamp::from_millis(1_700_000_000_000);
        let bounds = TimeBounds { earliest: Timestamp::from_nanos(0), latest: now.plus(3_600_000_000_000) };
        let mut gather = Gather::new(&recorder, bounds);
        let options = LineOptions { precision: Precision::Nanos, now };
        let mut input = std::io::BufReader::new(text);
        let report = read_line_protocol(&mut input, options, &cache, &mut gather).unwrap();
        gather.flush().unwrap();
        let faults = gather.faults.first.iter().map(|fault| format!("{}: {}", fault.line, fault.error)).collect();
        let samples = recorder.samples().into_iter();
        (samples.map(|(series, time, value)| format!("{series} {time} {value}")).collect(), faults, report.lines)
    }

    #[test]
    fn an_input_is_read_over_the_marks_between_its_chunks() {
        let long = "x\n".repeat(CHUNK / 2);
        let text = format!("\u{FEFF}m v=1 1\nm s=\"{long}\",v=2 2\nm v=bad\nm v=3 3");
        let (samples, faults, lines) = read_input(text.as_bytes());
        assert_eq!(samples, ["m_v 1 1", "m_v 2 2", "m_v 3 3"]);
        let bad = CHUNK as u64 / 2 + 3;
        assert_eq!((faults.len(), lines), (1, bad + 1));
        assert!(faults[0].starts_with(&format!("{bad}: field `v`")), "{faults:?}");
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let long = "x".repeat(LINE_BYTES_MAX + 3 * CHUNK);
        let text = format!("m v=1 1\nm s=\"{long}\"\nm v=2 2\nm s=\"{}", "\nm v=3 3".repeat(2 * LINE_BYTES_MAX / 8));
        let (samples, faults, lines) = read_input(text.as_bytes());
        assert_eq!(
            (&samples[..3], samples.len()),
            (&["m_v 1 1", "m_v 2 2", "m_v 3 3"].map(String::from)[..], 2 * LINE_BYTES_MAX / 8 + 2)
        );
        assert_eq!((faults.len(), lines), (2, 4 + 2 * LINE_BYTES_MAX as u64 / 8));
        assert!(
            faults[0].starts_with("2: the line is longer than 16 MiB") && faults[1].starts_with("4: "),
            "{faults:?}"
        );
    }
}
