//! One line of StatsD or DogStatsD, taken apart: slices of the line, nothing allocated.

use memchr::memchr;

use crate::ingest::format::Shown;
use crate::model::Timestamp;

/// Lowest sample rate: what is sent more seldom than that is no sample.
const RATE_MIN: f64 = 1e-9;

/// What a metric's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Set,
    /// In milliseconds.
    Timer,
    Histogram,
}

impl Type {
    pub const fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Set => "set",
            Type::Timer => "timer",
            Type::Histogram => "histogram",
        }
    }
}

/// A line that carries values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Metric<'t> {
    pub name: &'t [u8],
    /// As written; several are divided by `:`, but those of a set.
    pub values: &'t [u8],
    pub of: Type,
    /// How many were observed for each that was sent: 1 / sample rate.
    pub weight: f64,
    /// `k:v,k2`
    pub tags: &'t [u8],
    pub time: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Check<'t> {
    pub name: &'t [u8],
    /// 0 ok, 1 warning, 2 critical, 3 unknown.
    pub status: f64,
    pub host: &'t [u8],
    pub tags: &'t [u8],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Message<'t> {
    Metric(Metric<'t>),
    Check(Check<'t>),
    Event,
}

/// Takes a line apart.
///
/// # Errors
/// What is wrong with it and what to write.
pub(super) fn parse(line: &[u8]) -> Result<Message<'_>, String> {
    if let Some(event) = line.strip_prefix(b"_e{") {
        return match event.windows(2).any(|pair| pair == b"}:") {
            true => Ok(Message::Event),
            false => Err(format!("{} is no event: write `_e{{5,4}}:title|text`", Shown(line))),
        };
    }
    match line.strip_prefix(b"_sc|") {
        Some(check) => parse_check(check).map(Message::Check),
        None => parse_metric(line).map(Message::Metric),
    }
}

fn parse_metric(line: &[u8]) -> Result<Metric<'_>, String> {
    let form = "write `name:value|type`, as in `requests:1|c`";
    let Some(colon) = memchr(b':', line) else { return Err(format!("{} has no value: {form}", Shown(line))) };
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || name.contains(&b'|') {
        return Err(format!("{} has no name: {form}", Shown(line)));
    }
    let mut sections = rest.split(|&byte| byte == b'|');
    let values = sections.next().unwrap_or_default();
    let of = match sections.next() {
        Some(b"c") => Type::Counter,
        Some(b"g") => Type::Gauge,
        Some(b"s") => Type::Set,
        Some(b"ms") => Type::Timer,
        Some(b"h" | b"d") => Type::Histogram,
        Some(other) => return Err(format!("type {} of {}: write c, g, s, ms, h or d", Shown(other), Shown(name))),
        None => return Err(format!("{} has no type: {form}", Shown(line))),
    };
    let mut metric = Metric { name, values, of, weight: 1.0, tags: &[], time: None };
    for section in sections {
        match section {
            [b'@', rate @ ..] => metric.weight = weight(rate)?,
            [b'#', tags @ ..] => metric.tags = tags,
            [b'T', time @ ..] => metric.time = Some(seconds(time)?),
            section if is_left(section) => {}
            other => return Err(format!("{} of {}: write @rate, #tags or Ttime", Shown(other), Shown(name))),
        }
    }
    Ok(metric)
}

/// `name:…` with fields that say nothing of the value (container, cardinality and what is yet to come), or nothing.
fn is_left(section: &[u8]) -> bool {
    let name = memchr(b':', section).map_or(&section[..0], |colon| &section[..colon]);
    section.is_empty() || (!name.is_empty() && name.iter().all(u8::is_ascii_lowercase))
}

fn weight(rate: &[u8]) -> Result<f64, String> {
    match fast_float2::parse::<f64, _>(rate) {
        Ok(rate) if (RATE_MIN..=1.0).contains(&rate) => Ok(1.0 / rate),
        _ => Err(format!("sample rate {}: write a number above 0 and up to 1", Shown(rate))),
    }
}

fn seconds(text: &[u8]) -> Result<Timestamp, String> {
    let whole = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let nanos = whole.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    nanos.map(Timestamp::from_nanos).ok_or_else(|| format!("time {}: write whole seconds since 1970", Shown(text)))
}

fn parse_check(text: &[u8]) -> Result<Check<'_>, String> {
    let form = "write `_sc|name|status`, with a status of 0 to 3";
    let mut sections = text.split(|&byte| byte == b'|');
    let name = sections.next().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("a service check has no name: {form}"))?;
    let status = match sections.next() {
        Some([digit @ b'0'..=b'3']) => f64::from(digit - b'0'),
        other => return Err(format!("status {} of {}: {form}", Shown(other.unwrap_or_default()), Shown(name))),
    };
    let mut check = Check { name, status, host: &[], tags: &[] };
    for section in sections {
        match section {
            [b'h', b':', host @ ..] => check.host = host,
            [b'#', tags @ ..] => check.tags = tags,
            // The message is the last, and may hold anything.
            [b'm', b':', ..] => break,
            _ => {}
        }
    }
    Ok(check)
}

/// A value, and whether it adds to what was there.
pub(super) fn number(text: &[u8]) -> Result<(f64, bool), String> {
    let is_change = matches!(text.first(), Some(b'+' | b'-'));
    // The parser takes no plus.
    let plain = text.strip_prefix(b"+").unwrap_or(text);
    match fast_float2::parse::<f64, _>(plain) {
        Ok(value) if value.is_finite() => Ok((value, is_change)),
        _ => Err(format!("value {} is no finite number", Shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::gather::testing::Noise;

    fn told(line: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match parse(line.as_bytes()) {
            Ok(Message::Metric(Metric { name, values, of, weight, tags, time })) => {
                let time = time.map_or(0, |time| time.nanos() / 1_000_000_000);
                format!("{} {} {} {weight} [{}] {time}", of.name(), text(name), text(values), text(tags))
            }
            Ok(Message::Check(Check { name, status, host, tags })) => {
                format!("check {} {status} {} [{}]", text(name), text(host), text(tags))
            }
            Ok(Message::Event) => "event".into(),
            Err(error) => error,
        }
    }

    #[test]
    fn lines_are_taken_apart() {
        let cases = [
            ("a.b:1|c", "counter a.b 1 1 [] 0"),
            ("a:1:2:3|c|@0.5", "counter a 1:2:3 2 [] 0"),
            ("a:-1.5|g|#k:v,k2", "gauge a -1.5 1 [k:v,k2] 0"),
            ("a:x:y|s", "set a x:y 1 [] 0"),
            (
                "a:1|ms|@0.25|#u:http://x/|T1656581400|c:ci-1|e:it-false|card:low",
                "timer a 1 4 [u:http://x/] 1656581400",
            ),
            ("a:1|h|", "histogram a 1 1 [] 0"),
            ("a:1|d", "histogram a 1 1 [] 0"),
            ("_sc|db.up|2|d:1656581400|h:web|#env:prod|m:gone|#not:tags", "check db.up 2 web [env:prod]"),
            ("_e{5,4}:title|text|#a:b", "event"),
        ];
        for (line, wanted) in cases {
            assert_eq!(told(line), wanted, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        let cases = [
            ("a", "`a` has no value: write `name:value|type`"),
            (":1|c", "has no name"),
            ("a|c:1", "has no name"),
            ("a:1", "has no type"),
            ("a:1|x", "type `x` of `a`: write c, g, s, ms, h or d"),
            ("a:1|c|@0", "sample rate `0`: write a number above 0"),
            ("a:1|c|@2", "sample rate `2`"),
            ("a:1|c|@1e-320", "sample rate `1e-320`"),
            ("a:1|c|@nan", "sample rate `nan`"),
            ("a:1|c|T12x", "time `12x`: write whole seconds"),
            ("a:1|c|T99999999999999999", "time `99999999999999999`"),
            ("a:1|c|0.1", "`0.1` of `a`: write @rate"),
            ("_e{1", "is no event"),
            ("_sc||0", "has no name"),
            ("_sc|a|7", "status `7` of `a`"),
            ("_sc|a", "status `` of `a`"),
        ];
        for (line, wanted) in cases {
            assert!(told(line).contains(wanted), "{line}: {}", told(line));
        }
        for text in ["", "+", "x", "nan", "inf", "1e999", "1 "] {
            assert!(number(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(
            (number(b"+2.5"), number(b"-2"), number(b"7")),
            (Ok((2.5, true)), Ok((-2.0, true)), Ok((7.0, false)))
        );
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise(5);
        for _ in 0..20_000 {
            let _ = parse(&noise.bytes(b"a.:|c@#T_e{}sc,0123456789-+gmshd\xff"));
            let _ = parse(&noise.bend(b"a.b:1:2|ms|@0.1|#k:v,k2|T1656581400|c:x"));
        }
    }
}
