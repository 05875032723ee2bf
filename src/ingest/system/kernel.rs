//! Load, uptime, processes, open files and pressure.

use super::Pass;
use super::files::{Files, Readings};

const MICROS_PER_SECOND: f64 = 1e6;

pub(super) fn collect(files: &mut Files, pass: &mut Pass) {
    pass.put_all(files.proc("loadavg", parse_loadavg));
    pass.put_all(files.proc("sys/fs/file-nr", parse_file_nr));
    if let Some(uptime) = files.proc("uptime", parse_uptime) {
        pass.put("system_uptime_seconds", uptime);
    }
    if let Some(processes) = files.count_numbers("") {
        pass.put("system_processes", processes as f64);
    }
    ["cpu", "io", "memory"].into_iter().for_each(|resource| collect_pressure(files, pass, resource));
}

/// Averages, then `running/all` of the threads, then the newest process.
fn parse_loadavg(text: &str) -> Option<Readings> {
    let mut words = text.split_ascii_whitespace();
    let mut load = || words.next()?.parse().ok();
    let (one, five, fifteen) = (load()?, load()?, load()?);
    let (_, threads) = words.next()?.split_once('/')?;
    Some(vec![
        ("system_load1", one),
        ("system_load5", five),
        ("system_load15", fifteen),
        ("system_threads", threads.parse().ok()?),
    ])
}

/// Seconds since boot.
pub(super) fn parse_uptime(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `allocated unused limit`.
fn parse_file_nr(text: &str) -> Option<Readings> {
    let numbers = text.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<Vec<f64>>>()?;
    let &[allocated, unused, limit] = &numbers[..] else { return None };
    Some(vec![("system_file_descriptors", allocated - unused), ("system_file_descriptors_limit", limit)])
}

/// How long work stood still for want of a resource.
#[derive(Debug, PartialEq)]
struct Pressure {
    /// `some` of the tasks stood still, or all of them (`full`).
    stalled: &'static str,
    avg10_percent: f64,
    seconds: f64,
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, the total in microseconds.
fn parse_pressure(text: &str) -> Option<Vec<Pressure>> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let stalled = ["some", "full"].into_iter().find(|&kind| words.clone().next() == Some(kind))?;
        let mut of =
            |name: &str| words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok());
        Some(Pressure { stalled, avg10_percent: of("avg10")?, seconds: of("total")? / MICROS_PER_SECOND })
    };
    text.lines().map(line).collect()
}

fn collect_pressure(files: &mut Files, pass: &mut Pass, resource: &str) {
    let pressures = files.proc_if_present(&format!("pressure/{resource}"), parse_pressure);
    for Pressure { stalled, avg10_percent, seconds } in pressures.into_iter().flatten() {
        let labels = [("resource", resource), ("stalled", stalled)];
        pass.put_of("system_pressure_avg10_percent", &labels, avg10_percent);
        pass.put_of("system_pressure_seconds_total", &labels, seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loadavg_has_three_averages_and_the_threads() {
        assert_eq!(
            parse_loadavg("2.04 2.02 1.37 3/100 13802\n").unwrap(),
            [("system_load1", 2.04), ("system_load5", 2.02), ("system_load15", 1.37), ("system_threads", 100.0)]
        );
        for text in ["", "2.04 2.02 1.37", "2.04 2.02 high 3/100 1", "2.04 2.02 1.37 100 1"] {
            assert_eq!(parse_loadavg(text), None, "{text:?}");
        }
    }

    #[test]
    fn pressure_is_in_seconds() {
        let text =
            "some avg10=4.85 avg60=2.59 avg300=2.29 total=47347106\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let some = Pressure { stalled: "some", avg10_percent: 4.85, seconds: 47.347106 };
        let full = Pressure { stalled: "full", avg10_percent: 0.0, seconds: 0.0 };
        assert_eq!(parse_pressure(text).unwrap(), [some, full]);
        for text in ["few avg10=4.85 total=4\n", "some avg10=4.85\n", "some avg10=x total=4\n"] {
            assert_eq!(parse_pressure(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_of_small_files() {
        assert_eq!(parse_uptime("1418.70 979.20\n"), Some(1418.70));
        assert_eq!(parse_uptime("\n"), None);
        let files = parse_file_nr("528\t8\t2466183\n").unwrap();
        assert_eq!(files, [("system_file_descriptors", 520.0), ("system_file_descriptors_limit", 2_466_183.0)]);
        assert_eq!(parse_file_nr("528\t8\n"), None);
    }
}
