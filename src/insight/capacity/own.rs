//! The program's own growth: its files on the disk, and the series it knows.

use super::resource::{Aggregate, Autoscale, Resource};
use super::spec::{CapacitySpec, ResourceSpec};

/// What the program says of its files (a series a table) and of its series.
const DISK_METRIC: &str = "plimsoll_table_bytes";
const SERIES_METRIC: &str = "plimsoll_series";

/// The resources `own_disk` and `own_series`: bytes at rest against what [`disk_size`] says, series against the most that
/// are let in (`ingest.series_max`). What the settings say of resources of these names lies over it, but their capacity.
pub fn own_resources(spec: &CapacitySpec, disk_bytes: u64, series_max: u64) -> [Resource; 2] {
    let of = |name: &str, metric: &str, unit: &str, aggregate, capacity: u64| {
        let own = ResourceSpec {
            metric: Some(metric.to_owned()),
            capacity: Some((capacity as f64).max(1.0)),
            unit: Some(unit.to_owned()),
            aggregate: Some(aggregate),
            autoscale: Some(Autoscale::Never),
            replicas: Some(1),
            replicas_metric: None,
            ..spec.resources.get(name).cloned().unwrap_or_default()
        };
        own.resource(name)
    };
    [
        of("own_disk", DISK_METRIC, "bytes", Aggregate::Sum, disk_bytes),
        of("own_series", SERIES_METRIC, "series", Aggregate::Each, series_max),
    ]
}

/// What the files may grow to: what they take now and what is free beside them. Others on the disk are taken to stay.
pub fn disk_size(own_bytes: u64, free_bytes: u64) -> u64 {
    own_bytes.saturating_add(free_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_resources_have_the_limits_they_are_given() {
        let spec: CapacitySpec = toml::from_str("[resources.own_disk]\nlimit = 95\ncapacity = 7\n").unwrap();
        let [disk, series] = own_resources(&spec, disk_size(100, 900), 10_000_000);
        assert_eq!((disk.name.as_str(), disk.capacity, disk.limit), ("own_disk", Some(1000.0), 95.0));
        assert_eq!(disk.used(500.0, 1.0), 50.0);
        assert_eq!((series.metric.as_str(), series.capacity), ("plimsoll_series", Some(1e7)));
        assert_eq!((disk.autoscale, series.aggregate), (Autoscale::Never, Aggregate::Each));
    }
}
