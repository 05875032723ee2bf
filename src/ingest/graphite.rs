//! Graphite's plaintext protocol: `path value time`, a line a sample.
//!
//! ```text
//! servers.web-1.cpu.load 0.75 1700000000
//! disk.used;host=web-1;mount=/ 73.5 1700000000.25
//! queue.depth 12 -1
//! ```
//! The path becomes the metric's name, with `_` for what is no letter or digit ([`super::names`]); tags become labels.
//! Times are seconds, with a part of one where there is; `-1` and `N` are the time of arrival. A value of `nan`, which
//! collectd sends where it has none, is passed over as carbon does. A known path with its tags
//! costs one lookup and no allocation.

use super::format::{Brief, Shown};
use super::known::NewField;
use super::{Gather, Known, names};
use crate::flow::Refusal;
use crate::model::{Labels, SeriesDef, SeriesId, Timestamp};

/// Takes one line, without its end.
///
/// # Errors
/// The outer one as [`Gather::sample`], the inner one says what is wrong with the line.
pub fn read_graphite_line(
    line: &[u8],
    now: Timestamp,
    known: &Known,
    gather: &mut Gather<'_>,
) -> Result<Result<(), String>, Refusal> {
    let (path, value, time) = match parse(line, now) {
        Ok(parts) => parts,
        Err(error) => return Ok(Err(error)),
    };
    if value.is_nan() {
        return Ok(Ok(()));
    }
    let metric = || define(path).map_or_else(|_| "".into(), |def| def.metric.into_string().into());
    if let Some(refused) = gather.bounds().refuse(time, value).or_else(|| gather.outlived(time, metric)) {
        return Ok(Err(format!("{}: {}", Shown(path), Brief(refused))));
    }
    match series(path, known, gather) {
        Ok(Ok(series)) => gather.push(series, time, value).map(Ok),
        Ok(Err(error)) => Ok(Err(error)),
        Err(refusal) => Err(refusal),
    }
}

fn parse(line: &[u8], now: Timestamp) -> Result<(&[u8], f64, Timestamp), String> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(path), Some(value), Some(time), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(format!("{}: write `path value time`, -1 for a time of now", Shown(line)));
    };
    let value = fast_float2::parse(value.strip_prefix(b"+").unwrap_or(value))
        .map_err(|_| format!("value {} of {} is no number", Shown(value), Shown(path)))?;
    let time = if matches!(time, b"-1" | b"N") { Some(now) } else { seconds(time) };
    let time = time.ok_or_else(|| format!("the time of {}: write seconds since 1970, or -1 for now", Shown(path)))?;
    Ok((path, value, time))
}

/// Seconds, in milliseconds where they are no whole number.
fn seconds(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(1_000_000_000).map(Timestamp::from_nanos);
    }
    let millis = fast_float2::parse::<f64, _>(text).ok()? * 1e3;
    (millis.abs() < 1e15).then(|| Timestamp::from_millis(millis.round() as i64))
}

fn series(path: &[u8], known: &Known, gather: &Gather<'_>) -> Result<Result<SeriesId, String>, Refusal> {
    let seen = known.read().get(path).and_then(|found| Some((found.field(0)?.1, found.is_old)));
    let series = match seen {
        Some((series, false)) => return Ok(Ok(series)),
        Some((series, true)) => series,
        None => {
            let def = match define(path) {
                Ok(def) => def,
                Err(error) => return Ok(Err(error)),
            };
            match gather.intake().intern(&def) {
                Ok(series) => series,
                Err(Refusal::Budget(budget)) => return Ok(Err(format!("the series {} is new: {budget}", Brief(def)))),
                Err(refusal) => return Err(refusal),
            }
        }
    };
    known.insert([(path, &[NewField { name: [].into(), series }][..])]);
    Ok(Ok(series))
}

fn define(path: &[u8]) -> Result<SeriesDef, String> {
    let text = std::str::from_utf8(path).map_err(|_| format!("{} is no UTF-8 text", Shown(path)))?;
    let mut parts = text.split(';');
    let metric = names::metric(parts.next().unwrap_or_default());
    if metric.is_empty() {
        return Err(format!("{} has no path before its tags", Shown(path)));
    }
    let label = |tag: &str| match tag.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((names::label(name), value.to_owned())),
        _ => Err(format!("tag {} of {}: write name=value", Shown(tag.as_bytes()), Shown(path))),
    };
    let labels = parts.map(label).collect::<Result<Vec<_>, _>>()?;
    Ok(SeriesDef::new(metric, Labels::new(labels)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};

    const NOW: i64 = 1_769_860_800_000_000_000;

    fn read(line: &[u8]) -> Result<(String, i64, f64), String> {
        let (recorder, known) = (Recorder::default(), Known::default());
        let mut gather = Gather::new(&recorder, all_times());
        // The second time by the name that is known.
        for _ in 0..2 {
            read_graphite_line(line, Timestamp::from_nanos(NOW), &known, &mut gather).unwrap()?;
        }
        gather.flush().unwrap();
        let samples = recorder.samples();
        assert_eq!((samples.len(), &samples[0]), (2, &samples[1]));
        Ok(samples[0].clone())
    }

    #[test]
    fn lines_are_samples() {
        let cases = [
            ("a.b-c 1.5 1700000000", "a_b_c", 1_700_000_000_000_000_000, 1.5),
            ("a.b\t+2  1700000000.25 ", "a_b", 1_700_000_000_250_000_000, 2.0),
            ("a -1e3 -1", "a", NOW, -1000.0),
            ("a 1 N", "a", NOW, 1.0),
            (
                "disk.used;mount=/;host.name=web-1 73.5 1700000000",
                "disk_used{host_name=\"web-1\",mount=\"/\"}",
                1_700_000_000_000_000_000,
                73.5,
            ),
            ("requests_total 7 1700000000", "requests_total", 1_700_000_000_000_000_000, 7.0),
        ];
        for (line, series, time, value) in cases {
            assert_eq!(read(line.as_bytes()), Ok((series.to_owned(), time, value)), "{line}");
        }
    }

    #[test]
    fn no_number_is_no_sample_and_no_fault() {
        let (recorder, known) = (Recorder::default(), Known::default());
        let mut gather = Gather::new(&recorder, all_times());
        assert_eq!(read_graphite_line(b"a nan -1", Timestamp::from_nanos(NOW), &known, &mut gather).unwrap(), Ok(()));
        assert_eq!((gather.held(), recorder.defs.lock().unwrap().len()), (0, 0));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        let cases: [(&[u8], &str); 9] = [
            (b"a 1", "`a 1`: write `path value time`"),
            (b"a 1 2 3", "write `path value time`"),
            (b"a one -1", "value `one` of `a` is no number"),
            (b"a inf -1", "not a finite number"),
            (b"a 1 noon", "the time of `a`: write seconds since 1970"),
            (b"a 1 99999999999999999999", "the time of `a`"),
            (b";a=b 1 -1", "has no path"),
            (b"a;b 1 -1", "tag `b` of `a;b`: write name=value"),
            (b"a\xff 1 -1", "no UTF-8"),
        ];
        for (line, wanted) in cases {
            let told = read(line).unwrap_err();
            assert!(told.contains(wanted), "{told}");
        }
    }

    #[test]
    fn noise_never_panics() {
        let (mut noise, recorder, known) = (Noise(3), Recorder::default(), Known::default());
        let mut gather = Gather::new(&recorder, all_times());
        for _ in 0..20_000 {
            for line in [noise.bytes(b"a.;= \t0123456789.-+eN\xff"), noise.bend(b"a.b;c=d 1.5 1700000000")] {
                read_graphite_line(&line, Timestamp::from_nanos(NOW), &known, &mut gather).unwrap().ok();
            }
        }
    }
}
