//! Whole passes: over folders that stand for `/proc` and `/sys`, over nothing, and over this machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hashbrown::HashMap;

use super::*;
use crate::ingest::gather::testing::Recorder;
use crate::ingest::gather::{Gather, TimeBounds};

const NOW: Timestamp = Timestamp::from_millis(1_769_860_800_000);

/// One pass: each series as Prometheus writes it, and its value. A series comes once, and every value is taken.
fn pass(collector: &mut SystemCollector) -> HashMap<String, f64> {
    let recorder = Recorder::default();
    let mut gather = Gather::new(&recorder, TimeBounds::new(NOW, Duration::ZERO, None));
    collector.collect().gather(NOW, &[], &mut gather).unwrap();
    gather.flush().unwrap();
    assert_eq!(gather.faults.first, []);
    let all = recorder.samples();
    assert!(all.iter().all(|(_, time, _)| *time == NOW.nanos()));
    let samples: HashMap<String, f64> = all.iter().map(|(series, _, value)| (series.clone(), *value)).collect();
    assert_eq!(samples.len(), all.len(), "a series came twice");
    samples
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

const STAT: (&str, &str) = ("stat", "cpu  100 0 0 100\ncpu0 100 0 0 100\nctxt 5\n");
const OWN_STAT: (&str, &str) = ("self/stat", "9 (x) R 1 1 1 0 -1 0 3 0 1 0 10 5 0 0 20 0 4 0 200 1 1");

#[test]
fn shares_of_cpu_time_are_since_the_pass_before() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[STAT, OWN_STAT]);
    let mut collector = SystemCollector::with_root(root.path(), root.path());
    let first = pass(&mut collector);
    assert_eq!(first.get("system_cpu_usage_percent"), None);
    assert_eq!(first["system_cpu_seconds_total{mode=\"user\"}"], 1.0);

    write(root.path(), &[("stat", "cpu  130 0 0 170\ncpu0 130 0 0 170\nctxt 5\n")]);
    write(root.path(), &[("self/stat", "9 (x) R 1 1 1 0 -1 0 3 0 1 0 20 5 0 0 20 0 4 0 200 1 1")]);
    let second = pass(&mut collector);
    assert_eq!(second["system_cpu_usage_percent"], 30.0);
    assert_eq!(second["system_cpu_core_usage_percent{cpu=\"0\"}"], 30.0);
    assert_eq!(second["process_cpu_usage_percent"], 10.0);
    assert_eq!(second["process_cpu_seconds_total"], 0.25);
}

#[test]
fn a_broken_file_is_left_out_and_counted() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[STAT, ("loadavg", "1.0 2.0 3.0 1/9 7\n"), ("meminfo", "MemTotal: 5 kB\nMemFree: 3 kB\n")]);
    let mut collector = SystemCollector::with_root(root.path(), root.path());
    let sound = pass(&mut collector);
    let missing = sound["system_collector_errors_total"];
    assert_eq!(sound["system_load15"], 3.0);

    write(root.path(), &[("loadavg", "high\n")]);
    let broken = pass(&mut collector);
    assert_eq!(broken.get("system_load15"), None);
    assert_eq!(broken["system_memory_used_bytes"], 2048.0);
    assert_eq!(broken["system_collector_errors_total"], 2.0 * missing + 1.0);
}

#[test]
fn cgroup_limits_of_version_1_and_2() {
    let v2 = [
        ("self/cgroup", "0::/a/b\n"),
        ("fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
        ("fs/cgroup/a/b/memory.max", "max\n"),
        ("fs/cgroup/a/b/memory.current", "1\n"),
        ("fs/cgroup/a/memory.max", "1000\n"),
        ("fs/cgroup/a/memory.current", "700\n"),
        ("fs/cgroup/a/memory.stat", "anon 5\ninactive_file 200\n"),
        ("fs/cgroup/a/b/cpu.max", "50000 100000\n"),
        ("fs/cgroup/a/b/cpu.stat", "usage_usec 3000000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 500000\n"),
    ];
    let v1 = [
        ("self/cgroup", "3:memory:/host/only\n2:cpu,cpuacct:/\n"),
        ("fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
        ("fs/cgroup/memory/memory.usage_in_bytes", "700\n"),
        ("fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200\n"),
        ("fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
        ("fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("fs/cgroup/cpu/cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 500000000\n"),
        ("fs/cgroup/cpuacct/cpuacct.usage", "3000000000\n"),
    ];
    for files in [&v2[..], &v1[..]] {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[STAT]);
        write(root.path(), files);
        let samples = pass(&mut SystemCollector::with_root(root.path(), root.path()));
        for (metric, value) in [
            ("system_cgroup_memory_limit_bytes", 1000.0),
            ("system_cgroup_memory_usage_bytes", 700.0),
            ("system_cgroup_memory_working_set_bytes", 500.0),
            ("system_cgroup_memory_used_percent", 50.0),
            ("system_cgroup_cpu_limit_cores", 0.5),
            ("system_cgroup_cpu_seconds_total", 3.0),
            ("system_cgroup_cpu_throttled_seconds_total", 0.5),
            ("system_cgroup_cpu_throttled_periods_total", 2.0),
        ] {
            assert_eq!(samples[metric], value, "{metric} of {}", files[0].1);
        }
    }
}

#[test]
fn without_proc_sysinfo_answers() {
    let nothing = tempfile::tempdir().unwrap();
    let mut collector = SystemCollector::with_root(nothing.path(), nothing.path());
    pass(&mut collector);
    let samples = pass(&mut collector);
    for metric in ["system_cpu_usage_percent", "system_memory_total_bytes", "process_resident_memory_bytes"] {
        assert!(samples[metric] >= 0.0, "{metric}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn this_machine_is_read_without_an_error() {
    let mut collector = SystemCollector::new();
    pass(&mut collector);
    let samples = pass(&mut collector);
    for (series, &value) in &samples {
        assert!(value >= 0.0, "{series} is {value}");
        assert!(!series.contains("_percent") || value <= 100.0, "{series} is {value}");
    }
    assert!(samples.len() >= 80, "{} series", samples.len());
}

#[test]
fn a_metrics_name_tells_its_unit() {
    for (metric, expected) in [
        ("system_cpu_seconds_total", "seconds"),
        ("system_memory_free_bytes", "bytes"),
        ("system_cpu_usage_percent", "percent"),
        ("system_forks_total", ""),
    ] {
        assert_eq!(unit(metric), expected, "{metric}");
    }
}

#[test]
fn a_pass_that_hangs_is_waited_for_and_no_second_is_begun() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let hangs = tokio::task::spawn_blocking(move || {
            let _ = hold.recv();
            (SystemCollector::new(), Readings::default())
        });
        let mut source = SystemSource { collector: None, under_way: Some(hangs) };
        for _ in 0..2 {
            let short = Duration::from_millis(20);
            let passed = tokio::time::timeout(short, source.read(Timestamp::from_nanos(0))).await;
            assert!(passed.is_err() && source.under_way.is_some() && source.collector.is_none());
        }
        drop(release);
        let readings = source.read(Timestamp::from_nanos(0)).await.unwrap();
        assert!(!readings.is_empty() && source.collector.is_some() && source.under_way.is_none());
    });
}
