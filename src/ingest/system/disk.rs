//! Reads and writes by device: `/proc/diskstats`.

use super::Pass;
use super::files::{Files, Readings};

/// The kernel counts in these, whatever the device's own sectors.
const SECTOR_BYTES: f64 = 512.0;
const MILLI: f64 = 1e-3;

/// Images mounted as disks, and memory.
const NOISE: [&str; 4] = ["loop", "ram", "zram", "fd"];

/// Metric of a number after the device's name, by its place, and the factor to the metric's unit.
const COLUMNS: [(usize, &str, f64); 9] = [
    (0, "system_disk_reads_total", 1.0),
    (2, "system_disk_read_bytes_total", SECTOR_BYTES),
    (3, "system_disk_read_seconds_total", MILLI),
    (4, "system_disk_writes_total", 1.0),
    (6, "system_disk_written_bytes_total", SECTOR_BYTES),
    (7, "system_disk_write_seconds_total", MILLI),
    (8, "system_disk_operations_in_progress", 1.0),
    (9, "system_disk_busy_seconds_total", MILLI),
    (10, "system_disk_weighted_seconds_total", MILLI),
];

pub(super) fn collect(files: &mut Files, pass: &mut Pass) {
    for Disk { device, work } in files.proc("diskstats", parse_diskstats).into_iter().flatten() {
        for (metric, value) in work {
            pass.put_of(metric, &[("device", &device)], value);
        }
    }
}

#[derive(Debug, PartialEq)]
struct Disk {
    device: String,
    work: Readings,
}

/// Lines `major minor device numbers…`. Whole devices that have done any work; a device comes before its partitions.
fn parse_diskstats(text: &str) -> Option<Vec<Disk>> {
    let mut whole: Vec<&str> = Vec::new();
    let mut disks = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(2);
        let device = words.next()?;
        if is_noise(device) || whole.iter().any(|disk| is_partition(device, disk)) {
            continue;
        }
        whole.push(device);
        let numbers = words.map(|word| word.parse().ok()).collect::<Option<Vec<f64>>>()?;
        let work = COLUMNS.iter().map(|&(column, metric, factor)| Some((metric, numbers.get(column)? * factor)));
        let work = work.collect::<Option<Readings>>()?;
        if work.iter().any(|&(_, value)| value > 0.0) {
            disks.push(Disk { device: device.to_owned(), work });
        }
    }
    Some(disks)
}

fn is_noise(device: &str) -> bool {
    let kind = device.trim_end_matches(|c: char| c.is_ascii_digit());
    NOISE.contains(&kind)
}

/// `sda1` is one of `sda`, `nvme0n1p2` of `nvme0n1`; `md12` is none of `md1`.
fn is_partition(device: &str, disk: &str) -> bool {
    let Some(rest) = device.strip_prefix(disk) else { return false };
    let number = if disk.ends_with(|c: char| c.is_ascii_digit()) { rest.strip_prefix('p') } else { Some(rest) };
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_devices_that_worked_are_kept() {
        let line =
            |device: &str| format!(" 254 0 {device} 10 1 100 2000 20 2 200 3000 1 4000 5000 45 371408 454 532 17\n");
        let idle = " 43 0 nbd0 0 0 0 0 0 0 0 0 0 0 0 0\n".to_owned();
        let devices =
            ["loop0", "ram1", "zram0", "sda", "sda1", "sda12", "nvme0n1", "nvme0n1p1", "md1", "md12", "dm-0", "xvdb1"];
        let text = devices.map(line).concat() + &idle;
        let disks = parse_diskstats(&text).unwrap();
        let kept: Vec<&str> = disks.iter().map(|disk| &disk.device[..]).collect();
        assert_eq!(kept, ["sda", "nvme0n1", "md1", "md12", "dm-0", "xvdb1"]);
        let values: Vec<f64> = disks[0].work.iter().map(|w| w.1).collect();
        assert_eq!(values, [10.0, 51_200.0, 2.0, 20.0, 102_400.0, 3.0, 1.0, 4.0, 5.0]);
    }

    #[test]
    fn broken_diskstats_is_refused() {
        for text in ["254 0\n", "254 0 vda 1 2 3\n", "254 0 vda 1 2 3 4 5 6 7 8 9 10 x\n"] {
            assert_eq!(parse_diskstats(text), None, "{text:?}");
        }
    }
}
