//! Where CPU time went, and what else the kernel counts since boot: `/proc/stat`.

use super::files::{Files, Readings, Wanted, keyed};
use super::{Pass, percent};

/// Ticks a second in the kernel's files: 100 on every architecture, whatever the kernel's own rate (`USER_HZ`).
pub(super) const TICKS_PER_SECOND: f64 = 100.0;

/// In the order of the file. Time of guests is in `user` and `nice` already.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const IOWAIT: usize = 4;

/// A mode that falls by no more has wavered, as `iowait` does; one that falls by more has started anew.
const WAVER_TICKS: u64 = 300;

const KERNEL: [Wanted; 6] = [
    ("ctxt", "system_context_switches_total", 1.0),
    ("intr", "system_interrupts_total", 1.0),
    ("softirq", "system_softirqs_total", 1.0),
    ("processes", "system_forks_total", 1.0),
    ("procs_running", "system_processes_running", 1.0),
    ("procs_blocked", "system_processes_blocked", 1.0),
];

/// Time spent in each of [`MODES`], in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ticks([u64; MODES.len()]);

impl Ticks {
    /// From the words after `cpu` or `cpu0`. Old kernels have fewer modes.
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut ticks = Ticks::default();
        let mut modes = 0;
        for (mode, word) in ticks.0.iter_mut().zip(words) {
            *mode = word.parse().ok()?;
            modes += 1;
        }
        (modes > IDLE).then_some(ticks)
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn since(&self, before: &Ticks) -> Ticks {
        Ticks(std::array::from_fn(|mode| self.0[mode].saturating_sub(before.0[mode])))
    }

    /// Share of time with work to do; `None` of no time.
    fn busy_percent(&self) -> Option<f64> {
        let total = self.total();
        let busy = total - self.0[IDLE] - self.0[IOWAIT];
        (total > 0).then(|| percent(busy as f64, total as f64))
    }

    /// These ticks without wavering: a counter that falls reads as a restart, and its whole height as a rate.
    fn steadied(&self, before: &Ticks) -> Ticks {
        Ticks(std::array::from_fn(|mode| {
            let (was, is) = (before.0[mode], self.0[mode]);
            if was.saturating_sub(is) <= WAVER_TICKS { is.max(was) } else { is }
        }))
    }
}

/// `/proc/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    host: Ticks,
    /// By number; those switched off are not there.
    cpus: Vec<(u32, Ticks)>,
    kernel: Readings,
}

fn parse_stat(text: &str) -> Option<Stat> {
    let mut host = None;
    let mut cpus = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("cpu") else { continue };
        let (number, times) = rest.split_once(' ')?;
        let ticks = Ticks::parse(times.split_ascii_whitespace())?;
        if number.is_empty() {
            host = Some(ticks);
        } else {
            cpus.push((number.parse().ok()?, ticks));
        }
    }
    Some(Stat { host: host?, cpus, kernel: keyed(text, &KERNEL)? })
}

/// What all CPUs together spent since boot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spent {
    host: Ticks,
    cores: usize,
}

/// The same file for who needs no more.
pub(super) fn parse_spent(text: &str) -> Option<Spent> {
    let stat = parse_stat(text)?;
    Some(Spent { host: stat.host, cores: stat.cpus.len() })
}

impl Spent {
    /// Share of all CPUs' time with work to do, or of that of `usable` ones the `own` ticks, whichever is more.
    pub fn share_since(&self, before: &Spent, own: u64, usable: f64) -> f64 {
        let since = self.host.since(&before.host);
        let busy = since.busy_percent().unwrap_or_default();
        let time = since.total() as f64 * usable / self.cores.max(1) as f64;
        busy.max(percent(own as f64, time)) / 100.0
    }
}

/// CPU time at the pass before.
#[derive(Default)]
pub(super) struct Cpu {
    before: Option<Stat>,
}

impl Cpu {
    /// Gives the ticks all CPUs together spent since the pass before, working or not.
    pub fn collect(&mut self, files: &mut Files, pass: &mut Pass) -> Option<u64> {
        let Some(mut now) = files.proc("stat", parse_stat) else {
            self.before = None;
            return None;
        };
        let mut spent = None;
        if let Some(before) = &self.before {
            now.host = now.host.steadied(&before.host);
            spent = Some(now.host.since(&before.host));
            put_usage(pass, &now, before);
        }
        put_counts(pass, &now);
        self.before = Some(now);
        spent.map(|ticks| ticks.total())
    }
}

fn put_usage(pass: &mut Pass, now: &Stat, before: &Stat) {
    if let Some(busy) = now.host.since(&before.host).busy_percent() {
        pass.put("system_cpu_usage_percent", busy);
    }
    for (number, ticks) in &now.cpus {
        let earlier = before.cpus.iter().find(|(n, _)| n == number);
        if let Some(busy) = earlier.and_then(|(_, earlier)| ticks.since(earlier).busy_percent()) {
            pass.put_of("system_cpu_core_usage_percent", &[("cpu", &number.to_string())], busy);
        }
    }
}

fn put_counts(pass: &mut Pass, now: &Stat) {
    for (mode, ticks) in MODES.iter().zip(now.host.0) {
        pass.put_of("system_cpu_seconds_total", &[("mode", mode)], ticks as f64 / TICKS_PER_SECOND);
    }
    pass.put("system_cpu_cores", now.cpus.len() as f64);
    now.kernel.iter().for_each(|&(metric, value)| pass.put(metric, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 2 30 400 5 6 7 8 9 0\ncpu0 60 2 10 200 5 6 7 8 9 0\ncpu1 40 0 20 200 0 0 0 0 0 0\n\
        intr 665166 0 0 1\nctxt 484582\nbtime 1795251698\nprocesses 13800\n\
        procs_running 3\nprocs_blocked 1\nsoftirq 246598 0 4\n";

    #[test]
    fn stat_has_ticks_by_mode_and_the_kernels_counts() {
        let stat = parse_stat(STAT).unwrap();
        assert_eq!(stat.host, Ticks([100, 2, 30, 400, 5, 6, 7, 8]));
        assert_eq!(stat.cpus[1], (1, Ticks([40, 0, 20, 200, 0, 0, 0, 0])));
        assert_eq!(
            stat.kernel,
            [
                ("system_interrupts_total", 665_166.0),
                ("system_context_switches_total", 484_582.0),
                ("system_forks_total", 13_800.0),
                ("system_processes_running", 3.0),
                ("system_processes_blocked", 1.0),
                ("system_softirqs_total", 246_598.0),
            ]
        );
    }

    #[test]
    fn broken_stat_is_refused() {
        for text in ["", "ctxt 5\n", "cpu  1 2\nctxt 5\n", "cpu  1 2 x 4\nctxt 5\n", "cpu  1 2 3 4\nctxt many\n"] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn busy_is_all_but_idle_and_iowait() {
        for (ticks, busy) in [
            ([0; 8], None),
            ([0, 0, 0, 9, 1, 0, 0, 0], Some(0.0)),
            ([1, 1, 1, 4, 0, 1, 1, 1], Some(60.0)),
            ([5, 0, 0, 0, 0, 0, 0, 0], Some(100.0)),
        ] {
            assert_eq!(Ticks(ticks).busy_percent(), busy, "{ticks:?}");
        }
    }

    #[test]
    fn the_share_is_that_of_the_machine_or_of_what_the_process_may_use() {
        let spent = |busy, idle| Spent { host: Ticks([busy, 0, 0, idle, 0, 0, 0, 0]), cores: 4 };
        for (busy, idle, own, usable, share) in [
            (80, 320, 0, 4.0, 0.2),
            (80, 320, 80, 4.0, 0.2),
            (80, 320, 80, 1.0, 0.8),
            (380, 20, 80, 4.0, 0.95),
            (400, 0, 400, 1.0, 1.0),
            (0, 0, 5, 4.0, 0.0),
        ] {
            let now = spent(1000 + busy, 5000 + idle);
            assert_eq!(now.share_since(&spent(1000, 5000), own, usable), share, "{busy} {idle} {own} {usable}");
        }
        assert_eq!(parse_spent(STAT).map(|spent| spent.cores), Some(2));
    }

    #[test]
    fn a_wavering_counter_stands_and_a_restarted_one_falls() {
        let before = Ticks([1000, 0, 0, 1000, 1000, 0, 0, 0]);
        let now = Ticks([1001, 0, 0, 10, 990, 0, 0, 0]);
        assert_eq!(now.steadied(&before), Ticks([1001, 0, 0, 10, 1000, 0, 0, 0]));
    }
}
