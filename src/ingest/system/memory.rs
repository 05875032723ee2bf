//! Memory, swap and paging: `/proc/meminfo` and `/proc/vmstat`.

use super::files::{Files, Readings, Wanted, keyed};
use super::{Pass, percent};

const TOTAL: &str = "system_memory_total_bytes";
const AVAILABLE: &str = "system_memory_available_bytes";
const FREE: &str = "system_memory_free_bytes";
const SWAP_TOTAL: &str = "system_swap_total_bytes";
const SWAP_FREE: &str = "system_swap_free_bytes";

/// What the file calls kB.
const KIB: f64 = 1024.0;

const MEMINFO: [Wanted; 17] = [
    ("MemTotal", TOTAL, KIB),
    ("MemFree", FREE, KIB),
    ("MemAvailable", AVAILABLE, KIB),
    ("Buffers", "system_memory_buffers_bytes", KIB),
    ("Cached", "system_memory_cached_bytes", KIB),
    ("Active", "system_memory_active_bytes", KIB),
    ("Inactive", "system_memory_inactive_bytes", KIB),
    ("AnonPages", "system_memory_anonymous_bytes", KIB),
    ("Mapped", "system_memory_mapped_bytes", KIB),
    ("Shmem", "system_memory_shared_bytes", KIB),
    ("Slab", "system_memory_slab_bytes", KIB),
    ("Dirty", "system_memory_dirty_bytes", KIB),
    ("Writeback", "system_memory_writeback_bytes", KIB),
    ("Committed_AS", "system_memory_committed_bytes", KIB),
    ("SwapTotal", SWAP_TOTAL, KIB),
    ("SwapFree", SWAP_FREE, KIB),
    ("SwapCached", "system_swap_cached_bytes", KIB),
];

const VMSTAT: [Wanted; 7] = [
    ("pgfault", "system_page_faults_total", 1.0),
    ("pgmajfault", "system_page_faults_major_total", 1.0),
    ("pswpin", "system_swapped_in_pages_total", 1.0),
    ("pswpout", "system_swapped_out_pages_total", 1.0),
    ("pgpgin", "system_paged_in_bytes_total", KIB),
    ("pgpgout", "system_paged_out_bytes_total", KIB),
    ("oom_kill", "system_oom_kills_total", 1.0),
];

pub(super) fn collect(files: &mut Files, pass: &mut Pass) {
    pass.put_all(files.proc("meminfo", parse_meminfo));
    pass.put_all(files.proc("vmstat", |text| keyed(text, &VMSTAT)));
}

/// The file's numbers, and what is used: all that is not available. Kernels before 3.14 do not say what is available;
/// there it is what is free.
fn parse_meminfo(text: &str) -> Option<Readings> {
    let mut readings = keyed(text, &MEMINFO)?;
    let of = |wanted| readings.iter().find(|(metric, _)| *metric == wanted).map(|&(_, value)| value);
    let total = of(TOTAL)?;
    let used = total - of(AVAILABLE).or_else(|| of(FREE))?;
    let swap_total = of(SWAP_TOTAL).unwrap_or(0.0);
    let swap_used = swap_total - of(SWAP_FREE).unwrap_or(0.0);
    readings.extend([
        ("system_memory_used_bytes", used),
        ("system_memory_used_percent", percent(used, total)),
        ("system_swap_used_bytes", swap_used),
        ("system_swap_used_percent", percent(swap_used, swap_total)),
    ]);
    Some(readings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_is_what_is_not_available() {
        let text = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\n\
            Active(anon):  7 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        assert_eq!(
            parse_meminfo(text).unwrap(),
            [
                (TOTAL, 1_024_000.0),
                (FREE, 102_400.0),
                (AVAILABLE, 614_400.0),
                (SWAP_TOTAL, 0.0),
                (SWAP_FREE, 0.0),
                ("system_memory_used_bytes", 409_600.0),
                ("system_memory_used_percent", 40.0),
                ("system_swap_used_bytes", 0.0),
                ("system_swap_used_percent", 0.0),
            ]
        );
    }

    #[test]
    fn broken_meminfo_is_refused() {
        for text in
            ["", "MemFree: 5 kB\n", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemFree: 5 kB\n", "MemTotal:\nMemFree: 5 kB\n"]
        {
            assert_eq!(parse_meminfo(text), None, "{text:?}");
        }
    }
}
