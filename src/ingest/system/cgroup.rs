//! Limits of the control group this process runs in, and what it uses of them: `/sys/fs/cgroup`, version 1 or 2.
//!
//! A limit may stand at any level from the process' own group up to the root. The level with the lowest limit is the
//! one reported; where none limits, the group the process is in. In a container without a namespace of its own the
//! path names folders of the host; of those that do not exist the next one up is taken, last the root it sees.

use super::files::{Files, Wanted, keyed};
use super::{Pass, percent};

const ROOT: &str = "fs/cgroup";
/// Where version 2 is mounted beside version 1.
const HYBRID_ROOT: &str = "fs/cgroup/unified";

/// Version 1 writes a number near 2^63 where nothing limits.
const UNLIMITED: f64 = (1u64 << 62) as f64;

const MICRO: f64 = 1e-6;
const NANO: f64 = 1e-9;

const CPU_SECONDS: &str = "system_cgroup_cpu_seconds_total";

/// `cpu.stat` of both versions: they share the first two keys.
const CPU_STAT: [Wanted; 5] = [
    ("nr_periods", "system_cgroup_cpu_periods_total", 1.0),
    ("nr_throttled", "system_cgroup_cpu_throttled_periods_total", 1.0),
    ("usage_usec", CPU_SECONDS, MICRO),
    ("throttled_usec", "system_cgroup_cpu_throttled_seconds_total", MICRO),
    ("throttled_time", "system_cgroup_cpu_throttled_seconds_total", NANO),
];

pub(super) fn collect(files: &mut Files, pass: &mut Pass) {
    let Some(groups) = files.proc_if_present("self/cgroup", parse_groups) else { return };
    let unified = files.sys_if_present(&format!("{ROOT}/cgroup.controllers"), |_| Some(())).is_some();
    let root_v2 = if unified { ROOT } else { HYBRID_ROOT };
    collect_memory(files, pass, &groups.of("memory", root_v2));
    collect_cpu(files, pass, &groups.of("cpu", root_v2));
    collect_cpu_time(files, pass, &groups.of("cpuacct", root_v2));
    collect_pids(files, pass, &groups.of("pids", root_v2));
}

/// Paths of the groups this process is in.
#[derive(Debug, PartialEq)]
struct Groups {
    /// Controller and path.
    v1: Vec<(String, String)>,
    v2: Option<String>,
}

/// The group of one controller: folders under `/sys`, from the process' own to the root.
#[derive(Debug, PartialEq)]
enum Group {
    V1(Vec<String>),
    V2(Vec<String>),
    None,
}

/// Lines `number:controllers:path`; version 2 has no controllers.
fn parse_groups(text: &str) -> Option<Groups> {
    let mut groups = Groups { v1: Vec::new(), v2: None };
    for line in text.lines() {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        if controllers.is_empty() {
            groups.v2 = Some(path.to_owned());
        } else {
            groups.v1.extend(controllers.split(',').map(|controller| (controller.to_owned(), path.to_owned())));
        }
    }
    Some(groups)
}

impl Groups {
    fn of(&self, controller: &str, root_v2: &str) -> Group {
        let v1 = self.v1.iter().find(|(name, _)| name == controller);
        match (v1, &self.v2) {
            (Some((_, path)), _) => Group::V1(folders(&format!("{ROOT}/{controller}"), path)),
            (None, Some(path)) => Group::V2(folders(root_v2, path)),
            (None, None) => Group::None,
        }
    }
}

/// From `root` with `path` up to `root`. A path out of the namespace (`/../a`) is not to be seen: `root` alone.
fn folders(root: &str, path: &str) -> Vec<String> {
    let path = if path.contains("..") { "" } else { path.trim_matches('/') };
    let mut folder = if path.is_empty() { root.to_owned() } else { format!("{root}/{path}") };
    let mut all = vec![folder.clone()];
    while folder.len() > root.len() {
        folder.truncate(folder.rfind('/').unwrap_or(0));
        all.push(folder.clone());
    }
    all
}

/// Of the folders that have a limit, infinite ones too, that with the lowest; of equals the innermost.
fn tightest(folders: &[String], limit: impl FnMut(&String) -> Option<f64>) -> Option<(&str, f64)> {
    let limits = folders.iter().zip(folders.iter().map(limit));
    let read = limits.filter_map(|(folder, limit)| Some((&folder[..], limit?)));
    read.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// A number, or `max`.
fn parse_limit(text: &str) -> Option<f64> {
    let limit = if text.trim() == "max" { f64::INFINITY } else { parse_number(text)? };
    Some(if limit >= UNLIMITED { f64::INFINITY } else { limit })
}

fn parse_number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

fn collect_memory(files: &mut Files, pass: &mut Pass, group: &Group) {
    let (folders, limit_file, usage_file, cache_key) = match group {
        Group::V1(folders) => (folders, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        Group::V2(folders) => (folders, "memory.max", "memory.current", "inactive_file"),
        Group::None => return,
    };
    let read_limit = |folder: &String| files.sys_if_present(&format!("{folder}/{limit_file}"), parse_limit);
    let Some((folder, limit)) = tightest(folders, read_limit) else { return };
    let Some(usage) = files.sys_if_present(&format!("{folder}/{usage_file}"), parse_number) else { return };
    pass.put("system_cgroup_memory_usage_bytes", usage);
    let wanted = [(cache_key, "", 1.0)];
    let Some(cache) = files.sys_if_present(&format!("{folder}/memory.stat"), |text| keyed(text, &wanted)) else {
        return;
    };
    // What the kernel would drop first does not press against the limit.
    let working_set = (usage - cache[0].1).max(0.0);
    pass.put("system_cgroup_memory_working_set_bytes", working_set);
    if limit.is_finite() {
        pass.put("system_cgroup_memory_limit_bytes", limit);
        pass.put("system_cgroup_memory_used_percent", percent(working_set, limit));
    }
}

/// The limit is in CPUs: 1.5 lets one and a half of them be used.
fn collect_cpu(files: &mut Files, pass: &mut Pass, group: &Group) {
    let found = match group {
        Group::V1(folders) => tightest(folders, |folder| {
            let quota = files.sys_if_present(&format!("{folder}/cpu.cfs_quota_us"), parse_number)?;
            let period = files.sys_if_present(&format!("{folder}/cpu.cfs_period_us"), parse_number)?;
            Some(cpus(quota, period))
        }),
        Group::V2(folders) => {
            tightest(folders, |folder| files.sys_if_present(&format!("{folder}/cpu.max"), parse_cpu_max))
        }
        Group::None => None,
    };
    let Some((folder, limit)) = found else { return };
    if limit.is_finite() {
        pass.put("system_cgroup_cpu_limit_cores", limit);
    }
    pass.put_all(files.sys_if_present(&format!("{folder}/cpu.stat"), |text| keyed(text, &CPU_STAT)));
}

/// `quota period`, the quota a number or `max`.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(cpus(parse_limit(quota)?, parse_number(period)?))
}

/// Version 1 writes a quota of -1 where nothing limits.
fn cpus(quota: f64, period: f64) -> f64 {
    if quota < 0.0 || period <= 0.0 { f64::INFINITY } else { quota / period }
}

/// CPU time of version 1; version 2 has it in `cpu.stat`.
fn collect_cpu_time(files: &mut Files, pass: &mut Pass, group: &Group) {
    let Group::V1(folders) = group else { return };
    let mut usage = folders.iter().map(|folder| files.sys_if_present(&format!("{folder}/cpuacct.usage"), parse_number));
    if let Some(nanos) = usage.find_map(|nanos| nanos) {
        pass.put(CPU_SECONDS, nanos * NANO);
    }
}

fn collect_pids(files: &mut Files, pass: &mut Pass, group: &Group) {
    let (Group::V1(folders) | Group::V2(folders)) = group else { return };
    let found = tightest(folders, |folder| files.sys_if_present(&format!("{folder}/pids.max"), parse_limit));
    let Some((folder, limit)) = found else { return };
    if let Some(tasks) = files.sys_if_present(&format!("{folder}/pids.current"), parse_number) {
        pass.put("system_cgroup_tasks", tasks);
    }
    if limit.is_finite() {
        pass.put("system_cgroup_tasks_limit", limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(folders: &[&str]) -> Vec<String> {
        folders.iter().map(|folder| (*folder).to_owned()).collect()
    }

    #[test]
    fn a_controller_of_version_1_goes_before_version_2() {
        let groups = parse_groups("4:memory:/a/b\n1:cpu,cpuacct:/\n0::/c:d\n").unwrap();
        let memory = ["fs/cgroup/memory/a/b", "fs/cgroup/memory/a", "fs/cgroup/memory"];
        assert_eq!(groups.of("memory", ROOT), Group::V1(owned(&memory)));
        assert_eq!(groups.of("cpuacct", ROOT), Group::V1(owned(&["fs/cgroup/cpuacct"])));
        assert_eq!(groups.of("pids", ROOT), Group::V2(owned(&["fs/cgroup/c:d", "fs/cgroup"])));
        assert_eq!(parse_groups("").unwrap().of("pids", ROOT), Group::None);
        assert_eq!(parse_groups("0:/\n"), None);
    }

    #[test]
    fn a_path_out_of_the_namespace_is_its_root() {
        assert_eq!(folders(ROOT, "/../../a"), [ROOT]);
    }

    #[test]
    fn limits_of_both_versions() {
        for (text, limit) in [
            ("max\n", Some(f64::INFINITY)),
            ("9223372036854771712\n", Some(f64::INFINITY)),
            ("1048576\n", Some(1_048_576.0)),
            ("lots\n", None),
        ] {
            assert_eq!(parse_limit(text), limit, "{text:?}");
        }
        for (text, limit) in [
            ("max 100000\n", Some(f64::INFINITY)),
            ("150000 100000\n", Some(1.5)),
            ("-1 100000\n", Some(f64::INFINITY)),
            ("150000\n", None),
        ] {
            assert_eq!(parse_cpu_max(text), limit, "{text:?}");
        }
    }

    #[test]
    fn the_lowest_limit_counts_and_of_equals_the_innermost() {
        let folders = owned(&["leaf", "middle", "root"]);
        let limits = |of: [Option<f64>; 3]| {
            let mut of = of.into_iter();
            tightest(&folders, |_| of.next().flatten())
        };
        let endless = f64::INFINITY;
        assert_eq!(limits([Some(8.0), Some(5.0), Some(endless)]), Some(("middle", 5.0)));
        assert_eq!(limits([Some(endless), Some(endless), None]), Some(("leaf", endless)));
        assert_eq!(limits([None, None, None]), None);
    }
}
