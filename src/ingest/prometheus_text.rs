//! Prometheus text exposition 0.0.4 and OpenMetrics 1.0.
//!
//! ```text
//! # TYPE http_requests counter
//! http_requests_total{code="200"} 1027 1395066363000
//! http_requests_total{code="500"} 3 1395066363.000 # {trace_id="x"} 1 1395066362.9
//! {"http.requests", "service.name"="a"} 3
//! ```
//! A time with a point or below 1e11 is seconds (OpenMetrics), any other milliseconds (Prometheus). Exemplars are left
//! out. The parts of a histogram or a summary that only go up (`_bucket`, `_count`, `_sum`) are counters.

use std::borrow::Cow;
use std::io::BufRead;

use hashbrown::{HashMap, HashSet};

use super::format::{Line, Lines, ReadError, Shown};
use super::{About, Gather};
use crate::flow::Refusal;
use crate::model::{Kind, Timestamp};

/// Families whose comments are kept; those of more are left out.
const FAMILIES_MAX: usize = 65_536;
/// Smallest time that is read as milliseconds; below it are seconds.
const MILLIS_MIN: u64 = 100_000_000_000;
/// What samples append to the name of their family.
const SUFFIXES: [&str; 7] = ["_total", "_bucket", "_count", "_sum", "_created", "_gsum", "_gcount"];

/// Takes what an exposition says, line by line.
pub(super) trait Taker {
    fn sample(&mut self, line: u64, said: &Said<'_>) -> Result<(), Refusal>;

    fn fault(&mut self, line: u64, reason: String);
}

/// One sample as its line says it.
pub(super) struct Said<'t> {
    pub metric: &'t str,
    /// In the order of the line.
    pub labels: &'t [(&'t str, &'t str)],
    pub about: About<'t>,
    /// `None`: the line has none.
    pub time: Option<Timestamp>,
    pub value: f64,
}

/// How an exposition was read.
pub(super) struct Read {
    /// Lines of samples, refused ones among them.
    pub samples: u64,
    /// Whether the last line was `# EOF`, which OpenMetrics ends with.
    pub has_end: bool,
}

/// Reads samples; one without a time gets `now`. The number of sample lines read, refused ones among them.
pub fn read_prometheus(input: &mut dyn BufRead, now: Timestamp, gather: &mut Gather<'_>) -> Result<u64, ReadError> {
    read_exposition(input, &mut Gathering { now, gather }).map(|read| read.samples)
}

struct Gathering<'g, 'i> {
    now: Timestamp,
    gather: &'g mut Gather<'i>,
}

impl Taker for Gathering<'_, '_> {
    fn sample(&mut self, line: u64, said: &Said<'_>) -> Result<(), Refusal> {
        let time = said.time.unwrap_or(self.now);
        self.gather.sample_about(line, said.metric, said.labels, said.about, time, said.value)
    }

    fn fault(&mut self, line: u64, reason: String) {
        self.gather.faults.add(line, reason);
    }
}

/// Hands every line of a sample to `taker`.
pub(super) fn read_exposition(input: &mut dyn BufRead, taker: &mut dyn Taker) -> Result<Read, ReadError> {
    let (mut lines, mut line) = (Lines::new(input), Vec::new());
    let mut families = Families::default();
    let mut read = Read { samples: 0, has_end: false };
    loop {
        match lines.read(&mut line)? {
            Line::End => return Ok(read),
            Line::TooLong => taker.fault(lines.number(), Line::too_long()),
            Line::Whole => {
                let Ok(text) = str::from_utf8(&line) else {
                    taker.fault(lines.number(), format!("{} is no UTF-8", Shown(&line)));
                    read.samples += 1;
                    continue;
                };
                let text = text.trim_matches([' ', '\t']);
                if text.is_empty() {
                    continue;
                }
                read.has_end = text == "# EOF";
                if let Some(comment) = text.strip_prefix('#') {
                    families.read(comment);
                    continue;
                }
                match Cursor::new(text).sample() {
                    Ok(sample) => {
                        let labels: Vec<(&str, &str)> = sample.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
                        let about = families.about(&sample.metric, &labels);
                        let Sample { metric, time, value, .. } = &sample;
                        let said = Said { metric, labels: &labels, about, time: *time, value: *value };
                        taker.sample(lines.number(), &said)?;
                    }
                    Err(reason) => taker.fault(lines.number(), reason),
                }
            }
        }
        read.samples += 1;
    }
}

/// What the comments say of a family of metrics.
#[derive(Default)]
struct Family {
    kind: Option<Kind>,
    unit: String,
    help: String,
}

/// Families by name.
#[derive(Default)]
struct Families(HashMap<Box<str>, Family>);

impl Families {
    /// Takes `TYPE`, `UNIT` and `HELP`; any other comment says nothing.
    fn read(&mut self, comment: &str) {
        let (keyword, rest) = first_word(comment);
        if !matches!(keyword, "TYPE" | "UNIT" | "HELP") {
            return;
        }
        let Some((name, rest)) = family_name(rest) else { return };
        let Some(family) = self.family(&name) else { return };
        match keyword {
            "TYPE" => family.kind = kind_of(rest),
            "UNIT" => family.unit = rest.to_owned(),
            _ => family.help = unescaped(rest).into_owned(),
        }
    }

    fn family(&mut self, name: &str) -> Option<&mut Family> {
        if !self.0.contains_key(name) {
            if self.0.len() >= FAMILIES_MAX {
                return None;
            }
            self.0.insert(name.into(), Family::default());
        }
        self.0.get_mut(name)
    }

    /// What is known of the series `metric` with `labels`.
    fn about(&self, metric: &str, labels: &[(&str, &str)]) -> About<'_> {
        let whole = self.0.get(metric).map(|family| (family, ""));
        let stem = || {
            let suffix = SUFFIXES.into_iter().find(|suffix| metric.ends_with(suffix))?;
            Some((self.0.get(&metric[..metric.len() - suffix.len()])?, suffix))
        };
        let Some((family, suffix)) = whole.or_else(stem) else { return About::default() };
        let kind = family.kind.and_then(|kind| kind_of_part(kind, suffix, labels));
        About { kind, unit: unit_of_part(suffix, &family.unit), help: &family.help }
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "counter" => Kind::Counter,
        "gauge" | "info" | "stateset" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        // Its buckets go down as well.
        "gaugehistogram" => Kind::Gauge,
        "summary" => Kind::Summary,
        _ => return None,
    })
}

/// The kind of a series of a family of `kind`; `None`: as its name suggests.
pub(super) fn kind_of_part(kind: Kind, suffix: &str, labels: &[(&str, &str)]) -> Option<Kind> {
    match (kind, suffix) {
        (Kind::Histogram, "_bucket" | "_count" | "_sum") | (Kind::Summary, "_count" | "_sum") => Some(Kind::Counter),
        (Kind::Summary, "") if labels.iter().any(|(name, _)| *name == "quantile") => Some(Kind::Summary),
        (Kind::Histogram | Kind::Counter, "" | "_total") | (Kind::Summary, "") => Some(kind),
        (Kind::Gauge, "" | "_bucket" | "_gsum" | "_gcount") => Some(Kind::Gauge),
        (_, "_created") => Some(Kind::Gauge),
        _ => None,
    }
}

/// The unit of a series of a family of `unit`.
pub(super) fn unit_of_part<'t>(suffix: &str, unit: &'t str) -> &'t str {
    // `_count` and `_bucket` count observations, whatever the unit of what is observed.
    if matches!(suffix, "_count" | "_bucket" | "_gcount" | "_created") { "" } else { unit }
}

/// One line: a series, a value, a time.
struct Sample<'t> {
    metric: Cow<'t, str>,
    labels: Vec<(Cow<'t, str>, Cow<'t, str>)>,
    value: f64,
    time: Option<Timestamp>,
}

/// Labels up to which each is held against each.
const FEW_LABELS: usize = 16;

/// A name that two labels have.
fn twice<'l>(labels: &'l [(Cow<'_, str>, Cow<'_, str>)]) -> Option<&'l str> {
    let mut names = labels.iter().enumerate().map(|(at, (name, _))| (at, &**name));
    if labels.len() <= FEW_LABELS {
        return names.find(|(at, name)| labels[..*at].iter().any(|(known, _)| *known == **name)).map(|(_, name)| name);
    }
    let mut seen = HashSet::new();
    names.find(|(_, name)| !seen.insert(*name)).map(|(_, name)| name)
}

/// Walks over a line.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t str) -> Self {
        Cursor { text, at: 0 }
    }

    fn sample(mut self) -> Result<Sample<'t>, String> {
        let mut metric = Cow::Borrowed(self.name(true));
        let mut labels = Vec::new();
        self.blank();
        if self.take(b'{') {
            self.labels(&mut metric, &mut labels)?;
        }
        if metric.is_empty() {
            return Err(format!("no metric name before {}", self.rest()));
        }
        if let Some(name) = twice(&labels) {
            return Err(format!("label {} is there twice: leave one out", Shown(name.as_bytes())));
        }
        let value = self.value()?;
        let time = self.time()?;
        self.blank();
        match self.peek() {
            // An exemplar.
            None | Some(b'#') => Ok(Sample { metric, labels, value, time }),
            Some(_) => Err(format!("{} after the time", self.rest())),
        }
    }

    /// What stands between the braces: labels, and the metric's name where it is quoted.
    fn labels(
        &mut self,
        metric: &mut Cow<'t, str>,
        labels: &mut Vec<(Cow<'t, str>, Cow<'t, str>)>,
    ) -> Result<(), String> {
        loop {
            self.blank();
            if self.take(b'}') {
                return Ok(());
            }
            let quoted = self.peek() == Some(b'"');
            let name = if quoted { self.text()? } else { Cow::Borrowed(self.name(false)) };
            self.blank();
            if self.take(b'=') && !name.is_empty() {
                self.blank();
                labels.push((name, self.text()?));
            } else if quoted && metric.is_empty() {
                *metric = name;
            } else {
                return Err(format!("no `name=\"value\"` at {}", self.rest()));
            }
            self.blank();
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err(format!("no `,` or `}}` at {}", self.rest()));
            }
        }
    }

    /// Letters, digits, `_` and, in a metric's name, `:` and `.`; not a digit first. Empty where there is none.
    fn name(&mut self, of_metric: bool) -> &'t str {
        let start = self.at;
        while let Some(byte) = self.peek() {
            let allowed = byte.is_ascii_alphabetic()
                || byte == b'_'
                || (of_metric && matches!(byte, b':' | b'.'))
                || (self.at > start && byte.is_ascii_digit());
            if !allowed {
                break;
            }
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// Text in quotes.
    fn text(&mut self) -> Result<Cow<'t, str>, String> {
        if !self.take(b'"') {
            return Err(format!("no `\"` at {}", self.rest()));
        }
        let start = self.at;
        let mut escapes = false;
        loop {
            match self.peek() {
                None => return Err(format!("no closing `\"` after {}", Shown(&self.text.as_bytes()[start - 1..]))),
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = true;
                    self.at += 1;
                }
                Some(_) => {}
            }
            self.at += 1;
        }
        let inner = &self.text[start..self.at];
        self.at += 1;
        Ok(if escapes { unescaped(inner) } else { Cow::Borrowed(inner) })
    }

    fn value(&mut self) -> Result<f64, String> {
        self.blank();
        let word = self.word();
        if word.is_empty() {
            return Err("no value".to_owned());
        }
        let unsigned = word.strip_prefix('+').unwrap_or(word);
        fast_float2::parse(unsigned).map_err(|_| format!("value {} is no number", Shown(word.as_bytes())))
    }

    fn time(&mut self) -> Result<Option<Timestamp>, String> {
        self.blank();
        if matches!(self.peek(), None | Some(b'#')) {
            return Ok(None);
        }
        let word = self.word();
        let time = time_of(word)
            .ok_or_else(|| format!("time {} is neither milliseconds nor seconds", Shown(word.as_bytes())))?;
        Ok(Some(time))
    }

    /// Up to the next blank.
    fn word(&mut self) -> &'t str {
        let start = self.at;
        while self.peek().is_some_and(|byte| !matches!(byte, b' ' | b'\t')) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// What is left, for a fault.
    fn rest(&self) -> String {
        match self.text.as_bytes().get(self.at..) {
            None | Some([]) => "the end of the line".to_owned(),
            Some(rest) => Shown(rest).to_string(),
        }
    }
}

/// Whole numbers from [`MILLIS_MIN`] are milliseconds, all others seconds, exact to the nanosecond.
fn time_of(word: &str) -> Option<Timestamp> {
    if let Ok(whole) = word.parse::<i64>() {
        return Some(if whole.unsigned_abs() < MILLIS_MIN {
            Timestamp::from_nanos(whole.checked_mul(1_000_000_000)?)
        } else {
            Timestamp::from_nanos(whole.checked_mul(1_000_000)?)
        });
    }
    exact_seconds(word).or_else(|| {
        let nanos = fast_float2::parse::<f64, _>(word).ok()? * 1e9;
        (nanos.is_finite() && nanos.abs() < i64::MAX as f64).then_some(Timestamp::from_nanos(nanos as i64))
    })
}

/// Digits, a point and up to nine digits.
fn exact_seconds(word: &str) -> Option<Timestamp> {
    let (whole, fraction) = word.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds = whole.parse::<i64>().ok()?;
    let nanos = fraction.parse::<i64>().ok()? * 10_i64.pow(9 - fraction.len() as u32);
    Some(Timestamp::from_nanos(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// The first word and what follows it, without the blanks around either.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_matches([' ', '\t']);
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start_matches([' ', '\t']))
}

/// The name at the front of a comment, which may be quoted, and what follows it.
fn family_name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (name, rest) = if text.starts_with('"') {
        let mut cursor = Cursor::new(text);
        let name = cursor.text().ok()?;
        (name, text[cursor.at..].trim_start_matches([' ', '\t']))
    } else {
        let (name, rest) = first_word(text);
        (Cow::Borrowed(name), rest)
    };
    (!name.is_empty()).then_some((name, rest))
}

/// `\\`, `\"` and `\n` undone; a backslash before anything else stays.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(escaped @ ('\\' | '"')) => plain.push(escaped),
            other => {
                plain.push('\\');
                plain.extend(other);
            }
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Faults;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};

    const NOW: i64 = 1_769_860_800_000_000_000;

    fn read(input: &[u8]) -> (Recorder, u64, Faults) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let mut input = input;
        let lines = read_prometheus(&mut input, Timestamp::from_nanos(NOW), &mut gather).unwrap();
        gather.flush().unwrap();
        let faults = gather.faults;
        (recorder, lines, faults)
    }

    #[test]
    fn lines_are_samples() {
        let table: [(&str, &str, i64, f64); 17] = [
            ("up 1", "up", NOW, 1.0),
            ("  up\t1  ", "up", NOW, 1.0),
            ("up{} 1\r", "up", NOW, 1.0),
            ("up +1", "up", NOW, 1.0),
            ("up -1.5e-3", "up", NOW, -0.0015),
            (r#"a:b_c{x="1", y = "2" ,} 3"#, r#"a:b_c{x="1",y="2"}"#, NOW, 3.0),
            (r#"a {x="1"}3"#, r#"a{x="1"}"#, NOW, 3.0),
            (r#"a{x="C:\\dir\n\"q\" \d"} 3"#, r#"a{x="C:\\dir\n\"q\" \\d"}"#, NOW, 3.0),
            (r#"a{x="},{ # é"} 3"#, r#"a{x="},{ # é"}"#, NOW, 3.0),
            (r#"h_bucket{le="+Inf"} 3"#, r#"h_bucket{le="+Inf"}"#, NOW, 3.0),
            ("a 3 1395066363000", "a", 1_395_066_363_000_000_000, 3.0),
            ("a 3 1395066363", "a", 1_395_066_363_000_000_000, 3.0),
            ("a 3 1395066363.789", "a", 1_395_066_363_789_000_000, 3.0),
            ("a 3 1.395066363e9", "a", 1_395_066_363_000_000_000, 3.0),
            (r#"a 3 1395066363.0 # {trace_id="x"} 0.67 1520879607.789"#, "a", 1_395_066_363_000_000_000, 3.0),
            (r#"a 3 # {trace_id="x"} 0.67"#, "a", NOW, 3.0),
            (r#"{"my.metric", "a.b"="1", c="2"} 3"#, r#"my.metric{a.b="1",c="2"}"#, NOW, 3.0),
        ];
        for (input, series, time, value) in table {
            let (recorder, lines, faults) = read(input.as_bytes());
            let expected = vec![(series.to_owned(), time, value)];
            assert_eq!((recorder.samples(), lines, faults.first), (expected, 1, vec![]), "{input}");
        }
    }

    #[test]
    fn comments_tell_kind_unit_and_help() {
        let text = r#"# HELP http_seconds Time of a \\ request\nin seconds
# TYPE http_seconds histogram
# UNIT http_seconds seconds
http_seconds_bucket{le="0.5"} 1
http_seconds_sum 2
http_seconds_count 3
#TYPE  rpc   summary
rpc{quantile="0.9"} 1
rpc_sum 1
# TYPE jobs counter
jobs_total 1
# TYPE old_style_total counter
old_style_total 1
# TYPE temp gauge
temp 1
# TYPE nothing
# TYPE
# just words
plain_total 1
plain 1
# TYPE x unknown
x 1
# TYPE "my # \"metric" counter
# HELP "my # \"metric"  of mine
{"my # \"metric"} 1
# TYPE "open counter
# EOF
"#;
        let (recorder, lines, faults) = read(text.as_bytes());
        assert_eq!((lines, faults.count), (12, 0));
        let defs = recorder.defs.lock().unwrap();
        let found: Vec<_> = defs.iter().map(|def| (def.to_string(), def.kind, &*def.unit, &*def.help)).collect();
        let help = "Time of a \\ request\nin seconds";
        let expected = [
            (r#"http_seconds_bucket{le="0.5"}"#, Kind::Counter, "", help),
            ("http_seconds_sum", Kind::Counter, "seconds", help),
            ("http_seconds_count", Kind::Counter, "", help),
            (r#"rpc{quantile="0.9"}"#, Kind::Summary, "", ""),
            ("rpc_sum", Kind::Counter, "", ""),
            ("jobs_total", Kind::Counter, "", ""),
            ("old_style_total", Kind::Counter, "", ""),
            ("temp", Kind::Gauge, "", ""),
            ("plain_total", Kind::Counter, "", ""),
            ("plain", Kind::Gauge, "", ""),
            ("x", Kind::Gauge, "", ""),
            ("my # \"metric", Kind::Counter, "", "of mine"),
        ];
        assert_eq!(found, expected.map(|(series, kind, unit, help)| (series.to_owned(), kind, unit, help)));
    }

    #[test]
    fn a_bad_line_is_a_fault_and_the_rest_goes_on() {
        let many: String = (0..40).map(|n| format!("l{n}=\"\",")).collect();
        let many = format!("up{{{many}l7=\"x\"}} 1");
        let table: [(&[u8], &str); 21] = [
            (b"up{a=\"x\",b=\"y\",a=\"x\"} 1", "label `a` is there twice: leave one out"),
            (many.as_bytes(), "label `l7` is there twice"),
            (b"up", "no value"),
            (b"up{", "no `name=\"value\"` at the end"),
            (b"up{a", "no `name"),
            (b"up{a=", "no `\"` at"),
            (b"up{a=\"", "no closing `\"`"),
            (b"up{a=\"x\\\"} 1", "no closing `\"`"),
            (b"up{a=\"x\"", "no `,` or `}`"),
            (b"up{a=\"x\" b=\"y\"} 1", "no `,` or `}`"),
            (b"up{=\"x\"} 1", "no `name"),
            (b"up{\"x\"} 1", "no `name"),
            (b"up abc", "value `abc` is no number"),
            (b"up 1 noon", "time `noon`"),
            (b"up 1 99999999999999999999", "time"),
            (b"up 1 1395066363000 7", "`7` after the time"),
            (b"9up 1", "no metric name"),
            (b"up\xff 1", "no UTF-8"),
            (b"up NaN", "not a finite number"),
            (b"up +Inf", "not a finite number"),
            (b"up 1e999", "not a finite number"),
        ];
        for (bad, reason) in table {
            let input = [b"a 1\n", bad, b"\n\nb 2"].concat();
            let (recorder, lines, faults) = read(&input);
            assert_eq!((recorder.samples().len(), lines, faults.count), (2, 3, 1), "{reason}");
            assert_eq!(faults.first[0].line, 2);
            assert!(faults.first[0].error.contains(reason), "{} / {reason}", faults.first[0].error);
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise(11);
        let good = "# HELP a é\n# TYPE a histogram\na_bucket{le=\"+Inf\",x=\"\\\\é\"} 3 1395066363.789 # {a=\"b\"} 1\n";
        for _ in 0..20_000 {
            read(&noise.bytes(b"{}\"=,# \t\\nabTYPEHELP_bucket:.0123456789e+-Inf\n"));
            read(&noise.bend(good.as_bytes()));
        }
    }
}
