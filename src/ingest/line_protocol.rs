//! InfluxDB line protocol: `measurement,tag=value field=1,field2=2i 1700000000000000000`.
//!
//! Each numeric or boolean field is one series, named `measurement_field`, with the tags as labels. Text fields are
//! counted and left out. A known series costs one lookup of the line's head (measurement and tags, as raw bytes) for
//! all its fields, and no allocation.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use memchr::memchr;

use super::gather::Gather;
use super::known::{Found, Generations, Known, NewField};
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

/// Heads of a stretch that are not shared yet.
type NewHeads = HashMap<Box<[u8]>, Arc<Vec<NewField>>, FixedState>;

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
        LineCache { heads: Known::within(bytes), extra }
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
    New(Arc<Vec<NewField>>),
}

impl Fields<'_> {
    fn at(&self, place: usize) -> Option<(&[u8], SeriesId)> {
        match self {
            Fields::None => None,
            Fields::Shared(found) => found.field(place),
            Fields::New(fields) => fields.get(place).map(|field| (&*field.name, field.series)),
        }
    }

    fn to_new(&self) -> Vec<NewField> {
        match self {
            Fields::None => Vec::new(),
            Fields::Shared(found) => found.to_new(),
            Fields::New(fields) => fields.to_vec(),
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
    cache.heads.age(options.now);
    let mut reader = LineReader { options, cache, new: NewHeads::default(), report: LineReport::default() };
    let mut shared = cache.heads.read();
    let mut number = first_line;
    let mut rest = body;
    while !rest.is_empty() {
        let end = line_end(rest);
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or(&[]);
        let held = gather.held();
        match reader.line(line, number, &shared, gather) {
            Ok(()) => {}
            Err(Stop::Fault(reason)) => {
                gather.take_back(held);
                gather.faults.add(number, reason);
            }
            Err(Stop::Refused(refusal)) => return Err(refusal),
        }
        number += 1;
        if (number - first_line).is_multiple_of(STRETCH) || gather.is_full() {
            // Handing on may take long.
            drop(shared);
            reader.share();
            gather.flush_if_full()?;
            shared = cache.heads.read();
        }
    }
    drop(shared);
    reader.share();
    Ok(LineReport { lines: number - first_line, ..reader.report })
}

/// Where the line ends: a line feed within a quoted text does not end it.
fn line_end(text: &[u8]) -> usize {
    let end = memchr(b'\n', text).unwrap_or(text.len());
    if memchr(b'"', &text[..end]).is_none() {
        return end;
    }
    let (mut quoted, mut at) = (false, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => quoted = !quoted,
            b'\n' if !quoted => return at,
            _ => {}
        }
        at += 1;
    }
    // A quote that is never closed spoils its own line only.
    if quoted { end } else { text.len() }
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
    report: LineReport,
}

enum Value {
    Number(f64),
    Text,
}

impl LineReader<'_> {
    fn line(&mut self, line: &[u8], number: u64, shared: &Generations, gather: &mut Gather<'_>) -> Result<(), Stop> {
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
        let known = self.known(head, shared);
        self.fields(head, fields, &known, time, number, gather)
    }

    fn known<'h>(&mut self, head: &[u8], shared: &'h Generations) -> Fields<'h> {
        if !self.new.is_empty()
            && let Some(fields) = self.new.get(head)
        {
            return Fields::New(fields.clone());
        }
        let Some(found) = shared.get(head) else { return Fields::None };
        if found.is_old {
            self.new.insert(head.into(), Arc::new(found.to_new()));
        }
        Fields::Shared(found)
    }

    fn fields(
        &mut self,
        head: &[u8],
        mut rest: &[u8],
        known: &Fields<'_>,
        time: Timestamp,
        number: u64,
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
                .filter(|(name, _)| rest.len() > name.len() && rest[name.len()] == b'=' && rest.starts_with(name));
            let name_end = match expected {
                Some((name, _)) => name.len(),
                None => name_end(rest)?,
            };
            let (name, after) = (&rest[..name_end], &rest[name_end + 1..]);
            let (value, length) = value(after, name)?;
            match value {
                Value::Text => self.report.text_fields += 1,
                Value::Number(value) if !value.is_finite() => {
                    let reason = gather.bounds().refuse(time, value).unwrap_or_default();
                    gather.faults.add(number, format!("field `{}`: {reason}", String::from_utf8_lossy(name)));
                }
                Value::Number(value) => {
                    let metric =
                        || self.define(head, name).map_or_else(|_| "".into(), |def| def.metric.to_string().into());
                    if let Some(reason) = gather.outlived(time, metric) {
                        gather.faults.add(number, format!("field `{}`: {reason}", String::from_utf8_lossy(name)));
                    } else {
                        let series = match expected {
                            Some((_, series)) => Some(series),
                            None => self.series(head, name, number, known, gather)?,
                        };
                        if let Some(series) = series {
                            gather.hold(series, time, value);
                        }
                    }
                }
            }
            place += 1;
            match after.get(length) {
                None => return Ok(()),
                Some(b',') => rest = &after[length + 1..],
                Some(_) => return fault(format!("field `{}` is followed by no comma", String::from_utf8_lossy(name))),
            }
        }
    }

    /// The series of a field that was not where it was expected; `None` where it is new and over a budget.
    fn series(
        &mut self,
        head: &[u8],
        name: &[u8],
        number: u64,
        known: &Fields<'_>,
        gather: &mut Gather<'_>,
    ) -> Result<Option<SeriesId>, Stop> {
        // Those of this very line among them.
        let fresh = self.new.get(head).cloned().map(Fields::New);
        let known = fresh.as_ref().unwrap_or(known);
        let same = (0..).map_while(|place| known.at(place)).find(|(of, _)| *of == name);
        if let Some((_, series)) = same {
            return Ok(Some(series));
        }
        let def = self.define(head, name)?;
        let series = match gather.intake().intern(&def) {
            Ok(series) => series,
            Err(Refusal::Budget(budget)) => {
                gather.faults.add(number, format_args!("the series {def} is new: {budget}"));
                return Ok(None);
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let mut fields = known.to_new();
        fields.push(NewField { name: name.into(), series });
        self.new.insert(head.into(), Arc::new(fields));
        Ok(Some(series))
    }

    fn define(&self, head: &[u8], field: &[u8]) -> Result<SeriesDef, Stop> {
        let Ok(text) = std::str::from_utf8(head) else { return fault("measurement and tags are not UTF-8 text") };
        let Ok(field) = std::str::from_utf8(field) else { return fault("a field's name is not UTF-8 text") };
        let mut parts = split_unescaped(text, ',').into_iter();
        let measurement = unescape(parts.next().unwrap_or_default());
        if measurement.is_empty() {
            return fault("there is no measurement: write `measurement,tag=value field=1 time`");
        }
        let mut labels: Vec<(String, String)> = self.cache.extra.clone();
        for tag in parts {
            let pair = split_unescaped(tag, '=');
            let [name, value] = pair[..] else {
                return fault(format!("tag `{tag}` is not name=value: escape a comma, blank or = in it with \\"));
            };
            if name.is_empty() {
                return fault(format!("tag `{tag}` has no name"));
            }
            labels.push((unescape(name), unescape(value)));
        }
        let measurement_len = u16::try_from(measurement.len());
        let Ok(measurement_len) = measurement_len else { return fault("the measurement's name is over 65,535 bytes") };
        if labels.len() > usize::from(u16::MAX) {
            return fault("there are over 65,535 tags");
        }
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
                "time `{}` is no whole number that fits: times are in {} here, `precision` changes that",
                String::from_utf8_lossy(text),
                self.options.precision.name()
            )),
        }
    }

    /// Lets other connections know the new heads.
    fn share(&mut self) {
        if !self.new.is_empty() {
            self.cache.heads.insert(self.new.iter().map(|(head, fields)| (&**head, fields.as_slice())));
            self.new.clear();
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
    fault(format!("field `{}` has no value: write `field=1`", String::from_utf8_lossy(&text[..at.min(text.len())])))
}

/// A field's value at the front of `text`, and its length.
fn value(text: &[u8], name: &[u8]) -> Result<(Value, usize), Stop> {
    // Whole numbers of up to 15 digits, the most frequent, need no float parser.
    let sign = usize::from(text.first() == Some(&b'-'));
    if let Some((n, digits)) = whole_number(&text[sign..])
        && digits <= 15
    {
        let suffix = usize::from(matches!(text.get(sign + digits), Some(b'i' | b'u')));
        let length = sign + digits + suffix;
        if matches!(text.get(length), None | Some(b',')) {
            let number = n as f64;
            return Ok((Value::Number(if sign == 1 { -number } else { number }), length));
        }
    }
    if text.first() == Some(&b'"') {
        return match closing_quote(text) {
            Some(end) => Ok((Value::Text, end + 1)),
            None => fault(format!("field `{}` has a text without a closing quote", String::from_utf8_lossy(name))),
        };
    }
    let length = memchr(b',', text).unwrap_or(text.len());
    let word = &text[..length];
    let number = match word {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(1.0),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(0.0),
        _ => {
            let plain = word.strip_suffix(b"i").or_else(|| word.strip_suffix(b"u")).unwrap_or(word);
            fast_float2::parse::<f64, _>(plain).ok()
        }
    };
    match number {
        Some(number) => Ok((Value::Number(number), length)),
        None => fault(format!(
            "field `{}` has the value `{}`, which is no number, true or false: put a text in double quotes",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(word)
        )),
    }
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// First space that is not escaped.
fn unescaped_space(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr(b' ', &text[from..])?;
        let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where the fields end: the first space that is neither escaped nor quoted.
fn fields_end(text: &[u8]) -> usize {
    let plain = memchr(b' ', text).unwrap_or(text.len());
    if memchr::memchr2(b'"', b'\\', &text[..plain]).is_none() {
        return plain;
    }
    let (mut quoted, mut at) = (false, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => quoted = !quoted,
            b' ' if !quoted => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
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
    use super::*;
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
            read(&String::from_utf8_lossy(&text), &LineCache::default());
        }
    }
}
