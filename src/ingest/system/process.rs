//! This process: `/proc/self`.

use super::cpu::TICKS_PER_SECOND;
use super::files::{Files, Wanted, keyed};
use super::kernel::parse_uptime;
use super::{Pass, percent};

/// What the file calls kB.
const KIB: f64 = 1024.0;

const STATUS: [Wanted; 4] = [
    ("VmRSS", "process_resident_memory_bytes", KIB),
    ("VmHWM", "process_resident_memory_max_bytes", KIB),
    ("VmSize", "process_virtual_memory_bytes", KIB),
    ("VmSwap", "process_swap_bytes", KIB),
];

/// What went to or came from storage, not what the page cache answered.
const IO: [Wanted; 2] =
    [("read_bytes", "process_read_bytes_total", 1.0), ("write_bytes", "process_written_bytes_total", 1.0)];

/// The process' own CPU time at the pass before, in ticks.
#[derive(Default)]
pub(super) struct Own {
    before: Option<u64>,
}

impl Own {
    /// `host_ticks`: what all CPUs together spent since the pass before.
    pub fn collect(&mut self, files: &mut Files, pass: &mut Pass, host_ticks: Option<u64>) {
        if let Some(stat) = files.proc("self/stat", parse_own_stat) {
            self.put_usage(pass, stat.user + stat.system, host_ticks);
            put_stat(pass, &stat);
            if let Some(uptime) = files.proc("uptime", parse_uptime) {
                pass.put("process_uptime_seconds", (uptime - stat.started as f64 / TICKS_PER_SECOND).max(0.0));
            }
        }
        pass.put_all(files.proc("self/status", |text| keyed(text, &STATUS)));
        pass.put_all(files.proc("self/io", |text| keyed(text, &IO)));
        if let Some(open) = files.count_numbers("self/fd") {
            // One of them lists the folder.
            pass.put("process_open_fds", open.saturating_sub(1) as f64);
        }
        if let Some(limit) = files.proc("self/limits", parse_open_files_limit).filter(|limit| limit.is_finite()) {
            pass.put("process_max_fds", limit);
        }
    }

    /// Percent of all CPUs together.
    fn put_usage(&mut self, pass: &mut Pass, ticks: u64, host_ticks: Option<u64>) {
        let before = self.before.replace(ticks);
        let Some((before, host)) = before.zip(host_ticks.filter(|&host| host > 0)) else { return };
        pass.put("process_cpu_usage_percent", percent(ticks.saturating_sub(before) as f64, host as f64));
    }
}

fn put_stat(pass: &mut Pass, stat: &OwnStat) {
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    pass.put("process_cpu_seconds_total", seconds(stat.user + stat.system));
    pass.put("process_cpu_user_seconds_total", seconds(stat.user));
    pass.put("process_cpu_system_seconds_total", seconds(stat.system));
    pass.put("process_threads", stat.threads as f64);
    pass.put("process_page_faults_total", (stat.minor_faults + stat.major_faults) as f64);
    pass.put("process_page_faults_major_total", stat.major_faults as f64);
}

/// `/proc/self/stat`. Times in ticks; `started` counts from boot.
#[derive(Debug, PartialEq)]
struct OwnStat {
    minor_faults: u64,
    major_faults: u64,
    user: u64,
    system: u64,
    threads: u64,
    started: u64,
}

/// Fields are numbered from 1, as in `man proc`. The second, the name in brackets, may itself hold blanks and brackets.
fn parse_own_stat(text: &str) -> Option<OwnStat> {
    let (_, rest) = text.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| words.get(number - 3)?.parse::<u64>().ok();
    Some(OwnStat {
        minor_faults: field(10)?,
        major_faults: field(12)?,
        user: field(14)?,
        system: field(15)?,
        threads: field(20)?,
        started: field(22)?,
    })
}

/// CPU time of this process since it started.
pub(super) fn parse_own_ticks(text: &str) -> Option<u64> {
    parse_own_stat(text).map(|stat| stat.user + stat.system)
}

/// The soft limit; infinite where there is none.
fn parse_open_files_limit(text: &str) -> Option<f64> {
    let soft = text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?;
    if soft == "unlimited" { Some(f64::INFINITY) } else { soft.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_stat_survives_brackets_in_the_name() {
        let text = "138 (a) b (c)) R 1 2 3 0 -1 4194304 102 11 5 12 70 8 13 14 20 0 9 0 141870 31\n";
        let stat = OwnStat { minor_faults: 102, major_faults: 5, user: 70, system: 8, threads: 9, started: 141_870 };
        assert_eq!((parse_own_stat(text), parse_own_ticks(text)), (Some(stat), Some(78)));
        for text in ["", "138 (cat) R 1 2 3", "138 (cat) R 1 2 3 0 -1 4 x 11 5 12 70 8 13 14 20 0 9 0 141870"] {
            assert_eq!(parse_own_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_soft_limit_of_open_files() {
        for (text, limit) in [
            ("Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  524288  files\n", Some(1024.0)),
            ("Max open files  unlimited  unlimited  files\n", Some(f64::INFINITY)),
            ("Max open files\n", None),
            ("Max processes  5  5  processes\n", None),
        ] {
            assert_eq!(parse_open_files_limit(text), limit, "{text:?}");
        }
    }
}
